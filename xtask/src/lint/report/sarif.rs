//! SARIF 2.1.0 (OASIS), as far as code scanning reads it: one run, all rules, a result a finding.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::Rule;
use crate::lint::{Finding, Severity, about, severity};

/// The whole log.
pub fn sarif(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|(id, rule)| {
            json!({
                "id": id,
                "shortDescription": { "text": about(*rule) },
                "defaultConfiguration": { "level": level(severity(*rule)) },
            })
        })
        .collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "xtask lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "utf16CodeUnits",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let index = Rule::ALL.iter().position(|(_, rule)| *rule == finding.rule);
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": level(finding.severity()),
        "message": { "text": format!("{}\nmend: {}", finding.reason, finding.mend) },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": uri(&finding.file), "uriBaseId": "%SRCROOT%" },
            "region": { "startLine": finding.line },
        } }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "note",
    }
}

/// A path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(uri, "%{byte:02X}").ok();
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::report::tests::finding;

    #[test]
    fn a_result_points_to_its_rule_and_place() {
        let log = sarif(&[finding()]);
        let result = &log["runs"][0]["results"][0];
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b/x,y.sh");
        assert_eq!(place["region"]["startLine"], 3);
        assert_eq!(result["level"], "warning");
    }
}
