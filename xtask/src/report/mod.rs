//! Stage 9: the record of a run, and what records tell.
//!
//! A run leaves `runs/RUN/events.jsonl`, its events as they happened. Everything told of past runs is read from
//! these files alone, and all of it is a value: [`Past`] the runs, [`Past::seconds`] what a piece of work
//! is expected to take.

pub mod otlp; // one run as a trace
mod past; //     all runs that are kept, and what work took in them
mod record; //   one run, read back
mod recorder; // one run, written while it happens

pub use past::{KEPT, Past, prune};
pub use record::{Image, Record, Step, Wait};
pub use recorder::Recorder;
