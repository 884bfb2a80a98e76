//! What happens on the bench's cluster: controllers, a kubelet, and the way from a host port to a
//! pod.
//!
//! Time is counted, not measured: it goes on by one whenever somebody asks for the pods, and
//! whenever somebody other than the suite's test comes to the host port. So a rollout takes as many
//! looks as the test says, however busy the machine is.
//!
//! Copied from Kubernetes 1.34:
//! - A Deployment's new revision is a new `ReplicaSet`; the old pods are ended when the new ones
//!   are available (`Recreate`: before they are made). Pods that are ending are in no count of the
//!   status, but are there until their grace time is over.
//! - A pod takes its image by name from the node, and the data of `ConfigMaps` and Secrets, when
//!   its container starts, and keeps them; `imageID` says which image. A container that is started
//!   again takes both anew.
//! - An evicted pod stays as an object of phase Failed; its controller makes another.
//! - A Job's pod runs once; the Job is then Complete for good.
//! - An `EndpointSlice` has a pod that is ending as not ready but serving; the node's proxy sends
//!   to ready ones, and to those that are serving only where none is ready.
//! - Objects whose owner is gone go too, a while later; until then its pods are as ready as they
//!   were.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::objects::{Objects, now};

/// How many ticks things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From a pod's making until it is ready.
    pub(crate) start: u64,
    /// From a pod's deletion until it is gone.
    pub(crate) end: u64,
    pub(crate) job: u64,
    /// From an owner's deletion until what it made is deleted, too.
    pub(crate) garbage: u64,
    /// From a custom resource's change until its controller has taken it up.
    pub(crate) custom: u64,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) objects: Objects,
    /// Tag → id of what the node holds.
    pub(crate) images: BTreeMap<String, String>,
    pub(crate) pace: Pace,
    /// Of each Job's pod, in the order they ran: the Job's name, the data and the image it worked
    /// with.
    pub(crate) jobs: Vec<(String, Value, String)>,
    /// Jobs whose pods fail.
    pub(crate) failing: BTreeSet<String>,
    /// Workloads whose pods are not ready, however long they run.
    pub(crate) unready: BTreeSet<String>,
    clock: u64,
    lives: BTreeMap<String, Life>,
    /// Custom resource → the generation it is at, and when it was first seen there.
    taken_up: BTreeMap<String, (u64, u64)>,
    /// Objects whose owner is gone, and since when.
    orphans: BTreeMap<String, u64>,
    made: u64,
    turn: usize,
}

