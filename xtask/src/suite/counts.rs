//! How many tests passed and failed, read off the closing lines of the usual runners.
//!
//! | runner | line |
//! | --- | --- |
//! | cargo test | `test result: ok. 16 passed; 0 failed; 0 ignored; …`, one a binary: summed |
//! | cargo nextest | `Summary [  0.012s] 3 tests run: 2 passed, 1 failed, 0 skipped` |
//! | go test | `--- PASS: TestX (0.00s)` with `-v`, else `ok … package … 0.1s` |
//! | ginkgo | `FAIL! -- 15 Passed \| 1 Failed \| 0 Pending \| 0 Skipped` |
//! | pytest | `==== 3 passed, 1 failed in 0.12s ====` |

/// Tests that passed and that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

/// Reads a suite's output line by line.
#[derive(Debug, Default)]
pub struct Reader {
    /// Of lines that sum up a binary or a whole run.
    sums: Option<Counts>,
    /// Of `go test`: single tests, and packages.
    tests: Counts,
    packages: Counts,
}

impl Reader {
    /// Takes one line in.
    pub fn read(&mut self, line: &str) {
        let line = plain(line);
        if let Some(sum) = sum(&line) {
            let sums = self.sums.get_or_insert_default();
            sums.passed += sum.passed;
            sums.failed += sum.failed;
        } else if line.starts_with("--- PASS: ") {
            self.tests.passed += 1;
        } else if line.starts_with("--- FAIL: ") {
            self.tests.failed += 1;
        } else if line.starts_with("ok  \t") {
            self.packages.passed += 1;
        } else if line.starts_with("FAIL\t") {
            self.packages.failed += 1;
        }
    }

    /// The sums so far.
    pub fn counts(&self) -> Counts {
        match (self.sums, self.tests) {
            (Some(sums), _) => sums,
            // Without `-v`, go prints a line for failed tests only.
            (None, tests) if tests.passed > 0 => tests,
            (None, _) => self.packages,
        }
    }
}

fn sum(line: &str) -> Option<Counts> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        return labelled(rest, &['.', ';']);
    }
    if let Some(rest) = line.strip_prefix("Summary [") {
        return labelled(rest, &[']', ':', ',']);
    }
    if let Some((verdict, rest)) = line.split_once(" -- ")
        && (verdict == "SUCCESS!" || verdict == "FAIL!")
    {
        return labelled(&rest.to_lowercase(), &['|']);
    }
    // pytest's line ends in the time; with -q it has no `=` around it.
    let bare = line.trim_matches('=').trim();
    let (counts, time) = bare.rsplit_once(" in ")?;
    let took = time.split(' ').next().and_then(|time| time.strip_suffix('s'))?;
    took.parse::<f64>().ok()?;
    labelled(counts, &[','])
}

/// `3 passed, 1 failed`, parted by any of `marks`; none if neither word is there.
fn labelled(text: &str, marks: &[char]) -> Option<Counts> {
    let (mut passed, mut failed) = (None, None);
    for part in text.split(marks) {
        let Some((number, label)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match label.split_whitespace().next() {
            Some("passed") => passed = Some(number),
            Some("failed" | "error" | "errors") => failed = Some(failed.unwrap_or(0) + number),
            _ => {}
        }
    }
    (passed.is_some() || failed.is_some())
        .then(|| Counts { passed: passed.unwrap_or(0), failed: failed.unwrap_or(0) })
}

/// A line without its colours (`ESC [ … m`).
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runners_closing_lines_are_understood() {
        for (output, passed, failed) in [
            (
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
                 test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured",
                15,
                1,
            ),
            ("     Summary [   0.012s] 3 tests run: 2 passed, 1 failed, 4 skipped", 2, 1),
            ("     Summary [   1.5s] 3 tests run: 3 passed (1 slow), 0 skipped", 3, 0),
            (
                "\u{1b}[32;1m     Summary\u{1b}[0m [ 1s] 3 tests run: \u{1b}[1m3\u{1b}[0m passed",
                3,
                0,
            ),
            ("--- PASS: TestA (0.00s)\n    --- PASS: TestA/sub (0.00s)\n--- FAIL: TestB", 1, 1),
            ("ok  \texample.com/a\t0.1s\nFAIL\texample.com/b\t0.2s\nFAIL", 1, 1),
            ("FAIL! -- 15 Passed | 1 Failed | 0 Pending | 0 Skipped", 15, 1),
            ("SUCCESS! -- 16 Passed | 0 Failed | 0 Pending | 0 Skipped", 16, 0),
            ("======== 1 failed, 3 passed, 2 skipped in 0.12s ========", 3, 1),
            ("3 passed, 1 error in 65.20s (0:01:05)", 3, 1),
            ("nothing at all\nI passed 3 in a row", 0, 0),
        ] {
            let mut reader = Reader::default();
            output.lines().for_each(|line| reader.read(line));
            assert_eq!(reader.counts(), Counts { passed, failed }, "{output}");
        }
    }
}
