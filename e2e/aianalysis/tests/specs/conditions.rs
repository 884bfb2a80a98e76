//! BR-AIANALYSIS-009: conditions say where it stands, for which generation, and who wrote that.

use aianalysis_e2e::analysis::{self, Request, condition};
use anyhow::{Context as _, Result};
use harness::namespace::Namespace;
use harness::spec::Spec;
use serde_json::Value;

#[test]
fn br_aianalysis_009_conditions() -> Spec {
    let namespace = Namespace::create("conditions")?;
    let mut changes = analysis::watch(namespace.name())?;
    let failed = Request::about("RejectedByModel").create_in(namespace.name())?;
    // Having shown one, the watch misses no state of the next.
    changes.until(|resource| resource["metadata"]["name"] == failed.name.as_str())?;
    let slow = Request::about("SlowModel").create_in(namespace.name())?;

    let resource = changes.until(|resource| {
        let complete = condition(resource, "Complete");
        resource["metadata"]["name"] == slow.name.as_str()
            && complete.is_ok_and(|complete| complete["reason"] == "Investigating")
    })?;
    assert_eq!(condition(&resource, "Complete")?["status"], "False");
    assert_eq!(condition(&resource, "HolmesReachable")?["status"], "Unknown");
    assert_eq!(resource["status"]["phase"], "Investigating");
    assert_whole(&resource)?;
    let resource = slow.await_phase("Completed")?;
    assert_conditions(&resource, "True", "AnalysisRecorded")?;
    assert_conditions(&failed.await_phase("Failed")?, "False", "RequestRefused")?;
    Ok(())
}

fn assert_conditions(resource: &Value, complete: &str, reason: &str) -> Result<()> {
    let seen = condition(resource, "Complete")?;
    assert_eq!((&seen["status"], &seen["reason"]), (&complete.into(), &reason.into()), "{seen}");
    let reachable = condition(resource, "HolmesReachable")?;
    assert_eq!(reachable["status"], "True", "any answer shows that it is there: {reachable}");
    assert_whole(resource)
}

/// Every condition has all its fields and is about this generation; the status has one writer.
fn assert_whole(resource: &Value) -> Result<()> {
    let generation = &resource["metadata"]["generation"];
    assert_eq!(&resource["status"]["observedGeneration"], generation);
    for kind in ["Complete", "HolmesReachable"] {
        let seen = condition(resource, kind)?;
        assert_eq!(&seen["observedGeneration"], generation, "{seen}");
        let time = seen["lastTransitionTime"].as_str().context("no time")?;
        humantime::parse_rfc3339(time)?;
        assert!(seen["message"].as_str().is_some_and(|text| !text.is_empty()), "{seen}");
    }
    let managers = resource_managers(resource)?;
    assert_eq!(managers, [("aianalysis-controller", "Apply")], "who wrote the status");
    Ok(())
}

/// Who owns fields of the status, and how they came by them.
fn resource_managers(resource: &Value) -> Result<Vec<(&str, &str)>> {
    let fields = resource["metadata"]["managedFields"].as_array();
    let fields = fields.context("kubectl does not show the managed fields")?;
    let of_status = fields.iter().filter(|field| field["subresource"] == "status");
    Ok(of_status
        .filter_map(|field| Some((field["manager"].as_str()?, field["operation"].as_str()?)))
        .collect())
}
