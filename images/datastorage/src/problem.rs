//! Refusals as `application/problem+json` (RFC 7807).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What is wrong with a request, or with us.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    pub(crate) errors: Vec<FieldError>,
}

/// One part of a request that cannot be taken: `events[3].outcome`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new() }
    }

    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "one field is invalid".to_owned(),
            several => format!("{several} fields are invalid"),
        };
        Self { status: StatusCode::BAD_REQUEST, detail, errors }
    }
}

impl IntoResponse for Problem {
    /// The request's id and path are added by the layer that knows them (`http::observe`).
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of a problem, for the request `request_id` made to `instance`.
pub(crate) fn render(problem: &Problem, instance: &str, request_id: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        title: &'a str,
        status: u16,
        detail: &'a str,
        instance: &'a str,
        request_id: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        errors: &'a [FieldError],
    }
    let body = Body {
        r#type: "about:blank",
        title: problem.status.canonical_reason().unwrap_or("Error"),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        instance,
        request_id,
        errors: &problem.errors,
    };
    let mut response = (problem.status, serde_json::json!(body).to_string()).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn body(problem: &Problem) -> Value {
        let response = render(problem, "/api/v1/audit/events", "req-1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_the_rfc_and_ours() {
        let problem = Problem::invalid(vec![FieldError::new("limit", "is not a number")]);
        let expected = json!({
            "type": "about:blank", "title": "Bad Request", "status": 400,
            "detail": "one field is invalid", "instance": "/api/v1/audit/events",
            "request_id": "req-1",
            "errors": [{"field": "limit", "message": "is not a number"}],
        });
        assert_eq!(body(&problem).await, expected);
    }

    #[tokio::test]
    async fn a_problem_without_fields_lists_none() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path");
        assert_eq!(body(&problem).await.get("errors"), None);
    }
}
