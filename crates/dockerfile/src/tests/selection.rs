//! Sources against trees.

use super::*;

/// A tree of paths: `dir/`, `link -> text`, or a file. Parents come by themselves.
pub(super) struct Made(BTreeMap<Vec<u8>, (Kind, Vec<u8>)>);

pub(super) fn made(paths: &[&str]) -> Made {
    let mut tree = BTreeMap::new();
    for line in paths {
        let (path, entry) = match line.split_once(" -> ") {
            Some((path, text)) => (path, (Kind::Symlink, text.as_bytes().to_vec())),
            None => match line.strip_suffix('/') {
                Some(path) => (path, (Kind::Dir, vec![])),
                None => (*line, (Kind::File, vec![])),
            },
        };
        for (at, _) in path.match_indices('/') {
            tree.entry(path.as_bytes()[..at].to_vec()).or_insert((Kind::Dir, vec![]));
        }
        tree.insert(path.as_bytes().to_vec(), entry);
    }
    Made(tree)
}

impl Tree for Made {
    fn kind(&self, path: &[u8]) -> Option<Kind> {
        if path.is_empty() { Some(Kind::Dir) } else { self.0.get(path).map(|entry| entry.0) }
    }

    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.0.get(path).map(|entry| entry.1.clone())
    }

    fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, Kind)> {
        let head = if dir.is_empty() { vec![] } else { [dir, b"/"].concat() };
        let below = self.0.iter().filter_map(|(path, entry)| {
            let name = path.strip_prefix(head.as_slice())?;
            (!name.is_empty() && !name.contains(&b'/')).then(|| (name.to_vec(), entry.0))
        });
        below.collect()
    }
}

impl Made {
    pub(super) fn paths(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.0.iter().map(|(path, entry)| (path.as_slice(), entry.0))
    }
}

/// Chosen entries of the tree, in order, and how many sources are missing.
fn chosen(tree: &Made, instruction: &str) -> (Vec<String>, usize) {
    let reading = case().read(&format!("FROM scratch\n{instruction}"));
    let Sources::Paths(sources) = reading.sources else { panic!("widened: {instruction}") };
    let selection = select(&sources, tree);
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let paths = tree.paths().filter(|(path, _)| selection.contains(path));
    let chosen: Vec<String> = paths.map(|(path, _)| text(path)).collect();
    let all: Vec<&[u8]> = tree.paths().map(|(path, _)| path).collect();
    let ranges = selection.ranges(&all).into_iter().flatten();
    assert_eq!(ranges.map(|at| text(all[at])).collect::<Vec<_>>(), chosen, "{instruction}");
    (chosen, selection.missing.len())
}

fn check(tree: &Made, rows: &[(&str, &[&str])]) {
    for (instruction, expected) in rows {
        let (paths, missing) = chosen(tree, instruction);
        assert_eq!(paths, *expected, "{instruction}");
        assert_eq!(missing, 0, "{instruction}");
    }
}

#[test]
fn files_folders_and_wildcards() {
    let tree =
        made(&[".env", "README.md", "a/.x.md", "a/b/c.md", "a/d", "a-b", "a1/b/e", "empty/"]);
    check(
        &tree,
        &[
            ("COPY README.md /", &["README.md"]),
            ("COPY a /", &["a", "a/.x.md", "a/b", "a/b/c.md", "a/d"]),
            ("COPY a/ ./a-b /", &["a", "a-b", "a/.x.md", "a/b", "a/b/c.md", "a/d"]),
            ("COPY *.md /", &["README.md"]),
            ("COPY .* /", &[".env"]),
            ("COPY a*/b /", &["a/b", "a/b/c.md", "a1/b", "a1/b/e"]),
            ("COPY */*.md /", &["a/.x.md"]),
            ("COPY **/*.md /", &["a/.x.md"]),
            ("COPY a/?/c.md /", &["a/b/c.md"]),
            (
                "COPY [aR]* /",
                &[
                    "README.md",
                    "a",
                    "a-b",
                    "a/.x.md",
                    "a/b",
                    "a/b/c.md",
                    "a/d",
                    "a1",
                    "a1/b",
                    "a1/b/e",
                ],
            ),
            ("COPY [\"[a]\\\\-b\", \"/\"]", &["a-b"]),
            ("COPY empty /", &["empty"]),
            ("RUN --mount=src=a/b,dst=/x y", &["a/b", "a/b/c.md"]),
        ],
    );
    assert_eq!(chosen(&tree, "COPY nothing README.md /"), (vec!["README.md".to_owned()], 1));
    assert_eq!(chosen(&tree, "COPY nothing* /"), (vec![], 1));
    assert_eq!(chosen(&tree, "COPY nothing*/x /"), (vec![], 1));
    assert_eq!(chosen(&tree, "COPY README.md/x /").1, 1, "through a file");
    assert_eq!(chosen(&tree, "RUN --mount=src=a*,dst=/x y").1, 1, "a mount has no wildcards");
    assert_eq!(chosen(&tree, "COPY . /").0.len(), tree.0.len());
    assert_eq!(chosen(&tree, "COPY a[^x]b /").0.len(), tree.0.len(), "could match a slash");
    assert_eq!(chosen(&tree, "COPY a/[ /").0, ["a", "a/.x.md", "a/b", "a/b/c.md", "a/d"]);
}

