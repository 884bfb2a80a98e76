//! One requirement, one file, one test that carries the requirement's id in its name.

mod attempts_exhausted;
mod audit_trail;
mod case_selection;
mod completion;
mod conditions;
mod controller_restart;
mod deletion;
mod holmes_outage;
mod immutability;
mod many_at_once;
mod metrics;
mod probes;
mod refusal;
mod retry;
mod time_out;
mod validation;
