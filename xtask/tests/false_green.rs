//! A pass is a pass of these bits: runs of the whole command line on the bench, and which image
//! answered their tests.
//!
//! Neither podman nor a cluster is needed; `kubectl` is, to render manifests. The rounds of the
//! random test are `XTASK_BENCH_ROUNDS`, its seed `XTASK_BENCH_SEED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[path = "support/bench/mod.rs"]
mod bench;
mod support;

use bench::cluster::Cluster;
use bench::{Bench, Moment, WEB};
use serde_json::{Value, json};

const ROLLOUT: &str = "wait = { rollout = 'deployment/web' }";

/// A step that applies `k8s/NAME.yaml`.
fn step(name: &str, rest: &str) -> String {
    format!("[[suites.s.steps]]\nname = '{name}'\napply = 'k8s/{name}.yaml'\n{rest}\n")
}

fn hook(name: &str, script: &str) -> String {
    format!("[[suites.s.steps]]\nname = '{name}'\nrun = ['sh', '-c', '''{script}''']\n")
}

/// A Deployment of somebody else's image, as it is in this round.
fn database(round: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: db, namespace: default}}\nspec:\n  \
         selector: {{matchLabels: {{app: db}}}}\n  template:\n    \
         metadata: {{labels: {{app: db}}, annotations: {{round: '{round}'}}}}\n    \
         spec: {{containers: [{{name: db, image: 'docker.io/library/db:1', readinessProbe: {{tcpSocket: {{port: 1}}}}}}]}}\n"
    )
}

/// [`WEB`] with more in its container, and more documents.
fn web_with(container: &str, documents: &str) -> String {
    let container = container.replace('\n', "\n        ");
    let web =
        WEB.replace("        image: web\n", &format!("        image: web\n        {container}\n"));
    format!("{web}---\n{documents}")
}

fn config_map(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: cfg, namespace: default}}\ndata: {{key: '{value}'}}\n"
    )
}

const READS_CFG: &str = "envFrom: [{configMapRef: {name: cfg}}]";

// ---- waits, and the image that is tested

#[test]
fn a_fresh_an_unchanged_and_a_changed_run_are_right_and_an_unchanged_one_asks_little() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.green(&[]);
    bench.green(&[]);
    let (calls, looks) = (bench.calls(), bench.looks());
    let verbs: Vec<&str> = calls.iter().map(|call| call.split(' ').next().unwrap()).collect();
    assert!(verbs.len() <= 3 && verbs.iter().all(|verb| *verb == "get"), "{calls:#?}");
    assert!(looks <= 3, "for the step, before the tests and after them: {looks}");
    bench.serve("2");
    bench.green(&[]);
}

#[test]
fn an_unchanged_run_asks_no_more_than_it_must() {
    let (http, tcp) = ("wait = { http = '{web}/' }", "wait = { tcp = '{web}' }");
    let map = "[[suites.s.steps]]\nname = 'cfg'\n\
               configmap = { name = 'cfg', namespace = 'default', files = { key = 'cfg.txt' } }\n";
    let others = step("db", "") + &step("job", "wait = { job = 'migrate' }") + map;
    let endpoint = "wait = [{ endpoint = 'web' }, { condition = 'deployment/web=Available' }]";
    let cases = [
        step("web", ""),
        step("web", http),
        step("web", tcp),
        step("web", endpoint),
        step("web", ROLLOUT) + &others,
    ];
    std::thread::scope(|threads| {
        for steps in cases {
            threads.spawn(move || {
                let bench = Bench::new(&steps);
                bench.case.write("k8s/db.yaml", &database(0));
                bench.case.write("k8s/job.yaml", &job("web"));
                bench.case.write("cfg.txt", "1");
                bench.green(&[]);
                bench.green(&[]);
                // The API server's readiness; what is kept, once more if that was a while ago.
                let calls = bench.calls();
                let is_get = |call: &String| call.starts_with("get ");
                assert!(calls.len() <= 3 && calls.iter().all(is_get), "{steps}: {calls:#?}");
                // For each step and wait, before the tests, and after them; a slow machine cannot
                // share.
                let most = 3 + steps.matches("apply = ").count() + steps.matches("= '").count();
                assert!(bench.looks() <= most, "{steps}: {} looks", bench.looks());
            });
        }
    });
}

