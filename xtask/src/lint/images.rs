//! Where images come from: those that are built upon, and those that manifests name.
//!
//! A registry is approved by a prefix of the whole reference, up to a place where a name ends:
//! `docker.io/library/debian` covers `debian:12` and not `debian-evil`; `quay.io/org/` covers all
//! of the organisation; `docker.io/library/debian:bookworm-slim` just that tag.
//!
//! That is said of what images are built upon. Of the images in manifests, those of the
//! configuration are named plainly and get their tag from the run, so `image: gateway` without a
//! tag is right for them. Any other image is what it says, a database say, as long as it has a
//! version; it is a finding where it looks like one of ours.
//!
//! The pull policy matters for our own images only. `Always` asks a registry for what was just
//! loaded, and so does no policy with the tag `latest` (what Kubernetes takes for `Always`)
//! wherever the manifest is applied without us; without any tag it is the run that gives one.

use super::facts::{AppliedManifest, Base, Deployed, Facts};
use super::{Finding, quoted};
use crate::config::{Config, Rule, nearest};
use crate::reference::Reference;
use crate::repository::manifest::Image;
use crate::repository::mention::Mention;
use dockerfile::Role;

/// `base-registry` and `unpinned-base` of Dockerfiles.
pub(super) fn bases(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in &facts.images {
        for base in &image.bases {
            let at = Place { file: &image.dockerfile, line: base.line, what: words(base) };
            findings.extend(outside(facts.config, &base.reference, &at));
            findings.extend(unpinned(&base.reference, &at));
        }
        for (line, address) in &image.fetched {
            let at =
                Place { file: &image.dockerfile, line: *line, what: format!("`ADD {address}`") };
            let reason =
                format!("{} has no `--checksum`: no key holds it, so it always builds", at.what);
            let mend =
                "add `--checksum=sha256:…`, or a commit where it is a git address".to_owned();
            findings.push(at.finding(Rule::UnpinnedBase, reason, mend));
        }
    }
    findings
}

/// `unpinned-base`, `pull-policy` and `image-unknown` of manifests.
pub(super) fn in_manifests(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployed in &facts.suites {
        for manifest in &deployed.manifests {
            for image in &manifest.manifest.images {
                findings.extend(in_manifest(facts.config, deployed, manifest, image));
            }
        }
    }
    findings
}

/// `image-unset`.
pub(super) fn unset(facts: &Facts) -> Vec<Finding> {
    let names: Vec<String> = facts.config.images.keys().cloned().collect();
    let applied = facts.suites.iter().flat_map(|deployed| &deployed.manifests);
    let mentions =
        applied.flat_map(|one| one.manifest.mentions.iter().map(move |mention| (one, mention)));
    let findings = mentions.filter_map(|(one, mention)| {
        let name = mention.meant(&names, &one.images_in)?;
        let Mention { field, image, line, .. } = mention;
        let reason = format!("`{field}` names image `{image}`, and no run sets it there");
        let at = Place { file: &one.file, line: *line, what: String::new() };
        Some(at.finding(Rule::ImageUnset, reason, mention.mend(name)))
    });
    findings.collect()
}

/// Where an image is named, and how.
struct Place<'a> {
    file: &'a str,
    line: usize,
    what: String,
}

impl Place<'_> {
    fn finding(&self, rule: Rule, reason: String, mend: String) -> Finding {
        Finding { rule, file: self.file.to_owned(), line: self.line, reason, mend }
    }
}

fn words(base: &Base) -> String {
    let reference = &base.reference;
    match base.role {
        Role::From => format!("`FROM {reference}`"),
        Role::CopyFrom => format!("`COPY --from={reference}`"),
        Role::MountFrom => format!("`RUN --mount=from={reference}`"),
        Role::Frontend => format!("`# syntax={reference}`"),
    }
}

fn in_manifest(
    config: &Config,
    deployed: &Deployed,
    manifest: &AppliedManifest,
    image: &Image,
) -> Vec<Finding> {
    let reference = manifest.applied.image(&image.reference);
    let what = format!("`image: {reference}`");
    let at = Place { file: &manifest.file, line: image.line, what };
    let parsed = Reference::parse(&reference);
    if config.images.contains_key(&parsed.name) {
        let suite = deployed.suite;
        if !suite.images.contains(&parsed.name) {
            let reason =
                format!("`{}` is not among the images of suite `{}`", parsed.name, suite.name);
            let mend = format!("add it to `images` of `[suites.{}]`", suite.name);
            return vec![at.finding(Rule::ImageUnknown, reason, mend)];
        }
        return pulled(image, &parsed, &at).into_iter().collect();
    }
    meant(config, &parsed, &at).or_else(|| unpinned(&reference, &at)).into_iter().collect()
}

