//! kind clusters the engine knows of, ours or not: their containers tell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::EngineKind;
use crate::process::Tool;

const ANSWER: Duration = Duration::from_secs(30);

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
pub(super) fn ask(engine: EngineKind) -> Vec<KindCluster> {
    let form = r#"{{index .Labels "io.x-k8s.kind.cluster"}}|{{.Status}}|{{.Ports}}"#;
    let form = match engine {
        EngineKind::Podman => form,
        EngineKind::Docker => r#"{{.Label "io.x-k8s.kind.cluster"}}|{{.Status}}|{{.Ports}}"#,
    };
    Tool::new(engine.name())
        .args(["ps", "--all", "--filter", "label=io.x-k8s.kind.cluster", "--format", form])
        .limit(ANSWER)
        .read()
        .map(|text| read(&text))
        .unwrap_or_default()
}

/// Lines of `cluster|status|ports`, a node each.
fn read(text: &str) -> Vec<KindCluster> {
    let mut clusters: BTreeMap<&str, KindCluster> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '|');
        let (Some(name), Some(status)) = (fields.next(), fields.next()) else { continue };
        let running = status.starts_with("Up");
        let cluster = clusters.entry(name).or_insert_with(|| KindCluster {
            name: name.to_owned(),
            running: true,
            ports: Vec::new(),
        });
        cluster.running &= running;
        if running {
            cluster.ports.extend(fields.next().unwrap_or_default().split(", ").flat_map(ports));
        }
    }
    clusters.into_values().collect()
}

/// The host's side of `127.0.0.1:30080-30081->30080-30081/tcp`.
fn ports(published: &str) -> Vec<u16> {
    let range = || {
        let (host, _) = published.split_once("->")?;
        let host = host.rsplit(':').next()?;
        let (first, last) = host.split_once('-').unwrap_or((host, host));
        Some(first.parse().ok()?..=last.parse::<u16>().ok()?)
    };
    range().map(Iterator::collect).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_gathered_into_clusters() {
        let text = "a|Up 4 minutes|127.0.0.1:30080-30081->30080-30081/tcp, 127.0.0.1:40297->6443/tcp\n\
                    b|Up 2 hours|\n\
                    b|Exited (137) 1 hour ago|0.0.0.0:8080->80/tcp";
        let expected = [
            KindCluster { name: "a".into(), running: true, ports: vec![30080, 30081, 40297] },
            KindCluster { name: "b".into(), running: false, ports: vec![] },
        ];
        assert_eq!(read(text), expected);
        assert_eq!(read(""), []);
    }
}
