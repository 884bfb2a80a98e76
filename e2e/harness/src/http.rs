//! HTTP as a spec wants to see it: any status is an answer, headers and body are kept whole.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{HeaderMap, Request, StatusCode};

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// A header's value; empty when absent or not text, which no assertion mistakes for a value.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body read as JSON of type `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("failed to read the body of {self:?}"))
    }

    /// The body read as any JSON.
    pub fn json(&self) -> Result<Value> {
        self.parse()
    }
}

/// No connection outlives its request: a restarted pod must not be met through a dead one.
static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into()
});

/// Sends one request and reads the whole answer, whatever its status.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let what = || format!("failed to get an answer to `{method} {url}`");
    let mut answer = if body.is_empty() && method != "POST" {
        AGENT.run(request.body(()).with_context(what)?).with_context(what)?
    } else {
        AGENT.run(request.body(body).with_context(what)?).with_context(what)?
    };
    let body = answer.body_mut().read_to_string().with_context(what)?;
    let status = StatusCode::as_u16(&answer.status());
    Ok(Answer { status, headers: answer.headers().clone(), body })
}

/// `GET url`, without a body.
pub fn get(url: &str) -> Result<Answer> {
    send("GET", url, &[], b"")
}
