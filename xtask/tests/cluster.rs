//! Loading, applying, waiting and failing on a real kind cluster.
//!
//! A cluster costs half a minute, so all cases share one, made here and taken down here. They need
//! podman, kind, kubectl, `docker-registry`, a node image and `debian:bookworm-slim`, and are run
//! by name: `cargo test -p xtask --test cluster -- --ignored`.

#![allow(clippy::print_stderr, reason = "how long a fault took to show is for who reads the log")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::registry::Registry;
use tempfile::TempDir;
use xtask::cluster::{self, Cluster, ClusterTarget, Image, Pulls, Status};
use xtask::config::{self, Port, Reuse, WaitFor};
use xtask::deploy::{self, How, Kept, Notes, Pods, Reads, Rendered, Snapshots, Target};
use xtask::error::{Exit, code, told};
use xtask::event::Events;
use xtask::paths::Paths;
use xtask::private::PrivatePath;
use xtask::process::Tool;

const NAME: &str = "deploy-dev";
const NODE_IMAGE: &str = "docker.io/kindest/node:v1.34.4";

#[test]
#[ignore = "makes a kind cluster: cargo test -p xtask --test cluster -- --ignored"]
fn on_a_real_cluster() {
    let world = World::new();
    a_taken_port_is_named_before_anything_is_made(&world);
    let cluster = timed("made", || world.up(&[&world.port]).unwrap());
    assert!(cluster.made);
    assert_eq!(world.status(), Status::Running);
    a_kept_cluster_is_used_again(&world);
    somebody_elses_cluster_is_refused(&world);
    let images = only_what_is_missing_is_sent(&world, &cluster);
    a_moved_tag_is_sent_again(&world, &cluster, &images);
    a_node_pulls_what_the_registry_has(&world, &cluster);
    a_crd_and_its_object_are_applied_together(&world, &cluster);
    an_unchanged_step_is_proven(&world, &cluster);
    a_job_that_changed_is_run_again(&world, &cluster);
    hopeless_pods_are_found_soon(&world, &cluster);
    diagnostics_hold_the_causes(&world, &cluster);
    a_stopped_cluster_is_started_again(&world);
}

/// A workspace with a cluster; both are gone when this is dropped.
struct World {
    folder: TempDir,
    paths: Paths,
    wanted: config::Cluster,
    port: Port,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::of(folder.path());
        let wanted = config::Cluster {
            name: NAME.to_owned(),
            node_image: NODE_IMAGE.to_owned(),
            reuse: Reuse::IfUnchanged,
            config: None,
            nodes: None,
            existing: None,
            memory: 1 << 30,
            timeout: Duration::from_mins(5),
        };
        let port = Port { name: "web".into(), host: 30040, node: 30040, cluster: None, line: 1 };
        Self { folder, paths, wanted, port }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn target<'a>(&'a self, ports: Vec<&'a Port>) -> Box<dyn ClusterTarget + 'a> {
        cluster::target(&self.wanted, ports, "podman", &self.paths)
    }

    fn up(&self, ports: &[&Port]) -> anyhow::Result<Cluster> {
        self.target(ports.to_vec()).up(&self.log(), &Events::silent())
    }

    fn status(&self) -> Status {
        self.target(vec![&self.port]).status().unwrap()
    }

    fn load(&self, cluster: &Cluster, images: &[Image]) -> Vec<String> {
        let save = |tags: &[String]| podman(&["save", "--quiet", "-m"]).args(tags);
        let (engine, log) = (Tool::new("podman"), self.log());
        cluster::load(cluster, images, &engine, (save, None), &log, &Events::silent()).unwrap().sent
    }

