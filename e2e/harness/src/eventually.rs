//! Waiting by looking: a probe is asked until it says yes or the deadline passes.
//!
//! A probe answers `Err` for "not yet"; the last such answer becomes part of the error, so a
//! deadline that passes says what was seen instead of what was hoped for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Long enough for a pod to start on a busy two-core machine.
pub const SOON: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(150);

/// The first `Ok` of `probe` before `deadline` has passed; `what` finishes "failed to see that …".
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= deadline => {
                return Err(error)
                    .with_context(|| format!("failed to see that {what} within {deadline:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Asks `probe` again and again for `span`, once more after it; the first `Err` ends it.
pub fn throughout(what: &str, span: Duration, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        let over = start.elapsed() >= span;
        probe().with_context(|| {
            format!("failed to see that {what} for {span:?}; it held {:?}", start.elapsed())
        })?;
        if over {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}
