//! `[[lint.allow]]`: exceptions to `lint`, each with the reason that was found good enough.
//!
//! The rules are named here because the file names them; what they say is in `crate::lint`.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::table::Table;

/// The rules of `lint`, the most harmful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A file that has to be looked into cannot be read.
    Unreadable,
    /// A base image from elsewhere than `[policy] registries`.
    BaseRegistry,
    /// An image that is whatever `latest` is today.
    UnpinnedBase,
    /// A host port, or a node port, that two want.
    PortTwice,
    /// A `nodePort` nothing of `[ports]` leads to.
    NodeportUnlisted,
    /// A pull policy that asks a registry for what was just loaded.
    PullPolicy,
    /// An image in a manifest that nobody builds or loads.
    ImageUnknown,
    /// An image that a manifest names where no run sets it.
    ImageUnset,
    /// A context that sends a secret.
    ContextSecret,
    /// A context that sends what no build wants.
    ContextJunk,
    /// A `.containerignore`, which not every engine reads.
    ContainerIgnore,
    /// A script that builds with `--no-cache`.
    NoCache,
    /// An exception that excepts nothing.
    UnusedException,
    /// A step of a Dockerfile that compiles without a cache mount.
    CacheMount,
}

impl Rule {
    pub const ALL: [(&'static str, Rule); 14] = [
        ("unreadable", Rule::Unreadable),
        ("base-registry", Rule::BaseRegistry),
        ("unpinned-base", Rule::UnpinnedBase),
        ("port-twice", Rule::PortTwice),
        ("nodeport-unlisted", Rule::NodeportUnlisted),
        ("pull-policy", Rule::PullPolicy),
        ("image-unknown", Rule::ImageUnknown),
        ("image-unset", Rule::ImageUnset),
        ("context-secret", Rule::ContextSecret),
        ("context-junk", Rule::ContextJunk),
        ("container-ignore", Rule::ContainerIgnore),
        ("no-cache", Rule::NoCache),
        ("unused-exception", Rule::UnusedException),
        ("cache-mount", Rule::CacheMount),
    ];

    /// As the configuration and every report call it.
    pub fn id(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, rule)| *rule == self);
        found.map_or("", |(id, _)| id)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// An exception.
#[derive(Clone, Debug)]
pub struct Allow {
    pub rule: Rule,
    /// As it was written.
    pub path: String,
    pub reason: String,
    /// The line of the configuration it stands on.
    pub line: usize,
    paths: GlobSet,
}

impl Allow {
    /// Whether it is about this file: `path` matches it, or a folder it lies in.
    pub fn covers(&self, file: &str) -> bool {
        self.paths.is_match(file)
    }
}

pub(super) fn allow(outermost: &mut Table<'_>) -> Vec<Allow> {
    let Some(mut lint) = outermost.table("lint", "lint".to_owned()) else { return Vec::new() };
    let exceptions = lint.tables("allow", "exception");
    let exceptions = exceptions.into_iter().filter_map(|mut table| {
        let allow = exception(&mut table);
        table.end();
        allow
    });
    let exceptions = exceptions.collect();
    lint.end();
    exceptions
}

fn exception(table: &mut Table<'_>) -> Option<Allow> {
    let (line, _) = table.document.line(table.place.start);
    if !table.has("rule") {
        table.missing("missing key `rule`", None);
    }
    let rule = table.choice("rule", &Rule::ALL);
    let path = table.required("path");
    let reason = table.required("reason");
    if let Some(reason) = reason.as_ref().filter(|reason| reason.value.trim().is_empty()) {
        table.fault(&reason.place, "`reason` says nothing", None);
    }
    let path = path?;
    let paths = globs(path.value)
        .inspect_err(|error| table.fault(&path.place, format!("`path`: {error}"), None))
        .ok()?;
    let path = path.value.to_owned();
    Some(Allow { rule: rule?, path, reason: reason?.value.to_owned(), line, paths })
}

/// The path itself and all that lies below it.
fn globs(path: &str) -> Result<GlobSet, globset::Error> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let glob = |text: &str| GlobBuilder::new(text).literal_separator(true).build();
    GlobSetBuilder::new().add(glob(path)?).add(glob(&format!("{path}/**"))?).build()
}
