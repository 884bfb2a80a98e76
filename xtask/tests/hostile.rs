//! A repository that means harm, and a user who wants to stop: through the command line and a fake engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::io::Read as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use support::Case;

/// Sets the clipboard, clears the screen, forges a command of GitHub's, turns the writing round.
const NAME: &str = "a\x1b]52;c;ZXZpbA==\x07b\x1b[2J\r##[error]forged\u{202e}\u{9b}2J";

fn controls(text: &str) -> bool {
    let harmless = |c: char| matches!(c, '\n' | '\t');
    text.contains(|c: char| (c.is_control() && !harmless(c)) || c == '\u{202e}')
}

#[test]
fn names_of_files_reach_the_terminal_and_github_as_text() {
    let case = Case::of_two();
    case.ok(&["images"]);
    case.write(&format!("src/{NAME}"), "x");
    case.write("src/::add-mask::a", "x");
    for args in [
        &["plan"][..],
        &["plan", "--format", "json"],
        &["why", "api"],
        &["context", "api"],
        &["context", "--format", "json"],
        &["images", "--format", "json"],
    ] {
        let mut command = case.command(args);
        let ran = support::ran(command.env("GITHUB_ACTIONS", "true"));
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!controls(text), "{args:?}: {text:?}");
            assert!(!text.contains("##["), "{args:?}: {text}");
            let commands = text.lines().filter(|line| line.trim_start().starts_with("::"));
            assert_eq!(commands.count(), 0, "{args:?}: {text}");
        }
    }
    // For a script the list is exact.
    assert!(case.ok(&["context", "--list", "-0", "api"]).stdout.contains(NAME));
}

#[test]
fn a_signal_ends_what_is_being_hashed() {
    let case = Case::of_two();
    let huge = case.path("src/huge");
    fs_err::File::create(&huge).unwrap().set_len(900 << 30).unwrap();
    let mut command = case.command(&["plan"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let files = format!("/proc/{}/fd", child.id());
    let is_hashing = || {
        let files = fs_err::read_dir(&files).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs_err::read_link(file.path()).is_ok_and(|to| to == huge))
    };
    while !is_hashing() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it read the file");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // To hash all of it takes a quarter of an hour.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("stopping …"), "{said}");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let case = Case::of_two();
    fs_err::remove_file(case.path("api.Dockerfile")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, case.path("api.Dockerfile"), mode).unwrap();
    let ran = case.run(&["plan"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let case = Case::of_two();
    rustix::fs::mkfifoat(rustix::fs::CWD, case.path("build.sh"), mode).unwrap();
    fs_err::os::unix::fs::symlink("/dev/zero", case.path("zero.sh")).unwrap();
    case.run(&["lint"]);
}

#[test]
fn values_of_arguments_that_look_like_secrets_are_written_nowhere() {
    let case = Case::of_two().config(
        "[images.api]\ndockerfile = 'api.Dockerfile'\nargs = { NPM_TOKEN = 'hunter2' }\n\
         [images.web]\ndockerfile = 'web.Dockerfile'\n",
    );
    case.write("api.Dockerfile", "FROM scratch\nARG NPM_TOKEN\nCOPY src /src\n");
    case.ok(&["images"]);
    let calls = case.calls("").join("\n");
    assert!(calls.contains("--build-arg NPM_TOKEN ") && !calls.contains("hunter2"), "{calls}");
    let mut folders = vec![case.path("target")];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let text = fs_err::read(entry.path()).unwrap();
                let text = String::from_utf8_lossy(&text);
                assert!(!text.contains("hunter2"), "{}", entry.path().display());
            }
        }
    }
    assert_eq!(case.decision("api").0, "skip");
    let lint = case.run(&["lint"]);
    assert!(lint.stdout.contains("`NPM_TOKEN` of `api` looks like a secret"), "{}", lint.stdout);
}

#[test]
fn a_dockerfile_that_doubles_its_values_is_taken_for_what_reads_everything() {
    let case = Case::of_two();
    let line = |line: usize| format!("ARG A{line}=${{A{0}}}${{A{0}}}", line - 1);
    let lines = (1..60).map(line).collect::<Vec<_>>().join("\n");
    let text = format!("FROM scratch\nENV A0=xxxxxxxx\n{lines}\nCOPY $A59 /\n");
    case.write("api.Dockerfile", &text);
    let ran = case.ok(&["context", "api"]);
    assert!(ran.stdout.contains("more than is expanded"), "{}", ran.stdout);
}
