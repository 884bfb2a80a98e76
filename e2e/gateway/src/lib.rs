//! The gateway's language on top of [`harness`]: signals in, `RemediationRequest`s out.

pub use harness::{audit, deployment, eventually, http, kubectl, metrics, namespace, spec};

pub mod env;
pub mod rate_limit;

pub mod alert;
pub mod event;
pub mod gateway;
pub mod remediation;
pub mod stack;
