//! What builds are sent, and the files that keep the rest out.
//!
//! Looked at is what really goes: after ignore file and `exclude`, narrowed to what the Dockerfile
//! can read. A secret that lies in the repository and is not sent is no finding.

use std::collections::BTreeMap;

use super::facts::{Facts, Image, JunkAt, Suspect};
use super::{Finding, quoted, secret};
use crate::config::Rule;
use crate::repository::relative;
use crate::secret_name;
use crate::text::{bytes, plural};

/// `context-secret` and `context-junk`; what several images are sent is told once.
pub(super) fn sent(facts: &Facts) -> Vec<Finding> {
    let mut secrets: BTreeMap<&str, Vec<(&Image, &Suspect)>> = BTreeMap::new();
    let mut junk: BTreeMap<&str, Vec<(&Image, &JunkAt)>> = BTreeMap::new();
    for image in &facts.images {
        for suspect in &image.suspects {
            secrets.entry(&suspect.file).or_default().push((image, suspect));
        }
        for at in &image.junk {
            junk.entry(&at.file).or_default().push((image, at));
        }
    }
    let secrets = secrets.values().filter_map(|sent| secret(sent));
    secrets.chain(junk.values().filter_map(|sent| left(sent))).collect()
}

fn secret(sent: &[(&Image, &Suspect)]) -> Option<Finding> {
    let (image, suspect) = sent.first()?;
    let what = secret::what(&suspect.path, &suspect.head)?;
    let by = match suspect.taken_by {
        Some(line) => format!(" (`{}`, line {line})", image.dockerfile),
        None => String::new(),
    };
    Some(Finding {
        rule: Rule::ContextSecret,
        file: suspect.file.clone(),
        line: 1,
        reason: format!("{what} is sent to the build of {}{by}", names(sent)),
        mend: format!("add `{}` to `{}`", suspect.path, image.ignore_file),
    })
}

fn left(sent: &[(&Image, &JunkAt)]) -> Option<Finding> {
    let (image, JunkAt { junk, file }) = sent.first()?;
    Some(Finding {
        rule: Rule::ContextJunk,
        file: file.clone(),
        line: 1,
        reason: format!(
            "`{}` is sent to the build of {}: {}, {}",
            junk.pattern,
            names(sent),
            plural(junk.files, "file"),
            bytes(junk.bytes)
        ),
        mend: format!("add `{}` to `{}`", junk.pattern, image.ignore_file),
    })
}

fn names<T>(sent: &[(&Image, T)]) -> String {
    quoted(sent.iter().map(|(image, _)| image.name.as_str()))
}

/// `container-ignore`.
pub(super) fn container_ignores(facts: &Facts) -> Vec<Finding> {
    let ignores = facts.images.iter().flat_map(|image| &image.container_ignores);
    let finding = |(file, reason): &(String, String)| Finding {
        rule: Rule::ContainerIgnore,
        file: file.clone(),
        line: 1,
        reason: reason.clone(),
        mend: "keep one file, with the ending `.dockerignore`: every engine reads that".to_owned(),
    };
    ignores.map(finding).collect()
}

/// `context-secret` of build arguments: their values stay in the image's history.
pub(super) fn arguments(facts: &Facts) -> Vec<Finding> {
    let images = facts.config.images.values();
    let given = images.flat_map(|image| image.args.keys().map(move |name| (&image.name, name)));
    let secrets = given.filter(|(_, name)| secret_name::is_secret(name));
    let finding = |(image, name): (&String, &String)| Finding {
        rule: Rule::ContextSecret,
        file: relative(&facts.config.file, &facts.config.root),
        line: 1,
        reason: format!(
            "build argument `{name}` of `{image}` looks like a secret: it stays in the image"
        ),
        mend: format!(
            "give it as one of `secrets` and read it by `RUN --mount=type=secret,id={name}`"
        ),
    };
    secrets.map(finding).collect()
}
