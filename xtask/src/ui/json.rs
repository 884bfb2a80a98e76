//! One JSON object a line on stdout, as scripts read it.

use crate::event::{Sink, Stamped};

pub(super) struct Json;

impl Sink for Json {
    fn receive(&self, event: &Stamped) {
        // A script that stopped reading must not stop the run.
        super::json_line(event).ok();
    }
}
