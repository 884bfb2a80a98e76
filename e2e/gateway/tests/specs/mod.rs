//! One requirement, one file, one test that carries the requirement's id in its name.

mod concurrent_alerts;
mod cors;
mod crd_lifecycle;
mod deduplication_ttl;
mod error_codes;
mod fingerprint;
mod health;
mod kubernetes_events;
mod metrics;
mod namespace_isolation;
mod rate_limiting;
mod redis_failure;
mod restart;
mod state_deduplication;
mod structured_logging;
mod validation;
