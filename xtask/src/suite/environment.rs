//! What a command of the user's learns of the run, by its environment alone: no address is ever
//! typed into a test or a hook.
//!
//! | variable | value |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster's private kubeconfig; what leads to a pod's own cluster is taken away |
//! | `XTASK_SUITE` | the suite's name |
//! | `XTASK_ARTIFACTS` | a folder for what it wants kept (`JUnit` files, traces) |
//! | `NAME_URL`, `NAME_HOST`, `NAME_PORT` | one set for each port |
//! | `NAME_IMAGE` | for each image, its full reference |
//! | `NAME_NAMESPACE` | for each namespace the suite makes, what it is called |
//! | `XTASK_LABELS` | on a cluster that others run: `KEY=VALUE,…`, for namespaces a test makes itself |
//! | `XTASK_TEST` | to tests alone: what processes that they leave are known by |
//!
//! Names are in capitals, with `_` for `-` and `.`. Tests get `GOFLAGS` as well: the user's with
//! `-count=1`, so that `go test` runs them instead of answering from its cache, which knows nothing
//! of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Address;
use crate::kubernetes;
use crate::process::Tool;

/// Where a command runs, and what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    pub suite: &'a str,
    /// Where the command runs: the folder of the config.
    pub root: &'a Path,
    pub kubeconfig: &'a Path,
    pub artifacts: &'a Path,
    /// By port name.
    pub addresses: &'a BTreeMap<String, Address>,
    /// By image name.
    pub images: &'a BTreeMap<String, String>,
    /// By the name the suite gave it.
    pub namespaces: &'a BTreeMap<String, String>,
    /// What everything of the run carries.
    pub labels: &'a [(&'static str, String)],
}

impl Environment<'_> {
    /// The command with all of it; the folder for artifacts is made.
    pub(super) fn command<'w>(
        &self,
        words: impl IntoIterator<Item = &'w String>,
    ) -> anyhow::Result<Tool> {
        fs_err::create_dir_all(self.artifacts)?;
        let mut words = words.into_iter();
        let tool = Tool::new(words.next().map_or("", String::as_str));
        let mut tool = kubernetes::isolated(tool)
            .args(words)
            .folder(self.root)
            .env("KUBECONFIG", self.kubeconfig)
            .env("XTASK_SUITE", self.suite)
            .env("XTASK_ARTIFACTS", self.artifacts);
        for (name, Address { host, port }) in self.addresses {
            let name = variable(name);
            tool = tool
                .env(format!("{name}_URL"), format!("http://{host}:{port}"))
                .env(format!("{name}_HOST"), host)
                .env(format!("{name}_PORT"), port.to_string());
        }
        for (name, reference) in self.images {
            tool = tool.env(variable(name) + "_IMAGE", reference);
        }
        for (name, called) in self.namespaces {
            tool = tool.env(variable(name) + "_NAMESPACE", called);
        }
        if !self.labels.is_empty() {
            let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
            tool = tool.env("XTASK_LABELS", labels.collect::<Vec<_>>().join(","));
        }
        Ok(tool)
    }
}

/// The user's flags for `go`, and the one that keeps `go test` from its cache. `go` takes the
/// environment's or, where that has none, those of its own file (`go env -w`).
pub(super) fn go_flags(environment: Option<&str>, file: Option<&str>) -> String {
    let of_file = |text: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("GOFLAGS="));
        line.unwrap_or_default().to_owned()
    };
    let own = environment.filter(|flags| !flags.trim().is_empty()).map(str::to_owned);
    let flags = own.or_else(|| file.map(of_file)).unwrap_or_default();
    let counts = |flag: &str| flag.trim_start_matches('-').starts_with("count=");
    if flags.split_whitespace().any(counts) {
        return flags;
    }
    format!("{flags} -count=1").trim().to_owned()
}

/// The file of `go env -w`, if there is one.
pub(super) fn go_file() -> Option<String> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = || {
        let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
        variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)
    };
    let file = variable("GOENV").map(PathBuf::from);
    fs_err::read_to_string(file.or_else(|| folder().map(|folder| folder.join("go/env")))?).ok()
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_test_is_kept_from_its_cache_and_keeps_the_users_flags() {
        for (environment, file, flags) in [
            (None, None, "-count=1"),
            (Some(""), None, "-count=1"),
            (Some("-mod=mod -tags=e2e"), Some("GOFLAGS=-v"), "-mod=mod -tags=e2e -count=1"),
            (None, Some("GOPROXY=off\nGOFLAGS=-mod=mod\n"), "-mod=mod -count=1"),
            (Some("--count=3"), None, "--count=3"),
        ] {
            assert_eq!(go_flags(environment, file), flags);
        }
    }
}
