//! `no-cache`: scripts that build everything anew to be sure. A build that is provably right needs
//! no such surety; on the repository this rule comes from it was 15 minutes of 28.
//!
//! `--no-cache` counts where the command it belongs to is a build (`apk add --no-cache` is none),
//! on a line of its own after a `\` too, and in the words that Go or Python code calls a program
//! with; in pipelines and compose files also `no-cache: true` and its other spellings. Comments do
//! not count.

use super::Finding;
use super::facts::Facts;
use crate::config::Rule;

const FLAG: &str = "--no-cache";

/// Words of which one is in any command, or variable, that builds images.
const BUILDERS: [&str; 11] = [
    "build", "buildx", "bake", "bud", "buildah", "docker", "podman", "nerdctl", "compose", "image",
    "images",
];

/// Programs with a `--no-cache` of their own.
const OTHERS: [&str; 6] = ["apk", "pip", "uv", "poetry", "ruff", "eslint"];

/// Whether a file, by its path, may hold commands. A file without an ending may be a script too:
/// its first line tells ([`is_script`]).
pub fn may_hold_commands(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
    match ending {
        "" | "sh" | "bash" | "mk" | "just" => true,
        _ if is_code(path) => true,
        "yml" | "yaml" => {
            path.starts_with(".github/")
                || ["action", "skaffold", "taskfile", ".gitlab-ci", ".pre-commit-config"]
                    .contains(&stem)
                || stem.contains("compose")
        }
        _ => name == ".justfile",
    }
}

/// Whether a file, by its path, is in a language that harnesses are written in.
fn is_code(path: &str) -> bool {
    matches!(path.rsplit_once('.'), Some((_, "go" | "py")))
}

/// Whether a text whose name has no ending is a script. Code is one where it has the flag at all.
pub fn is_script(path: &str, text: &str) -> bool {
    if is_code(path) {
        return text.contains(FLAG);
    }
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let recipes = ["makefile", "gnumakefile", "justfile", ".justfile", "jenkinsfile"];
    name.contains('.') || recipes.contains(&name.as_str()) || text.starts_with("#!")
}

/// The rule.
pub(super) fn no_cache(facts: &Facts) -> Vec<Finding> {
    let lines = facts.scripts.iter().flat_map(|script| {
        let lines = uncached(&script.text, is_code(&script.file));
        lines.into_iter().map(move |line| (script, line))
    });
    let findings = lines.map(|(script, line)| Finding {
        rule: Rule::NoCache,
        file: script.file.clone(),
        line,
        reason: "builds without the cache, every time".to_owned(),
        mend: "leave it out; to build one image anew: cargo xtask images NAME --force".to_owned(),
    });
    findings.collect()
}

/// Lines, counted from 1. In code a call, or a list of words, goes on over lines that end in a
/// comma.
fn uncached(text: &str, is_code: bool) -> Vec<usize> {
    let mut found = Vec::new();
    // What the command on this line began with, on lines before it.
    let mut before = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = without_comment(line, is_code);
        let at = before.len();
        before.push_str(line);
        let flag = flag(&before, at);
        if flag.is_some_and(|flag| builds(&before, flag)) || is_key(line) {
            found.push(number);
        }
        if let Some(start) = before.strip_suffix('\\') {
            before.truncate(start.len());
            before.push(' ');
        } else if !is_code || !(before.ends_with([',', '(', '[']) || before.ends_with("string{")) {
            before.clear();
        }
    }
    found
}

fn without_comment(line: &str, is_code: bool) -> &str {
    let text = line.trim_start();
    if text.starts_with('#') || is_code && text.starts_with("//") {
        return "";
    }
    line.find(" #").map_or(line, |at| &line[..at]).trim_end()
}

/// Where the flag stands, as a word of its own, from `start` on.
fn flag(command: &str, start: usize) -> Option<usize> {
    let mut places = command.match_indices(FLAG).map(|(at, _)| at).filter(|at| *at >= start);
    places.find(|at| {
        let rest = &command[at + FLAG.len()..];
        let ends = rest.starts_with("=true")
            || rest
                .chars()
                .next()
                .is_none_or(|next| !next.is_alphanumeric() && !"-_=".contains(next));
        let first = command[..*at].chars().next_back();
        ends && first.is_none_or(|before| !before.is_alphanumeric() && before != '-')
    })
}

