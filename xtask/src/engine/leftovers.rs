//! What a podman that was killed leaves: RUN processes, a working container, a folder in the
//! temporary folder.
//!
//! Each of them names the build's control group: processes are in it, the container's
//! `buildah.json` and the folder's `config.json` have its path, and in that is the run. So each is
//! found by that, and goes only if the run is known here to be over ([`cgroup`]). Of a run in
//! another container, which may share the store, nothing is known here. An image it was writing has
//! our label in its configuration, if it got so far, and no run: it goes when no build could be
//! writing it any more.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::watch::{Seen, start_time};
use super::{ANSWER, Engine, Facts, cgroup, store};
use crate::private::{Owner, PrivatePath};
use crate::{kernel, paths, process};

/// An image without a manifest that is older than this is not being written any more.
const WRITING: Duration = Duration::from_mins(1);

/// The same where nothing is known of who wrote it: longer than any build is let.
const LONG: Duration = Duration::from_hours(24);

/// The largest file of an engine's that is read here.
const LARGEST: u64 = 4 << 20;

/// What [`Engine::sweep`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub processes: usize,
    pub containers: usize,
    pub folders: usize,
    /// Half-written images of ours.
    pub images: usize,
    /// Ids of half-written images that are not known to be ours. They make every `podman images`
    /// fail.
    pub half_written: Vec<String>,
}

impl Engine {
    /// Removes what runs that were killed have left behind. Live runs are not touched.
    pub fn sweep(&self, facts: &Facts) -> Swept {
        // First the programs: they would go on to the next RUN.
        let programs = self.end_orphaned_programs();
        let orphans = cgroup::orphans();
        let processes = programs + orphans.iter().map(cgroup::Orphan::processes).sum::<usize>();
        drop(orphans);
        if self.client.has_daemon() || facts.remote {
            return Swept { processes, ..Swept::default() };
        }
        let (containers, folders) = self.remove_remains(facts, cgroup::of_dead_build);
        let images = self.remove_half_written(facts);
        let (_, half_written) = self.half_written(facts);
        Swept { processes, containers, folders, images, half_written }
    }

    /// Ids of images that were begun and are not being written any more: those of ours, and others.
    pub fn half_written(&self, facts: &Facts) -> (Vec<String>, Vec<String>) {
        if self.client.has_daemon() || facts.remote {
            return Default::default();
        }
        let old = |begun: SystemTime| begun.elapsed().is_ok_and(|age| age > WRITING);
        let (ours, others): (Vec<_>, Vec<_>) =
            store::half_written(facts).into_iter().partition(|image| image.key.is_some());
        // One of a builder that cannot be seen from here is left until it has surely ended.
        let abandoned = ours.into_iter().filter(|one| {
            let key = one.key.as_deref().unwrap_or_default();
            let unseen = one.begun.is_none_or(|begun| begun.elapsed().is_ok_and(|age| age < LONG));
            !is_on_a_command_line(key) && (!unseen || self.was_built_here(key))
        });
        let others = others.into_iter().filter(|one| one.begun.is_some_and(old));
        (abandoned.map(|one| one.id).collect(), others.map(|one| one.id).collect())
    }

    /// Removes images of ours that a podman was ended in the middle of: every `podman images` fails
    /// while one is there. One that is being written is known by its key on the command line of the
    /// podman that does it.
    pub(super) fn remove_half_written(&self, facts: &Facts) -> usize {
        let (images, _) = self.half_written(facts);
        for id in &images {
            // What cannot be removed now is found again by the next sweep.
            self.tool().args(["rmi", id]).limit(ANSWER).despite_stop().run().ok();
        }
        images.len()
    }

    /// Removes working containers and temporary folders whose control group is `ours`.
    pub(super) fn remove_remains(
        &self,
        facts: &Facts,
        ours: impl Fn(&str) -> bool,
    ) -> (usize, usize) {
        let containers = working_containers(facts, &ours);
        if !containers.is_empty() {
            // What cannot be removed now is found again by the next sweep.
            let remove = self.tool().args(["rm", "--force"]).args(&containers);
            remove.limit(ANSWER).despite_stop().run().ok();
        }
        let folders = temporary_folders(&temporary(), &ours);
        for folder in &folders {
            folder.remove().ok();
        }
        (containers.len(), folders.len())
    }
}

/// Kills what is left of what RUN has started, where no control group holds it.
pub(super) fn kill_survivors(seen: &Seen) {
    for (process, start) in &seen.runs {
        process::signal_if(*process, Signal::KILL, || start_time(*process) == Some(*start));
    }
}

