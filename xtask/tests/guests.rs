//! Runs on a cluster that others run: images through a registry, names of each run's own, nothing
//! of others touched.
//!
//! The cluster is made here, by kind and not by xtask, so that to xtask it is somebody else's; its
//! node pulls from a registry on this host. They need podman, kind, kubectl, `docker-registry`, a
//! node image and `debian:bookworm-slim`: `cargo test -p xtask --test guests -- --ignored`.

#![allow(clippy::print_stderr, reason = "what each run said is for who reads the log")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "a test's own children, not ones of the tool's")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::machine::remove_images;
use support::registry::Registry;
use support::{Case, Ran};

const NAME: &str = "guests-dev";
const NODE: &str = "guests-dev-control-plane";
const NODE_IMAGE: &str = "docker.io/kindest/node:v1.34.4";
const IMAGE: &str = "xtask-guests";

/// The node's containerd reads here how each registry is reached.
const KIND: &str = r#"
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
nodes:
- role: control-plane
  extraMounts: [{hostPath: "CERTS", containerPath: /etc/containerd/certs.d}]
"#;

const CONFIG: &str = r#"
[images.xtask-guests]
dockerfile = "worker/Dockerfile"
memory = "200 MiB"
trust-host-ca = false

[cache]
registry = "REGISTRY/team"
mode = "read-write"
insecure = true

[clusters.lab]
kubeconfig = "KUBECONFIG"
context = "kind-guests-dev"
server = "SERVER"
address = "ADDRESS"
owner = "guests-team"
ttl = "1h"

[ports]
web = { host = 30052, node = 30052 }

[suites.web]
cluster = "lab"
images = ["xtask-guests"]
test = { run = ["sh", "test.sh"], counts = "none", timeout = "3m" }

[[suites.web.steps]]
name = "kinds"
apply = "k8s/crd.yaml"

[[suites.web.steps]]
name = "base"
apply = "k8s/base.yaml"

[[suites.web.steps]]
name = "password"
secret = { name = "password", namespace = "web", files = { "password" = "password" } }
needs = ["base"]

[[suites.web.steps]]
name = "server"
apply = "k8s/server.yaml"
needs = ["kinds", "password"]
wait = [{ rollout = "deployment/web", timeout = "1m" }, { tcp = "{web}", timeout = "30s" }]

[suites.theirs]
cluster = "lab"

[[suites.theirs.steps]]
name = "intruder"
apply = "k8s/intruder.yaml"
"#;

const CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.guests.test}
spec:
  group: guests.test
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// The webhook leads nowhere: whoever it is called for can make no `ResourceQuota`.
const BASE: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: web}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: reader, namespace: web}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: guests-reader},
 rules: [{apiGroups: [''], resources: [nodes], verbs: [list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: guests-reader},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: guests-reader},
 subjects: [{kind: ServiceAccount, name: reader, namespace: web}]}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration,
 metadata: {name: guests}, webhooks: [{name: guests.guests.test, sideEffects: None,
 admissionReviewVersions: [v1], failurePolicy: Fail, timeoutSeconds: 1,
 clientConfig: {service: {name: nobody, namespace: web, port: 443}},
 rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [resourcequotas]}]}]}
";

const SERVER: &str = "\
{apiVersion: guests.test/v1, kind: Widget, metadata: {name: one, namespace: web}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: web}, spec: {
 selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {
 terminationGracePeriodSeconds: 1, serviceAccountName: reader,
 volumes: [{name: p, secret: {secretName: password, defaultMode: 0400}}],
 containers: [{name: main, image: xtask-guests, volumeMounts: [{name: p, mountPath: /p}],
 env: [{name: PEER, value: 'tcp://web.web.svc:80'}],
 command: [perl, -MIO::Socket, -e, '$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9) or die;
 while ($c = $s->accept) { print $c \"$ENV{PEER}\\n\"; close $c }']}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: web}, spec: {type: NodePort,
 selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30052}]}}
";

/// Looks at what the run has, tells it, and stays until as many runs as `others` says have come so
/// far.
const TEST: &str = r#"
set -e
test "$XTASK_SUITE" = web
case $WEB_NAMESPACE in web-????????) ;; *) exit 1 ;; esac
case $XTASK_GUESTS_IMAGE in */team/xtask-guests@sha256:*) ;; *) exit 2 ;; esac
kubectl --namespace "$WEB_NAMESPACE" get widget/one secret/password deployment/web
kubectl auth can-i list nodes --as "system:serviceaccount:$WEB_NAMESPACE:reader" || exit 3
! kubectl --namespace "$WEB_NAMESPACE" create quota refused || exit 4
kubectl create namespace "$WEB_NAMESPACE-spec"
kubectl label namespace "$WEB_NAMESPACE-spec" $(echo "$XTASK_LABELS" | tr , ' ')
said=$(perl -MIO::Socket -e "print IO::Socket::INET->new('$WEB_HOST:$WEB_PORT')->getline")
test "$said" = "tcp://web.$WEB_NAMESPACE.svc:80" || { echo "it said $said"; exit 5; }
echo "at $WEB_PORT of $WEB_NAMESPACE"
touch "MEETING/$WEB_NAMESPACE"
for i in $(seq 600); do
  test "$(ls MEETING | wc -l)" -ge "$(cat others)" && exit 0
  sleep 0.1
