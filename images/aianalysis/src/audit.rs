//! What `DataStorage` is told of an analysis; how it is sent says [`service::audit`].
//!
//! | event | when |
//! | --- | --- |
//! | `aianalysis.investigation.started` | its phase has become Investigating |
//! | `aianalysis.investigation.retried` | a question brought no analysis and another will be asked |
//! | `aianalysis.analysis.completed`, `aianalysis.analysis.failed` | it is over |
//!
//! The correlation id is the resource's uid. An event is recorded after the status was written: a
//! controller killed between the two loses one, it never tells what did not happen.

use serde_json::json;
use service::audit::Event;

use crate::resource::{AiAnalysis, Phase, Status};
use crate::status;

pub(crate) fn events(before: &Status, written: &AiAnalysis) -> Vec<Event> {
    let now = &written.status;
    let kind = match now.phase {
        Some(phase) if before.phase == Some(phase) => {
            if now.setbacks == before.setbacks {
                return Vec::new();
            }
            ("aianalysis.investigation.retried", "failure")
        }
        Some(Phase::Investigating) => ("aianalysis.investigation.started", "success"),
        Some(Phase::Completed) => ("aianalysis.analysis.completed", "success"),
        Some(Phase::Failed) => ("aianalysis.analysis.failed", "failure"),
        Some(Phase::Pending) | None => return Vec::new(),
    };
    vec![event(kind, written)]
}

fn event((kind, outcome): (&'static str, &'static str), analysis: &AiAnalysis) -> Event {
    let metadata = &analysis.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    Event {
        namespace: metadata.namespace.clone(),
        resource: Some(format!("AIAnalysis/{name}")),
        fingerprint: Some(analysis.spec.signal_fingerprint.clone()),
        outcome,
        detail: json!({
            "remediation_request": analysis.spec.remediation_request,
            "attempts": analysis.status.attempts,
            "reason": status::reason(&analysis.status),
        }),
        ..Event::new("aianalysis", kind, metadata.uid.as_deref().unwrap_or(name))
    }
}
