//! The gateway: alerts and Kubernetes events in, `RemediationRequest`s out.
//!
//! The modules in the order in which a signal meets them.

pub mod config;
pub mod metrics;

pub mod cors;
pub mod observe; // request id, access log, durations, problem bodies
pub mod problem;
pub mod router; // paths to handlers
pub mod server; // listens, drains, stops

pub mod fingerprint;
pub mod intake; // one webhook: parse, place each signal, answer
pub mod signal; // what came in, validated

pub mod claims; // what Redis remembers
pub mod dedup; // new request or duplicate: the decision
pub mod placement; // new request or duplicate: the protocol
pub mod remediation; // the custom resource

pub mod audit;
pub mod backoff;
pub mod health;
pub mod kube; // the Kubernetes API
