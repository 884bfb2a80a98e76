//! The API server of the bench: objects, and what a real one does when they are written.
//!
//! Copied from Kubernetes 1.34:
//! - `uid` is new with each object of a name; every change makes a new `resourceVersion`, one of
//!   anything but `metadata` and `status` a new `generation` (of kinds that have one); what changes
//!   nothing changes neither.
//! - Server-side apply: fields are owned by manager (`managedFields`, `fieldsV1`); what a manager
//!   no longer names goes if nobody else owns it, what it never named stays. A field that somebody
//!   else set to another value is a conflict, and is taken over with `--force-conflicts`. Lists of
//!   containers, environment, ports, volumes and mounts are merged by key, other lists are
//!   replaced.
//! - Defaults are written into the object and owned by nobody.
//! - The pod template of a Job cannot be changed. An object in a namespace that is not there is
//!   refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

/// What the server knows of a kind.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) api: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short: &'static str,
    pub(crate) namespaced: bool,
    /// Whether it has a `generation`.
    generation: bool,
}

const fn kind(
    name: &'static str,
    api: &'static str,
    plural: &'static str,
    short: &'static str,
    namespaced: bool,
    generation: bool,
) -> Kind {
    Kind { name, api, plural, short, namespaced, generation }
}

#[rustfmt::skip]
static KINDS: [Kind; 18] = [
    kind("Namespace", "v1", "namespaces", "ns", false, false),
    kind("Node", "v1", "nodes", "no", false, false),
    kind("Pod", "v1", "pods", "po", true, true),
    kind("Service", "v1", "services", "svc", true, false),
    kind("ConfigMap", "v1", "configmaps", "cm", true, false),
    kind("Secret", "v1", "secrets", "", true, false),
    kind("ServiceAccount", "v1", "serviceaccounts", "sa", true, false),
    kind("Event", "v1", "events", "ev", true, false),
    kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims", "pvc", true, false),
    kind("Deployment", "apps/v1", "deployments", "deploy", true, true),
    kind("StatefulSet", "apps/v1", "statefulsets", "sts", true, true),
    kind("DaemonSet", "apps/v1", "daemonsets", "ds", true, true),
    kind("ReplicaSet", "apps/v1", "replicasets", "rs", true, true),
    kind("ControllerRevision", "apps/v1", "controllerrevisions", "", true, false),
    kind("Job", "batch/v1", "jobs", "", true, true),
    kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", "", true, true),
    kind("Ingress", "networking.k8s.io/v1", "ingresses", "ing", true, true),
    // As if its CustomResourceDefinition were there.
    kind("Widget", "example.com/v1", "widgets", "", true, true),
];

impl Kind {
    /// Of `Deployment.v1.apps`, `deployments`, `deploy`, …
    pub(crate) fn named(word: &str) -> Option<&'static Self> {
        let word = word.split('.').next().unwrap_or(word).to_lowercase();
        KINDS.iter().find(|kind| {
            kind.name.to_lowercase() == word || kind.plural == word || kind.short == word
        })
    }
}

impl Kind {
    /// The list of resources that a group has at its path.
    pub(crate) fn served(group: &str) -> Option<Value> {
        let api = group.strip_prefix("/apis/").or_else(|| group.strip_prefix("/api/"))?;
        let kinds: Vec<Value> = KINDS
            .iter()
            .filter(|kind| kind.api == api)
            .map(|kind| json!({"name": kind.plural, "kind": kind.name, "namespaced": kind.namespaced}))
            .collect();
        (!kinds.is_empty()).then(|| json!({"kind": "APIResourceList", "resources": kinds}))
    }
}

/// Kind, namespace, name.
pub(crate) type Key = (&'static str, String, String);

/// Names from the top of an object down to one field: `f:NAME`, `k:{KEY}` or `.` for a list's
/// member itself.
type Path = Vec<String>;

#[derive(Clone, Debug)]
struct Manager {
    name: String,
    operation: &'static str,
    subresource: &'static str,
    /// Of its last change.
    time: String,
    fields: BTreeSet<Path>,
}

/// Everything the server holds.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    items: BTreeMap<Key, Value>,
    managers: BTreeMap<Key, Vec<Manager>>,
    version: u64,
    uids: u64,
}

