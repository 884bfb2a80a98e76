//! Whose kubeconfig is opened: a run's own and the one that the configuration names, never the
//! user's; and what a kubeconfig of the repository may run. A program stands in the place of
//! kubectl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::{Case, Ran};

const LOGIN: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: 'https://10.0.0.1:6443'}}]
contexts: [{name: lab, context: {cluster: lab, user: me}}]
users:
- name: me
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}
";

const SHARED: &str = "\
[images.api]
dockerfile = 'Dockerfile'
[clusters.lab]
kubeconfig = 'kc'
context = 'lab'
server = 'https://10.0.0.1:6443'
owner = 'team'
[suites.s]
cluster = 'lab'
test = { run = ['true'] }
";

fn shared(kubeconfig: &str) -> Case {
    let case = Case::with_cluster().config(SHARED).file("kc", kubeconfig);
    case.tell_engine("kubeconfig", kubeconfig);
    case
}

/// What a cluster was asked, and each login for it.
fn questions(case: &Case) -> Vec<String> {
    let asked = case.calls("");
    let told = |line: &String| line.starts_with("kubectl ") || line.starts_with("login");
    let alone = |line: &String| line.contains(" config ") || line.contains("/dev/null");
    asked.into_iter().filter(told).filter(|line| !alone(line)).collect()
}

#[test]
fn no_command_but_a_run_logs_in_by_a_command_of_the_kubeconfig() {
    for form in [LOGIN.to_owned(), LOGIN.replace("exec: {", "auth-provider: {name: gcp, ")] {
        let case = shared(&form);
        let status = case.run(&["cluster", "status", "s"]);
        assert_eq!(status.code, Some(1), "{status:#?}");
        assert!(status.stdout.contains("not asked") && status.stdout.contains("to log in"));
        for command in [&["plan"][..], &["plan", "--suite", "s"], &["why", "api"], &["lint"]] {
            case.run(command);
        }
        assert_eq!(questions(&case), Vec::<String>::new(), "{form}");
        // A run may: it is what the user asked for.
        case.run(&["cluster", "up", "s"]);
        assert!(questions(&case).contains(&"login".to_owned()));
    }
}

#[test]
fn a_shared_cluster_is_asked_a_few_times_at_most() {
    let case = shared(LOGIN.split("users:").next().unwrap());
    let status = case.ok(&["cluster", "status", "s"]);
    assert!(status.stdout.contains("running"), "{status:#?}");
    assert_eq!(questions(&case).len(), 1);
    case.tell_engine("silent", "");
    assert_eq!(case.run(&["cluster", "status", "s"]).code, Some(3));
    let asked = questions(&case).len();
    assert!((1..=4).contains(&asked), "{asked} questions");
}

fn not_astray(case: &Case, args: &[&str]) -> Ran {
    let ran = case.run_with(args, |command| {
        command
            .env("KUBECONFIG", "/somebody/elses")
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .env("KUBERNETES_SERVICE_PORT", "443")
            .env("KUBERNETES_MASTER", "http://10.0.0.9")
    });
    let log = fs_err::read_to_string(case.engine("log")).unwrap_or_default();
    let astray: Vec<&str> = log.lines().filter(|line| line.starts_with("astray")).collect();
    assert_eq!(astray, Vec::<&str>::new(), "{args:?}");
    ran
}

#[test]
fn no_kubectl_is_led_to_another_cluster_than_the_runs() {
    let steps = "\
[[suites.s.steps]]
name = 'base'
apply = 'k8s'
[[suites.s.steps]]
name = 'password'
secret = { name = 'p', namespace = 'web', files = { p = 'f' } }
needs = ['base']
";
    let case = Case::with_cluster().file("k8s/a.yaml", "kind: Namespace\n");
    case.write("xtask.toml", &format!("{}{steps}", support::cluster::CONFIG));
    let plan = not_astray(&case, &["plan", "--suite", "s"]);
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    assert!(fs_err::read_to_string(case.engine("log")).unwrap().contains("kustomize"));
    for command in ["up", "status", "down"] {
        let ran = not_astray(&case, &["cluster", command, "s"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
}
