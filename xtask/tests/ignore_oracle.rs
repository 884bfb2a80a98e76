//! The ignore rules against the code BuildKit runs: `patternmatcher`, `ignorefile` and `fsutil`
//! behind a small Go program. `cargo test -p xtask --test ignore_oracle -- --ignored` needs Go
//! and its module proxy.
#![expect(clippy::disallowed_methods, reason = "a test's own child, not one of the tool's")]

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use xtask::context::ignore::{RuleError, Rules, State};

const CASES: u32 = 20_000;

type Path_ = Vec<u8>;
type Tree = BTreeMap<Path_, BTreeSet<Path_>>;

/// Everything a build would be sent: what is not ignored and the folders that leads through.
fn sent(rules: &Rules, tree: &Tree) -> Result<BTreeSet<Path_>, RuleError> {
    let mut all = BTreeSet::new();
    collect(rules, tree, b"", &rules.root(), &mut all)?;
    Ok(all)
}

fn collect(
    rules: &Rules,
    tree: &Tree,
    folder: &[u8],
    state: &State,
    all: &mut BTreeSet<Path_>,
) -> Result<(), RuleError> {
    for path in &tree[folder] {
        let verdict = rules.test(state, path)?;
        let before = all.len();
        if tree.contains_key(path) && rules.may_hold_kept(path, &verdict.state) {
            collect(rules, tree, path, &verdict.state, all)?;
        }
        if !verdict.ignored || all.len() > before {
            all.insert(path.clone());
        }
    }
    Ok(())
}

fn tree(files: &[Path_]) -> Tree {
    let mut tree = Tree::from([(Vec::new(), BTreeSet::new())]);
    for file in files {
        let mut folder = Vec::new();
        let ends = (0..=file.len()).filter(|&at| at == file.len() || file[at] == b'/');
        for entry in ends.map(|end| file[..end].to_vec()) {
            tree.entry(folder).or_default().insert(entry.clone());
            folder = entry;
        }
    }
    tree
}

struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(serde::Deserialize)]
struct Answer {
    kept: Option<Vec<String>>,
    error: String,
}

impl Oracle {
    fn start(folder: &Path) -> Oracle {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ignore_oracle");
        let program = folder.join("oracle");
        let built =
            Command::new("go").args(["build", "-o"]).arg(&program).current_dir(source).status();
        assert!(built.unwrap().success(), "go build");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // Go's scanner tells of every odd byte
            .spawn()
            .unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Oracle { child, questions, answers }
    }

    fn sent(&mut self, text: &[u8], files: &[Path_]) -> Result<BTreeSet<Path_>, String> {
        let files: Vec<_> = files.iter().map(hex::encode).collect();
        let question = serde_json::json!({ "text": hex::encode(text), "files": files });
        writeln!(self.questions, "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Answer = serde_json::from_str(&line).unwrap();
        if !answer.error.is_empty() {
            return Err(answer.error);
        }
        let kept = answer.kept.unwrap_or_default();
        Ok(kept.into_iter().map(|path| hex::decode(path).unwrap()).collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Patterns people write.
fn plain_line() -> impl Strategy<Value = Vec<u8>> {
    "!?/?([ab.]|\\*{1,2}|\\*\\*/|/|\\?|\\[ab\\]|\\[\\^a\\]){1,7}/?".prop_map(String::into_bytes)
}

/// Patterns nobody should.
fn wild_line() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[ab/.]".prop_map(String::into_bytes),
        4 => "[*?\\[\\]^|{}()!#$+,-]".prop_map(String::into_bytes),
        1 => "\\{[0-3](,[0-3]?)?\\}".prop_map(String::into_bytes),
        1 => "\\\\[a-zA-Z0-9.*\\[\\]|{}-]".prop_map(String::into_bytes),
        1 => prop::sample::select(vec![
            "[[:alpha:]]", "[[:^word:]]", "\\pL", "\\p{Greek}", "\\P{^Lu}", "\\x{61}", "\\x61",
            "\\141", "\\Qa", "\\E", "..", "α", "☺", "\u{feff}", "\u{a0}", " ", "[^/]", "[b-a]",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec![&b"\xff"[..], b"\xe2\x98"]).prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(part, 1..7).prop_map(|parts| parts.concat())
}

fn case() -> impl Strategy<Value = (Vec<u8>, Vec<Path_>)> {
    let text = prop_oneof![
        prop::collection::vec(plain_line(), 1..7),
        prop::collection::vec(wild_line(), 1..4),
        prop::collection::vec(prop_oneof![plain_line(), wild_line()], 1..6),
    ];
    let end = prop::sample::select(vec![&b"\n"[..], b"\r\n"]);
    let name = prop_oneof![
        6 => "[ab.]{1,3}",
        1 => "[ab*\\[\\]{}|^+()-]{1,2}",
        1 => prop::sample::select(vec!["α", "☺", "1", "A", "_", " "]).prop_map(str::to_owned),
    ];
    let name =
        name.prop_filter("names", |name| name != "." && name != "..").prop_map(String::into_bytes);
    let broken = prop::sample::select(vec![&b"\xff"[..], b"a\xe2\x98", b"a\nb"]);
    let name = prop_oneof![12 => name, 1 => broken.prop_map(<[u8]>::to_vec)];
    let path = prop::collection::vec(name, 1..5).prop_map(|parts| parts.join(&b'/'));
    (text, end, prop::collection::vec(path, 1..8))
        .prop_map(|(lines, end, files)| (lines.join(end), files))
}

/// BuildKit cannot send these, but the code asked here never sees the wire.
fn is_refused_on_the_wire(error: &RuleError) -> bool {
    error.message.contains("control character")
}

#[test]
#[ignore = "needs Go and its module proxy"]
fn the_rules_are_buildkits() {
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::start(folder.path());
    let mut runner = TestRunner::new(Config::default());
    let (mut kept_some, mut failed) = (0, 0);
    for _ in 0..CASES {
        let (text, files) = case().new_tree(&mut runner).unwrap().current();
        let theirs = oracle.sent(&text, &files);
        let ours = match Rules::parse(&text) {
            Ok(rules) => sent(&rules, &tree(&files)).map_err(|error| error.to_string()),
            Err(errors) if errors.iter().any(is_refused_on_the_wire) => continue,
            Err(errors) => Err(errors[0].to_string()),
        };
        let files = files.iter().map(|file| String::from_utf8_lossy(file)).collect::<Vec<_>>();
        let about = format!("{:?} on {files:?}", String::from_utf8_lossy(&text));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{about}"),
            (Err(_), Err(_)) => failed += 1,
            _ => panic!("{about}: ours {ours:?}, theirs {theirs:?}"),
        }
        kept_some += u32::from(ours.is_ok_and(|sent| !sent.is_empty()));
    }
    println!("{CASES} cases: {kept_some} kept something, {failed} failed in both");
    assert!(kept_some > CASES / 4 && failed > CASES / 100, "the cases show too little");
}
