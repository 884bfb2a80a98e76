//! Tests of a changed image are answered by that image, on a kept cluster, whatever a step waits
//! for.
//!
//! The server takes three seconds to come up, and the pod of before answers until then and, since
//! it does not heed TERM, for its grace time after. Each run has another image; the test command
//! prints who answered, and the pod's own status is held to the engine's id.
//!
//! It makes one kind cluster, of a name and ports of its own, and needs podman, kind, kubectl, a
//! node image and `debian:bookworm-slim`: `cargo test -p xtask --test readiness -- --ignored
//! --nocapture` prints how long each run took. `XTASK_READINESS_ROUNDS` says how often each kind of
//! wait is tried.

#![allow(clippy::print_stderr, reason = "the table of runs is for who reads the log")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::net::TcpListener;
use std::time::Instant;

use serde_json::Value;
use support::{Case, Ran};

/// Sleeps, listens, answers with the version it was built with.
const SERVER: &str = r#"
use strict;
use IO::Socket::INET;
$| = 1;
open(my $file, '<', '/version') or die;
my $version = <$file>;
sleep 3;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 64, ReuseAddr => 1) or die "$!";
while (my $client = $server->accept) {
    # All of it: what is left unread when a socket closes resets it.
    while (my $line = <$client>) { last if $line =~ /^\r?\n$/ }
    print $client "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n$version";
    close $client;
}
"#;

