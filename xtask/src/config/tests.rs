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

fn read(text: &str) -> Result<Config, ConfigErrors> {
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
inputs = { cargo = "datastorage", also = ["db/*.sql"] }

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
    let also = vec!["db/*.sql".to_owned()];
    let inputs = Inputs::Cargo { package: "datastorage".to_owned(), also };
    assert_eq!(config.images["datastorage"].inputs, inputs);
    let suite = &config.suites["gateway"];
    assert_eq!(suite.steps.len(), 3);
    assert_eq!(suite.steps[2].waits[0].on, WaitFor::Rollout("deployment/postgresql".to_owned()));
    assert_eq!(suite.test.as_ref().unwrap().timeout, Duration::from_mins(10));
    assert_eq!(config.suite_ports(suite).len(), 1);
}

/// [`EXAMPLE`] in small, with a fault in every section.
const BAD: &str = r#"
[engine]
name = "dokcer"
reserve = "1"
turst-host-ca = true

[images.defaults]
timeout = "5m"
silence = "6m"

[images.api]
dockerfile = "images/gatewy/Dockerfile"
memroy = "2 GiB"
timeout = 15

[images.API]
dockerfile = "docker/Legacy.Dockerfile"
inputs = { cargo = "api", go = "./api" }
budget = {}

[images.redis]
[images.redis]

[policy]
registries = []

[clusters.main]
reuse = "always"

[ports]
web = { host = 8080, node = 8080 }
metrics = { host = 8080, node = 30081 }

[suites.gateway]
cluster = "mian"
images = ["api", "apo"]
test = { run = [], timeout = "1h" }

[[suites.gateway.steps]]
name = "a"
apply = "k8s/10-crd"
needs = ["b"]

[[suites.gateway.steps]]
name = "b"
run = ["true"]
needs = ["a", "c"]
wait = [{ rollout = "pod/b", job = "b" }, { http = "{wbe}/healthz", timeout = "40m" }]

[[suites.gateway.steps]]
name = "a"
image = ["api"]
"#;

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    insta::assert_snapshot!(message(BAD), @r#"
    failed to read the configuration: 30 faults
    xtask.toml:3: engine: `name` cannot be `dokcer`
    hint: did you mean `docker`?
    xtask.toml:4: engine: `reserve`: size `1` has no unit
    hint: write it like "1.5 GiB" or "500 MB"
    xtask.toml:5: engine: unknown key `turst-host-ca`
    hint: did you mean `trust-host-ca`?
    xtask.toml:9: images.defaults: `silence` of 6m is longer than the timeout of 5m
    xtask.toml:12: image `api`: `dockerfile`: there is no file `images/gatewy/Dockerfile`
    hint: did you mean `images/gateway/Dockerfile`?
    xtask.toml:13: image `api`: unknown key `memroy`
    hint: did you mean `memory`?
    xtask.toml:14: image `api`: `timeout` must be a string, not an integer
    xtask.toml:16: image `API`: not a name an image can have
    hint: small letters and digits, with `-`, `_` or `.` between them
    xtask.toml:17: image `API`: `dockerfile`: there is no file `docker/Legacy.Dockerfile`
    hint: did you mean `docker/legacy.Dockerfile`?
    xtask.toml:18: image `API`: inputs: exactly one key is needed
    hint: one of { cargo = "PACKAGE" } and { go = "./PATH" }
    xtask.toml:19: image `API`: budget: it limits nothing
    hint: write it like { files = 500, bytes = "5 MiB" }
    xtask.toml:22: `redis` is there twice
    hint: keep one of the two: a name stands for one thing
    xtask.toml:25: policy: `registries` is empty
    hint: leave the key out to allow all registries
    xtask.toml:28: cluster `main`: `reuse` cannot be `always`
    hint: the choices are `if-unchanged`, `never`
    xtask.toml:31: port `web`: node port 8080 is not from 30000 to 32767
    hint: 30000 to 30085 are never given to another service
    xtask.toml:32: port `metrics`: host port 8080 is that of port `web` (line 31)
    xtask.toml:35: suite `gateway`: `cluster` names `mian`, which is not among the clusters
    hint: did you mean `main`?
    xtask.toml:36: suite `gateway`: `images` names `apo`, which is not among the images
    hint: did you mean `api`?
    xtask.toml:37: suite `gateway`: test: `run` is empty
    hint: write it like ["cargo", "test"]
    xtask.toml:37: suite `gateway`: test: `timeout` of 1h is longer than the suite's timeout of 30m
    xtask.toml:40: suite `gateway`: steps that need each other: `a` needs `b` needs `a`
    xtask.toml:41: suite `gateway`: step `a`: `apply`: there is no file or folder `k8s/10-crd`
    hint: did you mean `k8s/10-crds`?
    xtask.toml:47: suite `gateway`: step `b`: `needs` names `c`, which is not among the steps
    hint: the steps are `a`, `b`
    xtask.toml:48: suite `gateway`: step `b`: wait 1: exactly one of `rollout`, `job`, `endpoint`, `http`, `tcp`, `condition` is needed
    xtask.toml:48: suite `gateway`: step `b`: wait 1: `pod/b` is nothing that rolls out
    hint: write it like "deployment/NAME", "statefulset/NAME" or "daemonset/NAME"
    xtask.toml:48: suite `gateway`: step `b`: wait 2: `wbe` is not among the ports
    hint: did you mean `web`?
    xtask.toml:48: suite `gateway`: step `b`: wait 2: `timeout` of 40m is longer than the suite's timeout of 30m
    xtask.toml:50: suite `gateway`: step `a`: exactly one of `apply`, `helm`, `secret`, `configmap`, `run` is needed
    hint: `apply` names manifests, `helm` a chart, `run` a command; `secret` and `configmap` are made of files
    xtask.toml:51: suite `gateway`: two steps are called `a` (the other: line 40)
    xtask.toml:52: suite `gateway`: step `a`: unknown key `image`
    hint: did you mean `images`?
    "#);
}

