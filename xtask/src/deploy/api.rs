//! The Kubernetes API for waits: `kubectl proxy` on a socket of our own.
//!
//! A look at a namespace every 300 ms, by `kubectl get`, takes 0.1 s of a core each: on a machine
//! that builds at the same time, a wait would take from the builds what it waits for. One `kubectl
//! proxy` a run holds the connection, the certificates and the TLS; a question to it costs a
//! millisecond. The socket lies in a folder only we may enter, since whoever reaches it has the
//! cluster.
//!
//! Questions are HTTP/1.0: the answer then ends with the connection and is never sent in chunks.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Background, Tool};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the proxy may take to open its socket.
const START: Duration = Duration::from_secs(10);

/// A way to ask one cluster; the proxy is started by the first question.
#[derive(Debug)]
pub(super) struct Api {
    kubectl: Tool,
    proxy: Mutex<Option<Proxy>>,
}

/// Which log is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) container: &'a str,
    pub(super) lines: usize,
    /// Of the run before the last restart.
    pub(super) previous: bool,
}

#[derive(Debug)]
struct Proxy {
    folder: TempDir,
    #[expect(dead_code, reason = "the proxy lives as long as its owner")]
    child: Background,
}

impl Proxy {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("api")
    }
}

impl Api {
    pub(super) fn new(kubectl: Tool) -> Self {
        Self { kubectl, proxy: Mutex::new(None) }
    }

    /// The object or list the API serves at a path; none where there is nothing.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let (body, _) = self.ask(path)?;
        Ok(body.map(|body| serde_json::from_slice(&body)).transpose()?)
    }

    /// What the API server's own clock says, as objects have it: `2026-11-21T09:00:30Z`.
    pub(super) fn clock(&self) -> Option<String> {
        self.ask("/version").ok()?.1
    }

    /// The last lines of a container's log; none if it has not run (or not run before).
    pub(super) fn log(&self, log: &Log<'_>) -> Option<String> {
        let Log { namespace, pod, container, lines, previous } = log;
        let body = self.ask(&format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={lines}\
             &previous={previous}&timestamps=true"
        ));
        // containerd keeps the last run's log only until the node has tidied up.
        let text = String::from_utf8_lossy(&body.ok()?.0?).into_owned();
        (!text.is_empty() && !text.starts_with("unable to retrieve")).then_some(text)
    }

    fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        let socket = self.socket()?;
        let answered = ask(&socket, path);
        if answered.is_err() && UnixStream::connect(&socket).is_err() {
            // The proxy is gone: the next question starts another.
            *self.proxy.lock() = None;
        }
        answered
    }

    fn socket(&self) -> anyhow::Result<PathBuf> {
        let mut proxy = self.proxy.lock();
        if let Some(proxy) = proxy.as_ref() {
            return Ok(proxy.socket());
        }
        let started = start(&self.kubectl)?;
        Ok(proxy.insert(started).socket())
    }
}

fn start(kubectl: &Tool) -> anyhow::Result<Proxy> {
    let folder = tempfile::tempdir().context("failed to make a folder for the API's socket")?;
    let socket = folder.path().join("api");
    let child =
        kubectl.clone().args(["proxy", "--unix-socket"]).arg(&socket).despite_stop().serve()?;
    let proxy = Proxy { folder, child };
    let end = Instant::now() + START;
    // Not `stop::pause`: diagnostics are taken while the run is being stopped, too.
    while UnixStream::connect(&socket).is_err() {
        if Instant::now() > end {
            bail!("failed to reach the cluster: `kubectl proxy` opened no socket");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(proxy)
}

/// The body, none where there is nothing, and when it was given.
type Answer = (Option<Vec<u8>>, Option<String>);

fn ask(socket: &Path, path: &str) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the API server did not answer in time")?;
    let (status, date, body) = parts(&answer).context("what answered is not the API server")?;
    match status {
        200 => Ok((Some(body.to_vec()), date)),
        404 => Ok((None, date)),
        status => {
            let text = String::from_utf8_lossy(body);
            bail!("the API server answered {status}: {}", text.trim())
        }
    }
}

/// Status, date and body of an answer.
fn parts(answer: &[u8]) -> Option<(u16, Option<String>, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let date = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("date").then(|| moment(value.trim())).flatten()
    });
    Some((status, date, &answer[end + 4..]))
}

/// `Sat, 21 Nov 2026 09:00:30 GMT` as objects have it.
fn moment(date: &str) -> Option<String> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|one| *one == month)? + 1;
    let moment = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    humantime::parse_rfc3339(&moment).ok().map(|_| moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_parted_at_the_first_empty_line() {
        let answer = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\r\n\r\n}";
        assert_eq!(parts(answer), Some((200, None, &b"{\r\n\r\n}"[..])));
        assert_eq!(parts(b"HTTP/1.0 404 Not Found\r\n\r\n"), Some((404, None, &b""[..])));
        assert_eq!(parts(b"HTTP/1.0 200 OK\r\n"), None);
    }

    #[test]
    fn the_servers_clock_is_read_as_objects_have_it() {
        let answer = b"HTTP/1.0 200 OK\r\ndate: Sat, 21 Nov 2026 09:00:30 GMT\r\n\r\n";
        let (_, date, _) = parts(answer).unwrap();
        assert_eq!(date.as_deref(), Some("2026-11-21T09:00:30Z"));
        for wrong in ["", "yesterday", "Sat, 21 Abc 2026 09:00:30 GMT", "Sat, 99 Nov 2026 09:00:30"]
        {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
