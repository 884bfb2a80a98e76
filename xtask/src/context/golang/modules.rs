//! Where import paths lead: the module of a package, its workspace, local replacements, `vendor/`.

use std::path::{Component, Path};

use super::super::tree::{Kind, Tree, as_path};
use super::manifest::{self, Manifest};
use super::{Wide, has_go};
use crate::plain_file;

/// The modules of a context that a build of one package can see. The first is its own.
#[derive(Debug)]
pub(super) struct Modules {
    all: Vec<Module>,
    /// Paths of modules that come from elsewhere.
    requires: Vec<String>,
    /// Manifests and sums.
    pub nodes: Vec<usize>,
}

#[derive(Debug)]
struct Module {
    /// What its import paths begin with; empty for `vendor/`.
    path: String,
    folder: Vec<u8>,
}

/// A package's folder, and the module it was found in.
#[derive(Debug)]
pub(super) struct Found {
    pub folder: Vec<u8>,
    pub module: usize,
}

impl Modules {
    /// The modules a package in `folder` can see; a reason where that cannot be told.
    pub(super) fn around(tree: &Tree, folder: &[u8]) -> Result<Self, String> {
        let above = || ancestors(folder);
        let Some(own) = above().find(|folder| file(tree, folder, "go.mod").is_some()) else {
            let folder = as_path(folder).display();
            return Err(format!("there is no `go.mod` at or above `{folder}`"));
        };
        let mut modules = Self { all: Vec::new(), requires: Vec::new(), nodes: Vec::new() };
        let mut mains = vec![own.to_vec()];
        let mut replaces = Vec::new();
        for folder in above().filter(|folder| file(tree, folder, "go.work").is_some()) {
            let work = modules.manifest(tree, folder, "go.work")?;
            modules.nodes.extend(file(tree, folder, "go.work.sum"));
            for used in &work.uses {
                mains.push(inside(tree, folder, used)?);
            }
            replaces.push((folder.to_vec(), work));
        }
        for (at, folder) in mains.iter().enumerate() {
            if mains[..at].contains(folder) {
                continue;
            }
            let main = modules.manifest(tree, folder, "go.mod")?;
            modules.nodes.extend(file(tree, folder, "go.sum"));
            let path = main.module.clone().ok_or("a `go.mod` names no module")?;
            modules.all.push(Module { path, folder: folder.clone() });
            replaces.push((folder.clone(), main));
        }
        for (folder, manifest) in replaces {
            modules.vendored(tree, &folder);
            for (path, to) in manifest.replaces {
                let to = inside(tree, &folder, &to)?;
                modules.nodes.extend(file(tree, &to, "go.mod"));
                modules.all.push(Module { path, folder: to });
            }
            modules.requires.extend(manifest.requires);
        }
        Ok(modules)
    }

    /// Whether a package is the first module's own.
    pub(super) fn own(&self, tree: &Tree, folder: &[u8]) -> bool {
        matches!(look(tree, self.folder(0), folder), Place::Package)
    }

    fn manifest(&mut self, tree: &Tree, folder: &[u8], name: &str) -> Result<Manifest, String> {
        let path = Path::new(as_path(folder)).join(name);
        let at = file(tree, folder, name)
            .ok_or_else(|| format!("`{}` is not in the context", path.display()))?;
        self.nodes.push(at);
        let text = plain_file::read_to_string(&tree.absolute(&tree.nodes[at])).ok();
        let manifest = text.filter(|_| tree.nodes[at].kind == Kind::File);
        let manifest = manifest.and_then(|text| manifest::read(&text));
        manifest.ok_or_else(|| format!("`{}` is not understood", path.display()))
    }

    fn vendored(&mut self, tree: &Tree, folder: &[u8]) {
        let vendor = [folder, if folder.is_empty() { b"" } else { b"/" }, b"vendor"].concat();
        if let Some(list) = file(tree, &vendor, "modules.txt") {
            self.nodes.push(list);
            self.all.push(Module { path: String::new(), folder: vendor });
        }
    }

