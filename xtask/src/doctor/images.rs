//! Which images the engine holds, and which of them are stand-ins of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::probe;
use super::upkeep::Upkeep;
use crate::config::EngineName;
use crate::process::{Ending, Tool};
use crate::reference::Reference;

/// The label of an image made here under an upstream name.
pub const STAND_IN: &str = "dev.xtask.stand-in";

/// The longest the engine may take over one question.
const ANSWER: Duration = Duration::from_secs(30);

/// An image the engine holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// What our label says it was made from.
    pub(super) stand_in: Option<String>,
}

/// Those of `references` that are stand-ins, one line each: every run says so.
pub fn stand_ins(engine: EngineName, references: &[String]) -> Vec<String> {
    let kind = probe::choose(engine).kind;
    let held = held(kind, references).unwrap_or_default();
    let line = |(reference, held): (&String, &Held)| {
        let made = held.stand_in.as_ref()?;
        Some(format!("`{reference}` is not upstream's: {made}"))
    };
    held.iter().filter_map(line).collect()
}

/// What of `references` is there, by canonical reference; asked in one go. The error is the
/// engine's own words when it does not answer at all.
pub(super) fn held(
    engine: &dyn Upkeep,
    references: &[String],
) -> Result<BTreeMap<String, Held>, String> {
    let form = concat!(
        r#"{"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}},"#,
        r#""labels":{{json .Config.Labels}}}"#
    );
    let references: Vec<_> = references.iter().map(|name| canonical(name)).collect();
    // Podman fails without an argument; a name nothing can have makes the question answerable.
    let asked = references.iter().map(String::as_str).chain(["localhost/xtask-no-such-image"]);
    let (lines, answer) = Tool::new(engine.name())
        .args(["image", "inspect", "--format", form])
        .args(asked)
        .limit(ANSWER)
        .capture(|_, _| {});
    match answer {
        Err(failure) if !says_unknown(&failure.tail) || !is_exit(&failure.ending) => {
            return Err(failure.tail.last().cloned().unwrap_or_else(|| failure.ending.to_string()));
        }
        _ => {}
    }
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
    Ok(read(&lines, &references))
}

/// One image a line; lines that are no JSON say which ones are missing.
fn read(lines: &[&[u8]], references: &[String]) -> BTreeMap<String, Held> {
    let mut held = BTreeMap::new();
    for image in lines.iter().filter_map(|line| serde_json::from_slice::<Inspected>(line).ok()) {
        let stand_in = image.labels.unwrap_or_default().remove(STAND_IN);
        for name in image.tags.into_iter().chain(image.digests).flatten() {
            let name = canonical(&name);
            if references.contains(&name) {
                held.insert(name, Held { stand_in: stand_in.clone() });
            }
        }
    }
    held
}

#[derive(Deserialize)]
struct Inspected {
    tags: Option<Vec<String>>,
    digests: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

fn is_exit(ending: &Ending) -> bool {
    matches!(ending, Ending::Code(_))
}

/// `image not known` (podman 4), `no such object` and `No such image` (docker).
fn says_unknown(tail: &[String]) -> bool {
    let known = ["not known", "No such", "no such object"];
    tail.iter().any(|line| known.iter().any(|words| line.contains(words)))
}

/// The full form of a reference: registry, repository, tag or digest.
pub(super) fn canonical(reference: &str) -> String {
    let parsed = Reference::parse(reference);
    let name = parsed.qualified();
    match (&parsed.digest, &parsed.tag) {
        (Some(digest), Some(tag)) => format!("{name}:{tag}@{digest}"),
        (Some(digest), None) => format!("{name}@{digest}"),
        (None, _) => format!("{name}:{}", parsed.tag()),
    }
}

/// The registry of a canonical reference.
pub(super) fn registry(reference: &str) -> &str {
    reference.split('/').next().unwrap_or_default()
}

/// The recipe that makes a stand-in for `reference`, if this workspace has one: `images/bases/NAME`
/// by the repository's last name, `images/kind-node/build` for a kind node of the version it makes.
pub(super) fn recipe(root: &Path, reference: &str) -> Option<PathBuf> {
    let (repository, tag) = reference.rsplit_once(':')?;
    if repository.ends_with("/kindest/node") {
        let folder = root.join("images/kind-node");
        let module = fs_err::read_to_string(folder.join("kubenode/go.mod")).ok()?;
        return module
            .contains(&format!("k8s.io/kubernetes {tag}\n"))
            .then(|| folder.join("build"));
    }
    let name = repository.strip_prefix("docker.io/library/")?;
    // Names come from Dockerfiles, and lead nowhere else.
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !name.contains('/');
    let name = Some(name).filter(|_| is_name)?;
    let script = root.join("images/bases").join(name);
    script.is_file().then_some(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn references_are_written_out() {
        for (short, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim"),
            ("kindest/node:v1", "docker.io/kindest/node:v1"),
            ("localhost/a:b", "localhost/a:b"),
            ("registry.test:5000/a", "registry.test:5000/a:latest"),
            ("debian@sha256:00", "docker.io/library/debian@sha256:00"),
        ] {
            assert_eq!(canonical(short), full);
            assert_eq!(canonical(full), full);
        }
    }

    #[test]
    fn what_is_held_is_read_off_either_engines_answer() {
        let references = ["debian", "rust:1", "redis:7"].map(canonical);
        let lines = [
            concat!(
                r#"{"tags":["docker.io/library/debian:latest"],"digests":[],"#,
                r#""labels":{"dev.xtask.stand-in":"by us"}}"#
            ),
            r#"{"tags":["rust:1","other:2"],"digests":null,"labels":null}"#,
            "Error: inspecting object: docker.io/library/redis:7: image not known",
        ];
        let held = read(&lines.map(str::as_bytes), &references);
        let stand_in = |name: &str| held.get(&canonical(name)).map(|held| held.stand_in.as_deref());
        assert_eq!(stand_in("debian"), Some(Some("by us")));
        assert_eq!(stand_in("rust:1"), Some(None));
        assert_eq!(stand_in("redis:7"), None);
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn recipes_are_found_by_name_and_version() {
        let root = fixture::folder(&[
            ("images/bases/debian", ""),
            ("images/kind-node/build", ""),
            ("images/kind-node/kubenode/go.mod", "require (\n\tk8s.io/kubernetes v1.34.4\n)\n"),
        ]);
        let found = |reference| recipe(root.path(), reference).is_some();
        assert!(found("docker.io/library/debian:bookworm-slim"));
        assert!(found("docker.io/kindest/node:v1.34.4"));
        assert!(!found("docker.io/kindest/node:v1.34"));
        assert!(!found("docker.io/library/alpine:3"));
        assert!(!found("quay.test/library/debian:12"));
        assert!(!found("docker.io/library/../kind-node/build:1"));
        assert!(!found("docker.io/library/..:1"));
    }
}
