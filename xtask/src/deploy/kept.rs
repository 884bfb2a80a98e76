//! What earlier runs applied to a kept cluster, and whether it is there unchanged.
//!
//! A step need not be applied again if two things agree: the manifest, byte for byte (its image
//! tags are content keys), and every object of it as the API serves it, by uid and by version: the
//! `generation`, which counts changes of the spec, or for kinds without one the `resourceVersion`.
//! The file alone proves nothing: it is believed only as far as one look at the cluster confirms
//! it.
//!
//! Two kinds of step need more. A Secret made of files is compared with the cluster's own copy, in
//! memory, so that no trace of its values is kept here. A Job has worked on what ran at the time: with
//! it are recorded the pods of the steps it needs, and how often each was started again; a database
//! whose pod was replaced since may be empty, and its migrations run again.

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
use super::delete;
use super::object::ObjectRef;
use super::render::Rendered;
use super::verdict;
use super::workload::{Version, Workload};
use crate::process::Tool;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(15);

/// What was applied to one cluster, by step.
#[derive(Debug)]
pub struct Kept {
    file: PathBuf,
    steps: Mutex<Steps>,
    /// The cluster when it was looked at; empty if it was not.
    live: Vec<Value>,
}

/// By the steps' names.
type Steps = BTreeMap<String, Applied>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Applied {
    /// SHA-256 of the rendered manifest, without secrets' values.
    manifest: String,
    objects: Vec<Proof>,
    /// Of a step with a Job: what ran in the steps it needs when it was applied.
    #[serde(default)]
    before: Pods,
}

/// Pods by uid, and how often their containers were started again.
pub type Pods = BTreeMap<String, u64>;

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
        kinds.insert("Pod.v1.".to_owned());
        kinds.insert("ReplicaSet.v1.apps".to_owned());
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
            && applied.objects.iter().all(|proof| self.confirms(proof, rendered))
    }

    /// Whether what ran in the steps a Job needs (`before`) is not what it once worked on.
    pub fn is_replaced(&self, rendered: &Rendered, before: &[&Rendered]) -> bool {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let then = steps.get(&rendered.step).map(|applied| &applied.before);
        then.is_some_and(|then| *then != running(before, &self.live))
    }

    /// Whether a step was last applied just so; whether it still is there is not asked.
    pub fn is_recorded(&self, rendered: &Rendered) -> bool {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(&rendered.step).is_some_and(|applied| applied.manifest == manifest(rendered))
    }

    /// What makes pods of a step that was applied, each held to what its apply gave back.
    pub fn workloads(&self, rendered: &Rendered) -> Vec<Workload> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let proofs = steps.get(&rendered.step).map_or(&[][..], |applied| &applied.objects);
        let documents = rendered.documents.iter();
        let made = documents.filter(|document| document.object.is_workload());
        made.map(|document| {
            let is_it = |proof: &&Proof| proof.object.is_meant_by(&document.object);
            Workload::of(document, proofs.iter().find(is_it).map(Proof::applied))
        })
        .collect()
    }

    /// Records what a step's apply gave back, and what ran before it.
    pub fn remember(
        &self,
        rendered: &Rendered,
        objects: &[Value],
        before: Pods,
    ) -> anyhow::Result<()> {
        let applied = Applied {
            manifest: manifest(rendered),
            objects: objects.iter().filter_map(Proof::of).collect(),
            before,
        };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.insert(rendered.step.clone(), applied);
        self.write(&steps)
    }

    /// Deletes, without waiting, what no step applies any more, and what specs left behind.
    pub fn reset(&self, current: &[&Rendered], kubectl: &Tool, log: &Path) -> anyhow::Result<()> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for proof in self.stale(&steps, current) {
            delete::delete(&proof.object, &proof.uid, kubectl, log)
                .with_context(|| format!("failed to remove {}, applied once", proof.object))?;
        }
        if self.live.is_empty() || self.live.iter().any(is_of_a_spec) {
            let call = kubectl.clone().args(["delete", "--ignore-not-found", "--wait=false"]);
            let call = call.args(["namespaces", "--selector", SPEC_LABEL]).log(log).limit(LIMIT);
            call.run().context("failed to delete the namespaces that specs left")?;
        }
        steps.retain(|step, _| current.iter().any(|rendered| rendered.step == *step));
        self.write(&steps)
    }

    /// What was applied once, is still there, and is needed by nothing that is to be applied now,
    /// by whichever step. A claim of a volume stays: its data cannot be made anew.
    fn stale<'s>(&self, steps: &'s Steps, current: &[&Rendered]) -> Vec<&'s Proof> {
        let manifests: Vec<&ObjectRef> = current
            .iter()
            .flat_map(|rendered| &rendered.documents)
            .map(|document| &document.object)
            .collect();
        let mut seen = BTreeSet::new();
        let recorded = steps.values().flat_map(|applied| &applied.objects);
        recorded
            .filter(|proof| {
                let is_needed = manifests.iter().any(|one| proof.object.is_needed_by(one));
                let is_claim = proof.object.kind == "PersistentVolumeClaim";
                !is_needed && !is_claim && self.is_live(proof) && seen.insert(&proof.uid)
            })
            .collect()
    }

    fn write(&self, steps: &Steps) -> anyhow::Result<()> {
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

    fn confirms(&self, proof: &Proof, rendered: &Rendered) -> bool {
        let mut documents = rendered.documents.iter();
        let document = documents.find(|document| proof.object.is_meant_by(&document.object));
        let private = document.and_then(|document| document.private.as_ref());
        self.live(proof).is_some_and(|object| {
            let failed = object["kind"] == "Job" && verdict::is_true(object, "Failed");
            !failed
                && version(object) == proof.version
                && private.is_none_or(|private| private.is_in(object))
        })
    }
}

