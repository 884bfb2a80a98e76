//! What runs have left on a cluster that others run: found by its labels, taken away when its time
//! is over.
//!
//! A run takes its own away when it ends. One that was killed, or kept its own, left with it until
//! when it may stay: from then on any run of that owner may take it away, from whatever machine. A
//! run that goes on renews its time. Nothing here waits until it is gone: a namespace with its pods
//! takes half a minute.
//!
//! Each object is deleted by the uid that it was found with, so that another that has got its name
//! meanwhile stays.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::apply::items;
use super::own::{EXPIRES, HOME, OWNER, Own, RUN, WIDE, stamp};
use crate::identity;
use crate::process::Tool;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An object that a run made and that is there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// As kubectl takes it.
    resource: &'static str,
    pub name: String,
    /// The checkout it came from.
    pub home: String,
    /// As the label says it.
    pub expires: String,
    /// Where the API serves it.
    path: String,
    uid: String,
    /// Another after each change.
    version: String,
}

impl Leftover {
    /// Whether it may stay no longer, by the API server's time.
    fn is_over(&self, now: SystemTime) -> bool {
        !self.expires.is_empty() && self.expires < stamp(now)
    }
}

/// The API server's time, which it fills into an object that it is asked to check and not to keep.
pub fn server_time(kubectl: &Tool) -> anyhow::Result<SystemTime> {
    let what = "failed to ask the API server for its time";
    let name = format!("xtask-{}", identity::random()?);
    let create = kubectl.clone().args(["create", "namespace", &name, "--dry-run=server"]);
    let text = create.args(["-o", "json"]).limit(LIMIT).read().context(what)?;
    let object: Value = serde_json::from_str(&text).context(what)?;
    let made = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    humantime::parse_rfc3339(made).context(what)
}

/// Takes away all that a run has made.
pub fn remove(own: &Own, kubectl: &Tool) -> anyhow::Result<()> {
    let kinds = own.kinds().join(",");
    let get = kubectl.clone().args(["get", &kinds, "-o", "json", "--selector", &own.selector()]);
    let found = get.limit(LIMIT).read().context("failed to look for what the run made")?;
    items(&found).iter().filter_map(leftover).try_for_each(|left| free(kubectl, &left))
}

/// Lets all that a run has made stay for its whole time again.
pub fn renew(own: &Own, kubectl: &Tool) -> anyhow::Result<()> {
    let label = kubectl.clone().args(["label", &own.kinds().join(","), "--overwrite"]);
    let label =
        label.args(["--selector", &own.selector(), &format!("{EXPIRES}={}", own.expires())]);
    label.limit(LIMIT).run().context("failed to renew the time of what the run made")?;
    Ok(())
}

/// All that runs of this owner have left, in the order in which it can go.
pub fn leftovers(kubectl: &Tool, owner: &str) -> anyhow::Result<Vec<Leftover>> {
    let ask = |kinds: &str| {
        let get = kubectl.clone().args(["get", kinds, "-o", "json", "--selector"]);
        get.arg(format!("{OWNER}={owner},{RUN}")).limit(LIMIT).read()
    };
    let wide: Vec<&str> = WIDE.iter().map(|(_, resource, _)| *resource).collect();
    // Who may not see some of these has made none.
    let mut there = items(&ask(&wide.join(",")).unwrap_or_default());
    let namespaces = ask("namespaces").context("failed to look for what earlier runs left")?;
    there.extend(items(&namespaces));
    Ok(there.iter().filter_map(leftover).collect())
}

/// Those whose time is over.
pub fn expired(kubectl: &Tool, owner: &str) -> anyhow::Result<Vec<Leftover>> {
    let left = leftovers(kubectl, owner)?;
    if left.is_empty() {
        return Ok(left);
    }
    let now = server_time(kubectl)?;
    Ok(left.into_iter().filter(|left| left.is_over(now)).collect())
}

