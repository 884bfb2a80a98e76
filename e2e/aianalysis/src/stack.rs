//! A controller and a holmesgpt-api of a spec's own ([`harness::stack`]).
//!
//! The private controller minds resources that name its namespace as their class, which the shared
//! one leaves alone.

use anyhow::Result;
use harness::stack::{Plan, Stack};

use crate::analysis::Request;

/// Both, ready.
pub fn start(spec: &str, env: &[(&str, &str)]) -> Result<Stack> {
    let own = [
        ("CONTROLLER_CLASS", "{namespace}"),
        ("HOLMESGPT_URL", "http://holmesgpt-api.{namespace}:8080"),
    ];
    let env = [&own, env].concat();
    let (service, with) = ("aianalysis", &["holmesgpt-api"]);
    Stack::start(Plan { spec, service, env: &env, with, ready_path: "/readyz" })
}

/// A request that the stack's controller minds.
pub fn request(stack: &Stack, signal: &str) -> Request {
    Request::about(signal).with_class(stack.namespace().name())
}
