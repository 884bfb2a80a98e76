use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::schedule::graph::Node;
use crate::schedule::simulate::lower_bound;

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
            let seconds = f64::from(seconds);
            graph.add(Node { name, needs, memory, is_job, seconds, ..Node::default() });
        }
        graph
    })
}

/// At one place.
fn home(graph: &Graph, memory: u64, jobs: usize) -> Scheduler<'_> {
    Scheduler::new(graph, &[Place::new(Limits { memory, jobs }, memory)])
}

impl Scheduler<'_> {
    fn start(&mut self) -> Option<NodeId> {
        let (node, place) = self.next(0.0, &[false])?;
        self.begin(node, place, 0.0);
        Some(node)
    }
}

/// How a node ends in a simulation.
enum End {
    Well,
    Badly,
    /// Killed, with the bytes it needs the next time.
    Killed(u64),
}

/// Runs a graph in simulated time; checks every rule at every moment; returns the makespan.
fn simulate(mut order: Scheduler, ends: impl Fn(NodeId) -> End) -> f64 {
    let (graph, limits) = (order.graph, order.rooms[HOME].place.limits);
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
        match ends(node) {
            End::Killed(memory) if !order.is_again(node) => order.again(node, memory),
            End::Badly => order.end(node, false, 0.0),
            _ => order.end(node, true, 0.0),
        }
    }
    assert_eq!(order.held(HOME), 0);
    now
}

