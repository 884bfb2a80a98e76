//! One short file a verb: the only code that knows more than one stage.

mod builders;
mod builds;
mod bundle;
mod cache;
mod cluster;
mod context;
mod doctor;
mod e2e;
mod enough;
mod failing;
mod forecast;
mod gc;
mod images;
mod init;
mod layout;
mod lint;
mod matrix;
mod memory;
mod missing;
mod once;
mod opening;
mod outlook;
mod plan;
mod project;
mod python;
mod since;
mod survey;
mod telemetry;
mod test;
mod timings;
mod why;

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};
use clap::CommandFactory as _;

use crate::cli::{self, Cli, Verb};
use crate::config::{self, Config, EngineName, Faults};
use crate::engine::{self, Engine};
use crate::event::{Event, Events, Place, Sink, seconds};
use crate::exit::{Coded, Exit, WithExit as _};
use crate::identity;
use crate::paths::{self, Paths, RunLock, RunPaths};
use crate::process::Tool;
use crate::report::{self, Recorder};
use crate::ui::{self, Verbosity};

/// The longest git may take over what it tracks in one folder.
const GIT: Duration = Duration::from_secs(30);

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Human,
    Json,
}

/// What the global flags come to.
struct Session {
    config_file: Option<PathBuf>,
    engine: Option<EngineName>,
    format: Format,
    verbosity: Verbosity,
    config: OnceCell<Config>,
    /// Those that were begun.
    runs: RefCell<Vec<RunPaths>>,
}

/// What verbs about images and suites work on.
struct Workspace {
    config: Config,
    paths: Paths,
    engine: Engine,
}

/// One run: its places and its stream of events.
struct Run {
    paths: RunPaths,
    events: Events,
    /// Tells other runs that this one goes on.
    _lock: RunLock,
}

impl Run {
    /// A piece of work that is none of the graph, with its events.
    fn step<T>(&self, step: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        self.events.emit(Event::StepStarted { step: step.to_owned() });
        let result = work();
        self.events.emit(Event::StepFinished {
            step: step.to_owned(),
            action: None,
            ok: result.is_ok(),
            seconds: seconds(started.elapsed()),
            error: result.as_ref().err().map(builds::first_line),
        });
        result
    }
}

/// Locks what no panic leaves half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

impl Session {
    fn of(global: &cli::Global) -> Self {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::All,
        };
        let engine = global.engine.map(|name| match name {
            cli::EngineName::Auto => EngineName::Auto,
            cli::EngineName::Podman => EngineName::Podman,
            cli::EngineName::Docker => EngineName::Docker,
        });
        let format = match global.format {
            cli::Format::Json => Format::Json,
            cli::Format::Human
            | cli::Format::Github
            | cli::Format::Mermaid
            | cli::Format::Sarif => Format::Human,
        };
        let config_file = global.config.clone();
        let runs = RefCell::default();
        Self { config_file, engine, format, verbosity, config: OnceCell::new(), runs }
    }

    /// The configuration; read when first asked for, since `context --dir` does without.
    fn config(&self) -> Result<&Config> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = config::load(self.config_file.as_deref()).inspect_err(mark_faults)?;
        Ok(self.config.get_or_init(|| config))
    }

    /// The configuration's, with what the command line says of the engine.
    fn engine_settings(&self) -> Result<config::Engine> {
        let settings = self.config()?.engine.clone();
        Ok(config::Engine { name: self.engine.unwrap_or(settings.name), ..settings })
    }

    fn workspace(&self) -> Result<Workspace> {
        let engine = self.engine_settings()?;
        let config = Config { engine, ..self.config()?.clone() };
        let engine = engine::choose(&config.engine)?;
        let paths = Paths::of(&config.root);
        paths.check()?;
        Ok(Workspace { config, paths, engine })
    }

    /// Begins a run: a folder for it, and readers for its events.
    fn begin(&self, paths: &Paths) -> Result<Run> {
        own(paths)?;
        // One of them is about to be this run's.
        report::prune(&paths.runs(), report::KEPT - 1);
        let paths = RunPaths::new(paths, run_id()?);
        let lock = RunLock::hold(&paths)?;
        self.runs.borrow_mut().push(paths.clone());
        let recorder: Box<dyn Sink> = Box::new(Recorder::new(&paths.events())?);
        let shown = match self.format {
            Format::Human => ui::people(self.verbosity),
            Format::Json => ui::scripts(),
        };
        let sinks = [recorder, shown].into_iter().chain(ui::github(paths.folder()));
        let events = Events::to(sinks.collect());
        if let Some(warning) = &paths::machine()?.warning {
            events.warn(warning.clone(), None);
        }
        Ok(Run { events, paths, _lock: lock })
    }
}

/// Faults of a configuration are shown on their lines where that can be.
fn mark_faults(error: &anyhow::Error) {
    // A mark of the exit code hides what it marks from the chain.
    let error = error.downcast_ref::<Coded>().map_or(error, |coded| &coded.error);
    let faults = error.downcast_ref::<Faults>();
    for fault in faults.into_iter().flat_map(|faults| &faults.0) {
        let place = Place { file: fault.file.display().to_string(), line: Some(fault.line) };
        let hint = fault.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        ui::mark(&place, &format!("{}{hint}", fault.message));
    }
}

/// Has xtask's folder be there and ours alone: what git tracks there a repository has brought, and it is neither
/// believed nor deleted.
fn own(paths: &Paths) -> Result<()> {
    paths.prepare()?;
    let home = paths.home();
    let git = Tool::new("git").args(["ls-files", "-z", "--", "."]).folder(&**home).limit(GIT);
    // Where there is no git, or no repository, nothing is tracked.
    let Ok(output) = git.run() else { return Ok(()) };
    let Some(first) = output.stdout.split(|byte| *byte == 0).find(|name| !name.is_empty()) else {
        return Ok(());
    };
    let file = home.join(String::from_utf8_lossy(first).as_ref());
    let (file, home) = (file.display(), home.display());
    let text = format!("failed to use xtask's own folder: git tracks `{file}`");
    Err(anyhow!("{text}\nhint: git rm -r --cached {home}")).exit(Exit::Environment)
}

/// Time-ordered and unique on all machines: `20261121-083544-` and 32 digits, in UTC.
fn run_id() -> Result<String> {
    Ok(format!("{}-{}", moment(SystemTime::now()), identity::random()?))
}

/// A moment as ids of runs begin with it.
fn moment(time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8);
    format!("{day}-{time}")
}
