//! Stages reached → what they read of the context, the images and the args they use.

use std::collections::{BTreeMap, BTreeSet};

use dockerignore::Rules;

use super::environment::Environment;
use super::expand::{Expanded, Value};
use super::globals::Globals;
use super::instruction::{Assignment, Body, Copy, Instruction, Run};
use super::mount::{self, Trouble};
use super::stages::{Graph, Stage, Target};
use super::{Base, Fault, Request, Role, Source, SourceKind, Sources};

/// What the stages reached come to.
pub(super) struct Found {
    pub(super) sources: Sources,
    pub(super) bases: Vec<Base>,
    pub(super) args: BTreeMap<String, String>,
    pub(super) globals_used: BTreeSet<String>,
    /// Line and address.
    pub(super) fetched: Vec<(usize, String)>,
    pub(super) secrets: Vec<String>,
    pub(super) ssh: Vec<String>,
    pub(super) warnings: Vec<(usize, String)>,
}

/// Args that switch the engine itself; BuildKit does not hand them to instructions.
const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
/// What the names of all args begin with that switch BuildKit although nothing declares them.
const SWITCHES: &str = "BUILDKIT_";
/// Changes time stamps in the image although nothing declares it.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Walks the stages reached, in order.
pub(super) fn collect(
    graph: &Graph,
    globals: &Globals,
    request: &Request<'_>,
) -> Result<Found, Vec<Fault>> {
    let mut walk = Walk::new(globals, request);
    let mut environments: BTreeMap<usize, Environment> = BTreeMap::new();
    for index in &graph.reached {
        let stage = &graph.stages[*index];
        let before = match &stage.base {
            Target::Stage(base) => environments.get(base).cloned(),
            Target::Image(_) | Target::Scratch => None,
        };
        let before = before.unwrap_or_else(|| {
            Environment::of_base(&stage.base, graph.escape, request, &globals.budget)
        });
        walk.bases(stage);
        walk.found.globals_used.extend(stage.globals.iter().cloned());
        environments.insert(*index, walk.stage(stage, before));
    }
    walk.finish()
}

