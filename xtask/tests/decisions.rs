//! What is built, what is skipped and what is said about it, through the command line and a fake
//! engine that also misbehaves as engines do.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use support::Case;

/// Digits that differ from run to run as `…`.
fn settled(text: &str) -> String {
    let mut settled = String::new();
    for word in text.split_inclusive([' ', '\n', ':']) {
        let bare = word.trim_end_matches([' ', '\n', ':']);
        let is_hex = bare.len() >= 12 && bare.chars().all(|c| c.is_ascii_hexdigit());
        settled.push_str(if is_hex { "…" } else { bare });
        settled.push_str(&word[bare.len()..]);
    }
    settled
}

#[test]
fn what_was_never_built_is_built_and_then_skipped() {
    let case = Case::of_two();
    assert_eq!(case.decision("api"), ("build".into(), vec!["no-image".into(), "no-record".into()]));
    case.ok(&["images"]);
    assert_eq!(case.decision("api"), ("skip".into(), vec!["up-to-date".into()]));
}

#[test]
fn only_the_image_whose_file_changed_is_built_again() {
    let case = Case::of_two();
    case.ok(&["images"]);
    case.calls("");
    case.ok(&["images"]);
    let calls = case.calls("");
    assert_eq!(calls.len(), 1, "one batched question: {calls:?}");
    case.write("src/a", "2");
    case.write("src/new", "");
    fs_err::remove_file(case.path("src/b")).unwrap();
    let reasons = ["file-changed src/a", "file-removed src/b", "file-added src/new"];
    assert_eq!(case.decision("api"), ("build".into(), reasons.map(str::to_owned).into()));
    assert_eq!(case.decision("web"), ("skip".into(), vec!["up-to-date".into()]));
    case.calls("");
    case.ok(&["images"]);
    let builds: Vec<_> =
        case.calls("").into_iter().filter(|call| call.contains("build ")).collect();
    assert_eq!(builds.len(), 1, "{builds:?}");
    assert!(builds[0].contains("dev.xtask.image=api"), "{builds:?}");
}

#[test]
fn what_a_plan_knows_it_says() {
    let said = |case: &Case, args: &[&str]| case.ok(args).stderr;
    let case = Case::of_two();
    assert_eq!(said(&case, &["plan"]), "");
    case.write("api.Dockerfile", "FROM docker.io/library/nobodys:1\nCOPY src nothere /src/\n");
    case.write("web.Dockerfile", "FROM scratch\nCOPY . /web\n");
    assert!(case.tool("git", &["init", "--quiet"]));
    let told = said(&case, &["plan"]);
    for wanted in [
        "warning: api: nothing matches `nothere`",
        "warning: web: `.git` is sent, so that every commit and every fetch makes another key",
        "note: not here, and fetched before a build: docker.io/library/nobodys:1",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    assert!(case.ok(&["why", "web"]).stdout.contains("`.git`, so that every commit"));
    case.write(".dockerignore", ".git\n");
    assert!(!said(&case, &["plan"]).contains(".git"));
    // More than there is beside others, and not more than there is.
    let large = "[images.web]\ndockerfile = 'web.Dockerfile'\nmemory = '14 GiB'\n";
    case.write("xtask.toml", large);
    let told = said(&case, &["plan"]);
    assert!(told.contains("`web` needs 14.0 GiB and builds alone"), "{told}");
}

#[test]
fn a_plan_says_what_of_a_suite_its_manifests_do_not_use() {
    let case = Case::of_two().config(
        "[images.api]\ndockerfile = 'api.Dockerfile'\n\
         [images.web]\ndockerfile = 'web.Dockerfile'\n[clusters.c]\n\
         [ports]\napi = { host = 30080, node = 30080 }\nweb = { host = 30081, node = 30081 }\n\
         [suites.s]\ncluster = 'c'\nimages = ['api', 'web']\ntest = { run = ['true'] }\n\
         [[suites.s.steps]]\nname = 'api'\napply = 'api.yaml'\n",
    );
    let service = "{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {ports: [{port: 80, nodePort: 30080}]}}";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: api}, spec: {containers: [{name: a, image: api}]}}";
    case.write("api.yaml", &format!("{service}\n---\n{pod}\n"));
    assert_eq!(
        case.ok(&["plan", "--suite", "s"]).stderr,
        "note: no step names `web`: it is loaded for the tests alone\n\
         warning: no Service opens node port 30081 of [ports] `web`\n"
    );
}

