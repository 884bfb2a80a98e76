//! The manifests of a suite's steps, with the tags of the images as they are at that moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::config::{Action, Step, Suite};
use crate::deploy::{self, Rendered};
use crate::process::Tool;

/// By step; none for a step that applies nothing.
pub(super) fn render_all(
    suite: &Suite,
    tags: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Vec<Option<Rendered>>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = suite
            .steps
            .iter()
            .map(|step| {
                scope.spawn(move || match &step.action {
                    Action::Apply(manifests) => render(step, manifests, tags, folder).map(Some),
                    Action::Run(_) => Ok(None),
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a rendering thread panicked"))?);
        joined.collect()
    })
}

pub(super) fn render(
    step: &Step,
    manifests: &Path,
    tags: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Rendered> {
    deploy::render(&step.name, manifests, tags, &Tool::new("kubectl"), folder)
}

/// By step, the images its manifests name.
pub(super) fn named(rendered: &[Option<Rendered>]) -> Vec<Vec<String>> {
    let named = |one: &Option<Rendered>| one.as_ref().map(|one| one.images.clone());
    rendered.iter().map(|one| named(one).unwrap_or_default()).collect()
}
