//! Stage 9: the record of a run, and what records tell.
//!
//! A run leaves `runs/RUN/events.jsonl`, its events as they happened. Everything told of past runs
//! is read from these files alone, and all of it is a value: [`Past`] the runs, [`Past::seconds`]
//! what a piece of work is expected to take, [`Trend`] how that went over time, [`Regression`] what
//! became slower, [`page`] one run for a browser.

mod gate; //     what became slower, beyond the noise
mod html; //     text in which words stay words
pub mod otlp; // one run as a trace
mod page; //     one run for a browser
mod past; //     all runs that are kept, and what work took in them
mod path; //     what a run really waited for
mod record; //   one run, read back
mod recorder; // one run, written while it happens
mod trend; //    how runs and steps went over time

pub use gate::{NEEDED, Regression};
pub use page::{Words, page};
pub use past::{KEPT, Past, prune};
pub use record::{Image, Record, Step, Wait};
pub use recorder::Recorder;
pub use trend::Trend;
