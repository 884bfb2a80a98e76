//! `/healthz`, `/readyz`, `/metrics`.
//!
//! | | `/healthz` | `/readyz` |
//! | --- | --- | --- |
//! | the Kubernetes API lists our resources to us | 200 | 200 |
//! | it is away, does not know them or does not let us | 200: a restart would not help | 503 |
//! | SIGTERM received | 200 | 503, `"status":"stopping"` |
//!
//! The API is asked rather than kube's `Store::wait_until_ready`, which wakes one of its callers
//! only (5.0, seen), and the controller is one.
//!
//! holmesgpt-api is no part of readiness: without it the controller still takes resources in and
//! says on each what it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::metrics::{self, Metrics};
use crate::resource::AiAnalysis;

/// Less than a probe waits.
const LIMIT: Duration = Duration::from_secs(2);

/// What the probes ask about.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) api: Api<AiAnalysis>,
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
    let listed = listed(&health.api).await;
    if let Err(error) = &listed {
        tracing::warn!(error = format!("{error:#}"), "not ready");
    }
    let (status, word) = match (health.stopping.load(Ordering::Relaxed), listed.is_ok()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, true) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let kubernetes = if listed.is_ok() { "ok" } else { "unavailable" };
    answer(status, &json!({"status": word, "checks": {"kubernetes": kubernetes}}))
}

async fn listed(api: &Api<AiAnalysis>) -> Result<()> {
    let one = ListParams::default().limit(1);
    let list = tokio::time::timeout(LIMIT, api.list_metadata(&one)).await;
    list.context("the Kubernetes API does not answer")??;
    Ok(())
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

    /// An API server that answers every list like this.
    async fn api(status: StatusCode) -> Api<AiAnalysis> {
        let list = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {}, "items": [],
        });
        let app = Router::new().fallback(move || async move { answer(status, &list) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Api::all(kube::Client::try_from(kube::Config::new(url)).unwrap())
    }

    #[tokio::test]
    async fn ready_is_listed_and_not_stopping() {
        for (api_says, stopping, status) in
            [(200, false, 200), (200, true, 503), (403, false, 503), (404, false, 503)]
        {
            let health = Health {
                api: api(StatusCode::from_u16(api_says).unwrap()).await,
                stopping: Arc::new(stopping.into()),
                metrics: Arc::new(Metrics::new().unwrap()),
            };
            assert_eq!(ready(State(health)).await.status(), status, "{api_says} {stopping}");
        }
    }
}
