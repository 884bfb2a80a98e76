//! Whether what makes pods has rolled out. Pure: a look goes in, nothing else.
//!
//! A look that shows everything at peace may show the peace of before. So a rollout is complete
//! only if all of this is so in one look:
//!
//! | what | why |
//! | --- | --- |
//! | it is the object that was applied (`uid`), in that spec or a later one (`generation`) | one of the same name may have taken its place |
//! | its controller has observed that generation | until then its status is that of the spec before |
//! | the newest revision has as many ready pods as are wanted, by its status *and* by its pods | either may be late |
//! | that is at least one, unless the manifest itself says `replicas: 0` | 0 of 0 pods are ready, and answer nothing |
//! | no pod of an older revision is left, not even one that is ending | it still serves the connections it has |
//! | each container of one of the run's images runs the image that was loaded | a tag does not say what is behind it |
//!
//! Pods that have ended (evicted ones, too) are neither ready nor left: they only lie there. Pods
//! whose maker is gone ([`orphan`]) belong to no rollout, and may answer all the same.
//!
//! A Job has no rollout. One that has failed is a fault; whether it must have ended well is for who
//! waits for it to say.

use serde_json::Value;

use super::look::Look;
use super::verdict::{
    self, CRASHED, Fault, STARTED, Verdict, condition, describe, find, is_true, judge_pod, list,
    name, number, owned_by, owner, selects, text, uid, waiting, worst,
};
use super::workload::Workload;

/// Whether an image of the run's, by the reference that the manifests have, is what a node calls by
/// that id; none for other images.
pub type IsLoaded<'a> = &'a dyn Fn(&str, &str) -> Option<bool>;

/// How far a workload has rolled out; of a Job, whether it has failed.
pub(super) fn rollout(workload: &Workload, look: &Look, is_loaded: IsLoaded<'_>) -> Verdict {
    let objects = &look.objects;
    let object = match found(workload, look) {
        Ok(object) => object,
        Err(verdict) => return verdict,
    };
    let pods = Pods::of(object, objects);
    let missing = match of_kind(workload, object, &pods) {
        Verdict::Waiting(missing) => missing,
        Verdict::Ready => {
            return wrong_image(&pods.newest, is_loaded)
                .unwrap_or_else(|| proof(object, &pods.newest, look));
        }
        settled => return settled,
    };
    let is_job = object["kind"] == "Job";
    worst(pods.newest.iter().map(|pod| judge_pod(pod, objects)))
        .or_else(|| pods.newest.is_empty().then(|| verdict::no_pods(object, objects)).flatten())
        .or_else(|| is_job.then(|| wrong_image(&pods.newest, is_loaded).unwrap_or(Verdict::Ready)))
        .unwrap_or_else(|| Verdict::Waiting(describe(missing, &pods.newest, objects)))
}

/// Whether a Job has ended well.
pub(super) fn completion(workload: &Workload, look: &Look, is_loaded: IsLoaded<'_>) -> Verdict {
    let object = match found(workload, look) {
        Ok(object) => object,
        Err(verdict) => return verdict,
    };
    match rollout(workload, look, is_loaded) {
        Verdict::Ready => match job(object) {
            Verdict::Waiting(missing) => {
                let pods = Pods::of(object, &look.objects);
                Verdict::Waiting(describe(missing, &pods.newest, &look.objects))
            }
            settled => settled,
        },
        fault => fault,
    }
}

/// The object, if it is the one that was applied.
fn found<'a>(workload: &Workload, look: &'a Look) -> Result<&'a Value, Verdict> {
    let (kind, wanted) = (&workload.object.kind, &workload.object.name);
    let object = find(&look.objects, kind, wanted);
    let Some(applied) = &workload.applied else {
        let missing = || Verdict::Waiting(format!("{}/{wanted} to be there", kind.to_lowercase()));
        return object.ok_or_else(missing);
    };
    let Some(object) = object.filter(|object| uid(object) == applied.uid) else {
        return Err(gone(workload, &applied.uid, object, look));
    };
    if number(&object["metadata"]["generation"]) < applied.generation {
        return Err(waiting(object, "to be as it was applied"));
    }
    Ok(object)
}

