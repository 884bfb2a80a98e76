//! What it costs to find out that nothing has to be done, as ratios: `cargo bench --bench context`.
//!
//! The trees are made once, in `target/tmp`. Each figure is the best of several rounds in which the
//! two sides take turns, so that a machine busy with other things disturbs both alike. Times do not
//! carry over from one machine to another, ratios do. `--profile dev` measures what `cargo xtask`
//! runs; `-- plan` (index, images, profile, cold, ignored, build) is one of the measures alone.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "its result")]
#![expect(clippy::disallowed_methods, reason = "its own children, not the tool's")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use support::Case;
use xtask::config::{Exclude, Inputs};
use xtask::context::{self, Bases, Spec};
use xtask::private::PrivatePath;

const ROUNDS: usize = 7;
const IMAGES: usize = 13;

/// A context with its index warm.
struct Tree {
    root: PathBuf,
    files: usize,
    indices: PrivatePath,
}

/// What is measured on each tree, and the word that asks for it.
type Measure = (&'static str, fn(&Tree));

fn main() {
    // `cargo test --all-targets` starts benches too.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let word = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let asked = |name: &str| word.as_ref().is_none_or(|word| name == word);
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!("profile {profile}, {} threads, best of {ROUNDS}", rayon::current_num_threads());
    let small = Tree::new("small", 8_000, 0);
    let large = Tree::new("large", 100_000, 0);
    let ignoring = Tree::new("ignoring", 8_000, 200_000);
    let of_a_tree: [Measure; 4] = [
        ("plan", plan_against_git),
        ("index", index_against_stats),
        ("images", many_images_against_one),
        ("profile", dev_against_release),
    ];
    for tree in [&small, &large] {
        let wanted = of_a_tree.iter().filter(|(name, _)| asked(name));
        wanted.for_each(|(_, measure)| measure(tree));
    }
    if asked("cold") {
        cold_against_sha256sum(&small);
    }
    if asked("ignored") {
        ignored_against_absent(&ignoring, &small);
        ignored_is_not_opened(&ignoring);
    }
    if asked("build") {
        plan_against_cached_build(&small);
    }
}

impl Tree {
    fn new(name: &str, files: usize, ignored: usize) -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("context-bench");
        let (root, indices) =
            (home.join(name), PrivatePath::below(&home, format!("{name}-indices")));
        let made = home.join(format!("{name}-made"));
        if !made.exists() {
            fs_err::create_dir_all(&root).unwrap();
            fs_err::write(root.join(".dockerignore"), "node_modules\n.git\n").unwrap();
            (0..files).for_each(|number| make(&root.join("src"), number, 13_000));
            (0..ignored).for_each(|number| make(&root.join("node_modules"), number, 10));
            git(&root, &["init", "--quiet"]);
            git(&root, &["add", "src", ".dockerignore"]);
            git(
                &root,
                &["-c", "user.name=b", "-c", "user.email=b@b", "commit", "--quiet", "-m", "b"],
            );
            fs_err::write(made, "").unwrap();
            // What was written just now is not trusted by any index, git's neither.
            std::thread::sleep(Duration::from_secs(3));
        }
        let tree = Self { root, files, indices };
        tree.key(&tree.indices);
        tree
    }

    fn spec(&self, image: usize) -> Spec {
        Spec {
            name: format!("image-{image}"),
            root: self.root.clone(),
            dockerfile: Some(self.dockerfile(image)),
            target: None,
            platform: None,
            args: BTreeMap::new(),
            volatile_args: Vec::new(),
            secrets: Vec::new(),
            inputs: Inputs::Dockerfile,
            exclude: Exclude { defaults: true, ..Exclude::default() },
        }
    }

    /// The first takes everything, as most do.
    fn dockerfile(&self, image: usize) -> PathBuf {
        let file = self.root.with_extension(format!("{image}.Dockerfile"));
        let source = if image == 0 { "src".to_owned() } else { format!("src/{image}") };
        fs_err::write(&file, format!("FROM scratch\nCOPY {source} /src\n")).unwrap();
        file
    }

    fn keys(&self, indices: &PrivatePath, images: usize) -> usize {
        let specs: Vec<Spec> = (0..images).map(|image| self.spec(image)).collect();
        let contexts =
            context::gather(context::open(&specs).unwrap(), Some(indices), Bases::new).unwrap();
        let keys = contexts.iter().map(|one| one.parts(&BTreeMap::new()).key());
        keys.collect::<std::collections::HashSet<_>>().len()
    }

    fn key(&self, indices: &PrivatePath) {
        assert_eq!(self.keys(indices, 1), 1);
    }
}

