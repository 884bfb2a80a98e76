//! Random edits of random contexts: after each one the key, taken the incremental way with a stat
//! index kept from edit to edit, is compared with a slow reference.
//!
//! The reference shares no code with the walk, the index, the choice or the digest: it lists every
//! path, asks the rules about each by itself, reads every file, and keeps the bytes. Two states
//! have one key if and only if the reference says they are the same, whichever folder they lie in.
//!
//! The edits aim at what indices get wrong: files written several times within one tick of the
//! clock, with the same length, with their mtime put back, swapped by renaming. Files come to be
//! trusted only when they have been left alone for two seconds, so the contexts take turns.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dockerfile::{Platform, Reading, Request, Sources};
use dockerignore::Rules;
use fastrand::Rng;
use xtask::config::{Exclude, Inputs};
use xtask::context::{self, Bases, Key, Spec};
use xtask::private::PrivatePath;

/// Edits of one seed, in turns of so many on one context.
const EDITS: usize = 6_000;
const TURN: usize = 25;
const CONTEXTS: usize = 24;

const NAMES: [&str; 8] = ["a", "b", "c.c", "src", "lib", "x.tmp", "keep", "a-b"];
const TEXTS: [&str; 5] = ["", "0", "1", "22", "33"];
const LINKS: [&str; 6] = ["a", "../b", "src/lib", "/a", "nowhere", "./a"];
const RULES: [&str; 14] = [
    "a", "src", "**/x.tmp", "!src/a", "lib/*", "!**/keep", "# words", "*/b", "src/*", "!src",
    "**/lib", "!lib/a", "a/*/b", "!a-b",
];
const SOURCES: [&str; 14] = [
    "COPY . /",
    "COPY . /d/",
    "COPY src lib a b c.c /d/",
    "COPY src/ /s/",
    "COPY src lib /d/",
    "COPY a* /d/",
    "COPY */a /d/",
    "COPY src/*/b /d/",
    "COPY lib/src/. /d/",
    "RUN --mount=type=bind,source=src,target=/s make",
    "RUN --mount=type=bind,source=src/a,target=/s make",
    "COPY --exclude=*.tmp src /d/",
    "COPY $WHERE /d/",
    "COPY b keep /d/",
];
const GLOBS: [&[&str]; 4] = [&["src"], &["**/a", "lib"], &["*", "!src/b"], &["**/*.c"]];
const EXCLUDES: [&[&str]; 3] = [&[], &["**/lib/"], &["src/x.tmp", "c.c"]];

/// A path below the context → what it is, with its mode, and its content or target.
type Listing = BTreeMap<Vec<u8>, (char, Vec<u8>)>;

/// The mode of a folder that is not listed where something in it is.
const FOLDER: u32 = 0o755;

struct Fuzzed {
    folder: tempfile::TempDir,
    spec: Spec,
}

