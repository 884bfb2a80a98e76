//! A TOML text with its places: byte ranges become lines, mistakes are gathered as they are met.
//!
//! serde's `deny_unknown_fields` stops at the first unknown key and knows no context, so the text
//! is read as a tree of spanned values and walked by hand ([`super::table`]). The tree also
//! survives a duplicate key, so that one does not hide the other faults. Any other error of syntax
//! does hide them: what follows it would be guesswork.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, Error};

use super::fault::{ConfigError, ConfigErrors};

/// What the parser calls a key that is there twice.
const DUPLICATE: &str = "duplicate key";

/// A value and the bytes it was read from.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Range<usize>,
}

impl<T> At<T> {
    pub(super) fn map<U>(self, to: impl FnOnce(T) -> U) -> At<U> {
        At { value: to(self.value), place: self.place }
    }
}

pub(super) struct Document<'t> {
    text: &'t str,
    file: &'t Path,
    /// Absolute folder of the file.
    pub(super) root: PathBuf,
    pub(super) entries: DeTable<'t>,
    faults: RefCell<Vec<ConfigError>>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str, file: &'t Path) -> Result<Self, ConfigErrors> {
        let (entries, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            text,
            file,
            root: folder(file),
            entries: entries.into_inner(),
            faults: RefCell::default(),
        };
        let fatal = errors.iter().any(|error| error.message() != DUPLICATE);
        for error in &errors {
            document.syntax(error);
        }
        if fatal { Err(document.into_faults()) } else { Ok(document) }
    }

    /// Notes a mistake at these bytes.
    pub(super) fn fault(&self, place: &Range<usize>, message: String, hint: Option<String>) {
        let (line, column) = self.line(place.start);
        let file = self.file.to_path_buf();
        self.faults.borrow_mut().push(ConfigError { file, line, column, message, hint });
    }

    /// Line and column of a byte, both from 1; past the end, those of the last line.
    pub(super) fn line(&self, byte: usize) -> (usize, usize) {
        let end = self.text.floor_char_boundary(byte);
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        match self.text.lines().count().max(1) {
            last if line > last => (last, 1),
            _ => (line, column),
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.fault_count() == 0
    }

    /// How many faults were noted so far.
    pub(super) fn fault_count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// All that was noted, in the order of the file.
    pub(super) fn into_faults(self) -> ConfigErrors {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        ConfigErrors(faults)
    }

    fn syntax(&self, error: &Error) {
        let place = error.span().unwrap_or(0..0);
        let written = self.text.get(place.clone()).unwrap_or_default();
        if error.message() == DUPLICATE {
            let hint = "keep one of the two: a name stands for one thing";
            self.fault(&place, format!("`{written}` is there twice"), Some(hint.to_owned()));
        } else {
            self.fault(&place, format!("not valid TOML: {}", error.message()), None);
        }
    }
}

/// The folder a file lies in, absolute.
fn folder(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    absolute.parent().map(Path::to_path_buf).unwrap_or_default()
}
