//! The ledger: what the runs that build on one machine hold together.
//!
//! ```text
//! …/xtask-UID/memory/MACHINE/
//!   lock        held while anything here is read or written
//!   run-ID      one a run: who it is, the bytes of each build that runs now
//! ```
//!
//! There is a ledger for each machine that builds ([`of_machine`]): what a virtual machine's builds
//! take is no part of this host's memory. Of other runs counts what they hold, and that is taken
//! off one's own bound; how much they would allow themselves is nobody else's affair.
//!
//! A run keeps its own file locked for as long as it lives. The kernel frees that lock whatever way
//! it ends, so a file that can be locked belongs to nobody: what it says is void, and it is
//! removed. No process number is compared, so none that is used again can deceive; and a killed
//! run's share is free at the next look. A page that claims more than the machine has is not
//! believed.
//!
//! A run looks before it starts a build. It may start one if all that is held and its own fit the
//! budget, or if nobody else holds anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::{Engine, Facts, POINTERS};
use crate::error;
use crate::figure::{self, Bytes};
use crate::identity;
use crate::memory::budget::Others;
use crate::private::{Owner, PrivatePath};
use crate::process::stop;

/// The largest page that is read, in bytes.
const LARGEST: u64 = 64 << 10;
/// Whoever reads or writes is done in no time; one that is not has stopped in the middle of it.
const TURN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// This run's page of the ledger; removed when it and all its shares are dropped.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Mutex<Page>>);

#[derive(Debug)]
struct Page {
    folder: PrivatePath,
    path: PrivatePath,
    /// Locked for as long as this run lives.
    file: File,
    bounds: Bounds,
    entry: Entry,
}

/// What bounds a run, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Of the machine that builds.
    pub total: u64,
    /// What the run may hold.
    pub budget: u64,
    /// What was available on the machine before any run held something.
    pub free: Option<u64>,
}

/// What a run's file says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Entry {
    /// For people: `process 4711 in /work/shop`.
    who: String,
    /// Bytes that were available before any run held something.
    #[serde(default, deserialize_with = "figure::bytes_if_known")]
    free: Option<u64>,
    /// By build.
    held: BTreeMap<String, Bytes>,
}

/// What a reservation waits for, in words: who holds the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait(pub String);

/// Bytes of the machine that are ours until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    page: Arc<Mutex<Page>>,
    what: String,
}

/// The ledger of the machine that builds, in the folder of all of them: for engines of this host
/// one, until it is started again, and one for each engine elsewhere.
pub fn of_machine(ledgers: &PrivatePath, engine: &Engine, facts: &Facts) -> PrivatePath {
    if !facts.remote {
        let boot = fs_err::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
        let boot = boot.unwrap_or_default();
        return ledgers.join(format!("here-{}", digest(&[boot.trim()])));
    }
    let pointers = POINTERS.map(|name| std::env::var(name).unwrap_or_default());
    let machine = format!("{} {} {}", facts.memory_total, facts.cpus, facts.version);
    let tool = engine.tool().to_string();
    let parts: Vec<&str> =
        pointers.iter().map(String::as_str).chain([tool.as_str(), machine.as_str()]).collect();
    ledgers.join(format!("elsewhere-{}", digest(&parts)))
}

fn digest(parts: &[&str]) -> String {
    hex::encode(&Sha256::digest(parts.join("\n"))[..8])
}

impl Ledger {
    /// Opens a page for this run in `folder`, which is made. `who` tells others about it.
    pub fn open(folder: &PrivatePath, who: &str, bounds: Bounds) -> Result<Self> {
        let entry = Entry { who: who.to_owned(), free: bounds.free, held: BTreeMap::new() };
        let page = Page::open(folder, bounds, entry).with_context(|| {
            format!("failed to open the memory ledger in `{}`", folder.display())
        })?;
        Ok(Self(Arc::new(Mutex::new(page))))
    }

