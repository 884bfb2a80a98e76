//! The whole run of a suite before it is begun: its graph, how each node is going to be done, and when.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::e2e::render;
use super::forecast::{Coming, Forecast};
use super::layout::{self, Carry, Layout, Work};
use super::memory::Memory;
use super::survey::Survey;
use super::{Workspace, builds};
use crate::config::Suite;
use crate::deploy::Rendered;
use crate::event::Kind;
use crate::plan;
use crate::process;
use crate::schedule::{NodeId, Timeline};
use crate::ui;
use crate::ui::gantt::Bar;
use crate::ui::text::some;

/// What a run of a suite is going to be.
pub(super) struct Outlook {
    layout: Layout,
    /// By node.
    ways: Vec<String>,
    timeline: Timeline,
    critical: BTreeSet<NodeId>,
}

impl Outlook {
    /// Looks ahead; the manifests are rendered to learn which images they name, in a folder of no duration.
    pub(super) fn of(
        workspace: &Workspace,
        suite: &Suite,
        survey: &Survey,
        memory: &Memory,
        forecast: &Forecast,
    ) -> Result<Self> {
        let rendered = if process::find("kubectl").is_some() {
            rendered(workspace, suite, survey)?
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
        let carry = Carry::to(workspace.config.clusters.get(&suite.cluster));
        let mut layout = Layout::of_suite(suite, &layout::pieces(survey), &named, (carry, tests));
        memory.join(&mut layout, workspace, survey);
        let coming = Coming { suite, survey, rendered: &rendered, args: &[], shard: None };
        let ways = forecast.of_suite(&mut layout, workspace, coming);
        let timeline = memory.foresee(workspace, &layout.graph);
        let critical = layout.graph.critical_path().into_iter().collect();
        Ok(Self { layout, ways, timeline, critical })
    }

    /// Image → where it would be built, if there are builders.
    pub(super) fn builders(&self, survey: &Survey, memory: &Memory) -> BTreeMap<String, String> {
        builders(&self.layout, &self.timeline, survey, memory)
    }

    /// What the whole is expected to take, in seconds; guesses stand for what is not known.
    pub(super) fn seconds(&self) -> f64 {
        self.timeline.makespan()
    }

    /// How many nodes there is no past run of.
    pub(super) fn unknown(&self) -> usize {
        self.layout.expected.iter().filter(|seconds| seconds.is_none()).count()
    }

    /// Names along the longest path, and what it takes.
    pub(super) fn critical_path(&self) -> (Vec<String>, f64) {
        let path = self.layout.graph.critical_path();
        let nodes = path.iter().map(|id| &self.layout.graph.nodes[*id]);
        (
            nodes.clone().map(|node| node.name.clone()).collect(),
            nodes.map(|node| node.seconds).sum(),
        )
    }

    /// As the plan's JSON has them.
    pub(super) fn steps(&self) -> Vec<plan::Step> {
        let told = self.layout.told().into_iter().enumerate();
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

    pub(super) fn bars(&self) -> Vec<Bar> {
        let nodes = self.layout.graph.nodes.iter().enumerate();
        nodes
            .map(|(id, node)| {
                let kind = self.layout.work[id].kind();
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
                    seconds: self.layout.expected[id],
                    critical: self.critical.contains(&id),
                }
            })
            .collect()
    }
}

/// As [`Outlook::builders`], for builds and nothing else.
pub(super) fn of_builds(
    workspace: &Workspace,
    survey: &Survey,
    memory: &Memory,
    forecast: &Forecast,
) -> BTreeMap<String, String> {
    if !memory.is_joined() {
        return BTreeMap::new();
    }
    let mut layout = Layout::of_builds(&layout::pieces(survey));
    memory.join(&mut layout, workspace, survey);
    forecast.of_builds(&mut layout, survey);
    let timeline = memory.foresee(workspace, &layout.graph);
    builders(&layout, &timeline, survey, memory)
}

fn builders(
    layout: &Layout,
    timeline: &Timeline,
    survey: &Survey,
    memory: &Memory,
) -> BTreeMap<String, String> {
    let nodes = layout.work.iter().zip(&timeline.places);
    let named = nodes.filter_map(|(work, place)| match work {
        Work::Build(at) => Some((survey.images[*at].image.name.clone(), memory.name_of(*place)?)),
        _ => None,
    });
    named.collect()
}
/// The manifests by step. A plan asks nobody: a step with parts from the network is left out, and named.
fn rendered(
    workspace: &Workspace,
    suite: &Suite,
    survey: &Survey,
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
    let tags = builds::shelf(survey).tags();
    let mut found = render::render_all(&local, root, &tags, None, folder.path())?.into_iter();
    Ok(is_local.iter().map(|is_local| is_local.then(|| found.next().flatten()).flatten()).collect())
}
