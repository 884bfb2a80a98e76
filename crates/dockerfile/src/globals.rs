//! The ARGs before the first FROM, and the platform ARGs that are there without being declared.
//!
//! FROM sees them all; a stage sees one after naming it in an ARG of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::budget::Budget;
use super::expand::{Expanded, Value, expand};
use super::instruction::Assignment;
use super::{Fault, Platform, Request};

/// Global ARGs with their values.
#[derive(Debug)]
pub(super) struct Globals {
    escape: char,
    /// `None`: too long to be worked out.
    values: BTreeMap<String, Option<String>>,
    declared: Vec<Declared>,
    pub(super) budget: Budget,
}

/// One word of a global ARG line.
#[derive(Debug)]
struct Declared {
    assignment: Assignment,
    needs: BTreeSet<String>,
}

impl Globals {
    /// Evaluates the words in order; each sees those before it.
    pub(super) fn read(
        words: Vec<(usize, Assignment)>,
        escape: char,
        stage: &str,
        request: &Request<'_>,
    ) -> Result<Globals, Vec<Fault>> {
        let platform = platform_args(stage, request).into_iter();
        let values = platform.map(|(name, value)| (name, Some(value))).collect();
        let mut globals = Globals { escape, values, declared: vec![], budget: Budget::default() };
        let mut faults = Vec::new();
        for (line, assignment) in words {
            if let Err(message) = globals.declare(assignment, request) {
                faults.push(Fault { line, message });
            }
        }
        if faults.is_empty() { Ok(globals) } else { Err(faults) }
    }

    fn declare(&mut self, assignment: Assignment, request: &Request<'_>) -> Result<(), String> {
        let (value, needs) = match (request.args.get(&assignment.name), &assignment.default) {
            (Some(given), _) => (Some(Some(given.clone())), BTreeSet::new()),
            (None, Some(default)) => {
                let (value, needs) = self.value_and_needs(default)?;
                (Some(value.unknown.is_none().then_some(value.text)), needs)
            }
            (None, None) => (None, BTreeSet::new()),
        };
        if let Some(value) = value {
            self.values.insert(assignment.name.clone(), value);
        }
        self.declared.push(Declared { assignment, needs });
        Ok(())
    }

    /// A word of a FROM line, and the names it looked at.
    pub(super) fn expand(&self, word: &str) -> Result<(String, BTreeSet<String>), String> {
        let (expanded, names) = self.value_and_needs(word)?;
        if expanded.unknown.is_some() {
            return Err(format!("`{word}` is too long to be worked out"));
        }
        Ok((expanded.text, names))
    }

    fn value_and_needs(&self, word: &str) -> Result<(Expanded, BTreeSet<String>), String> {
        let names = RefCell::new(BTreeSet::new());
        let expanded = expand(word, self.escape, &|name| {
            names.borrow_mut().insert(name.to_owned());
            self.value(name)
        })?;
        Ok((self.budget.checked(word, expanded), names.into_inner()))
    }

    pub(super) fn value(&self, name: &str) -> Value {
        match self.values.get(name) {
            Some(Some(value)) => self.budget.value(value),
            Some(None) => Value::Unknown,
            None => Value::Unset,
        }
    }

    /// `names` and all the globals their defaults are made of.
    pub(super) fn closure(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let mut all = names.clone();
        // A default sees only words before it, so one pass backwards finds everything.
        for declared in self.declared.iter().rev() {
            if all.contains(&declared.assignment.name) {
                all.extend(declared.needs.iter().cloned());
            }
        }
        all
    }

    /// The declared words with one of `names`, in order.
    pub(super) fn words<'a>(
        &'a self,
        names: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a Assignment> {
        let words = self.declared.iter().map(|declared| &declared.assignment);
        words.filter(|assignment| names.contains(&assignment.name))
    }

    /// Values of those `names` that were declared, or given where they need no declaration.
    pub(super) fn values_of(
        &self,
        names: &BTreeSet<String>,
        given: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for name in names {
            let counts = given.contains_key(name) || self.words(&[name.clone()].into()).count() > 0;
            if let Some(Some(value)) = self.values.get(name).filter(|_| counts) {
                values.insert(name.clone(), value.clone());
            }
        }
        values
    }
}

fn platform_args(stage: &str, request: &Request<'_>) -> BTreeMap<String, String> {
    let stage = if stage.is_empty() { "default" } else { stage };
    let mut args = BTreeMap::from([("TARGETSTAGE".to_owned(), stage.to_owned())]);
    for (prefix, platform) in [("BUILD", &request.build_platform), ("TARGET", &request.platform)] {
        let Platform { os, arch, variant } = platform;
        let mut name = format!("{os}/{arch}");
        if !variant.is_empty() {
            name = format!("{name}/{variant}");
        }
        let parts = [
            ("PLATFORM", name.as_str()),
            ("OS", os),
            ("OSVERSION", ""),
            ("ARCH", arch),
            ("VARIANT", variant),
        ];
        args.extend(parts.map(|(part, value)| (format!("{prefix}{part}"), value.to_owned())));
    }
    for (name, value) in &mut args {
        if let Some(given) = request.args.get(name) {
            value.clone_from(given);
        }
    }
    args
}
