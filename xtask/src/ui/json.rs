//! One JSON object a line on stdout, as scripts read it.

use crate::event::{Sink, Stamped};

pub(super) struct Json;

impl Sink for Json {
    fn receive(&self, event: &Stamped) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            // A script that stopped reading must not stop the run.
            super::json(&line).ok();
        }
    }
}
