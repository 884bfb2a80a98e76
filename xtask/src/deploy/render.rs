//! A step's manifests, with the run's image tags in them.
//!
//! Manifests name images plainly (`image: gateway`). A generated overlay, which holds nothing but
//! the step's resources and kustomize's own `images:`, sets registry and tag; `kubectl kustomize`
//! renders it. The text is handed to `kubectl apply` as it came: our YAML reader only looks into it
//! (it would read `mode: 0755` otherwise than Kubernetes does).
//!
//! A folder without a kustomization stands for its YAML and JSON files in the order of their names,
//! as for `kubectl apply -f FOLDER`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use super::digest;
use super::hooks::{self, Hook};
use super::object::ObjectRef;
use super::template::Template;
use crate::config::Chart;
use crate::error::{ErrorExt as _, Exit};
use crate::kubernetes;
use crate::process::Tool;
use crate::yaml;

/// How long rendering may take.
const RENDERING: Duration = Duration::from_mins(1);

/// The overlay's configuration: the fields that hold an image.
const FIELDS: &str = "fields.yaml";

/// What a step applies.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The step's name.
    pub step: String,
    pub documents: Vec<Document>,
    /// Of a chart: what runs before and after.
    pub hooks: Vec<Hook>,
    /// Which of the given plain image names it uses.
    pub images: Vec<String>,
    /// By reference, name and id of each image it uses, once they are known: [`Self::with_ids`].
    pub image_ids: BTreeMap<String, String>,
    /// Image references that none of the given names stand for: pulled by the nodes themselves.
    pub foreign_images: Vec<String>,
}

/// The run's images, and where manifests name them.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// From plain names to full references.
    pub references: &'a BTreeMap<String, String>,
    /// Fields that hold an image, besides those of containers.
    pub fields: &'a [String],
}

/// One object of a manifest.
#[derive(Clone)]
pub struct Document {
    pub object: ObjectRef,
    pub text: String,
    /// Of what makes pods.
    pub(super) template: Option<Template>,
    /// Of a `ConfigMap` or Secret: what it holds, as the API would serve it.
    pub(super) content: Option<Value>,
    /// Of a Secret made of files: what of it may be written down, and what not.
    pub(super) private: Option<Private>,
}

/// A Secret in its parts.
#[derive(Clone)]
pub(super) struct Private {
    /// The object without its data.
    pub(super) outline: String,
    /// Key → value in base64.
    pub(super) data: Value,
}

impl Document {
    /// None if it is no object. `text` is what is applied, `value` what it says.
    pub(super) fn of(value: &Value, text: String) -> Option<Self> {
        let (object, template) = (ObjectRef::of(value)?, Template::of(value));
        Some(Self { object, text, template, content: digest::content(value), private: None })
    }
}

/// A text may hold a secret's values, so that it is not shown.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)
    }
}

impl Rendered {
    /// Of a step that applies nothing itself.
    pub fn nothing(step: &str) -> Self {
        let step = step.to_owned();
        Self {
            step,
            documents: Vec::new(),
            hooks: Vec::new(),
            images: Vec::new(),
            image_ids: BTreeMap::new(),
            foreign_images: Vec::new(),
        }
    }

    /// With the ids of its images; `references` leads from their names to what manifests call them,
    /// `id` to their ids.
    #[must_use]
    pub fn with_ids(
        mut self,
        references: &BTreeMap<String, String>,
        id: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let known = |name: &String| {
            let (reference, id) = (references.get(name)?, id(name)?);
            Some((reference.clone(), format!("{name}={id}")))
        };
        self.image_ids = self.images.iter().filter_map(known).collect();
        self
    }

    /// The whole manifest.
    pub fn text(&self) -> String {
        join(&self.documents.iter().collect::<Vec<_>>())
    }

    /// The namespace of an object named `KIND/NAME` (any case), or else the only one there is.
    pub fn namespace_of(&self, object: &str) -> Option<&str> {
        let named = self.documents.iter().find(|document| {
            document.object.to_string() == object.to_lowercase() || document.object.name == object
        });
        if let Some(namespace) = named.and_then(|document| document.object.namespace.as_deref()) {
            return Some(namespace);
        }
        let all: BTreeSet<&str> = self
            .documents
            .iter()
            .filter_map(|document| document.object.namespace.as_deref())
            .collect();
        if all.len() == 1 { all.first().copied() } else { None }
    }

