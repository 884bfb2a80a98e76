//! Writing the record of a run while it happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use anyhow::Result;
use parking_lot::Mutex;

use crate::event::{Event, Sink, Stamped};
use crate::private::PrivatePath;

/// Writes every event of a run to a file as it happens, one JSON object a line: a run that is
/// killed leaves all it had done.
pub struct Recorder(Mutex<Inner>);

struct Inner {
    file: File,
    /// What each step was last said to wait for: said at every look, worth a line when it changes.
    waiting: BTreeMap<String, String>,
}

impl Recorder {
    pub fn new(file: &PrivatePath) -> Result<Self> {
        let file = file.create()?;
        Ok(Self(Mutex::new(Inner { file, waiting: BTreeMap::new() })))
    }
}

impl Sink for Recorder {
    fn receive(&self, event: &Stamped) {
        let mut inner = self.0.lock();
        match &event.event {
            // Lines of children are in their own logs.
            Event::BuildLine { .. } | Event::TestLine { .. } | Event::LoadProgress { .. } => return,
            Event::StepWaiting { step, waiting_for } => {
                let last = inner.waiting.insert(step.clone(), waiting_for.clone());
                if last.as_ref() == Some(waiting_for) {
                    return;
                }
            }
            _ => {}
        }
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            // A disk that is full must not stop a run that may go on without its record.
            inner.file.write_all(&line).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Events;

    #[test]
    fn what_is_waited_for_is_written_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivatePath::below(folder.path(), "runs/1/events.jsonl");
        let events = Events::to(vec![Box::new(Recorder::new(&file).unwrap())]);
        for (step, what) in [("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
            events.waiting(step, what);
        }
        events.emit(Event::TestLine { line: "long".into() });
        assert_eq!(fs_err::read_to_string(&file).unwrap().lines().count(), 4);
    }
}
