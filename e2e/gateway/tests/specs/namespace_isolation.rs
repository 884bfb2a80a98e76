//! BR-GATEWAY-011: the same alert in two namespaces is two matters, and neither touches the other.

use anyhow::Result;
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, PROMETHEUS};
use gateway_e2e::namespace::Namespace;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;

#[test]
fn br_gateway_011_multi_namespace_isolation() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let (ours, theirs) = (Namespace::create("isolation")?, Namespace::create("isolation")?);
    let [our_alert, their_alert] =
        [&ours, &theirs].map(|namespace| Alert::firing("SameEverywhere", namespace.name()));

    let our = gateway.creates(&our_alert)?;
    let their = gateway.creates(&their_alert)?;
    assert_ne!(our.fingerprint, their.fingerprint);
    assert_eq!(our.remediation_request.namespace, ours.name());
    assert_eq!(their.remediation_request.namespace, theirs.name());
    assert_eq!(remediation::names(ours.name())?, [our.remediation_request.name.as_str()]);
    assert_eq!(remediation::names(theirs.name())?, [their.remediation_request.name.as_str()]);

    // Working on theirs makes it independent of the TTL while ours ends and begins anew.
    remediation::set_phase(&their.remediation_request, "Processing")?;
    remediation::set_phase(&our.remediation_request, "Completed")?;
    let our_next = gateway.creates(&our_alert)?;
    let repetition = gateway.deduplicates(&their_alert)?;
    assert_ne!(our_next.remediation_request, our.remediation_request);
    assert_eq!(repetition.remediation_request, their.remediation_request);
    assert_eq!(repetition.occurrences, Some(2), "ours was counted on theirs");
    assert_eq!(remediation::names(theirs.name())?.len(), 1);

    one_webhook_may_speak_of_both(&gateway, &ours, &theirs)?;
    Ok(())
}

fn one_webhook_may_speak_of_both(
    gateway: &Gateway,
    ours: &Namespace,
    theirs: &Namespace,
) -> Result<()> {
    let alerts = [ours, theirs].map(|namespace| Alert::firing("InOneBatch", namespace.name()));
    let answer = gateway.post(PROMETHEUS, &[], &webhook(&alerts))?;
    assert_eq!(answer.status, 201, "{answer:?}");
    let results = answer.json()?["results"].take();
    for (index, namespace) in [ours, theirs].into_iter().enumerate() {
        let reference = &results[index]["remediation_request"];
        assert_eq!(reference["namespace"], namespace.name(), "{results}");
        let names = remediation::names(namespace.name())?;
        assert!(names.iter().any(|name| reference["name"] == name.as_str()), "{results}");
    }
    Ok(())
}
