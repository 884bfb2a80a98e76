//! The gateway as its callers see it, between a fake Kubernetes API, a fake Redis and a fake
//! `DataStorage`, over real HTTP on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test code, helpers included")]

mod harness;
mod kube_api;
mod redis_server;

mod answers;
mod audit;
mod deduplication;
mod outages;
