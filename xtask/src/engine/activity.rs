//! Whether a build is at work, though it prints nothing: what its processes have used of CPU and
//! disk.
//!
//! A compiler in one large crate prints nothing for ten minutes, and so does a program that waits
//! for an answer that never comes. The first uses a CPU. Every process counts what it and the
//! children it has waited for have used; so even programs that live shorter than the time between
//! two looks are seen, in their parent.
//!
//! A process that waits uses a little, too: timers, garbage collection. So a build is at work if it
//! has used a sixtieth of one CPU over a while, or has read and written some.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Over so long it is looked at together; at a shorter limit over that.
const WHILE: Duration = Duration::from_mins(1);
/// The part of one CPU that makes it work.
const PART: u32 = 60;
/// Bytes read and written that do. What a process prints and reads from the network is among them.
const BYTES: u64 = 1 << 20;
/// Clock ticks a second, as the kernel tells them to programs.
const TICKS: u64 = 100;

/// What processes have used: clock ticks of CPU, bytes read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    ticks: u64,
    bytes: u64,
}

/// The work of a build, as it is seen.
#[derive(Debug)]
pub(super) struct Activity {
    span: Duration,
    /// By process and start time.
    seen: BTreeMap<(i32, u64), Used>,
    /// Since then, so much.
    since: Instant,
    used: Used,
}

impl Activity {
    /// For a build that may be idle so long.
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        let (seen, used) = (BTreeMap::new(), Used::default());
        Self { span: limit.min(WHILE), seen, since: now, used }
    }

    /// Takes a look at all processes of the build, by number and start time; whether it was at
    /// work.
    pub(super) fn look(
        &mut self,
        now: Instant,
        processes: impl Iterator<Item = ((i32, u64), Used)>,
    ) -> bool {
        for (process, used) in processes {
            let before = self.seen.insert(process, used).unwrap_or_default();
            self.used.ticks += used.ticks.saturating_sub(before.ticks);
            self.used.bytes += used.bytes.saturating_sub(before.bytes);
        }
        let enough = u64::try_from((self.span / PART).as_millis()).unwrap_or(u64::MAX);
        let works = self.used.ticks * 1000 / TICKS >= enough.max(1) || self.used.bytes >= BYTES;
        if works || now.saturating_duration_since(self.since) >= self.span {
            (self.since, self.used) = (now, Used::default());
        }
        works
    }
}

/// What a process and the children it has waited for have used; its files are in `process`.
pub(super) fn used(process: &Path) -> Option<Used> {
    let stat = fs_err::read_to_string(process.join("stat")).ok()?;
    // Of a program of another user's it cannot be read.
    let io = fs_err::read_to_string(process.join("io")).unwrap_or_default();
    parse(&stat, &io)
}

fn parse(stat: &str, io: &str) -> Option<Used> {
    // User and system time, its own and that of children it has waited for.
    Some(Used { ticks: ticks(stat, 11..15)?, bytes: bytes(io) })
}

/// As [`used`], for a program of the engine's: without its children. While a RUN waits, podman's
/// runtime helper asks for the state ten times a second; neither those children nor their answers
/// are work. The main program copies, fetches and commits, so that its reads and writes count.
pub(super) fn used_itself(process: &Path, is_main: bool) -> Option<Used> {
    let stat = fs_err::read_to_string(process.join("stat")).ok()?;
    let io = process.join("io");
    let io = if is_main { fs_err::read_to_string(io).unwrap_or_default() } else { String::new() };
    Some(Used { ticks: ticks(&stat, 11..13)?, bytes: bytes(&io) })
}

/// The sum of these fields behind the program's name, which stands in parentheses and may hold
/// anything.
fn ticks(stat: &str, fields: Range<usize>) -> Option<u64> {
    let all: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| all.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Some(fields.map(ticks).fold(0, u64::saturating_add))
}

fn bytes(io: &str) -> u64 {
    let bytes = |line: &str| {
        let (name, bytes) = line.split_once(": ")?;
        ["rchar", "wchar", "read_bytes", "write_bytes"]
            .contains(&name)
            .then(|| bytes.parse::<u64>().ok())?
    };
    io.lines().filter_map(bytes).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_what_it_has_used() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 300 0 1 0 11 7 5 2 20 0 1 0 900 10 20 30";
        let io = "rchar: 100\nwchar: 20\nsyscr: 9\nsyscw: 9\nread_bytes: 4096\nwrite_bytes: 0\n";
        assert_eq!(parse(stat, io), Some(Used { ticks: 25, bytes: 4216 }));
        assert_eq!(parse(stat, ""), Some(Used { ticks: 25, bytes: 0 }));
        assert_eq!(parse("", io), None);
        let own = used(Path::new("/proc/self")).unwrap();
        assert!(own.bytes > 0, "{own:?}");
    }

    /// Each second, one process has used so many more ticks and bytes; whether it was at work
    /// within five minutes.
    fn works(ticks: u64, bytes: u64, limit: Duration) -> bool {
        let begun = Instant::now();
        let mut activity = Activity::new(limit, begun);
        (1..=300).any(|second| {
            let used = Used { ticks: ticks * second / 60, bytes: bytes * second / 60 };
            activity.look(begun + Duration::from_secs(second), [((7, 1), used)].into_iter())
        })
    }

    #[test]
    fn who_uses_cpu_or_disk_is_at_work_and_who_waits_is_not() {
        let limit = Duration::from_mins(10);
        // By the minute.
        for (ticks, bytes, expected) in [
            (6000, 0, true),
            (120, 0, true),
            (0, 2 << 20, true),
            (0, 0, false),
            (20, 64 << 10, false),
        ] {
            assert_eq!(works(ticks, bytes, limit), expected, "{ticks} {bytes}");
        }
    }

    #[test]
    fn short_lived_processes_count_and_a_number_that_is_given_again_is_another() {
        let begun = Instant::now();
        let mut activity = Activity::new(Duration::from_mins(10), begun);
        let look = |activity: &mut Activity, second, start, ticks| {
            let now = begun + Duration::from_secs(second);
            activity.look(now, [((7, start), Used { ticks, bytes: 0 })].into_iter())
        };
        assert!(!look(&mut activity, 1, 1, 60));
        assert!(!look(&mut activity, 2, 1, 60), "nothing since");
        assert!(look(&mut activity, 3, 2, 60), "another process");
    }
}
