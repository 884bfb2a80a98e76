//! What a run is expected to take: how each piece of work is going to be done, and what that took in past runs.
//!
//! | work | ways | foreseen |
//! | --- | --- | --- |
//! | build | `rebuild` if only files changed, `build` | by the plan |
//! | cluster | `make`, `reuse` | ours and recorded: `reuse` |
//! | load | `send`, `check` | a new image or a new cluster: `send` |
//! | step | `unchanged`, else its key: `apply`, `helm`, `secret`, `configmap`, `run` | recorded as applied, and so is all it needs: `unchanged` |
//! | test | the command itself | |
//!
//! Nothing is asked of the cluster for it: a forecast that errs costs a little of the best order, no more.

use crate::config::Suite;
use crate::deploy::{Kept, Rendered};
use crate::event::{Kind, Machine};
use crate::plan::Planned;
use crate::report::Past;
use crate::suite::{self, Shard};

use super::Workspace;
use super::layout::{Layout, Work, in_order};
use super::survey::Survey;

pub(super) const MAKE: &str = "make";
pub(super) const REUSE: &str = "reuse";
pub(super) const UNCHANGED: &str = "unchanged";
const SEND: &str = "send";
const CHECK: &str = "check";

/// Runs that are read: enough for figures of a suite that is run every other time.
const RUNS: usize = 20;

/// What past runs on this machine tell.
pub(super) struct Forecast {
    past: Past,
}

/// A suite's run, as far as its forecast depends on it.
#[derive(Clone, Copy)]
pub(super) struct Coming<'a> {
    pub(super) suite: &'a Suite,
    pub(super) survey: &'a Survey,
    /// By step, with the planned tags.
    pub(super) rendered: &'a [Option<Rendered>],
    pub(super) shard: Option<Shard>,
    /// Arguments for the test command.
    pub(super) args: &'a [String],
}

impl Forecast {
    pub(super) fn read(workspace: &Workspace, machine: &Machine) -> Self {
        Self { past: Past::read(&workspace.paths.runs(), RUNS).on(machine) }
    }

    /// Seconds a build of the image is expected to take; its last one's if no run of that is left.
    pub(super) fn build(&self, planned: &Planned) -> Option<f64> {
        let name = format!("build {}", planned.name);
        self.past.seconds(Kind::Build, &name, planned.how()).or(planned.seconds)
    }

    /// Puts figures on a graph of builds.
    pub(super) fn of_builds(&self, layout: &mut Layout, survey: &Survey) {
        layout.expect(|_, work| match work {
            Work::Build(at) => self.build(&survey.images[*at].planned),
            _ => None,
        });
    }

    /// Puts figures on the graph of a suite; gives back how each node is going to be done.
    pub(super) fn of_suite(
        &self,
        layout: &mut Layout,
        workspace: &Workspace,
        coming: Coming,
    ) -> Vec<String> {
        let ways = ways(layout, workspace, coming);
        let names: Vec<String> = layout.graph.nodes.iter().map(|node| node.name.clone()).collect();
        layout.expect(|id, work| match work {
            Work::Build(at) => self.build(&coming.survey.images[*at].planned),
            work => self.past.seconds(work.kind(), &names[id], &ways[id]),
        });
        ways
    }
}

/// How each node is going to be done.
fn ways(layout: &Layout, workspace: &Workspace, coming: Coming) -> Vec<String> {
    let Coming { suite, survey, shard, args, .. } = coming;
    let is_kept = workspace.paths.cluster_record(name_of(workspace, suite)).exists();
    let unchanged = unchanged(workspace, coming, is_kept);
    let is_built = |node: usize| matches!(layout.work[node], Work::Build(_));
    let way = |(id, work): (usize, &Work)| match work {
        Work::Build(at) => survey.images[*at].planned.how().to_owned(),
        Work::Push(_) => String::new(),
        Work::Publish(_) => SEND.to_owned(),
        Work::Cluster => if is_kept { REUSE } else { MAKE }.to_owned(),
        Work::Load(_) => {
            let sends = !is_kept || layout.graph.nodes[id].needs.iter().any(|need| is_built(*need));
            if sends { SEND } else { CHECK }.to_owned()
        }
        Work::Step(at) if unchanged[*at] => UNCHANGED.to_owned(),
        Work::Step(at) => suite.steps[*at].action.key().to_owned(),
        Work::Test => suite
            .test
            .as_ref()
            .map(|test| suite::command_line(test, shard, args))
            .unwrap_or_default(),
    };
    layout.work.iter().enumerate().map(way).collect()
}

fn name_of<'a>(workspace: &'a Workspace, suite: &'a Suite) -> &'a str {
    workspace.config.clusters.get(&suite.cluster).map_or(&suite.cluster, |cluster| &cluster.name)
}

/// By step: whether it is on the cluster already, and so is all it needs.
fn unchanged(workspace: &Workspace, coming: Coming, is_kept: bool) -> Vec<bool> {
    let Coming { suite, rendered, .. } = coming;
    let paths = &workspace.paths;
    let kept = Kept::open(&paths.applied(name_of(workspace, suite)), &paths.digest_key());
    let is_there = |at: usize| rendered[at].as_ref().is_some_and(|one| kept.is_recorded(one));
    let mut unchanged = vec![false; suite.steps.len()];
    for at in in_order(&suite.steps) {
        let mut needs = suite.steps[at].needs.iter();
        let is_changed = |need: &String| {
            let needed = suite.steps.iter().position(|step| step.name == *need);
            needed.is_some_and(|needed| rendered[needed].is_some() && !unchanged[needed])
        };
        unchanged[at] = is_kept && is_there(at) && !needs.any(is_changed);
    }
    unchanged
}
