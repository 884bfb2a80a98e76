//! A gateway as its callers know it: its paths, its answers, and the settings it runs with.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::alert::{Alert, webhook};
use harness::http::{self, Answer};
use harness::kubectl;
use harness::metrics::Scrape;
use harness::namespace::SYSTEM;
use harness::stack::Stack;

/// Where Alertmanager posts.
pub const PROMETHEUS: &str = "/api/v1/signals/prometheus";

/// Where Kubernetes events are posted.
pub const KUBERNETES_EVENT: &str = "/api/v1/signals/kubernetes-event";

/// One gateway, reached at a base URL.
#[derive(Debug, Clone)]
pub struct Gateway {
    url: String,
}

/// The body of a 201 or 202.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Taken {
    pub status: String,
    pub fingerprint: String,
    pub remediation_request: ObjectRef,
    pub occurrences: Option<u64>,
    pub request_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObjectRef {
    pub namespace: String,
    pub name: String,
}

impl Gateway {
    pub fn at(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// The one of a private stack, at its address of this moment: a restart changes it.
    pub fn of(stack: &Stack) -> Self {
        Self::at(stack.url())
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], b"")
    }

    /// Any request.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        http::send(method, &format!("{}{path}", self.url), headers, body)
    }

    /// `POST path` with a JSON body and further headers.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Answer> {
        let headers = [headers, &[("Content-Type", "application/json")]].concat();
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Posts a webhook with one alert.
    pub fn alert(&self, alert: &Alert) -> Result<Answer> {
        self.post(PROMETHEUS, &[], &webhook(std::slice::from_ref(alert)))
    }

    /// Posts one alert that must make a new `RemediationRequest`.
    pub fn creates(&self, alert: &Alert) -> Result<Taken> {
        created(&self.alert(alert)?)
    }

    /// Posts one alert that must be counted on a `RemediationRequest` that is there.
    pub fn deduplicates(&self, alert: &Alert) -> Result<Taken> {
        deduplicated(&self.alert(alert)?)
    }

    /// Posts a Kubernetes event.
    pub fn event(&self, event: &Value) -> Result<Answer> {
        self.post(KUBERNETES_EVENT, &[], event)
    }

    /// One scrape of `/metrics`.
    pub fn metrics(&self) -> Result<Scrape> {
        let answer = self.get("/metrics")?;
        ensure!(answer.status == 200, "/metrics says {answer:?}");
        Ok(Scrape::parse(&answer.body))
    }
}

/// Reads a 201.
pub fn created(answer: &Answer) -> Result<Taken> {
    taken(answer, 201, "created")
}

/// Reads a 202 that names the `RemediationRequest` the signal was counted on.
pub fn deduplicated(answer: &Answer) -> Result<Taken> {
    taken(answer, 202, "deduplicated")
}

fn taken(answer: &Answer, status: u16, word: &str) -> Result<Taken> {
    ensure!(answer.status == status, "expected {status} {word}, the gateway says {answer:?}");
    let taken: Taken = answer.parse()?;
    ensure!(taken.status == word, "expected {word}, the gateway says {taken:?}");
    Ok(taken)
}

/// A setting of the shared gateway, read from its running Deployment.
pub fn setting(name: &str) -> Result<String> {
    let deployment = kubectl::json(&["get", "deployment", "gateway", "--namespace", SYSTEM])?;
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    env.into_iter()
        .flatten()
        .find(|variable| variable["name"] == name)
        .and_then(|variable| variable["value"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("failed to find `{name}` in the gateway's Deployment"))
}

/// How long the shared gateway takes a signal for a repetition of the one before.
pub fn dedup_ttl() -> Result<Duration> {
    let ttl = setting("DEDUP_TTL")?;
    humantime::parse_duration(&ttl).with_context(|| format!("failed to read `DEDUP_TTL={ttl}`"))
}
