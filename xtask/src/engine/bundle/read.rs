//! Reading a bundle: everything is checked before anything is done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Archived, LIST, List, MANIFEST, Packed, VERSION, add_seal, header};
use crate::engine::{Engine, Facts, ImageInfo};
use crate::error::{ErrorExt as _, Exit};
use crate::plan::KEY_LABEL;
use crate::process::stop;

/// How long an engine may take to read in everything.
const LOAD: Duration = Duration::from_mins(10);

/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// The largest list or configuration: more is not one of ours, and is not taken into memory.
const SMALL: u64 = 64 << 20;

/// The longest name of a member, in bytes, and how many members there may be.
const LONGEST_NAME: u64 = 4 << 10;
const MOST_MEMBERS: usize = 100_000;

/// More seconds than any build takes.
const A_WEEK: f64 = 7.0 * 24.0 * 3600.0;

/// A bundle that was read to its end and is as it should be.
#[derive(Debug)]
pub struct Bundle {
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file: 64 hex digits.
    pub sha256: String,
    pub list: List,
    file: File,
    members: BTreeMap<String, Member>,
    /// As `list.images`.
    archived: Vec<Archived>,
    /// Of each image, `os/arch[/variant]`.
    platforms: Vec<String>,
}

/// Where a member's bytes are, and what they are.
#[derive(Debug)]
struct Member {
    at: u64,
    size: u64,
    /// 64 hex digits.
    sha256: String,
}

/// An image's configuration, as far as it proves something.
#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Settings,
    rootfs: Rootfs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

impl Bundle {
    /// Reads the bundle `path` to its end. An error leaves nothing to be used.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = fs_err::File::open(path).exit(Exit::Usage)?.into_parts().0;
        Self::read(opened, path)
            .with_context(|| format!("failed to trust the bundle `{}`", path.display()))
            .hint("write it again with `--bundle`")
    }

    fn read(file: File, path: &Path) -> Result<Self> {
        let size = file.metadata()?.len();
        let (members, sha256) = members(&file, size)?;
        let mut bundle = Self {
            path: path.to_owned(),
            size,
            sha256,
            list: List::new(Vec::new()),
            file,
            members,
            archived: Vec::new(),
            platforms: Vec::new(),
        };
        bundle.list = serde_json::from_slice(&bundle.bytes(LIST)?)
            .with_context(|| format!("`{LIST}` is not one of ours"))?;
        let version = bundle.list.version;
        ensure!(version == VERSION, "its form is {version}, this xtask reads {VERSION}");
        let archived: Vec<Archived> = serde_json::from_slice(&bundle.bytes(MANIFEST)?)?;
        ensure!(
            archived.len() == bundle.list.images.len(),
            "it holds images that it does not list"
        );
        for image in &bundle.list.images {
            let tagged = |one: &&Archived| one.repo_tags.iter().flatten().eq([&image.tag]);
            let one = archived.iter().find(tagged);
            let one =
                one.with_context(|| format!("it lists `{}` and does not hold it", image.tag))?;
            let checked = bundle.check(image, one);
            let platform = checked.with_context(|| format!("image `{}` is wrong", image.name))?;
            bundle.platforms.push(platform);
            bundle.archived.push(one.clone());
        }
        Ok(bundle)
    }

    /// An error unless the file is the one that whoever wrote it has named: nothing in a bundle can
    /// prove that.
    pub fn expect(&self, sha256: &str) -> Result<()> {
        let path = self.path.display();
        let is = &self.sha256;
        ensure!(
            is.eq_ignore_ascii_case(sha256),
            "failed to trust the bundle `{path}`: its SHA-256 is {is}, not {sha256}"
        );
        Ok(())
    }

    /// Holds one image to its own configuration; gives back its platform.
    fn check(&self, image: &Packed, archived: &Archived) -> Result<String> {
        let member = self.member(&archived.config)?;
        ensure!(member.sha256 == image.id, "its configuration is not {}", image.id);
        let config: Configuration = serde_json::from_slice(&self.bytes(&archived.config)?)?;
        let label = config.config.labels.as_ref().and_then(|labels| labels.get(KEY_LABEL));
        ensure!(label == Some(&image.key), "its label is not the key {}", image.key);
        let seconds = image.record.as_ref().and_then(|record| record.seconds).unwrap_or_default();
        ensure!((0.0..=A_WEEK).contains(&seconds), "its record is not one of ours");
        let short = image.key.get(..16).unwrap_or_default();
        let tag = format!("localhost/{}:{short}", image.name);
        ensure!(image.key.len() == 64 && image.tag == tag, "its tag is not `{tag}`");
        let layers = archived.layers.iter().map(|layer| self.member(layer));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let found = layers.iter().map(|layer| format!("sha256:{}", layer.sha256));
        let wanted = config.rootfs.diff_ids.iter();
        ensure!(found.eq(wanted.cloned()), "its layers are not those of its configuration");
        let variant = Some(&config.variant).filter(|variant| !variant.is_empty());
        let parts = [&config.os, &config.architecture].into_iter().chain(variant);
        Ok(parts.map(String::as_str).collect::<Vec<_>>().join("/"))
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.members.get(name).with_context(|| format!("`{name}` is not in it"))
    }

    /// A small member, whole.
    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let Member { at, size, .. } = *self.member(name)?;
        ensure!(size <= SMALL, "`{name}` is too large");
        let mut bytes = vec![0; usize::try_from(size)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The image called `name`, and its platform.
    pub fn image(&self, name: &str) -> Option<(&Packed, &str)> {
        let at = self.list.images.iter().position(|image| image.name == name)?;
        Some((&self.list.images[at], &self.platforms[at]))
    }

    /// Bytes that [`Engine::load_bundle`] sends for these images.
    pub fn bytes_of(&self, names: &[&str]) -> u64 {
        let parts = parts(&self.chosen(names));
        parts.iter().filter_map(|part| self.members.get(*part)).map(|member| member.size).sum()
    }

    fn chosen(&self, names: &[&str]) -> Vec<&Archived> {
        let images = self.list.images.iter().zip(&self.archived);
        let chosen = images.filter(|(image, _)| names.contains(&image.name.as_str()));
        chosen.map(|(_, archived)| archived).collect()
    }

    /// Writes some of the images as a docker-archive. What is not as it was when it was checked is
    /// an error.
    fn write(&self, names: &[&str], to: &mut dyn Write) -> Result<()> {
        let images = self.chosen(names);
        let mut builder = tar::Builder::new(to);
        for name in parts(&images) {
            let member = self.member(name)?;
            let mut from = &self.file;
            from.seek(SeekFrom::Start(member.at))?;
            let mut from = Hashing::new(BufReader::with_capacity(BLOCK, from.take(member.size)));
            builder.append_data(&mut header(member.size), name, &mut from)?;
            ensure!(from.sha256() == member.sha256, "`{name}` changed while it was read");
        }
        let text = serde_json::to_vec(&images)?;
        builder.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
        builder.finish()?;
        Ok(())
    }
}

