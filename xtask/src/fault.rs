//! A panic is a fault of xtask's own: it is told as one, with what may have led to it, and exits
//! with 4.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;

use crate::error::{ErrorExt as _, Exit};
use crate::paths;

/// What the first panic said, and where.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Does the work. A panic in it, in whatever thread, becomes its error.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::set_hook(Box::new(note));
    // Nothing of what the work has left half-done is looked at again.
    let result = catch_unwind(AssertUnwindSafe(work));
    match FIRST.lock().take() {
        Some(said) => Err(of(&said, paths::opened_home())),
        None => result.unwrap_or_else(|_| Err(of("", None))),
    }
}

fn note(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(|at| format!(" ({at})")).unwrap_or_default();
    let text = panic.payload_as_str().unwrap_or("it panicked");
    let mut first = FIRST.lock();
    first.get_or_insert_with(|| format!("{text}{place}"));
}

fn of(said: &str, home: Option<&Path>) -> anyhow::Error {
    let hint = home.map(|home| {
        let state = home.join("state");
        format!("if it comes again, remove what is remembered: rm -r {}", state.display())
    });
    anyhow!("this is a fault of xtask: {said}").hints(hint).exit(Exit::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn a_panic_names_the_folder_that_may_have_led_to_it() {
        let fault = of("overflow (a.rs:1:2)", Some(Path::new("/w/target/xtask")));
        insta::assert_snapshot!(error::told(&fault), @r"
        this is a fault of xtask: overflow (a.rs:1:2)
        hint: if it comes again, remove what is remembered: rm -r /w/target/xtask/state
        ");
    }
}
