use proptest::prelude::*;

use super::*;
use crate::schedule::graph::Node;

fn graph() -> impl Strategy<Value = Graph> {
    let node = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        0u64..12,
        any::<bool>(),
        1u32..20,
    );
    prop::collection::vec(node, 1..25).prop_map(|nodes| {
        let mut graph = Graph::default();
        for (at, (needs, memory, is_job, seconds)) in nodes.into_iter().enumerate() {
            let needs =
                if at == 0 { Vec::new() } else { needs.iter().map(|n| n.index(at)).collect() };
            let name = format!("n{at}");
            graph.add(Node { name, needs, memory, is_job, seconds: f64::from(seconds) });
        }
        graph
    })
}

/// Runs a graph in simulated time; checks every rule at every moment; returns the makespan.
fn simulate(graph: &Graph, limits: Limits, fails: impl Fn(NodeId) -> bool) -> f64 {
    let mut order = Order::new(graph, limits);
    let mut running: Vec<(f64, NodeId)> = Vec::new();
    let mut now = 0.0;
    while !order.is_over() {
        while let Some(node) = order.start() {
            running.push((now + graph.nodes[node].seconds, node));
            check(graph, limits, &order, &running, node);
        }
        let next = running.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0));
        let (at, _) = next.expect("stuck: nothing runs and not everything is over");
        let (end, node) = running.swap_remove(at);
        now = end;
        order.end(node, !fails(node));
    }
    assert_eq!(order.held(), 0);
    now
}

fn check(graph: &Graph, limits: Limits, order: &Order, running: &[(f64, NodeId)], started: NodeId) {
    let weigh = |(_, node): &(f64, NodeId)| graph.nodes[*node].memory;
    let held: u64 = running.iter().map(weigh).sum();
    let heavy = running.iter().filter(|one| weigh(one) > 0).count();
    assert!(held <= limits.memory || heavy == 1, "{held} over {}", limits.memory);
    let jobs = running.iter().filter(|(_, node)| graph.nodes[*node].is_job).count();
    assert!(jobs <= limits.jobs);
    for need in &graph.nodes[started].needs {
        assert_eq!(order.state(*need), State::Done);
    }
}

/// No schedule is shorter than the longest path, nor than all byte-seconds through the budget.
fn lower_bound(graph: &Graph, limits: Limits) -> f64 {
    let path = graph.remaining().into_iter().fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "small numbers of a test")]
    let area: f64 = graph
        .nodes
        .iter()
        .map(|node| node.seconds * node.memory.min(limits.memory) as f64 / limits.memory as f64)
        .sum();
    path.max(area)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn never_over_budget_never_stuck(graph in graph(), memory in 1u64..20, jobs in 1usize..5, failing in 0usize..40) {
        let makespan = simulate(&graph, Limits { memory, jobs }, |node| node == failing);
        if failing >= graph.nodes.len() {
            let least = lower_bound(&graph, Limits { memory, jobs });
            prop_assert!(makespan + 1e-9 >= least);
        }
    }
}

#[test]
fn the_longest_remaining_path_goes_first() {
    let mut graph = Graph::default();
    let node = |name: &str, needs: Vec<NodeId>, seconds| Node {
        name: name.into(),
        needs,
        memory: 1,
        is_job: true,
        seconds,
    };
    graph.add(node("short", vec![], 5.0));
    let first = graph.add(node("first", vec![], 4.0));
    graph.add(node("then", vec![first], 9.0));
    assert_eq!(Order::new(&graph, Limits { memory: 1, jobs: 1 }).start(), Some(first));
    assert_eq!(graph.critical_path(), [1, 2]);
}

#[test]
fn what_needs_a_failed_node_is_skipped_and_the_rest_runs() {
    let mut graph = Graph::default();
    let bad = graph.add(Node { name: "bad".into(), ..Node::default() });
    let after = graph.add(Node { name: "after".into(), needs: vec![bad], ..Node::default() });
    let last = graph.add(Node { name: "last".into(), needs: vec![after], ..Node::default() });
    let other = graph.add(Node { name: "other".into(), ..Node::default() });
    let mut order = Order::new(&graph, Limits { memory: 1, jobs: 1 });
    while order.start().is_some() {}
    order.end(bad, false);
    assert_eq!(order.state(after), State::Skipped);
    assert_eq!(order.state(last), State::Skipped);
    assert_eq!(order.state(other), State::Running);
}

#[test]
fn a_heavy_node_is_not_passed_for_ever() {
    let mut graph = Graph::default();
    let light = Node { name: "light".into(), memory: 1, seconds: 9.0, ..Node::default() };
    let first = graph.add(light.clone());
    let heavy = graph.add(Node { memory: 10, seconds: 50.0, needs: vec![first], ..light.clone() });
    for _ in 0..100 {
        graph.add(light.clone());
    }
    let mut order = Order::new(&graph, Limits { memory: 10, jobs: 1 });
    let mut running = Vec::new();
    let mut before = 0;
    while order.state(heavy) == State::Waiting {
        while let Some(node) = order.start() {
            running.push(node);
            before += 1;
        }
        order.end(running.remove(0), true);
    }
    assert!(before <= 10 + PATIENCE + 1, "{before} light nodes went first");
}
