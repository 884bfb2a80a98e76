//! A Secret or `ConfigMap` made of files: what `kubectl create` would make of them.
//!
//! A secret's values pass from the file through this process to the API server, and nowhere else: no
//! log, event, record or digest holds them (the digest of a short password is the password). Whether a
//! kept cluster still has them is asked of the cluster itself: [`super::Kept`] compares its data with
//! the files' in memory.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::object::ObjectRef;
use super::render::{Document, Private, Rendered};
use crate::config::{FilesKind, FromFiles};
use crate::process::Tool;

/// The object without its data, which may lie in files that are not there yet.
pub fn outline(step: &str, made: &FromFiles) -> Rendered {
    let document = Document { object: object(made), text: String::new(), private: None };
    rendered(step, document)
}

/// The object with the files' data.
pub fn from_files(step: &str, made: &FromFiles) -> anyhow::Result<Rendered> {
    let what = || format!("failed to make {} of its files", object(made));
    let text = create(made).limit(Duration::from_secs(15)).read().with_context(what)?;
    let mut value: Value = serde_json::from_str(&text).with_context(what)?;
    let private = match made.kind {
        FilesKind::ConfigMap => None,
        FilesKind::Secret { .. } => {
            let data = value["data"].take();
            Some(Private { outline: value.to_string(), data })
        }
    };
    Ok(rendered(step, Document { object: object(made), text: text + "\n", private }))
}

fn create(made: &FromFiles) -> Tool {
    let kind: &[&str] = match &made.kind {
        FilesKind::Secret { .. } => &["secret", "generic"],
        FilesKind::ConfigMap => &["configmap"],
    };
    let mut tool = Tool::new("kubectl").arg("create").args(kind).args([
        &made.name,
        "--namespace",
        &made.namespace,
        "--dry-run=client",
        "-o",
        "json",
    ]);
    if let FilesKind::Secret { kind: Some(kind) } = &made.kind {
        tool = tool.args(["--type", kind]);
    }
    for (key, file) in &made.files {
        tool = tool.arg(format!("--from-file={key}={}", file.display()));
    }
    tool
}

fn object(made: &FromFiles) -> ObjectRef {
    let kind = match made.kind {
        FilesKind::Secret { .. } => "Secret",
        FilesKind::ConfigMap => "ConfigMap",
    };
    ObjectRef {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some(made.namespace.clone()),
        name: made.name.clone(),
    }
}

fn rendered(step: &str, document: Document) -> Rendered {
    Rendered { documents: vec![document], ..Rendered::nothing(step) }
}

impl Private {
    /// Whether the object the API serves has this very data.
    pub(super) fn is_in(&self, served: &Value) -> bool {
        let empty = json!({});
        let data = |value: &Value| if value.is_null() { empty.clone() } else { value.clone() };
        data(&served["data"]) == data(&self.data)
    }
}
