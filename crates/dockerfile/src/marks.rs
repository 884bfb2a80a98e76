//! Lines that let podman's layer cache tell apart what it takes for the same.
//!
//! The rule it follows (read in buildah 1.28 and 1.39, seen with podman 4.3): a step is taken from
//! an earlier build where the history of the image below it and the step's own entry are the same.
//! The entry holds the step's text, and of what the text stands for only this much:
//!
//! | step | in its entry | left out |
//! | --- | --- | --- |
//! | ARG | names of the args that have a value | values, defaults |
//! | RUN | its text, the args of this stage with their values | ENV, heredocs beside args, what mounts show |
//! | COPY, ADD | the content, the destination as written | flags that do not change the content |
//! | any other | its text as written | what its variables stand for |
//!
//! So an image holds what an arg was in an earlier build. The mend: a `LABEL` in front of a step,
//! whose value is a digest of all that the entries so far leave out. Its text is in the history,
//! and with it in the identity of every later step, also in stages built on this one. By induction
//! over the steps, equal histories then mean equal environments: a variable's value comes from the
//! base (its id is in the stage's first mark), from an ARG (given value, default, the global words
//! the default is made of: in the mark behind it), or from ENV (text in the history, whose
//! variables were known by then). What mounts show is told apart by the image's key.
//!
//! A label and not an ARG, which RUN would see; one of the labels that every build sets last, so
//! that the image has nothing of it. A mark is no layer. Steps before an ARG, and those no mount
//! shows anything, keep the cache.
//!
//! A mark stands also at the end of each stage that a mount shows: buildah before 1.29 shows a
//! stage taken from the cache without its last step (podman#16281), and a mark is a step without
//! content; and at the end of a target that is not the last stage, where podman sets the proof's
//! labels only on what it commits.

use std::collections::{BTreeMap, BTreeSet};

use super::globals::Globals;
use super::instruction::{Assignment, Body, Instruction};
use super::stages::{Graph, Stage, Target};
use super::{Request, Role, mount};

/// What podman's cache needs to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerCache {
    /// These marks, ascending by line.
    Marked(Vec<Mark>),
    /// It cannot be: why, and the line.
    Unusable { reason: String, line: usize },
}

/// A line to be put in front of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The line it goes in front of; one more than there are for the end of the text.
    pub line: usize,
    /// What the text says and the entries leave out, to be digested: records of fields.
    pub records: Vec<Vec<String>>,
    /// The base whose id counts here.
    pub base: Option<String>,
    /// The image's whole key counts here.
    pub keyed: bool,
}

/// Works out the marks of the stages reached.
pub(super) fn of(
    text: &str,
    graph: &Graph,
    globals: &Globals,
    request: &Request<'_>,
) -> LayerCache {
    let reached = || graph.reached.iter().map(|index| &graph.stages[*index]);
    if let Some(stage) = reached().find(|stage| !stage.triggers.is_empty()) {
        let reason = "its base has ONBUILD instructions, in front of which no line can be put";
        return LayerCache::Unusable { reason: reason.to_owned(), line: stage.line };
    }
    let shown: BTreeSet<usize> = reached().flat_map(shown).collect();
    let end = text.split_inclusive('\n').count() + 1;
    let target = graph.reached.last().copied().unwrap_or_default();
    let mut marks = Vec::new();
    for index in &graph.reached {
        let next = graph.stages.get(index + 1);
        let last = Last {
            line: next.map_or(end, |next| next.line),
            is_shown: shown.contains(index),
            is_early_target: *index == target && next.is_some(),
        };
        marks.extend(of_stage(&graph.stages[*index], &last, globals, request.args));
    }
    match ambiguous(text, graph.escape).filter(|_| !marks.is_empty()) {
        Some((reason, line)) => LayerCache::Unusable { reason: reason.to_owned(), line },
        None => LayerCache::Marked(marks),
    }
}