done
exit 6
"#;

#[test]
#[ignore = "makes a kind cluster: cargo test -p xtask --test guests -- --ignored"]
fn on_a_cluster_that_others_run() {
    let lab = Lab::new();
    let (one, two) = (lab.checkout(), lab.checkout());
    let before = lab.foreign();
    another_server_is_refused_before_anything_is_written(&lab, &one);
    two_runs_side_by_side_touch_neither_each_other_nor_anybody(&lab, &one, &two);
    assert_eq!(lab.foreign(), before);
    what_is_in_the_registry_is_not_pushed_and_what_is_kept_is_found_again(&lab, &one);
    what_is_over_is_swept_and_nothing_else(&lab, &one);
    a_registry_that_fails_is_a_failure(&lab, &one);
    what_all_share_is_used_as_it_is_or_refused(&lab, &two);
    assert_eq!(lab.foreign(), before);
}

/// The cluster of others, with something of theirs on it, and a registry.
struct Lab {
    registry: Registry,
    folder: tempfile::TempDir,
    /// Of the network that the node is in, on this host.
    gateway: String,
    node: String,
    server: String,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_err::create_dir(path("certs.d")).unwrap();
        fs_err::create_dir(path("meeting")).unwrap();
        let kind = KIND.replace("CERTS", path("certs.d").to_str().unwrap());
        fs_err::write(path("kind.yaml"), kind).unwrap();
        let mut lab = Self {
            registry: Registry::for_nodes(),
            gateway: String::new(),
            node: String::new(),
            server: String::new(),
            folder,
        };
        let [config, kubeconfig] = ["kind.yaml", "kubeconfig"].map(|name| lab.file(name));
        let create = ["create", "cluster", "--name", NAME, "--image", NODE_IMAGE, "--config"];
        run(kind_tool().args(create).arg(config).arg("--kubeconfig").arg(kubeconfig));
        let networks = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}} {{end}}";
        let told = run(Command::new("podman").args(["inspect", "--format", networks, NODE]));
        let mut words = told.split_whitespace().map(str::to_owned);
        (lab.gateway, lab.node) = (words.next().unwrap(), words.next().unwrap());
        let server = "jsonpath={.clusters[0].cluster.server}";
        lab.server = lab.kubectl(&["config", "view", "-o", server]);
        let (name, folder) = (lab.registry_name(), lab.file("certs.d").join(lab.registry_name()));
        fs_err::create_dir(&folder).unwrap();
        fs_err::write(folder.join("hosts.toml"), format!("[host.\"http://{name}\"]\n")).unwrap();
        // What is theirs: among it, by chance, a namespace of the name that the suite gives one of
        // its own.
        lab.kubectl(&["create", "namespace", "web"]);
        lab.kubectl(&["--namespace", "web", "create", "configmap", "theirs"]);
        lab.kubectl(&["create", "clusterrole", "guests-reader", "--verb=get", "--resource=pods"]);
        let made = ["wait", "--for=create", "--namespace", "web", "--timeout=60s"];
        lab.kubectl(&[&made[..], &["serviceaccount/default"]].concat());
        lab.kubectl(&[&made[..], &["configmap/kube-root-ca.crt"]].concat());
        lab
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn registry_name(&self) -> String {
        format!("{}:{}", self.gateway, self.registry.port)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        run(Command::new("kubectl").arg("--kubeconfig").arg(self.file("kubeconfig")).args(args))
    }

    /// A checkout of the suite of a path of its own.
    fn checkout(&self) -> Case {
        let kubeconfig = self.file("kubeconfig");
        let meeting = self.file("meeting");
        let config = CONFIG
            .replace("REGISTRY", &self.registry_name())
            .replace("KUBECONFIG", kubeconfig.to_str().unwrap())
            .replace("SERVER", &self.server)
            .replace("ADDRESS", &self.node);
        let intruder = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: web}}";
        Case::with_real_engine()
            .config(&config)
            .file(
                "worker/Dockerfile",
                "FROM docker.io/library/debian:bookworm-slim\nCOPY worker/a /\n",
            )
            .file("worker/a", &format!("of {}", std::process::id()))
            .file("k8s/crd.yaml", CRD)
            .file("k8s/base.yaml", BASE)
            .file("k8s/server.yaml", SERVER)
            .file("k8s/intruder.yaml", intruder)
            .file("password", "open-sesame")
            .file("others", "1")
            .file("test.sh", &TEST.replace("MEETING", meeting.to_str().unwrap()))
    }

    /// Namespaces that are there and are not going.
    fn namespaces(&self, selector: &str) -> Vec<String> {
        let text = self.kubectl(&["get", "namespaces", "--selector", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let there = items.filter(|one| one["metadata"]["deletionTimestamp"].is_null());
        there.map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What is theirs, by name and version, and every name of a kind that has no namespace but the
    /// runs'.
    fn foreign(&self) -> Vec<String> {
        let columns = "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
        let get = |args: &[&str]| self.kubectl(&[&["get", "--no-headers", "-o"], args].concat());
        let inside = "configmaps,secrets,services,serviceaccounts,deployments";
        let mut found = get(&[columns, inside, "--namespace", "web"]);
        found += &get(&[columns, "namespaces/web", "clusterroles/guests-reader"]);
        let names = "custom-columns=K:.kind,N:.metadata.name";
        let wide = "clusterroles,clusterrolebindings,validatingwebhookconfigurations";
        found += &get(&[names, wide, "--selector", "!dev.xtask.run"]);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        found.lines().map(words).collect()
    }

    /// Waits until what these runs made is gone.
    fn gone(&self) {
        let selector = ["--selector", "dev.xtask.run", "--timeout=90s"];
        let wait = ["wait", "--for=delete", "namespaces,clusterroles,clusterrolebindings"];
        self.kubectl(&[&wait[..], &selector].concat());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        kind_tool().args(["delete", "cluster", "--name", NAME]).status().unwrap();
        remove_images(IMAGE);
    }
}

fn kind_tool() -> Command {
    let mut kind = Command::new("kind");
    kind.env("KIND_EXPERIMENTAL_PROVIDER", "podman").env_remove("KUBECONFIG");
    kind
}

/// Runs what must end well, and gives back what it said.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn e2e(case: &Case, suite: &str, args: &[&str]) -> Ran {
    let ran = case.run_with(&[&["e2e", suite, "--format", "json"], args].concat(), |command| {
        command.env_remove("XTASK_CACHE")
    });
    eprintln!("{suite} {args:?}: exit {:?}\n{}", ran.code, ran.stderr);
    ran
}

fn ok(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    ran
}

fn pushed(ran: &Ran) -> Value {
    let summary: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    summary["pushed"].clone()
}

fn another_server_is_refused_before_anything_is_written(lab: &Lab, case: &Case) {
    let config = fs_err::read_to_string(case.path("xtask.toml")).unwrap();
    case.write("xtask.toml", &config.replace(&lab.server, "https://10.1.2.3:6443"));
    let ran = e2e(case, "web", &[]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("not to `https://10.1.2.3:6443`"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("server = \"{}\"", lab.server)), "{}", ran.stderr);
    assert_eq!(lab.namespaces("dev.xtask.owner"), Vec::<String>::new());
    assert_eq!(lab.registry.repositories(), 0);
    case.write("xtask.toml", &config);
}

fn two_runs_side_by_side_touch_neither_each_other_nor_anybody(lab: &Lab, one: &Case, two: &Case) {
    one.write("others", "2");
    two.write("others", "2");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| e2e(one, "web", &[]));
        let second = scope.spawn(|| e2e(two, "web", &[]));
        (first.join().unwrap(), second.join().unwrap())
    });
    let place = |ran: &Ran| {
        let line = ran.stdout.lines().find(|line| line.contains("at 3")).unwrap().to_owned();
        let event: Value = serde_json::from_str(&line).unwrap();
        event["line"].as_str().unwrap().to_owned()
    };
    let (first, second) = (place(&ok(first)), place(&ok(second)));
    // Neither the port nor the namespace is the other's.
    assert!(first.split(' ').zip(second.split(' ')).filter(|(a, b)| a != b).count() == 2);
    lab.gone();
    assert_eq!(lab.registry.repositories(), 1);
    lab.kubectl(&["get", "crd", "widgets.guests.test"]);
}

