//! What speaks against a pod: objects → waiting, suspect, hopeless. Pure: what the API served goes
//! in, nothing else.
//!
//! | seen | verdict |
//! | --- | --- |
//! | `InvalidImageName`, `ErrImageNeverPull`; `ErrImagePull` or `ImagePullBackOff` of a `localhost/` image | hopeless: nothing can bring it |
//! | a container that crashed and was started again more than [`RESTARTS`] times | hopeless |
//! | one that crashed less often, or ends well time after time though it is to run for ever | lacking: hopeless if nothing else is still coming that it may lack |
//! | a Job's Failed or `FailureTarget` condition, a pod of phase Failed, `ProgressDeadlineExceeded` | hopeless |
//! | `ErrImagePull`, `ImagePullBackOff` from a registry | suspect: registries have bad moments |
//! | `CreateContainerConfigError`, `FailedMount` | suspect: another step may be about to apply the `ConfigMap` or Secret |
//! | `CreateContainerError`, `RunContainerError` | suspect |
//! | unschedulable, unless for a taint that nodes lose as they become Ready | suspect: another pod may go |
//! | `FailedCreate` of pods (service account, quota, admission) | suspect |
//!
//! A container without a readiness probe is ready for as long as it runs, even if that is the
//! instant before it ends: such a rollout is unproven, for a moment, or longer if it has ended
//! before.
//!
//! Whoever waits takes a suspect that stays one for hopeless (`wait::GRACE`). For a rollout only
//! pods of its newest revision are judged: those of the last one may be as broken as they were.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::error::with_hints;

/// How often a container may be started again before it is given up.
pub(super) const RESTARTS: u64 = 3;

/// How long a container without a readiness probe must stay up: a kubelet looks at its containers
/// once a second (later if it is busy), and until its next look one that crashed passes for
/// running.
pub(super) const STARTED: Duration = Duration::from_secs(3);

/// The same, if it has ended before: longer than the pause until it is started again.
pub(super) const CRASHED: Duration = Duration::from_secs(4);

/// How things stand with what is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    /// It looks ready, but no readiness probe says so: it counts once it has looked so for a while.
    Unproven {
        what: String,
        settles: Duration,
        /// The pods this is said of, by uid, and how often their containers were started again.
        of: Vec<(String, u64)>,
    },
    /// It may come yet; what is missing.
    Waiting(String),
    /// It may come yet, but this speaks against it.
    Suspect(Fault),
    /// It is so for want of something that another step may bring, or for ever.
    Lacking(Fault),
    /// It cannot come by itself.
    Hopeless(Fault),
}

/// What keeps something from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// `pod/NAME` or `job/NAME`: whose events tell more.
    pub(super) object: String,
    /// The container whose logs tell more.
    pub(super) container: Option<String>,
    /// The API's word for it: `CrashLoopBackOff`.
    pub(super) reason: String,
    pub(super) message: String,
    /// How it is mended.
    pub(super) hint: Option<&'static str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(container) = &self.container {
            write!(f, ", container `{container}`")?;
        }
        write!(f, ": {}: {}", self.reason, self.message)
    }
}

