//! `cargo xtask test`: the project's own tests, as CI runs them.
//!
//! | step | counts |
//! | --- | --- |
//! | `cargo fmt --check` | as one |
//! | `cargo clippy`, warnings are errors | as one |
//! | `cargo test`, all but the suites | every test |
//! | the tests that it ignores: those that need an engine, and those that make a cluster | every test |
//! | `lint` of this repository | as one |
//! | the justfile: each recipe is a command we understand, and one is run | every recipe |
//! | the workflows: each command is a recipe, with arguments it takes | every command |
//! | pytest over what is written in Python | every test |
//! | `e2e` of every suite of the configuration, one after the other | every test |
//!
//! Every step runs, whatever became of those before it; only the suites want a machine that was
//! mended. A step that fails without a failed test (it did not compile) counts as one failure, and
//! so does one of the kind "every test" in which no test ran. The last line on stdout is `N passed,
//! N failed`, with `, N skipped` where there are any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Parser as _;
use serde::Deserialize;

use crate::cli::{self, Cli};
use crate::commands::{e2e, python};
use crate::doctor;
use crate::error::Exit;
use crate::event::{Event, Summary, seconds};
use crate::lint::{self, report};
use crate::paths::Paths;
use crate::process::{self, Stream, Tool, stop};
use crate::run::execute::RunSummary;
use crate::session::{Run, Session};
use crate::suite::{Counts, Reader};
use crate::ui;

/// What recipes that are not ours to parse begin with: benchmarks take minutes and prove nothing
/// here.
const BENCH: &str = "cargo bench --package xtask ";

/// Files of tests that are ignored for want of an engine, root, Go or a registry.
const ENGINE: [&str; 12] = [
    "builders",
    "bundle",
    "content",
    "decisions",
    "engine",
    "fault_injection",
    "gc",
    "lost_state",
    "memory",
    "registry",
    "security",
    "since",
];

/// Of those, a test of what no package brings.
const BY_HAND: &str = "buildkit_at_an_address_of_its_own_builds_beside_the_others";

/// Files of tests that are ignored for want of a cluster.
const CLUSTERS: [&str; 5] = ["cluster", "faults", "guests", "readiness", "steps"];

const CLIPPY: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];

/// The folder of the tests in Python, with the packages they want.
const PYTHON_TESTS: &str = "images/holmesgpt-api/tests";

/// A whole workspace compiled twice on two slow cores.
const LIMIT: Duration = Duration::from_hours(1);

/// What tests call: the shared cache is a registry, the certificates of a webhook are made while
/// they run. Each is a package of that name.
const CALLED: [&str; 2] = ["docker-registry", "openssl"];

pub(crate) fn run(session: &Session, args: &cli::Test) -> Result<Exit> {
    let root = session.config()?.root.clone();
    let paths = Paths::of(&root);
    let mended = if args.bootstrap {
        crate::commands::doctor::mend_for_tests(session)
    } else {
        Ok(Exit::Done)
    };
    let mut counts = own_tests(session, &root, &paths, args.bootstrap)?;
    let mended = mended.and_then(|exit| {
        ensure!(exit == Exit::Done, "failed to make this machine ready for the suites");
        Ok(())
    });
    match mended {
        Ok(()) => suites(session, &mut counts)?,
        Err(error) => counts += one("suites", Kind::Tests, Err(error)),
    }
    ui::data(closing_line(counts).as_bytes())?;
    Ok(if counts.failed == 0 { Exit::Done } else { Exit::Failed })
}

fn closing_line(counts: Counts) -> String {
    let Counts { passed, failed, skipped } = counts;
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    format!("{passed} passed, {failed} failed{skipped}\n")
}

/// Each suite has a run of its own.
fn suites(session: &Session, counts: &mut Counts) -> Result<()> {
    for name in session.config()?.suites.keys() {
        stop::check()?;
        *counts += one(&format!("e2e {name}"), Kind::Tests, suite(session, name));
    }
    Ok(())
}

/// All but the suites.
fn own_tests(session: &Session, root: &Path, paths: &Paths, bootstrap: bool) -> Result<Counts> {
    let run = session.begin(paths)?;
    let mut counts = Counts::default();
    let lacking: Vec<&str> =
        CALLED.into_iter().filter(|called| process::find(called).is_none()).collect();
    if bootstrap && !lacking.is_empty() {
        // Without them their tests fail and say so.
        doctor::install_packages(&lacking, &run.paths.log("packages")).ok();
    }
    for (name, kind, tool) in commands() {
        stop::check()?;
        let tool = tool.folder(root).limit(LIMIT).log(run.paths.log(name));
        let added = timed(&run, name, kind, || Ok(counted(&tool)));
        if kind == Kind::Ignored {
            // The step `tests` skipped them.
            counts.skipped = counts.skipped.saturating_sub(added.ran());
        }
        counts += added;
    }
    counts += timed(&run, "lint", Kind::Check, || held(session));
    counts += timed(&run, "pytest", Kind::Tests, || pytest(root, paths, &run, bootstrap));
    let recipes = || justfile(root, paths, &run, bootstrap);
    counts += timed(&run, "justfile", Kind::Tests, recipes);
    Ok(counts)
}