    /// The namespaces it makes.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let objects = self.documents.iter().map(|document| &document.object);
        objects.filter(|object| object.kind == "Namespace").map(|object| &*object.name)
    }

    /// Whether it runs something to its end.
    pub fn has_job(&self) -> bool {
        self.documents.iter().any(|document| document.object.kind == "Job")
    }

    /// The objects that make pods.
    pub fn workloads(&self) -> Vec<ObjectRef> {
        let objects = self.documents.iter().map(|document| &document.object);
        objects.filter(|object| object.is_workload()).cloned().collect()
    }
}

/// What more than one of these steps applies: the object, the steps' names, and whether their
/// manifests of it are alike.
pub fn applied_twice<'r>(
    steps: impl Iterator<Item = &'r Rendered>,
) -> Vec<(ObjectRef, Vec<&'r str>, bool)> {
    let mut found: Vec<(&Document, Vec<&str>, bool)> = Vec::new();
    for (step, document) in steps.flat_map(|step| step.documents.iter().map(move |one| (step, one)))
    {
        let is_it = |(other, ..): &&mut (&Document, Vec<&str>, bool)| {
            other.object.namespace_or_default() == document.object.namespace_or_default()
                && other.object.is_called(&document.object)
        };
        match found.iter_mut().find(is_it) {
            Some((other, steps, are_alike)) => {
                steps.push(&step.step);
                *are_alike &= other.text == document.text;
            }
            None => found.push((document, vec![&step.step], true)),
        }
    }
    let twice = found.into_iter().filter(|(_, steps, _)| steps.len() > 1);
    twice.map(|(document, steps, alike)| (document.object.clone(), steps, alike)).collect()
}

/// Documents as one manifest.
pub(super) fn join(documents: &[&Document]) -> String {
    documents.iter().map(|document| document.text.as_str()).collect::<Vec<_>>().join("---\n")
}

/// Renders the folder or file of a step; `workdir` gets the overlay.
pub fn render(
    step: &str,
    manifests: &Path,
    images: &Images<'_>,
    kubectl: &Tool,
    workdir: &Path,
) -> anyhow::Result<Rendered> {
    let folder = workdir.join(step);
    fs_err::create_dir_all(&folder)?;
    let overlay = overlay(&resources(manifests, &folder).exit(Exit::Usage)?, images);
    kustomize(step, &overlay, (images, false), kubectl, &folder)
        .with_context(|| format!("failed to render `{}`", manifests.display()))
        .exit(Exit::Usage)
}

/// Renders a Helm chart, and then the same as any manifests. `--include-crds` since `helm template`
/// leaves them out; `--skip-tests` since ours is the suite. Hooks are sorted out ([`hooks`]). What
/// names no namespace is in the release's.
pub fn render_chart(
    step: &str,
    chart: &Chart,
    images: &Images<'_>,
    kubectl: &Tool,
    workdir: &Path,
) -> anyhow::Result<Rendered> {
    let folder = workdir.join(step);
    fs_err::create_dir_all(&folder)?;
    let what = || format!("failed to render chart `{}`", chart.path.display());
    let text = kubernetes::helm()
        .args(["template", &chart.release])
        .arg(&chart.path)
        .args(["--namespace", &chart.namespace, "--include-crds", "--skip-tests"])
        .args(chart.values.iter().flat_map(|file| ["--values".into(), file.clone()]))
        .limit(RENDERING)
        .read()
        .with_context(what)
        .exit(Exit::Usage)?;
    fs_err::write(folder.join("chart.yaml"), text)?;
    let mut overlay = overlay(&["chart.yaml".into()], images);
    let transformer = json!({
        "apiVersion": "builtin",
        "kind": "NamespaceTransformer",
        "metadata": { "name": "release", "namespace": chart.namespace },
        "unsetOnly": true,
    });
    overlay["transformers"] = json!([transformer.to_string()]);
    kustomize(step, &overlay, (images, true), kubectl, &folder).with_context(what).exit(Exit::Usage)
}

