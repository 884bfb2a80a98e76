//! Which files are Dockerfiles, and what their images are called.

use std::collections::BTreeMap;

use super::{Facts, folder, free, last, plain, upwards};

/// Folders whose names say what they hold, and not for which image.
const GENERIC: [&str; 18] = [
    "app",
    "build",
    "ci",
    "cmd",
    "container",
    "containers",
    "deploy",
    "deployment",
    "docker",
    "dockerfiles",
    "hack",
    "image",
    "images",
    "package",
    "packaging",
    "scripts",
    "src",
    "tools",
];

/// Endings of templates, ignore files and notes beside Dockerfiles.
const OTHERS: [&str; 9] =
    ["dockerignore", "md", "tmpl", "tpl", "template", "j2", "in", "erb", "swp"];

/// Parts of a Dockerfile's name that tell variants of one image apart.
const VARIANTS: [&str; 12] = [
    "alpine",
    "amd64",
    "arm64",
    "debian",
    "debug",
    "dev",
    "distroless",
    "local",
    "prod",
    "release",
    "test",
    "ubi",
];

/// Whether git would call this file a Dockerfile, were git to care.
pub fn is_dockerfile(path: &str) -> bool {
    let name = last(path).to_ascii_lowercase();
    if name == "dockerfile" || name == "containerfile" {
        return true;
    }
    let after = name.strip_prefix("dockerfile.").or(name.strip_prefix("containerfile."));
    let before = name.strip_suffix(".dockerfile").or(name.strip_suffix(".containerfile"));
    after.is_some_and(|ending| !OTHERS.iter().any(|other| ending.ends_with(other)))
        || before.is_some_and(|name| !name.is_empty())
}

/// What the Dockerfile's own name adds, if anything: `api` of `api.Dockerfile`.
fn own(path: &str) -> Option<String> {
    let name = last(path).to_ascii_lowercase();
    let own = ["dockerfile", "containerfile"].iter().find_map(|word| {
        let after = name.strip_prefix(word).and_then(|rest| rest.strip_prefix('.'));
        after.or_else(|| name.strip_suffix(word).and_then(|rest| rest.strip_suffix('.')))
    })?;
    Some(plain(own)).filter(|name| !name.is_empty())
}

/// The nearest folder that says something, else the repository.
fn place(facts: &Facts, path: &str) -> String {
    let telling = upwards(folder(path))
        .map(last)
        .find(|name| !name.is_empty() && !GENERIC.contains(&name.to_ascii_lowercase().as_str()));
    let name = plain(telling.unwrap_or(&facts.name));
    if name.is_empty() { "image".to_owned() } else { name }
}

/// A name for each Dockerfile, by its place among the facts'.
pub(super) fn names(facts: &Facts) -> Vec<String> {
    let wanted: Vec<String> =
        facts.dockerfiles.iter().map(|one| wanted(facts, &one.path)).collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &wanted {
        *count.entry(name).or_default() += 1;
    }
    let mut names: Vec<String> = Vec::new();
    for (dockerfile, name) in facts.dockerfiles.iter().zip(&wanted) {
        let parts: Vec<&str> = dockerfile.path.split('/').collect();
        let above = parts.iter().rev().skip(1).map(|part| plain(part));
        let above = above
            .filter(|part| !part.is_empty() && part != name)
            .find(|part| !GENERIC.contains(&part.as_str()));
        let full = match above.filter(|_| count[name.as_str()] > 1) {
            Some(above) if !name.starts_with(&above) => format!("{above}-{name}"),
            _ => name.clone(),
        };
        // `defaults` is the table of what all share.
        let full = if full == "defaults" { "defaults-image".to_owned() } else { full };
        names.push(free(&full, |name| names.iter().any(|taken| taken == name)));
    }
    names
}

fn wanted(facts: &Facts, path: &str) -> String {
    match own(path) {
        Some(own) if VARIANTS.contains(&own.as_str()) => format!("{}-{own}", place(facts, path)),
        Some(own) => own,
        None => place(facts, path),
    }
}

/// The stage to build where the last one is not what is shipped.
pub(super) fn target(text: &str) -> Option<String> {
    let stages: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is = |at: usize, word: &str| {
                words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word))
            };
            let name = words.last().filter(|_| is(0, "FROM") && words.len() > 3);
            name.filter(|_| is(words.len() - 2, "AS")).map(|name| name.to_ascii_lowercase())
        })
        .collect();
    let last = stages.last()?;
    let for_tests = ["test", "tests", "dev", "debug", "lint", "ci"].contains(&last.as_str());
    let shipped = ["release", "production", "prod", "final", "runtime", "run"];
    let found = stages.iter().find(|stage| shipped.contains(&stage.as_str()));
    found.filter(|_| for_tests).cloned()
}

