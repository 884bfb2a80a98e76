//! Watching a build: the peak of its anonymous memory, and its end when it must end.
//!
//! The kernel keeps a peak, but of the wrong thing: page cache is in it (a COPY of 107 MB showed
//! 682 MB where the processes took 39 MB). Anonymous memory has no peak counter, so it is sampled
//! five times a second: of the build's control group where there is one, and of the engine
//! program's process tree outside of it.
//!
//! A docker that has put RUN into a group of its own is measured there while a single build of ours
//! is running; of builds side by side nothing can be said, and nothing is learned. (`BuildKit` even
//! runs a step that two of them have in common only once.) It ends its RUN processes itself when
//! its client goes.
//!
//! podman must not be ended while it writes an image: a half-written one stays in the store, and
//! every `podman images` on the machine fails from then on (seen, 4.3.1). So what is ended is the
//! RUN process: podman then fails by itself, and tidies up. Only a podman that goes on is ended
//! too, after a while.
//!
//! What RUN has started is in the build's control group. Without root, and with
//! `BUILDAH_ISOLATION=chroot` whoever one is, no group holds it; it is then what stands below the
//! helpers that podman starts for a RUN:
//!
//! ```text
//! podman ── buildah-oci-runtime ── sh …                             (seen, 4.3.1, without root)
//! podman ── buildah-chroot-runtime ── buildah-chroot-exec ── sh …   (seen, 4.3.1)
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::event::MEMORY_PACE;
use crate::kernel;
use crate::process::{self, Ending, GRACE, stop};

use super::activity::{self, Activity, Used};
use super::cgroup::{self, Cgroup, Daemons};
use super::client::Client;

const PACE: Duration = Duration::from_millis(200);
/// While a build is being ended.
const HURRY: Duration = Duration::from_millis(20);

/// How long podman gets to finish what it is writing: on a busy machine a commit of a small layer
/// took 10 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen of a build while it ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Bytes; none if nothing could be measured.
    pub peak: Option<u64>,
    /// The most bytes that RUN had asked the kernel for, whether they were in use or not.
    pub asked: Option<u64>,
    /// Kernel kills inside the build's own group.
    pub kills: u64,
    /// Every process of the tree that was seen: number and start time.
    pub processes: BTreeSet<(i32, u64)>,
    /// Those of them that RUN has started.
    pub runs: BTreeSet<(i32, u64)>,
    /// Groups of docker's daemon that were there while no other build of ours was.
    pub groups: BTreeSet<String>,
    /// Why it was ended from here.
    pub ousted: Option<Ending>,
    /// docker has put RUN where it was told to.
    in_own_group: bool,
    /// Another build of ours may have been what was seen.
    in_company: bool,
}

impl Seen {
    /// What can be said of a build now that it has ended.
    fn settled(self) -> Self {
        if self.in_company { Self { peak: None, ..self } } else { self }
    }
}

/// How long a build may take, and may neither say nor do anything.
#[derive(Debug)]
pub(super) struct Limits {
    timeout: Option<Duration>,
    silence: Duration,
    started: Instant,
    /// Milliseconds from the start to the last line or the last sign of work.
    last_sign: AtomicU64,
}

impl Limits {
    pub(super) fn from_now(timeout: Option<Duration>, silence: Duration) -> Self {
        Self { timeout, silence, started: Instant::now(), last_sign: AtomicU64::new(0) }
    }

    /// A line has come, or it was seen to work.
    pub(super) fn lives(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_sign.store(now, Ordering::Relaxed);
    }

    fn reached(&self) -> Option<Ending> {
        let elapsed = self.started.elapsed();
        let last_sign = Duration::from_millis(self.last_sign.load(Ordering::Relaxed));
        if stop::requested() {
            Some(Ending::Stopped)
        } else if let Some(timeout) = self.timeout.filter(|timeout| elapsed >= *timeout) {
            Some(Ending::TimedOut(timeout))
        } else if elapsed.saturating_sub(last_sign) >= self.silence {
            Some(Ending::Silent(self.silence))
        } else {
            None
        }
    }
}

/// Where a build is looked at, and who hears what it holds.
#[derive(Clone, Copy)]
pub(super) struct Watched<'a> {
    pub client: &'a dyn Client,
    /// The group made for its RUN, if one could be.
    pub cgroup: Option<&'a Cgroup>,
    /// Told bytes, every [`MEMORY_PACE`].
    pub tell: &'a (dyn Fn(u64) + Sync),
}

