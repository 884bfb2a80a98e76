//! Docker's ignore rules, as BuildKit applies them.
//!
//! Not git's: every pattern is anchored at the context's root, a match on a folder covers what is
//! below, and `!` brings files back from an ignored folder. About a quarter of all cases come out
//! differently by git's rules. The engines differ among each other too; the files are staged by us,
//! so BuildKit's answer holds for all of them, and [`podman_differs`] tells where podman alone
//! would have read a file otherwise.
//!
//! | question | file |
//! | --- | --- |
//! | which ignore file is read | `file` |
//! | what its lines are | `parse`, `syntax` |
//! | what one pattern matches | `pattern`, and below it `glob` or `re2` and `nfa` |
//! | what all of them keep | `rules` |
//!
//! The source of each rule is the code BuildKit runs: `moby/patternmatcher` 0.6, `fsutil`, and
//! `regexp` of Go's library. `xtask/tests/ignore_oracle.rs` compares with that code itself.

mod charset;
mod file;
mod glob;
mod nfa;
mod parse;
mod pattern;
mod podman;
mod re2;
mod rules;
mod syntax;
mod utf8;

pub use file::{IgnoreFile, find};
pub use podman::podman_differs;
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