fn check(
    graph: &Graph,
    limits: Limits,
    order: &Scheduler,
    running: &[(f64, NodeId)],
    started: NodeId,
) {
    let weigh = |(_, node): &(f64, NodeId)| order.weight(*node);
    let held: u64 = running.iter().map(weigh).sum();
    let heavy = running.iter().filter(|one| weigh(one) > 0).count();
    assert_eq!(held, order.held(HOME));
    assert!(held <= limits.memory || heavy == 1, "{held} over {}", limits.memory);
    let lone = |(_, node): &(f64, NodeId)| order.is_again(*node) && order.weight(*node) > 0;
    assert!(heavy == 1 || !running.iter().any(lone), "not alone");
    let jobs = running.iter().filter(|(_, node)| graph.nodes[*node].is_job).count();
    assert!(jobs <= limits.jobs);
    for need in &graph.nodes[started].needs {
        assert_eq!(order.state(*need), State::Done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn never_over_budget_never_stuck(
        graph in graph(), memory in 1u64..20, jobs in 1usize..5, failing in 0usize..40, killed in any::<u32>(),
    ) {
        let ends = |node: NodeId| match node {
            _ if node == failing => End::Badly,
            _ if killed >> node & 1 == 1 => End::Killed(graph.nodes[node].memory * 2),
            _ => End::Well,
        };
        let limits = Limits { memory, jobs };
        let makespan = simulate(Scheduler::new(&graph, &[Place::whole(limits)]), ends);
        if failing >= graph.nodes.len() {
            let least = lower_bound(&graph, limits);
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
        ..Node::default()
    };
    graph.add(node("short", vec![], 5.0));
    let first = graph.add(node("first", vec![], 4.0));
    graph.add(node("then", vec![first], 9.0));
    assert_eq!(home(&graph, 1, 1).start(), Some(first));
    assert_eq!(graph.critical_path(), [1, 2]);
}

#[test]
fn what_needs_a_failed_node_is_skipped_and_the_rest_runs() {
    let mut graph = Graph::default();
    let bad = graph.add(Node { name: "bad".into(), ..Node::default() });
    let after = graph.add(Node { name: "after".into(), needs: vec![bad], ..Node::default() });
    let last = graph.add(Node { name: "last".into(), needs: vec![after], ..Node::default() });
    let other = graph.add(Node { name: "other".into(), ..Node::default() });
    let mut order = home(&graph, 1, 1);
    while order.start().is_some() {}
    order.end(bad, false, 0.0);
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
    let mut order = home(&graph, 10, 1);
    let mut running = Vec::new();
    let mut before = 0;
    while order.state(heavy) == State::Waiting {
        while let Some(node) = order.start() {
            running.push(node);
            before += 1;
        }
        order.end(running.remove(0), true, 0.0);
    }
    // Of a hundred: one before it was ready, eight ahead of it, and ten beside each other as those
    // end.
    assert!(before <= 1 + 8 + 10, "{before} light nodes went first");
}

#[test]
fn a_node_that_is_run_again_waits_until_nothing_holds_memory_and_keeps_others_out() {
    let mut graph = Graph::default();
    for (name, seconds) in [("killed", 9.0), ("beside", 5.0), ("later", 1.0)] {
        graph.add(Node { name: name.into(), memory: 4, seconds, ..Node::default() });
    }
    let mut order = home(&graph, 10, 9);
    assert_eq!([order.start(), order.start(), order.start()], [Some(0), Some(1), None]);
    order.again(0, 6);
    assert_eq!(order.start(), Some(2), "it does not fit beside others, the last one does");
    order.end(1, true, 0.0);
    assert_eq!((order.start(), order.scarce(0)), (None, Some(Scarce::Memory)));
    order.end(2, true, 0.0);
    assert_eq!((order.start(), order.held(HOME)), (Some(0), 6));
}

/// The shortest makespan there is: every order of nodes, each put as early as needs, bytes and
/// slots allow. One of these schedules is among the best (they are the active ones).
fn best(graph: &Graph, limits: Limits) -> f64 {
    let mut best = f64::INFINITY;
    place(graph, limits, &mut vec![None; graph.nodes.len()], &mut best);
    best
}

fn place(graph: &Graph, limits: Limits, starts: &mut Vec<Option<f64>>, best: &mut f64) {
    let ends = |starts: &[Option<f64>], id: NodeId| Some(starts[id]? + graph.nodes[id].seconds);
    if starts.iter().all(Option::is_some) {
        let makespan = (0..starts.len()).filter_map(|id| ends(starts, id)).fold(0.0, f64::max);
        *best = best.min(makespan);
        return;
    }
    for id in 0..starts.len() {
        let needs = &graph.nodes[id].needs;
        if starts[id].is_some() || needs.iter().any(|need| starts[*need].is_none()) {
            continue;
        }
        let earliest = needs.iter().filter_map(|need| ends(starts, *need)).fold(0.0, f64::max);
        let mut moments: Vec<f64> = (0..starts.len()).filter_map(|id| ends(starts, id)).collect();
        moments.retain(|moment| *moment > earliest);
        moments.push(earliest);
        moments.sort_by(f64::total_cmp);
        starts[id] = moments.into_iter().find(|at| is_free(graph, limits, starts, id, *at));
        place(graph, limits, starts, best);
        starts[id] = None;
    }
}

/// Whether `id` may run from `from` on beside what has been placed.
fn is_free(graph: &Graph, limits: Limits, starts: &[Option<f64>], id: NodeId, from: f64) -> bool {
    let to = from + graph.nodes[id].seconds;
    // Use only grows where something starts.
    let moments = starts.iter().flatten().copied().filter(|at| from < *at && *at < to);
    moments.chain([from]).all(|at| {
        let mut memory = graph.nodes[id].memory.min(limits.memory);
        let mut jobs = usize::from(graph.nodes[id].is_job);
        for (other, start) in starts.iter().enumerate() {
            let Some(start) = start else { continue };
            let node = &graph.nodes[other];
            if *start <= at && at < start + node.seconds {
                memory += node.memory.min(limits.memory);
                jobs += usize::from(node.is_job);
            }
        }
        memory <= limits.memory && jobs <= limits.jobs.max(1)
    })
}

#[test]
fn the_makespan_is_near_the_best_there_is() {
    const CASES: u32 = 1_000;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sum = 0.0;
    for at in 0..CASES {
        let mut graph = graph().new_tree(&mut runner).unwrap().current();
        graph.nodes.truncate(6);
        let limits = Limits { memory: 4 + u64::from(at) % 11, jobs: 1 + at as usize % 3 };
        let ours = simulate(home(&graph, limits.memory, limits.jobs), |_| End::Well);
        let ratio = ours / best(&graph, limits);
        assert!(ratio <= 2.0, "{ratio} {limits:?} {graph:?}");
        sum += ratio;
    }
    let mean = sum / f64::from(CASES);
    assert!(mean < 1.03, "{mean}");
}
