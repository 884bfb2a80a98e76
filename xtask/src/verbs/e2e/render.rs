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
            .map(|step| scope.spawn(move || render(step, tags, folder)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a rendering thread panicked"))?);
        joined.collect()
    })
}

/// What a step applies, as far as it is known before the run: the files that a Secret or `ConfigMap`
/// is made of may not be there yet.
pub(super) fn render(
    step: &Step,
    tags: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Option<Rendered>> {
    let (name, kubectl) = (&step.name, &Tool::new("kubectl"));
    match &step.action {
        Action::Apply(path) => deploy::render(name, path, tags, kubectl, folder).map(Some),
        Action::Helm(chart) => deploy::render_chart(name, chart, tags, kubectl, folder).map(Some),
        Action::FromFiles(made) => Ok(Some(deploy::outline(name, made))),
        Action::Run(_) => Ok(None),
    }
}

/// By step, the images its manifests name.
pub(super) fn named(rendered: &[Option<Rendered>]) -> Vec<Vec<String>> {
    let named = |one: &Option<Rendered>| one.as_ref().map(|one| one.images.clone());
    rendered.iter().map(|one| named(one).unwrap_or_default()).collect()
}
