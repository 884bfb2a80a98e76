//! What the gateway tells `DataStorage` about each signal; how it is sent says [`service::audit`].

use serde_json::Value;
use service::audit::Event;

/// What can happen to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Received,
    Deduplicated,
    Created,
    Rejected,
}

/// An event of the request `correlation_id`, happening now, about nothing yet.
pub fn event(what: What, correlation_id: &str, detail: Value) -> Event {
    let (kind, outcome) = match what {
        What::Received => ("gateway.signal.received", "success"),
        What::Deduplicated => ("gateway.signal.deduplicated", "success"),
        What::Created => ("gateway.crd.created", "success"),
        What::Rejected => ("gateway.signal.rejected", "failure"),
    };
    Event { outcome, detail, ..Event::new("gateway", kind, correlation_id) }
}
