//! Folders by weight, as a tree with bars.
//!
//! A folder is shown if it holds at least a twentieth of the whole; one that holds nothing but
//! another folder shares its line. Bars are block characters where colour is shown, `#` elsewhere.

use std::collections::BTreeMap;

use crate::text::{DIM, OFF, bytes, plural};

/// A folder, with all below it.
#[derive(Debug, Default)]
pub struct Folder {
    pub bytes: u64,
    pub files: u64,
    /// Files that lie in it itself.
    own: u64,
    folders: BTreeMap<String, Folder>,
}

/// Levels that are shown.
const DEPTH: usize = 4;

/// A folder is shown if it holds one part in so many.
const LEAST: u64 = 20;

/// Characters of the bar of everything.
const WIDTH: usize = 16;

impl Folder {
    /// Counts a file of `size` bytes at `path`, in every folder it lies in.
    pub fn add(&mut self, path: &str, size: u64) {
        self.bytes += size;
        self.files += 1;
        match path.split_once('/') {
            Some((folder, rest)) => {
                if !self.folders.contains_key(folder) {
                    self.folders.insert(folder.to_owned(), Folder::default());
                }
                self.folders.entry(folder.to_owned()).and_modify(|folder| folder.add(rest, size));
            }
            None => self.own += 1,
        }
    }

    /// One line a folder, the heaviest first; with `blocks`, bars of block characters.
    pub fn lines(&self, blocks: bool) -> Vec<String> {
        let mut lines = Vec::new();
        self.lines_below(self.bytes, 0, blocks, &mut lines);
        lines
    }

    fn lines_below(&self, total: u64, depth: usize, blocks: bool, lines: &mut Vec<String>) {
        let shown = self.folders.iter().filter(|(_, folder)| folder.bytes * LEAST >= total.max(1));
        let mut shown: Vec<_> = shown.map(|(name, folder)| folder.without_detours(name)).collect();
        shown.sort_by_key(|(_, folder)| std::cmp::Reverse(folder.bytes));
        for (name, folder) in shown {
            let size = bytes(folder.bytes);
            let bar = bar(folder.bytes, total, blocks);
            let indent = "  ".repeat(depth);
            let files = plural(folder.files, "file");
            lines.push(format!("{size:>10}  {bar}  {indent}{name}/ {DIM}{files}{OFF}"));
            if depth + 1 < DEPTH {
                folder.lines_below(total, depth + 1, blocks, lines);
            }
        }
    }

    /// The first folder below that holds more than one folder, by its name from here.
    fn without_detours(&self, name: &str) -> (String, &Folder) {
        match self.folders.iter().next() {
            Some((below, folder)) if self.own == 0 && self.folders.len() == 1 => {
                folder.without_detours(&format!("{name}/{below}"))
            }
            _ => (name.to_owned(), self),
        }
    }
}

/// `part` of `whole` as a bar, padded to its full width.
fn bar(part: u64, whole: u64, blocks: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let full = 8 * WIDTH;
    let eighths = u128::from(part) * full as u128 / u128::from(whole.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(full);
    let bar = if blocks {
        "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
    } else {
        "#".repeat((eighths + 4) / 8)
    };
    format!("{bar:<WIDTH$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(files: &[(&str, u64)], blocks: bool) -> String {
        let mut root = Folder::default();
        for (path, size) in files {
            root.add(path, *size);
        }
        root.lines(blocks).join("\n").replace(DIM, "").replace(OFF, "")
    }

    #[test]
    fn the_heaviest_come_first_and_the_light_are_left_out() {
        let files = [
            ("a/x", 30),
            ("b/c/d/one", 40),
            ("b/c/d/e/two", 20),
            ("b/c/d/light/f", 4),
            ("root.txt", 6),
        ];
        insta::assert_snapshot!(lines(&files, false), @"
              64 B  ##########        b/c/d/ 3 files
              20 B  ###                 e/ 1 file
              30 B  #####             a/ 1 file
        ");
        insta::assert_snapshot!(lines(&files, true), @"
              64 B  ██████████▏       b/c/d/ 3 files
              20 B  ███▏                e/ 1 file
              30 B  ████▊             a/ 1 file
        ");
    }

    #[test]
    fn nothing_has_no_tree() {
        assert_eq!(lines(&[], true), "");
        assert_eq!(lines(&[("a/empty", 0)], true), "");
    }
}
