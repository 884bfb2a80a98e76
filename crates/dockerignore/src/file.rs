//! Which ignore file is read.
//!
//! First `<Dockerfile>.dockerignore`, beside the Dockerfile and so perhaps outside the context;
//! even an empty one wins, and ignores nothing. Else `.dockerignore` in the context's root, never
//! one elsewhere. Where neither is, the same two again with the ending `.containerignore`: podman
//! reads those, and what it leaves out is not sent, whatever the engine. Patterns are relative to
//! the context's root either way.
//!
//! BuildKit reads the file from a copy of its folder, so a symlink is followed within that folder
//! only: an absolute target begins at the folder, `..` stops there. A link to elsewhere thus finds
//! nothing, which is the same as no file; so is a folder of that name. All seen with BuildKit 0.23.

use fs_err as fs;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

/// An ignore file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreFile {
    /// Where it is looked for, not where a link leads to.
    pub path: PathBuf,
    pub text: Vec<u8>,
}

/// In bytes. Nobody writes a larger one by hand.
const LONGEST_FILE: u64 = 16 << 20;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// The ignore file for a build of `dockerfile` with `context`, if there is one.
pub fn find(context: &Path, dockerfile: Option<&Path>) -> io::Result<Option<IgnoreFile>> {
    let found = of_ending(context, dockerfile, ".dockerignore")?.into_iter().next();
    if found.is_some() {
        return Ok(found);
    }
    Ok(container_files(context, dockerfile)?.into_iter().next())
}

/// The files podman alone would read, the one that goes first first.
pub fn container_files(context: &Path, dockerfile: Option<&Path>) -> io::Result<Vec<IgnoreFile>> {
    of_ending(context, dockerfile, ".containerignore")
}

/// The Dockerfile's own file and the context's, as far as they are there.
fn of_ending(
    context: &Path,
    dockerfile: Option<&Path>,
    ending: &str,
) -> io::Result<Vec<IgnoreFile>> {
    let mut found = Vec::new();
    if let Some(dockerfile) = dockerfile
        && let Some(name) = dockerfile.file_name()
    {
        let mut name = name.to_owned();
        name.push(ending);
        let folder = dockerfile.parent().unwrap_or(Path::new(""));
        found.extend(read(folder, &name)?);
    }
    found.extend(read(context, OsStr::new(ending))?);
    Ok(found)
}

fn read(folder: &Path, name: &OsStr) -> io::Result<Option<IgnoreFile>> {
    let path = folder.join(name);
    let Some(target) = resolve(folder, name)? else { return Ok(None) };
    let mut text = Vec::new();
    fs::File::open(target)?.take(LONGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        let text = format!("the ignore file `{}` is larger than 16 MiB", path.display());
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(Some(IgnoreFile { path, text }))
}

/// The regular file `name` stands for, with `folder` as the root of all links.
fn resolve(folder: &Path, name: &OsStr) -> io::Result<Option<PathBuf>> {
    let mut done = PathBuf::new();
    let mut todo: VecDeque<OsString> = [name.to_owned()].into();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        let here = folder.join(&done).join(&part);
        let kind = match fs::symlink_metadata(&here) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if is_missing(error.kind()) => return Ok(None),
            Err(error) => return Err(error),
        };
        if kind.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Ok(None);
            }
            let target = done.join(fs::read_link(&here)?);
            for part in names(&target).into_iter().rev() {
                todo.push_front(part);
            }
            done = PathBuf::new();
        } else if todo.is_empty() {
            return Ok(kind.is_file().then_some(here));
        } else {
            done.push(part);
        }
    }
    Ok(None)
}

