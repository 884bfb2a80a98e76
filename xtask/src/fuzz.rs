//! Fuzzing: what reads a stranger's text, or a file that may be damaged, against inputs that nobody
//! thought of.
//!
//! A target is a unit test beside what it tests: it calls [`run`] with the name of its corpus, a
//! folder of `xtask/fuzz-corpus`. As an ordinary test it takes the corpus and some thousand inputs
//! made of it, the same at each run. Compiled with `--cfg fuzzing` (`just fuzz`), it is a campaign
//! of libFuzzer, which sees the branches that an input takes and looks for further ones until its
//! time is over. There an input has bounds of time and memory, too; where tests run side by side
//! neither could be measured.

/// Inputs of an ordinary test.
#[cfg(not(fuzzing))]
const INPUTS: usize = 4_000;

/// The longest of them, in bytes.
#[cfg(not(fuzzing))]
const LONGEST: usize = 16 << 10;

/// Gives `target` every input of the corpus `name`, and inputs made of those.
#[cfg(not(fuzzing))]
pub(crate) fn run(name: &str, target: impl FnMut(&[u8])) {
    let corpus = corpus(name);
    let mut target = target;
    for (file, bytes) in &corpus {
        guarded(file, bytes, &mut target);
    }
    let mut random = fastrand::Rng::with_seed(1);
    for at in 0..INPUTS {
        let input = mutated(&mut random, &corpus);
        guarded(&format!("{name}, input {at}"), &input, &mut target);
    }
}

/// A panic names the input, so that it can go into the corpus.
#[cfg(not(fuzzing))]
fn guarded(what: &str, input: &[u8], target: &mut impl FnMut(&[u8])) {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let file = std::env::temp_dir().join("xtask-fuzz-input");
        fs_err::write(&file, input).unwrap();
        println!("{what} is in `{}`", file.display());
        resume_unwind(panic);
    }
}

#[cfg(not(fuzzing))]
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus").join(name);
    let files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.map(|file| (file.display().to_string(), fs_err::read(file).unwrap())).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus `{name}` is empty");
    files
}

/// What no corpus of good forms has.
#[cfg(not(fuzzing))]
const ODD: [&[u8]; 20] = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b"\\\n",
    b"\"",
    b"'",
    b"../",
    b"/",
    b"-",
    b"--",
    b"${",
    b"}",
    b"[",
    b"{",
    b"*",
    b"!",
    "\u{202e}".as_bytes(),
    "ſ\u{130}".as_bytes(),
];

#[cfg(not(fuzzing))]
const NUMBERS: [&str; 7] =
    ["0", "-1", "1e300", "18446744073709551615", "9223372036854775808", "4294967296", "NaN"];

#[cfg(not(fuzzing))]
fn mutated(random: &mut fastrand::Rng, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = corpus[random.usize(..corpus.len())].1.clone();
    for _ in 0..random.usize(1..8) {
        let other = &corpus[random.usize(..corpus.len())].1;
        change(random, &mut bytes, other);
        bytes.truncate(LONGEST);
    }
    bytes
}

#[cfg(not(fuzzing))]
fn change(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let from = random.usize(..=bytes.len());
    let to = random.usize(from..=bytes.len().min(from + 64));
    let piece = bytes[from..to].to_vec();
    let start = random.usize(..=other.len());
    let taken = &other[start..random.usize(start..=other.len().min(start + 64))];
    match random.u8(..8) {
        0 => bytes[from..to].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
        1 => drop(bytes.drain(from..to)),
        2 => drop(bytes.splice(from..to, taken.iter().copied())),
        3 => drop(bytes.splice(from..from, taken.iter().copied())),
        4 => drop(bytes.splice(from..from, piece.repeat(random.usize(..64)))),
        5 => drop(bytes.splice(from..from, ODD[random.usize(..ODD.len())].iter().copied())),
        6 => bytes.truncate(from),
        _ => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            let Some(at) = bytes[from..].iter().position(digits).map(|at| from + at) else {
                return;
            };
            let end = bytes[at..].iter().position(|byte| !digits(byte));
            let end = end.map_or(bytes.len(), |end| at + end);
            let number = NUMBERS[random.usize(..NUMBERS.len())];
            bytes.splice(at..end, number.bytes());
        }
    }
}

#[cfg(fuzzing)]
pub(crate) use campaign::run;

/// A campaign of libFuzzer, with bounds of its own.
#[cfg(fuzzing)]
mod campaign {
    use std::panic::AssertUnwindSafe;