    /// Loads an image that nodes may pull; whether they did, and whether it came to that at all.
    fn pull(&self, cluster: &Cluster, image: &Image, registry: &str) -> (bool, bool) {
        let (sent, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let save = |tags: &[String]| {
            sent.store(true, Ordering::Relaxed);
            podman(&["save", "--quiet", "-m"]).args(tags)
        };
        let cache = config::Cache {
            registry: registry.to_owned(),
            mode: config::CacheMode::ReadOnly,
            insecure: true,
            layers: false,
            answer: Duration::from_secs(5),
            transfer: Duration::from_mins(1),
        };
        let reference = xtask::engine::registry::reference(&cache, &image.tag);
        let references = BTreeMap::from([(image.tag.clone(), reference)]);
        let pulls = Pulls { cache: &cache, references, failed: &failed };
        let (engine, log, events) = (Tool::new("podman"), self.log(), Events::silent());
        let images = std::slice::from_ref(image);
        cluster::load(cluster, images, &engine, (save, Some(&pulls)), &log, &events).unwrap();
        (!sent.into_inner(), !failed.into_inner())
    }

    /// Renders a manifest in which `worker` is the first test image.
    fn render(&self, step: &str, manifest: &str) -> Rendered {
        let file = self.folder.path().join(format!("{step}.yaml"));
        fs_err::write(&file, manifest).unwrap();
        let images =
            BTreeMap::from([("worker".to_owned(), "localhost/xtask-deploy-a:1".to_owned())]);
        let overlays = self.folder.path().join("overlays");
        let images = deploy::Images { references: &images, fields: &[] };
        deploy::render(step, &file, &images, &Tool::new("kubectl"), &overlays).unwrap()
    }

    fn apply(&self, cluster: &Cluster, rendered: &Rendered) -> Vec<serde_json::Value> {
        let how = How {
            again: false,
            anew: &[],
            notes: Notes::default(),
            own: None,
            limit: Duration::from_mins(1),
        };
        deploy::apply(rendered, how, &cluster.kubectl(), &self.log()).unwrap().objects
    }

    /// Waits in the namespace that the manifest begins with.
    fn wait(&self, cluster: &Cluster, rendered: &Rendered, on: &WaitFor) -> anyhow::Result<()> {
        let nothing = PrivatePath::below(self.folder.path(), "nothing");
        let workloads = Kept::open(&nothing, &nothing).workloads(rendered);
        let looks =
            Snapshots::new(cluster.kubectl(), &PrivatePath::below(self.folder.path(), "looks"));
        let target = Target {
            step: &rendered.step,
            on: Some(on),
            timeout: Duration::from_mins(1),
            namespace: &rendered.documents[0].object.name,
            workloads: &workloads,
            since: Instant::now(),
            applied: Some(None),
            is_loaded: &|_, _| None,
            addresses: &BTreeMap::new(),
            others_coming: &|| false,
        };
        deploy::wait(&target, &looks, &Events::silent())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.target(Vec::new()).down(&self.log()).unwrap();
        podman(&["rmi", "--force", "localhost/xtask-deploy-a:1", "localhost/xtask-deploy-b:1"])
            .run()
            .unwrap();
    }
}

fn podman(args: &[&str]) -> Tool {
    Tool::new("podman").args(args.iter().copied())
}

/// Prints how long something took: figures for people, nothing depends on them.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    eprintln!("{what}: {:.2?}", begun.elapsed());
    result
}

/// Builds a tiny image that differs by `content`, under `tag`.
fn build(tag: &str, content: &str) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("FROM docker.io/library/debian:bookworm-slim\nLABEL content={content}\n");
    fs_err::write(folder.path().join("Dockerfile"), text).unwrap();
    let id = podman(&["build", "--quiet", "--tag", tag]).arg(folder.path()).read().unwrap();
    Image { tag: tag.to_owned(), id }
}

fn a_taken_port_is_named_before_anything_is_made(world: &World) {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 30040)).unwrap();
    let error = timed("taken port", || world.up(&[&world.port]).unwrap_err());
    assert_eq!(code(&error), Exit::Environment);
    let text = error.to_string();
    assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
    assert_eq!(world.status(), Status::Absent);
    drop(taken);
}