fn kustomize(
    step: &str,
    overlay: &Value,
    of: (&Images<'_>, bool),
    kubectl: &Tool,
    folder: &Path,
) -> anyhow::Result<Rendered> {
    let fields = json!({ "images": of.0.fields.iter().map(|one| field(one)).collect::<Vec<_>>() });
    fs_err::write(folder.join(FIELDS), serde_json::to_vec_pretty(&fields)?)?;
    fs_err::write(folder.join("kustomization.yaml"), serde_json::to_vec_pretty(overlay)?)?;
    let text = kubectl
        .clone()
        .args(["kustomize", "--load-restrictor", "LoadRestrictionsNone"])
        .arg(folder)
        .limit(RENDERING)
        .read()?;
    read(step, &text, (of.0.references, of.1)).context("failed to read the manifests")
}

/// The overlay. Namespaces and CRDs come first (`legacy`), whatever the files are called.
fn overlay(resources: &[PathBuf], images: &Images<'_>) -> Value {
    let images: Vec<Value> = images
        .references
        .iter()
        .map(|(name, reference)| {
            if let Some((new_name, digest)) = reference.split_once('@') {
                return json!({ "name": name, "newName": new_name, "digest": digest });
            }
            let (new_name, tag) = split_tag(reference);
            json!({ "name": name, "newName": new_name, "newTag": tag })
        })
        .collect();
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
        "images": images,
        "configurations": [FIELDS],
        "sortOptions": { "order": "legacy" },
    })
}

/// A field as kustomize writes it: `spec.image` is `spec/image`.
fn field(field: &str) -> Value {
    json!({ "path": field.replace('.', "/") })
}

/// `localhost:5000/a:b` → (`localhost:5000/a`, `b`).
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// The overlay's resources, relative to it: kustomize takes no absolute ones.
fn resources(manifests: &Path, overlay: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let manifests = fs_err::canonicalize(manifests)?;
    let overlay = fs_err::canonicalize(overlay)?;
    let own = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    if manifests.is_file() || own.iter().any(|name| manifests.join(name).is_file()) {
        return Ok(vec![relative(&manifests, &overlay)]);
    }
    let mut files: Vec<PathBuf> = fs_err::read_dir(&manifests)?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.retain(|file| {
        file.is_file()
            && matches!(
                file.extension().and_then(std::ffi::OsStr::to_str),
                Some("yaml" | "yml" | "json")
            )
    });
    if files.is_empty() {
        bail!("there is no manifest in `{}`", manifests.display());
    }
    files.sort();
    Ok(files.iter().map(|file| relative(file, &overlay)).collect())
}

/// The way from one absolute folder to a path.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let shared = to.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// `images` as in [`render`]; only a chart has hooks.
fn read(
    step: &str,
    text: &str,
    (images, is_chart): (&BTreeMap<String, String>, bool),
) -> anyhow::Result<Rendered> {
    let names: BTreeMap<&str, &str> =
        images.iter().map(|(name, reference)| (reference.as_str(), name.as_str())).collect();
    let (mut used, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    let mut rendered = Rendered::nothing(step);
    for text in split(text) {
        let value: Value = yaml::read(&text)?;
        let document = Document::of(&value, text)
            .ok_or_else(|| anyhow!("a document has no apiVersion, kind or name"))?;
        if is_option(&document.object) {
            bail!("`{document:?}` is no name of an object");
        }
        match hooks::of(&value, &document).filter(|_| is_chart) {
            None => rendered.documents.push(document),
            Some(left_out) if left_out.is_empty() => continue,
            Some(hooks) => rendered.hooks.extend(hooks),
        }
        each_image(&value, &mut |image| {
            if !names.contains_key(image) {
                foreign.insert(image.to_owned());
            }
        });
        // Whatever names one of the run's images needs it, a container or not.
        each_text(&value, &mut |text| {
            used.extend(names.get(text).map(|&name| name.to_owned()));
        });
    }
    rendered.images = used.into_iter().collect();
    rendered.foreign_images = foreign.into_iter().collect();
    Ok(rendered)
}

/// Whether kubectl would take one of its names for an option.
fn is_option(object: &ObjectRef) -> bool {
    let names = [Some(&object.kind), object.namespace.as_ref(), Some(&object.name)];
    names.into_iter().flatten().any(|name| name.starts_with('-'))
}

/// kustomize parts documents by a line of three dashes; inside a block such a line is indented.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

fn each_text(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Object(fields) => fields.values().for_each(|value| each_text(value, found)),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, found)),
        _ => {}
    }
}

