//! The custom resource `RemediationRequest`, `kubernaut.ai/v1alpha1` (BR-GATEWAY-018): as much of
//! it as the gateway writes and reads. The schema itself is in `k8s/10-crds`.
//!
//! The gateway writes `spec` once and `status.deduplication` afterwards; `status.phase` belongs to
//! the controllers.
//!
//! Names are `rr-`, 12 digits of the fingerprint, `-`, and a suffix in base 36:
//! - the time in milliseconds, where Redis has made sure that nobody else creates;
//! - without Redis, a digest of the names that were there when the decision was made. Two
//!   gateways that saw the same then pick the same name, and the API server lets one have it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::custom_resource::API_VERSION;
use sha2::{Digest, Sha256};

use crate::dedup::{Existing, Phase};
use crate::fingerprint::Fingerprint;
use crate::signal::{Severity, Signal, TargetResource};

pub const KIND: &str = "RemediationRequest";
pub const FINGERPRINT_LABEL: &str = "kubernaut.ai/fingerprint";
pub const SIGNAL_TYPE_LABEL: &str = "kubernaut.ai/signal-type";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemediationRequest {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    pub metadata: ObjectMeta,
    pub spec: Spec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub signal_fingerprint: String,
    pub signal_name: String,
    pub severity: Severity,
    pub signal_type: String,
    pub target_resource: TargetResource,
    pub firing_time: String,
    pub received_time: String,
    #[serde(default)]
    pub signal_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub signal_annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub provider_data: Value,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub phase: Option<String>,
    pub deduplication: Option<Deduplication>,
}

/// How often the signal came, the first time included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deduplication {
    pub occurrence_count: u64,
    pub first_seen: String,
    pub last_seen: String,
}

service::custom_resource!(RemediationRequest, KIND, "remediationrequests");

impl RemediationRequest {
    /// The request for `signal`, received `now`, not yet created.
    pub fn new(
        signal: &Signal,
        fingerprint: &Fingerprint,
        name: String,
        now: DateTime<Utc>,
    ) -> Self {
        let signal_type = signal.source.signal_type();
        let labels = BTreeMap::from([
            (FINGERPRINT_LABEL.to_owned(), fingerprint.label()),
            (SIGNAL_TYPE_LABEL.to_owned(), signal_type.to_owned()),
        ]);
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(signal.target.namespace.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Spec {
                signal_fingerprint: fingerprint.to_string(),
                signal_name: signal.name.clone(),
                severity: signal.severity,
                signal_type: signal_type.to_owned(),
                target_resource: signal.target.clone(),
                firing_time: timestamp(signal.firing_time.unwrap_or(now)),
                received_time: timestamp(now),
                signal_labels: signal.labels.clone(),
                signal_annotations: signal.annotations.clone(),
                provider_data: signal.provider_data.clone(),
            },
            status: None,
        }
    }

    /// What the decision needs to know of it.
    pub fn existing(&self, now: DateTime<Utc>) -> Existing {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        let created = self.metadata.creation_timestamp.as_ref();
        let created = created.and_then(|at| DateTime::from_timestamp_millis(at.0.as_millisecond()));
        let age = created.map(|created| now - created);
        Existing {
            name: self.name_any(),
            phase: Phase::read(phase),
            // A clock behind the API server's makes it newly created.
            age: age.and_then(|age| age.to_std().ok()).unwrap_or(Duration::ZERO),
        }
    }

    /// Whether both are one object, in whatever versions.
    pub fn is(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.metadata, &other.metadata);
        (&ours.namespace, &ours.name) == (&theirs.namespace, &theirs.name)
    }

    /// The count with one more occurrence, seen `now`. A request without a count has been seen
    /// once.
    pub fn counted(&self, now: DateTime<Utc>) -> Deduplication {
        let before = self.status.as_ref().and_then(|status| status.deduplication.as_ref());
        let first_seen = before.map_or(&self.spec.received_time, |count| &count.first_seen);
        Deduplication {
            occurrence_count: before.map_or(1, |count| count.occurrence_count) + 1,
            first_seen: first_seen.clone(),
            last_seen: timestamp(now),
        }
    }
}

impl Deduplication {
    pub fn first(now: DateTime<Utc>) -> Self {
        Self { occurrence_count: 1, first_seen: timestamp(now), last_seen: timestamp(now) }
    }
}