/// What a write is refused with, as kubectl prints it.
pub(crate) type Refusal = String;

impl Objects {
    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let kind = Kind::named(kind)?;
        let namespace = if kind.namespaced { namespace } else { "" };
        self.items.get(&(kind.name, namespace.to_owned(), name.to_owned()))
    }

    /// All of a kind; of one namespace if it is named.
    pub(crate) fn list(&self, kind: &str, namespace: Option<&str>) -> Vec<Value> {
        let Some(kind) = Kind::named(kind) else { return Vec::new() };
        let here = |key: &Key| namespace.is_none_or(|one| !kind.namespaced || key.1 == one);
        let found = self.items.iter().filter(|(key, _)| key.0 == kind.name && here(key));
        found.map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn by_uid(&self, uid: &Value) -> Option<&Value> {
        self.items.values().find(|object| object["metadata"]["uid"] == *uid)
    }

    /// As the API serves it, with its managers.
    pub(crate) fn with_managers(&self, object: &Value) -> Value {
        let mut object = object.clone();
        let managers = key(&object).and_then(|key| self.managers.get(&key));
        let api = object["apiVersion"].clone();
        let entries = managers.into_iter().flatten().map(|manager| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": api,
                "time": manager.time, "fieldsType": "FieldsV1", "fieldsV1": tree(&manager.fields),
            });
            if !manager.subresource.is_empty() {
                entry["subresource"] = json!(manager.subresource);
            }
            entry
        });
        object["metadata"]["managedFields"] = entries.collect();
        object
    }

    /// `kubectl apply --server-side`.
    pub(crate) fn apply(
        &mut self,
        manifest: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, Refusal> {
        let mut manifest = manifest.clone();
        let key = self.admit(&mut manifest)?;
        let fields = fields_of(&manifest);
        let Some(live) = self.items.get(&key).cloned() else {
            self.own(&key, (manager, "Apply", ""), fields);
            return Ok(self.create(key, manifest));
        };
        let mut wanted = live.clone();
        self.resolve(&key, &live, &manifest, manager, force, &fields)?;
        for path in self.given_up(&key, manager, &fields) {
            remove(&mut wanted, &path);
        }
        merge(&mut wanted, &manifest, "");
        default(&mut wanted);
        if key.0 == "Job" && wanted["spec"]["template"] != live["spec"]["template"] {
            return Err(format!(
                "The Job \"{}\" is invalid: spec.template: Invalid value: core.PodTemplateSpec{{}}: \
                 field is immutable\n",
                key.2
            ));
        }
        self.own(&key, (manager, "Apply", ""), fields);
        Ok(self.commit(&key, wanted))
    }

    /// `kubectl replace`: everything but the status is as the manifest has it.
    pub(crate) fn replace(&mut self, manifest: &Value, manager: &str) -> Result<Value, Refusal> {
        let mut manifest = manifest.clone();
        let key = self.admit(&mut manifest)?;
        let Some(live) = self.items.get(&key).cloned() else {
            return Err(not_found(&key));
        };
        let fields = fields_of(&manifest);
        for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
            manifest["metadata"][field] = live["metadata"][field].clone();
        }
        if !live["status"].is_null() {
            manifest["status"] = live["status"].clone();
        }
        default(&mut manifest);
        self.managers.remove(&key);
        self.own(&key, (manager, "Update", ""), fields);
        Ok(self.commit(&key, manifest))
    }

    /// A write by somebody: `kubectl edit`, `scale`, `set env`, a controller. Nothing if it is not
    /// there.
    pub(crate) fn update(
        &mut self,
        (kind, namespace, name): (&str, &str, &str),
        (manager, subresource): (&str, &'static str),
        change: impl FnOnce(&mut Value),
    ) {
        let Some(live) = self.get(kind, namespace, name).cloned() else { return };
        let (Some(key), mut wanted) = (key(&live), live.clone()) else { return };
        change(&mut wanted);
        let was = values(&live);
        let changed =
            values(&wanted).into_iter().filter(|(path, value)| was.get(path) != Some(value));
        let changed: BTreeSet<Path> = changed.map(|(path, _)| path).collect();
        if changed.is_empty() && wanted == live {
            return;
        }
        let subresources = ["status", "scale"];
        for other in self.managers.entry(key.clone()).or_default() {
            if !subresources.contains(&other.subresource) {
                other.fields.retain(|path| !changed.contains(path));
            }
        }
        let mut fields = changed;
        let managers = self.managers.entry(key.clone()).or_default();
        if let Some(own) = managers.iter().find(|one| {
            (one.name.as_str(), one.operation, one.subresource) == (manager, "Update", subresource)
        }) {
            fields.extend(own.fields.iter().cloned());
        }
        self.own(&key, (manager, "Update", subresource), fields);
        self.commit(&key, wanted);
    }

    /// A controller's word about an object.
    pub(crate) fn set_status(&mut self, object: &Value, status: Value) {
        let Some((kind, namespace, name)) = key(object) else { return };
        self.update((kind, &namespace, &name), ("kube-controller-manager", "status"), |object| {
            object["status"] = status;
        });
    }

    /// An object that a controller makes.
    pub(crate) fn make(&mut self, mut object: Value, manager: &str) -> Value {
        let key = self.admit(&mut object).expect("a controller makes what is allowed");
        self.own(&key, (manager, "Update", ""), fields_of(&object));
        self.create(key, object)
    }

    /// Takes it away at once.
    pub(crate) fn remove(&mut self, object: &Value) {
        let Some(key) = key(object) else { return };
        self.version += 1;
        self.managers.remove(&key);
        self.items.remove(&key);
    }

    /// Completes what was left out, and refuses what has no place.
    fn admit(&self, object: &mut Value) -> Result<Key, Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, api) = (text(&object["kind"]), text(&object["apiVersion"]));
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name && kind.api == api) else {
            return Err(format!(
                "error: resource mapping not found for name: \"{}\" namespace: \"\" from \"STDIN\": no \
                 matches for kind \"{name}\" in version \"{api}\"\nensure CRDs are installed first\n",
                text(&object["metadata"]["name"])
            ));
        };
        let mut namespace = String::new();
        if kind.namespaced {
            object["metadata"]["namespace"]
                .as_str()
                .unwrap_or("default")
                .clone_into(&mut namespace);
            object["metadata"]["namespace"] = json!(namespace);
            if self.get("Namespace", "", &namespace).is_none() && namespace != "default" {
                return Err(format!(
                    "Error from server (NotFound): namespaces \"{namespace}\" not found\n"
                ));
            }
        }
        Ok((kind.name, namespace, text(&object["metadata"]["name"])))
    }

    fn create(&mut self, key: Key, mut object: Value) -> Value {
        self.uids += 1;
        self.version += 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        object["metadata"]["creationTimestamp"] = json!(now());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if KINDS.iter().any(|kind| kind.name == key.0 && kind.generation) {
            object["metadata"]["generation"] = json!(1);
        }
        default(&mut object);
        if key.0 == "Job" {
            object["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] =
                json!(key.2);
        }
        self.items.insert(key, object.clone());
        object
    }

    fn commit(&mut self, key: &Key, mut wanted: Value) -> Value {
        let live = &self.items[key];
        if *live == wanted {
            return wanted;
        }
        let spec = |object: &Value| {
            let mut object = object.clone();
            object.as_object_mut().into_iter().for_each(|fields| {
                fields.retain(|name, _| name != "metadata" && name != "status");
            });
            object
        };
        if live["metadata"]["generation"].is_u64() && spec(live) != spec(&wanted) {
            let generation = live["metadata"]["generation"].as_u64().unwrap_or_default();
            wanted["metadata"]["generation"] = json!(generation + 1);
        }
        self.version += 1;
        wanted["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.items.insert(key.clone(), wanted.clone());
        wanted
    }

    fn own(&mut self, key: &Key, who: (&str, &'static str, &'static str), fields: BTreeSet<Path>) {
        let (name, operation, subresource) = who;
        let managers = self.managers.entry(key.clone()).or_default();
        managers.retain(|one| (one.name.as_str(), one.operation, one.subresource) != who);
        let (name, time) = (name.to_owned(), now());
        managers.push(Manager { name, operation, subresource, time, fields });
    }

    /// What is to be set and others own with another value is a conflict, or taken from them.
    fn resolve(
        &mut self,
        key: &Key,
        live: &Value,
        manifest: &Value,
        manager: &str,
        force: bool,
        fields: &BTreeSet<Path>,
    ) -> Result<(), Refusal> {
        let (was, wanted) = (values(live), values(manifest));
        let disputed: BTreeSet<&Path> =
            fields.iter().filter(|path| was.get(*path) != wanted.get(*path)).collect();
        for other in self.managers.entry(key.clone()).or_default() {
            if other.name == manager && other.operation == "Apply" {
                continue;
            }
            let taken: Vec<Path> =
                other.fields.iter().filter(|path| disputed.contains(path)).cloned().collect();
            if !taken.is_empty() && !force {
                return Err(format!(
                    "error: Apply failed with 1 conflict: conflict with \"{}\": {}\n",
                    other.name,
                    taken[0].join("")
                ));
            }
            other.fields.retain(|path| !taken.contains(path));
        }
        Ok(())
    }

    /// What a manager owned, names no longer, and nobody else owns.
    fn given_up(&self, key: &Key, manager: &str, fields: &BTreeSet<Path>) -> Vec<Path> {
        let managers = self.managers.get(key).into_iter().flatten();
        let (own, others): (Vec<&Manager>, Vec<&Manager>) =
            managers.partition(|one| one.name == manager && one.operation == "Apply");
        let owned = own.into_iter().flat_map(|one| &one.fields);
        let lost = owned.filter(|path| !fields.contains(*path));
        let mut lost: Vec<Path> = lost
            .filter(|path| !others.iter().any(|other| other.fields.contains(*path)))
            .cloned()
            .collect();
        lost.sort_by_key(|path| std::cmp::Reverse(path.len()));
        lost
    }
}

/// What the API says of a group's kinds.
pub(crate) fn resources(api: &str) -> Value {
    let kinds = KINDS.iter().filter(|kind| kind.api == api);
    let kinds = kinds
        .map(|kind| json!({"name": kind.plural, "kind": kind.name, "namespaced": kind.namespaced}));
    json!({"kind": "APIResourceList", "groupVersion": api, "resources": kinds.collect::<Vec<_>>()})
}

pub(crate) fn not_found((kind, _, name): &Key) -> Refusal {
    let plural = KINDS.iter().find(|one| one.name == *kind).map_or("objects", |kind| kind.plural);
    format!("Error from server (NotFound): {plural} \"{name}\" not found\n")
}

/// Times in the API are whole seconds.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

pub(crate) fn key(object: &Value) -> Option<Key> {
    let kind = Kind::named(object["kind"].as_str()?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace =
        if kind.namespaced { text(&object["metadata"]["namespace"]) } else { String::new() };
    Some((kind.name, namespace, text(&object["metadata"]["name"])))
}

/// The field that tells a list's members apart, if the list is merged.
fn list_key(field: &str, member: &Value) -> Option<&'static str> {
    let name = match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => "name",
        "volumeMounts" => "mountPath",
        "ports" if member.get("containerPort").is_some() => "containerPort",
        "ports" => "port",
        "conditions" => "type",
        _ => return None,
    };
    member.get(name).map(|_| name)
}

