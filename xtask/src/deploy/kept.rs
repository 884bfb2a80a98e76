//! What earlier runs applied to a kept cluster, and whether it is there unchanged.
//!
//! A step need not be applied again if three things agree: the manifest, byte for byte; the ids of
//! the images it names and what is in the `ConfigMaps` and Secrets that its pods read; and every
//! object of it as the API serves it, by uid and by who has set which of its fields
//! ([`super::proof`]). The file alone proves nothing: it is believed only as far as a look at the
//! cluster confirms it, and a look is believed only if it began after all that this run has
//! changed, and lately.
//!
//! What others have set since the last run began its tests (a spec's `kubectl scale`, a sidecar, a
//! label) would stay: an apply leaves what it does not name. So such an object is made anew. What
//! is there when the tests begin is what the next run goes by: controllers and hooks have done
//! their part.
//!
//! Two kinds of step need more. A Secret made of files is compared with the cluster's own copy, in
//! memory, so that no trace of its values is kept here. A Job has worked on what ran at the time:
//! with it are recorded the pods of the steps it needs, and how often each was started again; a
//! database whose pod was replaced since may be empty, and its migrations run again.
//!
//! A pod reads a `ConfigMap` or Secret when it starts. Steps that apply these and steps whose pods
//! read them need not need each other: whoever comes second sees that a step was applied with
//! another content than there is by now ([`Kept::outdated`]), and it is applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::apply::items;
use super::object::ObjectRef;
use super::proof::{self, Proof};
use super::render::Rendered;
use super::verdict;
use super::workload::Workload;
use super::{SPEC_LABEL, delete, digest, template};
use crate::private::PrivatePath;
use crate::process::Tool;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(15);

/// How long a look is believed.
const FRESH: Duration = Duration::from_secs(5);

/// What was applied to one cluster, by step.
#[derive(Debug)]
pub struct Kept {
    file: PrivatePath,
    /// The key of digests.
    key: PrivatePath,
    steps: Mutex<Steps>,
    /// The last look at the cluster.
    look: Mutex<Look>,
    run: Mutex<ThisRun>,
}

/// A cluster that was not looked at has no objects.
#[derive(Clone, Debug, Default)]
struct Look {
    began: Option<Instant>,
    objects: Arc<Vec<Value>>,
}

/// What this run knows of its own doing.
#[derive(Debug, Default)]
struct ThisRun {
    /// When it last changed anything on the cluster.
    touched: Option<Instant>,
    /// By place, digests of what `ConfigMaps` and Secrets of the suite's hold.
    contents: BTreeMap<String, Content>,
    /// Uids of what others had changed when the run began; none while that was not looked at.
    changed_by_others: Option<BTreeSet<String>>,
    /// Whether a hook has ended: what is another since may be its doing.
    hooked: bool,
    /// By place: what goes into a digest so that it is another, though the content is the same.
    salts: BTreeMap<String, String>,
    /// Steps that were applied or found unchanged, with where their pods read, and whether they can
    /// start without.
    done: BTreeMap<String, Vec<(String, bool)>>,
}

#[derive(Debug, Default)]
struct Content {
    /// As its manifest has it; none where that is made of files that may not be there yet.
    manifest: Option<String>,
    /// As the API serves it, once its step is done.
    served: Option<String>,
}

/// By the steps' names.
type Steps = BTreeMap<String, Applied>;

/// Digests by place: `secret/NAMESPACE/NAME`.
pub type Reads = BTreeMap<String, String>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Applied {
    /// SHA-256 of the rendered manifest, without secrets' values.
    manifest: String,
    /// Name and id of the images it names, by reference.
    #[serde(default)]
    images: BTreeMap<String, String>,
    /// What its pods read.
    #[serde(default)]
    reads: Reads,
    objects: Vec<Proof>,
    /// Of a `ConfigMap` or Secret that was made anew, since others had changed it: pods may have
    /// read what they wrote.
    #[serde(default)]
    salts: BTreeMap<String, String>,
    /// Of a step with a Job: what ran in the steps it needs when it was applied.
    #[serde(default)]
    before: Pods,
}

/// An object that somebody else has changed since the last run, and who, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangedByOthers {
    pub object: ObjectRef,
    pub by: Vec<String>,
}

