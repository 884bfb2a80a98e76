//! The schema, as numbered steps that are part of the program.
//!
//! `schema_migrations` holds the number, name and text of every step applied. A step is applied in
//! one transaction with its record; a step that was applied is never changed (the text is
//! compared), and a database that is ahead of the program is refused. An advisory lock lets
//! several programs start at once: the later ones find nothing left to do.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::settings::Settings;
use crate::store::connect;

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 2] = [
    Migration {
        version: 1,
        name: "audit_events",
        sql: include_str!("../migrations/0001_audit_events.sql"),
    },
    Migration {
        version: 2,
        name: "audit_events_indexes",
        sql: include_str!("../migrations/0002_audit_events_indexes.sql"),
    },
];

/// The version of a schema that has every step.
pub(crate) const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Any number no other user of the database takes.
const ADVISORY_LOCK: i64 = 0x6175_6469_7400;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A step as the database remembers it.
struct Applied {
    version: i32,
    sql: String,
}

/// Brings the schema up to date, waiting for the database for as long as the settings say.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let mut client = wait_for_database(settings).await?;
    let applied = apply(&mut client).await.context("migrate the schema")?;
    tracing::info!(applied, version = LATEST, "schema is up to date");
    Ok(())
}

async fn wait_for_database(settings: &Settings) -> Result<Client> {
    let deadline = Instant::now() + settings.migrate_timeout;
    let mut told = String::new();
    loop {
        let error = match connect(&settings.database).await {
            Ok(client) => return Ok(client),
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) if Instant::now() + RETRY_PAUSE > deadline => {
                return Err(error.context(format!("wait {:?}", settings.migrate_timeout)));
            }
            Err(error) => format!("{error:#}"),
        };
        if error != told {
            tracing::info!("waiting for the database: {error}");
            told = error;
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Whether the server is there and will say no again: a wrong password, no such database.
fn is_refusal(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.is_some_and(|code| *code != SqlState::CANNOT_CONNECT_NOW)
}

/// Returns how many steps were missing. The lock goes with the connection.
async fn apply(client: &mut Client) -> Result<usize> {
    client.execute("SELECT pg_advisory_lock($1)", &[&ADVISORY_LOCK]).await?;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, \
             name text NOT NULL, sql text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let rows =
        client.query("SELECT version, sql FROM schema_migrations ORDER BY version", &[]).await?;
    let applied: Vec<_> =
        rows.iter().map(|row| Applied { version: row.get(0), sql: row.get(1) }).collect();
    let pending = pending(&MIGRATIONS, &applied)?;
    for migration in pending {
        let context = || format!("apply step {} `{}`", migration.version, migration.name);
        let transaction = client.transaction().await?;
        transaction.batch_execute(migration.sql).await.with_context(context)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, sql) VALUES ($1, $2, $3)",
                &[&migration.version, &migration.name, &migration.sql],
            )
            .await
            .with_context(context)?;
        transaction.commit().await.with_context(context)?;
        tracing::info!(version = migration.version, name = migration.name, "applied a step");
    }
    Ok(pending.len())
}

/// The steps still to be applied. Fails if history and program do not agree.
fn pending<'a>(known: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration]> {
    for (index, applied) in applied.iter().enumerate() {
        match known.get(index) {
            None => bail!("know step {}: the database is ahead of this program", applied.version),
            Some(known) if known.version != applied.version => {
                bail!("find step {}: the database went on to {}", known.version, applied.version)
            }
            Some(known) if known.sql != applied.sql => {
                bail!("match step {}: its text changed after it was applied", known.version)
            }
            Some(_) => {}
        }
    }
    Ok(&known[applied.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 3] = [
        Migration { version: 1, name: "one", sql: "1" },
        Migration { version: 2, name: "two", sql: "2" },
        Migration { version: 3, name: "three", sql: "3" },
    ];

    fn pending_after(applied: &[(i32, &str)]) -> Result<Vec<i32>> {
        let applied: Vec<_> = applied
            .iter()
            .map(|(version, sql)| Applied { version: *version, sql: (*sql).to_owned() })
            .collect();
        Ok(pending(&KNOWN, &applied)?.iter().map(|migration| migration.version).collect())
    }

    #[test]
    fn what_is_missing_is_pending() {
        assert_eq!(pending_after(&[]).unwrap(), [1, 2, 3]);
        assert_eq!(pending_after(&[(1, "1"), (2, "2")]).unwrap(), [3]);
        assert!(pending_after(&[(1, "1"), (2, "2"), (3, "3")]).unwrap().is_empty());
    }

    #[test]
    fn a_history_that_does_not_agree_is_refused() {
        let cases: [(&[(i32, &str)], &str); 3] = [
            (&[(1, "1"), (2, "two")], "match step 2"),
            (&[(1, "1"), (3, "3")], "find step 2"),
            (&[(1, "1"), (2, "2"), (3, "3"), (4, "4")], "ahead of this program"),
        ];
        for (applied, words) in cases {
            let message = pending_after(applied).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn every_file_is_a_step_numbered_without_a_gap() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = fs_err::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let name =
            |migration: &Migration| format!("{:04}_{}.sql", migration.version, migration.name);
        assert_eq!(files, MIGRATIONS.iter().map(name).collect::<Vec<_>>());
        assert!(MIGRATIONS.iter().zip(1..).all(|(migration, number)| migration.version == number));
    }
}
