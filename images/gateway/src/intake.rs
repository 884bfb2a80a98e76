//! One webhook: read it, place each of its signals, answer.
//!
//! A webhook with one signal is answered as that signal is. With several, `results` has for each
//! what it would have been answered alone, and the status of the whole is
//!
//! | the signals' statuses | status of the whole |
//! | --- | --- |
//! | all the same | that |
//! | a 429 or 5xx among them | the highest: the sender comes again, and what was placed is a duplicate then |
//! | else | 207 |

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::Uri};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::audit::{self, What};
use crate::backoff::Budget;
use crate::kube::ApiError;
use crate::observe::{RequestId, Subject};
use crate::placement::{self, Failure, Placement};
use crate::problem::{FieldError, Kind, Problem};
use crate::router::{Gateway, json_response};
use crate::signal::{Reading, Signal, Source, kubernetes_event, prometheus};

/// For a sender whose signal could not be placed.
const COME_AGAIN: Duration = Duration::from_secs(1);
const LARGEST_BODY: usize = 1 << 20;
const DEGRADED_HEADER: &str = "X-Gateway-Degraded";

/// The request a webhook came in, as far as answers and records name it.
struct Call<'a> {
    gateway: &'a Gateway,
    source: Source,
    request_id: &'a RequestId,
    path: &'a str,
    budget: Budget,
}

/// What became of one signal.
struct Outcome {
    status: StatusCode,
    body: Value,
    degraded: bool,
    subject: Option<Subject>,
    problem: Option<Problem>,
}

/// `POST /api/v1/signals/prometheus`
pub async fn prometheus(
    State(gateway): State<Arc<Gateway>>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    let uri = request.uri().clone();
    let call = Call::new(&gateway, Source::Prometheus, &request_id, &uri);
    let webhook = call.checked(parse::<prometheus::Webhook>(request).await)?;
    let readings = call.checked(webhook.read().map_err(Problem::invalid))?;
    Ok(call.answer(readings).await)
}

/// `POST /api/v1/signals/kubernetes-event`
pub async fn kubernetes_event(
    State(gateway): State<Arc<Gateway>>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    let uri = request.uri().clone();
    let call = Call::new(&gateway, Source::KubernetesEvent, &request_id, &uri);
    let event = call.checked(parse::<kubernetes_event::Event>(request).await)?;
    Ok(call.answer(vec![event.read()]).await)
}