    /// The folder of a module.
    pub(super) fn folder(&self, module: usize) -> &[u8] {
        &self.all[module].folder
    }

    /// Every package of the context that an import path can mean; none for one from elsewhere. An
    /// error says what to widen, beginning with the folder of the module that should have it.
    pub(super) fn find(&self, tree: &Tree, import: &str) -> Result<Vec<Found>, (&[u8], Wide)> {
        if import.starts_with("./") || import.starts_with("../") {
            return Err((b"", Wide::Context(format!("`{import}` is imported by a relative path"))));
        }
        let mut found = Vec::new();
        let mut missing_in: Option<&Module> = None;
        for (at, module) in self.all.iter().enumerate() {
            let Some(folder) = below(&module.path, import).and_then(|r| join(&module.folder, r))
            else {
                continue;
            };
            match look(tree, &module.folder, &folder) {
                Place::Package => found.push(Found { folder, module: at }),
                Place::Link => {
                    let reason = format!("`{import}` is imported through a link");
                    return Err((b"", Wide::Context(reason)));
                }
                Place::Nothing if self.should_have(module, import) => {
                    let nearest = missing_in.filter(|other| other.path.len() > module.path.len());
                    missing_in = nearest.or(Some(module));
                }
                Place::OtherModule | Place::Nothing => {}
            }
        }
        match missing_in.filter(|_| found.is_empty()) {
            Some(module) => {
                let reason = format!("`{import}` is imported and not in the context");
                Err((&module.folder, Wide::Module(reason)))
            }
            None => Ok(found),
        }
    }

    /// Whether no required module with a longer name would hold the package instead.
    fn should_have(&self, module: &Module, import: &str) -> bool {
        let mut longer = self.requires.iter().filter(|path| path.len() > module.path.len());
        !module.path.is_empty() && !longer.any(|path| below(path, import).is_some())
    }
}

/// What is at a place where a module would have a package.
enum Place {
    Package,
    /// It belongs to a module nested in this one.
    OtherModule,
    Link,
    Nothing,
}

fn look(tree: &Tree, module: &[u8], folder: &[u8]) -> Place {
    for above in ancestors(folder).take_while(|above| above.len() > module.len()) {
        let link = tree.find(above).is_some_and(|at| tree.nodes[at].kind != Kind::Dir);
        if link {
            return Place::Link;
        }
        if file(tree, above, "go.mod").is_some() {
            return Place::OtherModule;
        }
    }
    if has_go(tree, folder) { Place::Package } else { Place::Nothing }
}

/// `import` without the module's `path` in front, if it is in that module.
fn below<'a>(path: &str, import: &'a str) -> Option<&'a str> {
    if path.is_empty() {
        return Some(import);
    }
    let rest = import.strip_prefix(path)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

fn file(tree: &Tree, folder: &[u8], name: &str) -> Option<usize> {
    let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    let at = tree.find(&[folder, separator, name.as_bytes()].concat())?;
    (tree.nodes[at].kind != Kind::Dir).then_some(at)
}

/// A folder and those it lies in, the root (empty) last.
fn ancestors(folder: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(folder), |folder| {
        (!folder.is_empty()).then(|| super::parent(folder))
    })
}

/// The folder a manifest in `folder` means by `path`.
fn inside(tree: &Tree, folder: &[u8], path: &str) -> Result<Vec<u8>, String> {
    let to = join(folder, path).ok_or_else(|| format!("`{path}` leads out of the context"))?;
    let at = tree.find(&to);
    let is_dir = to.is_empty() || at.is_some_and(|at| tree.nodes[at].kind == Kind::Dir);
    if is_dir { Ok(to) } else { Err(format!("`{path}` is no folder of the context")) }
}

/// `folder/path`, cleaned; none if it leaves the context.
pub(super) fn join(folder: &[u8], path: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut parts: Vec<&[u8]> = folder.split(|byte| *byte == b'/').collect();
    parts.retain(|part| !part.is_empty());
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::Normal(part) => parts.push(part.as_bytes()),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join(&b'/'))
}
