//! Which manifests make a suite, in which order, and the ports that lead to them.
//!
//! A repository often holds several ways to deploy (plain manifests, overlays, a release in one
//! file). The folder whose manifests name most of the images is taken; if manifests lie in folders
//! of one folder (`k8s/10-crds`, `k8s/20-app`), those are the steps, by name. An overlay nobody
//! refers to and the base below it are one way: the overlay.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, ManifestFile, folder, free, last, plain, upwards};

/// A step as it is guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) apply: String,
    /// `deployment/NAME` of what becomes ready.
    pub(super) rollouts: Vec<String>,
}

/// A port as it is guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) host: u16,
    pub(super) node: u16,
    /// Whether kind's configuration opens it.
    pub(super) by_kind: bool,
    /// Where it was found.
    pub(super) why: String,
}

/// A suite as it is guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) steps: Vec<Step>,
    /// Images the manifests name plainly.
    pub(super) images: Vec<String>,
    /// The same by other names: what is written, and the image that is meant.
    pub(super) elsewhere: Vec<(String, String)>,
    /// Folders with manifests that no step applies.
    pub(super) left: Vec<String>,
}

pub(super) fn suite(facts: &Facts, images: &[String]) -> Suite {
    let folders = folders(facts);
    let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for folder in folders.keys() {
        // By itself, and as one of several in the folder above.
        ways.entry(folder).or_default().push(folder);
        if !folder.is_empty() && !folders.contains_key(self::folder(folder)) {
            ways.entry(self::folder(folder)).or_default().push(folder);
        }
    }
    // Images named at all, and those of them that are named plainly, as the run wants them.
    let named = |steps: &[&str]| {
        let files = steps.iter().flat_map(|step| &folders[step]);
        let written: BTreeSet<&str> = files
            .flat_map(|file| &file.manifest.images)
            .map(|one| one.reference.as_str())
            .filter(|reference| images.contains(&short(reference)))
            .collect();
        let names: BTreeSet<String> = written.iter().map(|reference| short(reference)).collect();
        (names.len(), written.iter().filter(|reference| !reference.contains('/')).count())
    };
    let best = ways
        .values()
        .max_by(|one, other| named(one).cmp(&named(other)).then(other.len().cmp(&one.len())));
    let Some(chosen) = best.filter(|steps| named(steps).0 > 0) else {
        let left = folders.keys().map(|folder| shown(folder)).collect();
        return Suite { left, ..Suite::default() };
    };
    let mut suite = Suite::default();
    for folder in chosen {
        let files = &folders[folder];
        let name = step_name(facts, folder);
        let name = free(&name, |name| suite.steps.iter().any(|step| step.name == name));
        suite.steps.push(Step { name, apply: shown(folder), rollouts: rollouts(files) });
        for image in files.iter().flat_map(|file| &file.manifest.images) {
            name_image(&image.reference, images, &mut suite);
        }
    }
    suite.images.sort();
    suite.elsewhere.sort();
    suite.elsewhere.dedup();
    suite.left = folders
        .keys()
        .filter(|folder| !chosen.contains(folder))
        .map(|folder| shown(folder))
        .collect();
    suite
}

/// Folders that can be applied, with what they hold: the outermost kustomization holds all it
/// takes, and what lies below it and is not taken belongs to nothing.
fn folders(facts: &Facts) -> BTreeMap<&str, Vec<&ManifestFile>> {
    let mut folders: BTreeMap<&str, Vec<&ManifestFile>> = BTreeMap::new();
    for file in &facts.manifests {
        let own = folder(&file.path);
        let above = |folder: &str| facts.kustomizations.iter().find(|one| one.folder == folder);
        match upwards(own).filter_map(above).last() {
            Some(top) if top.files.contains(&file.path) => {
                folders.entry(&top.folder).or_default().push(file);
            }
            Some(_) => {}
            None => folders.entry(own).or_default().push(file),
        }
    }
    folders
}

fn shown(folder: &str) -> String {
    if folder.is_empty() { ".".to_owned() } else { folder.to_owned() }
}

/// The folder's name without the number that puts it in order.
fn step_name(facts: &Facts, folder: &str) -> String {
    let name = plain(if folder.is_empty() { &facts.name } else { last(folder) });
    let bare = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    if bare.is_empty() { format!("step-{name}") } else { bare.to_owned() }
}

