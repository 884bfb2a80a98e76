//! `inputs = { go = "./PATH" }`: the package, the packages of the context it imports, what they
//! embed, and the manifests Go reads before it looks at any package.
//!
//! | counts | because |
//! | --- | --- |
//! | every `.go` file of a reached package but `_test.go` | build tags and platforms only ever take files away |
//! | C, C++, assembly, `.syso` beside them | the compiler takes all there are; with cgo, or any of these, everything below the folder too, since an `#include` may name it |
//! | what `//go:embed` patterns match, `default.pgo` | they are compiled in |
//! | `go.mod`, `go.sum`, `go.work`, `go.work.sum` | of the module and its workspace |
//! | `go.mod` of each local `replace` and `use` | Go wants it though nothing is imported from there |
//! | `vendor/`: `modules.txt` and the packages reached | only where it is sent at all |
//!
//! An import leads to every folder it could mean: in the module, a module of its workspace, a local
//! replacement, `vendor/`. A nested module is none of its parent's. `go list -deps` gives the same
//! less what the tags of one platform leave out (a test holds that); it takes longer than the whole
//! walk.
//!
//! What is not understood widens to the module's folder, or to the context where the module does
//! not bound it (symlinks, a `replace` that leaves the context); the reason is kept. Tests are
//! never sent: a Dockerfile that runs `go test` needs other `inputs`.

mod manifest;
mod modules;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::contents::Widening;
use super::tree::{Kind, Tree, as_path};
use crate::plain_file;
use dockerfile::glob::Glob;
use modules::{Found, Modules};

/// What a Go package is built from.
#[derive(Debug)]
pub(super) struct Closure {
    /// By node of the tree.
    pub chosen: Vec<bool>,
    /// Why it is more than the packages reached.
    pub widened: Vec<Widening>,
}

/// The Go sources of a context; each is read at most once, whatever number of images need it.
pub(super) struct Sources<'a> {
    tree: &'a Tree,
    packages: BTreeMap<Vec<u8>, Package>,
}

/// How far something that is not understood reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wide {
    Module(String),
    Context(String),
}

/// What a folder with Go files needs.
#[derive(Debug, Default)]
struct Package {
    imports: BTreeSet<String>,
    nodes: Vec<usize>,
    /// Everything below the folder belongs to it.
    deep: bool,
    wide: Vec<Wide>,
}

/// Files the compiler takes beside `.go`.
const NATIVE: [&str; 19] = [
    "c", "cc", "cpp", "cxx", "m", "f", "F", "for", "f90", "h", "hh", "hpp", "hxx", "s", "S", "sx",
    "swig", "swigcxx", "syso",
];

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

impl<'a> Sources<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        Self { tree, packages: BTreeMap::new() }
    }

    /// What the package in the folder `package`, relative to the context, is built from; with
    /// `/...` at the end, what all packages below are.
    pub(super) fn closure(&mut self, package: &str) -> Result<Closure> {
        let missing = || anyhow!("there is no Go package `{package}` in the context");
        let (folder, deep) = match package.split_once("...") {
            Some((folder, _)) => (folder.rsplit_once('/').map_or("", |(folder, _)| folder), true),
            None => (package, false),
        };
        let folder = modules::join(b"", folder).ok_or_else(missing)?;
        let mut roots = if deep { go_folders(self.tree, &folder) } else { vec![folder.clone()] };
        roots.retain(|dir| has_go(self.tree, dir));
        if roots.is_empty() {
            return Err(missing());
        }
        let mut closure =
            Closure { chosen: vec![false; self.tree.nodes.len()], widened: Vec::new() };
        let modules = match Modules::around(self.tree, &folder) {
            Ok(modules) => modules,
            Err(reason) => {
                closure.widen(self.tree, b"", "context", &reason);
                return Ok(closure);
            }
        };
        closure.take(modules.nodes.iter().copied());
        roots.retain(|dir| modules.own(self.tree, dir));
        self.follow(&modules, roots, &mut closure);
        Ok(closure)
    }

    /// From package to package, all that are equally far at once.
    fn follow(&mut self, modules: &Modules, roots: Vec<Vec<u8>>, closure: &mut Closure) {
        let mut reached: BTreeSet<Vec<u8>> = roots.iter().cloned().collect();
        let mut next: Vec<Found> =
            roots.into_iter().map(|folder| Found { folder, module: 0 }).collect();
        let mut imports = BTreeSet::new();
        while !next.is_empty() {
            self.read(&next);
            let mut found = Vec::new();
            for Found { folder, module } in &next {
                let package = &self.packages[folder];
                closure.add(self.tree, folder, package, modules.folder(*module));
                for import in &package.imports {
                    if imports.contains(import) {
                        continue;
                    }
                    imports.insert(import.clone());
                    match modules.find(self.tree, import) {
                        Ok(folders) => found.extend(folders),
                        Err((module, wide)) => closure.give_up(self.tree, &wide, module),
                    }
                }
            }
            found.retain(|found| reached.insert(found.folder.clone()));
            next = found;
        }
    }

    fn read(&mut self, wanted: &[Found]) {
        let new = wanted.par_iter().map(|found| &found.folder);
        let new = new.filter(|folder| !self.packages.contains_key(*folder));
        let read: Vec<_> =
            new.map(|folder| (folder.clone(), Package::read(self.tree, folder))).collect();
        self.packages.extend(read);
    }
}

