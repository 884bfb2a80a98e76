//! Who goes first among those that may start: the longest remaining path, unless another rank is
//! seen to end sooner.
//!
//! The longest path first is near the best on most graphs (1 % off on average over random ones),
//! but not on all: up to 1.8 times as long was seen, where a short heavy node on the way to a long
//! light one has to wait. So the order is played through, and nodes change places as long as that
//! shortens it. Where a tenth or more is gained, a node, or all that can be, is held back until
//! another has begun, though it could start: the one thing no ranking can do. (Where only builds
//! weigh anything, and they need nothing, that never pays.)
//!
//! The playing is bounded, and stops at once where nothing shorter can exist.

use super::graph::{Graph, Node, NodeId};
use super::order::{Limits, Scheduler};
use super::simulate::play;

/// Most orders that are played through of each kind.
const TRIES: usize = 200;
/// Playing takes the square of the number of nodes: some 10 ms in all, unoptimised, however large
/// the run.
const STEPS: usize = 40_000;
/// What holding a node back must come to, since it is lost if other times turn out than expected.
const GAIN: f64 = 0.9;

/// Who goes first.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// Of those that may start, the one with the largest goes first.
    pub(super) ranks: Vec<f64>,
    /// Does not start before that one has.
    pub(super) held_back: Vec<Option<NodeId>>,
}

impl Ranking {
    pub(super) fn longest_path_first(graph: &Graph) -> Self {
        Self { ranks: graph.remaining(), held_back: vec![None; graph.nodes.len()] }
    }

    pub(super) fn of(graph: &Graph, limits: Limits) -> Self {
        let mut search = Search {
            graph,
            limits,
            least: lower_bound(graph, limits),
            shortest: f64::INFINITY,
            best: Self::longest_path_first(graph),
        };
        search.shortest = makespan(graph, limits, &search.best);
        search.climb(1.0, |ranking, one, other| ranking.ranks.swap(one, other));
        let weighs_later = |node: &Node| node.memory > 0 && !node.needs.is_empty();
        if !graph.nodes.iter().any(weighs_later) {
            return search.best;
        }
        search.climb(GAIN, |ranking, one, other| ranking.held_back[one] = Some(other));
        let before: Vec<Vec<NodeId>> = (0..graph.nodes.len()).map(|id| above(graph, id)).collect();
        search.climb(GAIN, |ranking, first, _| {
            for (id, held_back) in ranking.held_back.iter_mut().enumerate() {
                if id != first && !before[first].contains(&id) {
                    *held_back = Some(first);
                }
            }
        });
        search.best
    }
}

/// All that `node` needs, directly or not.
fn above(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let mut found = graph.nodes[node].needs.clone();
    let mut next = 0;
    while let Some(need) = found.get(next) {
        let further = graph.nodes[*need].needs.iter().copied();
        let new: Vec<NodeId> = further.filter(|id| !found.contains(id)).collect();
        found.extend(new);
        next += 1;
    }
    found
}

struct Search<'a> {
    graph: &'a Graph,
    limits: Limits,
    /// No schedule is shorter.
    least: f64,
    shortest: f64,
    best: Ranking,
}

impl Search<'_> {
    /// Makes `change` to one pair after the other as long as that shortens the whole by the factor
    /// `gain`.
    fn climb(&mut self, gain: f64, change: impl Fn(&mut Ranking, NodeId, NodeId)) {
        let most = TRIES.min(STEPS / self.graph.nodes.len().pow(2).max(1));
        let mut tries = 0;
        let mut better = true;
        while std::mem::take(&mut better) {
            for (one, other) in pairs(self.graph) {
                if tries == most || self.shortest <= self.least {
                    return;
                }
                tries += 1;
                let mut changed = self.best.clone();
                change(&mut changed, one, other);
                let length = makespan(self.graph, self.limits, &changed);
                if length < self.shortest * gain {
                    self.shortest = length;
                    self.best = changed;
                    better = true;
                }
            }
        }
    }
}

/// Two different nodes each that may have to wait for room: all others start as soon as they can.
fn pairs(graph: &Graph) -> Vec<(NodeId, NodeId)> {
    let waits = |id: &NodeId| graph.nodes[*id].memory > 0 || graph.nodes[*id].is_job;
    let nodes: Vec<NodeId> = (0..graph.nodes.len()).filter(waits).collect();
    let with_all = |one: NodeId| nodes.iter().map(move |other| (one, *other));
    nodes.iter().flat_map(|one| with_all(*one)).filter(|(one, other)| one != other).collect()
}

/// Seconds the whole graph takes if every node takes what it is expected to; infinite if nodes are
/// held back in a circle.
fn makespan(graph: &Graph, limits: Limits, ranking: &Ranking) -> f64 {
    let (timeline, is_over) = play(graph, Scheduler::ranked(graph, limits, ranking.clone()));
    if is_over { timeline.makespan() } else { f64::INFINITY }
}

/// No schedule is shorter than the longest path, nor than all byte-seconds through the budget.
pub fn lower_bound(graph: &Graph, limits: Limits) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let part = |memory: u64| memory.min(limits.memory) as f64 / limits.memory.max(1) as f64;
    let area = graph.nodes.iter().map(|node| node.seconds * part(node.memory)).sum();
    graph.remaining().into_iter().fold(area, f64::max)
}
