//! The rules as a whole: the tables of BuildKit's observed behaviour, and a slow model written
//! another way.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Paths = BTreeSet<String>;

/// A tree: every folder and its entries, from the paths of its files.
fn tree(files: &[&str]) -> BTreeMap<String, Paths> {
    let mut folders = BTreeMap::from([(String::new(), Paths::new())]);
    for file in files {
        let mut folder = String::new();
        for part in file.split('/') {
            let entry =
                if folder.is_empty() { part.to_owned() } else { format!("{folder}/{part}") };
            folders.entry(folder).or_default().insert(entry.clone());
            folder = entry;
        }
    }
    folders
}

struct Walk<'a> {
    rules: &'a Rules,
    tree: &'a BTreeMap<String, Paths>,
    prune: bool,
    kept: Paths,
    opened: Vec<String>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &str, state: &State) -> Result<(), RuleError> {
        self.opened.push(folder.to_owned());
        for path in &self.tree[folder] {
            let verdict = self.rules.test(state, path.as_bytes())?;
            if !verdict.ignored {
                self.kept.insert(path.clone());
            }
            let open = !self.prune || self.rules.may_hold_kept(path.as_bytes(), &verdict.state);
            assert!(verdict.ignored || open, "{path} is kept and not opened");
            if self.tree.contains_key(path) && open {
                self.folder(path, &verdict.state)?;
            }
        }
        Ok(())
    }
}

fn walk(rules: &Rules, files: &[&str], prune: bool) -> Result<(Paths, Vec<String>), RuleError> {
    let tree = tree(files);
    let mut walk = Walk { rules, tree: &tree, prune, kept: Paths::new(), opened: Vec::new() };
    walk.folder("", &rules.root())?;
    Ok((walk.kept, walk.opened))
}

/// The files, not the folders, that `text` keeps of `files`.
fn kept(text: &str, files: &str) -> String {
    let rules = Rules::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let files: Vec<_> = files.split_ascii_whitespace().collect();
    let (kept, _) = walk(&rules, &files, true).unwrap();
    let (unpruned, _) = walk(&rules, &files, false).unwrap();
    assert_eq!(kept, unpruned, "pruning changed what {text:?} keeps");
    let kept: Vec<_> = files.into_iter().filter(|file| kept.contains(*file)).collect();
    kept.join(" ")
}

#[test]
fn what_buildkit_was_seen_to_keep() {
    for (patterns, files, expected) in [
        // §1.9 of the rules, with a few from §1.2 and §1.5.
        ("*.md", "README.md d/README.md", "d/README.md"),
        ("foo", "foo d/foo", "d/foo"),
        (".*", ".foo d/.foo", "d/.foo"),
        ("foo/", "foo bar/foo", "bar/foo"),
        ("target/", "target/x sub/target/y", "sub/target/y"),
        ("./foo", "foo", ""),
        ("docs\n!docs/README.md", "docs/README.md docs/x", "docs/README.md"),
        ("*\n!keep", "keep/a x d/keep", "keep/a"),
        ("*\n!**/keep", "keep a/keep", "keep a/keep"),
        ("*\n!*/keep", "a/keep", "a/keep"),
        ("*\n!src*/keep", "src/keep src1/keep", "src/keep src1/keep"),
        ("**\n!**/*.go", "main.go a/b.go", "main.go a/b.go"),
        ("**file", "file xfile", ""),
        ("**foo*", "xfoo foox", "xfoo"),
        ("a**b", "ab axb a/b", "axb"),
        ("[!a]b", "ab xb", "xb"),
        ("a?b", "a☺b", ""),
        ("  foo", "foo", ""),
        ("*\n! foo", "foo", "foo"),
        (" /foo", "foo", ""),
        ("c++", "c++ c", "c"),
        ("a|b", "a|b b xb", "b xb"),
        ("\\d", "d 1", "d"),
        ("a/b\n!a", "a/b a/c", "a/c"),
        ("a\n!a/b\na", "a/b a/c", "a/b"),
        ("*\n!a/b\n*", "a/b x", "a/b"),
        ("a/*\n!a", "a/x", ""),
        ("**/*-a\n!**/*-c", "subdir-c/file-a", ""),
        (".", "a b/c", "a b/c"),
        ("/", "a b/c", "a b/c"),
        ("../x", "x", "x"),
        ("*\n!.", "a b/c", ""),
        ("!foo", "foo", "foo"),
        ("*\n!!foo", "foo !foo", "!foo"),
        ("  #x", "#x x", "x"),
        ("\\#x", "#x x", "x"),
        ("dir/**", "dir/x dir/d/y dirx", "dirx"),
        ("a**", "ab a/b abc/d b", "b"),
        ("\u{feff}# c\r\nfoo\r\n", "foo x", "x"),
        ("", "a b/c", "a b/c"),
    ] {
        assert_eq!(kept(patterns, files), expected, "{patterns:?} on {files}");
    }
}

