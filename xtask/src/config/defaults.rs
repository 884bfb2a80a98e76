//! What holds where the file says nothing. `defaults.toml` beside this page shows every key with
//! its default and a comment; a test holds the two together.
//!
//! A default never causes a fault: a suite of one minute has steps of one minute, though the
//! default for a step is two.

use std::time::Duration;

use super::{CacheMode, Engine, EngineName, Restarts, Reuse};

pub(super) const ENGINE: Engine =
    Engine { name: EngineName::Auto, reserve: None, trust_host_ca: true, jobs: None, builds: true };

pub(super) const IMAGE_CONTEXT: &str = ".";
/// A compiler on a small service: 1–1.5 GB were measured.
pub(super) const IMAGE_MEMORY: u64 = 3 * bytesize::GIB / 2;
/// A build that works is not ended by it, only one that waits: for a network, for a lock.
pub(super) const IMAGE_SILENCE: Duration = Duration::from_mins(10);
pub(super) const IMAGE_EXCLUDE: [&str; 2] = ["**/vendor/", "**/target/"];

pub(super) const NODE_IMAGE: &str = "docker.io/kindest/node:v1.34.4";
pub(super) const CLUSTER_REUSE: Reuse = Reuse::IfUnchanged;
pub(super) const CLUSTER_MEMORY: u64 = 3 * bytesize::GIB / 2;
pub(super) const CLUSTER_TIMEOUT: Duration = Duration::from_mins(5);

/// Longer than most suites may take, shorter than a night.
pub(super) const CLUSTER_TTL: Duration = Duration::from_hours(4);

pub(super) const SUITE_TIMEOUT: Duration = Duration::from_mins(30);
pub(super) const STEP_TIMEOUT: Duration = Duration::from_mins(2);
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_mins(2);
pub(super) const TEST_TIMEOUT: Duration = Duration::from_mins(10);

pub(super) const HTTP_STATUS: u16 = 200;

/// A test may restart things on purpose.
pub(super) const RESTARTS: Restarts = Restarts::Warn;

/// What others will run is put where they find it only if the file says so.
pub(super) const CACHE_MODE: CacheMode = CacheMode::ReadOnly;
/// podman tries three times, a second apart, before it says that nobody answers.
pub(super) const CACHE_ANSWER: Duration = Duration::from_secs(10);
pub(super) const CACHE_TRANSFER: Duration = Duration::from_mins(5);
