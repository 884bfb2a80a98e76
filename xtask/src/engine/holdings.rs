//! What an engine holds of the images a run cares for: one question, whatever the number of images.
//!
//! podman's store is read where it lies here ([`super::store`]); what that leaves open, and every
//! other engine, gets one `image inspect` of all names. That answers for those present, complains
//! about the missing ones and exits with an error: what it printed counts.

use crate::private::PrivatePath;
use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use crate::error::{ErrorExt as _, Exit};
use crate::process::{Ending, Stream};
use crate::reference::Reference;

use super::history;
use super::inspect::Inspected;
use super::{ANSWER, Client, Engine, Facts, store};

/// An image as the engine holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// 64 hex digits: the SHA-256 of the image's configuration.
    pub id: String,
    /// Without a key it has inherited.
    pub labels: BTreeMap<String, String>,
    /// Bytes of its layers, those in common with other images counted too.
    pub size: u64,
    /// None if the engine was asked and does not say all of it.
    pub inherited: Option<Inherited>,
}

/// What an image hands to those built on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    pub env: Vec<(String, String)>,
    pub onbuild: Vec<String>,
}

impl Inherited {
    /// From an image's configuration: `NAME=VALUE`, and instructions as they were written.
    pub(super) fn new(env: Option<Vec<String>>, onbuild: Vec<String>) -> Self {
        let pair = |pair: String| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair, String::new()),
        };
        let env = env.unwrap_or_default().into_iter().map(pair).collect();
        Self { env, onbuild }
    }
}

/// What is there of what was asked for; what is missing is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalImages {
    pub tags: BTreeMap<String, ImageInfo>,
    /// By reference, as written in a Dockerfile.
    pub bases: BTreeMap<String, ImageInfo>,
}

impl Engine {
    /// Which of `tags` and `bases` are there, with ids, labels and sizes. `scratch` is nothing to
    /// hold.
    pub fn look_up(
        &self,
        facts: Option<&Facts>,
        tags: &[String],
        bases: &[String],
    ) -> anyhow::Result<LocalImages> {
        let mut holdings = LocalImages::default();
        let mut open: Vec<&str> = tags
            .iter()
            .chain(bases)
            .map(String::as_str)
            .filter(|name| *name != "scratch")
            .collect();
        open.sort_unstable();
        open.dedup();
        let mut found = BTreeMap::new();
        if let Some(facts) = facts {
            open = store::read(facts, &open, &mut found);
        }
        if !open.is_empty() {
            self.look_up_named(&open, &mut found)?;
        }
        for tag in tags {
            if let Some(held) = found.get(tag.as_str()) {
                holdings.tags.insert(tag.clone(), held.clone());
            }
        }
        for base in bases {
            if let Some(held) = found.get(base.as_str()) {
                holdings.bases.insert(base.clone(), held.clone());
            }
        }
        Ok(holdings)
    }

    /// What can be told of `bases` without starting a process: what podman's store says, if its
    /// facts are in the file `cache`.
    pub fn look_up_silently(
        &self,
        cache: &PrivatePath,
        bases: &[String],
    ) -> BTreeMap<String, ImageInfo> {
        let mut found = BTreeMap::new();
        if let Some(facts) = self.kept_facts(cache) {
            let names: Vec<&str> = bases.iter().map(String::as_str).collect();
            store::read(&facts, &names, &mut found);
        }
        found.into_iter().map(|(name, held)| (name.to_owned(), held)).collect()
    }

    /// One question for all names.
    fn look_up_named<'a>(
        &self,
        names: &[&'a str],
        found: &mut BTreeMap<&'a str, ImageInfo>,
    ) -> anyhow::Result<()> {
        let mut complaints = Vec::new();
        let asked =
            self.tool().args(["image", "inspect"]).args(names.iter().copied()).limit(ANSWER);
        let (stdout, end) = asked.capture(|stream, line| {
            if stream == Stream::Stderr {
                complaints.push(String::from_utf8_lossy(line).to_lowercase());
            }
        });
        if let Err(failure) = end
            && !(matches!(failure.ending, Ending::Code(_)) && only_missing(&complaints))
        {
            return Err(failure)
                .context("failed to ask which images are there")
                .hint(self.is_it_there())
                .exit(Exit::Environment);
        }
        let images: Vec<Inspected> = serde_json::from_slice(&stdout)
            .with_context(|| {
                format!("failed to read the answer of `{} image inspect`", self.name())
            })
            .hint(self.is_it_there())?;
        if images.len() > names.len() {
            bail!(
                "failed to read the answer of `{} image inspect`: more images than names",
                self.name()
            );
        }
        self.assign(names, images, found)
    }

