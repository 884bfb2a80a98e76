//! What a node holds: which image, by id, is behind which tag.
//!
//! `ctr images ls` shows manifest digests, and an image's id is its config's digest, which is in no
//! column. But containerd's CRI plugin keeps, for every image it serves, a second name that *is*
//! the id:
//!
//! ```text
//! localhost/gateway:0a1b2c   …manifest.v2+json   sha256:68e6…   ← the tag
//! sha256:ec5c…               …manifest.v2+json   sha256:68e6…   ← the id, same manifest
//! ```
//!
//! So a tag holds an id if both rows lead to one manifest: one call a node settles all images, and
//! a tag that was moved to another image shows. Where the second row is not there (yet), the
//! manifest itself is read (`ctr content get`), which names its config.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;

use super::Cluster;
use crate::process::Tool;

/// An image that must be on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `localhost/NAME:KEY`.
    pub tag: String,
    /// The config's digest, with or without `sha256:`: what the engine calls the image's id.
    pub id: String,
}

/// Names on a node, and the manifests they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<String, String>);

impl Held {
    pub(super) fn on(engine: &Tool, node: &str) -> anyhow::Result<Self> {
        let text = ctr(engine, node)
            .args(["images", "ls"])
            .limit(super::kind::QUESTION)
            .read()
            .with_context(|| format!("failed to ask node `{node}` for its images"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let rows = text.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (name, digest) = (fields.next()?, fields.nth(1)?);
            Some((name.to_owned(), digest.to_owned()))
        });
        Self(rows.collect())
    }

    /// Whether what the node calls by this digest, a manifest's or a config's, is the image of that
    /// id.
    fn leads_to(
        &self,
        digest: &str,
        id: &str,
        config_of: impl FnOnce(&str) -> Option<String>,
    ) -> bool {
        let manifest = self.0.get(digest).map_or(digest, String::as_str);
        // An engine on containerd's own store calls the manifest's digest the id.
        manifest == id
            || self.0.get(id).is_some_and(|of_id| of_id == manifest)
            || config_of(manifest).is_some_and(|config| config == id)
    }

    /// Whether the node has exactly this image behind this tag. `config_of` reads a manifest.
    pub(super) fn has(
        &self,
        image: &Image,
        config_of: impl FnOnce(&str) -> Option<String>,
    ) -> bool {
        let Some(manifest) = self.0.get(&image.tag) else { return false };
        let id = format!("sha256:{}", image.id.trim_start_matches("sha256:"));
        // An engine on containerd's own store calls the manifest's digest the id.
        *manifest == id
            || self.0.get(&id) == Some(manifest)
            || config_of(manifest).is_some_and(|config| config == id)
    }
}

/// Whether a container runs this image: `image_id` is what its status says, which is the image's
/// id, or a name with the digest of a manifest that the nodes have.
pub fn is_image(cluster: &Cluster, engine: &Tool, image: &Image, image_id: &str) -> bool {
    let (digest, id) = (digest(image_id), digest(&image.id));
    digest == id
        || cluster.nodes.iter().any(|node| {
            Held::on(engine, node).is_ok_and(|held| {
                held.leads_to(&digest, &id, |manifest| config(engine, node, manifest))
            })
        })
}

/// `sha256:…` of an id, of `NAME@sha256:…` or of `docker-pullable://NAME@sha256:…`.
pub fn digest(image_id: &str) -> String {
    let digest = image_id.rsplit(['@', '/']).next().unwrap_or_default();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

/// Those of `images` that a node does not hold.
pub(super) fn missing<'a>(
    engine: &Tool,
    node: &str,
    images: &'a [Image],
) -> anyhow::Result<Vec<&'a Image>> {
    Ok(lacking(&Held::on(engine, node)?, engine, node, images))
}

/// The same of a node that `held` was seen on.
pub(super) fn lacking<'a>(
    held: &Held,
    engine: &Tool,
    node: &str,
    images: &'a [Image],
) -> Vec<&'a Image> {
    let lacks = |image: &&Image| !held.has(image, |manifest| config(engine, node, manifest));
    images.iter().filter(lacks).collect()
}

/// The digest of the config that a manifest names.
fn config(engine: &Tool, node: &str, manifest: &str) -> Option<String> {
    let asked =
        ctr(engine, node).args(["content", "get", manifest]).limit(super::kind::QUESTION).read();
    let manifest: Value = serde_json::from_str(&asked.ok()?).ok()?;
    Some(manifest["config"]["digest"].as_str()?.to_owned())
}

/// `ctr` in a node's container, in the namespace the kubelet uses.
pub(super) fn ctr(engine: &Tool, node: &str) -> Tool {
    engine.clone().args(["exec", "--interactive", node, "ctr", "--namespace", "k8s.io"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As containerd 1.6 printed it on a kind node, shortened.
    const LISTED: &str = "\
REF                           TYPE                                                 DIGEST      SIZE     PLATFORMS   LABELS
localhost/a:1111              application/vnd.docker.distribution.manifest.v2+json sha256:68e6 72.9 MiB linux/amd64 io.cri-containerd.image=managed
localhost/moved:1111          application/vnd.docker.distribution.manifest.v2+json sha256:8991 72.9 MiB linux/amd64 io.cri-containerd.image=managed
localhost/fresh:1111          application/vnd.docker.distribution.manifest.v2+json sha256:7777 72.9 MiB linux/amd64 -
sha256:8624                   application/vnd.docker.distribution.manifest.v2+json sha256:8991 72.9 MiB linux/amd64 io.cri-containerd.image=managed
sha256:ec5c                   application/vnd.docker.distribution.manifest.v2+json sha256:68e6 72.9 MiB linux/amd64 io.cri-containerd.image=managed
";

    #[test]
    fn a_tag_holds_an_id_only_if_both_lead_to_one_manifest() {
        let held = Held::parse(LISTED);
        let config_of = |manifest: &str| (manifest == "sha256:7777").then(|| "sha256:ffff".into());
        for (tag, id, holds) in [
            ("localhost/a:1111", "ec5c", true),
            ("localhost/a:1111", "sha256:ec5c", true),
            ("localhost/moved:1111", "ec5c", false),
            ("localhost/moved:1111", "8624", true),
            ("localhost/fresh:1111", "ffff", true),
            ("localhost/fresh:1111", "ec5c", false),
            ("localhost/a:1111", "68e6", true),
            ("localhost/a:2222", "ec5c", false),
            ("localhost/a:1111", "", false),
        ] {
            let image = Image { tag: tag.to_owned(), id: id.to_owned() };
            assert_eq!(held.has(&image, config_of), holds, "{tag} {id}");
        }
    }

    #[test]
    fn what_a_container_says_it_runs_leads_to_an_image_or_not() {
        let held = Held::parse(LISTED);
        let config_of = |manifest: &str| (manifest == "sha256:7777").then(|| "sha256:ffff".into());
        for (says, id, leads) in [
            ("sha256:ec5c", "sha256:68e6", true),
            ("docker.io/library/import-2026-11-21@sha256:68e6", "sha256:ec5c", true),
            ("docker-pullable://localhost/a@sha256:68e6", "sha256:ec5c", true),
            ("localhost/fresh@sha256:7777", "sha256:ffff", true),
            ("localhost/fresh@sha256:7777", "sha256:ec5c", false),
            ("sha256:8624", "sha256:ec5c", false),
            ("sha256:0000", "sha256:ec5c", false),
            ("", "sha256:ec5c", false),
        ] {
            assert_eq!(held.leads_to(&digest(says), id, config_of), leads, "{says} {id}");
        }
    }
}
