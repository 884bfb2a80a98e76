//! Watching a build: the peak of its anonymous memory, and its end when it must end.
//!
//! The kernel keeps a peak, but of the wrong thing: page cache is in it (a COPY of 107 MB showed 682 MB where the
//! processes took 39 MB). Anonymous memory has no peak counter, so it is sampled five times a second: of the build's
//! control group where there is one, and of the engine program's process tree outside of it.
//!
//! podman must not be ended while it writes an image: a half-written one stays in the store, and every `podman images` on
//! the machine fails from then on (seen, 4.3.1). So what is ended is the RUN process: podman then
//! fails by itself, and tidies up. Only a podman that goes on is ended too, after a while.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::event::MEMORY_PACE;
use crate::process::{Ending, GRACE, stop};

use super::cgroup::Cgroup;

const PACE: Duration = Duration::from_millis(200);
/// While a build is being ended.
const HURRY: Duration = Duration::from_millis(20);

/// What was seen of a build while it ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Bytes; none if nothing could be measured.
    pub peak: Option<u64>,
    /// Kernel kills inside the build's own group.
    pub kills: u64,
    /// Every process of the tree that was seen: number and start time.
    pub processes: BTreeSet<(i32, u64)>,
    /// Why it was ended from here.
    pub ousted: Option<Ending>,
}

/// How long a build may take, and may say nothing.
#[derive(Debug)]
pub(super) struct Limits {
    timeout: Duration,
    silence: Duration,
    started: Instant,
    /// Milliseconds from the start to the last line.
    last_line: AtomicU64,
}

impl Limits {
    pub(super) fn from_now(timeout: Duration, silence: Duration) -> Self {
        Self { timeout, silence, started: Instant::now(), last_line: AtomicU64::new(0) }
    }

    /// A line has come.
    pub(super) fn heard(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_line.store(now, Ordering::Relaxed);
    }

    fn reached(&self) -> Option<Ending> {
        let elapsed = self.started.elapsed();
        let last_line = Duration::from_millis(self.last_line.load(Ordering::Relaxed));
        if stop::requested() {
            Some(Ending::Stopped)
        } else if elapsed >= self.timeout {
            Some(Ending::TimedOut(self.timeout))
        } else if elapsed.saturating_sub(last_line) >= self.silence {
            Some(Ending::Silent(self.silence))
        } else {
            None
        }
    }
}

/// Where a build is looked at, and who hears what it holds.
#[derive(Clone, Copy)]
pub(super) struct Watched<'a> {
    pub cgroup: Option<&'a Cgroup>,
    /// Told bytes, every [`MEMORY_PACE`].
    pub tell: &'a (dyn Fn(u64) + Sync),
}

/// Watches until the sender of `done` is dropped. With a control group, ends the build at its limits.
pub(super) fn watch(program: u32, watched: Watched, limits: &Limits, done: &Receiver<()>) -> Seen {
    let Watched { cgroup, tell } = watched;
    let mut seen = Seen::default();
    let mut ousted_at = None;
    let mut told_at: Option<Instant> = None;
    loop {
        let bytes = sample(program, cgroup, &mut seen);
        if let Some(bytes) = bytes
            && told_at.is_none_or(|at| at.elapsed() >= MEMORY_PACE)
        {
            told_at = Some(Instant::now());
            tell(bytes);
        }
        if let Some(cgroup) = cgroup {
            if seen.ousted.is_none() {
                seen.ousted = limits.reached();
            }
            if seen.ousted.is_some() {
                oust(program, cgroup, *ousted_at.get_or_insert_with(Instant::now));
            }
        }
        match done.recv_timeout(if ousted_at.is_some() { HURRY } else { PACE }) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return seen,
        }
    }
}

/// Kills what RUN has started; the engine's program only if that was not enough.
fn oust(program: u32, cgroup: &Cgroup, since: Instant) {
    cgroup.kill();
    let signal = match since.elapsed() {
        time if time > 2 * GRACE => Signal::KILL,
        time if time > GRACE => Signal::TERM,
        _ => return,
    };
    if let Some(pid) = i32::try_from(program).ok().and_then(Pid::from_raw) {
        // Its owner has not reaped it, so the number is its own still.
        kill_process(pid, signal).ok();
    }
}

/// Gives back the bytes there are now, if they can be measured.
fn sample(program: u32, cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64> {
    let inside: BTreeSet<i32> =
        cgroup.map(Cgroup::processes).unwrap_or_default().into_iter().collect();
    let group = cgroup.and_then(Cgroup::anonymous);
    let mut bytes = group.unwrap_or(0);
    let mut measured = group.is_some();
    for process in tree(program) {
        if let Some(start) = start_time(process) {
            seen.processes.insert((process, start));
        }
        if group.is_none() || !inside.contains(&process) {
            let own = anonymous(process);
            measured |= own.is_some();
            bytes += own.unwrap_or(0);
        }
    }
    let measured = measured.then_some(bytes);
    seen.peak = seen.peak.max(measured);
    seen.kills = seen.kills.max(cgroup.map_or(0, Cgroup::kills));
    measured
}

/// A process and all below it.
fn tree(root: u32) -> Vec<i32> {
    let mut found: Vec<i32> = i32::try_from(root).into_iter().collect();
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        next += 1;
        let threads = fs_err::read_dir(of(process).join("task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs_err::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

fn of(process: i32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

/// Bytes of a process's own anonymous memory.
fn anonymous(process: i32) -> Option<u64> {
    let status = fs_err::read_to_string(of(process).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// When a process was started, in clock ticks: a number used again has another.
pub(super) fn start_time(process: i32) -> Option<u64> {
    let stat = fs_err::read_to_string(of(process).join("stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_a_start_and_itself_in_its_tree() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(anonymous(own).is_some_and(|bytes| bytes > 100_000));
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(tree(std::process::id()).first(), Some(&own));
    }

    #[test]
    fn a_child_is_in_the_tree_with_its_memory() {
        let child = crate::process::Tool::new("sleep").arg("60").start().unwrap();
        assert!(tree(std::process::id()).contains(&i32::try_from(child.id()).unwrap()));
    }
}
