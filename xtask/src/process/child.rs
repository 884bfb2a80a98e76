//! A running child and the one channel its owner waits on.
//!
//! Three threads feed the channel: one reads each stream, one waits for the end (without reaping, so
//! that the process id stays ours until the owner is done with it). Signals arrive on the same channel.

#![expect(clippy::disallowed_methods, reason = "this is the module that starts processes")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::stop::{self, Urgency};
use super::{Answer, Ending, Failure, Output, TAIL, Tool};

/// A stream of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How long after a child's end its streams may stay open (a grandchild can hold them for ever).
const DRAIN: Duration = Duration::from_millis(500);

/// A running child. Dropping it ends it and its whole process group.
#[derive(Debug)]
pub struct Child {
    tool: Tool,
    handle: std::process::Child,
    pid: Pid,
    messages: Receiver<Message>,
    send: Sender<Message>,
    started: Instant,
    open_streams: usize,
    log: Option<File>,
    tail: VecDeque<String>,
    /// What it has yet to print.
    awaited: Option<Answer>,
    reaped: bool,
    _signals: SignalGuard,
}

struct SignalGuard(#[expect(dead_code, reason = "held for its drop")] stop::Guard);

impl std::fmt::Debug for SignalGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalGuard")
    }
}

#[derive(Debug)]
enum Message {
    Line(Stream, Vec<u8>),
    Closed,
    Ended,
    Signal(Urgency),
}

/// Kills a child whose input cannot be finished.
pub(super) struct Killer(Sender<Message>);

impl Killer {
    pub(super) fn now(&self) {
        // A child whose owner is done with it needs no killing.
        self.0.send(Message::Signal(Urgency::Kill)).ok();
    }
}

/// Why we are ending a child, and when it will be killed.
struct Ousting {
    ending: Ending,
    kill_at: Instant,
}

impl Child {
    pub(super) fn start(tool: &Tool) -> Result<Self, Failure> {
        let stdin = if tool.input.is_some() { Stdio::piped() } else { Stdio::null() };
        Self::spawn(tool, stdin, true).map(|(child, _)| child)
    }

    pub(super) fn start_piped(tool: &Tool) -> Result<(Self, ChildStdout), Failure> {
        let (child, stdout) = Self::spawn(tool, Stdio::null(), false)?;
        match stdout {
            Some(stdout) => Ok((child, stdout)),
            None => {
                Err(tool.failure(Ending::NotStarted("no standard output".into()), VecDeque::new()))
            }
        }
    }

    /// With its standard input open, to be written to by another thread.
    pub(super) fn start_open(tool: &Tool) -> Result<(Self, ChildStdin, Killer), Failure> {
        let (mut child, _) = Self::spawn(tool, Stdio::piped(), true)?;
        match child.handle.stdin.take() {
            Some(stdin) => {
                let killer = Killer(child.send.clone());
                Ok((child, stdin, killer))
            }
            None => {
                Err(tool.failure(Ending::NotStarted("no standard input".into()), VecDeque::new()))
            }
        }
    }

    pub(super) fn start_fed(tool: &Tool, stdin: ChildStdout) -> Result<Self, Failure> {
        Self::spawn(tool, Stdio::from(stdin), true).map(|(child, _)| child)
    }

    fn spawn(
        tool: &Tool,
        stdin: Stdio,
        read_stdout: bool,
    ) -> Result<(Self, Option<ChildStdout>), Failure> {
        let not_started = |why: String| tool.failure(Ending::NotStarted(why), VecDeque::new());
        let log = open_log(tool).map_err(|error| not_started(error.to_string()))?;
        if stop::requested() && !tool.despite_stop {
            return Err(tool.failure(Ending::Stopped, VecDeque::new()));
        }
        let mut command = command(tool);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| not_started(reason(tool, &error)))?;
        let (send, messages) = channel();
        let mut stdout = child.stdout.take();
        let mut open_streams = 1;
        if read_stdout && let Some(stdout) = stdout.take() {
            open_streams += 1;
            read_lines(Stream::Stdout, stdout, send.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            read_lines(Stream::Stderr, stderr, send.clone());
        }
        feed(tool, &mut child);
        let pid = Pid::from_child(&child);
        await_end(pid, send.clone());
        let signals = SignalGuard(stop::send_to(send.clone(), Message::Signal));
        let child = Self {
            tool: tool.clone(),
            handle: child,
            pid,
            messages,
            send,
            started: Instant::now(),
            open_streams,
            log,
            tail: VecDeque::new(),
            awaited: tool.answer,
            reaped: false,
            _signals: signals,
        };
        Ok((child, stdout))
    }

