//! What a change touches (`plan --since`), in repositories of its own, and the form for workflows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::Case;

const CONFIG: &str = "
[images.api]
dockerfile = 'api.Dockerfile'
[images.web]
dockerfile = 'web.Dockerfile'
[clusters.c]
name = 'c'
[suites.api]
cluster = 'c'
images = ['api']
steps = [{ name = 'api', apply = 'k8s/api' }]
test = { run = ['cargo', 'test', '--package', 'specs'] }
[suites.web]
cluster = 'c'
images = ['web']
steps = [{ name = 'web', apply = 'k8s/web' }]
";

/// Two images, two suites, committed as `before`.
fn committed() -> Case {
    let case = Case::new()
        .config(CONFIG)
        .file("api.Dockerfile", "FROM scratch\nCOPY src/api /src\n")
        .file("web.Dockerfile", "FROM debian\nCOPY src/web /src\n")
        .file("src/api/a", "1")
        .file("src/web/a", "1")
        .file("src/neither", "1")
        .file(".gitignore", "/target\n*.log\n")
        .file(".dockerignore", "**/*.md\n")
        .file("Cargo.toml", "[workspace]\nmembers = ['specs', 'other']\n")
        .file("specs/Cargo.toml", "[package]\nname = 'specs'\n")
        .file("other/Cargo.toml", "[package]\nname = 'other'\n")
        .file("k8s/api/kustomization.yaml", "resources:\n- ../base\n- api.yaml\n")
        .file("k8s/api/api.yaml", "a: 1\n")
        .file("k8s/base/kustomization.yaml", "resources: [base.yaml]\n")
        .file("k8s/base/base.yaml", "a: 1\n")
        .file("k8s/web/web.yaml", "a: 1\n");
    git(&case, &["init", "--quiet"]);
    commit(&case);
    git(&case, &["tag", "before"]);
    case
}

fn git(case: &Case, args: &[&str]) {
    let me = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let ran = support::ran(&mut case.other_command("git", &[&me[..], args].concat()));
    assert_eq!(ran.code, Some(0), "git {args:?}: {ran:#?}");
}

fn commit(case: &Case) {
    git(case, &["add", "--all"]);
    git(case, &["commit", "--quiet", "--allow-empty", "--message", "a change"]);
}

/// `image:reason` and `suite:reason` of everything touched.
fn touched(case: &Case) -> Vec<String> {
    let ran = case.ok(&["plan", "--since", "before", "--format", "json"]);
    let change: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut told = Vec::new();
    for (list, kind) in [("images", "image"), ("suites", "suite")] {
        for one in change[list].as_array().unwrap() {
            for reason in one["reasons"].as_array().unwrap() {
                let reason = match reason {
                    serde_json::Value::String(text) => text.clone(),
                    reason => {
                        let path = reason["path"].as_str().unwrap_or_default();
                        format!("{} {path}", reason["kind"].as_str().unwrap())
                    }
                };
                told.push(format!("{kind} {}: {}", one["name"].as_str().unwrap(), reason.trim()));
            }
        }
    }
    told
}

#[test]
fn what_reaches_a_key_touches_its_image_and_the_suites_of_it() {
    for (path, text, expected) in [
        ("src/neither", "2", &[][..]),
        ("other/src/lib.rs", "", &[]),
        ("src/web/seen.log", "ignored by git", &[]),
        ("src/api/text.md", "ignored by Docker", &[]),
        ("src/api/a", "2", &["image api: file-changed src/api/a", "suite api: image api"]),
        ("src/api/new", "2", &["image api: file-added src/api/new", "suite api: image api"]),
        (
            "web.Dockerfile",
            "FROM debian\nCOPY src/web /srv\n",
            &["image web: dockerfile", "suite web: image web"],
        ),
        ("k8s/web/web.yaml", "a: 2\n", &["suite web: changed k8s/web/web.yaml"]),
        ("k8s/base/base.yaml", "a: 2\n", &["suite api: changed k8s/base/base.yaml"]),
        ("specs/src/lib.rs", "", &["suite api: changed specs/src/lib.rs"]),
    ] {
        let case = committed();
        assert_eq!(touched(&case), [""; 0]);
        case.write(path, text);
        assert_eq!(touched(&case), expected, "{path} in the working tree");
        commit(&case);
        assert_eq!(touched(&case), expected, "{path} committed");
    }
}

