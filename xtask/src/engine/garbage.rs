//! Images of ours that nobody needs any more.
//!
//! | of what carries our labels, it stays if it |
//! | --- |
//! | is another project's, or says no project (made by an older xtask) |
//! | is not called as this configuration calls its images |
//! | inherited the labels: somebody built or committed it from one of ours (see [`super::history`]) |
//! | has a name that we did not give it: ours is `localhost/NAME:KEY`, and no other below `localhost/` |
//! | is in use by a container, running or not, is wanted by a checkout, or is of the newest keys of its image |
//!
//! An image without any name goes only where its history proves that it is ours, which docker does
//! not tell. Nothing is forced: what the engine holds to be in use after all, it keeps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::history;
use super::inspect::Inspected;
use super::{ANSWER, Engine};
use crate::plan::{IMAGE_LABEL, KEY_LABEL, PROJECT_LABEL};

/// Names asked about in one call, so that a command line stays within its limit.
const AT_ONCE: usize = 200;

/// Lists asked for while others remove images, before it is an error.
const LISTINGS: usize = 5;

/// `image not known` (podman), `No such image` (docker).
fn removed_meanwhile(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("image not known") || text.contains("No such image")
}

/// An image of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Old {
    pub name: String,
    pub key: String,
    /// The project that built it; none: an older xtask did.
    pub project: Option<String>,
    /// Its history proves that it was built under this key.
    pub proven: bool,
    pub id: String,
    /// Its names; none for what a later build has taken the name of.
    pub tags: Vec<String>,
    /// Bytes, layers in common with other images counted too.
    pub size: u64,
    /// RFC 3339: the time of its build.
    pub created: String,
}

/// What stays whatever its age.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Names that count: those of the configuration.
    pub names: BTreeSet<String>,
    /// Marks that images of this project may carry.
    pub projects: BTreeSet<String>,
    /// Keys that the plan, or another checkout, wants.
    pub keys: BTreeSet<String>,
    /// Ids that containers use.
    pub ids: BTreeSet<String>,
    /// Keys that stay of each image, the newest first.
    pub newest: usize,
}

impl Engine {
    /// All images with our label, the newest first.
    ///
    /// An engine fails if an image is removed between the list and the look at it. That image is
    /// not in the next list.
    pub fn ours(&self) -> Result<Vec<Old>> {
        for _ in 1..LISTINGS {
            match self.list_ours() {
                Err(error) if removed_meanwhile(&error) => {}
                answer => return answer,
            }
        }
        self.list_ours()
    }

    fn list_ours(&self) -> Result<Vec<Old>> {
        let filter = format!("label={KEY_LABEL}");
        let listed = self.tool().args(["images", "--no-trunc", "--quiet", "--filter", &filter]);
        let listed = listed.limit(ANSWER).read().context("failed to list the images of ours")?;
        let ids: BTreeSet<&str> =
            listed.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
        let mut ours = Vec::new();
        for ids in ids.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
            ours.extend(self.inspect(ids)?.into_iter().filter_map(Inspected::ours));
        }
        ours.sort_by(|one, other| other.created.cmp(&one.created).then(one.id.cmp(&other.id)));
        Ok(ours)
    }

    /// Ids of the images that containers were made from, running or not.
    pub fn in_use(&self) -> Result<BTreeSet<String>> {
        let listed = self.client.images_in_use(self).context("failed to list the containers")?;
        Ok(listed.lines().map(|id| id.trim_start_matches("sha256:").to_owned()).collect())
    }

    /// Removes an image by its names, or by its id if it has none; never one in use.
    pub fn free(&self, old: &Old) -> Result<()> {
        let remove = self.tool().arg("rmi");
        let remove = if old.tags.is_empty() { remove.arg(&old.id) } else { remove.args(&old.tags) };
        remove.limit(ANSWER).run().with_context(|| format!("failed to free `{}`", old.called()))?;
        Ok(())
    }
}

impl Old {
    /// A tag, else the id as people read it.
    pub fn called(&self) -> &str {
        self.tags.first().map_or_else(|| self.id.get(..12).unwrap_or(&self.id), String::as_str)
    }

    /// Whether nobody else has named it.
    fn is_only_ours(&self) -> bool {
        let own = format!("localhost/{}:{}", self.name, self.key.get(..16).unwrap_or(&self.key));
        self.tags.iter().all(|tag| *tag == own) && (self.proven || !self.tags.is_empty())
    }
}

impl Inspected {
    fn ours(self) -> Option<Old> {
        let history = self.history.as_deref().unwrap_or_default();
        let mut labels = history::own(self.labels(), history);
        Some(Old {
            project: labels.remove(PROJECT_LABEL),
            proven: history::is_own(history),
            key: labels.remove(KEY_LABEL)?,
            name: labels.remove(IMAGE_LABEL)?,
            id: self.plain_id(),
            tags: self.repo_tags.unwrap_or_default(),
            size: self.size,
            created: self.created.unwrap_or_default(),
        })
    }
}

