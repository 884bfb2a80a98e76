use super::*;

/// `passed, failed, skipped` and how many results came from a cache; `None` where nothing was
/// counted.
type Expected = Option<(u64, u64, u64, u64)>;

fn read(output: &str) -> Expected {
    let mut reader = Reader::default();
    output.lines().for_each(|line| reader.read(line));
    let Read { counts: Counts { passed, failed, skipped }, counted, cached } = reader.finish();
    (counted || failed > 0).then_some((passed, failed, skipped, cached))
}

macro_rules! captured {
    ($name:literal) => {
        ($name, include_str!(concat!("../captured/", $name, ".txt")))
    };
}

fn hold(outputs: &[((&str, &str), Expected)]) {
    for ((runner, output), expected) in outputs {
        assert_eq!(read(output), *expected, "{runner}");
    }
}

/// The output of each runner as it was printed: libtest of Rust 1.95, cargo-nextest 0.9.148, go
/// 1.26, gotestsum, Ginkgo 2, pytest 9, Jest 30, Vitest 4, Surefire 3.2, Gradle 4.4, `PHPUnit` 9.6,
/// bats 1.8, node's runner.
#[test]
fn what_runners_of_rust_and_go_really_print_is_counted() {
    hold(&[
        (captured!("libtest-pass"), Some((2, 0, 1, 0))),
        (captured!("libtest-fail"), Some((3, 1, 1, 0))),
        (captured!("libtest-crash"), Some((2, 1, 1, 0))),
        (captured!("libtest-q"), Some((2, 0, 1, 0))),
        (captured!("libtest-none"), Some((0, 0, 0, 0))),
        (captured!("nextest-pass"), Some((2, 0, 1, 0))),
        (captured!("nextest-fail"), Some((3, 2, 1, 0))),
        (captured!("nextest-flaky"), Some((3, 0, 1, 0))),
        (captured!("nextest-none"), Some((0, 0, 6, 0))),
        (captured!("nextest-none-pass"), Some((0, 0, 6, 0))),
        // Without `-v` a package that passed is all that is known.
        (captured!("go-plain-pass"), Some((1, 0, 0, 0))),
        (captured!("go-plain-fail"), Some((1, 1, 0, 0))),
        (captured!("go-skip-only"), Some((1, 0, 0, 0))),
        (captured!("go-verbose"), Some((3, 1, 1, 0))),
        (captured!("go-panic-build"), Some((1, 3, 0, 0))),
        (captured!("go-cached"), Some((0, 0, 0, 1))),
        (captured!("go-v-cached"), Some((0, 0, 0, 1))),
        (captured!("go-no-tests-to-run"), Some((0, 0, 0, 0))),
        (captured!("go-no-test-files"), Some((0, 0, 0, 0))),
        (captured!("go-json"), Some((3, 1, 1, 0))),
        (captured!("go-json-cached"), Some((2, 0, 1, 0))),
        (captured!("go-json-none"), Some((0, 0, 0, 0))),
        (captured!("go-json-panic-build"), Some((0, 2, 0, 0))),
        // It counts tests within tests, too.
        (captured!("gotestsum-pass"), Some((4, 0, 1, 0))),
        (captured!("gotestsum-fail"), Some((6, 2, 1, 0))),
        (captured!("gotestsum-sv"), Some((6, 2, 1, 0))),
        (captured!("gotestsum-dots"), Some((6, 2, 1, 0))),
        (captured!("gotestsum-build"), Some((4, 4, 1, 0))),
        (captured!("gotestsum-none"), Some((0, 0, 0, 0))),
        (captured!("gotestsum-cached"), Some((4, 0, 1, 1))),
        (captured!("ginkgo-pass"), Some((3, 0, 3, 0))),
        (captured!("ginkgo-fail"), Some((3, 1, 2, 0))),
        (captured!("ginkgo-color"), Some((3, 0, 3, 0))),
        (captured!("ginkgo-none"), Some((0, 0, 6, 0))),
        (captured!("ginkgo-go-test"), Some((1, 0, 0, 0))),
        (captured!("ginkgo-go-test-v"), Some((3, 1, 2, 0))),
    ]);
}

