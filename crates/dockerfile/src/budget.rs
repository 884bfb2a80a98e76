//! How much text expansion may make of a Dockerfile: a few lines that each double a value must not
//! take a machine's memory. What comes to more counts as not known, and the caller widens.

use std::cell::Cell;
use std::rc::Rc;

use super::expand::{Expanded, Value};

/// The longest value, in bytes.
pub(super) const LONGEST_VALUE: usize = 1 << 20;

/// All values that are looked up in a file, together.
const ALL_VALUES: usize = 16 << 20;

/// What is left for the values of one file.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
    exceeded: Rc<Cell<bool>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: Rc::new(Cell::new(ALL_VALUES)), exceeded: Rc::default() }
    }
}

impl Budget {
    /// A value that is looked up once more.
    pub(super) fn value(&self, value: &str) -> Value {
        let Some(left) = self.left.get().checked_sub(value.len()) else {
            self.exceed();
            return Value::Unknown;
        };
        self.left.set(left);
        Value::Set(value.to_owned())
    }

    /// Something came to more than is worked out.
    pub(super) fn exceed(&self) {
        self.exceeded.set(true);
    }

    /// What `word` has become, if it is not too long.
    pub(super) fn checked(&self, word: &str, expanded: Expanded) -> Expanded {
        if expanded.text.len() <= LONGEST_VALUE {
            return expanded;
        }
        self.exceed();
        let name = word.trim_start_matches('$').chars().take(40).collect();
        Expanded { text: String::new(), unknown: Some(name) }
    }

    /// Why a value is not known, if that is the reason.
    pub(super) fn doubt(&self, name: &str) -> Option<String> {
        let limits = "1 MiB a value, 16 MiB in all";
        self.exceeded.get().then(|| format!("`${name}` takes more than is expanded ({limits})"))
    }
}
