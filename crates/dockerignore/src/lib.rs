//! Docker's ignore rules, as BuildKit applies them.
//!
//! Not git's: every pattern is anchored at the context's root, a match on a folder covers what is
//! below, and `!` brings files back from an ignored folder. About a quarter of all cases come out
//! differently by git's rules.
//!
//! ```
//! let rules = dockerignore::Rules::parse(b"*\n!src\n**/*.log").unwrap();
//! assert!(rules.ignores(b"README.md").unwrap());
//! assert!(!rules.ignores(b"src/main.go").unwrap());
//! assert!(rules.ignores(b"src/a.log").unwrap());
//! ```
//!
//! A walk asks [`Rules::test`] for each entry and hands the state down, which is quicker than
//! asking anew for each path, and [`Rules::may_hold_kept`] whether an ignored folder has to be
//! opened.
//!
//! | question | file |
//! | --- | --- |
//! | which ignore file is read | `file` |
//! | what its lines are | `parse`, `syntax` |
//! | what one pattern matches | `pattern`, and below it `glob` or `expression` |
//! | what all of them keep | `rules` |
//!
//! The source of each rule is the code BuildKit runs: `moby/patternmatcher` 0.6, `fsutil`, and
//! `regexp` of Go's library. `tests/oracle.rs` compares with that code itself.

mod expression;
mod file;
mod glob;
mod parse;
mod pattern;
mod rules;
mod syntax;
mod utf8;

pub use file::{IgnoreFile, container_files, find};
pub use rules::{Rules, State, Verdict};

/// A pattern BuildKit would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{}`: {message}", pattern.escape_debug())]
pub struct RuleError {
    /// Counted from 1.
    pub line: usize,
    /// As far as it was read.
    pub pattern: String,
    pub message: String,
}

impl RuleError {
    fn new(line: usize, pattern: &str, message: &str) -> RuleError {
        RuleError { line, pattern: pattern.to_owned(), message: message.to_owned() }
    }
}
