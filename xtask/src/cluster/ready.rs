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

/// When something began, by the clock that may be set and by one that is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    wall: SystemTime,
    at: Instant,
}

impl Started {
    pub(super) fn now() -> Self {
        Self { wall: SystemTime::now(), at: Instant::now() }
    }

    /// Whether a time of the API is of afterwards, where the clock shows `now`. One that was set
    /// back meanwhile gives times of before the start again: those count since then, too, and what
    /// it has yet to come to does not.
    fn is_before(self, time: SystemTime, now: SystemTime) -> bool {
        // Times in the API are whole seconds.
        let end = time + Duration::from_secs(1);
        let began = now.checked_sub(self.at.elapsed());
        let again = now < self.wall && time <= now && began.is_some_and(|began| end > began);
        end > self.wall || again
    }
}

/// Waits until all nodes and containers are seen to run again since `started`.
pub(super) fn again(
    kubectl: &Tool,
    started: Started,
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
            Ok(text) => {
                let objects = serde_json::from_str(&text).unwrap_or_default();
                stale(&objects, started, SystemTime::now())
            }
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
fn stale(objects: &Value, started: Started, now: SystemTime) -> Option<String> {
    let items = objects["items"].as_array()?;
    let since = |time: &Value| {
        let time = time.as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
        time.is_some_and(|time| started.is_before(time, now))
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
    fn a_clock_that_is_set_meanwhile_makes_nothing_of_before_count() {
        let time = |text: &str| humantime::parse_rfc3339(text).unwrap();
        let wall = time("2026-11-21T09:00:30Z");
        let started = Started { wall, at: Instant::now() };
        let ahead = time("2026-11-21T12:00:00Z");
        let back = time("2026-11-21T07:00:00Z");
        for (why, at, now, counts) in [
            ("seen after it was set forward", "2026-11-21T12:00:00Z", ahead, true),
            ("seen before it was set forward", "2026-11-21T09:00:31Z", ahead, true),
            ("of before the start", "2026-11-21T09:00:00Z", ahead, false),
            ("seen after it was set back", "2026-11-21T07:00:00Z", back, true),
            ("seen before it was set back", "2026-11-21T09:00:31Z", back, true),
            ("of before the start, and yet to come", "2026-11-21T09:00:00Z", back, false),
            ("of long before the start", "2026-11-21T06:00:00Z", back, false),
        ] {
            assert_eq!(started.is_before(time(at), now), counts, "{why}");
        }
    }

    #[test]
    fn what_was_known_before_the_start_does_not_count() {
        let wall = humantime::parse_rfc3339("2026-11-21T09:00:30.500Z").unwrap();
        let started = Started { wall, at: Instant::now() };
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
            assert_eq!(stale(&objects, started, wall).as_deref(), waiting_for, "{objects}");
        }
    }
}
