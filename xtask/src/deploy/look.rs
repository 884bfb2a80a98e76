//! The cluster's objects as they are just now.
//!
//! Several steps wait in one namespace at once, and a look costs kubectl 0.1 s of a core: so looks are
//! shared. Whoever finds the last one older than [`FRESH`] takes the next, the others wait for it.
//! Each is also written to the diagnostics folder, so that a run that is killed leaves what it saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::apply::items;
use crate::process::{Failure, Tool};

/// How old a look may be for another wait to go by it.
const FRESH: Duration = Duration::from_millis(200);

/// What the verdicts go by.
const KINDS: &str = "deployments.apps,statefulsets.apps,daemonsets.apps,replicasets.apps,\
    jobs.batch,pods,services,endpointslices.discovery.k8s.io,events";

/// Looks at one cluster.
#[derive(Debug)]
pub struct Looks {
    kubectl: Tool,
    folder: PathBuf,
    latest: Mutex<BTreeMap<String, Arc<Mutex<Last>>>>,
}

type Last = Option<(Instant, Arc<Vec<Value>>)>;

impl Looks {
    /// `folder` gets the last look at each namespace.
    pub fn new(kubectl: Tool, folder: &Path) -> Self {
        Self { kubectl, folder: folder.to_owned(), latest: Mutex::default() }
    }

    pub(super) fn kubectl(&self) -> &Tool {
        &self.kubectl
    }

    /// All objects of a namespace that decide whether something is ready.
    pub(super) fn at(&self, namespace: &str) -> Result<Arc<Vec<Value>>, Failure> {
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
        let text = self
            .kubectl
            .clone()
            .args(["get", KINDS, "--namespace", namespace, "-o", "json"])
            .limit(Duration::from_secs(15))
            .read()?;
        self.write(namespace, &text);
        let objects = Arc::new(items(&text));
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

    fn write(&self, namespace: &str, text: &str) {
        let file = self.folder.join(format!("last-look-{namespace}.json"));
        let fresh = file.with_extension("new");
        // A full disk must not fail a wait that may succeed.
        fs_err::create_dir_all(&self.folder)
            .and_then(|()| fs_err::write(&fresh, text))
            .and_then(|()| fs_err::rename(&fresh, &file))
            .ok();
    }
}
