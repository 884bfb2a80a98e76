//! Waiting for what a step promises, and giving up on what cannot come.
//!
//! `kubectl wait` fails on an object not yet made, runs to its timeout on a pod that can never
//! start, and takes the pods of before for those that were applied. This loop bears the first,
//! finds the second and holds what it sees to what was applied: whatever is waited for, the
//! workloads of the step must have rolled out, by a look that began after the apply. Only then is
//! an address asked, so that no pod of before can answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::condition::{self, Since};
use super::look::Snapshots;
use super::rollout::{self, IsLoaded};
use super::verdict::{self, Fault, Verdict};
use super::workload::Workload;
use super::{explain, http};
use crate::config::{Address, WaitFor};
use crate::error::ErrorExt as _;
use crate::event::Events;
use crate::process::stop;

/// How long a suspect must stay one to be taken for hopeless. With the two or three seconds until
/// it shows, and those its explanation takes, the failure comes within ten.
const GRACE: Duration = Duration::from_secs(5);

/// How long a suspicion outlives its last sighting: errors of a pod come and go between two tries.
const FORGET: Duration = Duration::from_secs(3);

/// How long the API may fail to answer before that is the failure.
const UNREACHABLE: Duration = Duration::from_secs(6);

/// What is waited for, and what it needs.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub step: &'a str,
    /// None: the rollouts alone.
    pub on: Option<&'a WaitFor>,
    pub timeout: Duration,
    /// Where the object that is named lives.
    pub namespace: &'a str,
    /// What the step applied that makes pods.
    pub workloads: &'a [Workload],
    /// When the step had been applied: what was seen before does not count.
    pub since: Instant,
    /// The same by the API server's clock; none: the step was unchanged, so that nothing was
    /// applied.
    pub applied: Option<Option<&'a str>>,
    pub is_loaded: IsLoaded<'a>,
    /// Port names → `127.0.0.1:30080`, for `{NAME}` in addresses.
    pub addresses: &'a BTreeMap<String, Address>,
    /// Whether a step that does not come after this one has yet to end. A container that crashes
    /// may lack what that step brings, and is given three restarts (about 45 s); else two crashes
    /// settle it.
    pub others_coming: &'a dyn Fn() -> bool,
}

/// Waits until the target is ready; fails as soon as it cannot be, with the reason, its events and
/// logs.
pub fn wait(target: &Target<'_>, looks: &Snapshots, events: &Events) -> anyhow::Result<()> {
    wait_until(std::slice::from_ref(target), false, looks, events)
}