/// Kept cluster, changed image, whatever the wait: the new image answers.
fn the_new_image_answers(wait: &str) {
    let bench = Bench::new(&step("web", wait));
    bench.green(&[]);
    for text in ["2", "3"] {
        bench.serve(text);
        bench.green(&[]);
    }
}

#[test]
fn the_new_image_answers_after_rollout() {
    the_new_image_answers(ROLLOUT);
}

#[test]
fn the_new_image_answers_after_http() {
    the_new_image_answers("wait = { http = '{web}/' }");
}

#[test]
fn the_new_image_answers_after_tcp() {
    the_new_image_answers("wait = { tcp = '{web}' }");
}

#[test]
fn the_new_image_answers_after_endpoint() {
    the_new_image_answers("wait = { endpoint = 'web' }");
}

#[test]
fn the_new_image_answers_after_a_condition() {
    the_new_image_answers("wait = { condition = 'deployment/web=Available' }");
}

#[test]
fn the_new_image_answers_without_a_wait() {
    the_new_image_answers("");
}

/// The other step waits, and takes looks, until an object has been applied.
fn db_waits_until(bench: &Bench, applied: &str) {
    bench.cluster(|cluster| cluster.unready.insert("db".to_owned()));
    bench.when(Moment::Applied(applied.to_owned()), |cluster| cluster.unready.clear());
}

/// The step's apply comes back right behind a look that another step's wait took: it shows the
/// state before.
fn a_look_before_the_apply_says_nothing(wait: &str) {
    let bench =
        Bench::new(&(step("db", "wait = { rollout = 'deployment/db' }") + &step("web", wait)));
    bench.case.write("k8s/db.yaml", &database(0));
    bench.green(&[]);
    bench.case.write("k8s/db.yaml", &database(1));
    bench.serve("2");
    bench.cluster(|cluster| cluster.pace.start = 3);
    db_waits_until(&bench, "web");
    bench.write_after_a_look("web");
    bench.green(&[]);
}

#[test]
fn a_look_before_the_apply_does_not_end_a_rollout() {
    a_look_before_the_apply_says_nothing(ROLLOUT);
}

#[test]
fn a_look_before_the_apply_does_not_end_a_wait_for_an_endpoint() {
    a_look_before_the_apply_says_nothing("wait = { endpoint = 'web' }");
}

#[test]
fn a_look_before_the_apply_does_not_end_a_wait_for_a_condition() {
    a_look_before_the_apply_says_nothing("wait = { condition = 'deployment/web=Available' }");
}

#[test]
fn a_look_before_the_apply_does_not_end_a_wait_for_a_job() {
    let steps = step("db", "wait = { rollout = 'deployment/db' }")
        + &step("migrate", "wait = { job = 'migrate' }")
        + &step("web", "wait = { http = '{web}/' }");
    let bench = Bench::new(&steps);
    bench.case.write("k8s/migrate.yaml", &job("web"));
    bench.case.write("k8s/db.yaml", &database(0));
    bench.green(&[]);
    bench.case.write("k8s/db.yaml", &database(1));
    bench.case.write("k8s/migrate.yaml", &job("web").replace("value: a", "value: b"));
    bench.cluster(|cluster| cluster.pace.job = 6);
    db_waits_until(&bench, "migrate");
    // The apply is refused, since a Job's template cannot be changed: the look is right before its
    // deletion.
    bench.write_after_a_look("migrate");
    bench.write_after_a_look("migrate");
    let complete = bench.at_test(|cluster| is_complete(cluster, "migrate"));
    bench.green(&[]);
    assert_eq!(*complete.lock().unwrap(), Some(true), "it was done when the tests began");
}

