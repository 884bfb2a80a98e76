//! Memory against a real engine: the built program, inside a control group whose limit it has to
//! honour.
//!
//! Needs root, podman (with `XTASK_ENGINE=docker` docker) and
//! `docker.io/library/debian:bookworm-slim`: `cargo test -p xtask --test memory -- --ignored`.
//! `XTASK_TRIALS=150` makes the full number of trials with signals. They run one after the other:
//! each counts on having the machine's memory for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::hungry::{Hungry, take};
use support::machine::{BASE, MIB, engine, engine_tool, high_water_mark, running, trials};
use xtask::process::{Child, Failure, Tool};

/// What a run has said.
struct Run {
    events: Vec<Value>,
    end: Option<Failure>,
}

impl Run {
    /// Brings all images of a bench up to date.
    fn of(bench: &Hungry) -> Self {
        let tool = bench.xtask(&["images", "--format", "json"]);
        let mut events = Vec::new();
        let end = tool.stream(|_, line| events.extend(serde_json::from_slice::<Value>(line).ok()));
        Self { events, end: end.err() }
    }

    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// Warnings of kills.
    fn kills(&self) -> usize {
        let warnings = self.of_kind("warning");
        warnings
            .iter()
            .filter(|one| one["text"].as_str().unwrap().contains("killed for memory"))
            .count()
    }

    fn assert_built(&self, count: u64) {
        let last = self.events.last().unwrap_or(&Value::Null);
        assert!(self.end.is_none(), "{:?}\n{:#?}", self.end, self.of_kind("build-finished"));
        assert_eq!((&last["event"], last["built"].as_u64()), (&"summary".into(), Some(count)));
    }
}

#[test]
#[ignore = "needs podman"]
fn three_builds_of_700_mb_share_a_gigabyte_and_a_half() {
    // Long enough that plain builds have all started before the first has ended, on a busy machine
    // too.
    let run = take(667, 6);
    let images = [("a", 700, &*run), ("b", 700, &*run), ("c", 700, &*run)];
    let bench = Hungry::new(1536 * MIB, &images);
    let all_at_once = bench.images.iter().map(|name| bench.plain_build(name).start().unwrap());
    let mut all_at_once: Vec<Child> = all_at_once.collect();
    let ends = all_at_once.iter_mut().map(|child| child.wait(|_, _| {}));
    let killed = ends.filter(Result::is_err).count();
    assert!(killed > 0, "the limit does not bite: nothing is proved");

    let run = Run::of(&bench);
    run.assert_built(3);
    assert_eq!((run.kills(), run.of_kind("build-finished").len()), (0, 3));
    let budget = run.of_kind("plan")[0]["budget"].as_str().unwrap().to_owned();
    assert!(budget.starts_with("budget 1.4 GiB = cgroup "), "{budget}");
    println!("{killed} of 3 killed when started all at once, 0 by xtask; {budget}");
}

#[test]
#[ignore = "needs podman"]
fn a_build_that_takes_six_times_its_need_is_killed_once_and_then_known() {
    let (hungry, beside) = (take(1150, 1), take(450, 12));
    let images = [("hungry", 200, &*hungry), ("beside", 450, &*beside)];
    let bench = Hungry::new(1536 * MIB, &images);
    let first = Run::of(&bench);
    first.assert_built(2);
    assert!(first.kills() <= 1, "{:#?}", first.of_kind("warning"));
    let started = first.of_kind("build-started");
    let again = started.iter().filter(|event| event["image"] == *bench.images[0]).count();
    assert_eq!(again, 1 + first.kills());

    let learned = bench.planned(0);
    assert!((1050 * MIB..1500 * MIB).contains(&learned), "{} MiB", learned / MIB);
    bench.turn("two");
    let second = Run::of(&bench);
    second.assert_built(2);
    assert_eq!(second.kills(), 0);
    println!(
        "{} kill(s) in the first run, then {} MiB planned and none",
        first.kills(),
        learned / MIB
    );
}

#[test]
#[ignore = "needs podman"]
fn a_second_kill_is_final_and_says_what_would_have_been_enough() {
    // dd asks for its whole buffer at once and fills it piece by piece.
    let hungry = "(sleep 1; cat /dev/zero) | dd of=/dev/null bs=900M count=1 iflag=fullblock";
    let bench = Hungry::new(512 * MIB, &[("final", 200, hungry)]);
    let run = Run::of(&bench);
    let failure = run.end.as_ref().unwrap();
    assert_eq!(failure.code(), Some(3), "{failure}");
    assert_eq!((run.of_kind("build-started").len(), run.kills()), (2, 1));
    let text = failure.tail.join("\n");
    for part in [
        "killed twice, the second time alone: it had ",
        "GiB = cgroup ",
        " by then, so 1.",
        " GiB should be enough if it asks for no more later",
        "hint: echo ",
    ] {
        assert!(text.contains(part), "`{part}` in\n{text}");
    }
    let (_, asked) = text.split_once("it had asked for ").unwrap();
    let asked: f64 = asked.split(' ').next().unwrap().parse().unwrap();
    assert!((900.0..1100.0).contains(&asked), "dd's buffer and podman's own: {asked} MiB");
    println!("{text}");
}

#[test]
#[ignore = "needs podman"]
fn a_build_that_cannot_fit_is_refused_within_a_second() {
    let bench = Hungry::new(512 * MIB, &[("large", 2048, "true")]);
    let started = Instant::now();
    let run = Run::of(&bench);
    let took = started.elapsed();
    let failure = run.end.unwrap();
    assert_eq!(failure.code(), Some(3), "{failure}");
    let text = failure.tail.join("\n");
    assert!(text.contains("budget 0.4") && text.contains("hint: echo "), "{text}");
    assert!(run.events.is_empty(), "{:?}", run.events);
    println!("refused in {took:?}: {text}");
}

