//! A registry as a cache of images: asked by key, believed by proof. Through the engine's own
//! `pull` and `push`, so that credentials, certificates, mirrors and retries are the engine's, and
//! none of it is ours to leak.
//!
//! What lies there under a key's tag is a claim. What came is looked at as a build's result is: it
//! must carry the labels a build of ours would have, be for the platform that was wanted and of the
//! layers its configuration names ([`super::content`]); before that it has no tag of ours. The
//! engine holds every blob to its digest. What no label can prove is who put it there: whoever may
//! push to the registry is trusted.
//!
//! | seen (podman 4.3.1, 2 cores) | |
//! | --- | --- |
//! | `podman pull` of a tag that is not there | 0.1 s, 34 MB; twelve at once 0.44 s |
//! | of 300 MB that cannot be compressed | 2.6 s, 43 MB; `push` of them 5.2 s, 47 MB |
//! | of a registry that refuses connections | 3.1 s: three more tries, a second apart |
//! | of one that accepts and never answers | no end: the answer has a limit of its own |

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::config;
use crate::event::{Event, Events, seconds};
use crate::process::{Failure, Stream, Tool};

use super::{ANSWER, Engine, ImageInfo};

/// Bytes the engine's program takes while it carries an image, whatever the image's size.
pub const CARRIER: u64 = 64 << 20;

/// What is asked for: the tag it is to get here, and what it has to prove.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub image: &'a str,
    /// `localhost/NAME:KEY`
    pub tag: &'a str,
    pub labels: &'a [(String, String)],
    /// `os/arch[/variant]`
    pub platform: &'a str,
}

/// What came of asking.
#[derive(Debug)]
pub enum Fetched {
    /// It is here, proved, under its tag.
    Ready(ImageInfo),
    /// The registry says it has none.
    Absent,
    /// What the registry gave is not the image it was asked for; it got no tag.
    Refused(String),
    /// The registry did not do its part.
    Failed(Box<Failure>),
}

/// Where the image of a local tag lies: `REGISTRY/NAME:KEY`.
pub fn reference(cache: &config::Cache, tag: &str) -> String {
    format!("{}/{}", cache.registry, tag.strip_prefix("localhost/").unwrap_or(tag))
}

impl Engine {
    /// Asks for an image and takes it if it proves itself.
    pub fn fetch(
        &self,
        cache: &config::Cache,
        wanted: &Wanted,
        log: &Path,
        events: &Events,
    ) -> anyhow::Result<Fetched> {
        let started = Instant::now();
        let image = || wanted.image.to_owned();
        let reference = reference(cache, wanted.tag);
        let (mut id, mut coming) = (None, false);
        let end = self.pull(cache, &reference, log).stream(|stream, line| {
            let line = String::from_utf8_lossy(line);
            if stream == Stream::Stdout && is_id(&line) {
                id = Some(line.into_owned());
            } else if !coming && is_answer(&line) && !is_complaint(&line) {
                coming = true;
                events.emit(Event::FetchStarted { image: image(), from: reference.clone() });
            }
        });
        let fetched = match end {
            Ok(_) => self.prove(id.as_deref().unwrap_or(&reference), wanted),
            Err(failure) if !failure.stopped() && says(&failure, &ABSENT) => Ok(Fetched::Absent),
            Err(failure) if says(&failure, &CORRUPT) => {
                Ok(Fetched::Refused("its bytes are not those of its digest".to_owned()))
            }
            Err(failure) => Ok(Fetched::Failed(Box::new(failure))),
        };
        if coming {
            self.drop_reference(&reference);
            let ok = matches!(fetched, Ok(Fetched::Ready(_)));
            let seconds = seconds(started.elapsed());
            events.emit(Event::FetchFinished { image: image(), ok, seconds });
        }
        fetched
    }

