//! What proves that an object is as it was applied.
//!
//! The API keeps account of who has set which field (`managedFields`). Compared are our own entry,
//! since a field that somebody took over or removed is gone from it, and all entries of others,
//! with the time of their last change. Of no account are controllers of the cluster itself
//! ([`is_of_the_cluster`]) and what is set in the status. The `generation`, which counts changes of
//! the spec, must be the same, too; where the API keeps no account, and there is no generation, the
//! `resourceVersion`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::FIELD_MANAGER;
use super::object::ObjectRef;
use super::render::Rendered;
use super::verdict;
use super::workload::Version;

/// One object as the API served it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) object: ObjectRef,
    pub(super) uid: String,
    version: String,
    /// A digest of who has set what; empty where the API does not say.
    #[serde(default)]
    fields: String,
}

impl Proof {
    /// What waits are held to.
    pub(super) fn applied(&self) -> Version {
        let generation = self.version.strip_prefix("generation ");
        let generation = generation.and_then(|number| number.parse().ok()).unwrap_or_default();
        Version { uid: self.uid.clone(), generation }
    }

    pub(super) fn of(object: &Value) -> Option<Self> {
        Some(Self {
            object: ObjectRef::of(object)?,
            uid: object["metadata"]["uid"].as_str()?.to_owned(),
            version: version(object),
            fields: fields(object),
        })
    }

    pub(super) fn live<'l>(&self, live: &'l [Value]) -> Option<&'l Value> {
        live.iter().find(|object| object["metadata"]["uid"] == self.uid)
    }

    /// Whether it is there as it was, is not about to go, and has not failed.
    pub(super) fn is_confirmed(&self, rendered: &Rendered, live: &[Value]) -> bool {
        let mut documents = rendered.documents.iter();
        let document = documents.find(|document| self.object.is_meant_by(&document.object));
        let private = document.and_then(|document| document.private.as_ref());
        self.live(live).is_some_and(|object| {
            object["metadata"]["deletionTimestamp"].is_null()
                && !has_failed(object)
                && self.is_of(object)
                && private.is_none_or(|private| private.is_in(object))
        })
    }

    fn is_of(&self, object: &Value) -> bool {
        match (&*self.fields, &*fields(object)) {
            ("", _) | (_, "") => version(object) == self.version,
            (then, now) => then == now && self.is_of_spec(object),
        }
    }

    /// A scale of what no manifest sets shows nowhere but in the generation. Without one, the
    /// version counts each change of the status, too, and says nothing.
    fn is_of_spec(&self, object: &Value) -> bool {
        object["metadata"]["generation"].is_null() || version(object) == self.version
    }

    /// Whether somebody has set or removed fields of it since.
    pub(super) fn is_changed_by_others(&self, object: &Value) -> bool {
        let now = fields(object);
        let is_known = !self.fields.is_empty() && !now.is_empty();
        let is_another = self.fields != now || !self.is_of_spec(object);
        is_known && object["metadata"]["deletionTimestamp"].is_null() && is_another
    }

    /// Takes the object as it is by now for what was meant, unless somebody has typed that.
    pub(super) fn settle(&mut self, object: &Value, by_hooks: bool) {
        if by_hooks || others(object).iter().all(|manager| !manager.starts_with("kubectl")) {
            (self.version, self.fields) = (version(object), fields(object));
        }
    }
}

/// Whether it was to run to its end, and came to a bad one.
fn has_failed(object: &Value) -> bool {
    match verdict::text(&object["kind"]) {
        "Job" => verdict::is_true(object, "Failed"),
        "Pod" => object["status"]["phase"] == "Failed",
        _ => false,
    }
}

fn version(object: &Value) -> String {
    match object["metadata"]["generation"].as_u64() {
        Some(generation) => format!("generation {generation}"),
        None => format!("version {}", resource_version(object)),
    }
}

pub(super) fn resource_version(object: &Value) -> String {
    verdict::text(&object["metadata"]["resourceVersion"]).to_owned()
}

/// Entries that count.
fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| {
        entry["subresource"] != "status" && !is_of_the_cluster(verdict::text(&entry["manager"]))
    })
}

/// Controllers that work on any object, and whose work is none of the manifests': a Deployment's
/// revision, the volume of a claim, a scale that follows the load.
fn is_of_the_cluster(manager: &str) -> bool {
    manager.starts_with("kube-")
        || manager == "kubelet"
        || manager.ends_with("-provisioner")
        || manager == "cloud-controller-manager"
}

