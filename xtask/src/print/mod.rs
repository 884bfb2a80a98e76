//! Results as text and JSON, for commands to print. Nothing here decides or asks.

pub(crate) mod context;
pub(crate) mod findings;
pub(crate) mod garbage;
pub(crate) mod matrix;
pub(crate) mod notes;
pub(crate) mod plan;
pub(crate) mod timings;
pub(crate) mod touched;