#[test]
fn a_wait_for_one_workload_of_a_step_waits_for_the_others_too() {
    let bench = Bench::new(&step("web", "wait = { rollout = 'deployment/db' }"));
    bench.case.write("k8s/web.yaml", &format!("{WEB}---\n{}", database(0)));
    bench.green(&[]);
    bench.serve("2");
    bench.green(&[]);
}

#[test]
fn a_port_that_accepts_before_there_is_a_pod_is_no_answer() {
    let bench = Bench::new(&step("web", "wait = { tcp = '{web}' }"));
    bench.set(|state| state.pace.start = 4);
    bench.green(&[]);
}

#[test]
fn pods_of_the_last_revision_that_are_still_ending_are_waited_for() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.set(|state| state.pace.end = 3);
    bench.green(&[]);
    bench.serve("2");
    bench.green(&[]);
}

/// [`WEB`] as another kind.
fn web_as(kind: &str, more: &str) -> String {
    let web = WEB.replace("kind: Deployment", &format!("kind: {kind}"));
    web.replace("spec:\n  selector: {match", &format!("spec:\n  {more}\n  selector: {{match"))
}

#[test]
fn the_new_image_answers_of_every_kind_of_workload() {
    let pod = WEB
        .replace("apiVersion: apps/v1\nkind: Deployment", "apiVersion: v1\nkind: Pod")
        .replace("namespace: default}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers:\n      - name: web\n        image: web\n        readiness", "namespace: default, labels: {app: web}}\nspec:\n  containers:\n  - name: web\n    image: web\n    readiness");
    assert!(pod.contains("labels: {app: web}}\nspec:\n  containers"), "{pod}");
    let cases = [
        web_as("StatefulSet", "serviceName: web"),
        web_as("DaemonSet", "minReadySeconds: 0"),
        web_as("Deployment", "strategy: {type: Recreate}"),
        web_as("Deployment", "replicas: 3"),
        pod,
    ];
    std::thread::scope(|threads| {
        for web in cases {
            threads.spawn(move || {
                let bench = Bench::new(&step("web", ""));
                bench.case.write("k8s/web.yaml", &web);
                for text in ["1", "2"] {
                    bench.serve(text);
                    bench.green(&[]);
                }
            });
        }
    });
}

#[test]
fn pods_of_what_no_step_applies_any_more_answer_no_test() {
    let bench = Bench::new(&step("web", ""));
    bench.green(&[]);
    bench.serve("2");
    bench.cluster(|cluster| cluster.pace.garbage = 4);
    let renamed = WEB.replacen("name: web, namespace", "name: site, namespace", 1);
    bench.case.write("k8s/web.yaml", &renamed);
    bench.green(&[]);
}

#[test]
fn a_container_that_took_another_image_from_the_node_is_not_ready() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.green(&[]);
    bench.cluster(|cluster| {
        let tag = cluster.images.keys().next().unwrap().clone();
        cluster.images.insert(tag, "e".repeat(64));
        cluster.crash("web");
        (0..2).for_each(|_| cluster.tick());
    });
    bench.right(&[]);
}

// ---- what was built is what runs

#[test]
fn another_image_of_the_same_key_is_what_runs() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.case.tell_engine("mode", "unrepeatable");
    bench.green(&[]);
    let before = bench.asked()[0].built.clone();
    bench.green(&["--force"]);
    assert_ne!(bench.asked()[0].built, before, "the build made another image");
}

#[test]
fn an_image_that_was_lost_and_built_again_is_what_runs() {
    let bench = Bench::new(&step("web", "wait = { http = '{web}/' }"));
    bench.case.tell_engine("mode", "unrepeatable");
    bench.green(&[]);
    let before = bench.asked()[0].built.clone();
    for folder in ["images", "tags"] {
        fs_err::remove_dir_all(bench.case.engine(folder)).unwrap();
    }
    bench.green(&[]);
    assert_ne!(bench.asked()[0].built, before, "the build made another image");
}

