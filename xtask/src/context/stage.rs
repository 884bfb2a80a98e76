//! Staging: a private folder that holds exactly what an image is sent, hashed while it is copied.
//!
//! What is hashed is what is sent. Files and folders get the mode that the key has
//! ([`super::mode`]), owner and times are those of the copy. If a file is no longer what the plan
//! saw, the digest of what was copied counts, and the caller takes the key again. If it is there no
//! longer, nothing is staged ([`super::moved`]).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::contents::{self, Contents, Entry};
use super::digest::{self, Digest};
use super::record::line;
use super::tree::{Kind, Tree, as_path};
use super::{capability, moved};

/// Copies what is sent to `folder` (made here, must not be there) and returns its digest, and what
/// was copied as records hold it.
pub(super) fn stage(
    contents: &Contents,
    tree: &Tree,
    folder: &Path,
) -> Result<(Digest, BTreeMap<String, String>)> {
    let failed = || format!("failed to stage a context in `{}`", folder.display());
    make_folder(folder).with_context(failed)?;
    let entries: Vec<Entry> = contents.entries(tree).collect();
    let copied = entries.iter().map(|entry| put(entry, tree, &folder.join(as_path(entry.path()))));
    let copied: Vec<Option<Digest>> = copied.collect::<Result<_>>().with_context(failed)?;
    // Not before all is in them: a folder may be one that nobody writes to.
    for entry in entries.iter().rev() {
        if let Entry::Found { node, .. } = entry
            && node.kind == Kind::Dir
        {
            let folder = folder.join(as_path(&node.path));
            fs_err::set_permissions(folder, PermissionsExt::from_mode(node.mode))
                .with_context(failed)?;
        }
    }
    let lines = entries.iter().zip(&copied).map(|(entry, content)| line(entry, content.as_ref()));
    let files = lines.collect();
    Ok((contents::digest(&entries, &copied), files))
}

fn put(entry: &Entry, tree: &Tree, to: &Path) -> Result<Option<Digest>> {
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    match entry {
        Entry::Made { bytes, .. } => {
            create(to, 0o644)?.write_all(bytes)?;
            Ok(Some(Digest::of(bytes)))
        }
        Entry::Found { node, .. } => match &node.kind {
            Kind::File => {
                let mut from = moved::open(&tree.root, as_path(&node.path))?;
                let mut copy = create(to, node.mode)?;
                let (digest, _) = digest::copy(&mut from, &mut copy)?;
                let capability = capability::read(&from)?;
                if let Some(capability) = &capability {
                    capability::write(&copy, capability)?;
                }
                Ok(Some(capability::with(digest, capability.as_deref())))
            }
            Kind::Dir => make_folder(to).map(|()| None),
            Kind::Symlink(target) => {
                fs_err::os::unix::fs::symlink(as_path(target), to)?;
                Ok(None)
            }
            // No engine copies a device out of a context in a way two engines agree on.
            Kind::Other | Kind::Unreadable => Ok(None),
        },
    }
}

/// A new file of exactly this mode, whatever the umask.
fn create(file: &Path, mode: u32) -> Result<std::fs::File> {
    let created = std::fs::File::options().write(true).create_new(true).mode(mode).open(file);
    let created = created.with_context(|| format!("failed to create `{}`", file.display()))?;
    created.set_permissions(PermissionsExt::from_mode(mode))?;
    Ok(created)
}

fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    match fs_err::create_dir(folder) {
        // Another image of this run was faster with the folder the stages share.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    fs_err::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    Ok(())
}
