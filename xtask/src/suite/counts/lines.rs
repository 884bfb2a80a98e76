//! The closing lines of the runners that say in one line what a run of tests came to.

use super::{Counts, sum};

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Of a binary, a module or a whole run: summed.
    Counts(Counts),
    NextestBegins,
    Nextest(Counts),
    /// Of all packages; what `go test` said of them is in it.
    Gotestsum(Counts),
    /// Files of tests that failed (Jest, Vitest).
    FailedFiles(u64),
    /// Tests in those files.
    OfFiles(Counts),
    /// A task of tests was not run: its result came from a cache.
    Cached,
    /// It failed, without saying how many tests did.
    Failed,
}

/// What runners say when they have failed, at the beginning of a line.
const FAILED: [&str; 6] = [
    "error: test failed, to rerun",
    "error: doctest failed, to rerun",
    "error: test run failed",
    "Test Suite Failed",
    "BUILD FAILED in ",
    "[INFO] BUILD FAILURE",
];

/// What runners say when they found no test, at the beginning of a line.
const NONE: [&str; 4] =
    ["No tests executed!", "No tests found, exiting", "No test files found", "no tests ran in "];

pub(super) fn said(line: &str) -> Option<Said> {
    if let Some(counts) = line.strip_prefix("test result: ") {
        return labelled(counts, &['.', ';']).map(Said::Counts);
    }
    if FAILED.iter().any(|failed| line.starts_with(failed)) {
        return Some(Said::Failed);
    }
    let line = line.trim().trim_matches('=').trim();
    if NONE.iter().any(|none| line.starts_with(none)) {
        return Some(Said::Counts(Counts::default()));
    }
    cached(line)
        .or_else(|| nextest(line))
        .or_else(|| gotestsum(line))
        .or_else(|| files(line))
        .or_else(|| surefire(line))
        .or_else(|| phpunit(line))
        .or_else(|| sentence(line))
        .or_else(|| pytest(line))
}

fn nextest(line: &str) -> Option<Said> {
    if line.starts_with("Starting ") && line.contains(" across ") {
        return Some(Said::NextestBegins);
    }
    let rest = line.strip_prefix("Summary [")?;
    labelled(rest, &[']', ':', ',']).map(Said::Nextest)
}

/// `DONE 2 runs, 9 tests, 1 skipped, 2 failures, 1 error in 0.086s`.
fn gotestsum(line: &str) -> Option<Said> {
    let (counts, _) = line.strip_prefix("DONE ")?.rsplit_once(" in ")?;
    of_all(counts).map(Said::Gotestsum)
}

/// Jest and Vitest count files, then tests.
fn files(line: &str) -> Option<Said> {
    if let Some(files) = line.strip_prefix("Test Suites: ").or(line.strip_prefix("Test Files  ")) {
        let failed = labelled(files, &[',', '|']).unwrap_or_default().failed;
        return Some(Said::FailedFiles(failed));
    }
    if let Some(errors) = line.strip_prefix("Errors  ") {
        return labelled(errors, &['|']).map(Said::Counts);
    }
    let tests = line.strip_prefix("Tests: ").or(line.strip_prefix("Tests  "))?.trim();
    if tests == "no tests" {
        return Some(Said::OfFiles(Counts::default()));
    }
    labelled(tests, &[',', '|']).map(Said::OfFiles)
}

/// Surefire and Failsafe print one line a class, with its time, and one for all of them.
fn surefire(line: &str) -> Option<Said> {
    let level = line.split_once("] ").filter(|(level, _)| level.starts_with('['));
    let line = level.map_or(line, |(_, rest)| rest);
    let is_sum = line.starts_with("Tests run: ") && !line.contains("Time elapsed");
    if is_sum { named(line, "Tests run").map(Said::Counts) } else { None }
}

fn phpunit(line: &str) -> Option<Said> {
    if let Some(rest) = line.strip_prefix("OK (") {
        let (number, label) = rest.split_once(' ')?;
        let passed = number.parse().ok().filter(|_| label.starts_with("test"))?;
        return Some(Said::Counts(Counts { passed, ..Counts::default() }));
    }
    let is_sum = line.starts_with("Tests: ") && line.contains("Assertions: ");
    if is_sum { named(line.trim_end_matches('.'), "Tests").map(Said::Counts) } else { None }
}

