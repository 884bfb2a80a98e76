//! A signal: what a webhook brought, checked, in one form whatever its source.
//!
//! Rules for every source:
//!
//! | what | rule |
//! | --- | --- |
//! | name (`alertname`, `reason`) | 1–253 bytes, no control characters |
//! | namespace | DNS-1123 label (63) |
//! | resource kind | a Kubernetes kind: a capital, then letters and digits, at most 63 |
//! | resource name | DNS-1123 subdomain (253) |
//! | severity | `critical`, `warning` or `info` |

pub mod kubernetes_event;
pub mod names;
pub mod prometheus;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fingerprint::Fingerprint;
use crate::problem::FieldError;

/// One signal that may become a remediation request.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub source: Source,
    /// The alert's name or the event's reason.
    pub name: String,
    pub severity: Severity,
    pub target: TargetResource,
    /// When it began to fire, as its source says.
    pub firing_time: Option<DateTime<Utc>>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What only this source knows, kept for those who remedy.
    pub provider_data: Value,
}

/// What one element of a webhook turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Signal(Box<Signal>),
    /// Well formed, and nothing to remedy: a resolved alert, a `Normal` event.
    Ignored,
    Invalid(Vec<FieldError>),
}

/// Where a signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    #[serde(rename = "prometheus-alert")]
    Prometheus,
    #[serde(rename = "kubernetes-event")]
    KubernetesEvent,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Critical,
    Warning,
    Info,
}

/// The Kubernetes object the signal is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetResource {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

impl Source {
    pub const ALL: [Self; 2] = [Self::Prometheus, Self::KubernetesEvent];

    /// The last part of the endpoint's path, and the `source` label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::KubernetesEvent => "kubernetes-event",
        }
    }

    /// The value of `spec.signalType` and of the label `kubernaut.ai/signal-type`.
    pub fn signal_type(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus-alert",
            Self::KubernetesEvent => "kubernetes-event",
        }
    }
}

impl Severity {
    fn read(text: &str) -> Option<Self> {
        match text {
            "critical" => Some(Self::Critical),
            "warning" => Some(Self::Warning),
            "info" => Some(Self::Info),
            _ => None,
        }
    }
}

impl Signal {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.name, &self.target)
    }
}

/// Collects what is wrong with an element, under the path of that element.
struct Faults {
    root: String,
    errors: Vec<FieldError>,
}

impl Faults {
    fn under(root: &str) -> Self {
        Self { root: root.to_owned(), errors: Vec::new() }
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        let field = format!("{}{field}", self.root);
        self.errors.push(FieldError { field, message: message.into() });
    }

    /// The value if it is there and `rule` finds nothing wrong; else empty, with the fault noted.
    fn required(
        &mut self,
        field: &str,
        value: Option<&String>,
        rule: impl Fn(&str) -> Result<(), String>,
    ) -> String {
        match value.map(|text| (text, rule(text))) {
            Some((text, Ok(()))) => return text.clone(),
            Some((text, Err(_))) if text.is_empty() => self.add(field, "is empty"),
            Some((_, Err(message))) => self.add(field, message),
            None => self.add(field, "is missing"),
        }
        String::new()
    }

    /// The instant, if the text is one; an absent or empty one is no fault.
    fn time(&mut self, field: &str, value: Option<&String>) -> Option<DateTime<Utc>> {
        let text = value.filter(|text| !text.is_empty())?;
        let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
        if time.is_none() {
            self.add(field, "is not an RFC 3339 time");
        }
        time
    }

    fn or(self, signal: Signal) -> Reading {
        if self.errors.is_empty() {
            Reading::Signal(Box::new(signal))
        } else {
            Reading::Invalid(self.errors)
        }
    }
}
