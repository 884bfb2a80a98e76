//! Audit events, asked for at `DataStorage` by the correlation id of what caused them.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::eventually::{SOON, eventually};
use crate::http;

/// One audit event, as far as specs look.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditEvent {
    pub event_type: String,
    pub service: String,
    pub correlation_id: String,
    pub namespace: Option<String>,
    pub fingerprint: Option<String>,
    pub outcome: String,
    pub occurred_at: String,
    #[serde(default)]
    pub detail: Value,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<AuditEvent>,
    count: usize,
}

/// Waits until all of `types` have been stored under the id; every event of it, oldest first.
///
/// Services send in batches, behind their work: the events come, but not at once.
pub fn events_of(
    datastorage_url: &str,
    correlation_id: &str,
    types: &[&str],
) -> Result<Vec<AuditEvent>> {
    let what = format!("the audit events {types:?} under `{correlation_id}` are stored");
    let mut events = eventually(&what, SOON, || {
        let events = stored(datastorage_url, correlation_id)?;
        let seen: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
        ensure!(types.iter().all(|wanted| seen.contains(wanted)), "only {seen:?} are there");
        Ok(events)
    })?;
    events.reverse();
    Ok(events)
}

fn stored(datastorage_url: &str, correlation_id: &str) -> Result<Vec<AuditEvent>> {
    let answer = http::get(&format!(
        "{datastorage_url}/api/v1/audit/events?correlation_id={correlation_id}&limit=500"
    ))?;
    ensure!(answer.status == 200, "DataStorage says {answer:?}");
    let page: Page = answer.parse()?;
    ensure!(page.count == page.events.len(), "`count` is not the number of events: {answer:?}");
    Ok(page.events)
}