/// Each text has just the one fault.
fn assert_faults(before: &str, table: &[(&str, &str)]) {
    for (text, expected) in table {
        let message = message(&format!("{before}{text}"));
        assert!(message.contains(expected), "{text}\n{message}\nlacks: {expected}");
        assert!(message.contains(" 1 fault\n"), "{text}\n{message}");
    }
}

#[test]
fn single_faults_of_the_file() {
    assert_faults(
        "",
        &[
            ("x = 1", "xtask.toml:1: unknown key `x`"),
            ("[image.a]", "hint: did you mean `images`?"),
            ("[images.a", "xtask.toml:1: not valid TOML: "),
            ("[engine]\njobs = 0", "xtask.toml:2: engine: `jobs` is 0, which is not from 1 to"),
            ("[clusters.A]", "`A` is not a name a kind cluster can have"),
            ("[clusters.a]\n[clusters.b]\nname = 'a'", "`a` is what cluster `a` is called too"),
            ("[clusters.a]\nconfig = 'kind.yaml'", "`config`: there is no file `kind.yaml`"),
            ("[clusters.a]\ncontext = 'c'", "`context` belongs to `kubeconfig`"),
            ("[clusters.a]\nnodes = 0", "`nodes` is 0, which is not from 1 to 9"),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\nserver = 's'\nowner = 'o'",
                "xtask.toml:1: cluster `a`: a cluster that is there needs its `context` named",
            ),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'c'\nowner = 'o'",
                "a cluster that is there needs its `server` named",
            ),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'c'\nserver = 's'",
                "xtask.toml:1: cluster `a`: a cluster that is there needs its `owner` named",
            ),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'c'\n\
                 server = 's'\nowner = 'a b'",
                "xtask.toml:5: cluster `a`: `owner` is not a value a label can have",
            ),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'c'\n\
                 server = 's'\nowner = 'o'\nttl = '29m'\n[suites.s]\ncluster = 'a'",
                "the `ttl` of its cluster is over before the suite's timeout",
            ),
            (
                "[clusters.a]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'c'\n\
                 server = 's'\nowner = 'o'\nnodes = 2",
                "`nodes` belongs to a cluster that is made, not to one that is there",
            ),
            ("[ports]\na = { host = 1 }", "xtask.toml:2: port `a`: missing key `node`"),
            ("[ports]\na = { host = 70000, node = 30000 }", "`host` is 70000, which is not from"),
            ("[ports]\na = { host = 1, node = 40000 }", "port 40000 is not from 30000 to 32767"),
            ("[ports]\nA = { host = 1, node = 30000 }", "not a name a variable can be made of"),
            (
                "[ports]\na = { host = 1, node = 30000, cluster = 'c' }",
                "`cluster` names `c`, which is not among the clusters\nhint: there are no clusters",
            ),
            ("[suites.a]", "xtask.toml:1: suite `a`: missing key `cluster`"),
        ],
    );
}

#[test]
fn single_faults_of_an_image() {
    assert_faults(
        "[images]\n",
        &[
            ("redis = 1", "xtask.toml:2: `images`: image `redis` must be a table, not an integer"),
            ("redis.memory = '-1 GiB'", "`memory`: `-1 GiB` is not a size"),
            ("redis.timeout = '0s'", "xtask.toml:2: image `redis`: `timeout`: time `0s` is noth"),
            (
                "redis.timeout = '15m'\nredis.silence = '1h'",
                "`silence` of 1h is longer than the timeout of 15m",
            ),
            ("redis.context = 'k8'", "`context`: there is no folder `k8`"),
            ("redis.context = 'k8z'", "hint: did you mean `k8s`?"),
            ("redis.dockerfile = 'k8s'", "`dockerfile`: `k8s` is not a file"),
            ("redis.dockerfile = ''", "`dockerfile` is an empty string"),
            ("redis.dockerfile = 'image/redis/Dockerfile'", "mean `images/redis/Dockerfile`?"),
            ("redis.platform = 'linux'", "`linux` is not a platform"),
            ("redis.inputs = []", "`inputs` is empty"),
            ("redis.inputs = 'a'", "`inputs` must be a list of globs, { cargo"),
            ("redis.inputs = { go = '.', also = [] }", "`also` is empty"),
            ("redis.inputs = {}", "image `redis`: inputs: exactly one key is needed"),
            (
                "redis.inputs = { carg = 'a', go = 'b' }",
                "image `redis`: inputs: unknown key `carg`",
            ),
            ("redis.args = { A = 1 }", "`args`: `A` must be a string, not an integer"),
            ("redis.budget = { files = 0 }", "`files` is 0, which is not from 1 to"),
            ("redis.budget = { bytes = 5 }", "`bytes` must be a string, not an integer"),
            ("defaults.target = 'a'", "images.defaults: unknown key `target`"),
            ("new = {}", "image `new`: missing key `dockerfile`"),
            ("a--b_c = {}", "missing key `dockerfile`"),
            ("a- = { dockerfile = 'images/redis/Dockerfile' }", "not a name an image can have"),
            ("'a/b' = { dockerfile = 'images/redis/Dockerfile' }", "not a name an image can have"),
        ],
    );
}

