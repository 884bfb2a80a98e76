//! The engine stage against a real engine: podman, with `XTASK_ENGINE=docker` docker. Needs it and
//! `docker.io/library/debian:bookworm-slim`; fails without them, so that a CI that lost them is
//! noticed. They need podman: `cargo test -p xtask --test engine -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::machine::{
    BASE, Group, MIB, children, engine_settings, engine_tool, remove_images, running, trials,
};
use xtask::engine::{self, BuildError, BuildRequest, Built, Engine, Facts};
use xtask::event::{Event, Events, Sink, Stamped};
use xtask::identity;
use xtask::paths::{Paths, RunLock, RunPaths};
use xtask::private::PrivatePath;
use xtask::process::{Ending, Tool, stop};

/// A staged context, its Dockerfile and everything made from them; removed when dropped.
struct Bench {
    engine: Engine,
    facts: Facts,
    folder: tempfile::TempDir,
    image: String,
    /// The id of the run that builds.
    run: String,
}

impl Bench {
    fn new(dockerfile: &str) -> Self {
        Self::below(".xtask-", dockerfile)
    }

    /// In a folder whose name begins so.
    fn below(name: &str, dockerfile: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let engine = engine::choose(&engine_settings()).unwrap();
        let place = std::env::var_os(AGAIN).map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(place).unwrap();
        let facts = engine.facts(&PrivatePath::below(folder.path(), "state/facts.json")).unwrap();
        let held = engine.look_up(Some(&facts), &[], &[BASE.to_owned()]).unwrap();
        assert!(held.bases.contains_key(BASE), "these tests need `{BASE}`");
        fs_err::create_dir(folder.path().join("stage")).unwrap();
        fs_err::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let image = format!("xtask-engine-{}-{number}", std::process::id());
        let run = format!("20261121-083544-{}", identity::random().unwrap());
        Self { engine, facts, folder, image, run }
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
        format!("localhost/{}:{key}", self.image)
    }

