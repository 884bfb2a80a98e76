//! A step that is a command: what manifests cannot say (a certificate, a seeded database).
//!
//! It runs in every run, since nothing tells whether what it made is still right; one that need not
//! do its work again finds that out itself.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::Environment;

/// Runs a step's command to its end; its output goes to `log`.
pub fn hook(
    step: &str,
    words: &[String],
    environment: &Environment<'_>,
    limit: Duration,
    log: &Path,
) -> anyhow::Result<()> {
    let tool = environment.command(words)?.env("XTASK_STEP", step).limit(limit).log(log);
    tool.run().with_context(|| format!("failed to run step `{step}`"))?;
    Ok(())
}
