//! What GitHub shows of a run: annotations on the lines at fault, and a summary of the job.
//!
//! An annotation is a line of output in GitHub's own form, `::error
//! file=…,line=…,title=…::message`. `%`, CR and LF are escaped in it, in properties `:` and `,`
//! too. The summary is Markdown, appended to the file `GITHUB_STEP_SUMMARY` names when the run is
//! over. Both only under GitHub Actions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{command, sanitize};
use crate::error::with_hints;
use crate::event::{Event, Place, PlannedRun, Sink, Stamped, Summary};
use crate::text::{seconds, some};

/// Reasons a row names before it counts.
const REASONS: usize = 3;

/// The reader of a run's events for GitHub.
pub(super) struct Github {
    /// The file for summaries, if there is one.
    summary: Option<PathBuf>,
    /// Where the records of the run are.
    records: PathBuf,
    seen: Mutex<Seen>,
}

/// What the summary is made of.
#[derive(Default)]
struct Seen {
    plan: PlannedRun,
    /// By image: whether it was built, and the seconds it took.
    builds: BTreeMap<String, (bool, f64)>,
    /// What failed besides builds, with the reason.
    failures: Vec<(String, String)>,
}

/// Whether this runs under GitHub Actions.
pub(super) fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

impl Github {
    pub(super) fn new(records: &Path) -> Self {
        let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty());
        let summary = summary.map(PathBuf::from);
        Self { summary, records: records.to_owned(), seen: Mutex::default() }
    }
}

impl Sink for Github {
    fn receive(&self, event: &Stamped) {
        if let Some(line) = worth_telling(&event.event) {
            command(&line);
        }
        let mut seen = self.seen.lock();
        seen.see(&event.event);
        if let (Event::Summary(summary), Some(file)) = (&event.event, &self.summary) {
            let text = seen.markdown(summary, &self.records);
            let file = std::fs::File::options().create(true).append(true).open(file);
            // A run is not lost for want of its summary.
            file.and_then(|mut file| file.write_all(text.as_bytes())).ok();
        }
    }
}

/// Says what is wrong at a place, or with no place at all.
pub(super) fn error(at: Option<&Place>, title: &str, message: &str) -> String {
    annotation("error", at, title, message)
}

/// The annotation an event is worth.
fn worth_telling(event: &Event) -> Option<String> {
    match event {
        Event::BuildFinished { image, ok: false, error: why, at, .. } => {
            let why = why.as_deref().unwrap_or("failed");
            Some(error(at.as_ref(), &format!("image {image}"), why))
        }
        Event::StepFinished { step, ok: false, error: why, .. } => {
            Some(error(None, &format!("step {step}"), why.as_deref().unwrap_or("failed")))
        }
        Event::TestFinished { suite, ok: false, passed, failed, .. } => {
            let what = format!("{failed} failed, {passed} passed");
            Some(error(None, &format!("suite {suite}"), &what))
        }
        Event::Warning { text, hint } => Some(annotation(
            "warning",
            None,
            "",
            &with_hints(text, hint.iter().flat_map(|hint| hint.lines())),
        )),
        _ => None,
    }
}

/// A line GitHub shows beside a file; `kind` is `error`, `warning` or `notice`.
pub fn annotation(kind: &str, at: Option<&Place>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(place) = at {
        properties.push(format!("file={}", property(&place.file)));
        properties.extend(place.line.map(|line| format!("line={line}")));
    }
    if !title.is_empty() {
        properties.push(format!("title={}", property(title)));
    }
    let space = if properties.is_empty() { "" } else { " " };
    format!("::{kind}{space}{}::{}", properties.join(","), data(message))
}

/// As `@actions/core` escapes a message. It is decoded and shown as it is, so nothing in it may
/// control either.
fn data(text: &str) -> String {
    let lines = text.lines().map(|line| sanitize::defused(&sanitize::line(line)));
    lines.collect::<Vec<_>>().join("\n").replace('%', "%25").replace('\n', "%0A")
}

/// As it escapes a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

