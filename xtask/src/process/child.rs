//! A running child, and all its owner waits for: output, the end, signals, limits.
//!
//! The owner reads the child's pipes itself, so a child that prints faster than its lines are used
//! has to wait, and memory stays flat. One thread waits for the end (without reaping, so that the
//! process id stays the child's until the owner is done with it).
//!
//! All output counts, however late it is read. It is complete when both pipes are at their end. A
//! process that outlives the child may hold a pipe open: one of the child's own group may still
//! have something to say (`exec > >(tee log)`), and is waited for, then ended, and named; of one
//! outside the group nobody waits for a word, and what the pipe held when the child's group was
//! gone is read to the last byte.

#![expect(clippy::disallowed_methods, reason = "this is the module that starts processes")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::lines::Lines;
use super::mailbox::Mailbox;
use super::pipe::{Feed, Source};
use super::{Answer, Ending, Failure, Output, Tool, stop, strays};

/// A stream of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// How long a child gets between TERM and KILL when the run is stopped by a signal: the user waits
/// for it.
const HURRY: Duration = Duration::from_millis(1500);

/// How often it is looked whether a child's group still lives when the child does not.
const LOOK: Duration = Duration::from_millis(50);

/// How long the pipes may stay open after the child's end where nobody can say which processes
/// live.
const BLIND: Duration = Duration::from_millis(500);

/// How long after a child's end what lives on is no longer just ending, too (`exec > >(tee log)`).
const LATE: Duration = Duration::from_millis(200);

/// A running child. Dropping it ends it and its whole process group. Its output is read in
/// [`Child::wait`] only: one that prints and that nobody waits for is started by [`Tool::serve`].
#[derive(Debug)]
pub struct Child {
    tool: Tool,
    handle: std::process::Child,
    mailbox: Arc<Mailbox>,
    woken: PipeReader,
    started: Instant,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    stdin: Option<Input>,
    lines: Lines,
    /// Standard output as it came, if that is wanted.
    pub(super) captured: Option<Vec<u8>>,
    /// Why the output is not all there is.
    incomplete: Option<String>,
    /// Somebody else reads its standard output.
    stdout_elsewhere: bool,
    /// Says by its end, to whoever reads or writes a stream elsewhere, that the child is over.
    over: Option<PipeWriter>,
    reaped: bool,
    /// Processes that it has left, if they are asked for.
    left: Vec<String>,
    /// Processes of its group still had its output open when they were killed.
    killed_writers: bool,
    _signals: SignalGuard,
}

struct SignalGuard(#[expect(dead_code, reason = "held for its drop")] stop::Guard);

impl std::fmt::Debug for SignalGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalGuard")
    }
}

/// Bytes for a child's standard input.
#[derive(Debug)]
struct Input {
    pipe: ChildStdin,
    bytes: Vec<u8>,
    written: usize,
}

/// Kills a child whose input cannot be finished.
pub(super) struct Killer(Arc<Mailbox>);

impl Killer {
    pub(super) fn now(&self) {
        self.0.signal_group(Signal::KILL);
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
        Self::spawn(tool, stdin)
    }

    /// With its standard output for another thread to read.
    pub(super) fn start_read(tool: &Tool) -> Result<(Self, Source), Failure> {
        let (mut child, stdout) = Self::start_piped(tool)?;
        let over = child.announce_end()?;
        Ok((child, Source::new(stdout, over)))
    }