fn member<'a>(list: &'a mut [Value], field: &str, wanted: &Value) -> Option<&'a mut Value> {
    let name = list_key(field, wanted)?;
    list.iter_mut().find(|one| one[name] == wanted[name])
}

fn merge(live: &mut Value, wanted: &Value, field: &str) {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (name, value) in wanted {
                merge(live.entry(name.clone()).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(live), Value::Array(wanted))
            if wanted.first().is_some_and(|one| list_key(field, one).is_some()) =>
        {
            for one in wanted {
                match member(live, field, one) {
                    Some(found) => merge(found, one, ""),
                    None => live.push(one.clone()),
                }
            }
        }
        (live, wanted) => *live = wanted.clone(),
    }
}

fn remove(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(name) = first.strip_prefix("f:") {
        if rest.is_empty() {
            object.as_object_mut().and_then(|fields| fields.remove(name));
        } else if let Some(inner) = object.get_mut(name) {
            remove(inner, rest);
        }
        return;
    }
    let Some(key) = first.strip_prefix("k:") else { return };
    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
    let is_it = |one: &Value| key.iter().all(|(name, value)| one[name] == *value);
    let Some(list) = object.as_array_mut() else { return };
    if rest == ["."] {
        list.retain(|one| !is_it(one));
    } else if let Some(found) = list.iter_mut().find(|one| is_it(one)) {
        remove(found, rest);
    }
}