impl Engine {
    /// Whether runs of this machine were at this key, and none is any more, and one of this machine
    /// was killed.
    fn was_built_here(&self, key: &str) -> bool {
        if paths::killed_runs().next().is_none() {
            return false;
        }
        paths::build_locks(self.name(), key).is_ok_and(|locks| {
            let mut owners = locks.iter().map(PrivatePath::holder).peekable();
            owners.peek().is_some() && owners.all(|owner| owner == Owner::Gone)
        })
    }

    /// Ends engine programs that outlived the run that started them, by the control group on their
    /// command line. The client of an engine elsewhere names none: it has the run's stage there,
    /// and would order step after step.
    fn end_orphaned_programs(&self) -> usize {
        process::end_strays(self.name(), Signal::KILL, |words| {
            if words.iter().any(|word| is_in_dead_stage(word)) {
                return true;
            }
            let mut words = words.iter().skip_while(|word| **word != "--cgroup-parent");
            words.nth(1).is_some_and(|group| cgroup::of_dead_build(group))
        })
    }
}

/// Whether a word leads into what a run has staged that is over.
fn is_in_dead_stage(word: &str) -> bool {
    let run = word.split_once("/xtask/stage/").and_then(|(_, path)| path.split('/').next());
    run.is_some_and(|run| paths::is_alive(run) == Some(false))
}

fn is_on_a_command_line(word: &str) -> bool {
    kernel::processes(Path::new("/"))
        .filter_map(|(_, folder)| fs_err::read_to_string(folder.join("cmdline")).ok())
        .any(|line| line.contains(word))
}

/// Ids of buildah's containers, by the group they were to run in.
fn working_containers(facts: &Facts, ours: &impl Fn(&str) -> bool) -> Vec<String> {
    let Some(root) = &facts.graph_root else { return Vec::new() };
    let folder = root.join(format!("{}-containers", facts.store_driver));
    let entries = fs_err::read_dir(&folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let container = PrivatePath::below(&folder, entry.file_name());
            let state = json(&container.join("userdata/buildah.json"));
            state.is_some_and(|state| {
                state["CommonBuildOpts"]["CgroupParent"].as_str().is_some_and(ours)
            })
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// buildah's folders, by the group in the container specification that lies in them. Anybody may
/// have put something of that name there: only what is of this user is opened.
fn temporary_folders(temporary: &Path, ours: &impl Fn(&str) -> bool) -> Vec<PrivatePath> {
    let entries = fs_err::read_dir(temporary).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("buildah"))
        .map(|entry| PrivatePath::below(temporary, entry.file_name()))
        .filter(|folder| {
            json(&folder.join("config.json"))
                .is_some_and(|spec| spec["linux"]["cgroupsPath"].as_str().is_some_and(ours))
        })
        .collect()
}

/// Where buildah has its folders.
fn temporary() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

fn json(file: &PrivatePath) -> Option<Value> {
    serde_json::from_slice(&file.read(LARGEST).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_client_whose_stage_is_a_dead_runs_is_known_by_it() {
        let [dead, other] = [7, 8].map(|end| format!("20261121-083544-{end:032x}"));
        paths::dead_run(&dead);
        for (word, is) in [
            (format!("/work/target/xtask/stage/{dead}/api"), true),
            (format!("/work/target/xtask/stage/{dead}/.engine-a1B2c3/ignore"), true),
            (format!("/work/target/xtask/stage/{other}/api"), false),
            (format!("/work/target/xtask/runs/{dead}/logs"), false),
            (format!("--label=xtask/stage/{dead}"), false),
            ("/work/target/xtask/stage/api".to_owned(), false),
        ] {
            assert_eq!(is_in_dead_stage(&word), is, "{word}");
        }
        paths::forget_run(&dead);
    }

    #[test]
    fn what_anybody_may_have_put_beside_buildahs_folders_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for name in ["buildah-ours", "buildah-fifo", "buildah-zero", "buildah-large", "elsewhere"] {
            fs_err::create_dir(at(name)).unwrap();
        }
        let spec = r#"{"linux": {"cgroupsPath": "/xtask-1/run"}}"#;
        fs_err::write(at("buildah-ours/config.json"), spec).unwrap();
        let mkfifo = crate::process::Tool::new("mkfifo").arg(at("buildah-fifo/config.json"));
        mkfifo.run().unwrap();
        symlink("/dev/zero", at("buildah-zero/config.json")).unwrap();
        let large = format!("{spec}{}", " ".repeat(5 << 20));
        fs_err::write(at("buildah-large/config.json"), large).unwrap();
        fs_err::write(at("elsewhere/config.json"), spec).unwrap();
        symlink(at("elsewhere"), at("buildah-link")).unwrap();
        let found = temporary_folders(folder.path(), &|path| path.starts_with("/xtask-"));
        let found: Vec<&Path> = found.iter().map(|folder| &**folder).collect();
        assert_eq!(found, [at("buildah-ours")]);
    }
}
