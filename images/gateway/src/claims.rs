//! What Redis remembers of a fingerprint (BR-GATEWAY-012), and who may create.
//!
//! `gateway:fp:<fingerprint>` holds one of
//!
//! | value | means | lives |
//! | --- | --- | --- |
//! | `claim:<id>` | one gateway is deciding and may create; others wait | `CLAIM_TTL` |
//! | `<namespace>/<name>` | this request was created for the signal | the de-duplication TTL |
//!
//! A claim is taken by `SET NX`, or in exchange for the very value that was read; it is settled or
//! let go only by its owner (scripts, so that nothing comes between the look and the act).
//!
//! Redis may be away at any time (BR-GATEWAY-073). One task keeps the connection: it connects, asks
//! `PING` every second, and connects again when that or anyone's command fails. Whoever needs Redis
//! takes the connection from it or goes without, and never waits longer than `COMMAND_LIMIT`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::fingerprint::Fingerprint;
use crate::metrics::Metrics;

const COMMAND_LIMIT: Duration = Duration::from_millis(750);
const PING_EVERY: Duration = Duration::from_secs(1);
const CONNECT_EVERY: Duration = Duration::from_millis(500);

const EXCHANGE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";
const RELEASE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     return redis.call('DEL', KEYS[1])";

/// The shared memory of all replicas. Cheap to clone.
#[derive(Clone)]
pub struct Claims {
    connection: watch::Receiver<Option<MultiplexedConnection>>,
    broken: Arc<Notify>,
    /// How long a claim lives: longer than its owner may take.
    claim_ttl: Duration,
    settled_ttl: Duration,
}

/// What the key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Absent,
    /// Another gateway, or another task of this one, is deciding.
    Claimed,
    /// The name of the request that was created.
    Settled(String),
}

/// The right to create, until it is settled or released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    key: String,
    value: String,
}

/// Redis is away.
#[derive(Debug, thiserror::Error)]
#[error("Redis is away: {0}")]
pub struct Lost(String);

impl Claims {
    /// Starts the task that keeps the connection, and returns at once.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn start(
        url: &str,
        claim_ttl: Duration,
        settled_ttl: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let client = Client::open(url).context("failed to read `REDIS_URL`")?;
        let (sender, connection) = watch::channel(None);
        let broken = Arc::new(Notify::new());
        metrics.degraded.set(1);
        tokio::spawn(keep_connection(client, sender, Arc::clone(&broken), metrics));
        Ok(Self { connection, broken, claim_ttl, settled_ttl })
    }

    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    pub async fn read(&self, fingerprint: &Fingerprint) -> Result<Entry, Lost> {
        let value: Option<String> = self.ask(redis::cmd("GET").arg(key(fingerprint))).await?;
        Ok(entry(value.as_deref()))
    }

    /// Takes the claim if the key still holds `entry`; `None` if someone was faster.
    pub async fn claim(
        &self,
        fingerprint: &Fingerprint,
        namespace: &str,
        entry: &Entry,
    ) -> Result<Option<Claim>, Lost> {
        let claim =
            Claim { key: key(fingerprint), value: format!("claim:{}", Uuid::new_v4().simple()) };
        let taken = match entry {
            Entry::Claimed => false,
            Entry::Absent => {
                let mut set = redis::cmd("SET");
                set.arg(&claim.key)
                    .arg(&claim.value)
                    .arg("NX")
                    .arg("PX")
                    .arg(millis(self.claim_ttl));
                self.ask::<Option<String>>(&set).await?.is_some()
            }
            Entry::Settled(name) => {
                let held = settled_value(namespace, name);
                self.exchange(&claim.key, &held, &claim.value, self.claim_ttl).await?
            }
        };
        Ok(taken.then_some(claim))
    }

    /// Replaces the claim by the request that was created; a claim that ran out is left alone.
    pub async fn settle(&self, claim: &Claim, namespace: &str, name: &str) -> Result<(), Lost> {
        let value = settled_value(namespace, name);
        self.exchange(&claim.key, &claim.value, &value, self.settled_ttl).await.map(drop)
    }

    /// Gives the claim back with nothing created.
    pub async fn release(&self, claim: &Claim) -> Result<(), Lost> {
        let mut script = redis::cmd("EVAL");
        script.arg(RELEASE).arg(1).arg(&claim.key).arg(&claim.value);
        self.ask::<i64>(&script).await.map(drop)
    }

    async fn exchange(&self, key: &str, old: &str, new: &str, ttl: Duration) -> Result<bool, Lost> {
        let mut script = redis::cmd("EVAL");
        script.arg(EXCHANGE).arg(1).arg(key).arg(old).arg(new).arg(millis(ttl));
        Ok(self.ask::<i64>(&script).await? == 1)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Lost> {
        let connection = self.connection.borrow().clone();
        let mut connection = connection.ok_or_else(|| Lost("not connected".to_owned()))?;
        ask(&mut connection, command).await.inspect_err(|_| self.broken.notify_one())
    }
}

