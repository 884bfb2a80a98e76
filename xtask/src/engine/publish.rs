//! An image in the registry for a cluster that is not ours: its nodes pull it by digest.
//!
//! By digest and not by the key's tag, since a tag is moved by whoever pushes last: two runs that
//! built the same key have two images, and each must test its own. A node holds what it pulled to
//! the digest; and a name with a digest is pulled once, whatever the manifest leaves
//! `imagePullPolicy` at.
//!
//! The registry may have the image already. Its tag is pulled: here all of it is known, so that
//! nothing but the manifest comes (0.09 s). If that leads to this very image, the digest is one of
//! those that the engine now lists for it; podman lists those of its own copies too, so that each
//! is asked for by its name until the registry gives this image for one (0.1 s a question). A push
//! of what the registry has took 0.05 s, of 76 MB that it lacked 1.2 s (podman 4.3.1).

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use super::Engine;
use super::registry::{ABSENT, reference, says};
use crate::config::{Cache, CacheMode};
use crate::error::ErrorExt as _;
use crate::event::Events;
use crate::process::Failure;

/// An image as nodes are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `REGISTRY/NAME@sha256:…`
    pub reference: String,
    /// The registry did not have it.
    pub pushed: bool,
}

impl Engine {
    /// Sees to it that the registry has the image of a local tag, of this id. What the registry
    /// does not do is an error.
    pub fn publish(
        &self,
        cache: &Cache,
        (image, tag, id): (&str, &str, &str),
        log: &Path,
        events: &Events,
    ) -> anyhow::Result<Published> {
        let what = || format!("failed to bring image `{image}` to `{}`", cache.registry);
        let to = reference(cache, tag);
        if let Some(reference) = self.published(cache, &to, id, log).with_context(what)? {
            return Ok(Published { reference, pushed: false });
        }
        if cache.mode == CacheMode::ReadOnly {
            return Err(anyhow!("it is not there, and this run may only read"))
                .with_context(what)
                .hint("--cache read-write");
        }
        let digest = self.push_for_digest(cache, (image, tag), log, events).with_context(what)?;
        Ok(Published { reference: format!("{}@{digest}", repository(&to)), pushed: true })
    }

    /// The reference by which the registry gives out this very image, if it does.
    fn published(
        &self,
        cache: &Cache,
        to: &str,
        id: &str,
        log: &Path,
    ) -> anyhow::Result<Option<String>> {
        if !self.gives(cache, to, id, log)? {
            return Ok(None);
        }
        // Another run may just have taken the name away again.
        let mut candidates = self.digests(to).unwrap_or_default().into_iter();
        let found = candidates.find_map(|name| match self.gives(cache, &name, id, log) {
            Ok(true) => Some(Ok(name)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        });
        self.drop_reference(to);
        found.transpose()
    }

    /// Whether a pull of that name leads to this image. A name with a digest does not stay.
    fn gives(&self, cache: &Cache, name: &str, id: &str, log: &Path) -> anyhow::Result<bool> {
        match self.pull(cache, name, log).run() {
            Ok(_) => {}
            Err(failure) if !failure.stopped() && says(&failure, &ABSENT) => return Ok(false),
            Err(failure) => return Err(told(failure)),
        }
        let facts = self.known_facts()?;
        let held = self.look_up(Some(facts), &[name.to_owned()], &[])?.tags.remove(name);
        let is_it = held.is_some_and(|held| bare(&held.id) == bare(id));
        if !is_it || name.contains('@') {
            self.drop_reference(name);
        }
        Ok(is_it)
    }

    /// Names with a digest that the engine lists for what has this name, of its repository.
    fn digests(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let of_it = |line: &String| {
            line.split_once('@').is_some_and(|(before, _)| before == repository(name))
        };
        let images = self.inspect(&[name])?.into_iter();
        Ok(images.filter_map(|image| image.repo_digests).flatten().filter(of_it).collect())
    }

    fn push_for_digest(
        &self,
        cache: &Cache,
        (image, tag): (&str, &str),
        log: &Path,
        events: &Events,
    ) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("digest");
        let file = self.client.digest_file(&file);
        let said = self.push_noting(cache, (image, tag), (log, file), events);
        let said = said.map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => told(failure),
            Err(error) => error,
        })?;
        let said = match file {
            Some(file) => fs_err::read_to_string(file)?,
            None => said.join("\n"),
        };
        match digest(&said) {
            Some(digest) => Ok(digest),
            None => bail!("the push ended well, but named no digest"),
        }
    }
}

/// The last digest in what an engine says of a push: podman writes it to a file, docker into its
/// last line.
fn digest(said: &str) -> Option<String> {
    let is_digest = |word: &&str| {
        let hex = word.strip_prefix("sha256:");
        hex.is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    };
    said.split_whitespace().rfind(is_digest).map(str::to_owned)
}

/// `HOST:PORT/NAME:TAG` or `HOST:PORT/NAME@DIGEST` → `HOST:PORT/NAME`.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// podman says an id plainly, docker with its algorithm.
fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// The registry's own words first.
fn told(failure: Failure) -> anyhow::Error {
    let last = failure.last_line().map(str::to_owned);
    let error = anyhow::Error::new(failure);
    match last {
        Some(line) => error.context(line),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_reference_without_tag_and_digest() {
        for (text, expected) in [
            ("host:5000/team/a:1234", "host:5000/team/a"),
            ("host:5000/team/a@sha256:12", "host:5000/team/a"),
            ("host:5000/team/a:1@sha256:12", "host:5000/team/a"),
            ("host:5000/a", "host:5000/a"),
        ] {
            assert_eq!(repository(text), expected);
        }
    }

    #[test]
    fn a_digest_is_found_in_what_either_engine_says() {
        let hex = "6dbc91d9b5064a6be73627b3364c23821a879f919382b80cb3703bb3017d3515";
        let expected = Some(format!("sha256:{hex}"));
        assert_eq!(digest(&format!("sha256:{hex}")), expected);
        assert_eq!(digest(&format!("abc: Pushed\n12: digest: sha256:{hex} size: 529")), expected);
        assert_eq!(digest("sha256:12"), None);
    }
}