impl Fuzzed {
    fn new(rng: &mut Rng) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        fs_err::create_dir(&root).unwrap();
        let spec = Spec {
            name: "fuzzed".into(),
            root,
            dockerfile: Some(folder.path().join("Dockerfile")),
            target: None,
            platform: None,
            args: BTreeMap::new(),
            volatile_args: Vec::new(),
            secrets: Vec::new(),
            inputs: Inputs::Dockerfile,
            exclude: Exclude::default(),
        };
        let mut fuzzed = Self { folder, spec };
        fuzzed.write_dockerfile(rng);
        (0..80).for_each(|_| fuzzed.write(rng));
        fuzzed
    }

    fn path(&self, rng: &mut Rng) -> PathBuf {
        let depth = rng.usize(1..=3);
        (0..depth)
            .fold(self.spec.root.clone(), |path, _| path.join(NAMES[rng.usize(..NAMES.len())]))
    }

    /// A path that is there, most of the time.
    fn present(&self, rng: &mut Rng) -> PathBuf {
        let tries = (0..6).map(|_| self.path(rng)).collect::<Vec<_>>();
        let there = tries.iter().find(|path| path.symlink_metadata().is_ok());
        there.unwrap_or(&tries[0]).clone()
    }

    /// One change. What cannot be done (a file in the way of a folder) is left undone: that is an
    /// edit too.
    fn edit(&mut self, rng: &mut Rng) {
        let path = self.present(rng);
        match rng.u8(..24) {
            0..=4 | 20.. => self.write(rng),
            5..=7 => rewrite_secretly(&path, rng),
            8 => remove(&path),
            9 => drop(fs_err::create_dir_all(self.path(rng))),
            10 => {
                remove(&path);
                symlink(LINKS[rng.usize(..LINKS.len())], &path).ok();
            }
            11 => drop(std::fs::set_permissions(
                &path,
                std::fs::Permissions::from_mode(
                    *rng.choice(&[0o644, 0o755, 0o700, 0o600]).unwrap(),
                ),
            )),
            12 => drop(fs_err::rename(&path, self.path(rng))),
            13 => swap(&path, &self.present(rng)),
            14 => set_mtime(&path, SystemTime::UNIX_EPOCH),
            15 | 16 => self.write_ignore_file(rng),
            17 => self.write_dockerfile(rng),
            18 => self.narrow(rng),
            _ => drop(self.spec.args.insert(
                (*rng.choice(&["WHERE", "OTHER"]).unwrap()).to_owned(),
                NAMES[rng.usize(..NAMES.len())].to_owned(),
            )),
        }
    }

    fn write(&mut self, rng: &mut Rng) {
        let path = self.path(rng);
        fs_err::create_dir_all(path.parent().unwrap_or(&path)).ok();
        fs_err::write(&path, TEXTS[rng.usize(..TEXTS.len())]).ok();
    }

    fn write_ignore_file(&self, rng: &mut Rng) {
        let file = self.spec.root.join(".dockerignore");
        if rng.u8(..6) == 0 {
            return remove(&file);
        }
        let lines: Vec<&str> =
            (0..rng.usize(..5)).map(|_| RULES[rng.usize(..RULES.len())]).collect();
        fs_err::write(file, lines.join("\n")).ok();
    }

    fn write_dockerfile(&self, rng: &mut Rng) {
        let mut text = String::from("FROM debian:12\nARG WHERE=a\n");
        for _ in 0..rng.usize(1..4) {
            text += SOURCES[rng.usize(..SOURCES.len())];
            text += "\n";
        }
        fs_err::write(self.folder.path().join("Dockerfile"), text).unwrap();
    }

    fn narrow(&mut self, rng: &mut Rng) {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        self.spec.exclude.patterns = owned(EXCLUDES[rng.usize(..EXCLUDES.len())]);
        self.spec.inputs = match rng.usize(..GLOBS.len() * 4) {
            at if at < GLOBS.len() => Inputs::Globs(owned(GLOBS[at])),
            _ => Inputs::Dockerfile,
        };
    }

    fn gather(&self) -> context::Context {
        let opened = context::open(std::slice::from_ref(&self.spec)).unwrap();
        context::gather(opened, Some(&PrivatePath::below(self.folder.path(), "index")), Bases::new)
            .unwrap()
            .remove(0)
    }

    /// Bytes of its index that are entries, about 80 each.
    fn bytes_in_index(&self) -> u64 {
        let files = fs_err::read_dir(self.folder.path().join("index")).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        bytes - (66 + self.spec.root.as_os_str().len() as u64)
    }

    /// Everything the key is to be a function of.
    fn reference(&self) -> (Vec<u8>, Listing) {
        let reading = self.reading();
        let listing = self.sent(&reading);
        let mut whole = format!("{:?}\n{:?}\n", reading.args, reading.secrets).into_bytes();
        whole.extend_from_slice(&reading.text);
        whole.extend_from_slice(format!("{listing:?}").as_bytes());
        (whole, listing)
    }

    fn reading(&self) -> Reading {
        let platform =
            Platform { os: "linux".into(), arch: "amd64".into(), variant: String::new() };
        let request = Request {
            target: None,
            args: &self.spec.args,
            platform: platform.clone(),
            build_platform: platform,
            base: &|_| None,
        };
        let text = fs_err::read(self.folder.path().join("Dockerfile")).unwrap();
        dockerfile::read(&text, &request).unwrap()
    }

    fn sent(&self, reading: &Reading) -> Listing {
        let all = listing(&self.spec.root);
        let ignore = fs_err::read(self.spec.root.join(".dockerignore")).unwrap_or_default();
        let excludes =
            Rules::from_patterns(self.spec.exclude.patterns.iter().map(String::as_str)).unwrap();
        let rules = [Rules::parse(&ignore).unwrap(), excludes];
        let kept = |path: &[u8]| !rules.iter().any(|rules| matches(rules, path));
        let there: Listing = all
            .iter()
            .filter(|(path, _)| all.keys().any(|other| below_or_at(other, path) && kept(other)))
            .map(|(path, what)| (path.clone(), what.clone()))
            .collect();
        let selection = match &reading.sources {
            Sources::Whole { .. } => None,
            Sources::Paths(sources) => Some(dockerfile::select(sources, &Naive(&there))),
        };
        let globs = match &self.spec.inputs {
            Inputs::Globs(globs) => {
                Some(Rules::from_patterns(globs.iter().map(String::as_str)).unwrap())
            }
            _ => None,
        };
        let chosen = |path: &[u8]| {
            kept(path)
                && selection.as_ref().is_none_or(|selection| selection.contains(path))
                && globs.as_ref().is_none_or(|globs| matches(globs, path))
        };
        let mut sent = there.clone();
        sent.retain(|path, _| chosen(path));
        let paths: Vec<Vec<u8>> = sent.keys().cloned().collect();
        // A folder that something sent lies in is there because of that; its mode is, if it is an
        // unusual one.
        sent.retain(|path, (kind, mode)| {
            *kind != 'd'
                || *mode != FOLDER.to_be_bytes()
                || !paths.iter().any(|other| other != path && below_or_at(other, path))
        });
        sent
    }
}