/// What was applied is not there any more. A Job may have been deleted because it ended
/// (`ttlSecondsAfterFinished`): its events outlive it.
fn gone(workload: &Workload, applied: &str, other: Option<&Value>, look: &Look) -> Verdict {
    let fault = |reason: &str, message: &str| Fault {
        object: workload.object.to_string(),
        container: None,
        reason: reason.to_owned(),
        message: message.to_owned(),
        hint: None,
    };
    if workload.object.kind != "Job" {
        return Verdict::Suspect(match other {
            Some(_) => fault("Replaced", "it is not the one that was applied, but made anew since"),
            None => fault("Gone", "it was applied, and is not there any more"),
        });
    }
    let events = look.objects.iter().filter(|event| {
        event["kind"] == "Event" && text(&event["involvedObject"]["uid"]) == applied
    });
    let reasons: Vec<(&str, &str)> =
        events.map(|event| (text(&event["reason"]), text(&event["message"]))).collect();
    let failed = [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
    ];
    if look.completed.contains(applied) || reasons.iter().any(|(reason, _)| *reason == "Completed")
    {
        return Verdict::Ready;
    }
    if let Some((reason, message)) = reasons.iter().find(|(reason, _)| failed.contains(reason)) {
        return Verdict::Hopeless(fault(reason, message));
    }
    let message = "it was applied and is not there any more, and nothing says how it ended";
    Verdict::Suspect(fault("Gone", message))
}

fn of_kind(workload: &Workload, object: &Value, pods: &Pods<'_>) -> Verdict {
    match text(&object["kind"]) {
        "Job" => return job(object),
        "Pod" => return pod(object),
        _ => {}
    }
    if number(&object["status"]["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return waiting(object, "to be taken up");
    }
    let own = match text(&object["kind"]) {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object, pods),
        "DaemonSet" => daemon_set(object, pods),
        "ReplicaSet" | "ReplicationController" => replica_set(object, pods),
        kind => Verdict::Waiting(format!("{kind}/{}: a kind that does not roll out", name(object))),
    };
    if own != Verdict::Ready {
        return own;
    }
    let wanted = if object["kind"] == "DaemonSet" {
        number(&object["status"]["desiredNumberScheduled"])
    } else {
        replicas(object)
    };
    let ready = pods.newest.iter().filter(|pod| is_true(pod, "Ready")).count() as u64;
    if ready < wanted {
        return waiting(object, &format!("{ready} of {wanted} pods are ready"));
    }
    if let Some(older) = pods.older.first() {
        let ending = if is_ending(older) { ", ending" } else { "" };
        let what = format!("pod/{} of an older revision is still there{ending}", name(older));
        return waiting(object, &what);
    }
    match wanted {
        0 if object["kind"] == "DaemonSet" => {
            Verdict::Lacking(Fault::new(object, "NoNode", "no node fits, so that it has no pod"))
        }
        0 if workload.wants_none => Verdict::Ready,
        0 => {
            let message = "no pod is wanted of it, though its manifest does not say `replicas: 0`";
            Verdict::Lacking(Fault::new(object, "NoPods", message))
        }
        _ => Verdict::Ready,
    }
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
    let paused = if object["spec"]["paused"] == true { ": it is paused" } else { "" };
    if updated < wanted {
        waiting(object, &format!("{updated} of {wanted} pods are of the new revision{paused}"))
    } else if total > updated {
        let old = total - updated;
        waiting(object, &format!("{old} pods of the last revision are still there{paused}"))
    } else if available < updated {
        waiting(object, &format!("{available} of {wanted} pods are available"))
    } else {
        Verdict::Ready
    }
}

fn stateful_set(object: &Value, pods: &Pods<'_>) -> Verdict {
    let (status, wanted) = (&object["status"], replicas(object));
    let strategy = &object["spec"]["updateStrategy"];
    if let Some(verdict) = on_delete(object, strategy, pods) {
        return verdict;
    }
    let partition = number(&strategy["rollingUpdate"]["partition"]);
    let is_below = |pod: &&&Value| {
        let number = name(pod).rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
        !is_ending(pod) && number.is_some_and(|number| number < partition)
    };
    if let Some(older) = pods.older.iter().find(is_below) {
        let message = format!(
            "pod/{} keeps an older revision: its number is below `partition: {partition}`",
            name(older)
        );
        return Verdict::Hopeless(Fault::new(object, "Partition", message));
    }
    let moved = status["updateRevision"] == status["currentRevision"]
        || number(&status["updatedReplicas"]) >= wanted;
    let ready = number(&status["readyReplicas"]);
    // Absent before Kubernetes 1.25, and 0 is left out.
    let available = status["availableReplicas"].as_u64().unwrap_or(ready);
    if !moved {
        waiting(object, "the new revision is not complete")
    } else if ready.min(available) < wanted {
        waiting(object, &format!("{} of {wanted} pods are ready", ready.min(available)))
    } else {
        Verdict::Ready
    }
}