/// Builds by docker that this process has running.
static DOCKERS: AtomicUsize = AtomicUsize::new(0);

/// Counts a build by docker for as long as it lives.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Self {
        DOCKERS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DOCKERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Watches until the sender of `done` is dropped. A build by podman is ended at its limits.
pub(super) fn watch(program: u32, watched: Watched, limits: &Limits, done: &Receiver<()>) -> Seen {
    let Watched { client, cgroup, tell } = watched;
    let _counted = client.has_daemon().then(Counted::new);
    let mut seen = Seen::default();
    let mut ousted_at = None;
    let mut told_at: Option<Instant> = None;
    let mut activity = Activity::new(limits.silence, Instant::now());
    loop {
        if let Some(bytes) = client.sample(program, cgroup, &mut seen)
            && told_at.is_none_or(|at| at.elapsed() >= MEMORY_PACE)
        {
            told_at = Some(Instant::now());
            tell(bytes);
        }
        if !client.has_daemon() {
            if activity.look(Instant::now(), at_work(program, cgroup)) {
                limits.lives();
            }
            if seen.ousted.is_none() {
                seen.ousted = limits.reached();
            }
            if seen.ousted.is_some() {
                oust(program, cgroup, *ousted_at.get_or_insert_with(Instant::now));
            }
        }
        match done.recv_timeout(if ousted_at.is_some() { HURRY } else { PACE }) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return seen.settled(),
        }
    }
}

/// The processes of a build, and what they have used. The engine's own count without their
/// children.
fn at_work(program: u32, cgroup: Option<&Cgroup>) -> impl Iterator<Item = ((i32, u64), Used)> {
    let mut of_run: BTreeSet<i32> =
        cgroup.map(Cgroup::processes).unwrap_or_default().into_iter().collect();
    let mut engines = BTreeSet::new();
    for member in tree(program) {
        let processes = if member.of_run { &mut of_run } else { &mut engines };
        processes.insert(member.process);
    }
    engines.retain(|process| !of_run.contains(process));
    let of_run = of_run.into_iter().map(|process| (process, activity::used(&of(process))));
    let engines = engines.into_iter().map(move |process| {
        (process, activity::used_itself(&of(process), u32::try_from(process) == Ok(program)))
    });
    of_run
        .chain(engines)
        .filter_map(|(process, used)| Some(((process, start_time(process)?), used?)))
}

/// Kills what RUN has started; the engine's program only if that was not enough.
fn oust(program: u32, cgroup: Option<&Cgroup>, since: Instant) {
    let of_run = || {
        let below = tree(program).into_iter().filter(|member| member.of_run);
        let mut of_run: Vec<i32> = below.map(|member| member.process).collect();
        of_run.extend(cgroup.map(Cgroup::processes).unwrap_or_default());
        of_run
    };
    process::kill_listed(&of_run(), of_run);
    let signal = match since.elapsed() {
        time if time > PATIENCE + GRACE => Signal::KILL,
        time if time > PATIENCE => Signal::TERM,
        _ => return,
    };
    if let Some(pid) = i32::try_from(program).ok().and_then(Pid::from_raw) {
        // Its owner has not reaped it, so the number is its own still.
        kill_process(pid, signal).ok();
    }
}