    /// Gives the image its tag if it is what was asked for.
    pub(super) fn prove(&self, name: &str, wanted: &Wanted) -> anyhow::Result<Fetched> {
        let facts = self.known_facts()?;
        let held = self.look_up(Some(facts), &[name.to_owned()], &[])?.tags.remove(name);
        let held = held.with_context(|| format!("`{name}` was fetched and is not there"))?;
        let carries =
            |label: &&(String, String)| held.labels.get(&label.0).is_none_or(|is| *is != label.1);
        if let Some((label, value)) = wanted.labels.iter().find(carries) {
            let is = held.labels.get(label).map_or("missing", String::as_str);
            return Ok(Fetched::Refused(format!("its label `{label}` is {is}, not {value}")));
        }
        if let Some(why) = self.distrust(&held.id, wanted.platform)? {
            return Ok(Fetched::Refused(why));
        }
        self.tag(&held.id, wanted.tag)?;
        Ok(Fetched::Ready(held))
    }

    /// Puts the image of a local tag into the registry.
    pub fn push(
        &self,
        cache: &config::Cache,
        image: &str,
        tag: &str,
        log: &Path,
        events: &Events,
    ) -> anyhow::Result<()> {
        self.push_noting(cache, (image, tag), (log, None), events).map(drop)
    }

    /// The same; gives back the engine's last words, and has podman write the digest to a file.
    pub(super) fn push_noting(
        &self,
        cache: &config::Cache,
        (image, tag): (&str, &str),
        (log, digest): (&Path, Option<&Path>),
        events: &Events,
    ) -> anyhow::Result<Vec<String>> {
        let started = Instant::now();
        let to = reference(cache, tag);
        events.emit(Event::PushStarted { image: image.to_owned(), to: to.clone() });
        let mut push = self.carrying("push", cache).log(log);
        if let Some(file) = digest {
            push = push.arg("--digestfile").arg(file);
        }
        let end = self.client.push(self, push, tag, &to);
        let (ok, seconds) = (end.is_ok(), seconds(started.elapsed()));
        events.emit(Event::PushFinished { image: image.to_owned(), ok, seconds });
        end.map(|output| output.tail)
    }

    /// A pull of that name, which has to answer in time.
    pub(super) fn pull(&self, cache: &config::Cache, name: &str, log: &Path) -> Tool {
        self.carrying("pull", cache).arg(name).answer(cache.answer, is_answer).log(log)
    }

    /// The engine's `pull` or `push`.
    fn carrying(&self, verb: &str, cache: &config::Cache) -> Tool {
        self.client.carry(self.tool().arg(verb), cache).limit(cache.transfer)
    }

    /// Takes the registry's name off what came; an image that got no other goes with it.
    pub(super) fn drop_reference(&self, reference: &str) {
        // Left there it would cost room, not truth: nobody looks for images under that name.
        self.tool().args(["rmi", reference]).limit(ANSWER).despite_stop().run().ok();
    }
}

/// What the registries' and the engines' own words are when there is no such image.
pub(super) const ABSENT: [&str; 3] =
    ["manifest unknown", "name unknown", "repository name not known"];

/// What podman and docker say of bytes that do not have their digest.
const CORRUPT: [&str; 4] = [
    "digest did not match",
    "digest mismatch",
    "filesystem layer verification failed",
    "unexpected eof",
];

pub(super) fn says(failure: &Failure, texts: &[&str]) -> bool {
    let says = |line: &String| {
        let line = line.to_lowercase();
        texts.iter().any(|text| line.contains(text))
    };
    failure.tail.iter().any(says)
}

/// Whether a line of `pull` was written because the registry has answered: all but what comes
/// before it asks and between its tries.
fn is_answer(line: &str) -> bool {
    !line.starts_with("Trying to pull") && !line.contains("retrying in") && !line.is_empty()
}

fn is_complaint(line: &str) -> bool {
    line.contains("level=") || line.to_lowercase().starts_with("error")
}

fn is_id(line: &str) -> bool {
    line.len() == 64 && line.chars().all(|c| c.is_ascii_hexdigit())
}
