//! The manifests of a suite's steps, with the tags of the images as they are at that moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use crate::config::{Action, Step, Suite};
use crate::deploy::{self, Own, Rendered};
use crate::error::{ErrorExt as _, Exit};
use crate::kubernetes;
use crate::repository::kustomize;

/// By step; a step that applies nothing has none. With `own`, under the run's names. `root` is the
/// configuration's folder.
pub(crate) fn render_all(
    suite: &Suite,
    root: &Path,
    tags: &BTreeMap<String, String>,
    own: Option<&Own>,
    folder: &Path,
) -> Result<BTreeMap<String, Rendered>> {
    let rendered = std::thread::scope(|scope| {
        let threads: Vec<_> = suite
            .steps
            .iter()
            .map(|step| scope.spawn(move || render(step, root, tags, own, folder)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a rendering thread panicked"))?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    let named = suite.steps.iter().map(|step| step.name.clone()).zip(rendered);
    Ok(named.filter_map(|(step, rendered)| Some((step, rendered?))).collect())
}

/// What a step applies, as far as it is known before the run: the files that a Secret or
/// `ConfigMap` is made of may not be there yet.
pub(crate) fn render(
    step: &Step,
    root: &Path,
    tags: &BTreeMap<String, String>,
    own: Option<&Own>,
    folder: &Path,
) -> Result<Option<Rendered>> {
    remote_parts(step, root)?;
    let (name, kubectl) = (&step.name, &kubernetes::kubectl_alone());
    let images = deploy::Images { references: tags, fields: &step.images_in };
    let rendered = match &step.action {
        Action::Apply(path) => deploy::render(name, path, &images, kubectl, folder)?,
        Action::Helm(chart) => deploy::render_chart(name, chart, &images, kubectl, folder)?,
        Action::FromFiles(made) => deploy::outline(name, made),
        Action::Run(_) => return Ok(None),
    };
    refuse_empty(step, &rendered)?;
    match own {
        Some(own) => own.take(rendered, kubectl).map(Some),
        None => Ok(Some(rendered)),
    }
}

/// A step that applies nothing tests nothing, and on a kept cluster deletes what it applied before.
fn refuse_empty(step: &Step, rendered: &Rendered) -> Result<()> {
    let source = match &step.action {
        Action::Apply(path) => path,
        Action::Helm(chart) => &chart.path,
        Action::FromFiles(_) | Action::Run(_) => return Ok(()),
    };
    if step.empty || !rendered.documents.is_empty() || !rendered.hooks.is_empty() {
        return Ok(());
    }
    let text =
        format!("step `{}` applies nothing: `{}` holds no object", step.name, source.display());
    Err(anyhow!(text)).hint("if that is meant, say `empty = true` in the step").exit(Exit::Usage)
}

/// What of a step's manifests is fetched from the network. A kustomization that reads a file
/// outside its repository is refused.
pub(crate) fn remote_parts(step: &Step, root: &Path) -> Result<Vec<String>> {
    let Action::Apply(path) = &step.action else { return Ok(Vec::new()) };
    kustomize::reach(path, root)
        .map_err(|(file, line, message)| anyhow!("{}:{line}: {message}", file.display()))
        .with_context(|| format!("failed to render `{}`", path.display()))
        .exit(Exit::Usage)
}

/// Of objects that several steps apply: on a cluster each is what the last of them made of it.
/// Equal namespaces are in nobody's way.
pub(crate) fn applied_twice(suite: &Suite, rendered: &BTreeMap<String, Rendered>) -> Vec<String> {
    let in_order = suite.steps.iter().filter_map(|step| rendered.get(&step.name));
    let twice = deploy::applied_twice(in_order);
    let telling =
        twice.into_iter().filter(|(object, _, alike)| !alike || object.kind != "Namespace");
    telling
        .map(|(object, steps, are_alike)| {
            let steps: Vec<String> = steps.iter().map(|step| format!("`{step}`")).collect();
            let how = if are_alike { "" } else { ", differently: the last to be applied wins" };
            format!("steps {} apply the same {object}{how}", steps.join(" and "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_that_renders_no_object_is_refused_and_named() {
        let step = |empty: bool| Step {
            name: "web".to_owned(),
            action: Action::Apply(PathBuf::from("k8s/web.yaml")),
            needs: Vec::new(),
            waits: Vec::new(),
            rollouts: None,
            images: Vec::new(),
            images_in: Vec::new(),
            namespace: None,
            empty,
            timeout: Duration::from_secs(1),
        };
        let nothing = Rendered::nothing("web");
        let error = refuse_empty(&step(false), &nothing).unwrap_err();
        assert_eq!(crate::error::code(&error), Exit::Usage);
        let text = crate::error::told(&error);
        assert!(text.contains("`k8s/web.yaml`") && text.contains("empty = true"), "{text}");
        assert!(refuse_empty(&step(true), &nothing).is_ok());
    }
}
