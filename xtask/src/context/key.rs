//! The key of an image: a hash over everything that can change what its build makes.
//!
//! | in the key | as |
//! | --- | --- |
//! | every input | path, kind, mode ([`super::mode`]), link target, SHA-256 of the bytes |
//! | the Dockerfile | its text as far as the target uses it |
//! | build args | those declared, with the value used; volatile ones left out |
//! | target, platform | as configured |
//! | base images | the id the engine holds; the reference while it holds none |
//! | secrets mounted | their ids and whether they are given, never their values |
//!
//! Not in it: times, owners, the umask of a checkout, where the checkout lies, the order of the
//! walk, the text of the ignore file (what it leaves out is what counts), and what nobody knows
//! without fetching it: the far end of an `ADD https://…` without `--checksum`, what a RUN
//! downloads. The form has a version: a key made by other rules is another key.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Records};

const FORM: &str = "xtask-key-1";

/// The content key of an image: 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub Digest);

impl Key {
    /// The reference the image is tagged with.
    pub fn tag(&self, image: &str) -> String {
        format!("localhost/{image}:{}", &self.to_string()[..16])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key is made of, as it is recorded and compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Over all inputs ([`super::contents::Contents::digest`]).
    pub inputs: String,
    /// Digest of the Dockerfile's text as far as the target uses it.
    pub dockerfile: String,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub platform: Option<String>,
    /// By reference: the id the engine holds, if it holds one.
    pub bases: BTreeMap<String, Option<String>>,
    pub secrets: Vec<String>,
}

impl Parts {
    pub fn key(&self) -> Key {
        let mut records = Records::new(FORM);
        records.add(&[b"inputs", self.inputs.as_bytes()]);
        records.add(&[b"dockerfile", self.dockerfile.as_bytes()]);
        for (name, value) in &self.args {
            records.add(&[b"arg", name.as_bytes(), value.as_bytes()]);
        }
        for (name, value) in [("target", &self.target), ("platform", &self.platform)] {
            if let Some(value) = value {
                records.add(&[name.as_bytes(), value.as_bytes()]);
            }
        }
        for (reference, id) in &self.bases {
            match id {
                Some(id) => records.add(&[b"base", reference.as_bytes(), id.as_bytes()]),
                None => records.add(&[b"base", reference.as_bytes()]),
            }
        }
        for secret in &self.secrets {
            records.add(&[b"secret", secret.as_bytes()]);
        }
        Key(records.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts {
            inputs: "i".into(),
            dockerfile: "d".into(),
            args: [("A".to_owned(), "1".to_owned())].into(),
            bases: [("debian".to_owned(), Some("id".to_owned()))].into(),
            secrets: vec!["token".into()],
            ..Parts::default()
        }
    }

    #[test]
    fn every_part_counts() {
        let changes: [fn(&mut Parts); 9] = [
            |parts| parts.inputs = "j".into(),
            |parts| parts.dockerfile = "e".into(),
            |parts| drop(parts.args.insert("A".into(), "2".into())),
            |parts| drop(parts.args.insert("B".into(), String::new())),
            |parts| parts.target = Some(String::new()),
            |parts| parts.platform = Some("linux/arm64".into()),
            |parts| drop(parts.bases.insert("debian".into(), Some("other".into()))),
            |parts| drop(parts.bases.insert("debian".into(), None)),
            |parts| parts.secrets.clear(),
        ];
        let mut keys = vec![parts().key()];
        for change in changes {
            let mut parts = parts();
            change(&mut parts);
            assert!(!keys.contains(&parts.key()));
            keys.push(parts.key());
        }
    }

    #[test]
    fn the_tag_is_the_first_half_of_a_half() {
        let key = parts().key();
        assert_eq!(key.to_string().len(), 64);
        assert_eq!(key.tag("api"), format!("localhost/api:{}", &key.to_string()[..16]));
    }
}
