//! The hooks of a Helm chart, as helm means them, in an installation.
//!
//! A step is always an installation: on a kept cluster, too, it must leave what it leaves on a
//! fresh one. So of the objects that carry `helm.sh/hook`:
//!
//! | hook | what is done |
//! | --- | --- |
//! | `pre-install` | before the chart's objects, but for its CRDs, in the order of their weights |
//! | `post-install` | after they are applied, likewise |
//! | `crd-install` (helm 2) | applied like the rest |
//! | `pre-delete`, `post-delete`, `pre-upgrade`, `post-upgrade`, `pre-rollback`, `post-rollback`, `test` alone | left out: nothing is deleted, upgraded or tested |
//!
//! A hook that is there from before is deleted first, and made anew; a Job or Pod must end well
//! before the next is applied; `hook-delete-policy` says what is deleted then. Hooks are no part of
//! what a step is waited for, or proved by: they run again when anything of the step changed.

use serde_json::Value;

use super::render::Document;

/// An object that runs its course before or after the others.
#[derive(Clone, Debug)]
pub struct Hook {
    pub(super) document: Document,
    pub(super) when: When,
    weight: i64,
    /// Deleted once all hooks of its kind have ended well.
    pub(super) goes_when_done: bool,
    pub(super) goes_when_failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// What an object of a chart is as hooks; none if it is an object like others, empty if it is left
/// out.
pub(super) fn of(value: &Value, document: &Document) -> Option<Vec<Hook>> {
    let annotation = |key: &str| {
        let text = value["metadata"]["annotations"][key].as_str().unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    let events = annotation("helm.sh/hook");
    if events.is_empty() || events.contains(&"crd-install") {
        return None;
    }
    let weight = annotation("helm.sh/hook-weight");
    let weight = weight.first().and_then(|weight| weight.parse().ok()).unwrap_or_default();
    let policies = annotation("helm.sh/hook-delete-policy");
    let whens = [("pre-install", When::Before), ("post-install", When::After)];
    let whens = whens.into_iter().filter(|(event, _)| events.contains(event));
    let hook = |(_, when)| Hook {
        document: document.clone(),
        when,
        weight,
        goes_when_done: policies.contains(&"hook-succeeded"),
        goes_when_failed: policies.contains(&"hook-failed"),
    };
    Some(whens.map(hook).collect())
}

/// The hooks for one moment, in the order in which they run: by weight, and those of one weight as
/// kustomize has sorted them, by kind.
pub(super) fn due(hooks: &[Hook], when: When) -> Vec<&Hook> {
    let mut due: Vec<&Hook> = hooks.iter().filter(|hook| hook.when == when).collect();
    due.sort_by_key(|hook| hook.weight);
    due
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(name: &str, annotations: &Value) -> Option<Vec<Hook>> {
        let value = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "annotations": annotations}});
        of(&value, &Document::of(&value, value.to_string()).unwrap())
    }

    #[test]
    fn hooks_of_an_installation_run_and_others_are_left_out() {
        for (events, whens) in [
            ("pre-install", vec![When::Before]),
            ("pre-install,pre-upgrade", vec![When::Before]),
            ("post-install, post-upgrade", vec![When::After]),
            ("pre-install,post-install", vec![When::Before, When::After]),
            ("pre-delete", vec![]),
            ("post-delete", vec![]),
            ("pre-upgrade", vec![]),
            ("pre-rollback", vec![]),
            ("test", vec![]),
            ("test-success", vec![]),
        ] {
            let found = hook("a", &json!({"helm.sh/hook": events})).unwrap();
            let found: Vec<When> = found.iter().map(|hook| hook.when).collect();
            assert_eq!(found, whens, "{events}");
        }
        for annotations in [json!({}), json!(null), json!({"helm.sh/hook": "crd-install"})] {
            assert!(hook("a", &annotations).is_none(), "{annotations}");
        }
    }

    #[test]
    fn hooks_run_by_weight_and_go_as_their_policy_says() {
        let hooks: Vec<Hook> = [
            ("late", "5", "hook-succeeded"),
            ("early", "-5", "before-hook-creation,hook-failed"),
            ("middle", "", ""),
        ]
        .into_iter()
        .flat_map(|(name, weight, policy)| {
            let annotations = json!({"helm.sh/hook": "pre-install", "helm.sh/hook-weight": weight,
                "helm.sh/hook-delete-policy": policy});
            hook(name, &annotations).unwrap()
        })
        .collect();
        let due: Vec<(&str, bool, bool)> = due(&hooks, When::Before)
            .into_iter()
            .map(|hook| (&*hook.document.object.name, hook.goes_when_done, hook.goes_when_failed))
            .collect();
        assert_eq!(due, [("early", false, true), ("middle", false, false), ("late", true, false)]);
        assert!(super::due(&hooks, When::After).is_empty());
    }
}