#[test]
fn a_plan_says_which_images_no_run_sets_and_sets_those_it_is_told_of() {
    let case = Case::of_two();
    let config = |more: &str| {
        format!(
            "[images.api]\ndockerfile = 'api.Dockerfile'\n\
             [images.web]\ndockerfile = 'web.Dockerfile'\n[clusters.c]\n\
             [suites.s]\ncluster = 'c'\nimages = ['api', 'web']\ntest = {{ run = ['true'] }}\n\
             [[suites.s.steps]]\nname = 'all'\napply = 'all.yaml'\n{more}"
        )
    };
    let widget = "{apiVersion: example.test/v1, kind: Widget, metadata: {name: w}, \
                  spec: {image: web}}";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: api}, spec: {containers: [{name: a, image: api}]}}";
    case.write("all.yaml", &format!("{widget}\n---\n{pod}\n"));
    case.write("xtask.toml", &config(""));
    assert_eq!(
        case.ok(&["plan", "--suite", "s"]).stderr,
        "warning: step `all`: `spec.image` of widget/w names image `web`, and no run sets it there\n\
         hint: say `images-in = [\"spec.image\"]` in the step\n\
         note: no step names `web`: it is loaded for the tests alone\n"
    );
    // What the run sets is an image of the step, too.
    case.write("xtask.toml", &config("images-in = ['spec.image']\n"));
    assert_eq!(case.ok(&["plan", "--suite", "s"]).stderr, "");
}

#[test]
fn what_git_tracks_and_exclude_leaves_out_is_said() {
    let exclude = "exclude = ['**/*.lib']";
    let case = Case::of_two().config(&format!(
        "[images.api]\ndockerfile = 'api.Dockerfile'\n{exclude}\n\
         [images.web]\ndockerfile = 'web.Dockerfile'\n{exclude}\n"
    ));
    for file in ["src/one.lib", "src/two.lib", "src/untracked.lib", "elsewhere/three.lib"] {
        case.write(file, "x");
    }
    assert!(case.tool("git", &["init", "--quiet"]));
    let said = |case: &Case| {
        let told = [case.ok(&["plan"]).stderr, case.ok(&["context", "api"]).stdout];
        told.map(|text| text.lines().find(|line| line.contains("`exclude`")).map(str::to_owned))
    };
    assert_eq!(said(&case), [None, None], "git tracks nothing");
    assert!(case.tool("git", &["add", "src/one.lib", "src/two.lib", "elsewhere", "web"]));
    let what = "`exclude` leaves out 2 files that git tracks, such as `src/one.lib`";
    let [plan, context] = said(&case).map(Option::unwrap);
    assert_eq!(plan, format!("note: api: {what}"));
    assert_eq!(context.trim(), what);
    // What the ignore file leaves out as well is not the pattern's doing.
    case.write(".dockerignore", "src/*.lib\n");
    assert_eq!(said(&case), [None, None]);
}

#[test]
fn going_back_to_what_was_built_before_builds_nothing() {
    let case = Case::of_two();
    case.ok(&["images"]);
    case.write("src/a", "2");
    case.ok(&["images"]);
    case.write("src/a", "1");
    assert_eq!(case.decision("api").0, "skip");
}

#[test]
fn a_touch_and_a_file_made_again_the_same_build_nothing() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let file = std::fs::File::options().write(true).open(case.path("src/a")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    case.write("src/b", "1");
    case.calls("");
    case.ok(&["images"]);
    assert_eq!(case.calls("").len(), 1);
    assert_eq!(case.ok(&["images", "--check"]).code, Some(0));
}