    /// With its standard output for another process to read.
    pub(super) fn start_piped(tool: &Tool) -> Result<(Self, ChildStdout), Failure> {
        let mut child = Self::spawn(tool, Stdio::null())?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| not_started(tool, "no standard output".to_owned()))?;
        child.stdout_elsewhere = true;
        Ok((child, stdout))
    }

    /// With its standard input for another thread to write.
    pub(super) fn start_open(tool: &Tool) -> Result<(Self, Feed, Killer), Failure> {
        let mut child = Self::spawn(tool, Stdio::piped())?;
        let stdin = child.handle.stdin.take();
        let stdin = stdin.ok_or_else(|| not_started(tool, "no standard input".to_owned()))?;
        let over = child.announce_end()?;
        let feed = Feed::new(stdin, over);
        let feed = feed.map_err(|error| not_started(tool, error.to_string()))?;
        let killer = Killer(Arc::clone(&child.mailbox));
        Ok((child, feed, killer))
    }

    pub(super) fn start_fed(tool: &Tool, stdin: ChildStdout) -> Result<Self, Failure> {
        Self::spawn(tool, Stdio::from(stdin))
    }

    fn spawn(tool: &Tool, stdin: Stdio) -> Result<Self, Failure> {
        let log = open_log(tool).map_err(|error| Failure {
            unlogged: Some(error.into()),
            ..not_started(tool, "failed to begin its log".to_owned())
        })?;
        if stop::requested() && !tool.despite_stop {
            return Err(tool.failure(Ending::Stopped, VecDeque::new()));
        }
        let mut command = command(tool);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut handle =
            command.spawn().map_err(|error| not_started(tool, reason(tool, &error)))?;
        let (stdin, mailbox, woken) = set_up(tool, &mut handle).map_err(|error| {
            // Nobody else would end it. One that is gone already is as good.
            handle.kill().and_then(|()| handle.wait()).ok();
            not_started(tool, error.to_string())
        })?;
        Ok(Self {
            tool: tool.clone(),
            stdout: handle.stdout.take(),
            stderr: handle.stderr.take(),
            stdin,
            handle,
            _signals: SignalGuard(Mailbox::listen(&mailbox)),
            mailbox,
            woken,
            started: Instant::now(),
            lines: Lines::new(log, tool.answer),
            captured: None,
            incomplete: None,
            stdout_elsewhere: false,
            over: None,
            reaped: false,
            left: Vec::new(),
            killed_writers: false,
        })
    }

    /// A pipe that is at its end once the child is reaped.
    fn announce_end(&mut self) -> Result<PipeReader, Failure> {
        let pipe = std::io::pipe().map_err(|error| not_started(&self.tool, error.to_string()));
        let (reader, writer) = pipe?;
        self.over = Some(writer);
        Ok(reader)
    }

    /// The process id, which is also the group's.
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Waits for its end, handing over each line as it comes; ends it when a limit is reached or
    /// the run is stopped.
    pub fn wait(&mut self, mut on_line: impl FnMut(Stream, &[u8])) -> Result<Output, Failure> {
        let ending = self.follow(&mut on_line, None);
        let tail = std::mem::take(&mut self.lines.tail);
        match ending {
            None => Ok(Output {
                stdout: Vec::new(),
                tail: tail.into(),
                took: self.started.elapsed(),
                left: std::mem::take(&mut self.left),
                held: self.killed_writers || self.stdout.is_some() || self.stderr.is_some(),
            }),
            Some(ending) => Err(self.tool.failure(ending, tail)),
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
        let mut buffer = vec![0; CHUNK];
        let mut last_output = Instant::now();
        let mut ended_at = None;
        loop {
            if let Some(ended_at) = ended_at {
                let until = ousting.as_ref().map_or(ended_at + self.tool.grace, |it| it.kill_at);
                let over = self.is_at_end() || self.end_survivors(ended_at, until);
                if over || ended_at.elapsed() >= LATE {
                    self.note_left();
                }
                if over {
                    self.read_rest(&mut buffer, on_line);
                    return self.reap(ousting);
                }
            }
            let deadline = self.deadline(ousting.as_ref(), ended_at, last_output);
            let [woken, stdout, stderr, stdin] = match self.next(deadline) {
                Ok(ready) => ready,
                Err(error) => {
                    self.incomplete = Some(error.to_string());
                    self.mailbox.signal_group(Signal::KILL);
                    return self.reap(ousting);
                }
            };
            if woken {
                ousting = self.hear(ousting, &mut ended_at);
            }
            for (ready, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
                if ready {
                    self.read(stream, &mut buffer, on_line);
                    last_output = Instant::now();
                }
            }
            if stdin {
                self.write_input();
            }
            if let Some(limit) = self.too_much()
                && ousting.is_none()
            {
                ousting = Some(self.oust(Ending::TooMuch(limit), Duration::ZERO));
            }
            // Asked again: what came meanwhile counts.
            let deadline = self.deadline(ousting.as_ref(), ended_at, last_output);
            if ended_at.is_none() && deadline.is_some_and(|at| at <= Instant::now()) {
                ousting = Some(self.overdue(ousting, last_output));
            }
        }
    }

    /// When something must be done though nothing happens.
    fn deadline(
        &self,
        ousting: Option<&Ousting>,
        ended_at: Option<Instant>,
        last_output: Instant,
    ) -> Option<Instant> {
        if ended_at.is_some() {
            return Some(Instant::now() + LOOK);
        }
        if let Some(ousting) = ousting {
            return Some(ousting.kill_at);
        }
        let limits = [
            self.tool.limit.map(|limit| self.started + limit),
            self.lines.awaited.map(|answer| self.started + answer.within),
            self.tool.silence.map(|limit| last_output + limit),
        ];
        limits.into_iter().flatten().min()
    }

    /// Waits until there is something to do, or `deadline`: whether it is for the mailbox, standard
    /// output, standard error, standard input.
    fn next(&self, deadline: Option<Instant>) -> std::io::Result<[bool; 4]> {
        let (stdout, stderr) = (self.stdout.as_ref(), self.stderr.as_ref());
        let waited_for = [
            Some((self.woken.as_fd(), PollFlags::IN)),
            stdout.map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            stderr.map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            self.stdin.as_ref().map(|input| (input.pipe.as_fd(), PollFlags::OUT)),
        ];
        ready(waited_for, deadline)
    }

    /// Looks at what other threads have told.
    fn hear(
        &mut self,
        mut ousting: Option<Ousting>,
        ended_at: &mut Option<Instant>,
    ) -> Option<Ousting> {
        Mailbox::empty(&self.woken);
        let was_posted = |flag: &std::sync::atomic::AtomicBool| flag.swap(false, Ordering::SeqCst);
        if was_posted(&self.mailbox.child_ended) {
            *ended_at = Some(Instant::now());
            // Nobody reads it now.
            self.stdin = None;
        }
        if was_posted(&self.mailbox.stop) && ousting.is_none() && !self.tool.despite_stop {
            ousting = Some(self.oust(Ending::Stopped, self.tool.grace.min(HURRY)));
        }
        if was_posted(&self.mailbox.end) && ousting.is_none() {
            ousting = Some(self.oust(Ending::Stopped, self.tool.grace));
        }
        ousting
    }

    /// Reads once from a stream that has something or is at its end; gives back how much it was.
    fn read(
        &mut self,
        stream: Stream,
        buffer: &mut [u8],
        on_line: &mut dyn FnMut(Stream, &[u8]),
    ) -> usize {
        let read = match stream {
            Stream::Stdout => self.stdout.as_mut().map(|pipe| pipe.read(buffer)),
            Stream::Stderr => self.stderr.as_mut().map(|pipe| pipe.read(buffer)),
        };
        match read {
            Some(Ok(0)) | None => {}
            Some(Ok(read)) => {
                let bytes = &buffer[..read];
                if let (Stream::Stdout, Some(captured)) = (stream, &mut self.captured) {
                    captured.extend_from_slice(bytes);
                }
                self.lines.take(stream, bytes, on_line);
                return read;
            }
            Some(Err(error)) if error.kind() == ErrorKind::Interrupted => return 0,
            Some(Err(error)) => self.incomplete = Some(error.to_string()),
        }
        self.lines.finish(stream, on_line);
        match stream {
            Stream::Stdout => self.stdout = None,
            Stream::Stderr => self.stderr = None,
        }
        0
    }

    /// Reads what the streams hold; for when all that could count has been written.
    fn read_rest(&mut self, buffer: &mut [u8], on_line: &mut dyn FnMut(Stream, &[u8])) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pipe = match stream {
                Stream::Stdout => self.stdout.as_ref().map(AsFd::as_fd),
                Stream::Stderr => self.stderr.as_ref().map(AsFd::as_fd),
            };
            let held = pipe.map(rustix::io::ioctl_fionread);
            match held {
                None => continue,
                Some(Err(error)) => self.incomplete = Some(error.to_string()),
                Some(Ok(held)) => {
                    let mut left = usize::try_from(held).unwrap_or(usize::MAX);
                    while left > 0 && self.is_open(stream) {
                        let most = left.min(buffer.len());
                        left -= self.read(stream, &mut buffer[..most], on_line);
                    }
                    // Whether anybody still holds it open shows only when its end is asked for.
                    if self.is_ready(stream) {
                        self.read(stream, buffer, on_line);
                    }
                }
            }
            self.lines.finish(stream, on_line);
        }
    }

    /// Whether a stream that is open has something, or is at its end.
    fn is_ready(&self, stream: Stream) -> bool {
        let pipe = match stream {
            Stream::Stdout => self.stdout.as_ref().map(AsFd::as_fd),
            Stream::Stderr => self.stderr.as_ref().map(AsFd::as_fd),
        };
        let asked = ready([pipe.map(|pipe| (pipe, PollFlags::IN))], Some(Instant::now()));
        asked.is_ok_and(|[is_ready]| is_ready)
    }

    fn is_open(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout.is_some(),
            Stream::Stderr => self.stderr.is_some(),
        }
    }

    fn is_at_end(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && !self.stdout_elsewhere
    }

    /// Whether nothing that counts can be written any more: no process of the child's group lives.
    /// When it is `until`, who is left is killed, and named.
    fn end_survivors(&mut self, ended_at: Instant, until: Instant) -> bool {
        match strays::group(self.id()) {
            None => ended_at.elapsed() >= BLIND,
            Some(left) if left.is_empty() => true,
            Some(left) if Instant::now() >= until => {
                self.mailbox.signal_group(Signal::KILL);
                self.killed_writers = true;
                let left = left.join(", ");
                self.lines.remark(format!("[xtask] ended what this command left running: {left}"));
                true
            }
            Some(_) => false,
        }
    }

    fn note_left(&mut self) {
        if let Some(variable) = &self.tool.left_by
            && self.left.is_empty()
        {
            self.left = strays::left(self.id(), variable);
        }
    }

    /// The limit on what is captured, if it has been passed.
    fn too_much(&self) -> Option<u32> {
        let captured = self.captured.as_ref()?;
        (captured.len() as u64 > u64::from(self.tool.most)).then_some(self.tool.most)
    }

    fn write_input(&mut self) {
        let Some(input) = &mut self.stdin else { return };
        match input.pipe.write(&input.bytes[input.written..]) {
            Ok(written) => input.written += written,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return;
            }
            // A child that does not read its input to the end says why by its exit.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                input.written = input.bytes.len();
            }
            Err(error) => {
                // What it got must not look like the whole.
                self.incomplete = Some(format!("its input could not be written: {error}"));
                self.mailbox.signal_group(Signal::KILL);
                return;
            }
        }
        if input.written == input.bytes.len() {
            self.stdin = None;
        }
    }

    /// A limit has been reached: ask it to end, or kill it if it was asked before.
    fn overdue(&self, ousting: Option<Ousting>, last_output: Instant) -> Ousting {
        if let Some(ousting) = ousting {
            self.mailbox.signal_group(Signal::KILL);
            return Ousting { kill_at: Instant::now() + self.tool.grace, ..ousting };
        }
        let late = |answer: &Answer| self.started.elapsed() >= answer.within;
        if let Some(answer) = self.lines.awaited.filter(late) {
            return self.oust(Ending::TimedOut(answer.within), self.tool.grace);
        }
        let ending = match (self.tool.silence, self.tool.limit) {
            (Some(silence), _) if last_output.elapsed() >= silence => Ending::Silent(silence),
            (_, Some(limit)) => Ending::TimedOut(limit),
            (Some(silence), None) => Ending::Silent(silence),
            (None, None) => Ending::Stopped,
        };
        self.oust(ending, self.tool.grace)
    }

    fn oust(&self, ending: Ending, grace: Duration) -> Ousting {
        self.mailbox.signal_group(Signal::TERM);
        Ousting { ending, kill_at: Instant::now() + grace }
    }

    /// Takes the exit status; whoever is left of the group is killed first, while its id is still
    /// ours.
    fn reap(&mut self, ousting: Option<Ousting>) -> Option<Ending> {
        self.mailbox.close();
        self.reaped = true;
        self.stdin = None;
        let status = self.handle.wait();
        self.over = None;
        let incomplete = self.incomplete.take().map(Ending::Incomplete);
        match (ousting, incomplete, status) {
            (Some(ousting), ..) => Some(ousting.ending),
            (None, Some(incomplete), _) => Some(incomplete),
            (None, None, Ok(status)) => ending(status),
            (None, None, Err(error)) => Some(Ending::NotStarted(error.to_string())),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
    }
}

