//! Paths to handlers, and what the handlers share.
//!
//! | path | method | handler |
//! | --- | --- | --- |
//! | `/api/v1/signals/prometheus` | POST | [`intake::prometheus`] |
//! | `/api/v1/signals/kubernetes-event` | POST | [`intake::kubernetes_event`] |
//! | `/healthz`, `/readyz`, `/metrics` | GET | [`health`] |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use service::audit::Audit;
use tokio::sync::Mutex;

use crate::claims::Claims;
use crate::config::Settings;
use crate::fingerprint::Fingerprint;
use crate::kube::Api;
use crate::metrics::Metrics;
use crate::problem::{Kind, Problem};
use crate::remediation::RemediationRequest;
use crate::{cors, health, intake, observe};

const TURNS: usize = 64;

/// The parts of a running gateway: what every handler works with.
pub struct Gateway {
    pub settings: Settings,
    pub api: Api,
    pub claims: Claims,
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    stopping: AtomicBool,
    turns: [Mutex<Option<RemediationRequest>>; TURNS],
}

impl Gateway {
    pub fn new(
        settings: Settings,
        api: Api,
        claims: Claims,
        audit: Audit,
        metrics: Arc<Metrics>,
    ) -> Self {
        let turns = std::array::from_fn(|_| Mutex::new(None));
        let stopping = AtomicBool::new(false);
        Self { settings, api, claims, audit, metrics, stopping, turns }
    }

    /// From now on not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The turn to count on this fingerprint, and in it what the last to have it wrote. A few
    /// fingerprints share a turn, which costs a wait and nothing else.
    pub fn turn(&self, fingerprint: &Fingerprint) -> &Mutex<Option<RemediationRequest>> {
        &self.turns[fingerprint.spread(TURNS)]
    }
}

/// The whole application.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/api/v1/signals/prometheus", post(intake::prometheus))
        .route("/api/v1/signals/kubernetes-event", post(intake::kubernetes_event))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&gateway), cors::layer))
        .layer(from_fn_with_state(Arc::clone(&gateway), observe::layer))
        .with_state(gateway)
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at `{}`", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not take {method}", uri.path());
    Problem::new(Kind::MethodNotAllowed, detail)
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
