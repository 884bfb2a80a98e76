//! The house holds itself: what ARCHITECTURE.md and CONTRIBUTING.md promise is read off the
//! sources. All offences are reported at once, as `file:line: what`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Longest function, in lines.
const LONGEST: usize = 70;

/// Imports that go up: whoever waits for a lock stops waiting when the run is stopped.
const UP: [(&str, &str); 1] = [("private", "process")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

struct Source {
    /// Relative to the workspace.
    path: String,
    text: String,
}

impl Source {
    /// The folder of `xtask/src` it belongs to, or its own name.
    fn module(&self) -> &str {
        let rest = self.path.strip_prefix("xtask/src/").unwrap_or(&self.path);
        rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
    }

    /// Lines outside `#[cfg(test)]` modules at the end of a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.take_while(|(_, line)| *line != "#[cfg(test)]").map(|(at, line)| (at + 1, line))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path == "xtask/src/fuzz.rs"
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn walk(folder: &Path, found: &mut Vec<Source>) {
    let walk = WalkDir::new(folder).into_iter();
    for entry in walk.filter_entry(|entry| entry.file_name() != "target") {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path: relative, text: fs_err::read_to_string(&path).unwrap() });
        }
    }
}

fn hold(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn every_module_has_a_header() {
    let sources = sources(&["xtask/src", "xtask/tests", "images", "e2e"]);
    let bare = sources.iter().filter(|source| !source.text.starts_with("//!") && !source.is_test());
    hold(&bare.map(|source| format!("{}:1: no header", source.path)).collect::<Vec<_>>());
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut offences = Vec::new();
    for source in sources(&["xtask/src", "images", "e2e"]) {
        let mut open: Option<(usize, String)> = None;
        for (at, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if open.is_none() && is_function(line) && !line.trim_end().ends_with(['}', ';']) {
                open = Some((at, " ".repeat(indent) + "}"));
            } else if let Some((start, end)) = &open
                && line == end
            {
                let length = at - start + 1;
                if length > LONGEST {
                    offences.push(format!("{}:{}: {length} lines", source.path, start + 1));
                }
                open = None;
            }
        }
    }
    hold(&offences);
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").unwrap_or(line);
    let line =
        line.strip_prefix("(super)").or(line.strip_prefix("(crate)")).unwrap_or(line).trim_start();
    let line = line.strip_prefix("async ").or(line.strip_prefix("const ")).unwrap_or(line);
    line.starts_with("fn ")
}

#[test]
fn processes_are_started_in_one_place() {
    let sources = sources(&["xtask/src"]);
    let elsewhere = sources.iter().filter(|source| source.module() != "process");
    let offences = elsewhere.flat_map(|source| {
        let starts = source.code().filter(|(_, line)| line.contains("Command::new"));
        starts.map(|(at, _)| format!("{}:{at}: starts a process", source.path))
    });
    hold(&offences.collect::<Vec<_>>());
}

#[test]
fn clients_of_clusters_are_started_in_one_place() {
    let sources = sources(&["xtask/src"]);
    let elsewhere = sources.iter().filter(|source| source.module() != "kubernetes");
    let offences = elsewhere.flat_map(|source| {
        let client = |line: &str| {
            ["kubectl", "helm"].iter().any(|name| line.contains(&format!("Tool::new(\"{name}\")")))
        };
        let starts = source.code().filter(move |(_, line)| client(line));
        starts.map(|(at, _)| format!("{}:{at}: reads the user's kubeconfig", source.path))
    });
    hold(&offences.collect::<Vec<_>>());
}

#[test]
fn printing_is_done_in_one_place() {
    let sources = sources(&["xtask/src"]);
    let elsewhere = sources.iter().filter(|source| source.module() != "ui" && !source.is_test());
    let offences = elsewhere.flat_map(|source| {
        let prints = |line: &str| {
            ["println!", "print!(", "stdout()", "stderr()"].iter().any(|p| line.contains(p))
        };
        source
            .code()
            .filter(move |(_, line)| prints(line))
            .map(|(at, _)| format!("{}:{at}: prints", source.path))
    });
    hold(&offences.collect::<Vec<_>>());
}

/// Whether a string of a line holds a hint; `goes_on`: the line before ends within a string.
fn holds_a_hint(line: &str, goes_on: bool) -> bool {
    let is_within = |before: &str| {
        let quotes = before.matches('"').count() - before.matches("\\\"").count();
        (quotes % 2 == 1) != goes_on
    };
    line.match_indices("hint: ").any(|(at, _)| is_within(&line[..at]))
}

#[test]
fn a_hint_is_no_part_of_a_text() {
    assert!(holds_a_hint(r#"anyhow!("failed to \"a\"\nhint: b")"#, false));
    assert!(holds_a_hint(r#"         hint: b","#, true));
    assert!(!holds_a_hint(r#"Wrong { message: "a", hint: "b" }"#, false));
    let mut offences = Vec::new();
    for source in sources(&["xtask/src"]) {
        if source.is_test() || source.path == "xtask/src/error.rs" {
            continue;
        }
        let mut goes_on = false;
        for (at, line) in source.code() {
            if holds_a_hint(line, goes_on) && !line.trim_start().starts_with("//") {
                offences.push(format!("{}:{at}: a hint within a text", source.path));
            }
            goes_on = line.ends_with('\\');
        }
    }
    hold(&offences);
}

/// `crate::STAGE::…` paths a line uses.
fn used(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split("crate::").skip(1).filter_map(|rest| {
        let (module, rest) = rest.split_once("::").unwrap_or((rest, ""));
        let module = module.trim_end_matches([';', ',', ' ', '}']);
        Some((module, rest)).filter(|(module, _)| !module.is_empty())
    })
}

#[test]
fn imports_go_down() {
    let lib = fs_err::read_to_string(root().join("xtask/src/lib.rs")).unwrap();
    let order: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.split(';').next())
        .collect();
    assert!(order.len() > 30, "{order:?}");
    let mut offences = Vec::new();
    for source in sources(&["xtask/src"]) {
        let Some(own) = order.iter().position(|module| *module == source.module()) else {
            continue;
        };
        if source.is_test() {
            continue;
        }
        for (at, line) in source.code().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (module, _) in used(line) {
                let other = order.iter().position(|known| *known == module);
                if other.is_some_and(|other| other > own) && !UP.contains(&(order[own], module)) {
                    offences.push(format!("{}:{at}: `{module}` comes later", source.path));
                }
            }
        }
    }
    hold(&offences);
}

#[test]
fn plan_and_schedule_do_no_input_or_output() {
    let mut offences = Vec::new();
    for source in sources(&["xtask/src/plan", "xtask/src/schedule", "xtask/src/config"]) {
        let pure = source.module() == "plan" || source.module() == "schedule";
        if !pure || source.is_test() {
            continue;
        }
        let touches = |line: &str| {
            ["fs_err", "std::fs", "std::env", "Tool", "std::net"].iter().any(|w| line.contains(w))
        };
        let lines =
            source.code().filter(|(_, line)| touches(line) && !line.trim_start().starts_with("//"));
        offences.extend(lines.map(|(at, _)| format!("{}:{at}: input or output", source.path)));
    }
    hold(&offences);
}

#[test]
fn the_changelog_has_this_version() {
    let changelog = fs_err::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(changelog.contains(&format!("## [{version}]")), "CHANGELOG.md lacks {version}");
}

#[test]
fn a_workflow_runs_recipes_and_nothing_else() {
    let justfile = fs_err::read_to_string(root().join("justfile")).unwrap();
    let recipes: BTreeSet<&str> = justfile
        .lines()
        .filter(|line| !line.starts_with([' ', '#']) && line.ends_with(':'))
        .filter_map(|line| line.split([' ', ':']).next())
        .collect();
    let (mut offences, mut commands) = (Vec::new(), 0);
    for entry in fs_err::read_dir(root().join(".github/workflows")).unwrap() {
        let file = entry.unwrap().path();
        let text = fs_err::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start().trim_start_matches("- ");
            let Some(command) = line.strip_prefix("run: ").filter(|run| !run.starts_with("${{"))
            else {
                continue;
            };
            commands += 1;
            let mut words = command.split(' ');
            let known = !command.contains("${{")
                && words.next() == Some("just")
                && words.next().is_some_and(|r| recipes.contains(r))
                // Of a job that only says that others have failed.
                || command == "exit 1";
            if !known {
                offences.push(format!("{}:{}: no recipe: {command}", file.display(), at + 1));
            }
        }
    }
    assert!(commands > 3, "the workflows' commands were not found");
    hold(&offences);
}

#[test]
fn actions_are_pinned_by_commit() {
    let (mut offences, mut actions) = (Vec::new(), 0);
    for entry in fs_err::read_dir(root().join(".github/workflows")).unwrap() {
        let file = entry.unwrap().path();
        let text = fs_err::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            actions += 1;
            let commit = action.split([' ', '@']).nth(1).unwrap_or_default();
            let is_commit =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_commit || !action.contains(" # v") {
                offences.push(format!("{}:{}: {action}", file.display(), at + 1));
            }
        }
    }
    assert!(actions > 3, "the workflows' actions were not found");
    hold(&offences);
}

#[test]
fn the_map_names_every_folder_and_no_other() {
    let map = fs_err::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: BTreeSet<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("/`"))
        .map(|(folder, _)| folder)
        .collect();
    let entries = fs_err::read_dir(root().join("xtask/src")).unwrap().map(|entry| entry.unwrap());
    let folders: BTreeSet<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let folders: BTreeSet<&str> = folders.iter().map(String::as_str).collect();
    assert_eq!(named, folders, "ARCHITECTURE.md's map and the folders of xtask/src");
}

#[test]
fn the_configuration_page_has_the_defaults_that_are_read() {
    let page = fs_err::read_to_string(root().join("docs/configuration.md")).unwrap();
    let defaults = fs_err::read_to_string(root().join("xtask/src/config/defaults.toml")).unwrap();
    assert!(
        page.ends_with(&format!("```toml\n{defaults}```\n")),
        "docs/configuration.md must end with xtask/src/config/defaults.toml in a block of its own"
    );
}