#[test]
fn an_empty_folder_stays_when_only_its_files_are_ignored() {
    let rules = Rules::parse(b"d/*").unwrap();
    let (kept, _) = walk(&rules, &["d/x"], true).unwrap();
    assert_eq!(kept, Paths::from(["d".to_owned()]));
}

#[test]
fn a_broken_pattern_fails_when_it_is_first_tried() {
    let rules = Rules::parse(b"ok\n[z-a]").unwrap();
    let error = walk(&rules, &["x"], true).unwrap_err();
    assert_eq!(error.to_string(), "line 2: `[z-a]`: the range `z-a` runs backwards");
    // Nothing is ignored, so no exception is tried.
    let rules = Rules::parse(b"!\\q").unwrap();
    assert!(walk(&rules, &["x"], true).is_ok());
    let rules = Rules::parse(b"x\n!\\q").unwrap();
    assert_eq!(walk(&rules, &["x"], true).unwrap_err().line, 2);
}

#[test]
fn what_is_ignored_and_out_of_reach_is_not_opened() {
    let files = ["src/a/x.go", "target/a/x", "vendor/a/x", "web/node_modules/a/x", "web/y"];
    for (text, opened) in [
        ("target\nvendor", ",src,src/a,web,web/node_modules,web/node_modules/a"),
        ("*\n!src/**/*.go", ",src,src/a"),
        ("**/node_modules\nvendor\ntarget\n!target/a/*", ",src,src/a,target,target/a,web"),
        ("*\n!web/?", ",web"),
        // An exception before the pattern that ignores comes too late.
        ("!**/x\n*", ""),
        (
            "*\n!**/y",
            ",src,src/a,target,target/a,vendor,vendor/a,web,web/node_modules,web/node_modules/a",
        ),
        ("*\n![s]rc", ",src,src/a"),
    ] {
        let rules = Rules::parse(text.as_bytes()).unwrap();
        let (_, seen) = walk(&rules, &files, true).unwrap();
        assert_eq!(seen.join(","), opened, "{text:?}");
    }
}

#[test]
fn buildkits_one_wrong_pruning_is_followed() {
    // `{2}` is a repetition here, but a name to the pruning.
    let rules = Rules::parse(b"*\n!a{2}/*").unwrap();
    assert!(walk(&rules, &["aa/x"], true).unwrap().0.is_empty());
    // With a wildcard elsewhere BuildKit prunes nothing, and `aa/x` appears.
    let rules = Rules::parse(b"*\n!a{2}/*\n!*/y").unwrap();
    assert!(walk(&rules, &["aa/x"], true).unwrap().0.contains("aa/x"));
}

#[test]
fn more_than_64_patterns_are_remembered() {
    let mut text = "nothing\n".repeat(130);
    text.insert_str(0, "a\n!b\n");
    text.push_str("c\n!c/d\n");
    let files = "a/x b/y c/x c/d/e";
    assert_eq!(kept(&text, files), "b/y c/d/e");
    let rules = Rules::parse(text.as_bytes()).unwrap();
    let above = rules.test(&rules.root(), b"c").unwrap();
    let below = rules.test(&above.state, b"c/x").unwrap();
    let shared = above.state.others.as_ref().zip(below.state.others.as_ref());
    assert!(shared.is_some_and(|(above, below)| Arc::ptr_eq(above, below)), "no copy per file");
}

#[test]
fn a_list_is_read_like_lines() {
    let rules = Rules::from_patterns(["**/target/", "/vendor", "!vendor/keep"]).unwrap();
    let files = ["a/target/x", "vendor/x", "vendor/keep", "y"];
    let (kept, _) = walk(&rules, &files, true).unwrap();
    let kept: Vec<_> = files.iter().filter(|file| kept.contains(**file)).collect();
    assert_eq!(kept, [&"vendor/keep", &"y"]);
    assert_eq!(Rules::from_patterns(["a", "["]).unwrap_err()[0].line, 2);
    assert!(Rules::from_patterns([]).unwrap().is_empty());
}

/// The model: what a pattern matches is found by trying every split of the path, and the
/// history of a path is worked out afresh from the root for each.
mod model {
    #[derive(Clone, Copy, PartialEq)]
    pub(super) enum Piece {
        Char(char),
        One,
        Name,
        Folders,
        Rest,
        Class(&'static str, bool),
    }

    const CLASSES: [(&str, Piece); 3] = [
        ("[ab]", Piece::Class("ab", true)),
        ("[^a]", Piece::Class("a", false)),
        ("[a-c]", Piece::Class("abc", true)),
    ];

