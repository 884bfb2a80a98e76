//! Settings, all from the environment, so that copies in other namespaces differ by nothing else.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `LISTEN` | `0.0.0.0:8080` | address and port of the HTTP server |
//! | `REDIS_URL` | `redis://redis:6379` | where claims are kept |
//! | `DATASTORAGE_URL` | `http://datastorage:8080` | where audit events go; empty turns them off |
//! | `DEDUP_TTL` | `5m` | how long a new request swallows repeats of its signal |
//! | `CORS_ALLOWED_ORIGINS` | empty | origins a browser may call from, comma separated, or `*` |
//! | `KUBE_RETRY_BUDGET` | `10s` | how long one webhook may wait out a rate-limiting API |
//! | `DRAIN_DELAY` | `2s` | from SIGTERM until no more connections are taken |
//! | `LOG_LEVEL` | `info` | `error`, `warn`, `info`, `debug` or `trace` |
//! | `KUBE_API_URL` | the pod's own, by its service account | the Kubernetes API, without a token |
//!
//! All faults are reported at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use service::settings::{Lookup, Reader};
use tracing::level_filters::LevelFilter;

use crate::cors;

/// What the gateway was told to do; checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub redis_url: String,
    /// Base URL without a trailing slash; `None` when audit is turned off.
    pub datastorage_url: Option<String>,
    pub dedup_ttl: Duration,
    pub cors: cors::Policy,
    /// `None` in a cluster.
    pub kube_api_url: Option<String>,
    pub kube_retry_budget: Duration,
    pub drain_delay: Duration,
    pub log_level: LevelFilter,
}

impl Settings {
    /// Reads the settings through `lookup`, which is the environment outside tests.
    ///
    /// # Errors
    /// Every value that cannot be used, one a line.
    pub fn read(lookup: impl Lookup) -> Result<Self> {
        let mut reader = Reader::new(lookup);
        let settings = Self {
            listen: reader.parsed("LISTEN", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))),
            redis_url: reader.url("REDIS_URL", "redis://redis:6379", &["redis"]),
            datastorage_url: reader.url_or_off("DATASTORAGE_URL", "http://datastorage:8080"),
            dedup_ttl: reader.duration("DEDUP_TTL", Duration::from_mins(5)),
            cors: reader.parsed("CORS_ALLOWED_ORIGINS", cors::Policy::default()),
            kube_api_url: kube_api_url(&mut reader),
            kube_retry_budget: reader.duration("KUBE_RETRY_BUDGET", Duration::from_secs(10)),
            drain_delay: reader.duration("DRAIN_DELAY", Duration::from_secs(2)),
            log_level: reader.log_level(),
        };
        if settings.dedup_ttl.is_zero() {
            reader.fault("`DEDUP_TTL` must be longer than nothing".to_owned());
        }
        reader.end(settings)
    }
}

fn kube_api_url<L: Lookup>(reader: &mut Reader<L>) -> Option<String> {
    reader.text("KUBE_API_URL")?;
    Some(reader.url("KUBE_API_URL", "", &["http"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_pod_needs_no_settings() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.kube_api_url, None);
        assert_eq!(settings.dedup_ttl, Duration::from_mins(5));
        assert_eq!(settings.datastorage_url.as_deref(), Some("http://datastorage:8080"));
    }

    #[test]
    fn outside_a_cluster_the_url_is_enough() {
        let settings = read(&[("KUBE_API_URL", "http://127.0.0.1:8001/")]).unwrap();
        assert_eq!(settings.kube_api_url.as_deref(), Some("http://127.0.0.1:8001"));
    }

    #[test]
    fn an_empty_datastorage_url_turns_audit_off() {
        assert_eq!(read(&[("DATASTORAGE_URL", "")]).unwrap().datastorage_url, None);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let error = read(&[
            ("LISTEN", "here"),
            ("DEDUP_TTL", "0s"),
            ("KUBE_RETRY_BUDGET", "soon"),
            ("LOG_LEVEL", "loud"),
            ("REDIS_URL", "http://redis"),
            ("KUBE_API_URL", "nowhere"),
        ]);
        let text = error.unwrap_err().to_string();
        for name in
            ["LISTEN", "DEDUP_TTL", "KUBE_RETRY_BUDGET", "LOG_LEVEL", "REDIS_URL", "KUBE_API_URL"]
        {
            assert!(text.contains(&format!("`{name}`")), "{name} is missing in: {text}");
        }
    }
}
