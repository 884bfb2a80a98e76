//! What a change touches, as text and as JSON.

use serde::Serialize;

use super::plan::REASONS;
use crate::plan::Reason;
use crate::run::since::Touched;
use crate::text::{BOLD, DIM, OFF, YELLOW, plural, some};

/// For `--format json`.
pub(crate) fn json(touched: &Touched) -> impl Serialize {
    let images = touched.images.iter().map(|(name, reasons)| TouchedImage { name, reasons });
    let suites = touched.suites.iter().map(|(name, reasons)| TouchedSuite { name, reasons });
    let (images, suites) = (images.collect(), suites.collect());
    Change { version: 1, since: &touched.commit, images, suites }
}

/// For people.
pub(crate) fn text(touched: &Touched) -> String {
    let Touched { commit, images, suites, .. } = touched;
    let mut lines = vec![format!("{DIM}since {}{OFF}", commit.get(..12).unwrap_or(commit))];
    let line = |kind: &str, name: &str, reasons: String| {
        format!("{YELLOW}{kind}{OFF} {name}  {DIM}{reasons}{OFF}")
    };
    lines.extend(images.iter().map(|(name, why)| line("image", name, some(why, REASONS))));
    lines.extend(suites.iter().map(|(name, why)| line("suite", name, some(why, REASONS))));
    let (images, suites) = (images.len() as u64, suites.len() as u64);
    let (images, suites) = (plural(images, "image"), plural(suites, "suite"));
    lines.push(format!("{BOLD}{images} and {suites} touched{OFF}\n"));
    lines.join("\n")
}

/// What `--since --format json` prints.
#[derive(Serialize)]
struct Change<'a> {
    version: u32,
    since: &'a str,
    images: Vec<TouchedImage<'a>>,
    suites: Vec<TouchedSuite<'a>>,
}

#[derive(Serialize)]
struct TouchedImage<'a> {
    name: &'a str,
    reasons: &'a [Reason],
}

#[derive(Serialize)]
struct TouchedSuite<'a> {
    name: &'a str,
    reasons: &'a [String],
}
