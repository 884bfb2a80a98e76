//! Images that a manifest names elsewhere than as a container's: in a custom resource, a variable
//! or an argument. kustomize sets none of these unless it is told the field.
//!
//! A bare `gateway` may be anything: a label, a host, a Service. So a text counts only where what
//! it stands under is called an image: a key, a variable, an option.

use super::yaml::{Node, Value};
use crate::config::is_field;
use crate::reference::Reference;

/// Lists whose items' `image` kustomize sets by itself.
pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Keys that are called after images, or may be, and name none.
const NO_IMAGES: [&str; 3] = ["imagePullSecrets", "labels", "matchLabels"];

/// A text that is said to be an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The way to it from its object: `spec.template.spec.containers[].env[].value`.
    pub field: String,
    /// The image, as it is written.
    pub image: String,
    pub line: usize,
    /// Whether the image is the whole text.
    is_whole: bool,
}

impl Mention {
    /// Which of some images of the configuration it means, unless the step sets that field.
    pub fn meant<'n>(&self, names: &'n [String], images_in: &[String]) -> Option<&'n str> {
        if self.is_whole && images_in.contains(&self.field) {
            return None;
        }
        let name = Reference::parse(&self.image).name;
        let last = name.rsplit('/').next()?;
        names.iter().find(|known| *known == last).map(String::as_str)
    }

    /// What to do about it, where it means `name`.
    pub fn mend(&self, name: &str) -> String {
        if !self.is_whole {
            let variable = "a variable of `env`, `--option=$(VARIABLE)`";
            return format!("give the image by {variable}, and name its field in `images-in`");
        }
        if !is_field(&self.field) {
            return "set it by a `run` step, which is given NAME_IMAGE".to_owned();
        }
        let plainly = if Reference::parse(&self.image).name == name {
            String::new()
        } else {
            format!("name it plainly, `{name}`, and ")
        };
        format!("{plainly}say `images-in = [\"{}\"]` in the step", self.field)
    }
}

/// What an object mentions; a `List` holds whole objects.
pub(super) fn mentions(object: &Node) -> Vec<Mention> {
    let is_list = object.word("kind").is_some_and(|kind| kind.ends_with("List"));
    let items = object.list("items");
    if is_list && !items.is_empty() {
        return items.iter().flat_map(mentions).collect();
    }
    let mut found = Vec::new();
    look(object, "", false, &mut found);
    found
}

fn look(node: &Node, field: &str, is_image: bool, found: &mut Vec<Mention>) {
    match &node.value {
        Value::Text(text) if is_image => found.push(mention(node, field, text, true)),
        Value::Null | Value::Text(_) => {}
        Value::List(items) => {
            let field = format!("{field}[]");
            let are_words = field.ends_with("args[]") || field.ends_with("command[]");
            let mut before = "";
            for item in items {
                let word = item.text().unwrap_or_default();
                if let Some((option, value)) = word.split_once('=')
                    && are_words
                    && is_about(option)
                {
                    found.push(mention(item, &field, value, false));
                }
                let is_given = are_words && before.starts_with('-') && is_about(before);
                look(item, &field, is_image || is_given, found);
                before = word;
            }
        }
        Value::Map(fields) => {
            let is_named = node.word("name").is_some_and(is_about);
            let is_container = CONTAINERS
                .iter()
                .any(|list| field.strip_suffix("[]").is_some_and(|field| field.ends_with(list)));
            for (key, value) in fields {
                if NO_IMAGES.contains(&key.as_str()) || is_container && key == "image" {
                    continue;
                }
                let is_image = is_image || is_about(key) || is_named && key == "value";
                let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                look(value, &field, is_image, found);
            }
        }
    }
}

fn mention(node: &Node, field: &str, image: &str, is_whole: bool) -> Mention {
    let (field, image) = (field.to_owned(), image.to_owned());
    Mention { field, image, line: node.line, is_whole }
}

fn is_about(name: &str) -> bool {
    name.to_ascii_lowercase().contains("image")
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: example.test/v1\n  \
        kind: Widget\n  metadata: {name: gateway, labels: {image: gateway}}\n  spec:\n    \
        image: gateway\n    proxy: {image: {repository: quay.io/x/gateway}}\n    host: gateway\n\
        - apiVersion: apps/v1\n  kind: Deployment\n  spec:\n    template:\n      spec:\n        \
        imagePullSecrets: [{name: gateway}]\n        containers:\n        - name: gateway\n          \
        image: gateway\n          env:\n          - {name: SIDECAR_IMAGE, value: 'gateway:1'}\n          \
        - {name: HOST, value: 'gateway:80'}\n          args: [--image=gateway, --sidecar-image, \
        gateway, --host=gateway, '--image=other']\n---\nkind: X\nmetadata:\n  annotations:\n    \
        example.test/image: gateway\n";

    #[test]
    fn an_image_is_known_by_what_it_stands_under() {
        let documents = yaml::read(MANIFEST).unwrap();
        let found: Vec<Mention> = documents.iter().flat_map(mentions).collect();
        let names = ["gateway".to_owned()];
        let told: Vec<(usize, &str)> = found
            .iter()
            .filter(|one| one.meant(&names, &[]).is_some())
            .map(|one| (one.line, one.field.as_str()))
            .collect();
        let container = "spec.template.spec.containers[]";
        let (env, args) = (format!("{container}.env[].value"), format!("{container}.args[]"));
        assert_eq!(
            told,
            [
                (8, "spec.image"),
                (9, "spec.proxy.image.repository"),
                (21, &*env),
                (23, &*args),
                (23, &*args),
                (28, "metadata.annotations.example.test/image"),
            ]
        );
        let mends: Vec<String> = found.iter().map(|one| one.mend("gateway")).collect();
        assert_eq!(mends[0], "say `images-in = [\"spec.image\"]` in the step");
        assert!(mends[1].starts_with("name it plainly, `gateway`, and say "), "{mends:?}");
        assert!(mends[3].contains("--option=$(VARIABLE)"), "{mends:?}");
        assert!(mends.last().is_some_and(|mend| mend.contains("NAME_IMAGE")), "{mends:?}");
    }

    #[test]
    fn a_field_that_the_step_sets_is_set() {
        let documents = yaml::read(MANIFEST).unwrap();
        let found = mentions(&documents[0]);
        let (names, set) = (["gateway".to_owned()], ["spec.image".to_owned()]);
        assert_eq!(found[0].meant(&names, &set), None);
        assert_eq!(found[1].meant(&names, &set), Some("gateway"));
        assert_eq!(found[0].meant(&["other".to_owned()], &[]), None);
    }
}
