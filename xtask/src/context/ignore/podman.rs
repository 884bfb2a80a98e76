//! Where podman alone would read an ignore file otherwise; for `lint`.
//!
//! podman (buildah, `imagebuilder`) has rules of its own:
//!
//! | what | podman |
//! | --- | --- |
//! | order | all `/` at both ends come off first, before blanks and before `!` |
//! | matching | one kind, an expression for "it or anything below"; only `.`, `$` are escaped |
//! | `**foo` | does not match `xfoo` |
//! | deciding | each path for itself: the last pattern that matches it or a folder above decides |
//! | walking | an ignored folder is opened only for an exception whose text begins with its path |
//!
//! The first three are seen in a line. The last two depend on the tree, so paths are made up that
//! fit the patterns, and both engines' rules are applied to them: what is told comes with a path.

use super::parse;
use super::pattern::Pattern;
use super::rules::Rules;
use std::collections::BTreeMap;

/// The lines podman alone would read otherwise than BuildKit, in order, each with the reason.
pub fn podman_differs(text: &[u8]) -> Vec<(usize, String)> {
    let mut found = BTreeMap::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if let Some(why) = line_differs(&String::from_utf8_lossy(line)) {
            found.insert(number, why);
        }
    }
    if let (Ok(patterns), Ok(rules)) = (parse::file(text), Rules::parse(text)) {
        for pattern in &patterns {
            if let Some(why) = pattern_differs(&pattern.text) {
                found.entry(pattern.line).or_insert(why);
            }
        }
        for path in examples(&patterns) {
            if let Some((line, why)) = path_differs(&patterns, &rules, &path) {
                found.entry(line).or_insert(why);
            }
        }
    }
    found.into_iter().collect()
}

fn line_differs(line: &str) -> Option<String> {
    if line.starts_with("\u{feff}#") || line.starts_with("\u{feff}!") {
        return Some("podman takes the byte order mark for a part of the pattern".into());
    }
    let trimmed = line.trim_start();
    if trimmed.len() < line.len() && trimmed.starts_with('/') {
        return Some(
            "podman keeps a `/` that stands behind a blank, and then matches nothing".into(),
        );
    }
    if trimmed.strip_prefix('!').is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
        return Some("podman keeps the blank behind `!`, and then matches nothing".into());
    }
    let bare = line.trim_start_matches('/');
    if bare.len() < line.len() && bare.starts_with("../") {
        return Some("podman takes the `/` off before the `..`, and then matches nothing".into());
    }
    None
}

fn pattern_differs(pattern: &str) -> Option<String> {
    let mut before = ' ';
    for c in pattern.chars() {
        let pins_class = c == '^' && before == '[';
        if before != '\\' && !pins_class && "+()|{}^".contains(c) {
            return Some(format!("podman reads `{c}` as an operator; `\\{c}` is a name to both"));
        }
        before = if before == '\\' { ' ' } else { c };
    }
    let name = pattern.strip_prefix("**").filter(|name| !name.starts_with('/'))?;
    let is_name = !name.is_empty() && !name.contains(['*', '?', '[', '\\']);
    is_name.then(|| format!("podman does not match `x{name}`; `**/*{name}` matches it in both"))
}

/// Paths that fit the patterns, or the exceptions below what is ignored.
fn examples(patterns: &[Pattern]) -> Vec<String> {
    let plain = || patterns.iter().filter(|pattern| !pattern.text.contains(['[', '\\']));
    let mut paths: Vec<_> = plain().map(|pattern| example(&pattern.text)).collect();
    for ignored in plain().filter(|pattern| !pattern.exception && names_folders(&pattern.text)) {
        for exception in plain().filter(|pattern| pattern.exception) {
            if let Some(anywhere) = exception.text.strip_prefix("**/") {
                paths.push(format!("{}/{}", example(&ignored.text), example(anywhere)));
            }
        }
    }
    paths
}

