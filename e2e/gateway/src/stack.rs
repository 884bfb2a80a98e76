//! A gateway of a spec's own ([`harness::stack`]).

use anyhow::Result;
use harness::stack::{Plan, Stack};

/// Gateway and Redis, ready and joined. De-duplication outlives the spec unless `env` says
/// otherwise.
pub fn start(spec: &str, env: &[(&str, &str)]) -> Result<Stack> {
    let env = [&[("DEDUP_TTL", "10m")], env].concat();
    let (service, with) = ("gateway", &["redis"]);
    let mut stack = Stack::start(Plan { spec, service, env: &env, with, ready_path: "/readyz" })?;
    stack.await_check("redis", "ok")?;
    Ok(stack)
}

/// A gateway alone, alive, for which the Kubernetes API is not there.
pub fn start_cut_off(spec: &str) -> Result<Stack> {
    let env = &[("KUBE_API_URL", "http://127.0.0.1:9"), ("KUBE_RETRY_BUDGET", "1s")];
    Stack::start(Plan { spec, service: "gateway", env, with: &[], ready_path: "/healthz" })
}
