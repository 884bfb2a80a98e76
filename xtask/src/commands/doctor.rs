//! `cargo xtask doctor`: what a run needs of this machine, each fault with the command that mends
//! it.

use anyhow::Result;

use crate::cli::KEPT_KEYS;
use crate::cluster;
use crate::config::{self, Config, EngineName};
use crate::context::{self, Spec};
use crate::doctor::{self, Finding, Needs, Ours, State};
use crate::engine::{self, Engine};
use crate::error::Exit;
use crate::paths::Paths;
use crate::run::builders::{self, Builder};
use crate::run::project;
use crate::session::{Format, Session};
use crate::text::{DIM, GREEN, OFF, RED, YELLOW};
use crate::ui;

pub(crate) fn run(session: &Session, fix: bool) -> Result<Exit> {
    examined(session, fix, |needs| needs)
}

/// Mends what is needed, and brings what the project's own tests want besides: one renders a chart.
pub(crate) fn mend_for_tests(session: &Session) -> Result<Exit> {
    examined(session, true, |needs| Needs { helm: true, ..needs })
}

fn examined(
    session: &Session,
    fix: bool,
    besides: impl FnOnce(Needs<'_>) -> Needs<'_>,
) -> Result<Exit> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let wants = Wants::of(config)?;
    let needs = besides(wants.needs(session, config, &paths));
    let look = |strange: &[String]| look(needs.engine, config, strange);
    let mut findings =
        if fix { mended(session, &needs, &look, &paths)? } else { doctor::examine(&needs, &look) };
    findings.extend(config.builders.iter().map(|one| builder(one, config.engine.reserve)));
    match session.format {
        Format::Json => {
            let mut json = serde_json::to_vec(&findings)?;
            json.push(b'\n');
            ui::json(&json)?;
        }
        Format::Human => findings.iter().for_each(|finding| ui::say(&told(finding))),
    }
    let faults = findings.iter().any(Finding::is_fault);
    Ok(if faults { Exit::Environment } else { Exit::Done })
}

/// Mends what can be mended; on a healthy machine nothing is even logged.
fn mended(
    session: &Session,
    needs: &Needs,
    look: &doctor::Look,
    paths: &Paths,
) -> Result<Vec<Finding>> {
    let findings = doctor::examine(needs, look);
    if !findings.iter().any(Finding::is_fault) {
        return Ok(findings);
    }
    let run = session.begin(paths)?;
    doctor::fix(needs, look, &run.paths.log("doctor"), &run.events)
}

/// What the stages know of what lies about; what cannot be asked is told by other checks.
fn look(engine: EngineName, config: &Config, strange: &[String]) -> Ours {
    let settings = config::Engine { name: engine, ..config.engine.clone() };
    let Ok(engine) = engine::choose(&settings) else { return Ours::default() };
    let Ok(facts) = engine.fresh_facts() else { return Ours::default() };
    let (half_written, half_written_by_others) = engine.half_written(&facts);
    let (old, makers) = std::thread::scope(|threads| {
        let old = threads.spawn(|| old_images(&engine, config).unwrap_or_default());
        let makers = cluster::makers(engine.name(), strange);
        (old.join().unwrap_or_default(), makers)
    });
    Ours {
        makers,
        half_written,
        half_written_by_others,
        old_images: (old.len() as u64, old.iter().map(|old| old.size).sum()),
        facts: Some(facts),
    }
}

/// What `gc` would free, but for what the plan wants, which takes too long to work out here.
fn old_images(engine: &Engine, config: &Config) -> Result<Vec<engine::Old>> {
    let names = config.images.keys().cloned().collect();
    let (ids, newest) = (engine.in_use()?, KEPT_KEYS.into());
    let (projects, keys) = (project::marks(&config.root)?, project::wanted(engine.name())?);
    let kept = engine::Kept { names, projects, keys, ids, newest };
    Ok(engine::garbage(engine.ours()?, &kept))
}

/// Whether a builder answers. Runs do without one that does not.
fn builder(one: &config::Builder, reserve: Option<u64>) -> Finding {
    let state = match Builder::ask(one, reserve, None) {
        Ok(builder) => State::Fine { detail: builder.told() },
        Err(error) => State::Note {
            what: builders::left_out(&one.name, &error),
            why: "its builds go to the others".to_owned(),
            how: None,
        },
    };
    Finding { check: "builder", state }
}

/// What the configuration asks of the machine, owned.
struct Wants {
    bases: Vec<String>,
    node_images: Vec<String>,
    clusters: Vec<String>,
    ports: Vec<u16>,
}

impl Wants {
    fn of(config: &Config) -> Result<Self> {
        let specs: Vec<Spec> = config.images.values().map(Spec::from).collect();
        let opened = context::open(&specs)?;
        let mut bases: Vec<String> =
            opened.iter().flat_map(context::Opened::bases).map(str::to_owned).collect();
        bases.sort();
        bases.dedup();
        // Nothing is asked of this machine for a cluster that others run.
        let made = || config.clusters.values().filter(|cluster| cluster.existing.is_none());
        let mut node_images: Vec<String> =
            made().map(|cluster| cluster.node_image.clone()).collect();
        node_images.sort();
        node_images.dedup();
        Ok(Self {
            bases,
            node_images,
            clusters: made().map(|cluster| cluster.name.clone()).collect(),
            ports: config.ports.iter().map(|port| port.host).collect(),
        })
    }

    fn needs<'a>(&'a self, session: &Session, config: &'a Config, paths: &'a Paths) -> Needs<'a> {
        Needs {
            engine: session.engine.unwrap_or(config.engine.name),
            bases: &self.bases,
            node_images: &self.node_images,
            clusters: &self.clusters,
            ports: &self.ports,
            kind: !config.suites.is_empty(),
            helm: config.suites.values().flat_map(|suite| &suite.steps).any(is_chart),
            root: &config.root,
            state: paths.home(),
        }
    }
}

fn is_chart(step: &config::Step) -> bool {
    matches!(step.action, config::Action::Helm(_))
}

fn told(finding: &Finding) -> String {
    let check = finding.check;
    match &finding.state {
        State::Fine { detail } => format!("{GREEN}ok{OFF}     {check:<16} {DIM}{detail}{OFF}"),
        State::Note { what, why, how } => {
            let how = how.as_ref().map(|how| format!("\n       {how}")).unwrap_or_default();
            format!("{YELLOW}note{OFF}   {check:<16} {what}\n       {DIM}{why}{OFF}{how}")
        }
        State::Fault { what, why, mend } => {
            format!(
                "{RED}fault{OFF}  {check:<16} {what}\n       {DIM}{why}{OFF}\n       mend: {}",
                mend.command
            )
        }
        State::CannotMend { what, why, how } => {
            format!("{RED}fault{OFF}  {check:<16} {what}\n       {DIM}{why}{OFF}\n       {how}")
        }
    }
}
