//! Makespans under a limit, on the machine's own engine: three images whose RUN takes 700 MB each,
//! in a control group of 1.5 GiB; one at a time, all at once as a plain `&` does it, ours, and what
//! no schedule can beat.
//!
//! `cargo bench --bench memory`. Needs root, podman and `docker.io/library/debian:bookworm-slim`.
//! Kills are those of the kernel's own counter (`oom_kill` of `/proc/vmstat`), so nothing else on
//! the machine should be short of memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on has failed"
)]
#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use serde_json::Value;
use support::hungry::{Hungry, take};
use support::machine::MIB;
use xtask::process::Child;
use xtask::schedule::{Graph, Limits, Node, lower_bound};

/// What each is configured to need.
const NEED: u64 = 700;
const LIMIT: u64 = 1536 * MIB;

/// How a way of building three images went.
struct Went {
    built: usize,
    /// Kernel kills meanwhile.
    kills: u64,
    seconds: f64,
}

fn main() {
    // 667 MiB are 700 MB. A RUN that works for as long as a small service compiles.
    let run = take(667, 10);
    let images = [("a", NEED, &*run), ("b", NEED, &*run), ("c", NEED, &*run)];
    let bench = Hungry::new(LIMIT, &images);
    let mut builds = Vec::new();
    let one_by_one = went(|| by_us(&bench, "one by one", &["--jobs", "1"], &mut builds));
    let at_once = went(|| all_at_once(&bench));
    let mut budget = String::new();
    let ours = went(|| by_us_within(&bench, &mut budget));
    println!("three images of 700 MB each within 1.5 GiB; {budget}");
    println!("{:<12} {:>8} {:>8} {:>10}", "", "built", "killed", "makespan");
    for (name, went) in [("one by one", &one_by_one), ("all at once", &at_once), ("ours", &ours)] {
        let Went { built, kills, seconds } = went;
        println!("{name:<12} {built:>3} of 3 {kills:>8} {seconds:>8.1} s");
    }
    println!("{:<12} {:>8} {:>8} {:>8.1} s", "bound", "", "", bound(&builds));
    assert!(at_once.built < 3 && at_once.kills > 0, "the limit does not bite: nothing is shown");
    assert!(ours.built == 3 && ours.kills == 0, "killed under our budget");
}

fn went(work: impl FnOnce() -> usize) -> Went {
    let (kills, started) = (oom_kills(), Instant::now());
    let built = work();
    Went { built, kills: oom_kills() - kills, seconds: started.elapsed().as_secs_f64() }
}

/// `xtask images`; gives back how many were built, and adds how long each took.
fn by_us(bench: &Hungry, turn: &str, args: &[&str], builds: &mut Vec<f64>) -> usize {
    bench.turn(turn);
    events(bench, args, |event| {
        if event["event"] == "build-finished" {
            builds.push(event["seconds"].as_f64().unwrap());
        }
    })
}

fn by_us_within(bench: &Hungry, budget: &mut String) -> usize {
    bench.turn("ours");
    events(bench, &[], |event| {
        if event["event"] == "plan" {
            event["budget"].as_str().unwrap().clone_into(budget);
        }
    })
}

fn events(bench: &Hungry, args: &[&str], mut look: impl FnMut(&Value)) -> usize {
    let mut built = 0;
    let tool = bench.xtask(&["images", "--format", "json"]).args(args.iter().copied());
    tool.stream(|_, line| {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        look(&event);
        built = event["built"].as_u64().map_or(built, |built| usize::try_from(built).unwrap());
    })
    .ok();
    built
}

/// The engine's own builds, all started at the same moment.
fn all_at_once(bench: &Hungry) -> usize {
    let started = bench.images.iter().map(|name| bench.plain_build(name).start().unwrap());
    let mut started: Vec<Child> = started.collect();
    started.iter_mut().flat_map(|child| child.wait(|_, _| {})).count()
}

/// What no schedule can beat, if builds take as long as they did one by one.
fn bound(builds: &[f64]) -> f64 {
    let mut graph = Graph::default();
    for seconds in builds {
        let memory = NEED * MIB;
        graph.add(Node { memory, is_job: true, seconds: *seconds, ..Node::default() });
    }
    lower_bound(&graph, Limits { memory: LIMIT, jobs: usize::MAX })
}

fn oom_kills() -> u64 {
    let stat = fs_err::read_to_string("/proc/vmstat").unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix("oom_kill ")).unwrap();
    line.trim().parse().unwrap()
}
