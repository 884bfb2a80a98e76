//! The environment a run gives its suite: the only source of addresses.
//!
//! | variable | holds |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster; read by kubectl itself |
//! | `NAME_URL` | one for each port of the run: `DATASTORAGE_URL` |
//! | `XTASK_ARTIFACTS` | folder for what should outlive the cluster; may be absent |
//!
//! There are no defaults. A suite that guessed an address once ran 16 specs against the wrong
//! port and told nobody why.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// The values of `names`, trailing slashes cut; the error names every one that is missing, and the
/// suite that gives them.
pub fn required<const N: usize>(suite: &str, names: [&str; N]) -> Result<[String; N]> {
    let values = names.map(|name| std::env::var(name).unwrap_or_default());
    let missing: Vec<_> = names
        .iter()
        .zip(&values)
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if !missing.is_empty() {
        bail!(
            "failed to find {} in the environment: these specs need a cluster and its addresses\n\
             hint: cargo xtask e2e {suite}",
            missing.join(", ")
        );
    }
    Ok(values.map(|value| value.trim_end_matches('/').to_owned()))
}

/// Where to leave what a person may want after the run; `None` outside a run.
pub fn artifacts() -> Option<PathBuf> {
    std::env::var_os("XTASK_ARTIFACTS").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}
