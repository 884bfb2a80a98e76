//! What a Kubernetes object is called.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where an object is whose manifest names no namespace. (A kubeconfig that kind made names none.)
const DEFAULT_NAMESPACE: &str = "default";

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

    /// The API group: kinds of equal names in two groups are two kinds; versions of one are the
    /// same.
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Where it is, if it is in a namespace at all.
    pub(super) fn namespace_or_default(&self) -> &str {
        self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }

    /// Whether a manifest that calls its object so means this one, as the API serves it. The API
    /// puts what names no namespace into the default one, and knows of none for objects of the
    /// whole cluster, whatever their manifests say.
    pub(super) fn is_meant_by(&self, manifest: &Self) -> bool {
        let asked = manifest.namespace_or_default();
        self.is_called(manifest) && self.namespace.as_deref().is_none_or(|served| served == asked)
    }

    /// Whether both have one name, wherever they are.
    pub(super) fn is_called(&self, other: &Self) -> bool {
        self.kind == other.kind && self.group() == other.group() && self.name == other.name
    }

    /// Whether an object of the manifests could not be without this one: it is that object, its
    /// namespace, or the definition of its kind.
    pub(super) fn is_needed_by(&self, manifest: &Self) -> bool {
        match self.kind.as_str() {
            "Namespace" if self.group().is_empty() => {
                self.name == manifest.namespace_or_default() || self.is_meant_by(manifest)
            }
            "CustomResourceDefinition" => {
                let group = self.name.split_once('.').map(|(_, group)| group);
                group == Some(manifest.group()) || self.is_meant_by(manifest)
            }
            _ => self.is_meant_by(manifest),
        }
    }

    /// Whether it makes pods, or is one. Other groups have kinds of these names, too.
    pub(super) fn is_workload(&self) -> bool {
        matches!(
            (self.group(), self.kind.as_str()),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
                | ("batch", "Job")
                | ("", "Pod" | "ReplicationController")
        )
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `GROUP/VERSION KIND NAMESPACE NAME`; `-` for no namespace.
    pub(in crate::deploy) fn object(text: &str) -> ObjectRef {
        let parts: Vec<&str> = text.split(' ').collect();
        let [api_version, kind, namespace, name] = parts[..] else { panic!("{text}") };
        ObjectRef {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: (namespace != "-").then(|| namespace.to_owned()),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_manifest_means_the_object_that_the_api_makes_of_it() {
        for (why, served, manifest, means) in [
            ("as it says", "v1 Service n a", "v1 Service n a", true),
            ("no namespace", "v1 Service default a", "v1 Service - a", true),
            ("of the whole cluster", "v1 Namespace - a", "v1 Namespace - a", true),
            ("a namespace too many", "x.io/v1 Wide - a", "x.io/v1 Wide n a", true),
            ("another version", "apps/v1 Deployment n a", "apps/v1beta1 Deployment n a", true),
            ("another namespace", "v1 Service n a", "v1 Service m a", false),
            ("no longer the default one", "v1 Service n a", "v1 Service - a", false),
            ("another kind", "v1 Service n a", "v1 Secret n a", false),
            ("another name", "v1 Service n a", "v1 Service n b", false),
            ("another group", "v1 Service n a", "serving.knative.dev/v1 Service n a", false),
        ] {
            assert_eq!(object(served).is_meant_by(&object(manifest)), means, "{why}");
        }
    }

    #[test]
    fn what_holds_an_object_is_needed_by_it() {
        for (why, served, manifest, needed) in [
            ("its namespace", "v1 Namespace - n", "v1 Service n a", true),
            ("the default one", "v1 Namespace - default", "v1 Service - a", true),
            ("another namespace", "v1 Namespace - m", "v1 Service n a", false),
            (
                "its definition",
                "apiextensions.k8s.io/v1 CustomResourceDefinition - widgets.x.io",
                "x.io/v1 Widget n a",
                true,
            ),
            (
                "another definition",
                "apiextensions.k8s.io/v1 CustomResourceDefinition - widgets.y.io",
                "x.io/v1 Widget n a",
                false,
            ),
        ] {
            assert_eq!(object(served).is_needed_by(&object(manifest)), needed, "{why}");
        }
    }
}
