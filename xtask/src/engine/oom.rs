//! Whether a build was killed for memory.
//!
//! Three witnesses, the best first:
//!
//! 1. The kernel. What it has killed in the build's own control group counts whatever else is said,
//!    even success: `head … | tail | wc -c` goes on to the end without its `tail`, and leaves a
//!    wrong image (seen). A kill that nobody can place is only the echo of a word of the build's
//!    own: by itself it is another's.
//! 2. The text. A program that was refused memory says so in its own words, and no kernel kill
//!    comes with that. One that was killed is spoken of by its parent (`signal: killed`); that is
//!    believed where the kernel does not deny it: it cannot be asked when the engine runs
//!    elsewhere.
//! 3. Exit code 137, under the same condition.
//!
//! Disk full, a test that exits 137, Ctrl-C and a plain compile error are none of these.

use crate::process::Ending;

/// What is known of a build that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Kernel kills in the build's own control group or process tree.
    pub own_kills: u64,
    /// Whom the kernel killed there, if its log can be read.
    pub victim: Option<&'a str>,
    /// Kernel kills on this machine meanwhile that are not known to be of someone else; none:
    /// cannot be seen.
    pub open_kills: Option<u64>,
    /// The last lines of its output.
    pub lines: &'a [String],
    /// How it ended, if not well.
    pub ending: Option<&'a Ending>,
}

/// A program that was refused memory, in its own words. Lower case; `*` stands for anything, `^`
/// for the line's start.
const REFUSED: [&str; 15] = [
    "cannot allocate memory",
    "memory allocation of * bytes failed",
    "xrealloc: cannot allocate",
    "xmalloc: cannot allocate",
    "runtime: out of memory",
    "^fatal error: out of memory",
    "^fatal: out of memory",
    "^out of memory!",
    "javascript heap out of memory",
    "virtual memory exhausted",
    "std::bad_alloc",
    "java.lang.outofmemoryerror",
    "^memoryerror",
    "resourceexhausted",
    "llvm error: out of memory",
];

/// A program that was killed, as its parent tells it.
const KILLED: [&str; 14] = [
    "signal: killed",
    "signal: 9",
    "sigkill",
    "server probably quit: unexpected eof",
    "exit status 137",
    "exit code: 137",
    "exit code 137",
    "killed (program *)",
    "killed signal terminated program",
    "exited on killed",
    "^killed",
    "] killed",
    ": killed",
    " killed  ",
];

const DISK_FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Why a build is taken to have been killed for memory; none if it was not.
pub fn judge(evidence: &Evidence) -> Option<String> {
    let ending = match evidence.ending {
        Some(Ending::Stopped | Ending::NotStarted(_)) => return None,
        ending => ending,
    };
    if evidence.own_kills > 0 {
        let victim = evidence.victim.unwrap_or("a process of it");
        return Some(format!("the kernel killed {victim}"));
    }
    let killed = find(evidence.lines, &KILLED);
    let code = match ending {
        Some(Ending::TimedOut(_) | Ending::Silent(_)) => return None,
        Some(Ending::Code(137)) => Some("exit status 137".to_owned()),
        Some(Ending::Signal(9)) => Some("ended by signal 9".to_owned()),
        Some(_) => None,
        None => {
            let line = killed.filter(|_| evidence.open_kills.is_some_and(|kills| kills > 0))?;
            return Some(format!("the kernel killed on this machine, and `{line}`"));
        }
    };
    if let Some(line) = find(evidence.lines, &REFUSED) {
        return Some(format!("a program was refused memory: `{line}`"));
    }
    if find(evidence.lines, &DISK_FULL).is_some() {
        return None;
    }
    match (evidence.open_kills, killed.or(code)) {
        // A kill that nobody can place is another's, if nothing of this build speaks of one.
        (Some(0), _) | (_, None) => None,
        (Some(_), Some(sign)) => Some(format!("the kernel killed on this machine, and `{sign}`")),
        (None, Some(sign)) => Some(format!("`{sign}`, and the engine's kernel cannot be asked")),
    }
}

