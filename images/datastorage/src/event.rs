//! An audit event and the batch it comes in.
//!
//! Everything PostgreSQL would refuse is refused here, with the field's name, so that an error
//! from the database always means the database and never the caller:
//!
//! | field | rule |
//! | --- | --- |
//! | `event_id` | a UUID; a known one is taken as a repetition and changes nothing |
//! | `event_type` | lower-case words joined by dots, at least two, 100 bytes at most |
//! | `service`, `correlation_id` | not empty |
//! | `outcome` | `success` or `failure` |
//! | `occurred_at` | RFC 3339 |
//! | `namespace`, `resource`, `fingerprint` | may be left out |
//! | `detail` | a JSON object, may be left out; holds no U+0000, which PostgreSQL cannot store |
//!
//! Text is at most 512 bytes (room for kind, namespace and name of any object) without control
//! characters.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::problem::FieldError;

/// The most events one batch may hold.
pub(crate) const MAX_EVENTS: usize = 500;
const MAX_TEXT_BYTES: usize = 512;
const MAX_TYPE_BYTES: usize = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditEvent {
    pub(crate) event_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) service: String,
    pub(crate) correlation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    pub(crate) outcome: Outcome,
    pub(crate) occurred_at: DateTime<Utc>,
    #[serde(default)]
    pub(crate) detail: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Success,
    Failure,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// Reads `{"events":[…]}`. Every fault of every event is reported, each with its path.
pub(crate) fn parse_batch(body: &[u8]) -> Result<Vec<AuditEvent>, Vec<FieldError>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        events: Vec<Value>,
    }
    let batch: Batch = serde_json::from_slice(body)
        .map_err(|error| vec![FieldError::new("body", error.to_string())])?;
    if batch.events.is_empty() || batch.events.len() > MAX_EVENTS {
        let message = format!("holds {} events, not 1 to {MAX_EVENTS}", batch.events.len());
        return Err(vec![FieldError::new("events", message)]);
    }
    let mut faults = Vec::new();
    let mut events = Vec::with_capacity(batch.events.len());
    for (index, value) in batch.events.into_iter().enumerate() {
        match serde_json::from_value::<AuditEvent>(value) {
            Ok(event) => {
                faults.extend(event.faults(&format!("events[{index}]")));
                events.push(event);
            }
            Err(error) => {
                faults.push(FieldError::new(format!("events[{index}]"), error.to_string()));
            }
        }
    }
    if faults.is_empty() { Ok(events) } else { Err(faults) }
}

impl AuditEvent {
    fn faults(&self, path: &str) -> Vec<FieldError> {
        let texts = [
            ("event_type", Some(&self.event_type)),
            ("service", Some(&self.service)),
            ("correlation_id", Some(&self.correlation_id)),
            ("namespace", self.namespace.as_ref()),
            ("resource", self.resource.as_ref()),
            ("fingerprint", self.fingerprint.as_ref()),
        ];
        let mut faults: Vec<_> = texts
            .into_iter()
            .filter_map(|(field, text)| Some((field, text_fault(text?)?)))
            .map(|(field, message)| FieldError::new(format!("{path}.{field}"), message))
            .collect();
        for (field, text) in [("service", &self.service), ("correlation_id", &self.correlation_id)]
        {
            if text.is_empty() {
                faults.push(FieldError::new(format!("{path}.{field}"), "is empty"));
            }
        }
        if !is_event_type(&self.event_type) {
            let message = "is not lower-case words joined by dots, such as `gateway.crd.created`";
            faults.push(FieldError::new(format!("{path}.event_type"), message));
        }
        if self.detail.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)) {
            faults.push(FieldError::new(format!("{path}.detail"), "holds the character U+0000"));
        }
        faults
    }
}

fn text_fault(text: &str) -> Option<String> {
    if text.len() > MAX_TEXT_BYTES {
        return Some(format!("is longer than {MAX_TEXT_BYTES} bytes"));
    }
    text.chars().any(char::is_control).then(|| "holds a control character".to_owned())
}

