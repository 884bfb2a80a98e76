//! The `JUnit` report a suite leaves: kept with the run, and its counts are those of the run, since
//! they are the runner's own word where its output has to be guessed at.
//!
//! Test cases are counted one by one, since runners do not agree on what the numbers of a
//! `testsuite` hold. Those numbers count where there is no case, and where they know of more
//! failures. What lies there before the command starts is set aside, so that whatever lies there
//! afterwards is of this run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use globset::GlobBuilder;
use ignore::WalkBuilder;
use roxmltree::{Document, Node};

use super::Counts;
use super::counts::sum;
use crate::error::ErrorExt as _;
use crate::plain_file;

/// Bytes that a report may have; it is read whole.
const LARGEST: u64 = 64 << 20;

/// What the names of nodes of Ginkgo that are no specs begin with.
const NO_SPECS: [&str; 7] = [
    "[BeforeSuite]",
    "[AfterSuite]",
    "[SynchronizedBeforeSuite]",
    "[SynchronizedAfterSuite]",
    "[ReportBeforeSuite]",
    "[ReportAfterSuite]",
    "[DeferCleanup (Suite)]",
];

/// Moves what lies at `pattern` into `folder`: it is of an earlier run.
pub(super) fn set_aside(pattern: &Path, folder: &Path) -> Result<()> {
    for (at, report) in reports(pattern)?.iter().enumerate() {
        let what = || format!("failed to set the earlier report `{}` aside", report.display());
        fs_err::create_dir_all(folder)?;
        let name = report.file_name().unwrap_or_default().to_string_lossy();
        let to = folder.join(format!("{at}-{name}"));
        if fs_err::rename(report, &to).is_err() {
            // The run's folder may lie on another file system.
            fs_err::copy(report, &to).with_context(what)?;
            fs_err::remove_file(report).with_context(what)?;
        }
    }
    Ok(())
}

/// Copies the reports at `pattern` into `folder` and gives back their counts.
pub(super) fn keep(pattern: &Path, folder: &Path) -> Result<Counts> {
    let reports = reports(pattern)?;
    if reports.is_empty() {
        return Err(anyhow!("the command left no JUnit report at `{}`", pattern.display()))
            .hint("`junit` of the suite's `test` says where the command leaves it");
    }
    let mut sum = Counts::default();
    for (at, report) in reports.iter().enumerate() {
        let what = || format!("failed to read the JUnit report `{}`", report.display());
        let bytes =
            plain_file::read_up_to(report, LARGEST).hint(format!("ls -l {}", report.display()))?;
        let name = if at == 0 { "junit.xml".to_owned() } else { format!("junit-{}.xml", at + 1) };
        fs_err::write(folder.join(name), &bytes)?;
        sum += counts(&bytes).with_context(what)?;
    }
    Ok(sum)
}

/// The files that a path with or without wildcards (`*`, `?`, `[…]`, `**`) names, sorted.
fn reports(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return Ok(pattern.symlink_metadata().map(|_| pattern.to_owned()).into_iter().collect());
    }
    let glob = GlobBuilder::new(&text).literal_separator(true).build();
    let glob = glob.with_context(|| format!("failed to read the pattern `{text}`"))?;
    let glob = glob.compile_matcher();
    let is_plain = |path: &&Path| !path.to_string_lossy().contains(['*', '?', '[']);
    let Some(folder) = pattern.ancestors().find(is_plain) else { return Ok(Vec::new()) };
    let walk = WalkBuilder::new(folder).standard_filters(false).build().filter_map(Result::ok);
    let files = walk.filter(|entry| entry.file_type().is_some_and(|kind| !kind.is_dir()));
    let files = files.map(ignore::DirEntry::into_path).filter(|path| glob.is_match(path));
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    Ok(files)
}

fn counts(report: &[u8]) -> Result<Counts> {
    let text = legal(&String::from_utf8_lossy(report));
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = Document::parse_with_options(&text, options)?;
    let root = document.root_element();
    let is_suite = |node: &Node| node.has_tag_name_local("testsuite");
    let suites: Vec<Node> = match root.tag_name().name() {
        "testsuite" => vec![root],
        "testsuites" => root.children().filter(is_suite).collect(),
        name => return Err(anyhow!("its root is `{name}`, not `testsuites`")),
    };
    let mut sum = Counts::default();
    for one in suites {
        sum += suite(one);
    }
    Ok(sum)
}