#[test]
#[ignore = "needs podman"]
fn a_run_waits_for_another_and_goes_on_when_that_is_killed() {
    let sleep = "sleep 3047";
    let bench = Hungry::new(1536 * MIB, &[("one", 1000, sleep), ("two", 1000, "true")]);
    let names: Vec<&str> = bench.images.iter().map(String::as_str).collect();
    let first = bench.xtask(&["images", names[0]]).start().unwrap();
    wait_for("the first build", || !running(sleep).is_empty());
    let (mut waited, mut killed) = (false, None);
    let second = bench.xtask(&["images", names[1], "--format", "json"]).stream(|_, line| {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        if event["event"] == "step-waiting" && killed.is_none() {
            waited = event["waiting_for"].as_str().unwrap().contains(names[0]);
            kill(&first, Signal::KILL);
            killed = Some(Instant::now());
        }
        if event["event"] == "build-started" {
            println!("started {:?} after the other run was killed", killed.unwrap().elapsed());
        }
    });
    assert!(second.is_ok() && waited, "{second:?}");
    drop(first);
    assert_eq!(running(sleep), [""; 0]);
}

#[test]
#[ignore = "needs podman"]
fn a_signal_at_any_moment_leaves_nothing() {
    let sleep = "sleep 3048";
    let run = format!("{sleep} & sleep 1");
    let bench = Hungry::new(1536 * MIB, &[("x", 100, &*run), ("y", 100, &*run)]);
    let mut survivors = 0;
    for trial in trials(8) {
        bench.turn(&trial.to_string());
        let mut child = bench.xtask(&["images"]).start().unwrap();
        // Spread over the whole run: an odd multiple of a prime, modulo its usual time.
        std::thread::sleep(Duration::from_millis(137 + trial * 769 % 5300));
        kill(&child, [Signal::INT, Signal::TERM, Signal::HUP][usize::try_from(trial % 3).unwrap()]);
        child.wait(|_, _| {}).ok();
        let until = Instant::now() + Duration::from_secs(5);
        while !running(sleep).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
        survivors += running(sleep).len();
    }
    assert_eq!(survivors, 0, "{:?}", running(sleep));
    let left = containers();
    let ours: Vec<&str> = left.lines().filter(|line| line.contains("xtask-mem")).collect();
    assert_eq!(ours, [""; 0]);
    println!(
        "trials {:?}: 0 processes, 0 containers, {} images, all proved",
        trials(8),
        proved(&bench)
    );
}

/// All containers, those podman builds in too.
fn containers() -> String {
    let external: &[&str] = if engine() == "podman" { &["--external"] } else { &[] };
    let form = ["--format", "{{.Command}} {{.Image}}"];
    engine_tool().args(["ps", "--all"]).args(external.iter().copied()).args(form).read().unwrap()
}

/// How many images there are of the bench's; each must carry its proof.
fn proved(bench: &Hungry) -> usize {
    let mut count = 0;
    for name in &bench.images {
        let filter = format!("reference=localhost/{name}");
        let ids = engine_tool().args(["images", "--quiet", "--filter", &filter]).read().unwrap();
        for id in ids.lines() {
            let image = engine_tool().args(["image", "inspect", id]).read().unwrap();
            let image: Value = serde_json::from_str(&image).unwrap();
            let key = image[0]["Config"]["Labels"]["dev.xtask.key"].as_str().unwrap().to_owned();
            let tags = image[0]["RepoTags"].as_array().unwrap();
            assert!(tags.iter().any(|tag| tag.as_str().unwrap().ends_with(&key[..16])), "{image}");
            count += 1;
        }
    }
    count
}

fn kill(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).ok();
}

fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_mins(2);
    while !seen() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs podman"]
fn a_hundred_thousand_files_take_less_than_64_mib() {
    let bench = Hungry::new(2048 * MIB, &[("wide", 100, "true")]);
    for at in 0..100_000 {
        let file = bench.folder.path().join(format!("{}/d{}/f{at}", bench.images[0], at / 1000));
        if at % 1000 == 0 {
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        }
        fs_err::write(file, at.to_string()).unwrap();
    }
    bench.write(&format!("{}/Dockerfile", bench.images[0]), &format!("FROM {BASE}\nCOPY . /all\n"));
    for turn in ["first", "second"] {
        let mut child = bench.xtask(&["plan"]).start().unwrap();
        let process = child.id();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            let mut peak = 0;
            // The high water mark only rises, so the last look before the end has it.
            while ended.recv_timeout(Duration::from_millis(2)).is_err() {
                peak = high_water_mark(process).unwrap_or(0).max(peak);
            }
            peak
        });
        child.wait(|_, _| {}).unwrap();
        done.send(()).unwrap();
        let peak = watcher.join().unwrap();
        println!("{turn} plan over 100,000 files: {} MiB at most", peak / MIB);
        assert!(peak > 4 * MIB && peak < 64 * MIB, "{turn}: {} MiB", peak / MIB);
    }
}

/// A load is `engine save` piped into a node's import: three GiB of it, here between two plain
/// programs.
#[test]
fn three_gib_go_from_one_program_to_another_past_us() {
    let before = high_water_mark(std::process::id()).unwrap();
    let source = Tool::new("head").args(["--bytes=3G", "/dev/zero"]);
    let sink = Tool::new("wc").arg("--bytes");
    let sent = source.limit(Duration::from_mins(5)).pipe_into(&sink.limit(Duration::from_mins(5)));
    assert_eq!(sent.unwrap().tail, [(3_u64 << 30).to_string()]);
    let grown = high_water_mark(std::process::id()).unwrap() - before;
    println!("{} MiB more than before the pipe", grown / MIB);
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
}