/// What the kubelet knows of a pod.
#[derive(Clone, Debug, Default)]
struct Life {
    born: u64,
    /// Started with: image ids by container, data of maps and secrets, plain environment.
    started: Option<Started>,
    ends: Option<u64>,
    restarts: u64,
    unready_until: u64,
    evicted: bool,
    crashed: Option<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct Started {
    at: u64,
    /// Container → image name and id.
    images: BTreeMap<String, (String, String)>,
    config: Value,
    environment: Value,
}

impl Cluster {
    pub(crate) fn new(node: &str, pace: Pace) -> Self {
        let mut objects = Objects::default();
        for name in ["default", "kube-system"] {
            objects.make(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
                "kube-apiserver",
            );
        }
        let conditions = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": now()}]);
        objects.make(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
                   "status": {"conditions": conditions}}),
            "kubelet",
        );
        Self {
            objects,
            images: BTreeMap::new(),
            pace,
            jobs: Vec::new(),
            failing: BTreeSet::new(),
            unready: BTreeSet::new(),
            clock: 0,
            lives: BTreeMap::new(),
            taken_up: BTreeMap::new(),
            orphans: BTreeMap::new(),
            made: 0,
            turn: 0,
        }
    }

    /// Everything goes on by one.
    pub(crate) fn tick(&mut self) {
        self.clock += 1;
        self.collect_orphans(false);
        self.deployments();
        self.in_place("StatefulSet");
        self.in_place("DaemonSet");
        self.make_job_pods();
        self.kubelet();
        self.report();
        self.custom_resources();
        self.slices();
    }

    // ---- what tests do behind everybody's back

    /// Pods of this name, or whose name begins so.
    pub(crate) fn pods_of(&self, name: &str) -> Vec<Value> {
        let pods = self.objects.list("Pod", None).into_iter();
        pods.filter(|pod| text(&pod["metadata"]["name"]).starts_with(name)).collect()
    }

    /// Whether a pod is of what its makers are to run now.
    pub(crate) fn is_current(&self, pod: &Value) -> bool {
        let Some(owner) = owner(pod) else { return true };
        let Some(owner) = self.objects.by_uid(&owner["uid"]) else { return false };
        if owner["kind"] != "ReplicaSet" {
            return owner["kind"] == "Job"
                || pod["metadata"]["labels"][CONTROLLER_REVISION] == revision_of(owner).as_str();
        }
        let above = self::owner(owner).and_then(|above| self.objects.by_uid(&above["uid"]));
        above.is_some_and(|deployment| {
            owner["metadata"]["labels"][HASH] == hash(&deployment["spec"]["template"]).as_str()
        })
    }

    /// The pods are not ready for so many ticks.
    pub(crate) fn flap(&mut self, name: &str, ticks: u64) {
        let until = self.clock + 1 + ticks;
        self.each_life(name, |life| life.unready_until = until);
    }

    pub(crate) fn evict(&mut self, name: &str) {
        self.each_life(name, |life| life.evicted = true);
    }

    /// Containers that end badly are started again at once.
    pub(crate) fn crash(&mut self, name: &str) {
        self.each_life(name, |life| life.crashed = Some("OOMKilled"));
        self.kubelet();
    }

    fn each_life(&mut self, name: &str, change: impl Fn(&mut Life)) {
        for pod in self.pods_of(name) {
            if let Some(life) = self.lives.get_mut(text(&pod["metadata"]["uid"])) {
                change(life);
            }
        }
    }

    /// `kubectl delete`: what it made goes too, its pods after their grace time, or with `whole`
    /// before this returns.
    pub(crate) fn delete(&mut self, object: &Value, whole: bool) {
        if object["kind"] == "Pod" && !whole {
            self.end(object);
            return;
        }
        if object["kind"] == "Namespace" {
            let inside = object["metadata"]["name"].as_str();
            for kind in [
                "Deployment",
                "StatefulSet",
                "DaemonSet",
                "Job",
                "Service",
                "ConfigMap",
                "Secret",
                "Pod",
            ] {
                for one in self.objects.list(kind, inside) {
                    self.delete(&one, true);
                }
            }
        }
        self.objects.remove(object);
        if whole {
            self.collect_orphans(true);
        }
    }

    /// Who answers behind a node's port: which pod, of which image, with what it was started with;
    /// none where nobody does.
    pub(crate) fn answer(&mut self, node_port: u64) -> Option<Value> {
        let services = self.objects.list("Service", None);
        let service = services.iter().find(|service| {
            list(&service["spec"]["ports"]).iter().any(|port| port["nodePort"] == node_port)
        })?;
        let (namespace, name) = (text(&service["metadata"]["namespace"]), name_of(service));
        let slice = self.objects.get("EndpointSlice", namespace, &format!("{name}-slice"))?;
        let endpoints = list(&slice["endpoints"]);
        let with = |condition: &str| -> Vec<&Value> {
            endpoints.iter().filter(|one| one["conditions"][condition] == true).collect()
        };
        let mut able = with("ready");
        if able.is_empty() {
            able = with("serving");
        }
        self.turn += 1;
        let endpoint = able.get(self.turn % able.len().max(1))?;
        let uid = text(&endpoint["targetRef"]["uid"]).to_owned();
        let started = self.lives.get(&uid)?.started.as_ref()?;
        let id = started.images.values().next().map(|(_, id)| id.clone());
        Some(
            json!({"pod": uid, "id": id, "config": started.config, "environment": started.environment}),
        )
    }

    // ---- controllers

    fn collect_orphans(&mut self, whole: bool) {
        for kind in ["ReplicaSet", "ControllerRevision", "EndpointSlice", "Pod"] {
            for object in self.objects.list(kind, None) {
                let Some(owner) = owner(&object) else { continue };
                if self.objects.by_uid(&owner["uid"]).is_some() {
                    continue;
                }
                let uid = text(&object["metadata"]["uid"]).to_owned();
                let since = *self.orphans.entry(uid).or_insert(self.clock);
                if !whole && self.clock < since + self.pace.garbage {
                    continue;
                }
                if kind == "Pod" && !whole {
                    self.end(&object);
                } else {
                    self.objects.remove(&object);
                }
            }
        }
    }

    fn deployments(&mut self) {
        for deployment in self.objects.list("Deployment", None) {
            let newest = self.newest_set(&deployment);
            let wanted = number(&deployment["spec"]["replicas"]);
            let sets = self.owned("ReplicaSet", &deployment);
            let (mut new, mut old) = (Vec::new(), Vec::new());
            for set in &sets {
                let pods = self.owned("Pod", set);
                let list = if set["metadata"]["uid"] == newest["metadata"]["uid"] {
                    &mut new
                } else {
                    &mut old
                };
                list.extend(pods);
            }
            let is_active = |pod: &Value| !is_ending(pod) && pod["status"]["phase"] != "Failed";
            let recreate = deployment["spec"]["strategy"]["type"] == "Recreate";
            if recreate && !old.is_empty() {
                old.iter().filter(|pod| is_active(pod)).for_each(|pod| self.end(pod));
                continue;
            }
            old.retain(is_active);
            new.retain(is_active);
            let surge = wanted.div_ceil(4).max(1);
            while count(&new) < wanted && (recreate || count(&new) + count(&old) < wanted + surge) {
                new.push(self.make_pod(&newest, &newest["spec"]["template"]));
            }
            for pod in new.iter().skip(size(wanted)) {
                self.end(pod);
            }
            let available = count(&new.iter().filter(|pod| is_ready(pod)).collect::<Vec<_>>());
            let kept = wanted.saturating_sub(available);
            for pod in old.iter().skip(size(kept)) {
                self.end(pod);
            }
        }
    }

    /// The `ReplicaSet` of a Deployment's template as it is; made, or made the newest again.
    fn newest_set(&mut self, deployment: &Value) -> Value {
        let template = &deployment["spec"]["template"];
        let hash = hash(template);
        let sets = self.owned("ReplicaSet", deployment);
        let revision = |set: &Value| {
            text(&set["metadata"]["annotations"][REVISION]).parse::<u64>().unwrap_or_default()
        };
        let last = sets.iter().map(revision).max().unwrap_or_default();
        let (namespace, name) = (text(&deployment["metadata"]["namespace"]), name_of(deployment));
        let found = sets.iter().find(|set| set["metadata"]["labels"][HASH] == hash.as_str());
        let next = match found {
            Some(set) if revision(set) == last => return set.clone(),
            _ => (last + 1).to_string(),
        };
        self.objects.update(
            ("Deployment", namespace, name),
            ("kube-controller-manager", "status"),
            |object| object["metadata"]["annotations"][REVISION] = json!(next),
        );
        let set = format!("{name}-{hash}");
        if found.is_some() {
            self.objects.update(
                ("ReplicaSet", namespace, &set),
                ("kube-controller-manager", ""),
                |object| object["metadata"]["annotations"][REVISION] = json!(next),
            );
            return self.objects.get("ReplicaSet", namespace, &set).cloned().unwrap_or_default();
        }
        let mut template = template.clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let labels = template["metadata"]["labels"].clone();
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": set, "namespace": namespace, "labels": labels,
                "annotations": {REVISION: next}, "ownerReferences": [owned_by(deployment)]},
            "spec": {"replicas": deployment["spec"]["replicas"], "selector": {"matchLabels": labels},
                "template": template},
        });
        self.objects.make(set, "kube-controller-manager")
    }

    /// `StatefulSets` and `DaemonSets`: a pod goes before its successor is made.
    fn in_place(&mut self, kind: &str) {
        for object in self.objects.list(kind, None) {
            let template = object["spec"]["template"].clone();
            let hash = revision_of(&object);
            self.revision(&object, &hash);
            let wanted = wanted(&object);
            let pods = self.owned("Pod", &object);
            for pod in &pods {
                let is_old = pod["metadata"]["labels"][CONTROLLER_REVISION] != hash.as_str();
                let failed = pod["status"]["phase"] == "Failed";
                if failed {
                    self.objects.remove(pod);
                } else if is_old || count(&pods) > wanted {
                    self.end(pod);
                }
            }
            if pods.len() < size(wanted) {
                let mut template = template;
                template["metadata"]["labels"][CONTROLLER_REVISION] = json!(hash);
                self.make_pod(&object, &template);
            }
        }
    }

    fn revision(&mut self, object: &Value, hash: &str) {
        let namespace = text(&object["metadata"]["namespace"]);
        let name = format!("{}-{}", name_of(object), hash.rsplit('-').next().unwrap_or(hash));
        if self.objects.get("ControllerRevision", namespace, &name).is_some() {
            return;
        }
        let next = self.owned("ControllerRevision", object).len() + 1;
        let revision = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": next,
            "metadata": {"name": name, "namespace": namespace,
                "labels": {CONTROLLER_REVISION: hash}, "ownerReferences": [owned_by(object)]},
        });
        self.objects.make(revision, "kube-controller-manager");
    }

    fn make_job_pods(&mut self) {
        for job in self.objects.list("Job", None) {
            if self.owned("Pod", &job).is_empty() && job["status"]["conditions"].is_null() {
                self.make_pod(&job, &job["spec"]["template"]);
            }
        }
    }

    fn make_pod(&mut self, owner: &Value, template: &Value) -> Value {
        self.made += 1;
        let namespace = text(&owner["metadata"]["namespace"]);
        let mut spec = template["spec"].clone();
        spec["nodeName"] = json!("node");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{}-{:05}", name_of(owner), self.made), "namespace": namespace,
                "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
                "ownerReferences": [owned_by(owner)]},
            "spec": spec,
            "status": {"phase": "Pending"},
        });
        self.objects.make(pod, "kube-controller-manager")
    }

    /// As a deletion does: the pod is there until its grace time is over.
    fn end(&mut self, pod: &Value) {
        if is_ending(pod) {
            return;
        }
        let ends = self.clock + self.pace.end;
        let life = self.lives.entry(text(&pod["metadata"]["uid"]).to_owned()).or_default();
        life.ends = Some(ends);
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), name_of(pod));
        self.objects.update(("Pod", namespace, name), ("kube-apiserver", ""), |pod| {
            pod["metadata"]["deletionTimestamp"] = json!(now());
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        });
    }

    // ---- the kubelet

    fn kubelet(&mut self) {
        for pod in self.objects.list("Pod", None) {
            let uid = text(&pod["metadata"]["uid"]).to_owned();
            let clock = self.clock;
            let mut life =
                self.lives.remove(&uid).unwrap_or_else(|| Life { born: clock, ..Life::default() });
            if life.born == 0 {
                life.born = clock;
            }
            if life.ends.is_some_and(|ends| ends <= clock) {
                self.objects.remove(&pod);
                continue;
            }
            if pod["status"]["phase"] != "Succeeded" && pod["status"]["phase"] != "Failed" {
                let status = self.run(&pod, &mut life);
                self.objects.set_status(&pod, status);
            }
            self.lives.insert(uid, life);
        }
    }

    fn run(&mut self, pod: &Value, life: &mut Life) -> Value {
        if life.evicted {
            let message = "The node was low on resource: memory.";
            return json!({"phase": "Failed", "reason": "Evicted", "message": message});
        }
        let job = owner(pod).filter(|owner| owner["kind"] == "Job").cloned();
        let changed = life.started.as_ref().is_some_and(|started| !same_images(pod, started));
        let crashed = life.crashed.take();
        if crashed.is_some() || changed {
            life.restarts += 1;
            life.born = self.clock;
            life.started = None;
        }
        let hurry = job.is_some() || crashed.is_some();
        if life.started.is_none() && (hurry || self.clock > life.born || self.pace.start <= 1) {
            life.started = match self.start(pod) {
                Ok(started) => Some(started),
                Err((container, reason)) => {
                    return not_started(pod, &container, reason, life.restarts);
                }
            };
            if let (Some(job), Some(started)) = (&job, &life.started) {
                let id =
                    started.images.values().next().map(|(_, id)| id.clone()).unwrap_or_default();
                self.jobs.push((text(&job["name"]).to_owned(), started.config.clone(), id));
            }
        }
        let Some(started) = &life.started else {
            return not_started(pod, "", "ContainerCreating", life.restarts);
        };
        if let Some(job) = &job
            && self.clock >= started.at + self.pace.job
        {
            let failed = self.failing.contains(text(&job["name"]));
            return json!({"phase": if failed { "Failed" } else { "Succeeded" }});
        }
        let probed =
            list(&pod["spec"]["containers"]).iter().all(|one| !one["readinessProbe"].is_null());
        let up = !probed || self.clock >= life.born + self.pace.start;
        let held = self.unready.iter().any(|name| name_of(pod).starts_with(name));
        let ready = job.is_none() && up && !held && self.clock >= life.unready_until;
        running(pod, started, (ready, life.restarts, crashed))
    }

    /// What a container's start takes in; the container and the reason where it cannot.
    fn start(&self, pod: &Value) -> Result<Started, (String, &'static str)> {
        let namespace = text(&pod["metadata"]["namespace"]);
        let mut started = Started { at: self.clock, ..Started::default() };
        let mut environment = json!({});
        for container in list(&pod["spec"]["containers"]) {
            let (name, image) = (text(&container["name"]), text(&container["image"]));
            let held = self.images.get(image).cloned();
            let foreign = (!image.starts_with("localhost/")).then(|| hash(&json!(image)));
            let id = held.or(foreign).ok_or((name.to_owned(), "ErrImagePull"))?;
            started.images.insert(name.to_owned(), (image.to_owned(), id));
            for one in list(&container["env"]) {
                environment[text(&one["name"])] = one["value"].clone();
            }
        }
        let mut config = json!({});
        for (kind, name) in named_data(&pod["spec"]) {
            let object = self.objects.get(kind, namespace, &name);
            let object = object.ok_or((String::new(), "CreateContainerConfigError"))?;
            config[format!("{}/{name}", kind.to_lowercase())] = object["data"].clone();
        }
        (started.config, started.environment) = (config, environment);
        Ok(started)
    }

    // ---- what is said of it

    fn report(&mut self) {
        for set in self.objects.list("ReplicaSet", None) {
            let pods = self.active(&set);
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            self.objects.set_status(
                &set,
                json!({
                    "observedGeneration": set["metadata"]["generation"], "replicas": pods.len(),
                    "readyReplicas": ready, "availableReplicas": ready,
                }),
            );
        }
        for deployment in self.objects.list("Deployment", None) {
            let hash = hash(&deployment["spec"]["template"]);
            let (mut all, mut updated, mut ready) = (0, 0, 0);
            for set in self.owned("ReplicaSet", &deployment) {
                let pods = self.active(&set);
                all += pods.len();
                ready += pods.iter().filter(|pod| is_ready(pod)).count();
                if set["metadata"]["labels"][HASH] == hash.as_str() {
                    updated += pods.len();
                }
            }
            let wanted = size(number(&deployment["spec"]["replicas"]));
            let status = |good: bool| if good { "True" } else { "False" };
            self.objects.set_status(&deployment, json!({
                "observedGeneration": deployment["metadata"]["generation"], "replicas": all,
                "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready,
                "unavailableReplicas": wanted.saturating_sub(ready),
                "conditions": [
                    {"type": "Available", "status": status(ready >= wanted), "reason": "MinimumReplicasAvailable"},
                    {"type": "Progressing", "status": "True", "reason":
                        if updated == wanted && all == wanted && ready >= wanted { "NewReplicaSetAvailable" }
                        else { "ReplicaSetUpdated" }},
                ],
            }));
        }
        self.report_in_place();
        self.report_jobs();
    }

    fn report_in_place(&mut self) {
        for kind in ["StatefulSet", "DaemonSet"] {
            for object in self.objects.list(kind, None) {
                let pods = self.active(&object);
                let hash = revision_of(&object);
                let of =
                    |pod: &&Value| pod["metadata"]["labels"][CONTROLLER_REVISION] == hash.as_str();
                let updated = pods.iter().filter(of).count();
                let ready = pods.iter().filter(|pod| is_ready(pod)).count();
                let (wanted, update) = (wanted(&object), &hash);
                let done = count(&pods) == wanted && updated == pods.len() && ready == pods.len();
                let before = object["status"]["currentRevision"].clone();
                let current = if done || before.is_null() { json!(update) } else { before };
                let observed = &object["metadata"]["generation"];
                let status = if kind == "DaemonSet" {
                    json!({"observedGeneration": observed, "desiredNumberScheduled": wanted,
                        "currentNumberScheduled": pods.len(), "updatedNumberScheduled": updated,
                        "numberReady": ready, "numberAvailable": ready, "numberMisscheduled": 0})
                } else {
                    json!({"observedGeneration": observed, "replicas": pods.len(), "readyReplicas": ready,
                        "availableReplicas": ready, "updatedReplicas": updated,
                        "currentReplicas": pods.len() - updated,
                        "updateRevision": update, "currentRevision": current})
                };
                self.objects.set_status(&object, status);
            }
        }
    }

    fn report_jobs(&mut self) {
        for job in self.objects.list("Job", None) {
            let pods = self.owned("Pod", &job);
            let in_phase =
                |phase: &str| pods.iter().filter(|pod| pod["status"]["phase"] == phase).count();
            let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
            let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now(), "reason": "", "message": ""});
            if !job["status"]["conditions"].is_null() {
                continue;
            }
            let status = if succeeded > 0 {
                json!({"succeeded": 1, "ready": 0, "completionTime": now(),
                    "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]})
            } else if failed > 0 {
                json!({"failed": failed, "conditions": [condition("FailureTarget"), condition("Failed")]})
            } else {
                json!({"active": pods.len(), "ready": 0})
            };
            self.objects.set_status(&job, status);
        }
    }

    /// A Widget becomes Ready once its controller has taken its spec up; one whose `spec.quiet` is
    /// true never says which generation it has seen.
    fn custom_resources(&mut self) {
        for widget in self.objects.list("Widget", None) {
            let uid = text(&widget["metadata"]["uid"]).to_owned();
            let generation = number(&widget["metadata"]["generation"]);
            let (seen, since) = self.taken_up.get(&uid).copied().unwrap_or_default();
            if seen != generation {
                self.taken_up.insert(uid, (generation, self.clock));
                continue;
            }
            if self.clock < since + self.pace.custom || widget["status"]["spec"] == widget["spec"] {
                continue;
            }
            let mut condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": now(),
                "reason": "Done", "message": ""});
            let mut status = json!({"spec": widget["spec"]});
            if widget["spec"]["quiet"] != true {
                condition["observedGeneration"] = json!(generation);
                status["observedGeneration"] = json!(generation);
            }
            status["conditions"] = json!([condition]);
            let (namespace, name) = (text(&widget["metadata"]["namespace"]), name_of(&widget));
            self.objects.update(("Widget", namespace, name), ("widgets", "status"), |widget| {
                widget["status"] = status;
            });
        }
    }

    fn slices(&mut self) {
        for service in self.objects.list("Service", None) {
            let (namespace, name) = (text(&service["metadata"]["namespace"]), name_of(&service));
            let pods = self.objects.list("Pod", Some(namespace));
            let endpoints: Vec<Value> = pods
                .iter()
                .filter(|pod| selects(&service["spec"]["selector"], &pod["metadata"]["labels"]))
                .filter(|pod| pod["status"]["phase"] == "Running")
                .map(|pod| {
                    let (ending, ready) = (is_ending(pod), is_ready(pod));
                    json!({"addresses": ["10.244.0.9"], "nodeName": "node",
                        "conditions": {"ready": ready && !ending, "serving": ready, "terminating": ending},
                        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": namespace,
                            "uid": pod["metadata"]["uid"]}})
                })
                .collect();
            let slice = format!("{name}-slice");
            if self.objects.get("EndpointSlice", namespace, &slice).is_none() {
                let labels = json!({"kubernetes.io/service-name": name});
                self.objects.make(
                    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                        "metadata": {"name": slice, "namespace": namespace, "labels": labels,
                            "ownerReferences": [owned_by(&service)]}, "addressType": "IPv4"}),
                    "endpointslice-controller",
                );
            }
            let who = ("endpointslice-controller", "");
            self.objects.update(("EndpointSlice", namespace, &slice), who, |slice| {
                slice["endpoints"] = json!(endpoints);
            });
        }
    }

    // ---- whose is what

    fn owned(&self, kind: &str, by: &Value) -> Vec<Value> {
        let namespace = by["metadata"]["namespace"].as_str();
        let uid = &by["metadata"]["uid"];
        let all = self.objects.list(kind, namespace).into_iter();
        all.filter(|one| owner(one).is_some_and(|owner| owner["uid"] == *uid)).collect()
    }

    fn active(&self, by: &Value) -> Vec<Value> {
        let mut pods = self.owned("Pod", by);
        pods.retain(|pod| !is_ending(pod) && pod["status"]["phase"] != "Failed");
        pods
    }
}

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";
const CONTROLLER_REVISION: &str = "controller-revision-hash";

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn count<T>(list: &[T]) -> u64 {
    list.len() as u64
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn name_of(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))[..10].to_owned()
}

