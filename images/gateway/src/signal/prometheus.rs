//! Alertmanager's webhook, version 4 (BR-GATEWAY-003).
//!
//! The resource an alert is about is named by its labels; the first of these that is there wins:
//! `pod`, `deployment`, `statefulset`, `daemonset`, `replicaset`, `cronjob`, `job_name` (plain
//! `job` is the scrape job), `persistentvolumeclaim`, `service`, `node`. With none of them the
//! alert is about its namespace.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{Faults, Reading, Severity, Signal, Source, TargetResource, names};
use crate::problem::FieldError;

const KIND_OF_LABEL: [(&str, &str); 10] = [
    ("pod", "Pod"),
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("replicaset", "ReplicaSet"),
    ("cronjob", "CronJob"),
    ("job_name", "Job"),
    ("persistentvolumeclaim", "PersistentVolumeClaim"),
    ("service", "Service"),
    ("node", "Node"),
];

/// The body of a webhook, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    version: Option<String>,
    receiver: Option<String>,
    #[serde(rename = "externalURL")]
    external_url: Option<String>,
    alerts: Option<Vec<Alert>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

impl Webhook {
    /// One reading for each alert, in their order.
    ///
    /// # Errors
    /// The fields that make the whole webhook useless.
    pub fn read(self) -> Result<Vec<Reading>, Vec<FieldError>> {
        let mut faults = Faults::under("");
        if self.version.as_deref().is_some_and(|version| version != "4") {
            faults.add("version", "is not `4`");
        }
        let alerts = self.alerts.as_deref().unwrap_or_default();
        if alerts.is_empty() {
            faults.add("alerts", "holds no alert");
        }
        if !faults.errors.is_empty() {
            return Err(faults.errors);
        }
        Ok(alerts.iter().enumerate().map(|(at, alert)| self.read_alert(at, alert)).collect())
    }

    fn read_alert(&self, at: usize, alert: &Alert) -> Reading {
        let mut faults = Faults::under(&format!("alerts[{at}]."));
        match alert.status.as_deref() {
            Some("firing") => {}
            Some("resolved") => return Reading::Ignored,
            Some(_) => faults.add("status", "is neither `firing` nor `resolved`"),
            None => faults.add("status", "is missing"),
        }
        let label = |name: &str| alert.labels.get(name);
        let namespace = faults.required("labels.namespace", label("namespace"), names::dns_label);
        let severity = faults.required("labels.severity", label("severity"), |text| {
            let known = Severity::read(text).map(|_| ());
            known.ok_or_else(|| "is none of `critical`, `warning`, `info`".to_owned())
        });
        let signal = Signal {
            source: Source::Prometheus,
            name: faults.required("labels.alertname", label("alertname"), names::title),
            severity: Severity::read(&severity).unwrap_or(Severity::Info),
            target: target(&alert.labels, namespace, &mut faults),
            firing_time: faults.time("startsAt", alert.starts_at.as_ref()),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            provider_data: json!({
                "receiver": self.receiver,
                "externalURL": self.external_url,
                "generatorURL": alert.generator_url,
            }),
        };
        faults.or(signal)
    }
}

