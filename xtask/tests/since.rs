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
    reasons(&case.ok(&["plan", "--since", "before", "--format", "json"]).stdout)
}

fn reasons(change: &str) -> Vec<String> {
    let change: serde_json::Value = serde_json::from_str(change).unwrap();
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
#[ignore = "needs podman"]
fn what_a_base_hands_down_is_read_on_both_sides_of_a_change() {
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

/// A repository whose configuration lies in `ci/`, beside what its suite reads.
fn committed_below() -> Case {
    let config = "[images.api]\ndockerfile = '../api.Dockerfile'\ncontext = '..'\n\
                  [clusters.c]\nname = 'c'\nconfig = 'kind.yaml'\n\
                  [suites.s]\ncluster = 'c'\nimages = ['api']\n\
                  test = { run = ['cargo', 'test', '-p', 'one', '-p', 'two'], inputs = ['specs/*.txt'] }\n";
    let steps = ["generated", "nested", "linked", "folder", "dotted"];
    let steps =
        steps.map(|name| format!("[[suites.s.steps]]\nname = '{name}'\napply = '../k8s/{name}'\n"));
    let case = Case::new()
        .file("ci/xtask.toml", &format!("{config}{}", steps.concat()))
        .file("ci/kind.yaml", "kind: Cluster\n")
        .file("ci/specs/a.txt", "1")
        .file("ci/specs/a.md", "1")
        .file("api.Dockerfile", "FROM scratch\nCOPY src /src\n")
        .file("src/a", "1")
        .file("README.md", "1")
        .file(".gitignore", "*.log\n")
        .file("config/app.conf", "a")
        .file("config/app.env", "A=1\n")
        .file(
            "k8s/generated/kustomization.yaml",
            "configMapGenerator:\n- name: c\n  files: [app.conf=../../config/app.conf]\n  envs:\n  - \"../../config/app.env\"\n",
        )
        .file("k8s/nested/kustomization.yaml", "resources: [inner]\n")
        .file("k8s/nested/inner/kustomization.yaml", "resources: [../../shared]\n")
        .file("k8s/shared/kustomization.yaml", "resources: [map.yaml]\n")
        .file("k8s/shared/map.yaml", "a: 1\n")
        .file("k8s/dotted/kustomization.yaml", "components: [./../beside]\n")
        .file("k8s/beside/kustomization.yaml", "resources: [map.yaml]\n")
        .file("k8s/beside/map.yaml", "a: 1\n")
        .file("real/file.yaml", "a: 1\n")
        .file("real/folder/map.yaml", "a: 1\n")
        .file("k8s/linked/own.yaml", "a: 1\n");
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, case.path(at)).unwrap();
    link("../../real/file.yaml", "k8s/linked/file.yaml");
    link("../real/folder", "k8s/folder");
    git(&case, &["init", "--quiet"]);
    commit(&case);
    git(&case, &["tag", "before"]);
    case
}

fn touched_below(case: &Case) -> Vec<String> {
    let args = ["--config", "ci/xtask.toml", "plan", "--since", "before", "--format", "json"];
    reasons(&case.ok(&args).stdout)
}

#[test]
fn what_a_suite_reads_is_seen_wherever_in_the_repository_it_lies() {
    let case = committed_below();
    assert_eq!(touched_below(&case), [""; 0]);
    for path in [
        "config/app.conf",
        "config/app.env",
        "k8s/shared/map.yaml",
        "k8s/beside/map.yaml",
        "real/file.yaml",
        "real/folder/map.yaml",
        "k8s/linked/own.yaml",
        "k8s/linked/new.yaml",
        "ci/kind.yaml",
        "ci/specs/a.txt",
        "ci/specs/new.txt",
    ] {
        case.write(path, "other: 2\n");
        assert_eq!(touched_below(&case), [format!("suite s: changed {path}")]);
        git(&case, &["checkout", "--quiet", "."]);
        git(&case, &["clean", "--quiet", "--force", "-d"]);
    }
    // What is gone was read; xtask's own files, and what git ignores, are in no change.
    fs_err::remove_file(case.path("ci/specs/a.txt")).unwrap();
    for path in ["README.md", "ci/specs/a.md", "k8s/linked/a.log", "ci/target/xtask/own"] {
        case.write(path, "2");
    }
    assert_eq!(touched_below(&case), ["suite s: changed ci/specs/a.txt"]);
    case.write("src/a", "2");
    let now = touched_below(&case);
    assert!(now.contains(&"image api: file-changed src/a".to_owned()), "{now:?}");
    case.write("src/a", "1");
    // Who may read a file is nothing that git knows.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs_err::set_permissions(case.path("src/a"), mode).unwrap();
    assert_eq!(touched_below(&case), ["suite s: changed ci/specs/a.txt"]);
}

#[test]
fn files_outside_the_repository_touch_what_reads_them() {
    let case = committed_below();
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("map.yaml"), "a: 1").unwrap();
    std::os::unix::fs::symlink(outside.path(), case.path("k8s/linked/out")).unwrap();
    let real = fs_err::canonicalize(outside.path()).unwrap();
    let now = touched_below(&case);
    let reason = format!("suite s: reads {}, outside the repository", real.display());
    assert!(now.contains(&reason), "{now:?}");
}

