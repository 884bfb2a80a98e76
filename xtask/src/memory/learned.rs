//! What builds have taken, so that the next one is given what it needs.
//!
//! Kept per image, engine and platform: a decayed maximum of measured peaks. A higher peak counts
//! at once, since too little memory kills; a lower one takes an eighth of the way down, since most
//! builds find their dear layers cached and say nothing of what the full build needs. Once the
//! Dockerfile has changed the old figure is a hint only, and a lower peak takes half of the way.
//!
//! A build that was killed is noted with more than it had, so that the next one is given more. What
//! builds took that ended well is kept beside that: it alone says what is enough.
//!
//! A build with steps from the engine's cache says what the others take. That may raise a figure,
//! and never lowers one or is the only one: its dear step may be the one that was cached.
//!
//! The file may be lost or corrupt at any time: then needs are the configured ones again.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::figure;
use crate::private::{self, PrivatePath};

/// The largest file of figures that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// What a figure is of.
#[derive(Clone, Copy, Debug)]
pub struct ProfileKey<'a> {
    pub image: &'a str,
    pub engine: &'a str,
    pub platform: &'a str,
    /// The Dockerfile's digest, or anything that changes with it.
    pub dockerfile: &'a str,
}

/// A learned need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    pub bytes: u64,
    /// It was learned from another Dockerfile.
    pub hint: bool,
    /// What builds took that ended well; none: none has.
    pub well: Option<u64>,
}

/// What a figure says of its build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeakSample {
    /// It took so much and ended well.
    Well,
    /// It was killed and needs at least so much.
    Killed,
    /// It ended well, but steps of it came from a cache: the whole build takes that much or more.
    /// `configured` is what is reserved while nothing is known.
    AtLeast { configured: u64 },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Figures {
    figures: Vec<Figure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Figure {
    image: String,
    engine: String,
    platform: String,
    dockerfile: String,
    #[serde(deserialize_with = "figure::bytes")]
    bytes: u64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "figure::bytes_if_known"
    )]
    well: Option<u64>,
}

impl Figure {
    fn is_of(&self, subject: &ProfileKey) -> bool {
        (self.image.as_str(), self.engine.as_str(), self.platform.as_str())
            == (subject.image, subject.engine, subject.platform)
    }
}

/// What `subject` was seen to need, from the file `memory`.
pub fn learned(memory: &PrivatePath, subject: &ProfileKey) -> Option<Learned> {
    let figures = read(memory);
    let figure = figures.figures.iter().find(|figure| figure.is_of(subject))?;
    let hint = figure.dockerfile != subject.dockerfile;
    Some(Learned { bytes: figure.bytes, hint, well: figure.well })
}

/// Works a figure, in bytes, into the file `memory`.
pub fn record(
    memory: &PrivatePath,
    subject: &ProfileKey,
    peak: u64,
    of: PeakSample,
) -> anyhow::Result<()> {
    update(memory, subject, peak, of)
        .with_context(|| format!("failed to note what `{}` took", subject.image))
}

fn update(
    memory: &PrivatePath,
    subject: &ProfileKey,
    peak: u64,
    of: PeakSample,
) -> anyhow::Result<()> {
    // A lock file of its own: the figures are replaced, and a lock on a replaced file guards
    // nothing.
    let lock = memory.with_extension("lock").lock_file()?;
    private::wait_for(&lock, || {})?;
    let mut figures = read(memory);
    let at = figures.figures.iter().position(|figure| figure.is_of(subject));
    let old = at.map(|at| figures.figures.swap_remove(at));
    if let PeakSample::AtLeast { configured } = of
        && peak <= old.as_ref().map_or(configured, |old| old.bytes)
    {
        return Ok(());
    }
    let hint = old.as_ref().is_some_and(|old| old.dockerfile != subject.dockerfile);
    let well = old.as_ref().and_then(|old| old.well);
    figures.figures.push(Figure {
        image: subject.image.to_owned(),
        engine: subject.engine.to_owned(),
        platform: subject.platform.to_owned(),
        dockerfile: subject.dockerfile.to_owned(),
        bytes: decayed_maximum(old.map(|old| old.bytes), peak, hint),
        well: match of {
            PeakSample::Well => Some(decayed_maximum(well, peak, hint)),
            PeakSample::Killed | PeakSample::AtLeast { .. } => well,
        },
    });
    figures.figures.sort_by(|a, b| {
        (&a.image, &a.engine, &a.platform).cmp(&(&b.image, &b.engine, &b.platform))
    });
    memory.write(&serde_json::to_vec_pretty(&figures)?)?;
    Ok(())
}

