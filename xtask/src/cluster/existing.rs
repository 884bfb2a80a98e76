//! A cluster that others run, named in the configuration by kubeconfig and context.
//!
//! Its context alone is copied into a private kubeconfig, like that of a cluster we made: the user's
//! file is only read, and the suite cannot stray into another context of it. The copy's default
//! namespace is one that is not there, so that an object that names no namespace is refused instead of
//! landing in somebody's. A context is a name that anybody may have moved: where it leads is compared with the
//! configuration's `server` before that is asked anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Cluster, kubectl, ready, record};
use crate::config::Existing;
use crate::event::Events;
use crate::exit::{Exit, WithExit as _};
use crate::paths::Paths;
use crate::process::Tool;

const LIMIT: Duration = Duration::from_secs(15);

/// Where what names no namespace would go.
const NOWHERE: &str = "no-namespace-was-named";

/// Reaches it; another server under the context's name is refused.
pub fn reach(
    name: &str,
    existing: &Existing,
    paths: &Paths,
    events: &Events,
) -> anyhow::Result<Cluster> {
    let what = || {
        let Existing { kubeconfig, context, .. } = existing;
        format!("failed to reach context `{context}` of `{}`", kubeconfig.display())
    };
    let kubeconfig = copy(name, existing, paths).with_context(what).exit(Exit::Environment)?;
    ready::reached(&kubectl(&kubeconfig), events).with_context(what).exit(Exit::Environment)?;
    let (name, digest) = (name.to_owned(), record::sha256(fs_err::read(&kubeconfig)?));
    let (nodes, seen) = (Vec::new(), BTreeMap::new());
    Ok(Cluster { name, kubeconfig, nodes, made: false, shared: true, digest, seen })
}

fn copy(name: &str, existing: &Existing, paths: &Paths) -> anyhow::Result<PathBuf> {
    let config = || Tool::new("kubectl").without_env("KUBECONFIG").arg("config").limit(LIMIT);
    let text = config()
        .args(["view", "--minify", "--flatten", "--context", &existing.context, "--kubeconfig"])
        .arg(&existing.kubeconfig)
        .read()?;
    confirm(&text, existing)?;
    let file = paths.kubeconfig(name);
    file.write(text.as_bytes())?;
    config()
        .args(["set-context", &existing.context, "--namespace", NOWHERE, "--kubeconfig"])
        .arg(&file)
        .run()?;
    Ok(file.into())
}

/// An error if the kubeconfig, which has but one context, leads to another server than the one that is meant.
fn confirm(kubeconfig: &str, existing: &Existing) -> anyhow::Result<()> {
    let kubeconfig: Value =
        serde_saphyr::from_str(kubeconfig).context("failed to read the kubeconfig")?;
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
    let wanted = &existing.server;
    if server.trim_end_matches('/') != wanted.trim_end_matches('/') {
        bail!(
            "it leads to the server `{server}`, not to `{wanted}`\nhint: if that is the cluster you \
             mean, write `server = \"{server}\"`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(server: &str) -> Existing {
        Existing {
            kubeconfig: PathBuf::new(),
            context: "lab".to_owned(),
            server: server.to_owned(),
            address: None,
            owner: String::new(),
            ttl: LIMIT,
        }
    }

    #[test]
    fn only_the_server_that_is_meant_is_confirmed() {
        let text = "clusters:\n- cluster: {server: 'https://10.0.0.1:6443'}\n  name: lab\n";
        for (server, is_it) in [
            ("https://10.0.0.1:6443", true),
            ("https://10.0.0.1:6443/", true),
            ("https://10.0.0.1:6444", false),
            ("https://10.0.0.11:6443", false),
            ("http://10.0.0.1:6443", false),
        ] {
            assert_eq!(confirm(text, &at(server)).is_ok(), is_it, "{server}");
        }
        assert!(confirm("clusters: null", &at("https://10.0.0.1")).is_err());
    }
}
