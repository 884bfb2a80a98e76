use serde_json::json;

use super::super::object::tests::object;
use super::super::render::{Document, Private};
use super::*;

fn open(file: &Path) -> Kept {
    let own = PrivatePath::below(file.parent().unwrap(), file.file_name().unwrap());
    Kept::open(&own, &own.with_extension("key"))
}

fn see(kept: &Kept, objects: Vec<Value>) {
    *kept.look.lock() = Look { began: Some(Instant::now()), objects: Arc::new(objects) };
}

fn document(object: ObjectRef, text: &str) -> Document {
    Document { object, text: text.to_owned(), template: None, content: None, private: None }
}

fn served(kind: &str, uid: &str, generation: Option<u64>, version: &str) -> Value {
    let api_version = match kind {
        "Deployment" | "StatefulSet" => "apps/v1",
        "Job" => "batch/v1",
        _ => "v1",
    };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": version},
    });
    if let Some(generation) = generation {
        object["metadata"]["generation"] = json!(generation);
    }
    object
}

fn rendered(text: &str, object: &Value) -> Rendered {
    let object = ObjectRef::of(object).unwrap();
    Rendered { documents: vec![document(object, text)], ..Rendered::nothing("s") }
}

#[test]
fn a_step_is_applied_only_if_manifest_and_cluster_agree() {
    let deployment = served("Deployment", "u1", Some(3), "100");
    let busy = served("Deployment", "u1", Some(3), "200");
    let edited = served("Deployment", "u1", Some(4), "200");
    let remade = served("Deployment", "u2", Some(3), "100");
    let map = served("ConfigMap", "u1", None, "100");
    let edited_map = served("ConfigMap", "u1", None, "101");
    let mut failed = served("Job", "u1", Some(1), "100");
    let job = failed.clone();
    let mut going = deployment.clone();
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    let pod = served("Pod", "u1", Some(1), "100");
    let mut evicted = pod.clone();
    evicted["status"]["phase"] = json!("Failed");
    failed["status"]["conditions"] = json!([{"type": "Failed", "status": "True"}]);
    for (why, was, text, now, applied) in [
        ("unchanged", &deployment, "a", Some(&deployment), true),
        ("only its status moved", &deployment, "a", Some(&busy), true),
        ("the manifest changed", &deployment, "b", Some(&deployment), false),
        ("someone edited it", &deployment, "a", Some(&edited), false),
        ("deleted and made anew", &deployment, "a", Some(&remade), false),
        ("it is gone", &deployment, "a", None, false),
        ("a map is as it was", &map, "a", Some(&map), true),
        ("a map was edited", &map, "a", Some(&edited_map), false),
        ("its job has failed", &job, "a", Some(&failed), false),
        ("its pod has failed", &pod, "a", Some(&evicted), false),
        ("it is about to go", &deployment, "a", Some(&going), false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        open(&file)
            .remember(&rendered("a", was), std::slice::from_ref(was), Reads::new(), Pods::new())
            .unwrap();
        let kept = open(&file);
        see(&kept, now.cloned().into_iter().collect());
        assert_eq!(kept.is_applied(&rendered(text, was)), applied, "{why}");
    }
}

/// A step that applies these objects, named as [`object`] takes them.
fn step(name: &str, objects: &[&str]) -> Rendered {
    let document = |text: &&str| document(object(text), text);
    Rendered { documents: objects.iter().map(document).collect(), ..Rendered::nothing(name) }
}

/// What the API makes of a manifest.
fn made(served: &str) -> Value {
    let ObjectRef { api_version, kind, namespace, name } = object(served);
    json!({"apiVersion": api_version, "kind": kind, "metadata":
        {"name": name, "namespace": namespace, "uid": served, "resourceVersion": "1"}})
}

#[test]
fn what_is_still_applied_by_any_step_is_not_removed() {
    for (why, applied, now, stale) in [
        ("no namespace", ("v1 Service - a", "v1 Service default a"), vec!["v1 Service - a"], 0),
        (
            "it is written now",
            ("v1 Service - a", "v1 Service default a"),
            vec!["v1 Service default a"],
            0,
        ),
        (
            "of the whole cluster",
            ("x.io/v1 Wide n a", "x.io/v1 Wide - a"),
            vec!["x.io/v1 Wide n a"],
            0,
        ),
        ("a newer version", ("x.io/v1 W n a", "x.io/v1 W n a"), vec!["x.io/v2 W n a"], 0),
        (
            "another group",
            ("x.io/v1 Service n a", "x.io/v1 Service n a"),
            vec!["v1 Service n a"],
            1,
        ),
        ("moved", ("v1 Service - a", "v1 Service default a"), vec!["v1 Service n a"], 1),
        (
            "renamed",
            ("v1 ConfigMap - a-1", "v1 ConfigMap default a-1"),
            vec!["v1 ConfigMap - a-2"],
            1,
        ),
        ("gone", ("v1 Service n a", "v1 Service n a"), vec![], 1),
        ("a namespace in use", ("v1 Namespace - n", "v1 Namespace - n"), vec!["v1 Service n a"], 0),
        ("a namespace", ("v1 Namespace - n", "v1 Namespace - n"), vec!["v1 Service m a"], 1),
        ("a claim", ("v1 PersistentVolumeClaim n a", "v1 PersistentVolumeClaim n a"), vec![], 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let (manifest, served) = applied;
        let first = step("first", &[manifest]);
        open(&file).remember(&first, &[made(served)], Reads::new(), Pods::new()).unwrap();
        let kept = open(&file);
        see(&kept, vec![made(served)]);
        // Another step applies it by now, or the same one.
        for name in ["first", "second"] {
            let now = step(name, &now);
            let steps = kept.steps.lock();
            assert_eq!(kept.stale(&steps, &[&now]).len(), stale, "{why}, by {name}");
        }
        assert!(kept.is_applied(&first), "{why}");
    }
}

#[test]
fn an_object_of_two_steps_is_removed_with_the_last_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(&folder.path().join("applied.json"));
    let (one, two) = (step("one", &["v1 Service - a"]), step("two", &["v1 Service - a"]));
    let served = made("v1 Service default a");
    for step in [&one, &two] {
        kept.remember(step, std::slice::from_ref(&served), Reads::new(), Pods::new()).unwrap();
    }
    let mut other = served.clone();
    see(&kept, vec![served]);
    let steps = kept.steps.lock().clone();
    assert!(kept.stale(&steps, &[&two]).is_empty());
    assert_eq!(kept.stale(&steps, &[]).len(), 1);
    // Somebody made another of its name.
    other["metadata"]["uid"] = json!("other");
    see(&kept, vec![other]);
    assert!(kept.stale(&steps, &[]).is_empty());
}

#[test]
fn nothing_is_applied_to_a_cluster_that_was_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let object = served("ConfigMap", "u1", None, "100");
    let kept = open(&file);
    kept.remember(
        &rendered("a", &object),
        std::slice::from_ref(&object),
        Reads::new(),
        Pods::new(),
    )
    .unwrap();
    assert!(!kept.is_applied(&rendered("a", &object)));
    fs_err::write(&file, "{ not json").unwrap();
    assert!(!open(&file).is_applied(&rendered("a", &object)));
}