/// Whether process numbers are those of the kernel's log: the first namespace of them has this
/// inode.
pub(super) fn is_first_namespace() -> bool {
    fs_err::read_link("/proc/self/ns/pid").is_ok_and(|link| link.ends_with("pid:[4026531836]"))
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
    if let Some(start) = pattern.strip_prefix('^') {
        return line.trim_start().starts_with(start);
    }
    match pattern.split_once('*') {
        None => line.contains(pattern),
        Some((before, after)) => {
            line.find(before).is_some_and(|at| line[at + before.len()..].contains(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(open: Option<u64>, ending: Option<&Ending>, log: &str) -> Option<String> {
        let lines: Vec<String> = log.lines().map(str::to_owned).collect();
        judge(&Evidence { own_kills: 0, victim: None, open_kills: open, lines: &lines, ending })
    }

    /// The ends of real builds and tools under a memory limit of 200 MB (podman 4.3.1, rustc 1.95,
    /// Go 1.2x, gcc 12, node 18, Python 3.11), but for the last five, which are as those tools
    /// document them. Each with the kernel's count (none: elsewhere) and the exit code.
    const KILLED_FOR_MEMORY: [(&str, Option<u64>, i32, &str); 21] = [
        (
            "shell",
            Some(1),
            137,
            "Killed\nError: building at STEP \"RUN tail /dev/zero\": while running runtime: exit status 137",
        ),
        (
            "shell, kernel elsewhere",
            None,
            137,
            "Killed\nError: building at STEP \"RUN tail /dev/zero\": while running runtime: exit status 137",
        ),
        (
            "pipefail",
            Some(1),
            137,
            "/bin/bash: line 1:     6 Broken pipe             head -c 700M /dev/zero\n         7 Killed                  | tail\n         8 Done                    | wc -c",
        ),
        (
            "exec form",
            Some(1),
            1,
            "container exited on killed\nError: building at STEP \"RUN tail /dev/zero\": while running runtime: exit status 1",
        ),
        (
            "cargo",
            Some(1),
            101,
            "error: could not compile `p` (bin \"p\"); 1 warning emitted\n\nCaused by:\n  process didn't exit successfully: `rustc --crate-name p` (signal: 9, SIGKILL: kill)",
        ),
        (
            "cargo, kernel elsewhere",
            None,
            101,
            "  process didn't exit successfully: `rustc --crate-name p` (signal: 9, SIGKILL: kill)",
        ),
        (
            "gcc",
            Some(1),
            1,
            "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.",
        ),
        (
            "go build",
            Some(1),
            1,
            "runtime: /usr/local/go/pkg/tool/linux_amd64/compile: signal: killed",
        ),
        ("go test", Some(1), 1, "signal: killed\nFAIL\tx\t1.609s\nFAIL"),
        ("make", Some(1), 2, "tail /dev/zero\nmake: *** [/tmp/eng/Mk:2: all] Killed"),
        (
            "Python's child",
            Some(1),
            1,
            "subprocess.CalledProcessError: Command '['tail', '/dev/zero']' died with <Signals.SIGKILL: 9>.",
        ),
        (
            "Rust's allocator",
            Some(0),
            134,
            "memory allocation of 4611686018427387904 bytes failed\nAborted",
        ),
        ("cc1 refused", Some(0), 1, "virtual memory exhausted: Cannot allocate memory"),
        ("bash refused", Some(0), 2, "bash: xrealloc: cannot allocate 26628096 bytes"),
        (
            "perl refused",
            Some(0),
            12,
            "Out of memory!\npanic: fold_constants JMPENV_PUSH returned 2 at -e line 1.",
        ),
        (
            "node",
            Some(0),
            134,
            "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        ),
        (
            "Go's runtime",
            Some(0),
            2,
            "runtime: out of memory: cannot allocate 4194304-byte block (284950528 in use)\nfatal error: out of memory",
        ),
        (
            "Python refused",
            Some(0),
            1,
            "Traceback (most recent call last):\n  File \"<string>\", line 1, in <module>\nMemoryError",
        ),
        ("podman's own server", None, 125, "Error: server probably quit: unexpected EOF"),
        (
            "BuildKit",
            None,
            1,
            "ERROR: failed to solve: ResourceExhausted: process \"/bin/sh -c make\" did not complete successfully: cannot allocate memory",
        ),
        ("old BuildKit", None, 1, "executor failed running [/bin/sh -c make]: exit code: 137"),
    ];

    /// The ends of real builds and tools too (podman 4.3.1, rustc 1.95, gcc 12, GNU make), but for
    /// the second of a full disk and the test about memory, which are put together from what those
    /// programs print.
    const LOOK_ALIKES: [(&str, Option<u64>, i32, &str); 17] = [
        (
            "no word of it, while another was killed",
            Some(1),
            1,
            "Error: building at STEP \"RUN perl\": while running runtime: exit status 1",
        ),
        (
            "a test that exits 137",
            Some(0),
            137,
            "test failed\nError: building at STEP \"RUN exit 137\": while running runtime: exit status 137",
        ),
        (
            "killed by someone",
            Some(0),
            137,
            "Killed\nError: building at STEP \"RUN sh -c \"kill -9 $$\"\": while running runtime: exit status 137",
        ),
        (
            "a time-out of its own",
            Some(0),
            137,
            "Killed\nError: building at STEP \"RUN timeout -s KILL 1 sleep 10\": while running runtime: exit status 137",
        ),
        (
            "SIGTERM",
            Some(0),
            143,
            "Terminated\nError: building at STEP \"RUN\": while running runtime: exit status 143",
        ),
        (
            "segmentation fault",
            Some(0),
            139,
            "Segmentation fault\nError: building at STEP \"RUN\": while running runtime: exit status 139",
        ),
        ("disk full", Some(0), 1, "dd: error writing '/dev/full': No space left on device"),
        (
            "disk full while another build was killed",
            Some(1),
            125,
            "Error: writing blob: write /var/tmp/x: no space left on device",
        ),
        (
            "rustc",
            Some(0),
            1,
            "  |                    --   ^^^ expected `u8`, found `&str`\nerror: aborting due to 1 previous error",
        ),
        (
            "rustc, kernel elsewhere",
            None,
            1,
            "error: aborting due to 1 previous error\nFor more information about this error, try `rustc --explain E0308`.",
        ),
        ("make", Some(0), 2, "false\nmake: *** [/tmp/eng/Mk:2: all] Error 1"),
        ("no such command", Some(0), 127, "/bin/sh: 1: no-such-command: not found"),
        (
            "no such file",
            Some(0),
            125,
            "Error: building at STEP \"COPY nothing-there /x\": checking on sources under \"/c\": copier: stat: \"/nothing-there\": no such file or directory",
        ),
        (
            "no such base",
            None,
            125,
            "Error: creating build container: initializing source docker://x:1: no such host",
        ),
        ("apt", Some(0), 100, "E: Unable to locate package no-such-package-xtask"),
        (
            "a test about memory",
            Some(0),
            101,
            "test reports_a_memoryerror ... FAILED\ntest says_out_of_memory ... ok\ntest result: FAILED. 1 passed; 1 failed",
        ),
        (
            "source text about memory",
            None,
            1,
            "a.c:3:3: error: expected ';'\n    3 |   puts(\"out of memory\")",
        ),
    ];

    #[test]
    fn builds_killed_for_memory_are_recognised() {
        for (name, open, code, log) in KILLED_FOR_MEMORY {
            assert!(verdict(open, Some(&Ending::Code(code)), log).is_some(), "{name}");
        }
    }

    #[test]
    fn look_alikes_are_not() {
        for (name, open, code, log) in LOOK_ALIKES {
            assert_eq!(verdict(open, Some(&Ending::Code(code)), log), None, "{name}");
        }
    }

    #[test]
    fn a_stopped_build_was_not_killed_for_memory() {
        assert_eq!(verdict(Some(3), Some(&Ending::Stopped), "signal: killed"), None);
        let late = Ending::TimedOut(std::time::Duration::from_secs(1));
        assert_eq!(verdict(Some(3), Some(&late), "Killed"), None);
    }

    #[test]
    fn success_is_not_believed_when_the_kernel_says_otherwise() {
        assert_eq!(verdict(Some(0), None, "Killed"), None);
        assert_eq!(verdict(Some(1), None, "COMMIT localhost/a:1"), None, "someone else's");
        assert!(verdict(Some(1), None, "Killed\n0\nCOMMIT localhost/a:1").is_some());
        let victim = Some("`tail` at 199 MiB");
        // Without a word of its own, too.
        let failed = Ending::Code(1);
        let silent = Evidence {
            own_kills: 1,
            victim,
            open_kills: Some(0),
            lines: &[],
            ending: Some(&failed),
        };
        assert!(judge(&silent).is_some());
        let evidence =
            Evidence { own_kills: 1, victim, open_kills: Some(0), lines: &[], ending: None };
        assert_eq!(judge(&evidence).as_deref(), Some("the kernel killed `tail` at 199 MiB"));
    }
}
