//! What every command begins with: the global flags, the configuration, the engine, and a run with
//! its events.

use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};

use crate::cli;
use crate::cluster::{self, ClusterTarget};
use crate::config::{self, Config, ConfigErrors, EngineName};
use crate::engine::{self, Engine};
use crate::error::{self, ErrorExt as _, Exit};
use crate::event::{Event, Events, Place, Sink, first_line, seconds};
use crate::identity;
use crate::paths::{self, Paths, RunLock, RunPaths};
use crate::process::Tool;
use crate::report::{self, Recorder};
use crate::ui::{self, Verbosity};

/// The longest git may take over what it tracks in one folder.
const GIT: Duration = Duration::from_secs(30);

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
}

/// What the global flags come to.
pub(crate) struct Session {
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) engine: Option<EngineName>,
    pub(crate) format: Format,
    pub(crate) verbosity: Verbosity,
    pub(crate) config: OnceCell<Config>,
    /// Those that were begun.
    pub(crate) runs: RefCell<Vec<RunPaths>>,
}

/// What commands about images and suites work on.
pub(crate) struct Workspace {
    pub(crate) config: Config,
    pub(crate) paths: Paths,
    pub(crate) engine: Engine,
}

impl Workspace {
    /// A cluster of the configuration, with the ports that `suite` wants of it.
    pub(crate) fn target<'a>(
        &'a self,
        wanted: &'a config::Cluster,
        suite: Option<&'a config::Suite>,
    ) -> Box<dyn ClusterTarget + 'a> {
        let ports = suite.map(|suite| self.config.suite_ports(suite)).unwrap_or_default();
        cluster::target(wanted, ports, self.engine.name(), &self.paths)
    }
}

/// One run: its places and its stream of events.
pub(crate) struct Run {
    pub(crate) paths: RunPaths,
    pub(crate) events: Events,
    /// Tells other runs that this one goes on.
    _lock: RunLock,
}

impl Run {
    /// Does a piece of work between its two events; `action` says how it was done.
    pub(crate) fn step<T>(
        &self,
        step: &str,
        action: impl FnOnce(&T) -> Option<&'static str>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        self.events.emit(Event::StepStarted { step: step.to_owned() });
        let result = work();
        self.events.emit(Event::StepFinished {
            step: step.to_owned(),
            action: result.as_ref().ok().and_then(action),
            ok: result.is_ok(),
            seconds: seconds(started.elapsed()),
            error: result.as_ref().err().map(first_line),
        });
        result
    }
}

impl Session {
    pub(crate) fn of(global: &cli::Global) -> Self {
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
    pub(crate) fn config(&self) -> Result<&Config> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = config::load(self.config_file.as_deref()).inspect_err(mark_faults)?;
        Ok(self.config.get_or_init(|| config))
    }

    /// The configuration's, with what the command line says of the engine.
    pub(crate) fn engine_settings(&self) -> Result<config::Engine> {
        let settings = self.config()?.engine.clone();
        Ok(config::Engine { name: self.engine.unwrap_or(settings.name), ..settings })
    }

    pub(crate) fn workspace(&self) -> Result<Workspace> {
        let engine = self.engine_settings()?;
        let config = Config { engine, ..self.config()?.clone() };
        let engine = engine::choose(&config.engine)?;
        let paths = Paths::of(&config.root);
        paths.check()?;
        Ok(Workspace { config, paths, engine })
    }

    /// Begins a run: a folder for it, and readers for its events.
    pub(crate) fn begin(&self, paths: &Paths) -> Result<Run> {
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
            events.warn_of(warning);
        }
        Ok(Run { events, paths, _lock: lock })
    }
}

/// Faults of a configuration are shown on their lines where that can be.
pub(crate) fn mark_faults(error: &anyhow::Error) {
    let faults = error::find::<ConfigErrors>(error);
    for fault in faults.into_iter().flat_map(|faults| &faults.0) {
        let place = Place { file: fault.file.display().to_string(), line: Some(fault.line) };
        ui::mark(&place, &error::with_hints(&fault.message, &fault.hint));
    }
}

/// Has xtask's folder be there and ours alone: what git tracks there a repository has brought, and
/// it is neither believed nor deleted.
pub(crate) fn own(paths: &Paths) -> Result<()> {
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
    Err(anyhow!("failed to use xtask's own folder: git tracks `{file}`"))
        .hint(format!("git rm -r --cached {home}"))
        .exit(Exit::Environment)
}

/// Time-ordered and unique on all machines: `20261121-083544-` and 32 digits, in UTC.
pub(crate) fn run_id() -> Result<String> {
    Ok(format!("{}-{}", moment(SystemTime::now()), identity::random()?))
}

/// A moment as ids of runs begin with it.
pub(crate) fn moment(time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8);
    format!("{day}-{time}")
}
