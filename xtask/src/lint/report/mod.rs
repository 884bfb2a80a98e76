//! Findings as people, scripts and forges read them.
//!
//! | form | read by |
//! | --- | --- |
//! | text | people and editors: `file:line: error: reason`, then how to mend it |
//! | JSON | scripts |
//! | [SARIF 2.1.0](sarif) | forges' code scanning, editors |
//! | GitHub | a job's annotations: `::error file=…,line=…::…` |

mod sarif;

use serde::Serialize;

use super::{Finding, Severity};
use crate::event::Place;
use crate::lint;
use crate::text::{BOLD, DIM, OFF, RED, YELLOW};
use crate::ui::annotation;

pub use sarif::sarif;

/// One finding for people.
pub fn text(finding: &Finding) -> String {
    let Finding { rule, file, line, reason, mend } = finding;
    let word = match finding.severity() {
        Severity::Error => format!("{RED}error{OFF}"),
        Severity::Warning => format!("{YELLOW}warning{OFF}"),
        Severity::Hint => "hint".to_owned(),
    };
    format!("{BOLD}{file}:{line}{OFF}: {word}: {reason} {DIM}[{rule}]{OFF}\n  mend: {mend}")
}

/// `{"ok":…,"findings":[…]}` and a newline.
pub fn json(findings: &[Finding]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        finding: &'a Finding,
        severity: Severity,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        findings: Vec<Told<'a>>,
    }
    let told = |finding| Told { finding, severity: Finding::severity(finding) };
    let ok = lint::is_passed(findings);
    let report = Report { ok, findings: findings.iter().map(told).collect() };
    let mut json = serde_json::to_vec(&report)?;
    json.push(b'\n');
    Ok(json)
}

/// Workflow commands, one a line.
pub fn github(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let Finding { rule, file, line, reason, mend } = finding;
        let kind = match finding.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "notice",
        };
        let place = Place { file: file.clone(), line: Some(*line) };
        let message = format!("{reason}\nmend: {mend}");
        annotation(kind, Some(&place), &rule.to_string(), &message) + "\n"
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rule;

    pub(super) fn finding() -> Finding {
        Finding {
            rule: Rule::NoCache,
            file: "a b/x,y.sh".into(),
            line: 3,
            reason: "100% slow".into(),
            mend: "leave it out".into(),
        }
    }

    #[test]
    fn a_finding_in_every_form() {
        let mut plain = text(&finding());
        for code in [BOLD, DIM, OFF, RED, YELLOW] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, "a b/x,y.sh:3: warning: 100% slow [no-cache]\n  mend: leave it out");
        assert_eq!(
            github(&[finding()]),
            "::warning file=a b/x%2Cy.sh,line=3,title=no-cache::100%25 slow%0Amend: leave it out\n"
        );
        let json: serde_json::Value = serde_json::from_slice(&json(&[finding()]).unwrap()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["findings"][0]["rule"], "no-cache");
        assert_eq!(json["findings"][0]["severity"], "warning");
    }
}
