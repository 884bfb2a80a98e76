//! The custom resource `AIAnalysis`, `kubernaut.ai/v1alpha1`. The schema is in
//! `k8s/11-crds-aianalysis`; it forbids changes of a spec, so there is one generation of each.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

pub(crate) const KIND: &str = "AIAnalysis";
/// Whose resource it is: [`crate::config`]'s `CONTROLLER_CLASS`.
pub(crate) const CLASS_LABEL: &str = "kubernaut.ai/controller-class";

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AiAnalysis {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Spec,
    #[serde(default)]
    pub(crate) status: Status,
}

/// What is to be analysed; written once, by who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) remediation_request: String,
    pub(crate) signal_fingerprint: String,
    pub(crate) signal_name: String,
    pub(crate) severity: String,
    pub(crate) environment: String,
    pub(crate) target_resource: TargetResource,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct TargetResource {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// How far the analysis has come; written by this controller alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completion_time: Option<DateTime<Utc>>,
    /// Questions that reached holmesgpt-api.
    pub(crate) attempts: u32,
    /// Questions of any kind in a row without an analysis; what the wait grows with.
    pub(crate) setbacks: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_time: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) analysis: Option<Analysis>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Phase {
    Pending,
    Investigating,
    Completed,
    Failed,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] =
        [Self::Pending, Self::Investigating, Self::Completed, Self::Failed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Investigating => "Investigating",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }
}

/// What holmesgpt-api said.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Analysis {
    /// The recorded case that was answered.
    #[serde(alias = "case_id")]
    pub(crate) case_id: String,
    #[serde(alias = "root_cause")]
    pub(crate) root_cause: String,
    /// 0 to 100.
    pub(crate) confidence: u8,
    pub(crate) recommendations: Vec<String>,
}

/// As Kubernetes has it: `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
    pub(crate) last_transition_time: DateTime<Utc>,
}

service::custom_resource!(AiAnalysis, KIND, "aianalyses");
