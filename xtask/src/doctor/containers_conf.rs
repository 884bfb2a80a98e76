//! Podman's settings as far as they decide whether a container starts: which runtime, and which
//! limits its processes are given.
//!
//! | trap | cure |
//! | --- | --- |
//! | podman as root asks for [`PODMAN_ASKS`]; without `CAP_SYS_RESOURCE` nobody gets more than the hard limit | `default_ulimits` at our own |
//! | crun refuses hybrid cgroups, and podman takes crun where both are installed | `runtime = "runc"` |
//! | an old crun does not know what podman 5 writes ([`super::versions::OLD_CRUN`]) | the same, where runc is there |
//!
//! The cure is one file of our own, `containers.conf.d/xtask.conf`, which podman reads after
//! `containers.conf` (containers.conf(5)). What a person wrote is never touched: where their own
//! setting is at fault, that is said instead.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::machine::{Cgroup, Limits};

/// Open files, and processes, that podman as root asks for where nothing is configured
/// (`RLimitDefaultValue`).
const PODMAN_ASKS: u64 = 1_048_576;

/// What the files say, the last word winning.
#[derive(Clone, Debug, Default)]
pub(super) struct ContainersConf {
    pub(super) ulimits: Option<Said<Vec<String>>>,
    pub(super) runtime: Option<Said<String>>,
    /// Where our own file belongs, and its text if it is there.
    pub(super) drop_in: PathBuf,
    pub(super) drop_in_text: Option<String>,
    /// `CONTAINERS_CONF`: podman reads that file and no other.
    pub(super) only: Option<PathBuf>,
    /// Whether podman would pick crun by itself.
    pub(super) crun: bool,
    /// Whether there is a runc to take instead.
    pub(super) runc: bool,
}

/// A value and the file it was said in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) file: PathBuf,
}

impl ContainersConf {
    /// Works one more file in; later files win. A file that is no TOML says nothing: podman itself
    /// complains.
    pub(super) fn read(&mut self, text: &str, file: &Path) {
        let Ok(table) = text.parse::<toml::Table>() else { return };
        let said = |section: &str, key: &str| table.get(section)?.as_table()?.get(key).cloned();
        if let Some(list) = said("containers", "default_ulimits").and_then(strings) {
            self.ulimits = Some(Said { value: list, file: file.to_owned() });
        }
        if let Some(toml::Value::String(value)) = said("engine", "runtime") {
            self.runtime = Some(Said { value, file: file.to_owned() });
        }
    }

    /// What a container would be started with that this machine does not allow.
    /// `old_crun`: the crun that podman runs does not know what podman writes.
    pub(super) fn troubles(&self, limits: Limits, cgroup: Cgroup, old_crun: bool) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let asked = |name, default| {
            self.ulimits.as_ref().and_then(|said| ulimit(&said.value, name)).unwrap_or(default)
        };
        if !limits.may_raise
            && (asked("nofile", PODMAN_ASKS) > limits.open_files
                || asked("nproc", PODMAN_ASKS) > limits.processes)
        {
            troubles.push(Trouble::Limits);
        }
        let crun = self.runtime.as_ref().map_or(self.crun, |said| said.value.contains("crun"));
        if cgroup == Cgroup::V1 && crun {
            troubles.push(Trouble::Runtime);
        } else if old_crun && self.runc {
            troubles.push(Trouble::OldRuntime);
        }
        troubles
    }

    /// The file, other than ours and the distribution's, that says what is troublesome.
    pub(super) fn said_by_a_person(&self, trouble: Trouble) -> Option<&Path> {
        let file = match trouble {
            Trouble::Limits => &self.ulimits.as_ref()?.file,
            Trouble::Runtime | Trouble::OldRuntime => &self.runtime.as_ref()?.file,
        };
        let person = *file != self.drop_in && !file.starts_with("/usr/share");
        person.then_some(file)
    }

    /// The text of our own file that avoids `troubles`, keeping what it already avoids.
    pub(super) fn cure(&self, troubles: &[Trouble], limits: Limits) -> String {
        let ours = |file: Option<&PathBuf>| file == Some(&self.drop_in);
        let keep_limits = ours(self.ulimits.as_ref().map(|said| &said.file));
        let keep_runtime = ours(self.runtime.as_ref().map(|said| &said.file));
        let mut text = String::from("# Written by `cargo xtask doctor --fix`.\n");
        if troubles.contains(&Trouble::Limits) || keep_limits {
            let files = limits.open_files.min(PODMAN_ASKS);
            let processes = limits.processes.min(PODMAN_ASKS);
            // Writing to a string does not fail.
            write!(
                text,
                "[containers]\ndefault_ulimits = \
                 [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n"
            )
            .ok();
        }
        let by_runc = [Trouble::Runtime, Trouble::OldRuntime];
        if keep_runtime || troubles.iter().any(|trouble| by_runc.contains(trouble)) {
            text.push_str("[engine]\nruntime = \"runc\"\n");
        }
        text
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Limits,
    Runtime,
    OldRuntime,
}

