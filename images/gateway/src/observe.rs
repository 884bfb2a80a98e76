//! What every request gets: an id, a duration in the metrics, one access line, and for errors a
//! body.
//!
//! The id is the client's `X-Request-Id` when that is 1–128 letters, digits, `-`, `_`, `.` (what
//! cannot break a log line or a header), else a new UUID. It is in the answer, in every log line
//! and in every audit event of the request.
//!
//! Probes and scrapes are logged at debug, or they would be most of the log.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Response};
use axum::middleware::Next;
use uuid::Uuid;

use crate::problem::Problem;
use crate::router::Gateway;
use crate::signal::Signal;

const REQUEST_ID: &str = "X-Request-Id";
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The id of one HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

/// What a request turned out to be about; handlers leave it in the response's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub fingerprint: String,
    pub namespace: String,
}

/// One finished exchange.
struct Exchange<'a> {
    request_id: &'a RequestId,
    method: &'a Method,
    path: &'a str,
    route: &'a str,
    started: Instant,
}

impl RequestId {
    fn of(header: Option<&HeaderValue>) -> Self {
        let given = header.and_then(|value| value.to_str().ok()).filter(|text| is_plain(text));
        Self(given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(plain)
}

impl Subject {
    pub fn of(signal: &Signal) -> Self {
        Self {
            fingerprint: signal.fingerprint().to_string(),
            namespace: signal.target.namespace.clone(),
        }
    }
}

/// The outermost layer.
pub async fn layer(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let request_id = RequestId::of(request.headers().get(REQUEST_ID));
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let exchange = Exchange {
        request_id: &request_id,
        method: &method,
        path: &path,
        // Not the path itself: anyone could make up series.
        route: route.as_ref().map_or("unmatched", MatchedPath::as_str),
        started: Instant::now(),
    };
    let mut response = next.run(request).await;
    exchange.finish(&gateway, &mut response);
    response
}

impl Exchange<'_> {
    fn finish(&self, gateway: &Gateway, response: &mut Response<Body>) {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let document = problem.document(self.path, self.request_id.as_str());
            *response.body_mut() = Body::from(document.to_string());
            response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        }
        if let Ok(id) = HeaderValue::from_str(self.request_id.as_str()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.measure(gateway, response);
        self.log(response);
    }

    fn measure(&self, gateway: &Gateway, response: &Response<Body>) {
        let known =
            [Method::GET, Method::POST, Method::OPTIONS, Method::HEAD].contains(self.method);
        let method = if known { self.method.as_str() } else { "other" };
        let status = response.status();
        let labels = [method, self.route, status.as_str()];
        let seconds = self.started.elapsed().as_secs_f64();
        gateway.metrics.http_request_duration.with_label_values(&labels).observe(seconds);
    }

    fn log(&self, response: &Response<Body>) {
        let subject = response.extensions().get::<Subject>();
        let request_id = self.request_id.as_str();
        let method = self.method.as_str();
        let status = response.status().as_u16();
        // To the microsecond, as a plain number.
        let duration_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let fingerprint = subject.map(|subject| subject.fingerprint.as_str());
        let namespace = subject.map(|subject| subject.namespace.as_str());
        let path = self.path;
        macro_rules! access {
            ($level:ident) => {
                tracing::$level!(
                    request_id,
                    method,
                    path,
                    status,
                    duration_ms,
                    fingerprint,
                    namespace,
                    "request"
                )
            };
        }
        match (self.route, status) {
            ("/healthz" | "/readyz" | "/metrics", ..400) => access!(debug),
            (_, 500..) => access!(error),
            _ => access!(info),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_is_kept_and_any_other_replaced() {
        for good in ["a", "req-1_2.3", &"x".repeat(128)] {
            let id = RequestId::of(Some(&HeaderValue::from_str(good).unwrap()));
            assert_eq!(id.as_str(), good);
        }
        for bad in ["", "a b", "a\"b", "a/b", &"x".repeat(129)] {
            let id = RequestId::of(Some(&HeaderValue::from_str(bad).unwrap()));
            assert_ne!(id.as_str(), bad);
            assert!(Uuid::parse_str(id.as_str()).is_ok());
        }
        assert_ne!(RequestId::of(None), RequestId::of(None));
    }
}
