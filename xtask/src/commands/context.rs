//! `cargo xtask context`: what is sent, as a list, a summary or a check against budgets.
//!
//! It is what the key is made of, so what the bases hand down (ENV, ONBUILD) is asked for as for a
//! plan. `--check` is a commit hook, on the way of everybody: it starts no process and knows of
//! bases what podman's store says to a reader. `--dir` speaks of a folder, whatever images there
//! are: to it all bases are unknown.

mod check;
mod summary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use crate::cli;
use crate::config::{self, Inputs};
use crate::context::{self, Context, Spec};
use crate::error::{ErrorExt as _, Exit};
use crate::run::evaluate;
use crate::session::{Format, Session};
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Context) -> Result<Exit> {
    let specs = if let Some(dir) = &args.dir {
        vec![outside(dir, args)?]
    } else {
        let config = session.config()?;
        let images = evaluate::named(config, &evaluate::or_all(config, &args.images))?;
        images.iter().map(Spec::from).collect()
    };
    let opened = context::open(&specs)?;
    let bases = if args.dir.is_some() {
        context::Bases::new()
    } else if args.check {
        evaluate::handed_down_silently(session, &opened)?
    } else {
        evaluate::handed_down(session, &opened)
    };
    let contexts = context::gather(opened, None, || bases)?;
    if args.check {
        return check::check(session.config()?, session.format, &contexts);
    }
    match session.format {
        Format::Json => ui::json(&json(&contexts)?)?,
        Format::Human if args.list && args.null => ui::exact(&list(&contexts, true))?,
        Format::Human if args.list => ui::list(&list(&contexts, false))?,
        Format::Human => {
            let summaries: Vec<String> = contexts.iter().map(summary::summary).collect();
            ui::data(summaries.join("\n").as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

/// A directory that no configuration speaks of: nothing but its own ignore file applies.
fn outside(dir: &Path, args: &cli::Context) -> Result<Spec> {
    if !dir.is_dir() {
        return Err(anyhow!("failed to find the directory `{}`", dir.display())).exit(Exit::Usage);
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
        secrets: Vec::new(),
        inputs: Inputs::Dockerfile,
        exclude: config::Exclude::default(),
    })
}

/// As engines take `-f`: relative to where we are; else, as podman does, to the context.
fn dockerfile_of(dir: &Path, file: &Path) -> Result<PathBuf> {
    let found = [file.to_owned(), dir.join(file)].into_iter().find(|file| file.is_file());
    let found = found.with_context(|| format!("there is no Dockerfile `{}`", file.display()));
    Ok(std::path::absolute(found.exit(Exit::Usage)?)?)
}

/// One path a line; with `null`, NUL after each instead, so that any name can be told from the
/// next. Several contexts are one list: what any of them is sent.
fn list(contexts: &[Context], null: bool) -> Vec<u8> {
    let entries = contexts.iter().flat_map(Context::entries);
    let mut lines: Vec<_> = entries.map(|entry| (entry.path().to_vec(), ending(&entry))).collect();
    if contexts.len() > 1 {
        lines.sort_unstable();
        lines.dedup();
    }
    let end: &[u8] = if null { b"\0" } else { b"\n" };
    lines.iter().flat_map(|(path, ending)| [path, ending, end]).flatten().copied().collect()
}

/// What follows a path in the list and says what it is.
fn ending(entry: &context::Entry) -> Vec<u8> {
    match entry.link() {
        Some(target) => [b" -> ", target].concat(),
        None if entry.kind() == "dir" => b"/".to_vec(),
        None => Vec::new(),
    }
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
        whole_context: context.is_whole(),
        entries: context.entries().map(entry).collect(),
        bases: context.bases().collect(),
    }
}
