//! The engine stage against a real podman. Needs podman and `docker.io/library/debian:bookworm-slim`; fails
//! without them, so that a CI that lost them is noticed. `XTASK_UNIT_ONLY=1` leaves these tests out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use xtask::config::{self, EngineName};
use xtask::engine::{self, BuildError, Built, Engine, Facts, Order};
use xtask::event::{Event, Events, Sink, Stamped};
use xtask::process::Tool;

const BASE: &str = "docker.io/library/debian:bookworm-slim";

/// A staged context, its Dockerfile and everything made from them; removed when dropped.
struct Bench {
    engine: Engine,
    facts: Facts,
    folder: tempfile::TempDir,
    image: String,
    tags: Mutex<Vec<String>>,
}

impl Bench {
    /// None only where the environment says that there is no engine.
    fn new(dockerfile: &str) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        if std::env::var_os("XTASK_UNIT_ONLY").is_some() {
            return None;
        }
        let settings = config::Engine {
            name: EngineName::Podman,
            reserve: 0,
            trust_host_ca: false,
            jobs: None,
        };
        let engine = engine::choose(&settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let facts = engine.facts(&folder.path().join("facts.json")).unwrap();
        let held = engine.look_up(Some(&facts), &[], &[BASE.to_owned()]).unwrap();
        assert!(held.bases.contains_key(BASE), "these tests need `{BASE}`");
        fs_err::create_dir(folder.path().join("stage")).unwrap();
        fs_err::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let image = format!("xtask-engine-{}-{number}", std::process::id());
        Some(Self { engine, facts, folder, image, tags: Mutex::default() })
    }

