//! BR-HTTP-015: browsers of the allowed origins may call, pages of any other may not.

use anyhow::{Context as _, Result};
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, PROMETHEUS, setting};
use gateway_e2e::http::Answer;
use gateway_e2e::namespace::Namespace;
use gateway_e2e::spec::Spec;

#[test]
fn br_http_015_cors() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let allowed = setting("CORS_ALLOWED_ORIGINS")?;
    let allowed = allowed.split(',').next().context("no origin is allowed")?.trim();

    a_preflight_is_answered(&gateway, allowed)?;
    a_strangers_preflight_grants_nothing(&gateway, allowed)?;
    real_requests_are_marked(&gateway, allowed)?;
    Ok(())
}

fn a_preflight_is_answered(gateway: &Gateway, allowed: &str) -> Result<()> {
    let answer = preflight(gateway, allowed)?;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.body, "");
    assert_eq!(answer.header("Access-Control-Allow-Origin"), allowed);
    let methods = answer.header("Access-Control-Allow-Methods");
    assert!(listed(methods, "POST"), "POST is missing in `{methods}`");
    let headers = answer.header("Access-Control-Allow-Headers");
    assert!(listed(headers, "Content-Type"), "Content-Type is missing in `{headers}`");
    let seconds: u32 = answer.header("Access-Control-Max-Age").parse()?;
    assert!(seconds > 0, "a preflight that may not be remembered doubles every request");
    assert_varies_by_origin(&answer);
    Ok(())
}

fn a_strangers_preflight_grants_nothing(gateway: &Gateway, allowed: &str) -> Result<()> {
    let other_scheme = allowed.replacen("https://", "http://", 1);
    let longer = format!("{allowed}.evil.test");
    let other_port = format!("{allowed}:8443");
    let prefixed = allowed.replacen("://", "://evil-", 1);
    for origin in ["https://evil.test", "null", &other_scheme, &longer, &other_port, &prefixed] {
        let answer = preflight(gateway, origin)?;
        assert_eq!(answer.header("Access-Control-Allow-Origin"), "", "`{origin}` was let in");
        assert_varies_by_origin(&answer);
    }
    Ok(())
}

/// The marks are on every answer, an error too: without them a page cannot read what went wrong.
fn real_requests_are_marked(gateway: &Gateway, allowed: &str) -> Result<()> {
    let namespace = Namespace::create("cors")?;
    let body = webhook(&[Alert::firing("FromABrowser", namespace.name())]);
    let answer = gateway.post(PROMETHEUS, &[("Origin", allowed)], &body)?;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("Access-Control-Allow-Origin"), allowed);
    assert_varies_by_origin(&answer);

    let answer = gateway.send("POST", PROMETHEUS, &[("Origin", allowed)], b"no media type")?;
    assert_eq!(answer.status, 415, "{answer:?}");
    assert_eq!(answer.header("Access-Control-Allow-Origin"), allowed);

    let answer = gateway.post(PROMETHEUS, &[("Origin", "https://evil.test")], &body)?;
    assert_eq!(answer.header("Access-Control-Allow-Origin"), "", "{answer:?}");
    let answer = gateway.post(PROMETHEUS, &[], &body)?;
    assert_eq!(answer.header("Access-Control-Allow-Origin"), "", "{answer:?}");
    Ok(())
}

fn preflight(gateway: &Gateway, origin: &str) -> Result<Answer> {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    gateway.send("OPTIONS", PROMETHEUS, &headers, b"")
}

fn listed(list: &str, wanted: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(wanted))
}

/// Without it a cache hands one origin's answer to another.
fn assert_varies_by_origin(answer: &Answer) {
    let vary = answer.headers.get_all("Vary").iter().filter_map(|value| value.to_str().ok());
    assert!(vary.into_iter().any(|list| listed(list, "Origin")), "no `Vary: Origin`: {answer:?}");
}
