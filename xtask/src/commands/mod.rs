//! One file a command: what was typed becomes a request to [`crate::run`] and the stages, and the
//! answer is printed.

mod cluster;
mod context;
mod doctor;
mod e2e;
mod gc;
mod images;
mod init;
mod lint;
mod plan;
mod telemetry;
mod test;
mod timings;
mod why;

use std::path::Path;

use anyhow::{Result, anyhow};
use clap::CommandFactory as _;

use crate::cli::{self, Cli, Command};
use crate::error::{ErrorExt as _, Exit};
use crate::session::Session;
use crate::ui;

/// Some forms are of one command only.
fn refuse_form(form: cli::Format, command: &Command) -> Result<()> {
    let of_a_suite = matches!(command, Command::Plan(plan) if plan.suite.is_some());
    let is_lint = matches!(command, Command::Lint(_));
    let (name, commands, is_so) = match form {
        cli::Format::Human | cli::Format::Json => return Ok(()),
        cli::Format::Github => {
            ("github", "`plan` and `lint`", is_lint || matches!(command, Command::Plan(_)))
        }
        cli::Format::Mermaid => ("mermaid", "`plan --suite`", of_a_suite),
        cli::Format::Sarif => ("sarif", "`lint`", is_lint),
    };
    if is_so {
        return Ok(());
    }
    Err(anyhow!("failed to take `--format {name}`: it is a form of {commands} only"))
        .exit(Exit::Usage)
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let session = Session::of(&cli.global);
    let form = cli.global.format;
    refuse_form(form, &cli.command)?;
    let exit = match cli.command {
        Command::E2e(args) => e2e::run(&session, &args),
        Command::Images(args) => images::run(&session, &args),
        Command::Plan(args) => plan::run(&session, &args, form),
        Command::Why(args) => why::run(&session, &args),
        Command::Context(args) => context::run(&session, &args),
        Command::Cluster(args) => cluster::run(&session, &args),
        Command::Lint(cli::Lint {}) => lint::run(&session, form),
        Command::Doctor(args) => doctor::run(&session, args.fix),
        Command::Timings(args) => timings::run(&session, &args),
        Command::Gc(args) => gc::run(&session, &args),
        Command::Test(args) => test::run(&session, &args),
        Command::Init(args) => init::run(&session, &args),
        Command::Completions(args) => completions(args.shell),
        Command::Man(args) => man(&args.folder),
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

/// A page for the command and one for each command, as clap tells them.
fn man(folder: &Path) -> Result<Exit> {
    fs_err::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command().name("xtask").bin_name("xtask"), folder)?;
    Ok(Exit::Done)
}
