//! What is different between the last build of an image and what would be built now.

use std::collections::{BTreeMap, BTreeSet};

use super::reason::Reason;
use crate::context::Parts;
use crate::context::record::Record;

/// What an image would be built from now.
#[derive(Clone, Debug)]
pub struct Now {
    pub parts: Parts,
    pub ignore: String,
    pub files: BTreeMap<String, String>,
}

/// Every difference, in the order people look for them; empty when there is none.
pub fn diff(before: &Record, now: &Now) -> Vec<Reason> {
    let mut reasons = files(&before.files, &now.files);
    if !reasons.is_empty() && before.ignore != now.ignore {
        reasons.insert(0, Reason::IgnoreFile);
    }
    let (old, new) = (&before.parts, &now.parts);
    if old.dockerfile != new.dockerfile || old.secrets != new.secrets {
        reasons.push(Reason::Dockerfile);
    }
    reasons.extend(changes(&old.args, &new.args).map(|(name, old, new)| Reason::BuildArg {
        detail: turned(old.map(String::as_str), new.map(String::as_str)),
        name: name.clone(),
    }));
    reasons.extend(changes(&old.bases, &new.bases).map(|(reference, old, new)| {
        let reference = reference.clone();
        Reason::BaseImage {
            detail: turned(old.map(|old| id(old.as_ref())), new.map(|new| id(new.as_ref()))),
            reference,
        }
    }));
    if old.target != new.target {
        let detail = turned(old.target.as_deref(), new.target.as_deref());
        reasons.push(Reason::Target { detail });
    }
    if old.platform != new.platform {
        let detail = turned(old.platform.as_deref(), new.platform.as_deref());
        reasons.push(Reason::Platform { detail });
    }
    reasons
}

fn files(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Reason> {
    changes(old, new)
        .map(|(path, old, new)| match (old, new) {
            (None, _) => Reason::FileAdded { path: path.clone() },
            (_, None) => Reason::FileRemoved { path: path.clone() },
            (Some(old), Some(new)) => {
                Reason::FileChanged { path: path.clone(), detail: change(old, new) }
            }
        })
        .collect()
}

/// What about a file changed, where it is not just its content.
fn change(old: &str, new: &str) -> Option<String> {
    let kind = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    let rest = |value: &str| value.split_once(' ').map(|(_, rest)| rest.to_owned());
    match (&*kind(old), &*kind(new)) {
        ("f", "x") => Some("now executable".to_owned()),
        ("x", "f") => Some("no longer executable".to_owned()),
        ("l", "l") => Some(turned(rest(old).as_deref(), rest(new).as_deref())),
        (old, new) if old == new => None,
        (old, new) if named(old) == named(new) => {
            Some(format!("mode {} → {}", mode(old), mode(new)))
        }
        (old, new) => Some(format!("{} → {}", named(old), named(new))),
    }
}

/// The mode in a kind with its mode.
fn mode(kind: &str) -> &str {
    match kind {
        "f" => "644",
        "x" | "d" => "755",
        other => other.get(1..).unwrap_or_default(),
    }
}

fn named(kind: &str) -> &'static str {
    match kind.get(..1) {
        Some("d") => "folder",
        Some("l") => "symlink",
        Some("o") => "device",
        _ => "file",
    }
}

/// Entries that are not the same in both, with what they are in each.
fn changes<'a, V: PartialEq>(
    old: &'a BTreeMap<String, V>,
    new: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a String, Option<&'a V>, Option<&'a V>)> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .map(|name| (name, old.get(name), new.get(name)))
        .filter(|(_, old, new)| old != new)
}

fn turned(old: Option<&str>, new: Option<&str>) -> String {
    match (old, new) {
        (None, Some(new)) => format!("now {new}"),
        (Some(old), None) => format!("no longer {old}"),
        (Some(old), Some(new)) => format!("{old} → {new}"),
        (None, None) => String::new(),
    }
}

fn id(id: Option<&String>) -> &str {
    id.map_or("not fetched", |id| id.get(..12).unwrap_or(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn told(before: &Record, now: &Now) -> Vec<String> {
        diff(before, now).iter().map(ToString::to_string).collect()
    }

    fn same() -> (Record, Now) {
        let files = map(&[("a", "f 1"), ("link", "l a"), ("run", "x 2")]);
        let parts = Parts {
            args: map(&[("GO", "1.24")]),
            bases: [("debian".to_owned(), Some("0123456789abcdef".to_owned()))].into(),
            ..Parts::default()
        };
        let before = Record { parts: parts.clone(), files: files.clone(), ..Record::default() };
        (before, Now { parts, ignore: String::new(), files })
    }

    #[test]
    fn nothing_changed_gives_no_reason() {
        let (before, now) = same();
        assert!(diff(&before, &now).is_empty());
        // An ignore file that leaves out just what it did before is no reason to build.
        let now = Now { ignore: "other".into(), ..now };
        assert!(diff(&before, &now).is_empty());
    }

    #[test]
    fn files_are_named_with_what_happened_to_them() {
        let (before, mut now) = same();
        now.files = map(&[("a", "x 1"), ("b", "f 3"), ("link", "l b"), ("run", "l a")]);
        now.ignore = "other".into();
        assert_eq!(
            told(&before, &now),
            [
                "ignore rules changed",
                "changed a (now executable)",
                "added b",
                "changed link (a → b)",
                "changed run (file → symlink)",
            ]
        );
        now.files = map(&[("a", "f600 1"), ("link", "l a"), ("run", "x 2")]);
        assert_eq!(told(&before, &now)[1], "changed a (mode 644 → 600)");
        now.files = map(&[("a", "f 9"), ("run", "x 2")]);
        now.ignore.clear();
        assert_eq!(told(&before, &now), ["changed a", "removed link"]);
    }

    #[test]
    fn everything_else_is_named_too() {
        let (before, mut now) = same();
        now.parts.dockerfile = "other".into();
        now.parts.args = map(&[("GO", "1.25"), ("TAGS", "e2e")]);
        now.parts.bases.insert("debian".into(), None);
        now.parts.target = Some("dev".into());
        now.parts.platform = Some("linux/arm64".into());
        assert_eq!(
            told(&before, &now),
            [
                "Dockerfile changed",
                "build arg GO: 1.24 → 1.25",
                "build arg TAGS: now e2e",
                "base image debian: 0123456789ab → not fetched",
                "target: now dev",
                "platform: now linux/arm64",
            ]
        );
    }
}
