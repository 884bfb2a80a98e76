//! `cargo xtask context`: what is sent, as a list, a summary or a check against budgets.
//!
//! It is what the key is made of, so what the bases hand down (ENV, ONBUILD) is asked for as for a
//! plan. `--check` is a commit hook, on the way of everybody: it starts no process and knows of
//! bases what podman's store says to a reader. `--dir` speaks of a folder, whatever images there
//! are: to it all bases are unknown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::cli;
use crate::config::{self, Inputs};
use crate::context::{self, Spec};
use crate::error::{ErrorExt as _, Exit};
use crate::print::context::{budget, listing, summary};
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
        return budget::check(session.config()?, session.format, &contexts);
    }
    match session.format {
        Format::Json => ui::json_line(&listing::json(&contexts))?,
        Format::Human if args.list && args.null => ui::exact(&listing::lines(&contexts, true))?,
        Format::Human if args.list => ui::list(&listing::lines(&contexts, false))?,
        Format::Human => {
            let summaries: Vec<String> = contexts.iter().map(summary::text).collect();
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
