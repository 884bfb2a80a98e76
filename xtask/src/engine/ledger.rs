//! The ledger: what the runs of one machine hold together.
//!
//! ```text
//! /run/user/UID/xtask-UID/memory/
//!   lock        held while anything here is read or written
//!   run-PID     one a run: who it is, its budget, the bytes of each build that runs now
//! ```
//!
//! A run keeps its own file locked for as long as it lives. The kernel frees that lock whatever way it ends, so a file
//! that can be locked belongs to nobody: what it says is void, and it is removed. No process number is
//! compared, so none that is used again can deceive; and a killed run's share is free at the next look.
//!
//! A run looks before it starts a build. It may start one if all that is held and its own fit the budget,
//! or if nobody else holds anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::identity;
use crate::private::{self, Owner, PrivatePath};

/// The largest page that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// This run's page of the ledger; removed when it and all its shares are dropped.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Mutex<Page>>);

#[derive(Debug)]
struct Page {
    folder: PrivatePath,
    path: PrivatePath,
    /// Locked for as long as this run lives.
    file: File,
    entry: Entry,
}

/// What a run's file says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Entry {
    /// For people: `process 4711 in /work/shop`.
    who: String,
    /// Bytes.
    budget: u64,
    /// Bytes by build.
    held: BTreeMap<String, u64>,
}

/// Bytes of the machine that are ours until this is dropped.
#[derive(Debug)]
pub struct Share {
    page: Arc<Mutex<Page>>,
    what: String,
}

impl Ledger {
    /// Opens a page for this run in `folder`, which is made. `who` tells others about it; `budget` in bytes.
    pub fn open(folder: &PrivatePath, who: &str, budget: u64) -> Result<Self> {
        let entry = Entry { who: who.to_owned(), budget, held: BTreeMap::new() };
        let page = Page::open(folder, entry).with_context(|| {
            format!("failed to open the memory ledger in `{}`", folder.display())
        })?;
        Ok(Self(Arc::new(Mutex::new(page))))
    }

    /// Takes `bytes` for the build `what`, or says who holds what it needs.
    pub fn take(&self, what: &str, bytes: u64) -> Result<Share, String> {
        let mut page = lock(&self.0);
        let others = page.locked(|page| others(&page.folder, Some(&page.path)));
        // A ledger that cannot be read holds nobody up.
        let others = others.unwrap_or_default();
        let held: u64 = others.iter().map(Entry::total).sum();
        let own = page.entry.total();
        if held > 0 && held.saturating_add(own).saturating_add(bytes) > page.entry.budget {
            let holders: Vec<String> =
                others.iter().filter(|one| one.total() > 0).map(Entry::tell).collect();
            return Err(holders.join(" and "));
        }
        page.entry.held.insert(what.to_owned(), bytes);
        page.note();
        Ok(Share { page: Arc::clone(&self.0), what: what.to_owned() })
    }
}

/// The largest budget of the runs that hold memory now; none if no run does.
pub fn budget_in_use(folder: &PrivatePath) -> Option<u64> {
    let gate = folder.join("lock").lock_file_if_there().ok()?;
    // What cannot be asked about at once is not waited for: it is a hint, and the builds ask again.
    gate.try_lock().ok()?;
    let holders = others(folder, None).into_iter().filter(|one| one.total() > 0);
    holders.map(|one| one.budget).max()
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut page = lock(&self.page);
        page.entry.held.remove(&self.what);
        page.note();
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
        self.held.values().sum()
    }

    fn tell(&self) -> String {
        let builds: Vec<&str> = self.held.keys().map(String::as_str).collect();
        format!("{} MiB held by {} ({})", self.total() >> 20, self.who, builds.join(", "))
    }
}

impl Page {
    fn open(folder: &PrivatePath, entry: Entry) -> Result<Self> {
        let gate = folder.join("lock").lock_file()?;
        private::wait_for(&gate, || {})?;
        let path = folder.join(format!("run-{}", identity::random()?));
        let file = path.create()?;
        file.lock()?;
        let mut page = Self { folder: folder.to_owned(), path, file, entry };
        page.write()?;
        Ok(page)
    }

    /// Does `work` while no other run reads or writes.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T> {
        let gate = self.folder.join("lock").lock_file()?;
        private::wait_for(&gate, || {})?;
        Ok(work(self))
    }

    /// Writes the entry down. If that fails, others take us to hold what they read last.
    fn note(&mut self) {
        self.locked(Self::write).and_then(|written| Ok(written?)).ok();
    }

    fn write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.entry)?;
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }
}

/// The entries of live runs, but the one at `own`. The gate must be held.
fn others(folder: &PrivatePath, own: Option<&PrivatePath>) -> Vec<Entry> {
    let names = folder.names().into_iter().filter(|name| name.starts_with("run-"));
    let pages = names.map(|name| folder.join(name)).filter(|path| Some(path) != own);
    pages
        .filter(|path| {
            let holder = path.holder();
            if holder == Owner::Gone {
                path.remove().ok();
            }
            holder == Owner::Alive
        })
        .filter_map(|path| serde_json::from_slice(&path.read(LARGEST).ok()?).ok())
        .collect()
}

fn lock(page: &Mutex<Page>) -> std::sync::MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &PrivatePath) -> (Ledger, Ledger) {
        let open = |who| Ledger::open(folder, who, 100 << 20).unwrap();
        (open("process 1"), open("process 2"))
    }

    #[test]
    fn two_runs_share_one_budget_and_the_waiter_knows_for_whom() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        let (one, two) = pair(&folder);
        let first = one.take("build api", 60 << 20).unwrap();
        let second = two.take("build db", 40 << 20).unwrap();
        let told = two.take("build web", 1 << 20).unwrap_err();
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
        let entry = Entry { held: [("build x".to_owned(), 99 << 20)].into(), ..Entry::default() };
        fs_err::write(&dead, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert!(one.take("build api", 100 << 20).is_ok());
        assert!(!dead.exists());
    }

    #[test]
    fn the_budget_in_use_is_that_of_runs_that_hold_something() {
        let place = tempfile::tempdir().unwrap();
        let folder = PrivatePath::below(place.path(), "memory");
        assert_eq!(budget_in_use(&folder), None);
        let (one, two) = pair(&folder);
        assert_eq!(budget_in_use(&folder), None);
        let share = one.take("build api", 1).unwrap();
        assert_eq!(budget_in_use(&folder), Some(100 << 20));
        drop((share, one, two));
        let left = fs_err::read_dir(&folder).unwrap().count();
        assert_eq!(left, 1, "only the lock");
    }
}
