use std::collections::BTreeSet;
use std::path::Path;

use super::super::tree::Tree;
use super::super::walk::{ViewRules, walk};
use super::*;
use crate::fixture;
use crate::process::Tool;

const MAIN: &str = r#"package main

import (
	"fmt"
	one "a.b/m/one"
	. "a.b/m/dot"
	_ "a.b/m/blank"
	"a.b/lib/sub"
)

func main() { fmt.Println(one.X, Dot, sub.X) }
"#;
const ONE: &str = r#"package one

import "embed"

//go:embed templates/*.tmpl static
var X embed.FS
"#;
const NATIVE_GO: &str = "package blank\n\n// #include \"x.h\"\nimport \"C\"\n";
const MOD: &str = "module a.b/m\n\ngo 1.24\n\nrequire a.b/lib v0.0.0\n\nreplace a.b/lib => ./lib\n";

/// A module with one of everything.
const SAMPLE: [(&str, &str); 24] = [
    ("go.mod", MOD),
    ("go.sum", ""),
    ("README.md", "not Go's"),
    ("cmd/x/main.go", MAIN),
    ("cmd/x/main_test.go", "package main\n\nimport _ \"a.b/m/fixtures\"\n"),
    ("cmd/x/default.pgo", ""),
    ("cmd/x/_old.go", "package old"),
    ("cmd/y/main.go", "package main\n\nimport _ \"a.b/m/other\"\n\nfunc main() {}\n"),
    ("one/one.go", ONE),
    ("one/one_windows.go", "package one\n\nimport _ \"a.b/m/windows\"\n"),
    ("one/templates/a.tmpl", ""),
    ("one/templates/b.txt", ""),
    ("one/static/a/b.css", ""),
    ("one/static/_hidden.css", ""),
    ("windows/x.go", "package windows"),
    ("dot/dot.go", "package dot\n\nconst Dot = 1\n"),
    ("blank/blank.go", NATIVE_GO),
    ("blank/x.h", ""),
    ("blank/x.c", "#include \"x.h\"\n"),
    ("fixtures/f.go", "package fixtures"),
    ("other/o.go", "package other"),
    ("lib/go.mod", "module a.b/lib\n\ngo 1.24\n"),
    ("lib/sub/s.go", "package sub\n\nconst X = 1\n"),
    ("lib/unused/u.go", "package unused"),
];

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let folder = fixture::folder(files);
    let tree = walk(&fs_err::canonicalize(folder.path()).unwrap(), &[&ViewRules::default()], None)
        .unwrap();
    (folder, tree)
}

/// The files of a closure, and why it was widened.
fn closure(tree: &Tree, package: &str) -> (BTreeSet<String>, Vec<String>) {
    let closure = Sources::of(tree).closure(package).unwrap();
    let nodes = tree.nodes.iter().zip(closure.chosen);
    let files = nodes.filter(|(node, chosen)| *chosen && node.kind != Kind::Dir);
    let files = files.map(|(node, _)| String::from_utf8(node.path.to_vec()).unwrap());
    (files.collect(), closure.widened.into_iter().map(|one| one.reason).collect())
}

/// The files `go list` finds for a package, relative to `root`.
fn listed(root: &Path, package: &str) -> BTreeSet<String> {
    let kinds = ["Go", "Cgo", "C", "CXX", "H", "S", "Syso", "Embed"];
    let files =
        kinds.map(|kind| format!("{{{{range .{kind}Files}}}}{{{{$.Dir}}}}/{{{{.}}}}\n{{{{end}}}}"));
    let form = format!("{{{{if not .Standard}}}}{}{{{{end}}}}", files.concat());
    let list = Tool::new("go").args(["list", "-deps", "-f", &form, package]).folder(root);
    let list = list.env("GOPROXY", "off").env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "1");
    let list = list.read().unwrap();
    let root = format!("{}/", root.display());
    list.lines().filter_map(|line| line.strip_prefix(&root)).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs go"]
