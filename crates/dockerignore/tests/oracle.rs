//! The ignore rules against BuildKit, twice:
//! `cargo test -p dockerignore --test oracle -- --ignored`.
//!
//! 1. Against the code it runs, `patternmatcher`, `ignorefile` and `fsutil`, behind a small Go
//!    program: many cases a second. Needs Go and its module proxy.
//! 2. Against the engine itself: `FROM scratch`, `COPY . /`, and a look at what arrived. Needs
//!    `buildctl`, and `BUILDKIT_HOST` to say where `buildkitd` listens.
#![expect(clippy::disallowed_methods, reason = "a test's own child, not one of the tool's")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "all of this is a test")]

use dockerignore::{RuleError, Rules, State};
use fs_err as fs;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const CASES: u32 = 20_000;
const BUILDS: u32 = 400;

/// A path in a context; need not be text.
type Name = Vec<u8>;
/// Every folder with its entries.
type Tree = BTreeMap<Name, BTreeSet<Name>>;

/// Everything a build would be sent: what is not ignored and the folders that leads through.
fn sent(rules: &Rules, tree: &Tree) -> Result<BTreeSet<Name>, RuleError> {
    let mut all = BTreeSet::new();
    collect(rules, tree, b"", &rules.root(), &mut all)?;
    Ok(all)
}

fn collect(
    rules: &Rules,
    tree: &Tree,
    folder: &[u8],
    state: &State,
    all: &mut BTreeSet<Name>,
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

fn tree(files: &[Name]) -> Tree {
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
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
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

    fn sent(&mut self, text: &[u8], files: &[Name]) -> Result<BTreeSet<Name>, String> {
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

fn case() -> impl Strategy<Value = (Vec<u8>, Vec<Name>)> {
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

fn ours(text: &[u8], files: &[Name]) -> Result<BTreeSet<Name>, RuleError> {
    let rules = Rules::parse(text).map_err(|mut errors| errors.remove(0))?;
    sent(&rules, &tree(files))
}

/// Compares one case and tells whether something was sent.
fn compare(
    (text, files): &(Vec<u8>, Vec<Name>),
    ours: Result<BTreeSet<Name>, RuleError>,
    theirs: Result<BTreeSet<Name>, String>,
) -> Option<bool> {
    let lossy = |name: &Name| String::from_utf8_lossy(name).into_owned();
    let files: Vec<_> = files.iter().map(lossy).collect();
    let about = format!("{:?} on {files:?}", lossy(text));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let names = |sent: &BTreeSet<Name>| sent.iter().map(lossy).collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&theirs), "{about}");
            Some(!ours.is_empty())
        }
        (Err(_), Err(_)) => None,
        (ours, theirs) => panic!("{about}: ours {ours:?}, theirs {theirs:?}"),
    }
}

#[test]
#[ignore = "needs Go and its module proxy"]
fn the_rules_are_those_of_buildkits_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::start(folder.path());
    let mut runner = TestRunner::new(Config::default());
    let mut seen = BTreeMap::new();
    for _ in 0..CASES {
        let case = case().new_tree(&mut runner).unwrap().current();
        let ours = ours(&case.0, &case.1);
        if !ours.as_ref().is_err_and(is_refused_on_the_wire) {
            let outcome = compare(&case, ours, oracle.sent(&case.0, &case.1));
            *seen.entry(outcome).or_insert(0) += 1;
        }
    }
    println!("sent nothing, sent something, failed in both: {seen:?}");
    assert!(seen[&Some(true)] > CASES / 4, "the cases show too little");
    assert!(seen[&None] > CASES / 100, "the cases show too little");
}

#[test]
#[ignore = "needs buildctl and a buildkitd at BUILDKIT_HOST"]
fn the_rules_are_those_of_a_running_buildkit() {
    let mut runner = TestRunner::new(Config::default());
    let mut seen = BTreeMap::new();
    for _ in 0..BUILDS {
        let (text, mut files) = case().new_tree(&mut runner).unwrap().current();
        files.retain(|file| str::from_utf8(file).is_ok()); // others do not pass its protocol
        files.push(b".dockerignore".to_vec());
        let theirs = build(&text, &files);
        let outcome = compare(&(text.clone(), files.clone()), ours(&text, &files), theirs);
        *seen.entry(outcome).or_insert(0) += 1;
    }
    println!("sent nothing, sent something, failed in both: {seen:?}");
    assert!(seen[&Some(true)] > BUILDS / 4, "the cases show too little");
}

/// What arrives in an image that copies the whole context.
fn build(text: &[u8], files: &[Name]) -> Result<BTreeSet<Name>, String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (context, definition, out) = (at("context"), at("definition"), at("out"));
    let tree = tree(files);
    for name in tree.keys() {
        fs::create_dir_all(context.join(OsStr::from_bytes(name))).unwrap();
    }
    for name in tree.values().flatten().filter(|name| !tree.contains_key(*name)) {
        fs::write(context.join(OsStr::from_bytes(name)), "").unwrap();
    }
    fs::write(context.join(".dockerignore"), text).unwrap();
    fs::create_dir_all(&definition).unwrap();
    fs::write(definition.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let local = |name: &str, path: &Path| format!("{name}={}", path.display());
    let output = Command::new("buildctl")
        .args(["build", "--frontend", "dockerfile.v0", "--progress", "plain"])
        .args(["--local", &local("context", &context)])
        .args(["--local", &local("dockerfile", &definition)])
        .args(["--output", &local("type=local,dest", &out)])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut names = BTreeSet::new();
    list(&out, &out, &mut names);
    Ok(names)
}

fn list(root: &Path, folder: &Path, names: &mut BTreeSet<Name>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().as_os_str().to_owned();
        names.insert(name.into_vec());
        if entry.file_type().unwrap().is_dir() {
            list(root, &path, names);
        }
    }
}
