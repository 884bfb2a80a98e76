//! Errors as RFC 7807 problem details.
//!
//! | status | `type` ends in | when | sent again later |
//! | --- | --- | --- | --- |
//! | 400 | `malformed-body` | not JSON, or not the shape of the webhook | no |
//! | 400 | `invalid-signal` | a field is missing or wrong; `errors` names each | no |
//! | 404 | `not-found` | no such path | no |
//! | 405 | `method-not-allowed` | the path takes another method | no |
//! | 413 | `body-too-large` | over 1 MiB | no |
//! | 415 | `unsupported-media-type` | not `application/json` | no |
//! | 422 | `namespace-not-found` | the signal's namespace is not there or is going away | no |
//! | 429 | `rate-limited` | the Kubernetes API kept limiting us past the budget | yes |
//! | 500 | `refused` | the Kubernetes API refused what we sent: our fault | no |
//! | 503 | `unavailable` | the Kubernetes API is away, or another replica holds the signal | yes |
//!
//! Alertmanager sends again on 5xx and 429 only, so these two carry `Retry-After`.
//!
//! A handler returns the `Problem` alone; `observe` writes the body, for it knows the request.

use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// One error, as far as it is known without the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    /// What happened this time, for a human.
    pub detail: String,
    /// What is wrong with which field; for `Kind::InvalidSignal`.
    pub errors: Vec<FieldError>,
    /// When to come again, in whole seconds on the wire.
    pub retry_after: Option<Duration>,
}

/// A field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The path of the field, as in `alerts[0].labels.namespace`.
    pub field: String,
    pub message: String,
}

/// The row of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MalformedBody,
    InvalidSignal,
    NotFound,
    MethodNotAllowed,
    BodyTooLarge,
    UnsupportedMediaType,
    NamespaceNotFound,
    RateLimited,
    Refused,
    Unavailable,
}

impl Kind {
    /// Every kind, for the metrics to start at zero.
    pub const ALL: [Self; 10] = [
        Self::MalformedBody,
        Self::InvalidSignal,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::NamespaceNotFound,
        Self::RateLimited,
        Self::Refused,
        Self::Unavailable,
    ];

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MalformedBody => {
                (StatusCode::BAD_REQUEST, "malformed-body", "The body cannot be read")
            }
            Self::InvalidSignal => {
                (StatusCode::BAD_REQUEST, "invalid-signal", "The signal is not valid")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such path"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The path does not take this method",
            ),
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            }
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is not JSON",
            ),
            Self::NamespaceNotFound => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "namespace-not-found",
                "The namespace of the signal is not there",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "The Kubernetes API is limiting requests",
            ),
            Self::Refused => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "refused",
                "The Kubernetes API refused the request",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The signal cannot be taken right now",
            ),
        }
    }

    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The last part of the type, which is also the `reason` label of the metric.
    pub fn slug(self) -> &'static str {
        self.row().1
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("not valid: {}", fields.join(", "));
        Self { kind: Kind::InvalidSignal, detail, errors, retry_after: None }
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The problem details document. `instance` is the path of the request.
    pub fn document(&self, instance: &str, request_id: &str) -> Value {
        let (status, slug, title) = self.kind.row();
        let mut document = json!({
            "type": format!("https://kubernaut.ai/problems/{slug}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        });
        if !self.errors.is_empty() {
            document["errors"] = json!(self.errors);
        }
        document
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        if let Some(wait) = self.retry_after {
            let seconds = HeaderValue::from(whole_seconds(wait));
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Rounded up, and never 0, which would invite to try at once.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_what_rfc_7807_asks_for_and_the_fields_at_fault() {
        let error = FieldError { field: "labels.severity".into(), message: "is missing".into() };
        let document = Problem::invalid(vec![error]).document("/api", "r-1");
        assert_eq!(document["type"], "https://kubernaut.ai/problems/invalid-signal");
        assert_eq!(document["status"], 400);
        assert_eq!(document["instance"], "/api");
        assert_eq!(document["request_id"], "r-1");
        assert_eq!(document["errors"][0]["field"], "labels.severity");
        assert!(!document["title"].as_str().unwrap().is_empty());
        assert!(document["detail"].as_str().unwrap().contains("labels.severity"));
    }

    #[test]
    fn only_a_signal_with_faulty_fields_lists_them() {
        let document = Problem::new(Kind::NotFound, "no").document("/x", "r");
        assert_eq!(document.get("errors"), None);
    }

    #[test]
    fn slugs_are_distinct() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (wait, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2500, 3)] {
            let response = Problem::new(Kind::RateLimited, "")
                .retry_after(Duration::from_millis(wait))
                .into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds.to_string(), "{wait} ms");
        }
    }
}