#[test]
fn success_without_an_image_is_found_out() {
    for mode in ["no-image", "lies"] {
        let case = Case::of_two().engine_file("mode", mode);
        let ran = case.run(&["images", "api"]);
        assert_eq!(ran.code, Some(1), "{mode}: {ran:#?}");
        assert!(
            ran.stderr.contains("the engine reports success, but there is no image"),
            "{ran:#?}"
        );
        assert_eq!(case.decision("api").0, "build", "{mode}");
    }
}

#[test]
fn an_old_image_for_a_new_key_is_found_out_and_built_without_the_cache() {
    let case = Case::of_two();
    case.ok(&["images", "api"]);
    case.write("src/a", "2");
    case.tell_engine("mode", "stale");
    let ran = case.ok(&["images", "api"]);
    assert!(ran.stderr.contains("the engine's cache served an older image"), "{ran:#?}");
    assert_eq!(case.decision("api").0, "skip");
    let tag = case.plan()["images"][0]["tag"].as_str().unwrap().to_owned();
    assert!(case.sent(&tag).unwrap().contains("./src/a 2"));
}

#[test]
fn an_engine_that_serves_old_images_even_so_fails_the_run_and_tags_nothing() {
    let case = Case::of_two();
    case.ok(&["images", "api"]);
    let before = case.tags();
    case.write("src/a", "2");
    case.tell_engine("mode", "stale-always");
    let ran = case.run(&["images", "api"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("even without its cache"), "{ran:#?}");
    assert_eq!(case.tags(), before);
    assert_eq!(case.decision("api").0, "build");
}

#[test]
fn an_image_that_has_lost_its_tag_or_its_labels_is_built_again() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let tag = |image: &str| {
        case.plan()["images"].as_array().unwrap().iter()
        .find(|one| one["name"] == image).unwrap()["tag"].as_str().unwrap().replace('/', "%")
    };
    let (api, web) = (case.engine("tags").join(tag("api")), case.engine("tags").join(tag("web")));
    // Retagged: the name of one on the other.
    fs_err::copy(&web, &api).unwrap();
    assert_eq!(case.decision("api"), ("build".into(), vec!["no-image".into()]));
    case.ok(&["images"]);
    assert_eq!(case.decision("api").0, "skip");
    // A label gone, as after `podman commit` or another tool's build.
    let id = fs_err::read_to_string(&api).unwrap();
    case.tell_engine(&format!("images/{}", id.trim()), "dev.xtask.image=api\n");
    assert_eq!(case.decision("api"), ("build".into(), vec!["no-image".into()]));
    // Deleted.
    fs_err::remove_file(&web).unwrap();
    assert_eq!(case.decision("web"), ("build".into(), vec!["no-image".into()]));
    case.ok(&["images"]);
    assert_eq!((case.decision("api").0, case.decision("web").0), ("skip".into(), "skip".into()));
}