#[test]
fn a_secret_is_compared_with_the_clusters_own_and_never_written_down() {
    let mut secret = served("Secret", "u1", None, "100");
    secret["data"] = json!({ "password": "aHVudGVyMg==" });
    let private = |data: Value| {
        let document = Document {
            private: Some(Private { outline: "outline".to_owned(), data: data.clone() }),
            ..document(ObjectRef::of(&secret).unwrap(), &data.to_string())
        };
        Rendered { documents: vec![document], ..Rendered::nothing("s") }
    };
    let same = private(secret["data"].clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let recorded = open(&file);
    recorded.remember(&same, std::slice::from_ref(&secret), Reads::new(), Pods::new()).unwrap();
    let written = fs_err::read_to_string(&file).unwrap();
    let digest = hex::encode(Sha256::digest(&same.documents[0].text));
    assert!(!written.contains("aHVudGVyMg==") && !written.contains(&digest), "{written}");
    let kept = open(&file);
    see(&kept, vec![secret.clone()]);
    assert!(kept.is_applied(&same));
    assert!(!kept.is_applied(&private(json!({ "password": "b3RoZXI=" }))));
}

#[test]
fn a_job_is_due_again_when_a_pod_it_worked_on_was_replaced() {
    let database = served("StatefulSet", "db", Some(1), "100");
    let pod = |uid: &str, restarts: u64| {
        json!({"kind": "Pod", "metadata": {"uid": uid, "name": uid, "namespace": "n",
               "ownerReferences": [{"uid": "db", "controller": true}]},
               "status": {"containerStatuses": [{"restartCount": restarts}]}})
    };
    let needed = rendered("database", &database);
    let job = rendered("job", &served("Job", "j", Some(1), "100"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let then = running(&[&needed], &[database.clone(), pod("p1", 0)]);
    open(&file).remember(&job, &[], Reads::new(), then).unwrap();
    for (why, now, due) in [
        ("the same pod", pod("p1", 0), false),
        ("its container was started again", pod("p1", 1), true),
        ("another pod", pod("p2", 0), true),
    ] {
        let kept = open(&file);
        see(&kept, vec![database.clone(), now]);
        assert_eq!(kept.is_replaced(&job, &[&needed]), due, "{why}");
    }
}

/// A step whose Deployment `web` reads the `ConfigMap` `settings`, or that `ConfigMap` itself.
fn of_values(step: &str, values: &[Value]) -> Rendered {
    let document = |value: &Value| Document::of(value, value.to_string()).unwrap();
    Rendered { documents: values.iter().map(document).collect(), ..Rendered::nothing(step) }
}

fn reader(is_optional: bool) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "uid": "web", "generation": 1},
        "spec": {"template": {"spec": {"containers": [{"image": "localhost/web:1", "envFrom":
            [{"configMapRef": {"name": "settings", "optional": is_optional}}]}]}}}})
}

