//! What the environment says, checked once at the start.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `DATABASE_URL` | – | the whole connection; the `PG…` parts below are then not read |
//! | `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE` | `postgresql`, 5432, `datastorage` twice | the connection in libpq's names |
//! | `PGPASSWORD` | – | needed unless the server trusts us |
//! | `LISTEN` | `0.0.0.0:8080` | address and port of the HTTP server |
//! | `LOG_LEVEL` | `info` | `error`, `warn`, `info`, `debug` or `trace` |
//! | `MIGRATE_TIMEOUT` | 120 | seconds `migrate` waits for the database to answer |

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a connection attempt may take; the kernel alone would try for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) database: tokio_postgres::Config,
    pub(crate) listen: SocketAddr,
    pub(crate) log_level: tracing::Level,
    pub(crate) migrate_timeout: Duration,
}

impl Settings {
    /// Reads the settings through `variable`, which looks one variable up. Fails on the first
    /// value that cannot be understood; no value is ever part of the message (passwords).
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let or = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        let seconds = or("MIGRATE_TIMEOUT", "120").parse().context("read `MIGRATE_TIMEOUT`")?;
        Ok(Self {
            database: database(&variable)?,
            listen: or("LISTEN", "0.0.0.0:8080").parse().context("read `LISTEN`")?,
            log_level: or("LOG_LEVEL", "info").parse().context("read `LOG_LEVEL`")?,
            migrate_timeout: Duration::from_secs(seconds),
        })
    }
}

fn database(variable: impl Fn(&str) -> Option<String>) -> Result<tokio_postgres::Config> {
    let mut config = if let Some(url) = variable("DATABASE_URL") {
        url.parse().context("read `DATABASE_URL`")?
    } else {
        let or = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        let mut config = tokio_postgres::Config::new();
        config
            .host(or("PGHOST", "postgresql"))
            .port(or("PGPORT", "5432").parse().context("read `PGPORT`")?)
            .user(or("PGUSER", "datastorage"))
            .dbname(or("PGDATABASE", "datastorage"));
        if let Some(password) = variable("PGPASSWORD") {
            config.password(password);
        }
        config
    };
    config.application_name("datastorage").connect_timeout(CONNECT_TIMEOUT);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        let found = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Settings::read(|name| found(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults_of_the_table() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(settings.log_level, tracing::Level::INFO);
        assert_eq!(settings.database.get_hosts(), [Host::Tcp("postgresql".into())]);
        assert_eq!(settings.database.get_ports(), [5432]);
        assert_eq!(settings.database.get_password(), None);
    }

    #[test]
    fn a_url_wins_over_the_parts() {
        let url = "postgres://ann:secret@db:6000/audit";
        let settings = read(&[("DATABASE_URL", url), ("PGHOST", "elsewhere")]).unwrap();
        assert_eq!(settings.database.get_hosts(), [Host::Tcp("db".into())]);
        assert_eq!(settings.database.get_dbname(), Some("audit"));
        assert_eq!(settings.database.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
    }

    #[test]
    fn a_bad_value_is_named_and_not_repeated() {
        for name in ["PGPORT", "LISTEN", "LOG_LEVEL", "MIGRATE_TIMEOUT", "DATABASE_URL"] {
            let message = format!("{:#}", read(&[(name, "s3cret!")]).unwrap_err());
            assert!(message.contains(name), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
