//! Writing a bundle: the engine's stream, copied member by member into a file that is put in place
//! when it has been read back whole.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::{Archived, Bundle, LIST, List, MANIFEST, add_seal, header};
use crate::engine::Engine;

/// How long an engine may take to hand out everything: 6 GB at 10 MB/s.
const SAVE: Duration = Duration::from_mins(10);

/// How the name of a bundle begins while it is being written.
const UNFINISHED: &str = ".xtask-bundle-";

/// A file this young may be about to be locked.
const STARTING: Duration = Duration::from_mins(1);

/// The largest list of images an engine writes.
const SMALL: u64 = 64 << 20;

/// Bytes read or written at once.
const BLOCK: usize = 1 << 20;

impl Engine {
    /// Writes the images of `list` to `file`, which appears whole or not at all.
    pub fn write_bundle(&self, list: &List, file: &Path) -> Result<Bundle> {
        let folder = match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let failed = || format!("failed to write the bundle `{}`", file.display());
        clear_abandoned(folder);
        let fresh = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(failed)?;
        // For as long as it is being written, it is known to be.
        fresh.as_file().lock().with_context(failed)?;
        let tags: Vec<String> = list.images.iter().map(|image| image.tag.clone()).collect();
        let saved = self.save(&tags).limit(SAVE);
        saved.read_by(|from| write(list, from, fresh.as_file())).with_context(failed)?;
        fresh.as_file().sync_all().with_context(failed)?;
        // What would be refused on another machine is refused here.
        let mut bundle = Bundle::open(fresh.path()).with_context(failed)?;
        fresh.persist(file).with_context(failed)?;
        fs_err::File::open(folder)?.sync_all()?;
        file.clone_into(&mut bundle.path);
        Ok(bundle)
    }
}

/// Removes what a run that was killed has left in this folder. What cannot be removed harms nobody.
fn clear_abandoned(folder: &Path) {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let unfinished = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED))
        .map(|entry| entry.path());
    for file in unfinished {
        let open = std::fs::File::open(&file);
        let old = |file: &std::fs::File| {
            let changed = file.metadata().and_then(|meta| meta.modified());
            changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > STARTING))
        };
        if open.is_ok_and(|open| old(&open) && open.try_lock().is_ok()) {
            fs_err::remove_file(&file).ok();
        }
    }
}

/// Passes bytes on and hashes them for the seal.
struct Sealing<W> {
    to: W,
    hasher: Sha256,
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// A bundle, out of the docker-archive that comes from an engine.
fn write(list: &List, archive: &mut dyn Read, to: impl Write) -> Result<()> {
    let to = Sealing { to: BufWriter::with_capacity(BLOCK, to), hasher: Sha256::new() };
    let mut builder = tar::Builder::new(to);
    let text = serde_json::to_vec(list)?;
    builder.append_data(&mut header(text.len() as u64), LIST, text.as_slice())?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(BLOCK, archive));
    let images = copy(&mut archive, &mut builder)?;
    // Past its last member too: an engine that cannot write its padding fails.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    let text = serde_json::to_vec(&images)?;
    builder.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
    let seal = hex::encode(builder.get_ref().hasher.clone().finalize());
    add_seal(&mut builder, &seal)?;
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Copies layers and configurations; gives back the archive's list of images with links followed.
fn copy(
    archive: &mut tar::Archive<impl Read>,
    builder: &mut tar::Builder<impl Write>,
) -> Result<Vec<Archived>> {
    let (mut images, mut links) = (None, BTreeMap::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            links.insert(name.clone(), followed(&name, &String::from_utf8_lossy(&target)));
        } else if name == MANIFEST {
            let mut text = Vec::new();
            entry.take(SMALL).read_to_end(&mut text)?;
            images = Some(serde_json::from_slice::<Vec<Archived>>(&text)?);
        } else if entry.header().entry_type().is_file() && !is_legacy(&name) {
            let size = entry.size();
            builder.append_data(&mut header(size), &name, &mut entry)?;
        }
    }
    let Some(mut images) = images else { bail!("the engine's archive has no `{MANIFEST}`") };
    for layer in images.iter_mut().flat_map(|image| &mut image.layers) {
        if let Some(target) = links.get(layer) {
            layer.clone_from(target);
        }
    }
    Ok(images)
}

/// What engines before Docker 1.10 read: every image names its layers once more.
fn is_legacy(name: &str) -> bool {
    name == "repositories" || name.ends_with("/VERSION") || name.ends_with("/json")
}

/// The member that a link in `name` leads to: `a/layer.tar -> ../b.tar` is `b.tar`.
fn followed(name: &str, target: &str) -> String {
    let mut path: Vec<&str> = name.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(path.pop()),
            "." | "" => {}
            part => path.push(part),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * STARTING;
        let file = |name: &str, changed| {
            let file = fs_err::File::create(folder.path().join(name)).unwrap();
            file.set_modified(changed).unwrap();
            file
        };
        file(".xtask-bundle-abandoned", long_ago);
        let written = file(".xtask-bundle-written", long_ago);
        written.file().lock().unwrap();
        file(".xtask-bundle-young", std::time::SystemTime::now());
        file("images.tar", long_ago);
        clear_abandoned(folder.path());
        let entries = fs_err::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".xtask-bundle-written", ".xtask-bundle-young", "images.tar"]);
    }
}
