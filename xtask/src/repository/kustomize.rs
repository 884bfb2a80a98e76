//! Which files a step's `apply` takes, and what kustomize calls their images.
//!
//! | `apply` | files |
//! | --- | --- |
//! | a file | itself |
//! | a folder without a kustomization | its YAML and JSON files, by name |
//! | a folder with one | its `resources`, `bases`, `components` and patches, and so on below |
//!
//! Of what a kustomization changes only `images:` is followed: the outer ones see what the inner
//! ones made. Resources from the network and what generators and Helm charts make are not seen.
//!
//! A kustomization reaches no file outside its repository, by whatever way ([`reach`]): kustomize's
//! own rule, no file above the kustomization's folder, would refuse what is common
//! (`../../config/app.conf`).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::yaml::{self, Node, Value};
use crate::plain_file;

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A file that is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub file: PathBuf,
    /// `images:` of the kustomizations above it, the inner ones first.
    pub renamed: Vec<Renamed>,
}

/// An entry of `images:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    name: String,
    new_name: Option<String>,
    /// `:TAG` or `@DIGEST`.
    suffix: Option<String>,
}

impl Applied {
    /// An image as it is called once kustomize is through.
    pub fn image(&self, reference: &str) -> String {
        self.renamed.iter().fold(reference.to_owned(), |reference, renamed| {
            let (name, suffix) = split(&reference);
            if name != renamed.name {
                return reference;
            }
            let name = renamed.new_name.as_deref().unwrap_or(name);
            format!("{name}{}", renamed.suffix.as_deref().unwrap_or(suffix))
        })
    }
}

/// `host:5000/a:b@c` → (`host:5000/a`, `:b@c`).
fn split(reference: &str) -> (&str, &str) {
    let path = reference.rfind('/').map_or(0, |slash| slash + 1);
    let end = reference[path..].find([':', '@']).map_or(reference.len(), |at| path + at);
    reference.split_at(end)
}

/// A file, a line in it, and what is wrong there.
pub type Trouble = (PathBuf, usize, String);

/// The longest chain of kustomizations, each a part of the one before.
const DEEPEST: usize = 64;

/// Keys whose values are files or folders, wherever they stand in a kustomization or in the
/// configuration of a generator or transformer.
const REFERENCES: [&str; 21] = [
    "additionalValuesFiles",
    "bases",
    "chartHome",
    "components",
    "configHome",
    "configurations",
    "crds",
    "env",
    "envs",
    "files",
    "generators",
    "patches",
    "patchesJson6902",
    "patchesStrategicMerge",
    "path",
    "paths",
    "resources",
    "transformers",
    "validators",
    "valuesFile",
    "valuesFiles",
];

/// Keys below which nothing is a file, whatever it is called.
const WORDS: [&str; 7] = [
    "annotations",
    "commonAnnotations",
    "commonLabels",
    "labels",
    "literals",
    "options",
    "valuesInline",
];

/// The files that applying `path` takes. `root` is the configuration's folder.
pub fn applied(path: &Path, root: &Path) -> Result<Vec<Applied>, Trouble> {
    let mut found = Vec::new();
    Walk::new(path, root).collect(path, &[], 0, &mut found)?;
    Ok(found)
}

/// What applying `path` would fetch from the network; an error where it would read a file outside
/// its repository. `root` is the configuration's folder.
pub fn reach(path: &Path, root: &Path) -> Result<Vec<String>, Trouble> {
    let mut walk = Walk::new(path, root);
    walk.collect(path, &[], 0, &mut Vec::new())?;
    Ok(walk.remote)
}

