//! Files and folders that a suite reads besides its images.
//!
//! | of | what |
//! | --- | --- |
//! | a step's manifests | the folder or file, and whatever its kustomizations or charts name above themselves |
//! | a chart, its values, files of a Secret | themselves |
//! | a step that is a command | everything: nothing says what it reads |
//! | the cluster | kind's own configuration |
//! | the test | its `inputs`; without, the closure of the packages that `cargo test` names, else everything |
//!
//! A link is read twice: as the link, and as what it leads to. What a kustomization names is not
//! understood, only found: every text in it that climbs out of its folder, be it a resource, a
//! component, `KEY=../FILE` of a generator, or a word of a patch.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use dockerignore::Rules;
use walkdir::WalkDir;

use crate::config::{self, Action, Config, Suite, Test};
use crate::context;
use crate::repository;

/// Files whose words may lead out of their folder.
const LEADING: [&str; 5] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml", "requirements.yaml"];

/// What a suite reads. Paths are absolute, without `..`, and some of them without links.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Files and whole folders.
    paths: BTreeSet<PathBuf>,
    /// Folders without those in them: packages of Go.
    folders: BTreeSet<PathBuf>,
    /// Patterns, relative to a folder.
    globs: Option<(PathBuf, Rules)>,
}

impl Inputs {
    pub(crate) fn of(config: &Config, suite: &Suite) -> Self {
        let root = canonical(&config.root);
        let mut inputs = Self::default();
        for step in &suite.steps {
            match &step.action {
                Action::Apply(manifests) => inputs.add(config, &root, manifests),
                Action::Helm(chart) => {
                    inputs.add(config, &root, &chart.path);
                    chart.values.iter().for_each(|values| inputs.add(config, &root, values));
                }
                Action::FromFiles(made) => {
                    made.files.values().for_each(|file| inputs.add(config, &root, file));
                }
                Action::Run(_) => inputs.everything(),
            }
        }
        let cluster = config.clusters.get(&suite.cluster);
        if let Some(file) = cluster.and_then(|cluster| cluster.config.as_ref()) {
            inputs.add(config, &root, file);
        }
        if let Some(test) = &suite.test
            && inputs.test(test, &root).is_none()
        {
            inputs.everything();
        }
        inputs
    }

    /// Whether it reads a path that was changed. What was a folder and is none any more (a link, a
    /// submodule) has changed with all that was in it.
    pub(crate) fn read(&self, changed: &Path) -> bool {
        let is_in = |path: &PathBuf| changed.starts_with(path) || path.starts_with(changed);
        let is_of = |(folder, globs): &(PathBuf, Rules)| {
            let path = changed.strip_prefix(folder).ok();
            path.is_some_and(|path| globs.ignores(path.as_os_str().as_bytes()).unwrap_or(true))
        };
        self.paths.iter().any(is_in)
            || changed.parent().is_some_and(|folder| self.folders.contains(folder))
            || self.globs.as_ref().is_some_and(is_of)
    }

    /// What it reads that lies outside `top`, where no change can be seen.
    pub(crate) fn outside(&self, top: &Path) -> impl Iterator<Item = &Path> {
        let paths = self.paths.iter().map(PathBuf::as_path);
        paths.filter(move |path| !path.starts_with(top) && !top.starts_with(path))
    }

    fn everything(&mut self) {
        self.paths.insert(PathBuf::from("/"));
    }

    /// What the configuration names.
    fn add(&mut self, config: &Config, root: &Path, path: &Path) {
        let path = match path.strip_prefix(&config.root) {
            Ok(rest) => root.join(rest),
            Err(_) => path.to_owned(),
        };
        self.reach(&plain(&path));
    }

    /// A path, what it leads to, and what is named there.
    fn reach(&mut self, path: &Path) {
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        let real = canonical(path);
        if real != path {
            self.reach(&real);
        } else if real.is_dir() {
            self.look_into(&real);
        } else if is_leading(path) {
            self.follow(path);
        }
    }

    fn look_into(&mut self, folder: &Path) {
        let walk = WalkDir::new(folder).min_depth(1).into_iter();
        for entry in walk.filter_entry(|entry| entry.file_name() != ".git").flatten() {
            if entry.path_is_symlink() {
                self.reach(entry.path());
            } else if !entry.file_type().is_dir() && is_leading(entry.path()) {
                self.follow(entry.path());
            }
        }
    }

