//! The graph of a run: an edge only where something is really needed.
//!
//! ```text
//! build(image) ──► load(image) ──► step ──► step ──► test
//! cluster ─────────┘  images already there are loaded in one stream
//! ```
//!
//! On a cluster that others run, an image is pushed to the registry in place of a load.
//!
//! Builds and the cluster start together. An image is loaded as soon as it and the cluster are
//! there; a step is applied when the steps it names are done and the images in its manifests are
//! loaded. The tests start when all steps are done, and the images that no step names are loaded:
//! those are theirs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Cluster, Step, Suite};
use crate::deploy::Rendered;
use crate::event::{Kind, PlannedNode};
use crate::plan::Action;
use crate::run::evaluate::{Evaluation, ImageState};
use crate::schedule::{Graph, Node, NodeId, Placement, State};

/// Seconds a node is taken to need before one was seen.
const BUILD_SECONDS: f64 = 60.0;
const CLUSTER_SECONDS: f64 = 25.0;
const LOAD_SECONDS: f64 = 3.0;
const STEP_SECONDS: f64 = 6.0;
const PUSH_SECONDS: f64 = 5.0;

/// The graph of a run, and what each of its nodes does.
#[derive(Debug, Default)]
pub(crate) struct RunGraph {
    pub(crate) graph: Graph,
    /// By node.
    pub(crate) tasks: Vec<PlannedTask>,
}

/// A task, and how it is going to be done.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTask {
    pub(crate) task: Task,
    /// `rebuild`, `reuse`, `unchanged`, … (see [`super::estimate`]); for tests their command line.
    pub(crate) way: String,
}

/// One piece of work of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The image's name.
    Build(String),
    /// Puts an image that was built into the shared cache. Nothing needs it.
    Push(String),
    Cluster,
    /// Images that are sent in one stream.
    Load(Vec<String>),
    /// Puts an image into the registry, from which nodes that are not ours pull it: in a load's
    /// place.
    Publish(String),
    /// The step's name.
    Step(String),
    Test,
}

/// An image of the run.
pub(crate) struct ImageNode {
    pub(crate) name: String,
    /// Bytes its build reserves; none if it is up to date.
    pub(crate) build: Option<u64>,
}

/// How images get to where the cluster's nodes find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageDelivery {
    /// Onto nodes that are ours.
    Load,
    /// Into the registry.
    Publish,
}

impl ImageDelivery {
    pub(crate) fn to(cluster: Option<&Cluster>) -> Self {
        let is_ours = cluster.is_none_or(|cluster| cluster.existing.is_none());
        if is_ours { Self::Load } else { Self::Publish }
    }
}

/// The images of an evaluation.
pub(crate) fn image_nodes(evaluation: &Evaluation) -> Vec<ImageNode> {
    let node = |image: &ImageState| ImageNode {
        name: image.image.name.clone(),
        build: (image.planned.action == Action::Build).then_some(image.planned.memory),
    };
    evaluation.images.iter().map(node).collect()
}

impl RunGraph {
    /// Builds and nothing else.
    pub(crate) fn of_builds(images: &[ImageNode]) -> Self {
        let mut run_graph = Self::default();
        for image in images {
            run_graph.add_build(image);
        }
        run_graph
    }

    /// A whole suite, with or without its tests. A step needs the images that its manifests name.
    pub(crate) fn of_suite(
        suite: &Suite,
        images: &[ImageNode],
        rendered: &BTreeMap<String, Rendered>,
        delivery: ImageDelivery,
        tests: bool,
    ) -> Self {
        let mut run_graph = Self::default();
        let cluster = run_graph.add(Task::Cluster, waits("cluster", CLUSTER_SECONDS));
        let loads = match delivery {
            ImageDelivery::Load => run_graph.add_loads(cluster, images),
            ImageDelivery::Publish => run_graph.add_published(cluster, images),
        };
        let steps = run_graph.add_steps(suite, cluster, &loads, rendered);
        if tests {
            let is_taken = |load: &NodeId| {
                steps.iter().any(|step| run_graph.graph.nodes[*step].needs.contains(load))
            };
            let others: BTreeSet<NodeId> =
                loads.into_values().filter(|load| !is_taken(load)).collect();
            let needs = steps.iter().copied().chain(others).chain([cluster]).collect();
            run_graph.add(Task::Test, Node { needs, ..waits("test", 0.0) });
        }
        run_graph
    }

    /// Builds and loads; gives back the load of each image.
    fn add_loads(&mut self, cluster: NodeId, images: &[ImageNode]) -> BTreeMap<String, NodeId> {
        let mut loads = BTreeMap::new();
        let mut up_to_date = Vec::new();
        for image in images {
            let Some(build) = self.add_build(image) else {
                up_to_date.push(image.name.clone());
                continue;
            };
            let load = waits(&format!("load {}", image.name), LOAD_SECONDS);
            let load = Node { needs: vec![cluster, build], ..load };
            let load = self.add(Task::Load(vec![image.name.clone()]), load);
            loads.insert(image.name.clone(), load);
        }
        if !up_to_date.is_empty() {
            let name = match &up_to_date[..] {
                [image] => format!("load {image}"),
                _ => "load".to_owned(),
            };
            let load = Node { needs: vec![cluster], ..waits(&name, LOAD_SECONDS) };
            let load = self.add(Task::Load(up_to_date.clone()), load);
            loads.extend(up_to_date.into_iter().map(|name| (name, load)));
        }
        loads
    }

