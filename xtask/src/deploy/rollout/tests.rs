//! What a real API server served, and single points of rollouts by table.

use serde_json::{Value, json};

use super::*;
use crate::deploy::object::ObjectRef;
use crate::deploy::workload::Version;

mod histories;

/// As Kubernetes 1.34 served them 70 s after they were applied; fields nobody reads are left out.
const SERVED: &str = include_str!("../verdict.json");

fn served() -> Vec<Value> {
    serde_json::from_str(SERVED).unwrap()
}

pub(super) fn look(objects: &[Value]) -> Look {
    Look {
        begun: std::time::Instant::now(),
        clock: None,
        objects: objects.to_vec(),
        completed: std::collections::BTreeSet::new(),
    }
}

/// None of the images is the run's.
fn foreign(_: &str, _: &str) -> Option<bool> {
    None
}

fn judged(kind: &str, name: &str, objects: &[Value]) -> Verdict {
    rollout(&Workload::named(kind, name, "n"), &look(objects), &foreign)
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
        Verdict::Lacking(one) => format!("lacking {}", fault(one)),
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
        assert_eq!(short(&judged(kind, name, &objects)), verdict, "{kind}/{name}");
    }
}

#[test]
fn a_container_that_ran_long_enough_by_the_servers_clock_needs_no_more_time() {
    let mut look = look(&served());
    let good = Workload::named("deployment", "good", "n");
    for (clock, verdict) in [
        ("2026-11-21T09:00:33Z", "unproven 3s"),
        ("2026-11-21T09:00:34Z", "ready"),
        ("2026-11-21T08:00:34Z", "unproven 3s"),
        ("noon", "unproven 3s"),
    ] {
        look.clock = Some(clock.to_owned());
        assert_eq!(short(&rollout(&good, &look, &foreign)), verdict, "{clock}");
    }
}

#[test]
fn a_crash_loop_is_given_up_after_three_restarts_and_says_how_it_ended() {
    let mut objects = served();
    let crash = |objects: &[Value]| judged("deployment", "crash", objects);
    assert_eq!(short(&crash(&objects)), "lacking pod/crash CrashLoopBackOff");
    let mut all = objects.iter();
    let at = all.position(|one| one["kind"] == "Pod" && name(one).starts_with("crash-")).unwrap();
    objects[at]["status"]["containerStatuses"][0]["restartCount"] = json!(4);
    let Verdict::Hopeless(fault) = crash(&objects) else { panic!("{:?}", crash(&objects)) };
    assert_eq!(fault.reason, "CrashLoopBackOff");
    assert_eq!(fault.container.as_deref(), Some("c"));
    assert_eq!(fault.message, "ended with exit status 1, started again 4 times");
    // The same pod through its service; and not at all once it runs, or is being deleted.
    let mut labelled = objects.clone();
    labelled[at]["metadata"]["labels"] = json!({ "a": "crash" });
    let endpoint = endpoint("crash", &look(&labelled));
    assert!(matches!(endpoint, Verdict::Hopeless(_)), "{endpoint:?}");
    let mut deleted = objects.clone();
    deleted[at]["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:00:00Z");
    assert!(matches!(crash(&deleted), Verdict::Waiting(_)));
    // One that ends well is held back the same way.
    let ended = &mut objects[at]["status"]["containerStatuses"][0];
    ended["lastState"] = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    ended["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let Verdict::Hopeless(fault) = crash(&objects) else { panic!("{:?}", crash(&objects)) };
    assert!(fault.message.starts_with("ended with exit status 0, started again"), "{fault}");
}

#[test]
fn an_endpoint_must_be_a_pod_of_the_newest_revision() {
    let objects = served();
    let judged = |service: &str, objects: &[Value]| short(&endpoint(service, &look(objects)));
    assert_eq!(judged("none", &objects), "waiting: service/none: no ready endpoint");
    assert_eq!(judged("absent", &objects), "waiting: service/absent to be there");
    // The service of `good` is not among what was served.
    let mut objects = objects;
    let service = json!({"kind": "Service", "metadata": {"name": "good", "uid": "s"},
                         "spec": {"selector": {"a": "good"}}});
    objects.push(service);
    assert_eq!(judged("good", &objects), "ready");
    let at = |kind: &str| {
        let mut all = objects.iter();
        all.position(|one| one["kind"] == kind && name(one).starts_with("good")).unwrap()
    };
    let (deployment, set, pod) = (at("Deployment"), at("ReplicaSet"), at("Pod"));
    let older = "waiting: service/good: no ready endpoint of the newest revision";
    let mut unobserved = objects.clone();
    unobserved[deployment]["metadata"]["generation"] = json!(2);
    assert_eq!(judged("good", &unobserved), older);
    let mut replaced = objects.clone();
    let mut newer = objects[set].clone();
    newer["metadata"]["uid"] = json!("newer");
    newer["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("2");
    replaced.push(newer);
    assert_eq!(judged("good", &replaced), older);
    let mut ending = objects.clone();
    ending[pod]["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:00:00Z");
    assert_eq!(judged("good", &ending), older);
    // Written by hand, where the service selects nothing.
    let mut by_hand = objects.clone();
    for one in &mut by_hand {
        if one["kind"] == "EndpointSlice" && name(one).starts_with("good") {
            one["endpoints"][0]["targetRef"] = Value::Null;
        }
    }
    assert_eq!(judged("good", &by_hand), older);
    by_hand.last_mut().unwrap()["spec"] = json!({});
    assert_eq!(judged("good", &by_hand), "ready");
}

#[test]
fn an_image_from_a_registry_may_come_yet() {
    let mut objects = served();
    let at = objects.iter().position(|one| name(one) == "wrongtag").unwrap();
    objects[at]["status"]["containerStatuses"][0]["image"] = json!("registry.example/a:1");
    let verdict = judged("pod", "wrongtag", &objects);
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
    assert!(matches!(judged("pod", "toobig", &objects), Verdict::Waiting(_)));
}

fn owned(kind: &str, uid: &str) -> Value {
    json!([{"kind": kind, "uid": uid, "name": "a", "controller": true}])
}

/// A pod that is ready, with a probe.
fn ready(name: &str, owner: &Value, labels: &Value) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "uid": name, "labels": labels,
           "ownerReferences": owner},
           "spec": {"containers": [{"name": "c", "image": "a:1", "readinessProbe": {}}]},
           "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
           "containerStatuses": [{"name": "c", "image": "a:1", "imageID": "sha256:1",
           "restartCount": 0, "state": {"running": {}}}]}})
}

