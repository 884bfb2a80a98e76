//! A step of the suite: applied and waited for, or a command that is run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::config::{Action, Address, Step, Wait, WaitFor};
use crate::deploy::{self, ChangedByOthers, How, Notes, ObjectRef, Pods, Rendered, Target};
use crate::run::estimate;
use crate::run::evaluate::ImageState;
use crate::run::graph::in_order;
use crate::run::suite::render::render;
use crate::run::suite::{SuiteRun, Up};
use crate::suite::{self, Environment};

impl SuiteRun<'_> {
    /// Gives back how it was done.
    pub(crate) fn step(&self, name: &str) -> Result<&'static str> {
        let step = self.step_called(name)?;
        let how = match &step.action {
            Action::Run(command) => self.hook(step, command),
            _ => self.apply(step),
        }?;
        self.progress.lock().ended.insert(step.name.clone());
        Ok(how)
    }

    fn step_called(&self, name: &str) -> Result<&Step> {
        let mut steps = self.suite.steps.iter();
        steps.find(|step| step.name == name).with_context(|| format!("there is no step `{name}`"))
    }

    /// Whether a step that does not itself wait for this one has yet to end.
    fn others_coming(&self, step: &Step) -> bool {
        let progress = self.progress.lock();
        let mut after: BTreeSet<&str> = BTreeSet::from([step.name.as_str()]);
        for other in in_order(&self.suite.steps) {
            if other.needs.iter().any(|need| after.contains(need.as_str())) {
                after.insert(&other.name);
            }
        }
        let mut steps = self.suite.steps.iter().map(|step| step.name.as_str());
        steps.any(|name| !after.contains(name) && !progress.ended.contains(name))
    }

    fn apply(&self, step: &Step) -> Result<&'static str> {
        let rendered = self.rendered_now(step)?;
        let unchanged = self.is_unchanged(step, &rendered)?;
        if unchanged {
            self.up()?.kept.confirm(&rendered)?;
        } else {
            self.apply_now(step, &rendered, !self.up()?.cluster.is_fresh())?;
        }
        self.follow()?;
        self.wait(step, &rendered, unchanged)?;
        Ok(if unchanged { estimate::UNCHANGED } else { step.action.key() })
    }

    /// Whether the step is on the cluster as it would be applied, by a look that began after all
    /// that it needs was done.
    fn is_unchanged(&self, step: &Step, rendered: &Rendered) -> Result<bool> {
        let Up { cluster, kept, .. } = self.up()?;
        if cluster.is_fresh() {
            return Ok(false);
        }
        kept.look_again(&cluster.kubectl());
        let is_due = rendered.has_job()
            && (self.needs_command(step) || kept.is_replaced(rendered, &self.before(step)));
        Ok(!is_due && !self.changed_before(step) && kept.is_applied(rendered))
    }

    /// Whether a command was run just before the step: what a Job works on may be another since.
    fn needs_command(&self, step: &Step) -> bool {
        let mut steps = self.suite.steps.iter();
        steps
            .any(|other| matches!(other.action, Action::Run(_)) && step.needs.contains(&other.name))
    }

    /// `again`: what does not roll out by itself is made anew.
    fn apply_now(&self, step: &Step, rendered: &Rendered, again: bool) -> Result<()> {
        let Up { cluster, kept, looks } = self.up()?;
        let log = self.context.run.paths.log(&format!("step-{}", step.name));
        let before = self.before(step);
        let ran = if rendered.has_job() { looks.running(&before)? } else { Pods::new() };
        let anew = self.changed_by_others(step, rendered)?;
        let reads = kept.reads(rendered)?;
        let how = How {
            again,
            anew: &anew,
            notes: Notes { images: Some(&rendered.image_ids), reads: Some(&reads) },
            own: self.shared.as_ref().map(|shared| &shared.own),
            limit: step.timeout,
        };
        let applied = deploy::apply(rendered, how, &cluster.kubectl(), &log);
        kept.touch();
        let applied = applied?;
        for object in &applied.made_anew {
            let text =
                format!("step `{}`: {object} cannot be changed and was made anew", step.name);
            self.context.run.events.note(text);
        }
        if let Some(shared) = &self.shared {
            shared.note(&applied.objects);
        }
        kept.remember(rendered, &applied.objects, reads, ran)?;
        self.progress.lock().changed.insert(step.name.clone());
        Ok(())
    }

    /// What others have changed of the step's objects, and is to be made anew; it is said.
    fn changed_by_others(&self, step: &Step, rendered: &Rendered) -> Result<Vec<ObjectRef>> {
        let Up { cluster, kept, .. } = self.up()?;
        if cluster.is_fresh() {
            return Ok(Vec::new());
        }
        let mut anew = Vec::new();
        for ChangedByOthers { object, by } in kept.changed_by_others(rendered) {
            let by = if by.is_empty() { "somebody".to_owned() } else { by.join(", ") };
            let what = format!("step `{}`: {by} changed {object} since it was applied", step.name);
            if deploy::can_be_made_anew(&object) {
                self.context.run.events.note(format!("{what}: it is made anew"));
                anew.push(object);
            } else {
                let down = format!("cargo xtask cluster down {}", self.suite.name);
                let what = format!("{what}, and it may not be what its manifest says");
                self.context.run.events.warn(what, Some(down));
            }
        }
        Ok(anew)
    }

    /// Applies again what was applied with another content of a `ConfigMap` or Secret than there is
    /// now, so that its pods are made anew.
    fn follow(&self) -> Result<()> {
        let _alone = self.following.lock();
        let kept = &self.up()?.kept;
        while let Some(name) = kept.outdated() {
            let step = self.step_called(&name)?;
            let rendered = self.rendered_now(step)?;
            self.apply_now(step, &rendered, true)?;
            let workloads = kept.workloads(&rendered);
            self.progress.lock().workloads.insert(step.name.clone(), workloads);
        }
        Ok(())
    }

    /// Waits for the rollouts of what the step has applied just now, or once, and then for the
    /// rest.
    fn wait(&self, step: &Step, rendered: &Rendered, unchanged: bool) -> Result<()> {
        let since = Instant::now();
        let Up { kept, looks, .. } = self.up()?;
        let is_condition = |wait: &Wait| matches!(wait.on, WaitFor::Condition { .. });
        let clock = step.waits.iter().any(is_condition).then(|| looks.clock()).flatten();
        let workloads = kept.workloads(rendered);
        let loaded = self.loaded()?;
        let target = Target {
            step: &step.name,
            on: None,
            timeout: step.rollouts.unwrap_or_default(),
            namespace: step.namespace.as_deref().unwrap_or("default"),
            workloads: if step.rollouts.is_some() { &workloads } else { &[] },
            since,
            applied: (!unchanged).then_some(clock.as_deref()),
            is_loaded: &|reference, id| loaded.runs(reference, id),
            addresses: &self.addresses(),
            others_coming: &|| self.others_coming(step),
        };
        if !target.workloads.is_empty() {
            deploy::wait(&target, looks, &self.context.run.events)?;
        }
        for Wait { on, timeout } in &step.waits {
            let namespace = namespace(step, rendered, on);
            let target = Target { on: Some(on), timeout: *timeout, namespace, ..target };
            deploy::wait(&target, looks, &self.context.run.events)?;
        }
        self.progress.lock().workloads.insert(step.name.clone(), workloads.clone());
        Ok(())
    }

    /// What the step applies, by now: a build whose files changed since the plan has made another
    /// key, and a step before may have made the files.
    fn rendered_now(&self, step: &Step) -> Result<Rendered> {
        if let Action::FromFiles(made) = &step.action {
            return deploy::from_files(&step.name, made);
        }
        let tags = self.references();
        let moved = |one: &ImageState| tags.get(&one.image.name) != Some(&one.planned.tag);
        let planned = self.rendered.get(&step.name);
        let unmoved = planned.filter(|_| !self.context.evaluation.images.iter().any(moved));
        let rendered = if let Some(rendered) = unmoved {
            rendered.clone()
        } else {
            let own = self.shared.as_ref().map(|shared| &shared.own);
            let root = &self.context.workspace.config.root;
            let folder = self.context.run.paths.folder().join("manifests");
            let rendered = render(step, root, &tags, own, &folder)?;
            rendered.with_context(|| format!("step `{}` applies nothing", step.name))?
        };
        Ok(rendered.with_ids(&tags, |name| Some(self.context.built_images.get(name).ok()?.id)))
    }

    /// What the steps that this one needs apply.
    fn before(&self, step: &Step) -> Vec<&Rendered> {
        step.needs.iter().filter_map(|need| self.rendered.get(need)).collect()
    }

    fn changed_before(&self, step: &Step) -> bool {
        let progress = self.progress.lock();
        step.needs.iter().any(|need| progress.changed.contains(need))
    }

    fn hook(&self, step: &Step, command: &[String]) -> Result<&'static str> {
        let log = self.context.run.paths.log(&format!("step-{}", step.name));
        let ran = self.with_environment(|environment| {
            suite::hook(&step.name, command, environment, step.timeout, &log)
        });
        // Whatever was seen before it ended proves nothing any more.
        self.up()?.kept.touch_by_hook();
        ran?;
        self.wait(step, &Rendered::nothing(&step.name), false)?;
        Ok(step.action.key())
    }

    /// What tests and hooks are told of the run.
    pub(crate) fn with_environment<T>(
        &self,
        work: impl FnOnce(&Environment<'_>) -> Result<T>,
    ) -> Result<T> {
        let labels = self.shared.as_ref().map(|shared| shared.own.labels());
        work(&Environment {
            suite: &self.suite.name,
            root: &self.context.workspace.config.root,
            kubeconfig: &self.up()?.cluster.kubeconfig,
            artifacts: &self.context.run.paths.artifacts(),
            addresses: &self.addresses(),
            images: &self.references(),
            namespaces: &self.namespaces(),
            labels: &labels.unwrap_or_default(),
        })
    }

    /// Where ports are reached.
    pub(crate) fn addresses(&self) -> BTreeMap<String, Address> {
        let config = &self.context.workspace.config;
        match &self.shared {
            Some(shared) => shared.addresses(config, &self.suite),
            None => config.addresses(&self.suite),
        }
    }

    /// Images as the manifests name them.
    pub(crate) fn references(&self) -> BTreeMap<String, String> {
        let tags = self.context.built_images.tags();
        match &self.shared {
            Some(shared) => shared.references(tags),
            None => tags,
        }
    }

    /// What the namespaces that the suite makes are called.
    fn namespaces(&self) -> BTreeMap<String, String> {
        if let Some(shared) = &self.shared {
            return shared.own.namespaces();
        }
        let made = self.rendered.values().flat_map(Rendered::namespaces);
        made.map(|name| (name.to_owned(), name.to_owned())).collect()
    }
}

/// Where what is waited for lives: as the step says, else as its manifests do.
fn namespace<'a>(step: &'a Step, rendered: &'a Rendered, wait: &WaitFor) -> &'a str {
    let object = match wait {
        WaitFor::Rollout(object) | WaitFor::Condition { object, .. } => object,
        WaitFor::Job(name) | WaitFor::Endpoint(name) => name,
        WaitFor::Http { .. } | WaitFor::Tcp(_) => "",
    };
    step.namespace.as_deref().or_else(|| rendered.namespace_of(object)).unwrap_or("default")
}
