//! YAML, read on a stack of its own.
//!
//! The reader calls itself for each level of a text, up to 64 of them, and a level takes some 45
//! KiB where it is not optimised. The 2 MiB of a thread were over at 46 levels, and with them the
//! whole process: lists in lists of a stranger's manifest did that
//! (`fuzz-corpus/kustomization/nested`).

use serde::de::{DeserializeOwned, Error as _};
use serde_saphyr::Error;

/// Room for all levels that the reader lets through, several times over. Only what is used of it
/// takes memory.
const STACK: usize = 32 << 20;

/// A text of one document.
pub(crate) fn read<T: DeserializeOwned + Send>(text: &str) -> Result<T, Error> {
    apart(|| serde_saphyr::from_str(text))
}

/// The documents of a text.
pub(crate) fn read_all<T: DeserializeOwned + Send>(text: &str) -> Result<Vec<T>, Error> {
    apart(|| serde_saphyr::from_multiple(text))
}

fn apart<T: Send>(read: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|threads| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(threads, read);
        match reader.map_err(|error| Error::custom(error.to_string()))?.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_depth_is_an_answer_or_an_error() {
        for depth in (1..300).step_by(7) {
            let text = format!("{}1{}", "[{a: ".repeat(depth), "}]".repeat(depth));
            let read: Result<serde_json::Value, _> = read(&text);
            assert_eq!(read.is_ok(), depth < 32, "{depth}");
            assert_eq!(read_all::<serde_json::Value>(&text).is_ok(), depth < 32, "{depth}");
        }
    }
}
