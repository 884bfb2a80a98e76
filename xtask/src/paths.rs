//! Where things lie. No other module joins a path of xtask's own.
//!
//! ```text
//! target/xtask/
//!   state/            may be lost at any time: only time is lost with it
//!     index/          stat indices: what was hashed, and when
//!     records/IMAGE   what an image was last built from
//!     memory.json     learned peaks of builds
//!     paces.json      how fast builders are beside each other
//!     engine.json     facts of the engine that are slow to ask for
//!   stage/RUN/IMAGE/  the exact files a running build is given
//!   runs/RUN/         one folder a run: events.jsonl, logs/, artifacts/
//!   clusters/NAME/    kubeconfig (private), kind config, fingerprint
//! $XDG_RUNTIME_DIR or /tmp … xtask-UID/   what runs of one machine share: the memory ledger, locks of builds and
//!   clusters, whose each cluster is
//! ```

use std::path::{Path, PathBuf};

/// The places of one workspace.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    home: PathBuf,
}

impl Paths {
    /// Places for the workspace that `root` is the top of.
    pub fn of(root: &Path) -> Self {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root: root.to_owned(), home: root.join(target).join("xtask") }
    }

    /// The top of the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything below is ours to write and to delete.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Folder of the stat indices, one a context.
    pub fn indices(&self) -> PathBuf {
        self.state().join("index")
    }

    pub fn record(&self, image: &str) -> PathBuf {
        self.state().join("records").join(image)
    }

    pub fn memory(&self) -> PathBuf {
        self.state().join("memory.json")
    }

    pub fn paces(&self) -> PathBuf {
        self.state().join("paces.json")
    }

    pub fn engine_facts(&self) -> PathBuf {
        self.state().join("engine.json")
    }

    pub fn stages(&self) -> PathBuf {
        self.home.join("stage")
    }

    pub fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// Where `timings --html` writes if not told otherwise.
    pub fn timings_page(&self) -> PathBuf {
        self.home.join("timings.html")
    }

    pub fn cluster(&self, name: &str) -> PathBuf {
        self.home.join("clusters").join(name)
    }

    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("kubeconfig")
    }

    /// What is known of a cluster we made.
    pub fn cluster_record(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("cluster.json")
    }

    /// What was applied to a cluster we made.
    pub fn applied(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join("applied.json")
    }

    /// Held by the runs of this checkout that use a cluster others run; beside its folder, which goes with the
    /// cluster.
    pub fn cluster_lock(&self, cluster: &str) -> PathBuf {
        self.home.join("clusters").join(format!("{cluster}.lock"))
    }
}

/// The places of one run.
#[derive(Clone, Debug)]
pub struct RunPaths {
    /// Time-ordered and unique: `20261121-083544-12345` (UTC, process id).
    pub id: String,
    folder: PathBuf,
    stage: PathBuf,
}

impl RunPaths {
    pub fn new(paths: &Paths, id: String) -> Self {
        Self { folder: paths.runs().join(&id), stage: paths.stages().join(&id), id }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn events(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// What the run applied to a cluster that others run.
    pub fn applied(&self) -> PathBuf {
        self.folder.join("applied.json")
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.join("artifacts")
    }

    pub fn diagnostics(&self) -> PathBuf {
        self.folder.join("diagnostics")
    }

    /// The whole of this run's staged contexts; removed when the run ends.
    pub fn stages(&self) -> &Path {
        &self.stage
    }

    pub fn stage(&self, image: &str) -> PathBuf {
        self.stage.join(image)
    }
}

/// What all runs of this user on this machine share.
pub fn machine() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(std::env::temp_dir);
    base.join(format!("xtask-{}", rustix::process::getuid().as_raw()))
}

/// Locks of the builds that are under way.
pub fn builds() -> PathBuf {
    machine().join("builds")
}

/// What is known of a kind cluster, whatever becomes of the folder of the checkout that made it.
pub fn cluster_note(engine: &str, cluster: &str) -> PathBuf {
    machine().join("clusters").join(format!("{engine}-{cluster}.json"))
}

/// Held by the run that uses a kind cluster: an engine has but one of a name.
pub fn kind_lock(engine: &str, cluster: &str) -> PathBuf {
    machine().join("clusters").join(format!("{engine}-{cluster}.lock"))
}

/// Where runs tell each other what memory they hold.
pub fn ledger() -> PathBuf {
    machine().join("memory")
}
