//! Deleting by uid: what is deleted is the object that was seen, never another that has its name
//! since.
//!
//! `kubectl delete` knows names only. The API takes a uid as a precondition, for which it wants the
//! object's path, and so the plural of its kind, which its own list of resources tells.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::object::ObjectRef;
use crate::process::{Failure, Tool};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(15);

/// What the API says where the object is gone, or another one by now.
const NOT_THERE: [&str; 2] = ["(NotFound)", "(Conflict)"];

/// Deletes an object, named as the API serves it, without waiting until it is gone.
pub(super) fn delete(
    object: &ObjectRef,
    uid: &str,
    kubectl: &Tool,
    log: &Path,
) -> anyhow::Result<()> {
    let group = format!("/{}/{}", root(object), object.api_version);
    let listed = kubectl.clone().args(["get", "--raw", &group]).limit(LIMIT).read();
    let Some(path) = path(object, &group, &listed?) else {
        // A kind that is not served has no objects.
        return Ok(());
    };
    let how = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": { "uid": uid },
    });
    let call = kubectl.clone().args(["delete", "--raw", &path, "-f", "-"]);
    match call.input(how.to_string()).log(log).limit(LIMIT).run() {
        Err(failure) if !is_not_there(&failure) => {
            Err(failure).with_context(|| format!("failed to delete {object}"))
        }
        _ => Ok(()),
    }
}

fn is_not_there(failure: &Failure) -> bool {
    failure.tail.iter().any(|line| NOT_THERE.iter().any(|said| line.contains(said)))
}

fn root(object: &ObjectRef) -> &'static str {
    if object.group().is_empty() { "api" } else { "apis" }
}

/// The object's path below its group, by the group's list of resources.
fn path(object: &ObjectRef, group: &str, listed: &str) -> Option<String> {
    let list: Value = serde_json::from_str(listed).ok()?;
    let resources = list["resources"].as_array()?;
    let is_it = |one: &&Value| {
        one["kind"] == object.kind && one["name"].as_str().is_some_and(|name| !name.contains('/'))
    };
    let plural = resources.iter().find(is_it)?["name"].as_str()?;
    let inside = object.namespace.iter().map(|name| format!("/namespaces/{name}"));
    Some(format!("{group}{}/{plural}/{}", inside.collect::<String>(), object.name))
}

#[cfg(test)]
mod tests {
    use super::super::object::tests::object;
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let listed = r#"{"resources": [
            {"name": "deployments/scale", "kind": "Deployment"},
            {"name": "deployments", "kind": "Deployment"},
            {"name": "namespaces", "kind": "Namespace"}]}"#;
        for (text, path_of) in [
            ("apps/v1 Deployment n a", Some("/apis/apps/v1/namespaces/n/deployments/a")),
            ("v1 Namespace - a", Some("/api/v1/namespaces/a")),
            ("v1 Gone n a", None),
        ] {
            let object = object(text);
            let group = format!("/{}/{}", root(&object), object.api_version);
            assert_eq!(path(&object, &group, listed).as_deref(), path_of, "{text}");
        }
        assert_eq!(path(&object("v1 Pod n a"), "/api/v1", "nonsense"), None);
    }
}
