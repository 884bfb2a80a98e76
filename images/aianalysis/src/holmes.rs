//! holmesgpt-api: one question, and what an answer means.
//!
//! | answer | meaning | then |
//! | --- | --- | --- |
//! | 200 with an analysis | – | completed |
//! | 404 | it knows no such case | failed |
//! | other 4xx but 408 and 429 | we asked for the wrong thing | failed |
//! | 408, 429, 5xx, no answer in time, a 200 that cannot be read | it may pass | asked again |
//! | no connection | nobody is there | asked again, not counted |
//! | 3xx or 4xx without the `detail` it always gives | somebody else answers in its place | likewise |
//!
//! The last is no invention: until kube-proxy has the rules of a new Service, what is sent to its
//! address leaves the node, and where all that leaves meets a proxy, the proxy answers (seen: 404,
//! no body). So that the next question goes where the rules lead by then, each has a connection of
//! its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use service::http_client::{self, HttpClient};

use crate::metrics::Metrics;
use crate::resource::{AiAnalysis, Analysis};

/// What a question came to; the text goes to the status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Analysis(Analysis),
    Refused(Refusal, String),
    Faulty(String),
    Unreachable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownCase,
    Request,
}

impl Answer {
    /// The label values of the metric, in the order of the table above.
    pub(crate) const OUTCOMES: [&'static str; 4] = ["analysis", "refused", "faulty", "unreachable"];

    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Analysis(_) => Self::OUTCOMES[0],
            Self::Refused(..) => Self::OUTCOMES[1],
            Self::Faulty(_) => Self::OUTCOMES[2],
            Self::Unreachable(_) => Self::OUTCOMES[3],
        }
    }
}

/// A client of holmesgpt-api.
pub(crate) struct Holmes {
    client: HttpClient,
    url: String,
    timeout: Duration,
}

impl Holmes {
    pub(crate) fn new(base: &str, timeout: Duration) -> Self {
        let url = format!("{base}/api/v1/investigations");
        Self { client: HttpClient::new(), url, timeout }
    }

    /// Asks for an analysis.
    pub(crate) async fn ask(&self, analysis: &AiAnalysis, metrics: &Metrics) -> Answer {
        let asked = Instant::now();
        let answer = match self.post(&question(analysis)).await {
            Ok(answer) => judge(answer.status, &answer.body),
            Err(error) if http_client::is_unreachable(&error) => {
                Answer::Unreachable(format!("no connection: {error:#}"))
            }
            Err(error) => Answer::Faulty(format!("{error:#}")),
        };
        metrics.asked(answer.outcome(), asked.elapsed());
        answer
    }

    async fn post(&self, body: &Value) -> Result<http_client::Answer> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::from(body.to_string()))
            .context("failed to make the request")?;
        self.client.send(request, self.timeout).await
    }
}

fn question(analysis: &AiAnalysis) -> Value {
    let spec = &analysis.spec;
    json!({
        "analysis_id": analysis.metadata.uid,
        "remediation_request": spec.remediation_request,
        "signal_fingerprint": spec.signal_fingerprint,
        "signal_name": spec.signal_name,
        "severity": spec.severity,
        "environment": spec.environment,
        "target_resource": spec.target_resource,
    })
}

fn judge(status: StatusCode, body: &[u8]) -> Answer {
    if status == StatusCode::OK {
        return match serde_json::from_slice(body) {
            Ok(analysis) => Answer::Analysis(analysis),
            Err(error) => Answer::Faulty(format!("its answer cannot be read: {error}")),
        };
    }
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = status.as_u16();
    let Some(detail) = problem["detail"].as_str() else {
        return match status {
            status if status.is_client_error() || status.is_redirection() => {
                Answer::Unreachable(format!("somebody else answers in its place: {status}"))
            }
            _ => Answer::Faulty(format!("holmesgpt-api answered {code}: no detail")),
        };
    };
    let detail = format!("holmesgpt-api answered {code}: {detail}");
    match status {
        StatusCode::NOT_FOUND => Answer::Refused(Refusal::UnknownCase, detail),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::Faulty(detail),
        status if status.is_client_error() => Answer::Refused(Refusal::Request, detail),
        _ => Answer::Faulty(detail),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::ConnectInfo;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let found = r#"{"case_id":"a","root_cause":"b","confidence":90,"recommendations":["c"]}"#;
        for (status, body, outcome) in [
            (200, found, "analysis"),
            (200, "{}", "faulty"),
            (200, "", "faulty"),
            (404, r#"{"detail":"no case"}"#, "refused"),
            (422, r#"{"detail":"severity: unknown","errors":[]}"#, "refused"),
            (408, r#"{"detail":"too slow"}"#, "faulty"),
            (429, r#"{"detail":"too many"}"#, "faulty"),
            (503, r#"{"detail":"case `a` fails here"}"#, "faulty"),
            (500, "Internal Server Error", "faulty"),
            (404, "", "unreachable"),
            (404, "404 page not found", "unreachable"),
            (400, r#"{"error":"no such host"}"#, "unreachable"),
            (301, "", "unreachable"),
        ] {
            let answer = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(answer.outcome(), outcome, "{status} {body}: {answer:?}");
        }
        let unknown = judge(StatusCode::NOT_FOUND, br#"{"detail":"no case"}"#);
        let text = "holmesgpt-api answered 404: no case".to_owned();
        assert_eq!(unknown, Answer::Refused(Refusal::UnknownCase, text));
    }

    #[tokio::test]
    async fn each_question_has_a_connection_of_its_own() {
        let connections = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&connections);
        let app = Router::new().fallback(move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
            seen.lock().unwrap().insert(peer);
            async { StatusCode::NOT_FOUND }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let holmes = Holmes::new(&url, Duration::from_secs(5));
        let metrics = Metrics::new().unwrap();
        for _ in 0..3 {
            let answer = holmes.ask(&AiAnalysis::default(), &metrics).await;
            assert_eq!(answer.outcome(), "unreachable", "{answer:?}");
        }
        assert_eq!(connections.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_and_silence_is_a_fault() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let holmes = Holmes::new(&url, Duration::from_millis(50));
        let metrics = Metrics::new().unwrap();
        let silent = holmes.ask(&AiAnalysis::default(), &metrics).await;
        assert_eq!(silent.outcome(), "faulty", "{silent:?}");
        drop(listener);
        let holmes = Holmes::new(&url, Duration::from_secs(5));
        let nobody = holmes.ask(&AiAnalysis::default(), &metrics).await;
        assert_eq!(nobody.outcome(), "unreachable", "{nobody:?}");
    }
}
