//! The running order: a state machine that says what may start, given what has ended.
//!
//! Rules, in this order:
//! 1. Nothing starts before all it needs has ended well; if one of them failed, it never starts.
//! 2. The bytes of everything that runs stay within the budget. A node above the whole budget runs
//!    when nothing else holds memory, and while it runs nothing that weighs anything starts. So
//!    does a node that is run again ([`Order::again`]): it was killed beside others.
//! 3. Of what may start, the node with the longest remaining path goes first ([`super::rank`]).
//! 4. A node that does not fit lets smaller ones pass, but only so often ([`PATIENCE`]): then
//!    nothing that weighs anything starts until it fits. So none waits for ever.
//!
//! A node with a prelude runs that first, with little memory and no job slot; what comes of it says whether the
//! node itself is still to be run ([`Order::go_on`]) and then waits for its room like any other.
//!
//! Pure: time is whatever the caller says has ended.

use super::graph::{Graph, NodeId};
use super::rank::Ranking;

/// How many lighter nodes may start ahead of one that waits for memory.
const PATIENCE: usize = 8;

/// What runs, what waits, what is over.
#[derive(Debug)]
pub struct Order<'a> {
    graph: &'a Graph,
    limits: Limits,
    ranking: Ranking,
    states: Vec<State>,
    passed: Vec<usize>,
    /// Bytes each node holds while it runs.
    weights: Vec<u64>,
    /// Whether it is run again, and so alone.
    lone: Vec<bool>,
    /// Whether what is run next of it is its prelude.
    preludes: Vec<bool>,
    held: u64,
    jobs: usize,
}

/// Caps on what runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    /// Nodes that compute ([`super::Node::is_job`]).
    pub jobs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    Done,
    Failed,
    /// Will never start: something it needs failed, or the run gave up.
    Skipped,
}