fn daemon_set(object: &Value, pods: &Pods<'_>) -> Verdict {
    if let Some(verdict) = on_delete(object, &object["spec"]["updateStrategy"], pods) {
        return verdict;
    }
    let status = &object["status"];
    let wanted = number(&status["desiredNumberScheduled"]);
    let updated = number(&status["updatedNumberScheduled"]);
    let available = number(&status["numberAvailable"]);
    if updated < wanted {
        waiting(object, "the new revision is not complete")
    } else if available < wanted {
        waiting(object, &format!("{available} of {wanted} pods are available"))
    } else {
        Verdict::Ready
    }
}

/// Pods that their controller will not replace by itself.
fn on_delete(object: &Value, strategy: &Value, pods: &Pods<'_>) -> Option<Verdict> {
    let older = pods.older.iter().find(|pod| !is_ending(pod))?;
    let message = format!(
        "pod/{} is of an older revision, which `updateStrategy: OnDelete` keeps until it is deleted",
        name(older)
    );
    let hint = "say `RollingUpdate`, or `wait = \"none\"` and delete the pods in a `run` step";
    (strategy["type"] == "OnDelete")
        .then(|| Verdict::Hopeless(Fault::new(object, "OnDelete", message).hint(hint)))
}

fn replica_set(object: &Value, pods: &Pods<'_>) -> Verdict {
    if let Some(older) = pods.older.iter().find(|pod| !is_ending(pod)) {
        let message = format!(
            "pod/{} has other images than the template now: this kind never replaces its pods",
            name(older)
        );
        let fault = Fault::new(object, "OldTemplate", message);
        return Verdict::Hopeless(fault.hint("make it a Deployment"));
    }
    let (status, wanted) = (&object["status"], replicas(object));
    let available = number(&status["availableReplicas"]);
    if available < wanted {
        return waiting(object, &format!("{available} of {wanted} pods are available"));
    }
    Verdict::Ready
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
    if failed > verdict::RESTARTS {
        let message = format!("{failed} pods have failed");
        return Verdict::Hopeless(Fault::new(object, "Failing", message));
    }
    match failed {
        0 => waiting(object, "has not completed"),
        failed => waiting(object, &format!("has not completed, {failed} pods have failed")),
    }
}

/// A pod of its own: it is ready, or was to end and has ended well.
fn pod(object: &Value) -> Verdict {
    let status = &object["status"];
    let observed = status["observedGeneration"].as_u64();
    match text(&status["phase"]) {
        "Failed" => {
            let why = [&status["reason"], &status["message"]].map(text).join(" ");
            Verdict::Hopeless(Fault::new(object, "Failed", format!("it has failed {why}")))
        }
        "Succeeded" => Verdict::Ready,
        _ if is_ending(object) => waiting(object, "is being deleted"),
        _ if observed.is_some_and(|seen| seen < number(&object["metadata"]["generation"])) => {
            waiting(object, "to be taken up")
        }
        _ if is_true(object, "Ready") => Verdict::Ready,
        _ => waiting(object, "is not ready"),
    }
}

