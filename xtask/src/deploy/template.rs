//! The pod template of a workload: what its pods run and read, and what is noted in it.
//!
//! A controller makes pods anew only if their template changed. Two things change what a pod does
//! and stand in no template: which image its tag leads to by now, and what is in the `ConfigMaps`
//! and Secrets that it reads. So both are noted there, as annotations:
//!
//! | annotation | value |
//! | --- | --- |
//! | `dev.xtask/images` | of each of the run's images that it names: name and id |
//! | `dev.xtask/config` | a digest over what it reads of the suite's `ConfigMaps` and Secrets ([`super::digest`]) |
//!
//! Manifests that get a note are read by kubectl (`kubectl patch --local`), which gives JSON; our
//! own reader only looks into them. A bare Pod has no template and is noted itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::object::ObjectRef;
use super::render::{Document, each_image, join};
use crate::process::Tool;

const IMAGES: &str = "dev.xtask/images";
const CONFIG: &str = "dev.xtask/config";

/// How long kubectl may read manifests.
const READING: Duration = Duration::from_mins(1);

/// What is known of the pods that an object makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Image references, of ours and of others.
    images: BTreeSet<String>,
    pub(super) reads: BTreeSet<Read>,
    /// Whether a changed template makes its pods anew. A Job, a bare Pod or a `ReplicaSet` stays as
    /// it is, and so does what updates `OnDelete`.
    pub(super) rolls_out: bool,
}

/// A `ConfigMap` or a Secret that pods read, in their own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Read {
    kind: &'static str,
    name: String,
    /// Pods start without it.
    pub(super) is_optional: bool,
}

/// What is to be noted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes<'a> {
    /// By reference: the image's name and id.
    pub images: Option<&'a BTreeMap<String, String>>,
    /// Digests by place: [`super::Kept::reads`].
    pub reads: Option<&'a BTreeMap<String, String>>,
}

impl Template {
    /// None of an object that makes no pods.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let reference = ObjectRef::of(object)?;
        let pods = way(&reference)?.iter().fold(object, |value, field| &value[field]);
        let (mut images, mut reads) = (BTreeSet::new(), BTreeSet::new());
        each_image(&pods["spec"], &mut |image| {
            images.insert(image.to_owned());
        });
        each_read(&pods["spec"], &mut reads);
        let update = &object["spec"]["updateStrategy"];
        let partition = update["rollingUpdate"]["partition"].as_u64().unwrap_or_default();
        let rolls_out = match reference.kind.as_str() {
            "Deployment" | "CronJob" => true,
            "StatefulSet" | "DaemonSet" => update["type"] != "OnDelete" && partition == 0,
            _ => false,
        };
        Some(Self { images, reads, rolls_out })
    }
}

impl Read {
    /// `configmap/NAMESPACE/NAME`.
    pub(super) fn place(&self, namespace: &str) -> String {
        place(self.kind, namespace, &self.name)
    }
}

pub(super) fn place(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.to_lowercase())
}

/// Where an object has its pods' template.
fn way(object: &ObjectRef) -> Option<&'static [&'static str]> {
    match (object.group(), object.kind.as_str()) {
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => Some(&["spec", "template"]),
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        ("", "Pod") => Some(&[]),
        _ => None,
    }
}

/// Every `ConfigMap` and Secret that a pod takes values or files from.
fn each_read(value: &Value, found: &mut BTreeSet<Read>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let kind = match field.as_str() {
                    "configMap" | "configMapRef" | "configMapKeyRef" => Some("ConfigMap"),
                    "secret" | "secretRef" | "secretKeyRef" => Some("Secret"),
                    _ => None,
                };
                let name = value["name"].as_str().or_else(|| value["secretName"].as_str());
                if let (Some(kind), Some(name)) = (kind, name) {
                    let is_optional = value["optional"] == true;
                    found.insert(Read { kind, name: name.to_owned(), is_optional });
                }
                each_read(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| each_read(value, found)),
        _ => {}
    }
}

impl Notes<'_> {
    /// The documents, with notes in those that make pods.
    pub(super) fn write(
        &self,
        documents: &[Document],
        kubectl: &Tool,
    ) -> anyhow::Result<Vec<Document>> {
        let mut documents = documents.to_vec();
        let mut noted: Vec<(&mut Document, Annotations)> = documents
            .iter_mut()
            .map(|document| (self.of(document), document))
            .filter(|(notes, _)| !notes.is_empty())
            .map(|(notes, document)| (document, notes))
            .collect();
        if noted.is_empty() {
            return Ok(documents);
        }
        let text = join(&noted.iter().map(|(document, _)| &**document).collect::<Vec<_>>());
        let read = kubectl.clone().args(["patch", "--local", "--type", "merge", "--patch", "{}"]);
        let read = read.args(["-f", "-", "-o", "json"]).input(text).limit(READING).read()?;
        let objects = serde_json::Deserializer::from_str(&read).into_iter::<Value>();
        let objects = objects.collect::<Result<Vec<Value>, _>>()?;
        for (document, notes) in &mut noted {
            let is_it = |object: &&Value| ObjectRef::of(object).as_ref() == Some(&document.object);
            let object = objects.iter().find(is_it);
            let mut object =
                object.cloned().with_context(|| format!("kubectl lost {}", document.object))?;
            annotate(&mut object, &document.object, notes);
            // What begins with a brace would be read as JSON to its end, however many documents it
            // is.
            document.text = format!("# {}\n{object}\n", document.object);
        }
        Ok(documents)
    }

    fn of(&self, document: &Document) -> Annotations {
        let Some(template) = &document.template else { return Annotations::new() };
        let images = template.images.iter().filter_map(|image| self.images?.get(image));
        let images: Vec<&str> = images.map(String::as_str).collect();
        let namespace = document.object.namespace_or_default();
        let reads = template.reads.iter().map(|read| read.place(namespace));
        let reads: BTreeSet<String> = reads.collect();
        let reads = reads.iter().filter_map(|place| Some((place, self.reads?.get(place)?)));
        let reads: Vec<String> = reads.map(|(place, digest)| format!("{place} {digest}")).collect();
        let mut notes = Annotations::new();
        if !images.is_empty() {
            notes.insert(IMAGES, images.join(","));
        }
        if !reads.is_empty() {
            notes.insert(CONFIG, hex::encode(&Sha256::digest(reads.join("\n"))[..16]));
        }
        notes
    }
}