/// Pods by uid, and how often their containers were started again.
pub type Pods = BTreeMap<String, u64>;

impl Kept {
    /// What was recorded; a file that cannot be read counts as nothing. `key` is that of digests.
    pub fn open(file: &PrivatePath, key: &PrivatePath) -> Self {
        let steps = file.read(LARGEST).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let (steps, look, run) =
            (Mutex::new(steps.unwrap_or_default()), Mutex::default(), Mutex::default());
        Self { file: file.to_owned(), key: key.to_owned(), steps, look, run }
    }

    /// Takes note of what the steps of this run are going to apply.
    pub fn expect(&self, steps: &[&Rendered]) -> anyhow::Result<()> {
        let steps_before = self.steps.lock();
        let run = &mut *self.run.lock();
        let salts = steps_before.values().flat_map(|applied| applied.salts.clone());
        run.salts = salts.collect();
        for document in steps.iter().flat_map(|step| &step.documents) {
            if let Some(place) = place_of(&document.object) {
                let content = run.contents.entry(place.clone()).or_default();
                content.manifest = self.digest(&place, document.content.as_ref(), &run.salts)?;
            }
        }
        Ok(())
    }

    /// Looks at everything recorded, in one question. A kind that is gone, or a cluster that does
    /// not answer, leaves everything unproven.
    pub fn look(&self, kubectl: &Tool) {
        self.look_if(kubectl, |_| true);
    }

    /// Looks again, unless the last look began after all that this run has changed, and lately:
    /// before that, a hook or anybody else may have deleted what it saw.
    pub fn look_again(&self, kubectl: &Tool) {
        let touched = self.run.lock().touched;
        self.look_if(kubectl, |look| {
            look.began.is_none_or(|began| {
                began.elapsed() > FRESH || touched.is_some_and(|touched| touched >= began)
            })
        });
    }

    fn look_if(&self, kubectl: &Tool, is_due: impl FnOnce(&Look) -> bool) {
        let kinds: Vec<String> = self.kinds().into_iter().collect();
        // Held while the cluster is asked, and nothing else with it: who comes meanwhile shares the
        // answer.
        let mut look = self.look.lock();
        if !is_due(&look) {
            return;
        }
        let began = Some(Instant::now());
        let asked = kubectl
            .clone()
            .args(["get", &kinds.join(","), "--all-namespaces", "-o", "json"])
            .arg("--show-managed-fields")
            .limit(LIMIT)
            .read();
        let objects = asked.map(|text| items(&text)).unwrap_or_default();
        *look = Look { began, objects: Arc::new(objects) };
    }

    /// What a look asks for.
    fn kinds(&self) -> BTreeSet<String> {
        let steps = self.steps.lock();
        let objects = steps.values().flat_map(|applied| &applied.objects);
        let always = [
            "ConfigMap.v1.",
            "EndpointSlice.v1.discovery.k8s.io",
            "Namespace.v1.",
            "Pod.v1.",
            "ReplicaSet.v1.apps",
            "Secret.v1.",
        ];
        objects.map(|proof| proof.object.resource()).chain(always.map(str::to_owned)).collect()
    }

    fn live(&self) -> Arc<Vec<Value>> {
        Arc::clone(&self.look.lock().objects)
    }

    /// Says that this run has changed something just now: what was seen before proves nothing.
    pub fn touch(&self) {
        self.run.lock().touched = Some(Instant::now());
    }

    /// Whether a step is on the cluster just as it would be applied, and no Job of it has failed.
    pub fn is_applied(&self, rendered: &Rendered) -> bool {
        let Ok(reads) = self.reads(rendered) else { return false };
        let (steps, live) = (self.steps.lock(), self.live());
        let Some(applied) = steps.get(&rendered.step) else { return false };
        applied.manifest == manifest(rendered)
            && applied.images == rendered.image_ids
            && applied.reads == reads
            && applied.objects.len() == rendered.documents.len()
            && applied.objects.iter().all(|proof| proof.is_confirmed(rendered, &live))
    }

