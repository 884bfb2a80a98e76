//! Waiting for what a step promises, and giving up on what cannot come.
//!
//! `kubectl wait` fails on an object not yet made and runs to its timeout on a pod that can never
//! start. This loop bears the one and finds the other: at every look the pods of the step are
//! judged too, whatever is waited for, so that an http wait does not outlive the pod that should
//! answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::Value;

use super::look::Looks;
use super::object::ObjectRef;
use super::verdict::{self, Fault, Verdict};
use super::{explain, http};
use crate::config::{Address, Wait, WaitFor};
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
    pub wait: &'a Wait,
    /// Of the object that is named.
    pub namespace: &'a str,
    /// What the step applied that makes pods: [`super::Rendered::workloads`].
    pub workloads: &'a [ObjectRef],
    /// Port names → `127.0.0.1:30080`, for `{NAME}` in addresses.
    pub addresses: &'a BTreeMap<String, Address>,
    /// Whether a step that does not come after this one has yet to end. A container that crashes
    /// may lack what that step brings, and is given three restarts (about 45 s); else two crashes
    /// settle it.
    pub others_coming: &'a dyn Fn() -> bool,
}

/// Waits until the target is ready; fails as soon as it cannot be, with the reason, its events and
/// logs.
pub fn wait(target: &Target<'_>, looks: &Looks, events: &Events) -> anyhow::Result<()> {
    let mut patience = Patience::new(target.wait.timeout);
    loop {
        let seen = round(target, looks, &mut patience);
        patience.note(&seen);
        let what = match seen {
            Ok(Verdict::Ready) => return Ok(()),
            Ok(Verdict::Unproven { settles, .. }) if patience.has_settled(settles) => return Ok(()),
            Ok(Verdict::Waiting(what) | Verdict::Unproven { what, .. }) => what,
            Ok(Verdict::Crashing(fault)) if (target.others_coming)() => fault.to_string(),
            Ok(Verdict::Suspect(fault) | Verdict::Crashing(fault))
                if !patience.is_over_with(&fault, Instant::now()) =>
            {
                fault.to_string()
            }
            Ok(Verdict::Suspect(fault) | Verdict::Crashing(fault) | Verdict::Hopeless(fault)) => {
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
        events.waiting(target.step, what);
        stop::pause(patience.pause())?;
    }
}

/// One look, at the target and at the step's own pods.
fn round(target: &Target<'_>, looks: &Looks, patience: &mut Patience) -> anyhow::Result<Verdict> {
    if let Some(verdict) = outside(target) {
        // What is answered from outside needs no look, until it is late.
        if verdict == Verdict::Ready || patience.is_young() {
            return Ok(verdict);
        }
        return Ok(workloads(target, looks)?.unwrap_or(verdict));
    }
    let objects = looks.at(target.namespace)?;
    patience.answered();
    let own = match &target.wait.on {
        WaitFor::Condition { object, condition, status } => {
            conditional(object, (condition, status), target, looks, &objects)
        }
        on => verdict::judge(on, &objects),
    };
    match own {
        Verdict::Waiting(_) => Ok(workloads(target, looks)?.unwrap_or(own)),
        settled => Ok(settled),
    }
}

/// What needs no question to the API.
fn outside(target: &Target<'_>) -> Option<Verdict> {
    match &target.wait.on {
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
            Some(match http::connect(&address) {
                Ok(_) => Verdict::Ready,
                Err(error) => Verdict::Waiting(format!("{error:#}")),
            })
        }
        _ => None,
    }
}

fn conditional(
    object: &str,
    (condition, status): (&str, &str),
    target: &Target<'_>,
    looks: &Looks,
    objects: &[Value],
) -> Verdict {
    let seen = object
        .split_once('/')
        .and_then(|(kind, name)| verdict::find(objects, kind, name).cloned())
        .or_else(|| looks.one(target.namespace, object));
    match seen {
        Some(found) => match verdict::condition(&found, condition) {
            Some(now) if now["status"] == *status => Verdict::Ready,
            now => Verdict::Waiting(told(object, condition, now)),
        },
        None => Verdict::Waiting(format!("{object} to be there")),
    }
}

/// What a condition says instead of what it is waited to say.
fn told(object: &str, condition: &str, now: Option<&Value>) -> String {
    let Some(now) = now else { return format!("{object}: no condition {condition} yet") };
    let [status, reason, message] =
        ["status", "reason", "message"].map(|key| verdict::text(&now[key]));
    format!("{object}: {condition} is {status}: {reason}: {message}")
}

/// What speaks against any of the step's own workloads.
fn workloads(target: &Target<'_>, looks: &Looks) -> anyhow::Result<Option<Verdict>> {
    for object in target.workloads {
        let namespace = object.namespace.as_deref().unwrap_or(target.namespace);
        let objects = looks.at(namespace)?;
        let verdict = verdict::workload(&object.kind, &object.name, &objects);
        if matches!(verdict, Verdict::Suspect(_) | Verdict::Crashing(_) | Verdict::Hopeless(_)) {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}

fn hopeless(target: &Target<'_>, fault: &Fault, looks: &Looks) -> anyhow::Error {
    let namespaces = target.workloads.iter().filter_map(|object| object.namespace.as_deref());
    let details = std::iter::once(target.namespace)
        .chain(namespaces)
        .map(|namespace| explain::explain(fault, namespace, looks))
        .find(|details| !details.is_empty())
        .unwrap_or_default();
    anyhow!(
        "failed to wait for {} in step `{}`: {fault}{details}",
        display(&target.wait.on),
        target.step,
    )
}

fn timed_out(target: &Target<'_>, what: &str, looks: &Looks) -> anyhow::Error {
    let unready = unready(target, looks);
    let unready = unready.iter().map(|fault| explain::explain(fault, target.namespace, looks));
    let details = unready.collect::<String>() + &explain::recent(target.namespace, looks);
    anyhow!(
        "failed to wait for {} in step `{}`: not within {}: {what}{details}",
        display(&target.wait.on),
        target.step,
        humantime::format_duration(target.wait.timeout),
    )
}

/// Of the step's own workloads, those that are not ready, for their events and logs.
fn unready(target: &Target<'_>, looks: &Looks) -> Vec<Fault> {
    let Ok(objects) = looks.at(target.namespace) else { return Vec::new() };
    let workloads = target
        .workloads
        .iter()
        .filter(|object| verdict::workload(&object.kind, &object.name, &objects) != Verdict::Ready);
    workloads.map(|object| Fault::of(&object.to_string())).collect()
}

fn display(on: &WaitFor) -> String {
    match on {
        WaitFor::Rollout(target) => target.clone(),
        WaitFor::Job(name) => format!("job/{name}"),
        WaitFor::Endpoint(name) => format!("an endpoint of service/{name}"),
        WaitFor::Http { url, status, .. } => format!("{url} to answer {status}"),
        WaitFor::Tcp(address) => format!("{address} to accept a connection"),
        WaitFor::Condition { object, condition, status } => {
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
    /// Since when all has been ready, if unproven.
    ready: Option<Instant>,
    /// Object → when it was first and last seen to be suspect.
    suspects: BTreeMap<String, (Instant, Instant)>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { begun: now, limit, answered: now, ready: None, suspects: BTreeMap::new() }
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

    fn is_young(&self) -> bool {
        self.begun.elapsed() < Duration::from_secs(1)
    }

    fn note(&mut self, seen: &anyhow::Result<Verdict>) {
        self.ready = match seen {
            Ok(Verdict::Unproven { .. }) => self.ready.or_else(|| Some(Instant::now())),
            _ => None,
        };
    }

    fn has_settled(&self, settles: Duration) -> bool {
        self.ready.is_some_and(|since| since.elapsed() >= settles)
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