/// Whether being ready means anything, for pods that look it.
fn proof(object: &Value, pods: &[&Value], look: &Look) -> Verdict {
    let ended = |pod: &&Value| pod["status"]["phase"] == "Succeeded";
    let untried: Vec<&Value> =
        pods.iter().filter(|pod| !ended(pod)).flat_map(|pod| without_probe(pod)).collect();
    if object["kind"] == "Job" || untried.is_empty() {
        return Verdict::Ready;
    }
    let crashed = |status: &Value| {
        !status["lastState"]["terminated"].is_null() || status["state"]["running"].is_null()
    };
    let settles = if untried.iter().any(|one| crashed(one)) { CRASHED } else { STARTED };
    let clock = look.clock.as_deref().and_then(|clock| humantime::parse_rfc3339(clock).ok());
    let has_stayed = |status: &&Value| {
        let started = text(&status["state"]["running"]["startedAt"]);
        let age = humantime::parse_rfc3339(started).ok().zip(clock);
        let age = age.and_then(|(started, clock)| clock.duration_since(started).ok());
        // Both clocks say whole seconds.
        age.is_some_and(|age| age > settles)
    };
    if untried.iter().all(has_stayed) {
        return Verdict::Ready;
    }
    let starts = |pod: &&Value| {
        let statuses = list(&pod["status"]["containerStatuses"]).iter();
        (uid(pod).to_owned(), statuses.map(|status| number(&status["restartCount"])).sum())
    };
    Verdict::Unproven {
        what: format!("{} to stay up: it has no readiness probe", name(object)),
        settles,
        of: pods.iter().map(starts).collect(),
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

/// A container of one of the run's images that runs another image under its name.
fn wrong_image(pods: &[&Value], is_loaded: IsLoaded<'_>) -> Option<Verdict> {
    let kinds = [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")];
    for pod in pods {
        for (specs, statuses) in kinds {
            for container in list(&pod["spec"][specs]) {
                let image = text(&container["image"]);
                let mut statuses = list(&pod["status"][statuses]).iter();
                let status = statuses.find(|one| one["name"] == container["name"]);
                let id = status.map_or("", |status| text(&status["imageID"]));
                let started = status.is_some_and(|status| !status["state"]["running"].is_null());
                match is_loaded(image, id) {
                    Some(false) if !id.is_empty() => {
                        let message =
                            format!("it runs {id}, which is not what was loaded as `{image}`");
                        let fault = Fault::new(pod, "WrongImage", message).of_container(container);
                        return Some(Verdict::Suspect(fault));
                    }
                    Some(false) if started => {
                        let what = format!("container `{}` to say its image", name_of(container));
                        return Some(waiting(pod, &what));
                    }
                    _ => {}
                }
            }
        }
    }
    None
}

fn name_of(container: &Value) -> &str {
    text(&container["name"])
}

/// The pods of a workload that have not ended.
pub(super) struct Pods<'a> {
    /// Of its newest revision, none of them ending. Of a Job all, ended or not.
    pub(super) newest: Vec<&'a Value>,
    /// Of any older one.
    pub(super) older: Vec<&'a Value>,
}

impl<'a> Pods<'a> {
    pub(super) fn of(object: &Value, objects: &'a [Value]) -> Self {
        let pods = || objects.iter().filter(|one| one["kind"] == "Pod");
        let all = || pods().filter(|pod| belongs(pod, object, objects));
        match text(&object["kind"]) {
            "Pod" => {
                let newest = pods().filter(|pod| uid(pod) == uid(object)).collect();
                return Self { newest, older: Vec::new() };
            }
            "Job" => {
                let own = all().filter(|pod| owned_by(pod, &object["metadata"]["uid"]));
                return Self { newest: own.collect(), older: Vec::new() };
            }
            _ => {}
        }
        let (newest, older): (Vec<_>, Vec<_>) = all()
            .filter(|pod| !has_ended(pod))
            .partition(|pod| is_of_newest_revision(pod, object, objects));
        Self { newest: newest.into_iter().filter(|pod| !is_ending(pod)).collect(), older }
    }
}

/// Whether a pod is a workload's, or was that of one of the same name that is gone.
pub(super) fn belongs(pod: &Value, object: &Value, objects: &[Value]) -> bool {
    let Some(owner) = owner(pod) else { return false };
    if owner["uid"] == object["metadata"]["uid"] {
        return true;
    }
    let namesake = owner["kind"] == object["kind"] && owner["name"] == object["metadata"]["name"];
    if object["kind"] != "Deployment" {
        return namesake;
    }
    let set =
        objects.iter().find(|set| set["kind"] == "ReplicaSet" && uid(set) == text(&owner["uid"]));
    match set {
        Some(set) if owned_by(set, &object["metadata"]["uid"]) => true,
        // Of a Deployment of this name before it.
        Some(set) => self::owner(set).is_some_and(|owner| {
            owner["kind"] == "Deployment" && owner["name"] == object["metadata"]["name"]
        }),
        // Its ReplicaSet is gone already.
        None => {
            owner["kind"] == "ReplicaSet"
                && selects(&object["spec"]["selector"]["matchLabels"], &pod["metadata"]["labels"])
        }
    }
}

fn is_of_newest_revision(pod: &Value, object: &Value, objects: &[Value]) -> bool {
    let hash = &pod["metadata"]["labels"]["controller-revision-hash"];
    let own = owned_by(pod, &object["metadata"]["uid"]);
    match text(&object["kind"]) {
        "Deployment" => newest_replica_set(object, objects)
            .is_some_and(|set| owned_by(pod, &set["metadata"]["uid"])),
        "StatefulSet" => own && *hash == object["status"]["updateRevision"],
        "DaemonSet" => {
            let newest = newest_revision(object, objects);
            own && newest.is_none_or(|newest| {
                newest["metadata"]["labels"]["controller-revision-hash"] == *hash
            })
        }
        "ReplicaSet" | "ReplicationController" => {
            own && images(&pod["spec"]) == images(&object["spec"]["template"]["spec"])
        }
        _ => own,
    }
}

fn images(spec: &Value) -> Vec<(&str, &str)> {
    let containers = list(&spec["containers"]).iter();
    containers.map(|one| (text(&one["name"]), text(&one["image"]))).collect()
}

pub(super) fn newest_replica_set<'a>(
    deployment: &Value,
    objects: &'a [Value],
) -> Option<&'a Value> {
    let uid = &deployment["metadata"]["uid"];
    let sets = objects.iter().filter(|set| set["kind"] == "ReplicaSet" && owned_by(set, uid));
    sets.max_by_key(|set| {
        let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        text(revision).parse::<u64>().unwrap_or_default()
    })
}

