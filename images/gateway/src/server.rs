//! Starts the parts, serves, and stops in order.
//!
//! Nothing the gateway talks to needs to be there when it starts: readiness says what is missing.
//! On SIGTERM or SIGINT it is not ready at once, takes connections for `DRAIN_DELAY` more, until
//! the endpoints have forgotten it, finishes what it has begun, and sends the last audit events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use service::audit::Audit;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::claims::Claims;
use crate::config::Settings;
use crate::kube::Api;
use crate::metrics::Metrics;
use crate::router::{Gateway, router};

/// A claim outlives the budget by this, so that its owner can settle it.
const CLAIM_MARGIN: Duration = Duration::from_secs(5);
/// What requests may take to finish beyond their budget.
const FINISH_MARGIN: Duration = Duration::from_secs(2);
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(3);

/// Runs until a signal says to stop.
///
/// # Errors
/// The address cannot be listened on, or nothing says where the Kubernetes API is.
pub fn run(settings: Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let served = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    served
}

async fn serve(settings: Settings) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to await SIGINT")?;
    let address = settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on `{address}`"))?;
    let finish_limit = settings.drain_delay + settings.kube_retry_budget + FINISH_MARGIN;
    let drain_delay = settings.drain_delay;
    let (gateway, last_events) = assemble(settings)?;
    tracing::info!(address = address.to_string(), "listening");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let app = router(Arc::clone(&gateway));
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        drop(stopped.await);
    });
    let mut serving = tokio::spawn(async move { serving.await });

    tokio::select! {
        () = either(&mut terminate, &mut interrupt) => {}
        ended = &mut serving => ended.context("failed to serve")?.context("failed to serve")?,
    }
    tracing::info!("stopping: not ready, draining");
    gateway.stop();
    drop(gateway);
    tokio::time::sleep(drain_delay).await;
    drop(stop);
    if tokio::time::timeout(finish_limit, serving).await.is_err() {
        tracing::warn!("requests are cut off");
    }
    if tokio::time::timeout(LAST_EVENTS_LIMIT, last_events).await.is_err() {
        tracing::warn!("the last audit events are not sent");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The parts, put together; the handle ends when the last audit event is sent.
///
/// # Errors
/// A URL that cannot be used, or no Kubernetes API to be found.
pub fn assemble(settings: Settings) -> Result<(Arc<Gateway>, JoinHandle<()>)> {
    let metrics = Arc::new(Metrics::new()?);
    let api = Api::new(settings.kube_api_url.as_deref(), Arc::clone(&metrics))?;
    let claim_ttl = settings.kube_retry_budget + CLAIM_MARGIN;
    let claims =
        Claims::start(&settings.redis_url, claim_ttl, settings.dedup_ttl, Arc::clone(&metrics))?;
    let (audit, last_events) =
        Audit::start(settings.datastorage_url.as_deref(), metrics.audit_events_dropped.clone());
    let gateway = Gateway::new(settings, api, claims, audit, metrics);
    Ok((Arc::new(gateway), last_events))
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
