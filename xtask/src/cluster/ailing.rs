//! What is wrong with a cluster that a run is using: asked once something has failed, since a node
//! that was stopped shows as a refused connection, and a removed image as a registry that does not
//! answer.

use super::held::{Image, missing};
use super::{Cluster, nodes, record};
use crate::process::Tool;

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
    if let Ok(found) = nodes::list(provider, &cluster.name) {
        for node in &cluster.nodes {
            match found.iter().find(|one| one.name == *node) {
                None => ailments.push(format!("node `{node}` is gone")),
                Some(one) if !one.running => ailments.push(format!("node `{node}` is not running")),
                Some(_) => {}
            }
        }
    }
    if ailments.is_empty() {
        // A full disk refuses everything, and says so only in its own log.
        let full = cluster.nodes.iter().filter(|node| is_full(engine, node));
        ailments.extend(full.map(|node| format!("the disk of node `{node}` is full")));
    }
    ailments
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
