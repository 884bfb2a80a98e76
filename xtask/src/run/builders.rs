//! `[[builders]]` in a run: which of them answer, what each may hold, and what goes to and from
//! them.
//!
//! Every builder has a budget, a page of the ledger and a list of what it was sent. A base goes to
//! it once; what it has built comes home before the build counts as done, so whoever needs an image
//! finds it where it always is. Images that are ready at the same time share a stream.
//!
//! A builder that does not answer after something went wrong there is lost for the rest of the run:
//! a warning, and its work goes to the others. Without builders in the configuration none of this
//! is asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{self, AtomicBool};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::config::{self, Image};
use crate::engine::registry::Wanted;
use crate::engine::{Abilities, Away, BuildError, BuildRequest, Built, Engine, Facts};
use crate::event::Events;
use crate::memory::budget::{Budget, Claims, Machine};
use crate::memory::{Bounds, MemoryPool, Wait};
use crate::paths;
use crate::private::PrivatePath;
use crate::process::stop;
use crate::run::evaluate::{Evaluation, ImageState};
use crate::run::memory::{JOBS_PER_CPU, uncounted};
use crate::schedule::{HOME, Limits, Place, PlaceId, Placement, Share};
use crate::secret_name;
use crate::session::{Run, Workspace};
use crate::text::bytes;

/// With less free disk, in bytes, a builder is left out: a base and what is built on it would not
/// fit.
const LEAST_DISK: u64 = bytesize::GIB;

/// The builders that answered when the run began, in the order of the configuration.
#[derive(Default)]
pub(crate) struct Builders {
    all: Vec<Builder>,
    /// What is wrong with those that did not.
    silent: Vec<String>,
}

/// A builder elsewhere.
pub(crate) struct Builder {
    pub(crate) name: String,
    away: Away,
    abilities: Abilities,
    place: Place,
    memory: MemoryPool,
    /// Ids of bases it was seen to hold under their names. Locked while one goes there.
    supplied: Mutex<BTreeSet<String>>,
    /// Ids of images that are to come home.
    ready: Mutex<BTreeSet<String>>,
    /// Held while a stream of them does.
    stream: Mutex<()>,
    lost: AtomicBool,
}

impl Builders {
    /// Asks all of them at once.
    pub(crate) fn ask(workspace: &Workspace, jobs: Option<u16>) -> Self {
        let config = &workspace.config;
        let jobs = jobs.map(usize::from);
        let asked: Vec<Result<Builder>> = thread::scope(|scope| {
            let ask = |one| {
                scope.spawn(move || {
                    let builder = Builder::ask(one, config.engine.reserve, jobs)?;
                    builder.away.suits(&workspace.engine)?;
                    Ok(builder)
                })
            };
            let asked: Vec<_> = config.builders.iter().map(ask).collect();
            let answers = asked
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked"))));
            answers.collect()
        });
        let mut builders = Self::default();
        for (one, answer) in config.builders.iter().zip(asked) {
            match answer {
                Ok(builder) => builders.all.push(builder),
                Err(error) => builders.silent.push(left_out(&one.name, &error)),
            }
        }
        builders
    }

