//! A run on a cluster that others run: everything it makes there has a name of its own, and its images
//! come through the registry.
//!
//! The names are known as soon as the manifests are rendered; the images' digests when they are in the registry, and node
//! ports when their Services were applied. So steps are rendered anew when it is their turn.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::config::{Address, Cluster, Config, Existing, Suite};
use crate::deploy::{self, Leftover, Maker, Own, Rendered};
use crate::event::Events;
use crate::exit::{Exit, WithExit as _};
use crate::process::Tool;
use crate::verbs::builds::{Common, Ready};
use crate::verbs::cache::Cache;
use crate::verbs::{Workspace, lock};

/// What such a run has that others have not.
pub(super) struct Guest<'a> {
    pub(super) own: Own,
    cache: Option<&'a Cache>,
    /// By image: `REGISTRY/NAME@DIGEST`.
    published: Mutex<BTreeMap<String, String>>,
    /// Node ports that were asked for, and what was given.
    ports: Mutex<BTreeMap<u16, u16>>,
}

impl<'a> Guest<'a> {
    /// None on a cluster of our own. An error if there is no way for the suite's images.
    pub(super) fn of(
        common: Common<'a>,
        wanted: &Cluster,
        suite: &Suite,
        rendered: &[Option<Rendered>],
    ) -> Result<Option<Self>> {
        let Some(existing) = &wanted.existing else { return Ok(None) };
        let Common { workspace, run, cache, .. } = common;
        if cache.is_none() && !suite.images.is_empty() {
            let text =
                format!("failed to bring images to cluster `{}` without a registry", wanted.name);
            return Err(anyhow!("{text}\nhint: leave out `--cache off`")).exit(Exit::Usage);
        }
        let home = home(workspace);
        let maker = Maker {
            owner: &existing.owner,
            home: &home,
            run: &run.paths.id,
            ttl: existing.ttl,
            free_ports: existing.address.is_some(),
        };
        let own = Own::of(&maker, rendered.iter().flatten())?;
        Ok(Some(Self { own, cache, published: Mutex::default(), ports: Mutex::default() }))
    }

    /// Sees to it that nodes can pull the image.
    pub(super) fn publish(&self, common: Common, name: &str, ready: &Ready) -> Result<()> {
        let Some(cache) = self.cache else { return Ok(()) };
        let reference = cache.publish(common, name, ready)?;
        lock(&self.published).insert(name.to_owned(), reference);
        Ok(())
    }

    /// Images as nodes are told them; `tags` has those that are not in the registry yet.
    pub(super) fn references(&self, tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
        tags.into_iter().chain(lock(&self.published).clone()).collect()
    }

    /// Takes note of what the API server chose.
    pub(super) fn note(&self, applied: &[Value]) {
        lock(&self.ports).extend(deploy::given_ports(applied));
    }

    /// Where ports are reached, by now.
    pub(super) fn addresses(&self, config: &Config, suite: &Suite) -> BTreeMap<String, Address> {
        let given = lock(&self.ports);
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

/// Takes away what runs have left whose time is over; one that fails is no reason not to run.
pub(super) fn sweep(existing: &Existing, kubectl: &Tool, events: &Events) {
    let swept = deploy::leftovers(kubectl, &existing.owner).and_then(|left| {
        let over = left.into_iter().filter(Leftover::is_over);
        over.map(|left| deploy::free(kubectl, &left).map(|()| left.to_string())).collect()
    });
    let swept: Result<Vec<String>> = swept;
    match swept {
        Ok(swept) if swept.is_empty() => {}
        Ok(swept) => events.note(format!("removed what runs had left: {}", swept.join(", "))),
        Err(error) => events.warn(format!("{error:#}"), None),
    }
}

/// What tells this checkout from others, on any machine, in labels.
pub(in crate::verbs) fn home(workspace: &Workspace) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    deploy::home(&format!("{host}:{}", workspace.paths.home().display()))
}
