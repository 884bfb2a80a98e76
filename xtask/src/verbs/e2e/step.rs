//! A step of the suite: applied and waited for, or a command that is run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

use anyhow::{Context as _, Result};

use super::render::render;
use super::run::{E2e, Up};
use crate::config::{Action, Step, WaitFor};
use crate::deploy::{self, Rendered};
use crate::process::Tool;
use crate::verbs::forecast;
use crate::verbs::layout::in_order;
use crate::verbs::survey::Surveyed;

impl E2e<'_> {
    /// Gives back how it was done.
    pub(super) fn step(&self, at: usize) -> Result<&'static str> {
        let step = &self.suite.steps[at];
        let how = match &step.action {
            Action::Apply(manifests) => self.apply(at, step, manifests),
            Action::Run(command) => self.run_command(step, command),
        }?;
        self.count(|tally| {
            tally.ended.insert(step.name.clone());
        });
        Ok(how)
    }

    /// Whether a step that does not itself wait for this one has yet to end.
    fn others_coming(&self, step: &Step) -> bool {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after: BTreeSet<&str> = BTreeSet::from([step.name.as_str()]);
        for at in in_order(&self.suite.steps) {
            let other = &self.suite.steps[at];
            if other.needs.iter().any(|need| after.contains(need.as_str())) {
                after.insert(&other.name);
            }
        }
        let mut steps = self.suite.steps.iter().map(|step| step.name.as_str());
        steps.any(|name| !after.contains(name) && !tally.ended.contains(name))
    }

    fn apply(&self, at: usize, step: &Step, manifests: &Path) -> Result<&'static str> {
        let Up { cluster, kept, looks } = self.up()?;
        let rendered = self.rendered_now(at, step, manifests)?;
        let log = self.run.paths.log(&format!("step-{}", step.name));
        let unchanged = kept.is_applied(&rendered) && !self.changed_before(step);
        if !unchanged {
            // A Job of a cluster just made has not run yet.
            let rerun = !cluster.made && self.changed_before(step);
            let applied = deploy::apply(&rendered, rerun, &cluster.kubectl(), step.timeout, &log)?;
            kept.remember(&rendered, &applied)?;
            self.count(|tally| {
                tally.changed.insert(step.name.clone());
            });
        }
        let addresses = self.addresses();
        for wait in &step.waits {
            let namespace = namespace(step, &rendered, &wait.on);
            if unchanged && kept.is_ready(&wait.on, namespace) {
                continue;
            }
            let workloads = &rendered.workloads();
            let target = deploy::Target {
                step: &step.name,
                wait,
                namespace,
                workloads,
                addresses: &addresses,
                others_coming: &|| self.others_coming(step),
            };
            deploy::wait(&target, looks, &self.run.events)?;
        }
        Ok(if unchanged { forecast::UNCHANGED } else { forecast::APPLY })
    }

    /// The step's manifests with the tags of the images as they are now: a build whose files changed
    /// since the plan has made another key.
    fn rendered_now(&self, at: usize, step: &Step, manifests: &Path) -> Result<Rendered> {
        let tags = self.shelf.tags();
        let moved = |one: &&Surveyed| tags.get(&one.image.name) != Some(&one.planned.tag);
        match &self.rendered[at] {
            Some(rendered) if !self.survey.images.iter().any(|one| moved(&one)) => {
                Ok(rendered.clone())
            }
            _ => render(step, manifests, &tags, &self.run.paths.folder().join("manifests")),
        }
    }

    fn changed_before(&self, step: &Step) -> bool {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        step.needs.iter().any(|need| tally.changed.contains(need))
    }

    fn run_command(&self, step: &Step, command: &[String]) -> Result<&'static str> {
        let (program, args) = command.split_first().context("the command is empty")?;
        let mut tool = Tool::new(program)
            .args(args)
            .folder(&self.workspace.config.root)
            .env("KUBECONFIG", &self.up()?.cluster.kubeconfig)
            .log(self.run.paths.log(&format!("step-{}", step.name)))
            .limit(step.timeout);
        for (name, tag) in self.shelf.tags() {
            tool = tool.env(format!("{}_IMAGE", name.to_uppercase().replace('-', "_")), tag);
        }
        tool.run().with_context(|| format!("failed to run step `{}`", step.name))?;
        Ok(forecast::RUN)
    }

    pub(super) fn addresses(&self) -> BTreeMap<String, String> {
        let ports = self.workspace.config.suite_ports(self.suite);
        ports.iter().map(|port| (port.name.clone(), format!("127.0.0.1:{}", port.host))).collect()
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
