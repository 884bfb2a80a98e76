//! podman's image store, read where it lies: 3 ms for 330 images, where asking podman takes 40 ms
//! to 20 s.
//!
//! `DRIVER-images/images.json` lists ids and names; it is replaced atomically, so it is always
//! whole. An image's configuration lies beside it under its own digest,
//! `DRIVER-images/ID/=BASE64("sha256:ID")`. It is the thing the id is the SHA-256 of: hashed again
//! here, the image proves itself, and its labels, ENV and ONBUILD are read from nothing else.
//! Whatever is not as described is left to the engine to answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::history::{self, Step};
use super::holdings::Inherited;
use super::{Facts, ImageInfo};
use crate::figure;
use crate::plan::KEY_LABEL;
use crate::reference::Reference;

/// One entry of `images.json`.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// The names taken apart, once for all that is looked up.
    #[serde(skip)]
    called: Vec<Reference>,
    #[serde(default)]
    created: String,
    #[serde(default)]
    layer: String,
    #[serde(default, rename = "big-data-names")]
    big_data_names: Option<Vec<String>>,
    #[serde(default, rename = "big-data-digests")]
    big_data_digests: Option<BTreeMap<String, String>>,
}

impl Entry {
    /// Whether one of its manifests, an index that names it among them, has that digest: by these
    /// podman looks it up.
    fn has_manifest(&self, digest: &str) -> bool {
        let digests = self.big_data_digests.iter().flatten();
        let mut manifests = digests.filter(|(name, _)| name.starts_with("manifest"));
        self.digest == digest
            || manifests.any(|(_, found)| found == digest)
            || self
                .big_data_names
                .iter()
                .flatten()
                .any(|name| name.strip_prefix("manifest-").is_some_and(|found| found == digest))
    }
}

/// An image's configuration, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    config: Settings,
    #[serde(default)]
    history: Option<Vec<Step>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    on_build: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    size: u64,
}

/// What the store says of a name.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    Id(&'a str),
    Absent,
    /// Only the engine can tell.
    Open,
}

/// Puts what the store holds of `names` into `found` and gives back the names it cannot answer for.
pub(super) fn read<'a>(
    facts: &Facts,
    names: &[&'a str],
    found: &mut BTreeMap<&'a str, ImageInfo>,
) -> Vec<&'a str> {
    let Some(root) = &facts.graph_root else { return names.to_vec() };
    let images = root.join(format!("{}-images", facts.store_driver));
    let Some(entries) = entries(&images) else { return names.to_vec() };
    let layers = root.join(&facts.store_driver);
    let mut open = Vec::new();
    for name in names {
        match answer(&entries, name) {
            Answer::Absent => {}
            Answer::Open => open.push(*name),
            Answer::Id(id) => match held(&images, &layers, &entries, id) {
                Some(held) => {
                    found.insert(name, held);
                }
                None => open.push(*name),
            },
        }
    }
    open
}

/// An image without a manifest: podman was ended while it wrote it, or is writing it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HalfWritten {
    pub id: String,
    /// When it was begun, if that can be read.
    pub begun: Option<SystemTime>,
    /// The key of ours it was to carry.
    pub key: Option<String>,
}

pub(super) fn half_written(facts: &Facts) -> Vec<HalfWritten> {
    let Some(root) = &facts.graph_root else { return Vec::new() };
    let images = root.join(format!("{}-images", facts.store_driver));
    let half = |entry: &Entry| {
        !entry.big_data_names.iter().flatten().any(|name| name.starts_with("manifest"))
    };
    let found = entries(&images).unwrap_or_default().into_iter().filter(half);
    found
        .map(|entry| HalfWritten {
            begun: humantime::parse_rfc3339(&entry.created).ok(),
            key: config(&images, &entry.id)
                .and_then(|config| config.config.labels?.remove(KEY_LABEL)),
            id: entry.id,
        })
        .collect()
}

