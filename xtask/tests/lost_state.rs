//! What xtask keeps between runs may be cut off, damaged, swapped, taken from another checkout, or
//! half written by a run that was killed: the answer stays right, and only time is lost.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]
#![expect(clippy::disallowed_methods, reason = "a child of the test's own")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use support::Case;
use xtask::config::{Exclude, Inputs};
use xtask::context::{self, Bases, Key, Spec};
use xtask::private::PrivatePath;

/// How long something may take until it must have happened.
const PATIENCE: Duration = Duration::from_mins(1);

/// A checkout with a dozen files that differ from those of another `text`.
struct Checkout {
    root: PathBuf,
    indices: PrivatePath,
}

impl Checkout {
    fn new(folder: &Path, name: &str, text: &str) -> Self {
        let root = folder.join(name);
        fs_err::create_dir_all(root.join("src")).unwrap();
        for number in 0..12 {
            fs_err::write(root.join(format!("src/{number:02}")), format!("{text}{number}"))
                .unwrap();
        }
        let indices = PrivatePath::below(folder, format!("{name}-indices"));
        Self { root, indices }
    }

    fn key_with(&self, indices: &PrivatePath) -> Key {
        let spec = Spec {
            name: "api".into(),
            root: self.root.clone(),
            dockerfile: None,
            target: None,
            platform: None,
            args: BTreeMap::new(),
            volatile_args: Vec::new(),
            secrets: Vec::new(),
            inputs: Inputs::Dockerfile,
            exclude: Exclude::default(),
        };
        let contexts =
            context::gather(context::open(&[spec]).unwrap(), Some(indices), Bases::new).unwrap();
        contexts[0].parts(&BTreeMap::new()).key()
    }

    fn key(&self) -> Key {
        self.key_with(&self.indices)
    }

    /// The key with no index at all.
    fn truth(&self) -> Key {
        let nowhere = tempfile::tempdir().unwrap();
        self.key_with(&PrivatePath::below(nowhere.path(), "index"))
    }

    /// Its index, once it vouches for all files: they must have been left alone for two seconds.
    fn index(&self) -> (PathBuf, Vec<u8>) {
        let started = Instant::now();
        loop {
            self.key();
            let file = fs_err::read_dir(&self.indices).unwrap().next().unwrap().unwrap().path();
            let bytes = fs_err::read(&file).unwrap();
            if bytes.len() > 12 * 60 {
                return (file, bytes);
            }
            assert!(started.elapsed() < PATIENCE, "the index stays empty");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_damaged_index_never_changes_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(folder.path(), "here", "a");
    let other = Checkout::new(folder.path(), "there", "b");
    let truth = checkout.truth();
    let (file, good) = checkout.index();
    let (_, others) = other.index();
    assert_ne!(truth, other.key());
    let rng = &mut Rng::with_seed(4);
    for round in 0..400 {
        let mut bytes = good.clone();
        let at = rng.usize(..bytes.len());
        match round % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at..].fill(0),
            3 => bytes.extend_from_within(at..),
            4 => bytes.clone_from(&others),
            _ => bytes = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
        }
        fs_err::write(&file, bytes).unwrap();
        assert_eq!(checkout.key(), truth, "round {round}");
    }
    fs_err::remove_file(&file).unwrap();
    fs_err::write(&file, &good).unwrap();
    assert_eq!(checkout.key(), truth);
}

#[test]
fn an_index_does_not_outlive_its_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkout = Checkout::new(folder.path(), "here", "a");
    let other = Checkout::new(folder.path(), "there", "b");
    let (mine, theirs) = (checkout.truth(), other.truth());
    checkout.index();
    let (_, index_of_other) = other.index();
    // Another checkout takes the place of the one the index was made in.
    fs_err::rename(&checkout.root, folder.path().join("aside")).unwrap();
    fs_err::rename(&other.root, &checkout.root).unwrap();
    assert_eq!(checkout.key(), theirs);
    // Moved, with all indices there are in place.
    checkout.root = folder.path().join("aside");
    assert_eq!(checkout.key(), mine);
    for file in fs_err::read_dir(&checkout.indices).unwrap() {
        fs_err::write(file.unwrap().path(), &index_of_other).unwrap();
    }
    assert_eq!(checkout.key(), mine);
}

