//! Layers of builds on other machines: `--cache-from` and `--cache-to` of podman, for a store that
//! has none.
//!
//! They save time and prove nothing: whatever a build was put together from, its image is held to
//! its key as ever. Who may push to the registry is trusted with its layers as with its images.
//!
//! | seen (podman 4.3.1, 2 busy cores, an emptied store; `apt-get install python3`, then a file that changed) | |
//! | --- | --- |
//! | without | 13.0 s |
//! | with the layers in the registry on this host | 4.1 s |
//! | the first build, which puts them there | 16.4 s; without 13.1 s |
//! | `--cache-to` with a registry that is down | the build fails, exit 125: done once more without, from its own layers |
//! | `--cache-from` with one that is down | it is built, 7 s later: a registry that has failed in this run is not named to it |
//!
//! A layer that was pulled keeps the registry's name, under which nobody would ever take it away:
//! it is taken off. docker's own driver can export no such cache. Cache mounts are the builder's
//! own by nature: no engine has a way to share them.

use super::{ANSWER, Engine};
use crate::config::{Cache, CacheMode};
use crate::process::Failure;

/// podman's words for a layer that has come.
const PULLED: &str = "--> Cache pulled from remote ";

/// What podman is told of them.
pub(super) fn flags(cache: &Cache) -> Vec<String> {
    let repository = format!("{}/xtask-layers", cache.registry);
    let mut flags = vec!["--cache-from".to_owned(), repository.clone()];
    if cache.mode == CacheMode::ReadWrite {
        flags.extend(["--cache-to".to_owned(), repository]);
    }
    if cache.insecure {
        flags.push("--tls-verify=false".to_owned());
    }
    flags
}

/// The name of a layer that a line says has come.
pub(super) fn pulled(line: &str) -> Option<String> {
    line.strip_prefix(PULLED).map(|name| name.trim().to_owned())
}

/// Whether a build failed for the layers' registry.
pub(super) fn has_failed(failure: &Failure) -> bool {
    !failure.stopped() && failure.tail.iter().any(|line| line.contains("failed pushing cache"))
}

/// What is said of that.
pub(super) fn without(image: &str) -> String {
    format!("{image} is built without the cache's layers: the registry failed")
}

impl Engine {
    /// Takes the registry's names off layers that have come.
    pub(super) fn take_names_off(&self, layers: &[String]) {
        for layer in layers {
            // Left there it would cost room, not truth.
            self.tool().args(["untag", layer, layer]).limit(ANSWER).despite_stop().run().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_who_may_write_has_layers_put_there() {
        let cache = |mode| Cache {
            registry: "registry.test/team".to_owned(),
            mode,
            insecure: false,
            layers: true,
            answer: Duration::ZERO,
            transfer: Duration::ZERO,
        };
        let repository = "registry.test/team/xtask-layers";
        assert_eq!(flags(&cache(CacheMode::ReadOnly)), ["--cache-from", repository]);
        let both = ["--cache-from", repository, "--cache-to", repository];
        assert_eq!(flags(&cache(CacheMode::ReadWrite)), both);
    }

    #[test]
    fn a_layer_that_came_is_known_by_its_name() {
        let line = "--> Cache pulled from remote registry.test/team/xtask-layers:5439";
        assert_eq!(pulled(line).as_deref(), Some("registry.test/team/xtask-layers:5439"));
        assert_eq!(pulled("--> Using cache 30eefb8cc619"), None);
    }
}
