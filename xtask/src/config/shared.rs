//! `[steps.NAME]`: a step that several suites list by name, `steps = ["postgresql", …]`.
//!
//! It is written once and read once for each suite: timeouts nest in that suite's, and the ports of
//! its waits must be open in that suite's cluster. What it needs, steps and images, has to be
//! listed by the suite too. A suite deploys what its lists say, and a list that says less is a
//! fault rather than a step that comes in unseen.
//!
//! A step is first read for no suite, so that its own faults are told once, and though nobody lists
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::At;
use super::suite::{self, Scope};
use super::table::Table;
use super::{Port, Step, check};

/// The shared steps of a file.
#[derive(Default)]
pub(super) struct Shared<'d> {
    tables: BTreeMap<&'d str, Table<'d>>,
    /// Whether a step has no fault of its own.
    sound: BTreeMap<&'d str, bool>,
}

pub(super) fn steps<'d>(outermost: &mut Table<'d>, images: &[&str], ports: &[Port]) -> Shared<'d> {
    let named = outermost.named("steps", "step");
    let names: Vec<&str> = named.iter().map(|(name, _)| name.value).collect();
    let mut shared = Shared::default();
    for (name, table) in named {
        let before = table.document.fault_count();
        let scope = Scope {
            ports,
            cluster: None,
            limit: Duration::MAX,
            images: images.iter().map(|&image| image.to_owned()).collect(),
            suite: "the file".to_owned(),
        };
        let mut once = table.clone();
        check::plain_name(&once, &name);
        suite::read(&mut once, Some(&name), &names, &scope);
        let document = table.document;
        once.end();
        shared.sound.insert(name.value, document.fault_count() == before);
        shared.tables.insert(name.value, table);
    }
    shared
}

impl<'d> Shared<'d> {
    pub(super) fn names(&self) -> Vec<&'d str> {
        self.tables.keys().copied().collect()
    }

    /// The step as a suite of that scope has it; none if it has a fault of its own or is not there.
    pub(super) fn read(&self, name: &At<&str>, scope: &Scope<'_>) -> Option<Step> {
        if !self.sound.get(name.value).is_some_and(|sound| *sound) {
            return None;
        }
        let mut table = self.tables.get(name.value)?.clone();
        Some(suite::read(&mut table, Some(name), &self.names(), scope))
    }
}

/// Notes a fault for each step and image that a shared step needs and its suite does not list.
pub(super) fn check_lists(
    suite: &Table<'_>,
    name: &At<&str>,
    step: &Step,
    steps: &[&str],
    images: &[String],
) {
    let needs = step.needs.iter().filter(|need| !steps.contains(&need.as_str()));
    let missing = step.images.iter().filter(|image| !images.contains(image));
    let lacking = needs.map(|need| (need, "", "steps"));
    for (lacks, what, key) in lacking.chain(missing.map(|image| (image, "image ", "images"))) {
        let message =
            format!("step `{}` needs {what}`{lacks}`, which the suite does not list", name.value);
        suite.fault(&name.place, message, Some(format!("add \"{lacks}\" to its `{key}`")));
    }
}
