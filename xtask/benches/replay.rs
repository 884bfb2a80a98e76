//! What keys save over a repository's history: the images that each commit would rebuild, by three
//! ways to key them.
//!
//! `cargo bench --bench replay -- CLONE [CONFIG [COMMITS]]`: an `xtask.toml` that fits the clone's
//! HEAD (else `replay.toml` beside this file, for <https://github.com/jordigilh/kubernaut>), and
//! how many commits (200). Nothing is built: a commit of the first-parent line rebuilds an image if
//! its key differs from the commit's before. The clone's work tree, which must be clean, is checked
//! out commit by commit.
//!
//! | column | the key is made of |
//! | --- | --- |
//! | whole context | every file the ignore file leaves, and the Dockerfile |
//! | Dockerfile | of these what COPY, ADD and mounts of the target can read |
//! | inputs | of these what `inputs` of the config leave: the package's closure |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "its result")]
#![expect(clippy::disallowed_methods, reason = "its own children, not the tool's")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::config::{self, Inputs};
use xtask::context::{self, Bases, Digest, Spec};
use xtask::private::PrivatePath;

const WAYS: [&str; 3] = ["whole context", "Dockerfile", "inputs"];

/// By image, one key for each of the [`WAYS`].
type Keys = BTreeMap<String, [String; 3]>;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    // `cargo test --all-targets` starts benches too.
    let Some(clone) = args.next() else { return };
    let clone = fs_err::canonicalize(clone).unwrap();
    let config = args.next().map_or_else(ours, PathBuf::from);
    let count: usize = args.next().map_or(200, |text| text.parse().unwrap());
    let images = images(&clone, &config);
    let indices = tempfile::tempdir().unwrap();

    let changes = git(&clone, &["status", "--porcelain", "--untracked-files=no"]);
    assert!(changes.is_empty(), "{} has changes:\n{changes}", clone.display());
    let commits = commits(&clone, count + 1);
    let mut builds = [0; 3];
    let mut touched = [0; 3];
    let mut before = Keys::new();
    for commit in &commits {
        git(&clone, &["checkout", "--quiet", "--detach", commit]);
        let keys = keys(&images, &PrivatePath::below(indices.path(), "index"));
        for way in 0..WAYS.len() {
            let changed = |(name, keys): &(&String, &[String; 3])| {
                before.get(*name).is_some_and(|before| before[way] != keys[way])
            };
            let rebuilt = keys.iter().filter(changed).count();
            builds[way] += rebuilt;
            touched[way] += usize::from(rebuilt > 0);
        }
        before = keys;
    }
    println!("{} commits, {} images", commits.len() - 1, before.len());
    for (way, name) in WAYS.iter().enumerate() {
        let (builds, touched) = (builds[way], touched[way]);
        println!("{name:<14} {builds:>6} builds, by {touched} of the commits");
    }
}

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/replay.toml")
}

/// Oldest first; one more than is counted, since the first has nothing before it.
fn commits(clone: &Path, count: usize) -> Vec<String> {
    let count = format!("--max-count={count}");
    let log = git(clone, &["log", "--first-parent", "--format=%H", &count, "--reverse", "HEAD"]);
    log.lines().map(str::to_owned).collect()
}

/// As the config has them, which is held to the newest commit.
fn images(clone: &Path, config: &Path) -> Vec<Spec> {
    let text = fs_err::read_to_string(config).unwrap();
    let config = config::parse(&text, &clone.join("xtask.toml"));
    config.unwrap_or_else(|faults| panic!("{faults}")).images.values().map(Spec::from).collect()
}

/// Of the images whose Dockerfile there is.
fn keys(images: &[Spec], indices: &PrivatePath) -> Keys {
    let there = |spec: &&Spec| spec.dockerfile.as_ref().is_some_and(|file| file.exists());
    let narrow: Vec<Spec> = images.iter().filter(there).cloned().collect();
    let read = |spec: &Spec| Spec { inputs: Inputs::Dockerfile, ..spec.clone() };
    let whole = |spec: &Spec| Spec { dockerfile: None, ..read(spec) };
    let ways: [Vec<Spec>; 3] =
        [narrow.iter().map(whole).collect(), narrow.iter().map(read).collect(), narrow];

    let mut keys = Keys::new();
    for (way, specs) in ways.iter().enumerate() {
        let contexts = context::gather(context::open(specs).unwrap(), Some(indices), Bases::new);
        for context in contexts.unwrap() {
            let key = context.parts(&BTreeMap::new()).key().to_string();
            keys.entry(context.spec.name.clone()).or_default()[way] = key;
        }
    }
    for spec in &ways[2] {
        let text = fs_err::read(spec.dockerfile.as_ref().unwrap()).unwrap();
        let whole = &mut keys.get_mut(&spec.name).unwrap()[0];
        whole.push_str(&Digest::of(&text).to_string());
    }
    keys
}

fn git(clone: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(clone).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
