//! A cluster that others run, named in the configuration by kubeconfig and context.
//!
//! Its context alone is copied into a private kubeconfig, like that of a cluster we made: the user's
//! file is only read, and the suite cannot stray into another context of it. The copy's default
//! namespace is one that is not there, so that an object that names no namespace is refused instead of
//! landing in somebody's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::{Cluster, kubectl, ready, record};
use crate::config::Existing;
use crate::event::Events;
use crate::exit::{Exit, WithExit as _};
use crate::paths::Paths;
use crate::process::Tool;

const LIMIT: Duration = Duration::from_secs(15);

/// Where what names no namespace would go.
const NOWHERE: &str = "no-namespace-was-named";

pub(super) fn reach(
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
    let file = paths.kubeconfig(name);
    fs_err::create_dir_all(paths.cluster(name))?;
    record::write_private(&file, &text)?;
    config()
        .args(["set-context", &existing.context, "--namespace", NOWHERE, "--kubeconfig"])
        .arg(&file)
        .run()?;
    Ok(file)
}
