//! Where things lie. No other module joins a path of xtask's own.
//!
//! ```text
//! target/xtask/
//!   state/            may be lost at any time: only time is lost with it
//!     index/          stat indices: what was hashed, and when
//!     records/IMAGE   what an image was last built from
//!     memory.json     learned peaks of builds
//!     paces.json      how fast builders are beside each other
//!     digest-key      (private) of digests that others may see
//!     engine.json     facts of the engine that are slow to ask for
//!     clusters/NAME   the server of a cluster of others that a run has reached
//!   stage/RUN/IMAGE/  the exact files a running build is given
//!   runs/RUN/         one folder a run: events.jsonl, logs/, artifacts/
//!   clusters/NAME/    kubeconfig (private), kind config, fingerprint
//! $XDG_RUNTIME_DIR or /tmp … xtask-UID/   what runs of one machine share
//!   memory/           the memory ledger
//!   builds/           locks of builds
//!   clusters/         locks of clusters, whose each cluster is
//!   wanted/           which images each checkout wants
//!   runs/RUN          locked for as long as the run lives
//! ```
//!
//! All of it is private ([`PrivatePath`]): of this user, of no other, and behind no link.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow};

use crate::error::{self, ErrorExt as _, Exit};
use crate::private::{self, Owner, PrivatePath};

/// The home of the workspace that was opened last, for the message of a fault of our own.
static HOME: OnceLock<PathBuf> = OnceLock::new();

/// The places of one workspace.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    home: PrivatePath,
}

impl Paths {
    /// Places for the workspace that `root` is the top of.
    pub fn of(root: &Path) -> Self {
        let home = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => PrivatePath::below(&root.join(target), "xtask"),
            None => PrivatePath::below_others(root, "target", "xtask"),
        };
        HOME.get_or_init(|| home.to_path_buf());
        Self { root: root.to_owned(), home }
    }

    /// The top of the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything below is ours to write and to delete.
    pub fn home(&self) -> &PrivatePath {
        &self.home
    }

    /// Refuses a home that is not ours, before anything in it is read, written or deleted.
    pub fn check(&self) -> Result<()> {
        let home = self.home.is_there().context("failed to open xtask's own folder");
        home.exit(Exit::Environment).map(drop)
    }

    /// Has the home be there, ours, and out of git's sight.
    pub fn prepare(&self) -> Result<()> {
        self.home.make().context("failed to open xtask's own folder").exit(Exit::Environment)?;
        let ignore = self.home.join(".gitignore");
        if !ignore.exists() {
            ignore.write(b"*\n")?;
        }
        Ok(())
    }

    pub fn state(&self) -> PrivatePath {
        self.home.join("state")
    }

    /// Folder of the stat indices, one a context.
    pub fn indices(&self) -> PrivatePath {
        self.state().join("index")
    }

    pub fn record(&self, image: &str) -> PrivatePath {
        self.state().join("records").join(image)
    }

    pub fn memory(&self) -> PrivatePath {
        self.state().join("memory.json")
    }

    pub fn paces(&self) -> PrivatePath {
        self.state().join("paces.json")
    }

    /// The server of a cluster of others that a run has reached.
    pub fn used_cluster(&self, cluster: &str) -> PrivatePath {
        self.state().join("clusters").join(cluster)
    }

    /// What nobody can try out passwords without, on digests that are seen in a cluster.
    pub fn digest_key(&self) -> PrivatePath {
        self.state().join("digest-key")
    }

    pub fn engine_facts(&self) -> PrivatePath {
        self.state().join("engine.json")
    }

    pub fn stages(&self) -> PrivatePath {
        self.home.join("stage")
    }

    pub fn runs(&self) -> PrivatePath {
        self.home.join("runs")
    }

    /// Where `timings --html` writes if not told otherwise.
    pub fn timings_page(&self) -> PrivatePath {
        self.home.join("timings.html")
    }

    pub fn cluster(&self, name: &str) -> PrivatePath {
        self.home.join("clusters").join(name)
    }

    pub fn kubeconfig(&self, cluster: &str) -> PrivatePath {
        self.cluster(cluster).join("kubeconfig")
    }

    /// What is known of a cluster we made.
    pub fn cluster_record(&self, cluster: &str) -> PrivatePath {
        self.cluster(cluster).join("cluster.json")
    }

    /// What was applied to a cluster we made.
    pub fn applied(&self, cluster: &str) -> PrivatePath {
        self.cluster(cluster).join("applied.json")
    }

    /// Held by the runs of this checkout that use a cluster others run; beside its folder, which
    /// goes with the cluster.
    pub fn cluster_lock(&self, cluster: &str) -> PrivatePath {
        self.home.join("clusters").join(format!("{cluster}.lock"))
    }
}

/// The places of one run.
#[derive(Clone, Debug)]
pub struct RunPaths {
    pub id: String,
    folder: PrivatePath,
    stage: PrivatePath,
}

impl RunPaths {
    pub fn new(paths: &Paths, id: String) -> Self {
        Self { folder: paths.runs().join(&id), stage: paths.stages().join(&id), id }
    }