/// A Deployment that has rolled out from revision 9 to 10.
fn rolled_out() -> Vec<Value> {
    let set = |uid: &str, revision: &str| {
        json!({"kind": "ReplicaSet", "metadata": {"name": uid, "uid": uid,
            "ownerReferences": owned("Deployment", "d"),
            "annotations": {"deployment.kubernetes.io/revision": revision}}})
    };
    vec![
        json!({"kind": "Deployment", "metadata": {"name": "a", "uid": "d", "generation": 2},
               "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}},
               "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1,
               "availableReplicas": 1}}),
        set("nine", "9"),
        set("ten", "10"),
        ready("new", &owned("ReplicaSet", "ten"), &json!({"app": "a"})),
    ]
}

fn applied(kind: &str, uid: &str, generation: u64) -> Workload {
    let applied = Some(Version { uid: uid.to_owned(), generation });
    Workload { applied, ..Workload::named(kind, "a", "n") }
}

#[test]
fn only_pods_of_the_newest_revision_speak_against_a_rollout() {
    let mut objects = rolled_out();
    let status = json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 2});
    objects[0]["status"] = status;
    let mut waits = |at: usize, reason: &str| {
        objects[at]["status"] = json!({"phase": "Pending", "containerStatuses": [{"name": "c",
            "image": "localhost/a:1", "restartCount": 0, "state": {"waiting": {"reason": reason}}}]});
    };
    waits(3, "ContainerCreating");
    let mut old = objects[3].clone();
    old["metadata"] = json!({"name": "old", "uid": "old",
                             "ownerReferences": owned("ReplicaSet", "nine")});
    old["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] =
        json!("ErrImageNeverPull");
    objects.push(old);
    assert_eq!(
        short(&judged("deployment", "a", &objects)),
        "waiting: deployment/a: 1 pods of the last revision are still there \
         (new: ContainerCreating)"
    );
    let reason = json!("ErrImageNeverPull");
    objects[3]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] = reason;
    let verdict = judged("deployment", "a", &objects);
    assert_eq!(short(&verdict), "hopeless pod/new ErrImageNeverPull");
}

#[test]
fn a_rollout_is_complete_only_as_the_api_has_observed_it() {
    assert_eq!(judged("deployment", "a", &rolled_out()), Verdict::Ready);
    for (field, value, says) in [
        ("observedGeneration", 1, "to be taken up"),
        ("updatedReplicas", 0, "0 of 1 pods are of the new revision"),
        ("replicas", 2, "1 pods of the last revision are still there"),
        ("availableReplicas", 0, "0 of 1 pods are available"),
    ] {
        let mut objects = rolled_out();
        objects[0]["status"][field] = json!(value);
        let verdict = judged("deployment", "a", &objects);
        assert_eq!(short(&verdict), format!("waiting: deployment/a: {says}"));
    }
}

