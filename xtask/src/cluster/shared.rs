//! A cluster that others run, named in the configuration by kubeconfig and context.
//!
//! Its context alone is copied into a private kubeconfig, like that of a cluster we made: the
//! user's file is only read, and the suite cannot stray into another context of it. The copy's
//! default namespace is one that is not there, so that an object that names no namespace is refused
//! instead of landing in somebody's. A context is a name that anybody may have moved: where it
//! leads is compared with the configuration's `server` before that is asked anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use super::record::{self, Lease};
use super::{Cluster, ClusterTarget, Status, ready};
use crate::config::Existing;
use crate::error::{ErrorExt as _, Exit};
use crate::event::Events;
use crate::kubernetes::{kubectl, kubectl_config};
use crate::paths::Paths;
use crate::private::PrivatePath;
use crate::yaml;

const LIMIT: Duration = Duration::from_secs(15);

/// Where what names no namespace would go.
const NOWHERE: &str = "no-namespace-was-named";

/// A cluster that others run, as the configuration names it.
pub struct Shared<'a> {
    pub name: &'a str,
    pub existing: &'a Existing,
    pub paths: &'a Paths,
}

impl ClusterTarget for Shared<'_> {
    fn name(&self) -> &str {
        self.name
    }

    /// Reaches it for a run; another server under the context's name is refused.
    fn up(&self, _: &Path, events: &Events) -> anyhow::Result<Cluster> {
        let Self { name, existing, paths } = self;
        within(existing, || {
            let cluster = connect(name, &view(existing)?, existing, paths, events)?;
            paths.used_cluster(name).write(existing.server.as_bytes())?;
            Ok(cluster)
        })
    }

    /// One that others run is neither held nor kept.
    fn standing(&self) -> Option<Cluster> {
        None
    }

    fn down(&self, _: &Path) -> anyhow::Result<()> {
        record::forget_folder(self.paths, self.name)
    }

    fn status(&self) -> anyhow::Result<Status> {
        let looked = self.look(&Events::silent())?;
        Ok(looked.map_or_else(Status::Unasked, |_| Status::Running))
    }

    /// Only what this checkout keeps of it is locked.
    fn lock(&self) -> anyhow::Result<PrivatePath> {
        Ok(self.paths.cluster_lock(self.name))
    }

    fn lease(&self, events: &Events) -> anyhow::Result<Lease> {
        record::share(self, self.paths, events)
    }

    fn try_lease(&self) -> Option<Lease> {
        None
    }
}

impl Shared<'_> {
    /// Reaches it for a command that is no run, if that runs no command of the kubeconfig, which
    /// may be a stranger's. The inner error says why it was not asked.
    pub fn look(&self, events: &Events) -> anyhow::Result<Result<Cluster, String>> {
        let Self { name, existing, paths } = self;
        within(existing, || {
            let text = view(existing)?;
            if let Some(login) = login(&text)? {
                return Ok(Err(format!(
                    "its kubeconfig runs `{login}` to log in, which only a run does"
                )));
            }
            connect(name, &text, existing, paths, events).map(Ok)
        })
    }

    /// Whether a run of this checkout has reached that very server.
    pub fn was_used(&self) -> bool {
        let server = &self.existing.server;
        let used = self.paths.used_cluster(self.name).read(server.len() as u64);
        used.is_ok_and(|used| used == server.as_bytes())
    }
}

fn within<T>(existing: &Existing, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let Existing { kubeconfig, context, .. } = existing;
    let what = || format!("failed to reach context `{context}` of `{}`", kubeconfig.display());
    work().with_context(what).exit(Exit::Environment)
}

fn connect(
    name: &str,
    text: &str,
    existing: &Existing,
    paths: &Paths,
    events: &Events,
) -> anyhow::Result<Cluster> {
    confirm(text, existing)?;
    let kubeconfig = keep(name, text, existing, paths)?;
    ready::reached(&kubectl(&kubeconfig), events)?;
    let (name, digest) = (name.to_owned(), record::sha256(fs_err::read(&kubeconfig)?));
    let (nodes, seen) = (Vec::new(), BTreeMap::new());
    Ok(Cluster { name, kubeconfig, nodes, made: false, shared: true, digest, seen })
}

