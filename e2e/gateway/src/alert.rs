//! Alertmanager's webhook, version 4: the body a gateway gets from Prometheus.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

/// One alert of a webhook. Every `with_` method takes the alert and gives it back changed.
#[derive(Debug, Clone)]
pub struct Alert {
    status: &'static str,
    starts_at: SystemTime,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Alert {
    /// A valid, firing, critical alert about pod `web-0` of `namespace`.
    pub fn firing(name: &str, namespace: &str) -> Self {
        Self {
            status: "firing",
            starts_at: SystemTime::now(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
        .with_label("alertname", name)
        .with_label("namespace", namespace)
        .with_label("severity", "critical")
        .with_label("pod", "web-0")
        .with_annotation("summary", "Made by a spec")
    }

    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn without_label(mut self, key: &str) -> Self {
        self.labels.remove(key);
        self
    }

    #[must_use]
    pub fn with_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn with_start(mut self, starts_at: SystemTime) -> Self {
        self.starts_at = starts_at;
        self
    }

    #[must_use]
    pub fn resolved(mut self) -> Self {
        self.status = "resolved";
        self
    }

    /// The webhook's start time of this alert, as it is sent.
    pub fn starts_at(&self) -> String {
        humantime::format_rfc3339_seconds(self.starts_at).to_string()
    }

    fn json(&self) -> Value {
        json!({
            "status": self.status,
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": self.starts_at(),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.test/graph",
            "fingerprint": "0123456789abcdef",
        })
    }
}

/// The webhook that holds `alerts`.
pub fn webhook(alerts: &[Alert]) -> Value {
    let first = alerts.first();
    json!({
        "version": "4",
        "groupKey": "{}:{alertname=\"made-by-a-spec\"}",
        "truncatedAlerts": 0,
        "status": first.map_or("firing", |alert| alert.status),
        "receiver": "gateway",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.test",
        "alerts": alerts.iter().map(Alert::json).collect::<Vec<_>>(),
    })
}
