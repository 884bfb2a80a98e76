//! Processes that are no children of ours, and how one of them is ended: by a handle of the
//! kernel's (a pidfd) that is taken before it is looked at, so that the signal goes to the process
//! that was looked at, and to no other that got its number meanwhile.
//!
//! A run killed by SIGKILL could not end its children. Most end by themselves, their work done. One
//! that serves for as long as it is let (`kubectl proxy`), or goes on to the next step (`podman
//! build`), is known by its command line. Words alone prove nothing: it must be that very program,
//! of this user, in our own namespace of processes.
//!
//! A command may leave children behind as well: they are in its process group or, if they have left
//! that, have its environment.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::kernel;

/// Ends every process of this program whose command line, word by word, is `ours`; gives back how
/// many.
pub fn end_strays(program: &str, signal: Signal, ours: impl Fn(&[&str]) -> bool) -> usize {
    let Some(program) = super::find(program).and_then(|file| fs_err::canonicalize(file).ok())
    else {
        return 0;
    };
    let is_stray = |folder: &Path| {
        let line = fs_err::read_to_string(folder.join("cmdline")).unwrap_or_default();
        is_of(folder, &program) && ours(&line.split_terminator('\0').collect::<Vec<_>>())
    };
    kernel::processes(Path::new("/"))
        .filter(|(pid, folder)| is_stray(folder) && signal_if(*pid, signal, || is_stray(folder)))
        .count()
}

/// Sends the signal to the process that has this number, if it `is_it`. False: nothing was sent.
pub fn signal_if(pid: i32, signal: Signal, is_it: impl FnOnce() -> bool) -> bool {
    handle(pid).is_some_and(|handle| is_it() && pidfd_send_signal(handle, signal).is_ok())
}

/// Kills those of `processes` that `listed` has once more when each of them is held by a handle.
pub fn kill_listed(processes: &[i32], listed: impl FnOnce() -> Vec<i32>) {
    let handles: Vec<(i32, OwnedFd)> =
        processes.iter().filter_map(|pid| Some((*pid, handle(*pid)?))).collect();
    let listed = listed();
    for (_, handle) in handles.iter().filter(|(pid, _)| listed.contains(pid)) {
        // Gone already is as good.
        pidfd_send_signal(handle, Signal::KILL).ok();
    }
}