fn a_kept_cluster_is_used_again(world: &World) {
    // A kubeconfig that points elsewhere is written anew.
    let kubeconfig = world.paths.kubeconfig(NAME);
    let right = fs_err::read_to_string(&kubeconfig).unwrap();
    fs_err::write(&kubeconfig, right.replace("https://127.0.0.1:", "https://127.0.0.2:")).unwrap();
    assert!(!world.up(&[&world.port]).unwrap().made);
    assert_eq!(fs_err::read_to_string(&kubeconfig).unwrap(), right);
    assert!(!timed("reused", || world.up(&[&world.port]).unwrap()).made);
    // Without the record, the mark on the node says whose it is.
    fs_err::remove_dir_all(world.paths.cluster(NAME)).unwrap();
    assert!(!world.up(&[&world.port]).unwrap().made);
    let other = Port { name: "other".into(), host: 30041, node: 30041, cluster: None, line: 1 };
    let status = world.target(vec![&other]).status().unwrap();
    assert!(matches!(status, Status::Outdated(_)), "{status:?}");
}

fn somebody_elses_cluster_is_refused(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::of(folder.path());
    let log = folder.path().join("log");
    let error =
        cluster::target(&world.wanted, Vec::new(), "podman", &paths).down(&log).unwrap_err();
    assert_eq!(code(&error), Exit::Environment);
    let text = told(&error);
    assert!(text.contains("another workspace") && text.contains("kind delete cluster"), "{text}");
}

fn only_what_is_missing_is_sent(world: &World, cluster: &Cluster) -> [Image; 2] {
    let a = build("localhost/xtask-deploy-a:1", "one");
    let b = build("localhost/xtask-deploy-b:1", "two");
    let sent = timed("one image sent", || world.load(cluster, std::slice::from_ref(&a)));
    assert_eq!(sent, std::slice::from_ref(&a.tag));
    let both = [a, b];
    assert_eq!(world.load(cluster, &both), [both[1].tag.clone()]);
    assert!(timed("nothing to send", || world.load(cluster, &both)).is_empty());
    both
}

fn a_moved_tag_is_sent_again(world: &World, cluster: &Cluster, images: &[Image; 2]) {
    let moved = build(&images[0].tag, "three");
    podman(&["rmi", &images[0].id]).run().unwrap();
    let sent = world.load(cluster, std::slice::from_ref(&moved));
    assert_eq!(sent, std::slice::from_ref(&moved.tag));
    let remove = ["ctr", "--namespace", "k8s.io", "images", "rm", &images[1].tag];
    podman(&["exec", &cluster.nodes[0]]).args(remove).run().unwrap();
    assert_eq!(world.load(cluster, &[moved, images[1].clone()]), [images[1].tag.clone()]);
}

fn a_node_pulls_what_the_registry_has(world: &World, cluster: &Cluster) {
    let registry = Registry::for_nodes();
    let gateway = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    let gateway = podman(&["inspect", "--format", gateway, &cluster.nodes[0]]).read().unwrap();
    let place = format!("{gateway}:{}", registry.port);
    let push = |image: &Image| {
        let to = image.tag.replace("localhost", &place);
        podman(&["push", "--quiet", "--tls-verify=false", &image.id, &to]).run().unwrap();
    };
    let ctr = |args: &[&str]| {
        podman(&["exec", &cluster.nodes[0], "ctr", "--namespace", "k8s.io", "images"])
            .args(args.iter().copied())
            .read()
            .unwrap()
    };
    let tag = "localhost/xtask-deploy-b:1";
    let (first, image) = (build(tag, "another"), build(tag, "pulled"));
    assert_eq!(world.pull(cluster, &image, &place), (false, true), "it is not there: it is sent");
    ctr(&["rm", tag]);
    push(&first);
    assert_eq!(world.pull(cluster, &image, &place), (false, true), "another is: it is sent");
    ctr(&["rm", tag]);
    push(&image);
    assert_eq!(timed("pulled", || world.pull(cluster, &image, &place)), (true, true));
    assert!(!ctr(&["ls", "--quiet"]).contains(&place), "nothing keeps the registry's name");
    assert!(world.load(cluster, std::slice::from_ref(&image)).is_empty());
    ctr(&["rm", tag]);
    drop(registry);
    assert_eq!(world.pull(cluster, &image, &place), (false, false), "nobody answers: it is sent");
    podman(&["rmi", "--force", &first.id]).run().unwrap();
}

