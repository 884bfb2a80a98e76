//! Whether a test command that ended well has passed: its exit code alone is no proof that tests
//! ran.
//!
//! | a command that ended with 0 | |
//! | --- | --- |
//! | failed tests were counted | fails: the code was lost on the way (a pipe, `\|\| true`) |
//! | its report did not come | fails: nothing is known |
//! | a result came from the runner's cache | fails: nothing was run against this cluster |
//! | no test ran | fails, but in one shard of several |
//! | nothing was counted | fails |
//! | a process it started still holds its output | fails: its tests may still run |
//! | `counts = "none"` | passes: the configuration says that the code is all there is |

use anyhow::anyhow;

use super::{Counts, Read};
use crate::error::{self, ErrorExt as _};

/// What is known of a test command that ended with 0.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What its output says.
    pub(super) read: Read,
    /// What its report says, if one is configured; or why there is none.
    pub(super) report: Option<anyhow::Result<Counts>>,
    /// Whether it is one of several shards.
    pub(super) shard: bool,
    /// Whether only the exit code counts.
    pub(super) uncounted: bool,
    /// Processes that it left, and whether somebody still had its output open.
    pub(super) left: Vec<String>,
    pub(super) held: bool,
}

impl Known {
    /// The tests of the run. A report's numbers are the runner's own; failures that only the output
    /// shows are of tests that are not in it.
    pub(super) fn counts(&self) -> Counts {
        match &self.report {
            Some(Ok(counts)) => {
                Counts { failed: counts.failed.max(self.read.counts.failed), ..*counts }
            }
            _ => self.read.counts,
        }
    }

    /// Why it has not passed; none if it has.
    pub(super) fn fault(&self) -> Option<anyhow::Error> {
        let Counts { failed, skipped, .. } = self.counts();
        if let Some(Err(error)) = &self.report {
            return Some(error::again(error));
        }
        if self.uncounted {
            return None;
        }
        if self.held {
            let what = self.told_left().unwrap_or_else(|| "left a process".to_owned());
            return Some(
                anyhow!("it ended with 0, {what}, which still had its output open")
                    .hint("wait for it, end it, or give it an output of its own (`>FILE 2>&1`)"),
            );
        }
        if failed > 0 {
            return Some(
                anyhow!("{failed} of its tests failed, but it ended with 0")
                    .hint("its exit code is lost in a pipe (`set -o pipefail`) or in `|| true`"),
            );
        }
        if self.read.cached > 0 {
            let results = if self.read.cached == 1 { "1 result" } else { "several results" };
            return Some(
                anyhow!("{results} came from the runner's cache: those tests were not run")
                    .hint("`go test -count=1`, `gradle --rerun-tasks`"),
            );
        }
        let counted = self.read.counted || self.report.is_some();
        if !counted {
            return Some(anyhow!("it ended with 0, but its tests were not counted").hint(
                "`junit = \"FILE\"` in its `test` names a report; `counts = \"none\"` says that its \
                 exit code is enough",
            ));
        }
        let none = self.counts().ran() == 0 && !self.shard;
        none.then(|| {
            let skipped = match skipped {
                0 => String::new(),
                number => format!("; skipped: {number}"),
            };
            anyhow!("no test ran{skipped}").hint(
                "does a filter select nothing? `counts = \"none\"` in its `test` says that its exit \
                 code is enough",
            )
        })
    }

    /// Whether it is a shard that had no test.
    pub(super) fn is_empty_shard(&self) -> bool {
        self.shard && !self.uncounted && self.fault().is_none() && self.counts().ran() == 0
    }

    /// ``left 1 process: `sleep 60` (process 12)``.
    pub(super) fn told_left(&self) -> Option<String> {
        let noun = match self.left.len() {
            0 => return None,
            1 => "process",
            _ => "processes",
        };
        Some(format!("left {} {noun}: {}", self.left.len(), self.left.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(passed: u64, failed: u64, skipped: u64) -> Read {
        Read { counts: Counts { skipped, ..of(passed, failed) }, counted: true, cached: 0 }
    }

    fn of(passed: u64, failed: u64) -> Counts {
        Counts { passed, failed, skipped: 0 }
    }

    #[test]
    fn a_pass_is_one_of_tests_that_ran() {
        let left = || vec!["`sh` (process 7)".to_owned()];
        for (known, fault) in [
            (Known { read: read(3, 0, 1), ..Known::default() }, None),
            (Known { read: read(3, 1, 0), ..Known::default() }, Some("1 of its tests failed")),
            (Known { read: read(0, 0, 0), ..Known::default() }, Some("no test ran")),
            (Known { read: read(0, 0, 2), ..Known::default() }, Some("no test ran; skipped: 2")),
            (Known::default(), Some("were not counted")),
            (Known { uncounted: true, ..Known::default() }, None),
            (Known { read: read(0, 0, 0), shard: true, ..Known::default() }, None),
            (Known { shard: true, ..Known::default() }, Some("were not counted")),
            (
                Known { read: Read { cached: 2, ..read(3, 0, 0) }, ..Known::default() },
                Some("came from the runner's cache"),
            ),
            (Known { report: Some(Ok(of(2, 0))), ..Known::default() }, None),
            (Known { report: Some(Ok(of(0, 0))), ..Known::default() }, Some("no test ran")),
            (
                Known { report: Some(Ok(of(2, 1))), ..Known::default() },
                Some("1 of its tests failed"),
            ),
            (
                Known { report: Some(Ok(of(2, 0))), read: read(0, 3, 0), ..Known::default() },
                Some("3 of its tests failed"),
            ),
            (
                Known { report: Some(Err(anyhow!("no report"))), ..Known::default() },
                Some("no report"),
            ),
            (Known { read: read(1, 0, 0), left: left(), ..Known::default() }, None),
            (
                Known { read: read(1, 0, 0), left: left(), held: true, ..Known::default() },
                Some("it ended with 0, left 1 process: `sh` (process 7), which still had"),
            ),
        ] {
            let found = known.fault().map(|fault| error::told(&fault));
            let is_so = match fault {
                None => found.is_none(),
                Some(part) => found.as_ref().is_some_and(|text| text.contains(part)),
            };
            assert!(is_so, "{known:?}: {found:?}");
            assert!(found.is_none_or(|text| text.contains("hint: ") || text == "no report"));
        }
    }
}
