//! What is wrong with a cluster that a run is using: asked once something has failed, since a node
//! that was stopped shows as a refused connection, and a removed image as a registry that does not
//! answer.

use std::time::{Duration, Instant};

use super::held::{Image, missing};
use super::nodes::{self, Node};
use super::{Cluster, ready, record};
use crate::process::{Tool, stop};

/// How long a node that was killed may pass for running.
const LINGER: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(300);

/// Each thing that is not as it was when the run took the cluster; empty if nothing is.
pub fn ailments(cluster: &Cluster, engine: &Tool, provider: &str) -> Vec<String> {
    let mut ailments = Vec::new();
    let text = fs_err::read(&cluster.kubeconfig).unwrap_or_default();
    if record::sha256(text) != cluster.digest {
        ailments.push("its kubeconfig was changed since the run began".to_owned());
    }
    if cluster.shared {
        return ailments;
    }
    let patience = if ailments.is_empty() { LINGER } else { Duration::ZERO };
    ailments.extend(not_running(cluster, provider, patience));
    if ailments.is_empty() {
        // A full disk refuses everything, and says so only in its own log.
        let full = cluster.nodes.iter().filter(|node| is_full(engine, node));
        ailments.extend(full.map(|node| format!("the disk of node `{node}` is full")));
    }
    ailments
}

/// Nodes that are gone or stopped. An engine shows a killed one as running for a moment yet: while
/// the API is silent too, it is asked again.
fn not_running(cluster: &Cluster, provider: &str, patience: Duration) -> Vec<String> {
    let end = Instant::now() + patience;
    loop {
        let Ok(found) = nodes::list(provider, &cluster.name) else { return Vec::new() };
        let ailing: Vec<String> =
            cluster.nodes.iter().filter_map(|node| ailing(node, &found)).collect();
        let settled = !ailing.is_empty() || Instant::now() >= end;
        if settled || ready::is_ready(&cluster.kubectl()) || stop::pause(PAUSE).is_err() {
            return ailing;
        }
    }
}

fn ailing(node: &str, found: &[Node]) -> Option<String> {
    match found.iter().find(|one| one.name == node) {
        None => Some(format!("node `{node}` is gone")),
        Some(one) => (!one.running).then(|| format!("node `{node}` is not running")),
    }
}

/// Those of the images that were loaded and are no longer there, with the node that lost them.
pub fn lost(cluster: &Cluster, images: &[Image], engine: &Tool) -> Vec<String> {
    let of_node = |node: &String| -> Vec<String> {
        let missing = missing(engine, node, images).unwrap_or_default();
        let told = |image: &&Image| {
            format!("image `{}` is no longer on node `{node}`, though it was loaded", image.tag)
        };
        missing.iter().map(told).collect()
    };
    cluster.nodes.iter().flat_map(of_node).collect()
}

fn is_full(engine: &Tool, node: &str) -> bool {
    let asked = engine
        .clone()
        .args(["exec", node, "df", "--output=avail", "--block-size=1M", "/var"])
        .limit(super::kind::QUESTION)
        .read();
    asked.is_ok_and(|text| free(&text).is_some_and(|free| free < LEAST))
}

/// Megabytes below which containerd and etcd begin to fail.
const LEAST: u64 = 50;

fn free(text: &str) -> Option<u64> {
    text.lines().nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_free_space_is_in_the_second_line() {
        assert_eq!(super::free(" Avail\n51043\n"), Some(51043));
        assert_eq!(super::free("df: /var: No such file"), None);
    }
}
