//! kubectl and helm, held to the clusters of runs: the only module that starts them.
//!
//! Left to themselves they read the user's kubeconfig, run the login command in it, follow
//! variables, and in a pod fall back to the pod's own cluster where a kubeconfig is empty. So each
//! call is given a kubeconfig of ours, an empty one where no cluster is asked, and everything that
//! leads elsewhere is taken out of its environment.

use std::ffi::OsString;
use std::path::Path;

use crate::process::Tool;

/// A kubeconfig with nothing in it.
const EMPTY: &str = "/dev/null";

/// What leads a client to a cluster that its kubeconfig does not name.
const ASTRAY: [&str; 3] =
    ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_MASTER"];

/// kubectl for the cluster of this kubeconfig, with a discovery cache of its own.
pub fn kubectl(kubeconfig: &Path) -> Tool {
    plain_kubectl(kubeconfig).arg("--cache-dir").arg(kubeconfig.with_file_name("kubectl-cache"))
}

/// kubectl for what asks no cluster.
pub fn kubectl_alone() -> Tool {
    plain_kubectl(Path::new(EMPTY))
}

/// kubectl for what a kubeconfig says; asks no cluster, and runs nothing of it.
pub fn kubectl_config(kubeconfig: &Path) -> Tool {
    plain_kubectl(kubeconfig).arg("config")
}

/// helm for what asks no cluster.
pub fn helm() -> Tool {
    let of_helm = |name: &OsString| name.to_string_lossy().starts_with("HELM_");
    let variables = std::env::vars_os().map(|(name, _)| name).filter(of_helm);
    let helm = isolated(Tool::new("helm").without_env("KUBECONFIG"));
    variables.fold(helm, Tool::without_env).args(["--kubeconfig", EMPTY])
}

/// A child that is told a cluster by KUBECONFIG, and is led to no other.
pub fn isolated(tool: Tool) -> Tool {
    ASTRAY.into_iter().fold(tool, Tool::without_env)
}

fn plain_kubectl(kubeconfig: &Path) -> Tool {
    // Preferences of the user's would give our commands other defaults.
    let tool = Tool::new("kubectl").without_env("KUBECONFIG").env("KUBECTL_KUBERC", "false");
    isolated(tool).arg("--kubeconfig").arg(kubeconfig)
}