    /// Builds and pushes; gives back the push of each image. It needs the cluster so far as that is
    /// the one that is meant.
    fn add_published(&mut self, cluster: NodeId, images: &[ImageNode]) -> BTreeMap<String, NodeId> {
        let mut pushes = BTreeMap::new();
        for image in images {
            let needs = self.add_build(image).into_iter().chain([cluster]).collect();
            let node = waits(&format!("push {}", image.name), PUSH_SECONDS);
            let node = Node { needs, is_job: true, ..node };
            pushes.insert(image.name.clone(), self.add(Task::Publish(image.name.clone()), node));
        }
        pushes
    }

    /// The build of an image; none if it is up to date.
    fn add_build(&mut self, image: &ImageNode) -> Option<NodeId> {
        let node = Node {
            name: format!("build {}", image.name),
            memory: image.build?,
            is_job: true,
            seconds: BUILD_SECONDS,
            is_guess: true,
            ..Node::default()
        };
        Some(self.add(Task::Build(image.name.clone()), node))
    }

    fn add_steps(
        &mut self,
        suite: &Suite,
        cluster: NodeId,
        loads: &BTreeMap<String, NodeId>,
        rendered: &BTreeMap<String, Rendered>,
    ) -> Vec<NodeId> {
        let mut nodes: BTreeMap<&str, NodeId> = BTreeMap::new();
        for step in in_order(&suite.steps) {
            let named = rendered.get(&step.name).map_or(&[][..], |rendered| &rendered.images);
            let images = named.iter().chain(&step.images).filter_map(|name| loads.get(name));
            let before = step.needs.iter().filter_map(|need| nodes.get(&**need));
            let mut needs: Vec<NodeId> = images.chain(before).copied().chain([cluster]).collect();
            needs.sort_unstable();
            needs.dedup();
            let node = Node { needs, ..waits(&step.name, STEP_SECONDS) };
            nodes.insert(&step.name, self.add(Task::Step(step.name.clone()), node));
        }
        nodes.into_values().collect()
    }

    fn add(&mut self, task: Task, node: Node) -> NodeId {
        self.tasks.push(PlannedTask { task, way: String::new() });
        self.graph.add(node)
    }

    /// Changes the node of each build.
    fn each_build(&mut self, change: impl Fn(&str, &mut Node)) {
        for (node, planned) in self.graph.nodes.iter_mut().zip(&self.tasks) {
            if let Task::Build(image) = &planned.task {
                change(image, node);
            }
        }
    }

    /// Has a build begin with a prelude of so many bytes, where `prelude` says so for its image.
    pub(crate) fn look_first(&mut self, prelude: impl Fn(&str) -> Option<u64>) {
        self.each_build(|image, node| node.prelude = prelude(image));
    }

    /// Lets builds run on remote builders; `placement` returns the allowed ones of an image.
    pub(crate) fn let_roam(&mut self, placement: impl Fn(&str) -> Placement) {
        self.each_build(|image, node| node.roams = Some(placement(image)));
    }

    /// Has every build followed by a push, if it is not: a job that weighs nothing beside builds,
    /// and that nothing needs.
    pub(crate) fn push_builds(&mut self) {
        for build in 0..self.tasks.len() {
            if let Task::Build(image) = self.tasks[build].task.clone()
                && !self.tasks.iter().any(|other| other.task == Task::Publish(image.clone()))
            {
                let node = waits(&format!("push {image}"), PUSH_SECONDS);
                self.add(Task::Push(image), Node { needs: vec![build], is_job: true, ..node });
            }
        }
    }

    /// Images that no builder was left for.
    pub(crate) fn stranded<'s>(
        &'s self,
        states: &'s [State],
    ) -> impl Iterator<Item = &'s str> + use<'s> {
        states.iter().zip(&self.tasks).filter_map(|(state, planned)| match &planned.task {
            Task::Build(image) if *state == State::Stranded => Some(image.as_str()),
            _ => None,
        })
    }

    /// Notes how each node is going to be done, and the seconds that is expected to take.
    pub(crate) fn expect(&mut self, expected: impl Fn(NodeId, &Task) -> (String, Option<f64>)) {
        for (id, planned) in self.tasks.iter_mut().enumerate() {
            let (way, seconds) = expected(id, &planned.task);
            planned.way = way;
            let node = &mut self.graph.nodes[id];
            node.seconds = seconds.unwrap_or(node.seconds);
            node.is_guess = seconds.is_none();
        }
    }

    /// The nodes as events and the plan's JSON show them.
    pub(crate) fn planned_nodes(&self) -> Vec<PlannedNode> {
        let nodes = self.graph.nodes.iter().zip(&self.tasks);
        let planned = nodes.map(|(node, planned)| PlannedNode {
            name: node.name.clone(),
            kind: planned.task.kind(),
            needs: node.needs.iter().map(|need| self.graph.nodes[*need].name.clone()).collect(),
            seconds: (!node.is_guess).then_some(node.seconds),
        });
        planned.collect()
    }
}

impl Task {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Task::Build(_) => Kind::Build,
            Task::Cluster => Kind::Cluster,
            Task::Load(_) | Task::Publish(_) => Kind::Load,
            Task::Step(_) => Kind::Step,
            Task::Test => Kind::Test,
            Task::Push(_) => Kind::Push,
        }
    }
}

/// A node that waits rather than computes.
fn waits(name: &str, seconds: f64) -> Node {
    Node { name: name.to_owned(), seconds, is_guess: true, ..Node::default() }
}

/// The steps so that each stands after what it needs (the configuration has no cycles).
pub(crate) fn in_order(steps: &[Step]) -> Vec<&Step> {
    let mut order: Vec<&Step> = Vec::new();
    let mut left: Vec<&Step> = steps.iter().collect();
    while !left.is_empty() {
        let is_placed = |need: &String| order.iter().any(|step| step.name == *need);
        let Some(next) = left.iter().position(|step| step.needs.iter().all(is_placed)) else {
            break;
        };
        order.push(left.remove(next));
    }
    order
}

#[cfg(test)]
mod calibration;