/// Every field of an object with its value, but those that nobody owns.
fn values(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, _| {
            matches!(name.as_str(), "labels" | "annotations" | "ownerReferences" | "finalizers")
        });
    }
    collect(&object, "", &mut Vec::new(), &mut found);
    found
}

fn fields_of(object: &Value) -> BTreeSet<Path> {
    values(object).into_keys().collect()
}

fn collect(value: &Value, field: &str, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(format!("f:{name}"));
                collect(value, name, path, found);
                path.pop();
            }
        }
        Value::Array(list) if list.first().is_some_and(|one| list_key(field, one).is_some()) => {
            for one in list {
                let Some(name) = list_key(field, one) else { continue };
                path.push(format!("k:{}", json!({ name: one[name] })));
                path.push(".".to_owned());
                found.insert(path.clone(), Value::Null);
                path.pop();
                collect(one, "", path, found);
                path.pop();
            }
        }
        value => drop(found.insert(path.clone(), value.clone())),
    }
}

/// Paths as `fieldsV1` has them.
fn tree(fields: &BTreeSet<Path>) -> Value {
    let mut tree = json!({});
    for path in fields {
        let mut at = &mut tree;
        for name in path {
            at = &mut at[name.as_str()];
            if at.is_null() {
                *at = json!({});
            }
        }
    }
    tree
}

