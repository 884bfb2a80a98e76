//! What a run is going to do: one graph, that `plan` prints and [`super::execute`] executes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::config::Suite;
use crate::deploy::Rendered;
use crate::event::Kind;
use crate::plan;
use crate::process;
use crate::run::build::BuiltImages;
use crate::run::cache::Cache;
use crate::run::estimate::Estimates;
use crate::run::evaluate::Evaluation;
use crate::run::graph::{self, ImageDelivery, RunGraph, Task};
use crate::run::memory::Memory;
use crate::run::suite::render;
use crate::schedule::{NodeId, Timeline};
use crate::session::Workspace;
use crate::suite::Shard;
use crate::text::some;
use crate::ui;
use crate::ui::gantt::Bar;

/// The suite of a run, as far as its plan depends on it.
#[derive(Clone, Copy)]
pub(crate) struct SuitePlan<'a> {
    pub(crate) suite: &'a Suite,
    /// By step, with the planned tags; none for a step that applies nothing.
    pub(crate) rendered: &'a BTreeMap<String, Rendered>,
    /// Whether the tests are run.
    pub(crate) tests: bool,
    pub(crate) shard: Option<Shard>,
    /// Arguments for the test command.
    pub(crate) args: &'a [String],
}

/// The graph of a run: builds, and with a suite all the rest.
pub(crate) fn plan(
    workspace: &Workspace,
    evaluation: &Evaluation,
    memory: &Memory,
    cache: Option<&Cache>,
    suite: Option<SuitePlan>,
) -> RunGraph {
    let images = graph::image_nodes(evaluation);
    let mut run_graph = match suite {
        None => RunGraph::of_builds(&images),
        Some(SuitePlan { suite, rendered, tests, .. }) => {
            let delivery = ImageDelivery::to(workspace.config.clusters.get(&suite.cluster));
            RunGraph::of_suite(suite, &images, rendered, delivery, tests)
        }
    };
    memory.join(&mut run_graph, workspace, evaluation);
    cache.inspect(|cache| cache.join(&mut run_graph, evaluation));
    let estimates = Estimates::read(workspace, &memory.machine());
    estimates.put_on(&mut run_graph, workspace, evaluation, suite);
    run_graph
}

/// The manifests by step. A plan asks nobody: a step with parts from the network is left out, and
/// named.
pub(crate) fn rendered(
    workspace: &Workspace,
    suite: &Suite,
    evaluation: &Evaluation,
) -> Result<BTreeMap<String, Rendered>> {
    if process::find("kubectl").is_none() {
        let what = "kubectl is not on PATH: which images the manifests name is not known";
        ui::warn(what, ["cargo xtask doctor --fix"]);
        return Ok(BTreeMap::new());
    }
    let root = &workspace.config.root;
    let mut local = suite.clone();
    local.steps.clear();
    for step in &suite.steps {
        let remote = render::remote_parts(step, root)?;
        if remote.is_empty() {
            local.steps.push(step.clone());
            continue;
        }
        let (step, parts) = (&step.name, some(&remote, 3));
        let what =
            format!("the manifests of step `{step}` are not looked at: {parts} would be fetched");
        ui::warn(&what, ["keep a copy in the repository"]);
    }
    let folder = tempfile::tempdir()?;
    let tags = BuiltImages::of(evaluation).tags();
    let rendered = render::render_all(&local, root, &tags, None, folder.path())?;
    for twice in render::applied_twice(&local, &rendered) {
        ui::say(&format!("warning: {twice}"));
    }
    Ok(rendered)
}

/// When each node of a plan is going to run.
pub(crate) struct Timetable<'a> {
    run_graph: &'a RunGraph,
    timeline: Timeline,
    critical: BTreeSet<NodeId>,
}

impl<'a> Timetable<'a> {
    pub(crate) fn of(run_graph: &'a RunGraph, workspace: &Workspace, memory: &Memory) -> Self {
        let timeline = memory.foresee(workspace, &run_graph.graph);
        let critical = run_graph.graph.critical_path().into_iter().collect();
        Self { run_graph, timeline, critical }
    }

    /// Image → the builder it would be built on, if there are builders.
    pub(crate) fn builders(&self, memory: &Memory) -> BTreeMap<String, String> {
        let nodes = self.run_graph.tasks.iter().zip(&self.timeline.places);
        let named = nodes.filter_map(|(planned, place)| match &planned.task {
            Task::Build(image) => Some((image.clone(), memory.name_of(*place)?)),
            _ => None,
        });
        named.collect()
    }

    /// What the whole is expected to take, in seconds; guesses stand for what is not known.
    pub(crate) fn seconds(&self) -> f64 {
        self.timeline.makespan()
    }

    /// How many nodes there is no past run of.
    pub(crate) fn unknown(&self) -> usize {
        self.run_graph.graph.nodes.iter().filter(|node| node.is_guess).count()
    }

    /// Names along the longest path, and what it takes.
    pub(crate) fn critical_path(&self) -> (Vec<String>, f64) {
        let path = self.run_graph.graph.critical_path();
        let nodes = path.iter().map(|id| &self.run_graph.graph.nodes[*id]);
        (
            nodes.clone().map(|node| node.name.clone()).collect(),
            nodes.map(|node| node.seconds).sum(),
        )
    }

    /// As the plan's JSON has them.
    pub(crate) fn steps(&self) -> Vec<plan::Step> {
        let planned = self.run_graph.planned_nodes().into_iter().zip(&self.run_graph.tasks);
        planned
            .enumerate()
            .map(|(id, (node, planned))| plan::Step {
                name: node.name,
                kind: node.kind,
                action: (node.kind != Kind::Test).then(|| planned.way.clone()),
                needs: node.needs,
                seconds: node.seconds,
                critical: self.critical.contains(&id),
            })
            .collect()
    }

    pub(crate) fn bars(&self) -> Vec<Bar> {
        let nodes = self.run_graph.graph.nodes.iter().zip(&self.run_graph.tasks);
        nodes
            .enumerate()
            .map(|(id, (node, planned))| {
                let is_plain = matches!(planned.task, Task::Test) || planned.way == "build";
                Bar {
                    name: node.name.clone(),
                    way: if is_plain { String::new() } else { planned.way.clone() },
                    needs: node.needs.clone(),
                    start: self.timeline.starts[id],
                    end: self.timeline.ends[id],
                    seconds: (!node.is_guess).then_some(node.seconds),
                    critical: self.critical.contains(&id),
                }
            })
            .collect()
    }
}