/// Whether the rules match a path, every folder above it asked first.
fn matches(rules: &Rules, path: &[u8]) -> bool {
    let mut state = rules.root();
    let mut ignored = false;
    for end in (1..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/') {
        let verdict = rules.test(&state, &path[..end]).unwrap();
        (state, ignored) = (verdict.state, verdict.ignored);
    }
    ignored
}

fn below_or_at(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Everything below a folder.
fn listing(root: &Path) -> Listing {
    use std::os::unix::ffi::OsStrExt as _;
    let mut all = Listing::new();
    let mut next = vec![root.to_owned()];
    while let Some(folder) = next.pop() {
        for entry in fs_err::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs_err::symlink_metadata(&path).unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            let what = if meta.is_dir() {
                next.push(path.clone());
                ('d', mode.to_be_bytes().to_vec())
            } else if meta.is_symlink() {
                ('l', fs_err::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                ('f', [mode.to_be_bytes().to_vec(), fs_err::read(&path).unwrap()].concat())
            };
            let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            all.insert(relative, what);
        }
    }
    all
}

/// A listing as Dockerfile sources are looked up in it.
struct Naive<'a>(&'a Listing);

fn kind(what: char) -> dockerfile::Kind {
    match what {
        'd' => dockerfile::Kind::Dir,
        'l' => dockerfile::Kind::Symlink,
        _ => dockerfile::Kind::File,
    }
}

impl dockerfile::Tree for Naive<'_> {
    fn kind(&self, path: &[u8]) -> Option<dockerfile::Kind> {
        if path.is_empty() {
            return Some(dockerfile::Kind::Dir);
        }
        self.0.get(path).map(|(what, _)| kind(*what))
    }

    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.0.get(path).filter(|(what, _)| *what == 'l').map(|(_, target)| target.clone())
    }

    fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, dockerfile::Kind)> {
        let parent = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
        let inside = |path: &&Vec<u8>| path[..parent(path).unwrap_or(0)] == *dir;
        let name = |path: &Vec<u8>| path[parent(path).map_or(0, |slash| slash + 1)..].to_vec();
        let children = self.0.iter().filter(|(path, _)| inside(path));
        children.map(|(path, (what, _))| (name(path), kind(*what))).collect()
    }
}

