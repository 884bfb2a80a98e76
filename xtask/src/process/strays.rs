//! Processes that a run killed by SIGKILL has left: it could not end its children.
//!
//! Most end by themselves, their work done. One that serves for as long as it is let (`kubectl proxy`)
//! never does; it is known by its command line, which names what only one run at a time may use.

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

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::*;

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