    /// The process id, which is also the group's.
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    /// Waits for its end, handing over each line as it comes; ends it when a limit is reached or the run is stopped.
    pub fn wait(&mut self, mut on_line: impl FnMut(Stream, &[u8])) -> Result<Output, Failure> {
        let ending = self.follow(&mut on_line, None);
        match ending {
            None => Ok(Output {
                stdout: Vec::new(),
                tail: self.tail.iter().cloned().collect(),
                took: self.started.elapsed(),
            }),
            Some(ending) => Err(self.tool.failure(ending, std::mem::take(&mut self.tail))),
        }
    }

    /// Asks it to end, waits, kills if need be.
    pub fn end(&mut self) {
        let ousting = self.oust(Ending::Stopped, self.tool.grace);
        self.follow(&mut |_, _| {}, Some(ousting));
    }

    fn follow(
        &mut self,
        on_line: &mut dyn FnMut(Stream, &[u8]),
        mut ousting: Option<Ousting>,
    ) -> Option<Ending> {
        let mut last_line = Instant::now();
        let mut ended_at = None;
        loop {
            if let Some(ended_at) = ended_at
                && (self.open_streams == 0 || Instant::now() >= ended_at + DRAIN)
            {
                return self.reap(ousting);
            }
            match self.next(ousting.as_ref(), ended_at, last_line) {
                Ok(Message::Line(stream, line)) => {
                    last_line = Instant::now();
                    self.keep(&line);
                    on_line(stream, &line);
                }
                Ok(Message::Closed) => self.open_streams -= 1,
                Ok(Message::Ended) => ended_at = Some(Instant::now()),
                Ok(Message::Signal(Urgency::Kill)) => self.kill(Signal::KILL),
                Ok(Message::Signal(Urgency::Stop))
                    if ousting.is_none() && !self.tool.despite_stop =>
                {
                    ousting = Some(self.oust(Ending::Stopped, self.tool.grace));
                }
                Ok(Message::Signal(Urgency::Stop)) => {}
                Err(_) if ended_at.is_some() => return self.reap(ousting),
                Err(_) => ousting = Some(self.overdue(ousting, last_line)),
            }
        }
    }

    /// The next message, or a time-out at the nearest limit.
    fn next(
        &self,
        ousting: Option<&Ousting>,
        ended_at: Option<Instant>,
        last_line: Instant,
    ) -> Result<Message, RecvTimeoutError> {
        let limits = [
            ended_at.map(|at| at + DRAIN),
            ousting.map(|ousting| ousting.kill_at),
            self.tool.limit.filter(|_| ousting.is_none()).map(|limit| self.started + limit),
            self.awaited.filter(|_| ousting.is_none()).map(|answer| self.started + answer.within),
            self.tool.silence.filter(|_| ousting.is_none()).map(|limit| last_line + limit),
        ];
        match limits.into_iter().flatten().min() {
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.messages.recv_timeout(at.saturating_duration_since(Instant::now())),
        }
    }