/// Arguments declared without a value, but for those engines give one.
pub fn unset(text: &str) -> Vec<String> {
    let given = ["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"];
    let mut names = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("ARG")) {
            continue;
        }
        for name in words.take_while(|word| *word != "\\" && !word.starts_with('#')) {
            let known = given.contains(&name) || name.starts_with("TARGET");
            if !name.contains('=') && !known && !names.iter().any(|other| other == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// What the build compiles, where it says so once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Package {
    Cargo(String),
    /// `./PATH`
    Go(String),
}

pub(super) fn package(text: &str) -> Option<Package> {
    let joined = text.replace("\\\n", " ");
    let mut found: Vec<Package> = Vec::new();
    for line in joined.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for command in line.split(['&', ';', '|']) {
            found.extend(compiled(command));
        }
    }
    found.dedup();
    match &found[..] {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn compiled(command: &str) -> Option<Package> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let build = words.windows(2).position(|pair| pair[1] == "build" && is_compiler(pair[0]))?;
    let rest = &words[build + 2..];
    if words[build] == "cargo" {
        let flag = rest.iter().position(|word| matches!(*word, "-p" | "--package"));
        let after = flag.and_then(|at| rest.get(at + 1)).copied();
        let joined = rest.iter().find_map(|word| word.strip_prefix("--package="));
        return Some(Package::Cargo(joined.or(after)?.to_owned()));
    }
    let path = rest.last()?.trim_matches('"');
    let named =
        path.strip_prefix("./").filter(|path| !path.is_empty() && !path.contains(['$', '.']));
    named.map(|_| Package::Go(path.trim_end_matches('/').to_owned()))
}

fn is_compiler(word: &str) -> bool {
    matches!(word, "go" | "cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(paths: &[&str]) -> Vec<String> {
        let dockerfile = |path: &&str| crate::init::Dockerfile {
            path: (*path).to_owned(),
            text: String::new(),
            sources: Ok(Vec::new()),
            unset: Vec::new(),
        };
        names(&Facts {
            name: "My_Shop".into(),
            files: Vec::new(),
            dockerfiles: paths.iter().map(dockerfile).collect(),
            manifests: Vec::new(),
            kustomizations: Vec::new(),
            kinds: Vec::new(),
            not_narrowed: Vec::new(),
        })
    }

    #[test]
    fn dockerfiles_are_known_by_their_names() {
        for (path, expected) in [
            ("Dockerfile", true),
            ("a/Containerfile", true),
            ("Dockerfile.api", true),
            ("api.Dockerfile", true),
            ("a/api.dockerfile", true),
            ("Dockerfile.dockerignore", false),
            ("Dockerfile.tmpl", false),
            ("Dockerfile.md", false),
            ("dockerfile.go", true),
            ("mydockerfile", false),
        ] {
            assert_eq!(is_dockerfile(path), expected, "{path}");
        }
    }

    #[test]
    fn names_come_from_what_tells_images_apart() {
        for (paths, expected) in [
            (&["Dockerfile"][..], &["my-shop"][..]),
            (&["src/cart/src/Dockerfile", "src/Web/Dockerfile"], &["cart", "web"]),
            (&["docker/api.Dockerfile", "Dockerfile.worker"], &["api", "worker"]),
            (&["cart/Dockerfile", "cart/Dockerfile.debug"], &["cart", "cart-debug"]),
            (&["a/proxy/Dockerfile", "b/proxy/Dockerfile"], &["a-proxy", "b-proxy"]),
            (&["defaults/Dockerfile"], &["defaults-image"]),
            (&["api.Dockerfile", "api.Containerfile"], &["api", "api-2"]),
        ] {
            assert_eq!(named(paths), expected, "{paths:?}");
        }
    }

    #[test]
    fn a_target_is_named_where_the_last_stage_is_not_shipped() {
        assert_eq!(
            target("FROM a AS build\nFROM b AS release\nFROM build AS test"),
            Some("release".into())
        );
        assert_eq!(target("FROM a AS build\nFROM b AS final"), None);
        assert_eq!(target("FROM a"), None);
    }

    #[test]
    fn arguments_without_a_value_are_named() {
        let text = "ARG A=1\nARG B C=2\nFROM x\nARG TARGETARCH\narg D\nARG B\n";
        assert_eq!(unset(text), ["B", "D"]);
    }

    #[test]
    fn a_package_is_evident_where_one_is_compiled() {
        let go = |path: &str| Some(Package::Go(path.to_owned()));
        for (text, expected) in [
            ("RUN CGO_ENABLED=0 go build -o /x \\\n  ./cmd/api", go("./cmd/api")),
            ("RUN go build -o /a ./cmd/a && go build -o /b ./cmd/b", None),
            ("RUN go build -o /x .", None),
            ("RUN go build -o /x ./...", None),
            ("RUN go build -o /x ./cmd/$NAME", None),
            ("RUN cargo build --release -p api", Some(Package::Cargo("api".into()))),
            ("RUN cargo build --package=api", Some(Package::Cargo("api".into()))),
            ("RUN cargo build --release", None),
            ("# RUN go build ./cmd/api", None),
        ] {
            assert_eq!(package(text), expected, "{text}");
        }
    }
}