fn handle(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Whether a process runs this program, is this user's, and is in our namespace of processes: in
/// another one, it is a container's, whose run we know nothing of.
fn is_of(folder: &Path, program: &Path) -> bool {
    let link = |name: &str| fs_err::read_link(folder.join(name)).ok();
    let exe = link("exe").map(|exe| {
        // So the kernel calls one that was replaced by an upgrade.
        let text = exe.to_string_lossy();
        text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(exe.clone())
    });
    let namespace = link("ns/pid");
    let user = fs_err::metadata(folder).map(|metadata| metadata.uid());
    exe.is_some_and(|exe| exe == program)
        && user.is_ok_and(|user| user == rustix::process::geteuid().as_raw())
        && namespace.is_some()
        && namespace == fs_err::read_link("/proc/self/ns/pid").ok()
}

/// The living processes of a group, each as people call it; none if the kernel does not list
/// processes.
pub(super) fn group(id: u32) -> Option<Vec<String>> {
    if !Path::new("/proc/self/stat").exists() {
        return None;
    }
    let mut members = Vec::new();
    for (pid, folder) in kernel::processes(Path::new("/")) {
        // A process that has ended meanwhile is none of them.
        let Ok(stat) = fs_err::read_to_string(folder.join("stat")) else { continue };
        if lives_in(&stat, id) {
            members.push(called(pid, &folder));
        }
    }
    Some(members)
}

/// The living processes that `leader` has left: those of its group, and those with `variable`
/// (`NAME=VALUE`) in their environment.
pub(super) fn left(leader: u32, variable: &str) -> Vec<String> {
    let mut left = group(leader).unwrap_or_default();
    for (pid, folder) in kernel::processes(Path::new("/")) {
        // That of a process of somebody else, or of one that has ended, cannot be read.
        let environment = fs_err::read(folder.join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
        let name = if is_ours && u32::try_from(pid) != Ok(leader) {
            called(pid, &folder)
        } else {
            continue;
        };
        if !left.contains(&name) {
            left.push(name);
        }
    }
    left
}

/// A process as people call it.
fn called(pid: i32, process: &Path) -> String {
    let line = fs_err::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!("`{}` (process {pid})", words.join(" ").trim_end())
}

/// Whether a line `PID (NAME) STATE PARENT GROUP …` is of a process of that group that has not
/// ended. The name may hold anything.
fn lives_in(stat: &str, group: u32) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut words = rest.split_whitespace();
    let state = words.next();
    let of = words.nth(1).and_then(|word| word.parse().ok());
    of == Some(group) && !matches!(state, Some("Z" | "X" | "x"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Ending, Tool};
    use super::*;

    #[test]
    fn a_group_is_its_living_members_whatever_they_are_called() {
        let cases = [
            ("7 (sleep) S 1 42 7", true),
            ("7 (a) b) (c) R 1 42 7", true),
            ("42 (sh) Z 1 42 7", false),
            ("7 (x 42) S 42 7 42", false),
            ("", false),
        ];
        for (stat, expected) in cases {
            assert_eq!(lives_in(stat, 42), expected, "{stat}");
        }
    }

    #[test]
    fn what_a_command_leaves_is_named_in_its_group_and_outside() {
        let mark = format!("XTASK_LEFT={}", std::process::id());
        let time = format!("600.{}2", std::process::id());
        let left_by = |script: &str| {
            let (name, value) = mark.split_once('=').unwrap();
            let tool = Tool::new("sh").arg("-c").arg(script).env(name, value);
            let output =
                tool.grace(Duration::from_secs(1)).names_left(mark.as_str()).run().unwrap();
            end_strays("sleep", Signal::TERM, |words| words.last() == Some(&time.as_str()));
            assert!(output.left.iter().all(|left| left.contains(&time)), "{:?}", output.left);
            (output.left.len(), output.held)
        };
        assert_eq!(left_by("true"), (0, false));
        assert_eq!(left_by(&format!("sleep {time} >/dev/null 2>&1 &")), (1, false));
        assert_eq!(left_by(&format!("sleep {time} &")), (1, true));
        // In a session of its own, seen to be there.
        let apart = format!(
            "setsid sleep {time} >/dev/null 2>&1 & \
             until tr '\\0' ' ' < /proc/$!/cmdline | grep -q '^sleep'; do :; done"
        );
        assert_eq!(left_by(&apart), (1, false));
    }

    #[test]
    fn only_the_program_with_the_command_line_that_is_meant_is_ended() {
        let time = format!("600.{}", std::process::id());
        let other = format!("{time}1");
        let mut child = Tool::new("sleep").arg(&time).start().unwrap();
        let spared = Tool::new("sleep").arg(&other).start().unwrap();
        // The same words, of another program: an editor with that text in its arguments.
        let script = "sleep 600; :";
        let words = Tool::new("bash").args(["-c", script, "editor", &time]).start().unwrap();
        let ended = end_strays("sleep", Signal::TERM, |words| words.last() == Some(&time.as_str()));
        assert_eq!(ended, 1);
        assert!(child.wait(|_, _| {}).is_err());
        for (spared, word) in [(spared, &other), (words, &time)] {
            let line = fs_err::read_to_string(format!("/proc/{}/cmdline", spared.id())).unwrap();
            assert!(line.contains(word.as_str()), "{line}");
        }
        assert_eq!(end_strays("no-such-program", Signal::TERM, |_| true), 0);
    }

    #[test]
    fn a_process_is_killed_only_if_it_is_still_the_one_that_is_meant() {
        let mut child = Tool::new("sleep").arg("600").start().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!signal_if(pid, Signal::KILL, || false));
        kill_listed(&[pid], Vec::new);
        let there = fs_err::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(there.contains("sleep"), "{there}");
        kill_listed(&[pid], || vec![pid]);
        assert_eq!(child.wait(|_, _| {}).unwrap_err().ending, Ending::Signal(9));
        assert!(!signal_if(i32::MAX, Signal::KILL, || true));
    }
}
