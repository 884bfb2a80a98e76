//! kind's own configuration, as far as it opens ports.

use super::yaml;

/// An entry of `extraPortMappings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub host: u16,
    pub node: u16,
    pub line: usize,
}

/// The port mappings of a text that is a kind cluster's configuration; none if it is not one.
pub fn mappings(text: &str) -> Option<Vec<Mapping>> {
    // Most YAML is none, and need not be parsed to know it.
    if !text.contains("kind.") {
        return None;
    }
    let documents = yaml::read(text).ok()?;
    let cluster = documents.iter().find(|document| {
        document.word("kind") == Some("Cluster")
            && document.word("apiVersion").is_some_and(|version| version.starts_with("kind."))
    })?;
    let mappings = cluster.list("nodes").iter().flat_map(|node| node.list("extraPortMappings"));
    let mappings = mappings.filter_map(|mapping| {
        let number = |key| mapping.word(key)?.parse::<u16>().ok();
        let line = mapping.get("hostPort")?.line;
        Some(Mapping { host: number("hostPort")?, node: number("containerPort")?, line })
    });
    Some(mappings.filter(|mapping| mapping.host != 0).collect())
}

/// Whether a cluster's configuration says nothing but which ports of its one node are opened.
pub fn opens_ports_only(text: &str) -> bool {
    let documents = yaml::read(text).unwrap_or_default();
    let [cluster] = &documents[..] else { return false };
    let nodes = cluster.list("nodes");
    let known = ["kind", "apiVersion", "name", "nodes"];
    let plain = |node: &yaml::Node| {
        node.keys().all(|key| matches!(key, "role" | "extraPortMappings"))
            && node
                .list("extraPortMappings")
                .iter()
                .all(|mapping| mapping.word("protocol").is_none_or(|protocol| protocol == "TCP"))
    };
    cluster.keys().all(|key| known.contains(&key)) && nodes.len() < 2 && nodes.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kind_cluster_has_mappings() {
        let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  \
            extraPortMappings:\n  - containerPort: 30080\n    hostPort: 8080\n  - hostPort: 0\n    \
            containerPort: 1\n";
        assert_eq!(mappings(text), Some(vec![Mapping { host: 8080, node: 30080, line: 7 }]));
        assert_eq!(mappings("kind: Cluster\napiVersion: cluster.x-k8s.io/v1beta1\n"), None);
        assert_eq!(mappings("{{ no }} yaml"), None);
        assert!(opens_ports_only(text));
        assert!(!opens_ports_only(&format!("{text}- role: worker\n")));
        assert!(!opens_ports_only(&format!("{text}networking: {{}}\n")));
    }
}
