//! The real graph and the real order on the figures of the calibration repository (Go, 15 suites;
//! minutes).
//!
//! Given, measured there:
//!
//! | | |
//! | --- | --- |
//! | gateway suite | builds 1.1 (datastorage) and 1.9 (gateway), cluster 2.6, loads 0.1 each, PostgreSQL and Redis 0.5 together, datastorage 0.5, gateway 0.5, tests 0.5: 7.6 in sequence |
//! | a Go build's memory | 1.5 GB at its peak; the Python image's 3–4 |
//! | `AIAnalysis` suite, in all | 11–12 in sequence with warm layers; 7.0 as a graph, 12.4 cold |
//!
//! Inferred, since of `AIAnalysis` only the totals are known:
//!
//! | | minutes | from |
//! | --- | --- | --- |
//! | `aianalysis` build | 1.9 | a Go service like gateway |
//! | each of its two services to be ready | 0.5 | as every service of the gateway suite |
//! | its tests | 2.4 | 7.0 less cluster 2.6, and 0.5 each for PostgreSQL, datastorage, holmesgpt, aianalysis |
//! | holmesgpt build, warm | 1.0 | 11.5 in sequence less all others |
//! | holmesgpt load | 0.3 | 2.85 GB where others have some 100 MB; what is left of those 11.5 |
//! | holmesgpt build, cold | 8.7 | 12.4 less its load, the two services after it, and the tests |
//! | kept and unchanged | 0.02 cluster, 0.02 load, 0.005 a step | 0.56 in all less the tests, spread |
//!
//! So the totals of `AIAnalysis` check the graph and the order, not the figures: a graph with a
//! needless edge, or an order that starts the long build last, is over the bound (and the test
//! below shows it).

use std::time::Duration;

use super::*;
use crate::config::{Action as Does, Restarts, Test};
use crate::schedule::{Limits, simulate};

const GO: f64 = 1.5;
const PYTHON: f64 = 4.0;

/// A step: its name, what it needs, the images it names, minutes.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], f64);

/// An image: its name, GiB and minutes of its build (none: up to date), minutes of its load.
type Built<'a> = (&'a str, f64, Option<f64>, f64);

const GATEWAY_STEPS: [Row; 4] = [
    ("postgresql", &[], &[], 0.5),
    ("redis", &[], &[], 0.5),
    ("datastorage", &["postgresql"], &["datastorage"], 0.5),
    ("gateway", &["datastorage"], &["gateway"], 0.5),
];

const AI_STEPS: [Row; 5] = [
    ("postgresql", &[], &[], 0.5),
    ("redis", &[], &[], 0.5),
    ("datastorage", &["postgresql"], &["datastorage"], 0.5),
    ("holmesgpt-api", &["datastorage"], &["holmesgpt-api"], 0.5),
    ("aianalysis", &["holmesgpt-api"], &["aianalysis"], 0.5),
];

const GATEWAY: [Built; 2] = [("datastorage", GO, Some(1.1), 0.1), ("gateway", GO, Some(1.9), 0.1)];

fn ai(holmesgpt: f64) -> [Built<'static>; 3] {
    [
        ("aianalysis", GO, Some(1.9), 0.1),
        ("datastorage", GO, Some(1.1), 0.1),
        ("holmesgpt-api", PYTHON, Some(holmesgpt), 0.3),
    ]
}

fn gib(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures above")]
    let mib = (value * 1024.0) as u64;
    mib << 20
}

fn suite(rows: &[Row]) -> Suite {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let step = |(name, needs, images, _): &Row| Step {
        name: (*name).to_owned(),
        action: Does::Run(Vec::new()),
        needs: names(needs),
        rollouts: None,
        waits: Vec::new(),
        images: names(images),
        images_in: Vec::new(),
        namespace: None,
        empty: false,
        timeout: Duration::ZERO,
    };
    Suite {
        name: "suite".to_owned(),
        cluster: "cluster".to_owned(),
        images: Vec::new(),
        steps: rows.iter().map(step).collect(),
        test: Some(Test {
            run: Vec::new(),
            shard: None,
            junit: None,
            counted: true,
            inputs: None,
            timeout: Duration::ZERO,
        }),
        restarts: Restarts::Warn,
        timeout: Duration::ZERO,
    }
}

/// Cluster and tests, in minutes.
struct Ends(f64, f64);

/// The graph of a run, each node with its minutes.
fn laid_out(rows: &[Row], images: &[Built], Ends(cluster, tests): Ends) -> RunGraph {
    let nodes: Vec<ImageNode> = images
        .iter()
        .map(|(name, memory, build, _)| ImageNode {
            name: (*name).to_owned(),
            build: build.map(|_| gib(*memory)),
        })
        .collect();
    let rendered = BTreeMap::new();
    let mut run_graph =
        RunGraph::of_suite(&suite(rows), &nodes, &rendered, ImageDelivery::Load, true);
    let image = |name: &str| images.iter().find(|image| image.0 == name).unwrap();
    run_graph.expect(|_, task| {
        let minutes = match task {
            Task::Build(name) => image(name).2.unwrap(),
            Task::Cluster => cluster,
            Task::Load(sent) => sent.iter().map(|name| image(name).3).fold(0.0, f64::max),
            Task::Step(name) => rows.iter().find(|row| row.0 == name).unwrap().3,
            Task::Test => tests,
            Task::Push(_) | Task::Publish(_) => 0.0,
        };
        (String::new(), Some(minutes))
    });
    run_graph
}