    pub fn folder(&self) -> &PrivatePath {
        &self.folder
    }

    pub fn events(&self) -> PrivatePath {
        self.folder.join("events.jsonl")
    }

    pub fn log(&self, name: &str) -> PrivatePath {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// What the run applied to a cluster that others run.
    pub fn applied(&self) -> PrivatePath {
        self.folder.join("applied.json")
    }

    pub fn artifacts(&self) -> PrivatePath {
        self.folder.join("artifacts")
    }

    pub fn diagnostics(&self) -> PrivatePath {
        self.folder.join("diagnostics")
    }

    /// The whole of this run's staged contexts; removed when the run ends.
    pub fn stages(&self) -> &PrivatePath {
        &self.stage
    }

    /// One image's staged context. Its name is of this run alone: BuildKit keeps a context under
    /// the last part of its path, and of a folder that it has there it does not notice another mode
    /// (moby/buildkit#7176).
    pub fn stage(&self, image: &str) -> PrivatePath {
        let random = self.id.rsplit('-').next().unwrap_or_default();
        self.stage.join(format!("{image}-{}", random.get(..16).unwrap_or(random)))
    }
}

/// Whether a name is that of a run: `20261121-083544-5f0c9a41d2e87b36`, or, in records of before,
/// with a process id in the last place.
pub fn is_run(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let [day, time, last] = parts[..] else { return false };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = last.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digits(day, 8) && digits(time, 6) && (1..=32).contains(&last.len()) && hexadecimal
}

/// What all runs of this user on this machine share.
#[derive(Debug)]
pub struct Machine {
    pub folder: PrivatePath,
    /// Why it is not where it is expected.
    pub warning: Option<anyhow::Error>,
}

/// The folder of this machine: in `XDG_RUNTIME_DIR` or the temporary folder, and where what is
/// there is not ours (anybody can make a folder of that name in `/tmp`), in this user's own state.
pub fn machine() -> Result<&'static Machine> {
    static MACHINE: OnceLock<Result<Machine>> = OnceLock::new();
    let found = MACHINE.get_or_init(|| {
        let name = format!("xtask-{}", rustix::process::geteuid().as_raw());
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir);
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.filter(|folder| folder.is_absolute());
        let own = || Some(std::env::home_dir()?.join(".local/state"));
        first_private(&[
            Some(PrivatePath::below(&base, name)),
            state.or_else(own).map(|state| PrivatePath::below(&state, "xtask-machine")),
        ])
    });
    found.as_ref().map_err(error::again).exit(Exit::Environment)
}

