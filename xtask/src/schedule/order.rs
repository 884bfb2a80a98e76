//! The running order: a state machine that says what may start, given what has ended.
//!
//! Rules, in this order:
//! 1. Nothing starts before all it needs has ended well; if one of them failed, it never starts.
//! 2. The bytes of everything that runs stay within the budget. A node above the whole budget runs
//!    when nothing else holds memory, and while it runs nothing that weighs anything starts.
//! 3. Of what may start, the node with the longest remaining path goes first.
//! 4. A node that does not fit lets smaller ones pass, but only so often ([`PATIENCE`]): then
//!    nothing that weighs anything starts until it fits. So none waits for ever.
//!
//! Pure: time is whatever the caller says has ended.

use super::graph::{Graph, NodeId};

/// How many lighter nodes may start ahead of one that waits for memory.
const PATIENCE: usize = 8;

/// What runs, what waits, what is over.
#[derive(Debug)]
pub struct Order<'a> {
    graph: &'a Graph,
    limits: Limits,
    remaining: Vec<f64>,
    states: Vec<State>,
    passed: Vec<usize>,
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
        let count = graph.nodes.len();
        Self {
            graph,
            limits,
            remaining: graph.remaining(),
            states: vec![State::Waiting; count],
            passed: vec![0; count],
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

    pub fn is_over(&self) -> bool {
        self.states.iter().all(|state| !matches!(state, State::Waiting | State::Running))
    }

    /// Starts one more node, if one may start; call until it gives none.
    pub fn start(&mut self) -> Option<NodeId> {
        let mut ready: Vec<NodeId> =
            (0..self.states.len()).filter(|node| self.is_ready(*node)).collect();
        ready.sort_by(|a, b| self.remaining[*b].total_cmp(&self.remaining[*a]).then(a.cmp(b)));
        let impatient = |node: &NodeId| self.passed[*node] >= PATIENCE && !self.fits(*node);
        let blocked = ready.iter().any(impatient);
        let node = ready
            .iter()
            .copied()
            .find(|node| self.fits(*node) && (!blocked || self.graph.nodes[*node].memory == 0))?;
        for waiting in ready.into_iter().take_while(|other| *other != node) {
            self.passed[waiting] += 1;
        }
        self.states[node] = State::Running;
        self.held += self.graph.nodes[node].memory;
        self.jobs += usize::from(self.graph.nodes[node].is_job);
        Some(node)
    }

    /// A running node has ended. Whatever needs it is skipped if it failed.
    pub fn end(&mut self, node: NodeId, ok: bool) {
        self.held -= self.graph.nodes[node].memory;
        self.jobs -= usize::from(self.graph.nodes[node].is_job);
        self.states[node] = if ok { State::Done } else { State::Failed };
        if !ok {
            self.skip_dependents();
        }
    }

    /// Gives up on everything that has not started.
    pub fn give_up(&mut self) {
        for state in &mut self.states {
            if *state == State::Waiting {
                *state = State::Skipped;
            }
        }
    }

    /// Why a waiting node does not run: what it needs, else what is scarce.
    pub fn waits_for(&self, node: NodeId) -> String {
        let open: Vec<&str> = self.graph.nodes[node]
            .needs
            .iter()
            .filter(|need| self.states[**need] != State::Done)
            .map(|need| self.graph.nodes[*need].name.as_str())
            .collect();
        if !open.is_empty() {
            open.join(", ")
        } else if self.graph.nodes[node].memory > self.limits.memory.saturating_sub(self.held) {
            "memory".to_owned()
        } else {
            "a free job slot".to_owned()
        }
    }

    fn is_ready(&self, node: NodeId) -> bool {
        self.states[node] == State::Waiting
            && self.graph.nodes[node].needs.iter().all(|need| self.states[*need] == State::Done)
    }

    fn fits(&self, node: NodeId) -> bool {
        let node = &self.graph.nodes[node];
        let memory = node.memory == 0
            || self.held == 0
            || self.held.saturating_add(node.memory) <= self.limits.memory;
        memory && (!node.is_job || self.jobs < self.limits.jobs.max(1))
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
