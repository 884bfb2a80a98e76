//! Server-side apply.
//!
//! | trap | answer |
//! | --- | --- |
//! | fields set by an earlier client-side apply conflict | `--force-conflicts`: the run's manifests win |
//! | a custom resource beside its CRD: "no matches for kind" | CRDs go first and are waited for until they are Established *and* in the API's discovery |
//! | the pod template of a Job cannot be changed | the Job is deleted and made anew |
//! | a webhook that is still starting, a server that is busy | tried again for [`PATIENCE`] |
//! | a cluster that is not ours | nothing is forced, and what somebody else made is refused: objects, and objects in their namespaces; what all share by name is used as it is |

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::object::ObjectRef;
use super::own::{Own, is_shared};
use super::render::{Document, Rendered, join};
use super::{FIELD_MANAGER, others, verdict};
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

/// How a step is applied.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// Jobs that have run are run again: what they worked on may be gone.
    pub rerun_jobs: bool,
    /// On a cluster that others run, too: what there is the run's.
    pub own: Option<&'a Own>,
    pub limit: Duration,
}

/// Applies a step's objects and gives them back as the API serves them.
pub fn apply(
    rendered: &Rendered,
    how: How<'_>,
    kubectl: &Tool,
    log: &Path,
) -> anyhow::Result<Vec<Value>> {
    let call = Call { kubectl, how, log };
    let (crds, others): (Vec<&Document>, Vec<&Document>) = rendered
        .documents
        .iter()
        .partition(|document| document.object.kind == "CustomResourceDefinition");
    let what = || format!("failed to apply step `{}`", rendered.step);
    if how.rerun_jobs {
        call.delete(others.iter().map(|one| &one.object).filter(|object| object.kind == "Job"))
            .with_context(what)?;
    }
    let mut objects = Vec::new();
    if !crds.is_empty() {
        objects.extend(call.apply(&crds).with_context(what)?);
        call.served(&objects).with_context(what)?;
    }
    if !others.is_empty() {
        objects.extend(call.apply(&others).with_context(what)?);
    }
    Ok(objects)
}

struct Call<'a> {
    kubectl: &'a Tool,
    how: How<'a>,
    log: &'a Path,
}

impl Call<'_> {
    fn apply(&self, documents: &[&Document]) -> anyhow::Result<Vec<Value>> {
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

    fn apply_all(&self, documents: &[&Document]) -> anyhow::Result<Vec<Value>> {
        let manifest = join(documents);
        let begun = Instant::now();
        loop {
            let failure = match self.apply_once(&manifest) {
                Ok(objects) => return Ok(objects),
                Err(failure) => failure,
            };
            let immutable: Vec<&ObjectRef> = documents
                .iter()
                .map(|document| &document.object)
                .filter(|object| object.kind == "Job" && cannot_change(&failure, &object.name))
                .collect();
            if !immutable.is_empty() {
                self.delete(immutable.into_iter())?;
            } else if begun.elapsed() < patience(&failure) {
                stop::pause(PAUSE)?;
            } else {
                return Err(told(failure));
            }
        }
    }

    fn apply_once(&self, manifest: &str) -> Result<Vec<Value>, Failure> {
        let text = self
            .kubectl
            .clone()
            .args(["apply", "--server-side", "-o", "json"])
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
        let hint = "hint: let it need the step that applies its CustomResourceDefinition";
        return anyhow::Error::new(failure).context(format!("{said}\n{hint}"));
    }
    anyhow::Error::new(failure).context(said)
}

fn cannot_change(failure: &Failure, job: &str) -> bool {
    let name = format!("The Job \"{job}\" is invalid");
    failure.tail.iter().any(|line| line.contains(&name) && line.contains("field is immutable"))
}

fn patience(failure: &Failure) -> Duration {
    let said = |text: &str| failure.tail.iter().any(|line| line.contains(text));
    let passing = PASSING.iter().find(|(text, _)| said(text));
    passing.map_or(Duration::ZERO, |(_, patience)| *patience)
}

#[cfg(test)]
mod tests {
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
}
