//! One file a command: what was typed becomes a request to [`crate::run`] and the stages, and the answer is printed.

mod cluster;
mod context;
mod doctor;
mod e2e;
mod gc;
mod images;
mod init;
mod lint;
mod matrix;
mod plan;
mod python;
mod telemetry;
mod test;
mod timings;
mod why;

use std::path::Path;

use anyhow::{Result, anyhow};
use clap::CommandFactory as _;

use crate::cli::{self, Cli, Verb};
use crate::exit::{Exit, WithExit as _};
use crate::session::Session;
use crate::ui;

/// Some forms are of one verb only.
fn refuse_form(form: cli::Format, verb: &Verb) -> Result<()> {
    let of_a_suite = matches!(verb, Verb::Plan(plan) if plan.suite.is_some());
    let is_lint = matches!(verb, Verb::Lint(_));
    let (name, verbs, is_so) = match form {
        cli::Format::Human | cli::Format::Json => return Ok(()),
        cli::Format::Github => {
            ("github", "`plan` and `lint`", is_lint || matches!(verb, Verb::Plan(_)))
        }
        cli::Format::Mermaid => ("mermaid", "`plan --suite`", of_a_suite),
        cli::Format::Sarif => ("sarif", "`lint`", is_lint),
    };
    if is_so {
        return Ok(());
    }
    Err(anyhow!("failed to take `--format {name}`: it is a form of {verbs} only")).exit(Exit::Usage)
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let session = Session::of(&cli.global);
    let form = cli.global.format;
    refuse_form(form, &cli.verb)?;
    let exit = match cli.verb {
        Verb::E2e(args) => e2e::run(&session, &args),
        Verb::Images(args) => images::run(&session, &args),
        Verb::Plan(args) => plan::run(&session, &args, form),
        Verb::Why(args) => why::run(&session, &args),
        Verb::Context(args) => context::run(&session, &args),
        Verb::Cluster(args) => cluster::run(&session, &args),
        Verb::Lint(cli::Lint {}) => lint::run(&session, form),
        Verb::Doctor(args) => doctor::run(&session, args.fix),
        Verb::Timings(args) => timings::run(&session, &args),
        Verb::Gc(args) => gc::run(&session, &args),
        Verb::Test(args) => test::run(&session, &args),
        Verb::Init(args) => init::run(&session, &args),
        Verb::Completions(args) => completions(args.shell),
        Verb::Man(args) => man(&args.folder),
    };
    telemetry::send(&session, &session.runs.borrow());
    exit
}

/// What a shell has to know to complete our command line.
fn completions(shell: clap_complete::Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "xtask", &mut script);
    ui::data(&script)?;
    Ok(Exit::Done)
}

/// A page for the command and one for each verb, as clap tells them.
fn man(folder: &Path) -> Result<Exit> {
    fs_err::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command().name("xtask").bin_name("xtask"), folder)?;
    Ok(Exit::Done)
}
