//! Which files a step's `apply` takes, and what kustomize calls their images.
//!
//! | `apply` | files |
//! | --- | --- |
//! | a file | itself |
//! | a folder without a kustomization | its YAML and JSON files, by name |
//! | a folder with one | its `resources`, `bases`, `components` and patches, and so on below |
//!
//! Of what a kustomization changes only `images:` is followed: the outer ones see what the inner
//! ones made. Resources from the network and what generators and Helm charts make are not seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::yaml::{self, Node};

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A file that is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub file: PathBuf,
    /// `images:` of the kustomizations above it, the inner ones first.
    pub renamed: Vec<Renamed>,
}

/// An entry of `images:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    name: String,
    new_name: Option<String>,
    /// `:TAG` or `@DIGEST`.
    suffix: Option<String>,
}

impl Applied {
    /// An image as it is called once kustomize is through.
    pub fn image(&self, reference: &str) -> String {
        self.renamed.iter().fold(reference.to_owned(), |reference, renamed| {
            let (name, suffix) = split(&reference);
            if name != renamed.name {
                return reference;
            }
            let name = renamed.new_name.as_deref().unwrap_or(name);
            format!("{name}{}", renamed.suffix.as_deref().unwrap_or(suffix))
        })
    }
}

/// `host:5000/a:b@c` → (`host:5000/a`, `:b@c`).
fn split(reference: &str) -> (&str, &str) {
    let path = reference.rfind('/').map_or(0, |slash| slash + 1);
    let end = reference[path..].find([':', '@']).map_or(reference.len(), |at| path + at);
    reference.split_at(end)
}

/// The files that applying `path` takes; the error names a file, a line in it, and what is wrong.
pub fn applied(path: &Path) -> Result<Vec<Applied>, (PathBuf, usize, String)> {
    let mut found = Vec::new();
    collect(path, &[], &mut BTreeSet::new(), &mut found)?;
    Ok(found)
}

/// Whether a folder has a kustomization.
pub fn kustomization(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

fn collect(
    path: &Path,
    above: &[Renamed],
    seen: &mut BTreeSet<PathBuf>,
    found: &mut Vec<Applied>,
) -> Result<(), (PathBuf, usize, String)> {
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    if !path.is_dir() {
        found.push(Applied { file: path.to_owned(), renamed: above.to_vec() });
        return Ok(());
    }
    let Some(file) = kustomization(path) else {
        found.extend(plain(path).into_iter().map(|file| Applied { file, renamed: above.to_vec() }));
        return Ok(());
    };
    let failed = |(line, message)| (file.clone(), line, message);
    let text = fs_err::read_to_string(&file).map_err(|error| failed((1, error.to_string())))?;
    for document in yaml::read(&text).map_err(failed)? {
        let own = document.list("images").iter().filter_map(renamed);
        let renamed: Vec<Renamed> = own.chain(above.iter().cloned()).collect();
        for (line, name) in parts(&document) {
            let part: PathBuf = clean(&path.join(name));
            if part.exists() {
                collect(&part, &renamed, seen, found)?;
            } else if !is_remote(name) {
                return Err((file, line, format!("there is no `{name}`")));
            }
        }
    }
    Ok(())
}

/// Paths a kustomization names, with their lines.
fn parts(document: &Node) -> Vec<(usize, &str)> {
    let lists = ["resources", "bases", "components", "patchesStrategicMerge"];
    let listed = lists.into_iter().flat_map(|key| document.list(key));
    let listed = listed.filter_map(|node| Some((node.line, node.text()?)));
    let patches = document.list("patches").iter().filter_map(|patch| patch.get("path"));
    let patches = patches.filter_map(|node| Some((node.line, node.text()?)));
    // A patch may stand there itself.
    listed.chain(patches).filter(|(_, name)| !name.contains('\n')).collect()
}

fn is_remote(name: &str) -> bool {
    name.contains("://") || name.contains("?ref=") || name.starts_with("git@") || {
        let first = name.split('/').next().unwrap_or_default();
        first.contains('.') && !first.starts_with('.') && name.contains('/')
    }
}

fn renamed(entry: &Node) -> Option<Renamed> {
    let tag = entry.word("newTag").map(|tag| format!(":{tag}"));
    let digest = entry.word("digest").map(|digest| format!("@{digest}"));
    Some(Renamed {
        name: entry.word("name")?.to_owned(),
        new_name: entry.word("newName").map(str::to_owned),
        suffix: digest.or(tag),
    })
}

/// Without `.`, and without `..` where a folder stands before it.
fn clean(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn plain(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        let ending = file.extension().and_then(std::ffi::OsStr::to_str);
        matches!(ending, Some("yaml" | "yml" | "json")) && file.is_file()
    });
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::folder as tree;

    #[test]
    fn an_overlay_is_followed_and_its_images_count() {
        let folder = tree(&[
            (
                "over/kustomization.yaml",
                "resources: [../base, https://example.test/x.yaml]\n\
                 images: [{name: web, newName: registry.test/web, newTag: '2'}]\n\
                 patches: [{path: patch.yaml}]\n",
            ),
            ("over/patch.yaml", ""),
            ("over/unlisted.yaml", ""),
            (
                "base/kustomization.yaml",
                "resources: [a.yaml]\nimages: [{name: app, newName: web}]\n",
            ),
            ("base/a.yaml", ""),
        ]);
        let root = fs_err::canonicalize(folder.path()).unwrap();
        let found = applied(&root.join("over")).unwrap();
        let files: Vec<_> =
            found.iter().map(|one| one.file.strip_prefix(&root).unwrap().to_owned()).collect();
        assert_eq!(files, [Path::new("base/a.yaml"), Path::new("over/patch.yaml")]);
        assert_eq!(found[0].image("app:1"), "registry.test/web:2");
        assert_eq!(found[0].image("host:5000/app:1"), "host:5000/app:1");
        assert_eq!(found[1].image("app:1"), "app:1");
    }

    #[test]
    fn a_folder_without_a_kustomization_is_its_files() {
        let folder = tree(&[("b.yaml", ""), ("a.json", ""), ("c.txt", ""), ("d/e.yaml", "")]);
        let found = applied(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|one| one.file.file_name().unwrap()).collect();
        assert_eq!(names, ["a.json", "b.yaml"]);
    }

    #[test]
    fn a_resource_that_is_not_there_is_told() {
        let folder = tree(&[("kustomization.yaml", "resources:\n- gone.yaml\n")]);
        let (file, line, message) = applied(folder.path()).unwrap_err();
        assert!(file.ends_with("kustomization.yaml"));
        assert_eq!((line, message.as_str()), (2, "there is no `gone.yaml`"));
    }
}
