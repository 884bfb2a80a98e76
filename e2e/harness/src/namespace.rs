//! A namespace for one spec, gone when the spec is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::json;

use crate::kubectl;

/// The namespace that holds the services all specs share.
pub const SYSTEM: &str = "kubernaut-system";

/// The label every namespace of a spec carries; its value is the spec's short name.
pub const LABEL: &str = "xtask-e2e/spec";

/// A namespace of its own name; deleted on drop, without waiting for the deletion.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates `e2e-SPEC-UNIQUE`.
    pub fn create(spec: &str) -> Result<Self> {
        Self::create_as(spec, unique(&format!("e2e-{spec}")))
    }

    /// Creates a namespace whose whole name matters to the spec.
    pub fn create_as(spec: &str, name: String) -> Result<Self> {
        kubectl::create(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": { LABEL: spec } },
        }))?;
        Ok(Self { name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A leftover namespace harms no other spec, and a panic in drop would hide the cause.
        drop(kubectl::run(&["delete", "namespace", &self.name, "--wait=false"]));
    }
}

/// `prefix-…`, different on every call on every machine, and a DNS-1123 label when `prefix` is.
pub fn unique(prefix: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = since_epoch.as_micros() & 0xff_ffff_ffff;
    format!("{prefix}-{micros:x}-{:x}-{call:x}", std::process::id())
}
