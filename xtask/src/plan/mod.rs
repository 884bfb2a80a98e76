//! Stage 3: (what images would be built from, what the engine holds, what was recorded) → [`Plan`].
//!
//! Pure: everything it needs is a value. A skip has one proof, an image the engine holds under the
//! key's tag whose label is that key. A record only says why that image is not there.

mod diff;
mod reason;

use std::collections::BTreeMap;

use serde::Serialize;

pub use diff::{Now, diff};
pub use reason::Reason;

use crate::context::Key;
use crate::context::record::Record;
use crate::event::Kind;

/// The label that holds an image's key.
pub const KEY_LABEL: &str = "dev.xtask.key";

/// The label that says which image one is.
pub const IMAGE_LABEL: &str = "dev.xtask.image";

/// The label that says which project an image is of.
pub const PROJECT_LABEL: &str = "dev.xtask.project";

/// What a run would do, and why. Its JSON form is relied on by scripts.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub version: u32,
    pub images: Vec<Planned>,
    pub steps: Vec<Step>,
    /// What a suite's whole run is expected to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What would be done for one image.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub name: String,
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    pub tag: String,
    pub action: Action,
    pub reasons: Vec<Reason>,
    /// Bytes a build of it would reserve: what was learned, else what is configured.
    pub memory: u64,
    pub memory_configured: u64,
    /// What builds of it were seen to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_learned: Option<u64>,
    /// What a build of it is expected to take, from past ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Where the image of this key was built, if the configuration had builders then; of one that
    /// is to be built, where it would be as things are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Build,
    Skip,
}

/// One node of a suite's graph, as the plan shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub name: String,
    pub kind: Kind,
    /// How it would be done, where there is more than one way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    pub needs: Vec<String>,
    /// What it took in past runs; none if it was never done this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// On the longest path.
    pub critical: bool,
}

/// All that is known of one image.
pub struct Known<'a> {
    pub name: &'a str,
    pub key: Key,
    /// Labels of the image the engine holds under the key's tag.
    pub held: Option<&'a BTreeMap<String, String>>,
    pub record: Option<&'a Record>,
    /// What it would be built from now; only looked at when it has to be built.
    pub now: &'a dyn Fn() -> Now,
    /// Bytes.
    pub memory_configured: u64,
    pub memory_learned: Option<u64>,
    pub forced: bool,
    /// What its build fetches and no key can know: address and line.
    pub fetched: Option<(&'a str, usize)>,
}

/// Decides about one image.
pub fn decide(known: &Known) -> Planned {
    let reasons = if known.forced {
        vec![Reason::Forced]
    } else if proven(known) {
        vec![known.fetched.map_or(Reason::UpToDate, |(address, line)| Reason::Fetched {
            detail: format!(
                "`ADD {address}` (line {line}) has no --checksum: it is looked at again"
            ),
        })]
    } else {
        causes(known)
    };
    let elsewhere = known.record.filter(|record| record.builder.is_some());
    let same = elsewhere.filter(|record| record.key == known.key.to_string());
    let action = if reasons == [Reason::UpToDate] { Action::Skip } else { Action::Build };
    Planned {
        name: known.name.to_owned(),
        key: known.key,
        tag: known.key.tag(known.name),
        action,
        reasons,
        memory: known.memory_learned.unwrap_or(known.memory_configured),
        memory_configured: known.memory_configured,
        memory_learned: known.memory_learned,
        seconds: known.record.and_then(|record| record.seconds),
        builder: same.and_then(|record| record.builder.clone()),
    }
}

impl Planned {
    /// `rebuild` where only files differ from what was built last, so that layers and cache mounts
    /// are warm: 9 s instead of 98 for the services of this repository. Else `build`.
    pub fn how(&self) -> &'static str {
        let of_a_file = |reason: &Reason| reason.path().is_some();
        if self.reasons.iter().all(of_a_file) { "rebuild" } else { "build" }
    }
}

/// Whether the image under the key's tag says by its label that it is the one.
fn proven(known: &Known) -> bool {
    known.held.and_then(|labels| labels.get(KEY_LABEL)) == Some(&known.key.to_string())
}

