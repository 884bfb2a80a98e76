//! What `image inspect` says of images: one reading of it for all who ask.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Deserializer};

use super::history::Step;
use super::{ANSWER, Engine};
use crate::error::ErrorExt as _;

/// One image as the engine prints it; what an engine leaves out is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) id: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) repo_digests: Option<Vec<String>>,
    /// Bytes, layers in common with other images counted too.
    #[serde(default)]
    pub(super) size: u64,
    /// RFC 3339.
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(rename = "RootFS")]
    pub(super) root: Option<Root>,
    pub(super) graph_driver: Option<Driver>,
    pub(super) config: Option<Config>,
    /// podman tells it, docker does not.
    pub(super) history: Option<Vec<Step>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Root {
    /// Digests of the unpacked layers, the lowest first: from the configuration.
    pub(super) layers: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Driver {
    pub(super) data: Option<Folders>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Folders {
    /// `…/LAYER/diff`, from the store.
    pub(super) upper_dir: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) env: Option<Vec<String>>,
    /// docker says `null` for none; podman never speaks of it.
    #[serde(deserialize_with = "said")]
    pub(super) on_build: Option<Vec<String>>,
}

/// A list that is there, be it `null`.
fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(value).map(|list| Some(Option::unwrap_or_default(list)))
}

impl Engine {
    /// What the engine says of images that are there; one that is not is an error.
    pub(super) fn inspect(&self, names: &[&str]) -> anyhow::Result<Vec<Inspected>> {
        let asked = self.tool().args(["image", "inspect"]).args(names.iter().copied());
        let shown = || names.join(", ");
        let answer = asked
            .limit(ANSWER)
            .run()
            .with_context(|| format!("failed to ask what {} is", shown()))
            .hint(self.is_it_there())?;
        serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("failed to read what {} is", shown()))
            .hint(self.is_it_there())
    }
}

impl Inspected {
    /// 64 hex digits.
    pub(super) fn plain_id(&self) -> String {
        self.id.trim_start_matches("sha256:").to_owned()
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default()
    }
}
