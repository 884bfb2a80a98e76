//! Metrics in the Prometheus text format. Every series exists from the start, at zero, so that
//! `rate()` sees the first event. Labels hold only values from small, fixed sets.

use anyhow::{Context, Result};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::problem;
use crate::signal::Source;

/// The type of the text that [`Metrics::text`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What is counted, and the registry that prints it.
pub struct Metrics {
    registry: Registry,
    /// By `source`: every signal that could be read, before it is judged.
    pub signals_received: IntCounterVec,
    pub signals_deduplicated: IntCounter,
    pub crds_created: IntCounter,
    /// By `reason`, the slug of the problem.
    pub signals_rejected: IntCounterVec,
    /// Seconds by `method`, `path` (the route, not the URL) and `status`.
    pub http_request_duration: HistogramVec,
    /// 1 while Redis is away.
    pub degraded: IntGauge,
    pub kube_api_retries: IntCounter,
    pub audit_events_dropped: IntCounter,
}

impl Metrics {
    /// # Errors
    /// Two metrics of one name: never outside development.
    pub fn new() -> Result<Self> {
        Self::registered().context("failed to register the metrics")
    }

    fn registered() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let metrics = Self {
            signals_received: counters(
                "gateway_signals_received_total",
                "Signals received, by source.",
                "source",
            )?,
            signals_deduplicated: counter(
                "gateway_signals_deduplicated_total",
                "Signals counted on a remediation request that was there already.",
            )?,
            crds_created: counter("gateway_crds_created_total", "Remediation requests created.")?,
            signals_rejected: counters(
                "gateway_signals_rejected_total",
                "Signals or bodies answered with an error, by reason.",
                "reason",
            )?,
            http_request_duration: HistogramVec::new(
                HistogramOpts::new(
                    "gateway_http_request_duration_seconds",
                    "Time from the request's head to the answer's head.",
                ),
                &["method", "path", "status"],
            )?,
            degraded: IntGauge::new("gateway_degraded", "1 while Redis is away.")?,
            kube_api_retries: counter(
                "gateway_kube_api_retries_total",
                "Requests to the Kubernetes API sent again after it limited them.",
            )?,
            audit_events_dropped: counter(
                "gateway_audit_events_dropped_total",
                "Audit events that never reached DataStorage.",
            )?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.http_request_duration.clone()))?;
        registry.register(Box::new(metrics.degraded.clone()))?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for source in Source::ALL {
            self.signals_received.with_label_values(&[source.name()]);
        }
        for kind in problem::Kind::ALL {
            self.signals_rejected.with_label_values(&[kind.slug()]);
        }
    }

    /// # Errors
    /// A metric that cannot be printed: never outside development.
    pub fn text(&self) -> Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .context("failed to print the metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_before_the_first_signal() {
        let text = Metrics::new().unwrap().text().unwrap();
        for line in [
            "gateway_signals_received_total{source=\"prometheus\"} 0",
            "gateway_signals_received_total{source=\"kubernetes-event\"} 0",
            "gateway_signals_deduplicated_total 0",
            "gateway_crds_created_total 0",
            "gateway_signals_rejected_total{reason=\"invalid-signal\"} 0",
            "gateway_degraded 0",
            "gateway_kube_api_retries_total 0",
            "gateway_audit_events_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
