//! The Kubernetes API, as much of it as the gateway needs: four verbs on one resource.
//!
//! What an answer means:
//!
//! | answer | meaning | then |
//! | --- | --- | --- |
//! | 2xx | done | – |
//! | 429, or 503 with `Retry-After` | API Priority & Fairness limits us | wait ([`backoff`]) and send again within the budget |
//! | 404 on create, details name a namespace; 403 with cause `NamespaceTerminating` | nowhere to put it | the signal is refused |
//! | 401 | our pod is being deleted by force, its token with it | as if the API were away: 503 |
//! | other 404 | the object is gone, or the CRD is not there yet | send the signal again later |
//! | 409 | the name is taken, or the object moved on | the caller decides anew |
//! | other 5xx, no connection, no answer in time | the API is away | send the signal again later |
//! | other 4xx | we asked for the wrong thing | our fault |
//!
//! A create without an answer is not sent again: it may have happened. The sender's retry finds it.
//!
//! The token is read for every request: the kubelet renews the file, and it is in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backoff::{self, Budget};
use crate::config::KubeAccess;
use crate::fingerprint::Fingerprint;
use crate::http_client::{Answer, HttpClient};
use crate::metrics::Metrics;
use crate::remediation::{API_VERSION, Deduplication, FINGERPRINT_LABEL, RemediationRequest};

const LONGEST_EXCHANGE: Duration = Duration::from_secs(10);
const SHORTEST_EXCHANGE: Duration = Duration::from_millis(500);
const READINESS_LIMIT: Duration = Duration::from_secs(2);

/// A client of the API server.
pub struct Api {
    client: HttpClient,
    url: String,
    token_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
}

/// Why the API did not do it: the table above.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the Kubernetes API is limiting requests")]
    RateLimited { retry_after: Duration },
    #[error("the Kubernetes API is away: {0}")]
    Unavailable(String),
    #[error("namespace `{0}` is not there or is being deleted")]
    NamespaceMissing(String),
    #[error("the Kubernetes API does not have it: {0}")]
    NotFound(String),
    #[error("the Kubernetes API has another state: {0}")]
    Conflict(String),
    #[error("the Kubernetes API refused with {status}: {message}")]
    Refused { status: u16, message: String },
}

/// One request, kept for sending again.
struct Call<'a> {
    method: Method,
    path: String,
    body: Option<&'a Value>,
}

impl Api {
    /// # Errors
    /// The authority's file cannot be used.
    pub fn new(access: &KubeAccess, metrics: Arc<Metrics>) -> Result<Self> {
        Ok(Self {
            client: HttpClient::trusting(access.ca_file.as_deref())?,
            url: access.url.clone(),
            token_file: access.token_file.clone(),
            metrics,
        })
    }

    /// Creates the request in its namespace.
    pub async fn create(
        &self,
        request: &RemediationRequest,
        budget: &Budget,
    ) -> Result<RemediationRequest, ApiError> {
        let body = json!(request);
        let path = collection(&request.metadata.namespace);
        read(&self.call(Call { method: Method::POST, path, body: Some(&body) }, budget).await?)
    }

    /// All requests of this fingerprint in the namespace, as etcd has them now.
    pub async fn list(
        &self,
        namespace: &str,
        fingerprint: &Fingerprint,
        budget: &Budget,
    ) -> Result<Vec<RemediationRequest>, ApiError> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<RemediationRequest>,
        }
        // `/` in a label's name needs its escape; `=` and hex digits need none.
        let selector = format!("{}={}", FINGERPRINT_LABEL.replace('/', "%2F"), fingerprint.label());
        let path = format!("{}?labelSelector={selector}", collection(namespace));
        let answer = self.call(Call { method: Method::GET, path, body: None }, budget).await?;
        let mut items = read::<List>(&answer)?.items;
        // The label holds 63 of the 64 digits.
        items.retain(|item| item.spec.signal_fingerprint == fingerprint.to_string());
        Ok(items)
    }

    /// The request as it is now.
    pub async fn get(
        &self,
        namespace: &str,
        name: &str,
        budget: &Budget,
    ) -> Result<RemediationRequest, ApiError> {
        let path = format!("{}/{name}", collection(namespace));
        read(&self.call(Call { method: Method::GET, path, body: None }, budget).await?)
    }

    /// Writes the count, provided the request is still the version given; the version after it.
    pub async fn write_count(
        &self,
        request: &RemediationRequest,
        count: &Deduplication,
        budget: &Budget,
    ) -> Result<RemediationRequest, ApiError> {
        let metadata = &request.metadata;
        let path = format!("{}/{}/status", collection(&metadata.namespace), metadata.name);
        let body = json!({
            "metadata": {"resourceVersion": metadata.resource_version},
            "status": {"deduplication": count},
        });
        let call = Call { method: Method::PATCH, path, body: Some(&body) };
        read(&self.call(call, budget).await?)
    }

    /// Whether the API answers; an API that limits us is there.
    pub async fn reachable(&self) -> Result<(), ApiError> {
        let call = Call { method: Method::GET, path: "/readyz".to_owned(), body: None };
        let answer = self.send(&call, READINESS_LIMIT).await?;
        if answer.status.is_server_error() {
            return Err(ApiError::Unavailable(format!("it answered {}", answer.status)));
        }
        Ok(())
    }

    async fn call(&self, call: Call<'_>, budget: &Budget) -> Result<Bytes, ApiError> {
        let mut attempt = 0;
        loop {
            let limit = budget.remaining().clamp(SHORTEST_EXCHANGE, LONGEST_EXCHANGE);
            let answer = self.send(&call, limit).await?;
            let Some(limited) = limited(answer.status, &answer.headers) else {
                return judge(answer);
            };
            let wait = backoff::delay(attempt, limited.retry_after, fastrand::f64());
            if !budget.wait(wait).await {
                return Err(limited.error());
            }
            self.metrics.kube_api_retries.inc();
            attempt += 1;
        }
    }

    async fn send(&self, call: &Call<'_>, limit: Duration) -> Result<Answer, ApiError> {
        let away = |error: anyhow::Error| ApiError::Unavailable(format!("{error:#}"));
        let request = self.request(call).await.map_err(away)?;
        self.client.send(request, limit).await.map_err(away)
    }

    async fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.url, call.path))
            .header(ACCEPT, "application/json");
        if let Some(path) = &self.token_file {
            let token = tokio::fs::read_to_string(path).await;
            let token = token.with_context(|| format!("failed to read `{}`", path.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        if call.body.is_some() {
            let patch = call.method == Method::PATCH;
            let kind = if patch { "application/merge-patch+json" } else { "application/json" };
            request = request.header(CONTENT_TYPE, kind);
        }
        let body = call.body.map(Value::to_string).unwrap_or_default();
        request.body(Full::from(body)).map_err(|error| anyhow!(error))
    }
}

fn collection(namespace: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{namespace}/remediationrequests")
}

/// The API asked us to come again later.
#[derive(Debug, PartialEq, Eq)]
struct Limited {
    status: StatusCode,
    retry_after: Option<Duration>,
}

fn limited(status: StatusCode, headers: &HeaderMap) -> Option<Limited> {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    let busy = status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some();
    (busy || status == StatusCode::TOO_MANY_REQUESTS).then_some(Limited { status, retry_after })
}

impl Limited {
    fn error(&self) -> ApiError {
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = self.retry_after.unwrap_or(Duration::from_secs(1));
            return ApiError::RateLimited { retry_after };
        }
        ApiError::Unavailable(format!("it keeps answering {}", self.status))
    }
}

