//! A build that failed for want of a file that is in the context and was not sent: the last lines
//! of its log name the file, and the hint says what keeps it out.

use std::path::Path;

use crate::config::Inputs;
use crate::context::{Context, LeftOut};

/// What a line says, in any case, when a file or package is missing.
const SIGNS: [&str; 11] = [
    "no such file",
    "not found",
    "no matching files",
    "failed to load manifest",
    "failed to read",
    "couldn't read",
    "cannot find",
    "cannot open",
    "does not exist",
    "is not in std",
    "no required module provides",
];

/// How it is mended; none if the log names nothing that `context` leaves out.
pub(crate) fn hint(context: &Context, stage: &Path, tail: &[String]) -> Option<String> {
    let image = &context.spec.name;
    // The staged folder may itself lie in the context, where nothing sends it.
    let stage = stage.display().to_string();
    let tail: Vec<String> = tail.iter().map(|line| line.replace(&stage, "")).collect();
    let left_out = |path: &str| context.left_out(path);
    let Some((path, why)) = first_left_out(&tail, &left_out) else {
        let other = unmatched(context, &tail).or_else(|| heredoc(context, &tail));
        return other.or_else(|| go_package(&tail));
    };
    let mend = match (why, &context.spec.inputs) {
        (LeftOut::Exclude, _) => format!("narrow `exclude` of image `{image}`"),
        (LeftOut::Inputs, Inputs::Cargo { .. } | Inputs::Go { .. }) => {
            format!("add `also = [\"{path}\"]` to `inputs` of image `{image}`")
        }
        (LeftOut::Inputs, _) => format!("widen `inputs` of image `{image}`"),
    };
    Some(format!("{mend}: `{path}` is in the context but not sent"))
}

/// A source that nothing of the context matches, where the log misses a file.
fn unmatched(context: &Context, tail: &[String]) -> Option<String> {
    let (line, path) = context.missing.first().filter(|_| missing_lines(tail).next().is_some())?;
    let rules = "the ignore file and `exclude` count";
    Some(format!("nothing that is sent matches `{path}` (line {line} of the Dockerfile): {rules}"))
}

/// A Go package that somebody imports and that is nowhere.
fn go_package(tail: &[String]) -> Option<String> {
    let named = |line: &String| {
        let (before, _) = line.split_once(" is not in std")?;
        let package = before.rsplit(' ').next().filter(|package| package.contains('/'))?;
        Some(format!(
            "no folder of the context is the Go package `{package}`: grep -rn {package} --include=*.go ."
        ))
    };
    tail.iter().find_map(named).or_else(|| {
        let (_, rest) =
            tail.iter().find_map(|line| line.split_once("no required module provides package "))?;
        let package = rest.split([' ', ';', ':']).next()?;
        Some(format!("no module has the Go package `{package}`: go get {package}"))
    })
}

/// Heredocs where podman takes their lines for instructions.
fn heredoc(context: &Context, tail: &[String]) -> Option<String> {
    let line = context.reading.as_ref()?.heredoc?;
    let is_unknown = |text: &String| text.to_lowercase().contains("unknown instruction");
    tail.iter().any(is_unknown).then(|| {
        format!(
            "line {line} of the Dockerfile has a heredoc, which podman reads from version 4.8 on"
        )
    })
}

fn missing_lines(tail: &[String]) -> impl Iterator<Item = &String> {
    tail.iter().filter(|line| {
        let line = line.to_lowercase();
        SIGNS.iter().any(|sign| line.contains(sign))
    })
}

/// The first path the log misses that is left out, and by what.
fn first_left_out(
    tail: &[String],
    left_out: &dyn Fn(&str) -> Option<LeftOut>,
) -> Option<(String, LeftOut)> {
    let mut paths = missing_lines(tail).flat_map(|line| paths(line));
    paths.find_map(|path| left_out(&path).map(|why| (path, why)))
}

