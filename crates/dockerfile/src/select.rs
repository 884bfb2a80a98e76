//! Sources × the tree of the context → the entries chosen.
//!
//! * The part of a source before its first wildcard is walked from the root, links followed: each
//!   link crossed and what it finally leads to are inputs. An absolute link begins at the context's
//!   root, `..` stops there. The text of a link is cleaned before it is followed, as BuildKit does
//!   it.
//! * From there wildcards are matched name by name, dots are nothing special, `**` is `*`, links
//!   are not entered. A match that is a link is followed like a plain source. No match is no fault
//!   here.
//! * A folder chosen means all below it, links as they are. `--exclude` counts below the folder
//!   (never for a file named itself); what it leaves is listed entry by entry.
//! * `--parents` lists what its pattern matches below the pivot, links not followed, patterns as in
//!   an ignore file (`**` crosses folders, a folder matched means all below).
//! * A pattern not understood (`a[^b]c` would match a `/`) chooses all it could be reached from.

use std::ops::Range;

use dockerignore::{Rules, State};

use super::glob::{Glob, has_wildcard};
use super::{Source, SourceKind};

/// What `select` chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// By path, each once, none below a whole subtree.
    pub roots: Vec<Root>,
    /// Line and path of sources that nothing matches. Without a wildcard the build will fail; with
    /// one it will on podman.
    pub missing: Vec<(usize, String)>,
    /// Paths of whole subtrees, a `/` behind each: then at most one can be a prefix, and it is the
    /// greatest of those not greater than the path asked for.
    subtrees: Vec<Vec<u8>>,
    /// Paths of single entries.
    entries: Vec<Vec<u8>>,
}

/// A chosen entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// From the context's root, which is empty itself.
    pub path: Vec<u8>,
    /// All below it is chosen, too.
    pub subtree: bool,
}

/// The context as its ignore rules leave it. Paths are relative to its root, the root is empty.
pub trait Tree {
    /// `None` if there is nothing at `path`.
    fn kind(&self, path: &[u8]) -> Option<Kind>;
    /// The text of the link at `path`.
    fn link(&self, path: &[u8]) -> Option<Vec<u8>>;
    /// Names in the folder `dir`, in any order.
    fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, Kind)>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Other,
}

/// More links than this in one path are a circle, as in the engines.
const MOST_LINKS: usize = 255;

/// Chooses what the sources read.
pub fn select(sources: &[Source], tree: &dyn Tree) -> Selection {
    let mut chooser = Chooser { tree, roots: Vec::new(), missing: Vec::new() };
    for source in sources {
        match &source.kind {
            SourceKind::Bind => chooser.plain(source, &parts(&source.pattern), &[]),
            SourceKind::Copy { exclude, parents: None } => chooser.copy(source, exclude),
            SourceKind::Copy { exclude, parents: Some(pattern) } => {
                chooser.parents(source, exclude, pattern);
            }
        }
    }
    Selection::new(chooser.roots, chooser.missing)
}

impl Selection {
    fn new(mut roots: Vec<Root>, missing: Vec<(usize, String)>) -> Selection {
        roots.sort();
        let slashed = |root: &Root| if root.path.is_empty() { vec![] } else { slash(&root.path) };
        let mut subtrees: Vec<Vec<u8>> =
            roots.iter().filter(|root| root.subtree).map(slashed).collect();
        subtrees.sort();
        subtrees.dedup_by(|next, kept| next.starts_with(kept));
        roots.retain(|root| {
            let own = slashed(root);
            let whole = covering(&subtrees, &own);
            whole.is_none_or(|whole| root.subtree && *whole == own)
        });
        roots.dedup();
        let single = roots.iter().filter(|root| !root.subtree);
        let entries = single.map(|root| root.path.clone()).collect();
        Selection { roots, missing, subtrees, entries }
    }

    /// Whether the entry is chosen. Folders on the way to one are asked for with
    /// [`Self::on_the_way`].
    pub fn contains(&self, path: &[u8]) -> bool {
        if self.entries.binary_search_by(|entry| entry.as_slice().cmp(path)).is_ok() {
            return true;
        }
        !self.subtrees.is_empty() && covering(&self.subtrees, &slash(path)).is_some()
    }