/// A suite with all suites within it.
fn suite(suite: Node) -> Counts {
    let mut counts = Counts::default();
    let mut cases = 0_u64;
    for node in suite.descendants().filter(|node| node.is_element() && is_of_suites(*node, suite)) {
        match node.tag_name().name() {
            "testcase" => {
                cases += 1;
                counts += case(node);
            }
            // Of the suite itself: what was to run its tests has crashed.
            "failure" | "error" => counts.failed += 1,
            _ => {}
        }
    }
    let number = |name| suite.attribute(name).and_then(|text| text.trim().parse::<u64>().ok());
    let number = |name| number(name).unwrap_or(0);
    let failed = sum(number("failures"), number("errors"));
    if cases == 0 {
        let skipped = sum(number("skipped"), number("disabled"));
        counts.skipped = skipped;
        counts.passed = number("tests").saturating_sub(sum(failed, skipped));
    }
    counts.failed = counts.failed.max(failed);
    counts
}

/// Whether everything between the node and `top` is a suite: text of a test may hold anything.
fn is_of_suites(node: Node, top: Node) -> bool {
    let between = node.ancestors().skip(1).take_while(|one| *one != top);
    node != top && between.into_iter().all(|one| one.has_tag_name_local("testsuite"))
}

fn case(case: Node) -> Counts {
    let has = |names: &[&str]| case.children().any(|one| names.contains(&one.tag_name().name()));
    let status = case.attribute("status").unwrap_or_default().to_lowercase();
    let name = case.attribute("name").unwrap_or_default();
    let mut counts = Counts::default();
    let bad = ["failed", "failure", "error", "panicked", "timedout", "aborted", "interrupted"];
    let idle = ["skipped", "pending", "disabled", "notrun", "ignored"];
    if has(&["failure", "error"]) || bad.contains(&status.as_str()) {
        counts.failed = 1;
    } else if NO_SPECS.iter().any(|start| name.starts_with(start)) {
        // What stands around the tests is none.
    } else if has(&["skipped", "disabled"]) || idle.contains(&status.as_str()) {
        counts.skipped = 1;
    } else {
        counts.passed = 1;
    }
    counts
}

/// XML 1.0 without the characters that it cannot hold, and that runners write all the same.
fn legal(text: &str) -> String {
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let text = text.trim_start_matches('\u{feff}').replace(|c| !is_legal(c), "\u{fffd}");
    let mut parts = text.split("&#");
    let mut legal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.split_once(';').and_then(|(number, _)| match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
        let is_one = number.and_then(char::from_u32).is_some_and(is_legal);
        legal.push_str(if is_one { "&#" } else { "&amp;#" });
        legal.push_str(part);
    }
    legal
}

/// Names without their name space.
trait Local {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl Local for Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    /// Reports, and what runners print.
    #[test]
    fn fuzz_junit() {
        crate::fuzz::run("junit", |input| {
            counts(input).map(Counts::ran).ok();
            let mut reader = crate::suite::Reader::default();
            String::from_utf8_lossy(input).lines().for_each(|line| reader.read(line));
            reader.finish().counts.ran();
        });
    }

    #[test]
    fn reports_of_the_runners_are_counted_as_their_runners_do() {
        for (runner, report, expected) in [
            ("nextest", include_str!("captured/nextest-fail.xml"), of(3, 2, 0)),
            ("nextest, flaky", include_str!("captured/nextest-flaky.xml"), of(3, 0, 0)),
            ("gotestsum", include_str!("captured/gotestsum.xml"), of(6, 3, 1)),
            // It keeps the first try of a test that passed at the second.
            ("gotestsum, again", include_str!("captured/gotestsum-rerun.xml"), of(2, 1, 0)),
            ("Ginkgo", include_str!("captured/ginkgo-pass.xml"), of(3, 0, 3)),
            ("Ginkgo, failed", include_str!("captured/ginkgo-fail.xml"), of(3, 1, 2)),
            ("Ginkgo, no spec", include_str!("captured/ginkgo-none.xml"), of(0, 0, 6)),
            ("pytest", include_str!("captured/pytest.xml"), of(3, 2, 2)),
            // It does not mark a test that is still to be written.
            ("jest-junit", include_str!("captured/jest.xml"), of(4, 1, 1)),
            ("Vitest", include_str!("captured/vitest.xml"), of(3, 1, 2)),
            ("Surefire", include_str!("captured/maven.xml"), of(1, 2, 0)),
            ("Gradle", include_str!("captured/gradle.xml"), of(1, 2, 0)),
            ("PHPUnit, nested", include_str!("captured/phpunit-nested.xml"), of(4, 0, 0)),
            // A risky test is an error in its report.
            ("PHPUnit", include_str!("captured/phpunit.xml"), of(1, 3, 2)),
            ("bats", include_str!("captured/bats.xml"), of(2, 1, 1)),
        ] {
            assert_eq!(counts(report.as_bytes()).unwrap(), expected, "{runner}");
        }
    }

