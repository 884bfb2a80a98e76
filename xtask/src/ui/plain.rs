//! Plain lines, for logs and CI: one a thing that happened, with the seconds since the start.

use std::fmt::Write as _;
use std::time::Instant;

use super::{Verbosity, say};
use crate::error::with_hints;
use crate::event::{Event, PlannedRun, Sink, Stamped, Summary};
use crate::text::{BOLD, DIM, GREEN, OFF, RED, YELLOW, bytes, plural, seconds, some};

pub(super) struct Plain {
    verbosity: Verbosity,
    started: Instant,
}

impl Plain {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, started: Instant::now() }
    }
}

impl Sink for Plain {
    fn receive(&self, event: &Stamped) {
        if let Some(line) = line(&event.event, self.verbosity) {
            let at = self.started.elapsed().as_secs_f64();
            for line in line.lines() {
                say(&format!("{DIM}{at:6.1}{OFF} {line}"));
            }
        }
    }
}

/// What an event reads like when it is over; none if it is not worth a line.
pub(super) fn line(event: &Event, verbosity: Verbosity) -> Option<String> {
    let shown = verbosity >= level(event);
    shown.then(|| words(event)).flatten()
}

/// From which verbosity on an event is shown.
fn level(event: &Event) -> Verbosity {
    match event {
        Event::Warning { .. }
        | Event::Summary(_)
        | Event::BuildFinished { ok: false, .. }
        | Event::StepFinished { ok: false, .. }
        | Event::LoadFinished { ok: false, .. }
        | Event::TestFinished { ok: false, .. } => Verbosity::Quiet,
        Event::BuildLine { .. } | Event::LoadProgress { .. } => Verbosity::All,
        Event::StepWaiting { .. } => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}

fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Plan(PlannedRun { images, budget, .. }) => {
            let mut text = String::new();
            for image in images {
                let reasons = some(&image.reasons, 3);
                writeln!(text, "{:<5} {}: {reasons}", image.action, image.name).ok()?;
            }
            if let Some(budget) = budget {
                writeln!(text, "{DIM}{budget}{OFF}").ok()?;
            }
            text
        }
        Event::BuildStarted { image, memory, builder, .. } => {
            let on = builder.as_ref().map(|builder| format!(" on {builder}")).unwrap_or_default();
            format!("build {image} {DIM}started{on}, {} reserved{OFF}", bytes(*memory))
        }
        Event::BuildMemory { .. } => return None,
        Event::BuildLine { image, line } => format!("{DIM}{image} |{OFF} {line}"),
        Event::BuildFinished { image, ok, seconds: time, peak_memory, error, .. } => {
            let peak = peak_memory.map(|peak| format!(", peak {}", bytes(peak)));
            let rest = error.clone().or(peak).unwrap_or_default();
            outcome("build", image, *ok, *time, &rest)
        }
        Event::FetchStarted { image, from } => format!("fetch {image} {DIM}from {from}{OFF}"),
        Event::FetchFinished { image, ok, seconds: time } => {
            outcome("fetch", image, *ok, *time, "")
        }
        Event::PushStarted { image, to } => format!("push  {image} {DIM}to {to}{OFF}"),
        Event::PushFinished { image, ok, seconds: time } => outcome("push", image, *ok, *time, ""),
        Event::LoadStarted { images, nodes, .. } => {
            format!("load  {} {DIM}to {}{OFF}", names(images), some(nodes, 3))
        }
        Event::LoadProgress { bytes: done, .. } => format!("load  {}", bytes(*done)),
        Event::LoadFinished { images, loaded, ok, seconds: time } => {
            let sent = format!(", {loaded} sent");
            outcome("load", &names(images), *ok, *time, &sent)
        }
        Event::StepStarted { step } => format!("step  {step} {DIM}started{OFF}"),
        Event::StepWaiting { step, waiting_for } => {
            format!("{DIM}{step} waits for {waiting_for}{OFF}")
        }
        Event::StepFinished { step, ok, seconds: time, error, .. } => {
            outcome("step", step, *ok, *time, error.as_deref().unwrap_or_default())
        }
        Event::TestStarted { command, .. } => format!("test  {DIM}{command}{OFF}"),
        Event::TestLine { line } => last_state(line).to_owned(),
        Event::TestFinished { suite, ok, passed, failed, skipped, seconds: time } => {
            let counts = format!(", {passed} passed, {failed} failed{}", skipped_too(*skipped));
            outcome("test", suite, *ok, *time, &counts)
        }
        Event::Note { text } => format!("{DIM}note{OFF}  {text}"),
        Event::Warning { text, hint } => with_hints(
            &format!("{YELLOW}warning{OFF}: {text}"),
            hint.iter().flat_map(|hint| hint.lines()),
        ),
        Event::Summary(summary) => of_summary(summary),
    })
}

/// A progress bar rewrites its line: the last state is the one that counts.
fn last_state(line: &str) -> &str {
    line.trim_end_matches('\r').rsplit('\r').next().unwrap_or(line)
}

/// Images as people call them: `localhost/gateway:0a1b2c` is `gateway`.
pub(super) fn names(images: &[String]) -> String {
    let name = |image: &String| {
        let name = image.rsplit('/').next().unwrap_or(image);
        name.split(':').next().unwrap_or(name).to_owned()
    };
    some(&images.iter().map(name).collect::<Vec<_>>(), 4)
}

fn outcome(what: &str, name: &str, ok: bool, time: f64, rest: &str) -> String {
    let time = seconds(time);
    if ok {
        format!("{GREEN}{what:<5}{OFF} {name} {DIM}done in {time}{rest}{OFF}")
    } else {
        // Why it failed is told in full right after.
        format!("{RED}{what:<5}{OFF} {name} failed after {time}")
    }
}

/// Skipped tests are worth a word only where there are any.
fn skipped_too(skipped: u64) -> String {
    if skipped == 0 { String::new() } else { format!(", {skipped} skipped") }
}

fn of_summary(summary: &Summary) -> String {
    let Summary { ok, built, skipped, fetched, pushed, loaded, passed, failed, .. } = summary;
    let (colour, word) = if *ok { (GREEN, "done") } else { (RED, "failed") };
    let mut text =
        format!("{colour}{BOLD}{word}{OFF} in {}: {built} built", seconds(summary.seconds));
    // Only a run with a shared cache fetches and pushes.
    let shared = [(*fetched, "fetched"), (*pushed, "pushed")].into_iter().filter(|part| part.0 > 0);
    for (number, word) in [(*skipped, "skipped"), (*loaded, "loaded")].into_iter().chain(shared) {
        write!(text, ", {number} {word}").ok();
    }
    if passed + failed > 0 {
        let skipped = skipped_too(summary.skipped_tests);
        write!(text, ", {} passed, {failed} failed{skipped}", plural(*passed, "test")).ok();
    }
    if let Some(left) = summary.left {
        write!(text, "; the {left} could not be deleted").ok();
    }
    text
}