/// Other bytes of the same length, the mtime of before.
fn rewrite_secretly(path: &Path, rng: &mut Rng) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if !meta.is_file() {
        return;
    }
    let digit = b'0' + rng.u8(..4);
    fs_err::write(path, vec![digit; usize::try_from(meta.len()).unwrap()]).unwrap();
    set_mtime(path, meta.modified().unwrap());
}

fn set_mtime(path: &Path, time: SystemTime) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }
}

/// Each gets the other's place, both with one mtime.
fn swap(one: &Path, other: &Path) {
    let files = [one, other].map(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
    // Two paths may lead to one file, by a link to a folder.
    let real = |path: &Path| path.canonicalize().ok();
    if files == [true; 2] && real(one) != real(other) {
        let aside = one.with_extension("aside");
        fs_err::rename(one, &aside).unwrap();
        fs_err::rename(other, one).unwrap();
        fs_err::rename(&aside, other).unwrap();
        set_mtime(one, SystemTime::UNIX_EPOCH);
        set_mtime(other, SystemTime::UNIX_EPOCH);
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs_err::remove_dir_all(path).unwrap(),
        Ok(_) => fs_err::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn fuzz(seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let mut contexts: Vec<Fuzzed> = (0..CONTEXTS).map(|_| Fuzzed::new(rng)).collect();
    let mut keys: HashMap<Vec<u8>, Key> = HashMap::new();
    let mut states: HashMap<Key, Vec<u8>> = HashMap::new();
    for turn in 0..EDITS / TURN {
        let fuzzed = &mut contexts[turn % CONTEXTS];
        for edit in 0..TURN {
            fuzzed.edit(rng);
            let context = fuzzed.gather();
            let key = context.parts(&BTreeMap::new()).key();
            let (state, sent) = fuzzed.reference();
            let place = format!("seed {seed}, edit {edit} of turn {turn}");
            assert_eq!(
                *keys.entry(state.clone()).or_insert(key),
                key,
                "{place}: one state, two keys"
            );
            assert_eq!(
                *states.entry(key).or_insert(state.clone()),
                state,
                "{place}: one key, two states"
            );
            if edit == TURN - 1 {
                let stage = fuzzed.folder.path().join("stage");
                assert_eq!(
                    context.stage(&stage, &BTreeMap::new()).unwrap().parts.key(),
                    key,
                    "{place}"
                );
                let mut copied = listing(&stage);
                copied.retain(|path, (kind, _)| *kind != 'd' || sent.contains_key(path));
                assert_eq!(copied, sent, "{place}: what is staged");
                fs_err::remove_dir_all(stage).unwrap();
            }
        }
    }
    // Else the index was never asked.
    let entries: u64 = contexts.iter().map(Fuzzed::bytes_in_index).sum();
    assert!(entries > (CONTEXTS * 3 * 80) as u64, "the indices hold {entries} bytes");
    assert!(states.len() > EDITS / 6, "{} states", states.len());
}

/// Many times within one tick of the file system's clock, never with another size or mtime.
#[test]
fn a_file_written_again_and_again_within_a_tick_is_seen_each_time() {
    let rng = &mut Rng::with_seed(5);
    let fuzzed = Fuzzed::new(rng);
    fs_err::write(fuzzed.folder.path().join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let file = fuzzed.spec.root.join("written");
    let mut keys = HashMap::new();
    for round in 0..600_u64 {
        fs_err::write(&file, [b'0' + u8::try_from(round % 7).unwrap()]).unwrap();
        // Now and then years back, where the margin would vouch for the mtime alone.
        let years = Duration::from_secs(round % 3 * 100_000_000);
        set_mtime(&file, SystemTime::UNIX_EPOCH + years);
        let key = fuzzed.gather().parts(&BTreeMap::new()).key();
        assert_eq!(*keys.entry(round % 7).or_insert(key), key, "round {round}");
    }
    assert_eq!(keys.values().collect::<std::collections::HashSet<_>>().len(), 7);
}

#[test]
fn keys_agree_with_a_slow_reference() {
    fuzz(4);
}

#[test]
fn keys_agree_with_a_slow_reference_from_a_new_seed() {
    let seed = std::env::var("XTASK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("XTASK_SEED={seed}");
    fuzz(seed);
}
