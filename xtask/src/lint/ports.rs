//! Host ports and node ports.
//!
//! The configuration's reader refuses a host port used twice in one cluster. What is left is what
//! it cannot see: clusters of two suites that want the same one (each works alone; side by side the
//! second cannot be made), a port of the user's own kind configuration, Services of two manifests.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::{Finding, quoted};
use crate::config::Rule;
use crate::repository::relative;

/// Who opens a host port, and where that is said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Opened {
    file: String,
    line: usize,
    cluster: String,
}

/// `port-twice`.
pub(super) fn twice(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, opened) in host_ports(facts) {
        let clusters: BTreeSet<&str> = opened.iter().map(|one| one.cluster.as_str()).collect();
        let places: BTreeSet<(&str, usize)> =
            opened.iter().map(|one| (one.file.as_str(), one.line)).collect();
        if opened.len() < 2 {
            continue;
        }
        // The first to say so may keep it.
        let Some((file, line)) = places.iter().nth(1).or(places.first()) else { continue };
        let (reason, mend) = if let [only] = clusters.iter().collect::<Vec<_>>()[..] {
            let reason = format!("host port {port} is opened twice by cluster `{only}`");
            (reason, "give one of the two another host port".to_owned())
        } else {
            let names = quoted(clusters);
            let reason = format!(
                "host port {port} is opened by clusters {names}: they cannot run at the same time"
            );
            (
                reason,
                "give each its own: a port with `cluster = \"NAME\"` is that cluster's".to_owned(),
            )
        };
        let (file, line) = ((*file).to_owned(), *line);
        findings.push(Finding { rule: Rule::PortTwice, file, line, reason, mend });
    }
    findings.extend(services(facts));
    findings
}

fn host_ports(facts: &Facts) -> BTreeMap<u16, BTreeSet<Opened>> {
    let config = facts.config;
    let file = relative(&config.file, &config.root);
    let mut ports: BTreeMap<u16, BTreeSet<Opened>> = BTreeMap::new();
    for suite in config.suites.values() {
        let cluster = suite.cluster.clone();
        if config.clusters.get(&cluster).is_some_and(|cluster| cluster.existing.is_some()) {
            continue; // One that others run opens no port of ours.
        }
        for port in config.suite_ports(suite) {
            let opened = Opened { file: file.clone(), line: port.line, cluster: cluster.clone() };
            ports.entry(port.host).or_default().insert(opened);
        }
        for kind in facts.kinds.iter().filter(|kind| kind.cluster == cluster) {
            // An equal one is the port itself.
            let is_port = |host, node| {
                let mut ports = config.suite_ports(suite).into_iter();
                ports.any(|port| (port.host, port.node) == (host, node))
            };
            for mapping in kind.mappings.iter().filter(|one| !is_port(one.host, one.node)) {
                let (file, line) = (kind.file.clone(), mapping.line);
                let opened = Opened { file, line, cluster: cluster.clone() };
                ports.entry(mapping.host).or_default().insert(opened);
            }
        }
    }
    ports
}

/// Two Services of one suite that ask for the same node port: the second is refused.
fn services(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployed in &facts.suites {
        let mut first: BTreeMap<u16, (&str, &str)> = BTreeMap::new();
        for manifest in &deployed.manifests {
            for port in &manifest.manifest.node_ports {
                let this = (manifest.file.as_str(), port.service.as_str());
                let (file, service) = *first.entry(port.number).or_insert(this);
                if (file, service) == this {
                    continue;
                }
                findings.push(Finding {
                    rule: Rule::PortTwice,
                    file: manifest.file.clone(),
                    line: port.line,
                    reason: format!(
                        "node port {} is that of Service `{service}` (`{file}`) too",
                        port.number
                    ),
                    mend: "give one of the two another node port".to_owned(),
                });
            }
        }
    }
    findings
}

/// `nodeport-unlisted`.
pub(super) fn unlisted(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployed in &facts.suites {
        let suite = deployed.suite;
        let own = facts.kinds.iter().filter(|kind| kind.cluster == suite.cluster);
        let own = own.flat_map(|kind| kind.mappings.iter().map(|mapping| mapping.node));
        let ports = facts.config.suite_ports(suite);
        let listed: BTreeSet<u16> = ports.iter().map(|port| port.node).chain(own).collect();
        for manifest in &deployed.manifests {
            for port in &manifest.manifest.node_ports {
                if listed.contains(&port.number) {
                    continue;
                }
                let (number, service) = (port.number, &port.service);
                findings.push(Finding {
                    rule: Rule::NodeportUnlisted,
                    file: manifest.file.clone(),
                    line: port.line,
                    reason: format!(
                        "nothing leads to node port {number} of Service `{service}` from the host"
                    ),
                    mend: format!(
                        "add to `[ports]`: {service} = {{ host = {number}, node = {number} }}"
                    ),
                });
            }
        }
    }
    findings
}
