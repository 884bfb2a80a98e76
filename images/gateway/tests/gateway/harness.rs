//! A gateway between fakes, all on loopback.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use axum::routing::post;
use gateway::config::Settings;
use gateway::router::{Gateway, router};
use gateway::server::assemble;
use http_body_util::Full;
use serde_json::{Value, json};
use service::http_client::{Answer, HttpClient};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::kube_api::KubeApi;
use crate::redis_server::RedisServer;

pub(crate) const PROMETHEUS: &str = "/api/v1/signals/prometheus";
pub(crate) const KUBERNETES_EVENT: &str = "/api/v1/signals/kubernetes-event";
pub(crate) const NAMESPACE: &str = "prod";
const LIMIT: Duration = Duration::from_secs(20);

/// An HTTP server; gone on drop.
pub(crate) struct Server {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

/// A gateway and all it talks to.
pub(crate) struct World {
    pub(crate) kube: KubeApi,
    pub(crate) redis: RedisServer,
    pub(crate) replicas: Vec<Arc<Replica>>,
}

/// One gateway of a [`World`].
pub(crate) struct Replica {
    pub(crate) gateway: Arc<Gateway>,
    server: Server,
    client: HttpClient,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn serve(app: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { url, task }
}

impl World {
    /// One gateway, with Redis.
    pub(crate) async fn start() -> Self {
        Self::with(1, &[]).await
    }

    /// So many gateways, connected to Redis, with these settings on top.
    pub(crate) async fn with(replicas: usize, settings: &[(&str, &str)]) -> Self {
        let kube = KubeApi::start(&[NAMESPACE, "stage"]).await;
        let redis = RedisServer::start().await;
        let mut world = Self { kube, redis, replicas: Vec::new() };
        for _ in 0..replicas {
            let replica = world.replica(settings).await;
            eventually("Redis is there", || replica.gateway.claims.is_connected()).await;
            world.replicas.push(Arc::new(replica));
        }
        world
    }

    async fn replica(&self, settings: &[(&str, &str)]) -> Replica {
        let defaults = [
            ("KUBE_API_URL", self.kube.server.url.clone()),
            ("REDIS_URL", self.redis.url()),
            ("DATASTORAGE_URL", String::new()),
            ("CORS_ALLOWED_ORIGINS", "https://console.example.test".to_owned()),
        ];
        Replica::start(|name| {
            let given = settings.iter().find(|(key, _)| *key == name);
            let given = given.map(|(_, value)| (*value).to_owned());
            let default = defaults.iter().find(|(key, _)| *key == name);
            given.or_else(|| default.map(|(_, value)| value.clone()))
        })
        .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.replicas[0].post(path, &[], body).await
    }

    pub(crate) async fn alert(&self, alert: &Value) -> Answer {
        self.post(PROMETHEUS, &webhook(std::slice::from_ref(alert))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.replicas[0].send(Method::GET, path, &[], "").await
    }

    /// The value of a series of the first gateway.
    pub(crate) async fn metric(&self, series: &str) -> String {
        let text = self.get("/metrics").await.body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series} in:\n{text}")).to_owned()
    }
}

impl Replica {
    pub(crate) async fn start(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let (gateway, _) = assemble(Settings::read(lookup).unwrap()).unwrap();
        let server = serve(router(Arc::clone(&gateway))).await;
        Self { gateway, server, client: HttpClient::new() }
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers = [headers, &[("Content-Type", "application/json")]].concat();
        self.send(Method::POST, path, &headers, &body.to_string()).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let uri = format!("{}{path}", self.server.url);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        self.client.send(request, LIMIT).await.unwrap()
    }
}

/// A `DataStorage` that keeps what it is sent and answers with `status`.
pub(crate) async fn datastorage(status: StatusCode) -> (Server, Arc<Mutex<Vec<Value>>>) {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&stored);
    let store = move |body: Bytes| async move {
        let batch: Value = serde_json::from_slice(&body).unwrap();
        keep.lock().unwrap().extend(batch["events"].as_array().unwrap().clone());
        status
    };
    (serve(Router::new().route("/api/v1/audit/events", post(store))).await, stored)
}

pub(crate) fn alert(name: &str) -> Value {
    json!({
        "status": "firing",
        "labels": {
            "alertname": name,
            "namespace": NAMESPACE,
            "severity": "critical",
            "pod": "web-0",
        },
        "annotations": {"summary": "made by a test"},
        "startsAt": "2026-11-21T08:00:00Z",
    })
}

pub(crate) fn webhook(alerts: &[Value]) -> Value {
    json!({"version": "4", "status": "firing", "alerts": alerts})
}

pub(crate) fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// The body, if the status is that one.
pub(crate) fn expect(answer: &Answer, status: u16) -> Value {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status.as_u16(), status, "{text}");
    body(answer)
}

pub(crate) fn name_in(body: &Value) -> &str {
    body["remediation_request"]["name"].as_str().unwrap()
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waiting).await;
    assert!(waited.is_ok(), "{what}: not within {LIMIT:?}");
}
