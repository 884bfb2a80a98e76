//! New request or duplicate: the protocol around the decision in [`dedup`].
//!
//! Of any number of gateways that take the same signal at the same time, one creates
//! (BR-GATEWAY-008):
//!
//! - With Redis, whoever takes the claim looks at the requests there are, decides, creates, and
//!   settles the claim with the name. The others wait for that name and count themselves on it.
//! - Without Redis, each looks and decides by state alone. Those who saw the same try the same
//!   name; the API server gives it to one, the others meet a conflict and look again.
//!
//! A gateway that dies holding a claim blocks its signal until the claim runs out; the senders get
//! 503 and come again. Two replicas of which only one sees Redis may both create.

use std::time::Duration;

use chrono::Utc;
use kube::ResourceExt as _;

use crate::backoff::Budget;
use crate::claims::{Claim, Entry, Lost};
use crate::dedup::{self, Decision, Existing};
use crate::fingerprint::Fingerprint;
use crate::kube::ApiError;
use crate::remediation::{Deduplication, RemediationRequest, name_by_sight, name_by_time};
use crate::router::Gateway;
use crate::signal::Signal;

const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// What settling or writing the first count may take when the budget is used up by the creation.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Where a signal ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub name: String,
    /// How often it came; 1 means the request was created for it.
    pub occurrences: u64,
    /// Decided without Redis.
    pub degraded: bool,
}

/// Why a signal found no place.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("another gateway has held this signal for too long")]
    Held,
}

/// One signal on its way.
struct Errand<'a> {
    gateway: &'a Gateway,
    signal: &'a Signal,
    fingerprint: Fingerprint,
    budget: &'a Budget,
}

/// Creates a request for the signal or counts it on one that is there.
///
/// # Errors
/// The API's errors, and [`Failure::Held`]; never [`Failure::Lost`].
pub async fn place(
    gateway: &Gateway,
    signal: &Signal,
    budget: &Budget,
) -> Result<Placement, Failure> {
    let fingerprint = signal.fingerprint();
    let errand = Errand { gateway, signal, fingerprint, budget };
    if gateway.claims.is_connected() {
        match errand.by_claim().await {
            Err(Failure::Lost(lost)) => {
                tracing::warn!(error = lost.to_string(), "deciding by state alone");
            }
            settled => return settled,
        }
    }
    let placement = errand.by_state().await?;
    Ok(Placement { degraded: true, ..placement })
}

impl Errand<'_> {
    fn namespace(&self) -> &str {
        &self.signal.target.namespace
    }

    async fn by_claim(&self) -> Result<Placement, Failure> {
        let claims = &self.gateway.claims;
        loop {
            let entry = claims.read(&self.fingerprint).await?;
            let named = match &entry {
                Entry::Claimed => {
                    if !self.budget.wait(LOOK_AGAIN).await {
                        return Err(Failure::Held);
                    }
                    continue;
                }
                Entry::Absent => None,
                Entry::Settled(name) => Some(name.as_str()),
            };
            if let Some(name) = named {
                let found = self.look().await?;
                if let Some(duplicate) = self.duplicate(Some(name), found) {
                    return self.count(duplicate).await;
                }
            }
            if let Some(claim) = claims.claim(&self.fingerprint, self.namespace(), &entry).await? {
                return self.under(&claim).await;
            }
        }
    }

    /// Decides and acts as the owner of the claim. Redis may go away meanwhile: what was done
    /// stands.
    async fn under(&self, claim: &Claim) -> Result<Placement, Failure> {
        let claims = &self.gateway.claims;
        let decided = self.decide_under_claim().await;
        let closed = match &decided {
            Ok(placement) if placement.occurrences == 1 => {
                claims.settle(claim, self.namespace(), &placement.name).await
            }
            _ => claims.release(claim).await,
        };
        if let Err(lost) = closed {
            tracing::warn!(error = lost.to_string(), "a claim is left to run out");
        }
        decided
    }

    async fn decide_under_claim(&self) -> Result<Placement, Failure> {
        let found = self.look().await?;
        match self.duplicate(None, found) {
            Some(duplicate) => self.count(duplicate).await,
            None => self.create(name_by_time(&self.fingerprint, Utc::now())).await,
        }
    }

    async fn by_state(&self) -> Result<Placement, Failure> {
        loop {
            let found = self.look().await?;
            let name = name_by_sight(&self.fingerprint, &existing(&found));
            if let Some(duplicate) = self.duplicate(None, found) {
                return self.count(duplicate).await;
            }
            match self.create(name).await {
                Err(Failure::Api(ApiError::Conflict(_))) if self.budget.wait(LOOK_AGAIN).await => {}
                settled => return settled,
            }
        }
    }

    async fn look(&self) -> Result<Vec<RemediationRequest>, ApiError> {
        self.gateway.api.list(self.namespace(), &self.fingerprint, self.budget).await
    }

    fn duplicate(
        &self,
        named: Option<&str>,
        mut found: Vec<RemediationRequest>,
    ) -> Option<RemediationRequest> {
        match dedup::decide(named, &existing(&found), self.gateway.settings.dedup_ttl) {
            Decision::Create => None,
            Decision::DuplicateOf(at) => Some(found.swap_remove(at)),
        }
    }

    async fn create(&self, name: String) -> Result<Placement, Failure> {
        let api = &self.gateway.api;
        let now = Utc::now();
        let request = RemediationRequest::new(self.signal, &self.fingerprint, name, now);
        let created = api.create(&request, self.budget).await?;
        self.gateway.metrics.crds_created.inc();
        let aftermath = Budget::starting_now(AFTERMATH);
        match api.write_count(&created, &Deduplication::first(now), &aftermath).await {
            // Someone was faster and has counted this one in.
            Ok(_) | Err(ApiError::Conflict(_)) => {}
            Err(error) => {
                tracing::warn!(error = error.to_string(), "the first count is not written");
            }
        }
        Ok(Placement { name: created.name_any(), occurrences: 1, degraded: false })
    }

    /// Adds one to the request's count. Tasks of this gateway take turns, and who has waited for
    /// the turn goes on from what was written meanwhile, or each would first be refused for its old
    /// version. Against other replicas that version decides, and who loses looks at the newer one.
    async fn count(&self, mut request: RemediationRequest) -> Result<Placement, Failure> {
        let api = &self.gateway.api;
        let turn = self.gateway.turn(&self.fingerprint);
        let mut written = match turn.try_lock() {
            Ok(mut turn) => {
                *turn = None;
                turn
            }
            Err(_) => turn.lock().await,
        };
        if let Some(newer) = written.take().filter(|newer| newer.is(&request)) {
            request = newer;
        }
        loop {
            let count = request.counted(Utc::now());
            match api.write_count(&request, &count, self.budget).await {
                Err(ApiError::Conflict(_)) if !self.budget.remaining().is_zero() => {
                    let name = request.name_any();
                    request = api.get(self.namespace(), &name, self.budget).await?;
                }
                counted => {
                    let name = written.insert(counted?).name_any();
                    self.gateway.metrics.signals_deduplicated.inc();
                    let occurrences = count.occurrence_count;
                    return Ok(Placement { name, occurrences, degraded: false });
                }
            }
        }
    }
}

fn existing(found: &[RemediationRequest]) -> Vec<Existing> {
    let now = Utc::now();
    found.iter().map(|request| request.existing(now)).collect()
}
