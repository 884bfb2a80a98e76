//! What a suite of specs against a live cluster stands on.
//!
//! A spec owns what it touches: its namespace ([`namespace`]), and where it breaks things its own
//! copy of the gateway and Redis ([`stack`]). So specs run side by side, in any order, twice in a
//! row. They learn addresses from the run alone ([`env`]), see the cluster through [`kubectl`] and
//! wait by looking, with a deadline ([`eventually`]); nothing sleeps for a fixed time.
//!
//! [`env`], [`kubectl`], [`http`], [`eventually`], [`namespace`], [`deployment`], [`port_forward`], [`rate_limit`],
//! [`spec`], [`metrics`] and [`audit`] know nothing of the gateway; the other modules speak its language.

pub mod deployment;
pub mod env;
pub mod eventually;
pub mod http;
pub mod kubectl;
pub mod namespace;
pub mod port_forward;
pub mod rate_limit;
pub mod spec;

pub mod audit;
pub mod metrics;

pub mod alert;
pub mod event;
pub mod gateway;
pub mod remediation;
pub mod stack;
