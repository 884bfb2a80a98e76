//! Audit events to `DataStorage`, behind the signal's back: a bounded queue, batches, a few tries.
//!
//! Nothing here may delay or fail a signal. A full queue, a batch refused, or one that could not be
//! sent in `TRIES` tries is dropped and counted in `gateway_audit_events_dropped_total`. Events
//! carry their own ids, so a batch sent twice is stored once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use chrono::{SecondsFormat, Utc};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::backoff;
use crate::http_client::{Answer, HttpClient};
use crate::metrics::Metrics;

const QUEUE: usize = 2048;
const BATCH: usize = 100;
const TRIES: u32 = 5;
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// The sending end; cheap to clone. The queue is drained when the last clone is gone.
#[derive(Clone)]
pub struct Audit {
    /// `None` when audit is turned off.
    queue: Option<mpsc::Sender<Event>>,
    metrics: Arc<Metrics>,
}

/// One thing that happened to a signal.
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

/// What can happen to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Received,
    Deduplicated,
    Created,
    Rejected,
}

impl Event {
    /// An event of the request `correlation_id`, happening now, about nothing yet.
    pub fn new(what: What, correlation_id: &str, detail: Value) -> Self {
        let (event_type, outcome) = match what {
            What::Received => ("gateway.signal.received", "success"),
            What::Deduplicated => ("gateway.signal.deduplicated", "success"),
            What::Created => ("gateway.crd.created", "success"),
            What::Rejected => ("gateway.signal.rejected", "failure"),
        };
        Self {
            event_id: Uuid::new_v4().to_string(),
            event_type,
            service: "gateway",
            correlation_id: correlation_id.to_owned(),
            namespace: None,
            resource: None,
            fingerprint: None,
            outcome,
            // Finer than a second, or the events of one request have no order.
            occurred_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            detail,
        }
    }
}

impl Audit {
    /// Starts the sender. The handle ends when every `Audit` is gone and the queue is empty.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn start(url: Option<&str>, metrics: Arc<Metrics>) -> Result<(Self, JoinHandle<()>)> {
        let Some(base) = url else {
            return Ok((Self { queue: None, metrics }, tokio::spawn(async {})));
        };
        let (queue, events) = mpsc::channel(QUEUE);
        let sender = Sender {
            client: HttpClient::trusting(None)?,
            url: format!("{base}/api/v1/audit/events"),
            metrics: Arc::clone(&metrics),
        };
        let task = tokio::spawn(sender.drain(events));
        Ok((Self { queue: Some(queue), metrics }, task))
    }

    /// Queues the event, or drops and counts it.
    pub fn record(&self, event: Event) {
        let full = self.queue.as_ref().is_some_and(|queue| queue.try_send(event).is_err());
        if full {
            self.metrics.audit_events_dropped.inc();
        }
    }
}

/// The receiving end.
struct Sender {
    client: HttpClient,
    url: String,
    metrics: Arc<Metrics>,
}

impl Sender {
    async fn drain(self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            if let Err(error) = self.send(&batch).await {
                let error = format!("{error:#}");
                tracing::warn!(error, events = batch.len(), "audit events are dropped");
                self.metrics.audit_events_dropped.inc_by(batch.len() as u64);
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
            tokio::time::sleep(backoff::delay(attempt, None, fastrand::f64())).await;
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