// ---- what changed is applied

fn job(image: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: migrate, namespace: default}}\nspec:\n  template:\n    \
         spec:\n      restartPolicy: Never\n      \
         containers: [{{name: migrate, image: {image}, env: [{{name: A, value: a}}]}}]\n"
    )
}

/// The Job with the map `cfg`.
fn job_of_map() -> String {
    job("web").replace("env: [{name: A, value: a}]", READS_CFG)
}

fn is_complete(cluster: &mut Cluster, job: &str) -> bool {
    let job = cluster.objects.get("Job", "default", job);
    let conditions = job.and_then(|job| job["status"]["conditions"].as_array());
    conditions.into_iter().flatten().any(|one| one["type"] == "Complete")
}

#[test]
fn a_job_runs_again_when_a_map_beside_it_changed() {
    let bench = Bench::new(&(step("job", "wait = { job = 'migrate' }") + &step("web", ROLLOUT)));
    for value in ["one", "two", "three"] {
        bench.case.write("k8s/job.yaml", &format!("{}---\n{}", config_map(value), job_of_map()));
        let complete = bench.at_test(|cluster| is_complete(cluster, "migrate"));
        bench.green(&[]);
        let (_, with, _) = bench.cluster(|cluster| cluster.jobs.last().unwrap().clone());
        assert_eq!(with["configmap/cfg"]["key"], value, "what the Job last worked with");
        assert_eq!(*complete.lock().unwrap(), Some(true), "it was done when the tests began");
    }
    let before = bench.cluster(|cluster| cluster.jobs.len());
    bench.green(&[]);
    assert_eq!(bench.cluster(|cluster| cluster.jobs.len()), before, "unchanged: not run again");
}

#[test]
fn a_job_that_failed_is_made_anew() {
    let bench = Bench::new(&(step("job", "wait = { job = 'migrate' }") + &step("web", ROLLOUT)));
    bench.case.write("k8s/job.yaml", &job("web"));
    bench.green(&[]);
    bench.serve("2");
    bench.cluster(|cluster| cluster.failing.insert("migrate".to_owned()));
    assert_eq!(bench.e2e(&[]).code, Some(1));
    bench.cluster(|cluster| cluster.failing.clear());
    bench.green(&[]);
}

/// Another step's map or secret changed; the workload itself did not.
fn what_is_read_at_the_start_is_as_it_is_now(
    reads: &str,
    what: &str,
    make: impl Fn(&str) -> String,
) {
    let config = "[[suites.s.steps]]\nname = 'cfg'\n".to_owned();
    let bench = Bench::new("");
    bench.case.write("k8s/web.yaml", &web_with(reads, "").replace("---\n---", "---"));
    for value in ["one", "two", "three"] {
        let steps =
            config.clone() + &make(value) + &step("web", &format!("needs = ['cfg']\n{ROLLOUT}"));
        bench.case.write("k8s/cfg.yaml", &config_map(value));
        bench.case.write("cfg.txt", value);
        bench.steps(&steps);
        bench.green(&[]);
        let answered = bench.answered("config");
        let wanted = if what.starts_with("secret") { base64(value) } else { value.to_owned() };
        assert_eq!(answered[what]["key"], wanted, "{answered}");
    }
}

/// Of the three words that are used.
fn base64(text: &str) -> String {
    match text {
        "one" => "b25l",
        "two" => "dHdv",
        _ => "dGhyZWU=",
    }
    .to_owned()
}

#[test]
fn a_changed_map_of_another_step_is_what_pods_have() {
    what_is_read_at_the_start_is_as_it_is_now(READS_CFG, "configmap/cfg", |_| {
        "apply = 'k8s/cfg.yaml'\n".to_owned()
    });
}

#[test]
fn a_changed_map_of_files_is_what_pods_have() {
    let reads = "env: [{name: KEY, valueFrom: {configMapKeyRef: {name: cfg, key: key}}}]";
    what_is_read_at_the_start_is_as_it_is_now(reads, "configmap/cfg", |_| {
        "configmap = { name = 'cfg', namespace = 'default', files = { key = 'cfg.txt' } }\n"
            .to_owned()
    });
}

