//! What a run has to itself on a cluster that others run, too: nothing it makes has a name that
//! another run, or anybody else, could have given.
//!
//! | object | becomes |
//! | --- | --- |
//! | a Namespace the suite makes | the run's: `NAME-RUN`, and so is every field `namespace` or `namespaces` that names it, every selector by `kubernetes.io/metadata.name`, every `SERVICE.NAME.svc` in any text |
//! | a kind of [`WIDE`] | the run's: `NAME-RUN`, and so are the fields that refer to it |
//! | a webhook | called for objects in the run's namespaces alone: others' must not wait for ours |
//! | a Service's `nodePort`, where node ports are reached by an address | the API server's to choose: two runs cannot have one port |
//! | any other object without a namespace: a `CustomResourceDefinition`, an object of a kind of its own | shared by name ([`super::others`]) |
//! | the rest | in the run's namespaces, as it is |
//!
//! All but what is shared carries the run (128 random bits), its owner, the checkout it came from
//! and until when it may stay, as labels: whoever finds it knows whose it is and when it may go,
//! without any file of ours. The rest carries its owner. Times are the API server's: clocks of
//! machines that share a cluster may be hours apart.
//!
//! Manifests are read by kubectl itself (`kubectl label --local`), which then gives JSON: to it
//! `0755` is a mode and `yes` is true, to a reader of YAML 1.2 they are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::object::ObjectRef;
use super::render::{Document, Rendered, join};
use crate::config::{Action, Suite};
use crate::error::{ErrorExt as _, Exit};
use crate::process::Tool;

pub(super) const OWNER: &str = "dev.xtask.owner";
pub(super) const RUN: &str = "dev.xtask.run";
pub(super) const HOME: &str = "dev.xtask.home";
pub(super) const EXPIRES: &str = "dev.xtask.expires";

/// In it, on a Service whose node ports the API server chose: the ports that were asked for, by
/// port and protocol.
const NODE_PORTS: &str = "dev.xtask.node-ports";

/// Where a selector of namespaces says a name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Kinds without a namespace whose objects may be called otherwise: as `kubectl get` takes them,
/// and the field by which others refer to them. Webhooks first: they are in the way of all that
/// comes after.
pub(super) const WIDE: [(&str, &str, Option<&str>); 9] = [
    (
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        None,
    ),
    (
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        None,
    ),
    ("ClusterRoleBinding", "clusterrolebindings.rbac.authorization.k8s.io", None),
    ("ClusterRole", "clusterroles.rbac.authorization.k8s.io", Some("roleRef")),
    ("PriorityClass", "priorityclasses.scheduling.k8s.io", Some("priorityClassName")),
    ("StorageClass", "storageclasses.storage.k8s.io", Some("storageClassName")),
    ("IngressClass", "ingressclasses.networking.k8s.io", Some("ingressClassName")),
    ("RuntimeClass", "runtimeclasses.node.k8s.io", Some("runtimeClassName")),
    ("PersistentVolume", "persistentvolumes", Some("volumeName")),
];

/// The longest name of a namespace that leaves room for the ending.
const LONGEST: usize = 63 - 9;

/// How long kubectl may read manifests.
const READING: Duration = Duration::from_mins(1);

/// Who makes things on a cluster that others run.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    /// The value of a label.
    pub owner: &'a str,
    /// What tells this checkout from others on any machine.
    pub home: &'a str,
    /// A random id.
    pub run: &'a str,
    /// How long what is made may stay.
    pub ttl: Duration,
    /// Node ports are left to the API server.
    pub free_ports: bool,
}

/// The names of one run, and what is to be called by them.
#[derive(Clone, Debug)]
pub struct Own {
    owner: String,
    home: String,
    run: String,
    ttl: Duration,
    free_ports: bool,
    ending: String,
    namespaces: BTreeSet<String>,
    /// Kind and name.
    wide: BTreeSet<(String, String)>,
    clock: Arc<OnceLock<Clock>>,
}

/// The API server's clock, read once.
#[derive(Clone, Copy, Debug)]
struct Clock {
    read: SystemTime,
    at: Instant,
}

/// Eight digits that stand for a text.
fn short(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..4])
}