/// What pods of a template are labelled with: a `StatefulSet` takes the revision's whole name.
fn revision_of(object: &Value) -> String {
    let hash = hash(&object["spec"]["template"]);
    if object["kind"] == "StatefulSet" { format!("{}-{hash}", name_of(object)) } else { hash }
}

fn owner(object: &Value) -> Option<&Value> {
    list(&object["metadata"]["ownerReferences"]).first()
}

fn owned_by(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true})
}

fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    list(&pod["status"]["conditions"])
        .iter()
        .any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// How many pods there should be: a `DaemonSet` has one on each node that its selector fits, and
/// ours has no labels.
fn wanted(object: &Value) -> u64 {
    if object["kind"] != "DaemonSet" {
        return number(&object["spec"]["replicas"]);
    }
    let selector = object["spec"]["template"]["spec"]["nodeSelector"].as_object();
    u64::from(selector.is_none_or(serde_json::Map::is_empty))
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
    })
}

fn same_images(pod: &Value, started: &Started) -> bool {
    list(&pod["spec"]["containers"]).iter().all(|container| {
        let image = started.images.get(text(&container["name"]));
        image.is_some_and(|(name, _)| name == text(&container["image"]))
    })
}

/// `ConfigMaps` and Secrets that a pod reads when it starts.
fn named_data(spec: &Value) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    let mut note = |kind, name: &Value| {
        if let Some(name) = name.as_str() {
            found.insert((kind, name.to_owned()));
        }
    };
    for container in list(&spec["containers"]) {
        for one in list(&container["envFrom"]) {
            note("ConfigMap", &one["configMapRef"]["name"]);
            note("Secret", &one["secretRef"]["name"]);
        }
        for one in list(&container["env"]) {
            note("ConfigMap", &one["valueFrom"]["configMapKeyRef"]["name"]);
            note("Secret", &one["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    for volume in list(&spec["volumes"]) {
        note("ConfigMap", &volume["configMap"]["name"]);
        note("Secret", &volume["secret"]["secretName"]);
        for source in list(&volume["projected"]["sources"]) {
            note("ConfigMap", &source["configMap"]["name"]);
            note("Secret", &source["secret"]["name"]);
        }
    }
    found
}

fn not_started(pod: &Value, which: &str, reason: &str, restarts: u64) -> Value {
    let statuses = list(&pod["spec"]["containers"]).iter().map(|container| {
        let waits = which.is_empty() || container["name"] == which;
        let reason = if waits { reason } else { "ContainerCreating" };
        json!({"name": container["name"], "image": container["image"], "imageID": "", "ready": false,
            "started": false, "restartCount": restarts, "lastState": {},
            "state": {"waiting": {"reason": reason, "message": ""}}})
    });
    json!({"phase": "Pending", "podIP": "10.244.0.9", "containerStatuses": statuses.collect::<Vec<_>>(),
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]})
}

fn running(pod: &Value, started: &Started, how: (bool, u64, Option<&str>)) -> Value {
    let (ready, restarts, crashed) = how;
    let before = list(&pod["status"]["containerStatuses"]);
    let statuses = list(&pod["spec"]["containers"]).iter().map(|container| {
        let name = text(&container["name"]);
        let (image, id) = started.images.get(name).cloned().unwrap_or_default();
        let was = before.iter().find(|one| one["name"] == name);
        let last = match crashed {
            Some(reason) => {
                json!({"terminated": {"exitCode": 137, "reason": reason, "finishedAt": now()}})
            }
            None => was.map_or(json!({}), |was| was["lastState"].clone()),
        };
        let since =
            was.map(|was| was["state"]["running"]["startedAt"].clone()).filter(|at| !at.is_null());
        json!({"name": name, "image": image, "imageID": format!("sha256:{id}"), "ready": ready,
            "started": true, "restartCount": restarts, "lastState": last,
            "state": {"running": {"startedAt": since.unwrap_or_else(|| json!(now()))}}})
    });
    let status = if ready { "True" } else { "False" };
    json!({"phase": "Running", "podIP": "10.244.0.9", "containerStatuses": statuses.collect::<Vec<_>>(),
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": status},
            {"type": "ContainersReady", "status": status}]})
}