/// Waits until one of the descriptors can be used or `deadline` has come; says which can.
pub(super) fn ready<const N: usize>(
    waited_for: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    deadline: Option<Instant>,
) -> std::io::Result<[bool; N]> {
    let mut polled = Vec::with_capacity(N);
    for (fd, flags) in waited_for.iter().flatten() {
        polled.push(PollFd::from_borrowed_fd(*fd, *flags));
    }
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    // A time no clock can hold is no limit.
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut polled, left.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok([false; N]),
        Err(error) => return Err(error.into()),
    }
    let mut polled = polled.iter();
    Ok(waited_for
        .map(|one| one.is_some() && polled.next().is_some_and(|fd| !fd.revents().is_empty())))
}

fn not_started(tool: &Tool, why: String) -> Failure {
    tool.failure(Ending::NotStarted(why), VecDeque::new())
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

/// The log is the user's alone: children print what they are given.
fn open_log(tool: &Tool) -> std::io::Result<Option<File>> {
    let Some(path) = &tool.log else { return Ok(None) };
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let mut log = File::options().create(true).append(true).mode(0o600).open(path)?;
    writeln!(log, "$ {tool}")?;
    Ok(Some(log))
}

fn reason(tool: &Tool, error: &std::io::Error) -> String {
    match (error.kind(), &tool.folder) {
        (ErrorKind::NotFound, Some(folder)) if !folder.is_dir() => {
            format!("there is no folder `{}`", folder.display())
        }
        (ErrorKind::NotFound, _) => {
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

fn input(tool: &Tool, handle: &mut std::process::Child) -> std::io::Result<Option<Input>> {
    let Some(bytes) = tool.input.clone() else { return Ok(None) };
    let Some(pipe) = handle.stdin.take() else { return Ok(None) };
    // Our end alone; the child's still blocks.
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Ok(Some(Input { pipe, bytes, written: 0 }))
}

type SetUp = (Option<Input>, Arc<Mailbox>, PipeReader);

fn set_up(tool: &Tool, handle: &mut std::process::Child) -> std::io::Result<SetUp> {
    let input = input(tool, handle)?;
    let pid = Pid::from_child(handle);
    let (mailbox, woken) = Mailbox::new(pid)?;
    await_end(pid, Arc::clone(&mailbox))?;
    Ok((input, mailbox, woken))
}

fn await_end(pid: Pid, mailbox: Arc<Mailbox>) -> std::io::Result<()> {
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        mailbox.post(&mailbox.child_ended);
    };
    std::thread::Builder::new().name("await a child".to_owned()).spawn(wait).map(drop)
}
