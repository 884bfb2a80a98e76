//! What every run that builds or deploys does first: removes what killed runs have left, and says
//! in a line what is not as it looks.

use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::doctor::STAND_IN;
use crate::paths;
use crate::private::Owner;
use crate::run::evaluate::Evaluation;
use crate::run::project;
use crate::session::{Run, Workspace, moment};

/// How long it is known of a run that it was killed: other engines and other stores may have
/// something of it.
const KILLED: Duration = Duration::from_hours(7 * 24);

pub(crate) fn open(workspace: &Workspace, run: &Run, evaluation: &Evaluation) -> Result<()> {
    let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
    let swept = workspace.engine.sweep(&facts);
    paths::forget_runs_before(&moment(SystemTime::now() - KILLED));
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
    let made_here = evaluation.bases.iter().filter(|(_, held)| held.labels.contains_key(STAND_IN));
    let made_here: Vec<&str> = made_here.map(|(base, _)| base.as_str()).collect();
    if !made_here.is_empty() {
        run.events.note(format!("made on this machine, not upstream's: {}", made_here.join(", ")));
    }
    sweep_stages(workspace);
    sweep_unfinished(workspace);
    // Without it another checkout's `gc` may free what this one wants, which is built again.
    project::note(workspace, evaluation).ok();
    Ok(())
}

/// Removes what killed runs were writing of what all runs share.
fn sweep_unfinished(workspace: &Workspace) {
    let state = workspace.paths.state();
    state.sweep();
    for name in state.names() {
        state.join(name).sweep();
    }
    if let Ok(wanted) = paths::wanted(workspace.engine.name()) {
        wanted.sweep();
    }
}

/// Removes staged contexts of runs that are over. What is not known for one is left.
pub(crate) fn sweep_stages(workspace: &Workspace) {
    let stages = workspace.paths.stages();
    for name in stages.names().into_iter().filter(|name| paths::is_run(name)) {
        let is_dead = paths::is_alive(&name) == Some(false);
        let stage = stages.join(name);
        let is_gone = match stage.owner() {
            Owner::Gone => true,
            Owner::Alive => false,
            // Its run was killed before it could mark the folder.
            Owner::Nobody => is_dead && stage.is_bare(),
        };
        if is_gone {
            // What cannot be removed now is found again by the next run.
            stage.remove().ok();
        }
    }
}
