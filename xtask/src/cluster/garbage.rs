//! Images on the nodes of a kept cluster that nobody needs any more.
//!
//! A tag of ours is `localhost/NAME:KEY`; what else is called `localhost/NAME` somebody has put
//! there. Ours goes if it is none of those that stay and no container of the node was made from it.
//! With it goes the second name that containerd's CRI plugin keeps for its id (see
//! [`super::held`]), if no other tag leads there: it would hold on to the layers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::held::ctr;
use super::{kind, nodes, record};
use crate::config;
use crate::paths::Paths;
use crate::process::Tool;

/// Whether the cluster was made by this workspace and has been kept.
pub fn is_kept(wanted: &config::Cluster, provider: &str, paths: &Paths) -> Result<bool> {
    if wanted.existing.is_some() {
        return Ok(false);
    }
    let made = record::read(paths, provider, &wanted.name).and_then(|record| record.made);
    let Some(made) = made else { return Ok(false) };
    let nodes = nodes::list(provider, &wanted.name)?;
    Ok(!nodes.is_empty() && nodes.iter().all(|node| made.containers.contains(&node.id)))
}

/// Nodes of a running kind cluster that hold images.
pub fn nodes_of(provider: &str, cluster: &str) -> Result<Vec<String>> {
    let nodes = nodes::list(provider, cluster)?.into_iter();
    Ok(nodes.filter(|node| node.running && node.holds_images()).map(|node| node.name).collect())
}

/// Names on a node that may go: tags of the images called `names` that are not in `stay`.
pub fn garbage(
    engine: &Tool,
    node: &str,
    names: &BTreeSet<String>,
    stay: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let ask = |what: &str| {
        let asked = ctr(engine, node).args([what, "ls"]).limit(kind::QUESTION).read();
        asked.with_context(|| format!("failed to ask node `{node}` for its {what}"))
    };
    Ok(removable(&ask("images")?, &ask("containers")?, names, stay))
}

/// Takes names off a node; containerd frees what no name leads to.
pub fn free(engine: &Tool, node: &str, names: &[String]) -> Result<()> {
    let remove = ctr(engine, node).args(["images", "rm"]).args(names).limit(kind::QUESTION);
    remove.run().with_context(|| format!("failed to free images on node `{node}`"))?;
    Ok(())
}

fn removable(
    images: &str,
    containers: &str,
    names: &BTreeSet<String>,
    stay: &BTreeSet<String>,
) -> Vec<String> {
    // CONTAINER IMAGE RUNTIME
    let used: BTreeSet<&str> =
        containers.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    // REF TYPE DIGEST …
    let mut by_digest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in images.lines().skip(1) {
        let mut fields = line.split_whitespace();
        if let (Some(name), Some(digest)) = (fields.next(), fields.nth(1)) {
            by_digest.entry(digest).or_default().push(name);
        }
    }
    let is_old = |tag: &str| {
        let parts = tag.strip_prefix("localhost/").and_then(|tag| tag.split_once(':'));
        let is_ours = |(name, key): (&str, &str)| names.contains(name) && is_short_key(key);
        parts.is_some_and(is_ours) && !stay.contains(tag)
    };
    let mut removable = Vec::new();
    for refs in by_digest.into_values() {
        if refs.iter().any(|name| used.contains(name)) {
            continue;
        }
        let (ids, tags): (Vec<&str>, Vec<&str>) =
            refs.into_iter().partition(|name| name.starts_with("sha256:"));
        let old: Vec<&str> = tags.iter().copied().filter(|tag| is_old(tag)).collect();
        if !old.is_empty() && old.len() == tags.len() {
            removable.extend(ids.into_iter().map(str::to_owned));
        }
        removable.extend(old.into_iter().map(str::to_owned));
    }
    removable
}

/// The first 16 digits of a key, as our tags have them.
fn is_short_key(tag: &str) -> bool {
    tag.len() == 16 && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_with_its_second_name_unless_it_is_used_or_stays() {
        let images = "REF TYPE DIGEST SIZE\n\
            localhost/api:000000000000001d t sha256:d1 1\n\
            sha256:i1 t sha256:d1 1\n\
            localhost/api:0000000000000e03 t sha256:d2 1\n\
            sha256:i2 t sha256:d2 1\n\
            localhost/api:0000000000000a05 t sha256:d3 1\n\
            sha256:i3 t sha256:d3 1\n\
            localhost/api:000000000000001e t sha256:d4 1\n\
            docker.io/library/same:1 t sha256:d4 1\n\
            sha256:i4 t sha256:d4 1\n\
            registry.k8s.io/pause:3.10 t sha256:d5 1\n\
            localhost/other:000000000000001d t sha256:d6 1\n\
            localhost/api:0000000000000b1d t sha256:d7 1\n\
            sha256:i7 t sha256:d7 1\n\
            localhost/api:mine t sha256:d8 1\n\
            sha256:i8 t sha256:d8 1\n\
            localhost/api:000000000000001D t sha256:d9 1\n\
            localhost/api:000000000000001f t sha256:d10 1\n\
            localhost/api:debug t sha256:d10 1\n\
            sha256:i10 t sha256:d10 1\n";
        let containers =
            "CONTAINER IMAGE RUNTIME\nc1 localhost/api:0000000000000a05 r\nc2 sha256:i7 r\n";
        let names = ["api".to_owned()].into();
        let stay = ["localhost/api:0000000000000e03".to_owned()].into();
        let mut removed = removable(images, containers, &names, &stay);
        removed.sort();
        assert_eq!(
            removed,
            [
                "localhost/api:000000000000001d",
                "localhost/api:000000000000001e",
                "localhost/api:000000000000001f",
                "sha256:i1"
            ]
        );
    }
}