    fn stage(&self) -> PathBuf {
        self.folder.path().join("stage")
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.stage().join(path);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, text).unwrap();
    }

    fn tag(&self, key: &str) -> String {
        let tag = format!("localhost/{}:{key}", self.image);
        self.tags.lock().unwrap().push(tag.clone());
        tag
    }

    /// Builds for `key`, with what `change` makes of the order.
    fn build_as(
        &self,
        key: &str,
        events: &Events,
        change: impl FnOnce(&mut Order),
    ) -> Result<Built, BuildError> {
        let tag = self.tag(key);
        let labels = [("dev.xtask.key".to_owned(), key.to_owned())];
        let (stage, dockerfile) = (self.stage(), self.folder.path().join("Dockerfile"));
        let log = self.folder.path().join("log");
        let mut order = Order {
            image: &self.image,
            tag: &tag,
            labels: &labels,
            stage: &stage,
            dockerfile: &dockerfile,
            target: None,
            platform: None,
            args: &BTreeMap::new(),
            secrets: &BTreeMap::new(),
            no_cache: false,
            trust_host_ca: false,
            timeout: Duration::from_secs(120),
            silence: Duration::from_secs(120),
            cpus: None,
            log: &log,
            run: "test",
        };
        change(&mut order);
        self.engine.build(&order, events)
    }

    fn build(&self, key: &str) -> Result<Built, BuildError> {
        self.build_as(key, &Events::silent(), |_| {})
    }

    /// What a file in the image says.
    fn read(&self, key: &str, path: &str) -> String {
        let tag = format!("localhost/{}:{key}", self.image);
        let run = ["run", "--rm", "--network=none", &tag, "cat", path];
        Tool::new("podman").args(run).read().unwrap()
    }

    fn held(&self, key: &str) -> bool {
        let tag = [format!("localhost/{}:{key}", self.image)];
        !self.engine.look_up(Some(&self.facts), &tag, &[]).unwrap().tags.is_empty()
    }

    /// What this build could have left: working containers, temporary folders, control groups.
    fn remains(&self) -> Vec<String> {
        let root = self.facts.graph_root.clone().unwrap();
        let containers = root.join(format!("{}-containers", self.facts.store_driver));
        let states = children(&containers).into_iter().map(|c| c.join("userdata/buildah.json"));
        let specs = children(Path::new("/var/tmp")).into_iter().map(|c| c.join("config.json"));
        let named = states.chain(specs).filter(|file| {
            fs_err::read_to_string(file).is_ok_and(|text| text.contains(&self.image))
        });
        let groups = Tool::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name"])
            .arg(format!("*{}*", self.image))
            .read()
            .unwrap_or_default();
        named
            .map(|file| file.display().to_string())
            .chain(groups.lines().map(str::to_owned))
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for tag in self.tags.lock().unwrap().iter() {
            // A failed build has left none.
            Tool::new("podman").args(["rmi", "--force", tag]).run().ok();
        }
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Processes with `word` in their command line.
fn running(word: &str) -> Vec<String> {
    children(Path::new("/proc"))
        .into_iter()
        .filter_map(|process| fs_err::read_to_string(process.join("cmdline")).ok())
        .filter(|line| line.contains(word))
        .collect()
}

/// Calls a function at the first line with a word in it.
struct At<F: Fn() + Send + Sync>(&'static str, F);

impl<F: Fn() + Send + Sync> Sink for At<F> {
    fn receive(&self, event: &Stamped) {
        if let Event::BuildLine { line, .. } = &event.event
            && line.trim() == self.0
        {
            (self.1)();
        }
    }
}

#[test]
fn a_built_image_is_there_with_its_labels_and_only_the_staged_files() {
    let Some(bench) = Bench::new("FROM scratch\nCOPY . /\n") else { return };
    bench.write(".dockerignore", "*\n");
    bench.write("a/b", "text");
    let built = bench.build("k1").unwrap();
    assert!(!built.repeated_without_cache);
    let tag = format!("localhost/{}:k1", bench.image);
    let names = [tag.clone(), format!("localhost/{}:nope", bench.image)];
    let bases = ["debian:bookworm-slim".to_owned(), BASE.to_owned(), "nope:1".to_owned()];
    let read = bench.engine.look_up(Some(&bench.facts), &names, &bases).unwrap();
    let asked = bench.engine.look_up(None, &names, &bases).unwrap();
    assert_eq!(read.tags[&tag].id, built.id);
    assert_eq!(read.tags[&tag].labels["dev.xtask.key"], "k1");
    assert_eq!((read.tags.len(), read.bases.len()), (1, 2));
    assert_eq!(read.bases, asked.bases);
    assert_eq!(read.tags[&tag].labels, asked.tags[&tag].labels);
    let archive = bench.folder.path().join("image.tar");
    let save = bench.engine.save(&[tag]);
    save.pipe_into(&Tool::new("dd").arg(format!("of={}", archive.display()))).unwrap();
    let list = Tool::new("tar").arg("xOf").arg(&archive).args(["--wildcards", "*.tar"]);
    let files = Tool::new("tar").args(["t"]).input(list.run().unwrap().stdout).read().unwrap();
    assert!(files.contains(".dockerignore") && files.contains("a/b"), "{files}");
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn a_changed_file_behind_a_bind_mount_is_seen() {
    let dockerfile = format!("FROM {BASE}\nRUN --mount=source=f,target=/tmp/f cat /tmp/f > /out\n");
    let Some(bench) = Bench::new(&dockerfile) else { return };
    bench.write("f", "one");
    bench.build("k1").unwrap();
    bench.write("f", "two");
    bench.build("k2").unwrap();
    assert_eq!(bench.read("k2", "/out"), "two");
}

#[test]
fn a_failed_build_says_so_and_leaves_nothing() {
    let Some(bench) = Bench::new(&format!("FROM {BASE}\nRUN echo last words; exit 7\n")) else {
        return;
    };
    let error = bench.build("k1").unwrap_err();
    assert!(matches!(error, BuildError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("last words"), "{error}");
    assert!(!bench.held("k1"));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn a_limit_ends_the_run_process_and_all_it_left() {
    let dockerfile = format!("FROM {BASE}\nRUN exec sleep 987651\n");
    let Some(bench) = Bench::new(&dockerfile) else { return };
    let silence = Duration::from_secs(4);
    let error = bench.build_as("k1", &Events::silent(), |order| order.silence = silence);
    assert!(matches!(error, Err(BuildError::TimedOut { .. })), "{error:?}");
    assert_eq!(running("987651"), Vec::<String>::new());
    assert!(!bench.held("k1"));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn a_podman_that_is_ended_by_someone_else_is_no_success() {
    let dockerfile = format!("FROM {BASE}\nRUN echo here; exec sleep 987652\n");
    let Some(bench) = Bench::new(&dockerfile) else { return };
    let stage = bench.stage().display().to_string();
    let end = move || {
        let pid = children(Path::new("/proc")).into_iter().find(|process| {
            let line = fs_err::read_to_string(process.join("cmdline")).unwrap_or_default();
            line.starts_with("podman\0") && line.contains(&stage)
        });
        let pid = pid.unwrap().file_name().unwrap().to_owned();
        Tool::new("kill").arg("-TERM").arg(pid).run().unwrap();
    };
    let error = bench.build_as("k1", &Events::to(vec![Box::new(At("here", end))]), |_| {});
    assert!(
        matches!(error, Err(BuildError::Missing { .. } | BuildError::Failed { .. })),
        "{error:?}"
    );
    assert_eq!(running("987652"), Vec::<String>::new());
    assert!(!bench.held("k1"));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn the_peak_is_what_the_programs_took_without_page_cache() {
    let dockerfile = format!(
        "FROM {BASE}\nRUN head -c 200M /dev/zero > /big && head -c 150M /dev/zero | tail | sleep 2\n"
    );
    let Some(bench) = Bench::new(&dockerfile) else { return };
    let peak = bench.build("k1").unwrap().peak_memory.unwrap() >> 20;
    assert!((150..330).contains(&peak), "{peak} MiB");
}

#[test]
fn facts_are_kept_and_asked_again_when_lost() {
    let Some(bench) = Bench::new("FROM scratch\n") else { return };
    let cache = bench.folder.path().join("facts.json");
    let settings =
        config::Engine { name: EngineName::Auto, reserve: 0, trust_host_ca: false, jobs: None };
    let kept = engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert_eq!(kept, bench.facts, "the same file gives the same facts");
    fs_err::write(&cache, "{").unwrap();
    let asked = engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert_eq!(asked.memory_total, kept.memory_total);
    engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert!(fs_err::read_to_string(&cache).unwrap().contains("memory_total"));
}
