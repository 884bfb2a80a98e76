//! `cargo xtask lint` over a repository seeded with one of each finding: all are found, at their
//! places, and none beside them. Every seed has an innocent twin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::Case;

/// Two suites, each with its cluster and port, and nothing to be found.
fn sound() -> Case {
    Case::new()
        .config(CONFIG)
        .file(
            "api/Dockerfile",
            "ARG VERSION=bookworm-slim\nFROM debian:${VERSION} AS base\nFROM base\nCOPY src /src\n",
        )
        .file("web/Dockerfile", "FROM docker.io/library/debian:12\nCOPY . /web\n")
        .file("api/src/main.c", "int main;")
        .file("api/.dockerignore", "**/*.md\n")
        .file("api/.env", "not sent: nothing copies it")
        .file("web/.env.example", "PASSWORD=")
        .file("web/tls.pem", "-----BEGIN CERTIFICATE-----")
        .file("web/index.html", "<p>")
        .file("web/Cargo.toml", "[package]\nname = 'web'\n")
        .file("k8s/api/kustomization.yaml", "resources: [api.yaml]\n")
        .file("k8s/api/api.yaml", API)
        .file("k8s/web.yaml", WEB)
        .file("k8s/unlisted.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: x}]}\n")
        .file("Makefile", "# never --no-cache\nimages:\n\tdocker build .\n")
        .file("ci.sh", "apk add --no-cache curl\n")
        .file(".github/workflows/ci.yml", "jobs: {}\n")
}

const CONFIG: &str = "\
[images.api]
dockerfile = 'api/Dockerfile'
context = 'api'
[images.web]
dockerfile = 'web/Dockerfile'
context = 'web'
exclude = []
[policy]
registries = ['docker.io/library/debian', 'registry.test/approved/']
[clusters.api]
[clusters.web]
[ports]
api = { host = 30050, node = 30050, cluster = 'api' }
web = { host = 30051, node = 30051, cluster = 'web' }
[suites.api]
cluster = 'api'
images = ['api']
steps = [{ name = 'api', apply = 'k8s/api' }]
[suites.web]
cluster = 'web'
images = ['web']
steps = [{ name = 'web', apply = 'k8s/web.yaml' }]
";

const API: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  template:
    spec:
      initContainers:
      - image: registry.test/approved/wait:1
      containers:
      - name: api
        image: api
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  type: NodePort
  ports: [{port: 80, nodePort: 30050}]
";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: web
        image: web:latest
        imagePullPolicy: Never
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ports:
  - port: 80
    nodePort: 30051
";

