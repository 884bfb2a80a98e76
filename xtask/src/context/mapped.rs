//! Files that a running program has mapped into its memory and shares: it may change them without a
//! trace.
//!
//! The kernel dates a write through a mapping when a page is first touched, not when it is touched
//! again (seen on ext4 and tmpfs), so the stat of such a file vouches for nothing, however old it
//! is; git takes the file for unchanged. A mapping made after this look leaves its trace at the
//! first touch. Who maps what stands in `/proc/PID/maps`; a program of another user, or of another
//! machine that has the disk too, is not seen.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use crate::kernel;

/// Inodes of all files that are mapped and shared, on whatever device.
pub(super) fn inodes() -> HashSet<u64> {
    let processes: Vec<_> = kernel::processes(Path::new("/")).collect();
    processes.par_iter().flat_map_iter(|(_, folder)| inodes_of(folder)).collect()
}

fn inodes_of(process: &Path) -> Vec<u64> {
    // Some are gone by now or not ours to read.
    let maps = fs_err::read(process.join("maps")).unwrap_or_default();
    maps.split(|byte| *byte == b'\n').filter_map(shared).collect()
}

/// The inode of a line `ADDRESSES rw-s OFFSET DEVICE INODE PATH`.
fn shared(line: &[u8]) -> Option<u64> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    fields.nth(1).filter(|access| access.ends_with(b"s"))?;
    let inode = str::from_utf8(fields.nth(2)?).ok()?;
    inode.parse().ok().filter(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_mappings_of_files_count() {
        let table = [
            ("7f8a1c000000-7f8a1c001000 rw-s 00000000 fe:00 131072 /src/db", Some(131_072)),
            ("7f8a1c000000-7f8a1c001000 r--s 00001000 00:1b 7   /src/with blank", Some(7)),
            ("7f8a1c000000-7f8a1c001000 rw-p 00000000 fe:00 131072 /lib/libc.so", None),
            ("7f8a1c000000-7f8a1c001000 rw-s 00000000 00:00 0 ", None),
            ("7ffd5e1f2000-7ffd5e213000 rw-p 00000000 00:00 0 [stack]", None),
            ("", None),
        ];
        for (line, inode) in table {
            assert_eq!(shared(line.as_bytes()), inode, "{line}");
        }
    }
}
