//! BR-GATEWAY-008: alerts that arrive at the same moment.
//!
//! One alert sent twenty times at once makes one `RemediationRequest` and nineteen repetitions;
//! twenty alerts sent at once make twenty. Nothing is lost and nothing is made twice.

use std::thread;

use anyhow::Result;
use gateway_e2e::alert::Alert;
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, created, deduplicated};
use gateway_e2e::http::Answer;
use gateway_e2e::namespace::Namespace;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;

const AT_ONCE: usize = 20;

#[test]
fn br_gateway_008_concurrent_alerts() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    one_alert_many_times(&gateway)?;
    many_alerts_once_each(&gateway)?;
    Ok(())
}

fn one_alert_many_times(gateway: &Gateway) -> Result<()> {
    let namespace = Namespace::create("concurrent")?;
    let alerts = vec![Alert::firing("Stampede", namespace.name()); AT_ONCE];
    let answers = all_at_once(gateway, &alerts)?;

    let (first, rest): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(first.len(), 1, "exactly one request must create: {answers:?}");
    let first = created(first[0])?;
    for answer in rest {
        let repetition = deduplicated(answer)?;
        assert_eq!(repetition.remediation_request, first.remediation_request);
        assert_eq!(repetition.fingerprint, first.fingerprint);
    }
    assert_eq!(remediation::names(namespace.name())?, [first.remediation_request.name.as_str()]);
    remediation::counted(&first.remediation_request, AT_ONCE as u64)
}

fn many_alerts_once_each(gateway: &Gateway) -> Result<()> {
    let namespace = Namespace::create("concurrent")?;
    let alerts: Vec<_> = (0..AT_ONCE)
        .map(|n| Alert::firing("Crowd", namespace.name()).with_label("pod", &format!("web-{n}")))
        .collect();

    let mut made = Vec::new();
    for answer in all_at_once(gateway, &alerts)? {
        made.push(created(&answer)?.remediation_request.name);
    }
    made.sort();
    assert_eq!(made, remediation::names(namespace.name())?);
    assert_eq!(made.len(), AT_ONCE);
    Ok(())
}

fn all_at_once(gateway: &Gateway, alerts: &[Alert]) -> Result<Vec<Answer>> {
    thread::scope(|scope| {
        let senders: Vec<_> =
            alerts.iter().map(|alert| scope.spawn(|| gateway.alert(alert))).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