#[test]
fn a_status_at_peace_proves_nothing_that_its_pods_deny() {
    let old = |owner: &str, labels: &Value| ready("old", &owned("ReplicaSet", owner), labels);
    let ending = |mut pod: Value| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:00:00Z");
        pod
    };
    let with = |pod: Value| [rolled_out(), vec![pod]].concat();
    let left = "waiting: deployment/a: pod/old of an older revision is still there";
    let labels = &json!({"app": "a"});
    let mut evicted = old("nine", labels);
    evicted["status"]["phase"] = json!("Failed");
    let mut unready = rolled_out();
    unready[3]["status"]["conditions"][0]["status"] = json!("False");
    let mut none_wanted = rolled_out();
    none_wanted[0]["spec"]["replicas"] = json!(0);
    none_wanted[0]["status"] = json!({"observedGeneration": 2});
    none_wanted.truncate(3);
    for (why, objects, says) in [
        ("of the revision before", with(old("nine", labels)), left.to_owned()),
        ("the same, ending", with(ending(old("nine", labels))), format!("{left}, ending")),
        ("its ReplicaSet is gone", with(ending(old("eight", labels))), format!("{left}, ending")),
        ("somebody else's", with(old("eight", &json!({"app": "b"}))), "ready".to_owned()),
        ("evicted", with(evicted), "ready".to_owned()),
        ("unready", unready, "waiting: deployment/a: 0 of 1 pods are ready".to_owned()),
        (
            "its own pod is ending",
            [&rolled_out()[..3], &[ending(rolled_out().remove(3))]].concat(),
            "waiting: deployment/a: 0 of 1 pods are ready".to_owned(),
        ),
        ("scaled to 0", none_wanted.clone(), "lacking deployment/a NoPods".to_owned()),
    ] {
        assert_eq!(short(&judged("deployment", "a", &objects)), says, "{why}");
    }
    let none = Workload { wants_none: true, ..Workload::named("deployment", "a", "n") };
    assert_eq!(rollout(&none, &look(&none_wanted), &foreign), Verdict::Ready);
    none_wanted.push(ending(old("ten", labels)));
    // Of its newest revision, but it is on its way out.
    assert_eq!(rollout(&none, &look(&none_wanted), &foreign), Verdict::Ready);
    none_wanted.push(old("nine", labels));
    assert!(matches!(rollout(&none, &look(&none_wanted), &foreign), Verdict::Waiting(_)));
}

#[test]
fn what_is_found_is_held_to_what_was_applied() {
    let objects = look(&rolled_out());
    for (uid, generation, says) in [
        ("d", 2, "ready"),
        ("d", 1, "ready"),
        ("d", 3, "waiting: deployment/a: to be as it was applied"),
        ("e", 2, "suspect deployment/a Replaced"),
    ] {
        let verdict = rollout(&applied("Deployment", uid, generation), &objects, &foreign);
        assert_eq!(short(&verdict), says, "{uid} {generation}");
    }
    let gone = rollout(&applied("Deployment", "d", 2), &look(&[]), &foreign);
    assert_eq!(short(&gone), "suspect deployment/a Gone");
}

#[test]
fn each_container_of_the_runs_images_runs_what_was_loaded() {
    let workload = applied("Deployment", "d", 2);
    let is_one = |id: &str| {
        let id = id.to_owned();
        move |image: &str, ran: &str| (image == "a:1").then_some(ran == id)
    };
    let judge =
        |objects: &[Value], id: &str| short(&rollout(&workload, &look(objects), &is_one(id)));
    let mut objects = rolled_out();
    assert_eq!(judge(&objects, "sha256:1"), "ready");
    assert_eq!(judge(&objects, "sha256:2"), "suspect pod/new WrongImage");
    objects[3]["spec"]["initContainers"] = json!([{"name": "i", "image": "a:1"}]);
    objects[3]["status"]["initContainerStatuses"] =
        json!([{"name": "i", "imageID": "sha256:2", "state": {"terminated": {"exitCode": 0}}}]);
    assert_eq!(judge(&objects, "sha256:1"), "suspect pod/new WrongImage");
    objects[3]["spec"]["initContainers"][0]["image"] = json!("somebody/else:1");
    assert_eq!(judge(&objects, "sha256:1"), "ready");
    objects[3]["status"]["containerStatuses"][0]["imageID"] = json!("");
    let says = "waiting: pod/new: container `c` to say its image";
    assert_eq!(judge(&objects, "sha256:1"), says);
}