    /// What the pods of a step find where they read, as far as it is there or is coming.
    pub fn reads(&self, rendered: &Rendered) -> anyhow::Result<Reads> {
        let mut reads = Reads::new();
        let (live, run) = (self.live(), self.run.lock());
        for document in &rendered.documents {
            let namespace = document.object.namespace_or_default();
            for read in document.template.iter().flat_map(|template| &template.reads) {
                let place = read.place(namespace);
                let own = rendered
                    .documents
                    .iter()
                    .find(|one| place_of(&one.object).as_ref() == Some(&place));
                let found = if let Some(own) = own {
                    self.digest(&place, own.content.as_ref(), &run.salts)?
                } else {
                    let known = run.contents.get(&place);
                    let served = known.and_then(|content| content.served.clone());
                    let served = match served {
                        None => self.digest(&place, there(&place, &live).as_ref(), &run.salts)?,
                        served => served,
                    };
                    // A pod that can start without it may have done so before it comes.
                    let coming = known.filter(|_| !read.is_optional);
                    served.or_else(|| coming.and_then(|content| content.manifest.clone()))
                };
                reads.extend(found.map(|digest| (place, digest)));
            }
        }
        Ok(reads)
    }

    fn digest(
        &self,
        place: &str,
        content: Option<&Value>,
        salts: &BTreeMap<String, String>,
    ) -> anyhow::Result<Option<String>> {
        let Some(content) = content else { return Ok(None) };
        let digest = digest::digest(content, &self.key)?;
        Ok(Some(salts.get(place).map_or(digest.clone(), |salt| format!("{digest}+{salt}"))))
    }

    /// Says that a hook has ended just now.
    pub fn touch_by_hook(&self) {
        self.touch();
        self.run.lock().hooked = true;
    }

    /// What others have changed of a step's objects since the last run, as its manifests call it.
    pub fn changed_by_others(&self, rendered: &Rendered) -> Vec<ChangedByOthers> {
        let (steps, live, run) = (self.steps.lock(), self.live(), &mut *self.run.lock());
        // What this run has applied itself is newer than the look.
        let (done, to_do): (Vec<_>, Vec<_>) =
            steps.iter().partition(|(step, _)| run.done.contains_key(*step));
        let done: BTreeSet<&str> = uids(&done).collect();
        let mut found = BTreeSet::new();
        for proof in to_do.iter().flat_map(|(_, applied)| &applied.objects) {
            let Some(object) = proof.live(&live) else { continue };
            let is_changed = match &run.changed_by_others {
                // What is another since may be a hook's doing.
                Some(uids) if run.hooked => uids.contains(&proof.uid),
                _ => proof.is_changed_by_others(object),
            };
            let mut documents = rendered.documents.iter().map(|document| &document.object);
            if is_changed
                && !done.contains(&*proof.uid)
                && let Some(name) = documents.find(|one| proof.object.is_meant_by(one))
            {
                if let Some(place) = place_of(name) {
                    run.salts.insert(place, proof::resource_version(object));
                }
                found.insert(ChangedByOthers { object: name.clone(), by: proof::others(object) });
            }
        }
        found.into_iter().collect()
    }

    /// Goes by what there is now, the tests about to begin, in the next run. `by_hooks`: what
    /// kubectl has done may have been done by hooks.
    pub fn settle(&self, kubectl: &Tool, by_hooks: bool) -> anyhow::Result<()> {
        let (is_done, changed) = {
            let run = self.run.lock();
            if run.touched.is_none() {
                return Ok(());
            }
            let done: BTreeSet<String> = run.done.keys().cloned().collect();
            let changed = run.changed_by_others.clone().unwrap_or_default();
            (move |step: &str| done.contains(step), changed)
        };
        self.look(kubectl);
        let live = self.live();
        let mut steps = self.steps.lock();
        for (_, applied) in steps.iter_mut().filter(|(step, _)| is_done(step)) {
            for proof in &mut applied.objects {
                if let Some(object) = proof.live(&live).filter(|_| !changed.contains(&proof.uid)) {
                    proof.settle(object, by_hooks);
                }
            }
        }
        self.write(&steps)
    }

