//! BR-AIANALYSIS-016: both services say how they are, and write one JSON object a line.

use aianalysis_e2e::analysis::Request;
use aianalysis_e2e::env::Env;
use anyhow::{Context as _, Result, ensure};
use harness::deployment;
use harness::eventually::{SOON, eventually};
use harness::http;
use harness::namespace::{Namespace, SYSTEM};
use harness::spec::Spec;
use serde_json::Value;

#[test]
fn br_aianalysis_016_probes_and_logs() -> Spec {
    let env = Env::from_run()?;
    for (url, path, word) in [
        (&env.aianalysis_url, "/healthz", "alive"),
        (&env.aianalysis_url, "/readyz", "ready"),
        (&env.holmesgpt_url, "/health", "alive"),
        (&env.holmesgpt_url, "/ready", "ready"),
    ] {
        let answer = http::get(&format!("{url}{path}"))?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()?["status"], word, "{answer:?}");
    }
    let scrape = http::get(&format!("{}/metrics", env.holmesgpt_url))?;
    assert!(scrape.body.contains("holmesgpt_answers_total"), "{scrape:?}");

    let namespace = Namespace::create("probes")?;
    let analysis = Request::about("OOMKilled").create_in(namespace.name())?;
    let resource = analysis.await_phase("Completed")?;
    let written = line("aianalysis", "name", &analysis.name, "Completed")?;
    assert_eq!(written["namespace"], namespace.name(), "{written}");
    let id = resource["metadata"]["uid"].as_str().unwrap_or_default();
    let asked = line("holmesgpt-api", "analysis_id", id, "200")?;
    assert_eq!(asked["case_id"], "oom-killed", "{asked}");
    Ok(())
}

/// The line of a service's log that has that value and that word; every other is JSON too.
fn line(service: &str, key: &str, value: &str, word: &str) -> Result<Value> {
    eventually(&format!("`{service}` has written of {value}"), SOON, || {
        let logged = deployment::logs(SYSTEM, service, "5m")?;
        let mut found = None;
        for line in logged.lines() {
            let read: Value =
                serde_json::from_str(line).with_context(|| format!("this is no JSON: {line}"))?;
            ensure!(read["timestamp"].is_string() && read["message"].is_string(), "{line}");
            if read[key] == value && line.contains(word) {
                found = Some(read);
            }
        }
        found.with_context(|| format!("none of {} lines is the one", logged.lines().count()))
    })
}
