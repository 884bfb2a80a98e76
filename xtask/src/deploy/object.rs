//! What a Kubernetes object is called.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A reference to one object, as kubectl would name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    /// None for objects of the whole cluster, and where the manifest leaves it to the default.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectRef {
    /// Of a manifest or of what the API serves; none if it is no object.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"])?,
        })
    }

    /// `Deployment.v1.apps`: the kind in the one form kubectl takes for no other.
    pub(super) fn resource(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, version)) => format!("{}.{version}.{group}", self.kind),
            None => format!("{}.{}.", self.kind, self.api_version),
        }
    }

    /// Whether it makes pods, or is one.
    pub(super) fn is_workload(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "Pod" | "ReplicaSet"
        )
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}
