//! What the services have in common, so that each says it once.
//!
//! Nothing here knows what a service does: names of settings, metrics and audit events are the
//! service's own.

pub mod logging;
pub mod settings;

pub mod backoff;
pub mod http_client;

pub mod audit;

pub mod custom_resource;
