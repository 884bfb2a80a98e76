//! kind's configuration: ours, merged into the user's.
//!
//! Ours is the port table (each host port on 127.0.0.1, so that a suite is not served to the
//! network) and one kubelet setting: from Kubernetes 1.32 a crashed container is held back for at
//! most [`RESTART_SECONDS`] instead of 10, 20, 40, … 300 s. The kubelet looks at such a pod every
//! 10 to 15 s, so a service that came up before what it needs now loses that, not minutes; its
//! fourth restart was seen after 45 s instead of 90.
//!
//! Where both say something, the user's comes last and wins; ports are joined. The text is JSON,
//! which is YAML; the same input gives the same bytes, since its hash is in the cluster's
//! fingerprint.

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value, json};

use crate::config::{Cluster, Port};
use crate::error::ErrorExt as _;
use crate::identity;
use crate::yaml;

/// The longest a crashed container waits before it is started again.
const RESTART_SECONDS: u32 = 2;

/// The whole configuration, as kind reads it. `users` is the text of the user's own file.
pub(super) fn text(
    users: Option<&str>,
    ports: &[&Port],
    wanted: &Cluster,
) -> anyhow::Result<String> {
    let mut config: Value = match users {
        Some(text) => yaml::read(text).context("failed to read kind's configuration")?,
        None => json!({}),
    };
    let Some(top) = config.as_object_mut() else { bail!("kind's configuration is not a mapping") };
    top.entry("kind").or_insert_with(|| json!("Cluster"));
    top.entry("apiVersion").or_insert_with(|| json!("kind.x-k8s.io/v1alpha4"));
    if let Some(patch) = kubelet_patch(&wanted.node_image) {
        list(top.entry("kubeadmConfigPatches").or_insert_with(|| json!([])))?
            .insert(0, json!(patch));
    }
    let nodes = nodes(top, wanted.nodes)?;
    let first = nodes
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .find(|node| node.get("role").is_none_or(|role| role == "control-plane"))
        .context("kind's configuration has no control-plane node")?;
    let mappings = list(first.entry("extraPortMappings").or_insert_with(|| json!([])))?;
    let mut ports = ports.to_vec();
    ports.sort_by_key(|port| port.host);
    // One that the user's file has just gets its name: kind refuses the same twice.
    ports.retain(|port| !mappings.iter().any(|there| is_same(there, port)));
    mappings.extend(ports.iter().map(|port| {
        json!({
            "containerPort": port.node,
            "hostPort": port.host,
            "listenAddress": "127.0.0.1",
            "protocol": "TCP",
        })
    }));
    Ok(serde_json::to_string_pretty(&config)?)
}

/// Whether a mapping leads from the port's host port to its node port.
fn is_same(mapping: &Value, port: &Port) -> bool {
    let protocol = mapping.get("protocol").and_then(Value::as_str);
    mapping["hostPort"] == port.host
        && mapping["containerPort"] == port.node
        && protocol.is_none_or(|protocol| protocol.eq_ignore_ascii_case("tcp"))
}

/// Where a node has a mount whose name is the cluster's id.
const ID_FOLDER: &str = "/kind/xtask-id/";

/// The same with the cluster's id on every node. kind labels containers with names only; a mount of
/// the configuration is on the container from the moment it is made, and the engine shows it. What
/// is mounted is there on every machine that an engine runs on.
pub(super) fn with_id(config: &str, id: &str) -> anyhow::Result<String> {
    let mut config: Value = serde_json::from_str(config)?;
    for node in config["nodes"].as_array_mut().into_iter().flatten() {
        let Some(node) = node.as_object_mut() else { continue };
        list(node.entry("extraMounts").or_insert_with(|| json!([])))?
            .push(json!({"hostPath": "/dev/null", "containerPath": format!("{ID_FOLDER}{id}")}));
    }
    Ok(serde_json::to_string_pretty(&config)?)
}

/// The cluster's id in the place of a mount.
pub(super) fn id_of_mount(place: &str) -> Option<&str> {
    place.strip_prefix(ID_FOLDER).filter(|id| identity::is_random(id))
}

/// The user's nodes, or as many as the configuration asks for; not both.
fn nodes(top: &mut Map<String, Value>, wanted: Option<u16>) -> anyhow::Result<&mut Vec<Value>> {
    if wanted.is_some() && top.get("nodes").is_some_and(|nodes| !nodes.is_null()) {
        return Err(anyhow!("kind's configuration lists nodes, and `nodes` says how many"))
            .hint("leave one of them out");
    }
    let role = |at| if at == 0 { "control-plane" } else { "worker" };
    let made: Vec<Value> = (0..wanted.unwrap_or(1)).map(|at| json!({ "role": role(at) })).collect();
    list(top.entry("nodes").or_insert(Value::Array(made)))
}

/// All host ports a configuration asks for.
pub(super) fn host_ports(config: &str) -> Vec<u16> {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let nodes = config["nodes"].as_array().into_iter().flatten();
    let mappings =
        nodes.flat_map(|node| node["extraPortMappings"].as_array().into_iter().flatten());
    mappings
        .filter_map(|mapping| mapping["hostPort"].as_u64())
        .filter_map(|port| u16::try_from(port).ok().filter(|&port| port != 0))
        .collect()
}

fn list(value: &mut Value) -> anyhow::Result<&mut Vec<Value>> {
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().context("kind's configuration has a list where there is none")
}

