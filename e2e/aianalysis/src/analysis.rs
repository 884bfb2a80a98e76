//! `AIAnalysis` as who asks for one knows it.

use anyhow::{Context as _, Result, ensure};
use harness::eventually::{SOON, eventually};
use harness::kubectl::{self, Watch};
use harness::namespace::unique;
use serde_json::{Value, json};

/// The resource's full name, so that no other group's resource can be meant.
pub const RESOURCE: &str = "aianalyses.kubernaut.ai";

/// A manifest on its way to the API server. Every `with_` method gives it back changed.
#[derive(Debug, Clone)]
pub struct Request {
    manifest: Value,
}

/// An `AIAnalysis` that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    pub namespace: String,
    pub name: String,
}

impl Request {
    /// A valid request about a signal from staging.
    pub fn about(signal: &str) -> Self {
        let manifest = json!({
            "apiVersion": "kubernaut.ai/v1alpha1",
            "kind": "AIAnalysis",
            "metadata": { "name": unique("aia"), "labels": {} },
            "spec": {
                "remediationRequest": "rr-made-by-a-spec",
                "signalFingerprint": "5e".repeat(32),
                "signalName": signal,
                "severity": "critical",
                "environment": "staging",
                "targetResource": { "kind": "Pod", "name": "web-0", "namespace": "prod" },
            },
        });
        Self { manifest }
    }

    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.manifest["metadata"]["name"] = json!(name);
        self
    }

    #[must_use]
    pub fn with_environment(self, environment: &str) -> Self {
        self.with_spec("environment", json!(environment))
    }

    /// Sets a field of the spec, to whatever value; null takes it away.
    #[must_use]
    pub fn with_spec(mut self, field: &str, value: Value) -> Self {
        self.manifest["spec"][field] = value;
        self
    }

    #[must_use]
    pub fn with_class(mut self, class: &str) -> Self {
        self.manifest["metadata"]["labels"]["kubernaut.ai/controller-class"] = json!(class);
        self
    }

    /// Creates it; the error is the API server's.
    pub fn create_in(&self, namespace: &str) -> Result<Analysis> {
        let mut manifest = self.manifest.clone();
        manifest["metadata"]["namespace"] = json!(namespace);
        kubectl::create(&manifest)?;
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(Analysis { namespace: namespace.to_owned(), name })
    }
}

impl Analysis {
    /// The whole resource as it is now.
    pub fn get(&self) -> Result<Value> {
        let namespace = &self.namespace;
        let args = ["get", RESOURCE, &self.name, "--namespace", namespace, "--show-managed-fields"];
        kubectl::json(&args)
    }

    /// Waits until it is in that phase; the whole resource then. Ends at once where it cannot come
    /// to that phase any more.
    pub fn await_phase(&self, phase: &str) -> Result<Value> {
        let what = format!("`{}` is {phase}", self.name);
        let over = eventually(&what, SOON, || {
            let resource = self.get()?;
            let seen = resource["status"]["phase"].as_str().unwrap_or("new").to_owned();
            let over = seen == phase || ["Completed", "Failed"].contains(&seen.as_str());
            ensure!(over, "it is {seen}: {}", resource["status"]);
            Ok(resource)
        })?;
        ensure!(over["status"]["phase"] == phase, "it is not {phase}: {}", over["status"]);
        Ok(over)
    }

    /// Waits until a condition has that status and reason; the whole resource then.
    pub fn await_condition(&self, kind: &str, status: &str, reason: &str) -> Result<Value> {
        let what = format!("condition {kind} of `{}` is {status}, {reason}", self.name);
        eventually(&what, SOON, || {
            let resource = self.get()?;
            let seen = condition(&resource, kind)?;
            ensure!(seen["status"] == status && seen["reason"] == reason, "it is {seen}");
            Ok(resource)
        })
    }

    /// Deletes it and waits until it is gone.
    pub fn delete(&self) -> Result<()> {
        kubectl::run(&["delete", RESOURCE, &self.name, "--namespace", &self.namespace]).map(drop)
    }

    /// Merges into the resource itself, not its status.
    pub fn patch(&self, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let namespace = &self.namespace;
        let args = ["patch", RESOURCE, &self.name, "--namespace", namespace, "--type", "merge"];
        kubectl::run(&[&args[..], &["--patch", &patch]].concat()).map(drop)
    }
}

/// Every `AIAnalysis` of a namespace, as they change.
pub fn watch(namespace: &str) -> Result<Watch> {
    Watch::start(&[RESOURCE, "--namespace", namespace, "--show-managed-fields"])
}

/// Every `AIAnalysis` of a namespace.
pub fn list(namespace: &str) -> Result<Vec<Value>> {
    let mut list = kubectl::json(&["get", RESOURCE, "--namespace", namespace])?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        other => anyhow::bail!("failed to list `{RESOURCE}` in `{namespace}`: got {other}"),
    }
}

/// A condition of a resource, which must be there once.
pub fn condition<'r>(resource: &'r Value, kind: &str) -> Result<&'r Value> {
    let conditions = resource["status"]["conditions"].as_array();
    let mut named = conditions.into_iter().flatten().filter(|one| one["type"] == kind);
    let found =
        named.next().with_context(|| format!("no condition {kind} in {}", resource["status"]))?;
    ensure!(named.next().is_none(), "condition {kind} is there twice");
    Ok(found)
}

/// The uid, which is the correlation id of its audit events.
pub fn uid(resource: &Value) -> Result<String> {
    let uid = resource["metadata"]["uid"].as_str();
    uid.map(str::to_owned).with_context(|| format!("no uid in {resource}"))
}
