//! Objects → ready, waiting, hopeless. Pure: what the API served goes in, nothing else.
//!
//! | seen | verdict |
//! | --- | --- |
//! | `InvalidImageName`, `ErrImageNeverPull`; `ErrImagePull` or `ImagePullBackOff` of a `localhost/` image | hopeless: nothing can bring it |
//! | a container that crashed and was started again more than [`RESTARTS`] times | hopeless |
//! | one that crashed less often | crashing: hopeless if nothing else is still coming that it may lack |
//! | a Job's Failed or `FailureTarget` condition, a pod of phase Failed, `ProgressDeadlineExceeded` | hopeless |
//! | `ErrImagePull`, `ImagePullBackOff` from a registry | suspect: registries have bad moments |
//! | `CreateContainerConfigError`, `FailedMount` | suspect: another step may be about to apply the `ConfigMap` or Secret |
//! | `CreateContainerError`, `RunContainerError` | suspect |
//! | unschedulable, unless for a taint that nodes lose as they become Ready | suspect: another pod may go |
//! | `FailedCreate` of pods (service account, quota, admission) | suspect |
//!
//! A container without a readiness probe is ready for as long as it runs, even if that is the
//! instant before it crashes: such a rollout is unproven, for a moment, or longer if it has crashed
//! before.
//!
//! Whoever waits takes a suspect that stays one for hopeless (`wait::GRACE`). For a rollout only
//! pods of its newest revision count: those of the last one may be as broken as they were.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::config::WaitFor;

/// How often a container may be started again before it is given up.
const RESTARTS: u64 = 3;

/// How long a container without a readiness probe must stay up: a kubelet looks at its containers once
/// a second (later if it is busy), and until its next look one that crashed passes for running.
pub(super) const STARTED: Duration = Duration::from_secs(3);

/// The same, if it has crashed before: longer than the pause until it is started again.
const CRASHED: Duration = Duration::from_secs(4);