impl Seen {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Plan(plan) => self.plan = plan.clone(),
            Event::BuildFinished { image, ok, seconds, .. } => {
                self.builds.insert(image.clone(), (*ok, *seconds));
            }
            Event::StepFinished { step, ok: false, error, .. } => {
                let why = error.clone().unwrap_or_default();
                self.failures.push((format!("step {step}"), why));
            }
            Event::LoadFinished { images, ok: false, .. } => {
                self.failures.push((format!("load {}", some(images, REASONS)), String::new()));
            }
            _ => {}
        }
    }

    fn markdown(&self, summary: &Summary, records: &Path) -> String {
        let what =
            self.plan.suite.as_ref().map_or("images".to_owned(), |suite| format!("e2e {suite}"));
        let word = if summary.ok { "done" } else { "failed" };
        let Summary { built, skipped, loaded, passed, failed, .. } = summary;
        let mut text = format!("### {}: {word} in {}\n\n", cell(&what), seconds(summary.seconds));
        write!(text, "{built} built, {skipped} skipped, {loaded} loaded").ok();
        if passed + failed > 0 {
            write!(text, "; specs: {passed} passed, {failed} failed").ok();
        }
        text.push_str("\n\n");
        if !self.plan.images.is_empty() {
            text.push_str("| image | | why | took |\n| --- | --- | --- | --- |\n");
        }
        for image in &self.plan.images {
            let (done, took) = match self.builds.get(&image.name) {
                Some((true, took)) => ("built", seconds(*took)),
                Some((false, took)) => ("**failed**", seconds(*took)),
                None if image.action == "build" => ("not built", String::new()),
                None => (image.action, String::new()),
            };
            let why = cell(&some(&image.reasons, REASONS));
            writeln!(text, "| {} | {done} | {why} | {took} |", cell(&image.name)).ok();
        }
        for (what, why) in &self.failures {
            write!(text, "\n**{} failed** {}\n", cell(what), cell(why)).ok();
        }
        let records = cell(&records.display().to_string());
        write!(text, "\nRecords, logs and diagnostics: {records}\n\n").ok();
        text
    }
}

/// Text that Markdown shows as it is: no link, no picture, no HTML, no end of a cell. What an
/// entity stands for is never taken for markup.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for letter in sanitize::line(text).chars() {
        let is_markup = "\\`*_{}[]<>()#!|~&:@\"'".contains(letter);
        if is_markup || (letter == '.' && cell.to_lowercase().ends_with("www")) {
            write!(cell, "&#{};", u32::from(letter)).ok();
        } else {
            cell.push(letter);
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PlannedImage;

    #[test]
    fn what_would_end_a_command_or_a_property_is_escaped() {
        let at = Place { file: "a,b:c%/Dockerfile".into(), line: Some(7) };
        assert_eq!(
            error(Some(&at), "image a:b, c", "50 % of: it,\r\nfailed"),
            "::error file=a%2Cb%3Ac%25/Dockerfile,line=7,title=image a%3Ab%2C c::50 %25 of: it,%0Afailed"
        );
        assert_eq!(annotation("warning", None, "", "plain"), "::warning::plain");
        // Nothing that a build prints can begin a command of its own.
        assert!(!error(None, "t", "x\n::set-output name=a::b").contains('\n'));
    }

    #[test]
    fn what_failed_is_annotated_where_it_failed_and_what_went_well_is_not() {
        let built = |ok| Event::BuildFinished {
            image: "api".into(),
            action: "build",
            ok,
            seconds: 1.0,
            peak_memory: None,
            error: Some("exit code 2".into()),
            at: Some(Place { file: "api/Dockerfile".into(), line: Some(3) }),
        };
        assert_eq!(worth_telling(&built(true)), None);
        assert_eq!(
            worth_telling(&built(false)).unwrap(),
            "::error file=api/Dockerfile,line=3,title=image api::exit code 2"
        );
        assert_eq!(worth_telling(&Event::Note { text: "x".into() }), None);
    }

    #[test]
    fn markup_in_a_cell_is_text() {
        let hostile = "[a](http://b) ![c](d) <img> `e` *f* | www.g @h\x1b[2J\n::i";
        let shown = cell(hostile);
        let free = |c: char| "[]()<>`*|!@\x1b\n".contains(c);
        assert!(!shown.contains(free) && !shown.contains("://"), "{shown}");
        assert!(!shown.contains("www.") && !shown.contains("::"), "{shown}");
    }

    #[test]
    fn the_summary_says_what_was_done_why_and_where_the_evidence_is() {
        let image = |name: &str, action, reason: &str| PlannedImage {
            name: name.into(),
            key: String::new(),
            tag: String::new(),
            action,
            reasons: vec![reason.into()],
        };
        let mut seen = Seen::default();
        let images = vec![
            image("api", "build", "changed src/a|b<c>"),
            image("db", "skip", "up to date"),
            image("web", "build", "no image"),
        ];
        let suite = Some("gateway".to_owned());
        seen.see(&Event::Plan(PlannedRun { images, suite, ..PlannedRun::default() }));
        seen.builds.insert("api".into(), (false, 61.0));
        seen.failures.push(("step db".into(), "no\nsuch pod".into()));
        let summary =
            Summary { skipped: 1, passed: 3, failed: 1, seconds: 70.0, ..Summary::default() };
        insta::assert_snapshot!(seen.markdown(&summary, Path::new("target/xtask/runs/1")), @r"
        ### e2e gateway: failed in 1 min 10 s

        0 built, 1 skipped, 0 loaded; specs: 3 passed, 1 failed

        | image | | why | took |
        | --- | --- | --- | --- |
        | api | **failed** | changed src/a&#124;b&#60;c&#62; | 1 min 01 s |
        | db | skip | up to date |  |
        | web | not built | no image |  |

        **step db failed** no such pod

        Records, logs and diagnostics: target/xtask/runs/1

        ");
    }
}
