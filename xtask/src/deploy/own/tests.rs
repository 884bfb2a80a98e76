//! One run's names, on objects as Kubernetes has them.

use super::*;

fn own(objects: &[Value]) -> Own {
    let document = |object: &Value| Document {
        object: ObjectRef::of(object).unwrap(),
        text: object.to_string(),
        template: None,
        content: None,
        private: None,
    };
    let documents = objects.iter().map(document).collect();
    let rendered = Rendered { documents, ..Rendered::nothing("s") };
    let (owner, home, run) = ("team", "0a0b0c0d", "20261121-083544-12345");
    let ttl = Duration::from_hours(1);
    let maker = Maker { owner, home, run, ttl, free_ports: true };
    Own::of(&maker, std::iter::once(&rendered)).unwrap()
}

fn object(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}

/// A run that makes the namespaces `web` and `web-2`, a `ClusterRole` and a `StorageClass`.
fn of_two() -> Own {
    own(&[
        object("Namespace", "web"),
        object("Namespace", "web-2"),
        object("ClusterRole", "reader"),
        object("StorageClass", "fast"),
        object("CustomResourceDefinition", "widgets.test"),
    ])
}

/// `RUN` in the expected stands for the run's ending.
fn assert_renamed(object: &Value, path: &str, expected: &Value) {
    let own = of_two();
    let mut renamed = object.clone();
    own.rename(&mut renamed).unwrap();
    let expected: Value =
        serde_json::from_str(&expected.to_string().replace("-RUN", &own.ending)).unwrap();
    assert_eq!(renamed.pointer(path), Some(&expected), "{object}");
}

#[test]
fn whatever_names_a_namespace_of_the_suites_gets_the_runs() {
    let in_web = |rest: Value| {
        let mut object = object("Any", "a");
        object["metadata"]["namespace"] = json!("web");
        object["spec"] = rest;
        object
    };
    for (object, path, expected) in [
        (object("Namespace", "web"), "/metadata/name", json!("web-RUN")),
        (in_web(json!({})), "/metadata/namespace", json!("web-RUN")),
        (in_web(json!({})), "/metadata/name", json!("a")),
        (in_web(json!({"namespace": "other"})), "/spec/namespace", json!("other")),
        (in_web(json!({"namespaces": ["x", "web-2"]})), "/spec/namespaces/1", json!("web-2-RUN")),
        (
            in_web(json!({"matchLabels": {"kubernetes.io/metadata.name": "web"}})),
            "/spec/matchLabels/kubernetes.io~1metadata.name",
            json!("web-RUN"),
        ),
        (
            in_web(json!({"key": "kubernetes.io/metadata.name", "values": ["web"]})),
            "/spec/values/0",
            json!("web-RUN"),
        ),
        (in_web(json!({"key": "app", "values": ["web"]})), "/spec/values/0", json!("web")),
        (
            in_web(json!({"env": "tcp://db.web.svc:1,db.web-2.svc.cluster.local"})),
            "/spec/env",
            json!("tcp://db.web-RUN.svc:1,db.web-2-RUN.svc.cluster.local"),
        ),
        (
            in_web(json!({"env": "a.web.svcs b.x-web.svc"})),
            "/spec/env",
            json!("a.web.svcs b.x-web.svc"),
        ),
        (object("ServiceAccount", "web"), "/metadata/name", json!("web")),
    ] {
        assert_renamed(&object, path, &expected);
    }
}

#[test]
fn what_has_no_namespace_gets_a_name_of_its_own_or_is_shared() {
    let bound = |kind: &str, name: &str| {
        let mut object = object("RoleBinding", "b");
        object["roleRef"] = json!({"kind": kind, "name": name});
        object["subjects"] = json!([{"kind": "ServiceAccount", "name": "x", "namespace": "web"}]);
        object
    };
    let mut claim = object("PersistentVolumeClaim", "c");
    claim["spec"] = json!({"storageClassName": "fast"});
    for (object, path, expected) in [
        (object("ClusterRole", "reader"), "/metadata/name", json!("reader-RUN")),
        (
            object("CustomResourceDefinition", "widgets.test"),
            "/metadata/name",
            json!("widgets.test"),
        ),
        (bound("ClusterRole", "reader"), "/roleRef/name", json!("reader-RUN")),
        (bound("ClusterRole", "view"), "/roleRef/name", json!("view")),
        (bound("Role", "reader"), "/roleRef/name", json!("reader")),
        (bound("Role", "reader"), "/subjects/0/namespace", json!("web-RUN")),
        (claim, "/spec/storageClassName", json!("fast-RUN")),
    ] {
        assert_renamed(&object, path, &expected);
    }
}

