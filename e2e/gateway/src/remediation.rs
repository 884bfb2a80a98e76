//! `RemediationRequests`, seen and changed through the Kubernetes API.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::gateway::ObjectRef;
use harness::eventually::{SOON, eventually};
use harness::kubectl;

/// The resource's full name, so that no other group's resource can be meant.
pub const RESOURCE: &str = "remediationrequests.kubernaut.ai";

/// Every `RemediationRequest` of a namespace.
pub fn list(namespace: &str) -> Result<Vec<Value>> {
    let mut list = kubectl::json(&["get", RESOURCE, "--namespace", namespace])?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        other => anyhow::bail!("failed to list `{RESOURCE}` in `{namespace}`: got {other}"),
    }
}

/// The names of [`list`], sorted.
pub fn names(namespace: &str) -> Result<Vec<String>> {
    let mut names = list(namespace)?
        .iter()
        .map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .context("failed to find a name on every RemediationRequest")?;
    names.sort();
    Ok(names)
}

/// One `RemediationRequest`.
pub fn get(reference: &ObjectRef) -> Result<Value> {
    kubectl::json(&["get", RESOURCE, &reference.name, "--namespace", &reference.namespace])
}

/// Does what the remediation controllers do: sets `status.phase`.
pub fn set_phase(reference: &ObjectRef, phase: &str) -> Result<()> {
    let patch = json!({ "status": { "phase": phase } }).to_string();
    kubectl::run(&[
        "patch",
        RESOURCE,
        &reference.name,
        "--namespace",
        &reference.namespace,
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        &patch,
    ])
    .map(drop)
}

/// Deletes one `RemediationRequest` and waits until it is gone.
pub fn delete(reference: &ObjectRef) -> Result<()> {
    kubectl::run(&["delete", RESOURCE, &reference.name, "--namespace", &reference.namespace])
        .map(drop)
}

/// Waits until the gateway has counted `occurrences` on the `RemediationRequest`.
pub fn counted(reference: &ObjectRef, occurrences: u64) -> Result<()> {
    let what = format!("`{}` counts {occurrences} occurrences", reference.name);
    eventually(&what, SOON, || {
        let deduplication = get(reference)?["status"]["deduplication"].take();
        let count = deduplication["occurrenceCount"].as_u64();
        ensure!(count == Some(occurrences), "its status says {deduplication}");
        Ok(())
    })
}
