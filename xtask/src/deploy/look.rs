//! The cluster's objects as they are just now.
//!
//! Several steps wait in one namespace at once, so looks are shared: whoever finds the last one
//! older than [`FRESH`] takes the next, the others wait for it. Each is also written to the
//! diagnostics folder, so that a run that is killed leaves what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::Api;
use super::kept::{self, Pods};
use super::render::Rendered;
use crate::process::Tool;

/// How old a look may be for another wait to go by it.
const FRESH: Duration = Duration::from_millis(200);

/// What the verdicts go by: kind, API group, and the name in a path.
const KINDS: [(&str, &str, &str); 9] = [
    ("Deployment", "apis/apps/v1", "deployments"),
    ("StatefulSet", "apis/apps/v1", "statefulsets"),
    ("DaemonSet", "apis/apps/v1", "daemonsets"),
    ("ReplicaSet", "apis/apps/v1", "replicasets"),
    ("Job", "apis/batch/v1", "jobs"),
    ("Pod", "api/v1", "pods"),
    ("Service", "api/v1", "services"),
    ("EndpointSlice", "apis/discovery.k8s.io/v1", "endpointslices"),
    ("Event", "api/v1", "events"),
];

/// Looks at one cluster.
#[derive(Debug)]
pub struct Looks {
    kubectl: Tool,
    api: Api,
    folder: PathBuf,
    latest: Mutex<BTreeMap<String, Arc<Mutex<Last>>>>,
}

type Last = Option<(Instant, Arc<Vec<Value>>)>;

impl Looks {
    /// `folder` gets the last look at each namespace.
    pub fn new(kubectl: Tool, folder: &Path) -> Self {
        let api = Api::new(kubectl.clone());
        Self { kubectl, api, folder: folder.to_owned(), latest: Mutex::default() }
    }

    pub(super) fn kubectl(&self) -> &Tool {
        &self.kubectl
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// All objects of a namespace that decide whether something is ready.
    pub(super) fn at(&self, namespace: &str) -> anyhow::Result<Arc<Vec<Value>>> {
        let slot = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(latest.entry(namespace.to_owned()).or_default())
        };
        let mut last = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, objects)) = last.as_ref()
            && taken.elapsed() < FRESH
        {
            return Ok(Arc::clone(objects));
        }
        let mut objects = Vec::new();
        for (kind, group, plural) in KINDS {
            let served = self.api.get(&format!("/{group}/namespaces/{namespace}/{plural}"))?;
            objects.extend(served.map(|list| items(list, kind)).unwrap_or_default());
        }
        self.write(namespace, &objects);
        let objects = Arc::new(objects);
        *last = Some((Instant::now(), Arc::clone(&objects)));
        Ok(objects)
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
        let mut objects = Vec::new();
        for namespace in &namespaces {
            objects.extend(self.at(namespace)?.iter().cloned());
        }
        Ok(kept::running(steps, &objects))
    }

    fn write(&self, namespace: &str, objects: &[Value]) {
        let file = self.folder.join(format!("last-look-{namespace}.json"));
        let fresh = file.with_extension("new");
        let text = json!({ "kind": "List", "items": objects }).to_string();
        // A full disk must not fail a wait that may succeed.
        fs_err::create_dir_all(&self.folder)
            .and_then(|()| fs_err::write(&fresh, text))
            .and_then(|()| fs_err::rename(&fresh, &file))
            .ok();
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
