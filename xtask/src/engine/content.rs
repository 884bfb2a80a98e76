//! Whether an image that came from elsewhere is what its configuration says: for which platform, of
//! which layers.
//!
//! podman holds every blob to its own digest, and the image's id is the digest of its
//! configuration. It does not hold the layers to the configuration: a manifest that names the right
//! configuration and another image's layers is taken, under the right id, with the right labels
//! (seen, 4.3.1). The ids of layers tell: podman's library calls a layer by what it has unpacked,
//! `sha256(PARENT + "+" + DIFF)`, the lowest by its diff alone. So the name that follows from the
//! configuration must be that of the layer on top. docker compares them itself.

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::Engine;
use super::inspect::Inspected;

impl Engine {
    /// What is wrong with the image of that id, wanted for `platform` (`os/arch[/variant]`).
    pub(super) fn distrust(&self, id: &str, platform: &str) -> anyhow::Result<Option<String>> {
        let images = self.inspect(&[id])?;
        let content = images.first().with_context(|| format!("image {id} is not there"))?;
        if !content.is_for(platform) {
            let Inspected { os, architecture, .. } = content;
            return Ok(Some(format!("it is for {os}/{architecture}, not {platform}")));
        }
        let whole = self.client.has_daemon() || content.has_its_layers();
        Ok((!whole).then(|| "its layers are not those of its configuration".to_owned()))
    }
}

impl Inspected {
    fn is_for(&self, platform: &str) -> bool {
        let mut parts = platform.split('/');
        parts.next() == Some(&self.os) && parts.next() == Some(&self.architecture)
    }

    fn has_its_layers(&self) -> bool {
        let (Some(root), Some(driver)) = (&self.root, &self.graph_driver) else { return false };
        let data = driver.data.as_ref();
        let upper = data.and_then(|data| data.upper_dir.as_deref());
        let held = upper.and_then(|folder| folder.strip_suffix("/diff")?.rsplit('/').next());
        held == top(root.layers.as_deref().unwrap_or_default()).as_deref()
    }
}

/// The name of the layer on top of those; none if there are none.
fn top(layers: &[String]) -> Option<String> {
    let diffs = layers.iter().map(|layer| layer.trim_start_matches("sha256:").to_owned());
    diffs.reduce(|below, diff| hex::encode(Sha256::digest(format!("{below}+{diff}"))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Answers to `image inspect`.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        let images: Vec<Inspected> = serde_json::from_slice(answer).unwrap_or_default();
        for image in &images {
            image.is_for("linux/arm64/v8");
            image.has_its_layers();
        }
    }

    /// An image of podman 4.3.1's with two layers.
    const TWO: [&str; 2] = [
        "sha256:fc2d7178c850dff7045041dc84d414176194c93d5788dd4deb62ba32bf8a9442",
        "sha256:728eb6d39983a66499977ad7e8a68406b8ceba87d5e637238074ac971c60c5eb",
    ];
    const UPPER: &str = "26d2e26e3b2679281c3a5012e036575dd90adf94495781adaa0350f8a9095220";

    fn content(layers: &[&str], upper: Option<&str>) -> Inspected {
        let upper = upper.map(|layer| format!("/store/overlay/{layer}/diff"));
        serde_json::from_value(serde_json::json!({
            "Id": "i", "Os": "linux", "Architecture": "arm", "RootFS": {"Layers": layers},
            "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": upper}},
        }))
        .unwrap()
    }

    #[test]
    fn the_layer_on_top_follows_from_the_configuration() {
        let table = [
            (&TWO[..], Some(UPPER), true),
            (&TWO[..1], Some(&TWO[0][7..]), true),
            (&TWO[..1], Some(UPPER), false),
            (&TWO[..], None, false),
            (&[], Some(UPPER), false),
            (&[], None, true),
        ];
        for (layers, upper, whole) in table {
            assert_eq!(content(layers, upper).has_its_layers(), whole, "{layers:?} {upper:?}");
        }
    }

    #[test]
    fn a_platform_is_compared_by_its_parts() {
        let table =
            [("linux/arm", true), ("linux/arm/v7", true), ("linux/arm64", false), ("linux", false)];
        for (platform, same) in table {
            assert_eq!(content(&[], None).is_for(platform), same, "{platform}");
        }
    }
}