#[test]
fn single_faults_of_a_suite() {
    assert_faults(
        "[clusters.c]\n[suites.s]\ncluster = 'c'\ntimeout = '1m'\n",
        &[
            ("test = {}", "xtask.toml:5: suite `s`: test: missing key `run`"),
            (
                "test = { run = ['a'], timeout = '2m' }",
                "xtask.toml:5: suite `s`: test: `timeout` of 2m is longer than the suite's timeout",
            ),
            (
                "test = { run = ['a'], shard = ['--half'] }",
                "suite `s`: test: `shard` says nothing of {index} or {total}",
            ),
            ("images = ['a']", "`images` names `a`, which is not among the images"),
            ("steps = {}", "suite `s`: `steps` must be a list of names or tables, not a table"),
            ("steps = [1]", "suite `s`: `steps` must be a table, not an integer"),
            ("steps = ['a']", "`steps` names `a`, which is not among the shared steps"),
            ("[suites.'a b']\ncluster = 'c'", "suite `a b`: not a name a log file can have"),
        ],
    );
}

#[test]
fn single_faults_of_the_cache() {
    assert_faults(
        "[cache]\nregistry = ",
        &[
            ("'https://host.example/x'", "leave out the scheme"),
            ("'me:secret@host.example/x'", "credentials are the engine's"),
            ("'team/x'", "xtask.toml:2: cache: `registry` is not one\nhint: write it like"),
            ("'Host.example'", "write it like"),
            ("'host.example:x/y'", "write it like"),
            ("'host.example/a/'", "write it like"),
            ("'localhost'\nmode = 'read'", "`mode` cannot be `read`"),
        ],
    );
    let cache = |text: &str| read(text).unwrap().cache;
    assert!(cache("").is_none() && cache("[cache]\nmode = 'read-write'").is_none());
    assert_eq!(
        cache("[cache]\nregistry = 'localhost:5000/a/b'").unwrap().mode,
        CacheMode::ReadOnly
    );
}

#[test]
fn single_faults_of_the_telemetry() {
    assert_faults(
        "[telemetry]\notlp = ",
        &[
            (
                "'localhost:4318'",
                "xtask.toml:2: telemetry: `otlp` is not the address of a collector",
            ),
            ("'https://host.example'", "can pass it on over TLS"),
            ("'http://me:secret@host.example'", "write it like"),
        ],
    );
    let otlp = |text: &str| read(text).unwrap().telemetry;
    assert_eq!(otlp("[telemetry]"), None);
    assert_eq!(otlp("[telemetry]\notlp = 'environment'"), Some(Otlp::Environment));
    let endpoint = "http://localhost:4318".to_owned();
    assert_eq!(otlp("[telemetry]\notlp = 'http://localhost:4318'"), Some(Otlp::Endpoint(endpoint)));
}

#[test]
fn single_faults_of_a_step() {
    assert_faults(
        "[clusters.c]\n[suites.s]\ncluster = 'c'\n[[suites.s.steps]]\n",
        &[
            ("apply = 'k8s'", "xtask.toml:4: suite `s`: step 1: missing key `name`"),
            ("name = 'a'", "step `a`: exactly one of `apply`, `helm`, `secret`, `config"),
            ("name = 'a'\napply = 'k8s'\nrun = ['a']", "exactly one of `apply`, `helm`,"),
            ("name = 'a'\napply = 'k9s'", "`apply`: there is no file or folder `k9s`"),
            ("name = 'a'\nrun = []", "xtask.toml:6: suite `s`: step `a`: `run` is empty"),
            ("name = 'a'\nrun = ['']", "`run` is an empty string"),
            ("name = 'a b'\nrun = ['a']", "not a name a log file can have"),
            ("name = 'a'\napply = 'k8s'\nimages-in = ['/spec']", "`/spec` is no way to a field"),
            (
                "name = 'a'\nrun = ['a']\nimages-in = ['spec.image']",
                "xtask.toml:7: suite `s`: step `a`: `images-in` is for steps with `apply` or `helm`",
            ),
            (
                "name = 'a'\nsecret = { name = 's', namespace = 'n' }",
                "xtask.toml:6: suite `s`: step `a`: secret: missing key `files`",
            ),
            (
                "name = 'a'\nsecret = { name = 's', files = { k = 'f' } }",
                "step `a`: secret: missing key `namespace`",
            ),
            (
                "name = 'a'\nsecret = { name = 's', namespace = 'n', files = { 'a/b' = 'f' } }",
                "`a/b` is not a key that data can have",
            ),
            (
                "name = 'a'\nconfigmap = { name = 'm', namespace = 'n', type = 't', files = {} }",
                "step `a`: configmap: unknown key `type`",
            ),
            (
                "name = 'a'\nhelm = { chart = 'k8z', release = 'r', namespace = 'n' }",
                "helm: `chart`: there is no file or folder `k8z`\nhint: did you mean `k8s`?",
            ),
        ],
    );
    assert_faults(
        "[clusters.c]\n[suites.s]\ncluster = 'c'\n[[suites.s.steps]]\nname = 'a'\nrun = ['a']\n",
        &[
            ("needs = ['a']", "steps that need each other: `a` needs `a`"),
            ("needs = ['b']", "`needs` names `b`, which is not among the steps"),
            ("timeout = '2h'", "`timeout` of 2h is longer than the suite's timeout of 30m"),
            ("images = ['x']", "which is not among the images of the suite"),
        ],
    );
}

