//! What is wrong with a configuration: one [`ConfigError`] a mistake, all of a file's in
//! [`ConfigErrors`].
//!
//! A person who made three mistakes should run the command twice, not four times. So nothing here
//! stops at the first: reading goes on with an empty value in the place of the bad one, and the
//! faults leave together, in the order of the file.

use std::fmt;
use std::path::PathBuf;

use crate::error::with_hints;

/// One mistake, where it is, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// ``image `api`: unknown key `memroy` ``.
    pub message: String,
    /// ``did you mean `memory`?``
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}:{}: {}", self.file.display(), self.line, self.message);
        f.write_str(&with_hints(&text, &self.hint))
    }
}

/// All faults of a file, in its order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(faults) = self;
        let plural = if faults.len() == 1 { "" } else { "s" };
        write!(f, "failed to read the configuration: {} fault{plural}", faults.len())?;
        faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl std::error::Error for ConfigErrors {}
