//! git, as far as a change is asked of it: of the whole repository, whichever folder the
//! configuration lies in, and of its submodules.
//!
//! Nothing in `.git` is changed: commits are laid out through an index of their own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::inputs::plain;
use crate::error::{ErrorExt as _, Exit};
use crate::process::Tool;

/// How long git may take: a large checkout on a slow disk.
const LIMIT: Duration = Duration::from_mins(5);

/// What git gives its hooks (`git rev-parse --local-env-vars`): of another work tree, or of another
/// index.
const LOCAL: [&str; 16] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// A repository with a work tree, or a submodule of one.
pub(crate) struct Git {
    /// The top of its work tree, without links.
    pub(crate) top: PathBuf,
}

impl Git {
    /// The repository that `folder` lies in.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let top = tool(folder).args(["rev-parse", "--show-toplevel"]).read();
        let top = top.context("failed to find a git repository").exit(Exit::Usage)?;
        Ok(Self { top: fs_err::canonicalize(top)? })
    }

    fn tool(&self) -> Tool {
        tool(&self.top)
    }

    /// The commit where the change left `rev`.
    pub(crate) fn fork_point(&self, rev: &str) -> Result<String> {
        let commit = self.commit(rev);
        let commit = commit
            .with_context(|| format!("failed to find the revision `{rev}`"))
            .hint("git fetch --unshallow (in CI: fetch-depth: 0)")
            .exit(Exit::Usage)?;
        let base = self.tool().args(["merge-base", &commit, "HEAD"]).read();
        Ok(base.unwrap_or(commit))
    }

    fn commit(&self, rev: &str) -> Option<String> {
        let verify = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
        self.tool().args(verify).arg(format!("{rev}^{{commit}}")).read().ok()
    }

    /// Paths that are other than in `commit`, new ones too, relative to the top. Of a submodule it
    /// is its folder.
    pub(crate) fn changed(&self, commit: &str) -> Result<BTreeSet<PathBuf>> {
        let diff = ["diff", "--name-only", "--no-renames", "--no-relative", "-z"];
        let diff = self.tool().args(diff).args(["--ignore-submodules=none", commit, "--"]);
        let others = self.others(&[]);
        Ok(paths(&diff)?.into_iter().chain(paths(&others)?).collect())
    }

    /// Paths that are there and that git ignores, folders as a whole, relative to the top; those of
    /// its submodules, too.
    pub(crate) fn ignored(&self) -> Result<Vec<PathBuf>> {
        let mut ignored = paths(&self.others(&["--ignored", "--directory"]))?;
        for (_, folder) in submodules(&self.tool())? {
            if let Some(inner) = self.submodule(&folder) {
                ignored.extend(inner.ignored()?.iter().map(|path| folder.join(path)));
            }
        }
        Ok(ignored)
    }

    fn others(&self, more: &[&str]) -> Tool {
        let others = self.tool().args(["ls-files", "--others", "--exclude-standard", "-z"]);
        others.args(more.iter().copied())
    }

    /// A submodule that is checked out.
    fn submodule(&self, folder: &Path) -> Option<Self> {
        let top = self.top.join(folder);
        top.join(".git").symlink_metadata().ok()?;
        Some(Self { top })
    }
}

/// A commit as it is laid out aside.
pub(crate) struct Old<'g> {
    git: &'g Git,
    commit: String,
    /// Where its files are.
    pub(crate) tree: PathBuf,
    /// A repository that knows which files those are, so that they count as git's own there, too.
    repository: PathBuf,
}

impl<'g> Old<'g> {
    /// The commit, to be laid out below `folder`; none of its files are there yet.
    pub(crate) fn new(git: &'g Git, commit: &str, folder: &Path) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        let folder = fs_err::canonicalize(folder)?;
        Self::at(git, commit, folder.join("tree"), folder.join("git"))
    }

