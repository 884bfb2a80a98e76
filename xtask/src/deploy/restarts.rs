//! Which containers were started again, killed or lost between two looks. Pure but for the looks.
//!
//! Tests may pass over a server that died and came back. What a test does on purpose looks the
//! same, so that it is for the suite to say whether it matters.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::look::{Look, Snapshots};
use super::rollout::{belongs, has_ended, is_ending};
use super::verdict::{find, list, name, number, owner, text, uid};
use super::workload::Workload;

/// The pods of some workloads at one time, by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containers(BTreeMap<String, Pod>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    name: String,
    /// It may go when it has done its work.
    is_of_job: bool,
    /// Why it has ended or is going, if so.
    gone: Option<String>,
    /// By name: how often it was started again, and how it ended last.
    containers: BTreeMap<String, (u64, Option<End>)>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    code: u64,
    reason: String,
    finished: String,
}

/// The pods of these workloads, by looks that begin after `since`; without it, by the last ones
/// that were taken: what was ready in them is compared with what comes after, and no moment is left
/// out.
pub fn containers<'a>(
    workloads: impl Iterator<Item = &'a Workload>,
    since: Option<Instant>,
    looks: &Snapshots,
) -> anyhow::Result<Containers> {
    let mut all = Containers::default();
    for workload in workloads {
        let namespace = workload.namespace();
        let look = match (since, looks.last(namespace)) {
            (None, Some(last)) => last,
            (since, _) => looks.at(namespace, since.unwrap_or_else(Instant::now))?,
        };
        all.0.extend(of(workload, &look));
    }
    Ok(all)
}

fn of<'a>(workload: &Workload, look: &'a Look) -> impl Iterator<Item = (String, Pod)> + use<'a> {
    let object = find(&look.objects, &workload.object.kind, &workload.object.name);
    let pods = look.objects.iter().filter(move |pod| {
        pod["kind"] == "Pod"
            && object.is_some_and(|object| {
                uid(object) == uid(pod) || belongs(pod, object, &look.objects)
            })
    });
    pods.map(|pod| (uid(pod).to_owned(), Pod::of(pod)))
}

impl Pod {
    fn of(pod: &Value) -> Self {
        let status = &pod["status"];
        let statuses = list(&status["initContainerStatuses"]).iter();
        let statuses = statuses.chain(list(&status["containerStatuses"]));
        let why = [text(&status["reason"]), text(&status["message"])].join(" ");
        let gone = if is_ending(pod) {
            Some("is being deleted".to_owned())
        } else if has_ended(pod) {
            Some(format!("has ended: {} {}", text(&status["phase"]), why.trim()).trim().to_owned())
        } else {
            None
        };
        Self {
            name: name(pod).to_owned(),
            is_of_job: owner(pod).is_some_and(|owner| owner["kind"] == "Job"),
            gone,
            containers: statuses
                .map(|one| {
                    let end = [&one["state"]["terminated"], &one["lastState"]["terminated"]];
                    let end = end.into_iter().find(|end| !end.is_null()).map(End::of);
                    (text(&one["name"]).to_owned(), (number(&one["restartCount"]), end))
                })
                .collect(),
        }
    }
}

impl End {
    fn of(terminated: &Value) -> Self {
        Self {
            code: number(&terminated["exitCode"]),
            reason: text(&terminated["reason"]).to_owned(),
            finished: text(&terminated["finishedAt"]).to_owned(),
        }
    }

    fn told(&self) -> String {
        match self.reason.as_str() {
            "" | "Error" | "Completed" => format!("exit status {}", self.code),
            reason => format!("{reason}, exit status {}", self.code),
        }
    }
}

impl Containers {
    /// What was started again, killed or lost since.
    pub fn lost(&self, after: &Self) -> Vec<String> {
        let mut lost = Vec::new();
        for (uid, pod) in &after.0 {
            let before = self.0.get(uid);
            for (container, (starts, end)) in &pod.containers {
                let then = before.and_then(|before| before.containers.get(container));
                let (starts_then, end_then) =
                    then.map_or((0, None), |(starts, end)| (*starts, end.as_ref()));
                let how = end.as_ref().map(|end| format!(" ({})", end.told())).unwrap_or_default();
                let called = format!("container `{container}` of pod/{}", pod.name);
                if *starts > starts_then {
                    let times = starts - starts_then;
                    lost.push(format!("{called} was started again {times}×{how}"));
                } else if end.as_ref() != end_then && end.as_ref().is_some_and(|end| end.code != 0)
                {
                    lost.push(format!("{called} has ended{how}"));
                }
            }
            let was_gone = before.is_some_and(|before| before.gone.is_some());
            if let Some(gone) = pod.gone.as_ref().filter(|_| !pod.is_of_job && !was_gone) {
                lost.push(format!("pod/{} {gone}", pod.name));
            }
        }
        let missing = self.0.iter().filter(|(uid, pod)| {
            !pod.is_of_job && pod.gone.is_none() && !after.0.contains_key(*uid)
        });
        lost.extend(missing.map(|(_, pod)| format!("pod/{} is gone", pod.name)));
        lost
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, owner: &str, status: &Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": uid, "uid": uid,
               "ownerReferences": [{"kind": owner, "uid": "o", "controller": true}]},
               "status": status})
    }

    fn running(starts: u64, last: &Value) -> Value {
        json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": starts,
               "state": {"running": {}}, "lastState": {"terminated": last}}]})
    }

    fn seen(pods: &[Value]) -> Containers {
        Containers(pods.iter().map(|pod| (uid(pod).to_owned(), Pod::of(pod))).collect())
    }

    #[test]
    fn what_did_not_stay_up_during_the_tests_is_named() {
        let none = &Value::Null;
        let killed = &json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": "t"});
        let ended = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        let mut going = pod("a", "ReplicaSet", &running(1, killed));
        going["metadata"]["deletionTimestamp"] = json!("t");
        let over = |code: u64| {
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 0,
                   "state": {"terminated": {"exitCode": code, "finishedAt": "t"}}}]})
        };
        let before = [pod("a", "ReplicaSet", &running(1, killed))];
        for (after, expected) in [
            (vec![pod("a", "ReplicaSet", &running(1, killed))], vec![]),
            (
                vec![pod("a", "ReplicaSet", &running(3, killed))],
                vec!["container `c` of pod/a was started again 2× (OOMKilled, exit status 137)"],
            ),
            (vec![], vec!["pod/a is gone"]),
            (vec![going], vec!["pod/a is being deleted"]),
            (
                vec![pod("a", "ReplicaSet", &ended), pod("b", "ReplicaSet", &running(0, none))],
                vec!["pod/a has ended: Failed Evicted low on memory"],
            ),
            (
                vec![before[0].clone(), pod("b", "ReplicaSet", &running(1, killed))],
                vec!["container `c` of pod/b was started again 1× (OOMKilled, exit status 137)"],
            ),
            (
                vec![before[0].clone(), pod("j", "Job", &over(1))],
                vec!["container `c` of pod/j has ended (exit status 1)"],
            ),
            (vec![before[0].clone(), pod("j", "Job", &over(0))], vec![]),
        ] {
            assert_eq!(seen(&before).lost(&seen(&after)), expected);
        }
        let job = [pod("j", "Job", &running(0, none))];
        assert!(seen(&job).lost(&seen(&[])).is_empty(), "a Job's pods may go");
    }
}