/// Stages that a mount of this one shows.
fn shown(stage: &Stage) -> impl Iterator<Item = usize> {
    let mounts = stage.links.iter().filter(|link| link.role == Role::MountFrom);
    mounts.filter_map(|link| match link.to {
        Target::Stage(index) => Some(index),
        Target::Image(_) | Target::Scratch => None,
    })
}

/// The end of a stage.
struct Last {
    line: usize,
    is_shown: bool,
    is_early_target: bool,
}

fn of_stage(
    stage: &Stage,
    last: &Last,
    globals: &Globals,
    given: &BTreeMap<String, String>,
) -> Vec<Mark> {
    let mut base = match &stage.base {
        Target::Image(name) => Some(name.clone()),
        Target::Stage(_) | Target::Scratch => None,
    };
    let mut pending = Vec::new();
    let mut is_open = base.is_some();
    let mut marks = Vec::new();
    let mut flush = |line, pending: &mut Vec<Vec<String>>, keyed| {
        let records = std::mem::take(pending);
        marks.push(Mark { line, records, base: base.take(), keyed });
    };
    for step in &stage.instructions {
        if let Body::Arg(words) = &step.body {
            for word in words {
                arg(&mut pending, word, globals, given);
            }
            is_open = true;
            continue;
        }
        let keyed = shows_content(step);
        let own = own_text(step);
        if let Some(text) = &own {
            pending.push(record(["step", text]));
        }
        if is_open || keyed || own.is_some() {
            flush(step.line, &mut pending, keyed);
            is_open = false;
        }
    }
    if is_open || last.is_shown || last.is_early_target {
        flush(last.line, &mut pending, last.is_early_target);
    }
    marks
}

fn record<const FIELDS: usize>(fields: [&str; FIELDS]) -> Vec<String> {
    fields.map(str::to_owned).to_vec()
}

/// All that decides what value an ARG has.
fn arg(
    records: &mut Vec<Vec<String>>,
    word: &Assignment,
    globals: &Globals,
    given: &BTreeMap<String, String>,
) {
    records.push(record(["arg", &word.name]));
    if let Some(default) = &word.default {
        records.push(record(["default", default]));
    }
    let all = globals.closure(&BTreeSet::from([word.name.clone()]));
    for global in globals.words(&all) {
        let default = global.default.as_deref().unwrap_or_default();
        records.push(record(["global", &global.name, default]));
    }
    for name in &all {
        if let Some(value) = given.get(name) {
            records.push(record(["given", name, value]));
        }
    }
}

/// Whether a RUN sees files of elsewhere that are not in its entry.
fn shows_content(step: &Instruction) -> bool {
    let Body::Run(run) = &step.body else { return false };
    let hides = |value: &String| {
        let kind = value.split(',').find_map(|field| field.strip_prefix("type="));
        matches!(kind, Some("cache" | "tmpfs" | "secret" | "ssh")) && mount::from(value).is_none()
    };
    run.unclear.is_some() || !run.mounts.iter().all(hides)
}

/// The text of a step whose entry leaves part of it out.
fn own_text(step: &Instruction) -> Option<String> {
    let heredocs = step.heredocs.iter().map(|heredoc| heredoc.body.as_str());
    let whole = || [step.text.as_str()].into_iter().chain(heredocs).collect();
    match &step.body {
        Body::Run(_) if !step.heredocs.is_empty() => Some(whole()),
        Body::Copy(copy) if copy.flags_count => Some(whole()),
        _ => None,
    }
}

/// Where podman may see another end of an instruction than we do, so that a line could end up
/// inside of one.
fn ambiguous(text: &str, escape: char) -> Option<(&'static str, usize)> {
    if escape != '\\' {
        return Some(("engines do not agree about `# escape`", 1));
    }
    let doubled = |line: &str| line.trim_end().ends_with("\\\\");
    let at = text.split_inclusive('\n').position(doubled)?;
    Some(("engines do not agree whether a line that ends in `\\\\` goes on", at + 1))
}