/// Whether a pattern looks as if it were meant for folders: no `*.md`, no `README.md`.
fn names_folders(pattern: &str) -> bool {
    let last = pattern.rsplit('/').next().unwrap_or(pattern);
    matches!(last, "*" | "**") || !last.contains(['*', '?']) && last.rfind('.').unwrap_or(0) == 0
}

/// A path the pattern matches.
fn example(pattern: &str) -> String {
    pattern.replace("**", "x").replace(['*', '?'], "x")
}

/// The line that decides on `path` for podman, if it decides otherwise.
fn path_differs(patterns: &[Pattern], rules: &Rules, path: &str) -> Option<(usize, String)> {
    let folders: Vec<_> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
    let mut state = rules.root();
    let mut closed = false;
    for folder in &folders {
        state = rules.test(&state, folder.as_bytes()).ok()?.state;
        closed |= !rules.may_hold_kept(folder.as_bytes(), &state);
    }
    let ignored = closed || rules.test(&state, path.as_bytes()).ok()?.ignored;
    let last = podman_decides(patterns, path)?;
    let podman_closed = folders.iter().any(|folder| {
        podman_decides(patterns, folder).is_some_and(|last| !last.exception)
            && !is_opened(patterns, folder)
    });
    let podman_ignored = podman_closed || !last.exception;
    (ignored != podman_ignored).then(|| {
        let what = if podman_ignored { "leaves out" } else { "keeps" };
        let why = if podman_closed && last.exception { ", not opening its folder" } else { "" };
        (last.line, format!("podman {what} a path like `{path}`{why}; BuildKit does not"))
    })
}

/// The last pattern that matches `path` or a folder above it.
fn podman_decides<'p>(patterns: &'p [Pattern], path: &str) -> Option<&'p Pattern> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let above: Vec<_> = ends.map(|end| &path[..end]).collect();
    patterns.iter().rev().find(|pattern| {
        above.iter().any(|path| pattern.matches(path.as_bytes()).is_ok_and(|matches| matches))
    })
}

fn is_opened(patterns: &[Pattern], folder: &str) -> bool {
    let mut exceptions = patterns.iter().filter(|pattern| pattern.exception);
    exceptions.any(|exception| format!("{}/", exception.text).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_podman_reads_otherwise() {
        for (text, lines) in [
            (" /foo", &[1][..]),
            ("*\n! foo", &[2]),
            ("/../foo", &[1]),
            ("\u{feff}# comment", &[1]),
            ("\u{feff}!x", &[1]),
            ("c++", &[1]),
            ("a|b\n(x)\na{2}\n^a", &[1, 2, 3, 4]),
            ("**foo", &[1]),
            ("*\n!*/keep", &[2]),
            ("*\n!**/keep", &[2]),
            ("**\n!**/*.go", &[2]),
            ("node_modules\n!**/keep", &[2]),
            ("a/b\n!a", &[2]),
            ("a/*\n!a", &[2]),
            ("a\n!a/b\na", &[3]),
            ("*\n!a/b\n*", &[3]),
        ] {
            let found = podman_differs(text.as_bytes());
            let seen: Vec<_> = found.iter().map(|(line, _)| *line).collect();
            assert_eq!(seen, lines, "{text:?}: {found:?}");
        }
    }

    #[test]
    fn what_both_read_alike_is_not_told() {
        for text in [
            "*.md",
            "foo/",
            "/foo",
            "./foo",
            "# c++\n\n  foo",
            "\u{feff}foo",
            "docs\n!docs/README.md",
            "*\n!keep\n!src/*.go",
            "**/*.md\n!README.md",
            "**/*.md\n!**/README.md",
            "*.py[cod]\n[^a]b",
            "a\\+b",
            "**/foo*\na**b\n**/bar",
            "node_modules\ntarget/\n**/*.log",
        ] {
            assert_eq!(podman_differs(text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn the_reason_names_a_path() {
        let found = podman_differs(b"*\n!*/keep");
        let why =
            "podman leaves out a path like `x/keep`, not opening its folder; BuildKit does not";
        assert_eq!(found, [(2, why.to_owned())]);
    }
}