/// What a step counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As one.
    Check,
    /// As the tests that ran, of which there is at least one.
    Tests,
    /// Likewise; they are ignored where the rest of their file runs.
    Ignored,
}

fn commands() -> Vec<(&'static str, Kind, Tool)> {
    let cargo = |args: &[&str]| Tool::new("cargo").args(args.iter().copied());
    let files = ENGINE.iter().flat_map(|file| ["--test", file]);
    let engine = cargo(&["test", "--no-fail-fast", "--lib"]).args(files);
    let engine = engine.args(["--", "--ignored", "--skip", BY_HAND]);
    let mut commands = vec![
        ("fmt", Kind::Check, cargo(&["fmt", "--all", "--check"])),
        ("clippy", Kind::Check, cargo(&CLIPPY)),
        ("tests", Kind::Tests, cargo(&["test", "--no-fail-fast"])),
        ("engine", Kind::Ignored, engine),
    ];
    commands.extend(CLUSTERS.map(|file| {
        let on_a_cluster = cargo(&["test", "--test", file, "--", "--ignored"]);
        (file, Kind::Ignored, on_a_cluster)
    }));
    commands
}

/// What a command's tests came to; the second is its own failure.
type Outcome = (Counts, Result<()>);

/// A step with its events.
fn timed(run: &Run, name: &str, kind: Kind, step: impl FnOnce() -> Result<Outcome>) -> Counts {
    run.events.emit(Event::StepStarted { step: name.to_owned() });
    let begun = Instant::now();
    let result = step();
    let (ok, error) = match &result {
        Ok((_, Ok(()))) => (true, None),
        Ok((_, Err(error))) | Err(error) => (false, Some(error.to_string())),
    };
    let error = error.and_then(|text| text.lines().next().map(str::to_owned));
    let seconds = seconds(begun.elapsed());
    let step = name.to_owned();
    run.events.emit(Event::StepFinished { step, action: None, ok, seconds, error });
    one(name, kind, result)
}

/// What a step adds to the sum; its failure is told here.
fn one(name: &str, kind: Kind, result: Result<Outcome>) -> Counts {
    let (counts, failure) = weighed(kind, result);
    if let Some(error) = failure {
        ui::error(&error.context(format!("step `{name}` failed")));
    }
    counts
}

/// What a step adds to the sum, and why it failed: it counts as its tests, else as one.
fn weighed(kind: Kind, result: Result<Outcome>) -> (Counts, Option<anyhow::Error>) {
    let (counts, end) = result.unwrap_or_else(|error| (Counts::default(), Err(error)));
    let end = end.and_then(|()| match kind {
        _ if counts.failed > 0 => Err(anyhow!("it ended well, with {} failed", counts.failed)),
        Kind::Tests | Kind::Ignored if counts.passed == 0 => Err(anyhow!("no test ran")),
        _ => Ok(()),
    });
    match end {
        Ok(()) => (Counts { passed: counts.passed.max(1), ..counts }, None),
        Err(error) => (Counts { failed: counts.failed.max(1), ..counts }, Some(error)),
    }
}

fn counted(tool: &Tool) -> Outcome {
    let mut reader = Reader::default();
    let end = tool.stream(|_, line| reader.read(&String::from_utf8_lossy(line)));
    (reader.finish().counts, end.map(drop).map_err(Into::into))
}

/// The repository is held to its own rules.
fn held(session: &Session) -> Result<Outcome> {
    let findings = crate::commands::lint::findings(session.config()?)?;
    let told: Vec<String> = findings.iter().map(report::text).collect();
    ensure!(lint::is_passed(&findings), "{}", told.join("\n"));
    Ok((Counts::default(), Ok(())))
}

fn suite(session: &Session, name: &str) -> Result<Outcome> {
    let build = cli::Build { jobs: None, fail_fast: false, force: false, pull: false, cache: None };
    let args = cli::E2e {
        suite: name.to_owned(),
        keep: false,
        keep_on_failure: false,
        shard: None,
        no_test: false,
        require_prebuilt: false,
        bootstrap: false,
        build,
        args: Vec::new(),
    };
    let RunSummary { exit, summary } = e2e::whole(session, &args)?;
    let end = if exit == Exit::Done { Ok(()) } else { Err(anyhow!("see above")) };
    let Summary { passed, failed, skipped_tests: skipped, .. } = summary;
    Ok((Counts { passed, failed, skipped }, end))
}