    /// Whether none were asked, because the configuration has none or nothing is to be built.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.silent.is_empty()
    }

    /// The one that is a place of the schedule; none: home.
    pub(crate) fn at(&self, place: PlaceId) -> Option<&Builder> {
        self.all.get(place.checked_sub(HOME + 1)?)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.all.iter().map(|builder| builder.place)
    }

    /// What is wrong with those that did not answer.
    pub(crate) fn silent(&self) -> &[String] {
        &self.silent
    }

    /// Warns of those that did not answer; opens a page of each one's ledger.
    pub(crate) fn begin(&self, run: &Run, who: &str) {
        for silent in &self.silent {
            run.events.warn(silent.clone(), None);
        }
        for builder in &self.all {
            if let Err(error) = builder.page().and_then(|page| builder.memory.open(&page, who)) {
                uncounted(run, &error);
            }
        }
    }

    /// Where an image may be built, and on what.
    pub(crate) fn roams(&self, workspace: &Workspace, home: &Facts, one: &Roaming) -> Placement {
        let platform = one.image.platform.as_ref().unwrap_or(&home.platform);
        // `buildctl` has no way to be given a value that other users of this machine do not see.
        let secret = one.image.args.keys().any(|name| secret_name::is_secret(name));
        let is_barred = |one: &Builder| {
            one.abilities.platform != *platform || secret && matches!(one.away, Away::BuildKit(_))
        };
        let others = self.all.iter().enumerate().filter(|(_, one)| is_barred(one));
        let mut barred: Vec<PlaceId> = others.map(|(at, _)| at + HOME + 1).collect();
        if !workspace.config.engine.builds {
            barred.push(HOME);
        }
        Placement { bases: one.bases.clone(), barred }
    }
}

/// An image whose builder is to be chosen.
pub(crate) struct Roaming<'a> {
    pub(crate) image: &'a Image,
    /// Its bases by number.
    pub(crate) bases: Vec<usize>,
}

/// Numbers the bases of an image.
pub(crate) fn roaming<'a>(evaluation: &Evaluation, image: &'a ImageState) -> Roaming<'a> {
    let number = |base: &str| evaluation.bases.keys().position(|name| name == base);
    Roaming { image: &image.image, bases: image.context.bases().filter_map(number).collect() }
}

/// What is said of one that does not answer.
pub(crate) fn left_out(name: &str, error: &anyhow::Error) -> String {
    let why = format!("{error:#}");
    let last = why.lines().next_back().unwrap_or_default();
    format!("builder `{name}` is left out: {}", last.trim_start_matches("  | "))
}

impl Builder {
    /// Asks one for its facts. `reserve` in bytes; `jobs` where the configuration does not say.
    pub(crate) fn ask(
        one: &config::Builder,
        reserve: Option<u64>,
        jobs: Option<usize>,
    ) -> Result<Self> {
        let away = Away::at(&one.at)?;
        let abilities = away.abilities()?;
        let free = abilities.disk_free.unwrap_or(u64::MAX);
        ensure!(free >= LEAST_DISK, "it has {} of disk left", bytes(free));
        let total = abilities.memory.or(one.memory).unwrap_or(0);
        let (budget, capacity) = if let Some(memory) = one.memory {
            (memory.min(total), memory.min(total))
        } else {
            let machine = Machine { total, remote: true, ..Machine::default() };
            let budget = Budget::of(&machine, &Claims { reserve, ..Claims::default() });
            (budget.bytes, budget.capacity)
        };
        let jobs =
            one.jobs.or(jobs).unwrap_or(abilities.cpus.unwrap_or(1).saturating_mul(JOBS_PER_CPU));
        let place = Place::new(Limits { memory: budget, jobs }, capacity);
        let total = abilities.memory.unwrap_or(capacity);
        let memory = MemoryPool::new(Bounds { total, budget, free: None });
        Ok(Self {
            name: one.name.clone(),
            away,
            abilities,
            place,
            memory,
            supplied: Mutex::default(),
            ready: Mutex::default(),
            stream: Mutex::default(),
            lost: AtomicBool::new(false),
        })
    }

    /// What it is, in a line.
    pub(crate) fn told(&self) -> String {
        let Abilities { program, platform, cpus, disk_free, .. } = &self.abilities;
        let held = bytes(self.place.limits.memory);
        let cpus = cpus.map(|cpus| format!(", {cpus} CPUs")).unwrap_or_default();
        let disk = disk_free.map(|free| format!(", {} of disk free", bytes(free)));
        let disk = disk.unwrap_or_default();
        format!("{}: {program}, {platform}{cpus}, {held} for builds{disk}", self.name)
    }