/// The names in `path`, each `..` taking the one before it: by the text, as BuildKit does, even
/// where that one is a link.
fn names(path: &Path) -> Vec<OsString> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[(&str, &str)]) -> Tree {
            let tree = Tree(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = tree.at(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            fs::create_dir_all(tree.at("ctx")).unwrap();
            tree
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn link(&self, path: &str, target: &str) {
            symlink(target, self.at(path)).unwrap();
        }

        /// The text of the file that is found.
        fn find(&self, dockerfile: Option<&str>) -> Option<String> {
            let dockerfile = dockerfile.map(|path| self.at(path));
            let file = find(&self.at("ctx"), dockerfile.as_deref()).unwrap()?;
            Some(String::from_utf8(file.text).unwrap())
        }
    }

    #[test]
    fn the_dockerfiles_own_file_wins_even_if_empty() {
        let tree = Tree::new(&[
            ("ctx/.dockerignore", "root"),
            ("ctx/Dockerfile.dockerignore", "own"),
            ("ctx/sub/.dockerignore", "never"),
            ("ctx/sub/My.Dockerfile.dockerignore", "sub"),
            ("ctx/sub/E.dockerignore", ""),
            ("other/Dockerfile.dockerignore", "outside"),
        ]);
        for (dockerfile, text) in [
            (None, "root"),
            (Some("ctx/Dockerfile"), "own"),
            (Some("ctx/sub/My.Dockerfile"), "sub"),
            (Some("ctx/sub/Dockerfile"), "root"),
            (Some("ctx/sub/E"), ""),
            (Some("other/Dockerfile"), "outside"),
        ] {
            assert_eq!(tree.find(dockerfile).as_deref(), Some(text), "{dockerfile:?}");
        }
    }

    #[test]
    fn a_containerignore_counts_where_no_dockerignore_does() {
        let tree = Tree::new(&[
            ("ctx/.containerignore", "podman's"),
            ("ctx/A.containerignore", "A's"),
            ("ctx/B.dockerignore", ""),
            ("ctx/B.containerignore", "B's"),
        ]);
        assert_eq!(tree.find(None).as_deref(), Some("podman's"));
        assert_eq!(tree.find(Some("ctx/A")).as_deref(), Some("A's"));
        assert_eq!(tree.find(Some("ctx/B")).as_deref(), Some(""));
        fs::write(tree.at("ctx/.dockerignore"), "docker's").unwrap();
        assert_eq!(tree.find(Some("ctx/A")).as_deref(), Some("docker's"));
        let files = container_files(&tree.at("ctx"), Some(&tree.at("ctx/A"))).unwrap();
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn no_file_is_no_error() {
        let tree = Tree::new(&[("ctx/sub/.dockerignore", "never")]);
        assert_eq!(tree.find(None), None);
        assert_eq!(tree.find(Some("ctx/sub/Dockerfile")), None);
        assert_eq!(tree.find(Some("nowhere/Dockerfile")), None);
    }

    #[test]
    fn a_folder_is_no_ignore_file() {
        let tree = Tree::new(&[("ctx/.dockerignore/x", ""), ("ctx/D.dockerignore/x", "")]);
        assert_eq!(tree.find(Some("ctx/D")), None);
    }

    #[test]
    fn links_are_followed_inside_the_folder_only() {
        for (target, found) in [
            ("rules/ignore", Some("inside")),
            ("/rules/ignore", Some("inside")),
            ("../../rules/ignore", Some("inside")),
            ("rules/../rules/./ignore", Some("inside")),
            ("by/folder/ignore", Some("inside")),
            ("../outside", None),
            ("/etc/passwd", None),
            // `by/folder` leads to `rules`; by the text the `..` leads to `by`.
            ("by/folder/../rules/ignore", None),
            ("missing/../rules/ignore", Some("inside")),
            (".dockerignore", None),
            ("rules", None),
            ("missing", None),
            ("rules/ignore/x", None),
        ] {
            let tree = Tree::new(&[("ctx/rules/ignore", "inside"), ("outside", "outside")]);
            fs::create_dir_all(tree.at("ctx/by")).unwrap();
            tree.link("ctx/by/folder", "../rules");
            tree.link("ctx/.dockerignore", target);
            assert_eq!(tree.find(None).as_deref(), found, "{target}");
        }
    }
}