/// Waits until all targets are ready in one and the same round, in which no pod is left whose maker
/// is gone: of what no step applies any more, or a `run` step has deleted.
pub fn wait_for_all(
    targets: &[Target<'_>],
    looks: &Snapshots,
    events: &Events,
) -> anyhow::Result<()> {
    wait_until(targets, true, looks, events)
}

fn wait_until(
    targets: &[Target<'_>],
    without_orphans: bool,
    looks: &Snapshots,
    events: &Events,
) -> anyhow::Result<()> {
    let mut all: Vec<(&Target<'_>, Patience)> =
        targets.iter().map(|target| (target, Patience::new(target.timeout))).collect();
    let workloads = targets.iter().flat_map(|target| target.workloads);
    let namespaces: BTreeSet<&str> = workloads.map(Workload::namespace).collect();
    let Some(since) = targets.iter().map(|target| target.since).max() else { return Ok(()) };
    let longest = targets.iter().map(|target| target.timeout).max().unwrap_or_default();
    let orphans = Patience::new(longest);
    loop {
        if namespaces.len() > 1 {
            looks.all(&namespaces, since);
        }
        let mut missing = None;
        for (target, patience) in &mut all {
            if let Some(what) = turn(target, patience, looks)? {
                missing.get_or_insert((target.step, what, patience.pause()));
            }
        }
        if without_orphans
            && missing.is_none()
            && let Some(what) = orphan(&namespaces, since, looks)
        {
            if orphans.is_over() {
                bail!("failed to wait until the pods of before are gone: {what}");
            }
            missing = Some(("test", what, orphans.pause()));
        }
        let Some((step, what, pause)) = missing else { return Ok(()) };
        events.waiting(step, what);
        stop::pause(pause)?;
    }
}

/// A pod that is left of what is gone, in words.
fn orphan(namespaces: &BTreeSet<&str>, since: Instant, looks: &Snapshots) -> Option<String> {
    namespaces.iter().find_map(|namespace| match looks.at(namespace, since) {
        Ok(look) => rollout::orphan(&look.objects)
            .map(|pod| format!("pod/{}, whose maker is gone, to be gone too", verdict::name(pod))),
        Err(_) => Some("the cluster to answer".to_owned()),
    })
}

/// One round of one target: none if it is ready, else what is missing.
fn turn(
    target: &Target<'_>,
    patience: &mut Patience,
    looks: &Snapshots,
) -> anyhow::Result<Option<String>> {
    let seen = round(target, looks, patience);
    patience.note(&seen);
    let what = match seen {
        Ok(Verdict::Ready) => return Ok(None),
        Ok(Verdict::Unproven { settles, .. }) if patience.has_settled(settles) => return Ok(None),
        Ok(Verdict::Waiting(what) | Verdict::Unproven { what, .. }) => what,
        Ok(Verdict::Lacking(fault)) if (target.others_coming)() => fault.told(),
        Ok(Verdict::Suspect(fault) | Verdict::Lacking(fault))
            if !patience.is_over_with(&fault, Instant::now()) =>
        {
            fault.told()
        }
        Ok(Verdict::Suspect(fault) | Verdict::Lacking(fault) | Verdict::Hopeless(fault)) => {
            return Err(hopeless(target, &fault, looks));
        }
        Err(error) if patience.is_unreachable() => {
            return Err(error.context(format!("failed to wait for step `{}`", target.step)));
        }
        Err(_) => "the cluster to answer".to_owned(),
    };
    if patience.is_over() {
        return Err(timed_out(target, &what, looks));
    }
    Ok(Some(what))
}

/// One look, at the step's own workloads and then at the target.
fn round(
    target: &Target<'_>,
    looks: &Snapshots,
    patience: &mut Patience,
) -> anyhow::Result<Verdict> {
    let mut rollouts = Verdict::Ready;
    for workload in target.workloads {
        let look = looks.at(workload.namespace(), target.since)?;
        patience.answered();
        rollouts = worse(rollouts, rollout::rollout(workload, &look, target.is_loaded));
    }
    let Some(on) = target.on else { return Ok(rollouts) };
    match rollouts {
        // They were waited for before, and have stayed up for as long as that takes.
        Verdict::Ready | Verdict::Unproven { .. } => {}
        missing => return Ok(missing),
    }
    let own = judge(on, target, looks, patience)?;
    patience.was_otherwise |= matches!(own, Verdict::Waiting(_));
    Ok(own)
}

/// How things stand with what is named.
fn judge(
    on: &WaitFor,
    target: &Target<'_>,
    looks: &Snapshots,
    patience: &mut Patience,
) -> anyhow::Result<Verdict> {
    if let Some(verdict) = outside(on, target) {
        patience.answered();
        return Ok(verdict);
    }
    let look = looks.at(target.namespace, target.since)?;
    patience.answered();
    let named = |kind: &str, name: &str| {
        let own = target.workloads.iter().find(|workload| workload.is(kind, name));
        own.cloned().unwrap_or_else(|| Workload::named(kind, name, target.namespace))
    };
    Ok(match on {
        WaitFor::Rollout(object) => {
            let (kind, name) = object.split_once('/').unwrap_or(("deployment", object));
            rollout::rollout(&named(kind, name), &look, target.is_loaded)
        }
        WaitFor::Job(name) => rollout::completion(&named("Job", name), &look, target.is_loaded),
        WaitFor::Endpoint(service) => rollout::endpoint(service, &look),
        WaitFor::Condition { object, condition, status } => {
            let seen = object
                .split_once('/')
                .and_then(|(kind, name)| verdict::find(&look.objects, kind, name).cloned())
                .or_else(|| looks.one(target.namespace, object));
            let since = Since {
                applied: target.applied.is_some(),
                clock: target.applied.flatten(),
                was_otherwise: patience.was_otherwise,
            };
            match seen {
                Some(found) => condition::judge((&found, object), (condition, status), since),
                None => Verdict::Waiting(format!("{object} to be there")),
            }
        }
        WaitFor::Http { .. } | WaitFor::Tcp(_) => Verdict::Waiting(String::new()),
    })
}

/// What needs no question to the API.
fn outside(on: &WaitFor, target: &Target<'_>) -> Option<Verdict> {
    match on {
        WaitFor::Http { url, status, trust } => {
            let url = absolute(&expand(url, target.addresses));
            Some(match http::get(&url, trust.as_ref()) {
                Ok(got) if got == *status => Verdict::Ready,
                Ok(got) => Verdict::Waiting(format!("{url}: {got} instead of {status}")),
                Err(error) => Verdict::Waiting(format!("{url}: {error:#}")),
            })
        }
        WaitFor::Tcp(address) => {
            let address = expand(address, target.addresses);
            Some(match http::stays(&address) {
                Ok(()) => Verdict::Ready,
                Err(error) => Verdict::Waiting(format!("{error:#}")),
            })
        }
        _ => None,
    }
}

/// The worse of two.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Hopeless(_) => 0,
        Verdict::Suspect(_) => 1,
        Verdict::Lacking(_) => 2,
        Verdict::Waiting(_) => 3,
        Verdict::Unproven { .. } => 4,
        Verdict::Ready => 5,
    };
    match (one, other) {
        (
            Verdict::Unproven { what, settles, of },
            Verdict::Unproven { settles: longer, of: more, .. },
        ) => Verdict::Unproven { what, settles: settles.max(longer), of: [of, more].concat() },
        (one, other) if rank(&other) < rank(&one) => other,
        (one, _) => one,
    }
}

fn hopeless(target: &Target<'_>, fault: &Fault, looks: &Snapshots) -> anyhow::Error {
    let details = std::iter::once(target.namespace)
        .chain(target.workloads.iter().map(Workload::namespace))
        .map(|namespace| explain::explain(fault, namespace, target.since, looks))
        .find(|details| !details.is_empty())
        .unwrap_or_default();
    anyhow!(
        "failed to wait for {} in step `{}`: {fault}{details}",
        display(target, looks),
        target.step,
    )
    .hints(fault.hint.map(str::to_owned))
}

fn timed_out(target: &Target<'_>, what: &str, looks: &Snapshots) -> anyhow::Error {
    let unready = unready(target, looks);
    let unready = unready.iter().map(|workload| {
        let fault = Fault::of(&workload.object.to_string());
        explain::explain(&fault, workload.namespace(), target.since, looks)
    });
    let recent = explain::recent(target.namespace, target.since, looks);
    let details = unready.collect::<String>() + &recent;
    anyhow!(
        "failed to wait for {} in step `{}`: not within {}: {what}{details}",
        display(target, looks),
        target.step,
        humantime::format_duration(target.timeout),
    )
}

/// Of the step's own workloads, those that have not rolled out.
fn unready<'a>(target: &Target<'a>, looks: &Snapshots) -> Vec<&'a Workload> {
    let has_rolled_out = |workload: &&Workload| {
        let look = looks.at(workload.namespace(), target.since);
        look.is_ok_and(|look| rollout::rollout(workload, &look, target.is_loaded) == Verdict::Ready)
    };
    target.workloads.iter().filter(|workload| !has_rolled_out(workload)).collect()
}