impl Closure {
    fn take(&mut self, nodes: impl Iterator<Item = usize>) {
        nodes.for_each(|at| self.chosen[at] = true);
    }

    fn add(&mut self, tree: &Tree, folder: &[u8], package: &Package, module: &[u8]) {
        self.take(package.nodes.iter().copied());
        if package.deep {
            self.take(tree.below(folder));
        }
        package.wide.iter().for_each(|wide| self.give_up(tree, wide, module));
    }

    fn give_up(&mut self, tree: &Tree, wide: &Wide, module: &[u8]) {
        match wide {
            Wide::Module(reason) => self.widen(tree, module, "module", reason),
            Wide::Context(reason) => self.widen(tree, b"", "context", reason),
        }
    }

    fn widen(&mut self, tree: &Tree, folder: &[u8], what: &str, reason: &str) {
        self.take(tree.below(folder));
        let whole = match folder {
            b"" => format!("the whole {what}"),
            folder => format!("the whole {what} `{}`", as_path(folder).display()),
        };
        let reason = format!("{whole}: {reason}");
        let widening = Widening { reason, whole: folder.is_empty() };
        if !self.widened.contains(&widening) {
            self.widened.push(widening);
        }
    }
}

impl Package {
    fn read(tree: &Tree, folder: &[u8]) -> Self {
        let mut package = Self::default();
        for at in tree.children(folder) {
            let node = &tree.nodes[at];
            let name = name(&node.path);
            let native = is_native(name);
            let counts = native || is_go(name) || name == b"default.pgo";
            if !counts || node.kind == Kind::Dir {
                continue;
            }
            package.add(tree, at);
            package.deep |= native;
            if is_go(name) && !package.read_go(tree, folder, at) {
                let file = as_path(&node.path).display();
                package.wide.push(Wide::Module(format!("`{file}` is not understood")));
            }
        }
        if package.deep {
            package.look_outside(tree, folder);
        }
        package
    }

    /// Adds a node and, if it is a link, all it leads through.
    fn add(&mut self, tree: &Tree, at: usize) {
        self.nodes.push(at);
        let mut here = at;
        for _ in 0..MOST_LINKS {
            let Kind::Symlink(target) = &tree.nodes[here].kind else { return };
            let folder = parent(&tree.nodes[here].path);
            let target = std::str::from_utf8(target).ok().and_then(|to| modules::join(folder, to));
            let Some(to) = target.and_then(|target| tree.find(&target)) else { break };
            self.nodes.push(to);
            here = to;
        }
        let link = as_path(&tree.nodes[at].path).display();
        self.wide.push(Wide::Context(format!("`{link}` is a link that leads out of sight")));
    }

    /// Takes up what one file imports and embeds; whether it was understood.
    fn read_go(&mut self, tree: &Tree, folder: &[u8], at: usize) -> bool {
        let text = plain_file::read(&tree.absolute(&tree.nodes[at]));
        let Some(source) = text.ok().and_then(|text| source::read(&text)) else { return false };
        self.deep |= source.imports.contains("C");
        self.imports.extend(source.imports);
        source.embeds.iter().all(|pattern| self.embed(tree, folder, pattern).is_some())
    }