/// Whether the command with the flag builds images; of several on a line, the one it belongs to.
fn builds(command: &str, flag: usize) -> bool {
    let start = command[..flag].rfind(['|', ';', '&']).map_or(0, |at| at + 1);
    let end = command[flag..].find(['|', ';', '&']).map_or(command.len(), |at| flag + at);
    let words = |text: &str, wanted: &[&str]| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| wanted.contains(&word.to_ascii_lowercase().as_str()))
    };
    words(&command[start..end], &BUILDERS) && !words(&command[start..flag], &OTHERS)
}

fn is_key(line: &str) -> bool {
    let Some((key, value)) = line.trim_start_matches([' ', '-']).split_once(':') else {
        return false;
    };
    ["no-cache", "no_cache", "noCache"].contains(&key) && value.trim() == "true"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_without_the_cache_are_found() {
        for (text, lines) in [
            ("docker build --no-cache .", &[1][..]),
            ("podman build \\\n  -t x \\\n  --no-cache \\\n  .\n", &[3]),
            ("\t$(CONTAINER_TOOL) build --no-cache=true -t ${IMG} .", &[1]),
            ("DOCKER_BUILD_FLAGS += --no-cache", &[1]),
            ("      - run: docker buildx bake --no-cache", &[1]),
            ("        with:\n          no-cache: true\n", &[2]),
            ("args = [\"build\", \"--no-cache\"]", &[1]),
            ("docker compose build --no-cache && docker compose up", &[1]),
            ("docker build .\ndocker build --no-cache .", &[2]),
            ("apk add --no-cache curl", &[]),
            ("docker run x apk add --no-cache curl", &[]),
            ("docker build . && apk add --no-cache x", &[]),
            ("pip install --no-cache-dir x; docker build .", &[]),
            ("# docker build --no-cache", &[]),
            ("docker build . # never --no-cache", &[]),
            ("docker build --no-cache=false .", &[]),
            ("docker build --no-cache-filter=x .", &[]),
            ("no-cache: false", &[]),
            ("curl -H 'Cache-Control: no-cache'", &[]),
        ] {
            assert_eq!(uncached(text, false), lines, "{text:?}");
        }
    }

    #[test]
    fn builds_that_code_calls_for_without_the_cache_are_found() {
        for (text, lines) in [
            ("cmd := exec.Command(\"podman\", \"build\", \"--no-cache\", \".\")", &[1][..]),
            ("exec.Command(\"podman\",\n\t\"build\",\n\t\"--no-cache\",\n)", &[3]),
            ("args := []string{\n\t\"build\",\n\t\"--no-cache\",\n}", &[3]),
            ("subprocess.run(['docker', 'build', '--no-cache', '.'])", &[1]),
            ("// podman build --no-cache", &[]),
            ("podman(\"build\")\nassert(\"--no-cache\")", &[]),
            ("exec.Command(\"apk\", \"add\", \"--no-cache\")", &[]),
        ] {
            assert_eq!(uncached(text, true), lines, "{text:?}");
        }
    }

    #[test]
    fn scripts_are_known_by_name_or_first_line() {
        for (path, text, expected) in [
            ("Makefile", "", true),
            ("a/justfile", "", true),
            ("ci/run", "#!/bin/sh\n", true),
            ("LICENSE", "Apache", false),
            ("a.sh", "", true),
            (".github/workflows/ci.yml", "", true),
            ("k8s/deployment.yaml", "", false),
            ("docker-compose.dev.yml", "", true),
            ("main.rs", "", false),
            ("e2e/setup.go", "\"--no-cache\"", true),
            ("e2e/setup.go", "package main", false),
        ] {
            assert_eq!(may_hold_commands(path) && is_script(path, text), expected, "{path}");
        }
    }
}
