//! The cluster's objects as they are just now.
//!
//! A look takes its time: what it shows of one kind is older than what it shows of the next, but
//! all of it is younger than its beginning. So it is stamped with when it *began*, and counts for a
//! wait only if that was after the step's apply had returned. One that was already under way then
//! may show the old state, in which everything agrees.
//!
//! Controllers are asked for before what they make (a Deployment, its `ReplicaSet`s, their pods):
//! an observed generation then vouches for all that follows.
//!
//! Several steps wait in one namespace at once, so looks are shared among those for whom they are
//! young enough. Each is also written to the diagnostics folder, so that a run that is killed
//! leaves what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::Api;
use super::kept::{self, Pods};
use super::render::Rendered;
use super::verdict;
use crate::private::PrivatePath;
use crate::process::Tool;

/// How long ago a look may have begun for another wait to go by it.
const FRESH: Duration = Duration::from_millis(200);

/// What the verdicts go by: kind, API group, and the name in a path. Owners come before what they
/// own.
const KINDS: [(&str, &str, &str); 11] = [
    ("Deployment", "apis/apps/v1", "deployments"),
    ("StatefulSet", "apis/apps/v1", "statefulsets"),
    ("DaemonSet", "apis/apps/v1", "daemonsets"),
    ("ControllerRevision", "apis/apps/v1", "controllerrevisions"),
    ("ReplicaSet", "apis/apps/v1", "replicasets"),
    ("ReplicationController", "api/v1", "replicationcontrollers"),
    ("Job", "apis/batch/v1", "jobs"),
    ("Pod", "api/v1", "pods"),
    ("Service", "api/v1", "services"),
    ("EndpointSlice", "apis/discovery.k8s.io/v1", "endpointslices"),
    ("Event", "api/v1", "events"),
];

/// A namespace at one time.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) begun: Instant,
    /// What the API server's clock said, if it told.
    pub(super) clock: Option<String>,
    pub(super) objects: Vec<Value>,
    /// Jobs that were seen to have ended well, by uid, even if they are gone now.
    pub(super) completed: BTreeSet<String>,
}

/// Whether a look is for those who want nothing older than `since` and ask at `now`.
pub(super) fn counts(begun: Instant, since: Instant, now: Instant) -> bool {
    begun >= since && now.saturating_duration_since(begun) < FRESH
}

/// The last look at one namespace; held while the next is taken.
type Latest = Arc<Mutex<Option<Arc<Look>>>>;

/// Looks at one cluster.
#[derive(Debug)]
pub struct Snapshots {
    kubectl: Tool,
    api: Api,
    folder: PrivatePath,
    latest: Mutex<BTreeMap<String, Latest>>,
    /// Jobs that were seen to have ended well: one may be deleted as soon as it has.
    completed: Mutex<BTreeSet<String>>,
}

impl Snapshots {
    /// `folder` gets the last look at each namespace.
    pub fn new(kubectl: Tool, folder: &PrivatePath) -> Self {
        let api = Api::new(kubectl.clone());
        let (latest, completed) = (Mutex::default(), Mutex::default());
        Self { kubectl, api, folder: folder.to_owned(), latest, completed }
    }

    pub(super) fn kubectl(&self) -> &Tool {
        &self.kubectl
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// What the API server's clock says now.
    pub fn clock(&self) -> Option<String> {
        self.api.clock()
    }

    /// All objects of a namespace that decide whether something is ready, by a look that began
    /// after `since`.
    pub(super) fn at(&self, namespace: &str, since: Instant) -> anyhow::Result<Arc<Look>> {
        let now = Instant::now();
        let slot = {
            let mut latest = self.latest.lock();
            Arc::clone(latest.entry(namespace.to_owned()).or_default())
        };
        // Whoever comes while a look is under way waits here, and then judges it by its beginning.
        let mut last = slot.lock();
        if let Some(look) = last.as_ref().filter(|look| counts(look.begun, since, now)) {
            return Ok(Arc::clone(look));
        }
        let look = Arc::new(self.take(namespace)?);
        *last = Some(Arc::clone(&look));
        Ok(look)
    }

    /// The last look that was taken at a namespace, however old.
    pub(super) fn last(&self, namespace: &str) -> Option<Arc<Look>> {
        let latest = self.latest.lock();
        let slot = Arc::clone(latest.get(namespace)?);
        drop(latest);
        slot.lock().clone()
    }

    fn take(&self, namespace: &str) -> anyhow::Result<Look> {
        let begun = Instant::now();
        let clock = self.api.clock();
        let mut objects = Vec::new();
        for (kind, group, plural) in KINDS {
            let served = self.api.get(&format!("/{group}/namespaces/{namespace}/{plural}"))?;
            objects.extend(served.map(|list| items(list, kind)).unwrap_or_default());
        }
        self.write(namespace, &objects);
        let jobs = objects.iter().filter(|one| one["kind"] == "Job");
        let ended = jobs.filter(|job| verdict::is_true(job, "Complete"));
        let mut completed = self.completed.lock();
        completed.extend(ended.map(|job| verdict::uid(job).to_owned()));
        Ok(Look { begun, clock, objects, completed: completed.clone() })
    }

    /// Looks at several namespaces at once, for those who ask for them next.
    pub(super) fn all(&self, namespaces: &BTreeSet<&str>, since: Instant) {
        thread::scope(|threads| {
            for namespace in namespaces {
                // Whoever asks next gets the error.
                threads.spawn(move || self.at(namespace, since).ok());
            }
        });
    }

    /// One object that may be of any kind; none while it, or its kind, is not there.
    pub(super) fn one(&self, namespace: &str, object: &str) -> Option<Value> {
        let text = self
            .kubectl
            .clone()
            .args(["get", object, "--namespace", namespace, "-o", "json"])
            .limit(Duration::from_secs(15))
            .read();
        serde_json::from_str(&text.ok()?).ok()
    }

    /// What runs just now in these steps, for [`super::Kept`].
    pub fn running(&self, steps: &[&Rendered]) -> anyhow::Result<Pods> {
        let workloads = steps.iter().flat_map(|step| step.workloads());
        let namespaces: BTreeSet<String> =
            workloads.map(|object| object.namespace.unwrap_or("default".to_owned())).collect();
        let (mut objects, since) = (Vec::new(), Instant::now());
        for namespace in &namespaces {
            objects.extend(self.at(namespace, since)?.objects.iter().cloned());
        }
        Ok(kept::running(steps, &objects))
    }

    fn write(&self, namespace: &str, objects: &[Value]) {
        let file = self.folder.join(format!("last-look-{namespace}.json"));
        let text = json!({ "kind": "List", "items": objects }).to_string();
        // A full disk must not fail a wait that may succeed.
        file.write(text.as_bytes()).ok();
    }
}

/// The objects of a list; the API leaves out what they are.
fn items(mut list: Value, kind: &str) -> Vec<Value> {
    let Value::Array(mut items) = list["items"].take() else { return Vec::new() };
    for item in &mut items {
        item["kind"] = json!(kind);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_only_for_those_whose_apply_had_returned_when_it_began() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for (begun, since, now, expected, why) in [
            (100, 100, 150, true, "begun as the apply returned"),
            (100, 50, 299, true, "young enough to be shared"),
            (100, 50, 300, false, "too old"),
            (100, 101, 150, false, "under way when the apply returned"),
            (100, 50, 90, true, "begun while the caller waited for its turn"),
        ] {
            assert_eq!(counts(at(begun), at(since), at(now)), expected, "{why}");
        }
    }
}
