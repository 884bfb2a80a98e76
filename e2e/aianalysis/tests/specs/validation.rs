//! BR-AIANALYSIS-007: the schema refuses what cannot be asked, by name of the field.

use aianalysis_e2e::analysis::{Request, list};
use harness::namespace::Namespace;
use harness::spec::Spec;
use serde_json::{Value, json};

#[test]
fn br_aianalysis_007_validation() -> Spec {
    let namespace = Namespace::create("validation")?;
    let target = |name: Value| json!({ "kind": "Pod", "name": name, "namespace": "prod" });
    for (field, value) in [
        ("signalFingerprint", json!("abc")),
        ("signalFingerprint", Value::Null),
        ("signalName", json!("")),
        ("signalName", json!("x".repeat(254))),
        ("severity", json!("apocalyptic")),
        ("severity", json!(3)),
        ("environment", json!("")),
        ("remediationRequest", Value::Null),
        ("targetResource", Value::Null),
        ("targetResource", target(json!(""))),
    ] {
        let request = Request::about("OOMKilled").with_spec(field, value.clone());
        let Err(error) = request.create_in(namespace.name()) else {
            panic!("{field} = {value} was taken");
        };
        let text = format!("{error:#}");
        assert!(text.contains(&format!("spec.{field}")), "{field} is not named: {text}");
    }
    assert_eq!(list(namespace.name())?, Vec::<Value>::new());
    Ok(())
}
