//! `datastorage migrate` brings the database's schema up to date and ends; `datastorage serve`
//! takes audit events in and answers questions about them over HTTP.
//!
//! Modules in the order a request meets them: `settings`, `http`, `event` and `filter` (what is
//! asked), `store` and `migrations` (the database), `problem` (how a refusal reads), `metrics`.

mod event;
mod filter;
mod http;
mod metrics;
mod migrations;
mod problem;
mod settings;
mod store;

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use settings::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let settings = Settings::read(|name| env::var(name).ok());
    let level = settings.as_ref().map_or(tracing::Level::INFO, |settings| settings.log_level);
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_max_level(level)
        .init();
    let settings = settings?;
    match env::args().nth(1).as_deref() {
        Some("migrate") => tokio::select! {
            migrated = migrations::run(&settings) => migrated,
            () = stop_requested()? => bail!("finish the migrations: stopped by a signal"),
        },
        Some("serve") => http::serve(settings, stop_requested()?).await,
        _ => bail!("understand the arguments: expected `migrate` or `serve`"),
    }
}

/// Resolves at SIGTERM or SIGINT. As the first process of a container nothing else would end us:
/// the kernel gives process 1 no default action for either.
fn stop_requested() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
