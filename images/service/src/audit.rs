//! Audit events to `DataStorage`, behind the service's back: a bounded queue, batches, a few tries.
//!
//! Nothing here may delay or fail what is recorded. A full queue, a batch refused, or one that
//! could not be sent in `TRIES` tries is dropped and counted. Events carry their own ids, so a
//! batch sent twice is stored once.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use chrono::{SecondsFormat, Utc};
use http_body_util::Full;
use prometheus::IntCounter;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::http_client::{Answer, HttpClient};

const QUEUE: usize = 2048;
const BATCH: usize = 100;
const TRIES: u32 = 5;
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// The sending end; cheap to clone. The queue is drained when the last clone is gone.
#[derive(Clone)]
pub struct Audit {
    /// `None` when audit is turned off.
    queue: Option<mpsc::Sender<Event>>,
    dropped: IntCounter,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub event_id: String,
    pub event_type: &'static str,
    pub service: &'static str,
    pub correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    pub outcome: &'static str,
    pub occurred_at: String,
    pub detail: Value,
}

impl Event {
    /// An event of the service, happening now, about nothing yet. `kind` is dotted words:
    /// `gateway.signal.received`.
    pub fn new(service: &'static str, kind: &'static str, correlation_id: &str) -> Self {
        Self {
            event_id: Uuid::new_v4().to_string(),
            event_type: kind,
            service,
            correlation_id: correlation_id.to_owned(),
            namespace: None,
            resource: None,
            fingerprint: None,
            outcome: "success",
            // Finer than a second, or the events of one request have no order.
            occurred_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            detail: json!({}),
        }
    }
}

impl Audit {
    /// Starts the sender; no `url` turns audit off, `dropped` counts what is lost. The handle ends
    /// when every `Audit` is gone and the queue is empty.
    pub fn start(url: Option<&str>, dropped: IntCounter) -> (Self, JoinHandle<()>) {
        let Some(base) = url else {
            return (Self { queue: None, dropped }, tokio::spawn(async {}));
        };
        let (queue, events) = mpsc::channel(QUEUE);
        let sender = Sender {
            client: HttpClient::new(),
            url: format!("{base}/api/v1/audit/events"),
            dropped: dropped.clone(),
        };
        let task = tokio::spawn(sender.drain(events));
        (Self { queue: Some(queue), dropped }, task)
    }

    /// Queues the event, or drops and counts it.
    pub fn record(&self, event: Event) {
        let full = self.queue.as_ref().is_some_and(|queue| queue.try_send(event).is_err());
        if full {
            self.dropped.inc();
        }
    }
}

/// The receiving end.
struct Sender {
    client: HttpClient,
    url: String,
    dropped: IntCounter,
}

impl Sender {
    async fn drain(self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            if let Err(error) = self.send(&batch).await {
                let error = format!("{error:#}");
                tracing::warn!(error, events = batch.len(), "audit events are dropped");
                self.dropped.inc_by(batch.len() as u64);
            }
            batch.clear();
        }
    }

    async fn send(&self, batch: &[Event]) -> Result<()> {
        let body = json!({ "events": batch }).to_string();
        let mut attempt = 0;
        loop {
            let error = match self.post(&body).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if answer.status.is_client_error() => {
                    bail!("DataStorage refused them with {}", answer.status)
                }
                Ok(answer) => anyhow!("DataStorage answered {}", answer.status),
                Err(error) => error,
            };
            attempt += 1;
            if attempt == TRIES {
                return Err(error.context("failed to reach DataStorage"));
            }
            tokio::time::sleep(Backoff::BRIEF.delay(attempt, None, fastrand::f64())).await;
        }
    }

    async fn post(&self, body: &str) -> Result<Answer> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_owned()))
            .context("failed to make the request")?;
        self.client.send(request, SEND_LIMIT).await
    }
}
