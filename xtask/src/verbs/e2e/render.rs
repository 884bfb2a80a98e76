//! The manifests of a suite's steps, with the tags of the images as they are at that moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::config::{Action, Step, Suite};
use crate::deploy::{self, Own, Rendered};
use crate::kubernetes;

/// By step; none for a step that applies nothing. With `own`, under the run's names.
pub(in crate::verbs) fn render_all(
    suite: &Suite,
    tags: &BTreeMap<String, String>,
    own: Option<&Own>,
    folder: &Path,
) -> Result<Vec<Option<Rendered>>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = suite
            .steps
            .iter()
            .map(|step| scope.spawn(move || render(step, tags, own, folder)))
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
    own: Option<&Own>,
    folder: &Path,
) -> Result<Option<Rendered>> {
    let (name, kubectl) = (&step.name, &kubernetes::kubectl_alone());
    let rendered = match &step.action {
        Action::Apply(path) => deploy::render(name, path, tags, kubectl, folder)?,
        Action::Helm(chart) => deploy::render_chart(name, chart, tags, kubectl, folder)?,
        Action::FromFiles(made) => deploy::outline(name, made),
        Action::Run(_) => return Ok(None),
    };
    match own {
        Some(own) => own.take(rendered, kubectl).map(Some),
        None => Ok(Some(rendered)),
    }
}

/// By step, the images its manifests name.
pub(in crate::verbs) fn named(rendered: &[Option<Rendered>]) -> Vec<Vec<String>> {
    let named = |one: &Option<Rendered>| one.as_ref().map(|one| one.images.clone());
    rendered.iter().map(|one| named(one).unwrap_or_default()).collect()
}
