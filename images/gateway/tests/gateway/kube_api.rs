//! As much of a Kubernetes API server as the gateway talks to, over real HTTP: remediation requests
//! by namespace, optimistic concurrency, and 429s on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::harness::{Server, serve};

/// The running fake; gone on drop.
pub(crate) struct KubeApi {
    pub(crate) server: Server,
    state: Shared,
}

type Shared = Arc<Mutex<Cluster>>;
type Key = (String, String);

#[derive(Default)]
struct Cluster {
    namespaces: BTreeSet<String>,
    requests: BTreeMap<Key, Value>,
    version: u64,
    /// How many requests are still to be answered 429.
    to_limit: usize,
}

impl KubeApi {
    pub(crate) async fn start(namespaces: &[&str]) -> Self {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let state = Arc::new(Mutex::new(Cluster { namespaces, ..Cluster::default() }));
        let base = "/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/remediationrequests";
        let app = Router::new()
            .route(base, get(list).post(create))
            .route(&format!("{base}/{{name}}"), get(read))
            .route(&format!("{base}/{{name}}/status"), axum::routing::patch(patch_status))
            .layer(from_fn_with_state(Arc::clone(&state), limit))
            .route("/readyz", get(|| async { "ok" }))
            .with_state(Arc::clone(&state));
        Self { server: serve(app).await, state }
    }

    /// Answers the next `count` requests with 429.
    pub(crate) fn limit(&self, count: usize) {
        self.state.lock().unwrap().to_limit = count;
    }

    /// All requests of a namespace.
    pub(crate) fn requests(&self, namespace: &str) -> Vec<Value> {
        let cluster = self.state.lock().unwrap();
        let of = cluster.requests.iter().filter(|((found, _), _)| found == namespace);
        of.map(|(_, request)| request.clone()).collect()
    }

    /// Does what a controller does.
    pub(crate) fn set_phase(&self, namespace: &str, name: &str, phase: &str) {
        let mut cluster = self.state.lock().unwrap();
        let key = (namespace.to_owned(), name.to_owned());
        cluster.requests.get_mut(&key).unwrap()["status"]["phase"] = json!(phase);
    }

    pub(crate) fn delete(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().requests.remove(&key).unwrap();
    }

    /// Makes every request of the namespace older by so many seconds.
    pub(crate) fn age(&self, namespace: &str, seconds: i64) {
        let created = Utc::now() - chrono::TimeDelta::seconds(seconds);
        let created = created.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut cluster = self.state.lock().unwrap();
        for ((found, _), request) in &mut cluster.requests {
            if found == namespace {
                request["metadata"]["creationTimestamp"] = json!(created);
            }
        }
    }
}

async fn limit(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let limited = {
        let mut cluster = state.lock().unwrap();
        let limited = cluster.to_limit > 0;
        cluster.to_limit = cluster.to_limit.saturating_sub(1);
        limited
    };
    if limited {
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "0")], "later").into_response();
    }
    next.run(request).await
}

async fn create(
    State(state): State<Shared>,
    Path(namespace): Path<String>,
    request: Request,
) -> Response {
    let mut object = json_of(request).await;
    let mut cluster = state.lock().unwrap();
    if !cluster.namespaces.contains(&namespace) {
        let details = json!({"name": namespace, "kind": "namespaces"});
        return answer(404, &json!({"message": "namespace not found", "details": details}));
    }
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let key = (namespace, name);
    if cluster.requests.contains_key(&key) {
        return answer(409, &json!({"reason": "AlreadyExists", "message": "already exists"}));
    }
    cluster.version += 1;
    let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    object["metadata"]["creationTimestamp"] = json!(created);
    object["metadata"]["resourceVersion"] = json!(cluster.version.to_string());
    cluster.requests.insert(key, object.clone());
    answer(201, &object)
}

async fn list(
    State(state): State<Shared>,
    Path(namespace): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap().replace("%2F", "/").replace("%3D", "=");
    let (label, value) =
        query.strip_prefix("&labelSelector=").and_then(|text| text.split_once('=')).unwrap();
    let cluster = state.lock().unwrap();
    let matching = cluster.requests.iter().filter(|((found, _), request)| {
        *found == namespace && request["metadata"]["labels"][label] == value
    });
    let items: Vec<&Value> = matching.map(|(_, request)| request).collect();
    answer(200, &json!({ "items": items }))
}

async fn read(State(state): State<Shared>, Path(key): Path<Key>) -> Response {
    match state.lock().unwrap().requests.get(&key) {
        Some(request) => answer(200, request),
        None => answer(404, &json!({"message": "not found"})),
    }
}

async fn patch_status(
    State(state): State<Shared>,
    Path(key): Path<Key>,
    request: Request,
) -> Response {
    let patch = json_of(request).await;
    let mut cluster = state.lock().unwrap();
    cluster.version += 1;
    let version = cluster.version.to_string();
    let Some(request) = cluster.requests.get_mut(&key) else {
        return answer(404, &json!({"message": "not found"}));
    };
    if patch["metadata"]["resourceVersion"] != request["metadata"]["resourceVersion"] {
        return answer(409, &json!({"reason": "Conflict", "message": "the object was modified"}));
    }
    request["metadata"]["resourceVersion"] = json!(version);
    request["status"]["deduplication"] = patch["status"]["deduplication"].clone();
    answer(200, request)
}

async fn json_of(request: Request) -> Value {
    let bytes = body::to_bytes(request.into_body(), 1 << 22).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn answer(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}