/// The first of these that is private, made if it is not there.
fn first_private(places: &[Option<PrivatePath>]) -> Result<Machine> {
    let mut refused: Option<std::io::Error> = None;
    for folder in places.iter().flatten() {
        match folder.make() {
            Ok(()) => {
                let warning = refused.map(|error| {
                    let error = anyhow::Error::new(error);
                    anyhow!("{error:#}; `{}` is used in its place", folder.display())
                        .hints(error::hints(&error))
                });
                return Ok(Machine { folder: folder.clone(), warning });
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let error = refused.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(error)
        .context("failed to find a private folder for what runs of this machine share")
        .hint("set XDG_RUNTIME_DIR to a folder that only you can write to")
}

/// Locks of the builds that are under way.
pub fn builds() -> Result<PrivatePath> {
    Ok(machine()?.folder.join("builds"))
}

/// The lock of the builds of one tag.
pub fn build_lock(engine: &str, tag: &str) -> Result<PrivatePath> {
    Ok(builds()?.join(format!("{engine}-{}", tag.replace(['/', ':'], "_"))))
}

/// Locks of builds of this key, whatever the image is called.
pub fn build_locks(engine: &str, key: &str) -> Result<Vec<PrivatePath>> {
    let builds = builds()?;
    let ending = format!("_{}", key.get(..16).unwrap_or(key));
    let of_key = |name: &String| name.starts_with(engine) && name.ends_with(&ending);
    Ok(builds.names().into_iter().filter(of_key).map(|name| builds.join(name)).collect())
}

/// What is known of a kind cluster, whatever becomes of the folder of the checkout that made it.
pub fn cluster_note(engine: &str, cluster: &str) -> Result<PrivatePath> {
    Ok(machine()?.folder.join("clusters").join(format!("{engine}-{cluster}.json")))
}

/// Held by the run that uses a kind cluster: an engine has but one of a name.
pub fn kind_lock(engine: &str, cluster: &str) -> Result<PrivatePath> {
    Ok(machine()?.folder.join("clusters").join(format!("{engine}-{cluster}.lock")))
}

/// Which images each checkout wants of an engine, a file a checkout.
pub fn wanted(engine: &str) -> Result<PrivatePath> {
    Ok(machine()?.folder.join("wanted").join(engine))
}

/// Where runs tell each other what memory they hold.
pub fn ledger() -> Result<PrivatePath> {
    Ok(machine()?.folder.join("memory"))
}

/// Locked by a run for as long as it lives.
fn run_lock(id: &str) -> Result<PrivatePath> {
    Ok(machine()?.folder.join("runs").join(id))
}

/// What a run has alone: its lock on this machine, its folder, its staged contexts, which go with
/// it.
#[derive(Debug)]
#[must_use = "the run is over when this is dropped"]
pub struct RunLock {
    paths: RunPaths,
    lock: PrivatePath,
    _claims: [private::Claim; 3],
}

impl RunLock {
    /// Has others see that the run lives, until this is dropped.
    pub fn hold(paths: &RunPaths) -> Result<Self> {
        let lock = run_lock(&paths.id)?;
        let failed = "failed to make the folders of this run";
        let claims = [lock.claim_file(), paths.folder.claim(), paths.stage.claim()];
        let [own, folder, stage] = claims;
        let claims = [own.context(failed)?, folder.context(failed)?, stage.context(failed)?];
        Ok(Self { paths: paths.clone(), lock, _claims: claims })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // What cannot be removed now is found again by the next run.
        self.paths.stage.remove().ok();
        self.lock.remove().ok();
    }
}

/// Whether a run of this user on this machine goes on. None: this machine has nothing of it, so
/// nothing can be said; it may have ended well, or be another machine's.
pub fn is_alive(run: &str) -> Option<bool> {
    match run_lock(run).ok().filter(|_| is_run(run))?.holder() {
        Owner::Alive => Some(true),
        Owner::Gone => Some(false),
        Owner::Nobody => None,
    }
}

/// Leaves what a run that was killed leaves.
#[cfg(test)]
pub fn dead_run(id: &str) {
    drop(run_lock(id).and_then(|lock| Ok(lock.lock_file()?)).unwrap_or_else(|_| panic!("{id}")));
}

/// Runs of this user on this machine that were killed and are not forgotten.
pub fn killed_runs() -> impl Iterator<Item = String> {
    let runs = machine().map(|machine| machine.folder.join("runs").names()).unwrap_or_default();
    runs.into_iter().filter(|run| is_alive(run) == Some(false))
}

/// Forgets runs that were killed before this moment, as the beginning of a run's id says it. What
/// they left has been removed by then.
pub fn forget_runs_before(moment: &str) {
    killed_runs().filter(|run| run.as_str() < moment).for_each(|run| forget_run(&run));
}

/// Removes what is left of a run that is over, once nothing of it is left on this machine.
pub fn forget_run(run: &str) {
    if is_alive(run) == Some(false) {
        // Another run may be doing the same.
        run_lock(run).and_then(|lock| Ok(lock.remove()?)).ok();
    }
}

/// Where the state of the workspace lies, as far as one was opened.
pub fn opened_home() -> Option<&'static Path> {
    HOME.get().map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs() {
        for (name, is) in [
            ("20261121-083544-12345", true),
            ("20261121-083544-5f0c9a41d2e87b36", true),
            ("holiday-2019", false),
            ("20261121-083544", false),
            ("20261121-083544-", false),
            ("20261121-083544-xyz", false),
            ("20261121-083544-1/../../x", false),
            ("20261121-083544-1-2", false),
            ("..", false),
        ] {
            assert_eq!(is_run(name), is, "{name}");
        }
    }

    #[test]
    fn two_runs_stage_an_image_under_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::of(folder.path());
        let name = |random: &str| {
            let run = RunPaths::new(&paths, format!("20261121-083544-{random}"));
            run.stage("api").file_name().unwrap().to_owned()
        };
        assert_eq!(name("5f0c9a41d2e87b36aaaa"), "api-5f0c9a41d2e87b36");
        assert_ne!(name("5f0c9a41d2e87b36aaaa"), name("6f0c9a41d2e87b36aaaa"));
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_used_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("xtask-0")).unwrap();
        let place = |name| Some(PrivatePath::below(folder.path(), name));
        let machine = first_private(&[place("xtask-0"), None, place("state")]).unwrap();
        assert_eq!(Some(machine.folder), place("state"));
        let warning = machine.warning.unwrap();
        assert!(warning.to_string().contains("xtask-0` is a link"), "{warning}");
        assert_eq!(error::hints(&warning).len(), 1, "{warning:?}");
        assert_eq!(elsewhere.read_dir().unwrap().count(), 0);
        let none = first_private(&[place("xtask-0"), None]).unwrap_err();
        let none = error::told(&none);
        assert!(none.contains("hint: set XDG_RUNTIME_DIR"), "{none}");
    }

    #[test]
    fn a_run_is_alive_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let id = format!("20261121-083544-{}", crate::identity::random().unwrap());
        let paths = RunPaths::new(&Paths::of(folder.path()), id.clone());
        assert_eq!(is_alive(&id), None);
        let run = RunLock::hold(&paths).unwrap();
        assert_eq!(is_alive(&id), Some(true));
        assert_eq!(paths.stages().owner(), Owner::Alive);
        drop(run);
        assert_eq!((is_alive(&id), paths.stages().exists()), (None, false));
        assert_eq!(paths.folder().owner(), Owner::Gone);
    }
}