/// `just --dump --dump-format json`, as far as it is read.
#[derive(Deserialize)]
struct Justfile {
    recipes: serde_json::Map<String, serde_json::Value>,
}

/// Every recipe, run dry, is one `cargo xtask` line the command line takes, and so is every command
/// of a workflow, with its arguments; `check` is really run.
fn justfile(root: &Path, paths: &Paths, run: &Run, bootstrap: bool) -> Result<Outcome> {
    let log = run.paths.log("justfile");
    let program = just(paths, &log, bootstrap)?;
    let just = || Tool::new(&program).folder(root).limit(LIMIT).log(&log);
    let dump = just().args(["--dump", "--dump-format", "json"]).read()?;
    let justfile: Justfile = serde_json::from_str(&dump).context("failed to read the justfile")?;
    let recipes = justfile.recipes.into_iter().map(|(name, _)| vec![name]);
    let calls: Vec<Vec<String>> = recipes.chain(workflows(root)?).collect();
    for call in &calls {
        let mut lines = Vec::new();
        just().arg("--dry-run").args(call).stream(|stream, line| {
            if stream == Stream::Stderr {
                lines.push(String::from_utf8_lossy(line).into_owned());
            }
        })?;
        for line in lines {
            let call = call.join(" ");
            understood(&line).with_context(|| format!("failed to check `just {call}`"))?;
        }
    }
    just().arg("check").run()?;
    Ok((Counts { passed: calls.len() as u64, ..Counts::default() }, Ok(())))
}

/// What a job of a workflow runs that only says that others have failed.
const FAILS: &str = "exit 1";

