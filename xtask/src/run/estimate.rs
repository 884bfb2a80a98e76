//! What a run is expected to take: how each piece of work is going to be done, and what that took
//! in past runs.
//!
//! | work | ways | foreseen |
//! | --- | --- | --- |
//! | build | `rebuild` if only files changed, `build` | by the plan |
//! | cluster | `make`, `reuse` | ours and recorded: `reuse` |
//! | load | `send`, `check` | a new image or a new cluster: `send` |
//! | step | `unchanged`, else its key: `apply`, `helm`, `secret`, `configmap`, `run` | recorded as applied, and so is all it needs: `unchanged` |
//! | test | the command itself | |
//!
//! Nothing is asked of the cluster for it: a forecast that errs costs a little of the best order,
//! no more.

use std::collections::BTreeSet;

use crate::config::Suite;
use crate::deploy::Kept;
use crate::event::{Kind, Machine};
use crate::plan::Planned;
use crate::report::Past;
use crate::run::evaluate::Evaluation;
use crate::run::graph::{RunGraph, Task, in_order};
use crate::run::plan::SuitePlan;
use crate::session::Workspace;
use crate::suite;

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

impl Estimates {
    pub(crate) fn read(workspace: &Workspace, machine: &Machine) -> Self {
        Self { past: Past::read(&workspace.paths.runs(), RUNS).on(machine) }
    }

    /// Seconds a build of the image is expected to take; its last one's if no run of that is left.
    pub(crate) fn build(&self, planned: &Planned) -> Option<f64> {
        let name = format!("build {}", planned.name);
        self.past.seconds(Kind::Build, &name, planned.how()).or(planned.seconds)
    }

    /// Says of each node how it is going to be done, and how long that takes.
    pub(crate) fn put_on(
        &self,
        run_graph: &mut RunGraph,
        workspace: &Workspace,
        evaluation: &Evaluation,
        suite: Option<SuitePlan>,
    ) {
        let ways = ways(run_graph, workspace, evaluation, suite);
        let names: Vec<String> =
            run_graph.graph.nodes.iter().map(|node| node.name.clone()).collect();
        run_graph.expect(|id, task| {
            let seconds = match task {
                Task::Build(image) => self.build(&evaluation.image(image).planned),
                task => self.past.seconds(task.kind(), &names[id], &ways[id]),
            };
            (ways[id].clone(), seconds)
        });
    }
}

/// How each node is going to be done.
fn ways(
    run_graph: &RunGraph,
    workspace: &Workspace,
    evaluation: &Evaluation,
    suite: Option<SuitePlan>,
) -> Vec<String> {
    let is_kept = suite.is_some_and(|plan| {
        workspace.paths.cluster_record(cluster_name(workspace, plan.suite)).exists()
    });
    let unchanged =
        suite.filter(|_| is_kept).map(|plan| unchanged(workspace, plan)).unwrap_or_default();
    let is_build = |node: &usize| matches!(run_graph.tasks[*node].task, Task::Build(_));
    let command = |name: &str| {
        let mut steps = suite.into_iter().flat_map(|plan| &plan.suite.steps);
        steps.find(|step| step.name == name).map(|step| step.action.key()).unwrap_or_default()
    };
    let tests = suite.and_then(|plan| {
        Some(suite::command_line(plan.suite.test.as_ref()?, plan.shard, plan.args))
    });
    let way = |(id, task): (usize, &Task)| match task {
        Task::Build(image) => evaluation.image(image).planned.how().to_owned(),
        Task::Push(_) => String::new(),
        Task::Publish(_) => SEND.to_owned(),
        Task::Cluster => if is_kept { REUSE } else { MAKE }.to_owned(),
        Task::Load(_) => {
            let sends = !is_kept || run_graph.graph.nodes[id].needs.iter().any(is_build);
            if sends { SEND } else { CHECK }.to_owned()
        }
        Task::Step(name) if unchanged.contains(name.as_str()) => UNCHANGED.to_owned(),
        Task::Step(name) => command(name).to_owned(),
        Task::Test => tests.clone().unwrap_or_default(),
    };
    run_graph.tasks.iter().map(|planned| &planned.task).enumerate().map(way).collect()
}

fn cluster_name<'a>(workspace: &'a Workspace, suite: &'a Suite) -> &'a str {
    workspace.config.clusters.get(&suite.cluster).map_or(&suite.cluster, |cluster| &cluster.name)
}

/// Steps that are on the kept cluster already, and so is all they need.
fn unchanged<'a>(workspace: &Workspace, plan: SuitePlan<'a>) -> BTreeSet<&'a str> {
    let SuitePlan { suite, rendered, .. } = plan;
    let paths = &workspace.paths;
    let kept = Kept::open(&paths.applied(cluster_name(workspace, suite)), &paths.digest_key());
    let mut unchanged = BTreeSet::new();
    for step in in_order(&suite.steps) {
        let is_recorded = rendered.get(&step.name).is_some_and(|one| kept.is_recorded(one));
        let is_changed =
            |need: &String| rendered.contains_key(need) && !unchanged.contains(need.as_str());
        if is_recorded && !step.needs.iter().any(is_changed) {
            unchanged.insert(step.name.as_str());
        }
    }
    unchanged
}
