//! The engine's containers: which kind clusters there are, ours or not, and which ports are
//! published.

use std::collections::BTreeMap;
use std::time::Duration;

use super::upkeep::Upkeep;
use crate::port::{self, Publisher};
use crate::process::Tool;

const ANSWER: Duration = Duration::from_secs(30);

/// What the containers show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Containers {
    pub(super) clusters: Vec<KindCluster>,
    pub(super) publishers: Vec<Publisher>,
}

/// A cluster as its node containers show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KindCluster {
    pub(super) name: String,
    /// All of its nodes run.
    pub(super) running: bool,
    /// Ports of this host its nodes hold.
    pub(super) ports: Vec<u16>,
}

/// All of them; none where the engine does not answer (which is found out elsewhere).
pub(super) fn ask(engine: &dyn Upkeep) -> Containers {
    let asked =
        Tool::new(engine.name()).args(["ps", "--all", "--format", engine.container_lines()]);
    asked.limit(ANSWER).read().map(|text| read(&text)).unwrap_or_default()
}

/// Lines of `cluster|status|name|ports`, a container each; `cluster` is empty, or podman's `<no
/// value>`, where kind did not make it.
fn read(text: &str) -> Containers {
    let mut clusters: BTreeMap<&str, KindCluster> = BTreeMap::new();
    let mut publishers = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, '|');
        let (Some(cluster), Some(status)) = (fields.next(), fields.next()) else { continue };
        let (name, ports) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let running = status.starts_with("Up");
        if running {
            publishers.push(Publisher { container: name.to_owned(), ports: ports.to_owned() });
        }
        if cluster.is_empty() || cluster.starts_with('<') {
            continue;
        }
        let cluster = clusters.entry(cluster).or_insert_with(|| KindCluster {
            name: cluster.to_owned(),
            running: true,
            ports: Vec::new(),
        });
        cluster.running &= running;
        if running {
            cluster.ports.extend(port::ranges(ports).flatten());
        }
    }
    Containers { clusters: clusters.into_values().collect(), publishers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_gathered_into_clusters() {
        let text = "a|Up 4 minutes|a-control-plane|127.0.0.1:30080-30081->30080-30081/tcp, 127.0.0.1:40297->6443/tcp\n\
                    b|Up 2 hours|b-control-plane|\n\
                    b|Exited (137) 1 hour ago|b-worker|0.0.0.0:8080->80/tcp\n\
                    |Up 3 seconds|web|0.0.0.0:8081->80/tcp\n\
                    <no value>|Created|made|";
        let found = read(text);
        let expected = [
            KindCluster { name: "a".into(), running: true, ports: vec![30080, 30081, 40297] },
            KindCluster { name: "b".into(), running: false, ports: vec![] },
        ];
        assert_eq!(found.clusters, expected);
        let names: Vec<_> = found.publishers.iter().map(|one| one.container.as_str()).collect();
        assert_eq!(names, ["a-control-plane", "b-control-plane", "web"]);
        assert_eq!(read(""), Containers::default());
    }
}