impl Proof {
    fn applied(&self) -> Version {
        let generation = self.version.strip_prefix("generation ");
        let generation = generation.and_then(|number| number.parse().ok()).unwrap_or_default();
        Version { uid: self.uid.clone(), generation }
    }

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

fn version(object: &Value) -> String {
    let metadata = &object["metadata"];
    match (metadata["generation"].as_u64(), metadata["resourceVersion"].as_str()) {
        (Some(generation), _) => format!("generation {generation}"),
        (None, Some(version)) => format!("version {version}"),
        (None, None) => String::new(),
    }
}

fn manifest(rendered: &Rendered) -> String {
    let shown = rendered.documents.iter().map(|document| match &document.private {
        Some(private) => private.outline.as_str(),
        None => document.text.as_str(),
    });
    hex::encode(Sha256::digest(shown.collect::<Vec<_>>().join("---\n")))
}

/// The pods of these steps among all objects. A Job's own do not count: it has run.
pub(super) fn running(steps: &[&Rendered], objects: &[Value]) -> Pods {
    let workloads = steps.iter().flat_map(|step| step.workloads());
    let found = workloads.filter(|one| one.kind != "Job").filter_map(|one| {
        objects.iter().find(|object| {
            object["kind"] == one.kind
                && object["metadata"]["name"] == one.name
                && object["metadata"]["namespace"] == one.namespace.as_deref().unwrap_or("default")
        })
    });
    let pods = found.flat_map(|object| verdict::pods_of(object, objects));
    pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            let statuses = pod["status"]["containerStatuses"].as_array();
            let starts =
                statuses.into_iter().flatten().filter_map(|one| one["restartCount"].as_u64());
            (verdict::text(&pod["metadata"]["uid"]).to_owned(), starts.sum())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::tests::object;
    use super::super::render::{Document, Private};
    use super::*;

    fn served(kind: &str, uid: &str, generation: Option<u64>, version: &str) -> Value {
        let api_version = match kind {
            "Deployment" | "StatefulSet" => "apps/v1",
            "Job" => "batch/v1",
            _ => "v1",
        };
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
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
            documents: vec![Document { object, text: text.to_owned(), private: None }],
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
            Kept::open(&file)
                .remember(&rendered("a", was), std::slice::from_ref(was), Pods::new())
                .unwrap();
            let mut kept = Kept::open(&file);
            kept.live = now.cloned().into_iter().collect();
            assert_eq!(kept.is_applied(&rendered(text, was)), applied, "{why}");
        }
    }

    /// A step that applies these objects, named as [`object`] takes them.
    fn step(name: &str, objects: &[&str]) -> Rendered {
        let document =
            |text: &&str| Document { object: object(text), text: (*text).into(), private: None };
        Rendered { documents: objects.iter().map(document).collect(), ..Rendered::nothing(name) }
    }

    /// What the API makes of a manifest.
    fn made(served: &str) -> Value {
        let ObjectRef { api_version, kind, namespace, name } = object(served);
        json!({"apiVersion": api_version, "kind": kind, "metadata":
            {"name": name, "namespace": namespace, "uid": served, "resourceVersion": "1"}})
    }