/// Gives back the bytes there are now, if they can be measured.
pub(super) fn sample(program: u32, cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64> {
    let inside: BTreeSet<i32> =
        cgroup.map(Cgroup::processes).unwrap_or_default().into_iter().collect();
    let group = cgroup.and_then(Cgroup::anonymous);
    let mut bytes = group.unwrap_or(0);
    let mut measured = group.is_some();
    let mut asked: u64 = inside.iter().filter_map(|process| status(*process, "VmData:")).sum();
    for Member { process, of_run } in tree(program) {
        if let Some(start) = start_time(process) {
            seen.processes.insert((process, start));
            if of_run {
                seen.runs.insert((process, start));
            }
        }
        let is_inside = inside.contains(&process);
        if group.is_none() || !is_inside {
            let own = status(process, "RssAnon:");
            measured |= own.is_some();
            bytes += own.unwrap_or(0);
        }
        if !is_inside {
            let name = if of_run { "VmData:" } else { "RssAnon:" };
            asked += status(process, name).unwrap_or(0);
        }
    }
    let measured = measured.then_some(bytes);
    seen.peak = seen.peak.max(measured);
    seen.asked = seen.asked.max(measured.map(|_| asked));
    seen.kills = seen.kills.max(cgroup.map_or(0, Cgroup::kills));
    measured
}

/// docker's own program is but a client: only what RUN takes is of interest.
pub(super) fn sample_docker(cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64> {
    let (bytes, kills) = match cgroup {
        Some(cgroup) if seen.in_own_group || !cgroup.processes().is_empty() => {
            if !seen.in_own_group {
                *seen = Seen { in_own_group: true, ..Seen::default() };
            }
            (cgroup.anonymous(), cgroup.kills())
        }
        _ => {
            let groups = cgroup::daemons();
            seen.in_company |= !groups.is_empty() && DOCKERS.load(Ordering::Relaxed) > 1;
            if groups.is_empty() || seen.in_company {
                return None;
            }
            seen.groups.extend(groups.iter().map(Daemons::name));
            let bytes = groups.iter().filter_map(Daemons::anonymous).sum();
            (Some(bytes), groups.iter().map(Daemons::kills).max().unwrap_or(0))
        }
    };
    seen.peak = seen.peak.max(bytes);
    seen.kills = seen.kills.max(kills);
    bytes
}

/// A process of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    process: i32,
    /// RUN has started it, not the engine.
    of_run: bool,
}

/// A process and all below it.
fn tree(root: u32) -> Vec<Member> {
    let root = i32::try_from(root).ok().map(|process| Member { process, of_run: false });
    let mut found: Vec<Member> = root.into_iter().collect();
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        next += 1;
        let helps = !above.of_run && is_helper(above.process);
        let threads =
            fs_err::read_dir(of(above.process).join("task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs_err::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            found.extend(children.map(|process| {
                let of_run = above.of_run || (helps && !is_helper(process));
                Member { process, of_run }
            }));
        }
    }
    found
}

/// Whether it is podman's own, there to start a RUN.
fn is_helper(process: i32) -> bool {
    fs_err::read(of(process).join("cmdline")).is_ok_and(|line| line.starts_with(b"buildah-"))
}

fn of(process: i32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

/// Bytes of a process by one of the kernel's names: `RssAnon:` what it has that is no file's,
/// `VmData:` what it has asked for of that.
fn status(process: i32, name: &str) -> Option<u64> {
    let status = fs_err::read_to_string(of(process).join("status")).ok()?;
    kernel::bytes(&status, name)
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
        let (has, asked) = (status(own, "RssAnon:").unwrap(), status(own, "VmData:").unwrap());
        assert!(100_000 < has && has <= asked, "{has} of {asked}");
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(tree(std::process::id()).first(), Some(&Member { process: own, of_run: false }));
    }

    #[test]
    fn a_child_is_in_the_tree_with_its_memory() {
        let child = crate::process::Tool::new("sleep").arg("60").start().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        assert!(tree(std::process::id()).contains(&Member { process, of_run: false }));
    }

    #[test]
    fn what_stands_below_podmans_helpers_is_of_run() {
        // As podman's helpers call themselves; `:` keeps a shell from ending in its last command's
        // place.
        let helpers = r#"exec -a buildah-chroot-runtime bash -c \
            '(exec -a buildah-chroot-exec bash -c "sleep 61; :"); :'"#;
        let child = crate::process::Tool::new("bash").arg("-c").arg(helpers).start().unwrap();
        let lines = || -> Vec<(String, bool)> {
            let line = |process| fs_err::read_to_string(of(process).join("cmdline"));
            let members = tree(child.id()).into_iter();
            members.map(|one| (line(one.process).unwrap_or_default(), one.of_run)).collect()
        };
        let sleeps = |one: &&(String, bool)| one.0.starts_with("sleep");
        let until = Instant::now() + Duration::from_secs(20);
        while !lines().iter().any(|one| sleeps(&one)) && Instant::now() < until {
            std::thread::yield_now();
        }
        let lines = lines();
        assert!(lines.iter().find(sleeps).is_some_and(|(_, of_run)| *of_run), "{lines:?}");
        let helpers: Vec<_> = lines.iter().filter(|one| one.0.starts_with("buildah-")).collect();
        assert!(!helpers.is_empty() && helpers.iter().all(|(_, of_run)| !of_run), "{lines:?}");
    }
}