/// What may be a path of the context in a line. The build has the context in a folder of its own,
/// and Go a package under its module's name: so every end of a path is tried, the longest first.
/// What is missing is named last; before it often stands who misses it.
fn paths(line: &str) -> Vec<String> {
    let ends_word = |c: char| c.is_whitespace() || "\"'`,;()[]<>=".contains(c);
    let mut paths = Vec::new();
    let words: Vec<&str> = line.split_inclusive(ends_word).collect();
    for word in words.into_iter().rev() {
        let marked = word.ends_with(['"', '\'', '`']);
        let word = word.trim_end_matches(ends_word);
        let marked = marked || word.ends_with(':') || word.contains(['/', '.']);
        for piece in word.split(':').filter(|piece| marked && !piece.is_empty()) {
            let path = dockerfile::clean(piece);
            let parts = path.match_indices('/').map(|(slash, _)| slash + 1);
            let starts = std::iter::once(0).chain(parts).filter(|start| *start < path.len());
            paths.extend(starts.map(|start| path[start..].to_owned()));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_path_is_found_in_what_builds_say() {
        let cases = [
            (
                "Error: building at STEP \"COPY config /config\": checking on sources under \
                 \"/run/stage/api\": copier: stat: \"/config\": no such file or directory",
                Some("config"),
            ),
            (
                "ERROR: failed to calculate checksum of ref x::y: \"/docs/a.md\": not found",
                Some("docs/a.md"),
            ),
            ("error: failed to load manifest for workspace member `/src/lib/log`", Some("lib/log")),
            ("  failed to read `/src/lib/log/Cargo.toml`", Some("lib/log/Cargo.toml")),
            (
                "error: couldn't read `svc/api/src/../assets/x.txt`: No such file or directory (os error 2)",
                Some("svc/api/assets/x.txt"),
            ),
            (
                "cmd/x/main.go:5:2: no required module provides package a.b/m/pkg/y; to add it:",
                Some("pkg/y"),
            ),
            ("one.go:7:12: pattern config/*.sql: no matching files found", None),
            ("cat: config: No such file or directory", Some("config")),
            ("/bin/sh: 1: config: not found", Some("config")),
            ("make: config: permission denied", None),
            ("the config was not found", None),
            ("open /etc/other: no such file or directory", None),
        ];
        let unsent = [
            "config",
            "stage/api",
            "docs/a.md",
            "lib/log",
            "lib/log/Cargo.toml",
            "svc/api/assets/x.txt",
            "pkg/y",
        ];
        let left_out = |path: &str| unsent.contains(&path).then_some(LeftOut::Inputs);
        for (line, expected) in cases {
            let tail = ["compiling".to_owned(), line.to_owned()];
            let found = first_left_out(&tail, &left_out).map(|(path, _)| path);
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_go_package_that_is_nowhere_is_named() {
        for (line, told) in [
            (
                "cmd/a/main.go:2:8: package example.com/m/nothere is not in std (/usr/lib/go/src/example.com/m/nothere)",
                Some("no folder of the context is the Go package `example.com/m/nothere`"),
            ),
            (
                "main.go:4:2: no required module provides package example.com/x; to add it:",
                Some("no module has the Go package `example.com/x`: go get example.com/x"),
            ),
            ("main.go:4:2: package nothere is not in std", None),
            ("main.go:4:2: undefined: x", None),
        ] {
            let hint = go_package(&[line.to_owned()]);
            let is_told = told.is_none_or(|told| hint.as_ref().is_some_and(|it| it.contains(told)));
            assert_eq!((hint.is_some(), is_told), (told.is_some(), true), "{line}: {hint:?}");
        }
    }

    #[test]
    fn the_first_line_that_names_one_counts() {
        let tail = ["x/a: no such file", "x/b: no such file"].map(str::to_owned);
        let left_out = |path: &str| ["a", "b"].contains(&path).then_some(LeftOut::Exclude);
        assert_eq!(first_left_out(&tail, &left_out).unwrap().0, "a");
    }
}
