//! Whose images are: the project's mark on them, and the keys that each checkout wants.
//!
//! Images are called by their names in the configuration, and two repositories may both have an
//! `api`. So each image of ours says which project built it, and `gc` looks at its own project's
//! alone. A project is known by where its repository comes from, or, where that is not said, by its
//! first commits; without git, by its folder. Two configurations in one repository are two
//! projects.
//!
//! Several checkouts may want one image: clones of a project, or projects whose key is the same,
//! which have the same content. Each run notes in the machine's folder the keys that its checkout
//! wants; `gc` spares those of the others. A note is good for [`WANTED`]: nobody says that a
//! checkout has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity;
use crate::paths;
use crate::private::PrivatePath;
use crate::process::Tool;
use crate::run::evaluate::Evaluation;
use crate::session::Workspace;

/// How long one question to git may take.
const GIT: Duration = Duration::from_secs(20);

/// How long a checkout that does not run keeps its images.
const WANTED: Duration = Duration::from_hours(30 * 24);

/// What would lead git to another repository than the one around a folder.
const ASTRAY: [&str; 4] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"];

/// The largest note that is read.
const LARGEST: u64 = 4 << 20;

/// The keys that a checkout wants.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    written: SystemTime,
    /// By image.
    keys: BTreeMap<String, String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { written: SystemTime::UNIX_EPOCH, keys: BTreeMap::new() }
    }
}

/// The project's mark, as new images carry it.
pub(crate) fn mark(root: &Path) -> Result<String> {
    let (place, origin) = origin(root);
    match origin.map_or_else(|| first_commits(root), Some) {
        Some(origin) => Ok(digest(&origin, &place)),
        None => Ok(identity::of_folder(root)?),
    }
}

/// All marks that images of this project may carry: it may have had no origin yet, or no commit.
pub(crate) fn marks(root: &Path) -> Result<BTreeSet<String>> {
    let (place, origin) = origin(root);
    let known = origin.into_iter().chain(first_commits(root));
    let marks = known.map(|known| digest(&known, &place));
    Ok(marks.chain([identity::of_folder(root)?]).collect())
}

/// Notes the keys that this checkout wants.
pub(crate) fn note(workspace: &Workspace, evaluation: &Evaluation) -> Result<()> {
    let folder = paths::wanted(workspace.engine.name())?;
    let file = folder.join(identity::of_folder(workspace.paths.root())?);
    let mut wanted = read(&file).unwrap_or_default();
    wanted.written = SystemTime::now();
    wanted.keys.retain(|name, _| workspace.config.images.contains_key(name));
    let keys = evaluation.images.iter();
    let keys = keys.map(|one| (one.image.name.clone(), one.planned.key.to_string()));
    wanted.keys.extend(keys);
    Ok(file.write(&serde_json::to_vec(&wanted)?)?)
}

/// The keys that any checkout wants, on this engine.
pub(crate) fn wanted(engine: &str) -> Result<BTreeSet<String>> {
    let folder = paths::wanted(engine)?;
    let notes = folder.names().into_iter().filter_map(|name| read(&folder.join(name)));
    // A clock that was set back makes no note of the future void.
    let fresh = notes.filter(|note| note.written.elapsed().unwrap_or_default() < WANTED);
    Ok(fresh.flat_map(|note| note.keys.into_values()).collect())
}

fn read(file: &PrivatePath) -> Option<Wanted> {
    serde_json::from_slice(&file.read(LARGEST).ok()?).ok()
}

fn digest(origin: &str, place: &str) -> String {
    hex::encode(&Sha256::digest(format!("{origin}\n{place}"))[..16])
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let git = ASTRAY.iter().fold(Tool::new("git"), |git, name| git.without_env(*name));
    let text = git.args(args.iter().copied()).folder(root).limit(GIT).read().ok()?;
    (!text.is_empty()).then_some(text)
}

/// Where in its repository a folder lies, and where that comes from, if it is said.
fn origin(root: &Path) -> (String, Option<String>) {
    let place = git(root, &["rev-parse", "--show-prefix"]).unwrap_or_default();
    let origin = git(root, &["config", "--get", "remote.origin.url"]);
    (place, origin.map(|url| plain(&url)))
}

/// The commits without a parent; of a shallow clone they are not the first ones.
fn first_commits(root: &Path) -> Option<String> {
    let shallow = git(root, &["rev-parse", "--is-shallow-repository"])?;
    if shallow != "false" {
        return None;
    }
    let mut commits: Vec<String> =
        git(root, &["rev-list", "--max-parents=0", "HEAD"])?.lines().map(str::to_owned).collect();
    commits.sort();
    Some(commits.join(" "))
}

/// An address without what differs between ways to one repository: scheme, login, ending.
fn plain(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix(".git").unwrap_or(rest).trim_end_matches('/');
    let (host, path) = match rest.split_once('/') {
        // `git@host:path`
        _ if scheme.is_empty() && rest.split('/').next().is_some_and(|host| host.contains(':')) => {
            rest.split_once(':').unwrap_or((rest, ""))
        }
        Some((host, path)) => (host, path),
        None => (rest, ""),
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{}/{}", host.to_lowercase(), path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_a_repository_are_one_and_no_two_repositories_are() {
        for url in [
            "https://github.com/org/repo",
            "https://github.com/org/repo.git",
            "https://GitHub.com/org/repo/",
            "https://token:x-oauth@github.com/org/repo.git",
            "ssh://git@github.com/org/repo.git",
            "git@github.com:org/repo.git",
            "git@github.com:/org/repo",
        ] {
            assert_eq!(plain(url), "github.com/org/repo", "{url}");
        }
        for url in ["https://github.com/org/repo2", "https://example.com/org/repo", "/srv/org/repo"]
        {
            assert_ne!(plain(url), "github.com/org/repo", "{url}");
        }
    }

    fn repository(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("f"), text).unwrap();
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let commit = [&identity[..], &["commit", "--quiet", "-m", text]].concat();
        for args in [&["init", "--quiet"][..], &["add", "f"], &commit] {
            let git = ASTRAY.iter().fold(Tool::new("git"), |git, name| git.without_env(*name));
            git.args(args.iter().copied()).folder(folder.path()).run().unwrap();
        }
        folder
    }

    #[test]
    fn a_project_is_its_repository_and_the_place_in_it() {
        let (one, other) = (repository("one"), repository("other"));
        let of = |folder: &Path| mark(folder).unwrap();
        assert_ne!(of(one.path()), of(other.path()));
        let below = one.path().join("below");
        fs_err::create_dir(&below).unwrap();
        assert_ne!(of(one.path()), of(&below), "two configurations in one repository");
        let without = tempfile::tempdir().unwrap();
        assert_eq!(of(without.path()), identity::of_folder(without.path()).unwrap());
        // An origin that is added later leaves the images of before ours.
        let before = of(one.path());
        let add = ["remote", "add", "origin", "https://example.com/org/one"];
        git(one.path(), &add);
        assert_ne!(of(one.path()), before);
        let marks = marks(one.path()).unwrap();
        assert!(marks.contains(&before) && marks.contains(&of(one.path())), "{marks:?}");
    }
}