    /// Takes `bytes` for the build `what`, or says who holds what it needs.
    pub fn take(&self, what: &str, bytes: u64) -> Result<Reservation, Wait> {
        let mut page = self.0.lock();
        let _gate = gate(&page.folder).map_err(|error| Wait(error::told(&error)))?;
        let (others, _) = others(&page.folder, Some(&page.path), page.bounds.total);
        let held = figure::sum(others.iter().map(Entry::total));
        let all = figure::sum([held, page.entry.total(), bytes]);
        if held > 0 && all > page.bounds.budget {
            let holders: Vec<String> =
                others.iter().filter(|one| one.total() > 0).map(Entry::tell).collect();
            return Err(Wait(holders.join(" and ")));
        }
        page.entry.held.insert(what.to_owned(), Bytes(bytes));
        // If that fails, others take us to hold what they read last.
        page.write().ok();
        Ok(Reservation { page: Arc::clone(&self.0), what: what.to_owned() })
    }

    /// Pages of live runs that are not believed, a sentence each.
    pub fn doubts(&self) -> Vec<String> {
        let page = self.0.lock();
        let Ok(_gate) = gate(&page.folder) else { return Vec::new() };
        others(&page.folder, Some(&page.path), page.bounds.total).1
    }
}

/// What other runs hold now on a machine that has so many bytes; none if none does, or if that
/// cannot be asked about at once: builds ask again before they start.
pub fn held(folder: &PrivatePath, total: u64) -> Option<Others> {
    let gate = folder.join("lock").lock_file_if_there().ok()?;
    gate.try_lock().ok()?;
    let (others, _) = others(folder, None, total);
    let others = Others {
        held: figure::sum(others.iter().map(Entry::total)),
        free: others.iter().filter(|one| one.total() > 0).filter_map(|one| one.free).max(),
    };
    (others.held > 0).then_some(others)
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut page = self.page.lock();
        page.entry.held.remove(&self.what);
        if let Ok(_gate) = gate(&page.folder) {
            page.write().ok();
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Left behind, it is void all the same.
        self.path.remove().ok();
    }
}

impl Entry {
    fn total(&self) -> u64 {
        figure::sum(self.held.values().map(|bytes| bytes.0))
    }

    fn tell(&self) -> String {
        let builds: Vec<&str> = self.held.keys().map(String::as_str).collect();
        format!("{} MiB held by {} ({})", self.total() >> 20, self.who, builds.join(", "))
    }

    /// Whether a machine with so many bytes can be what it tells of.
    fn is_sound(&self, total: u64) -> bool {
        self.total() <= total && self.free.is_none_or(|free| free <= total)
    }
}

impl Page {
    fn open(folder: &PrivatePath, bounds: Bounds, entry: Entry) -> Result<Self> {
        folder.make()?;
        let _gate = gate(folder)?;
        let path = folder.join(format!("run-{}", identity::random()?));
        let file = path.create()?;
        file.lock()?;
        let mut page = Self { folder: folder.clone(), path, file, bounds, entry };
        page.write()?;
        Ok(page)
    }

    /// Writes the entry down; the gate must be held.
    fn write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.entry)?;
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }
}

/// The right to read and write, until it is dropped.
fn gate(folder: &PrivatePath) -> Result<File> {
    let gate = folder.join("lock").lock_file()?;
    let until = Instant::now() + TURN;
    while gate.try_lock().is_err() {
        if Instant::now() >= until {
            bail!("the memory ledger, which another run keeps locked: `{}`", folder.display());
        }
        stop::pause(PAUSE)?;
    }
    Ok(gate)
}

/// The entries of live runs that can be believed, but the one at `own`, and what is wrong with the
/// others. The gate must be held.
fn others(
    folder: &PrivatePath,
    own: Option<&PrivatePath>,
    total: u64,
) -> (Vec<Entry>, Vec<String>) {
    let names = folder.names().into_iter().filter(|name| name.starts_with("run-"));
    let (mut entries, mut doubts) = (Vec::new(), Vec::new());
    for path in names.map(|name| folder.join(name)).filter(|path| Some(path) != own) {
        match path.holder() {
            Owner::Gone => drop(path.remove()),
            Owner::Nobody => {}
            Owner::Alive => match read(&path, total) {
                Ok(entry) => entries.push(entry),
                Err(error) => doubts.push(format!(
                    "a page of the memory ledger is not believed: `{}`: {}",
                    path.display(),
                    error::told(&error)
                )),
            },
        }
    }
    (entries, doubts)
}

