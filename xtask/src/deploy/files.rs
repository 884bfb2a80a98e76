//! A Secret or `ConfigMap` made of files, as `kubectl create` makes them.
//!
//! A secret's values pass from the file through this process to the API server, and nowhere else:
//! no log, event or record holds them, and a digest only with a key ([`super::digest`]). Whether a
//! kept cluster still has them is asked of the cluster itself: [`super::Kept`] compares its data
//! with the files' in memory.

use std::io::Read as _;
use std::path::Path;
use std::string::FromUtf8Error;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::digest;
use super::object::ObjectRef;
use super::render::{Document, Private, Rendered};
use crate::config::{FilesKind, FromFiles};

/// The API server takes no object that is larger.
const LARGEST: u64 = 1 << 20;

/// The object without its data, which may lie in files that are not there yet.
pub fn outline(step: &str, made: &FromFiles) -> Rendered {
    let object = object(made);
    let document =
        Document { object, text: String::new(), template: None, content: None, private: None };
    rendered(step, document)
}

/// The object with the files' data.
pub fn from_files(step: &str, made: &FromFiles) -> anyhow::Result<Rendered> {
    let what = || format!("failed to make {} of its files", object(made));
    let (mut value, data) = filled(made).with_context(what)?;
    let mut whole = value.clone();
    merge(&mut whole, data.clone());
    let content = digest::content(&whole);
    let private = match made.kind {
        FilesKind::ConfigMap => None,
        FilesKind::Secret { .. } => {
            value["data"] = Value::Null;
            Some(Private { outline: value.to_string(), data: data["data"].clone() })
        }
    };
    let (object, text) = (object(made), serde_json::to_string_pretty(&whole)? + "\n");
    Ok(rendered(step, Document { object, text, template: None, content, private }))
}

/// The object, and what the files put into it.
fn filled(made: &FromFiles) -> anyhow::Result<(Value, Value)> {
    let ObjectRef { api_version, kind, name, namespace } = object(made);
    let mut value = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    if let FilesKind::Secret { kind: Some(kind) } = &made.kind {
        value["type"] = json!(kind);
    }
    let (mut data, mut binary, mut left) = (Map::new(), Map::new(), LARGEST);
    for (key, file) in &made.files {
        let bytes = read(file, left)?;
        left -= bytes.len() as u64;
        let text = match made.kind {
            FilesKind::Secret { .. } => Err(bytes),
            FilesKind::ConfigMap => String::from_utf8(bytes).map_err(FromUtf8Error::into_bytes),
        };
        match (text, &made.kind) {
            (Ok(text), _) => data.insert(key.clone(), json!(text)),
            (Err(bytes), FilesKind::Secret { .. }) => {
                data.insert(key.clone(), json!(STANDARD.encode(bytes)))
            }
            (Err(bytes), FilesKind::ConfigMap) => {
                binary.insert(key.clone(), json!(STANDARD.encode(bytes)))
            }
        };
    }
    let mut filled = Map::new();
    for (name, fields) in [("data", data), ("binaryData", binary)] {
        if !fields.is_empty() {
            filled.insert(name.to_owned(), Value::Object(fields));
        }
    }
    Ok((value, Value::Object(filled)))
}

fn read(file: &Path, left: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ensure!(fs_err::metadata(file)?.is_file(), "`{}` is not a file", file.display());
    fs_err::File::open(file)?.take(left + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= left,
        "`{}` is more than the 1 MiB an object may have",
        file.display()
    );
    Ok(bytes)
}

fn merge(value: &mut Value, fields: Value) {
    if let (Value::Object(value), Value::Object(fields)) = (value, fields) {
        value.extend(fields);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: FilesKind, contents: &[(&str, &[u8])]) -> (tempfile::TempDir, FromFiles) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(key, bytes): &(&str, &[u8])| {
            let file = folder.path().join(key);
            fs_err::write(&file, bytes).unwrap();
            ((*key).to_owned(), file)
        };
        let files = contents.iter().map(write).collect();
        let made = FromFiles { kind, name: "n".into(), namespace: "ns".into(), files };
        (folder, made)
    }

    #[test]
    fn a_secret_is_what_kubectl_makes_of_the_files() {
        let kind = FilesKind::Secret { kind: Some("kubernetes.io/tls".to_owned()) };
        let (_folder, made) = made(kind, &[("tls.key", b"\xff\x00secret"), ("tls.crt", b"")]);
        let mut rendered = from_files("s", &made).unwrap();
        let document = rendered.documents.pop().unwrap();
        let value: Value = serde_json::from_str(&document.text).unwrap();
        let data = json!({"tls.key": "/wBzZWNyZXQ=", "tls.crt": ""});
        assert_eq!(
            value,
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                   "metadata": {"name": "n", "namespace": "ns"}, "data": data})
        );
        let private = document.private.unwrap();
        assert!(private.is_in(&json!({"data": data})) && !private.is_in(&json!({"data": {}})));
        assert!(!private.outline.contains("/wBz"), "{}", private.outline);
    }

    #[test]
    fn a_config_map_has_text_as_text_and_the_rest_encoded() {
        let (_folder, made) =
            made(FilesKind::ConfigMap, &[("a.conf", "ä = 1\n".as_bytes()), ("b.bin", b"\xff")]);
        let rendered = from_files("s", &made).unwrap();
        let value: Value = serde_json::from_str(&rendered.documents[0].text).unwrap();
        assert_eq!(value["data"], json!({"a.conf": "ä = 1\n"}));
        assert_eq!(value["binaryData"], json!({"b.bin": "/w=="}));
        assert!(rendered.documents[0].private.is_none());
    }

    #[test]
    fn what_is_no_file_or_too_large_is_named() {
        let large = vec![b'x'; (1 << 19) + 1];
        let (folder, mut made) = made(FilesKind::ConfigMap, &[("a", &large), ("b", &large)]);
        let error = format!("{:#}", from_files("s", &made).unwrap_err());
        assert!(error.contains("1 MiB"), "{error}");
        made.files = [("d".to_owned(), folder.path().to_owned())].into_iter().collect();
        let error = format!("{:#}", from_files("s", &made).unwrap_err());
        assert!(error.contains("is not a file"), "{error}");
    }
}
