//! A graph of work: what needs what, what each piece weighs and how long it takes.

use std::collections::BTreeMap;

use super::place::Placement;

/// A node's place in its graph.
pub type NodeId = usize;

/// Work to be done, in an order that respects needs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// One piece of work.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: String,
    pub needs: Vec<NodeId>,
    /// Bytes it holds while it runs.
    pub memory: u64,
    /// Whether it counts against the cap on jobs (it computes rather than waits).
    pub is_job: bool,
    /// Bytes of a beginning that is no job and may make the rest needless (a look into a cache);
    /// none: there is no such beginning.
    pub prelude: Option<u64>,
    /// Where it may be done besides home; none: nowhere.
    pub roams: Option<Placement>,
    /// How long it is expected to take, in seconds.
    pub seconds: f64,
    /// It never ran, and any other figure would do as well.
    pub is_guess: bool,
}

impl Graph {
    /// Adds a node after everything it needs; `needs` must be in the graph already, so there are no
    /// cycles.
    pub fn add(&mut self, node: Node) -> NodeId {
        debug_assert!(node.needs.iter().all(|need| *need < self.nodes.len()));
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// For each node, the seconds from its start to the end of the longest path it begins.
    pub fn remaining(&self) -> Vec<f64> {
        let mut remaining: Vec<f64> = self.nodes.iter().map(|node| node.seconds).collect();
        for (id, node) in self.nodes.iter().enumerate().rev() {
            for need in &node.needs {
                let through = self.nodes[*need].seconds + remaining[id];
                remaining[*need] = remaining[*need].max(through);
            }
        }
        remaining
    }

    /// The longest path, first node first.
    pub fn critical_path(&self) -> Vec<NodeId> {
        let remaining = self.remaining();
        let mut longest = (0..self.nodes.len())
            .filter(|id| self.nodes[*id].needs.is_empty())
            .max_by(|a, b| remaining[*a].total_cmp(&remaining[*b]));
        let mut followers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            for need in &node.needs {
                followers.entry(*need).or_default().push(id);
            }
        }
        let mut path = Vec::new();
        while let Some(id) = longest {
            path.push(id);
            let next = followers.get(&id).into_iter().flatten().copied();
            longest = next.max_by(|a, b| remaining[*a].total_cmp(&remaining[*b]));
        }
        path
    }
}
