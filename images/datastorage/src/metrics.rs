//! What `/metrics` counts, in Prometheus' text form.

use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, Registry, TextEncoder};

#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) events_stored: IntCounter,
    pub(crate) events_repeated: IntCounter,
    pub(crate) events_read: IntCounter,
    pub(crate) database_errors: IntCounter,
    requests: HistogramVec,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let requests = HistogramVec::new(
            HistogramOpts::new(
                "datastorage_http_request_duration_seconds",
                "Time from a request's head to its answer",
            ),
            &["method", "path", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self {
            events_stored: counter(
                "datastorage_events_stored_total",
                "Audit events written to the database",
            )?,
            events_repeated: counter(
                "datastorage_events_repeated_total",
                "Audit events that were already there",
            )?,
            events_read: counter("datastorage_events_read_total", "Audit events answered")?,
            database_errors: counter(
                "datastorage_database_errors_total",
                "Requests the database failed to serve",
            )?,
            requests,
            registry,
        })
    }

    /// `path` is the route's pattern, so that a caller cannot make up label values.
    pub(crate) fn observe(&self, method: &str, path: &str, status: u16, duration: Duration) {
        let labels = [method, path, &status.to_string()];
        self.requests.with_label_values(&labels).observe(duration.as_secs_f64());
    }

    pub(crate) fn render(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).context("write the metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_a_counter_show_in_the_text() {
        let metrics = Metrics::new().unwrap();
        metrics.events_stored.inc_by(3);
        metrics.observe("POST", "/api/v1/audit/events", 201, Duration::from_millis(4));
        let text = metrics.render().unwrap();
        assert!(text.contains("\ndatastorage_events_stored_total 3\n"), "{text}");
        let line = "datastorage_http_request_duration_seconds_count\
                    {method=\"POST\",path=\"/api/v1/audit/events\",status=\"201\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
