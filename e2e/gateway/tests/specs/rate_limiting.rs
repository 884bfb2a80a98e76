//! BR-GATEWAY-105: the Kubernetes API limits the gateway; signals wait, then are told to come
//! again.
//!
//! The 429s are real and meet one private gateway only: `gateway_e2e::rate_limit` says how.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use gateway_e2e::alert::Alert;
use gateway_e2e::eventually::{SOON, eventually};
use gateway_e2e::gateway::{Gateway, created};
use gateway_e2e::http::Answer;
use gateway_e2e::rate_limit::RateLimit;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;

#[test]
fn br_gateway_105_kubernetes_api_rate_limiting() -> Spec {
    let stack = stack::start("rate-limit", &[("KUBE_RETRY_BUDGET", "6s")])?;
    let gateway = Gateway::of(&stack);
    let namespace = stack.namespace().name();
    let (refused, waited) =
        (Alert::firing("Refused", namespace), Alert::firing("Waited", namespace));
    let before = retries(&gateway)?;

    let limit = RateLimit::impose(stack.namespace(), "gateway")?;
    assert_told_to_come_again(&gateway.alert(&refused)?)?;
    let after_refusal = retries(&gateway)?;
    assert!(after_refusal > before, "the gateway gave up without trying again");
    assert_eq!(remediation::names(namespace)?, Vec::<String>::new());

    let answer = lifted_while_waiting(&gateway, &waited, limit)?;
    let waited = created(&answer).context("a signal that waited out the limit must be taken")?;
    // What was refused has left nothing behind that could be taken for the signal itself.
    let refused = gateway.creates(&refused)?;
    let mut both = [waited, refused].map(|taken| taken.remediation_request.name);
    both.sort();
    assert_eq!(remediation::names(namespace)?, both);
    Ok(())
}

fn assert_told_to_come_again(answer: &Answer) -> Result<()> {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()?["status"], 429, "{answer:?}");
    let seconds: u32 = answer.header("Retry-After").parse().context("no Retry-After")?;
    assert!(seconds > 0, "{answer:?}");
    Ok(())
}

/// Sends the alert into the limit and lifts it once the gateway has been turned away.
fn lifted_while_waiting(gateway: &Gateway, alert: &Alert, limit: RateLimit) -> Result<Answer> {
    let before = retries(gateway)?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.alert(alert));
        eventually("the gateway tries again", SOON, || {
            ensure!(retries(gateway)? > before, "it has not been turned away yet");
            Ok(())
        })?;
        limit.lift();
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn retries(gateway: &Gateway) -> Result<i64> {
    Ok(gateway.metrics()?.count("gateway_kube_api_retries_total", &[]))
}