fn minutes(run_graph: &RunGraph, memory: f64) -> f64 {
    simulate(&run_graph.graph, Limits { memory: gib(memory), jobs: 4 }).makespan()
}

#[test]
fn the_gateway_suite_is_as_short_as_its_critical_path() {
    let run_graph = laid_out(&GATEWAY_STEPS, &GATEWAY, Ends(2.6, 0.5));
    let both = minutes(&run_graph, 2.0 * GO);
    let one = minutes(&run_graph, GO);
    assert!((4.6 - 1e-9..=4.8).contains(&both), "{both}");
    assert!((both..=5.2).contains(&one), "{one}");
}

#[test]
fn the_ai_analysis_suite_is_as_short_as_its_critical_path() {
    let room = PYTHON + GO;
    let warm = minutes(&laid_out(&AI_STEPS, &ai(1.0), Ends(2.6, 2.4)), room);
    let cold = minutes(&laid_out(&AI_STEPS, &ai(8.7), Ends(2.6, 2.4)), room);
    assert!((7.0 - 1e-9..=7.4).contains(&warm), "{warm}");
    assert!((12.4 - 1e-9..=13.0).contains(&cold), "{cold}");
}

#[test]
fn images_that_no_step_names_are_loaded_before_the_tests() {
    let needs_of_tests = |rows: &[Row]| {
        let run_graph = laid_out(rows, &GATEWAY, Ends(2.6, 0.5));
        run_graph.planned_nodes().pop().unwrap().needs
    };
    assert_eq!(needs_of_tests(&[]), ["load datastorage", "load gateway", "cluster"]);
    assert_eq!(
        needs_of_tests(&GATEWAY_STEPS[..3]),
        ["datastorage", "postgresql", "redis", "load gateway", "cluster"]
    );
}

#[test]
fn with_memory_for_one_build_the_long_one_goes_first() {
    let run_graph = laid_out(&AI_STEPS, &ai(8.7), Ends(2.6, 2.4));
    let one = simulate(&run_graph.graph, Limits { memory: gib(PYTHON), jobs: 4 });
    let start = |name: &str| {
        let at = run_graph.graph.nodes.iter().position(|node| node.name == name);
        one.starts[at.unwrap()]
    };
    // Datastorage's build leads to holmesgpt too, which needs datastorage to be ready.
    assert!(start("build holmesgpt-api") < start("build aianalysis"));
    // 11.7 of builds one after another; then the last one's load and service, and the tests.
    assert!(one.makespan() <= 11.7 + 0.1 + 0.5 + 2.4 + 0.1, "{}", one.makespan());
}

#[test]
fn what_is_kept_and_unchanged_takes_seconds_beside_the_tests() {
    for (rows, images, tests) in
        [(&GATEWAY_STEPS[..], &GATEWAY[..], 0.5), (&AI_STEPS[..], &ai(8.7)[..], 2.4)]
    {
        let rows: Vec<Row> =
            rows.iter().map(|(name, needs, images, _)| (*name, *needs, *images, 0.005)).collect();
        let images: Vec<Built> =
            images.iter().map(|(name, memory, _, _)| (*name, *memory, None, 0.02)).collect();
        let total = minutes(&laid_out(&rows, &images, Ends(0.02, tests)), GO);
        assert!(total - tests <= 0.06 + 0.05, "{total}");
    }
}

/// The same graph, but everything waits for all builds.
fn with_barrier(run_graph: &RunGraph) -> Graph {
    let is_build = |id: &NodeId| matches!(run_graph.tasks[*id].task, Task::Build(_));
    let nodes = 0..run_graph.tasks.len();
    let (builds, others): (Vec<NodeId>, Vec<NodeId>) = nodes.partition(is_build);
    let mut graph = Graph::default();
    let order: Vec<NodeId> = builds.iter().chain(&others).copied().collect();
    for id in &order {
        let place = |need: &NodeId| order.iter().position(|other| other == need).unwrap();
        let needs = run_graph.graph.nodes[*id].needs.iter().map(place);
        let barrier = if is_build(id) { 0..0 } else { 0..builds.len() };
        let needs = needs.chain(barrier).collect();
        graph.add(Node { needs, ..run_graph.graph.nodes[*id].clone() });
    }
    graph
}

#[test]
fn a_barrier_or_the_wrong_order_is_over_the_bounds() {
    let limits = Limits { memory: gib(PYTHON + GO), jobs: 4 };
    let gateway = laid_out(&GATEWAY_STEPS, &GATEWAY, Ends(2.6, 0.5));
    let cold = laid_out(&AI_STEPS, &ai(8.7), Ends(2.6, 2.4));
    for (run_graph, bound) in [(&gateway, 4.8), (&cold, 13.0)] {
        let makespan = simulate(&with_barrier(run_graph), limits).makespan();
        assert!(makespan > bound + 1.0, "{makespan}");
    }
    let mut last = cold.graph.clone();
    let build = |name: &str| last.nodes.iter().position(|node| node.name == name).unwrap();
    let (long, short) = (build("build holmesgpt-api"), build("build aianalysis"));
    last.nodes[long].needs.push(short);
    assert!(simulate(&last, limits).makespan() > 13.0);
}