    /// Where runs of this machine note what they hold there.
    fn page(&self) -> Result<PrivatePath> {
        let digest = hex::encode(Sha256::digest(self.away.tool().to_string()));
        Ok(paths::ledger()?.join(format!("builder-{}", &digest[..16])))
    }

    /// Takes bytes of it for a node, or says which other run has them.
    pub(crate) fn take(&self, name: &str, bytes: u64) -> Result<Share, String> {
        let reserved = self.memory.reserve(bytes, name).map_err(|Wait(who)| who)?;
        Ok(Box::new(reserved))
    }

    /// Builds there, on what `home` holds, and has `home` hold what came of it, proved.
    pub(crate) fn build(
        &self,
        home: &Engine,
        order: &BuildRequest,
        wanted: &Wanted,
        events: &Events,
    ) -> Result<Built, BuildError> {
        let bases = order.bases.iter().filter_map(|(base, id)| Some((base, id.as_ref()?)));
        for (base, id) in bases {
            let sends = || events.note(format!("`{base}` is sent to builder `{}`", self.name));
            match &self.away {
                Away::Engine(engine) => self.supply(engine, home, (base, id), order.log, sends),
                Away::BuildKit(buildkit) => {
                    buildkit.supply(home, id, order.stage, order.log, sends)
                }
            }
            .map_err(BuildError::Environment)?;
        }
        match &self.away {
            Away::BuildKit(buildkit) => buildkit.build(order, home, wanted, events),
            Away::Engine(engine) => {
                let built = engine.build(order, events)?;
                let brought = self.bring(engine, home, &built.id, wanted, order.log);
                brought.map_err(BuildError::Environment)?;
                Ok(built)
            }
        }
    }

    /// Has it hold a base as `home` does; `sends` is called if it has to be sent.
    fn supply(
        &self,
        engine: &Engine,
        home: &Engine,
        (base, id): (&str, &str),
        log: &Path,
        sends: impl FnOnce(),
    ) -> Result<()> {
        let mut supplied = self.supplied.lock();
        if supplied.contains(id) {
            return Ok(());
        }
        let names = [base.to_owned()];
        let holds = || -> Result<bool> {
            let there = engine.look_up(None, &[], &names)?;
            Ok(there.bases.get(base).is_some_and(|held| held.id == id))
        };
        if !holds()? {
            sends();
            home.send(&names, engine, log)?;
            ensure!(holds()?, "builder `{}` does not hold `{base}` it was sent", self.name);
        }
        supplied.insert(id.to_owned());
        Ok(())
    }

    /// Brings an image home, where it proves itself; with it come all others that are ready.
    fn bring(
        &self,
        engine: &Engine,
        home: &Engine,
        id: &str,
        wanted: &Wanted,
        log: &Path,
    ) -> Result<()> {
        self.ready.lock().insert(id.to_owned());
        {
            let _stream = self.stream.lock();
            let ready = std::mem::take(&mut *self.ready.lock());
            if ready.contains(id) {
                let ids: Vec<String> = ready.into_iter().collect();
                engine.send(&ids, home, log)?;
            }
        }
        // The stream it was in may have been another's, and may have failed.
        if home.accept(id, wanted).is_err() {
            engine.send(&[id.to_owned()], home, log)?;
            home.accept(id, wanted)?;
        }
        Ok(())
    }

    /// Whether what went wrong went wrong because it is gone. That is said once.
    pub(crate) fn is_lost(&self, run: &Run) -> bool {
        if stop::requested() {
            return false;
        }
        if self.lost.load(atomic::Ordering::Relaxed) {
            return true;
        }
        let Err(error) = self.away.answers() else { return false };
        if !self.lost.swap(true, atomic::Ordering::Relaxed) {
            let why = error.root_cause().to_string();
            let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let text =
                format!("builder `{}` is lost: {}", self.name, why.trim_start_matches("  | "));
            run.events.warn(format!("{text}; what it was building is built elsewhere"), None);
        }
        true
    }
}
