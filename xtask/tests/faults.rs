//! Twelve faults of real runs, seeded one by one: each is found through the verb as people use it,
//! and its cause is in the error.
//!
//! All share one kind cluster. They need podman, kind, kubectl, a node image and
//! `debian:bookworm-slim`, and root (one mounts a small disk): `cargo test -p xtask --test faults
//! -- --ignored --nocapture` prints how long each took to be found. Nothing depends on these times;
//! a wait that runs to its end says so and fails the case, whose waits are all longer than it
//! takes.

#![allow(clippy::print_stderr, reason = "the table of times is for who reads the log")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Case, Ran};

const CLUSTER: &str = "faults-dev";
const NODE: &str = "faults-dev-control-plane";

const CONFIG: &str = r#"
[images.worker]
dockerfile = "worker/Dockerfile"
memory = "200 MiB"

[clusters.faults]
name = "faults-dev"
memory = "1 GiB"

[ports]
web = { host = 30050, node = 30050 }
"#;

#[test]
#[ignore = "makes a kind cluster: cargo test -p xtask --test faults -- --ignored --nocapture"]
fn each_of_twelve_faults_is_found_and_named() {
    let world = World::new();
    world.port_clash();
    world.full_disk();
    world.killed_while_the_cluster_is_made();
    world.wrong_tag();
    world.bad_config_map();
    world.crash_loop();
    world.failing_migration();
    world.unready_redis();
    world.missing_crd();
    world.image_removed_from_the_node();
    world.kubeconfig_pointing_elsewhere();
    world.killed_while_it_waits();
    world.stopped_node();
    let offences = world.offences.borrow();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

struct World {
    case: Case,
    /// What was not found, or not named: all of it is told at once.
    offences: RefCell<Vec<String>>,
}

/// A suite that seeds a fault.
struct Seed<'a> {
    suite: &'a str,
    /// Steps of the suite, as TOML.
    steps: String,
    /// What `k8s/SUITE.yaml` holds.
    manifest: String,
    /// The step that fails.
    fails: &'a str,
    /// What the error says; the first is the cause by its name.
    says: &'a [&'a str],
    exit: i32,
}

impl World {
    fn new() -> Self {
        let case = Case::with_real_engine().config(CONFIG).file(
            "worker/Dockerfile",
            "FROM docker.io/library/debian:bookworm-slim\nLABEL of=xtask-faults\n",
        );
        Self { case, offences: RefCell::default() }
    }

    /// Writes the seed's suite and runs it, the cluster kept.
    fn run(&self, seed: &Seed<'_>) -> Ran {
        self.write(seed);
        self.case.run(&["e2e", seed.suite, "--keep", "--format", "json"])
    }

    fn write(&self, seed: &Seed<'_>) {
        let Seed { suite, steps, manifest, .. } = seed;
        self.case.write(&format!("k8s/{suite}.yaml"), manifest);
        let head =
            "cluster = 'faults'\nimages = ['worker']\ntest = { run = ['true'], counts = 'none' }";
        self.case.write("xtask.toml", &format!("{CONFIG}[suites.{suite}]\n{head}\n{steps}"));
    }

    /// Runs a seed and holds it to what it says; one row of the table.
    fn found(&self, fault: &str, seed: &Seed<'_>) -> Ran {
        let begun = Instant::now();
        let ran = self.run(seed);
        let took = begun.elapsed();
        self.hold(fault, seed, &ran);
        let within = seconds_of(&ran, seed.fails).unwrap_or(took.as_secs_f64());
        row(fault, within, &ran.stderr);
        ran
    }

    /// Exit code and words are as they should be.
    fn hold(&self, fault: &str, seed: &Seed<'_>, ran: &Ran) {
        let lacking = seed.says.iter().filter(|words| !ran.stderr.contains(**words));
        let lacking: Vec<&&str> = lacking.collect();
        if ran.code != Some(seed.exit) || !lacking.is_empty() {
            let code = ran.code;
            let offence = format!("{fault}: exit {code:?}, lacks {lacking:?}\n{}", ran.stderr);
            self.offences.borrow_mut().push(offence);
        }
    }

