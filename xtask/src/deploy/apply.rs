//! Server-side apply.
//!
//! | trap | answer |
//! | --- | --- |
//! | fields set by an earlier client-side apply conflict | `--force-conflicts`: the run's manifests win |
//! | a custom resource beside its CRD: "no matches for kind" | CRDs go first and are waited for until they are Established *and* in the API's discovery |
//! | a Job, a bare Pod and what updates `OnDelete` stay as they are when their template changes | on a cluster that was there before they are deleted first ([`How::again`]) |
//! | a field that cannot be changed (a selector, a roleRef, an immutable `ConfigMap`) | the object is deleted and made anew; not what holds data or others' objects ([`HOLDS_MORE`]) |
//! | an object that is just being deleted takes what is applied, and goes | applied again until it is another |
//! | a webhook that is still starting, a server that is busy | tried again for [`PATIENCE`] |
//! | a cluster that is not ours | nothing is forced, and what somebody else made is refused: objects, and objects in their namespaces; what all share by name is used as it is |

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::hooks::{self, Hook, When};
use super::object::ObjectRef;
use super::own::{Own, is_shared};
use super::render::{Document, Rendered, join};
use super::template::Notes;
use super::{FIELD_MANAGER, others, verdict};
use crate::error::ErrorExt as _;
use crate::process::{Failure, Tool, stop};

/// How long a fault that passes is borne.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same of an API server that nobody answers for: one that was stopped is to be told soon.
const REFUSED: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(250);

/// Texts of faults that pass by themselves.
const PASSING: [(&str, Duration); 6] = [
    ("failed calling webhook", PATIENCE),
    ("etcdserver:", PATIENCE),
    ("the server is currently unable to handle the request", PATIENCE),
    ("the object has been modified", PATIENCE),
    ("connect: connection refused", REFUSED),
    ("was refused - did you specify the right host", REFUSED),
];

/// The namespace is not gone yet.
const TERMINATING: &str = "because it is being terminated";

/// How the API server refuses a change for ever.
const IMMUTABLE: [&str; 6] = [
    "immutable",
    "Forbidden: updates to",
    "Forbidden: pod updates may not change",
    "cannot change roleRef",
    "may not be changed",
    "may not change once set",
];

/// Kinds that are never deleted to be made anew: others' objects, data or running pods' rights
/// would go with them.
const HOLDS_MORE: [&str; 5] = [
    "CustomResourceDefinition",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ServiceAccount",
];

/// Whether an object may be deleted to be made anew.
pub fn can_be_made_anew(object: &ObjectRef) -> bool {
    !HOLDS_MORE.contains(&&*object.kind)
}

/// How a step is applied.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// The cluster was there before: what does not roll out by itself is made anew.
    pub again: bool,
    /// What others have changed, and is made anew.
    pub anew: &'a [ObjectRef],
    /// What is noted in pod templates.
    pub notes: Notes<'a>,
    /// On a cluster that others run, too: what there is the run's.
    pub own: Option<&'a Own>,
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Applied {
    /// As the API serves them.
    pub objects: Vec<Value>,
    /// What had to be made anew, since it cannot be changed.
    pub made_anew: Vec<ObjectRef>,
}

/// Applies a step's objects.
pub fn apply(
    rendered: &Rendered,
    how: How<'_>,
    kubectl: &Tool,
    log: &Path,
) -> anyhow::Result<Applied> {
    let what = || format!("failed to apply step `{}`", rendered.step);
    let documents = how.notes.write(&rendered.documents, kubectl).with_context(what)?;
    let mut call = Call { kubectl, how, log, made_anew: Vec::new() };
    let (crds, others): (Vec<&Document>, Vec<&Document>) =
        documents.iter().partition(|document| document.object.kind == "CustomResourceDefinition");
    if how.again {
        let stays = |one: &&&Document| one.template.as_ref().is_some_and(|one| !one.rolls_out);
        let stays = others.iter().filter(stays).map(|one| &one.object);
        call.delete(stays).with_context(what)?;
    }
    call.delete(how.anew.iter()).with_context(what)?;
    let mut objects = Vec::new();
    if !crds.is_empty() {
        objects.extend(call.apply(&crds).with_context(what)?);
        call.served(&objects).with_context(what)?;
    }
    call.run(&hooks::due(&rendered.hooks, When::Before)).with_context(what)?;
    if !others.is_empty() {
        objects.extend(call.apply(&others).with_context(what)?);
    }
    call.run(&hooks::due(&rendered.hooks, When::After)).with_context(what)?;
    Ok(Applied { objects, made_anew: call.made_anew })
}

