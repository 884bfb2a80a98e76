//! Properties: nothing panics, nothing is narrower than a slow and simple reading, and the parser
//! agrees with the crate `parse-dockerfile` where both are right.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::selection::made;
use super::*;

/// Pieces that together reach most of the grammar.
const PIECES: [&str; 44] = [
    "FROM ",
    "scratch",
    " AS a",
    "COPY ",
    "ADD ",
    "RUN ",
    "ENV ",
    "ARG ",
    "ONBUILD ",
    "a",
    "b ",
    "\n",
    "\\\n",
    " ",
    "<<EOF",
    "EOF\n",
    "--from=",
    "--mount=",
    "type=",
    "bind",
    ",",
    "source=",
    "$x",
    "${x:-",
    "${x#",
    "}",
    "'",
    "\"",
    "[\"",
    "\", \"",
    "\"]",
    "/",
    "..",
    "*",
    "[",
    "=",
    "# escape=`\n",
    "`",
    "#",
    "--parents ",
    "--exclude=",
    "é",
    "\0",
    "<<-'E'",
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ignored = case().bytes(&text);
    }

    #[test]
    fn no_pieces_make_it_panic(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
        let tree = made(&["a/b", "b -> a", "c -> c"]);
        let mut text = text.into_bytes();
        if let Ok(Reading { sources: Sources::Paths(sources), .. }) = case().bytes(&text) {
            select(&sources, &tree);
        }
        text.splice(0..0, b"FROM scratch\n".iter().copied());
        if let Ok(Reading { sources: Sources::Paths(sources), .. }) = case().bytes(&text) {
            select(&sources, &tree);
        }
    }

    #[test]
    fn never_narrower_than_the_simple_reading(file in simple_file()) {
        let tree = made(&TREE);
        let reading = case().read(&file.text());
        let Sources::Paths(sources) = reading.sources else { return Ok(()) };
        let selection = select(&sources, &tree);
        for needed in file.reads() {
            prop_assert!(selection.contains(needed.as_bytes()), "{needed} in\n{}", file.text());
        }
    }

    #[test]
    fn never_wider_either_where_all_is_plain(file in simple_file()) {
        let reading = case().read(&file.text());
        let Sources::Paths(sources) = reading.sources else { panic!("widened") };
        let tree = made(&TREE);
        let selection = select(&sources, &tree);
        let reads = file.reads();
        for (path, _) in tree.paths() {
            let path = std::str::from_utf8(path).unwrap();
            prop_assert_eq!(selection.contains(path.as_bytes()), reads.contains(path), "{}", path);
        }
    }

    #[test]
    fn the_text_ignores_what_the_target_does(file in simple_file(), extra in 0..6_usize) {
        let before = case().read(&file.text()).text;
        let mut edited = file.clone();
        let reached = edited.reached();
        let index = extra % edited.stages.len();
        edited.stages[index].steps.push(Step::Run);
        let after = case().read(&edited.text()).text;
        prop_assert_eq!(reached.contains(&index), before != after);
    }

    #[test]
    fn the_parser_crate_sees_the_same_instructions(file in simple_file()) {
        let text = file.text();
        let theirs = parse_dockerfile::parse(&text).unwrap().instructions.len();
        prop_assert_eq!(parse::parse(&text).unwrap().instructions.len(), theirs);
    }
}

const TREE: [&str; 9] =
    ["a/x.md", "a/y", "a/d/z.md", "b/x.md", "b/e/w", "c.md", "d -> a", "e -> c.md", ".h"];

/// A Dockerfile of plain steps, with an answer that needs no parsing.
#[derive(Debug, Clone)]
struct SimpleFile {
    stages: Vec<SimpleStage>,
}

#[derive(Debug, Clone)]
struct SimpleStage {
    on: Option<usize>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// By number in `SOURCES`.
    Copy(usize),
    Mount(usize),
    ByArg(usize),
    FromStage(usize),
    FromNumber(usize),
    Heredoc(usize),
    Run,
    Comment,
}

