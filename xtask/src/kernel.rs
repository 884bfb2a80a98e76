//! What the kernel's files say of this host. All are below a root, so that tests bring their own.

use std::path::{Path, PathBuf};

/// A control group, by its path in the hierarchy and by its folder below the root.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) path: String,
    pub(crate) folder: String,
}

/// The processes there are, each with its folder.
pub(crate) fn processes(root: &Path) -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = fs_err::read_dir(root.join("proc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// The bytes of a line `NAME   123 kB`, as `/proc/meminfo` and `/proc/PID/status` have them.
pub(crate) fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// `MemAvailable`, in bytes.
pub(crate) fn available(root: &Path) -> Option<u64> {
    bytes(&fs_err::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")
}

/// The process that holds the lock (`flock`) of a file, by the file's inode.
pub(crate) fn lock_holder(root: &Path, inode: u64) -> Option<i32> {
    let locks = fs_err::read_to_string(root.join("proc/locks")).ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`; one that waits has `->` behind its number.
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, file, ..] = words[..] else { return None };
        let of_file = file.rsplit(':').next()?.parse() == Ok(inode);
        process.parse().ok().filter(|_| of_file)
    })
}

/// The groups that a process is in, by one controller, and all above them, be they there or not.
pub(crate) fn groups(root: &Path, process: &str, controller: &str) -> Vec<Group> {
    let file = root.join("proc").join(process).join("cgroup");
    let text = fs_err::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| groups_of(line, controller)).flatten().collect()
}

/// Those of one line: `4:memory:/a/b`, or `0::/a/b` in version 2, which has one hierarchy for all
/// controllers.
fn groups_of(line: &str, controller: &str) -> Option<Vec<Group>> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let mount = match controllers {
        "" if id == "0" => "sys/fs/cgroup".to_owned(),
        names if names.split(',').any(|name| name == controller) => {
            format!("sys/fs/cgroup/{controller}")
        }
        _ => return None,
    };
    // Above our namespace nothing can be read, and the namespace's root is the mount's.
    let path = if path.contains("..") { "/" } else { path };
    let group = |path: &Path| {
        let path = path.to_string_lossy().into_owned();
        Group { folder: format!("{mount}{}", path.trim_end_matches('/')), path }
    };
    Some(Path::new(path).ancestors().map(group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_and_who_waits_for_it_is_not() {
        let locks = "1: -> FLOCK  ADVISORY  WRITE 7 08:01:131 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 8 08:01:131 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 08:01:1310 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF\n";
        let root = crate::fixture::folder(&[("proc/locks", locks)]);
        assert_eq!(lock_holder(root.path(), 131), Some(4711));
        assert_eq!(lock_holder(root.path(), 13), None);
        assert_eq!(lock_holder(&root.path().join("none"), 131), None);
    }
}