    /// A limit has been reached: ask it to end, or kill it if it was asked before.
    fn overdue(&self, ousting: Option<Ousting>, last_line: Instant) -> Ousting {
        if let Some(ousting) = ousting {
            self.kill(Signal::KILL);
            return Ousting { kill_at: Instant::now() + self.tool.grace, ..ousting };
        }
        let late = |answer: &Answer| self.started.elapsed() >= answer.within;
        if let Some(answer) = self.awaited.filter(late) {
            return self.oust(Ending::TimedOut(answer.within), self.tool.grace);
        }
        let ending = match (self.tool.silence, self.tool.limit) {
            (Some(silence), _) if last_line.elapsed() >= silence => Ending::Silent(silence),
            (_, Some(limit)) => Ending::TimedOut(limit),
            (Some(silence), None) => Ending::Silent(silence),
            (None, None) => Ending::Stopped,
        };
        self.oust(ending, self.tool.grace)
    }

    fn oust(&self, ending: Ending, grace: Duration) -> Ousting {
        self.kill(Signal::TERM);
        Ousting { ending, kill_at: Instant::now() + grace }
    }

    fn kill(&self, signal: Signal) {
        if !self.reaped {
            // The group may be gone already; then there is nothing to end.
            kill_process_group(self.pid, signal).ok();
        }
    }

    /// Takes the exit status; whoever is left of the group is killed first, while its id is still ours.
    fn reap(&mut self, ousting: Option<Ousting>) -> Option<Ending> {
        self.kill(Signal::KILL);
        self.reaped = true;
        let status = self.handle.wait();
        match (ousting, status) {
            (Some(ousting), _) => Some(ousting.ending),
            (None, Ok(status)) => ending(status),
            (None, Err(error)) => Some(Ending::NotStarted(error.to_string())),
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if let Some(log) = &mut self.log {
            // A full disk must not end a child that may succeed without its log.
            log.write_all(line).and_then(|()| log.write_all(b"\n")).ok();
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        let line = String::from_utf8_lossy(line).into_owned();
        self.awaited = self.awaited.filter(|answer| !(answer.is)(&line));
        self.tail.push_back(line);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
    }
}

fn command(tool: &Tool) -> Command {
    let mut command = Command::new(&tool.program);
    command.args(tool.args.iter().map(super::Arg::value)).process_group(0);
    if let Ok(path) = std::env::join_paths(super::search_path()) {
        command.env("PATH", path);
    }
    for (name, value) in &tool.env {
        match value {
            Some(value) => command.env(name, value.value()),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = &tool.folder {
        command.current_dir(folder);
    }
    command
}

fn open_log(tool: &Tool) -> std::io::Result<Option<File>> {
    let Some(path) = &tool.log else { return Ok(None) };
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let mut log = File::options().create(true).append(true).open(path)?;
    writeln!(log, "$ {tool}")?;
    Ok(Some(log))
}

fn reason(tool: &Tool, error: &std::io::Error) -> String {
    match (error.kind(), &tool.folder) {
        (std::io::ErrorKind::NotFound, Some(folder)) if !folder.is_dir() => {
            format!("there is no folder `{}`", folder.display())
        }
        (std::io::ErrorKind::NotFound, _) => {
            format!("there is no `{}` on PATH", tool.program.to_string_lossy())
        }
        _ => error.to_string(),
    }
}

fn ending(status: ExitStatus) -> Option<Ending> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(Ending::Code(code)),
        (None, signal) => Some(Ending::Signal(signal.unwrap_or_default())),
    }
}

fn read_lines(stream: Stream, from: impl Read + Send + 'static, to: Sender<Message>) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if to.send(Message::Line(stream, std::mem::take(&mut line))).is_err() {
                return;
            }
        }
        // The owner may have given up on a stream that a grandchild holds.
        to.send(Message::Closed).ok();
    });
}

fn feed(tool: &Tool, child: &mut std::process::Child) {
    if let Some(input) = tool.input.clone()
        && let Some(mut stdin) = child.stdin.take()
    {
        std::thread::spawn(move || {
            // A child that does not read its input to the end says why by its exit.
            stdin.write_all(&input).ok();
        });
    }
}

fn await_end(pid: Pid, to: Sender<Message>) {
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        to.send(Message::Ended).ok();
    });
}
