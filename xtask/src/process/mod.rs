//! Children: the only module that starts processes.
//!
//! Every child has an owner, a limit and a way to stop. It runs in a process group of its own; its
//! output goes line by line to the owner, whole to a log file, and its last lines into the error. A
//! child ends by itself, or is ended (TERM, grace, KILL to the group) when its time is up, when it
//! has been silent for too long, when the run is stopped by a signal, or when its owner is dropped.
//!
//! A call that succeeds has all of the child's output, or as many bytes as the owner asked for; a
//! call whose output could not be read to its end is an error.
//!
//! Arguments are always a list. There is no shell anywhere.

mod background;
mod child;
mod display;
mod lines;
mod mailbox;
mod pipe;
pub mod stop;
mod strays;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use crate::error;

pub use background::Background;
pub use child::{Child, Stream};
pub use display::Brief;
pub use strays::{end_strays, kill_listed, signal_if};

/// How long a child gets between TERM and KILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// The largest standard output that is taken into memory.
const MOST: u32 = 256 << 20;

/// A program and what it is to be started with.
#[derive(Clone, Debug)]
pub struct Tool {
    program: OsString,
    args: Vec<Arg>,
    env: Vec<(OsString, Option<Arg>)>,
    folder: Option<PathBuf>,
    input: Option<Vec<u8>>,
    log: Option<PathBuf>,
    limit: Option<Duration>,
    silence: Option<Duration>,
    answer: Option<Answer>,
    grace: Duration,
    despite_stop: bool,
    /// The largest standard output that is captured, in bytes.
    most: u32,
    /// Part of the environment by which processes that it leaves are known.
    left_by: Option<Box<str>>,
}

/// A line that must come within a time, and how it is known.
#[derive(Clone, Copy, Debug)]
struct Answer {
    within: Duration,
    is: fn(&str) -> bool,
}

#[derive(Clone, Debug)]
enum Arg {
    Plain(OsString),
    /// Shown as `<secret>`, never written anywhere.
    Secret(OsString),
}

impl Arg {
    fn value(&self) -> &OsStr {
        match self {
            Arg::Plain(value) | Arg::Secret(value) => value,
        }
    }
}

/// What a child that ended well has left.
#[derive(Debug)]
pub struct Output {
    pub stdout: Vec<u8>,
    /// The last lines of both streams, in the order they came.
    pub tail: Vec<String>,
    pub took: Duration,
    /// Processes that it had left when it had ended, if they were asked for.
    pub left: Vec<String>,
    /// Whether somebody still had its output open then: what they write later was not read.
    pub held: bool,
}

/// Why a child did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Could not be started at all.
    NotStarted(String),
    Code(i32),
    Signal(i32),
    /// Ended by us: its whole time was up.
    TimedOut(Duration),
    /// Ended by us: it printed nothing for so long.
    Silent(Duration),
    /// Ended by us: the run is being stopped.
    Stopped,
    /// Ended by us: it printed more bytes than are taken into memory.
    TooMuch(u32),
    /// Its output could not be read to its end, or its input not written: why.
    Incomplete(String),
}

/// A child that did not end well: which, how, its last words, and where the rest of them are.
#[derive(Clone, Debug)]
pub struct Failure {
    pub command: String,
    pub ending: Ending,
    pub tail: Vec<String>,
    pub log: Option<PathBuf>,
    /// Why its log could not be begun.
    pub unlogged: Option<Arc<std::io::Error>>,
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&**self.unlogged.as_ref()?)
    }
}

/// What [`xshell::cmd!`] writes a command with. Nothing is run by it: limits, groups, logs and
/// secrets are a [`Tool`]'s.
pub fn shell() -> anyhow::Result<xshell::Shell> {
    Ok(xshell::Shell::new()?)
}

impl From<xshell::Cmd<'_>> for Tool {
    fn from(cmd: xshell::Cmd<'_>) -> Self {
        let command = std::process::Command::from(cmd);
        Self::new(command.get_program()).args(command.get_args())
    }
}

