//! Starts the parts and stops them in order.
//!
//! Nothing the controller talks to needs to be there when it starts. On SIGTERM or SIGINT it is not
//! ready at once, begins nothing more, finishes the questions under way and sends the last audit
//! events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use service::audit::Audit;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::controller::{self, Context};
use crate::health::{self, Health};
use crate::holmes::Holmes;
use crate::metrics::Metrics;

const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(3);

/// Runs until a signal says to stop.
///
/// # Errors
/// The address cannot be listened on, or nothing says where the Kubernetes API is.
pub(crate) fn run(settings: Settings) -> Result<()> {
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
    let metrics = Arc::new(Metrics::new()?);
    let client = kube::Client::try_default().await.context("failed to find the Kubernetes API")?;
    let health = Health {
        api: kube::Api::all(client.clone()),
        stopping: Arc::new(AtomicBool::new(false)),
        metrics: Arc::clone(&metrics),
    };
    let app = health::router(health.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    tracing::info!(address = address.to_string(), "listening");

    let dropped = metrics.audit_events_dropped.clone();
    let (audit, last_events) = Audit::start(settings.datastorage_url.as_deref(), dropped);
    let context = Context {
        client,
        holmes: Holmes::new(&settings.holmes_url, settings.holmes_timeout),
        limits: settings.limits,
        audit,
        metrics,
    };
    let stopping = health.stopping;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping: not ready, finishing what was begun");
    };
    controller::run(Arc::new(context), &settings.class, stop).await;
    if tokio::time::timeout(LAST_EVENTS_LIMIT, last_events).await.is_err() {
        tracing::warn!("the last audit events are not sent");
    }
    serving.abort();
    tracing::info!("stopped");
    Ok(())
}
