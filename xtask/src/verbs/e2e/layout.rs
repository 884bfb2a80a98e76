//! The graph of a suite's run: an edge only where something is really needed.
//!
//! ```text
//! build(image) ──► load(image) ──► step ──► step ──► test
//! cluster ─────────┘  images already there are loaded in one stream
//! ```
//!
//! Builds and the cluster start together. An image is loaded as soon as it and the cluster are there; a
//! step is applied when the steps it names and the images in its manifests are done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Step, Suite};
use crate::schedule::{Graph, Node, NodeId};

/// Seconds a node is taken to need before one was seen.
const CLUSTER_SECONDS: f64 = 25.0;
const LOAD_SECONDS: f64 = 3.0;
const STEP_SECONDS: f64 = 6.0;

/// The graph of a run, and what each of its nodes does.
#[derive(Debug, Default)]
pub(in crate::verbs) struct Layout {
    pub(in crate::verbs) graph: Graph,
    /// By node.
    pub(in crate::verbs) work: Vec<Work>,
}

/// One piece of work of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verbs) enum Work {
    /// Index into the survey's images.
    Build(usize),
    /// Of what was built into the shared cache. Nothing needs it.
    Push(usize),
    Cluster,
    /// Indices into the survey's images, sent in one stream.
    Load(Vec<usize>),
    /// Index into the suite's steps.
    Step(usize),
    Test,
}

/// An image of the suite.
pub(in crate::verbs) struct Piece<'a> {
    pub(in crate::verbs) name: &'a str,
    /// Its build; none if it is up to date.
    pub(in crate::verbs) build: Option<Node>,
    /// The push of what is built; none if the run may not.
    pub(in crate::verbs) push: Option<Node>,
}

impl Layout {
    /// `named` has, by step, the images that its manifests name.
    pub(in crate::verbs) fn new(
        suite: &Suite,
        images: Vec<Piece>,
        named: &[Vec<String>],
        tests: bool,
    ) -> Self {
        let mut layout = Self::default();
        let cluster = layout.add(Work::Cluster, waits("cluster", CLUSTER_SECONDS));
        let loads = layout.add_images(cluster, images);
        let steps = layout.add_steps(suite, cluster, &loads, named);
        if tests {
            let needs = steps.into_iter().chain([cluster]).collect();
            layout.add(Work::Test, Node { needs, ..waits("test", 0.0) });
        }
        layout
    }

    /// Builds and loads; gives back the load of each image.
    fn add_images(&mut self, cluster: NodeId, images: Vec<Piece>) -> BTreeMap<String, NodeId> {
        let mut loads = BTreeMap::new();
        let (mut there, mut names) = (Vec::new(), Vec::new());
        for (at, Piece { name, build, push }) in images.into_iter().enumerate() {
            let Some(build) = build else {
                there.push(at);
                names.push(name.to_owned());
                continue;
            };
            let build = self.add(Work::Build(at), build);
            push.map(|push| self.add(Work::Push(at), Node { needs: vec![build], ..push }));
            let node = waits(&format!("load {name}"), LOAD_SECONDS);
            let load = self.add(Work::Load(vec![at]), Node { needs: vec![cluster, build], ..node });
            loads.insert(name.to_owned(), load);
        }
        if !there.is_empty() {
            let node = Node { needs: vec![cluster], ..waits("load", LOAD_SECONDS) };
            let load = self.add(Work::Load(there), node);
            loads.extend(names.into_iter().map(|name| (name, load)));
        }
        loads
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
            let node = self.add(Work::Step(at), Node { needs, ..waits(&step.name, STEP_SECONDS) });
            nodes.insert(&step.name, node);
        }
        nodes.into_values().collect()
    }

    fn add(&mut self, work: Work, node: Node) -> NodeId {
        self.work.push(work);
        self.graph.add(node)
    }
}

/// A node that waits rather than computes.
fn waits(name: &str, seconds: f64) -> Node {
    Node { name: name.to_owned(), seconds, ..Node::default() }
}

/// The steps so that each stands after what it needs (the configuration has no cycles).
pub(super) fn in_order(steps: &[Step]) -> Vec<usize> {
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
