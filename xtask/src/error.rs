//! What the process ends with, and errors as values: what failed and why, how it is mended, and the
//! exit code.

use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::private;

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

/// An error with what is for its user alone: how it is mended, and what the process ends with.
/// Neither is part of its text: [`told`] shows the hints, [`code`] finds the exit code.
#[derive(Debug)]
pub struct UserError {
    /// What failed, with its causes.
    error: anyhow::Error,
    hints: Vec<String>,
    exit: Option<Exit>,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for UserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Says of an error, or of all errors of a result, what is for the user alone.
pub trait ErrorExt: Sized {
    type Output;

    /// Which exit code it leads to.
    fn exit(self, exit: Exit) -> Self::Output;

    /// How it is mended: a command, or a short sentence.
    fn hint(self, hint: impl Into<String>) -> Self::Output {
        self.hints([hint.into()])
    }

    /// The same, where there is more than one way, or none.
    fn hints(self, hints: impl IntoIterator<Item = String>) -> Self::Output;
}

impl ErrorExt for anyhow::Error {
    type Output = anyhow::Error;

    fn exit(self, exit: Exit) -> anyhow::Error {
        anyhow::Error::new(UserError { error: self, hints: Vec::new(), exit: Some(exit) })
    }

    fn hints(self, hints: impl IntoIterator<Item = String>) -> anyhow::Error {
        let hints = hints.into_iter().collect();
        anyhow::Error::new(UserError { error: self, hints, exit: None })
    }
}

impl<T, E: Into<anyhow::Error>> ErrorExt for Result<T, E> {
    type Output = anyhow::Result<T>;

    fn exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| error.into().exit(exit))
    }

    fn hints(self, hints: impl IntoIterator<Item = String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().hints(hints))
    }
}

/// An error and its causes from the outside in. The chain of `anyhow` has a [`UserError`] in the
/// place of the error it was made of; here that one follows.
pub fn causes(error: &anyhow::Error) -> Vec<&(dyn std::error::Error + 'static)> {
    let mut causes = Vec::new();
    for cause in error.chain() {
        causes.push(cause);
        if let Some(user) = cause.downcast_ref::<UserError>() {
            // What follows in the chain are its causes.
            causes.extend(self::causes(&user.error));
            break;
        }
    }
    causes
}

/// The outermost cause of a type.
pub fn find<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    causes(error).into_iter().find_map(|cause| cause.downcast_ref())
}

/// The exit code an error leads to: the outermost mark, else [`Exit::Failed`]. A full disk is the
/// environment's fault, whatever was being written, and so is a place of ours that somebody else
/// has taken.
pub fn code(error: &anyhow::Error) -> Exit {
    let causes = causes(error);
    if is_full(error) || causes.iter().any(|cause| private::refused(*cause).is_some()) {
        return Exit::Environment;
    }
    let mut marks = causes.iter().filter_map(|cause| cause.downcast_ref::<UserError>());
    marks.find_map(|mark| mark.exit).unwrap_or(Exit::Failed)
}

/// Whether there was no room for what was being written: none on the disk, or none that this user
/// may take.
pub fn is_full(error: &anyhow::Error) -> bool {
    let causes = causes(error);
    causes.iter().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| {
        let kind = cause.kind();
        matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    })
}

/// All ways to mend an error, the outermost first.
pub fn hints(error: &anyhow::Error) -> Vec<String> {
    let mut hints = Vec::new();
    for cause in causes(error) {
        if let Some(user) = cause.downcast_ref::<UserError>() {
            hints.extend(user.hints.iter().cloned());
        }
        hints.extend(private::refused(cause).map(|refused| refused.hint.clone()));
    }
    if is_full(error) {
        hints.push("make room where that lies: df -h".to_owned());
    }
    hints
}

/// An error that says the same and has the same hints, for whoever cannot have the error itself.
pub fn again(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}").hints(hints(error))
}

/// An error and its causes as one sentence, with all hints below it, a line each.
pub fn told(error: &anyhow::Error) -> String {
    with_hints(&format!("{error:#}"), hints(error))
}

/// A text with hints below it, a line each. Nothing else writes one.
pub fn with_hints<H: fmt::Display>(text: &str, hints: impl IntoIterator<Item = H>) -> String {
    hints.into_iter().fold(text.to_owned(), |told, hint| format!("{told}\nhint: {hint}"))
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

    #[test]
    fn hints_come_last_wherever_they_were_given() {
        let cause: anyhow::Result<()> = Err(anyhow!("exit status 1\n  | hint: of a child"));
        let cause = cause.hint("look at it").exit(Exit::Usage);
        let error = cause.context("failed to reach it").hint("start it").context("no").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "no: failed to reach it: exit status 1\n  | hint: of a child"
        );
        assert_eq!(told(&error), format!("{error:#}\nhint: start it\nhint: look at it"));
        assert_eq!(code(&error), Exit::Usage);
        let full = io::Error::from(ErrorKind::QuotaExceeded);
        let error = anyhow::Error::new(full).context("failed to write `a`");
        let text = "failed to write `a`: quota exceeded\nhint: make room where that lies: df -h";
        assert_eq!(told(&error), text);
    }

    #[test]
    fn a_cause_is_found_below_every_mark() {
        let full = anyhow::Error::new(io::Error::from(ErrorKind::StorageFull));
        let error = full.hint("wait").exit(Exit::Usage).context("failed to write `a`");
        assert_eq!(find::<io::Error>(&error).unwrap().kind(), ErrorKind::StorageFull);
        assert_eq!(code(&error), Exit::Environment);
        assert!(find::<fmt::Error>(&error).is_none());
    }
}