/// Those of `ours`, which are sorted with the newest first, that may go.
pub fn garbage(ours: Vec<Old>, kept: &Kept) -> Vec<Old> {
    let of_project = |old: &Old| {
        let project = old.project.as_ref();
        kept.names.contains(&old.name) && project.is_some_and(|one| kept.projects.contains(one))
    };
    let mut newest: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut may_go = |old: &Old| {
        let keys = newest.entry(old.name.clone()).or_default();
        let is_new = !old.tags.is_empty()
            && (keys.contains(&old.key)
                || keys.len() < kept.newest && keys.insert(old.key.clone()));
        let is_wanted = !old.tags.is_empty() && kept.keys.contains(&old.key);
        let stays = is_new || is_wanted || kept.ids.contains(&old.id);
        old.is_only_ours() && !stays
    };
    ours.into_iter().filter(of_project).filter(|old| may_go(old)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Answers to `image inspect`.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        let images: Vec<Inspected> = serde_json::from_slice(answer).unwrap_or_default();
        let ours: Vec<Old> = images.into_iter().filter_map(Inspected::ours).collect();
        for old in garbage(ours, &kept(1)) {
            old.called();
        }
    }

    fn old(name: &str, key: &str, tags: &[&str]) -> Old {
        Old {
            name: name.into(),
            key: key.into(),
            project: Some("p".into()),
            proven: true,
            id: format!("id-{key}-{}", tags.len()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 1,
            created: String::new(),
        }
    }

    fn kept(newest: usize) -> Kept {
        Kept {
            names: ["api".to_owned()].into(),
            projects: ["p".to_owned(), "p-before".to_owned()].into(),
            keys: ["k3".to_owned()].into(),
            ids: ["id-k4-1".to_owned()].into(),
            newest,
        }
    }

    fn freed(ours: Vec<Old>, kept: &Kept) -> Vec<String> {
        garbage(ours, kept).iter().map(|old| old.called().to_owned()).collect()
    }

    #[test]
    fn the_newest_keys_and_everything_in_use_stay() {
        let ours = vec![
            old("api", "k0", &[]),
            old("api", "k1", &["localhost/api:k1"]),
            old("api", "k2", &["localhost/api:k2"]),
            old("api", "k3", &["localhost/api:k3"]),
            old("api", "k4", &["localhost/api:k4"]),
            old("api", "k3", &[]),
            old("other", "k8", &["localhost/other:k8"]),
        ];
        assert_eq!(freed(ours, &kept(1)), ["id-k0-0", "localhost/api:k2", "id-k3-0"]);
    }

    #[test]
    fn what_somebody_named_stays() {
        let ours = vec![
            old("api", "k5", &["localhost/api:k5", "quay.io/me/api:release"]),
            old("api", "k6", &["localhost/api-other:k6"]),
            old("api", "k7", &["localhost/api:mine"]),
            old("api", "k8", &["localhost/api:k8", "localhost/api:mine"]),
            old("api", "k9", &["localhost/api:k9x"]),
            old("api", "kA", &["docker.io/localhost/api:kA"]),
        ];
        assert_eq!(freed(ours, &kept(0)), Vec::<String>::new());
    }

    #[test]
    fn what_is_another_projects_stays_and_takes_no_place_of_ours() {
        let of = |project: Option<&str>, key: &str| Old {
            project: project.map(str::to_owned),
            ..old("api", key, &[&format!("localhost/api:{key}")])
        };
        let ours = vec![
            of(Some("q"), "k10"),
            of(None, "k11"),
            of(Some("p"), "k12"),
            of(Some("q"), "k13"),
            of(Some("p-before"), "k14"),
        ];
        assert_eq!(freed(ours, &kept(1)), ["localhost/api:k14"]);
    }

    #[test]
    fn without_a_name_only_what_is_proven_goes() {
        let image = |history: &str, tags: &str| {
            let text = format!(
                r#"[{{"Id": "sha256:id", "RepoTags": {tags}, "History": {history}, "Config": {{"Labels":
                {{"dev.xtask.key": "k", "dev.xtask.image": "api", "dev.xtask.project": "p"}}}}}}]"#
            );
            let images: Vec<Inspected> = serde_json::from_str(&text).unwrap();
            images.into_iter().filter_map(Inspected::ours).collect::<Vec<Old>>()
        };
        let label = r#"{"created_by": "/bin/sh -c #(nop) LABEL \"dev.xtask.key\"=\"k\""}"#;
        let run = r#"{"created_by": "/bin/sh -c echo mine"}"#;
        let (ours, inherited) = (format!("[{run}, {label}]"), format!("[{run}, {label}, {run}]"));
        for (history, tags, goes) in [
            (&*ours, "[]", true),
            (&*ours, r#"["localhost/api:k"]"#, true),
            (&*inherited, "[]", false),
            (&*inherited, r#"["localhost/api:k"]"#, false),
            // As docker tells it, which keeps no such history.
            ("null", "[]", false),
            ("null", r#"["localhost/api:k"]"#, true),
        ] {
            let freed = freed(image(history, tags), &kept(0));
            assert_eq!(!freed.is_empty(), goes, "{history} {tags}");
        }
    }
}