    /// The chosen among `paths`, which are sorted by bytes, as ascending ranges: a few searches a
    /// root where [`Self::contains`] is one or two a path.
    pub fn ranges<P: AsRef<[u8]>>(&self, paths: &[P]) -> Vec<Range<usize>> {
        let first = |least: &[u8]| paths.partition_point(|path| path.as_ref() < least);
        let mut ranges = Vec::new();
        for root in &self.roots {
            let at = first(&root.path);
            if paths.get(at).is_some_and(|path| path.as_ref() == root.path) {
                ranges.push(at..at + 1);
            }
            if root.subtree && root.path.is_empty() {
                return std::iter::once(0..paths.len()).collect();
            }
            if root.subtree {
                // `0` is the byte after `/`: what lies between begins with the folder's path.
                let mut end = root.path.clone();
                end.push(b'0');
                ranges.push(first(&slash(&root.path))..first(&end));
            }
        }
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// Whether something below the folder is chosen that was named apart from it.
    pub fn on_the_way(&self, dir: &[u8]) -> bool {
        if dir.is_empty() {
            return !self.roots.is_empty();
        }
        let head = slash(dir);
        let after = self.roots.partition_point(|root| root.path < head);
        self.roots.get(after).is_some_and(|root| root.path.starts_with(&head))
    }
}

/// The subtree `path` (with a `/` behind it) lies in.
fn covering<'a>(subtrees: &'a [Vec<u8>], path: &[u8]) -> Option<&'a Vec<u8>> {
    let after = subtrees.partition_point(|subtree| subtree.as_slice() <= path);
    let subtree = subtrees.get(after.checked_sub(1)?)?;
    path.starts_with(subtree).then_some(subtree)
}

fn slash(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1);
    out.extend_from_slice(path);
    out.push(b'/');
    out
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

fn names_of(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        return name.to_vec();
    }
    let mut path = slash(dir);
    path.extend_from_slice(name);
    path
}

struct Chooser<'a> {
    tree: &'a dyn Tree,
    roots: Vec<Root>,
    missing: Vec<(usize, String)>,
}

impl Chooser<'_> {
    fn entry(&mut self, path: Vec<u8>) {
        self.roots.push(Root { path, subtree: false });
    }

    fn subtree(&mut self, path: Vec<u8>) {
        self.roots.push(Root { path, subtree: true });
    }

    fn copy(&mut self, source: &Source, exclude: &[String]) {
        let parts = parts(&source.pattern);
        let plain = parts.iter().take_while(|part| !has_wildcard(part)).count();
        if plain == parts.len() {
            self.plain(source, &parts, exclude);
            return;
        }
        let Some(base) = self.follow(&parts[..plain]) else {
            self.missing.push((source.line, source.pattern.clone()));
            return;
        };
        let globs: Option<Vec<Glob>> =
            parts[plain..].iter().map(|part| Glob::parse(part)).collect();
        let Some(globs) = globs else {
            self.subtree(base);
            return;
        };
        let matches = self.matches(base, &globs);
        if matches.is_empty() {
            self.missing.push((source.line, source.pattern.clone()));
        }
        for path in matches {
            self.chosen(path, exclude);
        }
    }

    /// A source without wildcards.
    fn plain(&mut self, source: &Source, parts: &[&str], exclude: &[String]) {
        match self.follow(parts) {
            Some(path) => self.take(path, exclude),
            None => self.missing.push((source.line, source.pattern.clone())),
        }
    }

    /// A match of a wildcard: followed if it is a link.
    fn chosen(&mut self, path: Vec<u8>, exclude: &[String]) {
        match self.resolve(names_of(&path)) {
            Some(end) => self.take(end, exclude),
            None => self.entry(path),
        }
    }

    /// All below a folder, or a file.
    fn take(&mut self, path: Vec<u8>, exclude: &[String]) {
        if self.tree.kind(&path) != Some(Kind::Dir) {
            self.entry(path);
            return;
        }
        match Sieve::new(None, exclude) {
            Some(sieve) if !exclude.is_empty() => {
                self.entry(path.clone());
                self.sift(&sieve, &path, &[], &sieve.start());
            }
            _ => self.subtree(path),
        }
    }

    fn parents(&mut self, source: &Source, exclude: &[String], pattern: &str) {
        let names = parts(&source.pattern);
        let plain = names.iter().take_while(|part| !has_wildcard(part)).count();
        let Some(base) = self.follow(&names[..plain]) else {
            self.missing.push((source.line, format!("{}/./{pattern}", source.pattern)));
            return;
        };
        let globs: Option<Vec<Glob>> =
            names[plain..].iter().map(|part| Glob::parse(part)).collect();
        let pivots = globs.map(|globs| self.matches(base.clone(), &globs));
        let sieve = Sieve::new(Some(pattern), exclude);
        let (Some(pivots), Some(sieve)) = (pivots, sieve) else {
            self.subtree(base);
            return;
        };
        let before = self.roots.len();
        for pivot in pivots {
            let end = self.resolve(names_of(&pivot)).unwrap_or(pivot);
            if self.tree.kind(&end) == Some(Kind::Dir) {
                self.sift(&sieve, &end, &[], &sieve.start());
            } else {
                self.entry(end);
            }
        }
        let is_plain = plain == names.len() && !has_wildcard(pattern);
        if is_plain && self.roots.len() == before {
            self.missing.push((source.line, pattern.to_owned()));
        }
    }

    /// Lists what a sieve keeps below `base`; `dir` is relative to it.
    fn sift(&mut self, sieve: &Sieve, base: &[u8], dir: &[u8], states: &States) {
        for (name, kind) in self.tree.children(&join_below(base, dir)) {
            let path = join(dir, &name);
            if !sieve.may_reach(&path) {
                continue;
            }
            let full = join_below(base, &path);
            // A pattern that fails only when tried fails the build; nothing is lost by keeping all.
            let Some(Tested { kept, closed, below }) = sieve.test(states, &path) else {
                self.subtree(full);
                continue;
            };
            if kept && sieve.exclude.is_none() {
                self.subtree(full);
                continue;
            }
            if kept {
                self.entry(full);
            }
            if kind == Kind::Dir && !closed {
                self.sift(sieve, base, &path, &below);
            }
        }
    }

    /// Paths below `base` that match component by component; links are not entered.
    fn matches(&self, base: Vec<u8>, globs: &[Glob]) -> Vec<Vec<u8>> {
        let mut found = vec![base];
        for glob in globs {
            let mut next = Vec::new();
            for dir in &found {
                if self.tree.kind(dir) != Some(Kind::Dir) {
                    continue;
                }
                let children = self.tree.children(dir).into_iter();
                let fitting = children.filter(|(name, _)| glob.matches(name));
                next.extend(fitting.map(|(name, _)| join(dir, &name)));
            }
            found = next;
        }
        found
    }

    fn follow(&mut self, parts: &[&str]) -> Option<Vec<u8>> {
        self.resolve(parts.iter().map(|part| part.as_bytes().to_vec()).collect())
    }

    /// Walks a path from the root, through links, which become entries; `None` if it leads nowhere.
    fn resolve(&mut self, names: Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let mut open: Vec<Vec<u8>> = names.into_iter().rev().collect();
        let mut path: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = open.pop() {
            let next = join(&path, &name);
            match self.tree.kind(&next)? {
                Kind::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    let text = self.tree.link(&next)?;
                    self.entry(next);
                    open.extend(target(&path, &text).into_iter().rev());
                    path.clear();
                }
                Kind::Dir => path = next,
                Kind::File | Kind::Other if open.is_empty() => path = next,
                Kind::File | Kind::Other => return None,
            }
        }
        Some(path)
    }
}