    /// Builds for `key`, with what `change` makes of the order.
    fn build_as(
        &self,
        key: &str,
        events: &Events,
        change: impl FnOnce(&mut BuildRequest),
    ) -> Result<Built, BuildError> {
        let tag = self.tag(key);
        let label = |name: &str, value: &str| (format!("dev.xtask.{name}"), value.to_owned());
        let labels = [label("key", key), label("image", &self.image)];
        let (stage, dockerfile) = (self.stage(), self.folder.path().join("Dockerfile"));
        let log = self.folder.path().join("log");
        let mut order = BuildRequest {
            image: &self.image,
            tag: &tag,
            labels: &labels,
            stage: &stage,
            dockerfile: &dockerfile,
            target: None,
            platform: None,
            args: &BTreeMap::new(),
            bases: &BTreeMap::new(),
            secrets: &BTreeMap::new(),
            no_cache: false,
            layers: None,
            marks: Some(&[]),
            trust_host_ca: false,
            timeout: Some(Duration::from_mins(2)),
            silence: Duration::from_mins(2),
            cpus: None,
            log: &log,
            run: &self.run,
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
        let container = engine_tool().args(["create", &tag, "true"]).read().unwrap();
        let copy = engine_tool().args(["cp", &format!("{container}:{path}"), "-"]);
        let archive = copy.run().unwrap().stdout;
        engine_tool().args(["rm", &container]).run().unwrap();
        Tool::new("tar").arg("xO").input(archive).read().unwrap()
    }

    fn held(&self, key: &str) -> bool {
        let tag = [format!("localhost/{}:{key}", self.image)];
        !self.engine.look_up(Some(&self.facts), &tag, &[]).unwrap().tags.is_empty()
    }

    fn remains(&self) -> Vec<String> {
        self.remains_of(&self.image)
    }

    /// What builds of `image` could have left: working containers, temporary folders, control
    /// groups.
    fn remains_of(&self, image: &str) -> Vec<String> {
        let containers = format!("{}-containers", self.facts.store_driver);
        let containers =
            self.facts.graph_root.iter().flat_map(|root| children(&root.join(&containers)));
        let states = containers.map(|container| container.join("userdata/buildah.json"));
        let specs = children(Path::new("/var/tmp")).into_iter().map(|c| c.join("config.json"));
        let named = states
            .chain(specs)
            .filter(|file| fs_err::read_to_string(file).is_ok_and(|text| text.contains(image)));
        let groups = Tool::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name"])
            .arg(format!("*{image}*"))
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
        remove_images(&self.image);
    }
}

/// Processes with `word` in their command line that are still there after a while: docker's daemon
/// ends those of a client that has gone in its own time.
fn survivors(word: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(5);
    while !running(word).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    running(word)
}

/// Calls a function at the first line that is a word, after what `BuildKit` puts before it (`#5
/// 0.249 `).
struct At<F: Fn() + Send + Sync>(&'static str, F);

impl<F: Fn() + Send + Sync> Sink for At<F> {
    fn receive(&self, event: &Stamped) {
        if let Event::BuildLine { line, .. } = &event.event
            && line.split_whitespace().last() == Some(self.0)
            && (line.trim() == self.0 || line.starts_with('#'))
        {
            (self.1)();
        }
    }
}

#[test]
#[ignore = "needs podman"]
fn a_built_image_is_there_with_its_labels_and_only_the_staged_files() {
    let bench = Bench::new("FROM scratch\nCOPY . /\n");
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
    for (name, base) in &read.bases {
        assert_eq!(base.id, asked.bases[name].id);
        // The store tells all that an image hands down; podman itself never speaks of ONBUILD.
        assert!(base.inherited.is_some() && asked.bases[name].inherited.is_none());
    }
    assert_eq!(read.tags[&tag].labels, asked.tags[&tag].labels);
    let archive = bench.folder.path().join("image.tar");
    let save = bench.engine.save(&[tag]);
    save.pipe_into(&Tool::new("dd").arg(format!("of={}", archive.display()))).unwrap();
    let bytes = fs_err::read(archive).unwrap();
    for name in [".dockerignore", "a/b"] {
        let found = bytes.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(found, "`{name}` in the layer");
    }
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
#[ignore = "needs podman"]
fn a_mark_keeps_the_cache_from_what_it_cannot_tell_apart() {
    let dockerfile = format!("FROM {BASE}\nRUN --mount=source=f,target=/tmp/f cat /tmp/f > /out\n");
    let bench = Bench::new(&dockerfile);
    let build = |key: &str, marks: Option<&'static [(usize, String)]>| {
        bench.write("f", key);
        bench.build_as(key, &Events::silent(), |order| order.marks = marks).unwrap();
        assert_eq!(bench.read(key, "/out"), key);
    };
    let mark = |key: &str| Some(&*Vec::leak(vec![(2, key.to_owned())]));
    build("k1", mark("k1"));
    build("k2", mark("k2"));
    // Where no mark can be put, the cache is left alone.
    build("k3", None);
    build("k4", None);
}

#[test]
#[ignore = "needs podman"]
fn a_checkout_is_built_whatever_its_path_is_called() {
    let bench = Bench::below("a,b\"c d-", "FROM scratch\nCOPY . /\n");
    bench.write("file", "text");
    bench.build("k1").unwrap();
    assert!(bench.held("k1"));
}

#[test]
#[ignore = "needs podman"]
fn a_failed_build_says_so_and_leaves_nothing() {
    let bench = Bench::new(&format!("FROM {BASE}\nRUN echo last words; exit 7\n"));
    let error = bench.build("k1").unwrap_err();
    assert!(matches!(error, BuildError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("last words"), "{error}");
    assert!(!bench.held("k1"));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

/// What sets a limit of an order.
type Change = fn(&mut BuildRequest, Duration);

#[test]
#[ignore = "needs podman"]
fn a_limit_ends_the_run_process_and_all_it_left() {
    let dockerfile = format!("FROM {BASE}\nRUN exec sleep 987651\n");
    let bench = Bench::new(&dockerfile);
    let limit = Duration::from_secs(4);
    let limits: [(Change, Ending); 2] = [
        (|order, limit| order.silence = limit, Ending::Silent(limit)),
        (|order, limit| order.timeout = Some(limit), Ending::TimedOut(limit)),
    ];
    for (change, ending) in limits {
        let error = bench.build_as("k1", &Events::silent(), |order| change(order, limit));
        let Err(BuildError::TimedOut { failure }) = error else { panic!("{error:?}") };
        assert_eq!(failure.ending, ending);
        assert_eq!(survivors("987651"), Vec::<String>::new());
        assert!(!bench.held("k1"));
        assert_eq!(bench.remains(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs podman"]
fn a_podman_that_is_ended_by_someone_else_is_no_success() {
    let dockerfile = format!("FROM {BASE}\nRUN echo here; exec sleep 987652\n");
    let bench = Bench::new(&dockerfile);
    let (engine, stage) = (bench.engine.name(), bench.stage().display().to_string());
    let end = move || {
        let pid = children(Path::new("/proc")).into_iter().find(|process| {
            let line = fs_err::read_to_string(process.join("cmdline")).unwrap_or_default();
            line.starts_with(engine) && line.contains(&stage)
        });
        let pid = pid.unwrap().file_name().unwrap().to_owned();
        Tool::new("kill").arg("-TERM").arg(pid).run().unwrap();
    };
    let error = bench.build_as("k1", &Events::to(vec![Box::new(At("here", end))]), |_| {});
    assert!(
        matches!(error, Err(BuildError::Missing { .. } | BuildError::Failed { .. })),
        "{error:?}"
    );
    assert_eq!(survivors("987652"), Vec::<String>::new());
    assert!(!bench.held("k1"));
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
#[ignore = "needs podman"]
fn the_peak_is_what_the_programs_took_without_page_cache() {
    let program = "vec(my $x, 150 << 20, 8) = 1; sleep 3";
    let dockerfile = format!(
        "FROM {BASE}\nRUN : {}; head -c 200M /dev/zero > /big && perl -e '{program}'\n",
        std::process::id()
    );
    let bench = Bench::new(&dockerfile);
    let peak = bench.build("k1").unwrap().peak_memory.unwrap() >> 20;
    assert!((150..300).contains(&peak), "{peak} MiB");
}

const KILLED: &str = "a_build_killed_for_memory_names_the_victim_even_if_podman_reports_success";

/// Run again in a control group that allows 300 MB: builds are made below it, so that it holds for
/// them.
#[test]
#[ignore = "needs podman"]
fn a_build_killed_for_memory_names_the_victim_even_if_podman_reports_success() {
    if std::env::var_os(AGAIN).is_none() {
        let limit = Group::new(300 * MIB);
        again(limit.tool(own_program()), KILLED, &std::env::temp_dir()).run().unwrap();
        return;
    }
    for (run, reported) in
        [("exec tail /dev/zero", false), ("head -c 700M /dev/zero | tail | wc -c", true)]
    {
        let bench = Bench::new(&format!("FROM {BASE}\nRUN : {}; {run}\n", std::process::id()));
        let error = bench.build("k1").unwrap_err();
        let BuildError::OutOfMemory { peak, evidence, failure, .. } = error else {
            panic!("{error}")
        };
        assert!(evidence.contains("`tail`, which had 2"), "{evidence}");
        assert!(peak.is_some_and(|peak| peak > 200 << 20), "{peak:?}");
        assert_eq!(failure.is_none(), reported);
        assert!(!bench.held("k1"), "a wrong image must not get its tag");
        let second = bench.build("k1").unwrap_err();
        assert!(matches!(second, BuildError::OutOfMemory { .. }), "from the cache: {second}");
        assert_eq!(bench.remains(), Vec::<String>::new());
    }
}

const SWEPT: &str = "what_a_killed_run_left_is_swept_away";

/// Run again in a process of its own, which is killed in the middle of a build.
#[test]
#[ignore = "needs podman"]
fn what_a_killed_run_left_is_swept_away() {
    let bench = Bench::new(&format!("FROM {BASE}\nRUN echo here; exec sleep 987653\n"));
    if std::env::var_os(AGAIN).is_some() {
        let kill = || {
            let own = std::process::id().to_string();
            Tool::new("kill").args(["-KILL", &own]).run().unwrap();
        };
        let paths = RunPaths::new(&Paths::of(bench.folder.path()), bench.run.clone());
        let _run = RunLock::hold(&paths).unwrap();
        bench.build_as("k1", &Events::to(vec![Box::new(At("here", kill))]), |_| {}).unwrap_err();
        unreachable!("killed");
    }
    let failure = again(Tool::new(own_program()), SWEPT, bench.folder.path()).run().unwrap_err();
    assert_eq!(failure.ending, Ending::Signal(9));
    assert!(!running("987653").is_empty(), "the RUN process lives on");
    let swept = bench.engine.sweep(&bench.facts);
    assert!(swept.processes > 0, "{swept:?}");
    if bench.engine.name() == "podman" {
        assert!(swept.containers > 0 && swept.folders > 0, "{swept:?}");
    }
    assert_eq!(survivors("987653"), Vec::<String>::new());
    let again = bench.engine.sweep(&bench.facts);
    assert_eq!((again.processes, again.containers, again.folders), (0, 0, 0));
}

const STOPPED: &str = "a_signal_at_any_moment_leaves_nothing";

/// Run again in processes of their own, which get a signal at a random moment. `XTASK_TRIALS` says
/// how many.
#[test]
#[ignore = "needs podman"]
fn a_signal_at_any_moment_leaves_nothing() {
    let dockerfile = format!("FROM {BASE}\nCOPY . /a\nRUN true\nRUN sleep 987654\n");
    let bench = Bench::new(&dockerfile);
    bench.write("f", "text");
    if std::env::var_os(AGAIN).is_some() {
        stop::listen(|_| {}).unwrap();
        let error = bench.build_as("k1", &Events::silent(), |order| order.no_cache = true);
        assert!(matches!(error, Err(BuildError::Stopped)), "{error:?}");
        return;
    }
    for trial in trials(5) {
        let mut child =
            again(Tool::new(own_program()), STOPPED, bench.folder.path()).start().unwrap();
        let image = format!("xtask-engine-{}-0", child.id());
        // The moment is what is tried; any will do.
        std::thread::sleep(Duration::from_millis(300 + (trial * 7919) % 4000));
        let signal = ["-TERM", "-INT", "-HUP"][usize::try_from(trial % 3).unwrap()];
        Tool::new("kill").args([signal, &child.id().to_string()]).run().unwrap();
        let end = child.wait(|_, _| {});
        assert_eq!(survivors("987654"), Vec::<String>::new(), "trial {trial}");
        assert_eq!(bench.remains_of(&image), Vec::<String>::new(), "trial {trial}: {end:?}");
        let tag = [format!("localhost/{image}:k1")];
        let held = bench.engine.look_up(Some(&bench.facts), &tag, &[]).unwrap();
        assert!(held.tags.is_empty(), "trial {trial}");
        remove_images(&image);
    }
}

/// Set in a test that was started again by itself, to the folder for its files.
const AGAIN: &str = "XTASK_TEST_AGAIN";

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn again(program: Tool, test: &str, folder: &Path) -> Tool {
    program
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(AGAIN, folder)
        .limit(Duration::from_mins(5))
}

#[test]
#[ignore = "needs podman"]
fn facts_are_kept_and_asked_again_when_lost() {
    let bench = Bench::new("FROM scratch\n");
    let cache = PrivatePath::below(bench.folder.path(), "state/facts.json");
    let settings = engine_settings();
    let kept = engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert_eq!(kept, bench.facts, "the same file gives the same facts");
    fs_err::write(&cache, "{").unwrap();
    let asked = engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert_eq!(asked.memory_total, kept.memory_total);
    engine::choose(&settings).unwrap().facts(&cache).unwrap();
    assert!(fs_err::read_to_string(&cache).unwrap().contains("memory_total"));
}
