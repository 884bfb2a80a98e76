//! Metrics in the Prometheus text format. Every series exists from the start, at zero.

use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::holmes::Answer;
use crate::resource::Phase;

pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What is counted, and the registry that prints it.
pub(crate) struct Metrics {
    registry: Registry,
    /// By `phase`: analyses that have come to it.
    pub(crate) phases: IntCounterVec,
    /// By `outcome`: [`Answer::OUTCOMES`].
    questions: IntCounterVec,
    question_seconds: Histogram,
    pub(crate) reconcile_errors: IntCounter,
    pub(crate) audit_events_dropped: IntCounter,
}

impl Metrics {
    /// # Errors
    /// Two metrics of one name: never outside development.
    pub(crate) fn new() -> Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| -> Result<_> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let question_seconds = Histogram::with_opts(HistogramOpts::new(
            "aianalysis_holmesgpt_request_duration_seconds",
            "Time from a question to its answer, or to giving up on it.",
        ))?;
        registry.register(Box::new(question_seconds.clone()))?;
        Ok(Self {
            phases: counters(
                "aianalysis_phase_transitions_total",
                "Analyses that have come to a phase.",
                "phase",
                &Phase::ALL.map(Phase::name),
            )?,
            questions: counters(
                "aianalysis_holmesgpt_requests_total",
                "Questions to holmesgpt-api, by what they came to.",
                "outcome",
                &Answer::OUTCOMES,
            )?,
            question_seconds,
            reconcile_errors: counter(
                "aianalysis_reconcile_errors_total",
                "Reconciles that the Kubernetes API ended.",
            )?,
            audit_events_dropped: counter(
                "aianalysis_audit_events_dropped_total",
                "Audit events that never reached DataStorage.",
            )?,
            registry,
        })
    }

    pub(crate) fn asked(&self, outcome: &str, took: Duration) {
        self.questions.with_label_values(&[outcome]).inc();
        self.question_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn text(&self) -> Result<String> {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).context("failed to write the metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = Metrics::new().unwrap().text().unwrap();
        for line in [
            "aianalysis_phase_transitions_total{phase=\"Completed\"} 0",
            "aianalysis_holmesgpt_requests_total{outcome=\"unreachable\"} 0",
            "aianalysis_holmesgpt_request_duration_seconds_count 0",
            "aianalysis_reconcile_errors_total 0",
            "aianalysis_audit_events_dropped_total 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in:\n{text}");
        }
    }
}
