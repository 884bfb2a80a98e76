//! BR-GATEWAY-012: a signal is a repetition for as long as the TTL, and a new signal after it.

use std::time::Instant;

use anyhow::Context as _;
use gateway_e2e::alert::Alert;
use gateway_e2e::env::Env;
use gateway_e2e::eventually::eventually;
use gateway_e2e::gateway::{Gateway, created, dedup_ttl, deduplicated};
use gateway_e2e::namespace::Namespace;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;

#[test]
fn br_gateway_012_deduplication_ttl_expiry() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let namespace = Namespace::create("ttl")?;
    let ttl = dedup_ttl()?;
    let alert = Alert::firing("ComesAgain", namespace.name());

    let sent = Instant::now();
    let first = gateway.creates(&alert)?;
    let mut repetitions = 0_u64;
    // Repetitions go on all the while: they must not keep the signal alive for ever.
    let second = eventually("the signal makes a new RemediationRequest", 3 * ttl, || {
        let answer = gateway.alert(&alert)?;
        if answer.status == 202 {
            repetitions += 1;
            let repetition = deduplicated(&answer)?;
            assert_eq!(repetition.remediation_request, first.remediation_request);
        }
        created(&answer)
    })?;
    let lived = sent.elapsed();
    let repetition = gateway.deduplicates(&alert)?;
    assert_eq!(repetition.remediation_request, second.remediation_request);
    assert_eq!(repetition.occurrences, Some(2), "the second counts from its own start");

    assert!(lived >= ttl, "expired after {lived:?}, the TTL is {ttl:?}");
    assert!(repetitions > 0, "nothing was de-duplicated within {ttl:?}");
    assert_eq!(second.fingerprint, first.fingerprint);
    let mut both = [&first, &second].map(|taken| taken.remediation_request.name.clone());
    both.sort();
    assert_eq!(remediation::names(namespace.name())?, both);
    remediation::counted(&first.remediation_request, 1 + repetitions)
        .context("the first RemediationRequest must keep its count")?;
    Ok(())
}
