//! Watches `AIAnalysis` resources and takes each as far as it goes.
//!
//! kube's `Controller` lists and watches (and lists again after 410 Gone), keeps one reconcile a
//! resource at a time, and comes back when asked to. The reconcile is a loop over [`step::next`] on
//! what the API server holds, at first read anew and then as the last write returned it: it never
//! decides on a cache that lags behind its own writes, which would ask a question twice.
//!
//! The status is written by server-side apply under [`FIELD_MANAGER`], whole, bound to the version
//! it was worked out from: a 409 means somebody else wrote, and the resource is looked at anew. A
//! 404 means it was deleted meanwhile, which is the end of it; nothing is held outside the
//! resource, so there is no finalizer. One replica needs no leader election; two would only ask
//! twice, since the second write meets the 409.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;
use service::audit::Audit;
use service::custom_resource::API_VERSION;

use crate::audit;
use crate::holmes::Holmes;
use crate::metrics::Metrics;
use crate::resource::{AiAnalysis, CLASS_LABEL, KIND, Status};
use crate::status::{self, Moment};
use crate::step::{self, Limits, Step};

const FIELD_MANAGER: &str = "aianalysis-controller";
/// Questions under way at once.
const CONCURRENCY: u16 = 16;
/// Until a resource is looked at anew after the Kubernetes API refused a write.
const PAUSE: Duration = Duration::from_secs(1);

/// What every reconcile works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) holmes: Holmes,
    pub(crate) limits: Limits,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<Metrics>,
}

/// Controls the resources of `class` until `stop` resolves and what was begun is done.
pub(crate) async fn run(
    context: Arc<Context>,
    class: &str,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let selector = match class {
        "" => format!("!{CLASS_LABEL}"),
        class => format!("{CLASS_LABEL}={class}"),
    };
    let all = Api::<AiAnalysis>::all(context.client.clone());
    Controller::new(all, watcher::Config::default().labels(&selector))
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop)
        .run(reconcile, |_, _: &kube::Error, context| failed(&context), context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::warn!(error = error.to_string(), "a resource is looked at anew");
            }
        })
        .await;
}

fn failed(context: &Context) -> Action {
    context.metrics.reconcile_errors.inc();
    Action::requeue(PAUSE)
}

async fn reconcile(
    analysis: Arc<AiAnalysis>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    let namespace = analysis.namespace().unwrap_or_default();
    let api = Api::<AiAnalysis>::namespaced(context.client.clone(), &namespace);
    let Some(mut current) = api.get_opt(&analysis.name_any()).await? else {
        return Ok(Action::await_change());
    };
    loop {
        let now = Utc::now();
        let moment = Moment { now, generation: current.metadata.generation.unwrap_or_default() };
        let before = current.status.clone();
        let limits = &context.limits;
        let next = match step::next(&current, limits, now) {
            Step::Rest => return Ok(Action::await_change()),
            Step::Wait(wait) => return Ok(Action::requeue(wait)),
            Step::Accept => status::accepted(moment),
            Step::Begin => status::begun(before, moment),
            Step::GiveUp => status::given_up(before, moment, limits),
            Step::Ask => {
                let answer = context.holmes.ask(&current, &context.metrics).await;
                let moment = Moment { now: Utc::now(), ..moment };
                status::answered(before, moment, &answer, limits, fastrand::f64())
            }
        };
        match write(&api, &current, &next).await? {
            Some(written) => {
                tell(&context, &current.status, &written);
                current = written;
            }
            None => return Ok(Action::await_change()),
        }
    }
}

/// The resource with that status; none if it is gone.
async fn write(
    api: &Api<AiAnalysis>,
    analysis: &AiAnalysis,
    status: &Status,
) -> Result<Option<AiAnalysis>, kube::Error> {
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "resourceVersion": analysis.meta().resource_version },
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&analysis.name_any(), &parameters, &Patch::Apply(&patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says what a write has changed: log, metrics, audit.
fn tell(context: &Context, before: &Status, written: &AiAnalysis) {
    let status = &written.status;
    if let Some(phase) = status.phase.filter(|phase| before.phase != Some(*phase)) {
        context.metrics.phases.with_label_values(&[phase.name()]).inc();
    }
    let (phase, reason) = (status.phase.map_or("", |phase| phase.name()), status::reason(status));
    tracing::info!(
        namespace = written.namespace(),
        name = written.name_any(),
        phase,
        reason,
        attempts = status.attempts,
        "status written"
    );
    for event in audit::events(before, written) {
        context.audit.record(event);
    }
}
