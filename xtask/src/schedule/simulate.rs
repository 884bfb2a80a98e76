//! The running order played through on paper: every node takes what it is expected to.

use super::graph::{Graph, NodeId};
use super::order::{Limits, Scheduler};
use super::place::{HOME, Place, PlaceId};
use super::rank::Ranking;

/// When and where each node starts and ends, in seconds from the start of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    pub starts: Vec<f64>,
    pub ends: Vec<f64>,
    pub places: Vec<PlaceId>,
}

impl Timeline {
    /// When the last node ends.
    pub fn makespan(&self) -> f64 {
        self.ends.iter().copied().fold(0.0, f64::max)
    }
}

/// The run as it goes if all takes what it is expected to and no other run holds memory.
pub fn simulate(graph: &Graph, limits: Limits) -> Timeline {
    play(graph, Scheduler::ranked(graph, limits, Ranking::of(graph, limits))).0
}

/// The run over several places, the first of which is home. `seconds` is what a node really takes
/// at one.
pub fn simulate_over(
    graph: &Graph,
    places: &[Place],
    seconds: impl Fn(NodeId, PlaceId) -> f64,
) -> Timeline {
    play_with(Scheduler::new(graph, places), graph.nodes.len(), places.len(), seconds).0
}

/// Plays an order at one place to its end; the second is whether every node came to run.
pub(super) fn play(graph: &Graph, order: Scheduler) -> (Timeline, bool) {
    play_with(order, graph.nodes.len(), 1, |node, _| graph.nodes[node].seconds)
}

fn play_with(
    mut order: Scheduler,
    nodes: usize,
    places: usize,
    seconds: impl Fn(NodeId, PlaceId) -> f64,
) -> (Timeline, bool) {
    let zeros = vec![0.0; nodes];
    let refused = vec![false; places];
    let mut timeline = Timeline { starts: zeros.clone(), ends: zeros, places: vec![HOME; nodes] };
    let mut running: Vec<NodeId> = Vec::new();
    let mut now = 0.0;
    loop {
        while let Some((node, place)) = order.next(now, &refused) {
            order.begin(node, place, now);
            timeline.starts[node] = now;
            timeline.places[node] = place;
            timeline.ends[node] = now + seconds(node, place);
            running.push(node);
        }
        let ends = |at: &usize| timeline.ends[running[*at]];
        let first = (0..running.len()).min_by(|a, b| ends(a).total_cmp(&ends(b)));
        let Some(at) = first else { return (timeline, order.is_over()) };
        let node = running.swap_remove(at);
        now = timeline.ends[node];
        order.end(node, true, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Node;

    #[test]
    fn nodes_start_when_needs_and_memory_let_them() {
        let mut graph = Graph::default();
        let node = |name: &str, needs: Vec<NodeId>, memory, seconds| Node {
            name: name.into(),
            needs,
            memory,
            is_job: true,
            seconds,
            ..Node::default()
        };
        let long = graph.add(node("long", vec![], 6, 10.0));
        graph.add(node("short", vec![], 6, 4.0));
        graph.add(node("light", vec![], 0, 3.0));
        graph.add(node("after", vec![long], 0, 1.0));
        let timeline = simulate(&graph, Limits { memory: 10, jobs: 9 });
        assert_eq!(timeline.starts, [0.0, 10.0, 0.0, 10.0]);
        assert_eq!(timeline.ends, [10.0, 14.0, 3.0, 11.0]);
        assert_eq!(timeline.makespan().to_bits(), 14.0_f64.to_bits());
        assert_eq!(
            simulate(&Graph::default(), Limits { memory: 1, jobs: 1 }).makespan().to_bits(),
            0
        );
    }
}