fn a_closure_is_what_go_lists_and_what_other_platforms_and_manifests_add() {
    let (_folder, tree) = tree(&SAMPLE);
    let (files, widened) = closure(&tree, "./cmd/x");
    let expected = [
        "blank/blank.go",
        "blank/x.c",
        "blank/x.h",
        "cmd/x/default.pgo",
        "cmd/x/main.go",
        "dot/dot.go",
        "go.mod",
        "go.sum",
        "lib/go.mod",
        "lib/sub/s.go",
        "one/one.go",
        "one/one_windows.go",
        "one/static/a/b.css",
        "one/templates/a.tmpl",
        "windows/x.go",
    ];
    assert_eq!(files.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(widened, [""; 0]);
    let listed = listed(&tree.root, "./cmd/x");
    assert!(listed.len() >= 9, "{listed:?}");
    let more: Vec<_> = files.difference(&listed).map(String::as_str).collect();
    assert_eq!(
        (listed.difference(&files).next(), &*more),
        (
            None,
            &[
                "cmd/x/default.pgo",
                "go.mod",
                "go.sum",
                "lib/go.mod",
                "one/one_windows.go",
                "windows/x.go"
            ][..]
        )
    );
}

#[test]
fn a_module_below_the_root_and_a_workspace_are_found() {
    let files = [
        ("go.work", "go 1.24\nuse (\n\t./svc\n\t./lib\n)\n"),
        ("go.work.sum", ""),
        ("svc/go.mod", "module a.b/svc\n\ngo 1.24\n"),
        ("svc/cmd/x/main.go", "package main\n\nimport _ \"a.b/lib\"\n\nfunc main() {}\n"),
        ("lib/go.mod", "module a.b/lib\n\ngo 1.24\n"),
        ("lib/go.sum", ""),
        ("lib/lib.go", "package lib"),
        ("lib/more/more.go", "package more"),
        ("web/index.html", ""),
    ];
    let (_folder, tree) = tree(&files);
    let (found, widened) = closure(&tree, "svc/cmd/x");
    let left_out = ["lib/more/more.go", "web/index.html"];
    let expected: BTreeSet<String> = files
        .iter()
        .map(|(path, _)| (*path).to_owned())
        .filter(|p| !left_out.contains(&&**p))
        .collect();
    assert_eq!((found, widened), (expected, Vec::new()));
    let (all, _) = closure(&tree, "./lib/...");
    assert!(all.contains("lib/more/more.go") && !all.contains("svc/cmd/x/main.go"));
}

#[test]
fn vendor_counts_where_it_is_sent() {
    let (_folder, tree) = tree(&[
        ("go.mod", "module a.b/m\nrequire (\nx.y/z v1.0.0\nx.y/w v1.0.0\n)\n"),
        ("main.go", "package main\nimport _ \"x.y/z/sub\"\nimport _ \"fmt\""),
        ("vendor/modules.txt", ""),
        ("vendor/x.y/z/sub/s.go", "package sub\nimport _ \"x.y/w\""),
        ("vendor/x.y/w/w.go", "package w"),
        ("vendor/x.y/unused/u.go", "package unused"),
    ]);
    let (files, widened) = closure(&tree, ".");
    assert_eq!(files.len(), 5);
    assert!(!files.contains("vendor/x.y/unused/u.go") && widened.is_empty());
}

#[test]
fn what_is_not_understood_widens_and_says_why() {
    let main = |import: &str| format!("package main\nimport \"{import}\"\n");
    let cases: [(&str, &str, &str, usize); 8] = [
        ("m/x/x.go", "{{ template }}", "the whole module `m`: `m/x/x.go` is not understood", 5),
        ("m/go.mod", "module a.b/m\nreplace", "the whole context: `m/go.mod` is not understood", 6),
        (
            "m/go.mod",
            "module a.b/m\nreplace c.d/e => ../../e",
            "the whole context: `../../e` leads out of the context",
            6,
        ),
        (
            "m/x/x.go",
            &main("a.b/m/gen"),
            "the whole module `m`: `a.b/m/gen` is imported and not in the context",
            5,
        ),
        ("m/x/x.go", &main("../y"), "the whole context: `../y` is imported by a relative path", 6),
        (
            "m/x/x.s",
            "#include \"../y/y.h\"",
            "the whole module `m`: `m/x/x.s` includes from another folder",
            5,
        ),
        (
            "m/x/x.h",
            "# include HEADER",
            "the whole module `m`: `m/x/x.h` includes from another folder",
            5,
        ),
        (
            "m/x/x.go",
            "package x\n// #cgo CFLAGS: -I${SRCDIR}/../y\nimport \"C\"",
            "the whole module `m`: `m/x/x.go` includes from another folder",
            5,
        ),
    ];
    for (path, text, reason, count) in cases {
        let mut files = std::collections::BTreeMap::from([
            ("m/go.mod", "module a.b/m"),
            ("m/x/x.go", "package x"),
            ("m/x/x.s", ""),
            ("m/x/x.h", ""),
            ("m/y/y.go", "package y"),
            ("web/index.html", ""),
        ]);
        files.insert(path, text);
        let (_folder, tree) = tree(&files.into_iter().collect::<Vec<_>>());
        let (found, widened) = closure(&tree, "m/x");
        assert_eq!((widened, found.len()), (vec![reason.to_owned()], count), "{path}: {text}");
    }
}

#[test]
fn a_module_elsewhere_is_none_of_ours() {
    // `a.b/m/api` is a module of its own: nested and not replaced, so it comes from the proxy.
    let (_folder, tree) = tree(&[
        ("go.mod", "module a.b/m\nrequire a.b/m/sdk v1.0.0\n"),
        ("main.go", "package main\nimport (\n\"a.b/m/api/v1\"\n\"a.b/m/sdk/x\"\n)"),
        ("api/go.mod", "module a.b/m/api"),
        ("api/v1/v1.go", "package v1"),
    ]);
    let (files, widened) = closure(&tree, ".");
    assert_eq!((files.len(), widened), (2, Vec::new()));
}

#[test]
fn links_are_followed_within_the_context() {
    let (folder, _) = tree(&[
        ("go.mod", "module a.b/m"),
        ("main.go", "package main\nimport _ \"a.b/m/linked\""),
        ("shared/x.go", "package main"),
        ("unused/x.go", "package unused"),
    ]);
    let link =
        |to: &str, at: &str| fs_err::os::unix::fs::symlink(to, folder.path().join(at)).unwrap();
    link("shared/x.go", "x.go");
    let walked = || {
        walk(&fs_err::canonicalize(folder.path()).unwrap(), &[&ViewRules::default()], None).unwrap()
    };
    fs_err::write(folder.path().join("main.go"), "package main").unwrap();
    let (files, widened) = closure(&walked(), ".");
    assert_eq!(files.into_iter().collect::<Vec<_>>(), ["go.mod", "main.go", "shared/x.go", "x.go"]);
    assert!(widened.is_empty());
    link("/etc/hostname", "y.h");
    let (files, widened) = closure(&walked(), ".");
    assert_eq!(files.len(), 6);
    assert_eq!(widened, ["the whole context: `y.h` is a link that leads out of sight"]);
}

#[test]
fn a_package_that_is_not_there_is_a_fault() {
    let (_folder, tree) = tree(&SAMPLE);
    for package in ["./cmd/z", "docs", "../m", "./cmd"] {
        let error = Sources::of(&tree).closure(package).unwrap_err().to_string();
        assert_eq!(error, format!("there is no Go package `{package}` in the context"));
    }
}
