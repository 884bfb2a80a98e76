//! Random histories of a Deployment: applied, rolled out, scaled, deleted and made anew, with pods
//! that flap, end slowly, are evicted or run another image under the tag, and with looks that begin
//! and end in between. Whatever the order, nothing is ready that is not so.
//!
//! The model knows of each pod which template it was made from; the verdict sees only what a server
//! serves. A look reads one kind a tick, as real ones do, and is shared by the rule of real ones.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::super::{endpoint, rollout};
use super::look;
use crate::deploy::look::{Look, counts};
use crate::deploy::verdict::Verdict;
use crate::deploy::workload::{Version, Workload};

const HISTORIES: u64 = 10_000;
const TICKS: u64 = 50;
const TICK: Duration = Duration::from_millis(30);

struct Pod {
    uid: u64,
    set: u64,
    template: u64,
    ready: bool,
    ending: bool,
    phase: &'static str,
    image: &'static str,
}

struct Set {
    uid: u64,
    deployment: u64,
    template: u64,
    revision: u64,
}

struct Cluster {
    rng: Rng,
    next: u64,
    deployment: u64,
    generation: u64,
    template: u64,
    replicas: u64,
    status: Value,
    revision: u64,
    sets: Vec<Set>,
    pods: Vec<Pod>,
    endpoints: Vec<(u64, bool)>,
    /// By uid and generation: the templates that were applied.
    applied: Vec<((u64, u64), u64)>,
}

impl Cluster {
    fn new(rng: Rng) -> Self {
        let mut cluster = Self {
            rng,
            next: 1,
            deployment: 0,
            generation: 0,
            template: 0,
            replicas: 1,
            status: json!({}),
            revision: 0,
            sets: Vec::new(),
            pods: Vec::new(),
            endpoints: Vec::new(),
            applied: Vec::new(),
        };
        cluster.make_anew();
        cluster
    }

    fn uid(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn make_anew(&mut self) {
        (self.deployment, self.generation) = (self.uid(), 0);
        (self.status, self.revision) = (json!({}), 0);
        let template = self.rng.u64(0..4);
        self.apply(template);
    }

    fn apply(&mut self, template: u64) {
        if template != self.template || self.generation == 0 {
            self.generation += 1;
        }
        (self.template, self.replicas) = (template, self.rng.u64(1..3));
        self.applied.push(((self.deployment, self.generation), template));
    }

    /// One thing that somebody does.
    fn tick(&mut self) {
        match self.rng.u32(0..40) {
            0 => self.make_anew(),
            1 => {
                self.replicas = self.rng.u64(0..3);
                self.generation += 1;
                self.applied.push(((self.deployment, self.generation), self.template));
            }
            2..=14 => self.control(),
            15..=17 => self.collect(),
            18..=21 => {
                let ready = |pod: &Pod| (pod.uid, pod.ready);
                self.endpoints = self.pods.iter().map(ready).collect();
            }
            _ => self.kubelet(),
        }
    }

    /// The Deployment's controller: the set of the template, one pod more or less, the status.
    fn control(&mut self) {
        let current = self.current_set();
        let own = self.sets.iter().filter(|set| set.deployment == self.deployment);
        let own: BTreeSet<u64> = own.map(|set| set.uid).collect();
        let of = |pod: &Pod| pod.is_up() && own.contains(&pod.set);
        let new = self.pods.iter().filter(|pod| of(pod) && pod.set == current);
        let ready = new.clone().filter(|pod| pod.ready).count() as u64;
        let (count, replicas) = (new.count() as u64, self.replicas);
        if count < replicas {
            let uid = self.uid();
            let image = if self.rng.u32(0..8) == 0 { "sha256:other" } else { "sha256:loaded" };
            self.pods.push(Pod::new(uid, current, self.template, image));
        }
        // Surplus ones of the new set, and one of the old ones once the new are ready.
        let surplus = count.saturating_sub(replicas);
        let new = self.pods.iter_mut().filter(|pod| of(pod) && pod.set == current);
        let surplus = usize::try_from(surplus).unwrap();
        new.take(surplus).for_each(|pod| pod.ending = true);
        let mut old = self.pods.iter_mut().filter(|pod| of(pod) && pod.set != current);
        if let Some(pod) = old.next().filter(|_| ready >= replicas) {
            pod.ending = true;
        }
        let counted: Vec<&Pod> = self.pods.iter().filter(|pod| of(pod)).collect();
        let updated = counted.iter().filter(|pod| pod.set == current).count();
        let available = counted.iter().filter(|pod| pod.ready).count();
        self.status = json!({"observedGeneration": self.generation, "replicas": counted.len(),
                             "updatedReplicas": updated, "availableReplicas": available});
    }

    /// The set of the template, made if it is not there; one that was there becomes the newest.
    fn current_set(&mut self) -> u64 {
        let (deployment, template) = (self.deployment, self.template);
        let own = |set: &&mut Set| set.deployment == deployment && set.template == template;
        if let Some(set) = self.sets.iter_mut().find(own) {
            if set.revision < self.revision {
                self.revision += 1;
                set.revision = self.revision;
            }
            return set.uid;
        }
        self.revision += 1;
        let (uid, revision) = (self.uid(), self.revision);
        self.sets.push(Set { uid, deployment, template, revision });
        uid
    }

    /// The garbage collector: what belongs to Deployments that are gone.
    fn collect(&mut self) {
        let gone = |set: &Set| set.deployment != self.deployment;
        if let Some(at) = self.sets.iter().position(gone) {
            self.sets.remove(at);
        }
        let sets: BTreeSet<u64> = self.sets.iter().map(|set| set.uid).collect();
        for pod in self.pods.iter_mut().filter(|pod| !sets.contains(&pod.set)) {
            pod.ending = true;
        }
    }

    fn kubelet(&mut self) {
        if self.pods.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.pods.len());
        let (what, pod) = (self.rng.u32(0..12), &mut self.pods[at]);
        match what {
            0 => pod.ready = false,
            1 if !pod.ending => (pod.phase, pod.ready) = ("Failed", false),
            2 => pod.image = "sha256:loaded",
            // It ends slowly, and serves until it does.
            3 | 4 if pod.ending => drop(self.pods.remove(at)),
            _ if !pod.ending && pod.phase == "Running" => pod.ready = true,
            _ => {}
        }
    }

