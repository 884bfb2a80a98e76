//! What a repository is held to before a commit: what would waste minutes or leak tomorrow fails
//! today.
//!
//! | rule | holds | file |
//! | --- | --- | --- |
//! | `unreadable` | manifests and kustomizations can be read, or nothing of theirs was checked | here |
//! | `base-registry` | what is built upon comes from `[policy] registries` | `images` |
//! | `unpinned-base` | no image is `latest` | `images` |
//! | `port-twice` | suites can run side by side | `ports` |
//! | `nodeport-unlisted` | every `nodePort` can be reached | `ports` |
//! | `pull-policy` | what was loaded is what runs | `images` |
//! | `image-unknown` | what a manifest calls one of ours is built and loaded | `images` |
//! | `image-unset` | what was built is meant, wherever it is named | `images` |
//! | `context-secret` | no secret is sent to a build | `contexts`, `secret` |
//! | `context-junk` | nor what other tools left | `contexts` |
//! | `container-ignore` | an ignore file means one thing | `contexts` |
//! | `no-cache` | nobody rebuilds "to be sure" | `scripts` |
//! | `unused-exception` | `[[lint.allow]]` says nothing that is not so | here |
//! | `cache-mount` | nothing is compiled again that was compiled before | `caches` |
//!
//! The order is that of harm. Rules are pure, over [`Facts`] that were gathered before; they look
//! at what is really built, sent and applied, not at every file that happens to lie about. What
//! only a program can say (a Helm chart's manifests, a step that runs a command) is not looked at.

mod caches;
mod contexts;
pub mod facts;
mod images;
mod ports;
pub(crate) mod read;
pub mod report;
pub mod scripts;
pub mod secret;

use serde::Serialize;

use crate::config::Rule;
use crate::repository::relative;
pub use facts::Facts;

/// One thing that should not be as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    #[serde(serialize_with = "as_id")]
    pub rule: Rule,
    /// Relative to the configuration's folder.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
    /// What to do about it.
    pub mend: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A run fails, tests something else than what was built, or gives something away.
    Error,
    /// Time is lost, or two engines do two things.
    Warning,
    /// Time could be saved. It fails no check.
    Hint,
}

impl Finding {
    pub fn severity(&self) -> Severity {
        severity(self.rule)
    }
}

pub(crate) fn severity(rule: Rule) -> Severity {
    match rule {
        Rule::CacheMount => Severity::Hint,
        rule if rule < Rule::ContextJunk => Severity::Error,
        _ => Severity::Warning,
    }
}

/// Whether none of some findings fails a check.
pub fn is_passed(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity() == Severity::Hint)
}

/// What each rule is for, in a sentence.
pub(crate) fn about(rule: Rule) -> &'static str {
    match rule {
        Rule::Unreadable => "A file that has to be checked cannot be read",
        Rule::BaseRegistry => "A base image comes from a registry that is not approved",
        Rule::UnpinnedBase => "What an image is made of is whatever it is on the day",
        Rule::PortTwice => "Two want one port, so they cannot run at the same time",
        Rule::NodeportUnlisted => "A node port cannot be reached from the host",
        Rule::PullPolicy => "A pull policy asks a registry for what was loaded onto the node",
        Rule::ImageUnknown => "A manifest names what looks like one of the images, and is none",
        Rule::ImageUnset => "A manifest names an image where no run sets it",
        Rule::ContextSecret => "A secret is sent to a build",
        Rule::ContextJunk => "What other tools left is sent to a build",
        Rule::ContainerIgnore => "An ignore file is not read by every engine",
        Rule::NoCache => "A script builds without the cache",
        Rule::UnusedException => "An exception excepts nothing",
        Rule::CacheMount => "A build compiles or fetches all of it anew each time",
    }
}

/// All findings that no exception covers, the most harmful first, then by file and line.
pub fn lint(facts: &Facts) -> Vec<Finding> {
    const RULES: [fn(&Facts) -> Vec<Finding>; 11] = [
        unreadable,
        images::bases,
        images::in_manifests,
        images::unset,
        ports::twice,
        ports::unlisted,
        contexts::sent,
        contexts::container_ignores,
        contexts::arguments,
        scripts::no_cache,
        caches::cache_mounts,
    ];
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(facts)).collect();
    let allow = &facts.config.allow;
    let mut used = vec![false; allow.len()];
    findings.retain(|finding| {
        let covers = |(at, allow): (usize, &crate::config::Allow)| {
            let covers = allow.rule == finding.rule && allow.covers(&finding.file);
            used[at] |= covers;
            covers
        };
        // Every exception that covers it counts as used.
        allow.iter().enumerate().map(covers).filter(|covers| *covers).count() == 0
    });
    let unused = allow.iter().zip(used).filter(|(_, used)| !used);
    findings.extend(unused.map(|(allow, _)| Finding {
        rule: Rule::UnusedException,
        file: relative(&facts.config.file, &facts.config.root),
        line: allow.line,
        reason: format!("`{}` has no finding of `{}` to except", allow.path, allow.rule),
        mend: "remove the exception".to_owned(),
    }));
    findings.sort();
    findings.dedup();
    findings
}

fn unreadable(facts: &Facts) -> Vec<Finding> {
    let findings = facts.unreadable.iter().map(|fault| Finding {
        rule: Rule::Unreadable,
        file: fault.file.clone(),
        line: fault.line,
        reason: fault.message.clone(),
        mend: "make it plain YAML, or render it before it is applied".to_owned(),
    });
    findings.collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn as_id<S: serde::Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rule.id())
}

/// `` `a`, `b` and `c` ``
fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