#[test]
fn every_package_that_is_tested_counts_and_without_any_every_file() {
    let case = committed();
    let config = |run: &str| CONFIG.replace("['cargo', 'test', '--package', 'specs']", run);
    let other = ["suite api: changed other/src/lib.rs"];
    for (run, expected) in [
        ("['cargo', 'test', '-p', 'specs', '--package=other', '--', '-p', 'x']", &other[..]),
        ("['cargo', 'test', '-pspecs', '--', '-p', 'other']", &[]),
        ("['go', 'test', './...']", &other),
    ] {
        case.write("xtask.toml", &config(run));
        git(&case, &["commit", "--quiet", "--all", "--message", "another test"]);
        git(&case, &["tag", "--force", "before"]);
        case.write("other/src/lib.rs", "");
        assert_eq!(touched(&case), expected, "{run}");
        fs_err::remove_dir_all(case.path("other/src")).unwrap();
    }
}

#[test]
fn a_submodule_is_compared_file_by_file_and_nothing_of_git_is_sent() {
    let library = Case::new().file("a.txt", "1").file("b.txt", "1");
    git(&library, &["init", "--quiet"]);
    commit(&library);
    let case = Case::new()
        .config("[images.api]\ndockerfile = 'Dockerfile'\n[images.whole]\ndockerfile = 'whole.Dockerfile'\n")
        .file("Dockerfile", "FROM scratch\nCOPY third /third\n")
        .file("whole.Dockerfile", "FROM scratch\nCOPY . /\n")
        .file(".gitignore", "/target\n");
    git(&case, &["init", "--quiet"]);
    let from = library.path("");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    git(&case, &[&add[..], &[from.to_str().unwrap(), "third/lib"]].concat());
    commit(&case);
    git(&case, &["tag", "before"]);
    assert_eq!(touched(&case), [""; 0]);
    case.write("third/lib/b.txt", "2");
    let changed = |image: &str| format!("image {image}: file-changed third/lib/b.txt");
    assert_eq!(touched(&case), [changed("api"), changed("whole")]);
}

#[test]
fn a_hook_of_a_linked_work_tree_sees_that_work_tree() {
    let case = committed_below();
    let beside = tempfile::tempdir().unwrap();
    let tree = beside.path().join("tree");
    git(&case, &["worktree", "add", "--quiet", tree.to_str().unwrap()]);
    let of_git = |name: &str| {
        let mut asked = case.other_command("git", &["rev-parse", "--absolute-git-dir"]);
        let folder = support::ran(asked.current_dir(&tree)).stdout;
        (name.to_owned(), folder.trim().to_owned())
    };
    let (_, folder) = of_git("GIT_DIR");
    fs_err::write(tree.join("config/app.conf"), "2").unwrap();
    let mut command = case.command(&["plan", "--since", "before", "--format", "json"]);
    command.current_dir(tree.join("ci")).env("GIT_DIR", &folder);
    command.env("GIT_INDEX_FILE", format!("{folder}/index")).env("GIT_PREFIX", "ci/");
    let ran = support::ran(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(reasons(&ran.stdout), ["suite s: changed config/app.conf"]);
}

#[test]
fn a_revision_without_a_configuration_is_said() {
    let case = Case::of_two().file(".gitignore", "/target\n");
    fs_err::rename(case.path("xtask.toml"), case.path("later.toml")).unwrap();
    git(&case, &["init", "--quiet"]);
    commit(&case);
    git(&case, &["tag", "before"]);
    fs_err::rename(case.path("later.toml"), case.path("xtask.toml")).unwrap();
    let ran = case.ok(&["plan", "--since", "before"]);
    let note = "note: there was no `xtask.toml` then: everything is touched";
    assert!(ran.stderr.lines().any(|line| line == note), "{ran:#?}");
    assert!(ran.stdout.contains("2 images"), "{ran:#?}");
}

#[test]
fn only_what_images_can_read_is_laid_out() {
    let case = committed().file("assets/large", &"x".repeat(1 << 20)).file("src/api/b", "1");
    commit(&case);
    git(&case, &["tag", "--force", "before"]);
    // With the object gone, whoever wants the file fails.
    let object = support::ran(&mut case.other_command("git", &["rev-parse", "HEAD:assets/large"]));
    let object = object.stdout.trim().to_owned();
    let (folder, file) = object.split_at(2);
    fs_err::remove_file(case.path(&format!(".git/objects/{folder}/{file}"))).unwrap();
    case.write("src/api/b", "2");
    assert_eq!(touched(&case), ["image api: file-changed src/api/b", "suite api: image api"]);
}
