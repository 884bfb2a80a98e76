//! The graph of a run: an edge only where something is really needed.
//!
//! ```text
//! build(image) ──► load(image) ──► step ──► step ──► test
//! cluster ─────────┘  images already there are loaded in one stream
//! ```
//!
//! On a cluster that others run, an image is pushed to the registry in place of a load.
//!
//! Builds and the cluster start together. An image is loaded as soon as it and the cluster are there; a
//! step is applied when the steps it names are done and the images in its manifests are loaded. The tests start
//! when all steps are done, and the images that no step names are loaded: those are theirs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Cluster, Step, Suite};
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
    pub(crate) work: Vec<Task>,
    /// By node: seconds it took in past runs; none if it never ran like this.
    pub(crate) expected: Vec<Option<f64>>,
}

/// One piece of work of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Index into the survey's images.
    Build(usize),
    /// Of what was built into the shared cache. Nothing needs it.
    Push(usize),
    Cluster,
    /// Indices into the survey's images, sent in one stream.
    Load(Vec<usize>),
    /// Into the registry, from which nodes that are not ours pull it: in a load's place.
    Publish(usize),
    /// Index into the suite's steps.
    Step(usize),
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

/// The images of a survey.
pub(crate) fn pieces(evaluation: &Evaluation) -> Vec<ImageNode> {
    let piece = |one: &ImageState| ImageNode {
        name: one.image.name.clone(),
        build: (one.planned.action == Action::Build).then_some(one.planned.memory),
    };
    evaluation.images.iter().map(piece).collect()
}

impl RunGraph {
    /// Builds and nothing else.
    pub(crate) fn of_builds(images: &[ImageNode]) -> Self {
        let mut run_graph = Self::default();
        for (at, ImageNode { name, build }) in images.iter().enumerate() {
            if let Some(memory) = build {
                run_graph.add(Task::Build(at), builds(name, *memory));
            }
        }
        run_graph
    }

    /// A whole suite, with or without its tests. `named` has, by step, the images that its manifests name.
    pub(crate) fn of_suite(
        suite: &Suite,
        images: &[ImageNode],
        named: &[Vec<String>],
        (carry, tests): (ImageDelivery, bool),
    ) -> Self {
        let mut run_graph = Self::default();
        let cluster = run_graph.add(Task::Cluster, waits("cluster", CLUSTER_SECONDS));
        let loads = match carry {
            ImageDelivery::Load => run_graph.add_images(cluster, images),
            ImageDelivery::Publish => run_graph.add_published(cluster, images),
        };
        let steps = run_graph.add_steps(suite, cluster, &loads, named);
        if tests {
            let taken = |load: &NodeId| {
                steps.iter().any(|step| run_graph.graph.nodes[*step].needs.contains(load))
            };
            let theirs: BTreeSet<NodeId> =
                loads.into_values().filter(|load| !taken(load)).collect();
            let needs = steps.iter().copied().chain(theirs).chain([cluster]).collect();
            run_graph.add(Task::Test, Node { needs, ..waits("test", 0.0) });
        }
        run_graph
    }

    /// Builds and loads; gives back the load of each image.
    fn add_images(&mut self, cluster: NodeId, images: &[ImageNode]) -> BTreeMap<String, NodeId> {
        let mut loads = BTreeMap::new();
        let mut there = Vec::new();
        for (at, ImageNode { name, build }) in images.iter().enumerate() {
            let Some(memory) = build else {
                there.push(at);
                continue;
            };
            let build = self.add(Task::Build(at), builds(name, *memory));
            loads.insert(name.clone(), self.add_load(images, vec![at], vec![cluster, build]));
        }
        if !there.is_empty() {
            let load = self.add_load(images, there.clone(), vec![cluster]);
            loads.extend(there.into_iter().map(|at| (images[at].name.clone(), load)));
        }
        loads
    }

    /// Builds and pushes; gives back the push of each image. It needs the cluster so far as that is the one that is
    /// meant.
    fn add_published(&mut self, cluster: NodeId, images: &[ImageNode]) -> BTreeMap<String, NodeId> {
        let mut pushes = BTreeMap::new();
        for (at, ImageNode { name, build }) in images.iter().enumerate() {
            let build = build.map(|memory| self.add(Task::Build(at), builds(name, memory)));
            let node = waits(&format!("push {name}"), PUSH_SECONDS);
            let node =
                Node { needs: build.into_iter().chain([cluster]).collect(), is_job: true, ..node };
            pushes.insert(name.clone(), self.add(Task::Publish(at), node));
        }
        pushes
    }

    fn add_load(&mut self, images: &[ImageNode], sent: Vec<usize>, needs: Vec<NodeId>) -> NodeId {
        let name = match sent[..] {
            [at] => format!("load {}", images[at].name),
            _ => "load".to_owned(),
        };
        self.add(Task::Load(sent), Node { needs, ..waits(&name, LOAD_SECONDS) })
    }

