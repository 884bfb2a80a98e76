//! What is sent and hardly ever wanted in a build: other tools' folders, logs, archives.
//!
//! A name says little by itself (`build/` may hold the build scripts, `dist/` the product), so
//! names that people also use for sources count only from a size on that sources do not have. A
//! `target/` beside a `Cargo.toml` is Cargo's.

use std::collections::{BTreeMap, BTreeSet};

/// A pattern worth a line in the ignore file, and what it would leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Junk {
    /// As it would be written there.
    pub pattern: String,
    pub files: u64,
    pub bytes: u64,
    /// The first of its files.
    pub example: String,
}

/// Folders that only a tool writes.
const FOLDERS: [&str; 16] = [
    "vendor",
    "node_modules",
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".gradle",
    ".terraform",
    ".next",
    ".idea",
    ".vscode",
    ".direnv",
];

/// Folders that are written by tools, mostly.
const OUTPUTS: [&str; 6] = ["target", "dist", "build", "out", "bin", "coverage"];

/// Files of these endings are left by programs that ran.
const LEFT: [&str; 5] = [".log", ".swp", ".pyc", ".DS_Store", ".test"];

/// Files of these endings are rarely sources once they are large.
const ARCHIVES: [&str; 11] = [
    ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip", ".iso", ".img", ".qcow2", ".gguf",
    ".prof",
];

/// From so many bytes on, outputs and archives are named.
const LARGE: u64 = 1 << 20;

/// What lies in one place.
struct Place<'a> {
    certain: bool,
    files: u64,
    bytes: u64,
    example: &'a str,
}

/// The junk among `files` (path and bytes of each), the largest first.
pub fn junk<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> Vec<Junk> {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut crates: BTreeSet<&str> = BTreeSet::new();
    for (path, size) in files {
        crates.extend(path.strip_suffix("Cargo.toml"));
        let Some((place, certain)) = place(path) else { continue };
        let first = || Place { certain, files: 0, bytes: 0, example: path };
        let place = places.entry(place).or_insert_with(first);
        place.files += 1;
        place.bytes += size;
    }
    places.retain(|name, place| {
        let cargos = name.strip_suffix("target/").is_some_and(|folder| crates.contains(folder));
        place.certain || cargos || place.bytes >= LARGE
    });
    let mut found: BTreeMap<String, Junk> = BTreeMap::new();
    for (name, place) in &places {
        let pattern = pattern(name, places.keys());
        let junk = found.entry(pattern.clone());
        let example = || place.example.to_owned();
        let junk = junk.or_insert_with(|| Junk { pattern, files: 0, bytes: 0, example: example() });
        junk.files += place.files;
        junk.bytes += place.bytes;
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(other.files.cmp(&one.files)));
    found
}

/// The outermost folder, or the kind of file, that makes a path junk, and whether that is certain.
fn place(path: &str) -> Option<(String, bool)> {
    let mut start = 0;
    while let Some(slash) = path[start..].find('/') {
        let name = &path[start..start + slash];
        if FOLDERS.contains(&name) || OUTPUTS.contains(&name) {
            return Some((format!("{}/", &path[..start + slash]), FOLDERS.contains(&name)));
        }
        start += slash + 1;
    }
    let ending = |endings: &'static [&'static str]| {
        endings.iter().filter(|ending| path.ends_with(**ending)).max_by_key(|ending| ending.len())
    };
    let left = ending(&LEFT).map(|ending| (format!("**/*{ending}"), true));
    left.or_else(|| ending(&ARCHIVES).map(|ending| (format!("**/*{ending}"), false)))
}

/// A folder by its path; by its name wherever it is, if there is more than one of that name.
fn pattern<'a>(place: &str, all: impl Iterator<Item = &'a String>) -> String {
    let name = |place: &str| place.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
    let is_folder = place.ends_with('/');
    let same = all.filter(|other| other.ends_with('/') && name(other) == name(place)).count();
    match name(place) {
        Some(name) if is_folder && same > 1 => format!("**/{name}/"),
        _ => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, u64)]) -> Vec<(String, u64, u64)> {
        let junk = junk(files.iter().copied());
        junk.into_iter().map(|junk| (junk.pattern, junk.files, junk.bytes)).collect()
    }

    /// Files with their bytes, and the junk expected among them.
    type Case = (&'static [(&'static str, u64)], &'static [(&'static str, u64, u64)]);

    #[test]
    fn junk_is_named_by_the_pattern_that_leaves_it_out() {
        let cases: [Case; 11] = [
            (&[("src/main.go", 9), ("vendored/x", 9), ("target", 9)], &[]),
            (&[("vendor/a/x.go", 5), ("vendor/b/node_modules/y", 6)], &[("vendor/", 2, 11)]),
            (&[("web/node_modules/a", 1)], &[("web/node_modules/", 1, 1)]),
            (&[("a/__pycache__/x", 1), ("b/__pycache__/y", 2)], &[("**/__pycache__/", 2, 3)]),
            (&[("build/Dockerfile", 100), ("dist/app.js", 200)], &[]),
            (&[("target/debug/app", LARGE)], &[("target/", 1, LARGE)]),
            (&[("a/Cargo.toml", 1), ("a/target/x", 2)], &[("a/target/", 1, 2)]),
            (&[("Cargo.toml", 1), ("a/target/x", 2)], &[]),
            (&[("a.log", 1), ("b/c.log", 2)], &[("**/*.log", 2, 3)]),
            (&[("small.zip", 10), ("images.tar.gz", LARGE)], &[("**/*.tar.gz", 1, LARGE)]),
            (&[(".git/HEAD", 1), ("vendor/x", 2)], &[("vendor/", 1, 2), (".git/", 1, 1)]),
        ];
        for (files, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(pattern, files, bytes)| ((*pattern).to_owned(), *files, *bytes))
                .collect();
            assert_eq!(found(files), expected, "{files:?}");
        }
    }
}
