//! Whom the kernel has killed for memory, from its own log.
//!
//! `/proc/vmstat` says how many, a control group's file says so until the group is removed, which
//! is a moment after the kill. The log (`/dev/kmsg`) says who, in which group, and how much it had.
//! Not everyone may read it.
//!
//! ```text
//! 4,101,5,-;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/a/xtask-r-gateway-7/run,task=tail,pid=188,uid=0
//! 3,102,6,-;Memory cgroup out of memory: Killed process 188 (tail) total-vm:206412kB, anon-rss:204032kB, …
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;

/// A process the kernel has killed for memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kill {
    /// The control group it was in.
    pub group: String,
    pub program: String,
    pub process: i32,
    /// Bytes of anonymous memory it had.
    pub had: Option<u64>,
}

/// The log from the moment it was opened on.
#[derive(Debug)]
pub(super) struct KernelLog(File);

impl KernelLog {
    /// None where we may not read it.
    pub(super) fn from_now() -> Option<Self> {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).ok()?;
        let mut file =
            OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// The kills since.
    pub(super) fn kills(mut self) -> Vec<Kill> {
        let mut text = String::new();
        // One read is one record, never more than this.
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(read) => text.push_str(&String::from_utf8_lossy(&record[..read])),
                // Overtaken by newer records: the next read goes on with the oldest there is.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        kills(&text)
    }
}

fn kills(log: &str) -> Vec<Kill> {
    let mut kills: Vec<Kill> = log.lines().filter_map(kill).collect();
    for (process, had) in log.lines().filter_map(size) {
        if let Some(kill) = kills.iter_mut().find(|kill| kill.process == process) {
            kill.had = Some(had);
        }
    }
    kills
}

fn kill(line: &str) -> Option<Kill> {
    let (_, rest) = line.split_once("oom-kill:")?;
    let (_, rest) = rest.split_once("task_memcg=")?;
    let (group, rest) = rest.split_once(",task=")?;
    let (program, rest) = rest.rsplit_once(",pid=")?;
    let process = rest.split(',').next()?.parse().ok()?;
    Some(Kill { group: group.to_owned(), program: program.to_owned(), process, had: None })
}

fn size(line: &str) -> Option<(i32, u64)> {
    let (_, rest) = line.split_once("Killed process ")?;
    let process = rest.split(' ').next()?.parse().ok()?;
    let (_, rest) = rest.split_once("anon-rss:")?;
    let kib: u64 = rest.split("kB").next()?.parse().ok()?;
    Some((process, kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_with_group_program_and_size() {
        let log = "\
            6,1,1,-;tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n\
            6,2,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=run,\
            mems_allowed=0,oom_memcg=/lim,task_memcg=/lim/run,task=a,b,pid=18848,uid=0\n\
            3,3,1,-;Memory cgroup out of memory: Killed process 18848 (a,b) \
            total-vm:206412kB, anon-rss:204032kB, file-rss:1332kB, UID:0\n\
            6,4,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,\
            global_oom,task_memcg=/,task=rustc,pid=7,uid=0\n";
        let expected = [
            Kill {
                group: "/lim/run".into(),
                program: "a,b".into(),
                process: 18848,
                had: Some(204_032 << 10),
            },
            Kill { group: "/".into(), program: "rustc".into(), process: 7, had: None },
        ];
        assert_eq!(kills(log), expected);
    }
}