    fn read(&self, kind: u64) -> Vec<Value> {
        match kind {
            0 => vec![json!({"kind": "Deployment", "metadata": {"name": "a", "generation":
                self.generation, "uid": self.deployment.to_string()}, "status": self.status,
                "spec": {"replicas": self.replicas, "selector": {"matchLabels": {"app": "a"}}}})],
            1 => self.sets.iter().map(Set::served).collect(),
            2 => self.pods.iter().map(Pod::served).collect(),
            _ => {
                let one = |(uid, ready): &(u64, bool)| json!({"conditions": {"ready": ready}, "targetRef": {"uid": uid.to_string()}});
                let endpoints: Vec<Value> = self.endpoints.iter().map(one).collect();
                let labels = json!({"kubernetes.io/service-name": "a"});
                vec![
                    json!({"kind": "Service", "metadata": {"name": "a", "uid": "service"},
                           "spec": {"selector": {"app": "a"}}}),
                    json!({"kind": "EndpointSlice", "metadata": {"name": "a", "labels": labels},
                           "endpoints": endpoints}),
                ]
            }
        }
    }
}

impl Set {
    fn served(&self) -> Value {
        json!({"kind": "ReplicaSet", "metadata": {"name": "a", "uid": self.uid.to_string(),
            "annotations": {"deployment.kubernetes.io/revision": self.revision.to_string()},
            "ownerReferences": [{"kind": "Deployment", "name": "a", "controller": true,
                                 "uid": self.deployment.to_string()}]}})
    }
}

impl Pod {
    fn served(&self) -> Value {
        let ending = self.ending.then_some("2026-11-21T09:00:00Z");
        let ready = if self.ready { "True" } else { "False" };
        json!({"kind": "Pod", "metadata": {"name": self.uid.to_string(), "labels": {"app": "a"},
            "uid": self.uid.to_string(), "deletionTimestamp": ending, "ownerReferences":
            [{"kind": "ReplicaSet", "uid": self.set.to_string(), "controller": true}]},
            "spec": {"containers": [{"name": "c", "image": "ours:1", "readinessProbe": {}}]},
            "status": {"phase": self.phase, "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "c", "imageID": self.image, "restartCount": 0,
                                   "state": {"running": {}}}]}})
    }

    fn new(uid: u64, set: u64, template: u64, image: &'static str) -> Self {
        let (ready, ending, phase) = (false, false, "Running");
        Self { uid, set, template, ready, ending, phase, image }
    }

    fn is_up(&self) -> bool {
        !self.ending && self.is_alive()
    }

    fn is_alive(&self) -> bool {
        self.phase != "Failed"
    }
}

/// What was really so when a look read the pods.
#[derive(Clone, Default)]
struct Truth {
    /// Template, whether it is ready, and whether it runs what was loaded.
    pods: Vec<(u64, bool, bool)>,
}

/// A look that takes a tick for each kind.
struct Reading {
    begun: Instant,
    kind: u64,
    objects: Vec<Value>,
    truth: Truth,
}

/// A step that has applied something, and asks.
struct Caller {
    since: Instant,
    workload: Workload,
}

struct Bench {
    cluster: Cluster,
    reading: Option<Reading>,
    last: Option<Rc<(Look, Truth)>>,
    caller: Caller,
    /// Whether a look must have begun after the apply.
    strict: bool,
    start: Instant,
    now: Instant,
    ready: u64,
    wrong: Vec<String>,
}