#[test]
fn a_changed_secret_of_files_is_what_pods_have() {
    let reads = "envFrom: [{secretRef: {name: cfg}}]";
    what_is_read_at_the_start_is_as_it_is_now(reads, "secret/cfg", |_| {
        "secret = { name = 'cfg', namespace = 'default', files = { key = 'cfg.txt' } }\n".to_owned()
    });
}

#[test]
fn a_changed_map_of_the_same_step_is_what_pods_have() {
    let bench = Bench::new(&step("web", ROLLOUT));
    for value in ["one", "two"] {
        bench.case.write("k8s/web.yaml", &web_with(READS_CFG, &config_map(value)));
        bench.green(&[]);
        assert_eq!(bench.answered("config")["configmap/cfg"]["key"], value);
    }
}

#[test]
fn what_a_hook_deleted_is_applied_again() {
    let script = "kubectl delete deployment web --ignore-not-found";
    let bench = Bench::new(
        &(hook("reset", script) + &step("web", &format!("needs = ['reset']\n{ROLLOUT}"))),
    );
    for _ in 0..3 {
        bench.green(&[]);
    }
}

#[test]
fn what_a_hook_edited_is_as_the_manifest_says() {
    let patch = r#"{"spec":{"replicas":0}}"#;
    let script =
        format!("if test -e edit; then kubectl patch deployment/web --type merge -p '{patch}'; fi");
    let steps = hook("edit", &script) + &step("web", &format!("needs = ['edit']\n{ROLLOUT}"));
    let bench = Bench::new(&steps);
    bench.case.write(
        "k8s/web.yaml",
        &WEB.replace("spec:\n  selector: {match", "spec:\n  replicas: 1\n  selector: {match"),
    );
    bench.green(&[]);
    bench.case.write("edit", "");
    bench.green(&[]);
}

/// Unchanged, and lost while another image is built: nobody may take the look at the start for
/// true.
fn what_is_lost_during_a_build(lose: impl FnOnce(&mut Cluster) + Send + 'static) -> Bench {
    let bench = Bench::new("");
    let suite = "images = ['web', 'other']\ntest = { run = ['ask'] }";
    let other = database(0).replace("docker.io/library/db:1", "other").replace("db", "other");
    bench.case.write("k8s/other.yaml", &other);
    let steps = step("web", ROLLOUT) + &step("other", "wait = { rollout = 'deployment/other' }");
    bench.configure(suite, &steps);
    bench.green(&[]);
    bench.case.write("other/index", "2");
    bench.when(Moment::Build, lose);
    bench
}

#[test]
fn a_deployment_that_is_deleted_during_a_build_is_missed() {
    let bench = what_is_lost_during_a_build(|cluster| {
        let web = cluster.objects.get("Deployment", "default", "web").unwrap().clone();
        cluster.delete(&web, true);
        cluster.tick();
    });
    bench.right(&[]);
}

#[test]
fn a_pod_that_is_evicted_during_a_build_is_waited_for() {
    let bench = what_is_lost_during_a_build(|cluster| {
        cluster.evict("web");
        cluster.tick();
    });
    bench.green(&[]);
}

// ---- what others did on a kept cluster

#[test]
fn a_workload_that_others_scaled_to_nothing_is_not_ready() {
    for silent in [true, false] {
        let bench = Bench::new(&step("web", ROLLOUT));
        if !silent {
            let web = WEB
                .replace("spec:\n  selector: {match", "spec:\n  replicas: 1\n  selector: {match");
            bench.case.write("k8s/web.yaml", &web);
        }
        bench.green(&[]);
        let scaled = |cluster: &mut Cluster| {
            cluster.objects.update(("Deployment", "default", "web"), ("kubectl", "scale"), |web| {
                web["spec"]["replicas"] = json!(0);
            });
            (0..3).for_each(|_| cluster.tick());
        };
        bench.cluster(scaled);
        bench.right(&[]);
        // Seen once, it is not taken for granted the next time.
        bench.right(&[]);
    }
}

