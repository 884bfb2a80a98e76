//! What an image was last built from: written after its build, read only to say why it must be
//! built again. Losing it loses the reasons, never a decision.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::contents::Entry;
use super::key::Parts;
use crate::figure;
use crate::private::PrivatePath;

/// The largest record that is read, in bytes: enough for a million files.
const LARGEST: u64 = 256 << 20;

/// The inputs of an image's last build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub key: String,
    pub parts: Parts,
    /// Digest of the ignore rules and `exclude` patterns.
    pub ignore: String,
    /// How long the build took; none if it was never built here.
    #[serde(default, deserialize_with = "figure::seconds_if_known")]
    pub seconds: Option<f64>,
    /// Where it was built; none: here, where nothing else builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// By path: kind and digest or link target, as in the key.
    pub files: BTreeMap<String, String>,
}

/// The record in `file`; none if there is none or it cannot be read.
pub fn read(file: &PrivatePath) -> Option<Record> {
    serde_json::from_slice(&file.read(LARGEST).ok()?).ok()
}

pub fn write(file: &PrivatePath, record: &Record) -> Result<()> {
    Ok(file.write(&serde_json::to_vec(record)?)?)
}

/// An entry as a record holds it.
pub fn line(entry: &Entry, content: Option<&super::digest::Digest>) -> (String, String) {
    let path = String::from_utf8_lossy(entry.path()).into_owned();
    let content = content.map(ToString::to_string).unwrap_or_default();
    let kind = entry.kind_with_mode();
    let value = match (entry.link(), entry.kind()) {
        (Some(target), _) => format!("{kind} {}", String::from_utf8_lossy(target)),
        (None, "file") => format!("{kind} {content}"),
        (None, _) => kind.into_owned(),
    };
    (path, value)
}
