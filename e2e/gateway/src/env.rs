//! What the gateway's specs need from the run.

use anyhow::Result;
use harness::env::required;

/// The addresses of a run.
#[derive(Debug, Clone)]
pub struct Env {
    /// Base URL of the shared gateway, without a trailing slash.
    pub gateway_url: String,
    /// Base URL of `DataStorage`, without a trailing slash.
    pub datastorage_url: String,
}

impl Env {
    /// Reads the environment; the error names every variable that is missing.
    pub fn from_run() -> Result<Self> {
        let [_, gateway_url, datastorage_url] =
            required("gateway", ["KUBECONFIG", "GATEWAY_URL", "DATASTORAGE_URL"])?;
        Ok(Self { gateway_url, datastorage_url })
    }
}
