//! One build of a key on a machine at a time: two suites that share an image, started together,
//! build it once.
//!
//! Whoever builds holds a lock named after the tag, which is the key. Who had to wait for it asks
//! the engine before it builds in its turn: an image under that tag whose label is that key is the
//! one it was about to make. A run that is killed frees its lock, and the next builds.

use std::fs::File;

use anyhow::{Context as _, Result};

use crate::event::Events;
use crate::paths;
use crate::plan::{KEY_LABEL, Reason};
use crate::private;
use crate::run::build::{ImageHandle, Origin};
use crate::run::evaluate::ImageState;
use crate::session::Workspace;

/// Held while a key is built.
pub(crate) struct Turn {
    #[expect(dead_code, reason = "the lock lives as long as its file")]
    lock: File,
    /// Whether another run held it before.
    waited: bool,
}

/// Waits until no other run builds this.
pub(crate) fn turn(workspace: &Workspace, one: &ImageState, events: &Events) -> Result<Turn> {
    let name = &one.planned.tag;
    let lock = paths::build_lock(workspace.engine.name(), name)?.lock_file();
    let lock = lock.with_context(|| format!("failed to open the lock of build `{name}`"))?;
    let mut waited = false;
    private::wait_for(&lock, || {
        if !waited {
            let holder = private::holder_in_words(&lock);
            events.note(format!("{} waits for another run that builds it{holder}", one.image.name));
        }
        waited = true;
        events.waiting(&one.image.name, "another run that builds it".to_owned());
    })
    .with_context(|| format!("failed to lock build `{name}`"))?;
    Ok(Turn { lock, waited })
}

/// The image as another run has made it meanwhile. One that is built by force is built here.
pub(crate) fn made_meanwhile(
    workspace: &Workspace,
    one: &ImageState,
    turn: &Turn,
) -> Result<Option<ImageHandle>> {
    let anew = one.planned.reasons.contains(&Reason::Forced) || one.context.fetched().is_some();
    if !turn.waited || anew {
        return Ok(None);
    }
    let tag = one.planned.tag.clone();
    let mut there = workspace.engine.look_up(None, std::slice::from_ref(&tag), &[])?;
    let held = there.tags.remove(&tag).filter(|held| {
        held.labels.get(KEY_LABEL).is_some_and(|key| *key == one.planned.key.to_string())
    });
    Ok(held.map(|held| ImageHandle { tag, id: held.id, origin: Origin::Kept }))
}