/// Every container image below a value.
pub(super) fn each_image(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if matches!(name.as_str(), "containers" | "initContainers" | "ephemeralContainers")
                {
                    let containers = value.as_array().into_iter().flatten();
                    containers.filter_map(|one| one["image"].as_str()).for_each(&mut *found);
                }
                each_image(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| each_image(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\n\
        apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: gateway\n  namespace: a\nspec:\n  \
        template:\n    spec:\n      initContainers:\n      - image: localhost/wait:11\n      \
        containers:\n      - image: localhost/gateway:22\n        args:\n        - |\n          \
        ---\n          text\n      - image: docker.io/library/other:1\n";

    fn images() -> BTreeMap<String, String> {
        let pairs = [("gateway", "localhost/gateway:22"), ("wait", "localhost/wait:11")];
        let mut images: BTreeMap<_, _> =
            pairs.map(|(name, tag)| (name.to_owned(), tag.to_owned())).into();
        images.insert("unused".to_owned(), "localhost/unused:33".to_owned());
        images
    }

    #[test]
    fn objects_and_images_are_found_and_the_text_is_kept() {
        let rendered = read("s", TEXT, (&images(), false)).unwrap();
        let objects: Vec<_> = rendered.documents.iter().map(|d| d.object.to_string()).collect();
        assert_eq!(objects, ["namespace/a", "deployment/gateway"]);
        assert_eq!(rendered.images, ["gateway", "wait"]);
        assert_eq!(rendered.foreign_images, ["docker.io/library/other:1"]);
        assert_eq!(rendered.text(), TEXT);
        assert_eq!(rendered.namespace_of("Deployment/gateway"), Some("a"));
        assert_eq!(rendered.namespace_of("service/elsewhere"), Some("a"));
    }

    #[test]
    fn a_name_that_kubectl_would_take_for_an_option_is_refused() {
        let text = |kind: &str, namespace: &str, name: &str| {
            format!(
                "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n"
            )
        };
        assert!(read("s", &text("Pod", "a", "b-"), (&images(), false)).is_ok());
        for text in [text("--all", "a", "b"), text("Pod", "--all", "b"), text("Pod", "a", "-l")] {
            assert!(read("s", &text, (&images(), false)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_two_steps_apply_is_seen_whatever_they_call_it() {
        let step = |name: &str, text: &str| read(name, text, (&images(), false)).unwrap();
        let service = |more: &str| {
            format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n{more}spec: {{}}\n")
        };
        for (why, other, are_alike) in [
            ("the same", service(""), Some(true)),
            ("in the default namespace", service("  namespace: default\n"), Some(false)),
            ("elsewhere", service("  namespace: b\n"), None),
        ] {
            let steps = [step("one", &service("")), step("two", &other), step("three", TEXT)];
            let twice = applied_twice(steps.iter());
            let names = twice.first().map(|(_, steps, _)| steps.clone());
            assert_eq!(names, are_alike.map(|_| vec!["one", "two"]), "{why}");
            assert_eq!(twice.first().map(|(.., alike)| *alike), are_alike, "{why}");
        }
    }

    #[test]
    fn only_a_charts_hooks_are_hooks_and_those_left_out_need_no_image() {
        let hook = |name: &str, event: &str, image: &str| {
            format!(
                "---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  annotations:\n    helm.sh/hook: \
                 {event}\n  name: {name}\nspec:\n  template:\n    spec:\n      containers:\n      - \
                 image: {image}\n"
            )
        };
        let text = TEXT.to_owned()
            + &hook("schema", "pre-install,pre-upgrade", "localhost/wait:11")
            + &hook("cleanup", "pre-delete", "docker.io/library/cleanup:1");
        let chart = read("s", &text, (&images(), true)).unwrap();
        assert_eq!((chart.documents.len(), chart.hooks.len()), (2, 1));
        assert_eq!(chart.foreign_images, ["docker.io/library/other:1"]);
        let plain = read("s", &text, (&images(), false)).unwrap();
        assert_eq!((plain.documents.len(), plain.hooks.len()), (4, 0));
    }

    #[test]
    fn ports_in_a_registrys_name_are_no_tags() {
        assert_eq!(split_tag("localhost/a:b"), ("localhost/a", "b"));
        assert_eq!(split_tag("host:5000/a"), ("host:5000/a", "latest"));
    }

    #[test]
    fn relative_ways_lead_up_and_down() {
        for (to, from, way) in [
            ("/w/k8s/a", "/w/target/x", "../../k8s/a"),
            ("/w/a.yaml", "/w", "a.yaml"),
            ("/k", "/w/x", "../../k"),
        ] {
            assert_eq!(relative(Path::new(to), Path::new(from)), Path::new(way));
        }
    }
}
