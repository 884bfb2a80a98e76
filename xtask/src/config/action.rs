//! What a step does: exactly one of these keys.
//!
//! | key | value |
//! | --- | --- |
//! | `apply` | a folder or file of manifests |
//! | `helm` | `{ chart, release, namespace, values = […] }`: a chart, rendered and applied |
//! | `secret` | `{ name, namespace, type, files = { KEY = FILE } }` |
//! | `configmap` | `{ name, namespace, files = { KEY = FILE } }` |
//! | `run` | a command, word by word; never a shell |
//!
//! Files of a Secret or `ConfigMap` need not be there when the configuration is read: a `run` step
//! before it may make them.

use std::path::PathBuf;

use super::check;
use super::document::At;
use super::table::Table;
use super::{Action, Chart, FilesKind, FromFiles};

const FORMS: [&str; 5] = ["apply", "helm", "secret", "configmap", "run"];

pub(super) fn action(step: &mut Table<'_>) -> Action {
    let apply = step.path("apply");
    let helm = step.table("helm", step.qualified("helm")).map(chart);
    let secret = step.table("secret", step.qualified("secret")).map(secret);
    let map = step.table("configmap", step.qualified("configmap"));
    let map = map.map(|table| from_files(table, FilesKind::ConfigMap));
    let run = command(step, "run");
    if FORMS.iter().filter(|key| step.has(key)).count() != 1 {
        let hint = "`apply` names manifests, `helm` a chart, `run` a command; `secret` and \
                    `configmap` are made of files"
            .to_owned();
        let forms = FORMS.map(|key| format!("`{key}`")).join(", ");
        step.missing(&format!("exactly one of {forms} is needed"), Some(hint));
    }
    apply
        .inspect(|path| check::exists(step, "apply", path))
        .map(|path| Action::Apply(path.value))
        .or(helm.map(Action::Helm))
        .or(secret.or(map).map(Action::FromFiles))
        .unwrap_or_else(|| Action::Run(run.unwrap_or_default()))
}

/// A program and its arguments.
pub(super) fn command(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let words = table.filled(key, "write it like [\"cargo\", \"test\"]")?;
    Some(words.into_iter().map(|word| word.value.to_owned()).collect())
}

fn chart(mut table: Table<'_>) -> Chart {
    let path = required_path(&mut table, "chart");
    if let Some(path) = &path {
        check::exists(&table, "chart", path);
    }
    let chart = Chart {
        path: path.map(|path| path.value).unwrap_or_default(),
        release: text(&mut table, "release"),
        namespace: text(&mut table, "namespace"),
        values: values(&mut table),
    };
    table.end();
    chart
}

fn values(table: &mut Table<'_>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in table.set("values").unwrap_or_default() {
        let path = At { value: table.absolute(file.value), place: file.place };
        check::is_file(table, "values", &path);
        files.push(path.value);
    }
    files
}

fn secret(mut table: Table<'_>) -> FromFiles {
    let kind = table.string("type").map(|kind| kind.value.to_owned());
    from_files(table, FilesKind::Secret { kind })
}

fn from_files(mut table: Table<'_>, kind: FilesKind) -> FromFiles {
    if !table.has("files") {
        let hint = "write it like files = { \"tls.crt\" = \"target/tls.crt\" }".to_owned();
        table.missing("missing key `files`", Some(hint));
    }
    let files = table.map("files");
    for (key, file) in &files {
        check::data_key(&table, key, &file.place);
    }
    let files = files.into_iter().map(|(key, file)| (key.to_owned(), table.absolute(file.value)));
    let made = FromFiles {
        kind,
        files: files.collect(),
        name: text(&mut table, "name"),
        namespace: text(&mut table, "namespace"),
    };
    table.end();
    made
}

/// A string that has to be there; an empty one was reported and never leaves.
fn text(table: &mut Table<'_>, key: &'static str) -> String {
    table.required(key).map(|text| text.value.to_owned()).unwrap_or_default()
}

fn required_path(table: &mut Table<'_>, key: &'static str) -> Option<At<PathBuf>> {
    if !table.has(key) {
        table.missing(&format!("missing key `{key}`"), None);
    }
    table.path(key)
}