#[test]
fn no_pod_is_ready_only_where_the_manifest_says_so() {
    let set = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent, namespace: default}\nspec:\n  \
        selector: {matchLabels: {app: agent}}\n  template:\n    metadata: {labels: {app: agent}}\n    \
        spec:\n      nodeSelector: {disk: ssd}\n      containers: [{name: a, image: web}]\n";
    let bench = Bench::new(&step("web", "wait = { rollout = 'daemonset/agent', timeout = '1s' }"));
    bench.case.write("k8s/web.yaml", &format!("{WEB}---\n{set}"));
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("agent"), "{}", ran.stderr);

    let bench =
        Bench::new(&(step("web", ROLLOUT) + &step("db", "wait = { rollout = 'deployment/db' }")));
    bench
        .case
        .write("k8s/db.yaml", &database(0).replace("  selector", "  replicas: 0\n  selector"));
    bench.green(&[]);
}

/// Somebody changes a live object; the next run and the one after it test what the manifests say,
/// or do not pass.
fn drift(
    object: (&str, &str),
    manager: (&str, &'static str),
    change: fn(&mut Value),
    is_undone: fn(&Value) -> bool,
) {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.green(&[]);
    bench.cluster(|cluster| {
        let (kind, name) = object;
        cluster.objects.update((kind, "default", name), manager, change);
        (0..4).for_each(|_| cluster.tick());
    });
    for _ in 0..2 {
        let (kind, name) = (object.0.to_owned(), object.1.to_owned());
        let seen = bench.at_test(move |cluster| {
            cluster.objects.get(&kind, "default", &name).is_some_and(is_undone)
        });
        let ran = bench.right(&[]);
        if ran.code == Some(0) {
            assert_eq!(*seen.lock().unwrap(), Some(true), "{object:?}\n{}", ran.stderr);
        }
    }
}

#[test]
fn an_environment_that_others_set_is_undone() {
    drift(
        ("Deployment", "web"),
        ("kubectl-set", ""),
        |web| {
            web["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{"name": "DEBUG", "value": "1"}]);
        },
        |web| {
            web["spec"]["template"]["spec"]["containers"][0]
                .get("env")
                .is_none_or(|env| *env == json!([]))
        },
    );
}

#[test]
fn a_container_that_others_added_is_undone() {
    drift(
        ("Deployment", "web"),
        ("kubectl-patch", ""),
        |web| {
            let containers = web["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
            containers.push(json!({"name": "spy", "image": "docker.io/library/spy:1"}));
        },
        |web| web["spec"]["template"]["spec"]["containers"].as_array().unwrap().len() == 1,
    );
}

#[test]
fn a_label_that_others_changed_is_undone() {
    drift(
        ("Deployment", "web"),
        ("kubectl-edit", ""),
        |web| web["spec"]["template"]["metadata"]["labels"]["tier"] = json!("other"),
        |web| web["spec"]["template"]["metadata"]["labels"].get("tier").is_none(),
    );
}

#[test]
fn replicas_that_others_set_are_undone() {
    drift(
        ("Deployment", "web"),
        ("kubectl", "scale"),
        |web| web["spec"]["replicas"] = json!(3),
        |web| web["spec"]["replicas"] == 1,
    );
}

#[test]
fn a_service_that_others_pointed_elsewhere_is_undone() {
    drift(
        ("Service", "web"),
        ("kubectl-edit", ""),
        |web| web["spec"]["selector"]["version"] = json!("2"),
        |web| web["spec"]["selector"] == json!({"app": "web"}),
    );
}

// ---- conditions of custom resources

fn widget(color: &str, quiet: bool) -> String {
    format!(
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: w, namespace: default}}\nspec: {{color: {color}, quiet: {quiet}}}\n"
    )
}

#[test]
fn a_condition_is_that_of_this_generation() {
    let wait = "wait = { condition = 'widget/w=Ready' }";
    let bench = Bench::new(&(step("cr", wait) + &step("web", ROLLOUT)));
    for (color, quiet) in [("red", false), ("green", false), ("blue", true), ("grey", true)] {
        bench.case.write("k8s/cr.yaml", &widget(color, quiet));
        let taken_up = bench.at_test(|cluster| {
            let widget = cluster.objects.get("Widget", "default", "w").unwrap();
            widget["status"]["spec"]["color"].clone()
        });
        bench.green(&[]);
        assert_eq!(*taken_up.lock().unwrap(), Some(json!(color)));
    }
}

// ---- what was not done is not called done

#[test]
fn a_step_that_applies_nothing_is_a_fault() {
    let bench = Bench::new(&(step("web", "")));
    bench.case.write("k8s/web.yaml", "# nothing yet\n# nothing at all\n");
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("`web`"), "{}", ran.stderr);

    let bench = Bench::new("[[suites.s.steps]]\nname = 'none'\napply = 'k8s/none'\n");
    bench.case.write("k8s/none/kustomization.yaml", "resources: []\n");
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn a_prebuilt_suite_builds_nothing_though_a_base_moved() {
    let bench = Bench::new(&step("web", ROLLOUT));
    let base = "docker.io/library/base:1";
    let registry = format!("registry/{}", base.replace('/', "%"));
    bench.case.tell_engine(&registry, &"a".repeat(64));
    bench.case.write("web.Dockerfile", &format!("FROM {base}\nCOPY web /web\n"));
    bench.green(&[]);
    bench.case.tell_engine(&registry, &"b".repeat(64));
    bench.case.calls("");
    let ran = bench.e2e(&["--require-prebuilt", "--pull"]);
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    let built: Vec<String> =
        bench.case.calls("").into_iter().filter(|call| call.contains("build ")).collect();
    assert!(built.is_empty(), "{built:?}\n{}", ran.stderr);
}

#[test]
fn a_container_that_ended_during_the_tests_is_named_and_can_fail_the_run() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.green(&[]);
    bench.when(Moment::Test, |cluster| cluster.crash("web"));
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("container `web`") && ran.stderr.contains("started again"),
        "{}",
        ran.stderr
    );
    bench.configure(
        "images = ['web']\nrestarts = 'fail'\ntest = { run = ['ask'] }",
        &step("web", ROLLOUT),
    );
    bench.when(Moment::Test, |cluster| cluster.crash("web"));
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
}

