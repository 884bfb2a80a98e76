//! Several builders with real parts: two more podman services and docker's `BuildKit`, each with a
//! store and a memory group of its own.
//!
//! Needs root, podman and `docker.io/library/debian:bookworm-slim`. docker comes out of Debian's
//! packages ([`Docker`]); where they cannot be had it is left out, and the test says so: `cargo
//! test -p xtask --test builders -- --ignored`.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::Case;
use support::docker::Docker;
use support::machine::{BASE, Group, MIB, remove_images};
use xtask::process::{Background, Tool};

const PATIENCE: Duration = Duration::from_mins(1);
const IMAGES: usize = 12;

/// An engine that builds in a store of its own, and all it runs inside a group of its own.
struct Service {
    name: &'static str,
    group: Group,
    folder: tempfile::TempDir,
    /// How the configuration says where it is.
    at: String,
    /// Bytes its builds may hold.
    memory: u64,
    _runs: Runs,
}

#[expect(dead_code, reason = "held for their drop")]
enum Runs {
    Podman(Background),
    Docker(Docker),
    BuildKit(Background),
}

impl Service {
    fn podman(name: &'static str, limit: u64, memory: u64) -> Self {
        let group = Group::named(name, limit);
        let folder = tempfile::tempdir().unwrap();
        let at = |part: &str| folder.path().join(part);
        let service = group.tool("podman").arg("--root").arg(at("root")).arg("--runroot");
        let service = service.arg(at("run")).args(["system", "service", "--time=0"]);
        let child = service.arg(format!("unix://{}", at("socket").display())).serve().unwrap();
        assert!(comes_up(&at("socket")), "podman's service does not come up");
        let at = format!("podman = \"unix://{}\"", at("socket").display());
        Self { name, group, folder, at, memory, _runs: Runs::Podman(child) }
    }

    /// docker with its `BuildKit`, as a context that `case` knows; an error says why it cannot be
    /// had here.
    fn docker(case: &Case) -> anyhow::Result<Self> {
        let (name, memory) = ("docker", 1536 * MIB);
        let group = Group::named(name, 2048 * MIB);
        let folder = tempfile::tempdir().unwrap();
        let docker = Docker::start(folder.path(), &group)?;
        let socket = docker.socket();
        assert!(comes_up(&socket), "docker's daemon does not come up");
        case.tell_engine(name, &docker.client());
        let client = case.engine(name);
        fs_err::set_permissions(&client, PermissionsExt::from_mode(0o755)).unwrap();
        let host = format!("host=unix://{}", socket.display());
        let context = Tool::new(client).args(["context", "create", "far", "--docker", &host]);
        context.run().unwrap();
        let at = "docker = \"far\"".to_owned();
        Ok(Self { name, group, folder, at, memory, _runs: Runs::Docker(docker) })
    }

    /// `BuildKit` by itself, from PATH.
    fn buildkit(_: &Case) -> anyhow::Result<Self> {
        let (name, memory) = ("buildkit", 1536 * MIB);
        let group = Group::named(name, 2048 * MIB);
        let folder = tempfile::tempdir()?;
        let address = format!("unix://{}", folder.path().join("socket").display());
        let daemon = group.tool("buildkitd").args(["--addr", &address, "--root"]);
        let daemon = daemon.arg(folder.path().join("root")).arg("--containerd-worker=false");
        let child = daemon.arg("--oci-worker-net=host").serve()?;
        assert!(comes_up(&folder.path().join("socket")), "buildkitd does not come up");
        let at = format!("buildkit = \"{address}\"");
        Ok(Self { name, group, folder, at, memory, _runs: Runs::BuildKit(child) })
    }

    fn config(&self) -> String {
        let Self { name, at, memory, .. } = self;
        format!(
            "[[builders]]\nname = \"{name}\"\n{at}\njobs = 3\nmemory = \"{} MiB\"\n",
            memory / MIB
        )
    }

    /// Ends all of it at once, as a machine that goes away does.
    fn kill(&self) {
        for process in self.group.processes() {
            kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).ok();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.group.processes().is_empty() && Instant::now() < until {
            self.kill();
            std::thread::sleep(Duration::from_millis(20));
        }
        // Engines mount their store onto itself, and what they were killed over.
        let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let own = points.filter(|point| Path::new(point).starts_with(self.folder.path()));
        for point in own.collect::<Vec<_>>().into_iter().rev() {
            Tool::new("umount").args(["--lazy", point]).run().ok();
        }
    }
}

