//! The running order played through on paper: every node takes what it is expected to.

use super::graph::{Graph, Node, NodeId};
use super::order::{Limits, Scheduler};
use super::place::{HOME, Place, PlaceId};

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
    simulate_over(graph, &[Place::whole(limits)], |node, _| graph.nodes[node].seconds)
}

/// The run over several places, the first of which is home. `seconds` is what a node really takes
/// at one.
pub fn simulate_over(
    graph: &Graph,
    places: &[Place],
    seconds: impl Fn(NodeId, PlaceId) -> f64,
) -> Timeline {
    // Nobody knows beforehand that a prelude makes the rest needless.
    let whole = |node: &Node| Node { prelude: None, ..node.clone() };
    let graph = Graph { nodes: graph.nodes.iter().map(whole).collect() };
    let mut order = Scheduler::new(&graph, places);
    let zeros = vec![0.0; graph.nodes.len()];
    let refused = vec![false; places.len()];
    let places = vec![HOME; graph.nodes.len()];
    let mut timeline = Timeline { starts: zeros.clone(), ends: zeros, places };
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
        let Some(at) = first else { return timeline };
        let node = running.swap_remove(at);
        now = timeline.ends[node];
        order.end(node, true, now);
    }
}

/// No schedule is shorter than the longest path, nor than all byte-seconds through the budget.
pub fn lower_bound(graph: &Graph, limits: Limits) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let part = |memory: u64| memory.min(limits.memory) as f64 / limits.memory.max(1) as f64;
    let area = graph.nodes.iter().map(|node| node.seconds * part(node.memory)).sum();
    graph.remaining().into_iter().fold(area, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

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