/// The `Status` object that explains an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Explanation {
    message: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    name: String,
    kind: String,
    causes: Vec<Cause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

fn judge(answer: Answer) -> Result<Bytes, ApiError> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let explained: Explanation = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Explanation { message, details } = explained;
    let terminating = details.causes.iter().find(|cause| cause.reason == "NamespaceTerminating");
    Err(match answer.status {
        StatusCode::NOT_FOUND if details.kind == "namespaces" => {
            ApiError::NamespaceMissing(details.name)
        }
        StatusCode::FORBIDDEN if terminating.is_some() => {
            ApiError::NamespaceMissing(namespace_in(terminating, details.name))
        }
        StatusCode::NOT_FOUND => ApiError::NotFound(message),
        StatusCode::CONFLICT => ApiError::Conflict(message),
        // The account's token ends with its pod: one that is deleted by force may still be serving.
        StatusCode::UNAUTHORIZED => {
            ApiError::Unavailable(format!("it does not know us: {message}"))
        }
        status if status.is_server_error() => {
            ApiError::Unavailable(format!("it answered {status}: {message}"))
        }
        status => ApiError::Refused { status: status.as_u16(), message },
    })
}

/// The cause reads "namespace NAME is being terminated"; the details name the object instead.
fn namespace_in(cause: Option<&Cause>, otherwise: String) -> String {
    let named = cause.and_then(|cause| cause.message.split_whitespace().nth(1));
    named.map_or(otherwise, str::to_owned)
}

fn read<T: for<'de> Deserialize<'de>>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::Unavailable(format!("its answer cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn judged(status: u16, body: &Value) -> ApiError {
        let status = StatusCode::from_u16(status).unwrap();
        let body = body.to_string().into();
        judge(Answer { status, headers: HeaderMap::new(), body }).unwrap_err()
    }

    #[test]
    fn errors_are_told_apart() {
        let namespace = json!({"details": {"kind": "namespaces", "name": "prod"}});
        assert!(matches!(judged(404, &namespace), ApiError::NamespaceMissing(n) if n == "prod"));
        let terminating = json!({"details": {"name": "rr-1", "causes": [{
            "reason": "NamespaceTerminating",
            "message": "namespace prod is being terminated",
        }]}});
        assert!(matches!(judged(403, &terminating), ApiError::NamespaceMissing(n) if n == "prod"));
        assert!(matches!(judged(403, &json!({})), ApiError::Refused { status: 403, .. }));
        assert!(matches!(judged(404, &json!({})), ApiError::NotFound(_)));
        assert!(matches!(judged(409, &json!({})), ApiError::Conflict(_)));
        assert!(matches!(judged(422, &json!({})), ApiError::Refused { status: 422, .. }));
        assert!(matches!(judged(401, &json!({})), ApiError::Unavailable(_)));
        assert!(matches!(judged(500, &json!("no object")), ApiError::Unavailable(_)));
    }

    #[test]
    fn a_limit_is_a_429_or_a_503_that_names_a_time() {
        let mut named = HeaderMap::new();
        named.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        let two = Some(Duration::from_secs(2));
        for (status, headers, wait) in [
            (429, HeaderMap::new(), Some(None)),
            (429, named.clone(), Some(two)),
            (503, named.clone(), Some(two)),
            (503, HeaderMap::new(), None),
            (500, named.clone(), None),
            (200, named, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = limited(status, &headers).map(|limited| limited.retry_after);
            assert_eq!(found, wait, "{status} {headers:?}");
        }
    }
}