fn what_is_in_the_registry_is_not_pushed_and_what_is_kept_is_found_again(lab: &Lab, case: &Case) {
    case.write("others", "1");
    let ran = ok(e2e(case, "web", &["--keep", "--cache", "read-only"]));
    assert_eq!(pushed(&ran), 0);
    let kept = lab.namespaces("dev.xtask.run");
    assert_eq!(kept.len(), 2, "its own, and that of its test: {kept:?}");
    // While it is there, others go on: its webhook is not called for them.
    lab.kubectl(&["--namespace", "web", "create", "quota", "another"]);
    lab.kubectl(&["--namespace", "web", "delete", "quota", "another"]);
    case.ok(&["gc"]);
    assert_eq!(lab.namespaces("dev.xtask.run"), kept, "their time is not over");
    case.ok(&["cluster", "down", "web"]);
    assert_eq!(lab.namespaces("dev.xtask.run"), Vec::<String>::new());
    lab.gone();
    assert!(!case.path("target/xtask/clusters/lab/kubeconfig").exists());
}

fn nothing_of_others_is_in_the_diagnostics(case: &Case) {
    let told = Command::new("find").arg(case.path("target/xtask/runs")).output().unwrap();
    let files = String::from_utf8(told.stdout).unwrap();
    assert!(files.contains("/diagnostics/namespaces/web-"), "{files}");
    assert!(!files.contains("/logs/kube-system"), "{files}");
}

