//! Digests of what `ConfigMaps` and Secrets hold.
//!
//! They are noted in pod templates, where anybody who may read pods sees them, and a plain digest
//! of a short password is the password. So a random key of the checkout's own goes into each:
//! without it, nothing can be tried out. It is kept, so that equal contents have equal digests in
//! the next run and on the next cluster; lost, it costs one restart of each pod that reads.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::private::PrivatePath;

/// The key's length in bytes.
const LENGTH: usize = 32;

/// What a `ConfigMap` or Secret holds, as the API would serve it; none of any other object.
pub(super) fn content(object: &Value) -> Option<Value> {
    let fields = |name: &str| object[name].as_object().cloned().unwrap_or_default();
    match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("v1", "ConfigMap") => Some(json!([fields("data"), fields("binaryData")])),
        ("v1", "Secret") => {
            let dense = |text: &str| text.split_whitespace().collect::<String>();
            let data = fields("data").into_iter().map(|(key, value)| {
                let value = value.as_str().map(|text| json!(dense(text)));
                (key, value.unwrap_or_default())
            });
            let clear = fields("stringData").into_iter().map(|(key, value)| {
                (key, json!(STANDARD.encode(value.as_str().unwrap_or_default())))
            });
            Some(Value::Object(data.chain(clear).collect::<Map<_, _>>()))
        }
        _ => None,
    }
}

/// Half of a SHA-256 over the key in `file` and the content.
pub(super) fn digest(content: &Value, file: &PrivatePath) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(key(file)?);
    hasher.update(content.to_string());
    Ok(hex::encode(&hasher.finalize()[..LENGTH / 2]))
}

/// The key; made if it is not there.
fn key(file: &PrivatePath) -> anyhow::Result<Vec<u8>> {
    let read = || file.read(LENGTH as u64).ok().filter(|key| key.len() == LENGTH);
    if let Some(key) = read() {
        return Ok(key);
    }
    let what = || format!("failed to make the key `{}`", file.display());
    let mut fresh = vec![0; LENGTH];
    getrandom::fill(&mut fresh).with_context(what)?;
    if !file.write_new(&fresh)? {
        if let Some(key) = read() {
            return Ok(key);
        }
        // What lies there is no key.
        file.write(&fresh)?;
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_have_equal_digests_however_they_are_written() {
        let secret = |fields: Value| {
            let mut secret =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
            secret.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            content(&secret).unwrap()
        };
        let served = secret(json!({"data": {"password": "aHVudGVyMg=="}, "type": "Opaque"}));
        assert_eq!(served, secret(json!({"stringData": {"password": "hunter2"}})));
        assert_eq!(served, secret(json!({"data": {"password": "aHVu\n  dGVyMg==\n"}})));
        assert_ne!(served, secret(json!({"stringData": {"password": "hunter3"}})));
        assert_ne!(served, secret(json!({"stringData": {"other": "hunter2"}})));
        let map = |data: Value| {
            content(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data})).unwrap()
        };
        assert_ne!(map(json!({"a": "1"})), map(json!({"a": "2"})));
        assert_eq!(map(json!({})), map(Value::Null));
        assert!(content(&json!({"apiVersion": "v1", "kind": "Service"})).is_none());
    }

    #[test]
    fn a_digest_cannot_be_tried_out_without_the_key_of_the_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| PrivatePath::below(folder.path(), name);
        let (one, two) = (at("state/one"), at("state/two"));
        let content = json!({"password": "aHVudGVyMg=="});
        let digest = |file| digest(&content, file).unwrap();
        assert_eq!(digest(&one), digest(&one));
        assert_ne!(digest(&one), digest(&two));
        fs_err::write(&two, "no key").unwrap();
        assert_eq!(digest(&two), digest(&two));
    }
}