#[test]
fn trap_10_links_of_a_source_are_followed_those_inside_are_not() {
    let tree = made(&[
        "real/f",
        "real/in -> ../other",
        "other/g",
        "dir -> real",
        "file -> dir/f",
        "abs -> /real/f",
        "up -> ../../../other",
        "chain -> file",
        "loop -> loop",
        "dangling -> nowhere",
        "sub/back -> ../dir",
    ]);
    check(
        &tree,
        &[
            ("COPY dir /", &["dir", "real", "real/f", "real/in"]),
            ("COPY dir/f /", &["dir", "real/f"]),
            ("COPY file /", &["dir", "file", "real/f"]),
            ("COPY chain /", &["chain", "dir", "file", "real/f"]),
            ("COPY abs /", &["abs", "real/f"]),
            ("COPY up /", &["other", "other/g", "up"]),
            ("COPY sub/back/f /", &["dir", "real/f", "sub/back"]),
            ("COPY sub /", &["sub", "sub/back"]),
            ("COPY di* /", &["dir", "real", "real/f", "real/in"]),
            ("COPY dir/i* /", &["dir", "other", "other/g", "real/in"]),
            ("COPY lo* /", &["loop"]),
            ("RUN --mount=src=dir,dst=/x y", &["dir", "real", "real/f", "real/in"]),
        ],
    );
    assert_eq!(chosen(&tree, "COPY d*/f /"), (vec![], 1));
    assert_eq!(chosen(&tree, "COPY loop /").1, 1);
    assert_eq!(chosen(&tree, "COPY dangling /").1, 1);
}

#[test]
fn excludes_count_below_a_folder() {
    let tree = made(&["a/x.md", "a/b/x.md", "a/b/y", "a/c", "x.md"]);
    check(
        &tree,
        &[
            ("COPY --exclude=*.md a /", &["a", "a/b", "a/b/x.md", "a/b/y", "a/c"]),
            ("COPY --exclude=**/*.md a /", &["a", "a/b", "a/b/y", "a/c"]),
            ("COPY --exclude=b --exclude=c a /", &["a", "a/x.md"]),
            ("COPY --exclude=b --exclude=!b/y a /", &["a", "a/b/y", "a/c", "a/x.md"]),
            ("COPY --exclude=*.md x.md /", &["x.md"]),
            ("COPY --exclude=a/b . /", &["a", "a/c", "a/x.md", "x.md"]),
            ("COPY --exclude=* a /", &["a"]),
            ("COPY --exclude=x.md * /", &["a", "a/b", "a/b/x.md", "a/b/y", "a/c", "x.md"]),
        ],
    );
}

#[test]
fn parents_take_patterns_that_cross_folders() {
    let tree = made(&["a/b/c.go", "a/b/d.md", "a/e.go", "f.go", "l -> a", "g/a/b/h.go"]);
    check(
        &tree,
        &[
            ("COPY --parents a/e.go /", &["a/e.go"]),
            ("COPY --parents a/b /", &["a/b", "a/b/c.go", "a/b/d.md"]),
            ("COPY --parents **/*.go /", &["a/b/c.go", "a/e.go", "f.go", "g/a/b/h.go"]),
            ("COPY --parents a/./**/*.go /", &["a/b/c.go", "a/e.go"]),
            ("COPY --parents */./b /", &["a/b", "a/b/c.go", "a/b/d.md", "f.go", "l"]),
            ("COPY --parents --exclude=**/*.md a/b /", &["a/b", "a/b/c.go"]),
            ("COPY --parents l /", &["l"]),
            ("COPY --parents l/./e.go /", &["a/e.go", "l"]),
            ("COPY --parents no*/x /", &[]),
        ],
    );
    assert_eq!(chosen(&tree, "COPY --parents . /").0.len(), tree.0.len());
    assert_eq!(chosen(&tree, "COPY --parents l/e.go /").1, 1, "links are not followed");
    assert_eq!(chosen(&tree, "COPY --parents nothing /").1, 1);
}

#[test]
fn folders_on_the_way_are_known() {
    let tree = made(&["a/b/c", "a-b/x", "a/d"]);
    let sources = case().read("FROM scratch\nCOPY a/b a-b/x /").sources;
    let Sources::Paths(sources) = sources else { panic!("widened") };
    let selection = select(&sources, &tree);
    let way = |dir: &str| selection.on_the_way(dir.as_bytes());
    assert!(way("") && way("a") && way("a-b"));
    assert!(!way("a/b") && !way("a/d") && !way("b") && !way("a-b/x"));
    assert!(!selection.contains(b"a") && !selection.contains(b"a/bc"));
    assert!(!select(&[], &tree).on_the_way(b""));
    let roots: Vec<_> = selection.roots.iter().map(|root| root.path.as_slice()).collect();
    assert_eq!(roots, [b"a-b/x".as_slice(), b"a/b"]);
}

#[test]
fn a_subtree_swallows_what_lies_in_it() {
    let tree = made(&["a/b/c", "a-b", "a/x"]);
    let sources = case().read("FROM scratch\nCOPY a/b a/b/c a a-b a/x /").sources;
    let Sources::Paths(sources) = sources else { panic!("widened") };
    let selection = select(&sources, &tree);
    let roots: Vec<_> = selection.roots.iter().map(|root| (&root.path[..], root.subtree)).collect();
    assert_eq!(roots, [(b"a".as_slice(), true), (b"a-b", false)]);
}
