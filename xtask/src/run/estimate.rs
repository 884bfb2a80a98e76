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

use crate::run::evaluate::Evaluation;
use crate::run::graph::{RunGraph, Task, in_order};
use crate::session::Workspace;

pub(crate) const MAKE: &str = "make";
pub(crate) const REUSE: &str = "reuse";
pub(crate) const UNCHANGED: &str = "unchanged";
const SEND: &str = "send";
const CHECK: &str = "check";

/// Runs that are read: enough for figures of a suite that is run every other time.
const RUNS: usize = 20;

/// What past runs on this machine tell.
pub(crate) struct Estimates {
    past: Past,
}

/// A suite's run, as far as its forecast depends on it.
#[derive(Clone, Copy)]
pub(crate) struct EstimateInput<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) evaluation: &'a Evaluation,
    /// By step, with the planned tags.
    pub(crate) rendered: &'a [Option<Rendered>],
    pub(crate) shard: Option<Shard>,
    /// Arguments for the test command.
    pub(crate) args: &'a [String],
}

impl Estimates {
    pub(crate) fn read(workspace: &Workspace, machine: &Machine) -> Self {
        Self { past: Past::read(&workspace.paths.runs(), RUNS).on(machine) }
    }

    /// Seconds a build of the image is expected to take; its last one's if no run of that is left.
    pub(crate) fn build(&self, planned: &Planned) -> Option<f64> {
        let name = format!("build {}", planned.name);
        self.past.seconds(Kind::Build, &name, planned.how()).or(planned.seconds)
    }

    /// Puts figures on a graph of builds.
    pub(crate) fn of_builds(&self, run_graph: &mut RunGraph, evaluation: &Evaluation) {
        run_graph.expect(|_, work| match work {
            Task::Build(at) => self.build(&evaluation.images[*at].planned),
            _ => None,
        });
    }

    /// Puts figures on the graph of a suite; gives back how each node is going to be done.
    pub(crate) fn of_suite(
        &self,
        run_graph: &mut RunGraph,
        workspace: &Workspace,
        coming: EstimateInput,
    ) -> Vec<String> {
        let ways = ways(run_graph, workspace, coming);
        let names: Vec<String> =
            run_graph.graph.nodes.iter().map(|node| node.name.clone()).collect();
        run_graph.expect(|id, work| match work {
            Task::Build(at) => self.build(&coming.evaluation.images[*at].planned),
            work => self.past.seconds(work.kind(), &names[id], &ways[id]),
        });
        ways
    }
}

/// How each node is going to be done.
fn ways(run_graph: &RunGraph, workspace: &Workspace, coming: EstimateInput) -> Vec<String> {
    let EstimateInput { suite, evaluation, shard, args, .. } = coming;
    let is_kept = workspace.paths.cluster_record(name_of(workspace, suite)).exists();
    let unchanged = unchanged(workspace, coming, is_kept);
    let is_built = |node: usize| matches!(run_graph.work[node], Task::Build(_));
    let way = |(id, work): (usize, &Task)| match work {
        Task::Build(at) => evaluation.images[*at].planned.how().to_owned(),
        Task::Push(_) => String::new(),
        Task::Publish(_) => SEND.to_owned(),
        Task::Cluster => if is_kept { REUSE } else { MAKE }.to_owned(),
        Task::Load(_) => {
            let sends =
                !is_kept || run_graph.graph.nodes[id].needs.iter().any(|need| is_built(*need));
            if sends { SEND } else { CHECK }.to_owned()
        }
        Task::Step(at) if unchanged[*at] => UNCHANGED.to_owned(),
        Task::Step(at) => suite.steps[*at].action.key().to_owned(),
        Task::Test => suite
            .test
            .as_ref()
            .map(|test| suite::command_line(test, shard, args))
            .unwrap_or_default(),
    };
    run_graph.work.iter().enumerate().map(way).collect()
}

fn name_of<'a>(workspace: &'a Workspace, suite: &'a Suite) -> &'a str {
    workspace.config.clusters.get(&suite.cluster).map_or(&suite.cluster, |cluster| &cluster.name)
}

/// By step: whether it is on the cluster already, and so is all it needs.
fn unchanged(workspace: &Workspace, coming: EstimateInput, is_kept: bool) -> Vec<bool> {
    let EstimateInput { suite, rendered, .. } = coming;
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