/// Writes to a file that it keeps mapped, when told to and not before.
const MAPPER: &str = "
import mmap, os, sys
mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)
for letter in b'xyz':
    mapped[0] = letter
    print('written', flush=True)
    sys.stdin.readline()
";

#[test]
fn a_write_through_a_memory_mapping_is_seen_though_it_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(folder.path(), "here", "a");
    let file = checkout.root.join("src/07");
    let mut python = Command::new("python3");
    python.args(["-c", MAPPER]).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut told = BufReader::new(python.stdout.take().unwrap());
    let mut written = || told.read_line(&mut String::new()).unwrap();
    written();
    checkout.index();
    let before = checkout.key();
    python.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    written();
    let (after, truth) = (checkout.key(), checkout.truth());
    python.kill().unwrap();
    python.wait().unwrap();
    assert_ne!(before, truth);
    assert_eq!(after, truth);
}

#[test]
fn an_index_that_cannot_be_written_costs_time_alone() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(folder.path(), "here", "a");
    let (file, _) = checkout.index();
    fs_err::remove_file(&file).unwrap();
    fs_err::create_dir(&file).unwrap();
    fs_err::write(file.join("x"), "").unwrap();
    fs_err::write(checkout.root.join("src/00"), "new").unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    assert_eq!(checkout.key(), checkout.key_with(&PrivatePath::below(nowhere.path(), "index")));
}

#[test]
fn records_say_why_and_never_whether() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let other = Case::of_two().file("src/a", "of another checkout");
    other.ok(&["images"]);
    let record = |case: &Case, image: &str| case.path("target/xtask/state/records").join(image);
    let good = fs_err::read(record(&case, "api")).unwrap();
    let bad: [Vec<u8>; 7] = [
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        b"{}".to_vec(),
        vec![0xff; 100],
        fs_err::read(record(&case, "web")).unwrap(),
        fs_err::read(record(&other, "api")).unwrap(),
        String::from_utf8(good.clone()).unwrap().replace("\"key\":\"", "\"key\":\"00").into_bytes(),
    ];
    for bad in bad {
        case.write("src/a", "1");
        fs_err::write(record(&case, "api"), &bad).unwrap();
        assert_eq!(case.decision("api").0, "skip", "{}", String::from_utf8_lossy(&bad));
        case.write("src/a", "not built yet");
        let (action, reasons) = case.decision("api");
        assert_eq!(action, "build");
        assert!(!reasons.is_empty());
    }
    // A record that vouches for an image nobody has.
    case.write("src/a", "1");
    fs_err::write(record(&case, "api"), &good).unwrap();
    fs_err::remove_dir_all(case.engine("tags")).unwrap();
    assert_eq!(case.decision("api"), ("build".into(), vec!["no-image".into()]));
}

#[test]
fn all_state_may_be_lost_or_garbage() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let state = case.path("target/xtask/state");
    let mut next = vec![state.clone()];
    let mut files = 0;
    while let Some(folder) = next.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                next.push(path);
            } else {
                fs_err::write(path, "garbage").unwrap();
                files += 1;
            }
        }
    }
    assert!(files >= 4, "an index, a record each, facts: {files}");
    assert_eq!(case.decision("api").0, "skip");
    case.write("src/a", "2");
    assert_eq!(case.decision("api").0, "build");
    fs_err::remove_dir_all(&state).unwrap();
    assert_eq!(case.decision("web").0, "skip");
    assert_eq!(case.decision("api"), ("build".into(), vec!["no-image".into(), "no-record".into()]));
}

/// What `api` must have been sent for a skip to be right.
fn expected(case: &Case) -> String {
    let read = |file: &str| fs_err::read_to_string(case.path(file)).unwrap();
    format!("./src/a {}\n./src/b {}\n", read("src/a"), read("src/b"))
}