    /// Takes note that a step was found as it would be applied.
    pub fn confirm(&self, rendered: &Rendered) -> anyhow::Result<()> {
        let live = self.live();
        let steps = self.steps.lock();
        let proofs = steps.get(&rendered.step).into_iter().flat_map(|applied| &applied.objects);
        let objects: Vec<Value> = proofs.filter_map(|proof| proof.live(&live)).cloned().collect();
        self.done(rendered, &objects)
    }

    /// A step that is done is the one to say what its objects hold.
    fn done(&self, rendered: &Rendered, objects: &[Value]) -> anyhow::Result<()> {
        let mut run = self.run.lock();
        for object in objects {
            if let Some(place) = ObjectRef::of(object).and_then(|object| place_of(&object)) {
                let content = digest::content(object);
                let served = self.digest(&place, content.as_ref(), &run.salts)?;
                run.contents.entry(place).or_default().served = served;
            }
        }
        let places = rendered.documents.iter().flat_map(|document| {
            let namespace = document.object.namespace_or_default();
            let reads = document.template.iter().flat_map(|template| &template.reads);
            reads.map(|read| (read.place(namespace), read.is_optional))
        });
        run.done.insert(rendered.step.clone(), places.collect());
        Ok(())
    }

    /// A step that is done, and whose pods read what was another when they were started.
    pub fn outdated(&self) -> Option<String> {
        let (steps, run) = (self.steps.lock(), self.run.lock());
        let mut done = run.done.iter();
        done.find(|(step, places)| {
            let reads = steps.get(*step).map(|applied| &applied.reads);
            places.iter().any(|(place, _)| {
                let served = run.contents.get(place).and_then(|content| content.served.as_ref());
                let read = reads.and_then(|reads| reads.get(place));
                served.is_some_and(|served| read != Some(served))
            })
        })
        .map(|(step, _)| step.clone())
    }

    /// Whether what ran in the steps a Job needs (`before`) is not what it once worked on.
    pub fn is_replaced(&self, rendered: &Rendered, before: &[&Rendered]) -> bool {
        let (steps, live) = (self.steps.lock(), self.live());
        let then = steps.get(&rendered.step).map(|applied| &applied.before);
        then.is_some_and(|then| *then != running(before, &live))
    }

    /// Whether a step was last applied just so; whether it still is there is not asked.
    pub fn is_recorded(&self, rendered: &Rendered) -> bool {
        let steps = self.steps.lock();
        steps.get(&rendered.step).is_some_and(|applied| applied.manifest == manifest(rendered))
    }

    /// What makes pods of a step that was applied, each held to what its apply gave back.
    pub fn workloads(&self, rendered: &Rendered) -> Vec<Workload> {
        let steps = self.steps.lock();
        let proofs = steps.get(&rendered.step).map_or(&[][..], |applied| &applied.objects);
        let documents = rendered.documents.iter();
        let made = documents.filter(|document| document.object.is_workload());
        made.map(|document| {
            let is_it = |proof: &&Proof| proof.object.is_meant_by(&document.object);
            Workload::of(document, proofs.iter().find(is_it).map(Proof::applied))
        })
        .collect()
    }

    /// Records what a step's apply gave back, what its pods read, and what ran before it.
    pub fn remember(
        &self,
        rendered: &Rendered,
        objects: &[Value],
        reads: Reads,
        before: Pods,
    ) -> anyhow::Result<()> {
        let applied = Applied {
            manifest: manifest(rendered),
            images: rendered.image_ids.clone(),
            salts: self.salts(rendered),
            reads,
            objects: self.proofs(rendered, objects),
            before,
        };
        self.done(rendered, objects)?;
        let mut steps = self.steps.lock();
        steps.insert(rendered.step.clone(), applied);
        self.adopt(&mut steps);
        self.write(&steps)
    }

    fn salts(&self, rendered: &Rendered) -> BTreeMap<String, String> {
        let run = self.run.lock();
        let places = rendered.documents.iter().filter_map(|document| place_of(&document.object));
        places.filter_map(|place| Some((place.clone(), run.salts.get(&place)?.clone()))).collect()
    }