fn read(page: &PrivatePath, total: u64) -> Result<Entry> {
    let entry: Entry = serde_json::from_slice(&page.read(LARGEST)?)?;
    if !entry.is_sound(total) {
        bail!("it claims more than the machine has");
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds { total: 1 << 30, budget: 100 << 20, free: Some(200 << 20) }
    }

    fn pair(folder: &PrivatePath) -> (Ledger, Ledger) {
        let open = |who| Ledger::open(folder, who, bounds()).unwrap();
        (open("process 1"), open("process 2"))
    }

    #[test]
    fn two_runs_share_one_budget_and_the_waiter_knows_for_whom() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let (one, two) = pair(&folder);
        let first = one.take("build api", 60 << 20).unwrap();
        let second = two.take("build db", 40 << 20).unwrap();
        let Wait(told) = two.take("build web", 1 << 20).unwrap_err();
        assert_eq!(told, "60 MiB held by process 1 (build api)");
        drop(first);
        drop(two.take("build web", 60 << 20).unwrap());
        drop(second);
    }

    #[test]
    fn where_nobody_else_holds_anything_all_may_be_taken() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let (one, two) = pair(&folder);
        let large = one.take("build large", 300 << 20).unwrap();
        assert!(two.take("build small", 1).is_err());
        drop(large);
        assert!(two.take("build small", 1).is_ok());
    }

    #[test]
    fn a_page_whose_owner_is_gone_is_void_and_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let (one, _two) = pair(&folder);
        let dead = folder.join("run-4711.0");
        let entry =
            Entry { held: [("build x".to_owned(), Bytes(99 << 20))].into(), ..Entry::default() };
        fs_err::write(&dead, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert!(one.take("build api", 100 << 20).is_ok());
        assert!(!dead.exists());
    }

    #[test]
    fn what_others_hold_counts_and_not_what_they_allow_themselves() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        assert_eq!(held(&folder, 1 << 30), None);
        let small = Bounds { budget: 10 << 20, free: Some(150 << 20), ..bounds() };
        let one = Ledger::open(&folder, "process 1", small).unwrap();
        let two = Ledger::open(&folder, "process 2", bounds()).unwrap();
        assert_eq!(held(&folder, 1 << 30), None);
        let share = one.take("build api", 1 << 20).unwrap();
        assert_eq!(held(&folder, 1 << 30), Some(Others { held: 1 << 20, free: small.free }));
        assert!(two.take("build db", 99 << 20).is_ok());
        drop((share, one, two));
        let left = fs_err::read_dir(&folder).unwrap().count();
        assert_eq!(left, 1, "only the lock");
    }

    #[test]
    fn a_page_that_claims_nonsense_is_not_believed_and_said() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let one = Ledger::open(&folder, "process 1", bounds()).unwrap();
        let path = folder.join("run-x");
        let page = path.create().unwrap();
        page.lock().unwrap();
        for nonsense in [
            r#"{"who":"x","budget":1,"held":{"a":17446744073709551615}}"#,
            r#"{"who":"x","held":{"a":18446744073709551615,"b":18446744073709551615}}"#,
            r#"{"who":"x","held":{"a":1073741825}}"#,
            r#"{"who":"x","held":{"a":1152921504606846976,"b":1152921504606846976}}"#,
            r#"{"who":"x","free":1152921504606846976,"held":{"a":1}}"#,
            r#"{"who":"x","held":{"a":-1}}"#,
            "nonsense",
        ] {
            fs_err::write(&path, nonsense).unwrap();
            assert!(one.take("build api", 99 << 20).is_ok(), "{nonsense}");
            assert_eq!(held(&folder, 1 << 30), None, "{nonsense}");
            let doubts = one.doubts();
            assert!(doubts.len() == 1 && doubts[0].contains("is not believed"), "{doubts:?}");
        }
        fs_err::write(&path, r#"{"who":"x","held":{"a":104857600}}"#).unwrap();
        assert!(one.take("build api", 1 << 20).is_err(), "sound, and believed");
    }

    #[test]
    fn a_ledger_that_is_kept_locked_is_waited_for_and_said() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let one = Ledger::open(&folder, "process 1", bounds()).unwrap();
        let gate = folder.join("lock").lock_file().unwrap();
        gate.lock().unwrap();
        assert_eq!(held(&folder, 1 << 30), None, "a plan does not wait");
        let Wait(told) = one.take("build api", 1).unwrap_err();
        assert!(told.contains("another run keeps locked"), "{told}");
        drop(gate);
        assert!(one.take("build api", 1).is_ok());
    }
}
