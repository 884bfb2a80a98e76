//! The Kubernetes API, as much of it as the gateway needs: four verbs on one resource, by kube's
//! client. Its own retries are off: they know nothing of a budget, and nobody would count them.
//!
//! What an answer means:
//!
//! | answer | meaning | then |
//! | --- | --- | --- |
//! | 2xx | done | – |
//! | 429, or 503 with `Retry-After` | API Priority & Fairness limits us | wait ([`Backoff`]) and send again within the budget |
//! | 404 on create, details name a namespace; 403 with cause `NamespaceTerminating` | nowhere to put it | the signal is refused |
//! | 401 | our pod is being deleted by force, its token with it | as if the API were away: 503 |
//! | other 404 | the object is gone, or the CRD is not there yet | send the signal again later |
//! | 409 | the name is taken, or the object moved on | the caller decides anew |
//! | other 5xx, no connection, no answer in time | the API is away | send the signal again later |
//! | other 4xx | we asked for the wrong thing | our fault |
//!
//! A create without an answer is not sent again: it may have happened. The sender's retry finds it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::response::StatusCause;
use kube::core::{Request as Requests, Status};
use kube::{Client, Config, Resource as _, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;
use service::backoff::Backoff;
use service::http_client::Answer;

use crate::backoff::Budget;
use crate::fingerprint::Fingerprint;
use crate::metrics::Metrics;
use crate::remediation::{Deduplication, FINGERPRINT_LABEL, RemediationRequest};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const LONGEST_EXCHANGE: Duration = Duration::from_secs(10);
const SHORTEST_EXCHANGE: Duration = Duration::from_millis(500);
const READINESS_LIMIT: Duration = Duration::from_secs(2);

/// A client of the API server.
pub struct Api {
    client: Client,
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

impl Api {
    /// A client of the API at `url`, or of the cluster that we are in.
    ///
    /// # Errors
    /// Nothing says where the API is, or the service account cannot be used.
    pub fn new(url: Option<&str>, metrics: Arc<Metrics>) -> Result<Self> {
        let mut config = match url {
            Some(url) => plain(url.parse().context("failed to read `KUBE_API_URL`")?),
            None => Config::incluster().context("failed to find the Kubernetes API")?,
        };
        config.connect_timeout = Some(CONNECT_LIMIT);
        config.default_retry = false;
        let client = Client::try_from(config).context("failed to set up the Kubernetes client")?;
        Ok(Self { client, metrics })
    }

    /// Creates the request in its namespace.
    pub async fn create(
        &self,
        request: &RemediationRequest,
        budget: &Budget,
    ) -> Result<RemediationRequest, ApiError> {
        let body = json!(request).to_string().into_bytes();
        let namespace = request.namespace().unwrap_or_default();
        read(&self.call(of(&namespace).create(&PostParams::default(), body), budget).await?)
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
        let selector = format!("{FINGERPRINT_LABEL}={}", fingerprint.label());
        let labelled = ListParams::default().labels(&selector);
        let answer = self.call(of(namespace).list(&labelled), budget).await?;
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
        read(&self.call(of(namespace).get(name, &GetParams::default()), budget).await?)
    }

    /// Writes the count, provided the request is still the version given; the version after it.
    pub async fn write_count(
        &self,
        request: &RemediationRequest,
        count: &Deduplication,
        budget: &Budget,
    ) -> Result<RemediationRequest, ApiError> {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": request.metadata.resource_version},
            "status": {"deduplication": count},
        }));
        let requests = of(&request.namespace().unwrap_or_default());
        let name = request.name_any();
        let call = requests.patch_subresource("status", &name, &PatchParams::default(), &patch);
        read(&self.call(call, budget).await?)
    }

    /// Whether the API answers; an API that limits us is there.
    pub async fn reachable(&self) -> Result<(), ApiError> {
        let request = Request::get("/readyz").body(Vec::new());
        let request = request.map_err(|error| away(error.into()))?;
        let answer = self.send(request, READINESS_LIMIT).await?;
        if answer.status.is_server_error() {
            return Err(ApiError::Unavailable(format!("it answered {}", answer.status)));
        }
        Ok(())
    }

    async fn call(
        &self,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
        budget: &Budget,
    ) -> Result<Bytes, ApiError> {
        let request = request.map_err(|error| away(error.into()))?;
        let mut attempt = 0;
        loop {
            let limit = budget.remaining().clamp(SHORTEST_EXCHANGE, LONGEST_EXCHANGE);
            let answer = self.send(request.clone(), limit).await?;
            let Some(limited) = limited(answer.status, &answer.headers) else {
                return judge(answer);
            };
            let wait = Backoff::BRIEF.delay(attempt, limited.retry_after, fastrand::f64());
            if !budget.wait(wait).await {
                return Err(limited.error());
            }
            self.metrics.kube_api_retries.inc();
            attempt += 1;
        }
    }

    /// The raw answer: kube's own errors leave out the header that says when to come again.
    async fn send(&self, request: Request<Vec<u8>>, limit: Duration) -> Result<Answer, ApiError> {
        let exchange = async {
            let response = self.client.send(request.map(Into::into)).await?;
            let (head, body) = response.into_parts();
            let body = body.collect_bytes().await?;
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(limit, exchange)
            .await
            .with_context(|| format!("no answer within {limit:?}"))
            .flatten()
            .map_err(away)
    }
}

/// The API over plain HTTP. Nobody's certificate is trusted: kube would look for the system's
/// authorities otherwise, of which the image has none, and fail.
fn plain(url: Uri) -> Config {
    let mut config = Config::new(url);
    config.root_cert = Some(Vec::new());
    config
}

/// The requests about the resources of a namespace.
fn of(namespace: &str) -> Requests {
    Requests::new(RemediationRequest::url_path(&(), Some(namespace)))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn away(error: anyhow::Error) -> ApiError {
    ApiError::Unavailable(format!("{error:#}"))
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

fn judge(answer: Answer) -> Result<Bytes, ApiError> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let Status { message, details, .. } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let (kind, name, causes) =
        details.map(|about| (about.kind, about.name, about.causes)).unwrap_or_default();
    let terminating = causes.iter().find(|cause| cause.reason == "NamespaceTerminating");
    Err(match answer.status {
        StatusCode::NOT_FOUND if kind == "namespaces" => ApiError::NamespaceMissing(name),
        StatusCode::FORBIDDEN if terminating.is_some() => {
            ApiError::NamespaceMissing(namespace_in(terminating, name))
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
fn namespace_in(cause: Option<&StatusCause>, otherwise: String) -> String {
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
    use serde_json::Value;

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
