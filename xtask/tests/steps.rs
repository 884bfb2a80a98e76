//! What steps can be, for real: hooks, files, charts, a webhook with a certificate of its own;
//! several nodes; a database that was emptied.
//!
//! All share one kind cluster of two nodes. They need podman, kind, kubectl, openssl, helm, a node
//! image and `debian:bookworm-slim`: `cargo test -p xtask --test steps -- --ignored`.

#![allow(clippy::print_stderr, reason = "what each run said is for who reads the log")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Case, Ran};

const NODES: [&str; 2] = ["steps-dev-control-plane", "steps-dev-worker"];

const CONFIG: &str = r#"
[images.worker]
dockerfile = "worker/Dockerfile"
memory = "400 MiB"
trust-host-ca = false

[clusters.steps]
name = "steps-dev"
nodes = 2
memory = "1.5 GiB"

[ports]
web = { host = 30051, node = 30051 }

[suites.hook]
cluster = "steps"
images = ["worker"]
test = { run = ["sh", "test.sh"], shard = ["{index}", "{total}"], junit = "report.xml" }

[[suites.hook.steps]]
name = "certs"
run = ["sh", "certs.sh"]

[[suites.hook.steps]]
name = "namespace"
apply = "k8s/namespace.yaml"

[[suites.hook.steps]]
name = "tls"
secret = { name = "tls", namespace = "hook", type = "kubernetes.io/tls", files = { "tls.crt" = "tls/tls.crt", "tls.key" = "tls/tls.key" } }
needs = ["certs", "namespace"]

[[suites.hook.steps]]
name = "program"
configmap = { name = "program", namespace = "hook", files = { "server.py" = "server.py" } }
needs = ["namespace"]

[[suites.hook.steps]]
name = "server"
apply = "k8s/server.yaml"
needs = ["tls", "program"]
wait = [
  { rollout = "deployment/web", timeout = "1m" },
  { http = "https://{web}/", ca = "tls/ca.crt", timeout = "30s" },
  { http = "https://{web}/", insecure = true, timeout = "30s" },
  { condition = "deployment/web=Progressing=True", timeout = "30s" },
  { tcp = "{web}" },
]

[[suites.hook.steps]]
name = "webhook"
run = ["sh", "register.sh"]
needs = ["server"]

[[suites.hook.steps]]
name = "chart"
helm = { chart = "chart", release = "one", namespace = "hook", values = ["values.yaml"] }
needs = ["webhook"]
wait = { rollout = "daemonset/one-sleeper", timeout = "1m" }

[suites.database]
cluster = "steps"
images = ["worker"]

[[suites.database.steps]]
name = "database"
apply = "k8s/database.yaml"
wait = { rollout = "deployment/database", timeout = "1m" }

[[suites.database.steps]]
name = "migrations"
apply = "k8s/migrations.yaml"
needs = ["database"]
wait = { job = "migrate", timeout = "1m" }
"#;

/// Makes a CA and a certificate, once; the key is worth keeping to oneself.
const CERTS: &str = r"
set -e
test ! -e tls/tls.crt || exit 0
mkdir -p tls && cd tls
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca 2>&1
openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=web 2>&1
printf 'subjectAltName=DNS:web.hook.svc,IP:127.0.0.1' > san
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.crt 2>&1
";

const REGISTER: &str = r#"
set -e
ca=$(base64 -w0 < tls/ca.crt)
kubectl apply --server-side -f - <<END
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration,
 metadata: {name: web}, webhooks: [{name: web.hook.test, sideEffects: None,
 admissionReviewVersions: [v1], failurePolicy: Fail, timeoutSeconds: 5,
 namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: hook}},
 clientConfig: {caBundle: "$ca", service: {name: web, namespace: hook, port: 443}},
 rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}]}
END
"#;

const SERVER: &str = r#"
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"ok")
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        response = {"uid": request["uid"], "allowed": request["name"] != "forbidden",
                    "status": {"message": "that name is forbidden"}}
        self.answer(json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"],
                                "response": response}).encode())
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

const TEST: &str = r#"
echo "shard $1 of $2, $XTASK_SHARD_INDEX/$XTASK_SHARD_TOTAL"
kubectl -n hook create configmap forbidden 2>&1 | grep 'that name is forbidden' || exit 1
kubectl -n hook create configmap fine && kubectl -n hook delete configmap fine || exit 1
echo '<testsuite tests="2" failures="0"/>' > report.xml
"#;

/// A pod on each node, and each node asks its own: a stand-in for the node image has no network
/// between nodes.
const SERVER_YAML: &str = "\
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: hook}, spec: {replicas: 2,
 selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {
 terminationGracePeriodSeconds: 1, topologySpreadConstraints: [{maxSkew: 1, topologyKey:
 kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}},
 matchLabelKeys: [pod-template-hash]}],
 tolerations: [{operator: Exists}], containers: [{name: main, image: worker,
 command: [python3, /program/server.py], readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1},
 volumeMounts: [{name: tls, mountPath: /tls}, {name: program, mountPath: /program}]}],
 volumes: [{name: tls, secret: {secretName: tls}}, {name: program, configMap: {name: program}}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: hook}, spec: {type: NodePort,
 internalTrafficPolicy: Local, externalTrafficPolicy: Local,
 selector: {app: web}, ports: [{port: 443, targetPort: 8443, nodePort: 30051}]}}
";

const CHART: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ .Release.Name }}-sleeper}
spec:
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: worker, command: [sleep, {{ .Values.seconds | quote }}]}]
";