/// `6 tests completed, 2 failed, 1 skipped` (Gradle), `4 tests, 1 failure, 1 skipped` (bats).
fn sentence(line: &str) -> Option<Said> {
    let (first, rest) = line.split_once(", ")?;
    let (number, label) = first.split_once(' ')?;
    number.parse::<u64>().ok()?;
    let gradle = matches!(label, "test completed" | "tests completed");
    let bats = matches!(label, "test" | "tests") && rest.contains(" failure");
    if gradle || bats { of_all(line).map(Said::Counts) } else { None }
}

/// `:test UP-TO-DATE`, `> Task :api:integrationTest FROM-CACHE` (Gradle), `✓  pkg/a (cached)`
/// (gotestsum).
fn cached(line: &str) -> Option<Said> {
    if line.starts_with('✓') && line.ends_with(" (cached)") {
        return Some(Said::Cached);
    }
    let line = line.strip_prefix("> Task ").unwrap_or(line);
    let (task, how) = line.strip_prefix(':')?.split_once(' ')?;
    let cached = matches!(how.trim(), "UP-TO-DATE" | "FROM-CACHE");
    (cached && task.to_lowercase().ends_with("test")).then_some(Said::Cached)
}

/// The line ends in the time; with `-q` it has no `=` around it.
fn pytest(line: &str) -> Option<Said> {
    let (counts, time) = line.rsplit_once(" in ")?;
    let took = time.split(' ').next().and_then(|time| time.strip_suffix('s'))?;
    took.parse::<f64>().ok()?;
    labelled(counts, &[',']).map(Said::Counts)
}

/// `3 passed, 1 failed`, parted by any of `marks`; none if nothing of it is a number of tests.
fn labelled(text: &str, marks: &[char]) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut known = false;
    for part in text.split(marks) {
        let Some((number, label)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        known |= add(&mut counts, label, number);
    }
    known.then_some(counts)
}

/// Whether the word is one for tests.
fn add(counts: &mut Counts, label: &str, number: u64) -> bool {
    let of = match label.split([' ', '(']).next().unwrap_or_default() {
        "passed" | "xpassed" => &mut counts.passed,
        "failed" | "failure" | "failures" | "error" | "errors" | "timed" | "exec" => {
            &mut counts.failed
        }
        "skipped" | "ignored" | "xfailed" | "todo" => &mut counts.skipped,
        "deselected" | "total" => return true,
        _ => return false,
    };
    *of = sum(*of, number);
    true
}

/// `9 tests, 1 skipped, 2 failures`: those that passed are the rest.
fn of_all(text: &str) -> Option<Counts> {
    let number = |part: &str| -> Option<u64> {
        let (number, label) = part.trim().split_once(' ')?;
        number.parse().ok().filter(|_| label.starts_with("test"))
    };
    let all = text.split(',').find_map(number)?;
    Some(rest_passed(all, labelled(text, &[',']).unwrap_or_default()))
}

/// `Tests: 6, Errors: 1, Failures: 2, Skipped: 1`, with the name that all tests are under.
fn named(text: &str, all: &str) -> Option<Counts> {
    let mut tests = None;
    let mut counts = Counts::default();
    for part in text.split(',') {
        let Some((name, number)) = part.trim().split_once(':') else { continue };
        let Ok(number) = number.trim().parse::<u64>() else { continue };
        match name {
            name if name == all => tests = Some(number),
            "Failures" | "Errors" => counts.failed = sum(counts.failed, number),
            "Skipped" | "Incomplete" | "Risky" => counts.skipped = sum(counts.skipped, number),
            _ => {}
        }
    }
    tests.map(|tests| rest_passed(tests, counts))
}

fn rest_passed(all: u64, counts: Counts) -> Counts {
    Counts { passed: all.saturating_sub(sum(counts.failed, counts.skipped)), ..counts }
}