fn assert_skips_are_right(case: &Case, round: usize) {
    let plan = case.plan();
    for image in plan["images"].as_array().unwrap() {
        if image["name"] == "api" && image["action"] == "skip" {
            let sent = case.sent(image["tag"].as_str().unwrap());
            assert_eq!(sent, Some(expected(case)), "round {round}");
        }
    }
}

#[test]
fn a_run_that_is_killed_never_leads_to_a_wrong_skip() {
    let case = Case::of_two().engine_file("mode", "slow");
    let rng = &mut Rng::with_seed(4);
    let verbs: [&[&str]; 3] = [&["images"], &["images", "--force"], &["plan"]];
    let mut killed = 0;
    for round in 0..24 {
        case.write("src/a", &rng.u8(..3).to_string());
        case.write("src/b", &rng.u8(..3).to_string());
        let mut command = case.command(verbs[round % 3]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The point in time is the input of this test, nothing is waited for.
        std::thread::sleep(Duration::from_millis(rng.u64(..500)));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        assert_skips_are_right(&case, round);
    }
    assert!(killed >= 3, "{killed} runs were killed");
    case.ok(&["images"]);
    assert_eq!(case.decision("api").0, "skip");
    assert_skips_are_right(&case, usize::MAX);
}

#[test]
fn two_runs_at_once_build_a_shared_image_once() {
    let case = Case::of_two().engine_file("mode", "slow");
    let runs: Vec<_> = (0..3).map(|_| case.start(&["images", "api"])).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(case.calls("build").len(), 1);
    assert_eq!(case.decision("api").0, "skip");
}

/// An image of its own name in the real podman's store; gone when dropped.
struct Real {
    case: Case,
    image: String,
    tags: Vec<String>,
}

impl Real {
    fn new() -> Self {
        let image = format!("xtask-proof-{}", std::process::id());
        let case = Case::with_real_engine()
            .config(&format!("[images.{image}]\ndockerfile = 'Dockerfile'\n"))
            .file("Dockerfile", "FROM scratch\nCOPY src /src\n")
            .file("src/a", "1");
        Self { case, image, tags: Vec::new() }
    }

    fn decision(&mut self) -> String {
        let tag = self.case.plan()["images"][0]["tag"].as_str().unwrap().to_owned();
        self.tags.push(tag);
        self.case.decision(&self.image).0
    }

    fn podman(&self, args: &[&str]) {
        assert!(self.case.podman(args), "podman {args:?}");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.tags.sort();
        self.tags.dedup();
        for tag in &self.tags {
            self.case.podman(&["rmi", "--force", tag]);
        }
    }
}

#[test]
#[ignore = "needs podman"]
fn real_podman_images_retagged_and_deleted_behind_our_back_are_built_again() {
    let mut real = Real::new();
    assert_eq!(real.decision(), "build");
    real.case.ok(&["images"]);
    assert_eq!(real.decision(), "skip");
    let first = real.tags[0].clone();
    real.case.write("src/a", "2");
    assert_eq!(real.decision(), "build");
    let second = real.tags.last().unwrap().clone();
    assert_ne!(first, second);
    real.podman(&["tag", &first, &second]);
    assert_eq!(real.decision(), "build", "the old image under the new name");
    real.case.ok(&["images"]);
    assert_eq!(real.decision(), "skip");
    real.podman(&["rmi", &second]);
    assert_eq!(real.decision(), "build", "deleted");
    real.case.write("src/a", "1");
    assert_eq!(real.decision(), "skip", "the first is still there");
    real.case.write("derived/Dockerfile", &format!("FROM {first}\nENV DEBUG=1\n"));
    real.podman(&["build", "--quiet", "--tag", &first, "derived"]);
    assert_eq!(real.decision(), "build", "the labels are those it was built on");
    real.case.ok(&["images"]);
    assert_eq!(real.decision(), "skip");
    // By this name it is removed in the end.
    let kept = format!("localhost/{}:kept", real.image);
    real.podman(&["tag", &first, &kept]);
    real.tags.push(kept);
    real.podman(&["untag", &first, &first]);
    assert_eq!(real.decision(), "build", "untagged");
}