    fn port_clash(&self) {
        let _taken = std::net::TcpListener::bind(("127.0.0.1", 30050)).unwrap();
        let holder = format!("(process {})", std::process::id());
        let seed = Seed {
            suite: "clash",
            steps: step("web", "wait = { tcp = '{web}' }", "clash"),
            manifest: namespace("clash"),
            fails: "cluster",
            says: &["port 30050 is taken by", &holder],
            exit: 3,
        };
        self.found("port clash", &seed);
    }

    fn wrong_tag(&self) {
        let container = "image: 'localhost/worker:no-such-tag'";
        let says = ["localhost/worker:no-such-tag", "pod/web-"];
        self.pod("wrong tag", "wrongtag", container, "", &says);
    }

    fn bad_config_map(&self) {
        let container = "image: worker, command: [sleep, infinity], env: [{name: A, valueFrom: \
                         {configMapKeyRef: {name: settings, key: no-such-key}}}]";
        let map = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: \
                   badmap}, data: {key: a}}\n";
        let says = ["CreateContainerConfigError", "no-such-key", "settings"];
        self.pod("bad config map", "badmap", container, map, &says);
    }

    fn crash_loop(&self) {
        let container =
            "image: worker, command: [sh, -c, 'echo no table alerts in the schema; exit 7']";
        let says =
            ["CrashLoopBackOff: ended with exit status 7", "| no table alerts in the schema"];
        self.pod("crash loop", "crash", container, "", &says);
    }

    fn failing_migration(&self) {
        let seed = Seed {
            suite: "migration",
            steps: step("migrations", "wait = { job = 'migrate', timeout = '1m' }", "migration"),
            manifest: namespace("migration")
                + "---\n{apiVersion: batch/v1, kind: Job, metadata: {name: migrate, namespace: \
                   migration}, spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, \
                   containers: [{name: main, image: worker, command: [sh, -c, 'echo relation audit \
                   exists already; exit 3']}]}}}}\n",
            fails: "migrations",
            says: &["job/migrate: BackoffLimitExceeded", "| relation audit exists already"],
            exit: 1,
        };
        self.found("failing migration", &seed);
    }

    fn unready_redis(&self) {
        let probe = "readinessProbe: {periodSeconds: 1, exec: {command: [sh, -c, 'echo LOADING \
                     Redis is loading the dataset in memory; exit 1']}}";
        let container = format!("image: worker, command: [sleep, infinity], {probe}");
        let seed = Seed {
            suite: "redis",
            steps: step("redis", "wait = { rollout = 'deployment/web', timeout = '20s' }", "redis"),
            manifest: namespace("redis") + &deployment("redis", &container),
            fails: "redis",
            says: &["Readiness probe failed", "Redis is loading the dataset in memory"],
            exit: 1,
        };
        self.found("unready Redis (its wait is 20 s)", &seed);
    }

    fn missing_crd(&self) {
        let seed = Seed {
            suite: "nocrd",
            steps: step("widget", "", "nocrd"),
            manifest: namespace("nocrd")
                + "---\n{apiVersion: widgets.test/v1, kind: Widget, metadata: {name: one, \
                   namespace: nocrd}}\n",
            fails: "widget",
            says: &["no matches for kind \"Widget\"", "widgets.test/v1"],
            exit: 1,
        };
        self.found("CRD missing", &seed);
    }

    fn image_removed_from_the_node(&self) {
        let remove = "[[suites.removed.steps]]\nname = 'thief'\nrun = ['sh', '-c', 'podman exec \
                      faults-dev-control-plane ctr -n k8s.io images rm $WORKER_IMAGE; podman exec \
                      faults-dev-control-plane ctr -n k8s.io images rm sha256:$(podman image inspect \
                      --format {{.Id}} $WORKER_IMAGE)']\nimages = ['worker']\n";
        let wait = "needs = ['thief']\nwait = { rollout = 'deployment/web', timeout = '1m' }";
        let seed = Seed {
            suite: "removed",
            steps: remove.to_owned() + &step("web", wait, "removed"),
            manifest: namespace("removed")
                + &deployment("removed", "image: worker, command: [sleep, infinity]"),
            fails: "web",
            says: &["is no longer on node `faults-dev-control-plane`", "localhost/worker:"],
            exit: 1,
        };
        self.found("image removed from the node", &seed);
    }

    /// Between two runs it is put right; within one it is named.
    fn kubeconfig_pointing_elsewhere(&self) {
        let elsewhere = "[[suites.lost.steps]]\nname = 'vandal'\nrun = ['sed', '-i', \
                         's|https://127.0.0.1:.*|https://127.0.0.1:1|', \
                         'target/xtask/clusters/faults-dev/kubeconfig']\n";
        let seed = Seed {
            suite: "lost",
            steps: elsewhere.to_owned() + &step("web", "needs = ['vandal']", "lost"),
            manifest: namespace("lost"),
            fails: "web",
            says: &["its kubeconfig was changed since the run began", "127.0.0.1:1"],
            exit: 3,
        };
        self.found("kubeconfig pointing elsewhere", &seed);
        self.works("mended");
    }

    fn stopped_node(&self) {
        let stop = format!(
            "[[suites.stopped.steps]]\nname = 'crow'\nrun = ['podman', 'kill', '{NODE}']\n"
        );
        let wait = "needs = ['crow']\nwait = { endpoint = 'web', timeout = '1m' }";
        let seed = Seed {
            suite: "stopped",
            steps: stop + &step("web", wait, "stopped"),
            manifest: namespace("stopped"),
            fails: "web",
            says: &["node `faults-dev-control-plane` is not running"],
            exit: 3,
        };
        self.found("node stopped", &seed);
        self.works("started");
    }

    /// The disk that the run itself writes to.
    fn full_disk(&self) {
        let disk = self.case.path("disk");
        fs_err::create_dir_all(&disk).unwrap();
        let small = ["-t", "tmpfs", "-o", "size=256k", "xtask-faults"];
        let disk = disk.to_str().unwrap();
        assert!(
            self.case.tool("mount", &[&small[..], &[disk]].concat()),
            "a disk is mounted by root only"
        );
        let ballast = format!("of={disk}/ballast");
        assert!(!self.case.tool("dd", &["if=/dev/zero", &ballast, "bs=1k"]), "it is not full yet");
        let seed = Seed {
            suite: "full",
            steps: step("web", "", "full"),
            manifest: namespace("full"),
            fails: "none",
            says: &["No space left on device"],
            exit: 3,
        };
        self.write(&seed);
        let begun = Instant::now();
        let args = ["e2e", "full", "--keep", "--format", "json"];
        let ran = self.case.run_with(&args, |command| command.env("CARGO_TARGET_DIR", disk));
        let took = begun.elapsed().as_secs_f64();
        assert!(self.case.tool("umount", &[disk]));
        self.hold("disk full", &seed, &ran);
        row("disk full", took, &ran.stderr);
    }

    fn killed_while_the_cluster_is_made(&self) {
        let seed = working("early");
        self.write(&seed);
        let record = self.case.path("target/xtask/clusters/faults-dev/cluster.json");
        let node = || self.case.podman(&["container", "exists", NODE]);
        self.kill(seed.suite, || record.exists() && node());
        let begun = Instant::now();
        let ran = self.works("early");
        let told = "cluster `faults-dev` is made anew: it is not whole";
        assert!(ran.stdout.contains(told), "{ran:#?}");
        let whole = begun.elapsed().as_secs_f64();
        row("killed run, while the cluster was made (the next run, whole)", whole, told);
    }

    fn killed_while_it_waits(&self) {
        let container = "image: worker, command: [sh, -c, 'echo waiting for redis; sleep 600'], \
                         readinessProbe: {exec: {command: ['false']}, periodSeconds: 1}";
        let seed = Seed {
            manifest: namespace("late") + &deployment("late", container),
            steps: step("web", "wait = { rollout = 'deployment/web', timeout = '1m' }", "late"),
            suite: "late",
            ..working("late")
        };
        self.write(&seed);
        let runs = self.case.path("target/xtask/runs");
        let look = || newest(&runs).map(|run| run.join("diagnostics/last-look-late.json"));
        let saw = || {
            let text = look().and_then(|file| fs_err::read_to_string(file).ok());
            text.is_some_and(|text| text.contains("Readiness probe failed"))
        };
        self.kill(seed.suite, saw);
        let run = newest(&runs).unwrap();
        let record = fs_err::read_to_string(run.join("events.jsonl")).unwrap();
        assert!(record.contains("Readiness probe failed"), "{record}");
        assert!(self.proxies() > 0, "a run that waits has a proxy, which outlives it");
        row(
            "killed run, while it waited (its record)",
            0.0,
            "error: events.jsonl, last-look-late.json",
        );
        self.works("after");
        assert_eq!(self.proxies(), 0, "the next run ends it");
    }

    /// Processes that serve the cluster's API to a run.
    fn proxies(&self) -> usize {
        let kubeconfig = self.case.path("target/xtask/clusters/faults-dev/kubeconfig");
        let kubeconfig = kubeconfig.to_str().unwrap();
        let processes = fs_err::read_dir("/proc").unwrap().flatten();
        let lines = processes.flat_map(|one| fs_err::read_to_string(one.path().join("cmdline")));
        lines.filter(|line| line.contains(kubeconfig) && line.contains("--unix-socket")).count()
    }

    /// Starts a run and kills it, with no time to clear up, once `when` is true.
    fn kill(&self, suite: &str, when: impl Fn() -> bool) {
        let mut child = self.case.start(&["e2e", suite, "--keep", "--format", "json"]);
        let end = Instant::now() + Duration::from_mins(2);
        while !when() {
            assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "not in time");
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The next run is right.
    fn works(&self, suite: &str) -> Ran {
        let ran = self.run(&working(suite));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran
    }

    /// A deployment that is no good.
    fn pod(&self, fault: &str, suite: &str, container: &str, more: &str, says: &[&str]) {
        let wait = "wait = { rollout = 'deployment/web', timeout = '1m' }";
        let seed = Seed {
            suite,
            steps: step("web", wait, suite),
            manifest: namespace(suite) + &deployment(suite, container) + more,
            fails: "web",
            says,
            exit: 1,
        };
        self.found(fault, &seed);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.write(&working("last"));
        let down = self.case.run(&["cluster", "down", "last"]);
        eprintln!("{}", down.stderr);
        let mut cleared = self.case.run(&["plan", "--format", "json"]);
        let plan: Value = serde_json::from_str(&std::mem::take(&mut cleared.stdout)).unwrap();
        let tag = plan["images"][0]["tag"].as_str().unwrap_or_default().to_owned();
        self.case.podman(&["rmi", "--force", &tag]);
        assert!(!self.case.podman(&["container", "exists", NODE]), "{CLUSTER} is still there");
    }
}

