//! Which paths the patterns leave in the context.
//!
//! The walk goes from the top down and remembers for each folder which patterns matched it. For
//! an entry, with `ignored = false` to begin with, the patterns are gone through in order:
//! * it matched the folder: it matches here;
//! * else, if it could not change the answer (an exception while the entry is not ignored, another
//!   while it is): it is **not tried, and remembered as not matching**;
//! * else it is tried on this path;
//! * if it matches: `ignored = !exception`.
//!
//! So the last match wins, a folder's match covers what is below, and an exception brings back
//! what lies below an ignored folder. The step in bold can be seen: after `a/b` and `!a`, the file
//! `a/b` stays ignored, as on `a` itself the exception had nothing to do; and `a`, `!a/b`, `a`
//! keeps `a/b`, as on `a` the third line was not tried. (The second file BuildKit 0.23 sends empty:
//! when it opens a file it asks again, without the memory, and gets no bytes. Here it is whole.)
//!
//! A folder need not be opened if it is ignored and stays so for all below it. Every pattern that
//! matched the folder matches below; the last of these ignores, and only exceptions after it can
//! change that. If none of them can match a path that begins with the folder's, nothing below is
//! kept. BuildKit's own rule is weaker (any wildcard in an exception: open every folder), wrong in
//! one corner (`!a{2}/*` matches `aa/x`, yet `aa` is not opened), and decides whether a broken
//! pattern is ever tried; so where it prunes, we do.

use super::pattern::Pattern;
use super::{RuleError, parse};
use std::sync::Arc;

/// The patterns of one ignore file, in its order.
#[derive(Debug)]
pub struct Rules {
    patterns: Vec<Pattern>,
    /// BuildKit's pruning, if all exceptions are names: what those begin with.
    exception_names: Option<Vec<Vec<u8>>>,
    any_broken: bool,
}

/// Which patterns matched a path. Below it they match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Patterns 0 to 63, a bit each.
    first: u64,
    /// The others; shared with the folder above unless something was added.
    others: Option<Arc<[u64]>>,
}

/// What the rules say about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Not in the context itself. Below a folder something may be kept still.
    pub ignored: bool,
    /// For the tests of what lies in it, if it is a folder.
    pub state: State,
}

impl Rules {
    /// Reads an ignore file; on failure every bad line is told.
    pub fn parse(text: &[u8]) -> Result<Rules, Vec<RuleError>> {
        parse::file(text).map(Rules::new)
    }

    /// Takes each string as a line of an ignore file would be, but `#` begins no comment. In an
    /// error the line is the place in the list, from 1.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Rules, Vec<RuleError>> {
        parse::list(patterns).map(Rules::new)
    }

    /// Takes the words of `COPY --exclude`, which BuildKit hands to its matcher as they are: a
    /// leading `/` stays, so that `/a` matches nothing.
    pub fn from_copy_excludes<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Rules, Vec<RuleError>> {
        parse::unread(patterns).map(Rules::new)
    }

    fn new(patterns: Vec<Pattern>) -> Rules {
        let exceptions = patterns.iter().filter(|pattern| pattern.exception);
        let exception_names = exceptions.map(|pattern| name_with_slash(&pattern.text)).collect();
        let any_broken = patterns.iter().any(Pattern::is_broken);
        Rules { patterns, exception_names, any_broken }
    }

    /// No patterns at all: everything is kept.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether an error of [`Rules::test`] is of one of these patterns.
    pub fn is_of(&self, error: &RuleError) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|one| (one.line, &one.text) == (error.line, &error.pattern))
    }

    /// The state above the entries of the context's root.
    pub fn root(&self) -> State {
        State::default()
    }

    /// Decides on `path`, relative to the context with `/` between its parts; `parent` is the
    /// state of the folder it lies in.
    ///
    /// Fails on the first use of a pattern that passed the syntax check but has no meaning, such
    /// as `[z-a]` or `\q`.
    pub fn test(&self, parent: &State, path: &[u8]) -> Result<Verdict, RuleError> {
        let mut verdict = Verdict { ignored: false, state: parent.clone() };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let known = parent.holds(index);
            let matches = known
                || pattern.exception == verdict.ignored
                    && pattern
                        .matches(path)
                        .map_err(|why| RuleError::new(pattern.line, &pattern.text, why))?;
            if matches {
                verdict.ignored = !pattern.exception;
                if !known {
                    verdict.state.add(index, self.patterns.len());
                }
            }
        }
        Ok(verdict)
    }

    /// Decides on a path by itself, its folders first. Fails as [`Rules::test`] does.
    pub fn ignores(&self, path: &[u8]) -> Result<bool, RuleError> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut verdict = Verdict { ignored: false, state: self.root() };
        for end in slashes.chain(std::iter::once(path.len())) {
            verdict = self.test(&verdict.state, &path[..end])?;
        }
        Ok(verdict.ignored)
    }

    /// Whether something in the folder `dir` might be kept, `state` being the folder's own.
    /// If false the folder is ignored and need not be opened.
    pub fn may_hold_kept(&self, dir: &[u8], state: &State) -> bool {
        let Some(last) = (0..self.patterns.len()).rev().find(|&index| state.holds(index)) else {
            return true;
        };
        if self.patterns[last].exception {
            return true;
        }
        let head = [dir, b"/"].concat();
        if self.buildkit_prunes(&head) {
            return false;
        }
        let mut later = self.patterns[last + 1..].iter().filter(|pattern| pattern.exception);
        self.any_broken || later.any(|pattern| pattern.reaches(&head))
    }

    fn buildkit_prunes(&self, head: &[u8]) -> bool {
        self.exception_names
            .as_ref()
            .is_some_and(|names| !names.iter().any(|name| name.starts_with(head)))
    }
}

/// An exception as BuildKit's pruning sees it; `None` if it is more than a name.
fn name_with_slash(pattern: &str) -> Option<Vec<u8>> {
    let name = pattern.strip_suffix("/**").unwrap_or(pattern);
    let name = name.strip_suffix("/*").unwrap_or(name);
    (!name.contains(['*', '[', ']', '?', '^', '\\'])).then(|| format!("{name}/").into_bytes())
}

impl State {
    fn holds(&self, index: usize) -> bool {
        let word = match index / 64 {
            0 => Some(&self.first),
            word => self.others.as_ref().and_then(|others| others.get(word - 1)),
        };
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn add(&mut self, index: usize, patterns: usize) {
        let bit = 1 << (index % 64);
        if index < 64 {
            self.first |= bit;
            return;
        }
        let mut others = match &self.others {
            Some(others) => others.to_vec(),
            None => vec![0; patterns.div_ceil(64) - 1],
        };
        others[index / 64 - 1] |= bit;
        self.others = Some(others.into());
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
