//! The `JUnit` report a suite leaves: kept with the run, and its counts are those of the run, since
//! they are the runner's own word where its output has to be guessed at.
//!
//! Only the attributes of `testsuite` elements are read: `tests`, `failures`, `errors`, `skipped`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::Counts;

/// How much older than the clock says a file just written may look.
const TICK: Duration = Duration::from_secs(1);

/// Copies the report to `to` and gives back its counts; one that is older than `begun` is of another
/// run.
pub(super) fn keep(report: &Path, begun: SystemTime, to: &Path) -> anyhow::Result<Counts> {
    let what = || format!("failed to keep the JUnit report `{}`", report.display());
    let written = fs_err::metadata(report).and_then(|found| found.modified()).with_context(what)?;
    if written + TICK < begun {
        return Err(anyhow::anyhow!("it is of an earlier run")).with_context(what);
    }
    let text = fs_err::read_to_string(report).with_context(what)?;
    fs_err::write(to, &text).with_context(what)?;
    counts(&text).with_context(what)
}

fn counts(text: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut suites = text.split("<testsuite ").skip(1).peekable();
    if suites.peek().is_none() && !text.contains("<testsuites") {
        bail!("it has no `testsuite`");
    }
    for suite in suites {
        let number = |name| attribute(suite, name).and_then(|text| text.parse::<u64>().ok());
        let bad = number("failures").unwrap_or(0) + number("errors").unwrap_or(0);
        let idle = number("skipped").or(number("disabled")).unwrap_or(0);
        counts.failed += bad;
        counts.passed += number("tests").unwrap_or(0).saturating_sub(bad + idle);
    }
    Ok(counts)
}

/// The value of `NAME="VALUE"`, in either quotes, among the attributes that `text` begins with.
fn attribute<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('=').filter(|(before, _)| !before.contains('>'))?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, left) = after[1..].split_once(quote)?;
        if before.trim() == name {
            return Some(value);
        }
        rest = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_of_a_report_are_summed() {
        for (text, passed, failed) in [
            (
                "<?xml version=\"1.0\"?>\n<testsuites name=\"nextest-run\" tests=\"5\" failures=\"1\">\n\
                 <testsuite name=\"a = b > tests=9\" tests=\"3\" disabled=\"0\" errors=\"0\" \
                 failures=\"1\"><testcase name=\"x\"/></testsuite>\n\
                 <testsuite name='b' tests='2' errors='0' failures='0' skipped='1'>",
                3,
                1,
            ),
            ("<testsuite tests=\"4\" errors=\"1\" failures=\"1\"/>", 2, 2),
            ("<testsuites/>", 0, 0),
        ] {
            let found = counts(text).unwrap();
            assert_eq!(found, Counts { passed, failed }, "{text}");
        }
        assert!(counts("not a report").is_err());
    }

    #[test]
    fn a_report_of_an_earlier_run_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (report, kept) = (folder.path().join("a.xml"), folder.path().join("kept.xml"));
        fs_err::write(&report, "<testsuite tests=\"1\"/>").unwrap();
        let later = SystemTime::now() + Duration::from_mins(1);
        assert!(keep(&report, later, &kept).is_err());
        let counted = keep(&report, SystemTime::UNIX_EPOCH, &kept).unwrap();
        assert_eq!((counted.passed, kept.exists()), (1, true));
        assert!(keep(&folder.path().join("none.xml"), SystemTime::UNIX_EPOCH, &kept).is_err());
    }
}
