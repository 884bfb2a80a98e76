//! What one manifest asks for: images with their pull policies, and node ports.

use super::mention::{CONTAINERS, Mention, mentions};
use super::yaml::{self, Node};

/// A manifest, as far as it is looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub images: Vec<Image>,
    /// Images that are named elsewhere.
    pub mentions: Vec<Mention>,
    pub node_ports: Vec<NodePort>,
    /// `Deployment/gateway` of each object.
    pub objects: Vec<Object>,
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it is written.
    pub reference: String,
    pub line: usize,
    /// `imagePullPolicy` and its line.
    pub pull: Option<(String, usize)>,
}

/// A `nodePort` of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePort {
    pub number: u16,
    pub line: usize,
    /// The Service's name.
    pub service: String,
}

/// An object, by what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

/// Reads a text of one or more documents; the error says line and reason.
pub fn read(text: &str) -> Result<Manifest, (usize, String)> {
    let mut manifest = Manifest::default();
    for document in yaml::read(text)? {
        manifest.mentions.extend(mentions(&document));
        document.each_map(&mut |map| look(map, &mut manifest));
    }
    Ok(manifest)
}

/// The largest object: what a cluster's store takes of one, by default.
const LARGEST: usize = 1536 << 10;

/// As [`read`], of a text that may be no manifest or a large one: an object that can name no image
/// and open no port is known by its first words and not parsed. None if there is no
/// object. Lines are those of each object.
pub fn scan(text: &str) -> Option<Manifest> {
    let mut manifest = Manifest::default();
    for document in documents(text) {
        let Some(kind) = first_word(document, "kind:") else {
            // JSON, or a form with another order; else no object.
            if document.contains("\"kind\"") || document.trim_start().starts_with('{') {
                parse(document, &mut manifest)?;
            }
            continue;
        };
        let may_ask = document.contains("image") || document.contains("nodePort");
        let is_definition = kind == "CustomResourceDefinition";
        // Its name is wanted, whatever it holds.
        let is_workload = matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet");
        if document.contains("{{")
            || is_workload
            || may_ask && !is_definition && document.len() <= LARGEST
        {
            parse(document, &mut manifest)?;
        } else if first_word(document, "apiVersion:").is_some() {
            let (kind, name) = (kind.to_owned(), String::new());
            manifest.objects.push(Object { kind, name, namespace: None });
        }
    }
    (!manifest.objects.is_empty()).then_some(manifest)
}

fn parse(document: &str, manifest: &mut Manifest) -> Option<()> {
    for document in yaml::read(document).ok()? {
        document.each_map(&mut |map| look(map, manifest));
    }
    Some(())
}

/// A text, parted where a line begins with three dashes.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (document, after) = match text.split_once("\n---") {
            Some((document, after)) => (document, Some(after)),
            None => (text, None),
        };
        rest = after;
        Some(document)
    })
}

/// What stands behind a key at the beginning of a line.
fn first_word<'t>(document: &'t str, key: &str) -> Option<&'t str> {
    let line = document.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next().map(|word| word.trim_matches(['"', '\'']))
}

/// Whatever makes pods lists them as `containers`, at whatever depth; a `List` holds whole objects.
fn look(map: &Node, manifest: &mut Manifest) {
    for key in CONTAINERS {
        manifest.images.extend(map.list(key).iter().filter_map(image));
    }
    let (Some(kind), Some(_)) = (map.word("kind"), map.word("apiVersion")) else { return };
    let metadata = |key| map.get("metadata").and_then(|metadata| metadata.word(key));
    let Some(name) = metadata("name") else { return };
    manifest.objects.push(Object {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: metadata("namespace").map(str::to_owned),
    });
    if kind == "Service" {
        let ports = map.get("spec").map(|spec| spec.list("ports")).unwrap_or_default();
        manifest.node_ports.extend(ports.iter().filter_map(|port| {
            let port = port.get("nodePort")?;
            let number = port.text()?.parse().ok()?;
            Some(NodePort { number, line: port.line, service: name.to_owned() })
        }));
    }
}

fn image(container: &Node) -> Option<Image> {
    let image = container.get("image")?;
    let pull = container.get("imagePullPolicy");
    Some(Image {
        reference: image.text().filter(|text| !text.is_empty())?.to_owned(),
        line: image.line,
        pull: pull.and_then(|pull| Some((pull.text()?.to_owned(), pull.line))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_policies_and_ports_are_found_with_their_lines() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  \
            metadata: {name: a, namespace: n}\n  spec:\n    template:\n      spec:\n        \
            containers:\n        - image: web\n          imagePullPolicy: Always\n        \
            initContainers: [{image: \"wait:1\"}]\n---\napiVersion: v1\nkind: Service\n\
            metadata: {name: s}\nspec:\n  type: NodePort\n  ports:\n  - port: 80\n    \
            nodePort: 30080\n";
        let manifest = read(text).unwrap();
        let image = |reference: &str, line, pull: Option<(&str, usize)>| Image {
            reference: reference.to_owned(),
            line,
            pull: pull.map(|(policy, line)| (policy.to_owned(), line)),
        };
        assert_eq!(
            manifest.images,
            [image("wait:1", 13, None), image("web", 11, Some(("Always", 12)))]
        );
        assert_eq!(
            manifest.node_ports,
            [NodePort { number: 30080, line: 22, service: "s".into() }]
        );
        let objects: Vec<_> =
            manifest.objects.iter().map(|one| format!("{}/{}", one.kind, one.name)).collect();
        assert_eq!(objects, ["Deployment/a", "Service/s"]);
    }

    #[test]
    fn a_scan_finds_what_reading_finds_of_images_and_ports() {
        let pod =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: web}]}\n";
        let text = format!(
            "# first\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n--- # second\n{pod}\
             ---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{}}\n\
             spec: [image\n---\n{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"j\"}}}}\n"
        );
        let manifest = scan(&text).unwrap();
        let images: Vec<&str> = manifest.images.iter().map(|one| one.reference.as_str()).collect();
        assert_eq!(images, ["web"]);
        let kinds: Vec<&str> = manifest.objects.iter().map(|one| one.kind.as_str()).collect();
        assert_eq!(kinds, ["ConfigMap", "Pod", "CustomResourceDefinition", "Pod"]);
        for none in
            ["a: 1\n", "spec: {kind: Pod, image: x}\n", "kind: {{ .Kind }}\nimage: {{ x }}\n", ""]
        {
            assert_eq!(scan(none), None, "{none}");
        }
    }

    #[test]
    fn a_patch_and_an_empty_file_ask_for_what_they_name() {
        assert_eq!(read("# nothing\n").unwrap(), Manifest::default());
        let patch = "spec:\n  template:\n    spec:\n      containers:\n      - image: web\n";
        assert_eq!(read(patch).unwrap().images[0].line, 5);
    }
}
