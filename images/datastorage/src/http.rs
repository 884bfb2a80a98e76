//! The HTTP server: routes, and what every request goes through.
//!
//! | route | answer |
//! | --- | --- |
//! | `POST /api/v1/audit/events` | 201 `{"accepted":N}`; 400, 413, 415, 503 |
//! | `GET /api/v1/audit/events` | 200 `{"events":[…],"count":N}`; 400, 503 |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when the database answers and is migrated, else 503 |
//! | `GET /metrics` | Prometheus' text form |
//!
//! `observe` gives each request an id, writes one log line and counts it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::event::parse_batch;
use crate::filter::Filter;
use crate::metrics::Metrics;
use crate::problem::{Problem, render};
use crate::settings::Settings;
use crate::store::Store;

/// 500 events of 8 KiB, far above what the gateway sends.
const MAX_BODY_BYTES: usize = 4 << 20;
const MAX_REQUEST_ID_BYTES: usize = 128;
const REQUEST_ID: &str = "x-request-id";

#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    metrics: Metrics,
}

/// Serves until `stop` resolves and the requests under way are answered.
pub(crate) async fn serve(
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let shared =
        Shared { store: Arc::new(Store::new(settings.database)), metrics: Metrics::new()? };
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listen on {}", settings.listen))?;
    tracing::info!(address = %listener.local_addr().context("read our address")?, "listening");
    axum::serve(listener, router(shared)).with_graceful_shutdown(stop).await.context("serve")?;
    tracing::info!("stopped");
    Ok(())
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/v1/audit/events", get(read_events).post(write_events))
        .route("/healthz", get(|| async { json_answer(StatusCode::OK, &json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(shared.clone(), observe))
        .with_state(shared)
}

async fn write_events(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    if !is_json(&headers) {
        let detail = "the body is not `application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let events = parse_batch(&body).map_err(Problem::invalid)?;
    let stored =
        shared.store.insert(&events).await.map_err(|error| unavailable(&shared, &error))?;
    shared.metrics.events_stored.inc_by(stored);
    shared.metrics.events_repeated.inc_by((events.len() as u64).saturating_sub(stored));
    Ok(json_answer(StatusCode::CREATED, &json!({"accepted": events.len()})))
}

async fn read_events(
    State(shared): State<Shared>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let filter = Filter::parse(&pairs).map_err(Problem::invalid)?;
    let events =
        shared.store.select(&filter).await.map_err(|error| unavailable(&shared, &error))?;
    shared.metrics.events_read.inc_by(events.len() as u64);
    Ok(json_answer(StatusCode::OK, &json!({"count": events.len(), "events": events})))
}

async fn ready(State(shared): State<Shared>) -> Response {
    let (status, word, database) = match shared.store.ready().await {
        Ok(()) => (StatusCode::OK, "ready", "ok".to_owned()),
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready", format!("failed to {error:#}"))
        }
    };
    json_answer(status, &json!({"status": word, "checks": {"database": database}}))
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Problem> {
    let text = shared.metrics.render().map_err(|error| {
        tracing::error!("failed to {error:#}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// What was asked is sound (it was checked), so the fault is the database's and may pass.
fn unavailable(shared: &Shared, error: &anyhow::Error) -> Problem {
    tracing::error!("failed to {error:#}");
    shared.metrics.database_errors.inc();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the database did not serve the request")
}

async fn observe(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = render(&problem, &path, &id);
        response.headers_mut().extend(allow.map(|methods| (header::ALLOW, methods)));
    }
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    shared.metrics.observe(method.as_str(), route, status, elapsed);
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if matches!(route, "/healthz" | "/readyz" | "/metrics") && status < 400 {
        tracing::debug!(request_id = id, %method, path, status, duration_ms, "request");
    } else {
        tracing::info!(request_id = id, %method, path, status, duration_ms, "request");
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The caller's id if it is one we may write to a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sound = |id: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sound);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            name.parse().unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )])
    }

    #[test]
    fn a_sound_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(&headers(REQUEST_ID, "req-1.a:b_C")), "req-1.a:b_C");
        for unsound in ["", "a b", "{\"a\":1}", "ä"] {
            let made = request_id(&headers(REQUEST_ID, unsound));
            assert!(Uuid::parse_str(&made).is_ok(), "{made}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        let cases = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/plain", false),
        ];
        for (kind, expected) in cases {
            assert_eq!(is_json(&headers("content-type", kind)), expected, "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
