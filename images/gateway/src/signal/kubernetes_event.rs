//! A core/v1 Event (BR-GATEWAY-002). `Warning` events are signals of severity `warning`; `Normal`
//! ones are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{Faults, Reading, Severity, Signal, Source, TargetResource, names};

/// The event, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    #[serde(default)]
    involved_object: InvolvedObject,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
    count: Option<u32>,
    #[serde(default)]
    source: EventSource,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
struct InvolvedObject {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct EventSource {
    component: Option<String>,
    host: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Event {
    pub fn read(self) -> Reading {
        let mut faults = Faults::under("");
        match self.kind.as_deref() {
            Some("Warning") => {}
            Some("Normal") => return Reading::Ignored,
            Some(_) => faults.add("type", "is neither `Warning` nor `Normal`"),
            None => faults.add("type", "is missing"),
        }
        let object = &self.involved_object;
        let signal = Signal {
            source: Source::KubernetesEvent,
            name: faults.required("reason", self.reason.as_ref(), names::title),
            severity: Severity::Warning,
            target: TargetResource {
                kind: faults.required("involvedObject.kind", object.kind.as_ref(), names::kind),
                name: faults.required(
                    "involvedObject.name",
                    object.name.as_ref(),
                    names::dns_subdomain,
                ),
                namespace: faults.required(
                    "involvedObject.namespace",
                    object.namespace.as_ref(),
                    names::dns_label,
                ),
            },
            firing_time: faults.time("firstTimestamp", self.first_timestamp.as_ref()),
            annotations: self
                .message
                .map(|text| ("message".to_owned(), text))
                .into_iter()
                .collect(),
            labels: self.metadata.labels,
            provider_data: json!({
                "component": self.source.component,
                "host": self.source.host,
                "count": self.count,
                "lastTimestamp": self.last_timestamp,
            }),
        };
        faults.or(signal)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event() -> Value {
        json!({
            "type": "Warning",
            "reason": "BackOff",
            "message": "Back-off restarting failed container",
            "involvedObject": {"kind": "Pod", "namespace": "prod", "name": "web-0"},
            "firstTimestamp": "2026-11-21T08:00:00Z",
            "lastTimestamp": null,
            "count": 3,
            "source": {"component": "kubelet", "host": "node-1"},
        })
    }

    fn read(event: Value) -> Reading {
        serde_json::from_value::<Event>(event).unwrap().read()
    }

    #[test]
    fn a_warning_is_a_signal() {
        let Reading::Signal(signal) = read(event()) else { panic!("not a signal") };
        assert_eq!(signal.name, "BackOff");
        assert_eq!(signal.severity, Severity::Warning);
        assert_eq!(signal.target.name, "web-0");
        assert_eq!(signal.provider_data["component"], "kubelet");
        assert_eq!(signal.annotations["message"], "Back-off restarting failed container");
    }

    #[test]
    fn a_normal_event_is_ignored() {
        assert_eq!(read(json!({"type": "Normal"})), Reading::Ignored);
    }

    #[test]
    fn each_fault_names_its_field() {
        for (pointer, value, field) in [
            ("/type", json!("Odd"), "type"),
            ("/type", Value::Null, "type"),
            ("/reason", Value::Null, "reason"),
            ("/reason", json!(" "), "reason"),
            ("/involvedObject/kind", json!("pod"), "involvedObject.kind"),
            ("/involvedObject/kind", Value::Null, "involvedObject.kind"),
            ("/involvedObject/namespace", Value::Null, "involvedObject.namespace"),
            ("/involvedObject/name", json!("Web"), "involvedObject.name"),
            ("/firstTimestamp", json!("now"), "firstTimestamp"),
        ] {
            let mut event = event();
            *event.pointer_mut(pointer).unwrap() = value.clone();
            let Reading::Invalid(errors) = read(event) else {
                panic!("{pointer} = {value} was taken");
            };
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, [field], "{pointer} = {value}");
        }
    }
}