async fn parse<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let headers = request.headers();
    if !is_json(headers.get(CONTENT_TYPE)) {
        let detail = "the `Content-Type` must be `application/json`";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let too_large =
        || Problem::new(Kind::BodyTooLarge, format!("a body has at most {LARGEST_BODY} bytes"));
    // Before the first byte is read: a client that asked whether to go on need not send it.
    if announced_bytes(headers).is_some_and(|bytes| bytes > LARGEST_BODY as u64) {
        return Err(too_large());
    }
    let body = to_bytes(request.into_body(), LARGEST_BODY).await.map_err(|error| {
        let broken_off = || Problem::new(Kind::MalformedBody, "the body breaks off");
        if is_over_limit(&error) { too_large() } else { broken_off() }
    })?;
    serde_json::from_slice(&body).map_err(|error| malformed(&error))
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_over_limit(error: &axum::Error) -> bool {
    let cause = error.source().and_then(<dyn Error>::downcast_ref::<LengthLimitError>);
    cause.is_some()
}

/// serde's messages quote the value at fault, which may be a secret; the place is enough.
fn malformed(error: &serde_json::Error) -> Problem {
    let what = if error.is_data() { "has a value of the wrong type" } else { "is not JSON" };
    let message = format!("{what} at line {} column {}", error.line(), error.column());
    let detail = format!("the body {message}");
    let errors = vec![FieldError { field: "body".to_owned(), message }];
    Problem { errors, ..Problem::new(Kind::MalformedBody, detail) }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

impl<'a> Call<'a> {
    fn new(gateway: &'a Gateway, source: Source, request_id: &'a RequestId, uri: &'a Uri) -> Self {
        let budget = Budget::starting_now(gateway.settings.kube_retry_budget);
        Self { gateway, source, request_id, path: uri.path(), budget }
    }

    /// Counts and records a webhook that is refused whole.
    fn checked<T>(&self, read: Result<T, Problem>) -> Result<T, Problem> {
        read.inspect_err(|problem| self.reject(problem, None))
    }

    async fn answer(&self, readings: Vec<Reading>) -> Response {
        let mut outcomes = Vec::with_capacity(readings.len());
        for reading in readings {
            outcomes.push(self.settle(reading).await);
        }
        let degraded = outcomes.iter().any(|outcome| outcome.degraded);
        let mut response = if outcomes.len() == 1 {
            outcomes.remove(0).into_response()
        } else {
            self.answer_several(outcomes)
        };
        if degraded {
            let redis = HeaderValue::from_static("redis");
            response.headers_mut().insert(DEGRADED_HEADER, redis);
        }
        response
    }

    fn answer_several(&self, outcomes: Vec<Outcome>) -> Response {
        let statuses: Vec<StatusCode> = outcomes.iter().map(|outcome| outcome.status).collect();
        let longest = outcomes.iter().filter_map(|outcome| outcome.problem.as_ref()?.retry_after);
        let longest = longest.max();
        let results: Vec<Value> = outcomes.into_iter().map(|outcome| outcome.body).collect();
        let body = json!({"request_id": self.request_id.as_str(), "results": results});
        let mut response = json_response(status_of_all(&statuses), &body);
        if let Some(wait) = longest {
            let problem = Problem::new(Kind::Unavailable, "").retry_after(wait).into_response();
            response.headers_mut().extend(problem.headers().clone());
        }
        response
    }

    async fn settle(&self, reading: Reading) -> Outcome {
        let source = self.source.name();
        self.gateway.metrics.signals_received.with_label_values(&[source]).inc();
        match reading {
            Reading::Ignored => {
                let body = json!({"status": "ignored", "request_id": self.request_id.as_str()});
                Outcome {
                    status: StatusCode::ACCEPTED,
                    body,
                    degraded: false,
                    subject: None,
                    problem: None,
                }
            }
            Reading::Invalid(errors) => self.refused(Problem::invalid(errors), None),
            Reading::Signal(signal) => {
                let detail = json!({"source": source, "severity": signal.severity});
                self.record(What::Received, Some(&signal), detail);
                match placement::place(self.gateway, &signal, &self.budget).await {
                    Ok(placement) => self.placed(&signal, &placement),
                    Err(failure) => {
                        let error = failure.to_string();
                        let request_id = self.request_id.as_str();
                        tracing::warn!(request_id, error, "signal not placed");
                        self.refused(problem(&failure), Some(&signal))
                    }
                }
            }
        }
    }

    fn placed(&self, signal: &Signal, placement: &Placement) -> Outcome {
        let subject = Subject::of(signal);
        let created = placement.occurrences == 1;
        let mut body = json!({
            "status": if created { "created" } else { "deduplicated" },
            "fingerprint": subject.fingerprint,
            "remediation_request": {"namespace": subject.namespace, "name": placement.name},
            "request_id": self.request_id.as_str(),
        });
        let what = if created { What::Created } else { What::Deduplicated };
        if !created {
            body["occurrences"] = json!(placement.occurrences);
        }
        let detail = json!({
            "remediation_request": placement.name,
            "occurrences": placement.occurrences,
            "degraded": placement.degraded,
        });
        self.record(what, Some(signal), detail);
        tracing::info!(
            request_id = self.request_id.as_str(),
            fingerprint = subject.fingerprint,
            namespace = subject.namespace,
            remediation_request = placement.name,
            occurrences = placement.occurrences,
            degraded = placement.degraded,
            "signal placed"
        );
        let status = if created { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        let degraded = placement.degraded;
        Outcome { status, body, degraded, subject: Some(subject), problem: None }
    }

    fn refused(&self, problem: Problem, signal: Option<&Signal>) -> Outcome {
        self.reject(&problem, signal);
        Outcome {
            status: problem.kind.status(),
            body: problem.document(self.path, self.request_id.as_str()),
            degraded: false,
            subject: signal.map(Subject::of),
            problem: Some(problem),
        }
    }

    fn reject(&self, problem: &Problem, signal: Option<&Signal>) {
        let reason = problem.kind.slug();
        self.gateway.metrics.signals_rejected.with_label_values(&[reason]).inc();
        let fields: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        let detail = json!({"source": self.source.name(), "reason": reason, "fields": fields});
        self.record(What::Rejected, signal, detail);
        let request_id = self.request_id.as_str();
        tracing::warn!(request_id, reason, detail = problem.detail, "signal rejected");
    }

    fn record(&self, what: What, signal: Option<&Signal>, detail: Value) {
        let mut event = audit::event(what, self.request_id.as_str(), detail);
        if let Some(signal) = signal {
            let target = &signal.target;
            event.namespace = Some(target.namespace.clone());
            event.resource = Some(format!("{}/{}", target.kind, target.name));
            event.fingerprint = Some(signal.fingerprint().to_string());
        }
        self.gateway.audit.record(event);
    }
}

impl Outcome {
    fn into_response(self) -> Response {
        let mut response = match self.problem {
            Some(problem) => problem.into_response(),
            None => json_response(self.status, &self.body),
        };
        if let Some(subject) = self.subject {
            response.extensions_mut().insert(subject);
        }
        response
    }
}

/// What the sender is told: nothing of the inside, which is in the log.
fn problem(failure: &Failure) -> Problem {
    match failure {
        Failure::Api(ApiError::RateLimited { retry_after }) => {
            Problem::new(Kind::RateLimited, failure.to_string()).retry_after(*retry_after)
        }
        Failure::Api(ApiError::NamespaceMissing(_)) => {
            Problem::new(Kind::NamespaceNotFound, failure.to_string())
        }
        Failure::Api(ApiError::Refused { .. }) => {
            Problem::new(Kind::Refused, "the Kubernetes API refused the remediation request")
        }
        Failure::Api(ApiError::Unavailable(_)) => unavailable("the Kubernetes API is away"),
        Failure::Api(ApiError::NotFound(_)) => {
            unavailable("the Kubernetes API does not have the remediation request")
        }
        Failure::Api(ApiError::Conflict(_)) => {
            unavailable("the remediation request keeps changing")
        }
        Failure::Lost(_) | Failure::Held => unavailable(&failure.to_string()),
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
}

fn status_of_all(statuses: &[StatusCode]) -> StatusCode {
    let worst = statuses.iter().copied().max().unwrap_or(StatusCode::ACCEPTED);
    let again = worst.is_server_error() || worst == StatusCode::TOO_MANY_REQUESTS;
    let same = statuses.iter().all(|status| *status == worst);
    if same || again { worst } else { StatusCode::MULTI_STATUS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_several_follows_the_table() {
        for (statuses, status) in [
            (vec![201, 201], 201),
            (vec![202, 202, 202], 202),
            (vec![400, 400], 400),
            (vec![201, 202], 207),
            (vec![201, 400], 207),
            (vec![201, 429], 429),
            (vec![429, 503, 201], 503),
        ] {
            let codes = statuses.iter().map(|code| StatusCode::from_u16(*code).unwrap());
            let codes: Vec<StatusCode> = codes.collect();
            assert_eq!(status_of_all(&codes).as_u16(), status, "{statuses:?}");
        }
    }

    #[test]
    fn json_is_told_by_its_media_type_alone() {
        for (text, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            assert_eq!(is_json(Some(&HeaderValue::from_static(text))), json, "{text}");
        }
        assert!(!is_json(None));
    }

    #[test]
    fn a_body_at_fault_is_not_quoted() {
        let body = br#"{"version": "4", "alerts": "hunter2"}"#;
        let error = serde_json::from_slice::<prometheus::Webhook>(body).unwrap_err();
        assert!(error.to_string().contains("hunter2"), "the test shows nothing");
        let problem = malformed(&error);
        assert!(!problem.detail.contains("hunter2"));
        assert_eq!(problem.errors[0].field, "body");
    }
}
