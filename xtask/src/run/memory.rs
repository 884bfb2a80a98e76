//! The memory of a run: its budget, its page of the machine's ledger, what cannot fit, and the lone
//! retry.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow};

use crate::cluster;
use crate::config;
use crate::engine::{Engine, Facts, pace};
use crate::error::{self, ErrorExt as _, Exit};
use crate::event::{self, PlannedRun};
use crate::figure;
use crate::memory::budget::{Budget, Claims, Fit, Machine};
use crate::memory::ledger::{self, Bounds};
use crate::memory::{MemoryPool, Wait, machine, raise};
use crate::paths;
use crate::plan::Action;
use crate::run::builders::{self, Builder, Builders};
use crate::run::evaluate::{Evaluation, ImageState};
use crate::run::graph::RunGraph;
use crate::schedule::{
    Graph, HOME, Limits, NodeId, Permit, Place, PlaceId, Scarce, Share, Timeline,
};
use crate::schedule::{simulate, simulate_over};
use crate::session::{Run, Workspace};
use crate::text::bytes;

/// Builds at once for each CPU, if not told otherwise: one compiles while another waits for network
/// and disk.
pub(crate) const JOBS_PER_CPU: usize = 2;

/// What builds of a run may hold, and who else holds some.
pub(crate) struct Memory {
    pub(crate) budget: Budget,
    pub(crate) limits: Limits,
    read: Machine,
    pool: MemoryPool,
    engine: Engine,
    facts: Facts,
    builders: Builders,
    /// Other runs held what a build of ours wants when we last looked.
    waited: AtomicBool,
}

impl Memory {
    /// Looks at the machine once. `coming` is the cluster the run is going to use.
    pub(crate) fn look(
        workspace: &Workspace,
        jobs: Option<u16>,
        coming: Option<&config::Cluster>,
    ) -> Result<Self> {
        let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
        let machine = machine::read(Path::new("/"), workspace.engine.client, &facts);
        let claims = claims(workspace, coming, &facts);
        let budget = Budget::of(&machine, &claims);
        let jobs = jobs.map(usize::from).or(workspace.config.engine.jobs);
        let jobs = jobs.unwrap_or(facts.cpus.saturating_mul(JOBS_PER_CPU));
        let limits = Limits { memory: budget.bytes, jobs };
        let before = claims.others.and_then(|others| others.free);
        Ok(Self {
            pool: MemoryPool::new(Bounds {
                total: machine.total,
                budget: budget.bytes,
                free: before.max(machine.available),
            }),
            budget,
            limits,
            read: machine,
            engine: workspace.engine.clone(),
            facts,
            builders: Builders::default(),
            waited: AtomicBool::new(false),
        })
    }

    /// Asks the builders of the configuration, if there is something for them to build.
    pub(crate) fn call(
        &mut self,
        workspace: &Workspace,
        jobs: Option<u16>,
        evaluation: &Evaluation,
    ) {
        if !workspace.config.builders.is_empty() && to_build(evaluation).next().is_some() {
            self.builders = Builders::ask(workspace, jobs);
        }
    }

    /// Where builds may run: this machine, then the builders.
    pub(crate) fn places(&self, workspace: &Workspace) -> Vec<Place> {
        let mut places = vec![Place::new(self.limits, self.budget.capacity)];
        places.extend(self.builders.places());
        let paces = self.is_joined().then(|| pace::known(&workspace.paths.paces()));
        for (at, place) in places.iter_mut().enumerate() {
            let known = self.name_of(at).and_then(|name| paces.as_ref()?.get(&name).copied());
            place.pace = known.unwrap_or(place.pace);
        }
        places
    }

    /// The run as it goes if all takes what it is expected to.
    pub(crate) fn foresee(&self, workspace: &Workspace, graph: &Graph) -> Timeline {
        if !self.is_joined() {
            return simulate(graph, self.limits);
        }
        let places = self.places(workspace);
        let pace = |node: NodeId, at: PlaceId| match graph.nodes[node].roams {
            Some(_) => places[at].pace,
            None => 1.0,
        };
        simulate_over(graph, &places, |node, at| graph.nodes[node].seconds * pace(node, at))
    }

    /// What is wrong with builders that do not answer.
    pub(crate) fn silent(&self) -> &[String] {
        self.builders.silent()
    }

