//! A repository that means harm, and a user who wants to stop: through the command line and a fake
//! engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
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
    // One that ends at once may do so before it says that it is going to.
    assert!(said.contains("stopping …") || said.contains("stopped"), "{said}");
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
    let case = Case::of_two();
    fs_err::remove_file(case.path("xtask.toml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, case.path("xtask.toml"), mode).unwrap();
    let ran = case.run(&["plan"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("not a regular file\nhint: ls -l xtask.toml"), "{}", ran.stderr);
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
    for file in files_below(&case.path("target")) {
        let text = fs_err::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("hunter2"), "{}", file.display());
    }
    assert_eq!(case.decision("api").0, "skip");
    let lint = case.run(&["lint"]);
    assert!(lint.stdout.contains("`NPM_TOKEN` of `api` looks like a secret"), "{}", lint.stdout);
    let plan = case.ok(&["plan"]);
    assert!(plan.stderr.contains("`NPM_TOKEN` looks like a secret"), "{}", plan.stderr);
    let events = files_below(&case.path("target/xtask/runs"));
    let events = events.iter().filter(|file| file.extension().is_some_and(|end| end != "html"));
    for file in events {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap().map(Result::unwrap) {
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    assert!(!files.is_empty());
    files
}

/// A configuration and a kustomization that would run, fetch and read what they can, in commands
/// that run nothing.
#[test]
fn a_plan_of_a_suite_runs_fetches_and_reads_nothing_of_others() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "[images.api]\ndockerfile = 'api.Dockerfile'\n[telemetry]\notlp = 'http://{address}'\n\
         [clusters.c]\nname = 'c-e2e'\nnode-image = 'node:1'\n[suites.s]\ncluster = 'c'\ntest = {{ run = ['sh', '-c', 'touch ran'] }}\n\
         [[suites.s.steps]]\nname = 'hook'\nrun = ['sh', '-c', 'touch ran']\n\
         [[suites.s.steps]]\nname = 'base'\napply = 'k8s'\n"
    );
    for (part, what) in [
        (format!("resources: ['http://{address}/x.yaml']"), "remote"),
        (format!("resources: ['http://{address}/x//y?ref=main']"), "remote base"),
        ("configMapGenerator: [{name: a, files: [/etc/hostname]}]".to_owned(), "file of the host"),
        ("resources: ['../../../../etc/hostname']".to_owned(), "file above"),
        ("generators: [exec.yaml]".to_owned(), "plugin"),
        ("resources: [a.yaml]".to_owned(), "nothing of the kind"),
    ] {
        let case = Case::with_cluster().config(&config);
        // The real one renders what it is given.
        fs_err::remove_file(case.engine("kubectl")).unwrap();
        case.write("api.Dockerfile", "FROM scratch\nCOPY f /\n");
        case.write("k8s/kustomization.yaml", &part);
        case.write("k8s/a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
        let plugin = "apiVersion: v1\nkind: Evil\nmetadata:\n  name: e\n  annotations:\n    \
                      config.kubernetes.io/function: 'exec: {path: ./evil.sh}'\n";
        case.write("k8s/exec.yaml", plugin);
        case.write("k8s/evil.sh", "#!/bin/sh\ntouch ../ran\n");
        fs_err::set_permissions(case.path("k8s/evil.sh"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        for args in [&["plan", "--suite", "s"][..], &["plan"], &["why", "api"], &["lint"], &["gc"]]
        {
            let ran = case.run(args);
            let (out, err) = (&ran.stdout, &ran.stderr);
            let host = fs_err::read_to_string("/etc/hostname").unwrap_or("no such file".into());
            assert!(!out.contains(host.trim()) || host.trim().is_empty(), "{what}: {out}");
            assert!(listener.accept().is_err(), "{what} {args:?}: it was fetched");
            assert!(!case.path("ran").exists(), "{what} {args:?}: {err}");
            if args.contains(&"--suite") {
                let is_left_out = ran.code != Some(0) || err.contains("are not looked at");
                assert_eq!(is_left_out, what != "nothing of the kind", "{what}: {err}");
            }
        }
    }
}

/// What a Dockerfile names reaches no engine as an option.
#[test]
fn a_name_that_is_an_option_reaches_no_engine() {
    let option = "--format=evil";
    for text in [
        format!("FROM {option}\n"),
        format!("ARG B={option}\nFROM ${{B}}\nCOPY src /\n"),
        format!("FROM scratch\nCOPY --from={option} /a /\n"),
        format!("FROM scratch\nRUN --mount=from={option},target=/x true\n"),
        format!("FROM scratch AS a\nONBUILD COPY --from={option} /a /\nFROM a\n"),
        format!("# syntax={option}\nFROM scratch\n"),
    ] {
        let case = Case::of_two();
        case.write("api.Dockerfile", &text);
        for args in [&["plan"][..], &["images", "api"], &["why", "api"], &["lint"], &["doctor"]] {
            let ran = case.run(args);
            let calls = case.calls("").join("\n");
            assert!(!calls.contains("evil"), "{text}{args:?}: {calls}");
            if matches!(args[0], "plan" | "images") {
                assert_eq!(ran.code, Some(2), "{text}{args:?}: {ran:#?}");
                assert!(ran.stderr.contains("`--format"), "{text}{args:?}: {ran:#?}");
            }
        }
    }
}

/// What a manifest names reaches no kubectl as an option.
#[test]
fn an_object_that_is_called_as_an_option_is_refused() {
    for (kind, name, namespace) in
        [("ConfigMap", "--all", "n"), ("ConfigMap", "a", "--all-namespaces"), ("--raw=/", "a", "n")]
    {
        let case = Case::with_cluster().config(
            "[images.api]\ndockerfile = 'api.Dockerfile'\n[clusters.c]\nname = 'c-e2e'\n\
             node-image = 'node:1'\n[suites.s]\ncluster = 'c'\ntest = { run = ['true'] }\n\
             [[suites.s.steps]]\nname = 'base'\napply = 'k8s'\n",
        );
        // The real one renders what it is given.
        fs_err::remove_file(case.engine("kubectl")).unwrap();
        case.write("api.Dockerfile", "FROM scratch\nCOPY f /\n");
        let (kind, name, namespace) =
            [kind, name, namespace].map(|word| format!("'{word}'")).into();
        let text = format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        );
        case.write("k8s/a.yaml", &text);
        let ran = case.run(&["plan", "--suite", "s"]);
        assert!(ran.stderr.contains("is no name of an object"), "{text}: {ran:#?}");
    }
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

/// Root is not asked for its rights everywhere; whoever is not has to be refused as well.
#[test]
#[ignore = "needs root"]
fn all_of_this_holds_for_nobody_too() {
    assert!(support::passed_as_nobody() >= 8);
}
