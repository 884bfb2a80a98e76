//! What a suite of specs against a live cluster stands on.
//!
//! A spec owns what it touches: its namespace ([`namespace`]), and where it breaks things its own
//! copies of the services ([`stack`]). So specs run side by side, in any order, twice in a row.
//! They learn addresses from the run alone (`env`), see the cluster through [`kubectl`] and wait
//! by looking, with a deadline ([`eventually`]); nothing sleeps for a fixed time.
//!
//! Nothing here knows what a service does; that language each suite brings along.

pub mod deployment;
pub mod env;
pub mod eventually;
pub mod http;
pub mod kubectl;
pub mod namespace;
pub mod port_forward;
pub mod spec;

pub mod audit;
pub mod metrics;
pub mod stack;