fn rollouts(files: &[&ManifestFile]) -> Vec<String> {
    let objects = files.iter().flat_map(|file| &file.manifest.objects);
    let rolled = objects.filter(|object| {
        matches!(object.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
    });
    let rolled = rolled.map(|object| format!("{}/{}", object.kind.to_lowercase(), object.name));
    rolled.collect::<BTreeSet<_>>().into_iter().collect()
}

/// An image's last name, without registry and tag.
fn short(reference: &str) -> String {
    last(reference).split([':', '@']).next().unwrap_or_default().to_owned()
}

fn name_image(reference: &str, images: &[String], suite: &mut Suite) {
    let name = short(reference);
    if !images.contains(&name) {
        return;
    }
    if reference.contains('/') {
        suite.elsewhere.push((reference.to_owned(), name.clone()));
    }
    if !suite.images.contains(&name) {
        suite.images.push(name);
    }
}

/// Host ports: those of kind's configuration, and the node ports of Services nothing leads to yet.
pub(super) fn ports(facts: &Facts, suite: &Suite) -> Vec<Port> {
    let applied = |path: &str| {
        suite.steps.iter().any(|step| {
            step.apply == "."
                || path.strip_prefix(&step.apply).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let files = facts.manifests.iter().filter(|file| applied(&file.path));
    let services: Vec<(&str, u16, &str)> = files
        .flat_map(|file| {
            let ports = file.manifest.node_ports.iter();
            ports.map(|port| (port.service.as_str(), port.number, file.path.as_str()))
        })
        .collect();
    let mut ports: Vec<Port> = Vec::new();
    let mut add = |name: &str, host: u16, node: u16, by_kind: bool, why: String| {
        let usable = (30_000..=32_767).contains(&node);
        if usable && !ports.iter().any(|port| port.host == host || port.node == node) {
            let name = plain(name);
            let name = if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                name
            } else {
                format!("port-{name}")
            };
            let name = free(&name, |name| ports.iter().any(|port| port.name == name));
            ports.push(Port { name, host, node, by_kind, why });
        }
    };
    for kind in facts.kinds.iter().take(1) {
        for mapping in &kind.mappings {
            let service = services.iter().find(|(_, number, _)| *number == mapping.node);
            let name =
                service.map_or(format!("port-{}", mapping.node), |(name, ..)| (*name).to_owned());
            let why = format!("{}, line {}", kind.path, mapping.line);
            add(&name, mapping.host, mapping.node, true, why);
        }
    }
    for (service, number, file) in services {
        add(service, number, number, false, format!("a node port in {file}"));
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Kustomization;
    use crate::repository::kind::Mapping;
    use crate::repository::manifest;

    fn facts(files: &[(&str, &str)], kustomizations: &[&str]) -> Facts {
        let file = |(path, text): &(&str, &str)| ManifestFile {
            path: (*path).to_owned(),
            manifest: manifest::read(text).unwrap(),
        };
        Facts {
            name: "shop".into(),
            files: Vec::new(),
            dockerfiles: Vec::new(),
            manifests: files.iter().map(file).collect(),
            kustomizations: kustomizations
                .iter()
                .map(|folder| Kustomization {
                    folder: (*folder).to_owned(),
                    files: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
                })
                .collect(),
            kinds: Vec::new(),
            not_narrowed: Vec::new(),
        }
    }

    fn deployment(name: &str, image: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  template:\n    \
             spec:\n      containers: [{{image: {image}}}]\n"
        )
    }

    #[test]
    fn numbered_folders_are_steps_in_their_order() {
        let (api, web) = (deployment("api", "api"), deployment("web", "hub.test/web:1"));
        let facts = facts(
            &[
                ("k8s/20-api/api.yaml", api.as_str()),
                ("k8s/30-web/web.yaml", web.as_str()),
                ("release/all.yaml", api.as_str()),
            ],
            &["k8s/20-api"],
        );
        let suite = suite(&facts, &["api".to_owned(), "web".to_owned()]);
        let steps: Vec<_> = suite.steps.iter().map(|step| (&*step.name, &*step.apply)).collect();
        assert_eq!(steps, [("api", "k8s/20-api"), ("web", "k8s/30-web")]);
        assert_eq!(suite.steps[0].rollouts, ["deployment/api"]);
        assert_eq!(suite.images, ["api", "web"]);
        assert_eq!(suite.elsewhere, [("hub.test/web:1".to_owned(), "web".to_owned())]);
        assert_eq!(suite.left, ["release"]);
    }

    #[test]
    fn an_overlay_holds_its_base_and_strangers_make_no_suite() {
        let api = deployment("api", "api");
        let found = facts(&[("k/base/api.yaml", api.as_str())], &["k", "k/base"]);
        let found = suite(&found, &["api".to_owned()]);
        assert_eq!(found.steps[0].apply, "k");
        let strange = suite(&facts(&[("k/x.yaml", api.as_str())], &[]), &["web".to_owned()]);
        assert_eq!((strange.steps.len(), strange.left), (0, vec!["k".to_owned()]));
    }

    #[test]
    fn ports_come_from_kind_first() {
        let service = |name: &str, port: u16| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: \
                 [{{nodePort: {port}}}]}}\n"
            )
        };
        let (api, web) = (service("api", 30080), service("web", 30081));
        let deployed = deployment("api", "api");
        let files = [("k/a.yaml", &*api), ("k/b.yaml", &*web), ("k/c.yaml", &*deployed)];
        let mut facts = facts(&files, &[]);
        let mapping = |host, node| Mapping { host, node, line: 5 };
        facts.kinds = vec![crate::init::Kind {
            path: "kind.yaml".into(),
            mappings: vec![mapping(8080, 30080), mapping(80, 80)],
            only_ports: true,
        }];
        let ports = ports(&facts, &suite(&facts, &["api".to_owned()]));
        let told: Vec<_> = ports.iter().map(|port| (&*port.name, port.host, port.node)).collect();
        assert_eq!(told, [("api", 8080, 30080), ("web", 30081, 30081)]);
    }
}
