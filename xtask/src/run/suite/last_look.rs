//! The last look: before the tests, everything that the suite's steps apply is once more held to
//! what was applied and loaded, and after them to what it was before.
//!
//! A step's own wait says how things were at its end, and builds, loads and hooks may have come
//! since; an unchanged step has been proved long before. So whatever the steps wait for, and
//! whether they changed anything, one look that begins after the last of them must show all of it
//! as it is to be. What is not is waited for, as long as its step allows, and then named.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;

use crate::cluster::{self, Cluster, Image};
use crate::config::Restarts;
use crate::deploy::{self, Containers, Target};
use crate::process::Tool;
use crate::run::suite::{SuiteRun, Up};

/// The run's images by their references in manifests.
pub(crate) struct Loaded<'a> {
    cluster: &'a Cluster,
    engine: Tool,
    images: BTreeMap<String, Image>,
    /// What nodes answered, by reference and by what a container's status said.
    answers: Mutex<BTreeMap<(String, String), bool>>,
}

impl Loaded<'_> {
    /// Whether a container of that image, whose status has this id, runs what was loaded; none if
    /// the image is not the run's.
    pub(crate) fn runs(&self, reference: &str, image_id: &str) -> Option<bool> {
        let image = self.images.get(reference)?;
        let digest = cluster::digest(image_id);
        // A reference with a digest is that of an image in a registry.
        let is_pulled = reference.contains('@') && digest == cluster::digest(reference);
        if is_pulled || digest == cluster::digest(&image.id) {
            return Some(true);
        }
        if self.cluster.shared || image_id.is_empty() {
            return Some(false);
        }
        let mut answers = self.answers.lock();
        let asked = (reference.to_owned(), image_id.to_owned());
        let ask = || cluster::is_image(self.cluster, &self.engine, image, image_id);
        Some(*answers.entry(asked).or_insert_with(ask))
    }
}

impl SuiteRun<'_> {
    pub(crate) fn loaded(&self) -> Result<Loaded<'_>> {
        let references = self.references().into_iter();
        let images = references.filter_map(|(name, reference)| {
            let ready = self.context.built_images.get(&name).ok()?;
            Some((reference, Image { tag: ready.tag, id: ready.id }))
        });
        Ok(Loaded {
            cluster: &self.up()?.cluster,
            engine: self.context.workspace.engine.tool(),
            images: images.collect(),
            answers: Mutex::default(),
        })
    }

    /// Waits until everything is as it is to be in one look, and gives back the containers that run
    /// then.
    pub(crate) fn last_look(&self) -> Result<Containers> {
        let since = Instant::now();
        let Up { looks, .. } = self.up()?;
        let (loaded, workloads) = (self.loaded()?, self.progress.lock().workloads.clone());
        let is_loaded = |reference: &str, id: &str| loaded.runs(reference, id);
        let addresses = self.addresses();
        let targets: Vec<Target> = self
            .suite
            .steps
            .iter()
            .filter_map(|step| Some((step, workloads.get(&step.name)?)))
            .map(|(step, workloads)| Target {
                step: &step.name,
                on: None,
                timeout: step.rollouts.unwrap_or(step.timeout),
                namespace: step.namespace.as_deref().unwrap_or("default"),
                workloads,
                since,
                applied: None,
                is_loaded: &is_loaded,
                addresses: &addresses,
                others_coming: &|| false,
            })
            .collect();
        deploy::wait_for_all(&targets, looks, &self.context.run.events)?;
        deploy::containers(workloads.values().flatten(), None, looks)
    }

    /// Names what was started again or lost since `before`; an error if that is to fail the run.
    pub(crate) fn restarts(&self, before: &Containers) -> Result<()> {
        let since = Instant::now();
        let workloads = self.progress.lock().workloads.clone();
        let after =
            deploy::containers(workloads.values().flatten(), Some(since), &self.up()?.looks);
        let fails = self.suite.restarts == Restarts::Fail;
        let lost = match after {
            Ok(after) => before.lost(&after),
            Err(error) if fails => {
                return Err(error.context("failed to look at the pods after the tests"));
            }
            Err(error) => {
                vec![format!("nobody knows, since the cluster does not answer: {error:#}")]
            }
        };
        if lost.is_empty() {
            return Ok(());
        }
        let text = format!("while the tests ran: {}", lost.join("; "));
        if fails {
            return Err(anyhow!("failed to keep all containers up {text}"));
        }
        let hint = "`restarts = \"fail\"` in the suite makes this a failure".to_owned();
        self.context.run.events.warn(text, Some(hint));
        Ok(())
    }
}