impl Engine {
    /// Loads the images called `names` and reads each back: it must have the id and the key it had
    /// when the bundle was written. One that has not loses its tag.
    pub fn load_bundle(
        &self,
        bundle: &Bundle,
        names: &[&str],
        facts: &Facts,
        log: &Path,
    ) -> Result<Vec<ImageInfo>> {
        let load = self.tool().arg("load").limit(LOAD).log(log);
        let failed = || format!("failed to load the bundle `{}`", bundle.path.display());
        load.written_by(|to| bundle.write(names, to)).with_context(failed)?;
        let images = names.iter().filter_map(|name| bundle.image(name)).map(|(image, _)| image);
        let images: Vec<&Packed> = images.collect();
        let tags: Vec<String> = images.iter().map(|image| image.tag.clone()).collect();
        let mut held = self.look_up(Some(facts), &tags, &[])?.tags;
        let mut loaded = Vec::new();
        let mut wrong = Vec::new();
        for image in images {
            match held.remove(&image.tag) {
                Some(held) if held.is(image) => loaded.push(held),
                Some(_) => {
                    self.remove_tag(&image.tag)?;
                    wrong.push(image.tag.as_str());
                }
                None => wrong.push(&image.tag),
            }
        }
        if wrong.is_empty() {
            return Ok(loaded);
        }
        let name = self.name();
        Err(anyhow!("{name} reports success and does not hold {}", wrong.join(", ")))
            .exit(Exit::Environment)
            .with_context(failed)
    }
}

impl ImageInfo {
    /// Whether this is that very image.
    fn is(&self, image: &Packed) -> bool {
        self.id == image.id && self.labels.get(KEY_LABEL) == Some(&image.key)
    }
}