impl Fault {
    pub(super) fn new(object: &Value, reason: &str, message: impl Into<String>) -> Self {
        let kind = text(&object["kind"]).to_lowercase();
        Self {
            object: format!("{kind}/{}", name(object)),
            container: None,
            reason: reason.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// Of an object of which nothing more is known.
    pub(super) fn of(object: &str) -> Self {
        let (reason, message) = (String::new(), String::new());
        Self { object: object.to_owned(), container: None, reason, message, hint: None }
    }

    pub(super) fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// All of it, with its hint on a line of its own.
    pub(super) fn told(&self) -> String {
        with_hints(&self.to_string(), self.hint)
    }

    pub(super) fn of_container(mut self, container: &Value) -> Self {
        self.container = Some(text(&container["name"]).to_owned());
        self
    }
}

/// Whether a CRD can be used; an error if it never will.
pub(super) fn established(crd: &Value) -> anyhow::Result<bool> {
    if let Some(rejected) = condition(crd, "NamesAccepted").filter(|one| one["status"] == "False") {
        anyhow::bail!("`{}` is not accepted: {}", name(crd), text(&rejected["message"]));
    }
    Ok(is_true(crd, "Established"))
}

/// Whether an object has a condition with status True.
pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// What speaks against a pod, if anything.
pub(super) fn judge_pod(pod: &Value, objects: &[Value]) -> Option<Verdict> {
    let deleted = !pod["metadata"]["deletionTimestamp"].is_null();
    let owned_by_job = owner(pod).is_some_and(|owner| owner["kind"] == "Job");
    // A Job counts its failed pods itself.
    if deleted
        || pod["status"]["phase"] == "Succeeded"
        || (owned_by_job && pod["status"]["phase"] == "Failed")
    {
        return None;
    }
    let containers = list(&pod["status"]["initContainerStatuses"])
        .iter()
        .chain(list(&pod["status"]["containerStatuses"]));
    worst(containers.map(|container| judge_container(pod, container)))
        .or_else(|| unschedulable(pod))
        .or_else(|| failed_mount(pod, objects))
}

fn judge_container(pod: &Value, container: &Value) -> Option<Verdict> {
    let waiting = &container["state"]["waiting"];
    let reason = text(&waiting["reason"]);
    let mut fault = Fault::new(pod, reason, text(&waiting["message"])).of_container(container);
    let local = text(&container["image"]).starts_with("localhost/");
    let spec = list(&pod["spec"]["containers"]).iter().find(|one| one["name"] == container["name"]);
    if local && spec.is_some_and(|spec| spec["imagePullPolicy"] == "Always") {
        let hint = "`imagePullPolicy: Always` asks a registry for what was loaded: leave it out";
        fault = fault.hint(hint);
    }
    let restarts = number(&container["restartCount"]);
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => Some(Verdict::Hopeless(fault)),
        "ErrImagePull" | "ImagePullBackOff" if local => Some(Verdict::Hopeless(fault)),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
            if restarts <= RESTARTS =>
        {
            Some(Verdict::Suspect(fault))
        }
        _ => crash_loop(pod, container),
    }
}

/// A container that has ended time after time, and does not run just now. One that ends well does
/// not crash, but it is never there for long either; an init container is to end well.
fn crash_loop(pod: &Value, container: &Value) -> Option<Verdict> {
    let restarts = number(&container["restartCount"]);
    let ended = [&container["lastState"]["terminated"], &container["state"]["terminated"]]
        .into_iter()
        .find(|ended| !ended.is_null())?;
    let runs = !container["state"]["running"].is_null();
    let ended_well = number(&ended["exitCode"]) == 0;
    let held_back = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    if runs || restarts == 0 || (ended_well && !held_back) {
        return None;
    }
    let mut message = format!("ended with exit status {}", number(&ended["exitCode"]));
    let (reason, why) = (text(&ended["reason"]), text(&ended["message"]));
    if !matches!(reason, "" | "Error" | "Completed") {
        message = format!("{message} ({reason})");
    }
    if !why.is_empty() {
        message = format!("{message}: {}", why.trim());
    }
    message = format!("{message}, started again {restarts} times");
    let mut fault = Fault::new(pod, "CrashLoopBackOff", message).of_container(container);
    if ended_well {
        fault = fault.hint("what is to end is a Job; what is to run must not end");
    }
    Some(if restarts > RESTARTS { Verdict::Hopeless(fault) } else { Verdict::Lacking(fault) })
}

fn unschedulable(pod: &Value) -> Option<Verdict> {
    let scheduled = condition(pod, "PodScheduled")?;
    let message = text(&scheduled["message"]);
    // Nodes lose these as they become Ready.
    let passing =
        ["node.kubernetes.io/not-ready", "node.cloudprovider.kubernetes.io/uninitialized"]
            .iter()
            .any(|taint| message.contains(taint));
    (scheduled["status"] == "False" && scheduled["reason"] == "Unschedulable" && !passing)
        .then(|| Verdict::Suspect(Fault::new(pod, "Unschedulable", message)))
}

fn failed_mount(pod: &Value, objects: &[Value]) -> Option<Verdict> {
    if pod["status"]["phase"] != "Pending" {
        return None;
    }
    let event = last_event(pod, &["FailedMount", "FailedAttachVolume"], objects)?;
    Some(Verdict::Suspect(Fault::new(pod, text(&event["reason"]), text(&event["message"]))))
}

/// Why a workload has no pods at all: its controller may not make them.
pub(super) fn no_pods(object: &Value, objects: &[Value]) -> Option<Verdict> {
    if let Some(failure) = condition(object, "ReplicaFailure").filter(|one| one["status"] == "True")
    {
        let fault = Fault::new(object, text(&failure["reason"]), text(&failure["message"]));
        return Some(Verdict::Suspect(fault));
    }
    let event = last_event(object, &["FailedCreate"], objects)?;
    Some(Verdict::Suspect(Fault::new(object, "FailedCreate", text(&event["message"]))))
}

/// The worst of what is said: hopeless before suspect before lacking.
pub(super) fn worst(verdicts: impl Iterator<Item = Option<Verdict>>) -> Option<Verdict> {
    verdicts.flatten().min_by_key(|verdict| match verdict {
        Verdict::Hopeless(_) => 0,
        Verdict::Suspect(_) => 1,
        _ => 2,
    })
}

/// The pods that must become ready for an object to be.
pub(super) fn pods_of<'a>(object: &Value, objects: &'a [Value]) -> Vec<&'a Value> {
    let uid = match text(&object["kind"]) {
        "Deployment" => match super::rollout::newest_replica_set(object, objects) {
            Some(set) => &set["metadata"]["uid"],
            None => return Vec::new(),
        },
        "Pod" => {
            let uid = &object["metadata"]["uid"];
            return objects.iter().filter(|one| one["metadata"]["uid"] == *uid).collect();
        }
        _ => &object["metadata"]["uid"],
    };
    objects.iter().filter(|pod| pod["kind"] == "Pod" && owned_by(pod, uid)).collect()
}

