//! One table of the file, read key by key.
//!
//! A `Table` is asked for each key it may hold; [`Table::end`] reports every other one. Each asking
//! says what type is wanted; a value of another type is a fault and reads as absent. The list of
//! known keys is thus the code that uses them and cannot fall behind it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{At, Document};
use super::near;
use super::units::{self, Wrong};

#[derive(Clone)]
pub(super) struct Table<'d> {
    pub(super) document: &'d Document<'d>,
    /// How messages call it: ``image `api` ``; empty for the file itself.
    pub(super) name: String,
    pub(super) place: Range<usize>,
    entries: &'d DeTable<'d>,
    known: Vec<&'static str>,
}

/// An item of a list that holds names and tables.
pub(super) enum Item<'d> {
    Name(At<&'d str>),
    Table(Table<'d>),
}

impl<'d> Table<'d> {
    /// The file's outermost table.
    pub(super) fn outermost(document: &'d Document<'d>) -> Self {
        let entries = &document.entries;
        Self { document, name: String::new(), place: 0..0, entries, known: Vec::new() }
    }

    /// The same table under another name.
    pub(super) fn called(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Notes a fault of this table.
    pub(super) fn fault(&self, place: &Range<usize>, message: impl Display, hint: Option<String>) {
        let message = match self.name.as_str() {
            "" => message.to_string(),
            name => format!("{name}: {message}"),
        };
        self.document.fault(place, message, hint);
    }

    /// Reports the keys nobody asked for.
    pub(super) fn end(self) {
        let known = self.known.iter().copied();
        for key in self.entries.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref().as_ref();
            let hint = near::hint(word, "known keys", known.clone());
            self.fault(&key.span(), format!("unknown key `{word}`"), Some(hint));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A string; an empty one is a fault.
    pub(super) fn string(&mut self, key: &'static str) -> Option<At<&'d str>> {
        let value = self.get(key)?;
        self.text(&format!("`{key}`"), value)
    }

    /// A string that has to be there.
    pub(super) fn required(&mut self, key: &'static str) -> Option<At<&'d str>> {
        if !self.has(key) {
            self.missing(&format!("missing key `{key}`"), None);
        }
        self.string(key)
    }

    pub(super) fn missing(&self, message: &str, hint: Option<String>) {
        self.fault(&self.place, message, hint);
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.wrong_type(&format!("`{key}`"), "true or false", value),
        }
    }

    /// A whole number of that range.
    pub(super) fn number<N: Copy + Display + PartialOrd + TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<N>,
    ) -> Option<At<N>> {
        let value = self.get(key)?;
        self.whole(key, range, value)
    }

    /// A table of whole numbers of that range, each with its name.
    pub(super) fn numbers<N: Copy + Display + PartialOrd + TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<N>,
    ) -> Vec<(At<&'d str>, At<N>)> {
        let Some(table) = self.table(key, self.qualified(key)) else { return Vec::new() };
        let named = |(name, value): (&'d Spanned<_>, _)| {
            let place = name.span();
            let name: &'d std::borrow::Cow<'_, str> = name.get_ref();
            let number = table.whole(name, range.clone(), value)?;
            Some((At { value: name.as_ref(), place }, number))
        };
        table.entries.iter().filter_map(named).collect()
    }

    /// One of a few words, each with what it means.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let word = self.string(key)?;
        let found = choices.iter().find(|(name, _)| *name == word.value);
        if found.is_none() {
            let message = format!("`{key}` cannot be `{}`", word.value);
            let names = choices.iter().map(|(name, _)| *name);
            self.fault(&word.place, message, Some(near::hint(word.value, "choices", names)));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Bytes of a size such as "1.5 GiB".
    pub(super) fn size(&mut self, key: &'static str) -> Option<u64> {
        self.measure(key, units::size).map(|size| size.value)
    }

    /// A time such as "15m".
    pub(super) fn duration(&mut self, key: &'static str) -> Option<At<Duration>> {
        self.measure(key, units::duration)
    }

    fn measure<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let text = self.string(key)?;
        match read(text.value) {
            Ok(value) => Some(At { value, place: text.place }),
            Err(Wrong { message, hint }) => {
                self.fault(&text.place, format!("`{key}`: {message}"), Some(hint.to_owned()));
                None
            }
        }
    }

    /// A path, made absolute from the file's folder; `.` parts dropped, `..` kept (they may pass
    /// symlinks).
    pub(super) fn path(&mut self, key: &'static str) -> Option<At<PathBuf>> {
        let text = self.string(key)?;
        Some(At { value: self.absolute(text.value), place: text.place })
    }

    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.document.root.join(path).components().collect()
    }

    /// A list of strings, none of them empty or there twice.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<At<&'d str>>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_type(&format!("`{key}`"), "a list of strings", value);
        };
        let what = format!("`{key}`");
        Some(items.iter().filter_map(|item| self.text(&what, item)).collect())
    }

    /// A list in which each string stands for one thing, so that none may be there twice.
    pub(super) fn set(&mut self, key: &'static str) -> Option<Vec<At<&'d str>>> {
        let items = self.strings(key)?;
        for (index, item) in items.iter().enumerate() {
            if items[..index].iter().any(|other| other.value == item.value) {
                let message = format!("`{key}` has `{}` twice", item.value);
                self.fault(&item.place, message, None);
            }
        }
        Some(items)
    }

    /// A list that must hold something if it is there at all.
    pub(super) fn filled(
        &mut self,
        key: &'static str,
        hint: &'static str,
    ) -> Option<Vec<At<&'d str>>> {
        let items = self.strings(key)?;
        let empty = self
            .entries
            .get(key)
            .filter(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty()));
        if let Some(value) = empty {
            self.fault(&value.span(), format!("`{key}` is empty"), Some(hint.to_owned()));
        }
        Some(items)
    }

    /// A list of names that must be among `known`.
    pub(super) fn names(&mut self, key: &'static str, what: &str, known: &[&str]) -> Vec<String> {
        let names = self.set(key).unwrap_or_default();
        names
            .into_iter()
            .inspect(|name| self.known_name(key, name, what, known))
            .map(|name| name.value.to_owned())
            .collect()
    }

    /// Notes a fault if `name` is not among `known`; `what` is the plural of what it names.
    pub(super) fn known_name(&self, key: &str, name: &At<&str>, what: &str, known: &[&str]) {
        if !known.contains(&name.value) {
            let message = format!("`{key}` names `{}`, which is not among the {what}", name.value);
            let hint = near::hint(name.value, what, known.iter().copied());
            self.fault(&name.place, message, Some(hint));
        }
    }

    /// A table of strings, empty ones allowed.
    pub(super) fn map(&mut self, key: &'static str) -> BTreeMap<&'d str, At<&'d str>> {
        let mut map = BTreeMap::new();
        let Some(table) = self.table(key, format!("`{key}`")) else { return map };
        for (name, value) in table.entries {
            let name = name.get_ref().as_ref();
            let text = match value.get_ref() {
                DeValue::String(text) => Some(At { value: text.as_ref(), place: value.span() }),
                _ => table.wrong_type(&format!("`{name}`"), "a string", value),
            };
            map.extend(text.map(|text| (name, text)));
        }
        map
    }

    /// A table below this one, called `name` in messages.
    pub(super) fn table(&mut self, key: &'static str, name: String) -> Option<Table<'d>> {
        let value = self.get(key)?;
        self.below(&format!("`{key}`"), name, value)
    }

    /// A list of tables; each is called `noun` and its number until it tells its name.
    pub(super) fn tables(&mut self, key: &'static str, noun: &str) -> Vec<Table<'d>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let what = format!("`{key}`");
            return self.wrong_type(&what, "a list of tables", value).unwrap_or_default();
        };
        let numbered = items.iter().enumerate();
        numbered
            .filter_map(|(index, item)| {
                self.below(
                    &format!("`{key}`"),
                    self.qualified(&format!("{noun} {}", index + 1)),
                    item,
                )
            })
            .collect()
    }

    /// A list of names and tables; a table is called `noun` and its number until it tells its name.
    pub(super) fn names_and_tables(&mut self, key: &'static str, noun: &str) -> Vec<Item<'d>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let what = format!("`{key}`");
            return self.wrong_type(&what, "a list of names or tables", value).unwrap_or_default();
        };
        let what = format!("`{key}`");
        let item = |(index, item): (usize, &'d Spanned<DeValue<'d>>)| {
            if item.get_ref().is_str() {
                return self.text(&what, item).map(Item::Name);
            }
            let name = self.qualified(&format!("{noun} {}", index + 1));
            self.below(&what, name, item).map(Item::Table)
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// One table, or a list of them.
    pub(super) fn table_or_tables(&mut self, key: &'static str, noun: &str) -> Vec<Table<'d>> {
        match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Table(_)) => self.table(key, self.qualified(noun)).into_iter().collect(),
            _ => self.tables(key, noun),
        }
    }

    /// `[KEY.NAME]`: the tables below a key, each with its name.
    pub(super) fn named(&mut self, key: &'static str, noun: &str) -> Vec<(At<&'d str>, Table<'d>)> {
        let Some(outer) = self.table(key, format!("`{key}`")) else { return Vec::new() };
        let entries = outer.entries.iter();
        entries
            .filter_map(|(name, value)| {
                let place = name.span();
                let name = name.get_ref().as_ref();
                let called = format!("{noun} `{name}`");
                let table =
                    Table { place: place.clone(), ..outer.below(&called, called.clone(), value)? };
                Some((At { value: name, place }, table))
            })
            .collect()
    }

    /// A part's name after this table's own.
    pub(super) fn qualified(&self, part: &str) -> String {
        match self.name.as_str() {
            "" => part.to_owned(),
            name => format!("{name}: {part}"),
        }
    }

    pub(super) fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.get(key)
    }

    /// Notes that a value is of the wrong type; always none, so that readers can end with it.
    pub(super) fn wrong_type<T>(
        &self,
        what: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        let message = format!("{what} must be {wanted}, not {article} {found}");
        self.fault(&value.span(), message, None);
        None
    }

    fn whole<N: Copy + Display + PartialOrd + TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<N>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<At<N>> {
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.wrong_type(&format!("`{key}`"), "a whole number", value);
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.and_then(|number| N::try_from(number).ok()) {
            Some(number) if range.contains(&number) => {
                Some(At { value: number, place: value.span() })
            }
            _ => {
                let (least, most) = range.into_inner();
                let message = format!("`{key}` is {digits}, which is not from {least} to {most}");
                self.fault(&value.span(), message, None);
                None
            }
        }
    }

    fn text(&self, what: &str, value: &'d Spanned<DeValue<'d>>) -> Option<At<&'d str>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => {
                self.fault(&value.span(), format!("{what} is an empty string"), None);
                None
            }
            DeValue::String(text) => Some(At { value: text.as_ref(), place: value.span() }),
            _ => self.wrong_type(what, "a string", value),
        }
    }

    fn below(
        &self,
        what: &str,
        name: String,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Option<Table<'d>> {
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table {
                document: self.document,
                name,
                place: value.span(),
                entries,
                known: Vec::new(),
            }),
            _ => self.wrong_type(what, "a table", value),
        }
    }
}
