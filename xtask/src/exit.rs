//! What the process ends with, and how an error says which.

use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::private::is_refused;

/// The exit codes scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// The work itself failed: a build, a test, a check.
    Failed = 1,
    /// Bad usage or configuration; nothing was started.
    Usage = 2,
    /// The environment is at fault: engine, memory, disk, port.
    Environment = 3,
    /// A fault of xtask's own.
    Internal = 4,
    /// Stopped by SIGINT (Ctrl-C).
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Marks an error with the exit code it leads to: `.context(Exit::Environment)` would print, this
/// does not.
#[derive(Debug)]
pub struct Coded {
    pub exit: Exit,
    pub error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Says of an error, or of all errors of a result, which exit code they lead to.
pub trait WithExit {
    type Output;
    fn exit(self, exit: Exit) -> Self::Output;
}

impl WithExit for anyhow::Error {
    type Output = anyhow::Error;
    fn exit(self, exit: Exit) -> anyhow::Error {
        anyhow::Error::new(Coded { exit, error: self })
    }
}

impl<T, E: Into<anyhow::Error>> WithExit for Result<T, E> {
    type Output = anyhow::Result<T>;
    fn exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| error.into().exit(exit))
    }
}

/// The exit code an error leads to: the outermost mark, else [`Exit::Failed`]. A full disk is the
/// environment's fault, whatever was being written, and so is a place of ours that somebody else
/// has taken.
pub fn code(error: &anyhow::Error) -> Exit {
    if is_full(error) || error.chain().any(is_refused) {
        return Exit::Environment;
    }
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Coded>())
        .map_or(Exit::Failed, |coded| coded.exit)
}

/// Whether there was no room for what was being written: none on the disk, or none that this user
/// may take.
pub fn is_full(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| {
        let kind = cause.kind();
        matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    })
}

/// The exit code of a run that a signal has stopped.
pub fn after_signal(signal: Option<i32>) -> Option<Exit> {
    match signal? {
        signal_hook::consts::SIGINT => Some(Exit::Interrupted),
        _ => Some(Exit::Terminated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_mark_survives_further_context_and_does_not_show() {
        let error = anyhow!("no space left").exit(Exit::Environment).context("failed to stage `a`");
        assert_eq!(code(&error), Exit::Environment);
        assert_eq!(format!("{error:#}"), "failed to stage `a`: no space left");
        assert_eq!(code(&anyhow!("plain")), Exit::Failed);
    }

    #[test]
    fn a_marked_error_keeps_its_own_causes() {
        let cause: anyhow::Result<()> = Err(anyhow!("root")).context("middle");
        let error = cause.exit(Exit::Usage).unwrap_err();
        assert_eq!(format!("{error:#}"), "middle: root");
    }
}