impl Own {
    /// Names for all that these steps make.
    pub fn of<'r>(
        maker: &Maker,
        rendered: impl Iterator<Item = &'r Rendered>,
    ) -> anyhow::Result<Self> {
        let (mut namespaces, mut wide) = (BTreeSet::new(), BTreeSet::new());
        for ObjectRef { kind, name, namespace, .. } in
            rendered.flat_map(|step| &step.documents).map(|document| &document.object)
        {
            if kind == "Namespace" {
                namespaces.insert(name.clone());
            } else if namespace.is_none() && WIDE.iter().any(|(wide, ..)| wide == kind) {
                wide.insert((kind.clone(), name.clone()));
            }
        }
        if let Some(long) = namespaces.iter().find(|name| name.len() > LONGEST) {
            let text = "failed to make a namespace of the run's own";
            return Err(anyhow!("{text}: `{long}` is longer than {LONGEST} characters"))
                .exit(Exit::Usage);
        }
        let Maker { owner, home, run, ttl, free_ports } = *maker;
        let ending = format!("-{}", short(&format!("{home} {run}")));
        let [owner, home, run] = [owner, home, run].map(str::to_owned);
        let clock = Arc::default();
        Ok(Self { owner, home, run, ttl, free_ports, ending, namespaces, wide, clock })
    }

    /// Goes by the API server's clock from now on, which says `read`.
    pub fn set_clock(&self, read: SystemTime) {
        self.clock.get_or_init(|| Clock { read, at: Instant::now() });
    }

    /// The API server's time; this machine's as long as nothing is known of that.
    pub(super) fn now(&self) -> SystemTime {
        self.clock.get().map_or_else(SystemTime::now, |clock| clock.read + clock.at.elapsed())
    }

    /// Until when what is made or renewed now may stay, as a label.
    pub(super) fn expires(&self) -> String {
        stamp(self.now() + self.ttl)
    }

    /// What a namespace of the suite's is called in this run.
    pub fn called(&self, namespace: &str) -> String {
        let is_own = self.namespaces.contains(namespace);
        format!("{namespace}{}", if is_own { &self.ending } else { "" })
    }

    /// The suite's namespaces by the names it gave them.
    pub fn namespaces(&self) -> BTreeMap<String, String> {
        self.namespaces.iter().map(|name| (name.clone(), self.called(name))).collect()
    }

    /// What everything of the run carries.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        vec![
            (OWNER, self.owner.clone()),
            (RUN, self.run.clone()),
            (HOME, self.home.clone()),
            (EXPIRES, self.expires()),
        ]
    }

    /// The suite, with the run's names in all that is no manifest.
    pub fn adapt(&self, suite: &Suite) -> Suite {
        let mut suite = suite.clone();
        for step in &mut suite.steps {
            step.namespace = step.namespace.as_deref().map(|name| self.called(name));
            match &mut step.action {
                Action::Helm(chart) => chart.namespace = self.called(&chart.namespace),
                Action::FromFiles(made) => made.namespace = self.called(&made.namespace),
                Action::Apply(_) | Action::Run(_) => {}
            }
        }
        suite
    }

    /// A step's manifests under the run's names. What was made of files is in its namespace
    /// already.
    pub fn take(&self, mut rendered: Rendered, kubectl: &Tool) -> anyhow::Result<Rendered> {
        let hooks = rendered.hooks.iter().map(|hook| &hook.document);
        let manifests: Vec<&Document> = rendered.documents.iter().chain(hooks).collect();
        if manifests.iter().all(|one| one.text.is_empty() || one.private.is_some()) {
            return Ok(rendered);
        }
        let what = || format!("failed to give step `{}` names of its own", rendered.step);
        let label = format!("{OWNER}={}", self.owner);
        let read = kubectl.clone().args(["label", "--local", "-f", "-", "-o", "json", &label]);
        let text = read.input(join(&manifests)).limit(READING).read().with_context(what)?;
        let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let documents = objects.map(|object| self.document(object?));
        let mut documents: Vec<Document> =
            documents.collect::<anyhow::Result<_>>().with_context(what)?;
        // In the order in which they were given.
        let hooks = documents.split_off(rendered.documents.len().min(documents.len()));
        for (hook, document) in rendered.hooks.iter_mut().zip(hooks) {
            hook.document = document;
        }
        rendered.documents = documents;
        Ok(rendered)
    }

    fn document(&self, mut object: Value) -> anyhow::Result<Document> {
        self.rename(&mut object)?;
        // What begins with a brace would be read as JSON to its end, however many documents it is.
        let text = format!("# of run {}\n{object}\n", self.run);
        Document::of(&object, text).context("a document is no object")
    }

    /// Gives an object, and all it refers to, the run's names.
    fn rename(&self, object: &mut Value) -> anyhow::Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let is_wide = self.wide.contains(&(kind.clone(), name.clone()));
        let is_namespace = kind == "Namespace";
        if is_wide || is_namespace {
            object["metadata"]["name"] = json!(name + &self.ending);
        }
        if is_wide || is_namespace || !object["metadata"]["namespace"].is_null() {
            for (label, value) in self.labels() {
                object["metadata"]["labels"][label] = json!(value);
            }
        }
        if kind.ends_with("WebhookConfiguration") {
            self.confine(object)?;
        }
        if kind == "Service" && self.free_ports {
            free_node_ports(object);
        }
        self.walk(object);
        Ok(())
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    self.field(key, value);
                    self.walk(value);
                }
                if fields.get("key").is_some_and(|key| key == NAME_LABEL)
                    && let Some(values) = fields.get_mut("values")
                {
                    self.each_namespace(values);
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.walk(value)),
            Value::String(text) => {
                if let Some(renamed) = self.hosts(text) {
                    *text = renamed;
                }
            }
            _ => {}
        }
    }

    /// A field that by its name refers to a namespace, or to an object of [`WIDE`].
    fn field(&self, key: &str, value: &mut Value) {
        if matches!(key, "namespace" | "namespaces" | NAME_LABEL) {
            return self.each_namespace(value);
        }
        let Some((kind, ..)) = WIDE.iter().find(|(.., field)| *field == Some(key)) else { return };
        let name = if key == "roleRef" {
            if value["kind"] != *kind {
                return;
            }
            &mut value["name"]
        } else {
            value
        };
        if let Some(text) = name.as_str()
            && self.wide.contains(&((*kind).to_owned(), text.to_owned()))
        {
            *name = json!(format!("{text}{}", self.ending));
        }
    }

    /// A namespace, or a list of them.
    fn each_namespace(&self, value: &mut Value) {
        match value {
            Value::String(name) => *name = self.called(name),
            Value::Array(names) => names.iter_mut().for_each(|name| self.each_namespace(name)),
            _ => {}
        }
    }

    /// A text with each `.NAMESPACE.svc` in it under the run's name; none if there is none.
    fn hosts(&self, text: &str) -> Option<String> {
        let mut renamed = text.to_owned();
        for namespace in self.namespaces.iter().filter(|name| text.contains(name.as_str())) {
            let host = format!(".{namespace}.svc");
            let mut from = 0;
            while let Some(at) = renamed[from..].find(&host).map(|at| from + at) {
                let end = at + host.len();
                let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if renamed[end..].starts_with(goes_on) {
                    from = end;
                    continue;
                }
                renamed.insert_str(end - ".svc".len(), &self.ending);
                from = end + self.ending.len();
            }
        }
        (renamed != text).then_some(renamed)
    }

    /// Has webhooks called for what is in the run's namespaces, and for nothing else.
    fn confine(&self, object: &mut Value) -> anyhow::Result<()> {
        let name = object["metadata"]["name"].clone();
        for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
            webhook["namespaceSelector"]["matchLabels"][RUN] = json!(self.run);
            for rule in webhook["rules"].as_array_mut().into_iter().flatten() {
                if rule["scope"] == "Cluster" {
                    bail!(
                        "webhook {name} is for objects without a namespace, which are everybody's"
                    );
                }
                rule["scope"] = json!("Namespaced");
            }
        }
        Ok(())
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Kinds of what the run may have made, as kubectl takes them; namespaces last, with all that
    /// is in them.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let made = |kind: &str| self.wide.iter().any(|(wide, _)| wide == kind);
        let wide = WIDE.iter().filter(|(kind, ..)| made(kind)).map(|(_, resource, _)| *resource);
        wide.chain(["namespaces"]).collect()
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What selects all that the run has made, and nothing else.
    pub(super) fn selector(&self) -> String {
        let Self { run, home, owner, .. } = self;
        format!("{RUN}={run},{HOME}={home},{OWNER}={owner}")
    }
}