#[test]
fn single_faults_of_a_wait() {
    assert_faults(
        "[ports]\nweb = { host = 1, node = 30000 }\n\
         far = { host = 2, node = 30001, cluster = 'd' }\n[clusters.c]\n[clusters.d]\n\
         [suites.s]\ncluster = 'c'\n[[suites.s.steps]]\nname = 'a'\nrun = ['a']\nwait = ",
        &[
            ("[]", "`wait` is empty"),
            ("1", "`wait` must be a list of tables, not an integer"),
            ("'nothing'", "`wait` cannot be `nothing`"),
            ("{}", "wait: exactly one of `rollout`, `job`, "),
            ("{ job = 'j', endpoint = 'e' }", "wait: exactly one of `rollout`, `job`, "),
            ("[{ job = 'j' }, { jop = 'j', tcp = 'a:1' }]", "wait 2: unknown key `jop`"),
            ("{ job = 'j', timeout = '31m' }", "`timeout` of 31m is longer than the suite's"),
            ("{ job = 'j', status = 200 }", "`status` belongs to `http`"),
            ("{ http = '{web}', status = 99 }", "`status` is 99, which is not from 100 to 599"),
            ("{ rollout = 'web' }", "`web` is nothing that rolls out"),
            ("{ condition = 'pod/x' }", "`pod/x` is not a condition"),
            ("{ http = 'web/healthz' }", "`web/healthz` is not a URL"),
            ("{ http = '{web' }", "`{web`: a `{` is not closed"),
            ("{ http = '{wbe}/' }", "`wbe` is not among the ports\nhint: did you mean `web`?"),
            ("{ http = '{far}/' }", "port `far` is cluster `d`'s"),
            ("{ http = 'https://{web}' }", "wait: https needs one of `ca` and `insecure = true`"),
            ("{ http = 'https://{web}', ca = 'a', insecure = true }", "https needs one of `ca`"),
            ("{ http = '{web}', insecure = true }", "`ca` and `insecure` belong to https"),
            ("{ condition = 'pod/x=Ready=no' }", "`pod/x=Ready=no` is not a condition"),
            ("{ tcp = 'web' }", "`web` is not an address"),
            ("{ tcp = 'web:0' }", "`web:0` is not an address"),
        ],
    );
}

#[test]
fn a_bad_port_is_still_a_known_name() {
    let message = message(
        "[ports]\nweb = { host = 1, node = 1 }\nb = { host = 0, node = 30000 }\n[clusters.c]\n\
         [suites.s]\ncluster = 'c'\n[[suites.s.steps]]\nname = 'a'\nrun = ['a']\n\
         wait = [{ http = '{web}' }, { http = '{b}' }]",
    );
    assert!(message.contains(" 2 faults\n"), "{message}");
}

