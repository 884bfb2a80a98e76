//! Settings from the environment, every fault of them reported at once.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::http::Uri;
use tracing::level_filters::LevelFilter;

/// Looks one variable up; the environment outside tests.
pub trait Lookup: Fn(&str) -> Option<String> {}

impl<L: Fn(&str) -> Option<String>> Lookup for L {}

/// Looks values up and keeps the faults.
pub struct Reader<L> {
    lookup: L,
    faults: Vec<String>,
}

impl<L: Lookup> Reader<L> {
    pub fn new(lookup: L) -> Self {
        Self { lookup, faults: Vec::new() }
    }

    /// The settings, if all of them could be read.
    ///
    /// # Errors
    /// Every value that cannot be used, one a line.
    pub fn end<T>(self, settings: T) -> Result<T> {
        if !self.faults.is_empty() {
            bail!("failed to read the settings: {}", self.faults.join("\n"));
        }
        Ok(settings)
    }

    /// Notes what is wrong with a value.
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// The value as it is written.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        self.read(name, default, str::parse)
    }

    /// A time such as `10s`.
    pub fn duration(&mut self, name: &str, default: Duration) -> Duration {
        self.read(name, default, humantime::parse_duration)
    }

    fn read<T, E: Display>(
        &mut self,
        name: &str,
        default: T,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        match self.text(name).map(|text| read(&text)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.fault(format!("`{name}`: {error}"));
                default
            }
        }
    }

    /// A URL without trailing slashes.
    pub fn url(&mut self, name: &str, default: &str, schemes: &[&str]) -> String {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        let usable = Uri::from_str(&text).is_ok_and(|uri| {
            uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !usable {
            self.fault(format!("`{name}`: not a URL of {}", schemes.join(" or ")));
        }
        text.trim_end_matches('/').to_owned()
    }

    /// A plain http URL, or nothing where the variable is empty.
    pub fn url_or_off(&mut self, name: &str, default: &str) -> Option<String> {
        let turned_off = self.text(name).is_some_and(|text| text.is_empty());
        (!turned_off).then(|| self.url(name, default, &["http"]))
    }

    /// `LOG_LEVEL`. `warning` and numbers mean nothing here, though `LevelFilter` itself reads
    /// numbers.
    pub fn log_level(&mut self) -> LevelFilter {
        let text = self.text("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
        match text.to_ascii_lowercase().as_str() {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => {
                self.fault(format!("`LOG_LEVEL`: no level is called `{text}`"));
                LevelFilter::INFO
            }
        }
    }
}
