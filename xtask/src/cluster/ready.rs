//! Waiting for the API, and for nodes that were started again.
//!
//! After a stop and a start the API serves what it knew before: nodes Ready, pods Running, all of
//! it stale until the kubelet reports. So a started cluster counts only when every node's heartbeat
//! and every running container are younger than the start.

use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use serde_json::Value;

use crate::event::Events;
use crate::process::{Tool, stop};

/// How long a running cluster may take to answer; an idle one does in 0.1 s.
const ANSWER: Duration = Duration::from_secs(20);

/// How long one that others run may take.
const REACH: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(300);

/// The same of one that others run: each question may start a login command of its kubeconfig.
const REACH_PAUSE: Duration = Duration::from_secs(2);

/// Waits until the API answers that it is ready.
pub(super) fn answers(kubectl: &Tool, events: &Events) -> anyhow::Result<()> {
    until(ANSWER, PAUSE, events, || readyz(kubectl))
}

/// The same of a cluster that others run, which is not being started just now.
pub(super) fn reached(kubectl: &Tool, events: &Events) -> anyhow::Result<()> {
    until(REACH, REACH_PAUSE, events, || readyz(kubectl))
}

/// Waits until all nodes and containers are seen to run again since `started`.
pub(super) fn again(
    kubectl: &Tool,
    started: SystemTime,
    limit: Duration,
    events: &Events,
) -> anyhow::Result<()> {
    until(limit, PAUSE, events, || {
        let objects = kubectl
            .clone()
            .args(["get", "nodes,pods", "--all-namespaces", "-o", "json"])
            .limit(Duration::from_secs(10))
            .read();
        match objects {
            Ok(text) => stale(&serde_json::from_str(&text).unwrap_or_default(), started),
            Err(_) => Some("the API server".to_owned()),
        }
    })
}

/// Asks until nothing is named to wait for.
fn until(
    limit: Duration,
    pause: Duration,
    events: &Events,
    mut waiting_for: impl FnMut() -> Option<String>,
) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while let Some(what) = waiting_for() {
        if Instant::now() >= end {
            bail!("it was not ready within {} s: waiting for {what}", limit.as_secs());
        }
        events.waiting("cluster", what);
        stop::pause(pause)?;
    }
    Ok(())
}

/// Whether the API answers just now that it is ready.
pub(super) fn is_ready(kubectl: &Tool) -> bool {
    kubectl.clone().args(["get", "--raw", "/readyz"]).limit(REACH).read().is_ok()
}

fn readyz(kubectl: &Tool) -> Option<String> {
    (!is_ready(kubectl)).then(|| "the API server".to_owned())
}

/// The first thing that has not been seen since `started`.
fn stale(objects: &Value, started: SystemTime) -> Option<String> {
    let items = objects["items"].as_array()?;
    let since = |time: &Value| {
        let time = time.as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
        // Times in the API are whole seconds.
        time.is_some_and(|time| time + Duration::from_secs(1) > started)
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let fresh = match item["kind"].as_str() {
            Some("Node") => list(&item["status"]["conditions"]).iter().any(|condition| {
                condition["type"] == "Ready"
                    && condition["status"] == "True"
                    && since(&condition["lastHeartbeatTime"])
            }),
            Some("Pod") => list(&item["status"]["containerStatuses"])
                .iter()
                .map(|container| &container["state"]["running"])
                .all(|running| running.is_null() || since(&running["startedAt"])),
            _ => true,
        };
        if !fresh {
            let kind = item["kind"].as_str().unwrap_or_default().to_lowercase();
            return Some(format!("{kind} `{name}`"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(heartbeat: &str, status: &str) -> Value {
        json!({"kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat}]}})
    }

    fn pod(state: &Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p"},
               "status": {"containerStatuses": [{"state": state}]}})
    }

    #[test]
    fn what_was_known_before_the_start_does_not_count() {
        let started = humantime::parse_rfc3339("2026-11-21T09:00:30.500Z").unwrap();
        let (before, after) = ("2026-11-21T09:00:29Z", "2026-11-21T09:00:31Z");
        let running = |at: &str| json!({"running": {"startedAt": at}});
        for (items, waiting_for) in [
            (vec![node(before, "True")], Some("node `n`")),
            (vec![node(after, "False")], Some("node `n`")),
            (vec![node(after, "True")], None),
            (vec![node("2026-11-21T09:00:30Z", "True")], None),
            (vec![node(after, "True"), pod(&running(before))], Some("pod `p`")),
            (vec![node(after, "True"), pod(&running(after))], None),
            (vec![pod(&json!({"terminated": {"startedAt": before}}))], None),
        ] {
            let objects = json!({"items": items});
            assert_eq!(stale(&objects, started).as_deref(), waiting_for, "{objects}");
        }
    }
}