fn stateful_set(strategy: &Value) -> Vec<Value> {
    let labels = |hash: &str| json!({"controller-revision-hash": hash});
    vec![
        json!({"kind": "StatefulSet", "metadata": {"name": "a", "uid": "s", "generation": 2},
               "spec": {"replicas": 2, "updateStrategy": strategy},
               "status": {"observedGeneration": 2, "updateRevision": "new",
               "currentRevision": "new", "readyReplicas": 2}}),
        ready("a-0", &owned("StatefulSet", "s"), &labels("new")),
        ready("a-1", &owned("StatefulSet", "s"), &labels("new")),
    ]
}

#[test]
fn a_stateful_set_is_ready_when_all_its_pods_are_of_the_update_revision() {
    let rolling = json!({"type": "RollingUpdate"});
    assert_eq!(judged("StatefulSet", "a", &stateful_set(&rolling)), Verdict::Ready);
    for (strategy, says) in [
        (rolling.clone(), "waiting: statefulset/a: 1 of 2 pods are ready"),
        (json!({"type": "OnDelete"}), "hopeless statefulset/a OnDelete"),
        (json!({"rollingUpdate": {"partition": 1}}), "hopeless statefulset/a Partition"),
    ] {
        let mut objects = stateful_set(&strategy);
        objects[1]["metadata"]["labels"]["controller-revision-hash"] = json!("old");
        assert_eq!(short(&judged("StatefulSet", "a", &objects)), says);
    }
    // A pod of the set that had this name before.
    let former = ready("a-2", &owned("StatefulSet", "before"), &json!({}));
    let objects = [stateful_set(&rolling), vec![former]].concat();
    let says = "waiting: statefulset/a: pod/a-2 of an older revision is still there";
    assert_eq!(short(&judged("StatefulSet", "a", &objects)), says);
}

#[test]
fn a_daemon_set_is_ready_when_each_fitting_node_has_a_pod_of_its_newest_revision() {
    let revision = |hash: &str, number: u64| {
        json!({"kind": "ControllerRevision", "revision": number, "metadata": {"name": hash,
               "uid": hash, "labels": {"controller-revision-hash": hash},
               "ownerReferences": owned("DaemonSet", "d")}})
    };
    let set = |nodes: u64, hash: &str| {
        vec![
            json!({"kind": "DaemonSet", "metadata": {"name": "a", "uid": "d", "generation": 2},
                   "spec": {}, "status": {"observedGeneration": 2, "desiredNumberScheduled": nodes,
                   "updatedNumberScheduled": nodes, "numberAvailable": nodes}}),
            revision("old", 1),
            revision("new", 2),
            ready("p", &owned("DaemonSet", "d"), &json!({"controller-revision-hash": hash})),
        ]
    };
    assert_eq!(judged("DaemonSet", "a", &set(1, "new")), Verdict::Ready);
    let says = "waiting: daemonset/a: 0 of 1 pods are ready";
    assert_eq!(short(&judged("DaemonSet", "a", &set(1, "old"))), says);
    let mut nowhere = set(0, "new");
    nowhere.pop();
    assert_eq!(short(&judged("DaemonSet", "a", &nowhere)), "lacking daemonset/a NoNode");
    let mut on_delete = set(1, "old");
    on_delete[0]["spec"]["updateStrategy"]["type"] = json!("OnDelete");
    assert_eq!(short(&judged("DaemonSet", "a", &on_delete)), "hopeless daemonset/a OnDelete");
}

#[test]
fn a_replica_set_keeps_pods_of_an_older_template_for_good() {
    let set = |image: &str| {
        vec![
            json!({"kind": "ReplicaSet", "metadata": {"name": "a", "uid": "r", "generation": 1},
                   "spec": {"replicas": 1, "template": {"spec": {"containers": [
                   {"name": "c", "image": image}]}}},
                   "status": {"observedGeneration": 1, "availableReplicas": 1}}),
            ready("p", &owned("ReplicaSet", "r"), &json!({})),
        ]
    };
    assert_eq!(judged("ReplicaSet", "a", &set("a:1")), Verdict::Ready);
    let older = judged("ReplicaSet", "a", &set("a:2"));
    assert_eq!(short(&older), "hopeless replicaset/a OldTemplate");
}