/// A source and what it comes to in `TREE`, written out by hand.
const SOURCES: [(&str, &[&str]); 8] = [
    ("a", &["a", "a/x.md", "a/y", "a/d", "a/d/z.md"]),
    ("b/x.md", &["b/x.md"]),
    ("./b/../c.md", &["c.md"]),
    ("d", &["d", "a", "a/x.md", "a/y", "a/d", "a/d/z.md"]),
    ("e", &["e", "c.md"]),
    (".h", &[".h"]),
    ("b/e", &["b/e", "b/e/w"]),
    ("d/d", &["d", "a/d", "a/d/z.md"]),
];

fn simple_file() -> impl Strategy<Value = SimpleFile> {
    let step = prop_oneof![
        (0..SOURCES.len()).prop_map(Step::Copy),
        (0..SOURCES.len()).prop_map(Step::Mount),
        (0..SOURCES.len()).prop_map(Step::ByArg),
        (0..5_usize).prop_map(Step::FromStage),
        (0..5_usize).prop_map(Step::FromNumber),
        (0..SOURCES.len()).prop_map(Step::Heredoc),
        Just(Step::Run),
        Just(Step::Comment),
    ];
    let stage = (prop::option::of(0..5_usize), prop::collection::vec(step, 0..5));
    prop::collection::vec(stage, 1..6).prop_map(|stages| {
        let stages = stages.into_iter().enumerate().map(|(index, (on, steps))| {
            let before = |other: &usize| *other < index;
            let steps = steps.into_iter().filter(|step| match step {
                Step::FromStage(other) | Step::FromNumber(other) => before(other),
                _ => true,
            });
            SimpleStage { on: on.filter(before), steps: steps.collect() }
        });
        SimpleFile { stages: stages.collect() }
    })
}

impl SimpleFile {
    fn text(&self) -> String {
        let stages = self.stages.iter().enumerate().map(|(index, stage)| {
            let base = stage.on.map_or("scratch".to_owned(), |on| format!("s{on}"));
            let steps: String = stage.steps.iter().map(Step::text).collect();
            format!("FROM {base} AS s{index}\n{steps}")
        });
        stages.collect()
    }

    fn reached(&self) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([self.stages.len() - 1]);
        for index in (0..self.stages.len()).rev() {
            if !reached.contains(&index) {
                continue;
            }
            reached.extend(self.stages[index].on);
            reached.extend(self.stages[index].steps.iter().filter_map(|step| match step {
                Step::FromStage(other) | Step::FromNumber(other) => Some(*other),
                _ => None,
            }));
        }
        reached
    }

    fn reads(&self) -> BTreeSet<&'static str> {
        let reached = self.reached();
        let steps = reached.iter().flat_map(|index| &self.stages[*index].steps);
        let sources = steps.filter_map(|step| match step {
            Step::Copy(n) | Step::Mount(n) | Step::ByArg(n) | Step::Heredoc(n) => {
                Some(SOURCES[*n].1)
            }
            _ => None,
        });
        sources.flatten().copied().collect()
    }
}

impl Step {
    fn text(&self) -> String {
        let source = |n: &usize| SOURCES[*n].0;
        match self {
            Step::Copy(n) => format!("COPY \\\n  # why\n  {} /x\n", source(n)),
            Step::Mount(n) => format!("RUN --mount=source={},target=/m make\n", source(n)),
            Step::ByArg(n) => {
                format!("ARG v={}\nENV w=$v\nCOPY [\"${{w:-a}}\", \"/x\"]\n", source(n))
            }
            Step::FromStage(n) => format!("COPY --from=s{n} /x /y\n"),
            Step::FromNumber(n) => format!("COPY --from={n} /x /y\n"),
            Step::Heredoc(n) => format!("COPY <<EOF {} /x/\nCOPY b /x\nEOF\n", source(n)),
            Step::Run => "RUN COPY b /x\n".to_owned(),
            Step::Comment => "# COPY b /x\n\n".to_owned(),
        }
    }
}