fn settings(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": value},
        "metadata": {"name": "settings", "namespace": "default", "uid": "settings",
            "resourceVersion": value}})
}

#[test]
fn a_step_is_applied_again_for_another_image_under_its_tag() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let with = |id: &str| {
        let mut step = of_values("web", &[reader(false)]);
        step.images = vec!["web".to_owned()];
        let references = [("web".to_owned(), "localhost/web:1".to_owned())];
        step.with_ids(&references.into(), |_| Some(id.to_owned()))
    };
    open(&file).remember(&with("sha256:a"), &[reader(false)], Reads::new(), Pods::new()).unwrap();
    for (id, is_applied) in [("sha256:a", true), ("sha256:b", false)] {
        let kept = open(&file);
        see(&kept, vec![reader(false)]);
        assert_eq!(kept.is_applied(&with(id)), is_applied, "{id}");
        // The forecast knows of no ids.
        assert!(kept.is_recorded(&with(id)));
    }
}

/// `web` is applied, and found by the next run, whose `settings` may be others, in either order.
#[test]
fn a_step_is_applied_again_when_what_its_pods_read_is_another() {
    for (why, then, now, config_first, changes) in [
        ("the same", "1", "1", true, false),
        ("the same, later", "1", "1", false, false),
        ("changed before", "1", "2", true, true),
        ("changed after", "1", "2", false, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied.json");
        let (config, web) =
            (|v: &str| of_values("config", &[settings(v)]), of_values("web", &[reader(false)]));
        let first = open(&file);
        first.expect(&[&config(then), &web]).unwrap();
        let apply = |kept: &Kept, value: &str| {
            kept.remember(&config(value), &[settings(value)], Reads::new(), Pods::new()).unwrap();
        };
        let reads = first.reads(&web).unwrap();
        assert_eq!(reads.len(), 1, "{why}: it is known what is coming");
        first.remember(&web, &[reader(false)], reads, Pods::new()).unwrap();
        apply(&first, then);
        assert_eq!(first.outdated(), None, "{why}");

        let second = open(&file);
        second.expect(&[&config(now), &web]).unwrap();
        see(&second, vec![settings(then), reader(false)]);
        if config_first {
            apply(&second, now);
            assert_eq!(second.is_applied(&web), !changes, "{why}");
            continue;
        }
        assert!(second.is_applied(&web), "{why}: nothing is another yet");
        second.confirm(&web).unwrap();
        apply(&second, now);
        assert_eq!(second.outdated().is_some(), changes, "{why}");
        if changes {
            let reads = second.reads(&web).unwrap();
            second.remember(&web, &[reader(false)], reads, Pods::new()).unwrap();
            assert_eq!(second.outdated(), None, "{why}: once");
        }
    }
}

#[test]
fn a_pod_that_can_start_without_what_comes_later_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(&folder.path().join("applied.json"));
    let (config, web) = (of_values("config", &[settings("1")]), of_values("web", &[reader(true)]));
    kept.expect(&[&config, &web]).unwrap();
    let reads = kept.reads(&web).unwrap();
    assert!(reads.is_empty());
    kept.remember(&web, &[reader(true)], reads, Pods::new()).unwrap();
    kept.remember(&config, &[settings("1")], Reads::new(), Pods::new()).unwrap();
    assert_eq!(kept.outdated().as_deref(), Some("web"));
}

