//! What every run that builds or deploys does first: removes what killed runs have left, and says in
//! a line what is not as it looks.

use anyhow::Result;

use super::survey::Survey;
use super::{Run, Workspace};
use crate::doctor::STAND_IN;

pub(super) fn open(workspace: &Workspace, run: &Run, survey: &Survey) -> Result<()> {
    let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
    let swept = workspace.engine.sweep(&facts);
    if swept.processes + swept.containers + swept.folders + swept.images > 0 {
        run.events.note(format!(
            "removed what a killed run had left: processes {}, containers {}, folders {}, \
             half-written images {}",
            swept.processes, swept.containers, swept.folders, swept.images
        ));
    }
    if !swept.half_written.is_empty() {
        let hint = format!("podman rmi {}", swept.half_written.join(" "));
        let what = "images in podman's store are half-written, so that `podman images` fails";
        run.events.warn(what, Some(hint));
    }
    let made_here = survey.bases.iter().filter(|(_, held)| held.labels.contains_key(STAND_IN));
    let made_here: Vec<&str> = made_here.map(|(base, _)| base.as_str()).collect();
    if !made_here.is_empty() {
        run.events.note(format!("made on this machine, not upstream's: {}", made_here.join(", ")));
    }
    sweep_stages(workspace);
    Ok(())
}

/// Removes staged contexts of runs whose process is gone.
pub(super) fn sweep_stages(workspace: &Workspace) {
    let stages = fs_err::read_dir(workspace.paths.stages()).into_iter().flatten().flatten();
    for stage in stages {
        let name = stage.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').next().and_then(|id| id.parse().ok());
        let owner = owner.and_then(rustix::process::Pid::from_raw);
        if owner.is_some_and(|pid| rustix::process::test_kill_process(pid).is_err()) {
            // What cannot be removed now is found again by the next run.
            fs_err::remove_dir_all(stage.path()).ok();
        }
    }
}
