//! What runs have left on a cluster that others run: found by its labels, taken away when its time is over.
//!
//! A run takes its own away when it ends. One that was killed, or kept its own, left with it until when it may stay:
//! from then on any run of that owner may take it away, from whatever machine. Nothing here waits until it is
//! gone: a namespace with its pods takes half a minute.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::Value;

use super::apply::items;
use super::own::{EXPIRES, HOME, OWNER, Own, RUN, WIDE, stamp};
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
}

impl Leftover {
    /// Whether it may stay no longer.
    pub fn is_over(&self) -> bool {
        !self.expires.is_empty() && self.expires < stamp(SystemTime::now())
    }
}

/// Takes away all that a run has made.
pub fn remove(own: &Own, kubectl: &Tool) -> anyhow::Result<()> {
    let kinds = own.kinds().join(",");
    let delete = kubectl.clone().args(["delete", &kinds, "--ignore-not-found", "--wait=false"]);
    let delete = delete.arg("--selector").arg(format!("{RUN}={}", own.run())).limit(LIMIT);
    delete.run().context("failed to delete what the run made")?;
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

fn leftover(object: &Value) -> Option<Leftover> {
    let metadata = &object["metadata"];
    let label = |label| metadata["labels"][label].as_str().unwrap_or_default().to_owned();
    let resource = match object["kind"].as_str()? {
        "Namespace" => "namespaces",
        kind => WIDE.iter().find(|(wide, ..)| *wide == kind)?.1,
    };
    let is_going = !metadata["deletionTimestamp"].is_null();
    let name = metadata["name"].as_str()?.to_owned();
    (!is_going).then(|| Leftover { resource, name, home: label(HOME), expires: label(EXPIRES) })
}

/// Takes one of them away.
pub fn free(kubectl: &Tool, left: &Leftover) -> anyhow::Result<()> {
    let Leftover { resource, name, .. } = left;
    let delete = kubectl.clone().args(["delete", resource, name, "--ignore-not-found"]);
    let deleted = delete.arg("--wait=false").limit(LIMIT).run();
    deleted.with_context(|| format!("failed to delete {left}"))?;
    Ok(())
}

/// Whether a run other than this one has a namespace on the cluster that may yet stay.
pub(super) fn is_there_another(own: &Own, kubectl: &Tool) -> anyhow::Result<bool> {
    let get = kubectl.clone().args(["get", "namespaces", "-o", "json", "--selector"]);
    let text = get.arg(format!("{RUN},{RUN}!={}", own.run())).limit(LIMIT).read()?;
    Ok(items(&text).iter().filter_map(leftover).any(|left| !left.is_over()))
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.resource.split('.').next().unwrap_or_default();
        write!(f, "{kind}/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_is_over_only_when_its_label_says_so() {
        let object = |expires: &str| {
            json!({"kind": "Namespace", "metadata": {"name": "a",
                "labels": {"dev.xtask.expires": expires, "dev.xtask.home": "h"}}})
        };
        let over = |expires| leftover(&object(expires)).unwrap().is_over();
        assert!(over("20200101T000000Z"));
        assert!(!over("99990101T000000Z"));
        assert!(!over(""), "nobody said when");
        let mut going = object("20200101T000000Z");
        going["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        assert_eq!(leftover(&going), None);
        assert_eq!(leftover(&json!({"kind": "Secret", "metadata": {"name": "a"}})), None);
    }
}
