//! What cannot be provoked by waiting for it: xtask killed at each call of the engine, at each
//! event and in the middle of a write, an engine that is late, dies or answers by half, a disk that
//! is full, a clock that jumps.
//!
//! After each fault the same is held. A plan skips no image that is not what its files say. The
//! next run ends well, and both images are then what their files say. What a failed run says ends
//! with a hint, and none of them panics. Seeds are fixed. Children that are read slowly are in
//! `process/tests.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "a test's own child, not one of the tool's")]

#[path = "support/bench/mod.rs"]
mod bench;
mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use bench::Bench;
use fastrand::Rng;
use support::{Case, Ran};

const SEED: u64 = 16;

/// The two images of [`Case::of_two`], and how often their files were changed.
struct Faulty {
    case: Case,
    round: usize,
}

impl Faulty {
    fn new() -> Self {
        let case = Case::of_two();
        case.ok(&["images"]);
        case.calls("");
        Self { case, round: 0 }
    }

    /// `api` becomes what it never was, `web` what it was two rounds ago.
    fn edit(&mut self) {
        self.round += 1;
        self.case.write("src/a", &format!("round {}", self.round));
        self.case.write("web/index", &(self.round % 2).to_string());
    }

    /// A run with new files, and a fault at a call of the engine; whether it came to that call.
    fn run_with(&mut self, call: usize, fault: &str) -> (Ran, bool) {
        self.edit();
        self.case.calls("");
        self.case.tell_engine("fault", &format!("{call} {fault}\n"));
        let ran = self.case.run(&["images"]);
        let came = fs_err::remove_file(self.case.engine("fault")).is_err();
        (ran, came)
    }

    fn expected(&self, image: &str) -> String {
        let files: &[&str] = if image == "api" { &["src/a", "src/b"] } else { &["web/index"] };
        let line = |file: &&str| {
            format!("./{file} {}\n", fs_err::read_to_string(self.case.path(file)).unwrap())
        };
        files.iter().map(line).collect()
    }

    /// Every image that a plan skips is what its files say; how many these are.
    fn skips_are_right(&self, why: &str) -> usize {
        let plan = self.case.plan();
        let skipped = plan["images"].as_array().unwrap().iter();
        let skipped = skipped.filter(|image| image["action"] == "skip");
        let check = |image: &serde_json::Value| {
            let sent = self.case.sent(image["tag"].as_str().unwrap());
            assert_eq!(sent, Some(self.expected(image["name"].as_str().unwrap())), "{why}");
        };
        skipped.inspect(|image| check(image)).count()
    }

    /// What holds after each fault.
    fn next_is_right(&self, why: &str) {
        self.skips_are_right(why);
        let ran = self.case.run(&["images"]);
        assert_eq!(ran.code, Some(0), "{why}: {ran:#?}");
        assert_eq!(self.skips_are_right(why), 2, "{why}");
        let state = self.case.path("target/xtask");
        let staged = fs_err::read_dir(state.join("stage"));
        let names = |one: fs_err::ReadDir| one.flatten().map(|one| one.file_name()).collect();
        let staged: Vec<std::ffi::OsString> = staged.map(names).unwrap_or_default();
        assert_eq!(staged, [""; 0], "{why}");
    }
}

/// It ended as a run ends: by no signal, and not by a fault of its own; what failed is said, with a
/// hint.
fn ended_in_words(ran: &Ran, why: &str) {
    assert!(matches!(ran.code, Some(0 | 1 | 3)), "{why}: {ran:#?}");
    assert!(!ran.stderr.contains("panicked"), "{why}: {ran:#?}");
    if ran.code != Some(0) {
        assert!(ran.stderr.contains("failed to "), "{why}: {ran:#?}");
        assert!(ran.stderr.contains("hint: "), "{why}: {ran:#?}");
    }
}

// ---- killed

#[test]
fn killed_at_any_call_of_the_engine_the_next_run_is_right() {
    for fault in ["kill", "orphan"] {
        let mut faulty = Faulty::new();
        for call in 1.. {
            let why = format!("{fault} at call {call}");
            let (ran, came) = faulty.run_with(call, fault);
            if !came {
                assert!(call > 4, "only {call} calls");
                break;
            }
            assert_eq!(ran.code, None, "{why}: {ran:#?}");
            faulty.next_is_right(&why);
        }
    }
}