/// A workflow, as far as it is read.
#[derive(Deserialize)]
struct Workflow {
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
struct Job {
    #[serde(default)]
    steps: Vec<Command>,
    #[cfg(test)]
    #[serde(default)]
    needs: serde_json::Value,
    #[cfg(test)]
    #[serde(default, rename = "if")]
    condition: String,
}

#[derive(Deserialize)]
struct Command {
    run: Option<String>,
}

/// What the workflows give to `just`, as words; anything else they run is a fault.
fn workflows(root: &Path) -> Result<Vec<Vec<String>>> {
    let mut calls = Vec::new();
    for entry in fs_err::read_dir(root.join(".github/workflows"))? {
        let file = entry?.path();
        let text = fs_err::read_to_string(&file)?;
        let workflow: Workflow = serde_saphyr::from_str(&text)
            .with_context(|| format!("failed to read `{}`", file.display()))?;
        let commands = workflow.jobs.into_values().flat_map(|job| job.steps);
        let commands = commands.filter_map(|step| step.run).filter(|command| command != FAILS);
        for command in commands {
            let failed =
                || format!("failed to find a recipe for `{command}` of `{}`", file.display());
            calls.push(just_call(&command).with_context(failed)?);
        }
    }
    Ok(calls)
}

/// The words after `just` of one line, a variable of the shell standing for itself.
fn just_call(command: &str) -> Option<Vec<String>> {
    let line = command.trim();
    let call = line.strip_prefix("just ").filter(|call| !call.contains(['\n', ';', '&', '|']))?;
    let (call, _output) = call.split_once(" >> ").unwrap_or((call, ""));
    Some(call.split_whitespace().map(|word| word.trim_matches(['"', '$']).to_owned()).collect())
}

/// Whether a line of a recipe is a command line of ours.
fn understood(line: &str) -> Result<()> {
    if line.starts_with(BENCH) {
        return Ok(());
    }
    let words = line.strip_prefix("cargo xtask ");
    let words = words.with_context(|| format!("`{line}` is no `cargo xtask` command"))?;
    Cli::try_parse_from(std::iter::once("xtask").chain(words.split_whitespace()))?;
    Ok(())
}

/// `just` from PATH, else from the Python index in an environment of its own.
fn just(paths: &Paths, log: &Path, bootstrap: bool) -> Result<PathBuf> {
    if let Some(program) = process::find("just") {
        return Ok(program);
    }
    let environment = python::environment(paths, "just", "rust-just\n", log, bootstrap)?;
    Ok(environment.join("bin/just"))
}

fn pytest(root: &Path, paths: &Paths, run: &Run, bootstrap: bool) -> Result<Outcome> {
    let log = run.paths.log("pytest");
    let tests = root.join(PYTHON_TESTS);
    let packages = fs_err::read_to_string(tests.join("requirements.txt"))?;
    let environment = python::environment(paths, "pytest", &packages, &log, bootstrap)?;
    let tool = Tool::new(environment.join("bin/python")).args(["-B", "-m", "pytest"]).arg(&tests);
    Ok(counted(&tool.folder(root).limit(LIMIT).log(&log)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_its_tests_or_as_one() {
        let counts = |passed, failed, skipped| Counts { passed, failed, skipped };
        let failed = || Err(anyhow!("exit status 101"));
        let nothing = || Ok((counts(0, 0, 0), Ok(())));
        for (kind, result, expected) in [
            (Kind::Check, nothing(), counts(1, 0, 0)),
            (Kind::Tests, nothing(), counts(0, 1, 0)),
            (Kind::Tests, Ok((counts(0, 0, 3), Ok(()))), counts(0, 1, 3)),
            (Kind::Tests, Ok((counts(12, 0, 3), Ok(()))), counts(12, 0, 3)),
            (Kind::Tests, Ok((counts(12, 2, 0), Ok(()))), counts(12, 2, 0)),
            (Kind::Tests, Ok((counts(12, 2, 0), failed())), counts(12, 2, 0)),
            (Kind::Tests, Ok((counts(12, 0, 0), failed())), counts(12, 1, 0)),
            (Kind::Check, Err(anyhow!("not started")), counts(0, 1, 0)),
        ] {
            let (found, failure) = weighed(kind, result);
            assert_eq!((found, failure.is_some()), (expected, expected.failed > 0));
        }
        assert_eq!(closing_line(counts(5, 0, 0)), "5 passed, 0 failed\n");
        assert_eq!(closing_line(counts(5, 1, 2)), "5 passed, 1 failed, 2 skipped\n");
    }

    #[test]
    fn recipes_are_commands_of_ours() {
        for line in
            ["cargo xtask e2e gateway", "cargo xtask images ", "cargo xtask test --bootstrap"]
        {
            understood(line).unwrap();
        }
        for line in ["cargo test", "cargo xtask e2e", "cargo xtask plan --no-such-flag"] {
            understood(line).unwrap_err();
        }
    }

    #[test]
    fn a_workflow_calls_just_and_nothing_else() {
        let words = |command| just_call(command).map(|words| words.join(" "));
        for (command, call) in [
            ("just e2e \"$SUITE\" --require-prebuilt", Some("e2e SUITE --require-prebuilt")),
            ("just everything >> \"$GITHUB_OUTPUT\"", Some("everything")),
            ("just prebuild && rm -rf /", None),
            ("just check\nmake", None),
            ("cargo xtask images", None),
        ] {
            assert_eq!(words(command).as_deref(), call, "{command}");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(workflows(root).unwrap().len() > 5);
    }

    #[test]
    fn every_ignored_test_is_run_by_a_step_that_has_what_it_needs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut offences = Vec::new();
        for entry in fs_err::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let Ok(text) = fs_err::read_to_string(&file) else { continue };
            for reason in text.lines().filter_map(|line| line.trim().strip_prefix("#[ignore = \""))
            {
                let is_run = match reason.split(' ').next() {
                    Some("needs") => ENGINE.contains(&&*name),
                    Some("makes") => CLUSTERS.contains(&&*name),
                    // By hand, or not at all.
                    _ => true,
                };
                if !is_run {
                    offences.push(format!("{name}: {reason}"));
                }
            }
        }
        assert!(offences.is_empty(), "no step of `cargo xtask test` runs them: {offences:?}");
    }

    #[test]
    fn the_last_job_of_the_suites_workflow_depends_on_all_others_and_always_runs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = fs_err::read_to_string(root.join(".github/workflows/e2e.yml")).unwrap();
        let workflow: Workflow = serde_saphyr::from_str(&text).unwrap();
        let others = workflow.jobs.keys().filter(|name| *name != "passed");
        let last = &workflow.jobs["passed"];
        assert_eq!(last.condition, "always()");
        let needs: std::collections::BTreeSet<&str> =
            last.needs.as_array().unwrap().iter().filter_map(serde_json::Value::as_str).collect();
        assert_eq!(needs, others.map(String::as_str).collect());
        assert_eq!(last.steps[0].run.as_deref(), Some(FAILS));
    }

    #[test]
    fn tests_are_counted_off_a_commands_output() {
        let script = "echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored'; exit 101";
        let (counts, end) = counted(&Tool::new("sh").arg("-c").arg(script));
        assert_eq!(counts, Counts { passed: 3, failed: 1, skipped: 0 });
        assert!(end.is_err());
    }
}