/// The name of a request whose creator alone may create.
pub fn name_by_time(fingerprint: &Fingerprint, now: DateTime<Utc>) -> String {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    format!("rr-{}-{}", fingerprint.short(), base36(millis))
}

/// The name that everyone picks who saw just these requests, in whatever order.
pub fn name_by_sight(fingerprint: &Fingerprint, seen: &[Existing]) -> String {
    let mut names: Vec<&str> = seen.iter().map(|request| request.name.as_str()).collect();
    names.sort_unstable();
    let digest = Sha256::digest(names.join("/"));
    let number = digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
    format!("rr-{}-{}", fingerprint.short(), base36(number))
}

/// RFC 3339 to the second, as Kubernetes writes its own times.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((number % 36) as u32, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::signal::{Source, names};

    fn signal() -> Signal {
        Signal {
            source: Source::Prometheus,
            name: "A".into(),
            severity: Severity::Warning,
            target: TargetResource {
                kind: "Pod".into(),
                name: "web-0".into(),
                namespace: "prod".into(),
            },
            firing_time: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            provider_data: Value::Null,
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn request() -> RemediationRequest {
        let signal = signal();
        RemediationRequest::new(&signal, &signal.fingerprint(), "rr-x".into(), at(0))
    }

    fn seen(names: &[&str]) -> Vec<Existing> {
        let of = |name: &&str| Existing {
            name: (*name).to_owned(),
            phase: Phase::Unset,
            age: Duration::ZERO,
        };
        names.iter().map(of).collect()
    }

    #[test]
    fn it_is_written_as_the_schema_has_it() {
        let written = serde_json::to_value(request()).unwrap();
        assert_eq!(written["apiVersion"], API_VERSION);
        assert_eq!(written["spec"]["signalType"], "prometheus-alert");
        assert_eq!(written["spec"]["targetResource"]["name"], "web-0");
        assert_eq!(written["spec"]["firingTime"], written["spec"]["receivedTime"]);
        assert_eq!(written.get("status"), None);
        assert_eq!(written["metadata"].get("resourceVersion"), None);
    }

    #[test]
    fn counting_keeps_the_first_time_and_moves_the_last() {
        let mut request = request();
        let second = request.counted(at(5));
        assert_eq!(second.occurrence_count, 2);
        assert_eq!(second.first_seen, timestamp(at(0)));
        let status = json!({"phase": "Pending", "deduplication": second});
        request.status = Some(serde_json::from_value(status).unwrap());
        let third = request.counted(at(9));
        assert_eq!((third.occurrence_count, third.last_seen), (3, timestamp(at(9))));
        assert_eq!(third.first_seen, timestamp(at(0)));
    }

    #[test]
    fn a_request_of_the_future_is_new() {
        let mut request = request();
        let created = json!({"creationTimestamp": timestamp(at(10))});
        request.metadata = serde_json::from_value(created).unwrap();
        assert_eq!(request.existing(at(0)).age, Duration::ZERO);
        assert_eq!(request.existing(at(13)).age, Duration::from_secs(3));
    }

    #[test]
    fn who_sees_the_same_picks_the_same_name() {
        let fingerprint = signal().fingerprint();
        let name = |names: &[&str]| name_by_sight(&fingerprint, &seen(names));
        assert_eq!(name(&["a", "b"]), name(&["b", "a"]));
        assert_ne!(name(&[]), name(&["a"]));
        assert_ne!(name(&["a"]), name(&["a", "b"]));
    }

    proptest! {
        #[test]
        fn base36_reads_back(number in any::<u64>()) {
            prop_assert_eq!(u64::from_str_radix(&base36(number), 36), Ok(number));
        }

        #[test]
        fn names_are_names(second in 0_i64..4_000_000_000, other in "[a-z]{1,9}") {
            let fingerprint = signal().fingerprint();
            let now = DateTime::from_timestamp(second, 0).unwrap();
            prop_assert_eq!(names::dns_label(&name_by_time(&fingerprint, now)), Ok(()));
            let by_sight = name_by_sight(&fingerprint, &seen(&[&other]));
            prop_assert_eq!(names::dns_label(&by_sight), Ok(()));
        }
    }
}