#[test]
fn what_other_runners_really_print_is_counted() {
    hold(&[
        (captured!("pytest-pass"), Some((1, 0, 1, 0))),
        (captured!("pytest-color"), Some((1, 0, 1, 0))),
        (captured!("pytest-fail"), Some((3, 2, 2, 0))),
        (captured!("pytest-none"), Some((0, 0, 0, 0))),
        (captured!("pytest-skip"), Some((0, 0, 1, 0))),
        // So quiet that it prints no counts.
        (captured!("pytest-qq"), None),
        (captured!("jest-pass"), Some((2, 0, 2, 0))),
        (captured!("jest-fail"), Some((3, 1, 2, 0))),
        (captured!("jest-none"), Some((0, 0, 6, 0))),
        (captured!("jest-nofile"), Some((0, 0, 0, 0))),
        (captured!("vitest-pass"), Some((2, 0, 2, 0))),
        (captured!("vitest-fail"), Some((3, 1, 2, 0))),
        (captured!("vitest-none"), Some((0, 0, 6, 0))),
        (captured!("maven-pass"), Some((2, 0, 1, 0))),
        (captured!("maven-fail"), Some((3, 2, 1, 0))),
        (captured!("maven-none"), Some((0, 1, 0, 0))),
        (captured!("gradle-fail"), Some((3, 2, 1, 0))),
        // It says nothing of tests that passed: only a report has them.
        (captured!("gradle-pass"), None),
        (captured!("phpunit-ok"), Some((4, 0, 0, 0))),
        (captured!("phpunit-skip"), Some((2, 0, 1, 0))),
        (captured!("phpunit-fail"), Some((1, 2, 3, 0))),
        (captured!("phpunit-none"), Some((0, 0, 0, 0))),
        (captured!("bats-pass"), Some((1, 0, 1, 0))),
        (captured!("bats-fail"), Some((2, 1, 1, 0))),
        (captured!("bats-pretty"), Some((2, 1, 1, 0))),
        (captured!("bats-none"), Some((0, 0, 0, 0))),
        (captured!("node"), Some((1, 0, 1, 0))),
    ]);
}

#[test]
fn tasks_of_gradle_that_were_not_run_are_seen() {
    for (runner, output) in [captured!("gradle-uptodate"), captured!("gradle-fromcache")] {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.read(line));
        assert_eq!(reader.finish().cached, 1, "{runner}");
    }
}

#[test]
fn closing_lines_that_no_run_here_could_give() {
    for (output, expected) in [
        ("3 tests run: 1 passed", None),
        (
            "  Summary [ 1s] 4 tests run: 1 passed, 1 failed, 2 timed out, 0 skipped",
            Some((1, 3, 0, 0)),
        ),
        // A suite that cannot be loaded has no failed test.
        (
            "Test Suites: 1 failed, 1 passed, 2 total\nTests:       3 passed, 3 total",
            Some((3, 1, 0, 0)),
        ),
        (" Test Files  1 failed (1)\n      Tests  no tests", Some((0, 1, 0, 0))),
        ("      Tests  3 passed (3)\n     Errors  1 error", Some((3, 1, 0, 0))),
        (
            "FAIL! - Suite Timeout Elapsed -- 1 Passed | 0 Failed | 0 Pending | 4 Skipped",
            Some((1, 1, 4, 0)),
        ),
        ("FAIL! -- A BeforeSuite node failed so all tests were skipped.", Some((0, 1, 0, 0))),
        // Ginkgo's suites beside plain tests, in one package and in another.
        (
            "SUCCESS! -- 2 Passed | 0 Failed | 0 Pending | 0 Skipped\n--- PASS: TestSuite (0.1s)\n\
             --- FAIL: TestPlain (0.1s)\nFAIL\tx/a\t0.1s\nok  \tx/b\t0.1s",
            Some((3, 1, 0, 0)),
        ),
        // Verbose, and a package that ended without saying which test failed.
        ("--- PASS: TestA (0.1s)\nFAIL\tx/a\t0.1s", Some((1, 1, 0, 0))),
        ("ok  \tx/a\t(cached)\tcoverage: 1.0% of statements", Some((0, 0, 0, 1))),
        ("ok  \tx/a\t0.1s\tcoverage: [no statements] [no tests to run]", Some((0, 0, 0, 0))),
        // More was planned than came.
        ("1..3\nok 1 - a\nnot ok 2 - b # TODO later", Some((1, 1, 1, 0))),
        ("ok 1 things were done\nnot ok 2 do", None),
        ("no tests ran in 0.01s", Some((0, 0, 0, 0))),
        ("progress 50 %\r3 passed in 0.1s", Some((3, 0, 0, 0))),
        ("I passed 3 in a row\n--- a/file\n+++ b/file\n1..x", None),
        // Of a program under test.
        ("    test result: FAILED. 0 passed; 1 failed", None),
    ] {
        assert_eq!(read(output), expected, "{output}");
    }
}

#[test]
fn numbers_without_measure_stay_within_what_a_record_holds() {
    let most = u64::MAX;
    for line in [
        format!("{most} passed, {most} failed, 1 failed in 0.1s"),
        format!("1..{most}\n1..{most}\nok 1"),
        format!("DONE {most} tests, {most} skipped, {most} failures, 1 error in 0.1s"),
        format!("SUCCESS! -- {most} Passed | 1 Failed | {most} Pending | {most} Skipped"),
        format!("Tests run: {most}, Failures: {most}, Errors: 1, Skipped: {most}"),
    ] {
        let mut reader = Reader::default();
        // Each line twice: sums of what was summed.
        line.lines().chain(line.lines()).for_each(|line| reader.read(line));
        let Counts { passed, failed, skipped } = reader.finish().counts;
        let bound = crate::figure::MOST_BYTES;
        assert!(passed <= bound && failed <= bound && skipped <= bound, "{line}");
        assert!(Counts { passed, failed, skipped }.ran() > 0, "{line}");
    }
}
