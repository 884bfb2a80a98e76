//! One HTTP client for all that a service asks: HTTP/1.1, kept connections, TLS by rustls trusting
//! the given authority and nobody else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

/// No answer we ask for is near this size.
const LARGEST_ANSWER: usize = 32 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
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

impl HttpClient {
    /// A client that trusts the authorities in the PEM file `ca`, or none at all.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate.
    pub fn trusting(ca: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            let what = || format!("failed to read the certificates in `{}`", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(what)? {
                roots.add(certificate.with_context(what)?).with_context(what)?;
            }
        }
        let provider = rustls::crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .context("failed to set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { inner: Client::builder(TokioExecutor::new()).build(connector) })
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
