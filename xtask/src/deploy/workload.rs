//! What a step applied that makes pods, held to the very object that its apply gave back.

use serde_json::Value;

use super::object::ObjectRef;
use super::render::Document;
use crate::yaml;

/// A Deployment, Job or the like of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub(super) object: ObjectRef,
    /// None: whatever has that name; a `run` step may have made it.
    pub(super) applied: Option<Version>,
    /// The manifest itself says `replicas: 0`.
    pub(super) wants_none: bool,
}

/// Which object, and which of its specs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: String,
    /// 0 for kinds that do not count it.
    pub(super) generation: u64,
}

impl Workload {
    /// Of a manifest, as it was applied.
    pub(super) fn of(document: &Document, applied: Option<Version>) -> Self {
        let manifest: Value = yaml::read(&document.text).unwrap_or_default();
        let wants_none = manifest["spec"]["replicas"] == 0;
        Self { object: document.object.clone(), applied, wants_none }
    }

    /// What is only known by its name.
    pub(super) fn named(kind: &str, name: &str, namespace: &str) -> Self {
        let object = ObjectRef {
            api_version: String::new(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        };
        Self { object, applied: None, wants_none: false }
    }

    pub(super) fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or("default")
    }

    pub(super) fn is(&self, kind: &str, name: &str) -> bool {
        self.object.kind.eq_ignore_ascii_case(kind) && self.object.name == name
    }
}