#[test]
fn a_circle_is_named_from_its_own_start() {
    let step = |name: &str, need: &str| {
        format!("[[suites.s.steps]]\nname = '{name}'\nrun = ['a']\nneeds = ['{need}']\n")
    };
    let steps = [("in", "b"), ("a", "c"), ("b", "a"), ("c", "b")];
    let steps: String = steps.iter().map(|(name, need)| step(name, need)).collect();
    let message = message(&format!("[clusters.c]\n[suites.s]\ncluster = 'c'\n{steps}"));
    let expected = "xtask.toml:13: suite `s`: steps that need each other: \
                    `b` needs `a` needs `c` needs `b`";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn what_cannot_be_read_is_a_fault_of_usage() {
    let folder = workspace();
    let file = folder.path().join("other.toml");
    let missing = load(Some(&file)).unwrap_err();
    assert_eq!(crate::error::code(&missing), Exit::Usage);
    assert!(format!("{missing:#}").contains("other.toml"), "{missing:#}");
    fs_err::write(&file, "x = 1").unwrap();
    let faulty = load(Some(&file)).unwrap_err();
    assert_eq!(crate::error::code(&faulty), Exit::Usage);
    assert!(faulty.to_string().contains("other.toml:1: unknown key `x`"), "{faulty}");
    fs_err::write(&file, "").unwrap();
    assert!(load(Some(&file)).unwrap().images.is_empty());
}

/// The waits of a step that has these.
fn waits(wait: &str) -> Vec<WaitFor> {
    let text = format!(
        "[clusters.c]\n[ports]\nweb = {{ host = 1, node = 30000 }}\n[suites.s]\ncluster = \"c\"\n\
         [[suites.s.steps]]\nname = \"a\"\nrun = [\"a\"]\nwait = {wait}"
    );
    let config = read(&text).unwrap_or_else(|faults| panic!("{faults}"));
    config.suites["s"].steps[0].waits.iter().map(|wait| wait.on.clone()).collect()
}

#[test]
fn every_form_of_wait() {
    let http = |url: &str, status| WaitFor::Http { url: url.to_owned(), status, trust: None };
    let https = |status, trust| WaitFor::Http {
        url: "https://{web}/".to_owned(),
        status,
        trust: Some(trust),
    };
    let condition = |status: &str| WaitFor::Condition {
        object: "pod/x".to_owned(),
        condition: "Ready".to_owned(),
        status: status.to_owned(),
    };
    for (text, expected) in [
        ("{ rollout = \"daemonset/x\" }", WaitFor::Rollout("daemonset/x".to_owned())),
        ("{ job = \"x\" }", WaitFor::Job("x".to_owned())),
        ("{ endpoint = \"x\" }", WaitFor::Endpoint("x".to_owned())),
        ("{ http = \"{web}/healthz\" }", http("{web}/healthz", 200)),
        ("{ http = \"https://{web}/\", status = 404, insecure = true }", https(404, Trust::Any)),
        (
            "{ http = \"https://{web}/\", ca = \"/k/ca.crt\" }",
            https(200, Trust::Ca("/k/ca.crt".into())),
        ),
        ("{ tcp = \"{web}\" }", WaitFor::Tcp("{web}".to_owned())),
        ("{ tcp = \"localhost:80\" }", WaitFor::Tcp("localhost:80".to_owned())),
        ("{ condition = \"pod/x=Ready\" }", condition("True")),
        ("{ condition = \"pod/x=Ready=False\" }", condition("False")),
    ] {
        assert_eq!(waits(text), [expected], "{text}");
    }
    assert_eq!(waits("[{ job = \"x\" }, { endpoint = \"y\" }]").len(), 2);
}

#[test]
fn rollouts_are_waited_for_unless_the_step_says_otherwise() {
    let rollouts = |wait: &str| {
        let text = format!(
            "[clusters.c]\n[suites.s]\ncluster = 'c'\n[[suites.s.steps]]\nname = 'a'\n\
             run = ['a']\n{wait}"
        );
        let config = read(&text).unwrap_or_else(|faults| panic!("{faults}"));
        let step = &config.suites["s"].steps[0];
        (step.rollouts.map(|limit| limit.as_secs()), step.waits.len())
    };
    for (wait, expected) in [
        ("", (Some(120), 0)),
        ("wait = 'none'", (None, 0)),
        ("wait = { job = 'j' }", (Some(120), 1)),
        ("wait = { job = 'j', timeout = '5s' }", (Some(5), 1)),
        ("wait = [{ job = 'j', timeout = '5s' }, { job = 'k', timeout = '3m' }]", (Some(180), 2)),
    ] {
        assert_eq!(rollouts(wait), expected, "{wait}");
    }
}

#[test]
fn restarts_are_a_warning_or_a_failure() {
    let restarts = |text: &str| {
        read(&format!("[clusters.c]\n[suites.s]\ncluster = 'c'\n{text}"))
            .map(|config| config.suites["s"].restarts)
    };
    assert_eq!(restarts("").unwrap(), Restarts::Warn);
    assert_eq!(restarts("restarts = 'fail'").unwrap(), Restarts::Fail);
    let ConfigErrors(faults) = restarts("restarts = 'never'").unwrap_err();
    assert!(faults[0].message.contains("`restarts` cannot be `never`"), "{}", faults[0].message);
}

#[test]
fn a_cluster_that_is_there_is_used_as_it_is() {
    let text = |images: &str| {
        format!(
            "[clusters.lab]\nkubeconfig = 'k8s/10-crds/crds.yaml'\ncontext = 'lab'\n\
             server = 'https://10.0.0.1:6443'\naddress = '10.0.0.7'\nowner = 'team'\n[ports]\n\
             web = {{ host = 1, node = 30001 }}\n[images.redis]\n[suites.s]\n\
             cluster = 'lab'\nimages = [{images}]\n"
        )
    };
    let config = read(&text("")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.clusters["lab"].memory, 0);
    assert_eq!(config.addresses(&config.suites["s"])["web"].to_string(), "10.0.0.7:30001");
    let message = message(&text("'redis'"));
    assert!(message.contains("has its `images` from a registry"), "{message}");
    let cache = "[cache]\nregistry = 'registry.lab:5000'";
    assert_eq!(read(&(text("'redis'") + cache)).unwrap().suites["s"].images, ["redis"]);
}

#[test]
fn a_default_yields_to_a_shorter_limit_and_causes_no_fault() {
    let config = read(
        "[images.redis]\ntimeout = '1m'\n[clusters.c]\n[suites.s]\ncluster = 'c'\ntimeout = '1m'\n\
         test = { run = ['a'] }\n[[suites.s.steps]]\nname = 'a'\nrun = ['a']\n\
         wait = { job = 'j' }",
    )
    .unwrap();
    let minute = Duration::from_mins(1);
    let suite = &config.suites["s"];
    assert_eq!(config.images["redis"].silence, minute);
    assert_eq!(suite.test.as_ref().unwrap().timeout, minute);
    assert_eq!(suite.steps[0].timeout, minute);
    assert_eq!(suite.steps[0].waits[0].timeout, minute);
}

#[test]
fn an_image_stands_on_the_defaults() {
    let config = read(
        "[images.defaults]\nargs = { A = '1', B = '1' }\nexclude = ['x']\nmemory = '2 GiB'\n\
         [images.redis]\nargs = { B = '2' }\n[images.gateway]\nexclude = []",
    )
    .unwrap();
    let redis = &config.images["redis"];
    assert_eq!(redis.args.values().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(
        (redis.exclude.patterns.as_slice(), redis.exclude.defaults),
        (&["x".to_owned()][..], true)
    );
    assert_eq!(redis.memory, 2 << 30);
    let none = &config.images["gateway"].exclude;
    assert!(none.patterns.is_empty() && !none.defaults && none.own.is_some());
}

#[test]
fn ports_of_different_clusters_may_be_the_same() {
    let ports = |a: &str, b: &str| {
        format!(
            "[clusters.c]\n[clusters.d]\n[ports]\na = {{ host = 1, node = 30000{a} }}\n\
             b = {{ host = 1, node = 30000{b} }}\n[suites.s]\ncluster = \"d\""
        )
    };
    let (c, d) = (", cluster = \"c\"", ", cluster = \"d\"");
    let config = read(&ports(c, d)).unwrap();
    let open = config.suite_ports(&config.suites["s"]);
    assert_eq!(open.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["b"]);
    for (a, b) in [(c, c), ("", ""), (c, ""), ("", d)] {
        let message = message(&ports(a, b));
        let expected = "xtask.toml:5: port `b`: host port 1 is that of port `a` (line 4)";
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_port_has_another_host_port_in_each_cluster() {
    let clusters = "[clusters.c]\n[clusters.d]\n[suites.s]\ncluster = 'd'\n[ports]\n";
    let config =
        read(&format!("{clusters}a = {{ host = {{ c = 1, d = 2 }}, node = 30000 }}")).unwrap();
    let open = config.suite_ports(&config.suites["s"]);
    assert_eq!(open.iter().map(|port| (port.host, port.node)).collect::<Vec<_>>(), [(2, 30000)]);
    assert_faults(
        clusters,
        &[
            ("a = { host = {}, node = 30000 }", "`host` is empty"),
            ("a = { host = { e = 1 }, node = 30000 }", "`host` names `e`, which is not among"),
            ("a = { host = { c = 0 }, node = 30000 }", "port `a`: host: `c` is 0, which is not"),
            ("a = { host = { c = 1 }, node = 30000, cluster = 'c' }", "leave `cluster` out"),
            (
                "a = { host = { c = 1, d = 2 }, node = 30000 }\n\
                 b = { host = 2, node = 30001 }",
                "port `b`: host port 2 is that of port `a` (line 6)",
            ),
        ],
    );
}

/// Two clusters, a port of each, an image, and two steps that suites may share.
const SHARED: &str = "[images.redis]\n[clusters.c]\n[clusters.d]\n[ports]\n\
    far = { host = 1, node = 30000, cluster = 'd' }\n\
    [steps.base]\nrun = ['a']\nimages = ['redis']\n\
    [steps.top]\nrun = ['a']\nneeds = ['base']\nwait = { job = 'j', timeout = '10m' }\n\
    [steps.far]\nrun = ['a']\nwait = { http = '{far}/' }\n";

#[test]
fn suites_share_steps_by_name() {
    let own = "{ name = 'own', run = ['b'], needs = ['top'] }";
    let config = read(&format!(
        "{SHARED}[suites.one]\ncluster = 'c'\nimages = ['redis']\nsteps = ['base', 'top', {own}]\n\
         [suites.two]\ncluster = 'd'\nimages = ['redis']\nsteps = ['far', 'base']\n"
    ))
    .unwrap_or_else(|faults| panic!("{faults}"));
    let names = |suite: &str| {
        let steps = config.suites[suite].steps.iter();
        steps.map(|step| step.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("one"), ["base", "top", "own"]);
    assert_eq!(names("two"), ["far", "base"]);
    let base = |suite: &str, at: usize| format!("{:?}", config.suites[suite].steps[at]);
    assert_eq!(base("one", 0), base("two", 1));
}

#[test]
fn a_suite_lists_all_that_its_shared_steps_need() {
    let suite = format!("{SHARED}[suites.s]\ncluster = 'c'\n");
    assert_faults(
        &suite,
        &[
            (
                "images = ['redis']\nsteps = ['top']",
                "suite `s`: step `top` needs `base`, which the suite does not list\n\
                 hint: add \"base\" to its `steps`",
            ),
            (
                "steps = ['base']",
                "step `base` needs image `redis`, which the suite does not list\n\
                 hint: add \"redis\" to its `images`",
            ),
            ("steps = ['bsae']", "`steps` names `bsae`, which is not among the shared steps\nhint"),
            ("images = ['redis']\nsteps = ['base', 'base']", "two steps are called `base`"),
            ("steps = ['far']", "step `far`: wait: port `far` is cluster `d`'s"),
            (
                "images = ['redis']\nsteps = ['base', 'top']\ntimeout = '5m'",
                "step `top`: wait: `timeout` of 10m is longer than suite `s`'s timeout of 5m",
            ),
        ],
    );
}

#[test]
fn a_fault_of_a_shared_step_is_told_once_whoever_lists_it() {
    let step = "[clusters.c]\n[steps.a]\napply = 'k9s'\n";
    let suite = |name: &str| format!("[suites.{name}]\ncluster = 'c'\nsteps = ['a']\n");
    for suites in [String::new(), suite("s"), suite("s") + &suite("t")] {
        let expected = "xtask.toml:3: step `a`: `apply`: there is no file or folder `k9s`";
        assert_faults(step, &[(&suites, expected)]);
    }
    for (text, expected) in [
        ("nmae = 1\nrun = ['a']", "step `a`: unknown key `nmae`"),
        ("name = 'a'\nrun = ['a']", "step `a`: unknown key `name`"),
        ("run = ['a']\nneeds = ['b']", "`needs` names `b`, which is not among the steps"),
        ("run = ['a']\nimages = ['b']", "`images` names `b`, which is not among the images of"),
        ("run = ['a']\nwait = { http = '{b}' }", "`b` is not among the ports"),
    ] {
        assert_faults("[clusters.c]\n[steps.a]\n", &[(text, expected)]);
    }
    let circle = "[steps.a]\nrun = ['a']\nneeds = ['b']\n[steps.b]\nrun = ['a']\nneeds = ['a']\n";
    let message =
        message(&format!("{circle}[clusters.c]\n[suites.s]\ncluster = 'c'\nsteps = ['b', 'a']\n"));
    assert!(message.contains("xtask.toml:10: suite `s`: steps that need each other"), "{message}");
}

/// A folder in which `defaults.toml` is valid.
fn beside_defaults() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["images/example/Dockerfile", "k8s/web.yaml", "kind.yaml"] {
        let path = folder.path().join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, "").unwrap();
    }
    folder
}

const DEFAULTS: &str = include_str!("defaults.toml");

#[test]
fn defaults_toml_shows_the_defaults() {
    let folder = beside_defaults();
    let read = |text: &str| parse(text, &folder.path().join("xtask.toml"));
    let shown = read(DEFAULTS).unwrap_or_else(|faults| panic!("{faults}"));
    let left_out = read(
        "[images.example]\n[clusters.example]\n[ports]\nweb = { host = 30080, node = 30080 }\n\
         [suites.example]\ncluster = \"example\"\ntest = { run = [\"cargo\", \"test\"] }\n\
         [[suites.example.steps]]\nname = \"web\"\napply = \"k8s\"\n\
         wait = { http = \"{web}/healthz\" }\n\
         [[builders]]\nname = \"large\"\npodman = \"unix:///run/podman/podman.sock\"",
    );
    let told = |config: &Config| {
        let text = format!("{config:#?}");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("line: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&shown), told(&left_out.unwrap()));
}

/// `defaults.toml` with the keys that have no default, too.
fn everything() -> String {
    let key = |line: &str| {
        line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).is_some_and(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        })
    };
    DEFAULTS
        .lines()
        .map(|line| if key(line) { &line[2..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn what_defaults_toml_shows_as_optional_is_valid() {
    let folder = beside_defaults();
    let config = parse(&everything(), &folder.path().join("xtask.toml"))
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.images["example"].target.as_deref(), Some("release"));
    assert_eq!(config.engine.jobs, Some(2));
}

#[test]
fn defaults_toml_knows_every_key() {
    let seeded: Vec<String> = everything()
        .lines()
        .map(|line| if line.starts_with('[') { format!("{line}\nzzzzzz = 1") } else { line.into() })
        .collect();
    let seeded = seeded.join("\n");
    let folder = beside_defaults();
    let ConfigErrors(faults) = parse(&seeded, &folder.path().join("xtask.toml")).unwrap_err();
    let tables = DEFAULTS.lines().filter(|line| line.starts_with('[')).count();
    assert_eq!(faults.len(), tables, "every table reports an unknown key");
    let words: Vec<&str> =
        DEFAULTS.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    for fault in faults {
        let hint = fault.hint.unwrap();
        for key in hint.split('`').skip(1).step_by(2) {
            assert!(words.contains(&key), "`{key}` of {}", fault.message);
        }
    }
}

#[test]
fn exceptions_of_lint_need_a_reason() {
    let allow = |entry: &str| format!("[images.gateway]\n[[lint.allow]]\n{entry}");
    let config = read(&allow("rule = 'no-cache'\npath = 'ci/**/*.sh'\nreason = 'weekly'")).unwrap();
    let [exception] = &config.allow[..] else { panic!("{config:?}") };
    assert_eq!((exception.rule, exception.line), (Rule::NoCache, 2));
    for (file, covered) in
        [("ci/a/b.sh", true), ("ci/b.sh", true), ("b.sh", false), ("ci/b.sh.txt", false)]
    {
        assert_eq!(exception.covers(file), covered, "{file}");
    }
    let folder = read(&allow("rule = 'no-cache'\npath = './ci/'\nreason = 'x'")).unwrap();
    assert!(folder.allow[0].covers("ci/a/b.sh") && !folder.allow[0].covers("cib"));
    for (entry, told) in [
        ("rule = 'no-cache'\npath = 'a'", "xtask.toml:2: lint: exception 1: missing key `reason`"),
        (
            "rule = 'no-cache'\npath = 'a'\nreason = ' '",
            "5: lint: exception 1: `reason` says nothing",
        ),
        ("rule = 'nocache'\npath = 'a'\nreason = 'x'", "hint: did you mean `no-cache`?"),
        ("rule = 'no-cache'\npath = '['\nreason = 'x'", "4: lint: exception 1: `path`: "),
    ] {
        let message = message(&allow(entry));
        assert!(message.contains(told) && message.contains(": 1 fault\n"), "{message}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// The text with lines dropped, doubled, swapped, garbled and added to.
    fn mangled() -> impl Strategy<Value = String> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..5, ".{0,4}"), 1..6);
        edits.prop_map(|edits| {
            let mut lines: Vec<String> = BAD.lines().map(str::to_owned).collect();
            for (index, edit, noise) in edits {
                let at = index.index(lines.len());
                match edit {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[at].clone()),
                    2 => lines.swap(at, 0),
                    3 => lines[at] = lines[at].chars().step_by(2).collect(),
                    _ => lines[at].push_str(&noise),
                }
            }
            lines.join("\n")
        })
    }

    fn every_fault_is_in_the_file(text: &str) {
        if let Err(ConfigErrors(faults)) = parse(text, Path::new("/nowhere/xtask.toml")) {
            assert!(!faults.is_empty());
            for fault in faults {
                let lines = text.lines().count().max(1);
                assert!((1..=lines).contains(&fault.line), "{fault} of {lines} lines");
                assert!(fault.column >= 1);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,60}") {
            every_fault_is_in_the_file(&text);
        }

        #[test]
        fn a_mangled_file_is_read_or_refused(text in mangled()) {
            every_fault_is_in_the_file(&text);
        }
    }
}

#[test]
fn a_builder_is_reached_in_one_way_and_has_a_name_of_its_own() {
    let config = read(
        "[images.gateway]\n[engine]\nbuilds = false\n\
         [[builders]]\nname = 'a'\npodman = 'ssh://ci@build-1/run/podman.sock'\nmemory = '4 GiB'\n\
         [[builders]]\nname = 'b'\npodman = 'lab'\njobs = 3\n\
         [[builders]]\nname = 'c'\ndocker = 'remote'\n\
         [[builders]]\nname = 'd'\ndocker = 'tcp://build-2:2376'\n\
         [[builders]]\nname = 'e'\nbuildkit = 'tcp://build-3:1234'\nmemory = '8 GiB'",
    )
    .unwrap();
    let told: Vec<_> = config.builders.iter().map(|one| (&*one.name, &one.at)).collect();
    let url = BuilderAt::PodmanUrl("ssh://ci@build-1/run/podman.sock".to_owned());
    let connection = BuilderAt::PodmanConnection("lab".to_owned());
    let context = BuilderAt::DockerContext("remote".to_owned());
    let host = BuilderAt::DockerUrl("tcp://build-2:2376".to_owned());
    let buildkit = BuilderAt::BuildKit("tcp://build-3:1234".to_owned());
    let expected =
        [("a", &url), ("b", &connection), ("c", &context), ("d", &host), ("e", &buildkit)];
    assert_eq!(told, expected);
    assert_eq!((config.builders[0].memory, config.builders[1].jobs), (Some(4 << 30), Some(3)));
    let ConfigErrors(faults) = read(
        "[images.gateway]\n\
         [[builders]]\nname = 'a'\n\
         [[builders]]\nname = 'a'\npodman = 'x'\ndocker = 'y'\n\
         [[builders]]\nname = 'local'\npodman = 'ssh://me:secret@host/s'\n\
         [[builders]]\nname = 'b'\nbuildkit = 'tcp://build-3:1234'",
    )
    .unwrap_err();
    let told: Vec<String> =
        faults.iter().map(|fault| format!("{} {}", fault.line, fault.message)).collect();
    assert_eq!(
        told,
        [
            "2 builder 1: does not say where it is",
            "5 builder 2: the name `a` is taken",
            "7 builder 2: `docker` and `podman` are both given",
            "9 builder 3: the name `local` is taken",
            "10 builder 3: `podman` holds a password",
            "11 builder 4: does not say what its builds may hold",
        ]
    );
    let alone = read("[images.gateway]\n[engine]\nbuilds = false").unwrap_err();
    assert!(alone.to_string().contains("builds nothing"), "{alone}");
}
