//! The traces of a command's runs, sent to the collector of `[telemetry]` when all else is over. A
//! collector that fails costs a line, never the run.

use crate::config::Otlp;
use crate::error;
use crate::paths::RunPaths;
use crate::report::{Record, otlp};
use crate::session::Session;
use crate::ui;

/// The environment that names the collector where the configuration leaves it to it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Sends the traces of the runs that were begun.
pub(crate) fn send(session: &Session, runs: &[RunPaths]) {
    // Most commands begin none, and need no configuration.
    let Some(endpoint) = (!runs.is_empty()).then(|| endpoint(session)).flatten() else { return };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for run in runs {
        let text = fs_err::read_to_string(run.events()).unwrap_or_default();
        // A run that ended before its plan has nothing to tell.
        let Ok(Some(record)) = Record::read(&run.id, &text) else { continue };
        if let Err(error) = otlp::send(&endpoint, &record, &host) {
            ui::say(&format!("note  {}", error::told(&error)));
            return;
        }
    }
}

fn endpoint(session: &Session) -> Option<String> {
    match session.config().ok()?.telemetry.as_ref()? {
        Otlp::Endpoint(endpoint) => Some(endpoint.clone()),
        Otlp::Environment => std::env::var_os(ENDPOINT)?.into_string().ok(),
    }
}