    fn add_steps(
        &mut self,
        suite: &Suite,
        cluster: NodeId,
        loads: &BTreeMap<String, NodeId>,
        named: &[Vec<String>],
    ) -> Vec<NodeId> {
        let mut nodes: BTreeMap<&str, NodeId> = BTreeMap::new();
        for at in in_order(&suite.steps) {
            let step = &suite.steps[at];
            let images = named[at].iter().chain(&step.images).filter_map(|name| loads.get(name));
            let before = step.needs.iter().filter_map(|need| nodes.get(&**need));
            let mut needs: Vec<NodeId> = images.chain(before).copied().chain([cluster]).collect();
            needs.sort_unstable();
            needs.dedup();
            let node = self.add(Task::Step(at), Node { needs, ..waits(&step.name, STEP_SECONDS) });
            nodes.insert(&step.name, node);
        }
        nodes.into_values().collect()
    }

    fn add(&mut self, work: Task, node: Node) -> NodeId {
        self.work.push(work);
        self.expected.push(None);
        self.graph.add(node)
    }

    /// The same work in phases, as scripts do it: all builds, then the cluster, then all loads, then one step after
    /// the other, then the tests. What our edges gain is measured against it.
    pub(crate) fn in_phases(&self) -> Self {
        let mut order: Vec<NodeId> = (0..self.work.len()).collect();
        order.sort_by_key(|id| self.work[*id].kind());
        let mut phased = Self::default();
        for (place, id) in order.iter().enumerate() {
            let kind = self.work[*id].kind();
            let is_before = |other: &NodeId| match self.work[*other].kind() {
                Kind::Step if kind == Kind::Step => true,
                other => other < kind,
            };
            let needs = (0..place).filter(|before| is_before(&order[*before])).collect();
            let node = Node { needs, ..self.graph.nodes[*id].clone() };
            phased.add(self.work[*id].clone(), node);
            phased.expected[place] = self.expected[*id];
        }
        phased
    }

    /// Has a build begin with a prelude of so many bytes, where `prelude` says so for its image.
    pub(crate) fn look_first(&mut self, prelude: impl Fn(usize) -> Option<u64>) {
        for (node, work) in self.graph.nodes.iter_mut().zip(&self.work) {
            if let Task::Build(at) = work {
                node.prelude = prelude(*at);
            }
        }
    }

    /// Has builds be done at other places, too; `roams` says of an image where.
    pub(crate) fn let_roam(&mut self, roams: impl Fn(usize) -> Placement) {
        for (node, work) in self.graph.nodes.iter_mut().zip(&self.work) {
            if let Task::Build(at) = work {
                node.roams = Some(roams(*at));
            }
        }
    }

    /// Has every build followed by a push, if it is not: a job that weighs nothing beside builds, and that nothing
    /// needs.
    pub(crate) fn push_builds(&mut self) {
        for build in 0..self.work.len() {
            if let Task::Build(at) = self.work[build]
                && !self.work.contains(&Task::Publish(at))
            {
                let name = self.graph.nodes[build].name.replacen("build", "push", 1);
                let node = waits(&name, PUSH_SECONDS);
                self.add(Task::Push(at), Node { needs: vec![build], is_job: true, ..node });
            }
        }
    }

    /// Images that no builder was left for.
    pub(crate) fn stranded<'s>(
        &self,
        states: &[State],
        evaluation: &'s Evaluation,
    ) -> Vec<&'s ImageState> {
        let nodes = states.iter().zip(&self.work);
        let stranded = nodes.filter_map(|(state, work)| match work {
            Task::Build(at) if *state == State::Stranded => Some(&evaluation.images[*at]),
            _ => None,
        });
        stranded.collect()
    }

    /// Notes what each node is expected to take, in seconds.
    pub(crate) fn expect(&mut self, seconds: impl Fn(NodeId, &Task) -> Option<f64>) {
        for (id, work) in self.work.iter().enumerate() {
            self.expected[id] = seconds(id, work);
            let node = &mut self.graph.nodes[id];
            node.seconds = self.expected[id].unwrap_or(node.seconds);
            node.is_guess = self.expected[id].is_none();
        }
    }

    /// The nodes as events tell them.
    pub(crate) fn told(&self) -> Vec<PlannedNode> {
        let nodes = self.graph.nodes.iter().zip(&self.work).zip(&self.expected);
        let told = nodes.map(|((node, work), seconds)| PlannedNode {
            name: node.name.clone(),
            kind: work.kind(),
            needs: node.needs.iter().map(|need| self.graph.nodes[*need].name.clone()).collect(),
            seconds: *seconds,
        });
        told.collect()
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

/// A node that computes.
fn builds(image: &str, memory: u64) -> Node {
    let name = format!("build {image}");
    Node {
        name,
        needs: Vec::new(),
        memory,
        is_job: true,
        seconds: BUILD_SECONDS,
        ..Node::default()
    }
}

/// A node that waits rather than computes.
fn waits(name: &str, seconds: f64) -> Node {
    Node { name: name.to_owned(), seconds, ..Node::default() }
}

/// The steps so that each stands after what it needs (the configuration has no cycles).
pub(crate) fn in_order(steps: &[Step]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < steps.len() {
        let placed: BTreeSet<&str> = order.iter().map(|at| &*steps[*at].name).collect();
        let free = |at: &usize| {
            !order.contains(at) && steps[*at].needs.iter().all(|need| placed.contains(&**need))
        };
        match (0..steps.len()).find(free) {
            Some(at) => order.push(at),
            None => break,
        }
    }
    order
}

#[cfg(test)]
mod calibration;
