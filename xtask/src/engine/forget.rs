//! Taking what cannot be trusted out of an engine's cache.
//!
//! A step that ended well although the kernel killed a part of it is in the cache like any other,
//! and the next build would take it from there. podman says which layer came of which step. docker
//! does not: of its records (`system df --verbose`) all go that were made of a RUN while the build
//! was running. Too many cost time, no more.

use std::time::SystemTime;

use serde::Deserialize;

use super::{ANSWER, Engine};
use crate::event::Events;

/// What a build has left that may not be whole.
#[derive(Debug)]
pub(super) struct Untrusted<'a> {
    /// The image itself.
    pub image: Option<&'a str>,
    /// Layers podman has named, the first one first.
    pub layers: &'a [String],
    /// When the build was begun.
    pub begun: SystemTime,
}

/// A record of docker's build cache.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    created_at: String,
}

impl Engine {
    /// Takes it out of the engine's cache, the last one first.
    pub(super) fn forget(&self, untrusted: &Untrusted, events: &Events) {
        let layers = untrusted.layers.iter().rev().map(String::as_str);
        let mut failed = Vec::new();
        for image in untrusted.image.into_iter().chain(layers) {
            let told = self.tool().args(["rmi", image]).limit(ANSWER).despite_stop().run();
            // An image goes with the last of those built upon it.
            failed.extend(
                told.err().filter(|failure| !failure.to_string().contains("image not known")),
            );
        }
        let mut failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
        if self.client.has_daemon() {
            failed.extend(self.prune(untrusted.begun).err().map(|error| format!("{error:#}")));
        }
        if let Some(failure) = failed.first() {
            let text = format!("the engine may use a layer again that is not whole: {failure}");
            events.warn(text, Some("build once with `--force`".to_owned()));
        }
    }

    /// Removes docker's records of RUNs since `begun`; those in use by other builds stay.
    fn prune(&self, begun: SystemTime) -> anyhow::Result<()> {
        let asked = ["system", "df", "--verbose", "--format", "{{json .BuildCache}}"];
        let answer = self.tool().args(asked).limit(ANSWER).despite_stop().read()?;
        let records: Vec<Record> = serde_json::from_str(&answer)?;
        for record in records.iter().filter(|record| record.is_of_run_since(begun)) {
            let prune = ["builder", "prune", "--force", "--all", "--filter"];
            let prune = self.tool().args(prune).arg(format!("id={}", record.id));
            prune.limit(ANSWER).despite_stop().run()?;
        }
        Ok(())
    }
}

impl Record {
    /// A time that cannot be read counts as later.
    fn is_of_run_since(&self, begun: SystemTime) -> bool {
        let created = humantime::parse_rfc3339_weak(self.created_at.trim_end_matches(" +0000 UTC"));
        self.description.contains(" exec ") && !created.is_ok_and(|created| created < begun)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    /// docker's list of what it caches.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        let records: Vec<Record> = serde_json::from_slice(answer).unwrap_or_default();
        for record in &records {
            record.is_of_run_since(SystemTime::UNIX_EPOCH);
        }
    }

    /// As docker 20.10 prints them.
    #[test]
    fn records_of_runs_since_the_build_began_are_told_from_the_others() {
        let text = r#"[
            {"CacheType":"regular","CreatedAt":"2026-11-21 12:09:13.90274391 +0000 UTC","ID":"run",
             "Description":"mount / from exec /bin/sh -c head -c 700M /dev/zero | tail | wc -c"},
            {"CacheType":"regular","CreatedAt":"2026-11-21 12:03:11.374198623 +0000 UTC",
             "Description":"mount / from exec /bin/sh -c true","ID":"earlier"},
            {"CacheType":"regular","CreatedAt":"2026-11-21 12:09:14 +0000 UTC","ID":"copy",
             "Description":"fileop target"},
            {"CacheType":"regular","CreatedAt":"soon","ID":"unread",
             "Description":"mount / from exec /bin/sh -c true"}
        ]"#;
        let records: Vec<Record> = serde_json::from_str(text).unwrap();
        let begun = humantime::parse_rfc3339("2026-11-21T12:09:10Z").unwrap();
        let since = |begun| -> Vec<&str> {
            let found = records.iter().filter(|record| record.is_of_run_since(begun));
            found.map(|record| record.id.as_str()).collect()
        };
        assert_eq!(since(begun), ["run", "unread"]);
        assert_eq!(since(begun + Duration::from_mins(1)), ["unread"]);
    }
}
