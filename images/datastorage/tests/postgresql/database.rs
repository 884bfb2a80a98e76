//! A private `PostgreSQL` server that lives as long as its value.

use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// `nobody`: the server refuses to run as root, which a container's tests usually are.
const ORDINARY_USER: u32 = 65534;

pub(crate) struct Database {
    programs: PathBuf,
    folder: TempDir,
}

impl Database {
    /// Makes a cluster and starts its server, which listens on a socket in its folder only.
    pub(crate) fn start() -> Self {
        let folder = TempDir::with_prefix("datastorage-").unwrap();
        if is_root() {
            chown(folder.path(), Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
        }
        let database = Self { programs: programs(), folder };
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n",
            database.folder.path().display()
        );
        let initdb = ["--username=test", "--auth=trust", "--no-sync", "--locale=C.UTF-8", "-D"];
        run(database.as_ordinary_user("initdb").args(initdb).arg(database.cluster()));
        fs_err::write(database.cluster().join("postgresql.auto.conf"), settings).unwrap();
        database.go_on();
        database
    }

    /// Starts the server again and returns when it answers.
    pub(crate) fn go_on(&self) {
        let log = self.folder.path().join("log");
        run(self.control("start").arg("--log").arg(log));
    }

    /// Stops the server the way a crash would, and returns when it is gone.
    pub(crate) fn stop(&self) {
        run(self.control("stop").arg("--mode=immediate"));
    }

    /// Brings the schema up to date. Returns how many steps were missing.
    pub(crate) fn migrate(&self) -> u64 {
        Migration::start(self).finish()
    }

    /// The program under test, told to use this database.
    pub(crate) fn program(&self, argument: &str) -> Command {
        let mut program = command(Path::new(env!("CARGO_BIN_EXE_datastorage")));
        program.arg(argument).env_clear().env("PGHOST", self.folder.path());
        program.env("PGUSER", "test").env("PGDATABASE", "postgres").env("LISTEN", "127.0.0.1:0");
        program
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn control(&self, action: &str) -> Command {
        let mut control = self.as_ordinary_user("pg_ctl");
        control.args([action, "--silent", "--wait", "--pgdata"]).arg(self.cluster());
        control
    }

    fn as_ordinary_user(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut setpriv = command(Path::new("setpriv"));
            setpriv.arg(format!("--reuid={ORDINARY_USER}")).arg(format!("--regid={ORDINARY_USER}"));
            setpriv.arg("--clear-groups").arg(program);
            setpriv
        } else {
            command(&program)
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Fails where the test stopped the server itself.
        drop(self.control("stop").arg("--mode=immediate").output());
    }
}

/// `datastorage migrate` under way.
pub(crate) struct Migration {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    last: Value,
    /// What it logged first, up to the colon.
    pub(crate) first_words: String,
}

impl Migration {
    /// Returns once it has logged its first line.
    pub(crate) fn start(database: &Database) -> Self {
        let mut child = database.program("migrate").stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let last: Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
        let first_words = last["message"].as_str().unwrap().split(':').next().unwrap().to_owned();
        Self { child, log, last, first_words }
    }

    /// Waits for its success. Returns how many steps it applied.
    pub(crate) fn finish(mut self) -> u64 {
        for line in self.log {
            self.last = serde_json::from_str(&line.unwrap()).unwrap();
        }
        assert!(self.child.wait().unwrap().success(), "{}", self.last);
        self.last["applied"].as_u64().unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "`process` belongs to xtask; this is a service")]
pub(crate) fn command(program: &Path) -> Command {
    Command::new(program)
}

/// The newest server's programs; `build.rs` has seen that there is one.
fn programs() -> PathBuf {
    let versions = fs_err::read_dir("/usr/lib/postgresql").unwrap();
    let with_server = |version: &PathBuf| version.join("bin/initdb").exists();
    let mut versions: Vec<_> =
        versions.map(|version| version.unwrap().path()).filter(with_server).collect();
    versions.sort();
    versions.pop().unwrap().join("bin")
}

fn is_root() -> bool {
    fs_err::metadata("/proc/self").unwrap().uid() == 0
}

fn run(command: &mut Command) {
    // Not `output`: the server that pg_ctl leaves behind would hold the pipe open.
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