/// Layers and configurations of some images, each once.
fn parts<'a>(images: &[&'a Archived]) -> BTreeSet<&'a str> {
    let parts = images.iter().flat_map(|image| image.layers.iter().chain([&image.config]));
    parts.map(String::as_str).collect()
}

/// Reads the whole file once: every member hashed, and the seal over all of them compared. Gives
/// back the SHA-256 of the file, too.
fn members(file: &File, size: u64) -> Result<(BTreeMap<String, Member>, String)> {
    let end = ending(&"0".repeat(64))?.len() as u64;
    let sealed = size.checked_sub(end).context("it is cut short")?;
    let whole = BufReader::with_capacity(BLOCK, file.take(sealed));
    let mut archive = tar::Archive::new(Hashing::new(whole));
    let read = read_members(&mut archive, size);
    let mut whole = archive.into_inner();
    // The rest, where the archive itself is damaged.
    std::io::copy(&mut whole, &mut std::io::sink())?;
    let mut found = vec![0; usize::try_from(end)?];
    file.read_exact_at(&mut found, sealed)?;
    let mut total = whole.hasher.clone();
    ensure!(found == ending(&whole.sha256())?, "it is damaged or cut short");
    total.update(&found);
    Ok((read?, hex::encode(total.finalize())))
}

/// What follows the bytes that are sealed: the last member and the end of the archive.
fn ending(seal: &str) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    add_seal(&mut builder, seal)?;
    Ok(builder.into_inner()?)
}

/// The members of an archive of `most` bytes. Plain files and long names are all that is written
/// here; of what else tar knows, some takes time or memory without end (a file of holes, a name of
/// gigabytes).
fn read_members(
    archive: &mut tar::Archive<impl Read>,
    most: u64,
) -> Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    let mut long_name = None;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let (at, size) = (entry.raw_file_position(), entry.size());
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            ensure!(size <= LONGEST_NAME && long_name.is_none(), "a name in it is too long");
            let mut name = Vec::new();
            entry.read_to_end(&mut name)?;
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
            long_name = Some(name);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = String::from_utf8_lossy(&name).into_owned();
        ensure!(kind.is_file(), "`{name}` is not a plain file");
        ensure!(size <= most, "`{name}` is larger than the whole bundle");
        ensure!(members.len() < MOST_MEMBERS, "it has too many members");
        let mut entry = Hashing::new(entry);
        ensure!(std::io::copy(&mut entry, &mut std::io::sink())? == size, "`{name}` is cut short");
        let member = Member { at, size, sha256: entry.sha256() };
        if members.insert(name.clone(), member).is_some() {
            bail!("`{name}` is in it twice");
        }
    }
    Ok(members)
}

/// Hashes what is read through it.
struct Hashing<R> {
    from: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    fn new(from: R) -> Self {
        Self { from, hasher: Sha256::new() }
    }

