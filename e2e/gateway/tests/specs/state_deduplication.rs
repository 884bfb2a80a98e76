//! DD-GATEWAY-009: the `RemediationRequest`'s own state decides, before and beyond any TTL.
//!
//! | state of the newest request | within the TTL | after it |
//! | --- | --- | --- |
//! | none yet | repetition | new (BR-GATEWAY-012) |
//! | `Processing` | repetition | repetition |
//! | `Completed`, `Failed`, or deleted | new | new |

use anyhow::Context as _;
use gateway_e2e::alert::Alert;
use gateway_e2e::env::Env;
use gateway_e2e::eventually::throughout;
use gateway_e2e::gateway::{Gateway, dedup_ttl};
use gateway_e2e::namespace::Namespace;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;

#[test]
fn dd_gateway_009_state_based_deduplication() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let namespace = Namespace::create("state")?;
    let alert = Alert::firing("Stateful", namespace.name());

    let mut last = gateway.creates(&alert)?;
    for phase in ["Completed", "Failed"] {
        remediation::set_phase(&last.remediation_request, phase)?;
        let next = gateway.creates(&alert).with_context(|| format!("the last one is {phase}"))?;
        assert_eq!(next.fingerprint, last.fingerprint);
        assert_ne!(next.remediation_request, last.remediation_request);
        last = next;
    }
    remediation::delete(&last.remediation_request)?;
    let worked_on = gateway.creates(&alert).context("the last one is deleted")?;

    remediation::set_phase(&worked_on.remediation_request, "Processing")?;
    let ttl = dedup_ttl()?;
    throughout("a signal that is worked on is a repetition", ttl + ttl / 4, || {
        let repetition = gateway.deduplicates(&alert)?;
        assert_eq!(repetition.remediation_request, worked_on.remediation_request);
        Ok(())
    })?;

    remediation::set_phase(&worked_on.remediation_request, "Completed")?;
    let next = gateway.creates(&alert).context("the work is done")?;
    assert_ne!(next.remediation_request, worked_on.remediation_request);
    assert_eq!(remediation::names(namespace.name())?.len(), 4, "one of the five was deleted");
    Ok(())
}
