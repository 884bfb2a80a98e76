//! What earlier runs applied to a kept cluster, and whether it is there unchanged.
//!
//! A step need not be applied again if two things agree: the manifest, byte for byte (its image
//! tags are content keys), and every object of it as the API serves it, by uid and by version: the
//! `generation`, which counts changes of the spec, or for kinds without one the `resourceVersion`.
//! The file alone proves nothing: it is believed only as far as one look at the cluster confirms
//! it. That same look also answers rollout, job and endpoint waits of unchanged steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::SPEC_LABEL;
use super::apply::items;
use super::object::ObjectRef;
use super::render::Rendered;
use super::verdict::{self, Verdict};
use crate::config::WaitFor;
use crate::process::Tool;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(15);

/// What was applied to one cluster, by step.
#[derive(Debug)]
pub struct Kept {
    file: PathBuf,
    steps: Mutex<BTreeMap<String, Applied>>,
    /// The cluster when it was looked at; empty if it was not.
    live: Vec<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Applied {
    /// SHA-256 of the rendered manifest.
    manifest: String,
    objects: Vec<Proof>,
}

/// One object as the API served it after it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    object: ObjectRef,
    uid: String,
    version: String,
}

impl Kept {
    /// What was recorded; a file that cannot be read counts as nothing.
    pub fn open(file: &Path) -> Self {
        let steps = fs_err::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file: file.to_owned(), steps: Mutex::new(steps.unwrap_or_default()), live: vec![] }
    }

    /// Looks at everything recorded, in one question. A kind that is gone, or a cluster that does
    /// not answer, leaves everything unproven.
    pub fn look(&mut self, kubectl: &Tool) {
        let steps = self.steps.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: BTreeSet<String> = steps
            .values()
            .flat_map(|applied| &applied.objects)
            .map(|proof| proof.object.resource())
            .collect();
        if kinds.is_empty() {
            return;
        }
        kinds.insert("EndpointSlice.v1.discovery.k8s.io".to_owned());
        kinds.insert("Namespace.v1.".to_owned());
        let kinds: Vec<String> = kinds.into_iter().collect();
        let asked = kubectl
            .clone()
            .args(["get", &kinds.join(","), "--all-namespaces", "-o", "json"])
            .limit(LIMIT)
            .read();
        self.live = asked.map(|text| items(&text)).unwrap_or_default();
    }

    /// Whether a step is on the cluster just as it would be applied, and no Job of it has failed.
    pub fn is_applied(&self, rendered: &Rendered) -> bool {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(applied) = steps.get(&rendered.step) else { return false };
        applied.manifest == manifest(rendered)
            && applied.objects.len() == rendered.documents.len()
            && applied.objects.iter().all(|proof| self.confirms(proof))
    }

    /// Whether a step was last applied just so; whether it still is there is not asked.
    pub fn is_recorded(&self, rendered: &Rendered) -> bool {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(&rendered.step).is_some_and(|applied| applied.manifest == manifest(rendered))
    }

    /// Whether the look already showed that a wait is over.
    pub fn is_ready(&self, wait: &WaitFor, namespace: &str) -> bool {
        let here = |object: &&Value| object["metadata"]["namespace"] == namespace;
        let objects: Vec<Value> = self.live.iter().filter(here).cloned().collect();
        verdict::judge(wait, &objects) == Verdict::Ready
    }

    /// Records what a step's apply gave back.
    pub fn remember(&self, rendered: &Rendered, objects: &[Value]) -> anyhow::Result<()> {
        let applied = Applied {
            manifest: manifest(rendered),
            objects: objects.iter().filter_map(Proof::of).collect(),
        };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.insert(rendered.step.clone(), applied);
        self.write(&steps)
    }

    /// Deletes, without waiting, what no step applies any more, and what specs left behind.
    pub fn reset(&self, current: &[&Rendered], kubectl: &Tool, log: &Path) -> anyhow::Result<()> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: BTreeSet<(&str, Option<&str>, &str)> = current
            .iter()
            .flat_map(|rendered| &rendered.documents)
            .map(|document| identity(&document.object))
            .collect();
        let stale: Vec<ObjectRef> = steps
            .values()
            .flat_map(|applied| &applied.objects)
            .filter(|proof| !wanted.contains(&identity(&proof.object)) && self.is_live(proof))
            .map(|proof| proof.object.clone())
            .collect();
        let delete = kubectl
            .clone()
            .args(["delete", "--ignore-not-found", "--wait=false"])
            .log(log)
            .limit(LIMIT);
        for object in &stale {
            let namespace = object.namespace.iter().flat_map(|name| ["--namespace", name]);
            let call = delete.clone().arg(object.resource()).arg(&object.name).args(namespace);
            call.run().with_context(|| format!("failed to delete {object}, applied once"))?;
        }
        if self.live.is_empty() || self.live.iter().any(is_of_a_spec) {
            let call = delete.args(["namespaces", "--selector", SPEC_LABEL]);
            call.run().context("failed to delete the namespaces that specs left")?;
        }
        steps.retain(|step, _| current.iter().any(|rendered| rendered.step == *step));
        self.write(&steps)
    }

    fn write(&self, steps: &BTreeMap<String, Applied>) -> anyhow::Result<()> {
        let fresh = self.file.with_extension("new");
        fs_err::write(&fresh, serde_json::to_vec(steps)?)?;
        fs_err::rename(fresh, &self.file)?;
        Ok(())
    }

    fn live(&self, proof: &Proof) -> Option<&Value> {
        self.live.iter().find(|object| object["metadata"]["uid"] == proof.uid)
    }

    fn is_live(&self, proof: &Proof) -> bool {
        self.live(proof).is_some()
    }

    fn confirms(&self, proof: &Proof) -> bool {
        self.live(proof).is_some_and(|object| {
            let failed = object["kind"] == "Job" && verdict::is_true(object, "Failed");
            !failed && version(object) == proof.version
        })
    }
}