fn leftover(object: &Value) -> Option<Leftover> {
    let metadata = &object["metadata"];
    let label = |label| metadata["labels"][label].as_str().unwrap_or_default().to_owned();
    let resource = match object["kind"].as_str()? {
        "Namespace" => "namespaces",
        kind => WIDE.iter().find(|(wide, ..)| *wide == kind)?.1,
    };
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    let (name, version) = (text("name")?, object["apiVersion"].as_str()?);
    let group = if version.contains('/') { "apis" } else { "api" };
    let plural = resource.split('.').next().unwrap_or_default();
    Some(Leftover {
        resource,
        path: format!("/{group}/{version}/{plural}/{name}"),
        name,
        home: label(HOME),
        expires: label(EXPIRES),
        uid: text("uid")?,
        version: text("resourceVersion")?,
    })
}

/// Takes one of them away.
pub fn free(kubectl: &Tool, left: &Leftover) -> anyhow::Result<()> {
    delete(kubectl, left, &json!({"uid": left.uid}))
}

/// Takes one of them away, unless it was changed since it was looked at: its time may have been
/// renewed.
pub fn expire(kubectl: &Tool, left: &Leftover) -> anyhow::Result<()> {
    delete(kubectl, left, &json!({"uid": left.uid, "resourceVersion": left.version}))
}

/// kubectl has no flag for what must still hold when it deletes.
fn delete(kubectl: &Tool, left: &Leftover, if_still: &Value) -> anyhow::Result<()> {
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": if_still,
    });
    let delete = kubectl.clone().args(["delete", "--raw", &left.path, "-f", "-"]);
    match delete.input(options.to_string()).limit(LIMIT).run() {
        Err(failure) if !failure.tail.iter().any(|line| is_another(line)) => {
            Err(failure).with_context(|| format!("failed to delete {left}"))
        }
        _ => Ok(()),
    }
}

/// Whether the object that was meant is there no longer.
fn is_another(line: &str) -> bool {
    ["(NotFound)", "(Conflict)"].iter().any(|reason| line.contains(reason))
}

/// Whether a run other than this one has a namespace on the cluster that may yet stay.
pub(super) fn is_there_another(own: &Own, kubectl: &Tool) -> anyhow::Result<bool> {
    let get = kubectl.clone().args(["get", "namespaces", "-o", "json", "--selector"]);
    let text = get.arg(format!("{RUN},{RUN}!={}", own.run())).limit(LIMIT).read()?;
    Ok(items(&text).iter().filter_map(leftover).any(|left| !left.is_over(own.now())))
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.resource.split('.').next().unwrap_or_default();
        write!(f, "{kind}/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(expires: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "a", "uid": "u", "resourceVersion": "7",
            "labels": {"dev.xtask.expires": expires, "dev.xtask.home": "h"}}})
    }

    #[test]
    fn what_is_left_is_over_only_when_its_label_says_so() {
        let now = humantime::parse_rfc3339("2026-11-21T09:00:00Z").unwrap();
        let over = |expires| leftover(&namespace(expires)).unwrap().is_over(now);
        assert!(over("20261121T085959Z"));
        assert!(!over("20261121T090001Z"));
        assert!(!over(""), "nobody said when");
        let mut going = namespace("20200101T000000Z");
        going["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        assert_eq!(leftover(&going), None);
        assert_eq!(leftover(&json!({"kind": "Secret", "metadata": {"name": "a"}})), None);
        let mut nameless = namespace("20200101T000000Z");
        nameless["metadata"]["uid"] = Value::Null;
        assert_eq!(leftover(&nameless), None, "what has no uid is not deleted by its name");
    }

    #[test]
    fn an_object_is_deleted_where_the_api_serves_it() {
        let mut role = namespace("");
        role["kind"] = json!("ClusterRole");
        role["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        for (object, path) in [
            (namespace(""), "/api/v1/namespaces/a"),
            (role, "/apis/rbac.authorization.k8s.io/v1/clusterroles/a"),
        ] {
            assert_eq!(leftover(&object).unwrap().path, path);
        }
        assert!(is_another("Error from server (Conflict): Precondition failed: UID"));
        assert!(!is_another("Error from server (Forbidden): namespaces \"a\" is forbidden"));
    }
}
