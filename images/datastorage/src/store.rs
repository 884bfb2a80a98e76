//! The audit events in PostgreSQL.
//!
//! One connection serves every request: the client sends statements one behind another without
//! waiting for answers, and every operation here is a single statement, so none needs a
//! transaction of its own. A connection that broke is replaced when next needed; an operation that
//! was under way is tried once more, which is safe because writing an event twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, Json, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row};
use uuid::Uuid;

use crate::event::{AuditEvent, Outcome};
use crate::filter::Filter;
use crate::migrations;

/// How long an operation may take, connecting included.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

const INSERT: &str = "WITH stored AS ( \
     INSERT INTO audit_events (event_id, event_type, service, correlation_id, namespace, \
     resource, fingerprint, outcome, occurred_at, detail) \
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], \
     $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::jsonb[]) \
     ON CONFLICT (event_id) DO NOTHING RETURNING id) SELECT count(*) FROM stored";
const SCHEMA_VERSION: &str = "SELECT coalesce(max(version), 0) FROM schema_migrations";

/// Values for a statement's `$1`, `$2`, … in order.
type Parameters<'a> = [&'a (dyn ToSql + Sync)];

pub(crate) struct Store {
    config: Config,
    client: Mutex<Option<Arc<Client>>>,
}

impl Store {
    /// Connects when first used.
    pub(crate) fn new(config: Config) -> Self {
        Self { config, client: Mutex::new(None) }
    }

    /// Writes the events, all or none. Returns how many were not there before.
    pub(crate) async fn insert(&self, events: &[AuditEvent]) -> Result<u64> {
        let columns = Columns::of(events);
        let rows = self.query(INSERT, &columns.parameters()).await.context("write the events")?;
        let stored: i64 = first_column(&rows)?;
        Ok(stored.try_into()?)
    }

    /// The events that pass the filter, newest first.
    pub(crate) async fn select(&self, filter: &Filter) -> Result<Vec<AuditEvent>> {
        let (sql, parameters) = filter.to_sql();
        let rows = self.query(&sql, &parameters).await.context("read the events")?;
        rows.iter().map(event).collect()
    }

    /// Fails unless the database answers and holds every migration this program was built with.
    pub(crate) async fn ready(&self) -> Result<()> {
        let rows = self.query(SCHEMA_VERSION, &[]).await.context("ask for the schema's version")?;
        let version: i32 = first_column(&rows)?;
        if version < migrations::LATEST {
            bail!("use the schema: at {version}, not yet at {}", migrations::LATEST);
        }
        Ok(())
    }

    async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>> {
        let tried = timeout(OPERATION_TIMEOUT, async {
            match self.client().await?.query(sql, parameters).await {
                Err(error) if error.is_closed() => {
                    Ok(self.client().await?.query(sql, parameters).await?)
                }
                finished => Ok(finished?),
            }
        });
        tried.await.map_err(|_| anyhow!("no answer in {OPERATION_TIMEOUT:?}"))?
    }

    /// The connection, made anew if it broke. Callers wait for one attempt instead of each
    /// making their own.
    async fn client(&self) -> Result<Arc<Client>> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(connect(&self.config).await?);
        *held = Some(Arc::clone(&client));
        Ok(client)
    }
}

/// A new connection, driven by a task of its own until it ends.
pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("connect to the database")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!("lost the database: {error}");
        }
    });
    Ok(client)
}

/// The events by column, the form in which one statement takes them all.
#[derive(Default)]
struct Columns<'a> {
    event_id: Vec<Uuid>,
    event_type: Vec<&'a str>,
    service: Vec<&'a str>,
    correlation_id: Vec<&'a str>,
    namespace: Vec<Option<&'a str>>,
    resource: Vec<Option<&'a str>>,
    fingerprint: Vec<Option<&'a str>>,
    outcome: Vec<&'static str>,
    occurred_at: Vec<DateTime<Utc>>,
    detail: Vec<Json<&'a Map<String, Value>>>,
}

impl<'a> Columns<'a> {
    fn of(events: &'a [AuditEvent]) -> Self {
        let mut columns = Self::default();
        for event in events {
            columns.event_id.push(event.event_id);
            columns.event_type.push(&event.event_type);
            columns.service.push(&event.service);
            columns.correlation_id.push(&event.correlation_id);
            columns.namespace.push(event.namespace.as_deref());
            columns.resource.push(event.resource.as_deref());
            columns.fingerprint.push(event.fingerprint.as_deref());
            columns.outcome.push(event.outcome.as_str());
            columns.occurred_at.push(event.occurred_at);
            columns.detail.push(Json(&event.detail));
        }
        columns
    }

    /// In the order of `INSERT`.
    fn parameters(&self) -> [&(dyn ToSql + Sync); 10] {
        [
            &self.event_id,
            &self.event_type,
            &self.service,
            &self.correlation_id,
            &self.namespace,
            &self.resource,
            &self.fingerprint,
            &self.outcome,
            &self.occurred_at,
            &self.detail,
        ]
    }
}

fn first_column<T: for<'a> FromSql<'a>>(rows: &[Row]) -> Result<T> {
    Ok(rows.first().context("read an answer without rows")?.try_get(0)?)
}

fn event(row: &Row) -> Result<AuditEvent> {
    let Json(detail) = row.try_get("detail")?;
    Ok(AuditEvent {
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        service: row.try_get("service")?,
        correlation_id: row.try_get("correlation_id")?,
        namespace: row.try_get("namespace")?,
        resource: row.try_get("resource")?,
        fingerprint: row.try_get("fingerprint")?,
        outcome: match row.try_get("outcome")? {
            "success" => Outcome::Success,
            _ => Outcome::Failure,
        },
        occurred_at: row.try_get("occurred_at")?,
        detail,
    })
}
