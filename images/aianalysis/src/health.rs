//! `/healthz`, `/readyz`, `/metrics`.
//!
//! | | `/healthz` | `/readyz` |
//! | --- | --- | --- |
//! | all resources were listed once | 200 | 200 |
//! | not yet, or the Kubernetes API was never there | 200: a restart would not help | 503 |
//! | SIGTERM received | 200 | 503, `"status":"stopping"` |
//!
//! holmesgpt-api is no part of readiness: without it the controller still takes resources in and
//! says on each what it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::metrics::{self, Metrics};

/// What the probes ask about.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) synced: Arc<AtomicBool>,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { answer(StatusCode::OK, &json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> Response {
    let synced = health.synced.load(Ordering::Relaxed);
    let (status, word) = match (health.stopping.load(Ordering::Relaxed), synced) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, true) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let kubernetes = if synced { "ok" } else { "unavailable" };
    answer(status, &json!({"status": word, "checks": {"kubernetes": kubernetes}}))
}

async fn scrape(State(health): State<Health>) -> Response {
    match health.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let problem = json!({"detail": error.to_string()});
            answer(StatusCode::INTERNAL_SERVER_ERROR, &problem)
        }
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_is_synced_and_not_stopping() {
        for (synced, stopping, status) in
            [(false, false, 503), (true, false, 200), (true, true, 503), (false, true, 503)]
        {
            let health = Health {
                synced: Arc::new(synced.into()),
                stopping: Arc::new(stopping.into()),
                metrics: Arc::new(Metrics::new().unwrap()),
            };
            assert_eq!(ready(State(health)).await.status(), status, "{synced} {stopping}");
        }
    }
}
