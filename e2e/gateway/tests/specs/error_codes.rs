//! BR-GATEWAY-101: every error is an RFC 7807 problem with the status that fits it.
//!
//! 429 has a spec of its own, BR-GATEWAY-105.

use anyhow::{Context as _, Result};
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, KUBERNETES_EVENT, PROMETHEUS};
use gateway_e2e::http::Answer;
use gateway_e2e::namespace::{Namespace, unique};
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn br_gateway_101_error_response_codes() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    requests_that_are_wrong(&gateway)?;
    signals_about_nothing(&gateway)?;
    bodies_that_are_too_large(&gateway)?;
    a_cluster_that_is_away()?;
    Ok(())
}

/// Status, method, path, headers, body.
type Wrong<'a> = (u16, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

fn requests_that_are_wrong(gateway: &Gateway) -> Result<()> {
    let table: [Wrong; 11] = [
        (400, "POST", PROMETHEUS, &[JSON], b"{ not json"),
        (400, "POST", PROMETHEUS, &[JSON], b""),
        (400, "POST", PROMETHEUS, &[JSON], b"\xff\xfe"),
        (400, "POST", KUBERNETES_EVENT, &[JSON], b"[]"),
        (404, "GET", "/api/v1/no-such-path", &[], b""),
        (404, "POST", "/api/v1/signals/carrier-pigeon", &[JSON], b"{}"),
        (405, "GET", PROMETHEUS, &[], b""),
        (405, "DELETE", KUBERNETES_EVENT, &[], b""),
        (405, "POST", "/healthz", &[JSON], b"{}"),
        (415, "POST", PROMETHEUS, &[("Content-Type", "text/plain")], b"{}"),
        (415, "POST", PROMETHEUS, &[], b"{}"),
    ];
    for (status, method, path, headers, body) in table {
        let what = || format!("`{method} {path}`, which must be {status}");
        let answer = gateway.send(method, path, headers, body).with_context(what)?;
        assert_problem(&answer, status, path).with_context(what)?;
        if status == 405 {
            let allow = answer.header("Allow");
            assert!(!allow.is_empty() && !allow.contains(method), "Allow is `{allow}`");
        }
    }
    Ok(())
}

fn signals_about_nothing(gateway: &Gateway) -> Result<()> {
    let alert = Alert::firing("NobodyHome", &unique("e2e-never-made"));
    assert_problem(&gateway.alert(&alert)?, 422, PROMETHEUS)
}

/// The body is never sent: the answer must come from its announced length.
fn bodies_that_are_too_large(gateway: &Gateway) -> Result<()> {
    let body = vec![b' '; 1024 * 1024 + 1];
    let headers = [JSON, ("Expect", "100-continue")];
    let answer = gateway.send("POST", PROMETHEUS, &headers, &body)?;
    assert_problem(&answer, 413, PROMETHEUS)
}

fn a_cluster_that_is_away() -> Result<()> {
    let stack = stack::start_cut_off("error-codes")?;
    let namespace = Namespace::create("error-codes")?;
    let answer = Gateway::of(&stack).alert(&Alert::firing("CutOff", namespace.name()))?;
    assert_problem(&answer, 503, PROMETHEUS)?;
    let seconds: u32 = answer.header("Retry-After").parse().context("no Retry-After")?;
    assert!(seconds > 0, "{answer:?}");

    // A request that is wrong is wrong whether the cluster is there or not.
    let answer = Gateway::of(&stack).post(PROMETHEUS, &[], &webhook(&[]))?;
    assert_problem(&answer, 400, PROMETHEUS)
}

/// A whole problem, and one that says nothing of the inside.
fn assert_problem(answer: &Answer, status: u16, path: &str) -> Result<()> {
    assert_eq!(answer.status, status, "{answer:?}");
    let media_type = answer.header("Content-Type");
    assert!(media_type.starts_with("application/problem+json"), "{answer:?}");
    let problem = answer.json()?;
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["instance"], path, "{problem}");
    for field in ["type", "title", "detail", "request_id"] {
        let text = problem[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "`{field}` is missing in {problem}");
    }
    assert_eq!(problem["request_id"], answer.header("X-Request-Id"), "{problem}");
    for leak in ["panicked", ".rs:", "10.96.", "Bearer"] {
        assert!(!answer.body.contains(leak), "`{leak}` leaks from {problem}");
    }
    Ok(())
}