    /// Keeps for the next run how fast the places were beside each other.
    pub(crate) fn learn(&self, workspace: &Workspace, run: &Run, paces: &[f64]) {
        let named = paces.iter().enumerate();
        let named = named.filter_map(|(at, pace)| Some((self.name_of(at)?, *pace)));
        if self.is_joined()
            && let Err(error) = pace::keep(&workspace.paths.paces(), named.collect())
        {
            run.events.warn_of(&error.context("failed to note how fast builders are"));
        }
    }

    /// Whether there are other builders than this machine.
    pub(crate) fn is_joined(&self) -> bool {
        !self.builders.is_empty()
    }

    /// The builder that is a place of the schedule; none: this machine.
    pub(crate) fn builder(&self, place: PlaceId) -> Option<&Builder> {
        self.builders.at(place)
    }

    /// What a place is called; none where the configuration has no builders.
    pub(crate) fn name_of(&self, place: PlaceId) -> Option<String> {
        let builder = self.builder(place).map_or("local", |builder| &builder.name);
        self.is_joined().then(|| builder.to_owned())
    }

    /// Has builds go to other builders, where there are some.
    pub(crate) fn join(
        &self,
        run_graph: &mut RunGraph,
        workspace: &Workspace,
        evaluation: &Evaluation,
    ) {
        if !self.is_joined() {
            return;
        }
        run_graph.let_roam(|name| {
            let roaming = builders::roaming(evaluation, evaluation.image(name));
            self.builders.roams(workspace, &self.facts, &roaming)
        });
    }

    /// Refuses a run of which not even the smallest build can fit.
    pub(crate) fn refuse_all(&self, evaluation: &Evaluation) -> Result<()> {
        let least = to_build(evaluation).min_by_key(|one| one.planned.memory);
        least.map_or(Ok(()), |least| self.refuse(least).context("failed to fit the smallest build"))
    }

    /// Refuses a run that needs every one of its images, and cannot build one.
    pub(crate) fn refuse_any(&self, evaluation: &Evaluation) -> Result<()> {
        to_build(evaluation).try_for_each(|one| self.refuse(one))
    }

    /// Refuses a build that cannot fit.
    pub(crate) fn refuse(&self, one: &ImageState) -> Result<()> {
        let memory = one.planned.memory;
        if self.budget.fit(memory) != Fit::Never
            || self.builders.places().any(|place| memory <= place.capacity)
        {
            return Ok(());
        }
        let (name, need) = (&one.image.name, bytes(memory));
        let what = format!("`{name}` needs {need}, more than there is: {}", self.budget);
        Err(anyhow!(what)).hints(self.hints(memory)).exit(Exit::Environment)
    }

    /// Builds that are too large to go on beside any other: what to say, and what would mend it.
    pub(crate) fn alone(&self, evaluation: &Evaluation) -> Vec<(String, Option<String>)> {
        let fits_beside = |need: u64| self.builders.places().any(|at| need <= at.limits.memory);
        let alone = |one: &&ImageState| {
            let need = one.planned.memory;
            self.budget.fit(need) == Fit::Alone && !fits_beside(need)
        };
        let said = |one: &ImageState| {
            let (name, need) = (&one.image.name, bytes(one.planned.memory));
            let text = format!("`{name}` needs {need} and builds alone: {}", self.budget);
            (text, self.mend(one.planned.memory))
        };
        to_build(evaluation).filter(alone).map(said).collect()
    }

    /// Begins the part of a run that builds: warns of builds that are too large, opens a page of
    /// the ledger.
    pub(crate) fn begin(&self, workspace: &Workspace, run: &Run, evaluation: &Evaluation) {
        if to_build(evaluation).next().is_none() {
            return;
        }
        for (text, hint) in self.alone(evaluation) {
            run.events.warn(text, hint);
        }
        let who = format!("process {} in {}", std::process::id(), workspace.config.root.display());
        let folder = paths::ledger();
        let folder = folder.map(|all| ledger::of_machine(&all, &self.engine, &self.facts));
        match folder.and_then(|folder| self.pool.open(&folder, &who)) {
            Ok(doubts) => doubts.into_iter().for_each(|doubt| run.events.warn(doubt, None)),
            Err(error) => uncounted(run, &error),
        }
        self.builders.begin(run, &who);
    }

    /// Takes bytes of a whole machine for a node, or says who has them.
    pub(crate) fn take(&self, place: PlaceId, name: &str, bytes: u64) -> Result<Share, String> {
        if let Some(builder) = self.builder(place) {
            return builder.take(name, bytes);
        }
        let share = self.pool.reserve(bytes, name).map_err(|Wait(who)| who);
        if self.waited.swap(share.is_err(), Ordering::Relaxed) && share.is_ok() {
            // Who held it may have been killed, and what it was building goes on without it.
            self.engine.sweep(&self.facts);
        }
        Ok(Box::new(share?))
    }