type Annotations = BTreeMap<&'static str, String>;

fn annotate(object: &mut Value, reference: &ObjectRef, notes: &Annotations) {
    let way = way(reference).unwrap_or_default();
    let pods = way.iter().fold(object, |value, field| &mut value[field]);
    for (key, value) in notes {
        pods["metadata"]["annotations"][*key] = json!(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  \
        namespace: web\nspec:\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      \
        containers:\n      - image: localhost/web:1\n        env:\n        - name: A\n          \
        valueFrom:\n            secretKeyRef:\n              key: a\n              name: one\n              \
        optional: true\n        envFrom:\n        - configMapRef:\n            name: two\n      \
        volumes:\n      - name: a\n        secret:\n          defaultMode: 0400\n          \
        secretName: three\n      - name: b\n        projected:\n          sources:\n          - \
        configMap:\n              name: four\n          - secret:\n              name: five\n";

    fn document(text: &str) -> Document {
        let value: Value = yaml::read(text).unwrap();
        Document::of(&value, text.to_owned()).unwrap()
    }

    #[test]
    fn every_way_to_read_is_seen() {
        let template = document(DEPLOYMENT).template.unwrap();
        let reads: Vec<String> = template.reads.iter().map(|read| read.place("web")).collect();
        assert_eq!(
            reads,
            [
                "configmap/web/four",
                "configmap/web/two",
                "secret/web/five",
                "secret/web/one",
                "secret/web/three"
            ]
        );
        let optional: Vec<&Read> = template.reads.iter().filter(|read| read.is_optional).collect();
        assert_eq!(optional[0].name, "one");
        assert_eq!(optional.len(), 1);
    }

    #[test]
    fn what_does_not_make_its_pods_anew_is_known() {
        for (kind, group, spec, rolls_out) in [
            ("Deployment", "apps/v1", json!({}), Some(true)),
            ("StatefulSet", "apps/v1", json!({}), Some(true)),
            (
                "StatefulSet",
                "apps/v1",
                json!({"updateStrategy": {"type": "OnDelete"}}),
                Some(false),
            ),
            (
                "StatefulSet",
                "apps/v1",
                json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}),
                Some(false),
            ),
            ("DaemonSet", "apps/v1", json!({"updateStrategy": {"type": "OnDelete"}}), Some(false)),
            ("ReplicaSet", "apps/v1", json!({}), Some(false)),
            ("Job", "batch/v1", json!({}), Some(false)),
            ("CronJob", "batch/v1", json!({}), Some(true)),
            ("Pod", "v1", json!({}), Some(false)),
            ("Deployment", "example.com/v1", json!({}), None),
            ("ConfigMap", "v1", json!({}), None),
        ] {
            let object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a"},
                "spec": spec});
            let template = Template::of(&object);
            assert_eq!(template.map(|one| one.rolls_out), rolls_out, "{kind} of {group}");
        }
    }

    #[test]
    fn notes_name_what_a_template_runs_and_reads_and_nothing_else() {
        let images = BTreeMap::from([
            ("localhost/web:1".to_owned(), "web=sha256:aa".to_owned()),
            ("localhost/db:1".to_owned(), "db=sha256:bb".to_owned()),
        ]);
        let config = |place: &str, digest: &str| {
            let reads = BTreeMap::from([(place.to_owned(), digest.to_owned())]);
            Notes { images: Some(&images), reads: Some(&reads) }.of(&document(DEPLOYMENT))
        };
        let one = config("secret/web/one", "1");
        assert_eq!(one[IMAGES], "web=sha256:aa");
        assert_eq!(one, config("secret/web/one", "1"));
        assert_ne!(one[CONFIG], config("secret/web/one", "2")[CONFIG]);
        assert_ne!(one[CONFIG], config("secret/web/three", "1")[CONFIG]);
        assert!(!config("secret/web/six", "1").contains_key(CONFIG));
        assert!(!config("secret/elsewhere/one", "1").contains_key(CONFIG));
        assert!(Notes::default().of(&document(DEPLOYMENT)).is_empty());
    }

    #[test]
    fn a_note_is_on_the_template_or_on_a_bare_pod() {
        let notes = Annotations::from([(IMAGES, "web=1".to_owned())]);
        for (kind, group, at) in [
            ("Deployment", "apps/v1", "/spec/template/metadata/annotations"),
            ("CronJob", "batch/v1", "/spec/jobTemplate/spec/template/metadata/annotations"),
            ("Pod", "v1", "/metadata/annotations"),
        ] {
            let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a"}});
            let reference = ObjectRef::of(&object).unwrap();
            annotate(&mut object, &reference, &notes);
            assert_eq!(object.pointer(at).unwrap()[IMAGES], "web=1", "{kind}");
        }
    }
}