struct Call<'a> {
    kubectl: &'a Tool,
    how: How<'a>,
    log: &'a Path,
    made_anew: Vec<ObjectRef>,
}

impl Call<'_> {
    fn apply(&mut self, documents: &[&Document]) -> anyhow::Result<Vec<Value>> {
        let Some(own) = self.how.own else { return self.apply_all(documents) };
        let shared = |one: &&&Document| is_shared(&one.object);
        let (shared, mut mine): (Vec<&Document>, Vec<&Document>) =
            documents.iter().partition(shared);
        if !mine.is_empty() {
            others::refuse(self.kubectl, &mine, &join(&mine))?;
        }
        let mut objects = Vec::new();
        for document in shared {
            match others::settled(self.kubectl, own, document)? {
                Some(live) => objects.push(live),
                None => mine.insert(0, document),
            }
        }
        if !mine.is_empty() {
            objects.extend(self.apply_all(&mine)?);
        }
        Ok(objects)
    }

    fn apply_all(&mut self, documents: &[&Document]) -> anyhow::Result<Vec<Value>> {
        let manifest = join(documents);
        let begun = Instant::now();
        loop {
            let failure = match self.apply_once(&manifest) {
                Ok(objects) => match objects.iter().find(|one| is_going(one)) {
                    None => return Ok(objects),
                    Some(going) if begun.elapsed() > self.how.limit => return Err(stuck(going)),
                    Some(_) => {
                        stop::pause(PAUSE)?;
                        continue;
                    }
                },
                Err(failure) => failure,
            };
            let objects = documents.iter().map(|document| &document.object);
            let fixed: Vec<&ObjectRef> =
                objects.filter(|object| cannot_change(&failure.tail, object)).collect();
            if !fixed.is_empty() {
                self.make_room(&fixed, failure)?;
            } else if begun.elapsed() < patience(&failure, self.how.limit) {
                stop::pause(PAUSE)?;
            } else {
                return Err(told(failure));
            }
        }
    }

    /// Deletes what cannot be changed to what is asked for, once.
    fn make_room(&mut self, fixed: &[&ObjectRef], failure: Failure) -> anyhow::Result<()> {
        if let Some(kept) = fixed.iter().find(|one| !can_be_made_anew(one)) {
            let hint = format!(
                "{kept} is not made anew, for what else would go with it; delete it yourself, or \
                 the cluster: `cargo xtask cluster down`"
            );
            return Err(told(failure).context(format!("{kept} cannot be changed so")).hint(hint));
        }
        if fixed.iter().any(|one| self.made_anew.contains(one)) {
            return Err(told(failure));
        }
        self.delete(fixed.iter().copied())?;
        self.made_anew.extend(fixed.iter().copied().cloned());
        Ok(())
    }

    fn apply_once(&self, manifest: &str) -> Result<Vec<Value>, Failure> {
        let text = self
            .kubectl
            .clone()
            .args(["apply", "--server-side", "-o", "json", "--show-managed-fields"])
            .args(self.how.own.is_none().then_some("--force-conflicts"))
            .args(["--field-manager", FIELD_MANAGER, "-f", "-"])
            .input(manifest)
            .limit(self.how.limit)
            .read()?;
        Ok(items(&text))
    }

    fn delete<'a>(&self, objects: impl Iterator<Item = &'a ObjectRef>) -> anyhow::Result<()> {
        for object in objects {
            self.kubectl
                .clone()
                .args(["delete", "--ignore-not-found", "--cascade=foreground"])
                .arg(object.resource())
                .arg(&object.name)
                .args(object.namespace.iter().flat_map(|name| ["--namespace", name]))
                .log(self.log)
                .limit(self.how.limit)
                .run()?;
        }
        Ok(())
    }

    /// Runs a chart's hooks, one after the other.
    fn run(&mut self, hooks: &[&Hook]) -> anyhow::Result<()> {
        for Hook { document, goes_when_failed, .. } in hooks {
            let object = &document.object;
            let ended = self
                .delete(std::iter::once(object))
                .and_then(|()| self.apply(&[document]))
                .and_then(|applied| self.end(object, &applied));
            if let Err(error) = ended {
                if *goes_when_failed {
                    self.delete(std::iter::once(object)).ok();
                }
                return Err(error.context(format!("failed to run the chart's hook {object}")));
            }
        }
        let done = hooks.iter().filter(|hook| hook.goes_when_done);
        self.delete(done.map(|hook| &hook.document.object))
    }

    /// Waits until a Job or a Pod has ended well; anything else is done once it is there.
    fn end(&self, object: &ObjectRef, applied: &[Value]) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut seen = applied.to_vec();
        loop {
            match seen.iter().find_map(course) {
                None | Some(Course::Well) => return Ok(()),
                Some(Course::Badly(why)) => bail!("{object} failed: {why}"),
                Some(Course::UnderWay) if begun.elapsed() > self.how.limit => {
                    bail!("{object} has not ended within {} s", self.how.limit.as_secs());
                }
                Some(Course::UnderWay) => stop::pause(PAUSE)?,
            }
            let get = self.kubectl.clone().args(["get", "-o", "json"]).arg(object.resource());
            let get = get.arg(&object.name);
            let get = get.args(object.namespace.iter().flat_map(|name| ["--namespace", name]));
            seen = items(&get.limit(self.how.limit).read()?);
        }
    }

    /// Waits until CRDs are Established and their kinds are in the API's discovery.
    fn served(&self, crds: &[Value]) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut left: Vec<&Value> = crds.iter().collect();
        while let Some(crd) = left.first() {
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            if self.is_served(crd)? {
                left.remove(0);
            } else if begun.elapsed() > self.how.limit {
                bail!("`{name}` was not Established within {} s", self.how.limit.as_secs());
            } else {
                stop::pause(PAUSE)?;
            }
        }
        Ok(())
    }

    fn is_served(&self, crd: &Value) -> anyhow::Result<bool> {
        let name = crd["metadata"]["name"].as_str().unwrap_or_default();
        let text = self
            .kubectl
            .clone()
            .args(["get", "customresourcedefinition", name, "-o", "json"])
            .limit(self.how.limit)
            .read()?;
        if !verdict::established(&serde_json::from_str(&text)?)? {
            return Ok(false);
        }
        let (group, plural) = (&crd["spec"]["group"], &crd["spec"]["names"]["plural"]);
        for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
            let path = format!(
                "/apis/{}/{}",
                group.as_str().unwrap_or_default(),
                version["name"].as_str().unwrap_or_default()
            );
            let asked =
                self.kubectl.clone().args(["get", "--raw", &path]).limit(self.how.limit).read();
            let list: Value = serde_json::from_str(&asked.unwrap_or_default()).unwrap_or_default();
            let mut resources = list["resources"].as_array().into_iter().flatten();
            if version["served"] == true && !resources.any(|one| one["name"] == *plural) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The objects kubectl printed: one, or a List of them.
pub(super) fn items(text: &str) -> Vec<Value> {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ if value.is_object() => vec![value],
        _ => Vec::new(),
    }
}