    #[test]
    fn a_case_is_what_it_holds_whatever_the_numbers_say() {
        for (report, expected) in [
            ("<testsuites/>", of(0, 0, 0)),
            // No case: the numbers are all there is.
            ("<testsuite tests=\"4\" errors=\"1\" failures=\"1\"/>", of(2, 2, 0)),
            ("<testsuite\n  tests='5'\n  failures='3'\n/>", of(2, 3, 0)),
            ("<testsuite tests='16' disabled='10' skipped='0'/>", of(6, 0, 10)),
            // Skipped without a number that says so.
            (
                "<testsuite tests='2'><testcase><skipped/></testcase><testcase/></testsuite>",
                of(1, 0, 1),
            ),
            ("<testsuite><testcase><failure/></testcase><testcase/></testsuite>", of(1, 1, 0)),
            (
                "<testsuite><testcase status='disabled'/><testcase status='Failed'/></testsuite>",
                of(0, 1, 1),
            ),
            // Numbers that know of more failures than there are cases.
            ("<testsuite failures='2'><testcase/></testsuite>", of(1, 2, 0)),
            ("<testsuite><error/><testcase/></testsuite>", of(1, 1, 0)),
            (
                "<testsuites><testsuite tests='2'><testsuite tests='2'><testcase/><testcase/></testsuite>\
                 </testsuite></testsuites>",
                of(2, 0, 0),
            ),
            (
                "<testsuite><testcase><system-out><testsuite><testcase/></testsuite></system-out>\
                 </testcase><system-out>&lt;testsuite tests='9'&gt;</system-out></testsuite>",
                of(1, 0, 0),
            ),
            (
                "<testsuite><testcase name='[BeforeSuite]'/><testcase name='[It] a'/></testsuite>",
                of(1, 0, 0),
            ),
            (
                "<testsuite><testcase name='[BeforeSuite]'><failure/></testcase></testsuite>",
                of(0, 1, 0),
            ),
            ("\u{feff}<testsuite xmlns='urn:x'><testcase/></testsuite>", of(1, 0, 0)),
            (
                "<!DOCTYPE testsuite><testsuite><testcase>&#27;\u{1b}[1m &#65; &lt;</testcase></testsuite>",
                of(1, 0, 0),
            ),
        ] {
            assert_eq!(counts(report.as_bytes()).unwrap(), expected, "{report}");
        }
        for report in ["", "not a report", "<html/>", "<testsuite><testcase></testsuite>"] {
            assert!(counts(report.as_bytes()).is_err(), "{report}");
        }
    }

    #[test]
    fn what_was_there_before_is_set_aside_and_what_comes_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (kept, aside) = (root.join("kept"), root.join("kept/earlier"));
        fs_err::create_dir_all(root.join("api/reports")).unwrap();
        fs_err::create_dir_all(&kept).unwrap();
        let pattern = root.join("*/reports/TEST-*.xml");
        let (one, two) = (root.join("api/reports/TEST-a.xml"), root.join("api/reports/TEST-b.xml"));
        fs_err::write(&one, "<testsuite tests=\"7\"/>").unwrap();
        fs_err::write(root.join("api/reports/other.xml"), "").unwrap();
        set_aside(&pattern, &aside).unwrap();
        assert!(aside.join("0-TEST-a.xml").exists() && !one.exists());
        let error = keep(&pattern, &kept).unwrap_err().to_string();
        assert!(error.contains("left no JUnit report"), "{error}");
        fs_err::write(&one, "<testsuite tests=\"1\"/>").unwrap();
        fs_err::write(&two, "<testsuite tests=\"2\" failures=\"1\"/>").unwrap();
        assert_eq!(keep(&pattern, &kept).unwrap(), of(2, 1, 0));
        assert!(kept.join("junit.xml").exists() && kept.join("junit-2.xml").exists());
        assert!(root.join("api/reports/other.xml").exists());
        let error = keep(&root.join("api"), &kept).unwrap_err();
        assert!(format!("{error:#}").contains("not a regular file"), "{error:#}");
    }

    #[test]
    fn numbers_without_measure_and_a_pipe_are_no_trouble() {
        let most = u64::MAX;
        let numbers = format!("failures='{most}' errors='{most}' skipped='{most}' disabled='1'");
        let report =
            format!("<testsuites><testsuite {numbers}/><testsuite {numbers}/></testsuites>");
        assert!(counts(report.as_bytes()).unwrap().failed <= crate::figure::MOST_BYTES);
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("junit.xml");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let error = crate::error::told(&keep(&pipe, folder.path()).unwrap_err());
        assert!(error.contains("not a regular file") && error.contains("hint: ls"), "{error}");
    }

    #[test]
    fn a_report_without_an_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("junit.xml");
        fs_err::File::create(&report).unwrap().set_len(LARGEST + 1).unwrap();
        let error = keep(&report, folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("larger than the 64.0 MiB"), "{error:#}");
    }
}