#[test]
fn the_configuration_and_the_ignore_file_are_those_of_the_revision() {
    let case = committed();
    case.write("xtask.toml", &CONFIG.replace("'k8s/web' }]", "'k8s/web' }]\ntimeout = '9m'"));
    assert_eq!(touched(&case), ["suite web: its definition"]);
    case.write("xtask.toml", &CONFIG.replace("api.Docker", "new.Docker"));
    case.write("new.Dockerfile", "FROM scratch\nCOPY src/api /src\nUSER 1\n");
    assert_eq!(touched(&case), ["image api: dockerfile", "suite api: image api"]);
    case.write("xtask.toml", CONFIG);
    case.write("src/api/text.md", "ignored so far");
    assert_eq!(touched(&case), [""; 0]);
    case.write(".dockerignore", "*.txt\n");
    let now = touched(&case);
    assert!(now.contains(&"image api: file-added src/api/text.md".to_owned()), "{now:?}");
}

#[test]
fn a_change_begins_where_it_left_the_revision_and_nothing_of_git_is_changed() {
    let case = committed();
    git(&case, &["checkout", "--quiet", "-b", "mine"]);
    case.write("src/api/a", "mine");
    commit(&case);
    git(&case, &["checkout", "--quiet", "-b", "theirs", "before"]);
    case.write("src/web/a", "theirs");
    commit(&case);
    git(&case, &["tag", "--force", "before"]);
    git(&case, &["checkout", "--quiet", "mine"]);
    let status = |case: &Case| support::ran(&mut case.other_command("git", &["status"])).stdout;
    let before = status(&case);
    assert_eq!(touched(&case), ["image api: file-changed src/api/a", "suite api: image api"]);
    assert_eq!(status(&case), before);
    let calls = case.calls("");
    let asks = |call: &String| call.starts_with("info") || call.starts_with("image inspect");
    assert!(calls.len() <= 2 && calls.iter().all(asks), "{calls:?}");
    let left = fs_err::read_dir(case.path("target/xtask/stage")).unwrap().count();
    assert_eq!(left, 0, "the checkout was left");
    let ran = case.run(&["plan", "--since", "nowhere"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("failed to find the revision `nowhere`"), "{ran:#?}");
}

/// With the machine's own podman, which alone knows what its images hand down.
#[test]
fn what_a_base_hands_down_is_read_on_both_sides_of_a_change() {
    if std::env::var_os("XTASK_UNIT_ONLY").is_some() {
        return;
    }
    let base = format!("localhost/xtask-since-{}", std::process::id());
    let case = Case::with_real_engine()
        .config("[images.api]\ndockerfile = 'Dockerfile'\n")
        .file("Dockerfile", &format!("FROM {base}\nCOPY $PART /part\n"))
        .file("base/Dockerfile", "FROM scratch\nENV PART=src/lib\nONBUILD COPY conf /conf\n")
        .file("src/lib/a", "1")
        .file("src/main", "1")
        .file("conf/c", "1")
        .file(".gitignore", "/target\n");
    let build = ["build", "--quiet", "--format", "docker", "--tag", &base, "base"];
    assert!(case.podman(&build), "podman {build:?}");
    git(&case, &["init", "--quiet"]);
    commit(&case);
    git(&case, &["tag", "before"]);
    let touched_by = |path: &str| {
        case.write(path, "2");
        let touched = touched(&case);
        case.write(path, "1");
        touched
    };
    let all = ["src/main", "src/lib/a", "conf/c"].map(touched_by);
    assert!(case.podman(&["rmi", "--force", &base]));
    assert_eq!(all[0], [""; 0]);
    assert_eq!(all[1], ["image api: file-changed src/lib/a"]);
    assert_eq!(all[2], ["image api: file-changed conf/c"]);
}

#[test]
fn a_workflow_gets_lines_with_what_is_to_be_built() {
    let case = committed();
    let all = case.ok(&["plan", "--format", "github"]).stdout;
    assert!(all.starts_with("build=true\nmatrix={\"include\":[{\"suite\":\"api\","), "{all}");
    case.write("src/web/a", "2");
    let since = case.ok(&["plan", "--since", "before", "--format", "github"]).stdout;
    assert_eq!(
        since,
        "build=true\nmatrix={\"include\":[{\"suite\":\"web\",\"image\":\"web\"}]}\n\
         run=true\nsuites={\"include\":[{\"suite\":\"web\"}]}\n"
    );
    assert_eq!(case.run(&["images", "--format", "github"]).code, Some(2));
}
