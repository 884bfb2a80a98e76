//! The whole run of a suite before it is begun: its graph, how each node is going to be done, and when.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::config::Suite;
use crate::deploy::Rendered;
use crate::event::Kind;
use crate::plan;
use crate::process;
use crate::run::build;
use crate::run::estimate::{EstimateInput, Estimates};
use crate::run::evaluate::Evaluation;
use crate::run::graph::{self, ImageDelivery, RunGraph, Task};
use crate::run::memory::Memory;
use crate::run::suite::render;
use crate::schedule::{NodeId, Timeline};
use crate::session::Workspace;
use crate::text::some;
use crate::ui;
use crate::ui::gantt::Bar;

/// What a run of a suite is going to be.
pub(crate) struct SuiteOutlook {
    run_graph: RunGraph,
    /// By node.
    ways: Vec<String>,
    timeline: Timeline,
    critical: BTreeSet<NodeId>,
}

impl SuiteOutlook {
    /// Looks ahead; the manifests are rendered to learn which images they name, in a folder of no duration.
    pub(crate) fn of(
        workspace: &Workspace,
        suite: &Suite,
        evaluation: &Evaluation,
        memory: &Memory,
        estimates: &Estimates,
    ) -> Result<Self> {
        let rendered = if process::find("kubectl").is_some() {
            rendered(workspace, suite, evaluation)?
        } else {
            let what = "kubectl is not on PATH: which images the manifests name is not known";
            ui::say(&format!("warning: {what}\nhint: cargo xtask doctor --fix"));
            vec![None; suite.steps.len()]
        };
        for twice in render::applied_twice(&rendered) {
            ui::say(&format!("warning: {twice}"));
        }
        let named = render::named(&rendered);
        let tests = suite.test.is_some();
        let carry = ImageDelivery::to(workspace.config.clusters.get(&suite.cluster));
        let mut run_graph =
            RunGraph::of_suite(suite, &graph::pieces(evaluation), &named, (carry, tests));
        memory.join(&mut run_graph, workspace, evaluation);
        let coming =
            EstimateInput { suite, evaluation, rendered: &rendered, args: &[], shard: None };
        let ways = estimates.of_suite(&mut run_graph, workspace, coming);
        let timeline = memory.foresee(workspace, &run_graph.graph);
        let critical = run_graph.graph.critical_path().into_iter().collect();
        Ok(Self { run_graph, ways, timeline, critical })
    }

    /// Image → where it would be built, if there are builders.
    pub(crate) fn builders(
        &self,
        evaluation: &Evaluation,
        memory: &Memory,
    ) -> BTreeMap<String, String> {
        builders(&self.run_graph, &self.timeline, evaluation, memory)
    }

    /// What the whole is expected to take, in seconds; guesses stand for what is not known.
    pub(crate) fn seconds(&self) -> f64 {
        self.timeline.makespan()
    }

    /// How many nodes there is no past run of.
    pub(crate) fn unknown(&self) -> usize {
        self.run_graph.expected.iter().filter(|seconds| seconds.is_none()).count()
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
        let told = self.run_graph.told().into_iter().enumerate();
        told.map(|(id, node)| plan::Step {
            name: node.name,
            kind: node.kind,
            action: (node.kind != Kind::Test).then(|| self.ways[id].clone()),
            needs: node.needs,
            seconds: node.seconds,
            critical: self.critical.contains(&id),
        })
        .collect()
    }

    pub(crate) fn bars(&self) -> Vec<Bar> {
        let nodes = self.run_graph.graph.nodes.iter().enumerate();
        nodes
            .map(|(id, node)| {
                let kind = self.run_graph.work[id].kind();
                let way = if kind == Kind::Test || self.ways[id] == "build" {
                    ""
                } else {
                    &self.ways[id]
                };
                Bar {
                    name: node.name.clone(),
                    way: way.to_owned(),
                    needs: node.needs.clone(),
                    start: self.timeline.starts[id],
                    end: self.timeline.ends[id],
                    seconds: self.run_graph.expected[id],
                    critical: self.critical.contains(&id),
                }
            })
            .collect()
    }
}

/// As [`SuiteOutlook::builders`], for builds and nothing else.
pub(crate) fn of_builds(
    workspace: &Workspace,
    evaluation: &Evaluation,
    memory: &Memory,
    estimates: &Estimates,
) -> BTreeMap<String, String> {
    if !memory.is_joined() {
        return BTreeMap::new();
    }
    let mut run_graph = RunGraph::of_builds(&graph::pieces(evaluation));
    memory.join(&mut run_graph, workspace, evaluation);
    estimates.of_builds(&mut run_graph, evaluation);
    let timeline = memory.foresee(workspace, &run_graph.graph);
    builders(&run_graph, &timeline, evaluation, memory)
}

fn builders(
    run_graph: &RunGraph,
    timeline: &Timeline,
    evaluation: &Evaluation,
    memory: &Memory,
) -> BTreeMap<String, String> {
    let nodes = run_graph.work.iter().zip(&timeline.places);
    let named = nodes.filter_map(|(work, place)| match work {
        Task::Build(at) => {
            Some((evaluation.images[*at].image.name.clone(), memory.name_of(*place)?))
        }
        _ => None,
    });
    named.collect()
}
/// The manifests by step. A plan asks nobody: a step with parts from the network is left out, and named.
fn rendered(
    workspace: &Workspace,
    suite: &Suite,
    evaluation: &Evaluation,
) -> Result<Vec<Option<Rendered>>> {
    let root = &workspace.config.root;
    let mut local = suite.clone();
    let mut is_local = Vec::new();
    for step in &suite.steps {
        let remote = render::remote_parts(step, root)?;
        if !remote.is_empty() {
            let (step, parts) = (&step.name, some(&remote, 3));
            ui::say(&format!(
                "warning: the manifests of step `{step}` are not looked at: {parts} would be fetched\n\
                 hint: keep a copy in the repository"
            ));
        }
        is_local.push(remote.is_empty());
    }
    let mut keep = is_local.iter();
    local.steps.retain(|_| keep.next().is_some_and(|keep| *keep));
    let folder = tempfile::tempdir()?;
    let tags = build::built_images(evaluation).tags();
    let mut found = render::render_all(&local, root, &tags, None, folder.path())?.into_iter();
    Ok(is_local.iter().map(|is_local| is_local.then(|| found.next().flatten()).flatten()).collect())
}