/// Waits until something listens there.
fn comes_up(socket: &Path) -> bool {
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(socket).is_err() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Starts a service that `case` is to know.
type Start = fn(&Case) -> anyhow::Result<Service>;

/// Twelve images and the services beside the machine's own podman.
struct Bench {
    case: Case,
    /// small, large and, if it can be had, what is wanted besides.
    services: Vec<Service>,
    /// Why that is left out.
    without: Option<anyhow::Error>,
    names: Vec<String>,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Bench {
    /// Each build takes `memory` bytes.
    fn new(what: &str, memory: u64, besides: Option<Start>) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut case = Case::with_real_engine();
        let small = Service::podman("small", 1536 * MIB, 1280 * MIB);
        let large = Service::podman("large", 4096 * MIB, 3584 * MIB);
        let (third, without) = match besides.map(|start| start(&case)).transpose() {
            Ok(third) => (third, None),
            Err(error) => (None, Some(error)),
        };
        let services: Vec<Service> = [small, large].into_iter().chain(third).collect();
        let (own, fill) =
            (std::process::id(), format!("head -c {memory} /dev/zero | tail | wc -c"));
        let names: Vec<String> =
            (0..IMAGES).map(|at| format!("xtask-far-{what}-{at}-{own}")).collect();
        let mut config = "[engine]\nname = \"podman\"\njobs = 2\nreserve = \"64 MiB\"\n".to_owned();
        config.extend(services.iter().map(Service::config));
        for name in &names {
            config.extend([
                format!("[images.{name}]\ncontext = \"{name}\"\n"),
                format!("dockerfile = \"{name}/Dockerfile\"\nmemory = \"400 MiB\"\n"),
            ]);
            case = case.file(&format!("{name}/turn"), name).file(
                &format!("{name}/Dockerfile"),
                &format!("FROM {BASE}\nCOPY turn /\nRUN {fill}\n"),
            );
        }
        Self { case: case.config(&config), services, without, names, _one_at_a_time: turn }
    }

    /// Runs `images` to its end; `hear` gets every event as it comes. Gives back the events and the
    /// exit code.
    fn build(&self, mut hear: impl FnMut(&Value)) -> (Vec<Value>, Option<i32>) {
        let mut command = self.case.command(&["images", "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut events = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            hear(&event);
            events.push(event);
        }
        (events, child.wait().unwrap().code())
    }

    fn builders(&self) -> BTreeSet<&str> {
        self.services.iter().map(|one| one.name).chain(["local"]).collect()
    }

    /// Every image is here under its tag and carries its key.
    fn hold_images(&self) {
        let plan = self.case.plan();
        for image in plan["images"].as_array().unwrap() {
            assert_eq!(image["action"], "skip", "{image}");
            let tag = image["tag"].as_str().unwrap();
            let label = "{{index .Config.Labels \"dev.xtask.key\"}}";
            let asked = Tool::new("podman").args(["image", "inspect", "--format", label, tag]);
            assert_eq!(asked.read().unwrap().trim(), image["key"].as_str().unwrap());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for name in &self.names {
            remove_images(name);
        }
    }
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// The base went once to every builder but this machine.
fn hold_sent_once(events: &[Value], builders: &BTreeSet<&str>) {
    let notes = of_kind(events, "note").into_iter().filter_map(|note| note["text"].as_str());
    let mut sent: Vec<&str> = notes.filter(|text| text.contains("is sent to builder")).collect();
    sent.sort_unstable();
    let once = builders.iter().filter(|name| **name != "local");
    let once = once.map(|name| format!("`{BASE}` is sent to builder `{name}`"));
    assert_eq!(sent, once.collect::<Vec<_>>());
}

/// Builder → how many builds were begun there.
fn begun(events: &[Value]) -> BTreeMap<&str, usize> {
    let mut begun = BTreeMap::new();
    for event in of_kind(events, "build-started") {
        *begun.entry(event["builder"].as_str().unwrap()).or_default() += 1;
    }
    begun
}

#[test]
#[ignore = "needs podman"]
fn twelve_images_are_built_over_all_builders_without_a_kill() {
    let bench = Bench::new("all", 250 * MIB, Some(Service::docker));
    let planned = bench.case.plan();
    let places = planned["images"].as_array().unwrap().iter().map(|image| &image["builder"]);
    assert_eq!(places.filter_map(Value::as_str).collect::<BTreeSet<_>>(), bench.builders());
    let (events, code) = bench.build(|_| {});
    let summary = events.last().unwrap();
    assert_eq!((code, &summary["built"]), (Some(0), &Value::from(IMAGES)), "{summary}");
    let begun = begun(&events);
    println!("builds by builder: {begun:?}, {} s", summary["seconds"]);
    if let Some(why) = &bench.without {
        println!("docker is left out: {why:#}");
    }
    let builders = bench.builders();
    assert_eq!(begun.keys().copied().collect::<BTreeSet<_>>(), builders);
    assert_eq!(begun.values().sum::<usize>(), IMAGES, "each was built once");
    hold_sent_once(&events, &builders);
    for service in &bench.services {
        assert_eq!(service.group.kills(), 0, "{}", service.name);
    }
    assert_eq!(of_kind(&events, "warning"), [&Value::Null; 0]);
    bench.hold_images();
    let why = bench.case.ok(&["why", &bench.names[0]]).stdout;
    assert!(why.contains("built on "), "{why}");
    let doctor = bench.case.run(&["doctor"]);
    assert!(doctor.stderr.contains("large: podman"), "{doctor:#?}");
    // Had there been one, it would have been counted.
    let small = &bench.services[0].group;
    small.tool("sh").args(["-c", "head -c 2G /dev/zero | tail"]).run().ok();
    assert!(small.kills() > 0, "a kill is not seen");
}

#[test]
#[ignore = "wants buildkitd and buildctl on PATH: cargo test -p xtask --test builders -- --ignored"]
fn buildkit_at_an_address_of_its_own_builds_beside_the_others() {
    let bench = Bench::new("kit", 250 * MIB, Some(Service::buildkit));
    let (events, code) = bench.build(|_| {});
    let summary = events.last().unwrap();
    assert_eq!((code, &summary["built"]), (Some(0), &Value::from(IMAGES)), "{events:#?}");
    let begun = begun(&events);
    println!("builds by builder: {begun:?}, {} s", summary["seconds"]);
    assert!(begun.contains_key("buildkit"), "{begun:?}");
    hold_sent_once(&events, &bench.builders());
    bench.hold_images();
}

#[test]
#[ignore = "needs podman"]
fn what_a_builder_that_goes_away_was_building_is_built_by_the_others() {
    let bench = Bench::new("lost", 20 * MIB, None);
    let mut on_large = Vec::new();
    let mut killed = false;
    let (events, code) = bench.build(|event| {
        let image = event["image"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().unwrap() {
            "build-started" if event["builder"] == "large" => on_large.push(image),
            // Its RUN is under way: the base is there, and so is the context.
            "build-line" if !killed && on_large.contains(&image) => {
                killed = true;
                bench.services[1].kill();
            }
            _ => {}
        }
    });
    let summary = events.last().unwrap();
    assert_eq!((code, &summary["built"]), (Some(0), &Value::from(IMAGES)), "{events:#?}");
    let warnings = of_kind(&events, "warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = warnings[0]["text"].as_str().unwrap();
    assert!(text.contains("builder `large` is lost"), "{text}");
    let begun = begun(&events);
    println!("builds by builder: {begun:?}, {} s", summary["seconds"]);
    assert!(killed && begun.values().sum::<usize>() > IMAGES, "{begun:?}");
    bench.hold_images();
}

#[test]
fn a_builder_that_does_not_answer_is_left_out_and_without_any_the_run_is_refused() {
    let config = "[[builders]]\nname = 'gone'\npodman = 'unix:///nowhere/socket'\n\
                  [images.api]\ndockerfile = 'api.Dockerfile'\n";
    let beside = Case::of_two().config(config);
    let ran = beside.ok(&["images"]);
    assert!(ran.stderr.contains("builder `gone` is left out: "), "{ran:#?}");
    assert_eq!(beside.decision("api").0, "skip");
    let none = Case::of_two().config(&format!("[engine]\nbuilds = false\n{config}"));
    let ran = none.run(&["images"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("no builder is left that has 1.5 GiB"), "{ran:#?}");
    assert!(ran.stderr.contains("hint: cargo xtask doctor"), "{ran:#?}");
}