#[test]
fn only_what_is_the_runs_says_so() {
    let own = of_two();
    for (mut object, is_own) in [
        (object("Namespace", "web"), true),
        (object("ClusterRole", "reader"), true),
        (object("CustomResourceDefinition", "widgets.test"), false),
    ] {
        own.rename(&mut object).unwrap();
        assert_eq!(object["metadata"]["labels"][RUN] == own.run.as_str(), is_own, "{object}");
        assert_eq!(object["metadata"]["labels"][EXPIRES].is_string(), is_own, "{object}");
    }
}

#[test]
fn a_webhook_is_called_for_the_runs_own_objects_alone() {
    let own = own(&[object("ValidatingWebhookConfiguration", "hook")]);
    let hook = |scope: Value| {
        let mut hook = object("ValidatingWebhookConfiguration", "hook");
        hook["webhooks"] = json!([{
            "namespaceSelector": {"matchLabels": {"a": "b"}}, "rules": [{"scope": scope}],
        }]);
        hook
    };
    for scope in [json!("*"), json!("Namespaced"), Value::Null] {
        let mut hook = hook(scope);
        own.rename(&mut hook).unwrap();
        let selector = &hook["webhooks"][0]["namespaceSelector"]["matchLabels"];
        assert_eq!((&selector["a"], &selector[RUN]), (&json!("b"), &json!(own.run)));
        assert_eq!(hook["webhooks"][0]["rules"][0]["scope"], "Namespaced");
    }
    assert!(own.rename(&mut hook(json!("Cluster"))).is_err());
}

#[test]
fn the_api_server_chooses_node_ports_and_says_which_stood_there() {
    let mut service = object("Service", "web");
    service["spec"]["ports"] =
        json!([{"port": 80, "nodePort": 30001}, {"port": 53, "protocol": "UDP"}]);
    of_two().rename(&mut service).unwrap();
    assert_eq!(service["spec"]["ports"][0], json!({"port": 80}));
    assert!(given_ports(std::slice::from_ref(&service)).is_empty());
    service["spec"]["ports"] = json!([
        {"port": 80, "protocol": "TCP", "nodePort": 31999},
        {"port": 53, "protocol": "UDP", "nodePort": 31998},
    ]);
    assert_eq!(given_ports(&[service]), BTreeMap::from([(30001, 31999)]));
}

#[test]
fn two_runs_share_no_name_and_a_stamp_is_a_label() {
    let of = |run: &str| {
        let ttl = Duration::from_hours(1);
        let maker = Maker { owner: "o", home: "h", run, ttl, free_ports: false };
        Own::of(&maker, std::iter::empty()).unwrap().ending
    };
    assert_ne!(of("20261121-083544-1"), of("20261121-083544-2"));
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(stamp(second), "19700101T000001Z");
    let long = "n".repeat(LONGEST + 1);
    let document = Document {
        object: ObjectRef::of(&object("Namespace", &long)).unwrap(),
        text: String::new(),
        template: None,
        content: None,
        private: None,
    };
    let rendered = Rendered { documents: vec![document], ..Rendered::nothing("s") };
    let ttl = Duration::from_hours(1);
    let maker = Maker { owner: "o", home: "h", run: "r", ttl, free_ports: false };
    assert!(Own::of(&maker, std::iter::once(&rendered)).is_err());
}

#[test]
fn what_may_stay_until_when_is_the_servers_time() {
    let own = own(&[object("Namespace", "web")]);
    let server = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
    own.clone().set_clock(server);
    let expires = own.labels().into_iter().find(|(name, _)| *name == EXPIRES).unwrap().1;
    assert!(expires >= stamp(server + Duration::from_hours(1)), "{expires}");
    assert!(expires < stamp(server + Duration::from_hours(2)), "{expires}");
    own.set_clock(SystemTime::UNIX_EPOCH);
    assert!(own.now() >= server, "it is read once");
}

#[test]
fn a_run_is_selected_with_its_checkout_and_its_owner() {
    let selector = own(&[]).selector();
    for part in
        ["dev.xtask.run=20261121-083544-12345", "dev.xtask.home=0a0b0c0d", "dev.xtask.owner=team"]
    {
        assert!(selector.split(',').any(|one| one == part), "{selector}");
    }
}