/// A Secret made of files that are not there when the plan is made.
#[test]
fn a_pod_that_cannot_start_before_reads_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let kept = open(&file);
    let (config, web) = (of_values("config", &[settings("1")]), of_values("web", &[reader(false)]));
    kept.expect(&[&web]).unwrap();
    kept.remember(&web, &[reader(false)], kept.reads(&web).unwrap(), Pods::new()).unwrap();
    kept.remember(&config, &[settings("1")], Reads::new(), Pods::new()).unwrap();
    assert_eq!(kept.outdated(), None);
    let next = open(&file);
    see(&next, vec![settings("1"), reader(false)]);
    assert!(next.is_applied(&web));
}

#[test]
fn a_config_map_that_no_step_applies_counts_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(&folder.path().join("applied.json"));
    let web = of_values("web", &[reader(false)]);
    let mut seen = Vec::new();
    for value in ["1", "2", "1"] {
        see(&kept, vec![settings(value)]);
        seen.push(kept.reads(&web).unwrap());
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
    let written = format!("{seen:?}");
    assert!(written.contains("configmap/default/settings"), "{written}");
}

#[test]
fn a_look_is_believed_until_the_run_changes_something() {
    let folder = tempfile::tempdir().unwrap();
    let kept = open(&folder.path().join("applied.json"));
    // Nobody answers: what was seen is gone.
    let kubectl = Tool::new("false");
    see(&kept, vec![settings("1")]);
    kept.look_again(&kubectl);
    assert_eq!(kept.live().len(), 1);
    kept.touch();
    kept.look_again(&kubectl);
    assert_eq!(kept.live().len(), 0);
}

/// A spec changes the settings; the next run makes them anew, and the pods that may have read them.
#[test]
fn what_pods_may_have_read_of_others_makes_them_anew_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applied.json");
    let by = |manager: &str, uid: &str| {
        let mut object = settings("1");
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": {}}]);
        object
    };
    let (config, web) = (of_values("config", &[settings("1")]), of_values("web", &[reader(false)]));
    let first = open(&file);
    first.expect(&[&config, &web]).unwrap();
    first.remember(&config, &[by("xtask", "one")], Reads::new(), Pods::new()).unwrap();
    let then = first.reads(&web).unwrap();
    first.remember(&web, &[reader(false)], then.clone(), Pods::new()).unwrap();

    let second = open(&file);
    second.expect(&[&config, &web]).unwrap();
    see(&second, vec![by("kubectl-patch", "one"), reader(false)]);
    assert!(!second.is_applied(&config));
    let changed = second.changed_by_others(&config);
    assert_eq!(changed[0].by, ["kubectl-patch"]);
    assert_eq!(changed[0].object, config.documents[0].object);
    second.remember(&config, &[by("xtask", "two")], Reads::new(), Pods::new()).unwrap();
    see(&second, vec![by("xtask", "two"), reader(false)]);
    assert!(!second.is_applied(&web));
    let now = second.reads(&web).unwrap();
    assert_ne!(now, then);
    second.remember(&web, &[reader(false)], now, Pods::new()).unwrap();

    let third = open(&file);
    third.expect(&[&config, &web]).unwrap();
    see(&third, vec![by("xtask", "two"), reader(false)]);
    assert!(third.is_applied(&config) && third.is_applied(&web));
    assert!(third.changed_by_others(&config).is_empty());
}
