//! Stage 9: the record of a run, and what records tell.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::event::{Event, Sink, Stamped};

/// Writes every event of a run to a file as it happens, one JSON object a line: a run that is
/// killed leaves all it had done.
pub struct Recorder {
    file: Mutex<File>,
}

impl Recorder {
    pub fn new(file: &Path) -> Result<Self> {
        if let Some(folder) = file.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let file = fs_err::File::create(file)?.into_parts().0;
        Ok(Self { file: Mutex::new(file) })
    }
}

impl Sink for Recorder {
    fn receive(&self, event: &Stamped) {
        // Lines of children are in their own logs.
        if matches!(event.event, Event::BuildLine { .. } | Event::TestLine { .. }) {
            return;
        }
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            // A disk that is full must not stop a run that may go on without its record.
            self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line).ok();
        }
    }
}