/// File `number`: 40 in a folder, 20 folders in a folder.
fn make(folder: &Path, number: usize, size: usize) {
    let parent = folder.join((number / 800).to_string()).join((number / 40 % 20).to_string());
    fs_err::create_dir_all(&parent).unwrap();
    let mut text = number.to_string().repeat(size / number.to_string().len());
    text.push('\n');
    fs_err::write(parent.join(format!("file-{number}.rs")), text).unwrap();
}

fn git(root: &Path, args: &[&str]) {
    let done = Command::new("git").arg("-C").arg(root).args(args).stdout(Stdio::null()).status();
    assert!(done.unwrap().success(), "git {args:?}");
}

/// Best times of both, taken in turns.
fn race(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (Duration, Duration) {
    let time = |side: &mut dyn FnMut()| {
        let started = Instant::now();
        side();
        started.elapsed()
    };
    let rounds = (0..ROUNDS).map(|_| (time(&mut ours), time(&mut theirs)));
    rounds.reduce(|best, round| (best.0.min(round.0), best.1.min(round.1))).unwrap()
}

fn tell(what: &str, tree: &Tree, (ours, theirs): (Duration, Duration), bound: &str) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{what}, {} files: {ratio:.2} ({bound})", tree.files);
}

/// A workspace whose image of `tree` is up to date, as the machine's own podman has it: an empty
/// image with the right tag and label, since only the asking is measured. None without a podman.
fn up_to_date(tree: &Tree) -> Option<UpToDate> {
    let case = Case::with_real_engine().config(&format!(
        "[images.xtask-proof-bench]\ncontext = '{}'\ndockerfile = '{}'\n",
        tree.root.display(),
        tree.dockerfile(0).display(),
    ));
    if case.run(&["plan"]).code != Some(0) {
        return None;
    }
    let image = case.plan()["images"][0].clone();
    let text = |field: &str| image[field].as_str().unwrap().to_owned();
    // Two blocks of zeros: a tar archive of nothing.
    fs_err::write(case.path("empty.tar"), [0; 1024]).unwrap();
    let label = format!("LABEL dev.xtask.key={}", text("key"));
    let tag = text("tag");
    assert!(case.podman(&["import", "--quiet", "--change", &label, "empty.tar", &tag]));
    assert_eq!(case.decision("xtask-proof-bench").0, "skip");
    Some(UpToDate { case, tag })
}

/// Gone with its image when dropped.
struct UpToDate {
    case: Case,
    tag: String,
}

impl UpToDate {
    fn plan(&self) {
        assert!(self.case.command(&["plan"]).output().unwrap().status.success());
    }
}

impl Drop for UpToDate {
    fn drop(&mut self) {
        self.case.podman(&["rmi", "--force", &self.tag]);
    }
}

fn plan_against_git(tree: &Tree) {
    let Some(case) = up_to_date(tree) else { return println!("no podman: no `plan` is measured") };
    let status = || git(&tree.root, &["status", "--porcelain"]);
    status();
    tell("no-op `plan` to `git status`", tree, race(|| case.plan(), status), "under 1");
}

/// What `cargo xtask` runs against what a release build would take.
fn dev_against_release(tree: &Tree) {
    let Some(case) = up_to_date(tree) else { return };
    let build = |flags: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap());
        cargo.args(["build", "--quiet", "--package", "xtask"]).args(flags);
        assert!(cargo.status().unwrap().success());
    };
    build(&[]);
    build(&["--release"]);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let plan = |profile: &str| {
        let mut plan = Command::new(target.join(profile).join("xtask"));
        plan.arg("plan").current_dir(case.case.path("")).stdout(Stdio::null());
        assert!(plan.status().unwrap().success());
    };
    tell(
        "`plan`, dev profile to release",
        tree,
        race(|| plan("debug"), || plan("release")),
        "no bound",
    );
}

