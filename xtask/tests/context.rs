//! `xtask context` as scripts and people use it: the real binary on small directories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "raw output and exit code of the binary are what is tested"
)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A directory that is removed when dropped.
struct Place(tempfile::TempDir);

/// How a run ended.
struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: impl AsRef<Path>, text: &str) {
        let file = self.path().join(path);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, text).unwrap();
    }

    fn dir(&self, path: &str) {
        fs_err::create_dir_all(self.path().join(path)).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        fs_err::os::unix::fs::symlink(target, self.path().join(path)).unwrap();
    }

    /// `xtask ARGS` in this directory.
    fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).current_dir(self.path()).env("NO_COLOR", "1");
        command
    }

    /// Every path there is, with the bytes of files.
    fn everything(&self) -> Vec<String> {
        let list = Command::new("find").arg(self.path()).args(["-printf", "%p %s %T@\n"]).output();
        let mut lines: Vec<_> =
            String::from_utf8_lossy(&list.unwrap().stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

impl Ran {
    /// What went to stdout, of a run that ended well.
    fn text(&self) -> String {
        assert_eq!((self.code, &*self.err), (0, ""));
        String::from_utf8(self.out.clone()).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap()
    }
}

#[test]
fn a_list_is_sorted_by_bytes_and_marks_folders_and_links() {
    let place = Place::new(&[
        (".dockerignore", "*.tmp\nsecret/*\n"),
        ("a/x", ""),
        ("a-b", ""),
        ("B", ""),
        ("é", ""),
        ("scratch/one.tmp", "kept: the pattern is anchored at the root"),
        ("top.tmp", ""),
        ("secret/key", ""),
    ]);
    place.dir("empty/below");
    place.link("../nowhere", "a/link");
    let expected = [
        ".dockerignore",
        "B",
        "a-b",
        "a/link -> ../nowhere",
        "a/x",
        "empty/below/",
        "scratch/one.tmp",
        "secret/",
        "é",
    ];
    assert_eq!(place.run(&["context", "--dir", ".", "--list"]).lines(), expected);
    let null = place.run(&["context", "--dir", ".", "--list", "-0"]).text();
    assert_eq!(null, expected.map(|line| format!("{line}\0")).concat());
}

#[test]
fn a_directory_is_read_as_it_is_and_nothing_is_written_there() {
    // A broken config, and folders the config's default `exclude` would leave out.
    let place = Place::new(&[("xtask.toml", "["), ("vendor/v.go", ""), ("a/target/t", "")]);
    let before = place.everything();
    let list = place.run(&["context", "--dir", ".", "--list"]).lines();
    assert_eq!(list, ["a/target/t", "vendor/v.go", "xtask.toml"]);
    place.run(&["context", "--dir", "."]).text();
    assert_eq!(place.everything(), before);
}

#[test]
fn global_flags_stand_before_or_after_the_verb() {
    let place = Place::new(&[("a", "12")]);
    let before = place.run(&["--format", "json", "context", "--dir", "."]);
    let after = place.run(&["context", "--dir", ".", "--format", "json"]);
    assert_eq!((before.code, &before.out), (0, &after.out));
}

#[test]
fn json_has_the_form_scripts_rely_on() {
    let dockerfile = "FROM debian:bookworm-slim AS base\nFROM base\nCOPY src link empty /\n";
    let place = Place::new(&[("Dockerfile", dockerfile), ("src/a", "12345"), ("other", "")]);
    place.link("src", "link");
    place.dir("empty");
    let ran = place.run(&["context", "--dir", ".", "--file", "Dockerfile", "--format", "json"]);
    let json = ran.json();
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["images"]);
    let image = &json["images"][0];
    let mut keys: Vec<_> = image.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["bases", "bytes", "entries", "files", "name", "whole_context"]);
    assert_eq!(image["name"], place.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(image["bases"], serde_json::json!(["debian:bookworm-slim"]));
    assert_eq!(image["whole_context"], false);
    assert_eq!(image["bytes"], 5);
    let entry = |path: &str, kind: &str, size: u64| serde_json::json!({"path": path, "kind": kind, "size": size});
    assert_eq!(
        image["entries"],
        serde_json::json!([
            entry("empty", "dir", 0),
            entry("link", "symlink", 0),
            entry("src/a", "file", 5)
        ])
    );
    assert_eq!(image["files"], 2);
}

#[test]
fn a_dockerfile_narrows_the_list_by_target_and_arguments() {
    let dockerfile = "ARG FROM=a\nFROM scratch AS one\nARG FROM\nCOPY ${FROM}.txt /\n\
                      FROM scratch AS two\nCOPY two /\n";
    let place =
        Place::new(&[("d/Dockerfile", dockerfile), ("a.txt", ""), ("b.txt", ""), ("two/x", "")]);
    let list = |more: &[&str]| {
        let args = ["context", "--dir", ".", "--list", "--file", "d/Dockerfile"];
        place.run(&[&args[..], more].concat()).lines()
    };
    assert_eq!(list(&[]), ["two/x"]);
    assert_eq!(list(&["--target", "one"]), ["a.txt"]);
    assert_eq!(list(&["--target", "one", "--build-arg", "FROM=b"]), ["b.txt"]);
    let ran = place.run(&["context", "--dir", ".", "--file", "d/Dockerfile", "--target", "three"]);
    assert!(ran.code == 2 && ran.err.contains("three"), "{}", ran.err);
    let ran =
        place.run(&["context", "--dir", ".", "--file", "d/Dockerfile", "--build-arg", "FROM"]);
    assert!(ran.code == 2 && ran.err.contains("--build-arg FROM"), "{}", ran.err);
}

#[test]
fn a_dockerfile_is_looked_for_here_then_in_the_directory() {
    let place = Place::new(&[
        ("app/Dockerfile", "FROM scratch\nCOPY inner /\n"),
        ("app/inner", ""),
        ("app/outer", ""),
    ]);
    let list = || place.run(&["context", "--dir", "app", "--file", "Dockerfile", "--list"]).lines();
    assert_eq!(list(), ["inner"]);
    place.write("Dockerfile", "FROM scratch\nCOPY outer /\n");
    assert_eq!(list(), ["outer"]);
    let ran = place.run(&["context", "--dir", "app", "--file", "none"]);
    assert_eq!((ran.code, ran.err.contains("there is no Dockerfile `none`")), (2, true));
}

#[test]
fn an_ignore_file_beside_a_dockerfile_outside_the_context_applies() {
    let place = Place::new(&[
        ("ctx/.dockerignore", "*"),
        ("ctx/a", ""),
        ("ctx/b", ""),
        ("build/api.Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("build/api.Dockerfile.dockerignore", "b\n"),
    ]);
    let args = ["context", "--dir", "ctx", "--file", "build/api.Dockerfile", "--list"];
    assert_eq!(place.run(&args).lines(), [".dockerignore", "a"]);
    assert_eq!(place.run(&args[..3]).text(), "ctx: 0 files, 0 B\n");
}

#[test]
fn a_fault_in_a_file_exits_2_and_names_file_and_line() {
    let place = Place::new(&[
        (".dockerignore", "fine\n[a-\n"),
        ("Dockerfile", "FROM scratch\nCOPPY . /\n"),
    ]);
    let ran = place.run(&["context", "--dir", "."]);
    assert!(ran.code == 2 && ran.err.contains(".dockerignore:2:"), "{}", ran.err);
    // Of a pattern that only its use shows to mean nothing.
    place.write(".dockerignore", "fine\n[z-a]\n");
    let ran = place.run(&["context", "--dir", "."]);
    let told = ".dockerignore:2: `[z-a]`: the range `z-a` runs backwards";
    assert!(ran.code == 2 && ran.err.contains(told), "{}", ran.err);
    place.write(".dockerignore", "");
    let ran = place.run(&["context", "--dir", ".", "--file", "Dockerfile", "--list"]);
    assert!(ran.code == 2 && ran.err.contains("Dockerfile:2:"), "{}", ran.err);
    let ran = place.run(&["context", "--dir", "nowhere"]);
    assert!(
        ran.code == 2 && ran.err.contains("failed to find the directory `nowhere`"),
        "{}",
        ran.err
    );
}

#[test]
fn names_that_are_not_text_are_listed_byte_by_byte() {
    let place = Place::new(&[]);
    place.write(OsStr::from_bytes(b"\xff\xfe.txt"), "");
    place.write("with\nnewline", "");
    let ran = place.run(&["context", "--dir", ".", "--list", "-0"]);
    assert_eq!((ran.code, &*ran.out), (0, &b"with\nnewline\0\xff\xfe.txt\0"[..]));
    let ran = place.run(&["context", "--dir", ".", "--format", "json"]);
    assert_eq!(ran.json()["images"][0]["entries"][1]["path"], "\u{fffd}\u{fffd}.txt");
}

/// podman builds where a folder that nothing copies cannot be read. root may read anything, unless
/// it is without the right.
#[test]
fn a_folder_that_cannot_be_read_is_a_fault_where_something_copies_it() {
    let rights = "-dac_override,-dac_read_search";
    let place = Place::new(&[
        ("a", "1"),
        ("closed/b", "2"),
        ("one", "FROM scratch\nCOPY a /\n"),
        ("two", "FROM scratch\nCOPY closed /\n"),
    ]);
    let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    fs_err::set_permissions(place.path().join("closed"), mode(0)).unwrap();
    let list = |file: &str| {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.args(["--bounding-set", rights, "--inh-caps", rights]);
        }
        command.arg(env!("CARGO_BIN_EXE_xtask")).args(["context", "--dir", ".", "--list"]);
        command.args(["--file", file]).current_dir(place.path()).output().unwrap()
    };
    let (one, two) = (list("one"), list("two"));
    fs_err::set_permissions(place.path().join("closed"), mode(0o700)).unwrap();
    assert_eq!((one.status.code(), &*one.stdout), (Some(0), &b"a\n"[..]), "{one:?}");
    assert_eq!(two.status.code(), Some(3), "{two:?}");
    let told = String::from_utf8_lossy(&two.stderr);
    assert!(told.contains("closed`: permission denied") && told.contains("hint: "), "{told}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let place = Place::new(&[]);
    let long = "x".repeat(200);
    for number in 0..2000 {
        place.write(format!("{number}-{long}"), "");
    }
    let mut command = place.command(&["context", "--dir", ".", "--list"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 10];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut start).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_summary_names_the_largest_paths_and_folders_and_what_to_leave_out() {
    let place = Place::new(&[
        ("src/main.go", &"x".repeat(3000)),
        ("src/deep/down/x.go", &"x".repeat(1000)),
        ("vendor/a.go", &"x".repeat(2048)),
        ("vendor/b.go", &"x".repeat(2048)),
        ("README.md", "x"),
    ]);
    let text = place.run(&["context", "--dir", "."]).text();
    let (_, text) = text.split_once('\n').unwrap();
    insta::assert_snapshot!(text, @"
      largest paths
         2.9 KiB  src/main.go
         2.0 KiB  vendor/a.go
         2.0 KiB  vendor/b.go
          1000 B  src/deep/down/x.go
             1 B  README.md
      largest folders
         4.0 KiB  ########          vendor/ 2 files
         3.9 KiB  ########          src/ 2 files
          1000 B  ##                  deep/down/ 1 file
      suggestions
      `vendor/` 4.0 KiB, 2 files: add `vendor/` to .dockerignore
    ");
    let shown = place.run(&["context", "--dir", ".", "--color", "always"]).text();
    assert!(shown.contains('█') && shown.contains("\x1b["));
}

/// Two configured images, the first with a line of our choice.
fn configured(budget: &str) -> Place {
    let place = Place::new(&[
        ("docker/app.Dockerfile", "FROM scratch\nCOPY src /\n"),
        ("docker/web.Dockerfile", "FROM scratch\nCOPY web /\n"),
        ("src/a", "12345"),
        ("src/vendor/b", "left out by default"),
        ("web/c", "1234567890"),
    ]);
    let app = format!("[images.app]\ndockerfile = \"docker/app.Dockerfile\"\n{budget}\n");
    let web = "[images.web]\ndockerfile = \"docker/web.Dockerfile\"\nbudget = { files = 5 }\n";
    place.write("xtask.toml", &format!("{app}{web}"));
    place
}

#[test]
fn a_check_holds_contexts_to_their_budgets() {
    let place = configured("budget = { files = 1, bytes = \"5 B\" }");
    assert_eq!(place.run(&["context", "--check"]).text(), "");
    place.write("src/new", "123");
    let ran = place.run(&["context", "--check"]);
    assert_eq!((ran.code, ran.out.len()), (1, 0));
    insta::assert_snapshot!(ran.err, @"
    over budget: app: 2 files, 1 file allowed; 8 B, 5 B allowed
      largest paths
             5 B  src/a
             3 B  src/new
    hint: cargo xtask context app --list
    ");
    let ran = place.run(&["context", "--check", "--format", "json"]);
    assert_eq!((ran.code, &*ran.err), (1, ""));
    let expected = serde_json::json!({"ok": false, "images": [
        {"name": "app", "files": 2, "bytes": 8, "budget": {"files": 1, "bytes": 5}, "over": true},
        {"name": "web", "files": 1, "bytes": 10, "budget": {"files": 5, "bytes": null}, "over": false},
    ]});
    assert_eq!(ran.json(), expected);
    assert_eq!(place.run(&["context", "--check", "web"]).code, 0);
    assert_eq!(place.run(&["context", "--check", "--dir", "."]).code, 2);
    assert_eq!(configured("").run(&["context", "--check"]).text(), "");
}

#[test]
fn images_of_the_configuration_are_listed_together_each_path_once() {
    let place = configured("");
    assert_eq!(place.run(&["context", "--list"]).lines(), ["src/a", "web/c"]);
    assert_eq!(place.run(&["context", "web", "--list"]).lines(), ["web/c"]);
    let ran = place.run(&["context", "wep"]);
    assert!(ran.code == 2 && ran.err.contains("failed to find image `wep`"), "{}", ran.err);
}

#[test]
fn a_go_package_is_sent_with_what_it_imports() {
    let place = Place::new(&[
        ("Dockerfile", "FROM scratch\nCOPY . .\n"),
        ("go.mod", "module a.b/m\n"),
        ("cmd/x/main.go", "package main\nimport _ \"a.b/m/used\"\n"),
        ("used/u.go", "package used\n"),
        ("unused/u.go", "package unused\n"),
        ("xtask.toml", "[images.x]\ndockerfile = \"Dockerfile\"\ninputs = { go = \"./cmd/x\" }\n"),
    ]);
    let list = || place.run(&["context", "x", "--list"]).lines();
    let whole = || place.run(&["context", "x", "--format", "json"]).text();
    assert_eq!(list(), ["cmd/x/main.go", "go.mod", "used/u.go"]);
    assert!(whole().contains("\"whole_context\":false"), "{}", whole());
    place.write("used/u.go", "package used\nimport _ \"a.b/m/generated\"\n");
    assert_eq!(list().len(), 6);
    let summary = place.run(&["context", "x"]).text();
    let reason = "the whole module: `a.b/m/generated` is imported and not in the context";
    assert!(summary.contains(reason), "{summary}");
    assert!(whole().contains("\"whole_context\":true"), "{}", whole());
    place.write(
        "xtask.toml",
        "[images.x]\ndockerfile = \"Dockerfile\"\ninputs = { go = \"cmd/y\" }\n",
    );
    let ran = place.run(&["context", "x"]);
    assert!(ran.code == 2 && ran.err.contains("there is no Go package `cmd/y`"), "{}", ran.err);
}