    pub(super) fn pieces(mut pattern: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        'next: while let Some(c) = pattern.chars().next() {
            for (text, class) in CLASSES {
                if let Some(after) = pattern.strip_prefix(text) {
                    pieces.push(class);
                    pattern = after;
                    continue 'next;
                }
            }
            if let Some(after) = pattern.strip_prefix("**") {
                pattern = after.strip_prefix('/').unwrap_or(after);
                pieces.push(if pattern.is_empty() { Piece::Rest } else { Piece::Folders });
                continue;
            }
            pattern = &pattern[c.len_utf8()..];
            pieces.push(match c {
                '*' => Piece::Name,
                '?' => Piece::One,
                '\\' => {
                    let escaped = pattern.chars().next().unwrap();
                    pattern = &pattern[escaped.len_utf8()..];
                    Piece::Char(escaped)
                }
                c => Piece::Char(c),
            });
        }
        pieces
    }

    fn fits(pieces: &[Piece], path: &[char]) -> bool {
        let Some((piece, rest)) = pieces.split_first() else { return path.is_empty() };
        (0..=path.len()).any(|cut| {
            let (head, tail) = path.split_at(cut);
            let takes = match *piece {
                Piece::Char(c) => head == [c],
                Piece::One => head.len() == 1 && head != ['/'],
                Piece::Class(of, yes) => head.len() == 1 && of.contains(head[0]) == yes,
                Piece::Name => !head.contains(&'/'),
                Piece::Folders => head.is_empty() || head.ends_with(&['/']),
                Piece::Rest => true,
            };
            takes && fits(rest, tail)
        })
    }

    pub(super) fn matches(pattern: &str, path: &str) -> bool {
        let pieces = pieces(pattern);
        let plain = |pieces: &[Piece]| pieces.iter().all(|p| matches!(p, Piece::Char(_)));
        let has_escape = pattern.contains('\\');
        if let Some(after) = pattern.strip_prefix("**")
            && plain(&pieces[1..])
            && !has_escape
        {
            return path.ends_with(after) || after.strip_prefix('/') == Some(path);
        }
        fits(&pieces, &path.chars().collect::<Vec<_>>())
    }

    /// Whether `path` is ignored by cleaned patterns, `true` marking an exception.
    pub(super) fn ignored(patterns: &[(bool, String)], path: &str) -> bool {
        let mut matched = vec![false; patterns.len()];
        let mut ignored = false;
        for end in (0..=path.len()).filter(|&at| at == path.len() || path[at..].starts_with('/')) {
            ignored = false;
            for (index, (exception, pattern)) in patterns.iter().enumerate() {
                if !matched[index] {
                    matched[index] = ignored == *exception && matches(pattern, &path[..end]);
                }
                if matched[index] {
                    ignored = !exception;
                }
            }
        }
        ignored
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let part = "([abc.]|\\*|\\?|\\[ab\\]|\\[\\^a\\]|\\[a-c\\]|\\*\\*|\\\\[*.]){1,3}";
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/")).prop_filter(
        "patterns that cleaning would change, and the model has one expression for stars",
        |text| !text.split('/').any(|part| part == "." || part == ".."),
    )
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc.*]{1,2}", 1..5)
        .prop_filter("names", |parts| !parts.iter().any(|part| part == "." || part == ".."))
        .prop_map(|parts| parts.join("/"))
}

/// What can both be a folder and a file is a folder.
fn files(paths: &[String]) -> Vec<&str> {
    let is_folder = |path: &str| {
        paths.iter().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    };
    paths.iter().map(String::as_str).filter(|path| !is_folder(path)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_model_agrees_and_pruning_changes_nothing(
        patterns in prop::collection::vec((any::<bool>(), pattern()), 0..7),
        paths in prop::collection::vec(path(), 1..8),
    ) {
        let text: Vec<_> = patterns
            .iter()
            .map(|(exception, text)| format!("{}{text}", if *exception { "!" } else { "" }))
            .collect();
        let rules = Rules::from_patterns(text.iter().map(String::as_str)).unwrap();
        let files = files(&paths);
        let (pruned, _) = walk(&rules, &files, true).unwrap();
        let (full, _) = walk(&rules, &files, false).unwrap();
        prop_assert_eq!(&pruned, &full, "pruning changed what is kept");
        let all: Paths = tree(&files).into_values().flatten().collect();
        let expected: Paths =
            all.into_iter().filter(|path| !model::ignored(&patterns, path)).collect();
        prop_assert_eq!(full, expected, "patterns {:?}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in prop::collection::vec(any::<u8>(), 0..80),
        path in path(),
    ) {
        if let Ok(rules) = Rules::parse(&text) {
            drop(rules.test(&rules.root(), path.as_bytes()));
        }
    }

    #[test]
    fn any_pattern_is_read_or_refused(
        text in "([a-c]|[\\[\\]^{}|\\\\*?!-]|\\\\[a-zA-Z]|[0-9]|,){1,12}",
        path in path(),
    ) {
        if let Ok(rules) = Rules::parse(text.as_bytes()) {
            let state = rules.root();
            if let Ok(verdict) = rules.test(&state, path.as_bytes()) {
                rules.may_hold_kept(path.as_bytes(), &verdict.state);
            }
        }
    }
}
