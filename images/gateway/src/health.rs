//! Liveness and readiness (BR-GATEWAY-018).
//!
//! | | `/healthz` | `/readyz` |
//! | --- | --- | --- |
//! | all well | 200 | 200 |
//! | Redis away | 200 | 200, `"redis":"degraded"`: signals are still taken, by state alone |
//! | Kubernetes API away | 200: a restart would not help | 503: nothing can be created |
//! | SIGTERM received | 200 | 503, `"status":"stopping"` |

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::router::{Gateway, json_response};
use crate::{metrics, problem};

/// `GET /healthz`
pub async fn live() -> Response {
    json_response(StatusCode::OK, &json!({"status": "alive"}))
}

/// `GET /readyz`
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let kubernetes = gateway.api.reachable().await;
    if let Err(error) = &kubernetes {
        tracing::warn!(error = error.to_string(), "not ready");
    }
    let (status, word) = match (gateway.is_stopping(), kubernetes.is_ok()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, true) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let checks = json!({
        "kubernetes": if kubernetes.is_ok() { "ok" } else { "unavailable" },
        "redis": if gateway.claims.is_connected() { "ok" } else { "degraded" },
    });
    json_response(status, &json!({"status": word, "checks": checks}))
}

/// `GET /metrics`
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            problem::Problem::new(problem::Kind::Unavailable, error.to_string()).into_response()
        }
    }
}
