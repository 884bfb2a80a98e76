//! Whose labels an image carries. An image built on one of ours inherits them, the key too: tagged
//! with our name by whoever wanted a shell in it, it would pass for the image of that key.
//!
//! podman writes `--label` as the last steps of a build. So the history of an image that was built
//! under a key ends in our labels, and that of one made from it (by a build, by `podman commit`)
//! goes on. docker tells no history.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::plan::KEY_LABEL;

/// One step of an image's history, as its configuration and `podman image inspect` have it.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    #[serde(default)]
    created_by: String,
}

/// What the names of all our labels begin with.
const OURS: &str = "dev.xtask.";

/// Whether an image's history proves that it was built under the key it carries: it ends in our
/// labels.
pub(super) fn is_own(history: &[Step]) -> bool {
    let ours = |step: &Step| is_label(step, OURS);
    history.last().is_some_and(ours) && history.iter().any(|step| is_label(step, KEY_LABEL))
}

fn is_label(step: &Step, label: &str) -> bool {
    step.created_by.contains("LABEL") && step.created_by.contains(label)
}

/// The labels without a key that is another image's.
pub(super) fn own(
    mut labels: BTreeMap<String, String>,
    history: &[Step],
) -> BTreeMap<String, String> {
    let keyed = history.iter().rposition(|step| is_label(step, KEY_LABEL));
    if keyed.is_some_and(|at| history[at..].iter().any(|step| !is_label(step, OURS))) {
        labels.remove(KEY_LABEL);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_only_where_the_history_ends_in_it() {
        let key = r#"/bin/sh -c #(nop) LABEL "dev.xtask.key"="k""#;
        let image = r#"/bin/sh -c #(nop) LABEL "dev.xtask.image"="api""#;
        let copy = "/bin/sh -c #(nop) COPY dir:1b18 in /";
        let run = "/bin/sh -c apt-get install dev.xtask.gdb";
        let table: [(&[&str], bool, bool); 7] = [
            (&[copy, key, image], true, true),
            (&[copy, key, image, run], false, false),
            (&[copy, key, image, "/bin/sh"], false, false),
            (&[copy, key, image, copy, key, image], true, true),
            (&[copy, key], true, true),
            (&[copy], true, false),
            (&[], true, false),
        ];
        for (steps, counts, proves) in table {
            let step = |text: &&str| Step { created_by: (*text).to_owned() };
            let history: Vec<Step> = steps.iter().map(step).collect();
            assert_eq!(is_own(&history), proves, "{steps:?}");
            let labels = BTreeMap::from([(KEY_LABEL.to_owned(), "k".to_owned())]);
            assert_eq!(own(labels, &history).contains_key(KEY_LABEL), counts, "{steps:?}");
        }
    }
}