fn a_crd_and_its_object_are_applied_together(world: &World, cluster: &Cluster) {
    let manifest = "\
{apiVersion: widgets.test/v1, kind: Widget, metadata: {name: one, namespace: widgets}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: widgets}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.widgets.test}
spec:
  group: widgets.test
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
    let rendered = world.render("widgets", manifest);
    let objects = timed("crd and object", || world.apply(cluster, &rendered));
    assert_eq!(objects.len(), 3);
}

fn an_unchanged_step_is_proven(world: &World, cluster: &Cluster) {
    let service = "\
---
{apiVersion: v1, kind: Service, metadata: {name: sleeper, namespace: sleeper},
 spec: {selector: {app: sleeper}, ports: [{port: 80}]}}
";
    let manifest = deployment("sleeper", "image: worker, command: [sleep, infinity]", "") + service;
    let rendered = world.render("kept", &manifest);
    assert_eq!(rendered.images, ["worker"]);
    let file = world.paths.applied(NAME);
    let objects = timed("applied", || world.apply(cluster, &rendered));
    let kept = || Kept::open(&file, &world.paths.digest_key());
    kept().remember(&rendered, &objects, Reads::new(), Pods::new()).unwrap();
    let rollout = WaitFor::Rollout("deployment/sleeper".to_owned());
    timed("rolled out", || world.wait(cluster, &rendered, &rollout).unwrap());
    world.wait(cluster, &rendered, &WaitFor::Endpoint("sleeper".to_owned())).unwrap();

    let kept = kept();
    timed("proven", || kept.look(&cluster.kubectl()));
    assert!(kept.is_applied(&rendered), "{kept:#?}");
    let scale = ["scale", "deployment/sleeper", "--replicas", "2", "--namespace", "sleeper"];
    cluster.kubectl().args(scale).run().unwrap();
    kept.look(&cluster.kubectl());
    assert!(!kept.is_applied(&rendered));
    what_nobody_applies_is_deleted(world, cluster);
}

fn what_nobody_applies_is_deleted(world: &World, cluster: &Cluster) {
    let kubectl = |args: &[&str]| cluster.kubectl().args(args.iter().copied()).read().unwrap();
    kubectl(&["create", "namespace", "left-by-a-spec"]);
    kubectl(&["label", "namespace", "left-by-a-spec", "xtask-e2e/spec=yes"]);
    let less = world.render("kept", "{apiVersion: v1, kind: Namespace, metadata: {name: sleeper}}");
    let kept = Kept::open(&world.paths.applied(NAME), &world.paths.digest_key());
    kept.look(&cluster.kubectl());
    kept.reset(&[&less], &cluster.kubectl(), &world.log()).unwrap();
    let phase = "jsonpath={.status.phase}";
    let left = kubectl(&["get", "namespace/left-by-a-spec", "-o", phase, "--ignore-not-found"]);
    assert_ne!(left, "Active");
    assert_eq!(kubectl(&["get", "service", "--namespace", "sleeper", "-o", "name"]), "");
}

fn a_job_that_changed_is_run_again(world: &World, cluster: &Cluster) {
    for command in ["['true']", "[sh, -c, exit 0]"] {
        let rendered = world.render("changing", &job("changing", command));
        world.apply(cluster, &rendered);
        world.wait(cluster, &rendered, &WaitFor::Job("changing".to_owned())).unwrap();
    }
}

/// A Job in a namespace of its own, named after it.
fn job(name: &str, command: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n---\n\
         {{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}, namespace: {name}}}, spec: {{\
         backoffLimit: 0, template: {{spec: {{restartPolicy: Never, containers: [{{name: main, \
         image: worker, imagePullPolicy: IfNotPresent, command: {command}}}]}}}}}}}}\n"
    )
}

/// A Deployment in a namespace of its own, named after it.
fn deployment(name: &str, container: &str, pod: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n---\n\
         {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {name}}}, \
         spec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: \
         {{app: {name}}}}}, spec: {{containers: [{{name: main, imagePullPolicy: IfNotPresent, \
         {container}}}]{pod}}}}}}}}}\n"
    )
}