fn fields(object: &Value) -> String {
    let lines: BTreeSet<String> = entries(object)
        .map(|entry| {
            let is_ours = entry["manager"] == FIELD_MANAGER;
            let time = if is_ours { &Value::Null } else { &entry["time"] };
            let [manager, how, part, fields] =
                ["manager", "operation", "subresource", "fieldsV1"].map(|key| &entry[key]);
            format!("{manager} {how} {part} {time} {fields}\n")
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    hex::encode(Sha256::digest(lines.into_iter().collect::<String>()))
}

/// Who else has set fields of it.
pub(super) fn others(object: &Value) -> Vec<String> {
    let managers = entries(object).map(|entry| verdict::text(&entry["manager"]));
    let managers: BTreeSet<&str> = managers.filter(|manager| *manager != FIELD_MANAGER).collect();
    managers.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(entries: &[Value]) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web",
            "uid": "web", "generation": 1, "resourceVersion": "1", "managedFields": entries}})
    }

    fn entry(manager: &str, subresource: &str, time: u64, fields: &str) -> Value {
        let operation = if manager == FIELD_MANAGER { "Apply" } else { "Update" };
        json!({"manager": manager, "operation": operation, "subresource": subresource,
            "time": format!("2026-11-21T00:00:0{time}Z"), "fieldsV1": {fields: {}}})
    }

    #[test]
    fn what_others_set_shows_and_what_the_cluster_does_is_of_no_account() {
        let ours = entry("xtask", "", 1, "f:spec");
        let proof = Proof::of(&deployment(std::slice::from_ref(&ours))).unwrap();
        for (why, entries, is_changed) in [
            ("as it was", vec![ours.clone()], false),
            ("applied again", vec![entry("xtask", "", 5, "f:spec")], false),
            ("env set", vec![ours.clone(), entry("kubectl-set", "", 2, "f:spec")], true),
            ("scaled", vec![ours.clone(), entry("kubectl", "scale", 2, "f:spec")], true),
            ("labelled", vec![ours.clone(), entry("kubectl-label", "", 2, "f:metadata")], true),
            ("a spec's client", vec![ours.clone(), entry("unknown", "", 2, "f:spec")], true),
            ("a field of ours removed", vec![entry("xtask", "", 1, "f:metadata")], true),
            ("its status", vec![ours.clone(), entry("operator", "status", 2, "f:status")], false),
            (
                "its revision",
                vec![ours.clone(), entry("kube-controller-manager", "", 2, "f:metadata")],
                false,
            ),
        ] {
            let live = deployment(&entries);
            assert_eq!(proof.is_changed_by_others(&live), is_changed, "{why}");
            let rendered = Rendered::nothing("s");
            let is_confirmed = proof.is_confirmed(&rendered, std::slice::from_ref(&live));
            assert_eq!(is_confirmed, !is_changed, "{why}");
        }
    }

    #[test]
    fn a_scale_that_nobody_accounts_for_shows_in_the_generation() {
        let mut live = deployment(&[entry("xtask", "", 1, "f:spec")]);
        let proof = Proof::of(&live).unwrap();
        live["metadata"]["resourceVersion"] = json!("2");
        assert!(!proof.is_changed_by_others(&live), "its status moved");
        live["metadata"]["generation"] = json!(2);
        assert!(proof.is_changed_by_others(&live));
    }

    #[test]
    fn what_is_set_again_by_the_same_hand_shows_by_its_time() {
        let with = |time| {
            deployment(&[entry("xtask", "", 1, "f:spec"), entry("kubectl-set", "", time, "f:spec")])
        };
        let proof = Proof::of(&with(2)).unwrap();
        assert!(!proof.is_changed_by_others(&with(2)));
        assert!(proof.is_changed_by_others(&with(3)));
        assert_eq!(others(&with(2)), ["kubectl-set"]);
    }

    #[test]
    fn what_operators_and_hooks_did_before_the_tests_is_gone_by() {
        let ours = entry("xtask", "", 1, "f:spec");
        for (manager, by_hooks, is_settled) in [
            ("operator", false, true),
            ("kubectl-edit", false, false),
            ("kubectl-patch", true, true),
        ] {
            let mut proof = Proof::of(&deployment(std::slice::from_ref(&ours))).unwrap();
            let live = deployment(&[ours.clone(), entry(manager, "", 2, "f:spec")]);
            proof.settle(&live, by_hooks);
            assert_eq!(!proof.is_changed_by_others(&live), is_settled, "{manager}");
        }
    }
}