    /// Which image answers to which name. Where the names printed leave it open, that one name is
    /// asked alone.
    fn assign<'a>(
        &self,
        names: &[&'a str],
        images: Vec<Inspected>,
        found: &mut BTreeMap<&'a str, ImageInfo>,
    ) -> anyhow::Result<()> {
        if let ([name], [_]) = (names, images.as_slice()) {
            found.extend(images.into_iter().map(|image| (*name, image.held())));
            return Ok(());
        }
        for name in names {
            let matching: Vec<&Inspected> =
                images.iter().filter(|image| image.answers_to(name, self.client)).collect();
            match matching.as_slice() {
                [image, rest @ ..] if rest.iter().all(|other| other.id == image.id) => {
                    found.insert(name, image.held());
                }
                [] if images.iter().all(Inspected::is_named) && Reference::parse(name).has_host => {
                }
                [] if images.is_empty() => {}
                _ => self.look_up_named(&[name], found)?,
            }
        }
        Ok(())
    }
}

impl Inspected {
    fn held(&self) -> ImageInfo {
        let inherited = self
            .config
            .as_ref()
            .and_then(|config| Some(Inherited::new(config.env.clone(), config.on_build.clone()?)));
        ImageInfo {
            id: self.plain_id(),
            labels: history::own(self.labels(), self.history.as_deref().unwrap_or_default()),
            size: self.size,
            inherited,
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.repo_tags.iter().chain(&self.repo_digests).flatten()
    }

    fn is_named(&self) -> bool {
        self.names().next().is_some()
    }

    /// docker prints short names (`debian:12`), podman whole ones.
    fn answers_to(&self, wanted: &str, client: &dyn Client) -> bool {
        let wanted = Reference::parse(wanted);
        let candidates = client.names(&wanted);
        self.names().map(|name| Reference::parse(name)).any(|name| {
            client.names(&name).iter().any(|name| candidates.contains(name))
                && match &wanted.digest {
                    Some(_) => name.digest == wanted.digest,
                    None => name.digest.is_none() && name.tag() == wanted.tag(),
                }
        })
    }
}

/// Whether all an engine complains about, in lower case, is images that are not there.
fn only_missing(complaints: &[String]) -> bool {
    let mut errors = complaints.iter().filter(|line| line.contains("error")).peekable();
    errors.peek().is_some()
        && errors.all(|line| line.contains("image not known") || line.contains("no such image"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::client;

    /// Answers to `image inspect`.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        let images: Vec<Inspected> = serde_json::from_slice(answer).unwrap_or_default();
        for image in &images {
            image.held();
            image.answers_to("debian:12@sha256:00", client::DOCKER);
            image.answers_to("localhost/api:1", client::PODMAN);
        }
    }

    #[test]
    fn what_is_handed_down_is_known_only_where_all_of_it_is_told() {
        let of = |config: &str| {
            let text = format!("{{\"Id\": \"sha256:x\", \"Config\": {config}}}");
            serde_json::from_str::<Inspected>(&text).unwrap().held().inherited
        };
        let known = |env: &[(&str, &str)], onbuild: &[&str]| {
            let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let onbuild = onbuild.iter().map(|text| (*text).to_owned());
            Some(Inherited { env: env.collect(), onbuild: onbuild.collect() })
        };
        let docker = r#"{"Env": ["A=1=2", "B="], "OnBuild": ["COPY a /a"]}"#;
        assert_eq!(of(docker), known(&[("A", "1=2"), ("B", "")], &["COPY a /a"]));
        assert_eq!(of(r#"{"Env": null, "OnBuild": null}"#), known(&[], &[]));
        assert_eq!(of(r#"{"Env": ["A=1"]}"#), None, "as podman answers");
        assert_eq!(of("null"), None);
    }
}