struct Walk<'a> {
    globals: &'a Globals,
    request: &'a Request<'a>,
    found: Found,
    sources: Vec<Source>,
    whole: Option<(String, usize)>,
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    fn new(globals: &'a Globals, request: &'a Request<'a>) -> Walk<'a> {
        let found = Found {
            sources: Sources::Paths(Vec::new()),
            bases: Vec::new(),
            args: BTreeMap::new(),
            globals_used: BTreeSet::new(),
            fetched: Vec::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            warnings: Vec::new(),
        };
        Walk { globals, request, found, sources: Vec::new(), whole: None, faults: Vec::new() }
    }

    fn finish(mut self) -> Result<Found, Vec<Fault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let undeclared = |name: &str| name == EPOCH || name.starts_with(SWITCHES);
        let given = self.request.args.iter().filter(|(name, _)| undeclared(name));
        self.found.args.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        let scan = match self.found.args.get(SCAN_CONTEXT) {
            Some(value) => Value::Set(value.clone()),
            None => self.globals.value(SCAN_CONTEXT),
        };
        let is_off = |value: &str| matches!(value, "" | "0" | "false");
        if !matches!(&scan, Value::Unset) && !matches!(&scan, Value::Set(value) if is_off(value)) {
            self.widen(1, format!("`{SCAN_CONTEXT}` lets the engine read all of it"));
        }
        if let Some(first) = self.sources.first().filter(|_| self.request.platform.os == "windows")
        {
            self.widen(first.line, "paths of windows images are not understood".to_owned());
        }
        self.found.sources = match self.whole {
            Some((reason, line)) => Sources::Whole { reason, line },
            None => Sources::Paths(self.sources),
        };
        Ok(self.found)
    }

    /// All of the context counts from here on; the first reason is kept.
    fn widen(&mut self, line: usize, reason: String) {
        self.whole.get_or_insert((reason, line));
    }

    fn fault(&mut self, line: usize, message: String) {
        self.faults.push(Fault { line, message });
    }

    fn bases(&mut self, stage: &Stage) {
        if let Target::Image(name) = &stage.base {
            self.base(name, stage.platform.clone(), stage.line, Role::From);
        }
        for link in &stage.links {
            if let Target::Image(name) = &link.to {
                self.base(name, None, link.line, link.role);
            }
        }
    }

    fn base(&mut self, name: &str, platform: Option<String>, line: usize, role: Role) {
        let known = |base: &Base| base.name == name && base.platform == platform;
        if !self.found.bases.iter().any(known) {
            self.found.bases.push(Base { name: name.to_owned(), platform, line, role });
        }
    }

    fn stage(&mut self, stage: &Stage, mut environment: Environment) -> Environment {
        for step in stage.steps() {
            match &step.body {
                Body::Env(pairs) => self.env(step, pairs, &mut environment),
                Body::Arg(words) => {
                    for word in words {
                        self.arg(step, word, &mut environment);
                    }
                }
                Body::Copy(copy) => self.copy(step, copy, &environment),
                Body::Run(run) => self.run(step, run, &environment),
                Body::From(_) | Body::OnBuild(_) | Body::Other => {}
            }
        }
        environment
    }

    fn expand(&mut self, line: usize, word: &str, environment: &Environment) -> Option<Expanded> {
        match environment.expand(word) {
            Ok(expanded) => Some(expanded),
            Err(message) => {
                self.fault(line, message);
                None
            }
        }
    }

    /// All words of the line see the values before it; names are expanded, too.
    fn env(&mut self, step: &Instruction, pairs: &[(String, String)], to: &mut Environment) {
        let mut expanded = Vec::new();
        for (name, value) in pairs {
            expanded.push((self.expand(step.line, name, to), self.expand(step.line, value, to)));
        }
        for (name, value) in expanded {
            if let (Some(name), Some(value)) = (name, value) {
                match &name.unknown {
                    Some(unknown) => self.widen(step.line, to.doubt(unknown)),
                    None => to.set_env(name.text, &value),
                }
            }
        }
    }

    fn arg(&mut self, step: &Instruction, word: &Assignment, environment: &mut Environment) {
        let value = match (self.request.args.get(&word.name), &word.default) {
            (Some(given), _) => Some(known(given)),
            (None, Some(default)) => self.expand(step.line, default, environment),
            (None, None) => {
                self.found.globals_used.insert(word.name.clone());
                match self.globals.value(&word.name) {
                    Value::Set(text) => Some(Expanded { text, unknown: None }),
                    Value::Unknown => {
                        Some(Expanded { text: String::new(), unknown: Some(word.name.clone()) })
                    }
                    Value::Unset => None,
                }
            }
        };
        let Some(value) = value else { return };
        if value.unknown.is_none() {
            self.found.args.insert(word.name.clone(), value.text.clone());
        }
        if matches!(word.name.as_str(), SCAN_CONTEXT | SCAN_STAGE) {
            return;
        }
        if environment.set_arg(word.name.clone(), &value) {
            let message = format!("`ARG {0}` replaces `ENV {0}`; podman keeps the ENV", word.name);
            self.found.warnings.push((step.line, message));
        }
    }

    fn copy(&mut self, step: &Instruction, copy: &Copy, environment: &Environment) {
        if let Some(reason) = &copy.unclear {
            self.widen(step.line, reason.clone());
            return;
        }
        if copy.from.is_some() {
            return;
        }
        if let Err(errors) = Rules::from_copy_excludes(copy.exclude.iter().map(String::as_str)) {
            for error in errors {
                let message = format!("`--exclude={}`: {}", error.pattern, error.message);
                self.fault(step.line, message);
            }
        }
        for word in &copy.sources {
            let Some(expanded) = self.expand(step.line, word, environment) else { continue };
            match &expanded.unknown {
                Some(name) => {
                    self.widen(step.line, environment.doubt(name));
                    // It may be an address.
                    if copy.is_add && copy.checksum.is_none() {
                        self.found.fetched.push((step.line, word.clone()));
                    }
                }
                None => self.source(step.line, copy, &expanded.text),
            }
        }
    }

    fn source(&mut self, line: usize, copy: &Copy, path: &str) {
        if is_remote(path) {
            if !copy.is_add {
                self.fault(line, format!("`COPY` cannot fetch `{path}`; `ADD` can"));
            } else if copy.checksum.is_none() && !is_commit(path) {
                self.found.fetched.push((line, path.to_owned()));
            }
            return;
        }
        if let Some(reason) = unclear(path) {
            self.widen(line, reason.to_owned());
            return;
        }
        let (pattern, parents) = match (copy.parents, path.split_once("/./")) {
            (false, _) => (clean(path), None),
            (true, Some((pivot, pattern))) => (clean(pivot), Some(clean(pattern))),
            (true, None) => (String::new(), Some(clean(path))),
        };
        let errors = Rules::from_copy_excludes(parents.as_deref()).err().unwrap_or_default();
        for error in errors {
            self.fault(line, format!("`--parents {}`: {}", error.pattern, error.message));
        }
        let kind = SourceKind::Copy { exclude: copy.exclude.clone(), parents };
        self.sources.push(Source { pattern, line, kind });
    }

    fn run(&mut self, step: &Instruction, run: &Run, environment: &Environment) {
        if let Some(reason) = run.unclear.as_ref().filter(|_| !run.mounts.is_empty()) {
            self.widen(step.line, reason.clone());
        }
        for value in &run.mounts {
            let expand = |word: &str| environment.expand(word);
            match mount::read(value, &expand, &|name| environment.doubt(name)) {
                Err(Trouble::Fault(message)) => self.fault(step.line, message),
                Err(Trouble::Unclear(reason)) => self.widen(step.line, reason),
                Ok(mount) => self.mount(step.line, &mount),
            }
        }
    }

    fn mount(&mut self, line: usize, mount: &mount::Mount) {
        match (mount.kind.as_str(), &mount.from) {
            ("bind", None) => {
                if let Some(reason) = unclear(&mount.source) {
                    self.widen(line, reason.to_owned());
                }
                let pattern = clean(&mount.source);
                self.sources.push(Source { pattern, line, kind: SourceKind::Bind });
            }
            ("secret", _) => push_new(&mut self.found.secrets, mount.secret_id()),
            ("ssh", _) => push_new(&mut self.found.ssh, mount.secret_id()),
            _ => {}
        }
    }
}

