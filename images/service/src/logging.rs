//! Logs: one JSON object a line on stdout, with `timestamp`, `level`, `message` and the fields
//! of the event beside them at the top level.
//!
//! What may be in a field: request ids, methods, paths without their query, status codes, names and
//! fingerprints. Never a label value, an annotation or a body, which may hold secrets.

use tracing::level_filters::LevelFilter;

/// Installs the subscriber; a second call changes nothing.
pub fn start(level: LevelFilter) {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level)
        .finish();
    // Fails only when a subscriber is there already, as in tests.
    drop(tracing::subscriber::set_global_default(subscriber));
}