/// What the API server said before the command that it was said to.
fn told(failure: Failure) -> anyhow::Error {
    let Some(said) = failure.tail.iter().find(|line| line.to_lowercase().contains("error")) else {
        return failure.into();
    };
    let said = said.trim_start_matches("error: ").to_owned();
    if failure.tail.iter().any(|line| line.contains("no matches for kind")) {
        let hint = "let it need the step that applies its CustomResourceDefinition";
        return anyhow::Error::new(failure).context(said).hint(hint);
    }
    anyhow::Error::new(failure).context(said)
}

/// How what runs to its end is doing.
enum Course {
    UnderWay,
    Well,
    Badly(String),
}

/// None of an object that has no end.
fn course(object: &Value) -> Option<Course> {
    let failed = |one: &Value| {
        format!("{} {}", verdict::text(&one["reason"]), verdict::text(&one["message"]))
    };
    match verdict::text(&object["kind"]) {
        "Job" => Some(match verdict::condition(object, "Failed") {
            Some(one) if one["status"] == "True" => Course::Badly(failed(one)),
            _ if verdict::is_true(object, "Complete") => Course::Well,
            _ => Course::UnderWay,
        }),
        "Pod" => Some(match verdict::text(&object["status"]["phase"]) {
            "Succeeded" => Course::Well,
            "Failed" => Course::Badly(failed(&object["status"])),
            _ => Course::UnderWay,
        }),
        _ => None,
    }
}

