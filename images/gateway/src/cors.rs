//! Cross-origin requests (BR-HTTP-015), by the Fetch standard's CORS protocol.
//!
//! | request | answer |
//! | --- | --- |
//! | no `Origin` | untouched, but for `Vary` |
//! | `Origin` allowed | plus `Access-Control-Allow-Origin` and the headers a script may read |
//! | `Origin` not allowed | untouched: the browser withholds the answer from the page |
//! | preflight (`OPTIONS`, `Origin`, `Access-Control-Request-Method`) | 204 at once; the methods, headers and the time they may be remembered only for an allowed origin |
//!
//! `Vary: Origin` is on every answer, or a cache would hand one origin's answer to another.
//! Credentials are never allowed.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use axum::middleware::Next;

use crate::router::Gateway;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, X-Request-Id");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("X-Request-Id, X-Gateway-Degraded, Retry-After");
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// Which origins may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    Nobody,
    Anyone,
    Listed(Vec<String>),
}

impl FromStr for Policy {
    type Err = String;

    /// Reads a comma separated list of origins, `*`, or nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origins: Vec<&str> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        match origins.as_slice() {
            [] => Ok(Self::Nobody),
            ["*"] => Ok(Self::Anyone),
            some => some.iter().map(|origin| checked(origin)).collect::<Result<_, _>>(),
        }
    }
}

impl FromIterator<String> for Policy {
    fn from_iter<I: IntoIterator<Item = String>>(origins: I) -> Self {
        Self::Listed(origins.into_iter().collect())
    }
}

/// An origin is scheme, host and port, and no more: one with a path would never match.
fn checked(origin: &str) -> Result<String, String> {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '*', ' ']) => {
            Ok(origin.to_ascii_lowercase())
        }
        _ => Err(format!("`{origin}` is not an origin (scheme://host[:port])")),
    }
}

impl Policy {
    /// The value of `Access-Control-Allow-Origin` for a request from `origin`.
    #[must_use]
    pub fn allows(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match self {
            Self::Nobody => None,
            Self::Anyone => Some(HeaderValue::from_static("*")),
            Self::Listed(origins) => {
                let named = origin.to_str().ok()?;
                origins.iter().any(|allowed| allowed == named).then(|| origin.clone())
            }
        }
    }
}

/// The layer: answers preflights and marks every other answer.
pub async fn layer(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let headers = request.headers();
    let allowed = headers.get(ORIGIN).and_then(|origin| gateway.settings.cors.allows(origin));
    let preflight = is_preflight(request.method(), headers);
    let mut response =
        if preflight { Response::new(Body::empty()) } else { next.run(request).await };
    if preflight {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    mark(response.headers_mut(), allowed, preflight);
    response
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn mark(headers: &mut HeaderMap, allowed: Option<HeaderValue>, preflight: bool) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = allowed else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_policy_is_nobody_anyone_or_a_list() {
        assert_eq!("".parse(), Ok(Policy::Nobody));
        assert_eq!(" , ".parse(), Ok(Policy::Nobody));
        assert_eq!("*".parse(), Ok(Policy::Anyone));
        let listed = Policy::Listed(vec!["https://a.test".into(), "http://b.test:8080".into()]);
        assert_eq!("https://A.test, http://b.test:8080".parse(), Ok(listed));
    }

    #[test]
    fn what_no_browser_sends_as_origin_is_refused() {
        for text in
            ["a.test", "https://", "https://a.test/", "https://*.a.test", "*, https://a.test"]
        {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_allowed_only_when_it_matches_whole() {
        let policy: Policy = "https://a.test".parse().unwrap();
        for (origin, allowed) in [
            ("https://a.test", true),
            ("http://a.test", false),
            ("https://a.test:444", false),
            ("https://a.test.evil.test", false),
            ("https://evil-a.test", false),
            ("null", false),
        ] {
            let answer = policy.allows(&HeaderValue::from_static(origin));
            assert_eq!(answer.is_some(), allowed, "{origin}");
        }
        assert_eq!(Policy::Nobody.allows(&HeaderValue::from_static("https://a.test")), None);
    }

    #[test]
    fn headers_follow_the_table() {
        let origin = Some(HeaderValue::from_static("https://a.test"));
        for (allowed, preflight, names) in [
            (None, false, vec!["vary"]),
            (None, true, vec!["vary"]),
            (
                origin.clone(),
                false,
                vec!["access-control-allow-origin", "access-control-expose-headers", "vary"],
            ),
            (
                origin,
                true,
                vec![
                    "access-control-allow-headers",
                    "access-control-allow-methods",
                    "access-control-allow-origin",
                    "access-control-max-age",
                    "vary",
                ],
            ),
        ] {
            let mut headers = HeaderMap::new();
            mark(&mut headers, allowed, preflight);
            let mut found: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, names);
        }
    }
}