    #[test]
    fn what_is_still_applied_by_any_step_is_not_removed() {
        for (why, applied, now, stale) in [
            ("no namespace", ("v1 Service - a", "v1 Service default a"), vec!["v1 Service - a"], 0),
            (
                "it is written now",
                ("v1 Service - a", "v1 Service default a"),
                vec!["v1 Service default a"],
                0,
            ),
            (
                "of the whole cluster",
                ("x.io/v1 Wide n a", "x.io/v1 Wide - a"),
                vec!["x.io/v1 Wide n a"],
                0,
            ),
            ("a newer version", ("x.io/v1 W n a", "x.io/v1 W n a"), vec!["x.io/v2 W n a"], 0),
            (
                "another group",
                ("x.io/v1 Service n a", "x.io/v1 Service n a"),
                vec!["v1 Service n a"],
                1,
            ),
            ("moved", ("v1 Service - a", "v1 Service default a"), vec!["v1 Service n a"], 1),
            (
                "renamed",
                ("v1 ConfigMap - a-1", "v1 ConfigMap default a-1"),
                vec!["v1 ConfigMap - a-2"],
                1,
            ),
            ("gone", ("v1 Service n a", "v1 Service n a"), vec![], 1),
            (
                "a namespace in use",
                ("v1 Namespace - n", "v1 Namespace - n"),
                vec!["v1 Service n a"],
                0,
            ),
            ("a namespace", ("v1 Namespace - n", "v1 Namespace - n"), vec!["v1 Service m a"], 1),
            (
                "a claim",
                ("v1 PersistentVolumeClaim n a", "v1 PersistentVolumeClaim n a"),
                vec![],
                0,
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("applied.json");
            let (manifest, served) = applied;
            let first = step("first", &[manifest]);
            Kept::open(&file).remember(&first, &[made(served)], Pods::new()).unwrap();
            let mut kept = Kept::open(&file);
            kept.live = vec![made(served)];
            // Another step applies it by now, or the same one.
            for name in ["first", "second"] {
                let now = step(name, &now);
                let steps = kept.steps.lock().unwrap();
                assert_eq!(kept.stale(&steps, &[&now]).len(), stale, "{why}, by {name}");
            }
            assert!(kept.is_applied(&first), "{why}");
        }
    }

    #[test]
    fn an_object_of_two_steps_is_removed_with_the_last_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(&folder.path().join("applied.json"));
        let (one, two) = (step("one", &["v1 Service - a"]), step("two", &["v1 Service - a"]));
        let served = made("v1 Service default a");
        for step in [&one, &two] {
            kept.remember(step, std::slice::from_ref(&served), Pods::new()).unwrap();
        }
        let mut other = served.clone();
        kept.live = vec![served];
        let steps = kept.steps.lock().unwrap().clone();
        assert!(kept.stale(&steps, &[&two]).is_empty());
        assert_eq!(kept.stale(&steps, &[]).len(), 1);
        // Somebody made another of its name.
        other["metadata"]["uid"] = json!("other");
        kept.live = vec![other];
        assert!(kept.stale(&steps, &[]).is_empty());
    }

    #[test]
    fn nothing_is_applied_to_a_cluster_that_was_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let object = served("ConfigMap", "u1", None, "100");
        let kept = Kept::open(&file);
        kept.remember(&rendered("a", &object), std::slice::from_ref(&object), Pods::new()).unwrap();
        assert!(!kept.is_applied(&rendered("a", &object)));
        fs_err::write(&file, "{ not json").unwrap();
        assert!(!Kept::open(&file).is_applied(&rendered("a", &object)));
    }

    #[test]
    fn a_secret_is_compared_with_the_clusters_own_and_never_written_down() {
        let mut secret = served("Secret", "u1", None, "100");
        secret["data"] = json!({ "password": "aHVudGVyMg==" });
        let private = |data: Value| {
            let document = Document {
                object: ObjectRef::of(&secret).unwrap(),
                text: data.to_string(),
                private: Some(Private { outline: "outline".to_owned(), data }),
            };
            Rendered { documents: vec![document], ..Rendered::nothing("s") }
        };
        let same = private(secret["data"].clone());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let recorded = Kept::open(&file);
        recorded.remember(&same, std::slice::from_ref(&secret), Pods::new()).unwrap();
        let written = fs_err::read_to_string(&file).unwrap();
        let digest = hex::encode(Sha256::digest(&same.documents[0].text));
        assert!(!written.contains("aHVudGVyMg==") && !written.contains(&digest), "{written}");
        let mut kept = Kept::open(&file);
        kept.live = vec![secret.clone()];
        assert!(kept.is_applied(&same));
        assert!(!kept.is_applied(&private(json!({ "password": "b3RoZXI=" }))));
    }

    #[test]
    fn a_job_is_due_again_when_a_pod_it_worked_on_was_replaced() {
        let database = served("StatefulSet", "db", Some(1), "100");
        let pod = |uid: &str, restarts: u64| {
            json!({"kind": "Pod", "metadata": {"uid": uid, "name": uid, "namespace": "n",
                   "ownerReferences": [{"uid": "db", "controller": true}]},
                   "status": {"containerStatuses": [{"restartCount": restarts}]}})
        };
        let needed = rendered("database", &database);
        let job = rendered("job", &served("Job", "j", Some(1), "100"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let then = running(&[&needed], &[database.clone(), pod("p1", 0)]);
        Kept::open(&file).remember(&job, &[], then).unwrap();
        for (why, now, due) in [
            ("the same pod", pod("p1", 0), false),
            ("its container was started again", pod("p1", 1), true),
            ("another pod", pod("p2", 0), true),
        ] {
            let mut kept = Kept::open(&file);
            kept.live = vec![database.clone(), now];
            assert_eq!(kept.is_replaced(&job, &[&needed]), due, "{why}");
        }
    }
}
