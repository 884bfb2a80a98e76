//! A node pulls an image itself where the registry of `[cache]` has it: only the layers it lacks go
//! over.
//!
//! Measured on two busy cores (podman 4.3.1, containerd 1.6, the registry on the same host) with an
//! image of 85 MB whose last layer of 9 MB changed, median of three rounds, seconds until it was on
//! all nodes:
//!
//! | what the nodes had | one node: sent | pulled | three nodes: sent | pulled |
//! | --- | --- | --- | --- | --- |
//! | nothing of it | 3.3 | 2.9 | 8.4 | 4.9 |
//! | its other layers, sent | 2.1 | 0.9 | 5.3 | 1.8 |
//! | its other layers, pulled | 2.0 | 0.4 | 5.1 | 0.9 |
//!
//! A stream has all layers in it, whatever the node has, and is made for each node anew; so a pull
//! was shorter in nearly every round, and by more with more nodes. Hence the rule: what this run
//! has built is sent (its push goes on beside, and nothing waits for that); of all else that a node
//! lacks the registry is asked first, and what the node then still lacks is sent. A registry at the
//! loopback is this host's and not the node's, and is not asked.
//!
//! What came is held to the image's id before it gets its tag: the id is the hash of its
//! configuration, labels and layers. A registry that a node cannot reach or may not read is left
//! alone for the rest of the run, with one warning. The node's own containerd does it, with what
//! `/etc/containerd/certs.d` on it says of the registry; no login is handed to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::held::{Held, Image, ctr, lacking};
use super::kind::QUESTION;
use crate::config;
use crate::event::Events;
use crate::process::{Failure, Tool};

/// Where a node says how registries are reached.
const HOSTS: &str = "/etc/containerd/certs.d";

/// What nodes may pull, and from where.
#[derive(Clone, Debug)]
pub struct Pulls<'a> {
    pub cache: &'a config::Cache,
    /// By tag: what the image is called in the registry.
    pub references: BTreeMap<String, String>,
    /// A node could not: none tries any more.
    pub failed: &'a AtomicBool,
}

/// A node that is asked to pull.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) engine: &'a Tool,
    pub(super) node: &'a str,
    pub(super) log: &'a Path,
    pub(super) events: &'a Events,
}

/// Whether a node can be meant by that name of a registry.
pub fn is_reachable(registry: &str) -> bool {
    let host = registry.split(['/', ':']).next().unwrap_or_default();
    host != "localhost" && !host.starts_with("127.")
}

impl Pulls<'_> {
    /// Has the node pull these, as far as it can; gives back whether it was asked to pull any. What
    /// came under another id than is wanted gets no tag.
    pub(super) fn try_all(&self, site: Site, lacked: &[&Image]) -> bool {
        let mut tried = false;
        for image in lacked {
            let Some(reference) = self.references.get(&image.tag) else { continue };
            if self.failed.load(Ordering::Relaxed) {
                break;
            }
            tried = true;
            match self.pull(site, reference) {
                Ok(()) => site.name(image, reference),
                Err(failure) if failure.stopped() => break,
                Err(failure) if is_absent(&failure) => {}
                Err(failure) => self.leave_alone(site, &failure),
            }
        }
        tried
    }

    fn pull(&self, site: Site, reference: &str) -> Result<(), Failure> {
        let plain = self.cache.insecure.then_some("--plain-http");
        let pull = ctr(site.engine, site.node).args(["images", "pull", "--hosts-dir", HOSTS]);
        let pull = pull.args(plain).arg(reference).log(site.log).limit(self.cache.transfer);
        pull.answer(self.cache.answer, is_answer).run().map(drop)
    }

    fn leave_alone(&self, site: Site, failure: &Failure) {
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let said = failure.last_line().map(str::to_owned);
        let why = said.unwrap_or_else(|| failure.ending.to_string());
        let text = format!("node `{}` cannot pull, so that images are sent: {why}", site.node);
        site.events.warn(text, None);
    }
}

impl Site<'_> {
    /// Gives what was pulled its tag, if it is the image that is wanted, and takes the registry's
    /// name off it.
    fn name(self, image: &Image, reference: &str) {
        let pulled = Image { tag: reference.to_owned(), id: image.id.clone() };
        let held = Held::on(self.engine, self.node).unwrap_or_default();
        let ctr = |words: &[&str]| {
            let tool = ctr(self.engine, self.node).arg("images").args(words.iter().copied());
            tool.log(self.log).limit(QUESTION).run()
        };
        // Whether it worked is seen when the node is asked what it lacks.
        if lacking(&held, self.engine, self.node, &[pulled]).is_empty() {
            ctr(&["tag", "--force", reference, &image.tag]).ok();
        }
        ctr(&["rm", reference]).ok();
    }
}

/// Whether the registry has said what there is under the name.
fn is_answer(line: &str) -> bool {
    line.contains("resolved")
}

fn is_absent(failure: &Failure) -> bool {
    failure.tail.iter().any(|line| line.trim_end().ends_with(": not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_a_node_is_not_ours() {
        for (registry, reachable) in [
            ("127.0.0.1:5000/team", false),
            ("localhost:5000", false),
            ("10.89.0.1:5000/team", true),
            ("localhost.example:5000", true),
        ] {
            assert_eq!(is_reachable(registry), reachable, "{registry}");
        }
    }
}
