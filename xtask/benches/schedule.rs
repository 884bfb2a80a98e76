//! Makespans on paper: one build at a time, all at once, ours, and what no schedule can beat.
//!
//! `cargo bench --bench schedule`. Figures are seconds; builds and their memory are those of
//! `facts.md` (services inside `podman build`) and of the calibration repository. "All at once" is
//! what a plain `&` gives: where its memory is above the budget it does not end at all, since
//! builds are killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::time::Instant;

use xtask::schedule::{
    Graph, HOME, Limits, Node, Place, Placement, Scheduler, lower_bound, lower_bound_over,
    simulate, simulate_over,
};

const GIB: f64 = 1024.0;

/// Name, seconds, MiB.
type Build = (&'static str, f64, f64);

const GATEWAY: [Build; 4] = [
    ("gateway", 123.0, 912.0),
    ("datastorage", 94.0, 633.0),
    ("postgresql", 17.0, 60.0),
    ("redis", 4.0, 40.0),
];

const CALIBRATION: [Build; 8] = [
    ("gateway", 114.0, 1500.0),
    ("datastorage", 66.0, 1300.0),
    ("aianalysis", 150.0, 1400.0),
    ("python", 240.0, 3600.0),
    ("notification", 60.0, 1100.0),
    ("workflow", 80.0, 1200.0),
    ("remediation", 70.0, 1200.0),
    ("signal", 55.0, 1000.0),
];

fn main() {
    println!("{:<42} {:>9} {:>12} {:>7} {:>7}", "", "one by one", "all at once", "ours", "bound");
    for (name, builds, budget) in [
        ("gateway, 1.0 GiB", &GATEWAY[..], 1.0),
        ("gateway, 2.0 GiB", &GATEWAY[..], 2.0),
        ("calibration repository, 2.0 GiB (its VM)", &CALIBRATION[..], 2.0),
        ("calibration repository, 4.0 GiB", &CALIBRATION[..], 4.0),
        ("calibration repository, 8.0 GiB", &CALIBRATION[..], 8.0),
        (
            "three of 700 MiB, 1.5 GiB",
            &[("a", 10.0, 700.0), ("b", 10.0, 700.0), ("c", 10.0, 700.0)],
            1.5,
        ),
    ] {
        line(name, &graph(builds), mib(budget * GIB));
    }
    fleet();
}

/// A model run: 1,000 images on 12 bases; 50 builders of 4 to 64 GiB, half to twice as fast as they
/// are thought to be.
fn fleet() {
    let mut graph = Graph::default();
    for at in 0..1000_u32 {
        // Figures that have nothing to do with each other, and are the same each time.
        let spread = |salt: u32, below: u32| at.wrapping_mul(2_654_435_761) / salt % below;
        let memory = mib(f64::from(300 + spread(7, 3300)));
        let roams = Some(Placement { bases: vec![spread(11, 12) as usize], barred: Vec::new() });
        let seconds = f64::from(20 + spread(13, 220));
        graph.add(Node { memory, seconds, roams, is_job: true, ..Node::default() });
    }
    let speeds: Vec<f64> = (0..50).map(|at| 0.5 + 1.5 * f64::from(at * 7 % 16) / 15.0).collect();
    let place = |at: u32, pace: f64| {
        let limits = Limits { memory: mib(GIB * f64::from(4 << (at % 5))), jobs: 2 << (at % 4) };
        Place { pace, ..Place::new(limits, limits.memory) }
    };
    let places: Vec<Place> = (0..50).map(|at| place(at, 1.0)).collect();
    let known: Vec<Place> =
        (0..50).zip(&speeds).map(|(at, speed)| place(at, 1.0 / speed)).collect();
    let started = Instant::now();
    let mut order = Scheduler::new(&graph, &places);
    let mut begun = 0;
    while let Some((node, place)) = order.next(0.0, &[false; 50]) {
        order.begin(node, place, 0.0);
        begun += 1;
    }
    let first = started.elapsed();
    assert!(order.held(HOME) <= places[HOME].limits.memory, "over the budget of home");
    println!("\n1,000 images, 50 builders: the first {begun} placed in {first:.0?}");
    for (what, places) in [("unknown", &places), ("known", &known)] {
        let started = Instant::now();
        let timeline =
            simulate_over(&graph, places, |node, at| graph.nodes[node].seconds / speeds[at]);
        let took = started.elapsed();
        let bound = lower_bound_over(&graph, places, &speeds);
        let makespan = timeline.makespan();
        let ratio = makespan / bound;
        println!(
            "paces {what}: all in {took:.0?}; {makespan:.0} s, at least {bound:.0} s, {ratio:.2} times"
        );
    }
}

fn line(name: &str, graph: &Graph, memory: u64) {
    let wide = Limits { memory: u64::MAX, jobs: usize::MAX };
    let needed: u64 = graph.nodes.iter().map(|node| node.memory).sum();
    let killed = if needed > memory { "killed" } else { "" };
    let limits = Limits { memory, ..wide };
    let makespan = |limits| simulate(graph, limits).makespan();
    let (one, all, ours) = (makespan(Limits { jobs: 1, ..wide }), makespan(wide), makespan(limits));
    let bound = lower_bound(graph, limits);
    println!("{name:<42} {one:>8.0} s {killed:>6} {all:>3.0} s {ours:>5.0} s {bound:>5.0} s");
}

fn graph(builds: &[Build]) -> Graph {
    let mut graph = Graph::default();
    for (name, seconds, memory) in builds {
        let node =
            Node { name: (*name).into(), memory: mib(*memory), is_job: true, ..Node::default() };
        graph.add(Node { seconds: *seconds, ..node });
    }
    graph
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of the tables above"
)]
fn mib(value: f64) -> u64 {
    (value as u64) << 20
}