fn decayed_maximum(old: Option<u64>, peak: u64, hint: bool) -> u64 {
    let part = if hint { 2 } else { 8 };
    match old {
        Some(old) if old > peak => old - (old - peak) / part,
        _ => peak,
    }
}

fn read(memory: &PrivatePath) -> Figures {
    let text = memory.read(LARGEST).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn subject<'a>(image: &'a str, dockerfile: &'a str) -> ProfileKey<'a> {
        ProfileKey { image, engine: "podman", platform: "linux/amd64", dockerfile }
    }

    #[test]
    fn a_build_with_steps_from_a_cache_raises_what_is_known_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let memory = PrivatePath::below(folder.path(), "memory.json");
        let subject = subject("api", "1");
        let known = || learned(&memory, &subject).map(|learned| (learned.bytes, learned.well));
        let cached = PeakSample::AtLeast { configured: 1500 * MIB };
        record(&memory, &subject, 30 * MIB, cached).unwrap();
        assert_eq!(known(), None, "the configured figure stands");
        record(&memory, &subject, 500 * MIB, PeakSample::Well).unwrap();
        record(&memory, &subject, 30 * MIB, cached).unwrap();
        assert_eq!(known(), Some((500 * MIB, Some(500 * MIB))));
        record(&memory, &subject, 700 * MIB, cached).unwrap();
        assert_eq!(known(), Some((700 * MIB, Some(500 * MIB))));
    }

    #[test]
    fn more_counts_at_once_and_less_by_and_by() {
        for (old, peak, hint, expected) in [
            (None, 700, false, 700),
            (Some(700), 900, false, 900),
            (Some(800), 0, false, 700),
            (Some(800), 400, true, 600),
            (Some(800), 800, true, 800),
        ] {
            assert_eq!(decayed_maximum(old, peak, hint), expected, "{old:?} {peak} {hint}");
        }
    }

    #[test]
    fn figures_are_kept_per_image_and_survive_a_changed_dockerfile_as_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivatePath::below(folder.path(), "state/memory.json");
        assert_eq!(learned(&file, &subject("a", "1")), None);
        record(&file, &subject("a", "1"), 700 * MIB, PeakSample::Well).unwrap();
        record(&file, &subject("b", "1"), 30 * MIB, PeakSample::Killed).unwrap();
        let of_a = |dockerfile| learned(&file, &subject("a", dockerfile));
        let well = Some(700 * MIB);
        assert_eq!(of_a("1"), Some(Learned { bytes: 700 * MIB, hint: false, well }));
        assert_eq!(of_a("2"), Some(Learned { bytes: 700 * MIB, hint: true, well }));
        assert_eq!(learned(&file, &subject("b", "1")).and_then(|need| need.well), None);
        record(&file, &subject("a", "1"), 900 * MIB, PeakSample::Killed).unwrap();
        assert_eq!(of_a("1"), Some(Learned { bytes: 900 * MIB, hint: false, well }));
        let elsewhere = ProfileKey { engine: "docker", ..subject("a", "1") };
        assert_eq!(learned(&file, &elsewhere), None);
    }

    #[test]
    fn a_corrupt_file_is_an_empty_one_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivatePath::below(folder.path(), "memory.json");
        fs_err::write(&file, "{\"figures\": [{").unwrap();
        assert_eq!(learned(&file, &subject("a", "1")), None);
        record(&file, &subject("a", "1"), MIB, PeakSample::Well).unwrap();
        assert_eq!(learned(&file, &subject("a", "1")).map(|need| need.bytes), Some(MIB));
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivatePath::below(folder.path(), "memory.json");
        std::thread::scope(|scope| {
            for at in 0..16 {
                let file = &file;
                scope.spawn(move || {
                    let image = format!("image-{at}");
                    record(file, &subject(&image, "1"), MIB, PeakSample::Well).unwrap();
                });
            }
        });
        assert_eq!(read(&file).figures.len(), 16);
    }
}