/// The hard limit of that name in a list of `name=soft:hard`.
fn ulimit(list: &[String], name: &str) -> Option<u64> {
    let value = list.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))?;
    value.rsplit(':').next()?.parse().ok()
}

fn strings(value: toml::Value) -> Option<Vec<String>> {
    let toml::Value::Array(list) = value else { return None };
    Some(list.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Limits =
        Limits { open_files: 20_000, processes: 30_000, may_raise: false, group_processes: None };
    const FREE: Limits = Limits { may_raise: true, ..BOUND };

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn conf(files: Files) -> ContainersConf {
        let mut conf = ContainersConf {
            drop_in: "/etc/d/xtask.conf".into(),
            crun: true,
            ..Default::default()
        };
        for (file, text) in files {
            conf.read(text, Path::new(file));
        }
        conf
    }

    #[test]
    fn troubles_are_what_the_machine_does_not_allow() {
        let low = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=30000\"]";
        let high = "[containers]\ndefault_ulimits = [\"nofile=64:65536\", \"nproc=9\"]";
        let runc = "[engine]\nruntime = \"runc\"";
        let table: [(Files, Limits, Cgroup, &[Trouble]); 7] = [
            (&[], FREE, Cgroup::V2, &[]),
            (&[], BOUND, Cgroup::V2, &[Trouble::Limits]),
            (&[], BOUND, Cgroup::V1, &[Trouble::Limits, Trouble::Runtime]),
            (&[("/a", low)], BOUND, Cgroup::V1, &[Trouble::Runtime]),
            (&[("/a", low), ("/b", high)], BOUND, Cgroup::V2, &[Trouble::Limits]),
            (&[("/a", runc)], FREE, Cgroup::V1, &[]),
            (&[("/a", "no toml [")], FREE, Cgroup::V1, &[Trouble::Runtime]),
        ];
        for (files, limits, cgroup, expected) in table {
            assert_eq!(conf(files).troubles(limits, cgroup, false), expected, "{files:?}");
        }
    }

    #[test]
    fn the_cure_read_back_leaves_no_trouble_and_is_its_own_fixpoint() {
        let mut conf = conf(&[]);
        let troubles = conf.troubles(BOUND, Cgroup::V1, false);
        let text = conf.cure(&troubles, BOUND);
        let file = conf.drop_in.clone();
        conf.read(&text, &file);
        assert_eq!(conf.troubles(BOUND, Cgroup::V1, false), []);
        assert_eq!(conf.cure(&[], BOUND), text);
    }

    #[test]
    fn a_persons_own_setting_is_told_apart() {
        let crun = "[engine]\nruntime = \"crun\"";
        let etc = conf(&[("/etc/containers/containers.conf", crun)]);
        assert!(etc.said_by_a_person(Trouble::Runtime).is_some());
        let shipped = conf(&[("/usr/share/containers/containers.conf", crun)]);
        assert_eq!(shipped.said_by_a_person(Trouble::Runtime), None);
        assert_eq!(shipped.said_by_a_person(Trouble::Limits), None);
    }
}