    /// Adds what an embed pattern matches, folders with all below but hidden files.
    fn embed(&mut self, tree: &Tree, folder: &[u8], pattern: &str) -> Option<()> {
        let hidden = pattern.starts_with("all:");
        let pattern = pattern.strip_prefix("all:").unwrap_or(pattern);
        let mut matched = vec![folder.to_vec()];
        for part in pattern.split('/').filter(|part| *part != ".") {
            let glob = Glob::parse(part)?;
            let children = matched.iter().flat_map(|folder| tree.children(folder));
            let paths = children.map(|at| &tree.nodes[at].path);
            matched = paths.filter(|path| glob.matches(name(path))).map(|p| p.to_vec()).collect();
        }
        for path in matched {
            tree.find(&path).into_iter().for_each(|at| self.add(tree, at));
            let is_hidden = |part: &[u8]| part.starts_with(b".") || part.starts_with(b"_");
            for at in tree.below(&path) {
                let below = tree.nodes[at].path[path.len()..].split(|byte| *byte == b'/');
                if hidden || !below.into_iter().any(is_hidden) {
                    self.add(tree, at);
                }
            }
        }
        Some(())
    }

    /// Whether anything in C or assembly names a file outside the folder, or by a macro.
    fn look_outside(&mut self, tree: &Tree, folder: &[u8]) {
        for at in tree.below(folder) {
            let node = &tree.nodes[at];
            let name = name(&node.path);
            let counts = (is_native(name) && !name.ends_with(b".syso")) || is_go(name);
            if !counts || node.kind == Kind::Dir {
                continue;
            }
            let file = as_path(&node.path).display();
            let why = match plain_file::read(&tree.absolute(node)) {
                Ok(text) if String::from_utf8_lossy(&text).lines().any(leads_outside) => {
                    format!("`{file}` includes from another folder")
                }
                Ok(_) => continue,
                Err(error) => format!("what `{file}` includes is not known: {error}"),
            };
            self.wide.push(Wide::Module(why));
            return;
        }
    }
}

/// Whether a line of C, of assembly or of a cgo comment names files that may lie elsewhere.
fn leads_outside(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '/', '*']);
    let Some(directive) = line.strip_prefix(['#', '.']).map(str::trim_start) else { return false };
    if let Some(flags) = directive.strip_prefix("cgo") {
        return ["..", "-I/", "-L/"].iter().any(|sign| flags.contains(sign));
    }
    let includes = ["include", "import", "incbin", "embed"];
    let Some(file) = includes.iter().find_map(|word| directive.strip_prefix(word)) else {
        return false;
    };
    let by_macro = line.starts_with('#') && !file.contains(['"', '<']);
    by_macro || file.contains("../") || file.contains("\"/")
}

/// The folders that `folder/...` stands for, of whatever module.
fn go_folders(tree: &Tree, folder: &[u8]) -> Vec<Vec<u8>> {
    let below = tree.below(folder).map(|at| &tree.nodes[at]);
    let files = below.filter(|node| node.kind != Kind::Dir && is_go(name(&node.path)));
    let folders: BTreeSet<&[u8]> = files.map(|node| parent(&node.path)).collect();
    let passed_over = |part: &[u8]| {
        part.starts_with(b".") || part.starts_with(b"_") || part == b"testdata" || part == b"vendor"
    };
    let inside = |path: &&[u8]| !path[folder.len()..].split(|b| *b == b'/').any(passed_over);
    folders.into_iter().filter(inside).map(<[u8]>::to_vec).collect()
}

/// Whether a folder holds a Go file that is no test.
fn has_go(tree: &Tree, folder: &[u8]) -> bool {
    let go = |at: usize| {
        let node = &tree.nodes[at];
        node.kind != Kind::Dir && is_go(name(&node.path))
    };
    tree.children(folder).into_iter().any(go)
}

/// Whether Go would ever compile a file of this name: it passes over `_x.go`, `.x.go` and tests.
fn is_go(name: &[u8]) -> bool {
    name.ends_with(b".go")
        && !name.ends_with(b"_test.go")
        && !name.starts_with(b"_")
        && !name.starts_with(b".")
}

fn is_native(name: &[u8]) -> bool {
    let extension = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    extension.len() < name.len() && NATIVE.iter().any(|native| native.as_bytes() == extension)
}

/// The last part of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The folder a path lies in; empty for the root.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

#[cfg(test)]
mod tests;