/// `rule file:line` of every finding, sorted.
fn findings(case: &Case) -> Vec<String> {
    let ran = case.run(&["lint", "--format", "json"]);
    let report: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let findings = report["findings"].as_array().unwrap();
    let is_passed = findings.iter().all(|finding| finding["severity"] == "hint");
    assert_eq!(ran.code, Some(i32::from(!is_passed)), "{ran:?}");
    assert_eq!(report["ok"], is_passed);
    let told = findings.iter().map(|finding| {
        for key in ["reason", "mend", "severity"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        format!("{} {}:{}", text("rule"), text("file"), finding["line"])
    });
    told.collect()
}

#[test]
fn nothing_is_found_where_nothing_is() {
    assert_eq!(findings(&sound()), [""; 0]);
    let ran = sound().run(&["lint"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
}

/// One seed: a file, what to replace in it (all of it, if that is empty) and by what.
type Seed = (&'static str, &'static str, &'static str);

const SEEDS: [(Seed, &[&str]); 33] = [
    // Base images.
    (
        ("api/Dockerfile", "FROM debian:${VERSION}", "FROM quay.io/x/${VERSION}:1"),
        &["base-registry api/Dockerfile:2"],
    ),
    (
        ("api/Dockerfile", "COPY src /src", "COPY --from=debian-evil:1 /a /b\nCOPY src /src"),
        &["base-registry api/Dockerfile:4"],
    ),
    (
        (
            "api/Dockerfile",
            "COPY src /src",
            "COPY src /src\nRUN --mount=from=quay.io/x/y:1,target=/m true",
        ),
        &["base-registry api/Dockerfile:5"],
    ),
    (
        ("api/Dockerfile", "ARG VERSION", "# syntax=docker/dockerfile:1\nARG VERSION"),
        &["base-registry api/Dockerfile:1"],
    ),
    (("web/Dockerfile", "debian:12", "debian:latest"), &["unpinned-base web/Dockerfile:1"]),
    (("web/Dockerfile", "debian:12", "debian"), &["unpinned-base web/Dockerfile:1"]),
    (
        ("k8s/api/api.yaml", "approved/wait:1", "approved/wait"),
        &["unpinned-base k8s/api/api.yaml:8"],
    ),
    // Ports.
    (("xtask.toml", "web = { host = 30051", "web = { host = 30050"), &["port-twice xtask.toml:14"]),
    (("xtask.toml", "30050, cluster = 'api'", "30050"), &["port-twice xtask.toml:13"]),
    (
        ("k8s/api/api.yaml", "[{port: 80, nodePort: 30050}]", "\n  - nodePort: 30060\n"),
        &["nodeport-unlisted k8s/api/api.yaml:19"],
    ),
    (
        ("k8s/web.yaml", "nodePort: 30051", "nodePort: 30050"),
        &["nodeport-unlisted k8s/web.yaml:19"],
    ),
    // Pull policies and names.
    (("k8s/web.yaml", "Never", "Always"), &["pull-policy k8s/web.yaml:10"]),
    (("k8s/web.yaml", "        imagePullPolicy: Never\n", ""), &["pull-policy k8s/web.yaml:9"]),
    (("k8s/web.yaml", "image: web:latest", "image: wob"), &["image-unknown k8s/web.yaml:9"]),
    (("k8s/web.yaml", "image: web:latest", "image: api"), &["image-unknown k8s/web.yaml:9"]),
    (
        (
            "k8s/api/kustomization.yaml",
            "resources",
            "images: [{name: api, newName: wob}]\nresources",
        ),
        &["image-unknown k8s/api/api.yaml:11"],
    ),
    (
        ("k8s/web.yaml", "image: web:latest", "image: quay.io/us/web:1"),
        &["image-unknown k8s/web.yaml:9"],
    ),
    (
        ("k8s/web.yaml", "      - name: web", "      - args: [--image=web]\n        name: web"),
        &["image-unset k8s/web.yaml:8"],
    ),
    (
        ("k8s/api/api.yaml", "---", "---\napiVersion: x/v1\nkind: X\nspec:\n  image: api\n---"),
        &["image-unset k8s/api/api.yaml:16"],
    ),
    // Contexts.
    (("web/.env", "", "PASSWORD=x"), &["context-secret web/.env:1"]),
    (("web/tls.pem", "CERTIFICATE", "PRIVATE KEY"), &["context-secret web/tls.pem:1"]),
    (("web/dev/kubeconfig", "", "apiVersion: v1"), &["context-secret web/dev/kubeconfig:1"]),
    (("api/src/id_ed25519", "", "key"), &["context-secret api/src/id_ed25519:1"]),
    (("web/.git/HEAD", "", "ref: x"), &["context-junk web/.git/HEAD:1"]),
    (("web/node_modules/a/b.js", "", ""), &["context-junk web/node_modules/a/b.js:1"]),
    (("web/target/debug/web", "", "ELF"), &["context-junk web/target/debug/web:1"]),
    // Scripts.
    (("Makefile", "docker build .", "docker build --no-cache ."), &["no-cache Makefile:3"]),
    (("ci.sh", "", "podman build \\\n  --no-cache .\n"), &["no-cache ci.sh:2"]),
    (
        (".github/workflows/ci.yml", "", "jobs:\n  a:\n    with:\n      no-cache: true\n"),
        &["no-cache .github/workflows/ci.yml:4"],
    ),
    (("justfile", "", "all:\n    podman build --no-cache .\n"), &["no-cache justfile:2"]),
    // What could be kept.
    (
        ("web/Dockerfile", "COPY . /web\n", "COPY . /web\nRUN true \\\n && cargo build\n"),
        &["cache-mount web/Dockerfile:3"],
    ),
    // What cannot be checked, and what is no exception.
    (("k8s/web.yaml", "apiVersion: apps/v1", "{{ if .Values }}: ["), &["unreadable k8s/web.yaml:"]),
    (
        (
            "xtask.toml",
            "[policy]",
            "[[lint.allow]]\nrule = 'no-cache'\npath = 'ci.sh'\nreason = 'x'\n[policy]",
        ),
        &["unused-exception xtask.toml:8"],
    ),
];

fn sow(case: &Case, (file, old, new): Seed) {
    let text = if old.is_empty() {
        new.to_owned()
    } else {
        let text = fs_err::read_to_string(case.path(file)).unwrap();
        assert!(text.contains(old), "{file} has no `{old}`");
        text.replace(old, new)
    };
    case.write(file, &text);
}

#[test]
fn every_seed_is_found_and_nothing_beside_it() {
    for (seed, expected) in SEEDS {
        let case = sound();
        sow(&case, seed);
        let found = findings(&case);
        let alike = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(one, other)| one == other || other.ends_with(':') && one.starts_with(other));
        assert!(alike, "{seed:?}: {found:?} instead of {expected:?}");
    }
}

/// Seeds that do not hide each other, at once.
#[test]
fn all_are_found_together_the_most_harmful_first() {
    let case = sound();
    let chosen = [0, 4, 7, 9, 11, 15, 19, 23, 26, 27].map(|at| SEEDS[at]);
    let mut expected = Vec::new();
    for (seed, findings) in chosen {
        sow(&case, seed);
        expected.extend(findings.iter().map(|finding| (*finding).to_owned()));
    }
    assert_eq!(findings(&case), expected);
}

/// What git tracks was put there by somebody who looked at it.
#[test]
fn what_git_tracks_is_no_junk_and_a_committed_key_of_tests_no_secret() {
    let key = "-----BEGIN PRIVATE KEY-----";
    let case = sound()
        .file("web/dist/app.js", &"x".repeat(2 << 20))
        .file("web/testdata/server.log", "a run")
        .file("web/testdata/tls.pem", key)
        .file("web/tls/ca.pem", key);
    let all = [
        "context-secret web/testdata/tls.pem:1",
        "context-secret web/tls/ca.pem:1",
        "context-junk web/dist/app.js:1",
        "context-junk web/testdata/server.log:1",
    ];
    assert_eq!(findings(&case), all);
    assert!(case.tool("git", &["init", "--quiet"]));
    assert_eq!(findings(&case), all, "not tracked");
    assert!(case.tool("git", &["add", "."]));
    assert_eq!(findings(&case), all[1..2]);
}

/// kind opens an equal port once; two that differ are two.
#[test]
fn a_port_of_the_users_kind_configuration_that_ports_names_too_is_one() {
    let with = |node: u16| {
        let mapping = format!("- {{containerPort: {node}, hostPort: 30050}}");
        let case = sound().file(
            "kind.yaml",
            &format!(
                "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  \
                 extraPortMappings:\n  {mapping}\n"
            ),
        );
        case.write(
            "xtask.toml",
            &CONFIG.replace("[clusters.api]", "[clusters.api]\nconfig = 'kind.yaml'"),
        );
        findings(&case)
    };
    assert_eq!(with(30050), [""; 0]);
    assert_eq!(with(30060), ["port-twice xtask.toml:14"]);
}

/// A database is whoever's it is, as long as it has a version.
#[test]
fn an_image_of_others_is_a_finding_only_without_a_version_or_if_it_looks_like_ours() {
    let with = |image: &'static str| {
        let case = sound();
        sow(&case, ("k8s/api/api.yaml", "registry.test/approved/wait:1", image));
        findings(&case)
    };
    for fine in ["registry.test/wait:1", "postgres:16", "quay.io/x/y@sha256:ab"] {
        assert_eq!(with(fine), [""; 0], "{fine}");
    }
    for unpinned in ["postgres", "registry.test/wait:latest"] {
        assert_eq!(with(unpinned), ["unpinned-base k8s/api/api.yaml:8"], "{unpinned}");
    }
}

#[test]
fn an_exception_covers_its_rule_and_path_only() {
    let case = sound().file("web/.env", "x").file("web/b/.env", "x");
    let allow = |path: &str| {
        format!("{CONFIG}[[lint.allow]]\nrule = 'context-secret'\npath = '{path}'\nreason = 'x'\n")
    };
    case.write("xtask.toml", &allow("web/b"));
    assert_eq!(findings(&case), ["context-secret web/.env:1"]);
    case.write("xtask.toml", &allow("**/.env"));
    assert_eq!(findings(&case), [""; 0]);
}

#[test]
fn forms_for_people_and_forges() {
    let case = sound().file("web/.env", "x");
    let ran = case.run(&["lint"]);
    assert_eq!(ran.code, Some(1));
    let expected = "web/.env:1: error: an environment file is sent to the build of `web` \
        (`web/Dockerfile`, line 2) [context-secret]\n  mend: add `.env` to `web/.dockerignore`\n";
    assert_eq!(ran.stdout, expected);
    let ran = case.run(&["lint", "--format", "github"]);
    assert!(ran.stdout.starts_with("::error file=web/.env,line=1,title=context-secret::"));
    let ran = case.run(&["lint", "--format", "sarif"]);
    let log: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "context-secret");
    let ran = case.run(&["plan", "--format", "sarif"]);
    assert_eq!(ran.code, Some(2));
}

#[test]
fn where_it_does_not_look_it_says_so() {
    let case = sound().file("chart/Chart.yaml", "name: web\nversion: 0.1.0\n");
    case.write(
        "xtask.toml",
        &CONFIG.replace(
            "apply = 'k8s/web.yaml'",
            "helm = { chart = 'chart', release = 'web', namespace = 'web' }",
        ),
    );
    let ran = case.ok(&["lint"]);
    let note = "note: not looked at: step `web` of suite `web` (a chart)";
    assert!(ran.stderr.lines().any(|line| line == note), "{ran:#?}");
}

#[test]
fn a_fault_of_the_configuration_is_one_of_usage() {
    let case = sound().config("[[lint.allow]]\nrule = 'no-cache'\npath = 'x'\nreason = ''\n");
    let ran = case.run(&["lint"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("xtask.toml:4: "), "{ran:?}");
}
