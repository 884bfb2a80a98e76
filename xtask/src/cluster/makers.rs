//! Which checkout made a kind cluster: its nodes say so (see [`super::record`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{nodes, record};

/// The workspace's own folder of each of these clusters that xtask made, by the cluster's name.
pub fn makers(provider: &str, clusters: &[String]) -> BTreeMap<String, PathBuf> {
    let made = |name: &String| {
        let nodes = nodes::list(provider, name).ok()?;
        Some((name.clone(), record::read_mark(provider, &nodes)?.home))
    };
    clusters.iter().filter_map(made).collect()
}
