//! Why a pod is hopeless, in its own words: its events and its last log lines, now and before.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::Value;

use super::api::Log;
use super::look::Snapshots;
use super::verdict::{Fault, name, text};

/// Log lines of a container that an error carries.
const LINES: usize = 15;

/// Events that an error carries.
const EVENTS: usize = 6;

/// Events and log lines of the faulty object; empty if it is not in this namespace.
pub(super) fn explain(fault: &Fault, namespace: &str, since: Instant, looks: &Snapshots) -> String {
    let Ok(look) = looks.at(namespace, since) else { return String::new() };
    let objects = &look.objects;
    let Some((kind, wanted)) = fault.object.split_once('/') else { return String::new() };
    let Some(object) = super::verdict::find(objects, kind, wanted) else { return String::new() };
    let mut details = String::new();
    let pod = match kind {
        "pod" => Some(object),
        _ => last_pod_of(object, objects),
    };
    write_events(&mut details, object, objects);
    if let Some(pod) = pod {
        if kind != "pod" {
            write_events(&mut details, pod, objects);
        }
        write_logs(&mut details, pod, fault.container.as_deref(), namespace, looks);
    }
    details
}

/// The last warnings of a namespace, for a wait whose time is up.
pub(super) fn recent(namespace: &str, since: Instant, looks: &Snapshots) -> String {
    let Ok(look) = looks.at(namespace, since) else { return String::new() };
    let warnings = look.objects.iter().filter(|event| event["type"] == "Warning");
    listed(warnings.collect(), &format!("warnings in namespace `{namespace}`"))
}

fn write_events(to: &mut String, object: &Value, objects: &[Value]) {
    let uid = &object["metadata"]["uid"];
    let events = objects.iter().filter(|event| event["involvedObject"]["uid"] == *uid).collect();
    to.push_str(&listed(events, &format!("events of {}", name(object))));
}

fn listed(mut events: Vec<&Value>, title: &str) -> String {
    let mut lines = String::new();
    events.retain(|event| event["kind"] == "Event");
    events.sort_by_key(|event| text(&event["lastTimestamp"]));
    for event in events.iter().rev().take(EVENTS).rev() {
        let message = text(&event["message"]).replace('\n', " ");
        write!(lines, "\n    {} {message}", text(&event["reason"])).ok();
    }
    if lines.is_empty() { lines } else { format!("\n  {title}:{lines}") }
}

/// The newest pod that an object controls.
fn last_pod_of<'a>(object: &Value, objects: &'a [Value]) -> Option<&'a Value> {
    let uid = &object["metadata"]["uid"];
    let owned = |pod: &&Value| {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        pod["kind"] == "Pod" && owners.into_iter().flatten().any(|owner| owner["uid"] == *uid)
    };
    let pods = objects.iter().filter(owned);
    pods.max_by_key(|pod| text(&pod["metadata"]["creationTimestamp"]))
}

fn write_logs(
    to: &mut String,
    pod: &Value,
    container: Option<&str>,
    namespace: &str,
    looks: &Snapshots,
) {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let all = containers.map(|container| text(&container["name"]));
    for container in container.map_or_else(|| all.collect(), |one| vec![one]) {
        for (previous, title) in [(false, "last lines"), (true, "before it was started again")] {
            let log = Log { namespace, pod: name(pod), container, lines: LINES, previous };
            let Some(lines) = looks.api().log(&log) else { continue };
            write!(to, "\n  {title} of {}, container `{container}`:", name(pod)).ok();
            for line in lines.lines() {
                write!(to, "\n    | {}", line.split_once(' ').map_or(line, |(_, text)| text)).ok();
            }
        }
    }
}