const DOCKERFILE: &str = "\
FROM docker.io/library/debian:bookworm-slim
LABEL of=xtask-readiness
COPY server.pl version /
CMD [\"perl\", \"/server.pl\"]
";

/// Asks ten times in a second or so: a pod of before may be behind every other connection.
const TEST: &str = r#"
for one in 1 2 3 4 5 6 7 8 9 10; do
    exec 3<>"/dev/tcp/$WEB_HOST/$WEB_PORT" || exit 1
    printf 'GET / HTTP/1.0\r\n\r\n' >&3
    echo "answered by: $(tail -n 1 <&3)"
    exec 3>&-
    sleep 0.1
done
kubectl get pods --namespace ready --selector app=web \
    --output 'jsonpath={range .items[*]}ran: {.status.containerStatuses[0].imageID}{"\n"}{end}'
kubectl get job once --namespace ready --output 'jsonpath=job: {.metadata.uid}{"\n"}' || exit 1
echo "setting: $(kubectl exec --namespace ready deployment/web -- printenv SETTING)"
echo 'test result: ok. 10 passed; 0 failed'
"#;

/// What a step may wait for, and what was found to be answered by the pod of before.
const WAITS: [(&str, &str); 8] = [
    ("nothing", ""),
    ("none", "wait = 'none'"),
    ("rollout", "wait = { rollout = 'deployment/web' }"),
    ("http", "wait = { http = '{web}/' }"),
    ("tcp", "wait = { tcp = '{web}' }"),
    ("endpoint", "wait = { endpoint = 'web' }"),
    ("condition", "wait = { condition = 'deployment/web=Available' }"),
    ("job", "wait = { job = 'once' }"),
];

struct World {
    case: Case,
    name: String,
    host: u16,
}

impl World {
    fn new() -> Self {
        let case = Case::with_real_engine()
            .file("image/Dockerfile", DOCKERFILE)
            .file("image/server.pl", SERVER)
            .file("test.sh", TEST);
        // It is free until the cluster takes it.
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { case, name: format!("ready-{}", std::process::id()), host }
    }

    /// Two steps that look at one namespace at once, as suites have them.
    fn configure(&self, wait: &str, need: &str) {
        let (name, host) = (&self.name, self.host);
        self.case.write(
            "xtask.toml",
            &format!(
                "[images.web]\ndockerfile = 'image/Dockerfile'\ncontext = 'image'\n\
                 memory = '200 MiB'\ntrust-host-ca = false\n\
                 [clusters.ready]\nname = '{name}'\nmemory = '1 GiB'\n\
                 [ports]\nweb = {{ host = {host}, node = 30052 }}\n\
                 [suites.ready]\ncluster = 'ready'\nimages = ['web']\n\
                 test = {{ run = ['bash', 'test.sh'] }}\n\
                 [[suites.ready.steps]]\nname = 'namespace'\napply = 'k8s/namespace.yaml'\n\
                 [[suites.ready.steps]]\nname = 'beside'\napply = 'k8s/beside.yaml'\n\
                 needs = ['namespace']\n\
                 [[suites.ready.steps]]\nname = 'pause'\nrun = ['sleep', '0.4']\n\
                 needs = ['namespace']\n\
                 [[suites.ready.steps]]\nname = 'web'\napply = 'k8s/web.yaml'\n\
                 needs = ['{need}']\n{wait}\n"
            ),
        );
    }

    /// A run with an image that says this; its step `web` comes after the other.
    fn run(&self, wait: &str, version: &str, need: &str) -> Ran {
        self.configure(wait, need);
        self.case.write("image/version", version);
        self.case.write(
            "k8s/namespace.yaml",
            "{apiVersion: v1, kind: Namespace, metadata: {name: ready}}",
        );
        self.case.write("k8s/beside.yaml", &deployment("beside"));
        self.case.write("k8s/web.yaml", &(settings("old") + &deployment("web") + SERVICE + JOB));
        self.e2e()
    }

    fn e2e(&self) -> Ran {
        self.case.run(&["e2e", "ready", "--keep", "--format", "json"])
    }

    /// With the layers that podman keeps of them.
    fn remove_images(&self) {
        let ours = ["images", "--all", "--quiet", "--filter", "label=of=xtask-readiness"];
        let ours = self.case.other_command("podman", &ours).output().unwrap().stdout;
        for id in String::from_utf8(ours).unwrap().lines() {
            self.case.podman(&["rmi", "--force", id]);
        }
    }

    fn id(&self, tag: &str) -> String {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", tag];
        let inspected = self.case.other_command("podman", &inspect).output().unwrap();
        String::from_utf8(inspected.stdout).unwrap().trim().to_owned()
    }

    fn tag(&self) -> String {
        self.case.plan()["images"][0]["tag"].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.case.run(&["cluster", "down", "ready"]);
        let node = format!("{}-control-plane", self.name);
        assert!(!self.case.podman(&["container", "exists", &node]), "{node} is still there");
        self.remove_images();
    }
}

fn deployment(name: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: ready}}, \
         spec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: \
         {name}}}}}, spec: {{terminationGracePeriodSeconds: 2, containers: [{{name: main, image: web, \
         envFrom: [{{configMapRef: {{name: settings, optional: true}}}}], readinessProbe: {{tcpSocket: \
         {{port: 8080}}, periodSeconds: 1}}}}]}}}}}}}}\n"
    )
}

fn settings(value: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: ready}}, \
         data: {{SETTING: {value}}}}}\n"
    )
}

const SERVICE: &str = "\
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: ready}, spec: {type: NodePort,
 selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30052}]}}
";

const JOB: &str = "\
---
{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: ready}, spec: {template: {spec: {
 restartPolicy: Never, containers: [{name: main, image: web, command: ['true']}]}}}}
";

/// Lines of the test command that begin so, without the beginning.
fn told(ran: &Ran, begins: &str) -> Vec<String> {
    let events = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = events.filter_map(|one| one["line"].as_str().map(str::to_owned));
    lines.filter_map(|line| line.strip_prefix(begins).map(str::to_owned)).collect()
}

