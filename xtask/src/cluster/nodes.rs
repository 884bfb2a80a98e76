//! The containers that are a cluster's nodes, as the engine shows them.
//!
//! kind keeps no state of its own: a cluster is the containers that carry its label, which is the
//! cluster's name. Whose they are is in their mounts: each node of ours has one whose place is the
//! cluster's random id. The same questions work for podman and docker; `Status` is used because
//! podman 4.3 prints it for `State` too.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::settings;
use crate::error::{ErrorExt as _, Exit};
use crate::process::Tool;

/// How long removing containers may take.
const REMOVAL: Duration = Duration::from_mins(2);

/// A node container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The container's whole id: no other container ever has it.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) running: bool,
}

/// What a node container has mounted, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The random id of the cluster it was made for.
    pub(super) cluster: Option<String>,
    /// Volumes that kind made for it.
    pub(super) volumes: Vec<String>,
}

/// As `inspect` prints it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    #[serde(default, rename = "Type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    destination: String,
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

/// What each of these containers has mounted, in their order.
pub(super) fn mounts(provider: &str, nodes: &[Node]) -> anyhow::Result<Vec<Mounts>> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let text = Tool::new(provider)
        .args(["inspect", "--type", "container", "--format", "{{.Id}}\t{{json .Mounts}}"])
        .args(nodes.iter().map(|node| node.id.as_str()))
        .limit(super::kind::QUESTION)
        .despite_stop()
        .read()
        .with_context(|| format!("failed to ask {provider} for the mounts of nodes"))
        .exit(Exit::Environment)?;
    Ok(nodes.iter().map(|node| mounts_of(&node.id, &text)).collect())
}

fn mounts_of(container: &str, text: &str) -> Mounts {
    let told = text.lines().find_map(|line| line.strip_prefix(container)?.strip_prefix('\t'));
    let told: Option<Vec<Mount>> = told.and_then(|told| serde_json::from_str(told).ok());
    let mut mounts = Mounts::default();
    for Mount { kind, name, destination } in told.unwrap_or_default() {
        if kind == "volume" {
            mounts.volumes.extend(name);
        } else if let Some(id) = settings::id_of_mount(&destination) {
            mounts.cluster = Some(id.to_owned());
        }
    }
    mounts
}

/// Whether each container carries this cluster's id. kind mounts nothing on the load balancer that
/// it puts before several control planes: that is of the cluster if all the others are.
pub(super) fn carry(nodes: &[Node], mounts: &[Mounts], id: &str) -> Vec<bool> {
    let carries = |mounts: &Mounts| mounts.cluster.as_deref() == Some(id);
    let mut others = nodes.iter().zip(mounts).filter(|(node, _)| node.holds_images()).peekable();
    let is_whole = others.peek().is_some() && others.all(|(_, mounts)| carries(mounts));
    let of_one = |(node, mounts): (&Node, &Mounts)| {
        if node.holds_images() { carries(mounts) } else { is_whole }
    };
    nodes.iter().zip(mounts).map(of_one).collect()
}

/// Removes the containers of a name that carry the cluster's id, and the volumes that kind made for
/// them. Gives back those that do not: they are somebody else's.
pub(super) fn remove(
    provider: &str,
    cluster: &str,
    id: &str,
    log: &Path,
) -> anyhow::Result<Vec<Node>> {
    let nodes = list(provider, cluster)?;
    let mounts = mounts(provider, &nodes)?;
    let carried = carry(&nodes, &mounts, id);
    let ours = || nodes.iter().zip(&mounts).zip(&carried).filter(|(_, ours)| **ours);
    let engine = || Tool::new(provider).log(log).limit(REMOVAL).despite_stop();
    let ids: Vec<&str> = ours().map(|((node, _), _)| node.id.as_str()).collect();
    if !ids.is_empty() {
        let remove = engine().args(["rm", "--force", "--volumes"]).args(ids).run();
        remove
            .with_context(|| format!("failed to delete the nodes of `{cluster}`"))
            .exit(Exit::Environment)?;
    }
    let volumes: Vec<&String> = ours().flat_map(|((_, mounts), _)| &mounts.volumes).collect();
    if !volumes.is_empty() {
        // docker has removed them with the containers; podman takes them for named ones.
        engine().args(["volume", "rm"]).args(volumes).run().ok();
    }
    Ok(nodes.into_iter().zip(carried).filter(|(_, ours)| !ours).map(|(node, _)| node).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

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

    #[test]
    fn a_containers_mounts_tell_its_cluster_and_its_volumes() {
        let text = format!(
            "11\t[{{\"Type\":\"volume\",\"Name\":\"v1\",\"Destination\":\"/var\"}},\
             {{\"Type\":\"bind\",\"Source\":\"/dev/null\",\"Destination\":\"/kind/xtask-id/{ID}\"}}]\n\
             111\tnull\n2\tno JSON"
        );
        let ours = Mounts { cluster: Some(ID.to_owned()), volumes: vec!["v1".to_owned()] };
        for (container, mounts) in [
            ("11", ours),
            ("111", Mounts::default()),
            ("2", Mounts::default()),
            ("1", Mounts::default()),
        ] {
            assert_eq!(mounts_of(container, &text), mounts, "{container}");
        }
    }

    #[test]
    fn a_load_balancer_is_of_the_cluster_that_all_other_nodes_are_of() {
        let node = |name: &str| Node { id: name.into(), name: name.into(), running: true };
        let (plane, balancer, worker) =
            (node("a-control-plane"), node("a-external-load-balancer"), node("a-worker"));
        let of = |id: &str| Mounts { cluster: Some(id.to_owned()), volumes: Vec::new() };
        let none = Mounts::default;
        for (nodes, mounts, expected) in [
            (vec![&plane, &balancer], vec![of(ID), none()], vec![true, true]),
            (
                vec![&plane, &balancer, &worker],
                vec![of(ID), none(), none()],
                vec![true, false, false],
            ),
            (vec![&balancer], vec![none()], vec![false]),
            (vec![&plane], vec![of("another")], vec![false]),
            (vec![&plane], vec![none()], vec![false]),
        ] {
            let nodes: Vec<Node> = nodes.into_iter().cloned().collect();
            assert_eq!(carry(&nodes, &mounts, ID), expected, "{nodes:?} {mounts:?}");
        }
    }
}