/// How things stand with what is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    /// It looks ready, but no readiness probe says so: it counts once it has looked so for a while.
    Unproven {
        what: String,
        settles: Duration,
    },
    /// It may come yet; what is missing.
    Waiting(String),
    /// It may come yet, but this speaks against it.
    Suspect(Fault),
    /// It crashed, and crashed again: for want of something that is still coming, or for ever.
    Crashing(Fault),
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
    fn new(object: &Value, reason: &str, message: impl Into<String>) -> Self {
        let kind = text(&object["kind"]).to_lowercase();
        Self {
            object: format!("{kind}/{}", name(object)),
            container: None,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Of an object of which nothing more is known.
    pub(super) fn of(object: &str) -> Self {
        let (reason, message) = (String::new(), String::new());
        Self { object: object.to_owned(), container: None, reason, message }
    }

    fn of_container(mut self, container: &Value) -> Self {
        self.container = Some(text(&container["name"]).to_owned());
        self
    }
}

/// How things stand with a typed wait, by the objects of its namespace. (http and tcp waits, and
/// conditions of custom resources, are not in there.)
pub(super) fn judge(on: &WaitFor, objects: &[Value]) -> Verdict {
    match on {
        WaitFor::Rollout(target) => match target.split_once('/') {
            Some((kind, name)) => workload(kind, name, objects),
            None => workload("deployment", target, objects),
        },
        WaitFor::Job(name) => workload("job", name, objects),
        WaitFor::Endpoint(name) => endpoint(name, objects),
        WaitFor::Http { .. } | WaitFor::Tcp(_) | WaitFor::Condition { .. } => {
            Verdict::Waiting(String::new())
        }
    }
}

/// How things stand with what makes pods.
pub(super) fn workload(kind: &str, wanted: &str, objects: &[Value]) -> Verdict {
    let Some(object) = find(objects, kind, wanted) else {
        return Verdict::Waiting(format!("{}/{wanted} to be there", kind.to_lowercase()));
    };
    let own = match kind.to_lowercase().as_str() {
        "deployment" | "deployments" | "deploy" => deployment(object),
        "statefulset" | "statefulsets" | "sts" => stateful_set(object),
        "daemonset" | "daemonsets" | "ds" => daemon_set(object),
        "job" => job(object),
        "pod" => ready_pod(object),
        _ => {
            return Verdict::Waiting(format!(
                "{kind}/{wanted}: of a kind that cannot be waited for"
            ));
        }
    };
    let pods = pods_of(object, objects);
    let missing = match own {
        Verdict::Waiting(missing) => missing,
        Verdict::Ready if object["kind"] != "Job" => return proof(object, &pods),
        settled => return settled,
    };
    worst(pods.iter().map(|pod| judge_pod(pod, objects)))
        .or_else(|| (pods.is_empty()).then(|| no_pods(object, objects)).flatten())
        .unwrap_or_else(|| Verdict::Waiting(describe(missing, &pods, objects)))
}

/// Whether being ready means anything, for pods that look it.
fn proof(object: &Value, pods: &[&Value]) -> Verdict {
    let untried: Vec<&Value> = pods.iter().flat_map(|pod| without_probe(pod)).collect();
    if untried.is_empty() {
        return Verdict::Ready;
    }
    let crashed = untried.iter().any(|status| {
        number(&status["lastState"]["terminated"]["exitCode"]) != 0
            || status["state"]["running"].is_null()
    });
    Verdict::Unproven {
        what: format!("{} to stay up: it has no readiness probe", name(object)),
        settles: if crashed { CRASHED } else { STARTED },
    }
}

/// The statuses of a pod's containers that no readiness probe speaks for.
fn without_probe(pod: &Value) -> Vec<&Value> {
    let probed: Vec<&Value> = list(&pod["spec"]["containers"])
        .iter()
        .filter(|container| !container["readinessProbe"].is_null())
        .map(|container| &container["name"])
        .collect();
    let statuses = list(&pod["status"]["containerStatuses"]).iter();
    statuses.filter(|status| !probed.contains(&&status["name"])).collect()
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

/// As `kubectl rollout status` decides it.
fn deployment(object: &Value) -> Verdict {
    if let Some(progress) = condition(object, "Progressing")
        && progress["reason"] == "ProgressDeadlineExceeded"
    {
        let message = text(&progress["message"]);
        return Verdict::Hopeless(Fault::new(object, "ProgressDeadlineExceeded", message));
    }
    let (status, wanted) = (&object["status"], replicas(object));
    let (updated, total) = (number(&status["updatedReplicas"]), number(&status["replicas"]));
    let available = number(&status["availableReplicas"]);
    if !observed(object) {
        waiting(object, "to be taken up")
    } else if updated < wanted {
        waiting(object, &format!("{updated} of {wanted} pods are of the new revision"))
    } else if total > updated {
        waiting(object, &format!("{} pods of the last revision are still there", total - updated))
    } else if available < updated {
        waiting(object, &format!("{available} of {wanted} pods are available"))
    } else {
        Verdict::Ready
    }
}

fn stateful_set(object: &Value) -> Verdict {
    let (status, wanted) = (&object["status"], replicas(object));
    let ready = number(&status["readyReplicas"]);
    let moved = status["updateRevision"] == status["currentRevision"]
        || number(&status["updatedReplicas"]) >= wanted;
    if !observed(object) || !moved {
        waiting(object, "the new revision is not complete")
    } else if ready < wanted {
        waiting(object, &format!("{ready} of {wanted} pods are ready"))
    } else {
        Verdict::Ready
    }
}

fn daemon_set(object: &Value) -> Verdict {
    let status = &object["status"];
    let wanted = number(&status["desiredNumberScheduled"]);
    let updated = number(&status["updatedNumberScheduled"]);
    let available = number(&status["numberAvailable"]);
    if !observed(object) || updated < wanted {
        waiting(object, "the new revision is not complete")
    } else if available < wanted {
        waiting(object, &format!("{available} of {wanted} pods are available"))
    } else {
        Verdict::Ready
    }
}

fn job(object: &Value) -> Verdict {
    if is_true(object, "Complete") {
        return Verdict::Ready;
    }
    // FailureTarget comes first, Failed when the last pod has ended.
    for kind in ["Failed", "FailureTarget"] {
        if let Some(failed) = condition(object, kind).filter(|one| one["status"] == "True") {
            let fault = Fault::new(object, text(&failed["reason"]), text(&failed["message"]));
            return Verdict::Hopeless(fault);
        }
    }
    let failed = number(&object["status"]["failed"]);
    if failed > RESTARTS {
        let message = format!("{failed} pods have failed");
        return Verdict::Hopeless(Fault::new(object, "Failing", message));
    }
    match failed {
        0 => waiting(object, "has not completed"),
        failed => waiting(object, &format!("has not completed, {failed} pods have failed")),
    }
}

fn ready_pod(object: &Value) -> Verdict {
    if is_true(object, "Ready") { Verdict::Ready } else { waiting(object, "is not ready") }
}

fn endpoint(service: &str, objects: &[Value]) -> Verdict {
    let ready = objects.iter().any(|slice| {
        slice["kind"] == "EndpointSlice"
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service
            && list(&slice["endpoints"]).iter().any(|one| one["conditions"]["ready"] != false)
    });
    if ready {
        return Verdict::Ready;
    }
    let Some(object) = find(objects, "service", service) else {
        return Verdict::Waiting(format!("service/{service} to be there"));
    };
    let selector = &object["spec"]["selector"];
    let pods: Vec<&Value> = objects
        .iter()
        .filter(|pod| pod["kind"] == "Pod" && selects(selector, &pod["metadata"]["labels"]))
        .collect();
    let missing = format!("service/{service}: no ready endpoint");
    worst(pods.iter().map(|pod| judge_pod(pod, objects)))
        .unwrap_or_else(|| Verdict::Waiting(describe(missing, &pods, objects)))
}

/// What speaks against a pod, if anything.
fn judge_pod(pod: &Value, objects: &[Value]) -> Option<Verdict> {
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
    let fault = Fault::new(pod, reason, text(&waiting["message"])).of_container(container);
    let local = text(&container["image"]).starts_with("localhost/");
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

/// A container that ended badly, time after time, and does not run just now.
fn crash_loop(pod: &Value, container: &Value) -> Option<Verdict> {
    let restarts = number(&container["restartCount"]);
    let ended = [&container["lastState"]["terminated"], &container["state"]["terminated"]]
        .into_iter()
        .find(|ended| !ended.is_null())?;
    let runs = !container["state"]["running"].is_null();
    if runs || restarts == 0 || number(&ended["exitCode"]) == 0 {
        return None;
    }
    let mut message = format!("ended with exit status {}", number(&ended["exitCode"]));
    let (reason, why) = (text(&ended["reason"]), text(&ended["message"]));
    if !matches!(reason, "" | "Error") {
        message = format!("{message} ({reason})");
    }
    if !why.is_empty() {
        message = format!("{message}: {}", why.trim());
    }
    message = format!("{message}, started again {restarts} times");
    let fault = Fault::new(pod, "CrashLoopBackOff", message).of_container(container);
    Some(if restarts > RESTARTS { Verdict::Hopeless(fault) } else { Verdict::Crashing(fault) })
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
fn no_pods(object: &Value, objects: &[Value]) -> Option<Verdict> {
    if let Some(failure) = condition(object, "ReplicaFailure").filter(|one| one["status"] == "True")
    {
        let fault = Fault::new(object, text(&failure["reason"]), text(&failure["message"]));
        return Some(Verdict::Suspect(fault));
    }
    let event = last_event(object, &["FailedCreate"], objects)?;
    Some(Verdict::Suspect(Fault::new(object, "FailedCreate", text(&event["message"]))))
}

/// The worst of what is said: hopeless before suspect before crashing.
fn worst(verdicts: impl Iterator<Item = Option<Verdict>>) -> Option<Verdict> {
    verdicts.flatten().min_by_key(|verdict| match verdict {
        Verdict::Hopeless(_) => 0,
        Verdict::Suspect(_) => 1,
        _ => 2,
    })
}

/// The pods that must become ready for an object to be.
pub(super) fn pods_of<'a>(object: &Value, objects: &'a [Value]) -> Vec<&'a Value> {
    let uid = match text(&object["kind"]) {
        "Deployment" => match newest_replica_set(object, objects) {
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

fn newest_replica_set<'a>(deployment: &Value, objects: &'a [Value]) -> Option<&'a Value> {
    let uid = &deployment["metadata"]["uid"];
    let sets = objects.iter().filter(|set| set["kind"] == "ReplicaSet" && owned_by(set, uid));
    sets.max_by_key(|set| {
        let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        text(revision).parse::<u64>().unwrap_or_default()
    })
}

/// What is missing, with what the pods are at.
fn describe(missing: String, pods: &[&Value], objects: &[Value]) -> String {
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

fn waiting(object: &Value, what: &str) -> Verdict {
    let kind = text(&object["kind"]).to_lowercase();
    Verdict::Waiting(format!("{kind}/{}: {what}", name(object)))
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

fn observed(object: &Value) -> bool {
    number(&object["status"]["observedGeneration"]) >= number(&object["metadata"]["generation"])
}

fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap_or(1)
}

fn owner(object: &Value) -> Option<&Value> {
    list(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true)
}

fn owned_by(object: &Value, uid: &Value) -> bool {
    owner(object).is_some_and(|owner| owner["uid"] == *uid)
}

fn selects(selector: &Value, labels: &Value) -> bool {
    match selector.as_object() {
        Some(wanted) if !wanted.is_empty() => {
            wanted.iter().all(|(label, value)| labels[label] == *value)
        }
        _ => false,
    }
}

pub(super) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As Kubernetes 1.34 served them 70 s after they were applied; fields nobody reads are left
    /// out.
    const SERVED: &str = include_str!("verdict.json");

    fn served() -> Vec<Value> {
        serde_json::from_str(SERVED).unwrap()
    }

    /// `hopeless pod/a ErrImagePull`, short enough for a table.
    fn short(verdict: &Verdict) -> String {
        let fault = |fault: &Fault| {
            let pod = fault.object.split('-').next().unwrap_or_default();
            format!("{pod} {}", fault.reason)
        };
        match verdict {
            Verdict::Ready => "ready".to_owned(),
            Verdict::Unproven { settles, .. } => format!("unproven {settles:?}"),
            Verdict::Waiting(what) => format!("waiting: {what}"),
            Verdict::Crashing(one) => format!("crashing {}", fault(one)),
            Verdict::Suspect(one) => format!("suspect {}", fault(one)),
            Verdict::Hopeless(one) => format!("hopeless {}", fault(one)),
        }
    }

    #[test]
    fn what_a_real_cluster_served_is_judged() {
        let objects = served();
        for (kind, name, verdict) in [
            ("pod", "wrongtag", "hopeless pod/wrongtag ImagePullBackOff"),
            ("pod", "nevertag", "hopeless pod/nevertag ErrImageNeverPull"),
            ("pod", "badname", "hopeless pod/badname InvalidImageName"),
            ("pod", "badconfigmap", "suspect pod/badconfigmap CreateContainerConfigError"),
            ("pod", "badvolume", "suspect pod/badvolume FailedMount"),
            ("pod", "badpvc", "suspect pod/badpvc Unschedulable"),
            ("pod", "toobig", "suspect pod/toobig Unschedulable"),
            ("job", "failing", "hopeless job/failing BackoffLimitExceeded"),
            ("job", "fine", "ready"),
            ("deployment", "good", "unproven 3s"),
            ("deployment", "forbidden", "suspect deployment/forbidden FailedCreate"),
            ("Deployment", "absent", "waiting: deployment/absent to be there"),
        ] {
            assert_eq!(short(&workload(kind, name, &objects)), verdict, "{kind}/{name}");
        }
    }

    #[test]
    fn a_crash_loop_is_given_up_after_three_restarts_and_says_how_it_ended() {
        let mut objects = served();
        let crash =
            |objects: &[Value]| judge(&WaitFor::Rollout("deployment/crash".into()), objects);
        assert_eq!(short(&crash(&objects)), "crashing pod/crash CrashLoopBackOff");
        let at = objects
            .iter()
            .position(|one| one["kind"] == "Pod" && name(one).starts_with("crash-"))
            .unwrap();
        objects[at]["status"]["containerStatuses"][0]["restartCount"] = json!(4);
        let Verdict::Hopeless(fault) = crash(&objects) else { panic!("{:?}", crash(&objects)) };
        assert_eq!(fault.reason, "CrashLoopBackOff");
        assert_eq!(fault.container.as_deref(), Some("c"));
        assert_eq!(fault.message, "ended with exit status 1, started again 4 times");
        // The same pod through its service; and not at all once it runs, or is being deleted.
        let endpoint = judge(&WaitFor::Endpoint("crash".into()), &with_label(&objects, at));
        assert!(matches!(endpoint, Verdict::Hopeless(_)), "{endpoint:?}");
        objects[at]["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:00:00Z");
        assert!(matches!(crash(&objects), Verdict::Waiting(_)));
    }

    fn with_label(objects: &[Value], at: usize) -> Vec<Value> {
        let mut objects = objects.to_vec();
        objects[at]["metadata"]["labels"] = json!({ "a": "crash" });
        objects
    }

    #[test]
    fn an_endpoint_is_ready_when_a_slice_has_one() {
        let objects = served();
        for (service, verdict) in [
            ("good", "ready"),
            ("none", "waiting: service/none: no ready endpoint"),
            ("absent", "waiting: service/absent to be there"),
        ] {
            let judged = judge(&WaitFor::Endpoint(service.to_owned()), &objects);
            assert_eq!(short(&judged), verdict);
        }
    }

    #[test]
    fn an_image_from_a_registry_may_come_yet() {
        let mut objects = served();
        let at = objects.iter().position(|one| name(one) == "wrongtag").unwrap();
        objects[at]["status"]["containerStatuses"][0]["image"] = json!("registry.example/a:1");
        let verdict = workload("pod", "wrongtag", &objects);
        assert_eq!(short(&verdict), "suspect pod/wrongtag ImagePullBackOff");
    }

    #[test]
    fn a_node_that_becomes_ready_is_not_unschedulable() {
        let mut objects = served();
        let at = objects.iter().position(|one| name(one) == "toobig").unwrap();
        let message = "0/1 nodes are available: 1 node(s) had untolerated taint \
                       {node.kubernetes.io/not-ready: }.";
        let conditions = &mut objects[at]["status"]["conditions"];
        let scheduled = conditions.as_array_mut().unwrap().iter_mut();
        scheduled.for_each(|condition| condition["message"] = json!(message));
        assert!(matches!(workload("pod", "toobig", &objects), Verdict::Waiting(_)));
    }

    /// A Deployment, its two revisions, and a pod of each.
    fn rollout(status: &Value, old_pod: &str, new_pod: &str) -> Vec<Value> {
        let owned = |kind: &str, uid: &str| json!([{"kind": kind, "uid": uid, "controller": true}]);
        let set = |uid: &str, revision: &str| {
            json!({"kind": "ReplicaSet", "metadata": {"name": uid, "uid": uid,
                "ownerReferences": owned("Deployment", "d"),
                "annotations": {"deployment.kubernetes.io/revision": revision}}})
        };
        let pod = |name: &str, set: &str, waiting: &str| {
            json!({"kind": "Pod", "metadata": {"name": name, "uid": name,
                "ownerReferences": owned("ReplicaSet", set)},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "c",
                    "image": "localhost/a:1", "restartCount": 0,
                    "state": {"waiting": {"reason": waiting}}}]}})
        };
        vec![
            json!({"kind": "Deployment", "spec": {"replicas": 1}, "status": status,
                   "metadata": {"name": "a", "uid": "d", "generation": 2}}),
            set("nine", "9"),
            set("ten", "10"),
            pod("old", "nine", old_pod),
            pod("new", "ten", new_pod),
        ]
    }

    #[test]
    fn only_pods_of_the_newest_revision_speak_against_a_rollout() {
        let status = json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 2});
        let creating = rollout(&status, "ErrImageNeverPull", "ContainerCreating");
        assert_eq!(
            short(&workload("deployment", "a", &creating)),
            "waiting: deployment/a: 1 pods of the last revision are still there \
             (new: ContainerCreating)"
        );
        let broken = rollout(&status, "ContainerCreating", "ErrImageNeverPull");
        let verdict = workload("deployment", "a", &broken);
        assert_eq!(short(&verdict), "hopeless pod/new ErrImageNeverPull");
    }

    #[test]
    fn a_rollout_is_complete_only_as_the_api_has_observed_it() {
        let full = json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1,
            "availableReplicas": 1});
        for (field, value, says) in [
            ("observedGeneration", 1, "to be taken up"),
            ("updatedReplicas", 0, "0 of 1 pods are of the new revision"),
            ("replicas", 2, "1 pods of the last revision are still there"),
            ("availableReplicas", 0, "0 of 1 pods are available"),
        ] {
            let mut status = full.clone();
            status[field] = json!(value);
            let verdict = workload("deployment", "a", &rollout(&status, "", ""));
            assert_eq!(short(&verdict), format!("waiting: deployment/a: {says}"));
        }
        let mut tried = rollout(&full, "", "");
        tried[4]["spec"]["containers"] = json!([{"name": "c", "readinessProbe": {}}]);
        assert_eq!(workload("deployment", "a", &tried), Verdict::Ready);
    }

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