fn working(suite: &str) -> Seed<'_> {
    let (steps, manifest) = (step("web", "", suite), namespace(suite));
    Seed { suite, steps, manifest, fails: "", says: &[], exit: 0 }
}

fn step(name: &str, more: &str, suite: &str) -> String {
    format!("[[suites.{suite}.steps]]\nname = '{name}'\napply = 'k8s/{suite}.yaml'\n{more}\n")
}

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n")
}

fn deployment(namespace: &str, container: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: \
         {namespace}}}, spec: {{selector: {{matchLabels: {{app: web}}}}, template: {{metadata: \
         {{labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: \
         main, {container}}}]}}}}}}}}\n"
    )
}

/// Seconds from a step's start to its failure, by the run's own clock.
fn seconds_of(ran: &Ran, step: &str) -> Option<f64> {
    let events = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut finished = events.filter(|one| one["event"] == "step-finished" && one["step"] == step);
    finished.find(|one| one["ok"] == false)?["seconds"].as_f64()
}

/// One row of the table, as Markdown has it.
fn row(fault: &str, seconds: f64, told: &str) {
    let sentence = told.lines().next().unwrap_or_default();
    eprintln!("| {fault} | {seconds:.1} s | {} |", sentence.trim_start_matches("error: "));
}

fn newest(runs: &std::path::Path) -> Option<std::path::PathBuf> {
    let entries = fs_err::read_dir(runs).ok()?.flatten();
    entries.map(|entry| entry.path()).max()
}
