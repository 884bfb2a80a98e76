//! A run on a cluster that others run: everything it makes there has a name of its own, and its
//! images come through the registry.
//!
//! The names are known as soon as the manifests are rendered; the images' digests when they are in
//! the registry, and node ports when their Services were applied. So steps are rendered anew when
//! it is their turn.
//!
//! What a run has made may stay for a time, so that one that is killed leaves it to others to take
//! away. As long as the run lives, that time is renewed.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;
use serde_json::Value;

use crate::config::{Address, Cluster, Config, Existing, Suite};
use crate::deploy::{self, Maker, Own, Rendered};
use crate::error::{ErrorExt as _, Exit};
use crate::event::Events;
use crate::identity;
use crate::process::Tool;
use crate::run::build::{ImageHandle, RunContext};
use crate::run::cache::Cache;
use crate::session::Workspace;

/// What such a run has that others have not.
pub(crate) struct SharedRun<'a> {
    pub(crate) own: Own,
    cache: Option<&'a Cache>,
    /// By image: `REGISTRY/NAME@DIGEST`.
    published: Mutex<BTreeMap<String, String>>,
    /// Node ports that were asked for, and what was given.
    ports: Mutex<BTreeMap<u16, u16>>,
    renewal: Mutex<Option<Repeated>>,
    ttl: Duration,
}

impl<'a> SharedRun<'a> {
    /// None on a cluster of our own. An error if there is no way for the suite's images.
    pub(crate) fn of(
        common: RunContext<'a>,
        wanted: &Cluster,
        suite: &Suite,
        rendered: &BTreeMap<String, Rendered>,
    ) -> Result<Option<Self>> {
        let Some(existing) = &wanted.existing else { return Ok(None) };
        let RunContext { workspace, cache, .. } = common;
        if cache.is_none() && !suite.images.is_empty() {
            let text =
                format!("failed to bring images to cluster `{}` without a registry", wanted.name);
            return Err(anyhow!(text)).hint("leave out `--cache off`").exit(Exit::Usage);
        }
        let (home, id) = (home(workspace)?, identity::random()?);
        let maker = Maker {
            owner: &existing.owner,
            home: &home,
            run: &id,
            ttl: existing.ttl,
            free_ports: existing.address.is_some(),
        };
        let own = Own::of(&maker, rendered.values())?;
        let (published, ports, renewal) = Default::default();
        Ok(Some(Self { own, cache, published, ports, renewal, ttl: existing.ttl }))
    }

    /// Begins on the cluster: goes by its clock, takes away what runs have left whose time is over,
    /// and renews the time of its own from now on. A failure is no reason not to run.
    pub(crate) fn begin(&self, existing: &Existing, kubectl: &Tool, events: &Events) {
        let clock = deploy::server_time(kubectl).map(|now| self.own.set_clock(now));
        let swept = clock.and_then(|()| sweep(existing, kubectl));
        match swept {
            Ok(swept) if swept.is_empty() => {}
            Ok(swept) => events.note(format!("removed what runs had left: {}", swept.join(", "))),
            Err(error) => events.warn_of(&error),
        }
        let (own, kubectl) = (self.own.clone(), kubectl.clone());
        // One that fails is made up for by the next.
        let renew = move || drop(deploy::renew(&own, &kubectl));
        *self.renewal.lock() = Some(Repeated::every(self.ttl / 4, renew));
    }

    /// Renews nothing any more.
    pub(crate) fn end(&self) {
        drop(self.renewal.lock().take());
    }

    /// Sees to it that nodes can pull the image.
    pub(crate) fn publish(
        &self,
        common: RunContext,
        name: &str,
        ready: &ImageHandle,
    ) -> Result<()> {
        let Some(cache) = self.cache else { return Ok(()) };
        let reference = cache.publish(common, name, ready)?;
        self.published.lock().insert(name.to_owned(), reference);
        Ok(())
    }

    /// Images as nodes are told them; `tags` has those that are not in the registry yet.
    pub(crate) fn references(&self, tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
        tags.into_iter().chain(self.published.lock().clone()).collect()
    }

    /// Takes note of what the API server chose.
    pub(crate) fn note(&self, applied: &[Value]) {
        self.ports.lock().extend(deploy::given_ports(applied));
    }

    /// Where ports are reached, by now.
    pub(crate) fn addresses(&self, config: &Config, suite: &Suite) -> BTreeMap<String, Address> {
        let given = self.ports.lock();
        let mut addresses = config.addresses(suite);
        for port in config.suite_ports(suite) {
            if let Some(given) = given.get(&port.node)
                && let Some(address) = addresses.get_mut(&port.name)
            {
                address.port = *given;
            }
        }
        addresses
    }
}

/// Takes away what runs have left whose time is over.
fn sweep(existing: &Existing, kubectl: &Tool) -> Result<Vec<String>> {
    let over = deploy::expired(kubectl, &existing.owner)?;
    over.iter().map(|left| deploy::expire(kubectl, left).map(|()| left.to_string())).collect()
}

/// What tells this checkout from others, on any machine, in labels.
pub(crate) fn home(workspace: &Workspace) -> Result<String> {
    Ok(identity::of_folder(workspace.paths.root())?)
}

/// Work that is done again and again until this is dropped.
struct Repeated {
    /// Dropped first: that ends it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Repeated {
    fn every(interval: Duration, mut work: impl FnMut() + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let again = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                work();
            }
        };
        Self { stop: Some(stop), thread: Some(std::thread::spawn(again)) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told already.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_repeated_until_its_owner_is_dropped() {
        let (did, done) = channel();
        let repeated = Repeated::every(Duration::from_millis(1), move || {
            // The test has ended.
            did.send(()).ok();
        });
        assert!(done.recv().is_ok() && done.recv().is_ok());
        drop(repeated);
        // Whoever could send is gone: what was sent ends.
        assert!(done.iter().count() < usize::MAX);
    }
}