fn entries(images: &Path) -> Option<Vec<Entry>> {
    let text = fs_err::read(images.join("images.json")).ok()?;
    let mut entries: Vec<Entry> = serde_json::from_slice(&text).ok()?;
    for entry in &mut entries {
        entry.called = entry.names.iter().flatten().map(|name| Reference::parse(name)).collect();
    }
    Some(entries)
}

/// Which image a name stands for, in so far as the names in the store settle it.
fn answer<'a>(entries: &'a [Entry], name: &str) -> Answer<'a> {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    if id.len() == 64
        && let Some(entry) = entries.iter().find(|entry| entry.id == id)
    {
        return Answer::Id(&entry.id);
    }
    let wanted = Reference::parse(name);
    if wanted.digest.is_some() {
        return by_digest(entries, &wanted);
    }
    let candidates = wanted.candidates();
    let (tag, suffix) = (wanted.tag(), format!("/{}", wanted.name));
    let mut hits = Vec::new();
    for entry in entries {
        for held in &entry.called {
            let same = candidates.contains(&held.name);
            // Under another host it may be meant too: podman's search list and aliases decide.
            let perhaps = !wanted.has_host && held.name.ends_with(&suffix);
            if held.digest.is_none() && held.tag() == tag && (same || perhaps) {
                hits.push((entry.id.as_str(), same));
            }
        }
    }
    match hits.as_slice() {
        [] if looks_like_id(name) => Answer::Open,
        [] => Answer::Absent,
        [(id, true)] => Answer::Id(id),
        _ => Answer::Open,
    }
}

/// A digest names one content, whatever host or tag stands before it. Under a name of its own the
/// engine finds it; under another's, versions of podman differ.
fn by_digest<'a>(entries: &'a [Entry], wanted: &Reference) -> Answer<'a> {
    let Some(digest) = &wanted.digest else { return Answer::Open };
    let mut held = entries.iter().filter(|entry| entry.has_manifest(digest)).peekable();
    if held.peek().is_none() {
        return if is_whole(digest) { Answer::Absent } else { Answer::Open };
    }
    let (candidates, suffix) = (wanted.candidates(), format!("/{}", wanted.name));
    let is_called = |entry: &&Entry| {
        entry.called.iter().any(|Reference { name, .. }| {
            candidates.contains(name) || !wanted.has_host && name.ends_with(&suffix)
        })
    };
    // An index stands for an image of each platform.
    match held.collect::<Vec<_>>().as_slice() {
        [entry] if is_called(entry) => Answer::Id(&entry.id),
        _ => Answer::Open,
    }
}

/// Whether it is a digest as manifests have it.
fn is_whole(digest: &str) -> bool {
    let digits = digest.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()))
}