impl Tool {
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            input: None,
            log: None,
            limit: None,
            silence: None,
            answer: None,
            grace: GRACE,
            despite_stop: false,
            most: MOST,
            left_by: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(Arg::Plain(arg.into()));
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| Arg::Plain(arg.into())));
        self
    }

    /// An argument that is never shown or written down.
    #[must_use]
    pub fn secret(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(Arg::Secret(arg.into()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(Arg::Plain(value.into()))));
        self
    }

    /// An environment variable whose value is never shown or written down.
    #[must_use]
    pub fn secret_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(Arg::Secret(value.into()))));
        self
    }

    /// Takes a variable of our own environment away from the child.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Bytes for its standard input; without, it has none.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// A file that gets all output; made with its folders, appended to if there.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// The longest it may run.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The longest it may print nothing.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = Some(silence);
        self
    }

    /// The longest it may go on without a line that `is` one it was started for.
    #[must_use]
    pub fn answer(mut self, within: Duration, is: fn(&str) -> bool) -> Self {
        self.answer = Some(Answer { within, is });
        self
    }

    /// How long it gets between TERM and KILL, if not [`GRACE`].
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs even when the run is being stopped: for taking down and for diagnostics. Give it a
    /// limit; a second signal still kills it.
    #[must_use]
    pub fn despite_stop(mut self) -> Self {
        self.despite_stop = true;
        self
    }

    /// Says in its [`Output`] which processes it has left: those of its group, and others whose
    /// environment has `variable` (`NAME=VALUE`), which only its children are given.
    #[must_use]
    pub fn names_left(mut self, variable: impl Into<Box<str>>) -> Self {
        self.left_by = Some(variable.into());
        self
    }

    /// Runs it to its end and gives back what it wrote to standard output, byte for byte.
    pub fn run(&self) -> Result<Output, Failure> {
        let (stdout, end) = self.capture(|_, _| {});
        end.map(|output| Output { stdout, ..output })
    }

    /// Runs it to its end, handing over each line as it comes; gives back what it wrote to standard
    /// output however it ended.
    pub fn capture(
        &self,
        on_line: impl FnMut(Stream, &[u8]),
    ) -> (Vec<u8>, Result<Output, Failure>) {
        let mut child = match self.start() {
            Ok(child) => child,
            Err(failure) => return (Vec::new(), Err(failure)),
        };
        child.captured = Some(Vec::new());
        let end = child.wait(on_line);
        (child.captured.take().unwrap_or_default(), end)
    }

    /// Runs it to its end and gives back its standard output as text, ends trimmed.
    pub fn read(&self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.run()?.stdout).trim().to_owned())
    }

    /// Runs it to its end, handing over each line as it comes (without its newline, and cut if it
    /// is very long).
    pub fn stream(&self, on_line: impl FnMut(Stream, &[u8])) -> Result<Output, Failure> {
        self.start()?.wait(on_line)
    }

    /// Starts it; it is ended when the [`Child`] is dropped.
    pub fn start(&self) -> Result<Child, Failure> {
        Child::start(self)
    }

    /// Starts it for as long as what is given back lives.
    pub fn serve(&self) -> Result<Background, Failure> {
        Background::start(self)
    }

    /// Starts it with its standard output piped straight into `sink`, and waits for both. No byte
    /// of the stream passes through our memory.
    pub fn pipe_into(&self, sink: &Tool) -> Result<Output, Failure> {
        let (mut source, stdout) = Child::start_piped(self)?;
        let mut end = Child::start_fed(sink, stdout)?;
        let (source, end) = std::thread::scope(|scope| {
            let source = scope.spawn(|| source.wait(|_, _| {}));
            let end = end.wait(|_, _| {});
            (source.join(), end)
        });
        let panicked =
            |_| self.failure(Ending::Incomplete("a thread panicked".to_owned()), [].into());
        match (source.map_err(panicked)?, end) {
            (Err(failure), Ok(_)) => Err(failure),
            // A sink that gives up breaks the source's pipe, and a source that does sends half:
            // both say why.
            (Err(source), Err(end)) => {
                Err(Failure { tail: source.tail.into_iter().chain(end.tail).collect(), ..end })
            }
            (Ok(_), end) => end,
        }
    }

    /// Starts it with its standard output given to `read`, and waits for both. It ends when `read`
    /// gives up; a stream that was cut short is the child's fault, whatever `read` makes of it.
    pub fn read_by<T: Send>(
        &self,
        read: impl FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let (mut child, mut source) = Child::start_read(self)?;
        let (read, end) = std::thread::scope(|scope| {
            // Moved in, so that the child is not left writing to a reader that has given up.
            let reader =
                scope.spawn(move || read(&mut source).map_err(|error| (error, source.ended)));
            let end = child.wait(|_, _| {});
            (reader.join(), end)
        });
        match (read.map_err(|_| anyhow!("the thread that reads {self} panicked"))?, end) {
            (Err((_, true)) | Ok(_), Err(failure)) => Err(failure.into()),
            (read, _) => read.map_err(|(error, _)| error),
        }
    }

    /// Starts it with what `write` writes for its standard input, and waits for both. If `write`
    /// fails it is killed before it could take what it has got for the whole.
    pub fn written_by(
        &self,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Output> {
        let (mut child, mut stdin, kill) = Child::start_open(self)?;
        let (written, end) = std::thread::scope(|scope| {
            let writer = scope.spawn(move || match write(&mut stdin) {
                Ok(()) => Ok(()),
                Err(error) => {
                    kill.now();
                    // Given back open: nothing the child got must look like the end.
                    Err((error, stdin))
                }
            });
            let end = child.wait(|_, _| {});
            (writer.join(), end)
        });
        let broken = |error: &anyhow::Error| {
            let io = error::find::<std::io::Error>(error);
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
        };
        match (written.map_err(|_| anyhow!("the thread that feeds {self} panicked"))?, end) {
            (Err((error, _)), _) if !broken(&error) => Err(error),
            (_, Err(failure)) => Err(failure.into()),
            // It ended well without the rest.
            (_, Ok(output)) => Ok(output),
        }
    }

    fn failure(&self, ending: Ending, tail: VecDeque<String>) -> Failure {
        Failure {
            command: self.to_string(),
            ending,
            tail: tail.into(),
            log: self.log.clone(),
            unlogged: None,
        }
    }
}

impl Failure {
    /// Whether it ended because the run is being stopped.
    pub fn stopped(&self) -> bool {
        self.ending == Ending::Stopped
    }

    /// Its exit code, if it ended by itself with one.
    pub fn code(&self) -> Option<i32> {
        match self.ending {
            Ending::Code(code) => Some(code),
            _ => None,
        }
    }

    /// The last line it said that is not blank.
    pub fn last_line(&self) -> Option<&str> {
        self.tail.iter().map(String::as_str).rfind(|line| !line.trim().is_empty())
    }
}

/// The full path of a program, or none.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|folder| folder.join(program)).find(|file| is_executable(file))
}

/// Where programs are looked for, by us and by every child: PATH, then where Go's own installation
/// and `go install` put programs without adding the folder to PATH.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
    for folder in home.into_iter().chain([PathBuf::from("/usr/local/go/bin")]) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