/// Sets what is not there.
fn put(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

/// What the server writes where a manifest is silent.
fn default(object: &mut Value) {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            let spec = &mut object["spec"];
            put(spec, "replicas", json!(1));
            put(spec, "revisionHistoryLimit", json!(10));
            put(spec, "progressDeadlineSeconds", json!(600));
            put(
                spec,
                "strategy",
                json!({"type": "RollingUpdate", "rollingUpdate":
                {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            );
            default_template(&mut spec["template"]);
        }
        "StatefulSet" => {
            let spec = &mut object["spec"];
            put(spec, "replicas", json!(1));
            put(spec, "podManagementPolicy", json!("OrderedReady"));
            put(
                spec,
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            );
            default_template(&mut spec["template"]);
        }
        "DaemonSet" => {
            let spec = &mut object["spec"];
            put(
                spec,
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate":
                {"maxSurge": 0, "maxUnavailable": 1}}),
            );
            default_template(&mut spec["template"]);
        }
        "Job" => {
            let spec = &mut object["spec"];
            put(spec, "backoffLimit", json!(6));
            put(spec, "completions", json!(1));
            put(spec, "parallelism", json!(1));
            put(spec, "suspend", json!(false));
            default_template(&mut spec["template"]);
        }
        "Pod" => default_pod(&mut object["spec"]),
        "Service" => {
            put(&mut object["spec"], "type", json!("ClusterIP"));
            put(&mut object["spec"], "sessionAffinity", json!("None"));
            put(&mut object["spec"], "clusterIP", json!("10.96.0.10"));
            for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
                put(port, "protocol", json!("TCP"));
                let number = port["port"].clone();
                put(port, "targetPort", number);
            }
        }
        "Secret" => put(object, "type", json!("Opaque")),
        "Namespace" => put(object, "status", json!({"phase": "Active"})),
        _ => {}
    }
}

fn default_template(template: &mut Value) {
    default_pod(&mut template["spec"]);
}

fn default_pod(spec: &mut Value) {
    put(spec, "restartPolicy", json!("Always"));
    put(spec, "dnsPolicy", json!("ClusterFirst"));
    put(spec, "schedulerName", json!("default-scheduler"));
    put(spec, "securityContext", json!({}));
    put(spec, "terminationGracePeriodSeconds", json!(30));
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        put(container, "imagePullPolicy", json!("IfNotPresent"));
        put(container, "terminationMessagePath", json!("/dev/termination-log"));
        put(container, "terminationMessagePolicy", json!("File"));
        put(container, "resources", json!({}));
        for port in container["ports"].as_array_mut().into_iter().flatten() {
            put(port, "protocol", json!("TCP"));
        }
    }
}
