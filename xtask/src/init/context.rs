//! Which folder a Dockerfile copies from: the smallest at or above it that holds all it names.
//!
//! A Dockerfile that names nothing but `.` fits every folder; then it is the nearest that holds
//! more than Dockerfiles. Where no folder holds all (a build's output is missing before the first
//! build) it is the one that lacks least.

use super::{Dockerfile, Facts, folder, is_dockerfile, last, upwards};
use ::dockerfile::{Kind, Source, Tree, select};

/// A context and how well it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Empty for the repository's own folder.
    pub(super) context: String,
    /// Sources it lacks.
    pub(super) missing: Vec<String>,
    /// Sources that tell one folder from another.
    pub(super) telling: usize,
    /// All of it is copied.
    pub(super) whole: bool,
}

pub(super) fn choose(facts: &Facts, dockerfile: &Dockerfile) -> Choice {
    let sources = dockerfile.sources.as_deref().unwrap_or_default();
    let (whole, telling): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| matches!(source.pattern.as_str(), "" | "*"));
    let own = folder(&dockerfile.path);
    let choices = upwards(own).map(|context| Choice {
        context: context.to_owned(),
        missing: missing(facts, context, &telling),
        telling: telling.len(),
        whole: !whole.is_empty(),
    });
    let fits = |choice: &Choice| whole.is_empty() || holds_more(facts, &choice.context);
    let choices: Vec<Choice> = choices.collect();
    let best =
        choices.iter().filter(|choice| fits(choice)).min_by_key(|choice| choice.missing.len());
    best.or(choices.first()).cloned().unwrap_or(Choice {
        context: own.to_owned(),
        missing: Vec::new(),
        telling: 0,
        whole: false,
    })
}

fn missing(facts: &Facts, context: &str, sources: &[&Source]) -> Vec<String> {
    let tree = FileTree { files: &facts.files, root: context };
    let lacks = |source: &&&Source| {
        let selection = select(std::slice::from_ref(**source), &tree);
        selection.roots.is_empty() || !selection.missing.is_empty()
    };
    let mut missing: Vec<String> =
        sources.iter().filter(lacks).map(|source| source.pattern.clone()).collect();
    missing.dedup();
    missing
}

/// Whether a folder holds anything to copy.
fn holds_more(facts: &Facts, context: &str) -> bool {
    let tree = FileTree { files: &facts.files, root: context };
    tree.below(b"").iter().any(|path| {
        let ending = last(path).rsplit('.').next().unwrap_or_default();
        !is_dockerfile(path) && !matches!(ending, "dockerignore" | "gitignore" | "md")
    })
}

/// A folder of a sorted list of files, as a tree.
pub struct FileTree<'a> {
    pub files: &'a [String],
    /// Empty for all of them.
    pub root: &'a str,
}

impl FileTree<'_> {
    fn full(&self, path: &[u8]) -> String {
        let path = String::from_utf8_lossy(path);
        match (self.root, &*path) {
            ("", path) => path.to_owned(),
            (root, "") => root.to_owned(),
            (root, path) => format!("{root}/{path}"),
        }
    }

    /// The files at any depth below a folder.
    fn below(&self, dir: &[u8]) -> &[String] {
        let folder = self.full(dir);
        if folder.is_empty() {
            return self.files;
        }
        let (first, end) = (format!("{folder}/"), format!("{folder}0"));
        let start = self.files.partition_point(|file| *file < first);
        let end = self.files.partition_point(|file| *file < end);
        &self.files[start..end]
    }
}

impl Tree for FileTree<'_> {
    fn kind(&self, path: &[u8]) -> Option<Kind> {
        let full = self.full(path);
        if full.is_empty() || !self.below(path).is_empty() {
            return Some(Kind::Dir);
        }
        self.files.binary_search(&full).is_ok().then_some(Kind::File)
    }

    fn link(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, Kind)> {
        let folder = self.full(dir);
        let start = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let mut children: Vec<(Vec<u8>, Kind)> = self
            .below(dir)
            .iter()
            .map(|file| match file[start..].split_once('/') {
                Some((name, _)) => (name.as_bytes().to_vec(), Kind::Dir),
                None => (file.as_bytes()[start..].to_vec(), Kind::File),
            })
            .collect();
        children.dedup();
        children
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::dockerfile::SourceKind;

    fn chosen(files: &[&str], dockerfile: &str, sources: &[&str]) -> (String, Vec<String>) {
        let mut files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        files.sort();
        let source = |pattern: &&str| Source {
            pattern: (*pattern).to_owned(),
            line: 1,
            kind: SourceKind::Copy { exclude: Vec::new(), parents: None },
        };
        let dockerfile = Dockerfile {
            path: dockerfile.to_owned(),
            text: String::new(),
            sources: Ok(sources.iter().map(source).collect()),
            unset: Vec::new(),
        };
        let facts = Facts {
            name: "x".into(),
            files,
            dockerfiles: Vec::new(),
            manifests: Vec::new(),
            kustomizations: Vec::new(),
            kinds: Vec::new(),
            not_narrowed: Vec::new(),
        };
        let choice = choose(&facts, &dockerfile);
        (choice.context, choice.missing)
    }

    #[test]
    fn the_smallest_folder_that_holds_all_is_the_context() {
        const FILES: [&str; 8] = [
            "go.mod",
            "pkg/a.go",
            "svc/api/Dockerfile",
            "svc/api/main.go",
            "svc/api/web/x.css",
            "docker/Dockerfile",
            "docker/.dockerignore",
            "svc/shared.proto",
        ];
        for (dockerfile, sources, context, missing) in [
            ("svc/api/Dockerfile", &["main.go"][..], "svc/api", &[][..]),
            ("svc/api/Dockerfile", &["api/main.go", "shared.proto"], "svc", &[]),
            ("svc/api/Dockerfile", &["go.mod", "svc/api"], "", &[]),
            ("svc/api/Dockerfile", &["web/*.css", ""], "svc/api", &[]),
            ("svc/api/Dockerfile", &["web/*.js"], "svc/api", &["web/*.js"]),
            ("svc/api/Dockerfile", &[], "svc/api", &[]),
            ("svc/api/Dockerfile", &["go.mod", "dist/app"], "", &["dist/app"]),
            ("docker/Dockerfile", &[""], "", &[]),
            ("docker/Dockerfile", &["go.*", ""], "", &[]),
        ] {
            let found = chosen(&FILES, dockerfile, sources);
            let missing: Vec<String> = missing.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(found, (context.to_owned(), missing), "{dockerfile} {sources:?}");
        }
    }
}
