//! `inputs = { cargo = "PACKAGE" }`: the package, the workspace members it is built from, and the
//! workspace's manifest and lock as far as they concern them.
//!
//! The closure is read from the manifests themselves: a path dependency, or a workspace dependency
//! with a path, of any kind (normal, build, dev: cargo needs the manifests of all of them) leads to
//! the next member. `cargo metadata` gives the same answer (a test holds that) and takes longer
//! than the whole walk. Members outside the closure would have to be there for cargo to accept the
//! workspace, so the image is given a manifest without them and a lock without what only they need:
//! a dependency added elsewhere then changes no key. Both are made anew in sorted order, and what
//! was made is what is hashed and staged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use toml::{Table, Value};

use crate::plain_file;
use dockerfile::glob::Glob;

/// A Cargo workspace, read once for all images of its context.
#[derive(Debug)]
pub(super) struct Workspace {
    manifest: Table,
    lock: Option<Table>,
    /// By package name.
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    /// Relative to the context, `/` between parts; empty for a package at the root.
    folder: String,
    /// Folders of the path dependencies, likewise.
    paths: BTreeSet<String>,
    /// Names it takes from `[workspace.dependencies]`.
    inherited: BTreeSet<String>,
}

/// What a package is built from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closure {
    /// Folders that belong to it, relative to the context.
    pub folders: Vec<String>,
    /// Folders of members below those that do not.
    pub others: Vec<String>,
    /// `Cargo.toml` and `Cargo.lock` as far as they concern it.
    pub made: Vec<(&'static str, Vec<u8>)>,
}

/// Files at the workspace's root that reach into every build.
pub(super) const SHARED: [&str; 4] =
    [".cargo/config.toml", ".cargo/config", "rust-toolchain.toml", "rust-toolchain"];

/// Reads the workspace whose root is the context at `root`.
pub(super) fn read(root: &Path) -> Result<Workspace> {
    let manifest = table(&root.join("Cargo.toml"))?;
    let lock = root.join("Cargo.lock");
    let lock = lock.is_file().then(|| table(&lock)).transpose()?;
    let mut workspace = Workspace { manifest, lock, members: BTreeMap::new() };
    let mut folders = member_folders(root, &workspace.manifest)?;
    if workspace.manifest.contains_key("package") {
        folders.insert(String::new());
    }
    while let Some(folder) = folders.pop_first() {
        let manifest = table(&root.join(&folder).join("Cargo.toml"))?;
        let Some(name) = name(&manifest) else { continue };
        let member = workspace.member(&folder, &manifest);
        // A path dependency inside the workspace is a member though no list names it.
        let known: BTreeSet<_> = workspace.members.values().map(|m| m.folder.clone()).collect();
        folders.extend(member.paths.difference(&known).filter(|path| **path != folder).cloned());
        workspace.members.insert(name, member);
    }
    Ok(workspace)
}

impl Workspace {
    /// What `package` is built from.
    pub(super) fn closure(&self, package: &str) -> Result<Closure> {
        let by_folder: BTreeMap<&str, &str> =
            self.members.iter().map(|(name, member)| (&*member.folder, &**name)).collect();
        let mut reached = BTreeSet::new();
        let mut next = vec![package];
        while let Some(name) = next.pop() {
            let member = self.members.get(name).ok_or_else(|| self.unknown(name))?;
            if reached.insert(name) {
                next.extend(member.paths.iter().filter_map(|path| by_folder.get(&**path)));
            }
        }
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.members.iter().partition(|(name, _)| reached.contains(&***name));
        let folder = |(_, member): (&String, &Member)| member.folder.clone();
        let mut made = vec![("Cargo.toml", self.pruned_manifest(&reached)?)];
        if let Some(lock) = &self.lock {
            made.push(("Cargo.lock", pruned_lock(lock, &reached)?));
        }
        Ok(Closure {
            folders: inside.into_iter().map(folder).collect(),
            others: outside.into_iter().map(folder).collect(),
            made,
        })
    }

    fn unknown(&self, package: &str) -> anyhow::Error {
        let members: Vec<_> = self.members.keys().map(String::as_str).collect();
        anyhow!("there is no package `{package}` in the workspace (it has {})", members.join(", "))
    }

    fn member(&self, folder: &str, manifest: &Table) -> Member {
        let mut member =
            Member { folder: folder.into(), paths: BTreeSet::new(), inherited: BTreeSet::new() };
        for (name, dependency) in dependencies(manifest) {
            let inherits = dependency.get("workspace").and_then(Value::as_bool) == Some(true);
            let (base, path) = if inherits {
                member.inherited.insert(name.clone());
                ("", self.shared(name).and_then(|shared| shared.get("path")))
            } else {
                (folder, dependency.get("path"))
            };
            let path = path.and_then(Value::as_str).and_then(|path| join(base, path));
            member.paths.extend(path);
        }
        member
    }