impl<'a> Order<'a> {
    pub fn new(graph: &'a Graph, limits: Limits) -> Self {
        let mut order = Self::ranked(graph, limits, Ranking::of(graph, limits));
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Some(memory) = node.prelude {
                order.weights[id] = memory;
                order.preludes[id] = true;
            }
        }
        order
    }

    /// An order that expects every node to be run whole.
    pub(super) fn ranked(graph: &'a Graph, limits: Limits, ranking: Ranking) -> Self {
        let count = graph.nodes.len();
        Self {
            graph,
            limits,
            ranking,
            states: vec![State::Waiting; count],
            passed: vec![0; count],
            weights: graph.nodes.iter().map(|node| node.memory).collect(),
            lone: vec![false; count],
            preludes: vec![false; count],
            held: 0,
            jobs: 0,
        }
    }

    pub fn state(&self, node: NodeId) -> State {
        self.states[node]
    }

    /// Bytes held by what runs.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Nodes that compute and run.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Bytes `node` holds while it runs.
    pub fn weight(&self, node: NodeId) -> u64 {
        self.weights[node]
    }

    /// Whether `node` is run again.
    pub fn is_again(&self, node: NodeId) -> bool {
        self.lone[node]
    }

    /// Whether what is run of `node` is its prelude.
    pub fn is_prelude(&self, node: NodeId) -> bool {
        self.preludes[node]
    }

    /// Whether nothing that weighs anything may run beside `node`.
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.lone[node] || self.weights[node] > self.limits.memory
    }

    pub fn is_over(&self) -> bool {
        self.states.iter().all(|state| !matches!(state, State::Waiting | State::Running))
    }

    /// The node to [`begin`](Self::begin) next, if one may; not `weighing`: of those that hold no memory.
    pub fn next(&self, weighing: bool) -> Option<NodeId> {
        let ready = self.ready();
        let impatient = |node: &NodeId| self.passed[*node] >= PATIENCE && !self.fits(*node);
        let light_only = !weighing || ready.iter().any(impatient);
        let may = |node: &NodeId| self.fits(*node) && (!light_only || self.weights[*node] == 0);
        ready.into_iter().find(may)
    }

    /// `node`, which [`next`](Self::next) gave, runs.
    pub fn begin(&mut self, node: NodeId) {
        for waiting in self.ready().into_iter().take_while(|other| *other != node) {
            self.passed[waiting] += 1;
        }
        self.states[node] = State::Running;
        self.held += self.weights[node];
        self.jobs += usize::from(self.is_job(node));
    }

    /// A running node has ended. Whatever needs it is skipped if it failed.
    pub fn end(&mut self, node: NodeId, ok: bool) {
        self.free(node);
        self.states[node] = if ok { State::Done } else { State::Failed };
        if !ok {
            self.skip_dependents();
        }
    }

    /// A running node has ended and is to be run once more: with `memory` bytes, and alone.
    pub fn again(&mut self, node: NodeId, memory: u64) {
        self.free(node);
        self.states[node] = State::Waiting;
        self.weights[node] = memory;
        self.lone[node] = true;
    }

    /// A node's prelude has ended and the rest is needed after all.
    pub fn go_on(&mut self, node: NodeId) {
        self.free(node);
        self.states[node] = State::Waiting;
        self.weights[node] = self.graph.nodes[node].memory;
        self.preludes[node] = false;
    }

    /// Gives up on everything that has not started.
    pub fn give_up(&mut self) {
        for state in &mut self.states {
            if *state == State::Waiting {
                *state = State::Skipped;
            }
        }
    }

    /// What keeps a node waiting that has all it needs; none if it does not wait, or for others to end.
    pub fn scarce(&self, node: NodeId) -> Option<&'static str> {
        match () {
            () if !self.is_ready(node) => None,
            () if !self.has_memory(node) => Some("memory"),
            () if !self.has_slot(node) => Some("a free job slot"),
            () => Some("its turn"),
        }
    }

    /// What may start as far as needs go, in the order it is to.
    fn ready(&self) -> Vec<NodeId> {
        let all = 0..self.states.len();
        let mut ready: Vec<NodeId> = all.filter(|node| self.is_ready(*node)).collect();
        ready.sort_by(|a, b| {
            self.ranking.ranks[*b].total_cmp(&self.ranking.ranks[*a]).then(a.cmp(b))
        });
        ready
    }

    fn is_ready(&self, node: NodeId) -> bool {
        self.states[node] == State::Waiting
            && self.graph.nodes[node].needs.iter().all(|need| self.states[*need] == State::Done)
            && self.ranking.held_back[node].is_none_or(|other| self.states[other] != State::Waiting)
    }

    fn fits(&self, node: NodeId) -> bool {
        self.has_memory(node) && self.has_slot(node)
    }

    fn has_memory(&self, node: NodeId) -> bool {
        let weight = self.weights[node];
        weight == 0
            || self.held == 0
            || (!self.lone[node]
                && !self.is_taken_by_one()
                && self.held.saturating_add(weight) <= self.limits.memory)
    }

    fn is_taken_by_one(&self) -> bool {
        let mut states = self.states.iter().zip(&self.lone);
        states.any(|(state, lone)| *lone && *state == State::Running)
    }

    fn has_slot(&self, node: NodeId) -> bool {
        !self.is_job(node) || self.jobs < self.limits.jobs.max(1)
    }

    fn free(&mut self, node: NodeId) {
        self.held -= self.weights[node];
        self.jobs -= usize::from(self.is_job(node));
    }

    fn is_job(&self, node: NodeId) -> bool {
        self.graph.nodes[node].is_job && !self.preludes[node]
    }

    fn skip_dependents(&mut self) {
        // Needs always stand before what needs them, so one pass reaches everything.
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let doomed =
                |need: &NodeId| matches!(self.states[*need], State::Failed | State::Skipped);
            if self.states[id] == State::Waiting && node.needs.iter().any(doomed) {
                self.states[id] = State::Skipped;
            }
        }
    }
}

#[cfg(test)]
mod tests;