    fn sha256(self) -> String {
        hex::encode(self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        stop::check_io()?;
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::EntryType;

    use super::*;

    /// A member with this header and these bytes.
    fn member(kind: EntryType, size: u64, name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path(name).unwrap();
        header.set_cksum();
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        [header.as_bytes(), bytes, &vec![0; padding]].concat()
    }

    fn read(archive: &[u8]) -> Result<BTreeMap<String, Member>> {
        read_members(&mut tar::Archive::new(archive), archive.len() as u64)
    }

    /// Reads a file that is sealed, whatever it holds.
    fn read_sealed(mut archive: Vec<u8>) {
        archive.extend(ending(&hex::encode(Sha256::digest(&archive))).unwrap());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        let Ok(bundle) = Bundle::read(file, Path::new("b")) else { return };
        let names: Vec<&str> = bundle.list.images.iter().map(|one| one.name.as_str()).collect();
        bundle.bytes_of(&names);
        assert!(names.iter().all(|name| bundle.image(name).is_some()));
        bundle.write(&names, &mut std::io::sink()).unwrap();
    }

    /// The archive's own form: heads of members keep their sums.
    #[test]
    fn fuzz_archive() {
        crate::fuzz::run("archive", |input| {
            let mut archive = input.to_vec();
            for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar")
            {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
            read_sealed(archive);
        });
    }

    /// What is in the members: list, the engine's list, configuration, layers, each behind a NUL.
    /// `ID`, `KEY` and `LAYER` stand for what would be right.
    #[test]
    fn fuzz_bundle() {
        crate::fuzz::run("bundle", |input| {
            let mut parts = input.splitn(4, |byte| *byte == 0).map(<[u8]>::to_vec);
            let [list, archived, configuration, layer] =
                [(); 4].map(|()| parts.next().unwrap_or_default());
            let sha = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
            let (key, layer_id) = ("5".repeat(64), sha(&layer));
            let filled = |text: &[u8], id: &str| {
                let text = String::from_utf8_lossy(text);
                text.replace("ID", id).replace("KEY", &key).replace("LAYER", &layer_id)
            };
            let configuration = filled(&configuration, "");
            let id = sha(configuration.as_bytes());
            let mut builder = tar::Builder::new(Vec::new());
            for (name, bytes) in [
                (LIST.to_owned(), filled(&list, &id).into_bytes()),
                (MANIFEST.to_owned(), filled(&archived, &id).into_bytes()),
                (format!("{id}.json"), configuration.into_bytes()),
                (format!("{layer_id}.tar"), layer),
            ] {
                let mut header = header(bytes.len() as u64);
                builder.append_data(&mut header, name, &bytes[..]).unwrap();
            }
            // Without the end of an archive: the seal comes behind.
            read_sealed(builder.get_ref().clone());
        });
    }

    #[test]
    fn plain_files_and_their_names_are_all_there_is() {
        let long = "n".repeat(300);
        let named = [
            member(EntryType::GNULongName, 301, "././@LongLink", format!("{long}\0").as_bytes()),
            member(EntryType::Regular, 3, "short", b"abc"),
        ];
        let members = read(&named.concat()).unwrap();
        let (name, found) = members.first_key_value().unwrap();
        assert_eq!((name, found.size, found.sha256.len()), (&long, 3, 64));
        let endless = |kind, size| member(kind, size, "x", b"");
        for refused in [
            endless(EntryType::GNUSparse, 0),
            endless(EntryType::GNUSparse, 1 << 62),
            endless(EntryType::Regular, 1 << 62),
            endless(EntryType::GNULongName, 1500 << 20),
            endless(EntryType::GNULongLink, 3),
            endless(EntryType::XHeader, 1500 << 20),
            endless(EntryType::XGlobalHeader, 0),
            endless(EntryType::Symlink, 0),
            endless(EntryType::Link, 0),
            endless(EntryType::Directory, 0),
            endless(EntryType::Char, 0),
            endless(EntryType::Fifo, 0),
            [endless(EntryType::Regular, 0), endless(EntryType::Regular, 0)].concat(),
        ] {
            assert!(read(&refused).is_err(), "{:?}", refused[156] as char);
        }
    }

    #[test]
    fn a_bundle_is_the_one_that_was_named_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.tar");
        let mut builder = tar::Builder::new(Vec::new());
        let list = serde_json::to_vec(&List::new(Vec::new())).unwrap();
        for (name, bytes) in [(LIST, &list[..]), (MANIFEST, b"[]")] {
            builder.append_data(&mut header(bytes.len() as u64), name, bytes).unwrap();
        }
        let seal = hex::encode(Sha256::digest(builder.get_ref()));
        add_seal(&mut builder, &seal).unwrap();
        let bytes = builder.into_inner().unwrap();
        fs_err::write(&file, &bytes).unwrap();
        let bundle = Bundle::open(&file).unwrap();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        bundle.expect(&sha256).unwrap();
        bundle.expect(&sha256.to_uppercase()).unwrap();
        let error = bundle.expect(&seal).unwrap_err().to_string();
        assert!(error.contains(&sha256) && error.contains("failed to trust the bundle"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Whatever stands in a header: an answer or an error, in the memory of the archive.
        #[test]
        fn damaged_headers_end(
            kind in any::<u8>(),
            size in any::<u64>(),
            flips in proptest::collection::vec((0_usize..1024, any::<u8>()), 0..6),
        ) {
            let mut archive = member(EntryType::new(kind), size, "x", b"abc");
            archive.extend(member(EntryType::Regular, 3, "y", b"abc"));
            for (at, byte) in flips {
                archive[at] = byte;
            }
            if let Ok(members) = read(&archive) {
                prop_assert!(members.values().all(|member| member.size <= archive.len() as u64));
            }
        }
    }
}
