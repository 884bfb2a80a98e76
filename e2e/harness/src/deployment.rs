//! What stands behind a Deployment: its pods and what they have written.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::kubectl;

/// The pods of a Deployment that are not going away.
pub fn pods(namespace: &str, deployment: &str) -> Result<Vec<Value>> {
    let selector = selector(namespace, deployment)?;
    let mut pods =
        kubectl::json(&["get", "pods", "--namespace", namespace, "--selector", &selector])?;
    let Value::Array(pods) = pods["items"].take() else {
        bail!("failed to list the pods of `{namespace}/{deployment}`");
    };
    let staying = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    Ok(pods.into_iter().filter(staying).collect())
}

/// What every pod of a Deployment has written within `since`, such as `5m`.
///
/// Not `--all-pods`, which puts the pod's name before each line.
pub fn logs(namespace: &str, deployment: &str, since: &str) -> Result<String> {
    let selector = selector(namespace, deployment)?;
    let since = format!("--since={since}");
    kubectl::run(&["logs", "--namespace", namespace, "--selector", &selector, "--tail=-1", &since])
}

/// `key=value,…` of the Deployment's selector.
fn selector(namespace: &str, deployment: &str) -> Result<String> {
    let object = kubectl::json(&["get", "deployment", deployment, "--namespace", namespace])?;
    let labels = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .with_context(|| format!("failed to find the selector of `{namespace}/{deployment}`"))?;
    let pairs = labels.iter().map(|(key, value)| {
        value.as_str().map(|value| format!("{key}={value}")).context("a label is not text")
    });
    Ok(pairs.collect::<Result<Vec<_>>>()?.join(","))
}