const DATABASE: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: database}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: database, namespace: database}, spec: {
 selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {
 terminationGracePeriodSeconds: 1,
 containers: [{name: main, image: worker, command: [sleep, infinity]}]}}}}
";

const MIGRATIONS: &str = "\
{apiVersion: batch/v1, kind: Job, metadata: {name: migrate, namespace: database}, spec: {template: {
 spec: {restartPolicy: Never, containers: [{name: main, image: worker, command: ['true']}]}}}}
";

#[test]
#[ignore = "makes a kind cluster: cargo test -p xtask --test steps -- --ignored"]
fn steps_of_every_kind_on_a_cluster_of_two_nodes() {
    let world = World::new();
    a_webhook_gets_its_certificate_from_a_hook(&world);
    a_secret_is_noticed_when_it_changes_and_written_nowhere(&world);
    a_job_runs_again_when_its_database_was_emptied(&world);
}

struct World(Case);

impl World {
    fn new() -> Self {
        let dockerfile = "FROM docker.io/library/debian:bookworm-slim\nLABEL of=xtask-steps\nRUN \
                          apt-get update && apt-get install -y --no-install-recommends python3\n";
        let namespace = |name: &str| {
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n")
        };
        let case = Case::with_real_engine()
            .config(CONFIG)
            .file("worker/Dockerfile", dockerfile)
            .file("certs.sh", CERTS)
            .file("register.sh", REGISTER)
            .file("test.sh", TEST)
            .file("server.py", SERVER)
            .file("values.yaml", "seconds: infinity\n")
            .file("chart/Chart.yaml", "apiVersion: v2\nname: sleeper\nversion: 0.1.0\n")
            .file("chart/values.yaml", "seconds: 1\n")
            .file("chart/templates/sleeper.yaml", CHART)
            .file("k8s/namespace.yaml", &namespace("hook"))
            .file("k8s/server.yaml", SERVER_YAML)
            .file("k8s/database.yaml", DATABASE)
            .file("k8s/migrations.yaml", MIGRATIONS);
        Self(case)
    }

    fn e2e(&self, suite: &str, args: &[&str]) -> Ran {
        let ran = self.0.run(&[&["e2e", suite, "--format", "json"], args].concat());
        eprintln!("{suite}: exit {:?}\n{}", ran.code, ran.stderr);
        ran
    }

    fn ok(&self, suite: &str, args: &[&str]) -> Ran {
        let ran = self.e2e(suite, args);
        assert_eq!(ran.code, Some(0), "{}", ran.stdout);
        ran
    }

    fn kubectl(&self, args: &[&str]) -> bool {
        let kubeconfig = self.0.path("target/xtask/clusters/steps-dev/kubeconfig");
        let kubeconfig = kubeconfig.to_str().unwrap();
        self.0.tool("kubectl", &[&["--kubeconfig", kubeconfig], args].concat())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.0.run(&["cluster", "down", "hook"]);
        let plan = self.0.run(&["plan", "--format", "json"]).stdout;
        let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
        let tag = plan["images"][0]["tag"].as_str().unwrap_or_default();
        self.0.podman(&["rmi", "--force", tag]);
        assert!(NODES.iter().all(|node| !self.0.podman(&["container", "exists", node])));
    }
}

/// How a step was done: by its key, or `unchanged`.
fn action(ran: &Ran, step: &str) -> String {
    let events = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ended = events.filter(|one| one["event"] == "step-finished" && one["step"] == step);
    ended
        .next()
        .map(|one| one["action"].as_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

fn a_webhook_gets_its_certificate_from_a_hook(world: &World) {
    let ran = world.ok("hook", &["--keep", "--shard", "1/2"]);
    assert!(ran.stdout.contains("shard 1 of 2, 1/2"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\"passed\":2"), "the report's counts: {}", ran.stdout);
    let summary = ran.stdout.lines().last().unwrap();
    assert!(summary.contains("\"loaded\":1"), "one image, on both nodes: {summary}");
}

fn a_secret_is_noticed_when_it_changes_and_written_nowhere(world: &World) {
    let again = world.ok("hook", &["--keep"]);
    assert_eq!(action(&again, "tls"), "unchanged");
    assert_eq!(action(&again, "chart"), "unchanged");
    assert_eq!(action(&again, "certs"), "run");
    let key = fs_err::read_to_string(world.0.path("tls/tls.key")).unwrap();
    let line = key.lines().nth(1).unwrap().to_owned();
    world.0.write("tls/tls.key", &(key + "\n"));
    let changed = world.ok("hook", &["--keep", "--no-test"]);
    assert_eq!(action(&changed, "tls"), "secret");
    // In base64 its lines begin with these letters, whatever stands before them.
    let mut files = Vec::new();
    walk(&world.0.path("target"), &mut files);
    assert!(files.len() > 20, "{files:?}");
    for (path, text) in files {
        assert!(!text.contains(&line) && !text.contains("tls.key\":\"LS0t"), "{path}");
    }
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if let Ok(bytes) = fs_err::read(&path) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
}

fn a_job_runs_again_when_its_database_was_emptied(world: &World) {
    world.ok("database", &["--keep"]);
    let again = world.ok("database", &["--keep"]);
    assert_eq!(action(&again, "migrations"), "unchanged");
    let namespace = ["--namespace", "database"];
    assert!(world.kubectl(&[&namespace[..], &["delete", "pod", "--selector", "app=db"]].concat()));
    let emptied = world.ok("database", &["--keep"]);
    assert_eq!(action(&emptied, "database"), "unchanged");
    assert_eq!(action(&emptied, "migrations"), "apply");
}