/// Why a path cannot be looked up.
fn unclear(path: &str) -> Option<&'static str> {
    if path.contains(['\0', '\r']) {
        return Some("a path holds a control character");
    }
    path.contains(super::is_byte).then_some("a path is not UTF-8")
}

fn known(text: &str) -> Expanded {
    Expanded { text: text.to_owned(), unknown: None }
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The path from the context's root: `.`, `..` and doubled slashes resolved, `..` stops at the
/// root.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether ADD would fetch it: `http(s)://`, `git://`, `ssh://` or `user@host:path`. A path such as
/// `github.com/a/b` is one in the context, whatever the command line makes of it elsewhere.
fn is_remote(path: &str) -> bool {
    if path.starts_with("./") || path.starts_with("../") || path.starts_with("github.com/") {
        return false;
    }
    if let Some((scheme, _)) = path.split_once("://") {
        return matches!(scheme, "http" | "https" | "git" | "ssh");
    }
    is_scp_style(path)
}

/// Whether an address of git's names a commit in full, whose content never changes.
fn is_commit(address: &str) -> bool {
    let Some((_, reference)) = address.split_once('#') else { return false };
    let commit = reference.split(':').next().unwrap_or_default();
    matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `[a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:…`
fn is_scp_style(path: &str) -> bool {
    let Some((user, rest)) = path.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let all = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|ch| ch.is_ascii_alphanumeric() || more.contains(ch))
    };
    all(user, "-_") && all(host, "-.")
}
