//! Processes that outlive what started them.
//!
//! A run killed by SIGKILL could not end its children. Most end by themselves, their work done. One that
//! serves for as long as it is let (`kubectl proxy`) never does; it is known by its command line, which
//! names what only one run at a time may use. A command may leave children behind as well: they are in its
//! process group or, if they have left that, have its environment.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::kernel;

/// Ends every process whose command line, word by word, is `ours`.
pub fn end_strays(ours: impl Fn(&[&str]) -> bool) {
    for (pid, folder) in kernel::processes(Path::new("/")) {
        let Some(pid) = Pid::from_raw(pid) else { continue };
        let Ok(line) = fs_err::read_to_string(folder.join("cmdline")) else { continue };
        if ours(&line.split_terminator('\0').collect::<Vec<_>>()) {
            // Gone already is as good.
            kill_process(pid, Signal::TERM).ok();
        }
    }
}

/// The living processes of a group, each as people call it; none if the kernel does not list processes.
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

/// The living processes that `leader` has left: those of its group, and those with `variable` (`NAME=VALUE`) in their
/// environment.
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

/// Whether a line `PID (NAME) STATE PARENT GROUP …` is of a process of that group that has not ended. The name
/// may hold anything.
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

    use super::super::Tool;
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
            let output = tool.grace(Duration::from_secs(1)).names_left(&mark).run().unwrap();
            end_strays(|words| words.last() == Some(&time.as_str()));
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
    fn only_the_command_line_that_is_meant_is_ended() {
        let time = format!("600.{}", std::process::id());
        let other = format!("{time}1");
        let mut child = Tool::new("sleep").arg(&time).start().unwrap();
        let spared = Tool::new("sleep").arg(&other).start().unwrap();
        end_strays(|words| words.last() == Some(&time.as_str()));
        assert!(child.wait(|_, _| {}).is_err());
        let line = fs_err::read_to_string(format!("/proc/{}/cmdline", spared.id())).unwrap();
        assert!(line.contains(&other));
    }
}