/// Whether `text` could be an event's type: `gateway.signal.received`.
pub(crate) fn is_event_type(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    text.len() <= MAX_TYPE_BYTES && text.contains('.') && text.split('.').all(word)
}

/// Depth is bounded: `serde_json` refuses to read beyond 128 levels.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "event_id": "7f1c2a52-1111-4222-8333-444455556666",
            "event_type": "gateway.signal.received",
            "service": "gateway",
            "correlation_id": "req-1",
            "outcome": "success",
            "occurred_at": "2026-11-21T09:00:00+01:00",
        })
    }

    fn parse(events: &[Value]) -> Result<Vec<AuditEvent>, Vec<FieldError>> {
        parse_batch(json!({ "events": events }).to_string().as_bytes())
    }

    #[test]
    fn what_may_be_left_out_may_be_left_out() {
        let events = parse(&[event()]).unwrap();
        assert_eq!(events[0].namespace, None);
        assert!(events[0].detail.is_empty());
        assert_eq!(events[0].occurred_at.to_rfc3339(), "2026-11-21T08:00:00+00:00");
    }

    #[test]
    fn each_broken_field_is_named() {
        let cases = [
            ("event_id", json!("not-a-uuid"), "events[0]", "UUID"),
            ("event_type", json!("received"), "events[0].event_type", "dots"),
            ("event_type", json!("gateway..received"), "events[0].event_type", "dots"),
            ("event_type", json!("Gateway.received"), "events[0].event_type", "dots"),
            ("service", json!(""), "events[0].service", "empty"),
            ("correlation_id", json!(""), "events[0].correlation_id", "empty"),
            ("correlation_id", json!("a\nb"), "events[0].correlation_id", "control"),
            ("namespace", json!("n".repeat(513)), "events[0].namespace", "512"),
            ("resource", json!("nul\u{0}"), "events[0].resource", "control"),
            ("outcome", json!("maybe"), "events[0]", "maybe"),
            ("occurred_at", json!("yesterday"), "events[0]", "invalid characters"),
            ("detail", json!([1]), "events[0]", "map"),
            ("detail", json!({"a": [{"b\u{0}": 1}]}), "events[0].detail", "U+0000"),
            ("detail", json!({"a": "\u{0}"}), "events[0].detail", "U+0000"),
            ("colour", json!("red"), "events[0]", "colour"),
        ];
        for (field, value, path, words) in cases {
            let mut broken = event();
            broken[field] = value;
            let faults = parse(&[broken]).unwrap_err();
            assert_eq!(faults.len(), 1, "{field}: {faults:?}");
            assert_eq!(faults[0].field, path, "{faults:?}");
            assert!(faults[0].message.contains(words), "{faults:?}");
        }
    }

    #[test]
    fn every_fault_of_every_event_is_reported() {
        let mut first = event();
        first["service"] = json!("");
        first["event_type"] = json!("x");
        let mut third = event();
        third["outcome"] = json!(3);
        let faults = parse(&[first, event(), third]).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["events[0].service", "events[0].event_type", "events[2]"]);
    }

    #[test]
    fn a_batch_holds_one_to_five_hundred_events() {
        assert_eq!(parse(&[]).unwrap_err()[0].field, "events");
        assert_eq!(parse(&vec![event(); MAX_EVENTS]).unwrap().len(), MAX_EVENTS);
        assert_eq!(parse(&vec![event(); MAX_EVENTS + 1]).unwrap_err()[0].field, "events");
    }

    #[test]
    fn what_is_no_batch_at_all_is_a_fault_of_the_body() {
        for body in ["", "[]", "{}", r#"{"events":{}}"#, r#"{"events":[],"more":1}"#] {
            assert_eq!(parse_batch(body.as_bytes()).unwrap_err()[0].field, "body", "{body}");
        }
    }
}
