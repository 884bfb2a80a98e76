//! One HTTP client for all that a service asks of other services: plain HTTP/1.1, kept connections.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// No answer we ask for is near this size.
const LARGEST_ANSWER: usize = 32 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Client<HttpConnector, Full<Bytes>>,
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Whether an error of [`HttpClient::send`] is that nobody could be connected to.
pub fn is_unreachable(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    pub fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        Self { inner: Client::builder(TokioExecutor::new()).build(tcp) }
    }

    /// Sends one request and reads its answer, all within `limit`.
    ///
    /// # Errors
    /// No whole answer within the limit.
    pub async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer> {
        let exchange = async {
            let response = self.inner.request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(limit, exchange)
            .await
            .with_context(|| format!("no answer within {limit:?}"))?
    }
}
