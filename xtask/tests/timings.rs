//! What past runs tell, through the command line: records are files, so a test writes the runs it
//! wants.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use support::Case;

/// A suite `s` of one step, and the runs on record: seconds of its build and of its step.
fn recorded(runs: &[(f64, f64)]) -> Case {
    let case = Case::of_two().config(
        "[images.api]\ndockerfile = 'api.Dockerfile'\n[clusters.c]\nname = 'c-e2e'\n\
         [suites.s]\ncluster = 'c'\nimages = ['api']\n\
         [[suites.s.steps]]\nname = 'seed'\nrun = ['true']\nimages = ['api']\n",
    );
    for (at, (build, step)) in runs.iter().enumerate() {
        let text = events(*build, *step);
        case.write(
            &format!("target/xtask/runs/202601{:02}-120000-999999999/events.jsonl", at + 1),
            &text,
        );
    }
    case
}

/// What a run leaves.
fn events(build: f64, step: f64) -> String {
    let at = |seconds: f64| {
        let moment =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs_f64(1e9 + seconds);
        humantime::format_rfc3339_millis(moment).to_string()
    };
    let end = build + step;
    format!(
        r#"{{"event":"plan","images":[{{"name":"api","key":"1","tag":"t","action":"build","reasons":["api <changed>"]}}],"steps":["seed"],"budget":"b","budget_bytes":9000000,"suite":"s","machine":{{"engine":"podman","cpus":2,"memory":16000000000}},"nodes":[{{"name":"build api","kind":"build","needs":[]}},{{"name":"seed","kind":"step","needs":["build api"]}}],"at":"{}"}}
{{"event":"build-started","image":"api","tag":"t","reasons":[],"memory":5000000,"at":"{}"}}
{{"event":"build-memory","image":"api","bytes":3000000,"at":"{}"}}
{{"event":"build-finished","image":"api","action":"build","ok":true,"seconds":{build:.3},"peak_memory":4000000,"error":null,"at":"{}"}}
{{"event":"step-finished","step":"seed","action":"run","ok":true,"seconds":{step:.3},"error":null,"at":"{}"}}
{{"event":"summary","ok":true,"built":1,"skipped":0,"loaded":1,"passed":4,"failed":0,"seconds":{end:.3},"at":"{}"}}
"#,
        at(0.0),
        at(0.0),
        at(build / 2.0),
        at(build),
        at(end),
        at(end)
    )
}

/// Thirty runs with 8 % of noise; the step takes so many times as long in the last five.
fn thirty(slower: f64) -> Vec<(f64, f64)> {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut noisy = move |usual: f64| {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        usual * (1.0 + 0.08 * normal)
    };
    (0..30).map(|at| (noisy(60.0), noisy(20.0) * if at < 25 { 1.0 } else { slower })).collect()
}

#[test]
fn the_gate_names_the_step_that_became_slower_and_no_other() {
    let ran = recorded(&thirty(1.25)).run(&["timings", "s", "--gate"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("slower: seed took "), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let ran = recorded(&thirty(1.0)).ok(&["timings", "s", "--gate"]);
    assert_eq!(ran.stderr, "");
}

#[test]
fn what_cannot_be_judged_is_said_and_is_no_pass_where_that_is_asked_for() {
    let few = recorded(&thirty(1.25)[..12]);
    let ran = few.ok(&["timings", "s", "--gate"]);
    assert_eq!(ran.stderr, "not judged: s: 12 runs, 13 are needed\n");
    assert_eq!(few.run(&["timings", "s", "--gate=strict"]).code, Some(3));
    assert_eq!(recorded(&thirty(1.25)).run(&["timings", "s", "--gate=strict"]).code, Some(1));
    recorded(&thirty(1.0)).ok(&["timings", "s", "--gate=strict"]);
}

#[test]
fn runs_and_steps_are_told_to_people_and_to_scripts() {
    let case = recorded(&[(60.0, 5.0), (30.0, 5.0), (62.0, 7.0)]);
    insta::assert_snapshot!(case.ok(&["timings"]).stdout, @r#"
        s: 3 runs on podman, 2 CPUs, 14.9 GiB
          2001-09-09 01:46  1 min 05 s ###################  1 built, 4 passed
          2001-09-09 01:46        35 s ##########           1 built, 4 passed
          2001-09-09 01:46  1 min 09 s #################### 1 built, 4 passed
          slowest                    way               last      median times
          build api                  build       1 min 02 s  1 min 00 s     3
          seed                       run              7.0 s       5.0 s     3
        "#);
    let json: serde_json::Value =
        serde_json::from_str(&case.ok(&["timings", "s", "--format", "json"]).stdout).unwrap();
    let suite = &json["suites"][0];
    assert_eq!(suite["runs"].as_array().map(Vec::len), Some(3));
    assert_eq!(suite["steps"][0]["median"], 60.0);
    assert_eq!(suite["machine"]["cpus"], 2);
}

#[test]
fn the_page_is_written_where_it_is_asked_for() {
    let case = recorded(&[(60.0, 5.0), (62.0, 7.0)]);
    case.ok(&["timings", "s", "--html", "out/page.html"]);
    case.ok(&["timings", "--html"]);
    for file in ["out/page.html", "target/xtask/timings.html"] {
        let page = fs_err::read_to_string(case.path(file)).unwrap();
        assert!(
            page.contains("Critical path: build api → seed")
                && page.contains("api &lt;changed&gt;")
        );
    }
}

#[test]
fn a_record_that_cannot_be_read_is_left_out_and_named() {
    let case = recorded(&[(60.0, 5.0), (62.0, 7.0)]);
    case.write("target/xtask/runs/20260102-120000-999999999/events.jsonl", "{\"event\":\"pl");
    let ran = case.ok(&["timings", "s"]);
    assert!(ran.stdout.starts_with("s: 1 run "), "{}", ran.stdout);
    assert!(ran.stderr.contains("left out: 20260102-120000-999999999"), "{}", ran.stderr);
}

#[test]
fn without_runs_there_is_nothing_to_tell_and_an_unknown_suite_is_a_fault_of_usage() {
    let case = recorded(&[]);
    let ran = case.ok(&["timings", "s", "--gate"]);
    assert_eq!(ran.stderr, "not judged: s: 0 runs, 13 are needed\n");
    assert_eq!(case.run(&["timings", "--gate=strict"]).code, Some(3));
    assert_eq!(case.run(&["timings", "--html"]).code, Some(1));
    assert_eq!(case.run(&["timings", "other"]).code, Some(2));
}