/// Where a link in the folder `dir` points, from the root.
fn target(dir: &[u8], text: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let start = if text.starts_with(b"/") { &[] } else { dir };
    for part in start.split(|byte| *byte == b'/').chain(text.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            part => names.push(part.to_vec()),
        }
    }
    names
}

fn join_below(base: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() { base.to_vec() } else { join(base, path) }
}

/// The patterns of `--parents` and `--exclude`, both relative to the folder copied from.
struct Sieve {
    include: Option<Rules>,
    exclude: Option<Rules>,
    /// The plain names an included path begins with.
    head: Vec<u8>,
    /// Some exclude pattern is an exception.
    brings_back: bool,
}

/// What the patterns matched on the way down.
struct States {
    include: Option<State>,
    exclude: Option<State>,
}

impl Sieve {
    /// `None` if the patterns are not valid, or mean something that is not modelled.
    fn new(include: Option<&str>, exclude: &[String]) -> Option<Sieve> {
        if include.is_some_and(|pattern| pattern.is_empty() || pattern.starts_with('!')) {
            return None;
        }
        let words = exclude.iter().map(String::as_str);
        let rules = Rules::from_copy_excludes(words).ok()?;
        let names = include.map(parts).unwrap_or_default();
        let plain = names.iter().take_while(|name| !name.contains(['*', '?', '[', '\\']));
        Some(Sieve {
            head: plain.copied().collect::<Vec<_>>().join("/").into_bytes(),
            include: match include {
                Some(pattern) => Some(Rules::from_copy_excludes([pattern]).ok()?),
                None => None,
            },
            exclude: (!exclude.is_empty()).then_some(rules),
            brings_back: exclude.iter().any(|word| word.trim_start().starts_with('!')),
        })
    }

    fn start(&self) -> States {
        States {
            include: self.include.as_ref().map(Rules::root),
            exclude: self.exclude.as_ref().map(Rules::root),
        }
    }

    /// Whether the path lies on the way to what the pattern names, or below it.
    fn may_reach(&self, path: &[u8]) -> bool {
        let (path, head) = (slash(path), slash(&self.head));
        self.head.is_empty() || head.starts_with(&path) || path.starts_with(&head)
    }

    fn test(&self, states: &States, path: &[u8]) -> Option<Tested> {
        let (included, include) = one(self.include.as_ref(), states.include.as_ref(), path)?;
        let (excluded, exclude) = one(self.exclude.as_ref(), states.exclude.as_ref(), path)?;
        let excluded = excluded.unwrap_or(false);
        Some(Tested {
            kept: included.unwrap_or(true) && !excluded,
            closed: excluded && !self.brings_back,
            below: States { include, exclude },
        })
    }
}

/// What a sieve says of one entry.
struct Tested {
    kept: bool,
    /// Nothing below can be kept.
    closed: bool,
    below: States,
}

type Matched = (Option<bool>, Option<State>);

fn one(rules: Option<&Rules>, state: Option<&State>, path: &[u8]) -> Option<Matched> {
    let (Some(rules), Some(state)) = (rules, state) else { return Some((None, None)) };
    let verdict = rules.test(state, path).ok()?;
    Some((Some(verdict.ignored), Some(verdict.state)))
}