#[test]
fn a_suite_without_images_builds_and_loads_none() {
    let bench = Bench::new("");
    bench.configure(
        "images = []\ntest = { run = ['ask'] }",
        &step("db", "wait = { rollout = 'deployment/db' }"),
    );
    bench.case.write("k8s/db.yaml", &database(0));
    let ran = bench.e2e(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!bench.case.calls("").iter().any(|call| call.contains("build ")), "{}", ran.stderr);
    assert!(bench.cluster(|cluster| cluster.images.is_empty()), "{}", ran.stderr);
}

#[test]
fn a_cluster_that_could_not_be_deleted_is_in_the_summary() {
    let bench = Bench::new(&step("web", ROLLOUT));
    bench.set(|state| state.undeletable = true);
    let ran = bench.case.run(&["e2e", "s", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["left"], "cluster", "{last}");
}

#[test]
fn a_failure_is_diagnosed_once_and_only_where_the_cluster_may_tell_of_it() {
    let bench = Bench::new(&step("web", ROLLOUT));
    let notes = || bench.e2e(&[]).stderr.matches("diagnostics are in").count();
    bench.case.write("web.Dockerfile", "FROM scratch\nCOPY web /web\nRUN false\n");
    assert_eq!(notes(), 0, "a build");
    bench.case.write("web.Dockerfile", "FROM scratch\nCOPY web /web\n");
    bench.configure(
        "images = ['web']\ntest = { run = ['false'], counts = 'none' }",
        &step("web", ROLLOUT),
    );
    assert_eq!(notes(), 1, "tests");
}

// ---- any order of events

/// What may happen to pods at any moment.
fn misfortune(random: &mut fastrand::Rng) -> fn(&mut Cluster) {
    let all: [fn(&mut Cluster); 7] = [
        |cluster| cluster.flap("web", 1),
        |cluster| cluster.flap("web", 3),
        |cluster| cluster.evict("web"),
        |cluster| cluster.crash("web"),
        |cluster| cluster.pace.end = 3,
        |cluster| cluster.pace.start = 3,
        |cluster| {
            for pod in cluster.pods_of("web") {
                cluster.delete(&pod, false);
            }
        },
    ];
    all[random.usize(..all.len())]
}

fn moment(random: &mut fastrand::Rng) -> Moment {
    match random.u8(..8) {
        0 => Moment::Build,
        1 => Moment::Apply("web".to_owned()),
        2 => Moment::Applied("web".to_owned()),
        _ => Moment::Look(random.usize(1..6)),
    }
}

/// A suite whose waits, hooks and other steps are drawn, and some runs of it.
fn sequence(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let waits = [
        ROLLOUT,
        "wait = { http = '{web}/' }",
        "wait = { tcp = '{web}' }",
        "wait = { endpoint = 'web' }",
        "wait = { condition = 'deployment/web=Available' }",
        "",
    ];
    let scripts = [
        "true",
        "kubectl delete deployment web --ignore-not-found",
        "kubectl delete pods --selector app=web --wait=false",
        "kubectl delete configmap cfg --ignore-not-found",
    ];
    let wait = waits[random.usize(..waits.len())];
    let script = scripts[random.usize(..scripts.len())];
    let mut steps =
        step("cfg", "needs = ['reset']") + &step("web", &format!("needs = ['cfg']\n{wait}"));
    steps += &hook("reset", script);
    if random.bool() {
        steps += &step("db", "wait = { rollout = 'deployment/db' }");
    }
    let bench = Bench::new(&steps);
    bench.case.write("k8s/web.yaml", &web_with(READS_CFG, ""));
    let (mut text, mut value) = (0, 0);
    for run in 0..4 {
        let quiet = run == 3;
        text += random.u32(..2);
        value += random.u32(..2);
        bench.serve(&text.to_string());
        bench.case.write("k8s/cfg.yaml", &config_map(&value.to_string()));
        bench.case.write("k8s/db.yaml", &database(run));
        bench.case.tell_engine("mode", ["", "unrepeatable"][random.usize(..2)]);
        let force = random.u8(..4) == 0;
        for _ in 0..if quiet { 0 } else { random.usize(1..4) } {
            bench.when(moment(&mut random), misfortune(&mut random));
        }
        let args: &[&str] = if force { &["--force"] } else { &[] };
        let ran = if quiet { bench.green(args) } else { bench.right(args) };
        if ran.code == Some(0) {
            let config = bench.answered("config");
            let is = config["configmap/cfg"]["key"].clone();
            assert_eq!(is, value.to_string(), "seed {seed}, run {run}: {}", ran.stderr);
        }
    }
}

#[test]
fn no_order_of_events_is_green_on_what_is_not_so() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let (seed, rounds) = (number("XTASK_BENCH_SEED", 1), number("XTASK_BENCH_ROUNDS", 4));
    // They mostly wait.
    let seeds: Vec<u64> = (seed..seed + rounds).collect();
    for some in seeds.chunks(4) {
        std::thread::scope(|threads| {
            let threads: Vec<_> =
                some.iter().map(|seed| (seed, threads.spawn(|| sequence(*seed)))).collect();
            for (seed, thread) in threads {
                assert!(thread.join().is_ok(), "XTASK_BENCH_ROUNDS=1 XTASK_BENCH_SEED={seed}");
            }
        });
    }
}