#[test]
fn a_job_counts_if_it_is_the_one_that_was_applied() {
    let job = |uid: &str, kind: &str| {
        json!({"kind": "Job", "metadata": {"name": "a", "uid": uid, "generation": 1},
               "status": {"conditions": [{"type": kind, "status": "True", "reason": kind}]}})
    };
    let event = |uid: &str, reason: &str| json!({"kind": "Event", "reason": reason, "involvedObject": {"uid": uid}});
    let workload = applied("Job", "j", 1);
    for (why, objects, rolled, completed) in [
        ("complete", vec![job("j", "Complete")], "ready", "ready"),
        ("running", vec![job("j", "Suspended")], "ready", "waiting: job/a: has not completed"),
        ("failed", vec![job("j", "Failed")], "hopeless job/a Failed", "hopeless job/a Failed"),
        (
            "that of the last run",
            vec![job("i", "Complete"), event("i", "Completed")],
            "suspect job/a Gone",
            "suspect job/a Gone",
        ),
        ("ended well and is gone", vec![event("j", "Completed")], "ready", "ready"),
        (
            "failed and is gone",
            vec![event("j", "BackoffLimitExceeded")],
            "hopeless job/a BackoffLimitExceeded",
            "hopeless job/a BackoffLimitExceeded",
        ),
        ("gone", vec![], "suspect job/a Gone", "suspect job/a Gone"),
    ] {
        let look = look(&objects);
        assert_eq!(short(&rollout(&workload, &look, &foreign)), rolled, "{why}");
        assert_eq!(short(&completion(&workload, &look, &foreign)), completed, "{why}");
    }
    let mut look = look(&[]);
    look.completed.insert("j".to_owned());
    assert_eq!(completion(&workload, &look, &foreign), Verdict::Ready);
}

#[test]
fn a_pod_of_its_own_is_ready_or_has_ended_well() {
    let pod = |phase: &str| {
        let mut pod = ready("a", &Value::Null, &json!({}));
        pod["status"]["phase"] = json!(phase);
        pod["status"]["conditions"][0]["status"] =
            json!(if phase == "Running" { "True" } else { "False" });
        pod
    };
    for (phase, says) in [
        ("Running", "ready"),
        ("Succeeded", "ready"),
        ("Failed", "hopeless pod/a Failed"),
        ("Pending", "waiting: pod/a: is not ready"),
    ] {
        assert_eq!(short(&judged("Pod", "a", &[pod(phase)])), says, "{phase}");
    }
}

#[test]
fn only_manifests_of_the_api_itself_make_pods() {
    for (api_version, kind, expected) in [
        ("apps/v1", "Deployment", true),
        ("v1", "Pod", true),
        ("v1", "ReplicationController", true),
        ("batch/v1", "Job", true),
        ("batch.volcano.sh/v1alpha1", "Job", false),
        ("v1", "Service", false),
    ] {
        let object = ObjectRef {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "a".to_owned(),
        };
        assert_eq!(object.is_workload(), expected, "{api_version} {kind}");
    }
}

#[test]
fn a_pod_whose_maker_is_gone_is_an_orphan_until_it_has_ended() {
    let of = |kind: &str, uid: &str, owner: Option<(&str, &str, &str)>| {
        let owners: Vec<Value> = owner
            .into_iter()
            .map(|(api, kind, uid)| {
                json!({"apiVersion": api, "kind": kind, "uid": uid, "name": uid, "controller": true})
            })
            .collect();
        json!({"kind": kind, "metadata": {"name": uid, "uid": uid, "ownerReferences": owners},
            "status": {"phase": "Running"}})
    };
    let pod = |owner| of("Pod", "p", owner);
    let set = |owner| of("ReplicaSet", "rs", owner);
    let deployment = of("Deployment", "d", None);
    let mut ended = pod(Some(("apps/v1", "ReplicaSet", "rs")));
    ended["status"]["phase"] = json!("Failed");
    let (by_set, by_deployment) = (("apps/v1", "ReplicaSet", "rs"), ("apps/v1", "Deployment", "d"));
    for (why, objects, is_orphan) in [
        ("all are there", vec![deployment, set(Some(by_deployment)), pod(Some(by_set))], false),
        ("the Deployment is gone", vec![set(Some(by_deployment)), pod(Some(by_set))], true),
        ("its ReplicaSet, too", vec![pod(Some(by_set))], true),
        ("it has ended", vec![ended], false),
        ("a ReplicaSet of nobody", vec![set(None), pod(Some(by_set))], false),
        ("a pod of nobody", vec![pod(None)], false),
        ("a Job is gone", vec![pod(Some(("batch/v1", "Job", "j")))], true),
        ("another group's Job", vec![pod(Some(("batch.volcano.sh/v1alpha1", "Job", "j")))], false),
    ] {
        assert_eq!(orphan(&objects).is_some(), is_orphan, "{why}");
    }
}
