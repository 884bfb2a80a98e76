//! How a command and its failure read: as you would type the one, as a sentence the other.

use std::borrow::Cow;
use std::fmt::{Display, Formatter, Result};

use super::{Arg, Ending, Failure, Tool};

impl Display for Tool {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (name, value) in &self.env {
            if let Some(value) = value {
                write!(f, "{}={} ", name.to_string_lossy(), shown(value))?;
            }
        }
        write!(f, "{}", quoted(&self.program.to_string_lossy()))?;
        for arg in &self.args {
            write!(f, " {}", shown(arg))?;
        }
        Ok(())
    }
}

fn shown(arg: &Arg) -> String {
    match arg {
        Arg::Plain(value) => quoted(&value.to_string_lossy()).into_owned(),
        Arg::Secret(_) => "<secret>".to_owned(),
    }
}

/// Quoted for a POSIX shell, where that is needed.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "failed to run `{}`: {}", self.command, Brief(self))
    }
}

/// A failure without its command, for those who have said already what was being done. The command
/// is the first line of the log.
pub struct Brief<'a>(pub &'a Failure);

impl Display for Brief<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.0.ending)?;
        for line in &self.0.tail {
            write!(f, "\n  | {line}")?;
        }
        if let Some(log) = &self.0.log {
            write!(f, "\n  whole log: {}", log.display())?;
        }
        Ok(())
    }
}

impl Display for Ending {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Ending::NotStarted(why) => write!(f, "{why}"),
            Ending::Code(code) => write!(f, "exit status {code}"),
            Ending::Signal(signal) => write!(f, "ended by signal {signal}"),
            Ending::TimedOut(limit) => {
                write!(f, "still running after {}", humantime::format_duration(*limit))
            }
            Ending::Silent(limit) => {
                write!(f, "printed nothing for {}", humantime::format_duration(*limit))
            }
            Ending::Stopped => write!(f, "stopped with the run"),
            Ending::TooMuch(most) => {
                let most = crate::text::bytes(u64::from(*most));
                write!(f, "printed more than the {most} that are taken into memory")
            }
            Ending::Incomplete(why) => write!(f, "its output is incomplete: {why}"),
        }
    }
}
