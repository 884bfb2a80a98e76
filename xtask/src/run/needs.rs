//! What runs of this configuration need of the machine, and what lies about on it.

use anyhow::Result;

use crate::cli::KEPT_KEYS;
use crate::cluster;
use crate::config::{self, Config, EngineName};
use crate::context::{self, Spec};
use crate::doctor::{Finding, Needs, Ours, State};
use crate::engine::{self, Engine};
use crate::figure;
use crate::paths::Paths;
use crate::run::builders::{self, Builder};
use crate::run::project;

/// What the stages know of what lies about; what cannot be asked is told by other checks.
pub(crate) fn look(engine: EngineName, config: &Config, strange: &[String]) -> Ours {
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
        old_images: (old.len() as u64, figure::sum(old.iter().map(|old| old.size))),
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
pub(crate) fn builder(one: &config::Builder, reserve: Option<u64>) -> Finding {
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
pub(crate) struct Wants {
    bases: Vec<String>,
    node_images: Vec<String>,
    clusters: Vec<String>,
    ports: Vec<u16>,
}

impl Wants {
    pub(crate) fn of(config: &Config) -> Result<Self> {
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

    pub(crate) fn needs<'a>(
        &'a self,
        engine: EngineName,
        config: &'a Config,
        paths: &'a Paths,
    ) -> Needs<'a> {
        Needs {
            engine,
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