impl Bench {
    fn new(seed: u64, strict: bool) -> Self {
        let cluster = Cluster::new(Rng::with_seed(seed));
        let now = Instant::now();
        let caller = Caller { since: now, workload: applied(&cluster) };
        let (ready, wrong) = (0, Vec::new());
        Self { cluster, reading: None, last: None, caller, strict, start: now, now, ready, wrong }
    }

    fn run(&mut self) {
        for _ in 0..TICKS {
            self.now += TICK;
            self.cluster.tick();
            if self.cluster.rng.u32(0..25) == 0 {
                let template = self.cluster.rng.u64(0..4);
                self.cluster.apply(template);
                self.caller = Caller { since: self.now, workload: applied(&self.cluster) };
            }
            self.read();
            self.ask();
        }
    }

    /// The look that is under way goes on.
    fn read(&mut self) {
        let Some(reading) = &mut self.reading else { return };
        reading.objects.extend(self.cluster.read(reading.kind));
        if reading.kind == 2 {
            let alive = self.cluster.pods.iter().filter(|pod| pod.is_alive());
            let pods = alive
                .map(|pod| (pod.template, pod.ready && !pod.ending, pod.image == "sha256:loaded"));
            reading.truth = Truth { pods: pods.collect() };
        }
        reading.kind += 1;
        if reading.kind == 4
            && let Some(Reading { begun, objects, truth, .. }) = self.reading.take()
        {
            self.last = Some(Rc::new((Look { begun, objects, ..look(&[]) }, truth)));
        }
    }

    fn ask(&mut self) {
        if self.cluster.rng.u32(0..3) > 0 {
            return;
        }
        let since = if self.strict { self.caller.since } else { self.start };
        let is_for_it = |last: &&Rc<(Look, Truth)>| counts(last.0.begun, since, self.now);
        match self.last.as_ref().filter(is_for_it) {
            Some(last) => {
                let last = Rc::clone(last);
                self.judge(&last.0, &last.1);
            }
            None if self.reading.is_none() => {
                let begun = self.now;
                let (objects, truth) = (Vec::new(), Truth::default());
                self.reading = Some(Reading { begun, kind: 0, objects, truth });
            }
            None => {}
        }
    }

    fn judge(&mut self, look: &Look, truth: &Truth) {
        let Version { uid, generation } = self.caller.workload.applied.clone().unwrap();
        let since = (uid.parse().unwrap(), generation);
        let applied = self.cluster.applied.iter().filter(|(version, _)| *version >= since);
        let templates: BTreeSet<u64> = applied.map(|(_, template)| *template).collect();
        let is_loaded = |_: &str, id: &str| Some(id == "sha256:loaded");
        if rollout(&self.caller.workload, look, &is_loaded) == Verdict::Ready {
            self.ready += 1;
            let older = truth.pods.iter().filter(|(template, ..)| !templates.contains(template));
            let wrong = truth.pods.iter().filter(|(_, ready, loaded)| *ready && !loaded);
            let (older, wrong) = (older.count(), wrong.count());
            if older + wrong > 0 || !truth.pods.iter().any(|(_, ready, _)| *ready) {
                self.wrong.push(format!("rollout: {older} older, {wrong} wrong: {:?}", truth.pods));
            }
        }
        if endpoint("a", look) == Verdict::Ready {
            self.ready += 1;
            if !truth.pods.iter().any(|(template, ..)| templates.contains(template)) {
                self.wrong.push(format!("endpoint: {:?}", truth.pods));
            }
        }
    }
}

fn applied(cluster: &Cluster) -> Workload {
    let (uid, generation) = (cluster.deployment.to_string(), cluster.generation);
    let applied = Some(Version { uid, generation });
    Workload { applied, ..Workload::named("Deployment", "a", "n") }
}

/// How often something was ready, and what was not so.
fn histories(count: u64, strict: bool) -> (u64, Vec<String>) {
    let (mut ready, mut wrong) = (0, Vec::new());
    for seed in 0..count {
        let mut bench = Bench::new(seed, strict);
        bench.run();
        ready += bench.ready;
        wrong.extend(bench.wrong.into_iter().map(|what| format!("seed {seed}: {what}")));
    }
    (ready, wrong)
}

#[test]
fn nothing_is_ready_that_is_not_so() {
    let (ready, wrong) = histories(HISTORIES, true);
    assert!(wrong.is_empty(), "{} of {ready}:\n{}", wrong.len(), wrong[0]);
    assert!(ready > HISTORIES, "only {ready} were ready at all");
}

#[test]
fn looks_of_before_the_apply_would_have_been_found() {
    let (_, wrong) = histories(HISTORIES / 10, false);
    assert!(!wrong.is_empty(), "the histories find nothing");
}