/// The gate is known to the kubelet from 1.32; an older one would not start with it.
fn kubelet_patch(node_image: &str) -> Option<String> {
    let version = node_image.rsplit_once(":v1.")?.1;
    let minor: String = version.chars().take_while(char::is_ascii_digit).collect();
    (minor.parse::<u32>().ok()? >= 32).then(|| {
        format!(
            "kind: KubeletConfiguration\n\
             featureGates:\n  KubeletCrashLoopBackOffMax: true\n\
             crashLoopBackOff:\n  maxContainerRestartPeriod: {RESTART_SECONDS}s\n"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: u16, node: u16) -> Port {
        Port { name: format!("p{host}"), host, node, cluster: None, line: 1 }
    }

    fn wanted(node_image: &str) -> Cluster {
        Cluster {
            name: "c".to_owned(),
            node_image: node_image.to_owned(),
            reuse: crate::config::Reuse::IfUnchanged,
            config: None,
            nodes: None,
            existing: None,
            memory: 0,
            timeout: std::time::Duration::from_mins(1),
        }
    }

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ports_are_mapped_on_the_loopback_address_in_one_order() {
        let (a, b) = (port(30081, 30081), port(8080, 30080));
        let text_ab = text(None, &[&a, &b], &wanted("node:v1.34.4")).unwrap();
        assert_eq!(text_ab, text(None, &[&b, &a], &wanted("node:v1.34.4")).unwrap());
        let mappings = &read(&text_ab)["nodes"][0]["extraPortMappings"];
        assert_eq!(
            mappings[0],
            json!({"containerPort": 30080, "hostPort": 8080,
                   "listenAddress": "127.0.0.1", "protocol": "TCP"})
        );
        assert_eq!(host_ports(&text_ab), [8080, 30081]);
    }

    #[test]
    fn the_users_file_is_kept_and_wins() {
        let users = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n\
                     networking: {ipFamily: ipv4}\n\
                     kubeadmConfigPatches: ['kind: KubeletConfiguration']\n\
                     nodes:\n- role: worker\n- role: control-plane\n  extraPortMappings:\n  \
                     - {containerPort: 1, hostPort: 2}\n";
        let port = port(30080, 30080);
        let config = read(&text(Some(users), &[&port], &wanted("node:v1.34.4@sha256:00")).unwrap());
        assert_eq!(config["networking"]["ipFamily"], "ipv4");
        assert_eq!(config["nodes"][0].get("extraPortMappings"), None);
        assert_eq!(config["nodes"][1]["extraPortMappings"][0]["hostPort"], 2);
        assert_eq!(config["nodes"][1]["extraPortMappings"][1]["hostPort"], 30080);
        assert_eq!(config["kubeadmConfigPatches"][1], "kind: KubeletConfiguration");
        // The same port there and in `[ports]` is mapped once; another way from it is kind's to
        // refuse.
        for (containers, mapped) in [(30080, 1), (30081, 2)] {
            let users = format!(
                "kind: Cluster\nnodes:\n- role: control-plane\n  extraPortMappings:\n  \
                 - {{containerPort: {containers}, hostPort: 30080}}\n"
            );
            let config = read(&text(Some(&users), &[&port], &wanted("node:v1.34.4")).unwrap());
            let mappings = config["nodes"][0]["extraPortMappings"].as_array().unwrap();
            assert_eq!(mappings.len(), mapped, "{mappings:?}");
        }
    }

    #[test]
    fn only_a_kubelet_that_knows_the_gate_gets_it() {
        for (image, patched) in [
            ("docker.io/kindest/node:v1.34.4", true),
            ("kindest/node:v1.32.0@sha256:abc", true),
            ("kindest/node:v1.31.9", false),
            ("kindest/node:latest", false),
        ] {
            assert_eq!(kubelet_patch(image).is_some(), patched, "{image}");
        }
    }

    #[test]
    fn the_first_of_several_nodes_is_the_control_plane() {
        let three = Cluster { nodes: Some(3), ..wanted("node") };
        let config = read(&text(None, &[], &three).unwrap());
        let roles: Vec<_> =
            config["nodes"].as_array().unwrap().iter().map(|n| &n["role"]).collect();
        assert_eq!(roles, ["control-plane", "worker", "worker"]);
        assert!(text(Some("nodes: [{role: control-plane}]"), &[], &three).is_err());
    }

    #[test]
    fn every_node_carries_the_clusters_id() {
        let id = "0123456789abcdef0123456789abcdef";
        let users = "nodes:\n- role: control-plane\n  extraMounts: [{hostPath: /a, containerPath: /b}]\n\
                     - role: worker\n";
        let plain = text(Some(users), &[], &wanted("node")).unwrap();
        let config = read(&with_id(&plain, id).unwrap());
        for (node, mounts) in [(0, 2), (1, 1)] {
            let all = config["nodes"][node]["extraMounts"].as_array().unwrap();
            let place = all.last().unwrap()["containerPath"].as_str().unwrap();
            assert_eq!((all.len(), id_of_mount(place)), (mounts, Some(id)));
        }
        for place in ["/kind/xtask-id/", "/kind/xtask-id/x", "/a/kind/xtask-id/0123456789abcdef"] {
            assert_eq!(id_of_mount(place), None, "{place}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(text(Some("- a"), &[], &wanted("node")).is_err());
        assert!(text(Some("nodes: 3"), &[], &wanted("node")).is_err());
        assert!(text(Some("nodes: [{role: worker}]"), &[], &wanted("node")).is_err());
    }
}