/// Whether an object has a name that other runs know it by, too.
pub(super) fn is_shared(object: &ObjectRef) -> bool {
    let is_own = object.kind == "Namespace" || WIDE.iter().any(|(kind, ..)| *kind == object.kind);
    object.namespace.is_none() && !is_own
}

/// Leaves the node ports of a Service to the API server, and notes which were asked for.
fn free_node_ports(service: &mut Value) {
    let mut asked = serde_json::Map::new();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if let Some(node) = port.as_object_mut().and_then(|port| port.remove("nodePort")) {
            asked.insert(port_and_protocol(port), node);
        }
    }
    if !asked.is_empty() {
        let asked = Value::Object(asked).to_string();
        service["metadata"]["annotations"][NODE_PORTS] = json!(asked);
    }
}

fn port_and_protocol(port: &Value) -> String {
    format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
}

/// The node ports that were asked for in these objects, and those that the API server gave instead.
pub fn given_ports(objects: &[Value]) -> BTreeMap<u16, u16> {
    let mut given = BTreeMap::new();
    for object in objects {
        let asked = object["metadata"]["annotations"][NODE_PORTS].as_str().unwrap_or_default();
        let asked: BTreeMap<String, u16> = serde_json::from_str(asked).unwrap_or_default();
        for port in object["spec"]["ports"].as_array().into_iter().flatten() {
            let node = port["nodePort"].as_u64().and_then(|node| u16::try_from(node).ok());
            given.extend(asked.get(&port_and_protocol(port)).copied().zip(node));
        }
    }
    given
}

/// A moment as a label can say it: `20261121T193000Z`. In the order of time, too.
pub(super) fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests;