fn display(target: &Target<'_>, looks: &Snapshots) -> String {
    match target.on {
        None => {
            let unready: Vec<String> =
                unready(target, looks).iter().map(|one| one.object.to_string()).collect();
            if unready.is_empty() { "the rollouts".to_owned() } else { unready.join(", ") }
        }
        Some(WaitFor::Rollout(object)) => object.clone(),
        Some(WaitFor::Job(name)) => format!("job/{name}"),
        Some(WaitFor::Endpoint(name)) => format!("an endpoint of service/{name}"),
        Some(WaitFor::Http { url, status, .. }) => format!("{url} to answer {status}"),
        Some(WaitFor::Tcp(address)) => format!("{address} to accept a connection"),
        Some(WaitFor::Condition { object, condition, status }) => {
            format!("{condition} of {object} to be {status}")
        }
    }
}

/// `{gateway}/healthz` leaves the scheme out.
fn absolute(url: &str) -> String {
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

/// Puts addresses for port names: `http://{gateway}/healthz`.
fn expand(text: &str, addresses: &BTreeMap<String, Address>) -> String {
    addresses.iter().fold(text.to_owned(), |text, (name, address)| {
        text.replace(&format!("{{{name}}}"), &address.to_string())
    })
}

/// What has been borne so far.
struct Patience {
    begun: Instant,
    limit: Duration,
    /// When the API last answered.
    answered: Instant,
    /// Since when it has been ready, if unproven, and what is said to be.
    ready: Option<(Instant, Vec<(String, u64)>)>,
    /// What is waited for was seen not to be so.
    was_otherwise: bool,
    /// Object → when it was first and last seen to be suspect.
    suspects: BTreeMap<String, (Instant, Instant)>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        let now = Instant::now();
        let (ready, was_otherwise, suspects) = (None, false, BTreeMap::new());
        Self { begun: now, limit, answered: now, ready, was_otherwise, suspects }
    }

    fn answered(&mut self) {
        self.answered = Instant::now();
    }

    fn is_unreachable(&self) -> bool {
        self.answered.elapsed() > UNREACHABLE
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() > self.limit
    }

    fn note(&mut self, seen: &anyhow::Result<Verdict>) {
        self.ready = match (seen, self.ready.take()) {
            (Ok(Verdict::Unproven { of, .. }), Some((since, same))) if *of == same => {
                Some((since, same))
            }
            (Ok(Verdict::Unproven { of, .. }), _) => Some((Instant::now(), of.clone())),
            _ => None,
        };
    }

    fn has_settled(&self, settles: Duration) -> bool {
        self.ready.as_ref().is_some_and(|(since, _)| since.elapsed() >= settles)
    }

    /// Quick at first, when most things happen; later every look less is a build the sooner.
    fn pause(&self) -> Duration {
        match self.begun.elapsed().as_secs() {
            0..10 => Duration::from_millis(300),
            _ => Duration::from_secs(1),
        }
    }

    /// Notes a suspicion; whether it has lasted long enough.
    fn is_over_with(&mut self, fault: &Fault, now: Instant) -> bool {
        let (first, last) = self.suspects.entry(fault.object.clone()).or_insert((now, now));
        if now.duration_since(*last) > FORGET {
            *first = now;
        }
        *last = now;
        now.duration_since(*first) >= GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(object: &str) -> Fault {
        Fault {
            object: object.to_owned(),
            container: None,
            reason: "ErrImagePull".to_owned(),
            message: String::new(),
            hint: None,
        }
    }

    #[test]
    fn a_suspicion_must_last_and_is_forgotten_when_it_does_not_come_back() {
        let mut patience = Patience::new(Duration::from_mins(1));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = [(0, false), (2, false), (4, false), (8, false), (10, false), (13, true)];
        for (second, over) in seen {
            assert_eq!(patience.is_over_with(&fault("pod/a"), at(second)), over, "{second}");
        }
        assert!(!patience.is_over_with(&fault("pod/b"), at(13)));
    }

    #[test]
    fn port_names_become_addresses() {
        let addresses = BTreeMap::from([(
            "gateway".to_owned(),
            Address { host: "127.0.0.1".to_owned(), port: 30080 },
        )]);
        assert_eq!(
            expand("http://{gateway}/healthz", &addresses),
            "http://127.0.0.1:30080/healthz"
        );
        assert_eq!(expand("{other}", &addresses), "{other}");
    }
}