fn target(
    labels: &BTreeMap<String, String>,
    namespace: String,
    faults: &mut Faults,
) -> TargetResource {
    let named = KIND_OF_LABEL.iter().find(|(label, _)| labels.contains_key(*label));
    let (kind, name) = match named {
        Some((label, kind)) => {
            let field = format!("labels.{label}");
            (*kind, faults.required(&field, labels.get(*label), names::dns_subdomain))
        }
        None => ("Namespace", namespace.clone()),
    };
    TargetResource { kind: kind.to_owned(), name, namespace }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn alert() -> Value {
        json!({
            "status": "firing",
            "labels": {
                "alertname": "KubePodCrashLooping",
                "namespace": "prod",
                "severity": "critical",
                "pod": "web-0",
            },
            "annotations": {"summary": "again"},
            "startsAt": "2026-11-21T10:00:00+02:00",
        })
    }

    fn read(alerts: &Value) -> Result<Vec<Reading>, Vec<FieldError>> {
        let body = json!({"version": "4", "alerts": alerts});
        serde_json::from_value::<Webhook>(body).unwrap().read()
    }

    /// The reading of the good alert with one field set, or taken away by `null`.
    fn with(pointer: &str, value: Value) -> Reading {
        let mut alert = alert();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let object = alert.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            object.remove(key)
        } else {
            object.insert(key.to_owned(), value)
        };
        read(&json!([alert])).unwrap().remove(0)
    }

    fn signal(reading: Reading) -> Signal {
        match reading {
            Reading::Signal(signal) => *signal,
            other => panic!("not a signal: {other:?}"),
        }
    }

    #[test]
    fn a_good_alert_is_a_signal() {
        let signal = signal(read(&json!([alert()])).unwrap().remove(0));
        assert_eq!(signal.name, "KubePodCrashLooping");
        assert_eq!(signal.severity, Severity::Critical);
        assert_eq!(signal.target.kind, "Pod");
        assert_eq!(signal.target.name, "web-0");
        assert_eq!(signal.firing_time.unwrap().to_rfc3339(), "2026-11-21T08:00:00+00:00");
        assert_eq!(signal.annotations["summary"], "again");
    }

    #[test]
    fn each_fault_names_its_field() {
        for (pointer, value, field) in [
            ("/status", Value::Null, "status"),
            ("/status", json!("burning"), "status"),
            ("/labels/alertname", Value::Null, "labels.alertname"),
            ("/labels/alertname", json!(""), "labels.alertname"),
            ("/labels/alertname", json!("a\u{7}b"), "labels.alertname"),
            ("/labels/namespace", Value::Null, "labels.namespace"),
            ("/labels/namespace", json!("Prod_1"), "labels.namespace"),
            ("/labels/severity", Value::Null, "labels.severity"),
            ("/labels/severity", json!("bad"), "labels.severity"),
            ("/labels/severity", json!("Critical"), "labels.severity"),
            ("/labels/pod", json!("../web"), "labels.pod"),
            ("/labels/pod", json!(""), "labels.pod"),
            ("/startsAt", json!("yesterday"), "startsAt"),
        ] {
            let Reading::Invalid(errors) = with(pointer, value.clone()) else {
                panic!("{pointer} = {value} was taken");
            };
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, [format!("alerts[0].{field}")], "{pointer} = {value}");
        }
    }

    #[test]
    fn all_faults_of_an_alert_come_at_once() {
        let Reading::Invalid(errors) = &read(&json!([{"status": "firing"}])).unwrap()[0] else {
            panic!("taken");
        };
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_resolved_alert_is_ignored_whatever_else_it_says() {
        let readings = read(&json!([{"status": "resolved", "labels": {}}])).unwrap();
        assert_eq!(readings, [Reading::Ignored]);
    }

    #[test]
    fn every_alert_is_read_by_itself() {
        let readings = read(&json!([alert(), {"status": "resolved"}, {}])).unwrap();
        assert!(matches!(
            readings[..],
            [Reading::Signal(_), Reading::Ignored, Reading::Invalid(_)]
        ));
    }

    #[test]
    fn the_target_is_the_most_particular_resource_named() {
        for (label, kind) in KIND_OF_LABEL {
            let mut labels = json!({"alertname": "A", "namespace": "n", "severity": "info"});
            labels[label] = json!("it");
            let readings = read(&json!([{"status": "firing", "labels": labels}])).unwrap();
            let target = signal(readings.into_iter().next().unwrap()).target;
            assert_eq!((target.kind.as_str(), target.name.as_str()), (kind, "it"));
        }
        assert_eq!(signal(with("/labels/node", json!("node-1"))).target.kind, "Pod");
        let none = signal(with("/labels/pod", Value::Null)).target;
        assert_eq!((none.kind.as_str(), none.name.as_str()), ("Namespace", "prod"));
    }

    #[test]
    fn a_webhook_needs_alerts_and_the_version_it_was_written_for() {
        for (body, field) in [
            (json!({"version": "4"}), "alerts"),
            (json!({"version": "4", "alerts": []}), "alerts"),
            (json!({"version": "3", "alerts": [alert()]}), "version"),
        ] {
            let errors = serde_json::from_value::<Webhook>(body).unwrap().read().unwrap_err();
            assert_eq!(errors[0].field, field);
        }
    }
}
