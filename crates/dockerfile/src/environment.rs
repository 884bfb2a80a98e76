//! The variables of a stage while its instructions are walked.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::Budget;
use super::expand::{Expanded, Value, expand};
use super::stages::Target;
use super::{BaseConfig, Request};

/// Variables set so far; a stage built on this one begins with a copy.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    escape: char,
    /// `None`: set, but nobody knows to what.
    values: BTreeMap<String, Option<String>>,
    /// Names set by ENV last, not by ARG.
    by_env: BTreeSet<String>,
    /// The image that may have set more.
    open: Option<String>,
    budget: Budget,
}

impl Environment {
    /// What an image (or nothing) hands to a stage.
    pub(super) fn of_base(
        base: &Target,
        escape: char,
        request: &Request<'_>,
        budget: &Budget,
    ) -> Environment {
        let (values, by_env) = (BTreeMap::new(), BTreeSet::new());
        let mut environment =
            Environment { escape, values, by_env, open: None, budget: budget.clone() };
        if let Target::Image(name) = base {
            match (request.base)(name) {
                Some(BaseConfig { env, .. }) => {
                    for (name, value) in env {
                        environment.set_env(name, &Expanded { text: value, unknown: None });
                    }
                }
                None => environment.open = Some(name.clone()),
            }
        }
        // Engines see to it that PATH is set.
        environment.values.entry("PATH".to_owned()).or_insert(None);
        environment
    }

    /// ENV: a value that depends on an unknown one is unknown.
    pub(super) fn set_env(&mut self, name: String, value: &Expanded) {
        self.by_env.insert(name.clone());
        self.set(name, value);
    }

    /// ARG. Whether it took the place of an ENV of another value: podman would keep that.
    pub(super) fn set_arg(&mut self, name: String, value: &Expanded) -> bool {
        let before = self.values.get(&name).cloned();
        let was_env = self.by_env.remove(&name);
        self.set(name, value);
        was_env && before != Some(Some(value.text.clone()))
    }

    fn set(&mut self, name: String, value: &Expanded) {
        let known = value.unknown.is_none().then(|| value.text.clone());
        self.values.insert(name, known);
    }

    pub(super) fn expand(&self, word: &str) -> Result<Expanded, String> {
        let expanded = expand(word, self.escape, &|name| match self.values.get(name) {
            Some(Some(value)) => self.budget.value(value),
            Some(None) => Value::Unknown,
            None if self.open.is_some() => Value::Unknown,
            None => Value::Unset,
        })?;
        // A known value of which nothing known is made was too long for it.
        let is_known = |name: &String| matches!(self.values.get(name), Some(Some(_)));
        if expanded.unknown.as_ref().is_some_and(is_known) {
            self.budget.exceed();
        }
        Ok(self.budget.checked(word, expanded))
    }

    /// Why a variable's value is not known.
    pub(super) fn doubt(&self, name: &str) -> String {
        if let Some(reason) = self.budget.doubt(name) {
            return reason;
        }
        match &self.open {
            Some(image) => format!("`${name}` may be set by `{image}`, whose ENV is not known"),
            None => format!("the value of `${name}` is not known"),
        }
    }
}
