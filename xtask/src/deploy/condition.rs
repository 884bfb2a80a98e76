//! Whether a condition says what is waited for, and says it of what was applied. Pure.
//!
//! Controllers leave a condition as it was until they have seen the new spec. Those that say which
//! generation they have observed are held to it. Of the others it is believed that has changed
//! since the apply, was seen to be otherwise since, or stays for [`SETTLES`].

use std::time::Duration;

use serde_json::Value;

use super::verdict::{Verdict, condition, number, text, uid};

/// How long one must stay that may be of the spec before.
const SETTLES: Duration = Duration::from_secs(3);

/// What is known of the time since the apply.
#[derive(Clone, Copy)]
pub(super) struct Since<'a> {
    /// Whether anything was applied: if not, there is no spec before this one.
    pub(super) applied: bool,
    /// When, by the API server's clock, if that is known.
    pub(super) clock: Option<&'a str>,
    /// The condition was seen to be otherwise since.
    pub(super) was_otherwise: bool,
}

pub(super) fn judge(
    (object, called): (&Value, &str),
    (kind, status): (&str, &str),
    since: Since<'_>,
) -> Verdict {
    let Some(now) = condition(object, kind) else {
        return Verdict::Waiting(format!("{called}: no condition {kind} yet"));
    };
    if now["status"] != *status {
        let [status, reason, message] = ["status", "reason", "message"].map(|key| text(&now[key]));
        return Verdict::Waiting(format!("{called}: {kind} is {status}: {reason}: {message}"));
    }
    let generation = number(&object["metadata"]["generation"]);
    let observed = [&now["observedGeneration"], &object["status"]["observedGeneration"]];
    let observed = observed.into_iter().filter_map(Value::as_u64).min();
    match observed {
        Some(observed) if observed < generation => {
            return Verdict::Waiting(format!(
                "{called}: {kind} is {status} of generation {observed}, which is not yet {generation}"
            ));
        }
        Some(_) => return Verdict::Ready,
        None => {}
    }
    let changed = text(&now["lastTransitionTime"]);
    // Both are of one form, so that later is greater. One of the same second may be from before.
    let is_later = since.clock.is_some_and(|clock| changed > clock);
    if !since.applied || since.was_otherwise || is_later {
        return Verdict::Ready;
    }
    Verdict::Unproven {
        what: format!(
            "{called}: {kind} to stay {status}: it may be so of what was there before, and says no \
             generation"
        ),
        settles: SETTLES,
        of: vec![(uid(object).to_owned(), generation)],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_believed_only_of_what_was_applied() {
        let apply = "2026-11-21T09:00:30Z";
        let unknown = Since { applied: true, clock: Some(apply), was_otherwise: false };
        let widget = |of: &Value, status: Value, changed: &str| {
            let mut ready =
                json!({"type": "Ready", "status": "True", "lastTransitionTime": changed});
            if let Some(generation) = of.as_u64() {
                ready["observedGeneration"] = json!(generation);
            }
            let mut status = status;
            status["conditions"] = json!([ready]);
            json!({"kind": "Widget", "metadata": {"name": "w", "uid": "u", "generation": 2},
                   "status": status})
        };
        let (before, later) = ("2026-11-21T09:00:12Z", "2026-11-21T09:00:31Z");
        let none = &Value::Null;
        for (why, object, since, expected) in [
            ("observed by the condition", widget(&json!(2), json!({}), before), unknown, "ready"),
            (
                "observed by the object",
                widget(none, json!({"observedGeneration": 2}), before),
                unknown,
                "ready",
            ),
            ("of the generation before", widget(&json!(1), json!({}), later), unknown, "waiting"),
            (
                "the object is behind",
                widget(&json!(2), json!({"observedGeneration": 1}), later),
                unknown,
                "waiting",
            ),
            ("changed since", widget(none, json!({}), later), unknown, "ready"),
            ("changed before", widget(none, json!({}), before), unknown, "unproven"),
            (
                "changed in the second of the apply",
                widget(none, json!({}), apply),
                unknown,
                "unproven",
            ),
            (
                "no clock",
                widget(none, json!({}), later),
                Since { clock: None, ..unknown },
                "unproven",
            ),
            (
                "seen otherwise",
                widget(none, json!({}), before),
                Since { was_otherwise: true, ..unknown },
                "ready",
            ),
            (
                "nothing was applied",
                widget(none, json!({}), before),
                Since { applied: false, ..unknown },
                "ready",
            ),
        ] {
            let verdict = match judge((&object, "widget/w"), ("Ready", "True"), since) {
                Verdict::Ready => "ready",
                Verdict::Waiting(_) => "waiting",
                Verdict::Unproven { .. } => "unproven",
                other => panic!("{why}: {other:?}"),
            };
            assert_eq!(verdict, expected, "{why}");
        }
    }

    #[test]
    fn another_status_and_another_condition_are_waited_for() {
        let unknown = Since { applied: true, clock: None, was_otherwise: false };
        let ready = json!({"type": "Ready", "status": "True"});
        let object = json!({"kind": "Widget", "metadata": {"name": "w", "generation": 2},
                            "status": {"conditions": [ready]}});
        for (kind, status) in [("Ready", "False"), ("Other", "True")] {
            let verdict = judge((&object, "widget/w"), (kind, status), unknown);
            assert!(matches!(verdict, Verdict::Waiting(_)), "{kind}={status}: {verdict:?}");
        }
    }
}