    fn shared(&self, name: &str) -> Option<&Value> {
        self.manifest.get("workspace")?.get("dependencies")?.get(name)
    }

    /// The root manifest with the members and shared dependencies of `reached` alone.
    fn pruned_manifest(&self, reached: &BTreeSet<&str>) -> Result<Vec<u8>> {
        let members = || reached.iter().filter_map(|name| self.members.get(*name));
        let mut manifest = self.manifest.clone();
        if members().all(|member| !member.folder.is_empty()) {
            // A package at the root that is not wanted leaves with all its sections.
            manifest.retain(|section, _| {
                ["workspace", "profile", "patch", "replace", "cargo-features"].contains(&section)
            });
        }
        if let Some(Value::Table(workspace)) = manifest.get_mut("workspace") {
            let folders = members().filter(|member| !member.folder.is_empty());
            let folders = folders.map(|member| Value::String(member.folder.clone())).collect();
            workspace.insert("members".into(), Value::Array(folders));
            workspace.remove("exclude");
            workspace.remove("default-members");
            let used: BTreeSet<&str> =
                members().flat_map(|member| &member.inherited).map(String::as_str).collect();
            if let Some(Value::Table(shared)) = workspace.get_mut("dependencies") {
                shared.retain(|name, _| used.contains(name));
            }
        }
        Ok(toml::to_string(&manifest).context("failed to write a manifest")?.into_bytes())
    }
}

/// The lock with the packages that those of `reached` lead to.
fn pruned_lock(lock: &Table, reached: &BTreeSet<&str>) -> Result<Vec<u8>> {
    let packages = lock.get("package").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |package: &Value, field: &str| {
        package.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    // A dependency reads `name`, `name version` or `name version (source)`, as much as is needed.
    let matches = |package: &Value, wanted: &str| {
        let mut words = wanted.splitn(3, ' ');
        words.next() == Some(&text(package, "name"))
            && words.next().is_none_or(|version| version == text(package, "version"))
            && words.next().is_none_or(|source| source == format!("({})", text(package, "source")))
    };
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, package) in packages.iter().enumerate() {
        by_name.entry(text(package, "name")).or_default().push(at);
    }
    let mut kept = BTreeSet::new();
    let local = |at: &usize| packages[*at].get("source").is_none();
    let mut next: Vec<usize> = reached
        .iter()
        .filter_map(|name| by_name.get(*name))
        .flatten()
        .copied()
        .filter(local)
        .collect();
    while let Some(at) = next.pop() {
        if !kept.insert(at) {
            continue;
        }
        let wanted = packages[at].get("dependencies").and_then(Value::as_array);
        for wanted in wanted.into_iter().flatten().filter_map(Value::as_str) {
            let name = wanted.split(' ').next().unwrap_or_default();
            let named = by_name.get(name).into_iter().flatten();
            next.extend(named.filter(|at| matches(&packages[**at], wanted)));
        }
    }
    let mut pruned = lock.clone();
    let kept = kept.into_iter().map(|at| packages[at].clone()).collect();
    pruned.insert("package".into(), Value::Array(kept));
    Ok(toml::to_string(&pruned).context("failed to write a lock")?.into_bytes())
}

fn table(file: &Path) -> Result<Table> {
    plain_file::read_to_string(file)?
        .parse()
        .with_context(|| format!("failed to read the manifest `{}`", file.display()))
}

fn name(manifest: &Table) -> Option<String> {
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}

/// Every dependency of a manifest, of every kind and target.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    std::iter::once(manifest).chain(targets).flat_map(|table| {
        ["dependencies", "build-dependencies", "dev-dependencies"]
            .into_iter()
            .filter_map(|kind| table.get(kind)?.as_table())
            .flatten()
    })
}

/// The folders `[workspace] members` names, globs expanded, `exclude` left out.
fn member_folders(root: &Path, manifest: &Table) -> Result<BTreeSet<String>> {
    let list = |key: &str| -> Vec<String> {
        let list = manifest.get("workspace").and_then(|workspace| workspace.get(key));
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).filter_map(|path| join("", path)).collect()
    };
    let excluded: BTreeSet<String> = list("exclude").into_iter().collect();
    let mut folders = BTreeSet::new();
    for pattern in list("members") {
        folders.extend(expand(root, &pattern)?);
    }
    folders.retain(|folder| !excluded.contains(folder));
    Ok(folders)
}