    /// Proofs of what was applied. What others have changed and cannot be made anew stays held to
    /// what it was before they did: it is not what its manifest says.
    fn proofs(&self, rendered: &Rendered, objects: &[Value]) -> Vec<Proof> {
        let (steps, run) = (self.steps.lock(), self.run.lock());
        let before = steps.get(&rendered.step).map_or(&[][..], |applied| &applied.objects);
        let changed = run.changed_by_others.as_ref();
        let proofs = objects.iter().filter_map(Proof::of).map(|proof| {
            let was = before.iter().find(|was| was.uid == proof.uid);
            let stays = changed.is_some_and(|changed| changed.contains(&proof.uid));
            was.filter(|_| stays).cloned().unwrap_or(proof)
        });
        proofs.collect()
    }

    /// What was not there when a step was applied, and without which its pods cannot start, is what
    /// they read.
    fn adopt(&self, steps: &mut Steps) {
        let run = self.run.lock();
        for (step, places) in &run.done {
            let Some(applied) = steps.get_mut(step) else { continue };
            for (place, _) in places.iter().filter(|(_, is_optional)| !is_optional) {
                let content = run.contents.get(place);
                if let Some(served) = content.and_then(|content| content.served.as_ref()) {
                    applied.reads.entry(place.clone()).or_insert_with(|| served.clone());
                }
            }
        }
    }

    /// Deletes, without waiting, what no step applies any more, and what specs left behind.
    pub fn reset(&self, current: &[&Rendered], kubectl: &Tool, log: &Path) -> anyhow::Result<()> {
        let mut steps = self.steps.lock();
        let live = self.live();
        let changed = steps.values().flat_map(|applied| &applied.objects).filter(|proof| {
            proof.live(&live).is_some_and(|object| proof.is_changed_by_others(object))
        });
        self.run.lock().changed_by_others = Some(changed.map(|proof| proof.uid.clone()).collect());
        let stale = self.stale(&steps, current);
        for proof in &stale {
            delete::delete(&proof.object, &proof.uid, kubectl, log)
                .with_context(|| format!("failed to remove {}, applied once", proof.object))?;
        }
        if live.is_empty() || live.iter().any(is_of_a_spec) {
            let call = kubectl.clone().args(["delete", "--ignore-not-found", "--wait=false"]);
            let call = call.args(["namespaces", "--selector", SPEC_LABEL]).log(log).limit(LIMIT);
            call.run().context("failed to delete the namespaces that specs left")?;
        }
        if !stale.is_empty() {
            self.touch();
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
        let (live, mut seen) = (self.live(), BTreeSet::new());
        let recorded = steps.values().flat_map(|applied| &applied.objects);
        recorded
            .filter(|proof| {
                let is_needed = manifests.iter().any(|one| proof.object.is_needed_by(one));
                let is_claim = proof.object.kind == "PersistentVolumeClaim";
                !is_needed && !is_claim && proof.live(&live).is_some() && seen.insert(&proof.uid)
            })
            .collect()
    }

    fn write(&self, steps: &Steps) -> anyhow::Result<()> {
        Ok(self.file.write(&serde_json::to_vec(steps)?)?)
    }
}

fn uids<'s>(steps: &[(&'s String, &'s Applied)]) -> impl Iterator<Item = &'s str> {
    let proofs = steps.iter().flat_map(|(_, applied)| &applied.objects);
    proofs.map(|proof| &*proof.uid)
}

/// Where pods read an object; none if it is nothing to read.
fn place_of(object: &ObjectRef) -> Option<String> {
    let is_read = object.group().is_empty() && matches!(&*object.kind, "ConfigMap" | "Secret");
    is_read.then(|| template::place(&object.kind, object.namespace_or_default(), &object.name))
}

/// What an object at a place holds, if it is there.
fn there(place: &str, live: &[Value]) -> Option<Value> {
    let is_it = |object: &&Value| {
        ObjectRef::of(object).and_then(|object| place_of(&object)).as_deref() == Some(place)
    };
    live.iter().find(is_it).and_then(digest::content)
}

fn is_of_a_spec(object: &Value) -> bool {
    object["kind"] == "Namespace" && !object["metadata"]["labels"][SPEC_LABEL].is_null()
}

fn manifest(rendered: &Rendered) -> String {
    let hooks = rendered.hooks.iter().map(|hook| &hook.document);
    let shown = rendered.documents.iter().chain(hooks).map(|document| match &document.private {
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
mod tests;