#[test]
fn a_failed_build_shows_its_last_lines_and_leaves_no_record() {
    let case = Case::of_two().engine_file("mode", "fails");
    let ran = case.run(&["images"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("failed to build image `api`"), "{ran:#?}");
    assert!(ran.stderr.contains("cc: error: src/main.c: no such instruction"), "{ran:#?}");
    assert_eq!(case.decision("api").1, ["no-image", "no-record"]);
}

#[test]
fn what_a_failed_build_does_not_say_is_said() {
    let hint = |dockerfile: &str, more: &str, words: &str| {
        let case = Case::of_two().engine_file("mode", "fails").engine_file("words", words);
        case.write("target/app.jar", "jar");
        case.write("api.Dockerfile", dockerfile);
        let config = format!("[images.api]\ndockerfile = 'api.Dockerfile'\n{more}");
        case.write("xtask.toml", &config);
        case.run(&["images"]).stderr
    };
    let told = hint(
        "FROM scratch\nCOPY target/*.jar /app/\n",
        "exclude = ['**/*.jar']\n",
        "Error: building at STEP \"COPY target/*.jar /app/\": checking on sources under \"/stage\": \
         copier: stat: \"/target/*.jar\": no such file or directory\n",
    );
    assert!(told.contains("hint: ") && told.contains("`target/*.jar`"), "{told}");
    assert!(told.contains("`exclude`"), "{told}");
    let told = hint(
        "FROM scratch\nRUN <<END\necho a\nEND\n",
        "",
        "Error: building at STEP \"ECHO a\": Build error: Unknown instruction: \"ECHO\"\n",
    );
    let heredoc = "line 2 of the Dockerfile has a heredoc, which podman reads from version 4.8 on";
    assert!(told.contains(heredoc), "{told}");
}

#[test]
fn the_sibling_of_a_failed_image_is_built_and_counts_unless_told_to_fail_fast() {
    for (more, built, web) in [(&[][..], 1, "skip"), (&["--fail-fast"], 0, "build")] {
        let case =
            Case::of_two().file("api.Dockerfile", "FROM scratch\nCOPY src /src\nRUN false\n");
        let args = ["images", "--jobs", "1", "--format", "json"];
        let ran = case.run(&[&args[..], more].concat());
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        let summary: serde_json::Value =
            serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        assert_eq!((&summary["ok"], &summary["built"]), (&false.into(), &built.into()));
        assert_eq!((case.decision("api").0, case.decision("web").0), ("build".into(), web.into()));
    }
}

/// A suite needs all its images, so nothing of it starts, no cluster either; without one the others
/// are built.
#[test]
fn what_cannot_fit_is_refused_and_its_siblings_are_built_where_they_are_of_use() {
    let case = of_a_suite();
    let config = fs_err::read_to_string(case.path("xtask.toml")).unwrap();
    let large = config.replace("'api.Dockerfile'\n", "'api.Dockerfile'\nmemory = '64 GiB'\n");
    case.write("xtask.toml", &large);
    let refused = |args: &[&str]| {
        let ran = case.run(args);
        assert_eq!(ran.code, Some(3), "{ran:#?}");
        for part in ["`api` needs 64.0 GiB, more than there is: budget ", "podman machine set"] {
            assert!(ran.stderr.contains(part), "`{part}` in {}", ran.stderr);
        }
        ran.stderr
    };
    let said = refused(&["e2e", "s"]);
    assert!(!said.contains("started"), "{said}");
    assert_eq!(case.calls("build"), Vec::<String>::new());
    refused(&["images", "api"]);
    refused(&["images"]);
    assert_eq!((case.decision("api").0, case.decision("web").0), ("build".into(), "skip".into()));
}

#[test]
fn check_tells_ci_whether_anything_would_be_built() {
    let case = Case::of_two();
    let ran = case.run(&["images", "--check"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("api would be built\n  no image of this key"), "{ran:#?}");
    assert!(!case.engine("images").read_dir().unwrap().any(|_| true));
    case.ok(&["images"]);
    case.ok(&["images", "--check"]);
    case.write("web/index", "2");
    let ran = case.run(&["images", "--check"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("web would be built\n  changed web/index"), "{ran:#?}");
    assert!(!ran.stderr.contains("api would"), "{ran:#?}");
    case.ok(&["images", "--check", "api"]);
}

#[test]
fn the_plan_has_the_form_scripts_rely_on() {
    let case = Case::of_two();
    let plan = case.plan();
    assert_eq!(plan["version"], 1);
    assert_eq!(plan["steps"], serde_json::json!([]));
    let api = &plan["images"][0];
    assert_eq!(api["name"], "api");
    assert_eq!(api["action"], "build");
    assert_eq!(api["reasons"][0], serde_json::json!({"kind": "no-image"}));
    assert_eq!(api["memory"], 1_610_612_736);
    assert_eq!(api.get("seconds"), None);
    let (key, tag) = (api["key"].as_str().unwrap(), api["tag"].as_str().unwrap());
    assert_eq!(key.len(), 64);
    assert_eq!(tag, format!("localhost/api:{}", &key[..16]));
    case.ok(&["images"]);
    let api = &case.plan()["images"][0];
    assert_eq!((&api["action"], api["key"].as_str().unwrap()), (&"skip".into(), key));
    assert!(api["seconds"].as_f64().unwrap() > 0.0);
    case.write("src/a", "2");
    let changed = serde_json::json!({"kind": "file-changed", "path": "src/a"});
    assert_eq!(case.plan()["images"][0]["reasons"][0], changed);
}

/// README and CONTRIBUTING name these fields.
#[test]
fn the_budget_of_memory_is_in_the_json_of_plans_and_of_runs() {
    let case = Case::of_two();
    let (bytes, arithmetic) =
        (16_000_000_000_u64 - (1 << 30), "budget 13.9 GiB = podman VM 14.9 − reserve 1.0");
    let plan = case.plan();
    assert_eq!(
        plan["budget"],
        serde_json::json!({"bytes": bytes, "arithmetic": arithmetic}),
        "the fake engine's VM less the reserve"
    );
    let api = &plan["images"][0];
    assert_eq!(api["memory"], api["memory_configured"]);
    assert_eq!(api["memory_learned"], serde_json::Value::Null);
    let said = case.ok(&["plan", "--verbose"]).stdout;
    assert!(said.contains(arithmetic) && said.contains("1.5 GiB reserved as configured"), "{said}");
    let ran = case.ok(&["images", "--format", "json"]);
    let events = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<serde_json::Value> = events.collect();
    let of = |kind: &str| events.iter().find(|event| event["event"] == kind).unwrap();
    let plan = of("plan");
    assert_eq!((&plan["budget"], &plan["budget_bytes"]), (&arithmetic.into(), &bytes.into()));
    let machine = serde_json::json!({"engine": "podman", "cpus": 2, "memory": 16_000_000_000_u64});
    assert_eq!(plan["machine"], machine);
    assert_eq!(of("build-started")["memory"], 1_610_612_736);
    assert!(of("build-finished").as_object().unwrap().contains_key("peak_memory"));
}

#[test]
fn a_plan_changes_nothing_but_the_state() {
    let case = Case::of_two();
    case.plan();
    assert_eq!(case.calls("").iter().filter(|call| !call.starts_with("info")).count(), 1);
    let made: Vec<_> = fs_err::read_dir(case.path("target/xtask")).unwrap().collect();
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(case.path("target/xtask/state").is_dir());
    assert!(case.path("target/xtask/.gitignore").is_file());
}

#[test]
fn why_names_what_changed() {
    let case = Case::of_two();
    let why = |case: &Case| settled(&case.ok(&["why", "api"]).stdout);
    insta::assert_snapshot!(why(&case), @r"
    api would be built
      no image of this key
      no record of an earlier build
    key   …
    tag   localhost/api:…
    sent  2 files, 2 B
    ");
    case.ok(&["images"]);
    insta::assert_snapshot!(why(&case), @r"
    api is up to date
      up to date
    key   …
    tag   localhost/api:…
    sent  2 files, 2 B
    ");
    (0..25).for_each(|n| case.write(&format!("src/more-{n:02}"), ""));
    case.write("src/a", "2");
    case.write("api.Dockerfile", "FROM scratch\nARG GO=1\nCOPY src /src\n");
    case.write(".dockerignore", "src/b\n");
    let told = why(&case);
    assert!(told.contains("  ignore rules changed\n  changed src/a\n  removed src/b\n"), "{told}");
    assert!(told.contains("  added src/more-00\n"), "{told}");
    assert!(told.contains("\n  and 10 more\n"), "{told}");
    case.run(&["images"]);
    case.write("api.Dockerfile", "FROM scratch\nARG GO=2\nCOPY . /src\n");
    let told = why(&case);
    assert!(told.contains("Dockerfile changed\n"), "{told}");
    assert!(told.contains("build arg GO: 1 → 2\n"), "{told}");
    assert!(
        told.contains("the whole context: an instruction reads the context's root (line 3"),
        "{told}"
    );
}

#[test]
fn a_base_that_moved_is_a_reason() {
    let base = "docker.io/library/debian:12";
    let case = Case::of_two()
        .file("api.Dockerfile", &format!("FROM {base}\nCOPY src /src\n"))
        .engine_file("registry/docker.io%library%debian:12", &"b".repeat(64));
    case.ok(&["images", "api"]);
    assert_eq!(case.decision("api").0, "skip", "the key was taken again with the base's id");
    case.tell_engine(&format!("images/{}", "c".repeat(64)), "");
    case.tell_engine("tags/docker.io%library%debian:12", &"c".repeat(64));
    assert_eq!(case.decision("api"), ("build".into(), vec!["base-image".into()]));
    insta::assert_snapshot!(settled(&case.ok(&["why", "api"]).stdout), @r"
    api would be built
      base image docker.io/library/debian:12: … → …
    key   …
    tag   localhost/api:…
    sent  2 files, 2 B
    base  docker.io/library/debian:12 (cccccccccccc)
    ");
}

/// With the machine's own podman, which alone knows what its images hand down.
#[test]
#[ignore = "needs podman"]
fn what_a_base_hands_down_decides_what_is_sent() {
    let (base, image) = (format!("localhost/xtask-base-{}", std::process::id()), "xtask-on-base");
    let case = Case::with_real_engine()
        .config(&format!("[images.{image}]\ndockerfile = 'Dockerfile'\n"))
        .file("Dockerfile", &format!("FROM {base}\nCOPY $PART /part\n"))
        .file("base/Dockerfile", "FROM scratch\nENV PART=src/lib\nONBUILD COPY conf /conf\n")
        .file("src/lib/a", "1")
        .file("src/main", "1")
        .file("conf/c", "1");
    let build = ["build", "--quiet", "--format", "docker", "--tag", &base, "base"];
    assert!(case.podman(&build), "podman {build:?}");
    case.ok(&["images"]);
    let tag = case.plan()["images"][0]["tag"].as_str().unwrap().to_owned();
    let list = case.ok(&["context", "--list"]).stdout;
    let checked = case.ok(&["context", "--check", "--format", "json"]).stdout;
    let decided = |path: &str| {
        case.write(path, "2");
        let decision = case.decision(image);
        case.write(path, "1");
        decision
    };
    let decisions = ["src/main", "src/lib/a", "conf/c"].map(decided);
    assert!(case.podman(&["rmi", "--force", &tag, &base]));
    let built = |path: &str| ("build".to_owned(), vec![format!("file-changed {path}")]);
    let skipped = ("skip".to_owned(), vec!["up-to-date".to_owned()]);
    assert_eq!(decisions, [skipped, built("src/lib/a"), built("conf/c")]);
    assert_eq!(list, "conf/c\nsrc/lib/a\n");
    assert!(checked.contains("\"files\":2"), "{checked}");
}

#[test]
fn pull_asks_the_registry_for_a_newer_base() {
    let case = Case::of_two()
        .file("api.Dockerfile", "FROM docker.io/library/debian:12\nCOPY src /src\n")
        .engine_file("registry/docker.io%library%debian:12", &"b".repeat(64));
    case.ok(&["images", "api"]);
    case.tell_engine("registry/docker.io%library%debian:12", &"c".repeat(64));
    assert_eq!(case.decision("api").0, "skip", "nobody asked");
    case.calls("");
    case.ok(&["images", "api", "--pull"]);
    let calls = case.calls("");
    assert!(calls.iter().any(|call| call.contains("build ")), "{calls:?}");
}

#[test]
fn a_base_nobody_has_is_the_environment_s_fault() {
    let case = Case::of_two().file("api.Dockerfile", "FROM docker.io/library/debian:12\n");
    let ran = case.run(&["images", "api"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("failed to fetch the base image"), "{ran:#?}");
}

/// An image that was built on another base than its key names would be skipped for good.
#[test]
fn a_base_that_is_moved_under_its_build_gets_the_image_no_tag() {
    let base = "localhost/base:1";
    for (then, why) in [
        (r#"printf %064d 2 >"$base"; : >"$images/$(printf %064d 2)""#, "another image"),
        (r#"rm "$base""#, "no image"),
    ] {
        let case = Case::of_two().file("api.Dockerfile", &format!("FROM {base}\nCOPY src /src\n"));
        let id = format!("{:064}", 1);
        let tag = base.replace('/', "%");
        case.tell_engine(&format!("images/{id}"), "");
        case.tell_engine(&format!("tags/{tag}"), &id);
        let engine = case.engine("").display().to_string();
        let script = format!("base={engine}/tags/{tag} images={engine}/images\n{then}\n");
        case.tell_engine("after-inspect", &script);
        let ran = case.run(&["images", "api"]);
        assert!(case.engine("done").exists(), "{why}: it was moved");
        assert_eq!(case.calls("build").len(), 1, "{why}: {ran:#?}");
        assert_ne!(ran.code, Some(0), "{why}: {ran:#?}");
        let told = format!("its base image `{base}` became another one meanwhile");
        assert!(ran.stderr.contains(&told), "{why}: {ran:#?}");
        let ours = case.tags().iter().filter(|tag| tag.contains("api")).count();
        assert_eq!(ours, 0, "{why}: {:?}", case.tags());
    }
}

#[test]
fn a_file_changed_between_plan_and_staging_gives_the_key_of_what_was_sent() {
    let case = Case::of_two();
    case.tell_engine("after-inspect", &format!("echo 2 > {}", case.path("src/a").display()));
    let before = case.engine("after-inspect");
    let ran = case.ok(&["images", "api"]);
    assert!(!before.exists(), "the edit was made");
    assert!(ran.stderr.contains("files changed since the plan; its key is now"), "{ran:#?}");
    let tags = case.tags();
    assert_eq!(tags.len(), 1, "{tags:?}");
    assert!(case.sent(&tags[0]).unwrap().contains("./src/a 2"));
    assert_eq!(case.decision("api").0, "skip", "what is there now is what was sent");
    // The record tells of what was sent, too.
    case.write("src/b", "3");
    assert_eq!(case.decision("api").1, ["file-changed src/b"]);
}

#[test]
fn a_file_gone_between_plan_and_staging_is_no_fault_and_the_key_is_taken_again() {
    // What becomes of it, and what is sent in its place.
    for (then, sent) in [("", None), ("mkdir", None), ("ln -s b", Some("./src/a two"))] {
        let case = Case::of_two().file("src/b", "two");
        let a = case.path("src/a").display().to_string();
        let then = if then.is_empty() { String::new() } else { format!("{then} {a}") };
        case.tell_engine("after-inspect", &format!("rm {a}\n{then}\n"));
        let ran = case.ok(&["images", "api"]);
        assert!(!case.engine("after-inspect").exists(), "the edit was made");
        assert!(ran.stderr.contains("files changed since the plan; its key is now"), "{ran:#?}");
        let all = case.sent(&case.tags()[0]).unwrap();
        assert_eq!(all.lines().find(|line| line.starts_with("./src/a ")), sent, "{then}: {all}");
        assert!(all.contains("./src/b two"), "{all}");
        assert_eq!(case.decision("api").0, "skip", "what is there now is what was sent");
    }
}

#[test]
fn forced_builds_whatever_is_there() {
    let case = Case::of_two();
    case.ok(&["images"]);
    case.calls("");
    case.ok(&["images", "--force"]);
    let builds = case.calls("").into_iter().filter(|call| call.contains("build "));
    assert_eq!(builds.count(), 2);
}

#[test]
fn what_is_sent_is_what_the_ignore_file_leaves_and_the_dockerfile_reads() {
    let case = Case::of_two()
        .file(".dockerignore", "src/b\n")
        .file("src/vendor/v", "1")
        .file("other", "1");
    case.ok(&["images", "api"]);
    assert_eq!(case.sent(&case.tags()[0]).unwrap(), "./src/a 1\n");
}

#[test]
fn faults_of_usage_end_with_2_and_say_where() {
    let config = |text: &str| Case::of_two().config(text).run(&["plan"]);
    let typo = config("[images.api]\ndockerfile = 'api.Dockerfile'\nmemroy = '1 GiB'\n");
    assert_eq!(typo.code, Some(2), "{typo:#?}");
    assert!(typo.stderr.contains("xtask.toml:3"), "{typo:#?}");
    assert!(typo.stderr.contains("`memory`"), "{typo:#?}");
    let missing = config("[images.api]\ndockerfile = 'no.Dockerfile'\n");
    assert_eq!(missing.code, Some(2), "{missing:#?}");
    assert!(missing.stderr.contains("no.Dockerfile"), "{missing:#?}");
    let unknown = Case::of_two().run(&["why", "apo"]);
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    assert!(unknown.stderr.contains("failed to find image `apo`"), "{unknown:#?}");
    assert!(unknown.stderr.contains("hint: it has api, web"), "{unknown:#?}");
    let bad = Case::of_two().file("web.Dockerfile", "FROM scratch\nCOPPY a b\n").run(&["plan"]);
    assert_eq!(bad.code, Some(2), "{bad:#?}");
    assert!(bad.stderr.contains("web.Dockerfile:2"), "{bad:#?}");
    let pattern = Case::of_two().file(".dockerignore", "a\n[\n").run(&["plan"]);
    assert_eq!(pattern.code, Some(2), "{pattern:#?}");
    assert!(pattern.stderr.contains(".dockerignore:2"), "{pattern:#?}");
}

/// [`Case::of_two`] with a suite of both and one step.
fn of_a_suite() -> Case {
    Case::of_two().config(
        "[images.api]\ndockerfile = 'api.Dockerfile'\n[images.web]\ndockerfile = 'web.Dockerfile'\n\
         [clusters.c]\nname = 'c-e2e'\n\
         [suites.s]\ncluster = 'c'\nimages = ['api', 'web']\ntest = { run = ['true'], counts = 'none' }\n\
         [[suites.s.steps]]\nname = 'seed'\nrun = ['true']\nimages = ['api']\n",
    )
}

#[test]
fn the_plan_of_a_suite_is_its_graph_with_times_of_past_runs() {
    let case = of_a_suite();
    let plan = |case: &Case| -> serde_json::Value {
        let ran = case.ok(&["plan", "--suite", "s", "--format", "json"]);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let told = |plan: &serde_json::Value| -> Vec<String> {
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {}", step["name"], step["needs"])).collect()
    };
    let never = plan(&case);
    insta::assert_snapshot!(told(&never).join("\n"), @r#"
        "cluster" []
        "build api" []
        "load api" ["cluster","build api"]
        "build web" []
        "load web" ["cluster","build web"]
        "seed" ["cluster","load api"]
        "test" ["seed","load web","cluster"]
        "#);
    assert!(never["steps"].as_array().unwrap().iter().all(|step| step.get("seconds").is_none()));
    case.ok(&["images"]);
    case.ok(&["images", "--force"]);
    case.write("src/a", "2");
    let plan = plan(&case);
    let build = &plan["steps"][1];
    assert_eq!(
        (build["name"].as_str(), build["action"].as_str()),
        (Some("build api"), Some("rebuild"))
    );
    assert!(
        build["seconds"].is_f64(),
        "the last build's, since none like it is on record: {build}"
    );
    assert_eq!(plan["images"][0]["seconds"], build["seconds"]);
    assert!(plan["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_chart_of_a_suite_is_a_form_of_its_plan_and_of_nothing_else() {
    let case = of_a_suite();
    let chart = case.ok(&["plan", "--suite", "s", "--format", "mermaid"]).stdout;
    assert!(chart.starts_with("flowchart LR\n"), "{chart}");
    for args in [&["plan"][..], &["images"], &["why", "api"], &["context"], &["e2e", "s"]] {
        let ran = case.run(&[args, &["--format", "mermaid"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ran.stderr.contains("it is a form of `plan --suite` only"));
    }
}