    /// The CPUs a build gets; none: all.
    pub(crate) fn cpus(&self, permit: &Permit) -> Option<usize> {
        // Of a builder's CPUs its engine disposes.
        let part = part(self.facts.cpus, permit.jobs, permit.again);
        part.filter(|_| permit.place == HOME)
    }

    /// What the plan event says of it.
    pub(crate) fn planned_run(&self) -> PlannedRun {
        PlannedRun {
            budget: Some(self.budget.to_string()),
            budget_bytes: Some(self.budget.bytes),
            machine: Some(self.machine()),
            ..PlannedRun::default()
        }
    }

    /// The machine that builds, as records name it.
    pub(crate) fn machine(&self) -> event::Machine {
        event::Machine {
            engine: self.read.engine.to_owned(),
            cpus: self.facts.cpus,
            memory: self.read.total,
        }
    }

    /// The command that would make room for `need`.
    fn mend(&self, need: u64) -> Option<String> {
        let (wanted, term) = self.budget.wanted(need)?;
        Some(raise::raise(&self.read, term, wanted))
    }

    /// Ways out where `need` does not fit.
    pub(crate) fn hints(&self, need: u64) -> impl Iterator<Item = String> {
        let others = "or build with less at once (`--jobs 1`), or have it prebuilt: cargo xtask \
                      images --prebuild";
        self.mend(need).into_iter().chain([others.to_owned()])
    }
}

/// Warns that a ledger cannot be used.
pub(crate) fn uncounted(run: &Run, error: &anyhow::Error) {
    let what = anyhow!("{error:#}; other runs are not counted");
    run.events.warn_of(&what.hints(error::hints(error)));
}

/// Why a build has no place left.
pub(crate) fn stranded(one: &ImageState) -> anyhow::Error {
    let (name, need) = (&one.image.name, bytes(one.planned.memory));
    anyhow!("failed to build image `{name}`: no builder is left that has {need}")
        .hint("cargo xtask doctor")
}

/// Says what a node waits for; for other runs so that everybody sees it.
pub(crate) fn tell_waiting(run: &Run, graph: &Graph) -> impl FnMut(NodeId, &Scarce) {
    move |node, what| {
        let name = &graph.nodes[node].name;
        run.events.waiting(name, what.to_string());
        if matches!(what, Scarce::Held(_)) {
            run.events.note(format!("{name} waits for {what}"));
        }
    }
}

/// What else has a claim on the machine that builds. A cluster that another run has yet to make
/// takes its memory as well.
fn claims(workspace: &Workspace, coming: Option<&config::Cluster>, facts: &Facts) -> Claims {
    let Workspace { config, paths, engine } = workspace;
    let provider = engine.name();
    let is_made = |one: &config::Cluster| cluster::is_made(&one.name, provider, paths);
    let is_coming = |one: &config::Cluster| {
        coming.is_some_and(|coming| coming.name == one.name)
            || workspace.target(one, None).is_held()
    };
    let (up, absent): (Vec<_>, Vec<_>) = config.clusters.values().partition(|one| is_made(one));
    Claims {
        reserve: config.engine.reserve,
        up: figure::sum(up.iter().map(|one| one.memory)),
        coming: figure::sum(absent.iter().filter(|one| is_coming(one)).map(|one| one.memory)),
        others: paths::ledger().ok().and_then(|all| {
            ledger::held(&ledger::of_machine(&all, &workspace.engine, facts), facts.memory_total)
        }),
    }
}

fn to_build(evaluation: &Evaluation) -> impl Iterator<Item = &ImageState> {
    evaluation.images.iter().filter(|one| one.planned.action == Action::Build)
}

/// A build's part of the CPUs beside `jobs - 1` others: one when it is run again (parallel
/// compilers multiply what it takes), all when it is alone.
fn part(cpus: usize, jobs: usize, again: bool) -> Option<usize> {
    match (again, jobs) {
        (true, _) => Some(1),
        (false, 0 | 1) => None,
        (false, jobs) => Some((cpus / jobs).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_at_once_share_the_cpus_and_one_alone_has_all() {
        let table = [
            ((8, 1, false), None),
            ((8, 3, false), Some(2)),
            ((2, 5, false), Some(1)),
            ((8, 1, true), Some(1)),
        ];
        for ((cpus, jobs, again), expected) in table {
            assert_eq!(part(cpus, jobs, again), expected, "{cpus} {jobs} {again}");
        }
    }
}
