//! Whether a build that failed was killed for memory.
//!
//! Three witnesses, the best first:
//!
//! 1. The kernel's counters. The build's own control group counts for itself. `/proc/vmstat` counts for the whole
//!    machine, so it speaks only for a build that was seen to lose a process.
//! 2. The text. A program that was refused memory says so in its own words, and no kernel kill comes with that. One
//!    that was killed is spoken of by its parent (`signal: killed`); that is believed where the kernel
//!    confirms it, or cannot be asked because the engine runs elsewhere.
//! 3. Exit code 137, only where the kernel cannot be asked.
//!
//! Disk full, a test that exits 137, Ctrl-C and a plain compile error are none of these.

use crate::process::Ending;

/// What is known of a build that failed.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Kernel kills on the machine while it ran (`oom_kill` of `/proc/vmstat`); none: cannot be seen.
    pub machine_kills: Option<u64>,
    /// Kernel kills in the build's own control group.
    pub group_kills: u64,
    /// The last lines of its output.
    pub lines: &'a [String],
    pub ending: &'a Ending,
}

/// A program that was refused memory, in its own words. Lower case; `*` stands for anything.
const REFUSED: [&str; 14] = [
    "cannot allocate memory",
    "memory allocation of * bytes failed",
    "runtime: out of memory",
    "fatal error: out of memory",
    "javascript heap out of memory",
    "fatal: out of memory",
    "virtual memory exhausted",
    "std::bad_alloc",
    "java.lang.outofmemoryerror",
    "memoryerror",
    "resourceexhausted",
    "rustc-llvm error: out of memory",
    "llvm error: out of memory",
    "out of memory allocating * bytes",
];

/// A program that was killed, as its parent tells it.
const KILLED: [&str; 10] = [
    "signal: killed",
    "signal: 9",
    "sigkill",
    "server probably quit: unexpected eof",
    "exit status 137",
    "exit code: 137",
    "exit code 137",
    "killed (program *)",
    "fatal error: killed signal terminated program",
    "oom-killed",
];

/// Why a build is taken to have been killed for memory; none if it was not.
pub fn judge(evidence: &Evidence) -> Option<String> {
    let ended_by_us =
        matches!(evidence.ending, Ending::Stopped | Ending::TimedOut(_) | Ending::Silent(_));
    if matches!(evidence.ending, Ending::Stopped | Ending::NotStarted(_)) {
        return None;
    }
    if evidence.group_kills > 0 {
        return Some(format!("the kernel killed {} of its processes", evidence.group_kills));
    }
    if ended_by_us {
        return None;
    }
    if let Some(line) = find(evidence.lines, &REFUSED) {
        return Some(format!("a program was refused memory: `{line}`"));
    }
    let code = match evidence.ending {
        Ending::Code(137) => Some("exit status 137".to_owned()),
        Ending::Signal(9) => Some("ended by signal 9".to_owned()),
        _ => None,
    };
    let killed = find(evidence.lines, &KILLED).or_else(|| bare_killed(evidence.lines)).or(code)?;
    match evidence.machine_kills {
        Some(0) => None,
        Some(kills) => Some(format!("the kernel killed {kills} on this machine, and `{killed}`")),
        None => Some(format!("`{killed}`; the engine's kernel cannot be asked")),
    }
}

/// `oom_kill` of `/proc/vmstat`: kernel kills since the machine was started.
pub(super) fn machine_kills() -> Option<u64> {
    let stat = fs_err::read_to_string("/proc/vmstat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The last line with one of these in it.
fn find(lines: &[String], patterns: &[&str]) -> Option<String> {
    lines.iter().rev().find_map(|line| {
        let lower = line.to_lowercase();
        patterns.iter().any(|pattern| has(&lower, pattern)).then(|| line.trim().to_owned())
    })
}

fn has(line: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => line.contains(pattern),
        Some((before, after)) => {
            line.find(before).is_some_and(|at| line[at + before.len()..].contains(after))
        }
    }
}

/// A shell's whole word on a killed command: `Killed`, or `sh: line 1: 12 Killed  cc …`.
fn bare_killed(lines: &[String]) -> Option<String> {
    let tells = |line: &&String| {
        let line = line.trim();
        line == "Killed" || line.contains(": Killed") || line.contains(" Killed  ")
    };
    lines.iter().rev().find(tells).map(|line| line.trim().to_owned())
}
