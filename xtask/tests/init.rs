//! `cargo xtask init`: what it drafts is what `plan` takes, and nothing is ever overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::Case;

/// A shop of two services in one module, one with a context of its own, and how it is deployed.
fn shop() -> Case {
    Case::new()
        .file("go.mod", "module shop.test\n\ngo 1.24\n")
        .file("cmd/cart/main.go", "package main\n\nfunc main() {}\n")
        .file(
            "docker/cart.Dockerfile",
            "FROM golang:1.24 AS build\nCOPY go.mod ./\nCOPY . .\nRUN go build -o /cart ./cmd/cart\n\
             FROM scratch\nCOPY --from=build /cart /cart\n",
        )
        .file("src/web/Dockerfile", "FROM nginx:1\nCOPY *.html /srv/\nCOPY nginx.conf /etc/\n")
        .file("src/web/index.html", "<p>")
        .file("src/web/nginx.conf", "")
        .file("src/ads/Dockerfile", "ARG BASE\nFROM ${BASE}\n")
        .file("target/Dockerfile", "FROM scratch\n")
        .file(".gitignore", "target/\n")
        .file(
            "k8s/10-cart/cart.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart}\nspec:\n  template:\n    \
             spec:\n      containers: [{name: cart, image: cart}]\n---\napiVersion: v1\nkind: Service\n\
             metadata: {name: cart}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30050}]}\n",
        )
        .file(
            "k8s/20-web/web.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    \
             spec:\n      containers: [{name: web, image: hub.test/web:1}]\n",
        )
        .file(
            "kind.yaml",
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  \
             extraPortMappings:\n  - {containerPort: 30050, hostPort: 30059}\n",
        )
}

#[test]
fn the_draft_is_what_was_seen_and_plan_takes_it() {
    let case = shop();
    let ran = case.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.contains("2 images") && ran.stderr.contains("src/ads/Dockerfile"),
        "{ran:?}"
    );
    let text = fs_err::read_to_string(case.path("xtask.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let cart = config["images"]["cart"].as_table().unwrap();
    assert_eq!(cart["dockerfile"].as_str(), Some("docker/cart.Dockerfile"));
    assert!(!cart.contains_key("context"), "{text}");
    assert_eq!(cart["inputs"]["go"].as_str(), Some("./cmd/cart"));
    assert_eq!(config["images"]["web"]["context"].as_str(), Some("src/web"));
    assert_eq!(config["images"].as_table().unwrap().len(), 2);
    assert_eq!(config["ports"]["cart"]["host"].as_integer(), Some(30059));
    let suite = config["suites"].as_table().unwrap().values().next().unwrap();
    let steps: Vec<_> =
        suite["steps"].as_array().unwrap().iter().map(|step| step["apply"].as_str()).collect();
    assert_eq!(steps, [Some("k8s/10-cart"), Some("k8s/20-web")]);
    assert!(text.contains("`hub.test/web:1` stays what it is"), "{text}");
    let plan = case.run(&["plan", "--format", "json"]);
    assert_eq!(plan.code, Some(0), "{plan:?}\n{text}");
}

#[test]
fn nothing_is_overwritten() {
    let case = shop().config("# mine\n");
    let ran = case.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("`xtask.toml` is there already\nhint: "), "{ran:?}");
    assert_eq!(fs_err::read_to_string(case.path("xtask.toml")).unwrap(), "# mine\n");
    let ran = case.run(&["init", "--print"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("[images.cart]"), "{ran:?}");
}

#[test]
fn without_a_dockerfile_there_is_nothing_to_draft() {
    let case = Case::new().file("README.md", "");
    let ran = case.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(!case.path("xtask.toml").exists());
}

#[test]
fn without_a_configuration_init_is_named() {
    let ran = Case::new().run(&["plan"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("hint: cargo xtask init"), "{ran:?}");
}

#[test]
fn every_verb_has_a_man_page() {
    let case = Case::new();
    let ran = case.run(&["man", "man1"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let page = |name: &str| fs_err::read_to_string(case.path("man1").join(name)).unwrap();
    for verb in ["e2e", "images", "plan", "context", "lint", "init", "doctor", "man"] {
        assert!(page(&format!("xtask-{verb}.1")).contains("Example"), "{verb}");
    }
    assert!(page("xtask.1").contains("xtask\\-e2e(1)"));
}
