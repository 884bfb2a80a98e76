//! A cluster that others run, too: what they made is neither changed nor added to.
//!
//! An object that has no namespace and no name of the run's own ([`super::own`]) is shared with
//! whoever knows it by that name. If it is there just as the manifest says, it is used and not
//! touched; if it differs, it is changed only where it is this owner's and no other run is on the
//! cluster. It is never deleted: a `CustomResourceDefinition` takes everybody's objects of its kind
//! with it.
//!
//! An object is ours if this tool is among its field managers; the API server keeps that account,
//! so that no file of ours is needed to know it. A namespace that is not there yet is about to be
//! ours.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;

use super::apply::items;
use super::own::{OWNER, Own};
use super::render::Document;
use super::{FIELD_MANAGER, sweep};
use crate::error::{ErrorExt as _, Exit};
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
    Err(anyhow!("somebody else made {}", theirs.join(", ")))
        .hint("on a cluster that others run, give the suite namespaces and names of its own")
        .exit(Exit::Environment)
}

/// An object of a name that others know, too, as it is there; none: it is to be applied.
pub(super) fn settled(
    kubectl: &Tool,
    own: &Own,
    document: &Document,
) -> anyhow::Result<Option<Value>> {
    let ask = |words: &[&str]| {
        let tool = kubectl.clone().args(words.iter().copied()).args(["-o", "json", "-f", "-"]);
        Ok::<_, anyhow::Error>(
            items(&tool.input(document.text.as_str()).limit(LIMIT).read()?).pop(),
        )
    };
    let Some(live) = ask(&["get", "--ignore-not-found"])? else { return Ok(None) };
    let would = ["apply", "--server-side", "--dry-run=server", "--force-conflicts"];
    let would = ask(&[&would[..], &["--field-manager", FIELD_MANAGER]].concat())?;
    if would.as_ref().map(content) == Some(content(&live)) {
        return Ok(Some(live));
    }
    let why = if live["metadata"]["labels"][OWNER] != own.owner() {
        "somebody else made"
    } else if sweep::is_there_another(own, kubectl)? {
        "another run may be using"
    } else {
        return Ok(None);
    };
    Err(anyhow!("{why} {}, and what is to be applied differs from it", called(&live)))
        .hint(
            "what has no namespace is everybody's; give it a name of its own, or wait for the \
             others",
        )
        .exit(Exit::Environment)
}

/// What an object asks for.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    for part in ["metadata", "status"] {
        content.as_object_mut().map(|fields| fields.remove(part));
    }
    content
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