fn index_against_stats(tree: &Tree) {
    let stats = || assert!(stat_all(&tree.root) > tree.files);
    let ours = || tree.key(&tree.indices);
    tell("index answer to bare parallel stat walk", tree, race(ours, stats), "at most 1.6");
    let status = || git(&tree.root, &["status", "--porcelain"]);
    status();
    tell("index answer to `git status`", tree, race(ours, status), "under 1");
}

/// Everything but what is ignored, each entry's stat taken.
fn stat_all(folder: &Path) -> usize {
    let entries: Vec<_> = fs_err::read_dir(folder).unwrap().map(Result::unwrap).collect();
    let below = |entry: &fs_err::DirEntry| {
        let meta = entry.metadata().unwrap();
        let name = entry.file_name();
        let opened = meta.is_dir() && name != ".git" && name != "node_modules";
        1 + if opened { stat_all(&entry.path()) } else { 0 }
    };
    let (folders, files): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.file_type().unwrap().is_dir());
    let files: usize = files.iter().map(below).sum();
    files + folders.par_iter().map(below).sum::<usize>()
}

fn many_images_against_one(tree: &Tree) {
    let many = || assert!(tree.keys(&tree.indices, IMAGES) > 5);
    let one = || tree.key(&tree.indices);
    tell("13 images over one context to one", tree, race(many, one), "at most 1.3");
}

fn cold_against_sha256sum(tree: &Tree) {
    let cold = || {
        let folder = tempfile::tempdir().unwrap();
        tree.key(&PrivatePath::below(folder.path(), "index"));
    };
    let pipe = "find src -type f -print0 | xargs -0 -P 2 -n 500 sha256sum > /dev/null";
    let theirs = || {
        let done = Command::new("sh").args(["-c", pipe]).current_dir(&tree.root).status();
        assert!(done.unwrap().success());
    };
    tell("cold hash to `xargs -P 2 sha256sum`", tree, race(cold, theirs), "no bound");
}

fn ignored_against_absent(ignoring: &Tree, absent: &Tree) {
    let (with, without) = race(|| ignoring.key(&ignoring.indices), || absent.key(&absent.indices));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    let cheap = with.saturating_sub(without) < Duration::from_millis(5);
    println!("with 200,000 ignored files to without: {ratio:.2} (under 5 ms more: {cheap})");
}

/// As the kernel sees it: nothing below the ignored folder, nor that itself, is opened.
fn ignored_is_not_opened(tree: &Tree) {
    let case = Case::new().config(&format!(
        "[images.bench]\ncontext = '{}'\ndockerfile = '{}'\n",
        tree.root.display(),
        tree.dockerfile(0).display(),
    ));
    let xtask = case.command(&["plan"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=open,openat,getdents64", "-o", "calls"]);
    traced.arg(xtask.get_program()).arg("plan").current_dir(case.path("")).stdout(Stdio::null());
    for (name, value) in xtask.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    traced.env_remove("CARGO_TARGET_DIR");
    if !traced.status().is_ok_and(|status| status.success()) {
        return println!("no strace: whether ignored folders are opened is not looked at");
    }
    let calls = fs_err::read_to_string(case.path("calls")).unwrap();
    let opened = calls.lines().filter(|line| line.contains("node_modules")).count();
    let read = calls.lines().filter(|line| line.contains("getdents64")).count();
    println!("ignored folders opened: {opened} (0); {read} `getdents64` for all others");
    assert_eq!(opened, 0);
}

fn plan_against_cached_build(tree: &Tree) {
    let name = "localhost/xtask-proof-bench";
    let build = || {
        let mut podman = Command::new("podman");
        podman.args(["build", "--quiet", "--layers", "--tag", name, "--file"]);
        podman.arg(tree.dockerfile(0)).arg(&tree.root).stdout(Stdio::null()).stderr(Stdio::null());
        podman.status().is_ok_and(|status| status.success())
    };
    let Some(case) = up_to_date(tree).filter(|_| build()) else {
        return println!("no podman that builds: no cached build is measured");
    };
    let started = Instant::now();
    assert!(build());
    let theirs = started.elapsed();
    let started = Instant::now();
    case.plan();
    let times = (started.elapsed(), theirs);
    tell("no-op `plan` to an all-cached `podman build`", tree, times, "far under 1");
    assert!(case.case.podman(&["rmi", "--force", name]));
}
