//! `--require-prebuilt`: a suite that may build nothing, over a fake engine and a `kind` that notes
//! being asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::Case;

const SUITE: &str = "[clusters.c]\nname = 'c'\n\
    [suites.app]\ncluster = 'c'\nimages = ['api', 'web']\ntest = { run = ['true'], counts = 'none' }\n";

const KIND: &str = "#!/bin/sh\ntouch \"$(dirname \"$0\")/kind-was-asked\"\nexit 1\n";

fn case() -> Case {
    let images = "[images.api]\ndockerfile = 'api.Dockerfile'\n\
                  [images.web]\ndockerfile = 'web.Dockerfile'\n";
    let case = Case::of_two().config(&format!("{images}{SUITE}")).engine_file("kind", KIND);
    let executable = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(case.engine("kind"), executable).unwrap();
    case
}

#[test]
fn what_would_be_built_fails_before_the_cluster_with_the_words_of_why() {
    let case = case();
    case.ok(&["images"]);
    case.write("src/a", "2");
    case.write("src/new", "");
    case.calls("");
    let ran = case.run(&["e2e", "app", "--require-prebuilt"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let why = case.ok(&["why", "api"]).stdout;
    let decision: Vec<&str> = why.lines().take_while(|line| !line.starts_with("key")).collect();
    assert_eq!(decision, ["api would be built", "  changed src/a", "  added src/new"]);
    assert!(ran.stderr.contains(&decision.join("\n")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("web"), "only what would be built: {}", ran.stderr);
    assert!(ran.stderr.ends_with("hint: cargo xtask images --prebuild\n"), "{}", ran.stderr);
    assert!(case.calls("build").is_empty(), "nothing is built");
    assert!(!case.engine("kind-was-asked").exists(), "no cluster is begun");
}

#[test]
fn with_every_image_there_the_run_goes_on_to_its_cluster() {
    let case = case();
    case.ok(&["images"]);
    case.run(&["e2e", "app", "--require-prebuilt"]);
    assert!(case.engine("kind-was-asked").exists());
}

#[test]
fn a_base_that_moves_meanwhile_is_no_way_around_it() {
    let case = case().file("web.Dockerfile", "FROM debian\nCOPY web /web\n");
    case.tell_engine("registry/debian", "1");
    case.ok(&["images"]);
    case.tell_engine("registry/debian", "2");
    case.calls("");
    let ran = case.run(&["e2e", "app", "--require-prebuilt", "--pull"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("web would be built"), "{}", ran.stderr);
    assert!(case.calls("build").is_empty(), "nothing is built");
    let ran = case.run(&["e2e", "app", "--require-prebuilt", "--force"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(case.calls("build").is_empty(), "nothing is built");
}

#[test]
fn a_suite_without_images_gets_none() {
    let case = case();
    let config = fs_err::read_to_string(case.path("xtask.toml")).unwrap();
    case.write("xtask.toml", &config.replace("images = ['api', 'web']\ntest", "images = []\ntest"));
    let plan = case.ok(&["plan", "--suite", "app", "--format", "json"]).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["images"].as_array().map(Vec::len), Some(0), "{plan}");
    for args in [&["images", "--prebuild"][..], &["images", "--suite", "app"], &["e2e", "app"]] {
        case.run(args);
        assert!(case.calls("build").is_empty(), "{args:?}");
    }
    assert_eq!(case.plan()["images"].as_array().map(Vec::len), Some(2), "all, where none is named");
}
