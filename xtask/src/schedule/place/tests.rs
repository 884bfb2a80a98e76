use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::schedule::order::{Scheduler, State};
use crate::schedule::{Graph, Node, NodeId, simulate_over};

/// A builder is lost when so many nodes have been begun.
#[derive(Clone, Debug)]
struct Loss {
    at: PlaceId,
    begun: usize,
}

fn place(memory: u64, jobs: usize) -> Place {
    Place::new(Limits { memory, jobs }, memory + 2)
}

fn build(memory: u64, seconds: f64, bases: Vec<usize>) -> Node {
    let roams = Some(Placement { bases, barred: Vec::new() });
    Node { memory, seconds, roams, is_job: true, ..Node::default() }
}

fn graph() -> impl Strategy<Value = Graph> {
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..2);
    let node = (needs, 0u64..12, 1u32..20, 0usize..6, prop::option::of(0usize..4));
    prop::collection::vec(node, 1..30).prop_map(|nodes| {
        let mut graph = Graph::default();
        for (at, (needs, memory, seconds, kind, barred)) in nodes.into_iter().enumerate() {
            let mut node = build(memory, f64::from(seconds), vec![kind]);
            node.roams.as_mut().unwrap().barred.extend(barred);
            match kind {
                0 => node = Node { memory: 0, roams: None, is_job: false, ..node },
                1 => node.prelude = Some(1),
                2 if at > 0 => node.needs = needs.iter().map(|need| need.index(at)).collect(),
                _ => {}
            }
            graph.add(node);
        }
        graph
    })
}

/// Plays an order through, holds it to the rules at every moment, and gives back how the nodes
/// ended.
fn play(graph: &Graph, places: &[Place], losses: &[Loss], killed: u32) -> Vec<State> {
    let mut order = Scheduler::new(graph, places);
    let refused = vec![false; places.len()];
    let mut running: Vec<(f64, NodeId, PlaceId)> = Vec::new();
    let (mut now, mut begun) = (0.0, 0);
    // Lost, and whether the order has been told.
    let mut lost = vec![(false, false); places.len()];
    loop {
        while let Some((node, at)) = order.next(now, &refused) {
            assert!(!lost[at].1, "started at a place that is lost");
            order.begin(node, at, now);
            begun += 1;
            running.push((now + graph.nodes[node].seconds, node, at));
            check(graph, places, &order, &running, node);
        }
        for loss in losses.iter().filter(|loss| begun >= loss.begun && loss.at != HOME) {
            lost[loss.at].0 = true;
        }
        let first = running.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0));
        let Some((first, _)) = first else { break };
        let (end, node, at) = running.swap_remove(first);
        now = end;
        match () {
            () if lost[at].0 => {
                lost[at].1 = true;
                order.lose(node);
            }
            () if order.is_prelude(node) => order.go_on(node),
            () if killed >> (node % 32) & 1 == 1 && !order.is_again(node) => {
                order.again(node, graph.nodes[node].memory * 2);
            }
            () => order.end(node, true, now),
        }
    }
    assert!(order.is_over(), "stuck: nothing runs and not everything is over");
    assert!((0..places.len()).all(|at| order.held(at) == 0 && order.jobs(at) == 0));
    (0..graph.nodes.len()).map(|node| order.state(node)).collect()
}

fn check(
    graph: &Graph,
    places: &[Place],
    order: &Scheduler,
    running: &[(f64, NodeId, PlaceId)],
    started: NodeId,
) {
    for (at, Place { limits, capacity, .. }) in places.iter().enumerate() {
        let here = || running.iter().filter(|(_, _, place)| *place == at).map(|(_, node, _)| *node);
        let heavy = here().filter(|node| order.weight(*node) > 0).count();
        let held: u64 = here().map(|node| order.weight(node)).sum();
        assert!(held <= limits.memory || (heavy == 1 && held <= *capacity), "{held} at {at}");
        let lone = |node: NodeId| order.is_again(node) && order.weight(node) > 0;
        assert!(heavy <= 1 || !here().any(lone), "not alone");
        let is_job = |node: &NodeId| graph.nodes[*node].is_job && !order.is_prelude(*node);
        assert!(here().filter(is_job).count() <= limits.jobs);
        let may = |node: NodeId| match &graph.nodes[node].roams {
            Some(roams) if !order.is_prelude(node) => !roams.barred.contains(&at),
            _ => at == HOME,
        };
        assert!(here().all(may), "where it must not be");
    }
    let needs = &graph.nodes[started].needs;
    assert!(needs.iter().all(|need| order.state(*need) == State::Done));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn never_over_any_budget_never_stuck_whoever_is_lost(
        graph in graph(),
        sizes in prop::collection::vec((1u64..14, 1usize..4), 2..5),
        losses in prop::collection::vec((0usize..5, 0usize..20), 0..4),
        killed in any::<u32>(),
    ) {
        let places: Vec<Place> = sizes.into_iter().map(|(memory, jobs)| place(memory, jobs)).collect();
        let losses = losses.into_iter().map(|(at, begun)| Loss { at: at % places.len(), begun });
        let losses: Vec<Loss> = losses.collect();
        let states = play(&graph, &places, &losses, killed);
        for (node, state) in states.iter().enumerate() {
            let Node { roams, memory, needs, .. } = &graph.nodes[node];
            let fits_at_home = roams.as_ref().is_none_or(|roams| {
                !roams.barred.contains(&HOME) && *memory <= places[HOME].capacity
            });
            // Home is never lost, so there it is done.
            if fits_at_home && needs.is_empty() && killed >> (node % 32) & 1 == 0 {
                prop_assert_eq!(*state, State::Done);
            }
        }
    }
}

