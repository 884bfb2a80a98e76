//! The steps that are commands of cargo, and what a step counts as.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use xshell::cmd;

use crate::config::Config;
use crate::doctor;
use crate::event::{Event, seconds};
use crate::lint::{self, report};
use crate::process::{self, Tool};
use crate::session::Run;
use crate::suite::{Counts, Reader};
use crate::ui;

/// A whole workspace compiled twice on two slow cores.
pub(crate) const LIMIT: Duration = Duration::from_hours(1);

/// What tests call: the shared cache is a registry, the certificates of a webhook are made while
/// they run. Each is a package of that name.
const CALLED: [&str; 2] = ["docker-registry", "openssl"];

/// Files of tests that are ignored for want of an engine, root, Go or a registry.
const ENGINE: [&str; 13] = [
    "builders",
    "bundle",
    "content",
    "decisions",
    "engine",
    "fault_injection",
    "gc",
    "hostile",
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

/// What a step counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As one.
    Check,
    /// As the tests that ran, of which there is at least one.
    Tests,
    /// Likewise; they are ignored where the rest of their file runs.
    Ignored,
}

pub(crate) fn commands() -> Result<Vec<(&'static str, Kind, Tool)>> {
    let sh = process::shell()?;
    let files = ENGINE.iter().flat_map(|file| ["--test", file]);
    let engine =
        cmd!(sh, "cargo test --no-fail-fast --lib {files...} -- --ignored --skip {BY_HAND}");
    let clippy = cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings");
    let mut commands = vec![
        ("fmt", Kind::Check, cmd!(sh, "cargo fmt --all --check").into()),
        ("clippy", Kind::Check, clippy.into()),
        ("tests", Kind::Tests, cmd!(sh, "cargo test --no-fail-fast").into()),
        ("engine", Kind::Ignored, engine.into()),
    ];
    commands.extend(CLUSTERS.map(|file| {
        let on_a_cluster = cmd!(sh, "cargo test --test {file} -- --ignored");
        (file, Kind::Ignored, on_a_cluster.into())
    }));
    Ok(commands)
}

/// What a command's tests came to; the second is its own failure.
pub(crate) type Outcome = (Counts, Result<()>);

/// A step with its events.
pub(crate) fn timed(
    run: &Run,
    name: &str,
    kind: Kind,
    step: impl FnOnce() -> Result<Outcome>,
) -> Counts {
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
pub(crate) fn one(name: &str, kind: Kind, result: Result<Outcome>) -> Counts {
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

pub(crate) fn counted(tool: &Tool) -> Outcome {
    let mut reader = Reader::default();
    let end = tool.stream(|_, line| reader.read(&String::from_utf8_lossy(line)));
    (reader.finish().counts, end.map(drop).map_err(Into::into))
}

pub(crate) fn closing_line(counts: Counts) -> String {
    let Counts { passed, failed, skipped } = counts;
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    format!("{passed} passed, {failed} failed{skipped}\n")
}

/// The repository is held to its own rules.
pub(crate) fn lint(config: &Config) -> Result<Outcome> {
    let findings = lint::read::findings(config)?;
    let told: Vec<String> = findings.iter().map(report::text).collect();
    ensure!(lint::is_passed(&findings), "{}", told.join("\n"));
    Ok((Counts::default(), Ok(())))
}

/// Installs what tests call and this machine lacks. Without them their tests fail and say so.
pub(crate) fn install_called(log: &Path) {
    let called = CALLED.into_iter();
    let lacking: Vec<&str> = called.filter(|called| process::find(called).is_none()).collect();
    if !lacking.is_empty() {
        doctor::install_packages(&lacking, log).ok();
    }
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
    fn tests_are_counted_off_a_commands_output() {
        let script = "echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored'; exit 101";
        let (counts, end) = counted(&Tool::new("sh").arg("-c").arg(script));
        assert_eq!(counts, Counts { passed: 3, failed: 1, skipped: 0 });
        assert!(end.is_err());
    }

    #[test]
    fn the_last_line_counts() {
        let counts = |passed, failed, skipped| Counts { passed, failed, skipped };
        assert_eq!(closing_line(counts(5, 0, 0)), "5 passed, 0 failed\n");
        assert_eq!(closing_line(counts(5, 1, 2)), "5 passed, 1 failed, 2 skipped\n");
    }
}
