//! The proof that containers start here: one is started.
//!
//! Settings can be read and traps foreseen ([`super::containers_conf`]), but whether a runtime gets
//! along with a host's cgroups and limits is known only from a try. catatonit, which podman brings
//! along, is linked statically, so a folder with that one file is a root file system, and no image
//! is needed.
//!
//! A proof is remembered for as long as everything it rests on is the same: the programs and the
//! settings (by size and time of change), our limits, and the boot. Failures are not remembered.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::machine::{Limits, Proof};
use crate::error;
use crate::private::PrivatePath;
use crate::process::{self, Tool};

/// The largest note of a proof that is read, in bytes.
const LARGEST: u64 = 1 << 20;

const LIMIT: Duration = Duration::from_secs(30);

/// Whether podman, as it is set up now, starts a container. `settings` are the files it reads.
pub(super) fn prove(state: &PrivatePath, settings: &[PathBuf], limits: Limits) -> Proof {
    let (Some(podman), Some(init)) = (process::find("podman"), catatonit()) else {
        return Proof::Untried;
    };
    let programs = ["runc", "crun", "conmon"].into_iter().filter_map(process::find).chain([podman]);
    let file = state.join("doctor-proof");
    let basis = basis(programs.chain(settings.iter().cloned()), limits);
    if file.read(LARGEST).is_ok_and(|text| text == basis.as_bytes()) {
        return Proof::Works;
    }
    if let Err(error) = start_one(&init) {
        return Proof::Fails(error::told(&error));
    }
    // Unremembered, it is proven again the next time.
    file.write(basis.as_bytes()).ok();
    Proof::Works
}

fn start_one(init: &Path) -> anyhow::Result<()> {
    let root = tempfile::tempdir().context("failed to make a folder")?;
    fs_err::copy(init, root.path().join("catatonit"))?;
    let name = format!("xtask-doctor-{}", std::process::id());
    let run = Tool::new("podman")
        .args(["run", "--rm", "--network", "none", "--name", &name, "--rootfs"])
        .arg(root.path())
        .args(["/catatonit", "-V"])
        .limit(LIMIT)
        .run();
    match run {
        Ok(_) => Ok(()),
        Err(failure) => {
            // A container that could not be started may be left; mostly there is none.
            Tool::new("podman").args(["rm", "--force", &name]).limit(LIMIT).run().ok();
            let words = failure.tail.last().cloned().unwrap_or_else(|| failure.ending.to_string());
            Err(anyhow::anyhow!(words))
        }
    }
}

fn catatonit() -> Option<PathBuf> {
    let helpers = ["/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit"];
    let helper = || helpers.into_iter().map(PathBuf::from).find(|file| file.exists());
    process::find("catatonit").or_else(helper)
}

fn basis(files: impl Iterator<Item = PathBuf>, limits: Limits) -> String {
    let mut hash = DefaultHasher::new();
    for file in files {
        let meta = file.metadata().ok();
        (&file, meta.as_ref().map(std::fs::Metadata::len)).hash(&mut hash);
        meta.and_then(|meta| meta.modified().ok()).hash(&mut hash);
    }
    (limits.open_files, limits.processes, limits.may_raise).hash(&mut hash);
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().hash(&mut hash);
    std::env::var_os("CONTAINERS_CONF").hash(&mut hash);
    format!("{:016x}\n", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proof_rests_on_shows_in_its_basis() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("containers.conf");
        let low = Limits { open_files: 1, processes: 1, may_raise: false, group_processes: None };
        let of = |limits| basis([file.clone()].into_iter(), limits);
        let absent = of(low);
        assert_eq!(absent, of(low));
        assert_ne!(absent, of(Limits { may_raise: true, ..low }));
        fs_err::write(&file, "[engine]").unwrap();
        assert_ne!(absent, of(low));
    }
}
