//! `[ports]`: host port → `NodePort`.
//!
//! | `host` | `cluster` | the port is open in |
//! | --- | --- | --- |
//! | 30080 | – | every cluster, so that only one can be up at a time |
//! | 30080 | `"a"` | that cluster |
//! | `{ a = 30081, b = 30071 }` | – | these clusters, under another host port in each |
//!
//! The last form is for a service that several suites share by name: its `NodePort` is in its
//! manifest and the same everywhere, while two clusters on one machine cannot have one host port.

use toml::de::DeTable;

use super::document::At;
use super::table::Table;
use super::{Port, check};

pub(super) fn ports(outermost: &mut Table<'_>, clusters: &[&str]) -> Vec<Port> {
    let mut ports: Vec<At<Port>> = Vec::new();
    for (key, mut table) in outermost.named("ports", "port") {
        check::port_name(&table, &key);
        let hosts = hosts(&mut table, &key, clusters);
        let node = check::node_port(&mut table);
        for name in ["host", "node"] {
            if !table.has(name) {
                let hint = "write it like { host = 30080, node = 30080 }".to_owned();
                table.missing(&format!("missing key `{name}`"), Some(hint));
            }
        }
        let document = table.document;
        ports.extend(hosts.into_iter().map(|host| At {
            value: Port {
                line: document.line(host.number.place.start).0,
                name: key.value.to_owned(),
                host: host.number.value,
                node: node.as_ref().map_or(0, |node| node.value),
                cluster: host.cluster,
            },
            place: host.number.place,
        }));
        table.end();
    }
    check::host_ports(outermost, &ports);
    ports.into_iter().map(|port| port.value).collect()
}

struct Host {
    /// 0 stands for one that was reported, so that the port's name is still known.
    number: At<u16>,
    cluster: Option<String>,
}

/// What `host` and `cluster` say; never empty.
fn hosts(table: &mut Table<'_>, key: &At<&str>, clusters: &[&str]) -> Vec<Host> {
    let named = table.get("host").and_then(|host| host.get_ref().as_table());
    let by_cluster = named.is_some();
    let empty = named.is_some_and(DeTable::is_empty);
    let cluster = table.string("cluster");
    if let Some(cluster) = &cluster {
        table.known_name("cluster", cluster, "clusters", clusters);
        if by_cluster {
            let hint = "leave `cluster` out".to_owned();
            table.fault(&cluster.place, "`host` names its clusters already", Some(hint));
        }
    }
    let reported = At { value: 0, place: key.place.clone() };
    if !by_cluster {
        let number = table.number("host", 1..=u16::MAX).unwrap_or(reported);
        return vec![Host { number, cluster: cluster.map(|cluster| cluster.value.to_owned()) }];
    }
    let numbers = table.numbers("host", &(1..=u16::MAX));
    let mut hosts = Vec::new();
    for (cluster, number) in numbers {
        table.known_name("host", &cluster, "clusters", clusters);
        hosts.push(Host { number, cluster: Some(cluster.value.to_owned()) });
    }
    if empty {
        let hint = "write it like { example = 30080 }, with a name of [clusters]".to_owned();
        table.missing("`host` is empty", Some(hint));
    }
    if hosts.is_empty() {
        hosts.push(Host { number: reported, cluster: None });
    }
    hosts
}
