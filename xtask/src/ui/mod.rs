//! The only module that prints. Data goes to stdout, everything else to stderr.
//!
//! What is printed holds what others wrote: it passes [`sanitize`] on its way out.
//!
//! A run is shown by one of three readers of its events: lines that move ([`bars`], a terminal),
//! plain lines ([`plain`], anything else), JSON ([`json`], `--format json`).

mod bars;
pub mod gantt;
mod github;
mod json;
pub mod mermaid;
mod plain;
mod sanitize;
pub mod tree;

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::error;
use crate::event::{Place, Sink};
use crate::process::stop::Urgency;
use crate::text;

pub use github::annotation;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Failures and the summary.
    Quiet,
    Normal,
    /// The arithmetic behind decisions.
    Verbose,
    /// Every line of every child.
    All,
}

/// Whether colour is used.
#[derive(Clone, Copy, Debug)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// Settles colour for everything printed from here on. `Auto` honours `NO_COLOR` and pipes.
pub fn init(color: Color) {
    let choice = match color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Whether stdout shows colour, and so more than plain letters.
pub fn rich() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// The reader of a run's events for people.
pub fn people(verbosity: Verbosity) -> Box<dyn Sink> {
    if std::io::stderr().is_terminal() && verbosity < Verbosity::All {
        Box::new(bars::Bars::new(verbosity))
    } else {
        Box::new(plain::Plain::new(verbosity))
    }
}

/// The reader of a run's events for scripts: one object a line on stdout.
pub fn scripts() -> Box<dyn Sink> {
    Box::new(json::Json)
}

/// The reader of a run's events for GitHub, where that is what runs us; `records` is the run's
/// folder.
pub fn github(records: &std::path::Path) -> Option<Box<dyn Sink>> {
    github::is_here().then(|| Box::new(github::Github::new(records)) as Box<dyn Sink>)
}

/// Marks a fault of a file where GitHub shows it.
pub fn mark(place: &Place, message: &str) {
    if github::is_here() {
        command(&github::error(Some(place), "", message));
    }
}

/// Prints text for people, with colour where it shows. A reader that has gone (`| head`) is no
/// fault.
pub fn data(text: &[u8]) -> Result<()> {
    write(anstream::stdout().lock(), shown(&String::from_utf8_lossy(text)).as_bytes())
}

/// Prints a value as one line of JSON for scripts.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    json(&[serde_json::to_vec(value)?, b"\n".to_vec()].concat())
}

/// Prints serialized JSON for scripts.
pub fn json(bytes: &[u8]) -> Result<()> {
    write(std::io::stdout().lock(), sanitize::json(bytes).as_bytes())
}

/// Prints names, one a line: byte by byte for a script, as text on a terminal or in a job of
/// GitHub's.
pub fn list(bytes: &[u8]) -> Result<()> {
    if std::io::stdout().is_terminal() {
        return data(bytes);
    }
    match str::from_utf8(bytes) {
        Ok(names) if github::is_here() => exact(sanitize::defused(names).as_bytes()),
        _ => exact(bytes),
    }
}

/// Prints byte by byte what scripts read and nobody else has written.
pub fn exact(bytes: &[u8]) -> Result<()> {
    write(std::io::stdout().lock(), bytes)
}

fn write(mut stdout: impl std::io::Write, bytes: &[u8]) -> Result<()> {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line of talk to stderr.
pub fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    writeln!(anstream::stderr(), "{}", shown(line)).ok();
}

/// Prints a command for GitHub, made by [`annotation`].
fn command(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// What others wrote, as text for where it is going to be read.
fn shown(words: &str) -> String {
    let text = sanitize::text(words);
    if github::is_here() { sanitize::defused(&text) } else { text }
}

/// Says at once that a signal has come; what it interrupts may take a moment to end.
pub fn stopping(urgency: Urgency) {
    say(match urgency {
        Urgency::Stop => "stopping …",
        Urgency::Kill => "killing what still runs; a third signal ends xtask at once",
    });
}

/// Prints what a run ended with: the error and its causes.
pub fn error(error: &anyhow::Error) {
    let (red, off) = (text::RED, text::OFF);
    say(&format!("{red}error{off}: {}", error::told(error)));
}

/// Prints what is wrong but stops nothing, with its hints.
pub fn warn<H: std::fmt::Display>(text: &str, hints: impl IntoIterator<Item = H>) {
    say(&error::with_hints(&format!("warning: {text}"), hints));
}
