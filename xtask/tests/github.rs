//! What GitHub is shown: annotations on the lines at fault, and a summary of the job.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::{Case, Ran};

fn on_github(case: &Case, args: &[&str]) -> (Ran, String) {
    let summary = case.path("summary.md");
    let mut command = case.command(args);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let ran = support::ran(&mut command);
    (ran, fs_err::read_to_string(summary).unwrap_or_default())
}

#[test]
fn a_failed_build_is_marked_on_its_line_and_summed_up() {
    let case = Case::of_two()
        .file("api.Dockerfile", "FROM scratch\n# made\nRUN make\n")
        .engine_file("mode", "fails");
    let (ran, summary) = on_github(&case, &["images", "api"]);
    assert_eq!(ran.code, Some(1));
    let mark = "::error file=api.Dockerfile,line=3,title=image api::failed to build image `api`";
    assert!(ran.stderr.lines().any(|line| line.starts_with(mark)), "{}", ran.stderr);
    assert!(summary.starts_with("### images: failed in "), "{summary}");
    assert!(summary.contains("| api | **failed** | no image of this key"), "{summary}");
    assert!(
        !case.run(&["images", "api"]).stderr.contains("::error"),
        "elsewhere nothing is marked"
    );
}

#[test]
fn a_run_that_went_well_leaves_a_summary_and_no_mark() {
    let case = Case::of_two();
    let (ran, summary) = on_github(&case, &["images", "--format", "json"]);
    assert!(!ran.stderr.contains("::"), "{}", ran.stderr);
    assert!(ran.stdout.lines().all(|line| line.starts_with('{')), "{}", ran.stdout);
    assert!(summary.contains("2 built, 0 skipped, 0 loaded"), "{summary}");
    let (_, both) = on_github(&case, &["images"]);
    assert!(both.starts_with(&summary) && both.contains("0 built, 2 skipped"), "{both}");
}

#[test]
fn faults_of_the_configuration_are_marked_on_their_lines() {
    let case = Case::of_two().config("[images.api]\nmemroy = 1\n[images.web]\ntarget = 2\n");
    let (ran, _) = on_github(&case, &["plan"]);
    assert_eq!(ran.code, Some(2));
    let marks: Vec<&str> =
        ran.stderr.lines().filter(|line| line.starts_with("::error file=")).collect();
    assert!(marks.iter().any(|mark| mark.contains("xtask.toml,line=2::")), "{marks:#?}");
    assert!(marks.iter().any(|mark| mark.contains("xtask.toml,line=4::")), "{marks:#?}");
}