/// Whether a folder has a kustomization.
pub fn kustomization(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// A walk over a kustomization and all it is made of.
struct Walk {
    /// The repository's folder, canonical.
    top: PathBuf,
    seen: BTreeSet<PathBuf>,
    /// What is fetched from the network.
    remote: Vec<String>,
}

impl Walk {
    /// A configuration may name a folder of another repository; a link may not lead there.
    fn new(path: &Path, root: &Path) -> Self {
        let up = |below: &Path| below.components().any(|part| part == Component::ParentDir);
        let is_named_below = path.strip_prefix(root).is_ok_and(|below| !up(below));
        let top = super::top(if is_named_below { root } else { path });
        Self { top, seen: BTreeSet::new(), remote: Vec::new() }
    }

    fn collect(
        &mut self,
        path: &Path,
        above: &[Renamed],
        depth: usize,
        found: &mut Vec<Applied>,
    ) -> Result<(), Trouble> {
        if depth > DEEPEST {
            return Err((path.to_owned(), 1, "kustomizations are nested too deeply".to_owned()));
        }
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let applied = |file| Applied { file, renamed: above.to_vec() };
        if !path.is_dir() {
            found.push(applied(path.to_owned()));
            return Ok(());
        }
        let Some(file) = kustomization(path) else {
            for file in plain(path) {
                self.inside(&file).map_err(|message| (file.clone(), 1, message))?;
                found.push(applied(file));
            }
            return Ok(());
        };
        self.inside(&file).map_err(|message| (file.clone(), 1, message))?;
        let failed = |(line, message)| (file.clone(), line, message);
        let text = plain_file::read_to_string(&file);
        let text = text.map_err(|error| failed((1, error.to_string())))?;
        for document in yaml::read(&text).map_err(failed)? {
            self.check(&document, &file, path)?;
            let own = document.list("images").iter().filter_map(renamed);
            let renamed: Vec<Renamed> = own.chain(above.iter().cloned()).collect();
            for (line, name) in parts(&document) {
                let part: PathBuf = clean(&path.join(name));
                if part.exists() {
                    self.collect(&part, &renamed, depth + 1, found)?;
                } else if !is_remote(name) {
                    return Err((file, line, format!("there is no `{name}`")));
                }
            }
        }
        Ok(())
    }

    /// Holds every file that a document names to the repository.
    fn check(&mut self, document: &Node, file: &Path, folder: &Path) -> Result<(), Trouble> {
        let mut names = Vec::new();
        references(document, false, &mut names);
        for (line, name) in names {
            let trouble = |message| (file.to_owned(), line, message);
            let file_name = file_part(name);
            if is_fetched(file_name, folder) {
                self.remote.push(name.to_owned());
                continue;
            }
            for path in [name, file_name].map(|name| folder.join(name)) {
                self.inside(&path).map_err(trouble)?;
                if self.seen.insert(clean(&path).join("checked")) {
                    self.check_configuration(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The same of what generators and transformers are told in files of their own.
    fn check_configuration(&mut self, path: &Path) -> Result<(), Trouble> {
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if !is_yaml || !path.is_file() {
            return Ok(());
        }
        // What cannot be read or is no YAML is kustomize's to complain of.
        let Ok(text) = plain_file::read_to_string(path) else { return Ok(()) };
        let folder = path.parent().unwrap_or(path);
        for document in yaml::read(&text).unwrap_or_default() {
            let is_builtin =
                document.word("apiVersion").is_some_and(|version| version == "builtin");
            if is_builtin {
                self.check(&document, path, folder)?;
            }
        }
        Ok(())
    }

    /// Nothing outside the repository is read, be it by a name that leads there or by a link.
    fn inside(&self, path: &Path) -> Result<(), String> {
        // What is not there is not read.
        let Ok(real) = fs_err::canonicalize(path) else { return Ok(()) };
        if real.starts_with(&self.top) {
            return Ok(());
        }
        Err(format!("`{}` is outside the repository", path.display()))
    }
}

/// Files and folders that a document names, with their lines.
fn references<'n>(node: &'n Node, is_file: bool, found: &mut Vec<(usize, &'n str)>) {
    match &node.value {
        // A patch or configuration may stand there itself.
        Value::Text(text) if is_file && !text.contains('\n') => found.push((node.line, text)),
        Value::List(items) => items.iter().for_each(|item| references(item, is_file, found)),
        Value::Map(fields) => {
            for (key, value) in fields {
                if !WORDS.contains(&key.as_str()) {
                    references(value, REFERENCES.contains(&key.as_str()), found);
                }
            }
        }
        _ => {}
    }
}

/// The file of `KEY=FILE`, as generators name one.
fn file_part(name: &str) -> &str {
    match name.split_once('=') {
        Some((key, file)) if !key.contains(['/', ':', '?']) => file,
        _ => name,
    }
}

/// Whether kustomize goes to the network for a name: it tries that before it looks for a file.
fn is_fetched(name: &str, folder: &Path) -> bool {
    let prefixes = ["git::", "gh:", "git@", "github.com:", "github.com/"];
    let has_host = name.contains("://") || prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_scp = name.split_once('@').is_some_and(|(_, rest)| rest.contains(':'));
    has_host || is_scp || (is_remote(name) && !folder.join(name).exists())
}

/// Paths a kustomization names, with their lines.
fn parts(document: &Node) -> Vec<(usize, &str)> {
    let lists = ["resources", "bases", "components", "patchesStrategicMerge"];
    let listed = lists.into_iter().flat_map(|key| document.list(key));
    let listed = listed.filter_map(|node| Some((node.line, node.text()?)));
    let patches = document.list("patches").iter().filter_map(|patch| patch.get("path"));
    let patches = patches.filter_map(|node| Some((node.line, node.text()?)));
    // A patch may stand there itself.
    listed.chain(patches).filter(|(_, name)| !name.contains('\n')).collect()
}

fn is_remote(name: &str) -> bool {
    name.contains("://") || name.contains("?ref=") || name.starts_with("git@") || {
        let first = name.split('/').next().unwrap_or_default();
        first.contains('.') && !first.starts_with('.') && name.contains('/')
    }
}

fn renamed(entry: &Node) -> Option<Renamed> {
    let tag = entry.word("newTag").map(|tag| format!(":{tag}"));
    let digest = entry.word("digest").map(|digest| format!("@{digest}"));
    Some(Renamed {
        name: entry.word("name")?.to_owned(),
        new_name: entry.word("newName").map(str::to_owned),
        suffix: digest.or(tag),
    })
}

/// Without `.`, and without `..` where a folder stands before it.
fn clean(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn plain(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).min_depth(1).max_depth(1).sort_by_file_name();
    let files = entries.into_iter().flatten().map(walkdir::DirEntry::into_path);
    let is_manifest = |file: &PathBuf| {
        let ending = file.extension().and_then(std::ffi::OsStr::to_str);
        matches!(ending, Some("yaml" | "yml" | "json")) && file.is_file()
    };
    files.filter(is_manifest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::folder as tree;

    #[test]
    fn an_overlay_is_followed_and_its_images_count() {
        let folder = tree(&[
            (
                "over/kustomization.yaml",
                "resources: [../base, https://example.test/x.yaml]\n\
                 images: [{name: web, newName: registry.test/web, newTag: '2'}]\n\
                 patches: [{path: patch.yaml}]\n",
            ),
            ("over/patch.yaml", ""),
            ("over/unlisted.yaml", ""),
            (
                "base/kustomization.yaml",
                "resources: [a.yaml]\nimages: [{name: app, newName: web}]\n",
            ),
            ("base/a.yaml", ""),
        ]);
        let root = fs_err::canonicalize(folder.path()).unwrap();
        let found = applied(&root.join("over"), &root).unwrap();
        let files: Vec<_> =
            found.iter().map(|one| one.file.strip_prefix(&root).unwrap().to_owned()).collect();
        assert_eq!(files, [Path::new("base/a.yaml"), Path::new("over/patch.yaml")]);
        assert_eq!(found[0].image("app:1"), "registry.test/web:2");
        assert_eq!(found[0].image("host:5000/app:1"), "host:5000/app:1");
        assert_eq!(found[1].image("app:1"), "app:1");
    }

    #[test]
    fn a_folder_without_a_kustomization_is_its_files() {
        let folder = tree(&[("b.yaml", ""), ("a.json", ""), ("c.txt", ""), ("d/e.yaml", "")]);
        let found = applied(folder.path(), folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|one| one.file.file_name().unwrap()).collect();
        assert_eq!(names, ["a.json", "b.yaml"]);
    }

    #[test]
    fn a_resource_that_is_not_there_is_told() {
        let folder = tree(&[("kustomization.yaml", "resources:\n- gone.yaml\n")]);
        let (file, line, message) = applied(folder.path(), folder.path()).unwrap_err();
        assert!(file.ends_with("kustomization.yaml"));
        assert_eq!((line, message.as_str()), (2, "there is no `gone.yaml`"));
    }

    #[test]
    fn nothing_outside_the_repository_is_reached() {
        let outside = tree(&[("secret", "x"), ("base/kustomization.yaml", "")]);
        let secret = outside.path().join("secret").display().to_string();
        let base = outside.path().join("base").display().to_string();
        let refused = [
            format!("configMapGenerator: [{{name: a, files: [{secret}]}}]\n"),
            format!("configMapGenerator: [{{name: a, files: [k={secret}]}}]\n"),
            format!("secretGenerator: [{{name: a, envs: [{secret}]}}]\n"),
            format!("secretGenerator: [{{name: a, env: {secret}}}]\n"),
            format!("patches: [{{path: {secret}}}]\n"),
            format!("patchesJson6902: [{{path: {secret}}}]\n"),
            format!("replacements: [{{path: {secret}}}]\n"),
            format!("openapi: {{path: {secret}}}\n"),
            format!("crds: [{secret}]\n"),
            format!("resources: [{base}]\n"),
            "resources: [link]\n".to_owned(),
            "configMapGenerator: [{name: a, files: [within/link/secret]}]\n".to_owned(),
            "transformers: [transformer.yaml]\n".to_owned(),
            "resources: [/dev/zero]\n".to_owned(),
        ];
        for text in refused {
            let folder = tree(&[
                (".git/config", ""),
                ("k/kustomization.yaml", &text),
                ("k/within/x", ""),
                (
                    "k/transformer.yaml",
                    &format!("apiVersion: builtin\nkind: PatchTransformer\npath: {secret}\n"),
                ),
            ]);
            let link = |at: &str| {
                let at = folder.path().join(at);
                fs_err::os::unix::fs::symlink(outside.path(), at).unwrap();
            };
            link("k/link");
            link("k/within/link");
            let top = folder.path();
            let (file, _, message) = reach(&folder.path().join("k"), top).expect_err(&text);
            assert!(message.ends_with("is outside the repository"), "{text}: {message}");
            assert!(file.starts_with(folder.path()), "{}", file.display());
        }
    }

    #[test]
    fn what_the_repository_holds_is_reached_from_anywhere_in_it_and_the_network_is_named() {
        let folder = tree(&[
            (".git/config", ""),
            ("config/app.conf", ""),
            (
                "a/k/kustomization.yaml",
                "resources: [../base, https://example.test/x.yaml, github.com/o/r//k?ref=v1]\n\
                 configMapGenerator: [{name: a, files: [app.conf=../../config/app.conf], \
                 literals: [HOME=/root, SHELL=/bin/sh]}]\n\
                 commonAnnotations: {path: /etc/passwd}\n\
                 patches: [{patch: \"[{op: add, path: /etc}]\"}]\n",
            ),
            ("a/base/kustomization.yaml", "namespace: a\n"),
        ]);
        let root = folder.path().join("a");
        assert_eq!(super::super::top(&root), fs_err::canonicalize(folder.path()).unwrap());
        let remote = reach(&root.join("k"), &root).unwrap();
        assert_eq!(remote, ["https://example.test/x.yaml", "github.com/o/r//k?ref=v1"]);
    }

    #[test]
    fn a_chain_and_a_ring_of_kustomizations_end() {
        let folder = tempfile::tempdir().unwrap();
        for at in 0..500 {
            let below = folder.path().join(at.to_string());
            fs_err::create_dir(&below).unwrap();
            let text = format!("resources: [../{}]\n", (at + 1) % 500);
            fs_err::write(below.join("kustomization.yaml"), text).unwrap();
        }
        let top = folder.path();
        let (_, _, message) = applied(&folder.path().join("0"), top).unwrap_err();
        assert!(message.contains("too deeply"), "{message}");
        fs_err::write(folder.path().join("3/kustomization.yaml"), "resources: [../0]\n").unwrap();
        assert!(applied(&folder.path().join("0"), top).unwrap().is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        #[test]
        fn any_text_is_an_answer_or_an_error(
            lines in proptest::collection::vec("[a-z]{1,4}(:|: \\[)( ?[a-z./=&*@{}#-]{0,8}){0,3}\\]?", 0..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("kustomization.yaml");
            fs_err::write(file, lines.join("\n")).unwrap();
            let top = folder.path();
            reach(folder.path(), top).ok();
        }
    }
}
