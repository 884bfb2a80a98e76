//! A cluster that others run, too: what they made is neither changed nor added to.
//!
//! An object is ours if this tool is among its field managers; the API server keeps that account, so
//! that no file of ours is needed to know it. A namespace that is not there yet is about to be ours.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;

use super::FIELD_MANAGER;
use super::apply::items;
use super::render::Document;
use crate::exit::{Exit, WithExit as _};
use crate::process::Tool;

const LIMIT: Duration = Duration::from_secs(15);

/// An error that names what somebody else made, of these objects and of their namespaces.
pub(super) fn refuse(
    kubectl: &Tool,
    documents: &[&Document],
    manifest: &str,
) -> anyhow::Result<()> {
    let get = kubectl.clone().args(["get", "--ignore-not-found", "--show-managed-fields"]);
    let get = get.args(["-o", "json"]).limit(LIMIT);
    let mut there = items(&get.clone().args(["-f", "-"]).input(manifest).read()?);
    let namespaces: BTreeSet<&str> =
        documents.iter().filter_map(|document| document.object.namespace.as_deref()).collect();
    if !namespaces.is_empty() {
        // Named one by one, a namespace that is not there is no error.
        for namespace in namespaces {
            there.extend(items(&get.clone().args(["namespace", namespace]).read()?));
        }
    }
    let theirs: BTreeSet<String> =
        there.iter().filter(|object| !is_ours(object)).map(called).collect();
    if theirs.is_empty() {
        return Ok(());
    }
    let theirs: Vec<String> = theirs.into_iter().collect();
    Err(anyhow!(
        "somebody else made {}\nhint: on a cluster that others run, give the suite namespaces and \
         names of its own",
        theirs.join(", ")
    ))
    .exit(Exit::Environment)
}

fn is_ours(object: &Value) -> bool {
    let managers = object["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|entry| entry["manager"] == FIELD_MANAGER)
}

fn called(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name =
        format!("`{}/{}`", text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{name} in `{namespace}`"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_ours_if_we_manage_a_field_of_it() {
        let made_by = |manager: &str| {
            json!({"kind": "Namespace", "metadata": {"name": "web",
                "managedFields": [{"manager": manager}, {"manager": "kube-controller-manager"}]}})
        };
        assert!(is_ours(&made_by("xtask")));
        assert!(!is_ours(&made_by("kubectl-create")));
        assert_eq!(called(&made_by("helm")), "`namespace/web`");
    }
}