fn newest_revision<'a>(object: &Value, objects: &'a [Value]) -> Option<&'a Value> {
    let revisions = objects.iter().filter(|one| {
        one["kind"] == "ControllerRevision" && owned_by(one, &object["metadata"]["uid"])
    });
    revisions.max_by_key(|one| number(&one["revision"]))
}

/// A pod that runs though what made it is gone. The cluster deletes it in a while; until then a
/// Service may lead to it.
pub(super) fn orphan(objects: &[Value]) -> Option<&Value> {
    let mut pods = objects.iter().filter(|one| one["kind"] == "Pod" && !has_ended(one));
    pods.find(|pod| owner(pod).is_some_and(|owner| !is_there(owner, objects)))
}

/// Whether what owns something is there, and what owns that; kinds that are not looked at are.
fn is_there(owner: &Value, objects: &[Value]) -> bool {
    let (api, kind) = (text(&owner["apiVersion"]), text(&owner["kind"]));
    if !matches!(
        (api, kind),
        ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("batch/v1", "Job")
            | ("v1", "ReplicationController")
    ) {
        return true;
    }
    let found = objects.iter().find(|one| one["metadata"]["uid"] == owner["uid"]);
    found.is_some_and(|found| self::owner(found).is_none_or(|above| is_there(above, objects)))
}

/// Whether a pod may answer for a Service: of whatever makes it, it is of the newest revision.
fn is_current(pod: &Value, objects: &[Value]) -> bool {
    if is_ending(pod) || has_ended(pod) {
        return false;
    }
    let by_uid = |wanted: &Value| objects.iter().find(|one| one["metadata"]["uid"] == *wanted);
    let Some(mut owner) = owner(pod).and_then(|owner| by_uid(&owner["uid"])) else {
        // Nobody's, or of a kind that is not looked at.
        return self::owner(pod).is_none_or(|owner| owner["kind"] != "ReplicaSet");
    };
    if let Some(above) = self::owner(owner).filter(|_| owner["kind"] == "ReplicaSet") {
        match by_uid(&above["uid"]) {
            Some(deployment) => owner = deployment,
            None => return above["kind"] != "Deployment",
        }
    }
    let observed = number(&owner["status"]["observedGeneration"]);
    let is_job = owner["kind"] == "Job";
    (is_job || observed >= number(&owner["metadata"]["generation"]))
        && is_of_newest_revision(pod, owner, objects)
}

/// Whether a Service has a ready endpoint that is a pod of the newest revision.
pub(super) fn endpoint(service: &str, look: &Look) -> Verdict {
    let objects = &look.objects;
    let Some(object) = find(objects, "service", service) else {
        return Verdict::Waiting(format!("service/{service} to be there"));
    };
    let selector = &object["spec"]["selector"];
    let slices = objects.iter().filter(|slice| {
        slice["kind"] == "EndpointSlice"
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service
    });
    let ready: Vec<&Value> = slices
        .flat_map(|slice| list(&slice["endpoints"]))
        .filter(|one| one["conditions"]["ready"] != false)
        .collect();
    let counts = |one: &&Value| {
        let target = &one["targetRef"]["uid"];
        let mut pods = objects.iter().filter(|pod| pod["kind"] == "Pod");
        match pods.find(|pod| pod["metadata"]["uid"] == *target) {
            Some(pod) => is_current(pod, objects),
            // What was written by hand names no pod.
            None => target.is_null() && selector.is_null(),
        }
    };
    if ready.iter().any(counts) {
        return Verdict::Ready;
    }
    let pods: Vec<&Value> = objects
        .iter()
        .filter(|pod| pod["kind"] == "Pod" && selects(selector, &pod["metadata"]["labels"]))
        .filter(|pod| is_current(pod, objects))
        .collect();
    let of = if ready.is_empty() { "" } else { " of the newest revision" };
    let missing = format!("service/{service}: no ready endpoint{of}");
    worst(pods.iter().map(|pod| judge_pod(pod, objects)))
        .unwrap_or_else(|| Verdict::Waiting(describe(missing, &pods, objects)))
}

fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap_or(1)
}

pub(super) fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests;
