//! `cargo xtask context`: what is sent, as a list, a summary or a check against budgets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use super::{Format, Session};
use crate::cli;
use crate::config::{ContextBudget, Inputs};
use crate::context::{self, Context, Spec};
use crate::exit::{Exit, WithExit as _};
use crate::ui;
use crate::ui::text::{DIM, OFF, RED, bytes, plural};

/// Paths a summary names.
const LARGEST: usize = 10;

pub(super) fn run(session: &Session, args: &cli::Context) -> Result<Exit> {
    let specs = match &args.dir {
        Some(dir) => vec![outside(dir, args)?],
        None => {
            let config = session.config()?;
            super::survey::named(config, &args.images)?.iter().map(Spec::from).collect()
        }
    };
    let contexts = context::gather(context::open(&specs)?, None)?;
    if args.check {
        return check(session, &contexts);
    }
    match session.format {
        Format::Json => ui::data(&json(&contexts)?)?,
        Format::Human if args.list => ui::data(&list(&contexts, args.null))?,
        Format::Human => ui::data(summaries(&contexts).as_bytes())?,
    }
    Ok(Exit::Done)
}

/// A directory that no configuration speaks of: nothing but its own ignore file applies.
fn outside(dir: &Path, args: &cli::Context) -> Result<Spec> {
    if !dir.is_dir() {
        return Err(anyhow!("there is no directory `{}`", dir.display())).exit(Exit::Usage);
    }
    let mut build_args = BTreeMap::new();
    for arg in &args.build_arg {
        let Some((name, value)) = arg.split_once('=') else {
            let message = anyhow!("failed to read `--build-arg {arg}`: it is not NAME=VALUE");
            return Err(message).exit(Exit::Usage);
        };
        build_args.insert(name.to_owned(), value.to_owned());
    }
    let name = fs_err::canonicalize(dir)?;
    Ok(Spec {
        name: name.file_name().map_or("/".into(), |name| name.to_string_lossy().into_owned()),
        root: dir.to_owned(),
        dockerfile: args.file.as_deref().map(|file| dockerfile_of(dir, file)).transpose()?,
        target: args.target.clone(),
        platform: None,
        args: build_args,
        volatile_args: Vec::new(),
        inputs: Inputs::Dockerfile,
        exclude: Vec::new(),
    })
}

/// As engines take `-f`: relative to where we are; else, as podman does, to the context.
fn dockerfile_of(dir: &Path, file: &Path) -> Result<PathBuf> {
    let found = [file.to_owned(), dir.join(file)].into_iter().find(|file| file.is_file());
    let found = found.with_context(|| format!("there is no Dockerfile `{}`", file.display()));
    Ok(std::path::absolute(found.exit(Exit::Usage)?)?)
}

/// One path a line; with `null`, NUL after each instead, so that any name can be told from the next.
fn list(contexts: &[Context], null: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in contexts.iter().flat_map(Context::entries) {
        out.extend_from_slice(entry.path());
        if entry.kind() == "dir" {
            out.push(b'/');
        } else if let Some(target) = entry.link() {
            out.extend_from_slice(b" -> ");
            out.extend_from_slice(target);
        }
        out.push(if null { 0 } else { b'\n' });
    }
    out
}

#[derive(Serialize)]
struct Image<'a> {
    name: &'a str,
    files: u64,
    bytes: u64,
    whole_context: bool,
    entries: Vec<Entry>,
    bases: Vec<&'a str>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    size: u64,
}

fn json(contexts: &[Context]) -> Result<Vec<u8>> {
    let images: Vec<Image> = contexts.iter().map(as_json).collect();
    let mut json = serde_json::to_vec(&BTreeMap::from([("images", images)]))?;
    json.push(b'\n');
    Ok(json)
}

fn as_json(context: &Context) -> Image<'_> {
    let (files, bytes) = context.size();
    let entry = |entry: context::Entry| Entry {
        path: String::from_utf8_lossy(entry.path()).into_owned(),
        kind: entry.kind(),
        size: entry.size(),
    };
    Image {
        name: &context.spec.name,
        files,
        bytes,
        whole_context: context.whole().is_some(),
        entries: context.entries().map(entry).collect(),
        bases: context.bases().collect(),
    }
}

fn summaries(contexts: &[Context]) -> String {
    contexts.iter().map(summary).collect::<Vec<_>>().join("\n")
}

fn summary(context: &Context) -> String {
    let (files, size) = context.size();
    let mut lines =
        vec![format!("{}: {}, {}", context.spec.name, plural(files, "file"), bytes(size))];
    if let Some((reason, line)) = context.whole() {
        lines.push(format!("  the whole context is sent: {reason} (line {line})"));
    }
    let mut largest: Vec<_> = context.entries().filter(|entry| entry.size() > 0).collect();
    largest.sort_by(|a, b| b.size().cmp(&a.size()).then(a.path().cmp(b.path())));
    for entry in largest.iter().take(LARGEST) {
        let path = String::from_utf8_lossy(entry.path());
        lines.push(format!("  {DIM}{:>10}{OFF}  {path}", bytes(entry.size())));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Every context over its budget is named; without any budget there is nothing to hold.
fn check(session: &Session, contexts: &[Context]) -> Result<Exit> {
    let config = session.config()?;
    let mut over = Vec::new();
    for context in contexts {
        let budget = config.images.get(&context.spec.name).and_then(|image| image.budget);
        over.extend(budget.and_then(|budget| excess(context, budget)));
    }
    over.iter().for_each(|line| ui::say(line));
    Ok(if over.is_empty() { Exit::Done } else { Exit::Failed })
}

fn excess(context: &Context, budget: ContextBudget) -> Option<String> {
    let (files, size) = context.size();
    let mut parts = Vec::new();
    if let Some(most) = budget.files.filter(|most| files > *most) {
        parts.push(format!("{}, {} allowed", plural(files, "file"), plural(most, "file")));
    }
    if let Some(most) = budget.bytes.filter(|most| size > *most) {
        parts.push(format!("{}, {} allowed", bytes(size), bytes(most)));
    }
    let name = &context.spec.name;
    (!parts.is_empty()).then(|| {
        format!("{RED}over budget{OFF}: {name}: {}\n{}", parts.join("; "), summary(context))
    })
}
