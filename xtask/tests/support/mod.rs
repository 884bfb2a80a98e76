//! The command line over a workspace of its own and a fake engine: a case costs one line a file.
//!
//! `podman` beside this file is put first on PATH. What it holds are files, so a test can look at
//! its images and take them away behind xtask's back.
#![allow(dead_code, reason = "each test uses its part")]
#![expect(clippy::disallowed_methods, reason = "a test's own child, not one of the tool's")]

pub(crate) mod cluster;
pub(crate) mod docker;
pub(crate) mod hungry;
pub(crate) mod machine;
pub(crate) mod registry;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What podman 4.3.1 says of itself, as far as it is read. Remote, so that no control groups are
/// made for builds that are none; no `graphRoot`, so that every question reaches the program.
const INFO: &str = r#"{
  "host": {
    "arch": "amd64", "os": "linux", "cpus": 2, "memTotal": 16000000000, "memFree": 8000000000,
    "cgroupManager": "cgroupfs", "cgroupVersion": "v1", "serviceIsRemote": true,
    "ociRuntime": {"name": "runc"}, "security": {"rootless": false}
  },
  "store": {"graphDriverName": "overlay", "graphOptions": {}, "graphRoot": ""},
  "version": {"Version": "4.3.1"}
}"#;

/// A workspace, and an engine that does as it is told.
pub(crate) struct Case {
    folder: tempfile::TempDir,
}

/// How one run of the command line ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Case {
    pub(crate) fn new() -> Self {
        let case = Self::with_real_engine().engine_file("info.json", INFO);
        let fake = case.engine("podman");
        case.tell_engine("podman", include_str!("podman"));
        fs_err::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
        case
    }

    /// As [`Case::new`], with whatever engine the machine has.
    pub(crate) fn with_real_engine() -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap() };
        fs_err::create_dir(case.folder.path().join("runtime")).unwrap();
        fs_err::create_dir(case.path("")).unwrap();
        case
    }

    /// Whether the machine's own podman ended well.
    pub(crate) fn podman(&self, args: &[&str]) -> bool {
        self.tool("podman", args)
    }

    /// Whether a program ended well.
    pub(crate) fn tool(&self, program: &str, args: &[&str]) -> bool {
        let mut tool = Command::new(program);
        tool.args(args).current_dir(self.path("")).stdout(Stdio::null());
        tool.status().unwrap().success()
    }

    /// One image `api` from `src/`, and one `web` from `web/`.
    pub(crate) fn of_two() -> Self {
        Self::new()
            .config(
                "[images.api]\ndockerfile = 'api.Dockerfile'\n\
                 [images.web]\ndockerfile = 'web.Dockerfile'\n",
            )
            .file("api.Dockerfile", "FROM scratch\nCOPY src /src\n")
            .file("web.Dockerfile", "FROM scratch\nCOPY web /web\n")
            .file("src/a", "1")
            .file("src/b", "1")
            .file("web/index", "1")
    }

    pub(crate) fn config(self, text: &str) -> Self {
        self.file("xtask.toml", text)
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// A file of the fake engine: `mode`, `registry/REFERENCE`, …
    pub(crate) fn engine_file(self, path: &str, text: &str) -> Self {
        self.tell_engine(path, text);
        self
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
    }

    pub(crate) fn tell_engine(&self, path: &str, text: &str) {
        write(&self.engine(path), text);
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("workspace").join(path)
    }

    pub(crate) fn engine(&self, path: &str) -> PathBuf {
        self.folder.path().join("engine").join(path)
    }

    /// Lines of the engine's log that begin so, and the log anew.
    pub(crate) fn calls(&self, verb: &str) -> Vec<String> {
        let log = fs_err::read_to_string(self.engine("log")).unwrap_or_default();
        fs_err::remove_file(self.engine("log")).ok();
        log.lines().filter(|line| line.starts_with(verb)).map(str::to_owned).collect()
    }

    /// The references the engine holds.
    pub(crate) fn tags(&self) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(self.engine("tags")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.map(|name| name.replace('%', "/")).collect();
        names.sort();
        names
    }

    /// What the image under a tag was sent, if the engine holds it.
    pub(crate) fn sent(&self, tag: &str) -> Option<String> {
        let id = fs_err::read_to_string(self.engine("tags").join(tag.replace('/', "%"))).ok()?;
        fs_err::read_to_string(self.engine("sent").join(id.trim())).ok()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, |command| command)
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let silent = || Stdio::null();
        self.command(args).stdout(silent()).stderr(silent()).spawn().unwrap()
    }

    /// As [`Case::run`], with a command that is changed first.
    pub(crate) fn run_with(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Ran {
        ran(change(&mut self.command(args)))
    }

    /// Another program, in the workspace.
    pub(crate) fn other_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path("")).stdin(Stdio::null());
        command
    }

    /// Another program, with what xtask would have around it.
    pub(crate) fn run_program(&self, program: &str, args: &[&str]) -> Ran {
        ran(&mut self.command_of(program, args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(&xtask(), args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.path(""))
            .env("PATH", format!("{}:{path}", self.engine("").display()))
            .env("XDG_RUNTIME_DIR", self.folder.path().join("runtime"))
            .env("NO_COLOR", "1")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("GITHUB_ACTIONS")
            .stdin(Stdio::null());
        command
    }

    /// Runs and expects it to end well.
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran
    }

    /// The plan as scripts get it.
    pub(crate) fn plan(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["plan", "--format", "json"]).stdout).unwrap()
    }

    /// Action and reasons of one image of the plan.
    pub(crate) fn decision(&self, image: &str) -> (String, Vec<String>) {
        let plan = self.plan();
        let images = plan["images"].as_array().unwrap();
        let one = images.iter().find(|one| one["name"] == image).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let reasons = one["reasons"].as_array().unwrap().iter();
        let reasons = reasons.map(|reason| match reason.get("path") {
            Some(path) => format!("{} {}", text(&reason["kind"]), text(path)),
            None => text(&reason["kind"]),
        });
        (text(&one["action"]), reasons.collect())
    }
}

/// Names the program where the one that cargo built cannot be reached.
const PROGRAM: &str = "XTASK_TEST_PROGRAM";

/// The program that is tested.
pub(crate) fn xtask() -> String {
    std::env::var(PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_xtask").to_owned())
}

/// The user who has nothing.
const NOBODY: u32 = 65534;

/// Runs the tests of this file that need no root again, as `nobody`; gives back how many passed.
/// Only root can.
pub(crate) fn passed_as_nobody() -> usize {
    let home = tempfile::tempdir().unwrap();
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // Copies, since a checkout may lie where only root comes.
    let [tests, program] = ["tests", "xtask"].map(|name| home.path().join(name));
    fs_err::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs_err::copy(xtask(), &program).unwrap();
    let as_nobody = |run: &Path, args: &[&str]| {
        let mut command = Command::new(run);
        command.args(args).uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        command.env("HOME", home.path()).env("TMPDIR", home.path()).env(PROGRAM, &program);
        command.current_dir(home.path());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
        command.output().unwrap()
    };
    let who = as_nobody(Path::new("id"), &["-u"]);
    assert_eq!(String::from_utf8_lossy(&who.stdout).trim(), NOBODY.to_string());
    let output = as_nobody(&tests, &["--test-threads=2"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let counted = told.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    counted.and_then(|counts| counts.split(' ').next()?.parse().ok()).unwrap()
}

/// Runs it to its end.
pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

fn write(file: &Path, text: &str) {
    fs_err::create_dir_all(file.parent().unwrap()).unwrap();
    fs_err::write(file, text).unwrap();
}