/// The folders with a manifest that a member pattern stands for: `*` and `?` within one part.
fn expand(root: &Path, pattern: &str) -> Result<Vec<String>> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![pattern.to_owned()]);
    }
    if pattern.contains('[') {
        bail!("failed to expand the workspace member `{pattern}`: `[` is not understood");
    }
    let mut found = vec![String::new()];
    for part in pattern.split('/') {
        let mut next = Vec::new();
        for folder in &found {
            let Some(glob) = Glob::parse(part).filter(|_| part.contains(['*', '?'])) else {
                next.extend(join(folder, part));
                continue;
            };
            for entry in fs_err::read_dir(root.join(folder))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if glob.matches(name.as_bytes()) {
                    next.extend(join(folder, &name));
                }
            }
        }
        found = next;
    }
    found.retain(|folder| root.join(folder).join("Cargo.toml").is_file());
    Ok(found)
}

/// `base/path`, cleaned; none if it leaves the workspace.
fn join(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let joined: PathBuf = Path::new(base).join(path);
    for part in joined.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn workspace(files: &[(&str, &str)]) -> Workspace {
        read(fixture::folder(files).path()).unwrap()
    }

    const ROOT: &str = r#"
        [workspace]
        members = ["svc/*", "lib/log"]
        [workspace.dependencies]
        log = { path = "lib/log" }
        serde = "1"
        rand = "0.9"
        [profile.release]
        lto = true
    "#;
    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "api"
        version = "0.1.0"
        dependencies = ["log", "serde 1.0.0"]
        [[package]]
        name = "job"
        version = "0.1.0"
        dependencies = ["rand"]
        [[package]]
        name = "log"
        version = "0.1.0"
        [[package]]
        name = "rand"
        version = "0.9.0"
        source = "registry+x"
        [[package]]
        name = "serde"
        version = "0.9.0"
        source = "registry+x"
        [[package]]
        name = "serde"
        version = "1.0.0"
        source = "registry+x"
    "#;
    const API: &str = r#"
        [package]
        name = "api"
        [target.'cfg(unix)'.dependencies]
        log.workspace = true
        [dependencies]
        serde = { workspace = true }
    "#;
    const JOB: &str = "[package]\nname = 'job'\n[dependencies]\nrand.workspace = true\n";
    const LOG: &str = "[package]\nname = 'log'\n";

    fn sample() -> Workspace {
        workspace(&[
            ("Cargo.toml", ROOT),
            ("Cargo.lock", LOCK),
            ("svc/api/Cargo.toml", API),
            ("svc/job/Cargo.toml", JOB),
            ("svc/notes/readme", "no package here"),
            ("lib/log/Cargo.toml", LOG),
        ])
    }

    #[test]
    fn a_closure_holds_the_package_and_what_it_leads_to() {
        let closure = sample().closure("api").unwrap();
        assert_eq!(closure.folders, ["svc/api", "lib/log"]);
        assert_eq!(closure.others, ["svc/job"]);
        insta::assert_snapshot!(String::from_utf8(closure.made[0].1.clone()).unwrap(), @r#"
        [profile.release]
        lto = true

        [workspace]
        members = ["svc/api", "lib/log"]

        [workspace.dependencies]
        serde = "1"

        [workspace.dependencies.log]
        path = "lib/log"
        "#);
        let lock: Table = String::from_utf8(closure.made[1].1.clone()).unwrap().parse().unwrap();
        let names = lock["package"].as_array().unwrap().iter().map(|package| {
            format!(
                "{} {}",
                package["name"].as_str().unwrap(),
                package["version"].as_str().unwrap()
            )
        });
        assert_eq!(names.collect::<Vec<_>>(), ["api 0.1.0", "log 0.1.0", "serde 1.0.0"]);
    }

    #[test]
    fn an_unknown_package_names_those_there_are() {
        let error = sample().closure("apo").unwrap_err().to_string();
        assert_eq!(error, "there is no package `apo` in the workspace (it has api, job, log)");
    }

    #[test]
    fn dev_and_build_dependencies_count_since_cargo_wants_their_manifests() {
        let dev = "[package]\nname = 'a'\n[dev-dependencies]\nb = { path = '../b' }\n";
        let build = "[package]\nname = 'b'\n[build-dependencies]\nc = { path = '../c' }\n";
        let closure = workspace(&[
            ("Cargo.toml", "[workspace]\nmembers = ['a']\n"),
            ("a/Cargo.toml", dev),
            ("b/Cargo.toml", build),
            ("c/Cargo.toml", "[package]\nname = 'c'\n"),
        ])
        .closure("a")
        .unwrap();
        assert_eq!(closure.folders, ["a", "b", "c"]);
    }
}
