//! How many tests passed, failed and were skipped, read off the output of the usual runners.
//!
//! | runner | line |
//! | --- | --- |
//! | cargo test | `test result: ok. 16 passed; 0 failed; 1 ignored; …`, one a binary: summed |
//! | cargo nextest | `Summary [  0.012s] 3 tests run: 2 passed, 1 failed, 0 skipped` |
//! | go test | see `golang`, which reads Ginkgo's lines as well |
//! | gotestsum | `DONE 9 tests, 1 skipped, 2 failures in 0.086s`, in place of what `go test` said |
//! | pytest | `==== 3 passed, 1 failed in 0.12s ====` |
//! | Jest | `Tests:       1 failed, 1 skipped, 3 passed, 6 total` |
//! | Vitest | `Tests  1 failed \| 3 passed \| 1 skipped (6)` |
//! | Maven Surefire | `[ERROR] Tests run: 6, Failures: 1, Errors: 1, Skipped: 1`, one a module |
//! | Gradle | `6 tests completed, 2 failed, 1 skipped`; it says nothing of tests that all passed |
//! | `PHPUnit` | `OK (4 tests, 4 assertions)`, `Tests: 6, Assertions: 2, Errors: 1, …` |
//! | bats, TAP | `1..4`, `ok 1 name`, `not ok 2 name`, `ok 3 name # skip`; `4 tests, 1 failure, 1 skipped` |
//!
//! What a runner says of its failure in words (`error: test failed`) counts as one failed test
//! where no number says so: a test binary that crashed prints no counts.

mod golang;
mod lines;
#[cfg(test)]
mod tests;

use self::golang::Golang;
use self::lines::Said;
use crate::figure::MOST_BYTES as MOST;

/// Tests by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Skipped, ignored, pending, or expected to fail; not those that a filter left out.
    pub skipped: u64,
}

impl Counts {
    /// Tests that were run to an end.
    pub fn ran(self) -> u64 {
        sum(self.passed, self.failed)
    }
}

/// The sum of two numbers that a runner, or whoever writes like one, has printed: as much as a
/// record holds.
pub(super) fn sum(one: u64, other: u64) -> u64 {
    one.saturating_add(other).min(MOST)
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed = sum(self.passed, other.passed);
        self.failed = sum(self.failed, other.failed);
        self.skipped = sum(self.skipped, other.skipped);
    }
}

/// What the output of a test command came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub counts: Counts,
    /// Whether any runner said how many tests there were, be it none.
    pub counted: bool,
    /// Packages or tasks of tests whose result came from the runner's own cache.
    pub cached: u64,
}

/// Reads a suite's output line by line.
#[derive(Debug, Default)]
pub struct Reader {
    read: Read,
    golang: Golang,
    tap: Tap,
    /// What was counted before nextest began, whose failing tests print lines of `cargo test`.
    before_nextest: Option<Counts>,
    /// Files of tests of Jest or Vitest that failed; one that cannot be loaded has no failed test.
    failed_files: u64,
    /// The runner said that it failed.
    complained: bool,
}

impl Reader {
    /// Takes one line in.
    pub fn read(&mut self, line: &str) {
        let line = plain(line);
        if self.golang.read(&line) || self.tap.read(&line) {
            return;
        }
        match lines::said(&line) {
            None => {}
            Some(Said::Counts(counts)) => self.add(counts),
            Some(Said::NextestBegins) => self.before_nextest = Some(self.read.counts),
            Some(Said::Nextest(counts)) => {
                self.read.counts = self.before_nextest.take().unwrap_or(self.read.counts);
                self.add(counts);
            }
            Some(Said::Gotestsum(counts)) => {
                let told = std::mem::take(&mut self.golang).finish();
                self.read.cached += told.cached;
                self.add(Counts { failed: counts.failed.max(told.counts.failed), ..counts });
            }
            Some(Said::FailedFiles(failed)) => self.failed_files = failed,
            Some(Said::OfFiles(counts)) => {
                let failed = counts.failed.max(std::mem::take(&mut self.failed_files));
                self.add(Counts { failed, ..counts });
            }
            Some(Said::Cached) => self.read.cached += 1,
            Some(Said::Failed) => self.complained = true,
        }
    }

    /// The sums, once the output has ended.
    pub fn finish(self) -> Read {
        let mut read = self.read;
        for part in [self.golang.finish(), self.tap.finish()] {
            read.counts += part.counts;
            read.counted |= part.counted;
            read.cached += part.cached;
        }
        if self.complained {
            read.counts.failed = read.counts.failed.max(1);
        }
        read
    }

    fn add(&mut self, counts: Counts) {
        self.read.counts += counts;
        self.read.counted = true;
    }
}

/// The Test Anything Protocol. Its lines count only beside its plan (`1..4`), which may come last.
#[derive(Debug, Default)]
struct Tap {
    planned: Option<u64>,
    counts: Counts,
}

impl Tap {
    /// Whether the line is one of its.
    fn read(&mut self, line: &str) -> bool {
        let planned = line.strip_prefix("1..").and_then(|rest| rest.trim().parse::<u64>().ok());
        if let Some(planned) = planned {
            self.planned = Some(sum(self.planned.unwrap_or(0), planned));
            return true;
        }
        let (ok, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return false,
        };
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return false;
        }
        let directive = rest.rsplit_once("# ").map(|(_, word)| word.to_lowercase());
        let directive = directive.unwrap_or_default();
        if directive.starts_with("skip") || directive.starts_with("todo") {
            self.counts.skipped += 1;
        } else if ok {
            self.counts.passed += 1;
        } else {
            self.counts.failed += 1;
        }
        true
    }

    fn finish(mut self) -> Read {
        let Some(planned) = self.planned else { return Read::default() };
        let Counts { passed, failed, skipped } = self.counts;
        // Tests that were planned and never came have not passed.
        let seen = sum(sum(passed, failed), skipped);
        self.counts.failed = sum(failed, planned.saturating_sub(seen));
        Read { counts: self.counts, counted: true, cached: 0 }
    }
}

/// A line as a terminal would leave it: without escape sequences, and only what stands after the
/// last carriage return.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ('@'..='~').contains(&c));
        plain.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    plain
}