#[test]
#[ignore = "makes a kind cluster: cargo test -p xtask --test readiness -- --ignored --nocapture"]
fn tests_are_answered_by_the_image_that_was_built_for_them() {
    let world = World::new();
    let rounds = std::env::var("XTASK_READINESS_ROUNDS").ok().and_then(|text| text.parse().ok());
    let first = world.run("", "first", "pause");
    assert_eq!(first.code, Some(0), "{first:#?}");
    let mut offences = Vec::new();
    for round in 0..rounds.unwrap_or(2) {
        for (name, wait) in WAITS {
            let version = format!("{name}-{round}");
            let begun = Instant::now();
            let ran = world.run(wait, &version, "pause");
            let answered = told(&ran, "answered by: ");
            let (ids, wanted) = (told(&ran, "ran: "), world.id(&world.tag()));
            eprintln!("| {name} | {:.1?} | {answered:?} | {ids:?} |", begun.elapsed());
            let right = answered.len() == 10 && answered.iter().all(|one| *one == version);
            let is_id = |id: &String| id.trim_start_matches("sha256:") == wanted;
            if ran.code != Some(0) || !right || ids.len() != 1 || !ids.iter().all(is_id) {
                let (code, stderr) = (ran.code, &ran.stderr);
                offences.push(format!("{name}: {code:?} {answered:?} {ids:?} {wanted}\n{stderr}"));
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
    unchanged(&world);
    the_same_key_built_again(&world);
    a_changed_config_map(&world);
    a_hook_that_deletes(&world);
}

/// An image that was lost with its layers is built again under the same key: that one is what the
/// pod runs.
fn the_same_key_built_again(world: &World) {
    let before = world.id(&world.tag());
    world.remove_images();
    let ran = world.e2e();
    let wanted = world.id(&world.tag());
    assert_ne!(before, wanted, "it was built again");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ids = told(&ran, "ran: ");
    assert!(ids.iter().all(|id| id.trim_start_matches("sha256:") == wanted), "{ids:?} {wanted}");
}

/// What reads it is made anew, and the Job of its step is run again.
fn a_changed_config_map(world: &World) {
    let before = world.e2e();
    assert_eq!(told(&before, "setting: "), ["old"], "{before:#?}");
    let manifest = settings("new") + &deployment("web") + SERVICE + JOB;
    world.case.write("k8s/web.yaml", &manifest);
    let after = world.e2e();
    assert_eq!(after.code, Some(0), "{after:#?}");
    assert_eq!(told(&after, "setting: "), ["new"], "{after:#?}");
    assert_ne!(told(&before, "job: "), told(&after, "job: "), "the Job is another");
}

/// What a command deletes while the run goes on is applied again, though its manifest is unchanged.
fn a_hook_that_deletes(world: &World) {
    world.configure("", "pause");
    let config = fs_err::read_to_string(world.case.path("xtask.toml")).unwrap();
    let delete = "'kubectl', 'delete', '--namespace', 'ready', 'deployment/web'";
    world.case.write("xtask.toml", &config.replace("'sleep', '0.4'", delete));
    let ran = world.e2e();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(told(&ran, "answered by: ").len(), 10, "{ran:#?}");
    assert_eq!(told(&ran, "setting: "), ["new"], "{ran:#?}");
}

/// Nothing changed, and no command may have changed anything: nothing is waited for.
fn unchanged(world: &World) {
    let version = fs_err::read_to_string(world.case.path("image/version")).unwrap();
    let ran = world.run("", &version, "namespace");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let events: Vec<Value> =
        ran.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(events.iter().all(|one| one["event"] != "step-waiting"), "{}", ran.stdout);
    let steps = events.iter().filter(|one| one["event"] == "step-finished");
    let unchanged = steps.filter(|one| one["action"] == "unchanged").count();
    assert_eq!(unchanged, 3, "namespace, beside and web: {}", ran.stdout);
    let at = |name: &str| events.iter().rposition(|one| one["event"] == name);
    let (Some(step), Some(test)) = (at("step-finished"), at("test-started")) else {
        panic!("{}", ran.stdout)
    };
    eprintln!("the last step {}, the tests {}", events[step]["at"], events[test]["at"]);
}