async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<T, Lost> {
    match tokio::time::timeout(COMMAND_LIMIT, command.query_async(connection)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Lost(error.to_string())),
        Err(_) => Err(Lost(format!("no answer within {COMMAND_LIMIT:?}"))),
    }
}

/// Connects, watches, connects again, for as long as anyone holds the other end.
async fn keep_connection(
    client: Client,
    sender: watch::Sender<Option<MultiplexedConnection>>,
    broken: Arc<Notify>,
    metrics: Arc<Metrics>,
) {
    while !sender.is_closed() {
        match connect(&client).await {
            Ok(connection) => {
                tracing::info!("Redis is there");
                sender.send_replace(Some(connection.clone()));
                metrics.degraded.set(0);
                let lost = watch_connection(connection, &sender, &broken).await;
                sender.send_replace(None);
                metrics.degraded.set(1);
                tracing::warn!(error = lost.to_string(), "degraded: Redis is gone");
            }
            Err(error) => {
                tracing::debug!(error = error.to_string(), "Redis cannot be reached");
                tokio::time::sleep(CONNECT_EVERY).await;
            }
        }
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, Lost> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(COMMAND_LIMIT))
        .set_response_timeout(Some(COMMAND_LIMIT));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connected.map_err(|error| Lost(error.to_string()))?;
    ask::<String>(&mut connection, &redis::cmd("PING")).await?;
    Ok(connection)
}

/// Returns why the connection is no good any more.
async fn watch_connection(
    mut connection: MultiplexedConnection,
    sender: &watch::Sender<Option<MultiplexedConnection>>,
    broken: &Notify,
) -> Lost {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PING_EVERY) => {}
            () = broken.notified() => {}
            () = sender.closed() => return Lost("nobody needs it".to_owned()),
        }
        if let Err(lost) = ask::<String>(&mut connection, &redis::cmd("PING")).await {
            return lost;
        }
    }
}

fn key(fingerprint: &Fingerprint) -> String {
    format!("gateway:fp:{fingerprint}")
}

fn settled_value(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// A value nobody here wrote counts as a claim: it is waited out, not overwritten.
fn entry(value: Option<&str>) -> Entry {
    match value {
        None => Entry::Absent,
        Some(text) if text.starts_with("claim:") => Entry::Claimed,
        Some(text) => {
            text.split_once('/').map_or(Entry::Claimed, |(_, name)| Entry::Settled(name.to_owned()))
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        assert_eq!(entry(None), Entry::Absent);
        assert_eq!(entry(Some("claim:0a")), Entry::Claimed);
        assert_eq!(entry(Some("prod/rr-1")), Entry::Settled("rr-1".to_owned()));
        assert_eq!(entry(Some("odd")), Entry::Claimed);
    }
}