/// What is missing, with what the pods are at.
pub(super) fn describe(missing: String, pods: &[&Value], objects: &[Value]) -> String {
    let unready = pods.iter().find_map(|pod| {
        let event = last_event(pod, &["Unhealthy"], objects)?;
        (!is_true(pod, "Ready"))
            .then(|| format!("{}: {}", name(pod), text(&event["message"]).trim()))
    });
    let busy = pods.iter().find_map(|pod| {
        let containers = list(&pod["status"]["initContainerStatuses"])
            .iter()
            .chain(list(&pod["status"]["containerStatuses"]));
        let reason = containers
            .map(|container| text(&container["state"]["waiting"]["reason"]))
            .find(|reason| !reason.is_empty())?;
        Some(format!("{}: {reason}", name(pod)))
    });
    match busy.or(unready) {
        Some(busy) => format!("{missing} ({busy})"),
        None => missing,
    }
}

/// The last event about an object, by one of these reasons.
pub(super) fn last_event<'a>(
    object: &Value,
    reasons: &[&str],
    objects: &'a [Value],
) -> Option<&'a Value> {
    let uid = &object["metadata"]["uid"];
    objects
        .iter()
        .filter(|event| event["kind"] == "Event" && event["involvedObject"]["uid"] == *uid)
        .filter(|event| reasons.contains(&text(&event["reason"])))
        .max_by_key(|event| text(&event["lastTimestamp"]))
}

pub(super) fn find<'a>(objects: &'a [Value], kind: &str, wanted: &str) -> Option<&'a Value> {
    let kind = match kind.to_lowercase().as_str() {
        "deploy" | "deployments" => "deployment".to_owned(),
        "sts" | "statefulsets" => "statefulset".to_owned(),
        "ds" | "daemonsets" => "daemonset".to_owned(),
        other => other.to_owned(),
    };
    objects.iter().find(|one| text(&one["kind"]).to_lowercase() == kind && name(one) == wanted)
}

pub(super) fn waiting(object: &Value, what: &str) -> Verdict {
    let kind = text(&object["kind"]).to_lowercase();
    Verdict::Waiting(format!("{kind}/{}: {what}", name(object)))
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

pub(super) fn owner(object: &Value) -> Option<&Value> {
    list(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true)
}

pub(super) fn owned_by(object: &Value, uid: &Value) -> bool {
    owner(object).is_some_and(|owner| owner["uid"] == *uid)
}

pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    match selector.as_object() {
        Some(wanted) if !wanted.is_empty() => {
            wanted.iter().all(|(label, value)| labels[label] == *value)
        }
        _ => false,
    }
}

pub(super) fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

pub(super) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crd_counts_when_it_is_established_and_never_when_its_names_are_taken() {
        let crd = |kind: &str, status: &str| {
            json!({"metadata": {"name": "a"}, "status": {"conditions": [
                {"type": kind, "status": status, "message": "plural is taken"}]}})
        };
        assert!(established(&crd("Established", "True")).unwrap());
        assert!(!established(&crd("Established", "False")).unwrap());
        let error = established(&crd("NamesAccepted", "False")).unwrap_err();
        assert!(error.to_string().contains("plural is taken"));
    }
}
