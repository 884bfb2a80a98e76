//! What the specs need from the run.

use anyhow::Result;
use harness::env::required;

/// The addresses of a run.
#[derive(Debug, Clone)]
pub struct Env {
    /// Base URL of the shared controller, without a trailing slash.
    pub aianalysis_url: String,
    /// Base URL of `DataStorage`, without a trailing slash.
    pub datastorage_url: String,
    /// Base URL of the shared holmesgpt-api, without a trailing slash.
    pub holmesgpt_url: String,
}

impl Env {
    /// Reads the environment; the error names every variable that is missing.
    pub fn from_run() -> Result<Self> {
        let names = ["KUBECONFIG", "AIANALYSIS_URL", "DATASTORAGE_URL", "HOLMESGPT_API_URL"];
        let [_, aianalysis_url, datastorage_url, holmesgpt_url] = required("aianalysis", names)?;
        Ok(Self { aianalysis_url, datastorage_url, holmesgpt_url })
    }
}