    /// Milliseconds of the processor's time that one input may take.
    const MOST_TIME: u64 = 2_000;
    /// KiB by which the process may grow over one input.
    const MOST_MEMORY: u64 = 256 << 10;

    pub(crate) fn run(_: &str, mut target: impl FnMut(&[u8])) {
        campaign(&mut target);
    }

    fn campaign(target: &mut dyn FnMut(&[u8])) {
        let mut most = Spent::default();
        let mut measured = AssertUnwindSafe(|input: &[u8]| {
            let (before, began) = (memory("VmRSS:"), time());
            target(input);
            let spent =
                Spent { time: time() - began, memory: memory("VmHWM:").saturating_sub(before) };
            most.see(&spent, input);
        });
        bolero::check!().for_each(move |input: &[u8]| (*measured)(input));
    }

    #[derive(Default)]
    struct Spent {
        time: u64,
        memory: u64,
    }

    impl Spent {
        /// Says of an input that it takes more than all before it, and panics over one that takes
        /// too much.
        fn see(&mut self, spent: &Spent, input: &[u8]) {
            if spent.time > self.time {
                self.time = spent.time;
                eprintln!("slowest: {} ms, {} bytes", spent.time, input.len());
            }
            if spent.memory > self.memory {
                self.memory = spent.memory;
                eprintln!("most memory: {} KiB, {} bytes", spent.memory, input.len());
            }
            assert!(spent.time <= MOST_TIME, "it takes {} ms", spent.time);
            assert!(spent.memory <= MOST_MEMORY, "it takes {} KiB", spent.memory);
        }
    }

    /// Milliseconds that this thread has run for.
    fn time() -> u64 {
        let text = fs_err::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
    }

    fn memory(what: &str) -> u64 {
        let status = fs_err::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

mod targets {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::run;
    use crate::fixture;
    use crate::paths::Paths;
    use crate::private::PrivatePath;

    fn text(input: &[u8]) -> String {
        String::from_utf8_lossy(input).into_owned()
    }

    /// A context of some files, a folder and a link.
    struct Tree;

    impl dockerfile::Tree for Tree {
        fn kind(&self, path: &[u8]) -> Option<dockerfile::Kind> {
            match path {
                b"" | b"src" | b"src/a" => Some(dockerfile::Kind::Dir),
                b"Cargo.toml" | b"src/main.rs" | b"src/a/b.c" => Some(dockerfile::Kind::File),
                b"link" | b"src/up" => Some(dockerfile::Kind::Symlink),
                _ => None,
            }
        }

        fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
            match path {
                b"link" => Some(b"/src/up/src/up".to_vec()),
                b"src/up" => Some(b"..".to_vec()),
                _ => None,
            }
        }

        fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, dockerfile::Kind)> {
            let names: &[&[u8]] = match dir {
                b"" => &[b"src", b"Cargo.toml", b"link"],
                b"src" => &[b"a", b"main.rs", b"up"],
                b"src/a" => &[b"b.c"],
                _ => &[],
            };
            let below = |name: &[u8]| {
                if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
            };
            let kind = |name: &&[u8]| Some((name.to_vec(), self.kind(&below(name))?));
            names.iter().filter_map(kind).collect()
        }
    }

    #[test]
    fn fuzz_dockerfile() {
        let args = BTreeMap::from([("VERSION".to_owned(), "1".to_owned())]);
        let platform = |arch: &str| dockerfile::Platform {
            os: "linux".to_owned(),
            arch: arch.to_owned(),
            variant: String::new(),
        };
        let base = |_: &str| {
            let env = vec![("HOME".to_owned(), "src".to_owned())];
            Some(dockerfile::BaseConfig { env, onbuild: vec!["COPY src /onbuild".to_owned()] })
        };
        run("dockerfile", |input| {
            for target in [None, Some("build")] {
                let request = dockerfile::Request {
                    target,
                    args: &args,
                    platform: platform("arm64"),
                    build_platform: platform("amd64"),
                    base: &base,
                };
                let Ok(reading) = dockerfile::read(input, &request) else { continue };
                if let dockerfile::Sources::Paths(sources) = &reading.sources {
                    dockerfile::select(sources, &Tree);
                }
                assert_eq!(dockerfile::read(input, &request), Ok(reading));
            }
            for span in dockerfile::instructions(input).unwrap_or_default() {
                if let Some(end) = span.keyword_end {
                    assert!(input[..end].to_ascii_uppercase().ends_with(span.keyword().as_bytes()));
                }
            }
        });
    }