impl Proof {
    fn of(object: &Value) -> Option<Self> {
        Some(Self {
            object: ObjectRef::of(object)?,
            uid: object["metadata"]["uid"].as_str()?.to_owned(),
            version: version(object),
        })
    }
}

fn is_of_a_spec(object: &Value) -> bool {
    object["kind"] == "Namespace" && !object["metadata"]["labels"][SPEC_LABEL].is_null()
}

/// What tells objects apart, whatever version of their API they are written in.
fn identity(object: &ObjectRef) -> (&str, Option<&str>, &str) {
    (&object.kind, object.namespace.as_deref(), &object.name)
}

fn version(object: &Value) -> String {
    let metadata = &object["metadata"];
    match (metadata["generation"].as_u64(), metadata["resourceVersion"].as_str()) {
        (Some(generation), _) => format!("generation {generation}"),
        (None, Some(version)) => format!("version {version}"),
        (None, None) => String::new(),
    }
}

fn manifest(rendered: &Rendered) -> String {
    hex::encode(Sha256::digest(rendered.text()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::render::Document;
    use super::*;

    fn served(kind: &str, uid: &str, generation: Option<u64>, version: &str) -> Value {
        let mut object = json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": version},
        });
        if let Some(generation) = generation {
            object["metadata"]["generation"] = json!(generation);
        }
        object
    }

    fn rendered(text: &str, object: &Value) -> Rendered {
        let object = ObjectRef::of(object).unwrap();
        Rendered {
            step: "s".to_owned(),
            documents: vec![Document { object, text: text.to_owned() }],
            images: vec![],
            foreign_images: vec![],
        }
    }

    #[test]
    fn a_step_is_applied_only_if_manifest_and_cluster_agree() {
        let deployment = served("Deployment", "u1", Some(3), "100");
        let busy = served("Deployment", "u1", Some(3), "200");
        let edited = served("Deployment", "u1", Some(4), "200");
        let remade = served("Deployment", "u2", Some(3), "100");
        let map = served("ConfigMap", "u1", None, "100");
        let edited_map = served("ConfigMap", "u1", None, "101");
        let mut failed = served("Job", "u1", Some(1), "100");
        let job = failed.clone();
        failed["status"]["conditions"] = json!([{"type": "Failed", "status": "True"}]);
        for (why, was, text, now, applied) in [
            ("unchanged", &deployment, "a", Some(&deployment), true),
            ("only its status moved", &deployment, "a", Some(&busy), true),
            ("the manifest changed", &deployment, "b", Some(&deployment), false),
            ("someone edited it", &deployment, "a", Some(&edited), false),
            ("deleted and made anew", &deployment, "a", Some(&remade), false),
            ("it is gone", &deployment, "a", None, false),
            ("a map is as it was", &map, "a", Some(&map), true),
            ("a map was edited", &map, "a", Some(&edited_map), false),
            ("its job has failed", &job, "a", Some(&failed), false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("applied.json");
            Kept::open(&file).remember(&rendered("a", was), std::slice::from_ref(was)).unwrap();
            let mut kept = Kept::open(&file);
            kept.live = now.cloned().into_iter().collect();
            assert_eq!(kept.is_applied(&rendered(text, was)), applied, "{why}");
        }
    }

    #[test]
    fn nothing_is_applied_to_a_cluster_that_was_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let object = served("ConfigMap", "u1", None, "100");
        let kept = Kept::open(&file);
        kept.remember(&rendered("a", &object), std::slice::from_ref(&object)).unwrap();
        assert!(!kept.is_applied(&rendered("a", &object)));
        fs_err::write(&file, "{ not json").unwrap();
        assert!(!Kept::open(&file).is_applied(&rendered("a", &object)));
    }
}
