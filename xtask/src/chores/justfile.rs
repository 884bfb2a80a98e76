//! The justfile and the workflows: each recipe is a command of ours, and a workflow calls recipes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde::Deserialize;

use super::python;
use super::steps::{LIMIT, Outcome};
use crate::cli::Cli;
use crate::paths::Paths;
use crate::process::{self, Stream, Tool};
use crate::session::Run;
use crate::suite::Counts;
use crate::yaml;

/// What recipes that are not ours to parse begin with: benchmarks and campaigns take minutes and
/// prove nothing here, and a release is made elsewhere.
const OTHERS: [&str; 3] = ["cargo bench --package xtask ", "xtask/fuzz ", "xtask/release "];

/// `just --dump --dump-format json`, as far as it is read.
#[derive(Deserialize)]
struct Justfile {
    recipes: serde_json::Map<String, serde_json::Value>,
}

/// Every recipe, run dry, is one `cargo xtask` line the command line takes, and so is every command
/// of a workflow, with its arguments; `check` is really run.
pub(crate) fn check(root: &Path, paths: &Paths, run: &Run, bootstrap: bool) -> Result<Outcome> {
    let log = run.paths.log("justfile");
    let program = just(paths, &log, bootstrap)?;
    let just = || Tool::new(&program).folder(root).limit(LIMIT).log(&log);
    let dump = just().args(["--dump", "--dump-format", "json"]).read()?;
    let justfile: Justfile = serde_json::from_str(&dump).context("failed to read the justfile")?;
    let recipes = justfile.recipes.into_iter().map(|(name, _)| vec![name]);
    let calls: Vec<Vec<String>> = recipes.chain(workflows(root)?).collect();
    for call in &calls {
        let mut lines = Vec::new();
        just().arg("--dry-run").args(call).stream(|stream, line| {
            if stream == Stream::Stderr {
                lines.push(String::from_utf8_lossy(line).into_owned());
            }
        })?;
        for line in lines {
            let call = call.join(" ");
            understood(&line).with_context(|| format!("failed to check `just {call}`"))?;
        }
    }
    just().arg("check").run()?;
    Ok((Counts { passed: calls.len() as u64, ..Counts::default() }, Ok(())))
}

/// What a job of a workflow runs that only says that others have failed.
const FAILS: &str = "exit 1";

/// A workflow, as far as it is read.
#[derive(Deserialize)]
struct Workflow {
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
struct Job {
    #[serde(default)]
    steps: Vec<Command>,
    #[cfg(test)]
    #[serde(default)]
    needs: serde_json::Value,
    #[cfg(test)]
    #[serde(default, rename = "if")]
    condition: String,
}

#[derive(Deserialize)]
struct Command {
    run: Option<String>,
}

/// What the workflows give to `just`, as words; anything else they run is a fault.
fn workflows(root: &Path) -> Result<Vec<Vec<String>>> {
    let mut calls = Vec::new();
    for entry in fs_err::read_dir(root.join(".github/workflows"))? {
        let file = entry?.path();
        let text = fs_err::read_to_string(&file)?;
        let workflow: Workflow =
            yaml::read(&text).with_context(|| format!("failed to read `{}`", file.display()))?;
        let commands = workflow.jobs.into_values().flat_map(|job| job.steps);
        let commands = commands.filter_map(|step| step.run).filter(|command| command != FAILS);
        for command in commands {
            let failed =
                || format!("failed to find a recipe for `{command}` of `{}`", file.display());
            calls.push(just_call(&command).with_context(failed)?);
        }
    }
    Ok(calls)
}

/// The words after `just` of one line, a variable of the shell standing for itself.
fn just_call(command: &str) -> Option<Vec<String>> {
    let line = command.trim();
    let call = line.strip_prefix("just ").filter(|call| !call.contains(['\n', ';', '&', '|']))?;
    let (call, _output) = call.split_once(" >> ").unwrap_or((call, ""));
    Some(call.split_whitespace().map(|word| word.trim_matches(['"', '$']).to_owned()).collect())
}

/// Whether a line of a recipe is a command line of ours.
fn understood(line: &str) -> Result<()> {
    if OTHERS.iter().any(|other| line.starts_with(other)) {
        return Ok(());
    }
    let words = line.strip_prefix("cargo xtask ");
    let words = words.with_context(|| format!("`{line}` is no `cargo xtask` command"))?;
    Cli::try_parse_from(std::iter::once("xtask").chain(words.split_whitespace()))?;
    Ok(())
}

/// `just` from PATH, else from the Python index in an environment of its own.
fn just(paths: &Paths, log: &Path, bootstrap: bool) -> Result<PathBuf> {
    if let Some(program) = process::find("just") {
        return Ok(program);
    }
    let environment = python::environment(paths, "just", "rust-just\n", log, bootstrap)?;
    Ok(environment.join("bin/just"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_commands_of_ours() {
        for line in
            ["cargo xtask e2e gateway", "cargo xtask images ", "cargo xtask test --bootstrap"]
        {
            understood(line).unwrap();
        }
        for line in ["cargo test", "cargo xtask e2e", "cargo xtask plan --no-such-flag"] {
            understood(line).unwrap_err();
        }
    }

    #[test]
    fn a_workflow_calls_just_and_nothing_else() {
        let words = |command| just_call(command).map(|words| words.join(" "));
        for (command, call) in [
            ("just e2e \"$SUITE\" --require-prebuilt", Some("e2e SUITE --require-prebuilt")),
            ("just everything >> \"$GITHUB_OUTPUT\"", Some("everything")),
            ("just prebuild && rm -rf /", None),
            ("just check\nmake", None),
            ("cargo xtask images", None),
        ] {
            assert_eq!(words(command).as_deref(), call, "{command}");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(workflows(root).unwrap().len() > 5);
    }

    #[test]
    fn the_last_job_of_the_suites_workflow_depends_on_all_others_and_always_runs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = fs_err::read_to_string(root.join(".github/workflows/e2e.yml")).unwrap();
        let workflow: Workflow = yaml::read(&text).unwrap();
        let others = workflow.jobs.keys().filter(|name| *name != "passed");
        let last = &workflow.jobs["passed"];
        assert_eq!(last.condition, "always()");
        let needs: std::collections::BTreeSet<&str> =
            last.needs.as_array().unwrap().iter().filter_map(serde_json::Value::as_str).collect();
        assert_eq!(needs, others.map(String::as_str).collect());
        assert_eq!(last.steps[0].run.as_deref(), Some(FAILS));
    }
}
