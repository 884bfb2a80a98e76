//! The containers that are a cluster's nodes, as the engine shows them.
//!
//! kind keeps no state of its own: a cluster is the containers that carry its label. The same
//! question works for podman and docker; `Status` is used because podman 4.3 prints it for `State`
//! too.

use anyhow::Context as _;

use crate::exit::{Exit, WithExit as _};
use crate::process::Tool;

/// A node container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The container's whole id: no other container ever has it.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) running: bool,
}

impl Node {
    /// Whether containerd runs on it (a load balancer before several control planes has none).
    pub(super) fn holds_images(&self) -> bool {
        !self.name.ends_with("-external-load-balancer")
    }
}

/// All containers of a cluster, running or not.
pub(super) fn list(provider: &str, cluster: &str) -> anyhow::Result<Vec<Node>> {
    let text = Tool::new(provider)
        .args(["ps", "--all", "--no-trunc"])
        .arg("--filter")
        .arg(format!("label=io.x-k8s.kind.cluster={cluster}"))
        .args(["--format", "{{.ID}}\t{{.Names}}\t{{.Status}}"])
        .limit(super::kind::QUESTION)
        .despite_stop()
        .read()
        .with_context(|| format!("failed to ask {provider} for the nodes of `{cluster}`"))
        .exit(Exit::Environment)?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (id, name, status) = (fields.next()?, fields.next()?, fields.next()?);
            let running = status.starts_with("Up") && !status.contains("Paused");
            Some(Node { id: id.to_owned(), name: name.to_owned(), running })
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_lines_are_understood() {
        let text = "22\tb-worker\tExited (137) 2 hours ago\n\
                    11\tb-control-plane\tUp 6 minutes ago\n\
                    33\tb-external-load-balancer\tUp 5 minutes (Paused)";
        let nodes = parse(text);
        let seen: Vec<_> =
            nodes.iter().map(|n| (n.name.as_str(), n.running, n.holds_images())).collect();
        assert_eq!(
            seen,
            [
                ("b-control-plane", true, true),
                ("b-external-load-balancer", false, false),
                ("b-worker", false, true)
            ]
        );
        assert!(parse("").is_empty());
    }
}