/// `FROM 6cf418b45cb6` is legal.
fn looks_like_id(name: &str) -> bool {
    name.starts_with("sha256:") || name.len() >= 3 && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// The image itself, if its configuration has the hash its id claims and its top layer is there.
fn held(images: &Path, layers: &Path, entries: &[Entry], id: &str) -> Option<ImageInfo> {
    let entry = entries.iter().find(|entry| entry.id == id)?;
    let Config { config: settings, history } = config(images, id)?;
    if !entry.layer.is_empty() && !layers.join(&entry.layer).is_dir() {
        return None;
    }
    let manifest = fs_err::read(images.join(id).join("manifest")).ok()?;
    let manifest: Manifest = serde_json::from_slice(&manifest).ok()?;
    Some(ImageInfo {
        id: id.to_owned(),
        labels: history::own(settings.labels.unwrap_or_default(), &history.unwrap_or_default()),
        size: figure::sum(manifest.layers.iter().map(|layer| layer.size)),
        inherited: Some(Inherited::new(settings.env, settings.on_build.unwrap_or_default())),
    })
}

/// An image's configuration, if it has the hash that the image's id claims.
fn config(images: &Path, id: &str) -> Option<Config> {
    let config = fs_err::read(images.join(id).join(blob_name(id))).ok()?;
    let proven = hex::encode(Sha256::digest(&config)) == id;
    proven.then(|| serde_json::from_slice(&config).ok()).flatten()
}

/// The file name of an image's configuration: names with a `:` are written in base 64 after a `=`.
fn blob_name(id: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut name = String::from("=");
    for chunk in format!("sha256:{id}").as_bytes().chunks(3) {
        let bits =
            (0..3).fold(0, |bits, at| bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let shift = 18 - 6 * digit;
            let used = digit <= chunk.len();
            name.push(if used { char::from(DIGITS[bits >> shift & 63]) } else { '=' });
        }
    }
    name
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// podman's store: its index, and an image's manifest.
    pub(in crate::engine) fn fuzz(answer: &[u8], root: &Path) {
        let images = root.join("overlay-images");
        let id = hex::encode(Sha256::digest(LABELLED));
        fs_err::create_dir_all(images.join(&id)).unwrap();
        fs_err::write(images.join(&id).join(blob_name(&id)), LABELLED).unwrap();
        fs_err::write(images.join(&id).join("manifest"), answer).unwrap();
        let facts = super::super::client::tests::local(root);
        let names = ["localhost/a:1", "debian", "abc123", "go@sha256:00", id.as_str()];
        for index in [answer, json!([{"id": id, "names": names}]).to_string().as_bytes()] {
            fs_err::write(images.join("images.json"), index).unwrap();
            read(&facts, &names, &mut BTreeMap::new());
            half_written(&facts);
        }
    }

    /// A store with these images: (configuration, names).
    fn store(images: &[(&str, &[&str])]) -> (tempfile::TempDir, Facts, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("overlay-images");
        let (mut entries, mut ids) = (Vec::new(), Vec::new());
        for (config, names) in images {
            let id = hex::encode(Sha256::digest(config));
            let image = folder.join(&id);
            fs_err::create_dir_all(&image).unwrap();
            fs_err::write(image.join(blob_name(&id)), config).unwrap();
            fs_err::write(image.join("manifest"), r#"{"layers":[{"size":7},{"size":5}]}"#).unwrap();
            entries.push(json!({
                "id": id, "names": names, "digest": format!("sha256:{}", digest(entries.len())),
                "big-data-names": ["manifest"], "created": "2026-11-21T09:40:48.514593865Z",
            }));
            ids.push(id);
        }
        fs_err::write(folder.join("images.json"), json!(entries).to_string()).unwrap();
        let facts = crate::engine::local_facts(root.path());
        (root, facts, ids)
    }

    /// Of the manifest of the image made so many images before.
    fn digest(number: usize) -> String {
        format!("{number:064}")
    }

    const LABELLED: &str = r#"{"config":{"Labels":{"dev.xtask.key":"k"}}}"#;

    #[test]
    fn an_image_is_read_with_labels_and_size_and_the_missing_one_is_not_there() {
        let (_root, facts, ids) = store(&[(LABELLED, &["localhost/a:1"])]);
        let mut found = BTreeMap::new();
        let open = read(&facts, &["localhost/a:1", "localhost/a:2", "b:1"], &mut found);
        assert_eq!((open.len(), found.len()), (0, 1));
        let held = &found["localhost/a:1"];
        assert_eq!((&held.id, held.size), (&ids[0], 12));
        assert_eq!(held.labels[KEY_LABEL], "k");
    }

    #[test]
    fn what_does_not_prove_itself_is_left_to_the_engine() {
        let (root, facts, ids) = store(&[(LABELLED, &["localhost/a:1"])]);
        let images = root.path().join("overlay-images");
        let blob = images.join(&ids[0]).join(blob_name(&ids[0]));
        fs_err::write(&blob, LABELLED.replace('k', "j")).unwrap();
        assert_eq!(read(&facts, &["localhost/a:1"], &mut BTreeMap::new()), ["localhost/a:1"]);
        fs_err::write(images.join("images.json"), "[{").unwrap();
        assert_eq!(read(&facts, &["localhost/a:1"], &mut BTreeMap::new()), ["localhost/a:1"]);
        fs_err::remove_file(images.join("images.json")).unwrap();
        assert_eq!(read(&facts, &["localhost/a:1"], &mut BTreeMap::new()), ["localhost/a:1"]);
    }

    #[test]
    fn a_name_that_may_stand_for_several_is_left_to_the_engine() {
        let names: [&[&str]; 3] = [
            &["docker.io/library/debian:12", "docker.io/library/rust:1"],
            &["localhost/rust:1"],
            &["quay.io/centos/go:1"],
        ];
        let (_root, facts, ids) = store(&[("{}", names[0]), ("{ }", names[1]), ("{  }", names[2])]);
        let sha = format!("docker.io/library/debian@sha256:{}", digest(0));
        for (name, expected) in [
            ("debian:12", Some(Some(&ids[0]))),
            ("docker.io/debian:12", Some(Some(&ids[0]))),
            (sha.as_str(), Some(Some(&ids[0]))),
            (ids[1].as_str(), Some(Some(&ids[1]))),
            ("debian:13", Some(None)),
            ("rust:1", None),
            ("go:1", None),
            ("abc123", None),
        ] {
            let mut found = BTreeMap::new();
            let open = read(&facts, &[name], &mut found);
            assert_eq!(open.is_empty(), expected.is_some(), "{name}");
            assert_eq!(found.get(name).map(|held| &held.id), expected.flatten(), "{name}");
        }
    }

    #[test]
    fn a_base_pinned_by_digest_is_answered_for_whatever_is_written_before_it() {
        let debian: &[&str] = &["docker.io/library/debian:12"];
        let (root, facts, ids) = store(&[("{}", debian), ("{ }", &["quay.io/centos/go:1"])]);
        let asked = |name: String| {
            let mut found = BTreeMap::new();
            let open = !read(&facts, &[&name], &mut found).is_empty();
            (open, found.remove(name.as_str()).map(|held| held.id))
        };
        let [first, second, nobodys] = [0, 1, 2].map(digest);
        for (name, expected) in [
            (format!("debian:12@sha256:{first}"), (false, Some(ids[0].clone()))),
            (format!("debian:13@sha256:{first}"), (false, Some(ids[0].clone()))),
            (format!("docker.io/library/debian:12@sha256:{first}"), (false, Some(ids[0].clone()))),
            (format!("go@sha256:{second}"), (false, Some(ids[1].clone()))),
            (format!("docker.io/library/debian:12@sha256:{nobodys}"), (false, None)),
            (format!("debian@sha256:{nobodys}"), (false, None)),
            // Under this name podman 4.3 finds it, and later ones do not.
            (format!("debian@sha256:{second}"), (true, None)),
            ("debian@sha256:00".to_owned(), (true, None)),
        ] {
            assert_eq!(asked(name.clone()), expected, "{name}");
        }
        // An index that both were taken from.
        let file = root.path().join("overlay-images/images.json");
        let mut entries: Vec<serde_json::Value> =
            serde_json::from_slice(&fs_err::read(&file).unwrap()).unwrap();
        let index = format!("sha256:{nobodys}");
        entries[0]["big-data-digests"] = json!({"manifest-index": index});
        fs_err::write(&file, json!(entries).to_string()).unwrap();
        assert_eq!(asked(format!("debian@{index}")), (false, Some(ids[0].clone())));
        entries[1]["big-data-digests"] = json!({"manifest-index": index});
        entries[1]["names"] = json!(debian);
        fs_err::write(&file, json!(entries).to_string()).unwrap();
        assert_eq!(asked(format!("debian@{index}")), (true, None));
    }

    #[test]
    fn an_image_without_a_manifest_is_half_written_and_says_whose_it_is() {
        let (root, facts, ids) = store(&[(LABELLED, &[]), ("{}", &[])]);
        assert_eq!(half_written(&facts), []);
        let file = root.path().join("overlay-images/images.json");
        let text = fs_err::read_to_string(&file).unwrap().replace("\"manifest\"", "\"sha256:x\"");
        fs_err::write(&file, &text).unwrap();
        let found = half_written(&facts);
        let seen: Vec<_> = found.iter().map(|one| (&one.id, one.key.as_deref())).collect();
        assert_eq!(seen, [(&ids[0], Some("k")), (&ids[1], None)]);
        assert!(found.iter().all(|one| one.begun.is_some()));
    }
}
