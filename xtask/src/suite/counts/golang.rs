//! `go test`, package by package, and Ginkgo, whose suites are tests of `go test`.
//!
//! | line | |
//! | --- | --- |
//! | `--- PASS: TestX (0.00s)` | a test, with `-v`; one that failed is named without it, too |
//! | `ok  \tPACKAGE\t0.1s` | the package passed; without `-v` it counts as one test |
//! | `ok  \tPACKAGE\t(cached)` | nothing was run: its tests do not count |
//! | `ok  \tPACKAGE\t0.1s [no tests to run]` | likewise |
//! | `FAIL\tPACKAGE\t0.1s` | at least one failed test, also where it could not be built |
//! | `SUCCESS! -- 3 Passed \| 0 Failed \| 1 Pending \| 2 Skipped` | Ginkgo, in place of its `TestX` |
//! | `{"Action":"pass","Test":"TestX",…}` | `-json` |

use serde::Deserialize;

use super::{Counts, Read, sum};

/// Counts of the packages that have ended, and of the one that runs.
#[derive(Debug, Default)]
pub(super) struct Golang {
    read: Read,
    package: Package,
}

/// What was said of a package before its last line.
#[derive(Debug, Default)]
struct Package {
    tests: Counts,
    ginkgo: Counts,
    /// Suites of Ginkgo, which end as the test does that ran them.
    good_suites: u64,
    bad_suites: u64,
}

/// A line of `go test -json`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Action {
    #[serde(rename = "Action")]
    what: String,
    test: Option<String>,
    output: Option<String>,
}

impl Golang {
    /// Whether the line is one of `go test` or Ginkgo.
    pub(super) fn read(&mut self, line: &str) -> bool {
        if line.starts_with("{\"") && line.contains("\"Action\":\"") {
            let action = serde_json::from_str(line).ok();
            return action.map(|action| self.act(action)).is_some();
        }
        self.ginkgo(line) || self.test(line) || self.end_of_package(line)
    }

    pub(super) fn finish(mut self) -> Read {
        // A binary of tests that was started by itself, or by `ginkgo`, has no last line.
        if self.package.said_anything() {
            self.add(Package::counts);
        }
        self.read
    }

    fn act(&mut self, action: Action) {
        let Action { what, test, output } = action;
        let output = output.as_deref().unwrap_or_default().trim_end_matches('\n');
        match (what.as_str(), test) {
            ("output", test) => {
                let of_package = !self.ginkgo(output) && test.is_none();
                if of_package {
                    self.end_of_package(output);
                }
            }
            (what, Some(test)) => self.package.count(what, &test),
            _ => {}
        }
    }

    fn test(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("--- ") else { return false };
        let Some((verdict, test)) = rest.split_once(": ") else { return false };
        let test = test.split(' ').next().unwrap_or(test);
        self.package.count(&verdict.to_lowercase(), test);
        true
    }

    fn end_of_package(&mut self, line: &str) -> bool {
        if line.starts_with("?   \t") || line == "testing: warning: no tests to run" {
            self.read.counted = true;
        } else if line.starts_with("FAIL\t") {
            self.add(Package::failed);
        } else if let Some(rest) = line.strip_prefix("ok  \t") {
            let cached = rest.contains("\t(cached)");
            self.read.cached += u64::from(cached);
            let nothing = cached || rest.contains("[no tests to run]");
            self.add(|package| if nothing { Counts::default() } else { package.passed() });
        } else {
            return false;
        }
        true
    }

    fn add(&mut self, counts: impl FnOnce(&Package) -> Counts) {
        let package = std::mem::take(&mut self.package);
        self.read.counts += counts(&package);
        self.read.counted = true;
    }

    fn ginkgo(&mut self, line: &str) -> bool {
        let Some((verdict, rest)) = line.split_once(" -- ") else { return false };
        let good = verdict.starts_with("SUCCESS!");
        if !good && !verdict.starts_with("FAIL!") {
            return false;
        }
        let mut counts = Counts::default();
        for part in rest.split('|') {
            let Some((number, label)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match label {
                "Passed" => counts.passed = number,
                "Failed" => counts.failed = number,
                "Pending" | "Skipped" => counts.skipped = sum(counts.skipped, number),
                _ => {}
            }
        }
        let Package { good_suites, bad_suites, ginkgo, .. } = &mut self.package;
        *if good { good_suites } else { bad_suites } += 1;
        // A `BeforeSuite` that fails is no spec.
        counts.failed = counts.failed.max(u64::from(!good));
        *ginkgo += counts;
        true
    }
}

impl Package {
    /// A test's end; those within others are part of them.
    fn count(&mut self, verdict: &str, test: &str) {
        let tests = &mut self.tests;
        match verdict {
            _ if test.contains('/') => {}
            "pass" => tests.passed += 1,
            "fail" => tests.failed += 1,
            "skip" => tests.skipped += 1,
            _ => {}
        }
    }

    fn said_anything(&self) -> bool {
        self.tests != Counts::default() || self.good_suites + self.bad_suites > 0
    }

    /// Tests and specs. The tests that ran the suites of Ginkgo are not counted beside their specs.
    fn counts(&self) -> Counts {
        let mut counts = self.ginkgo;
        counts += Counts {
            passed: self.tests.passed.saturating_sub(self.good_suites),
            failed: self.tests.failed.saturating_sub(self.bad_suites),
            skipped: self.tests.skipped,
        };
        counts
    }

    /// Of a package that passed. Without `-v` nothing but that is known.
    fn passed(&self) -> Counts {
        if self.said_anything() { self.counts() } else { Counts { passed: 1, ..Counts::default() } }
    }

    /// Of a package that failed. Without `-v` its tests that passed are not named.
    fn failed(&self) -> Counts {
        let counts = self.counts();
        Counts { failed: counts.failed.max(1), ..counts }
    }
}
