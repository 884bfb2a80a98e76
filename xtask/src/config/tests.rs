//! The reader as a whole: design.md's example, a file with a fault in every corner, single faults.

use super::*;

/// A folder with everything the example names.
fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "images/gateway/Dockerfile",
        "images/datastorage/Dockerfile",
        "images/postgresql/Dockerfile",
        "images/redis/Dockerfile",
        "docker/legacy.Dockerfile",
        "k8s/10-crds/crds.yaml",
        "k8s/20-namespace/namespace.yaml",
        "k8s/30-postgresql/postgresql.yaml",
    ] {
        let path = folder.path().join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, "").unwrap();
    }
    folder
}

fn read(text: &str) -> Result<Config, Faults> {
    let folder = workspace();
    parse(text, &folder.path().join("xtask.toml"))
}

/// The message without the folder the file lies in.
fn message(text: &str) -> String {
    let folder = workspace();
    let faults = parse(text, &folder.path().join("xtask.toml")).unwrap_err();
    faults.to_string().replace(&format!("{}/", folder.path().display()), "")
}

const EXAMPLE: &str = r#"
[engine]
name = "auto"
reserve = "1 GiB"
trust-host-ca = true

[images.defaults]
context = "."
memory = "1.5 GiB"
timeout = "15m"
exclude = ["**/vendor/", "**/target/"]

[images.gateway]                  # inputs: read from the Dockerfile
dockerfile = "images/gateway/Dockerfile"

[images.datastorage]
dockerfile = "images/datastorage/Dockerfile"
inputs = { cargo = "datastorage" }

[images.postgresql]
[images.redis]

[images.legacy]
dockerfile = "docker/legacy.Dockerfile"
inputs = ["go.mod", "pkg/**"]
args = { GOFLAGS = "-mod=mod" }
budget = { files = 500, bytes = "5 MiB" }

[policy]
registries = ["docker.io/library/debian", "registry.access.redhat.com/ubi9/"]

[clusters.gateway]
name = "gateway-e2e"
node-image = "docker.io/kindest/node:v1.34.4"
reuse = "if-unchanged"

[ports]
gateway = { host = 30080, node = 30080 }

[suites.gateway]
cluster = "gateway"
images = ["gateway", "datastorage", "postgresql", "redis"]
test = { run = ["cargo", "test", "--package", "gateway-e2e"], timeout = "10m" }

[[suites.gateway.steps]]
name = "crds"
apply = "k8s/10-crds"

[[suites.gateway.steps]]
name = "namespace"
apply = "k8s/20-namespace"

[[suites.gateway.steps]]
name = "postgresql"
apply = "k8s/30-postgresql"
needs = ["namespace"]
wait = { rollout = "deployment/postgresql", timeout = "2m" }
"#;

#[test]
fn the_example_of_the_design_is_valid() {
    let config = read(EXAMPLE).unwrap_or_else(|faults| panic!("{faults}"));
    let legacy = &config.images["legacy"];
    assert_eq!(legacy.inputs, Inputs::Globs(vec!["go.mod".to_owned(), "pkg/**".to_owned()]));
    assert_eq!(legacy.budget.unwrap().bytes, Some(5 << 20));
    assert_eq!(legacy.memory, 3 << 29);
    assert_eq!(legacy.context, config.root);
    assert_eq!(legacy.dockerfile, config.root.join("docker/legacy.Dockerfile"));
    assert!(!config.images.contains_key("defaults"));
    assert_eq!(config.images["datastorage"].inputs, Inputs::Cargo("datastorage".to_owned()));
    let suite = &config.suites["gateway"];
    assert_eq!(suite.steps.len(), 3);
    assert_eq!(suite.steps[2].waits[0].on, WaitFor::Rollout("deployment/postgresql".to_owned()));
    assert_eq!(suite.test.as_ref().unwrap().timeout, Duration::from_mins(10));
    assert_eq!(config.suite_ports(suite).len(), 1);
}