/// Whether the server refused to change an object, and will for ever. What it says of one begins
/// with its name, with the group or without it, and may be several lines.
fn cannot_change(tail: &[String], object: &ObjectRef) -> bool {
    let ObjectRef { kind, name, .. } = object;
    let titles = [
        format!(" {kind} \"{name}\" is invalid"),
        format!(" {kind}.{} \"{name}\" is invalid", object.group()),
    ];
    let is_title = |line: &str| titles.iter().any(|title| line.contains(title));
    let mut lines = tail.iter().skip_while(|line| !is_title(line));
    let first = lines.next().into_iter();
    let rest = lines.take_while(|line| !line.contains("\" is invalid"));
    first.chain(rest).any(|line| IMMUTABLE.iter().any(|said| line.contains(said)))
}

fn is_going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn stuck(object: &Value) -> anyhow::Error {
    let name = ObjectRef::of(object).map(|object| object.to_string()).unwrap_or_default();
    let finalizers = &object["metadata"]["finalizers"];
    anyhow!("`{name}` is being deleted and does not go; its finalizers: {finalizers}")
}

fn patience(failure: &Failure, limit: Duration) -> Duration {
    let said = |text: &str| failure.tail.iter().any(|line| line.contains(text));
    if said(TERMINATING) {
        return limit;
    }
    let passing = PASSING.iter().find(|(text, _)| said(text));
    passing.map_or(Duration::ZERO, |(_, patience)| *patience)
}

#[cfg(test)]
mod tests {
    use super::super::object::tests::object;
    use super::*;

    #[test]
    fn what_kubectl_printed_is_nothing_one_object_or_a_list() {
        for (text, count) in [
            ("", 0),
            (r#"{"kind": "Namespace"}"#, 1),
            (r#"{"kind": "List", "items": []}"#, 0),
            (r#"{"kind": "List", "items": [{"kind": "Pod"}, {"kind": "Job"}]}"#, 2),
        ] {
            assert_eq!(items(text).len(), count, "{text}");
        }
    }

    /// As Kubernetes 1.34 and kubectl 1.32 say it.
    #[test]
    fn what_the_server_refuses_for_ever_is_known_by_its_words() {
        let (deployment, service) = ("apps/v1 Deployment n web", "v1 Service n web");
        let replicas = "spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        let selector = "spec.selector: Invalid value: {}: field is immutable";
        let address = "spec.clusterIPs[0]: Invalid value: [\"10.0.0.9\"]: may not change once set";
        let of_set = "spec: Forbidden: updates to statefulset spec for fields other than …";
        let of_pod = "spec: Forbidden: pod updates may not change fields other than …";
        let of_map = "data: Forbidden: field is immutable when `immutable` is set";
        let of_role = "roleRef: Invalid value: {}: cannot change roleRef";
        let of_class = "value: Forbidden: may not be changed in an update.";
        let role = "RoleBinding.rbac.authorization.k8s.io";
        for (name, said, object_of, fixed) in [
            ("Job", selector, "batch/v1 Job n web", true),
            ("StatefulSet.apps", of_set, "apps/v1 StatefulSet n web", true),
            ("Deployment.apps", selector, deployment, true),
            (role, of_role, "rbac.authorization.k8s.io/v1 RoleBinding n web", true),
            ("ConfigMap", of_map, "v1 ConfigMap n web", true),
            ("Service", address, service, true),
            ("Pod", of_pod, "v1 Pod n web", true),
            ("PriorityClass", of_class, "scheduling.k8s.io/v1 PriorityClass - web", true),
            ("Deployment.apps", replicas, deployment, false),
            ("Deployment.apps", selector, "apps/v1 Deployment n other", false),
            ("Service", address, deployment, false),
        ] {
            let next =
                "Error from server (Invalid): Secret \"other\" is invalid: type: … immutable";
            for tail in [
                vec![format!("Error from server (Invalid): {name} \"web\" is invalid: {said}")],
                vec![format!("The {name} \"web\" is invalid: "), format!("* {said}")],
                vec![format!("The {name} \"web\" is invalid: {said}"), next.to_owned()],
            ] {
                assert_eq!(cannot_change(&tail, &object(object_of)), fixed, "{tail:?}");
            }
        }
    }
}
