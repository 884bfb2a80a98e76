//! Everything that is sent, a path each, as lines and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::context::{self, Context};

/// One path a line; with `null`, NUL after each instead, so that any name can be told from the
/// next. Several contexts are one list: what any of them is sent.
pub(crate) fn lines(contexts: &[Context], null: bool) -> Vec<u8> {
    let entries = contexts.iter().flat_map(Context::entries);
    let mut lines: Vec<_> = entries.map(|entry| (entry.path().to_vec(), ending(&entry))).collect();
    if contexts.len() > 1 {
        lines.sort_unstable();
        lines.dedup();
    }
    let end: &[u8] = if null { b"\0" } else { b"\n" };
    lines.iter().flat_map(|(path, ending)| [path, ending, end]).flatten().copied().collect()
}

/// What follows a path in the list and says what it is.
fn ending(entry: &context::Entry) -> Vec<u8> {
    match entry.link() {
        Some(target) => [b" -> ", target].concat(),
        None if entry.kind() == "dir" => b"/".to_vec(),
        None => Vec::new(),
    }
}

#[derive(Serialize)]
struct Image<'a> {
    name: &'a str,
    files: u64,
    bytes: u64,
    whole_context: bool,
    entries: Vec<Entry>,
    bases: Vec<&'a str>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    size: u64,
}

pub(crate) fn json(contexts: &[Context]) -> impl Serialize {
    let images: Vec<Image> = contexts.iter().map(as_json).collect();
    BTreeMap::from([("images", images)])
}

fn as_json(context: &Context) -> Image<'_> {
    let (files, bytes) = context.size();
    let entry = |entry: context::Entry| Entry {
        path: String::from_utf8_lossy(entry.path()).into_owned(),
        kind: entry.kind(),
        size: entry.size(),
    };
    Image {
        name: &context.spec.name,
        files,
        bytes,
        whole_context: context.is_whole(),
        entries: context.entries().map(entry).collect(),
        bases: context.bases().collect(),
    }
}