fn causes(known: &Known) -> Vec<Reason> {
    match known.record {
        None => vec![Reason::NoImage, Reason::NoRecord],
        Some(record) => {
            let differences = diff(record, &(known.now)());
            // The same inputs as last time: the image itself must have gone.
            if differences.is_empty() { vec![Reason::NoImage] } else { differences }
        }
    }
}

fn as_text<S: serde::Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(key)
}

impl Plan {
    pub fn new(images: Vec<Planned>, steps: Vec<Step>) -> Self {
        Self { version: 1, images, steps, seconds: None }
    }

    pub fn to_build(&self) -> impl Iterator<Item = &Planned> {
        self.images.iter().filter(|image| image.action == Action::Build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Parts;

    fn labels(key: &str) -> BTreeMap<String, String> {
        [(KEY_LABEL.to_owned(), key.to_owned())].into()
    }

    fn decided(
        held: Option<&str>,
        record: Option<&Record>,
        forced: bool,
        fetched: Option<(&str, usize)>,
    ) -> (Action, Vec<&'static str>) {
        let held = held.map(labels);
        let now = || Now { parts: Parts::default(), ignore: String::new(), files: BTreeMap::new() };
        let known = Known {
            name: "api",
            key: Parts::default().key(),
            held: held.as_ref(),
            record,
            now: &now,
            memory_configured: 1,
            memory_learned: None,
            forced,
            fetched,
        };
        let planned = decide(&known);
        (planned.action, planned.reasons.iter().map(Reason::kind).collect())
    }

    /// The held image's key label, the record, forced; then the action and its reasons.
    type Row<'a> = (Option<&'a str>, Option<&'a Record>, bool, Action, &'a [&'a str]);

    #[test]
    fn only_an_image_that_says_so_itself_is_skipped() {
        let key = Parts::default().key().to_string();
        let same = Record { key: key.clone(), ..Record::default() };
        let mut other = Record::default();
        other.files.insert("a".into(), "f 1".into());
        let table: [Row; 7] = [
            (Some(&key), None, false, Action::Skip, &["up-to-date"]),
            (Some(&key), Some(&other), false, Action::Skip, &["up-to-date"]),
            (Some(&key), Some(&same), true, Action::Build, &["forced"]),
            // Tagged behind our back, or by another tool: the label is not this key.
            (Some("0123"), Some(&same), false, Action::Build, &["no-image"]),
            (None, Some(&same), false, Action::Build, &["no-image"]),
            (None, Some(&other), false, Action::Build, &["file-removed"]),
            (None, None, false, Action::Build, &["no-image", "no-record"]),
        ];
        for (held, record, forced, action, reasons) in table {
            assert_eq!(
                decided(held, record, forced, None),
                (action, reasons.to_vec()),
                "{held:?} {forced}"
            );
        }
    }

    #[test]
    fn what_is_fetched_is_looked_at_again() {
        let key = Parts::default().key().to_string();
        let fetched = Some(("https://a/b", 2));
        let (action, reasons) = decided(Some(&key), None, false, fetched);
        assert_eq!((action, reasons), (Action::Build, vec!["fetched"]));
        assert_eq!(decided(None, None, false, fetched).1, ["no-image", "no-record"]);
    }

    #[test]
    fn the_json_form_is_the_one_scripts_read() {
        let reasons = vec![
            Reason::FileChanged { path: "a".into(), detail: None },
            Reason::BuildArg { name: "GO".into(), detail: "1 → 2".into() },
        ];
        let planned = Planned {
            name: "api".into(),
            key: Parts::default().key(),
            tag: "localhost/api:0".into(),
            action: Action::Build,
            reasons,
            memory: 5,
            memory_configured: 7,
            memory_learned: Some(5),
            seconds: None,
            builder: None,
        };
        let json = serde_json::to_value(Plan::new(vec![planned], Vec::new())).unwrap();
        assert_eq!(json["version"], 1);
        let image = &json["images"][0];
        assert_eq!(image["action"], "build");
        assert_eq!(image["reasons"][0], serde_json::json!({"kind": "file-changed", "path": "a"}));
        assert_eq!(image["reasons"][1]["detail"], "GO: 1 → 2");
        assert_eq!(image["key"].as_str().map(str::len), Some(64));
    }
}
