//! Moving lines for a terminal: one a running step, with its time and what it waits for; what is
//! over is printed above them and stays.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::{Verbosity, plain, sanitize};
use crate::event::{Event, Sink, Stamped};
use crate::text::{DIM, OFF, bytes};

pub(super) struct Bars {
    verbosity: Verbosity,
    all: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, all: MultiProgress::new(), running: Mutex::default() }
    }

    fn start(&self, name: &str) {
        self.start_as(name, name.to_owned());
    }

    fn start_as(&self, name: &str, shown: String) {
        let bar = ProgressBar::new_spinner().with_prefix(shown).with_style(style());
        let bar = self.all.add(bar);
        bar.enable_steady_tick(Duration::from_millis(120));
        self.with(|running| drop(running.insert(name.to_owned(), bar)));
    }

    fn tell(&self, name: &str, message: &str) {
        self.with(|running| {
            if let Some(bar) = running.get(name) {
                bar.set_message(sanitize::line(message.trim()));
            }
        });
    }

    fn end(&self, name: &str) {
        self.with(|running| {
            if let Some(bar) = running.remove(name) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        });
    }

    fn with(&self, change: impl FnOnce(&mut BTreeMap<String, ProgressBar>)) {
        change(&mut self.running.lock());
    }
}

impl Sink for Bars {
    fn receive(&self, event: &Stamped) {
        match &event.event {
            Event::BuildStarted { image, builder, .. } => {
                let name = format!("build {image}");
                let on = builder.as_ref().map(|builder| format!(" on {builder}"));
                self.start_as(&name, format!("{name}{}", on.unwrap_or_default()));
            }
            Event::BuildLine { image, line } => self.tell(&format!("build {image}"), line),
            Event::BuildFinished { image, .. } => self.end(&format!("build {image}")),
            Event::FetchStarted { image, .. } => self.start(&format!("fetch {image}")),
            Event::FetchFinished { image, .. } => self.end(&format!("fetch {image}")),
            Event::PushStarted { image, .. } => self.start(&format!("push  {image}")),
            Event::PushFinished { image, .. } => self.end(&format!("push  {image}")),
            Event::LoadStarted { images, .. } => self.start(&load_name(images)),
            Event::LoadProgress { images, bytes: sent } => {
                self.tell(&load_name(images), &bytes(*sent));
            }
            Event::LoadFinished { images, .. } => self.end(&load_name(images)),
            Event::StepStarted { step } => self.start(&format!("step  {step}")),
            Event::StepWaiting { step, waiting_for } => {
                self.tell(&format!("step  {step}"), &format!("waits for {waiting_for}"));
            }
            Event::StepFinished { step, .. } => self.end(&format!("step  {step}")),
            _ => {}
        }
        let started = matches!(
            event.event,
            Event::BuildStarted { .. }
                | Event::FetchStarted { .. }
                | Event::PushStarted { .. }
                | Event::StepStarted { .. }
                | Event::LoadStarted { .. }
        );
        if !started && let Some(line) = plain::line(&event.event, self.verbosity) {
            self.all.suspend(|| line.lines().for_each(super::say));
        }
    }
}

fn load_name(images: &[String]) -> String {
    format!("load  {}", plain::names(images))
}

fn style() -> ProgressStyle {
    let form = format!("{{spinner}} {{prefix}} {DIM}{{elapsed}}{OFF} {{wide_msg:.dim}}");
    ProgressStyle::with_template(&form).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
