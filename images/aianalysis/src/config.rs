//! Settings, all from the environment, so that copies in other namespaces differ by nothing else.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `LISTEN` | `0.0.0.0:8080` | address and port of `/healthz`, `/readyz`, `/metrics` |
//! | `HOLMESGPT_URL` | `http://holmesgpt-api:8080` | who is asked |
//! | `HOLMESGPT_TIMEOUT` | `30s` | for one question |
//! | `MAX_ATTEMPTS` | `5` | questions that reached holmesgpt-api before an analysis fails |
//! | `BACKOFF_FIRST`, `BACKOFF_LONGEST` | `1s`, `30s` | the wait after the first fault, and the longest |
//! | `DEADLINE` | `30m` | from the start of an investigation until it fails, whoever was away |
//! | `CONTROLLER_CLASS` | empty | only resources with this label are ours; empty: those without one |
//! | `DATASTORAGE_URL` | `http://datastorage:8080` | where audit events go; empty turns them off |
//! | `LOG_LEVEL` | `info` | `error`, `warn`, `info`, `debug` or `trace` |
//!
//! The Kubernetes API is found the way kubectl finds it, in a pod by its service account.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use service::backoff::Backoff;
use service::settings::{Lookup, Reader};
use tracing::level_filters::LevelFilter;

use crate::step::Limits;

/// What the controller was told to do; checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// Base URL without a trailing slash.
    pub(crate) holmes_url: String,
    pub(crate) holmes_timeout: Duration,
    pub(crate) limits: Limits,
    /// Empty: resources that name no class.
    pub(crate) class: String,
    /// Base URL without a trailing slash; `None` when audit is turned off.
    pub(crate) datastorage_url: Option<String>,
    pub(crate) log_level: LevelFilter,
}

impl Settings {
    /// Reads the settings through `lookup`, which is the environment outside tests.
    ///
    /// # Errors
    /// Every value that cannot be used, one a line.
    pub(crate) fn read(lookup: impl Lookup) -> Result<Self> {
        let mut reader = Reader::new(lookup);
        let settings = Self {
            listen: reader.parsed("LISTEN", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))),
            holmes_url: reader.url("HOLMESGPT_URL", "http://holmesgpt-api:8080", &["http"]),
            holmes_timeout: reader.duration("HOLMESGPT_TIMEOUT", Duration::from_secs(30)),
            limits: Limits {
                attempts: reader.parsed("MAX_ATTEMPTS", 5),
                backoff: Backoff {
                    first: reader.duration("BACKOFF_FIRST", Duration::from_secs(1)),
                    longest: reader.duration("BACKOFF_LONGEST", Duration::from_secs(30)),
                },
                deadline: reader.duration("DEADLINE", Duration::from_mins(30)),
            },
            class: reader.text("CONTROLLER_CLASS").unwrap_or_default(),
            datastorage_url: reader.url_or_off("DATASTORAGE_URL", "http://datastorage:8080"),
            log_level: reader.log_level(),
        };
        if settings.limits.attempts == 0 {
            reader.fault("`MAX_ATTEMPTS`: nobody would ever be asked".to_owned());
        }
        reader.end(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_gives_the_defaults_of_the_table() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.holmes_url, "http://holmesgpt-api:8080");
        assert_eq!(settings.limits.attempts, 5);
        assert_eq!(settings.class, "");
        assert_eq!(read(&[("DATASTORAGE_URL", "")]).unwrap().datastorage_url, None);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let names = ["LISTEN", "HOLMESGPT_URL", "MAX_ATTEMPTS", "BACKOFF_FIRST", "LOG_LEVEL"];
        let pairs = names.map(|name| (name, "no such thing"));
        let text = read(&pairs).unwrap_err().to_string();
        for name in names {
            assert!(text.contains(&format!("`{name}`")), "{name} is missing in: {text}");
        }
        assert!(read(&[("MAX_ATTEMPTS", "0")]).is_err());
    }
}
