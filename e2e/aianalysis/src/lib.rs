//! The language of `AIAnalysis` on top of [`harness`]: questions in, analyses out.
//!
//! The signals a spec asks about are those of the recorded cases in `images/holmesgpt-api/cases`;
//! each stands for one way in which a question can go.

pub mod analysis;
pub mod env;
pub mod stack;