/// A namespace as a run that was killed leaves it.
fn leave(lab: &Lab, name: &str, owner: &str, expires: &str) {
    lab.kubectl(&["create", "namespace", name]);
    let labels = [("owner", owner), ("run", "20260101-000000-1"), ("expires", expires)];
    let labels = labels.map(|(label, value)| format!("dev.xtask.{label}={value}"));
    let label = ["label", "namespace", name].map(str::to_owned).into_iter().chain(labels);
    lab.kubectl(&label.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
}

fn what_is_over_is_swept_and_nothing_else(lab: &Lab, case: &Case) {
    let (over, coming) = ("20260101T000000Z", "29990101T000000Z");
    leave(lab, "web-over", "guests-team", over);
    leave(lab, "web-others", "another-team", over);
    leave(lab, "web-young", "guests-team", coming);
    let told = case.ok(&["gc", "--dry-run"]).stdout;
    assert!(told.contains("namespaces/web-over"), "{told}");
    assert!(!told.contains("web-others") && !told.contains("web-young"), "{told}");
    let refused = e2e(case, "theirs", &[]);
    assert_eq!(refused.code, Some(3));
    let why = "somebody else made `namespace/web`";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);
    assert!(refused.stdout.contains("removed what runs had left: namespaces/web-over"));
    assert_eq!(lab.namespaces("dev.xtask.run"), ["web-others", "web-young"]);
}

fn what_all_share_is_used_as_it_is_or_refused(lab: &Lab, case: &Case) {
    let args = ["--no-test"];
    case.write(
        "k8s/crd.yaml",
        &CRD.replace("singular: widget}", "singular: widget, shortNames: [w]}"),
    );
    let refused = e2e(case, "web", &args);
    assert_eq!(refused.code, Some(3), "`web-young` is another run's");
    assert!(refused.stderr.contains("another run may be using"), "{}", refused.stderr);
    nothing_of_others_is_in_the_diagnostics(case);
    lab.kubectl(&["delete", "namespace", "web-young", "web-others"]);
    let names = ["get", "crd", "widgets.guests.test", "-o", "jsonpath={.spec.names.shortNames}"];
    assert_eq!(lab.kubectl(&names), "");
    ok(e2e(case, "web", &args));
    assert_eq!(lab.kubectl(&names), "[\"w\"]");
    lab.kubectl(&["label", "crd", "widgets.guests.test", "dev.xtask.owner=x", "--overwrite"]);
    let version =
        ["get", "crd", "widgets.guests.test", "-o", "jsonpath={.metadata.resourceVersion}"];
    let before = lab.kubectl(&version);
    ok(e2e(case, "web", &args));
    assert_eq!(lab.kubectl(&version), before, "what is just so is not touched");
    case.write("k8s/crd.yaml", CRD);
    let refused = e2e(case, "web", &args);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("somebody else made `customresourcedefinition/"));
    assert_eq!(lab.kubectl(&version), before);
    lab.gone();
}

fn a_registry_that_fails_is_a_failure(lab: &Lab, case: &Case) {
    assert_eq!(e2e(case, "web", &["--cache", "off"]).code, Some(2));
    case.write("worker/a", "another");
    let refused = e2e(case, "web", &["--cache", "read-only"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("hint: --cache read-write"), "{}", refused.stderr);
    let config = fs_err::read_to_string(case.path("xtask.toml")).unwrap();
    let nobody = format!("127.0.0.1:{}", support::registry::free_port());
    case.write("xtask.toml", &config.replace(&lab.registry_name(), &nobody));
    let failed = e2e(case, "web", &[]);
    assert_eq!(failed.code, Some(3));
    assert!(failed.stderr.contains("failed to bring image"), "{}", failed.stderr);
    assert_eq!(lab.namespaces("dev.xtask.run"), ["web-others", "web-young"]);
}