    #[test]
    fn fuzz_ignore_file() {
        let paths: [&[u8]; 7] =
            [b"a", b"src/main.rs", b"src/a/b/c.log", b"node_modules/x/y", b".git", b"\xff", b"*"];
        run("ignore-file", |input| {
            let Ok(rules) = dockerignore::Rules::parse(input) else { return };
            for path in paths {
                let Ok(ignored) = rules.ignores(path) else { continue };
                let folder = rules.test(&rules.root(), path).map(|verdict| verdict.state);
                folder.map(|state| rules.may_hold_kept(path, &state)).ok();
                assert_eq!(rules.ignores(path), Ok(ignored));
            }
        });
    }

    #[test]
    fn fuzz_configuration() {
        let folder = fixture::folder(&[
            ("images/api/Dockerfile", "FROM scratch\n"),
            ("k8s/a/kustomization.yaml", "resources: []\n"),
            ("kind.yaml", "kind: Cluster\n"),
        ]);
        let file = folder.path().join("xtask.toml");
        run("configuration", |input| match crate::config::parse(&text(input), &file) {
            Ok(config) => {
                for suite in config.suites.values() {
                    config.addresses(suite);
                }
            }
            Err(errors) => drop(errors.to_string()),
        });
    }

    /// Kustomizations, and what else of YAML is read in a repository.
    #[test]
    fn fuzz_kustomization() {
        let folder = fixture::folder(&[
            (".git/HEAD", ""),
            ("k8s/kustomization.yaml", ""),
            ("k8s/deployment.yaml", "kind: Deployment\n"),
            ("k8s/base/kustomization.yaml", "resources: [../deployment.yaml, ..]\n"),
        ]);
        symlink("/dev", folder.path().join("k8s/out")).unwrap();
        let (root, path) = (folder.path(), folder.path().join("k8s"));
        run("kustomization", |input| {
            fs_err::write(path.join("kustomization.yaml"), input).unwrap();
            for one in crate::repository::kustomize::applied(&path, root).unwrap_or_default() {
                let file = fs_err::canonicalize(&one.file).unwrap();
                assert!(file.starts_with(fs_err::canonicalize(root).unwrap()), "{file:?}");
                one.image("host:5000/api:1@sha256:2");
            }
            crate::repository::kustomize::reach(&path, root).ok();
            let text = text(input);
            crate::repository::manifest::read(&text).ok();
            crate::repository::kind::mappings(&text);
            crate::repository::kind::opens_ports_only(&text);
        });
    }

    /// The events of a run, as reports read them.
    #[test]
    fn fuzz_events() {
        let none = tempfile::tempdir().unwrap();
        let none = PrivatePath::below(none.path(), "runs");
        let words =
            crate::report::Words { seconds: crate::text::seconds, bytes: crate::text::bytes };
        run("events", |input| {
            let record = crate::report::Record::read("20260101-000000-1", &text(input));
            if let Ok(Some(record)) = record {
                let earlier = crate::report::Past::read(&none, 1);
                crate::report::page(&record, &earlier, &words);
                crate::report::otlp::request(&record, "here");
            }
        });
    }

    /// Records and state files.
    #[test]
    fn fuzz_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| PrivatePath::below(folder.path(), name);
        let (paths, ledger) = (Paths::of(folder.path()), file("ledger"));
        ledger.make().unwrap();
        ledger.join("lock").lock_file().unwrap();
        let page = ledger.join("run-a");
        let locked = page.lock_file().unwrap();
        locked.lock().unwrap();
        let cluster = paths.cluster_record("c");
        cluster.write(b"").unwrap();
        let subject = crate::memory::learned::ProfileKey {
            image: "api",
            engine: "podman",
            platform: "linux/amd64",
            dockerfile: "d",
        };
        run("state", |input| {
            fs_err::write(Path::new(&*page), input).unwrap();
            crate::memory::ledger::held(&ledger, 1 << 34);
            fs_err::write(Path::new(&*cluster), input).unwrap();
            crate::cluster::is_made("c", "podman", &paths);
            let state = file("state");
            fs_err::write(Path::new(&*state), input).unwrap();
            crate::context::record::read(&state);
            crate::engine::pace::known(&state);
            crate::deploy::Kept::open(&state, &file("key")).outdated();
            crate::memory::learned::learned(&state, &subject);
            let well = crate::memory::learned::PeakSample::Well;
            crate::memory::learned::record(&state, &subject, 1 << 60, well).unwrap();
        });
    }
}