    fn at(git: &'g Git, commit: &str, tree: PathBuf, repository: PathBuf) -> Result<Self> {
        let parts = ["objects", "refs"].map(|part| repository.join(part));
        for folder in parts.iter().chain([&tree]) {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(repository.join("HEAD"), "ref: refs/heads/main\n")?;
        fs_err::write(tree.join(".git"), format!("gitdir: {}\n", repository.display()))?;
        let old = Self { git, commit: commit.to_owned(), tree, repository };
        let failed = || format!("failed to read the commit `{commit}`");
        old.tool().args(["read-tree", commit]).run().with_context(failed)?;
        Ok(old)
    }

    fn tool(&self) -> Tool {
        self.git.tool().env("GIT_INDEX_FILE", self.repository.join("index"))
    }

    /// Its files, relative to the top.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        paths(&self.tool().args(["ls-files", "-z"]))
    }

    /// Its symbolic links, relative to the top.
    pub(crate) fn links(&self) -> Result<Vec<PathBuf>> {
        let links = staged(&self.tool(), "120000")?;
        Ok(links.into_iter().map(|(_, path)| path).collect())
    }

    /// Makes those of the folders that are not there yet, but hold files of the commit; all is laid
    /// out if one lies behind a link.
    pub(crate) fn make_folders<'f>(&self, folders: impl Iterator<Item = &'f Path>) -> Result<()> {
        let (files, links) = (self.files()?, self.links()?);
        for folder in folders {
            let place = plain(folder);
            let Ok(inside) = place.strip_prefix(&self.tree) else { continue };
            if links.iter().any(|link| inside.starts_with(link)) {
                return self.check_out(&|_| true);
            }
            if files.iter().any(|file| file != inside && file.starts_with(inside)) {
                fs_err::create_dir_all(&place)?;
            }
        }
        Ok(())
    }

    /// Lays out those of its files, and of its submodules', that are `wanted`.
    pub(crate) fn check_out(&self, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let failed = || format!("failed to check out `{}` aside", self.commit);
        let mut list = Vec::new();
        for path in self.files()?.into_iter().filter(|path| wanted(path)) {
            list.extend(path.into_os_string().into_vec());
            list.push(0);
        }
        let prefix = format!("--prefix={}/", self.tree.display());
        let out = self.tool().args(["checkout-index", "--force", "--quiet", "-z", "--stdin"]);
        out.arg(prefix).input(list).run().with_context(failed)?;
        for (at, (commit, folder)) in submodules(&self.tool())?.into_iter().enumerate() {
            // One that is not checked out has no files on either side.
            let Some(git) = self.git.submodule(&folder) else { continue };
            // One that does not have the commit has changed: that is all that can be said.
            let Some(commit) = git.commit(&commit) else { continue };
            let repository = self.repository.join(format!("submodule-{at}"));
            let inner = Old::at(&git, &commit, self.tree.join(&folder), repository)?;
            inner.check_out(&|path| wanted(&folder.join(path)))?;
        }
        Ok(())
    }
}

fn tool(folder: &Path) -> Tool {
    let tool = Tool::new("git").folder(folder).limit(LIMIT);
    LOCAL.into_iter().fold(tool, Tool::without_env)
}

/// Commits and folders of the submodules in an index.
fn submodules(git: &Tool) -> Result<Vec<(String, PathBuf)>> {
    staged(git, "160000")
}

/// Objects and paths of one mode in an index: `MODE OBJECT STAGE\tPATH`.
fn staged(git: &Tool, mode: &str) -> Result<Vec<(String, PathBuf)>> {
    let entries = bytes(&git.clone().args(["ls-files", "--stage", "-z"]))?;
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let mut fields = str::from_utf8(&entry[..tab]).ok()?.split(' ');
        (fields.next() == Some(mode)).then_some(())?;
        Some((fields.next()?.to_owned(), path(&entry[tab + 1..])))
    };
    Ok(entries.split(|byte| *byte == 0).filter_map(entry).collect())
}

/// Paths that git prints with a NUL behind each.
fn paths(git: &Tool) -> Result<Vec<PathBuf>> {
    let bytes = bytes(git)?;
    Ok(bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(path).collect())
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn bytes(git: &Tool) -> Result<Vec<u8>> {
    Ok(git.run().context("failed to ask git")?.stdout)
}
