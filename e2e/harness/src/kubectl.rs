//! The cluster, seen through kubectl: every process a spec starts is started here.
//!
//! kubectl finds the cluster by `KUBECONFIG`, which [`crate::env`] has made sure of.
#![expect(
    clippy::disallowed_methods,
    reason = "a suite is not part of xtask and cannot use its `process` stage"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer, Value};

/// How long a watch goes on.
const WATCHED: &str = "--request-timeout=90s";

/// Runs kubectl to its end; stdout, or an error that holds stderr.
pub fn run(args: &[&str]) -> Result<String> {
    feed(args, "")
}

/// [`run`] with `input` on stdin.
pub fn feed(args: &[&str], input: &str) -> Result<String> {
    let what = || format!("failed to run `kubectl {}`", args.join(" "));
    let mut child = command(args).stderr(Stdio::piped()).spawn().with_context(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A kubectl that refuses its arguments closes stdin early; its own message says more.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().with_context(what)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", what(), stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(what)
}

/// [`run`] with `--output json`, parsed.
pub fn json(args: &[&str]) -> Result<Value> {
    let text = run(&[args, &["--output", "json"]].concat())?;
    serde_json::from_str(&text)
        .with_context(|| format!("failed to read the JSON of `kubectl {}`", args.join(" ")))
}

/// Creates one object, or a `List` of them.
pub fn create(manifest: &Value) -> Result<()> {
    feed(&["create", "--filename", "-"], &manifest.to_string()).map(drop)
}

/// Creates a `List` of `items` in their order.
pub fn create_all(items: &[Value]) -> Result<()> {
    create(&serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

/// A kubectl that keeps running; killed on drop.
#[derive(Debug)]
pub struct Background {
    child: Child,
    /// Held open: what reads it would see its end otherwise.
    _stdin: Option<ChildStdin>,
}

impl Background {
    /// Starts kubectl with an open, silent stdin; its stdout is thrown away.
    pub fn start(args: &[&str]) -> Result<Self> {
        let (background, stdout) = Self::start_reading(args)?;
        drain(stdout);
        Ok(background)
    }

    /// Starts kubectl and waits for the first line of stdout, then throws the rest away.
    pub fn start_until_first_line(args: &[&str]) -> Result<(Self, String)> {
        let (background, mut stdout) = Self::start_reading(args)?;
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .with_context(|| format!("failed to read from `kubectl {}`", args.join(" ")))?;
        drain(stdout);
        Ok((background, line))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn start_reading(args: &[&str]) -> Result<(Self, BufReader<ChildStdout>)> {
        let what = || format!("failed to start `kubectl {}`", args.join(" "));
        let mut child = command(args).stderr(Stdio::null()).spawn().with_context(what)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().with_context(what)?;
        Ok((Self { child, _stdin: stdin }, BufReader::new(stdout)))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Either may fail only because the child has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Objects as they change, each state one by one, however short it lasts.
pub struct Watch {
    objects: StreamDeserializer<'static, IoRead<BufReader<ChildStdout>>, Value>,
    _kubectl: Background,
}

impl Watch {
    /// Starts `kubectl get` with `args`; what there is by now comes first.
    pub fn start(args: &[&str]) -> Result<Self> {
        let watch = ["--watch", "--output", "json", WATCHED];
        let (kubectl, stdout) = Background::start_reading(&[&["get"][..], args, &watch].concat())?;
        let objects = Deserializer::from_reader(stdout).into_iter();
        Ok(Self { objects, _kubectl: kubectl })
    }

    /// The next state that is wanted; an error once nothing more comes.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        for object in self.objects.by_ref() {
            let object = object.context("failed to read what kubectl watches")?;
            if wanted(&object) {
                return Ok(object);
            }
        }
        bail!("the watch ended without it ({WATCHED})")
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Reads to the end on a thread of its own: a full or closed pipe would stop the writer.
fn drain(mut stdout: BufReader<ChildStdout>) {
    thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
}