/// Each case with what its failure must say; `|` parts words of which one is enough.
fn hopeless_pods_are_found_soon(world: &World, cluster: &Cluster) {
    let sleeps = "image: worker, command: [sleep, infinity]";
    let map = format!("{sleeps}, envFrom: [{{configMapRef: {{name: no-such-map}}}}]");
    let crashes = "image: worker, command: [sh, -c, 'echo no redis at redis:6379; exit 7']";
    let big = format!("{sleeps}, resources: {{requests: {{memory: 900Gi}}}}");
    let mounts = format!("{sleeps}, volumeMounts: [{{name: v, mountPath: /v}}]");
    let volume = ", volumes: [{name: v, secret: {secretName: no-such-secret}}]";
    let account = ", serviceAccountName: no-such-account";
    let cases = [
        (
            "wrongtag",
            "image: 'localhost/xtask-deploy-a:9'",
            "",
            ["ErrImagePull|ImagePullBackOff", "xtask-deploy-a:9"],
        ),
        ("badmap", &map, "", ["CreateContainerConfigError", "no-such-map"]),
        (
            "crash",
            crashes,
            "",
            ["CrashLoopBackOff: ended with exit status 7", "| no redis at redis:6379"],
        ),
        ("nofile", "image: worker, command: [/no/file]", "", ["container `main`", "/no/file"]),
        ("toobig", &big, "", ["Unschedulable", "Insufficient memory"]),
        ("nosecret", &mounts, volume, ["FailedMount", "no-such-secret"]),
        ("noaccount", sleeps, account, ["FailedCreate", "no-such-account"]),
    ];
    let fails = job("failing", "[sh, -c, 'echo table audit is gone; exit 3']");
    std::thread::scope(|scope| {
        for (name, container, pod, cause) in cases {
            let manifest = deployment(name, container, pod);
            let on = WaitFor::Rollout(format!("deployment/{name}"));
            scope.spawn(move || is_found_soon(world, cluster, name, &manifest, &on, cause));
        }
        let cause = ["BackoffLimitExceeded", "| table audit is gone"];
        let on = WaitFor::Job("failing".to_owned());
        is_found_soon(world, cluster, "failing", &fails, &on, cause);
    });
}

fn is_found_soon(
    world: &World,
    cluster: &Cluster,
    name: &str,
    manifest: &str,
    on: &WaitFor,
    cause: [&str; 2],
) {
    let rendered = world.render(name, manifest);
    world.apply(cluster, &rendered);
    let begun = Instant::now();
    let text = world.wait(cluster, &rendered, on).unwrap_err().to_string();
    let took = begun.elapsed();
    eprintln!("{name}, found after {took:.1?}: {text}\n");
    for words in cause {
        let said = if words.starts_with('|') {
            text.contains(words)
        } else {
            words.split('|').any(|word| text.contains(word))
        };
        assert!(said, "{words} is not in:\n{text}");
    }
}

fn diagnostics_hold_the_causes(world: &World, cluster: &Cluster) {
    let folder = PrivatePath::below(world.folder.path(), "diagnostics");
    let engine = Tool::new("podman");
    let looks = Snapshots::new(cluster.kubectl(), &folder);
    timed("diagnosed", || deploy::diagnose(&looks, &engine, (&cluster.nodes, None), &folder));
    let node = format!("nodes/{}", cluster.nodes[0]);
    for (file, words) in [
        ("events.txt", "no-such-secret"),
        ("pods.txt", "CreateContainerConfigError"),
        ("objects.yaml", "no-such-account"),
        (&format!("{node}/images.txt"), "localhost/xtask-deploy-b:1"),
        (&format!("{node}/memory.txt"), "MemAvailable"),
    ] {
        let text = fs_err::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(words), "{words} is not in {file}:\n{text}");
    }
    let logs = fs_err::read_dir(folder.join("logs/crash")).unwrap();
    let logs: Vec<String> =
        logs.map(|log| fs_err::read_to_string(log.unwrap().path()).unwrap()).collect();
    assert!(logs.concat().contains("no redis at redis:6379"), "{logs:?}");
}

fn a_stopped_cluster_is_started_again(world: &World) {
    podman(&["stop", "--time", "2", &format!("{NAME}-control-plane")]).run().unwrap();
    assert_eq!(world.status(), Status::Stopped);
    assert!(!timed("started again", || world.up(&[&world.port]).unwrap()).made);
}