/// The context alone, with what it refers to. Nothing is asked and nothing run.
fn view(existing: &Existing) -> anyhow::Result<String> {
    let view = kubectl_config(&existing.kubeconfig).args(["view", "--minify", "--flatten"]);
    Ok(view.args(["--context", &existing.context]).limit(LIMIT).read()?)
}

fn keep(name: &str, text: &str, existing: &Existing, paths: &Paths) -> anyhow::Result<PathBuf> {
    let file = paths.kubeconfig(name);
    file.write(text.as_bytes())?;
    let set = kubectl_config(&file).args(["set-context", &existing.context]);
    set.args(["--namespace", NOWHERE]).limit(LIMIT).run()?;
    Ok(file.into())
}

/// The command by which a kubeconfig logs in, if it has one.
fn login(kubeconfig: &str) -> anyhow::Result<Option<String>> {
    let kubeconfig: Value = yaml::read(kubeconfig).context("failed to read the kubeconfig")?;
    let users = kubeconfig["users"].as_array().into_iter().flatten();
    let mut logins = users.filter_map(|user| {
        let (exec, provider) = (&user["user"]["exec"], &user["user"]["auth-provider"]);
        let named = |value: &Value, field: &str| {
            let name = value[field].as_str().unwrap_or("a command").to_owned();
            (!value.is_null()).then_some(name)
        };
        named(exec, "command").or_else(|| named(provider, "name"))
    });
    Ok(logins.next())
}

/// An error if the kubeconfig, which has but one context, leads to another server than the one that
/// is meant.
fn confirm(kubeconfig: &str, existing: &Existing) -> anyhow::Result<()> {
    let kubeconfig: Value = yaml::read(kubeconfig).context("failed to read the kubeconfig")?;
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
    let wanted = &existing.server;
    if server.trim_end_matches('/') != wanted.trim_end_matches('/') {
        return Err(anyhow!("it leads to the server `{server}`, not to `{wanted}`"))
            .hint(format!("if that is the cluster you mean, write `server = \"{server}\"`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(server: &str) -> Existing {
        Existing {
            kubeconfig: PathBuf::new(),
            context: "lab".to_owned(),
            server: server.to_owned(),
            address: None,
            owner: String::new(),
            ttl: LIMIT,
        }
    }

    #[test]
    fn a_login_command_is_seen_in_every_form() {
        let of = |user: &str| login(&format!("users:\n- name: a\n  user: {user}\n")).unwrap();
        for (user, found) in [
            ("{exec: {command: /bin/sh, args: [x]}}", Some("/bin/sh")),
            ("{exec: {}}", Some("a command")),
            ("{auth-provider: {name: gcp}}", Some("gcp")),
            ("{token: t}", None),
            ("{exec: null, client-key-data: k}", None),
        ] {
            assert_eq!(of(user).as_deref(), found, "{user}");
        }
        assert_eq!(login("users: null").unwrap(), None);
        assert!(login("a: [").is_err());
    }

    #[test]
    fn only_the_server_that_is_meant_is_confirmed() {
        let text = "clusters:\n- cluster: {server: 'https://10.0.0.1:6443'}\n  name: lab\n";
        for (server, is_it) in [
            ("https://10.0.0.1:6443", true),
            ("https://10.0.0.1:6443/", true),
            ("https://10.0.0.1:6444", false),
            ("https://10.0.0.11:6443", false),
            ("http://10.0.0.1:6443", false),
        ] {
            assert_eq!(confirm(text, &at(server)).is_ok(), is_it, "{server}");
        }
        assert!(confirm("clusters: null", &at("https://10.0.0.1")).is_err());
    }
}