    /// Every text of a file that climbs out of its folder.
    fn follow(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let Some(texts) = repository::texts(file) else { return self.everything() };
        for text in &texts {
            let text = text.strip_prefix("file://").unwrap_or(text);
            let value = text.split_once('=').map(|(_, value)| value);
            for path in [Some(text), value].into_iter().flatten().map(Path::new) {
                let climbs = path.components().any(|part| part == Component::ParentDir);
                if climbs && path.is_relative() {
                    self.reach(&plain(&folder.join(path)));
                }
            }
        }
    }

    /// None if nothing says what the test reads.
    fn test(&mut self, test: &Test, root: &Path) -> Option<()> {
        let globs = match &test.inputs {
            None => {
                for package in packages(&test.run)? {
                    self.closure(&package, root)?;
                }
                return Some(());
            }
            Some(config::Inputs::Dockerfile) => return None,
            Some(config::Inputs::Globs(globs)) => globs,
            Some(config::Inputs::Cargo { package, also }) => {
                self.closure(package, root)?;
                also
            }
            Some(config::Inputs::Go { package, also }) => {
                let files = context::go_package(root, package).ok()?;
                let files = files.iter().map(|file| root.join(file));
                self.folders.extend(files.filter_map(|file| Some(file.parent()?.to_owned())));
                also
            }
        };
        let globs = Rules::from_patterns(globs.iter().map(String::as_str)).ok()?;
        self.globs = Some((root.to_owned(), globs));
        Some(())
    }

    fn closure(&mut self, package: &str, root: &Path) -> Option<()> {
        let folders = context::package_folders(root, package).ok()?;
        self.paths.extend(folders.iter().map(|folder| root.join(folder)));
        Some(())
    }
}

fn is_leading(path: &Path) -> bool {
    LEADING.iter().any(|name| path.ends_with(name))
}

/// The packages that a `cargo test` or `cargo nextest run` names; none of another command, and none
/// if it names no packages or has them from somewhere else.
fn packages(command: &[String]) -> Option<Vec<String>> {
    let mut words = command.iter().map(String::as_str).take_while(|word| *word != "--");
    if Path::new(words.next()?).file_name()? != "cargo" {
        return None;
    }
    let words: Vec<&str> = words.skip_while(|word| word.starts_with('+')).collect();
    let (["test" | "t", rest @ ..] | ["nextest", "run" | "r", rest @ ..]) = words.as_slice() else {
        return None;
    };
    let mut packages = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let package = match *word {
            "--workspace" | "--all" | "--manifest-path" | "-C" => return None,
            "-p" | "--package" => rest.next().copied(),
            word if word.starts_with("--manifest-path=") => return None,
            word => match word.strip_prefix("--package=") {
                Some(package) => Some(package),
                None => word.strip_prefix("-p").map(|package| package.trim_start_matches('=')),
            },
        };
        // `-p 'spec-*'`, `-p name@1.0`
        match package {
            Some(package) if package.contains(['*', '?', '[', '@', ':', '#', '/']) => return None,
            package => packages.extend(package.map(str::to_owned)),
        }
    }
    (!packages.is_empty()).then_some(packages)
}

fn canonical(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A path without `.` and `..`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_those_that_cargo_is_given() {
        for (command, expected) in [
            ("cargo test --package a", Some("a")),
            ("cargo test -p a -p b", Some("a b")),
            ("cargo test -pa --package=b -p=c", Some("a b c")),
            ("/bin/cargo +nightly test -p a -- -p b", Some("a")),
            ("cargo nextest run --profile ci -p a", Some("a")),
            ("cargo test", None),
            ("cargo test --workspace -p a", None),
            ("cargo test --manifest-path x/Cargo.toml -p a", None),
            ("cargo test -p a-*", None),
            ("cargo run -p a", None),
            ("go test ./...", None),
            ("sh -c x", None),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            let found = packages(&words).map(|packages| packages.join(" "));
            assert_eq!(found.as_deref(), expected, "{command}");
        }
    }
}