/// An image that is called like one of ours, or nearly so.
fn meant(config: &Config, parsed: &Reference, at: &Place) -> Option<Finding> {
    let last = parsed.name.rsplit('/').next().unwrap_or_default();
    let ours = config.images.keys().map(String::as_str);
    // A slip is made in a plain name; one with a registry was copied.
    let near = if parsed.name == last { nearest(last, ours) } else { None };
    let name = config.images.get(last).map(|image| &*image.name).or(near)?;
    let reason = format!("{}: nobody builds or loads it, so each node would pull it", at.what);
    let mend = format!("if `{name}` is meant, `image: {name}`: the run sets registry and tag");
    Some(at.finding(Rule::ImageUnknown, reason, mend))
}

fn pulled(image: &Image, parsed: &Reference, at: &Place) -> Option<Finding> {
    let (line, why) = match &image.pull {
        Some((policy, line)) if policy == "Always" => (*line, "`imagePullPolicy: Always`"),
        None if parsed.tag.as_deref() == Some("latest") => {
            (at.line, "no `imagePullPolicy`, with `latest`,")
        }
        _ => return None,
    };
    let reason = format!("{why} would pull `{}`, which was just loaded", parsed.name);
    let mend = "imagePullPolicy: IfNotPresent".to_owned();
    Some(Finding { line, ..at.finding(Rule::PullPolicy, reason, mend) })
}

fn outside(config: &Config, reference: &str, at: &Place) -> Option<Finding> {
    let registries = &config.policy.registries;
    if registries.is_empty() || approved(registries, reference) {
        return None;
    }
    let approved = quoted(registries.iter().map(String::as_str));
    let reason = format!("{} is outside the approved registries: {approved}", at.what);
    let name = Reference::parse(reference).qualified();
    let mend = format!("use an approved image, or add `{name}` to `[policy] registries`");
    Some(at.finding(Rule::BaseRegistry, reason, mend))
}

fn unpinned(reference: &str, at: &Place) -> Option<Finding> {
    let parsed = Reference::parse(reference);
    if parsed.digest.is_some() || parsed.tag() != "latest" {
        return None;
    }
    let why = if parsed.tag.is_some() { "is `latest`" } else { "has no tag, which is `latest`" };
    let reason = format!("{} {why}: another image tomorrow", at.what);
    let mend = "name a version, as in `NAME:1.2`, or a digest".to_owned();
    Some(at.finding(Rule::UnpinnedBase, reason, mend))
}

fn approved(registries: &[String], reference: &str) -> bool {
    let parsed = Reference::parse(reference);
    let digest = parsed.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
    let whole = format!("{}:{}{digest}", parsed.qualified(), parsed.tag());
    registries.iter().any(|prefix| {
        let rest = whole.strip_prefix(&qualified(prefix));
        rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with(['/', ':', '@']))
            || qualified(prefix) == whole
    })
}

/// A prefix with its host: `debian` is Docker Hub's.
fn qualified(prefix: &str) -> String {
    let (first, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
    let is_host =
        first.contains('.') || first == "localhost" || !rest.is_empty() && first.contains(':');
    match (is_host, prefix.strip_prefix("docker.io/")) {
        // Its official images have two names.
        (true, Some(name)) if !name.is_empty() && !name.contains('/') => {
            format!("docker.io/library/{name}")
        }
        (true, _) => prefix.to_owned(),
        (false, _) if rest.is_empty() && !prefix.ends_with('/') => {
            format!("docker.io/library/{prefix}")
        }
        (false, _) => format!("docker.io/{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_name_ends() {
        for (prefix, reference, covered) in [
            ("docker.io/library/debian", "debian:12", true),
            ("docker.io/library/debian", "docker.io/debian", true),
            ("docker.io/library/debian", "docker.io/library/debian@sha256:ab", true),
            ("docker.io/library/debian", "debian-evil:12", false),
            ("docker.io/library/debian", "debian/x:12", false),
            ("docker.io/library/debian:bookworm-slim", "debian:bookworm-slim", true),
            ("docker.io/library/debian:bookworm-slim", "debian:bookworm", false),
            ("docker.io/library/", "redis:7", true),
            ("docker.io/library/", "grafana/loki:3", false),
            ("debian", "debian:12", true),
            ("docker.io/debian", "debian:12", true),
            ("grafana/", "grafana/loki:3", true),
            ("quay.io", "quay.io/a/b:1", true),
            ("quay.io", "quay.io.evil.test/a:1", false),
            ("quay.io/org/", "quay.io/organ/b:1", false),
            ("registry.test:5000/a", "registry.test:5000/a/b:1", true),
            ("quay.io/a", "quay.evil/quay.io/a:1", false),
        ] {
            assert_eq!(approved(&[prefix.to_owned()], reference), covered, "{prefix} {reference}");
        }
    }
}