/// Starts it with its events on standard output, and kills it when so many have come; whether that
/// many came.
fn killed_at_event(mut command: Command, event: usize) -> bool {
    command.args(["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let came = lines.take(event).count() == event;
    child.kill().unwrap();
    child.wait().unwrap();
    came
}

#[test]
fn killed_at_any_event_the_next_run_is_right() {
    let mut faulty = Faulty::new();
    for event in 1.. {
        faulty.edit();
        if !killed_at_event(faulty.case.command(&["images"]), event) {
            assert!(event > 6, "only {event} events");
            break;
        }
        faulty.next_is_right(&format!("killed at event {event}"));
    }
}

#[test]
fn a_suites_run_that_is_killed_at_an_event_is_followed_by_a_right_one() {
    let wait = "wait = { rollout = 'deployment/web' }";
    let bench =
        Bench::new(&format!("[[suites.s.steps]]\nname = 'web'\napply = 'k8s/web.yaml'\n{wait}\n"));
    // From the first event to the last; a cluster that the killed run has made is there for the
    // next.
    let mut event = 1;
    loop {
        bench.serve(&format!("killed at {event}"));
        if !killed_at_event(bench.started(&["e2e", "s", "--keep"]), event) {
            break;
        }
        bench.green(&[]);
        event += 4;
    }
    assert!(event > 20, "only {event} events");
    // What the last one left is the run's before: the same again is right, too.
    bench.green(&[]);
}

// ---- the engine

#[test]
fn whatever_befalls_the_engine_at_any_call_is_told_and_the_next_run_is_right() {
    for fault in ["dies", "cut"] {
        let mut faulty = Faulty::new();
        for call in 1.. {
            let why = format!("the engine {fault} at call {call}");
            let (ran, came) = faulty.run_with(call, fault);
            if !came {
                assert!(call > 4, "only {call} calls");
                break;
            }
            ended_in_words(&ran, &why);
            if ran.code == Some(0) {
                assert_eq!(faulty.skips_are_right(&why), 2, "{why}");
            }
            faulty.next_is_right(&why);
        }
    }
}

#[test]
fn an_engine_that_is_late_is_waited_for() {
    let mut faulty = Faulty::new();
    for call in 1.. {
        let (ran, came) = faulty.run_with(call, "late 2");
        assert_eq!(ran.code, Some(0), "late at call {call}: {ran:#?}");
        assert_eq!(faulty.skips_are_right("late"), 2, "late at call {call}");
        if !came {
            assert!(call > 4, "only {call} calls");
            break;
        }
    }
}

#[test]
#[ignore = "needs a minute"]
fn an_engine_that_is_late_by_a_minute_is_waited_for() {
    let late = |call: usize| {
        let (ran, came) = Faulty::new().run_with(call, "late 61");
        assert_eq!((ran.code, came), (Some(0), true), "late at call {call}: {ran:#?}");
    };
    std::thread::scope(|threads| {
        for call in 1..=4 {
            threads.spawn(move || late(call));
        }
    });
}

#[test]
fn a_build_that_never_answers_is_ended_by_its_limit_which_is_named() {
    let mut faulty = Faulty::new();
    faulty.case.write(
        "xtask.toml",
        "[images.api]\ndockerfile = 'api.Dockerfile'\ntimeout = '2s'\n\
         [images.web]\ndockerfile = 'web.Dockerfile'\n",
    );
    faulty.case.tell_engine("mode", "hangs");
    faulty.case.write("src/a", "never built");
    let ran = faulty.case.run(&["images", "api"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("raise `timeout` of [images.api]"), "{ran:#?}");
    fs_err::remove_file(faulty.case.engine("mode")).unwrap();
    faulty.edit();
    faulty.next_is_right("a build that hung");
}

// ---- the disk

/// The command, run where no file grows beyond so many bytes: a write at that place fails, or
/// kills.
fn bounded(command: &Command, bytes: usize, kills: bool) -> Command {
    let ignored = if kills { "" } else { "trap '' XFSZ; " };
    let script = format!("{ignored}exec prlimit --fsize={bytes}: \"$0\" \"$@\"");
    wrapped(command, &["sh", "-c", &script])
}

/// The same command behind another.
fn wrapped(command: &Command, before: &[&str]) -> Command {
    let mut wrapped = Command::new(before[0]);
    wrapped.args(&before[1..]).arg(command.get_program()).args(command.get_args());
    wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Places where a write may stop: at the very beginning, and anywhere in what xtask writes.
fn places(rng: &mut Rng) -> Vec<usize> {
    let any = (0..9).map(|_| rng.usize(..3000));
    [0, 1, 2].into_iter().chain(any).collect()
}

#[test]
fn a_write_that_fails_wherever_it_may_is_told_and_the_next_run_is_right() {
    let mut faulty = Faulty::new();
    for bytes in places(&mut Rng::with_seed(SEED)) {
        let why = format!("no byte after {bytes}");
        faulty.edit();
        let mut command = bounded(&faulty.case.command(&["images"]), bytes, false);
        let ran = support::ran(&mut command);
        ended_in_words(&ran, &why);
        if ran.code == Some(0) {
            assert_eq!(faulty.skips_are_right(&why), 2, "{why}");
        }
        // A plan writes nothing that it needs.
        let planned = support::ran(&mut bounded(&faulty.case.command(&["plan"]), bytes, false));
        assert_eq!(planned.code, Some(0), "{why}: {planned:#?}");
        faulty.next_is_right(&why);
    }
}

#[test]
fn killed_in_the_middle_of_any_write_the_next_run_is_right() {
    let mut faulty = Faulty::new();
    let mut killed = 0;
    for bytes in places(&mut Rng::with_seed(SEED + 1)) {
        faulty.edit();
        let ran = support::ran(&mut bounded(&faulty.case.command(&["images"]), bytes, true));
        killed += usize::from(ran.code.is_none());
        faulty.next_is_right(&format!("killed when it wrote byte {bytes}"));
    }
    assert!(killed > 4, "{killed} were killed");
}

/// A run on a disk with so much room, then one on the same disk with plenty.
const ON_A_SMALL_DISK: &str = "
mount -t tmpfs -o \"$ROOM\" none \"$DISK\" && mkdir \"$DISK/runtime\" && chmod 700 \"$DISK/runtime\" || exit 99
\"$0\" \"$@\"; echo \"code $?\" >&2
mount -o remount,size=64m,nr_inodes=10000 \"$DISK\" || exit 99
exec \"$0\" \"$@\"";

#[test]
#[ignore = "needs root"]
fn a_disk_that_is_full_at_any_write_is_told_and_the_next_run_is_right() {
    let mut faulty = Faulty::new();
    let disk = faulty.case.path("disk");
    fs_err::create_dir(&disk).unwrap();
    // Of so many pages each file that is written takes one; of so many nodes each that is made.
    let pages = (1..14).map(|pages| format!("size={},nr_inodes=10000", 4096 * pages));
    let nodes = (4..40).map(|nodes| format!("size=64m,nr_inodes={nodes}"));
    let (mut failed, mut well) = (0, 0);
    for room in pages.chain(nodes) {
        faulty.edit();
        let command = faulty.case.command(&["images"]);
        let mut command = wrapped(&command, &["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK]);
        command.env("ROOM", &room).env("DISK", &disk);
        command.env("CARGO_TARGET_DIR", disk.join("target"));
        command.env("XDG_RUNTIME_DIR", disk.join("runtime"));
        let ran = support::ran(&mut command);
        assert_eq!(ran.code, Some(0), "{room}: {ran:#?}");
        let (first, _) = ran.stderr.split_once("code ").unwrap();
        let code = ran.stderr[first.len()..].trim_start_matches("code ");
        let code = code.lines().next().unwrap().parse().ok();
        let first = Ran { stdout: ran.stdout.clone(), stderr: first.to_owned(), code };
        ended_in_words(&first, &room);
        *if code == Some(0) { &mut well } else { &mut failed } += 1;
        assert_eq!(faulty.skips_are_right(&room), 2, "{room}");
    }
    assert!(failed > 10 && well > 1, "{failed} failed, {well} ended well");
}

// ---- the clock

/// All files below, and their folders.
fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            below(&path, files);
        } else if entry.file_type().unwrap().is_file() {
            files.push(path);
        }
    }
}

fn set_times(folder: &Path, to: SystemTime) {
    let mut files = Vec::new();
    below(folder, &mut files);
    for file in files {
        let times = std::fs::FileTimes::new().set_modified(to).set_accessed(to);
        std::fs::File::options().read(true).open(file).unwrap().set_times(times).unwrap();
    }
}

#[test]
fn times_of_the_past_and_of_the_future_change_no_decision() {
    let day = Duration::from_hours(24);
    let mut faulty = Faulty::new();
    let moments = [
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + day,
        SystemTime::now() - 400 * day,
        SystemTime::now() + day,
        SystemTime::now() + 40_000 * day,
    ];
    for (round, moment) in moments.into_iter().enumerate() {
        let why = format!("all of {moment:?}");
        let everything = faulty.case.path("");
        set_times(everything.parent().unwrap(), moment);
        faulty.next_is_right(&why);
        // The same size, and the same time again: another content all the same.
        faulty.case.write("src/b", &(round + 2).to_string());
        set_times(everything.parent().unwrap(), moment);
        assert_eq!(faulty.case.decision("api").0, "build", "{why}");
        faulty.next_is_right(&why);
    }
    // Runs of the future, as a clock leaves them that was set right.
    let runs = faulty.case.path("target/xtask/runs");
    for (number, entry) in fs_err::read_dir(&runs).unwrap().flatten().enumerate() {
        let later = format!("2999{:04}-000000-{number:016x}", 101 + number % 28);
        fs_err::rename(entry.path(), runs.join(later)).unwrap();
    }
    faulty.edit();
    faulty.next_is_right("runs of the future");
    for verb in [&["timings"][..], &["why", "api"], &["gc", "--dry-run"]] {
        let ran = faulty.case.run(verb);
        assert!(matches!(ran.code, Some(0 | 1 | 3)), "{verb:?}: {ran:#?}");
        assert!(!ran.stderr.contains("panicked"), "{verb:?}: {ran:#?}");
    }
}