#[test]
fn what_fits_nowhere_is_refused_and_what_needs_it_skipped() {
    let mut graph = Graph::default();
    let large = graph.add(build(99, 1.0, vec![]));
    let after = graph.add(Node { needs: vec![large], ..Node::default() });
    let small = graph.add(build(1, 1.0, vec![]));
    let states = play(&graph, &[place(4, 2), place(8, 2)], &[], 0);
    assert_eq!((states[large], states[after]), (State::Stranded, State::Skipped));
    assert_eq!(states[small], State::Done);
}

#[test]
fn the_work_of_a_lost_builder_is_done_by_the_others_and_what_only_fitted_there_is_not() {
    let mut graph = Graph::default();
    for memory in [8, 3, 3, 3] {
        graph.add(build(memory, 10.0, vec![]));
    }
    let places = [place(4, 1), place(8, 2), place(4, 1)];
    let states = play(&graph, &places, &[Loss { at: 1, begun: 1 }], 0);
    assert_eq!(states, [State::Stranded, State::Done, State::Done, State::Done]);
}

#[test]
fn neighbours_by_base_gather_where_it_is_until_another_place_is_sooner_done() {
    let places = [place(0, 1), place(9, 2), place(9, 2)];
    let mut graph = Graph::default();
    for base in [1, 2, 1, 2, 1] {
        let mut node = build(1, 20.0, vec![base]);
        node.roams.as_mut().unwrap().barred.push(HOME);
        graph.add(node);
    }
    let last_goes_to = |free_at: f64| {
        let mut order = Scheduler::new(&graph, &places);
        let mut at = Vec::new();
        while let Some((node, place)) = order.next(0.0, &[false; 3]) {
            order.begin(node, place, 0.0);
            at.push((node, place));
        }
        assert_eq!(at, [(0, 1), (1, 2), (2, 1), (3, 2)]);
        order.end(3, true, free_at);
        order.next(free_at, &[false; 3])
    };
    assert_eq!(last_goes_to(10.0), Some((4, 2)), "bringing the base is sooner done");
    assert_eq!(last_goes_to(19.0), None, "waiting for where it is, is");
}

#[test]
fn a_slow_builder_is_left_out_where_a_fast_one_is_free_sooner() {
    let mut graph = Graph::default();
    for _ in 0..6 {
        graph.add(build(1, 30.0, vec![]));
    }
    let pace = [1.0, 40.0];
    let places = [place(1, 1), place(1, 1)];
    let timeline = simulate_over(&graph, &places, |node, at| graph.nodes[node].seconds * pace[at]);
    let late = timeline.ends.iter().filter(|end| **end > 200.0).count();
    assert_eq!(late, 1, "only what taught us so: {:?}", timeline.ends);
}

/// Plays 1,000 images on 12 bases over 50 builders of 4 to 64 GiB and 2 to 16 jobs, half to twice
/// as fast as the average; gives back the makespan by the lower bound.
fn ratios(known: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let image = (0usize..12, 300u64..3600, 20u32..240);
    let images = prop::collection::vec(image, 1000);
    let builder = (0u64..5, 0usize..4, 5u32..20);
    let fleet = prop::collection::vec(builder, 50);
    let mut draw = |_| {
        let tree = (images.clone(), fleet.clone());
        tree.new_tree(&mut runner).unwrap().current()
    };
    let ratio = |(images, fleet): (Vec<_>, Vec<(u64, usize, u32)>)| {
        let mut graph = Graph::default();
        for (base, memory, seconds) in images {
            graph.add(build(memory, f64::from(seconds), vec![base]));
        }
        let speeds: Vec<f64> = fleet.iter().map(|one| f64::from(one.2) / 10.0).collect();
        let places = fleet.iter().zip(&speeds).map(|((memory, jobs, _), speed)| Place {
            pace: known(*speed),
            ..place(4096u64 << *memory, 2usize << *jobs)
        });
        let places: Vec<Place> = places.collect();
        let seconds = |node: NodeId, at: PlaceId| graph.nodes[node].seconds / speeds[at];
        let timeline = simulate_over(&graph, &places, seconds);
        timeline.makespan() / lower_bound_over(&graph, &places, &speeds)
    };
    (0..1).map(&mut draw).map(ratio).collect()
}

#[test]
fn a_thousand_images_on_fifty_builders_take_at_most_1_5_times_the_least() {
    for (what, most, ratios) in [
        ("as known", 1.3, ratios(|speed| 1.0 / speed)),
        ("known roughly", 1.3, ratios(|speed| (1.0 / speed).clamp(0.8, 1.25))),
        // The longest builds are begun first, some of them at a place that turns out slow.
        ("unknown", 1.5, ratios(|_| 1.0)),
    ] {
        println!("paces {what}: {ratios:.3?} times the lower bound");
        assert!(ratios.iter().all(|ratio| (0.999..=most).contains(ratio)), "{what}: {ratios:?}");
    }
}

#[test]
fn a_pace_is_believed_beside_the_others_and_a_slow_day_is_nobodys() {
    let mut rooms = [1.0, 1.0, 2.0].map(|pace| Room::new(Place { pace, ..place(9, 9) }));
    for (at, took) in [(1, 1200.0), (2, 2400.0)] {
        rooms[at].learn(at, 600.0 - BRING_HOME, took);
    }
    let today = believe(&mut rooms);
    assert!((1.9..2.0).contains(&today), "{today}");
    for (room, pace) in rooms.iter().zip([1.0, 1.0, 2.0]) {
        assert!((room.pace / today - pace).abs() < 0.05, "{} is not {pace}", room.pace / today);
    }
}
