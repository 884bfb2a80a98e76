//! A context for people: how much, the largest paths and folders, what to leave out.

use crate::context::junk::junk;
use crate::context::{Context, Entry, Lost, lost};
use crate::text::{DIM, OFF, YELLOW, bytes, plural};
use crate::ui;
use crate::ui::tree::Folder;

/// Paths a summary names.
const LARGEST: usize = 10;

/// Suggestions a summary makes.
const SUGGESTIONS: usize = 5;

pub(crate) fn text(context: &Context) -> String {
    let (files, size) = context.size();
    let mut lines =
        vec![format!("{}: {}, {}", context.spec.name, plural(files, "file"), bytes(size))];
    if let Some((reason, line)) = context.whole() {
        lines.push(format!("  the whole context is sent: {reason} (line {line})"));
    }
    lines.extend(context.missing.iter().map(|(line, path)| {
        format!("  {YELLOW}nothing matches `{path}`{OFF} (line {line} of the Dockerfile)")
    }));
    lines.extend(lost(&[context]).into_iter().map(|Lost { files, example, .. }| {
        let files = plural(files, "file");
        format!("  {YELLOW}`exclude` leaves out {files} that git tracks{OFF}, such as `{example}`")
    }));
    lines.extend(context.widened().iter().map(|one| format!("  sent: {}", one.reason)));
    section(&mut lines, "largest paths", &largest(context.entries()));
    section(&mut lines, "largest folders", &folders(context).lines(ui::rich()));
    section(&mut lines, "suggestions", &suggestions(context));
    lines.push(String::new());
    lines.join("\n")
}

/// The largest of some paths, the largest first.
pub(crate) fn largest<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<String> {
    let mut largest: Vec<_> = entries.filter(|entry| entry.size() > 0).collect();
    largest.sort_by(|a, b| b.size().cmp(&a.size()).then(a.path().cmp(b.path())));
    let line = |entry: &Entry| format!("{:>10}  {}", bytes(entry.size()), path(entry));
    largest.iter().take(LARGEST).map(line).collect()
}

fn section(lines: &mut Vec<String>, title: &str, content: &[String]) {
    if !content.is_empty() {
        lines.push(format!("  {DIM}{title}{OFF}"));
        lines.extend(content.iter().map(|line| format!("  {line}")));
    }
}

fn folders(context: &Context) -> Folder {
    let mut root = Folder::default();
    files(context).for_each(|entry| root.add(&path(&entry), entry.size()));
    root
}

/// What could be left out, and where to write it.
pub(crate) fn suggestions(context: &Context) -> Vec<String> {
    // What git tracks is the repository's own.
    let tracked = context.tracked();
    let files = files(context).filter(|one| !tracked.contains(one.path()));
    let files: Vec<_> = files.map(|one| (path(&one), one.size())).collect();
    let file = ignore_file(context);
    let suggestion = |junk: &crate::context::junk::Junk| {
        let (count, size) = (plural(junk.files, "file"), bytes(junk.bytes));
        let pattern = &junk.pattern;
        format!("{YELLOW}`{pattern}`{OFF} {size}, {count}: add `{pattern}` to {file}")
    };
    let junk = junk(files.iter().map(|(path, size)| (path.as_str(), *size)));
    junk.iter().take(SUGGESTIONS).map(suggestion).collect()
}

/// The ignore file that applies, or the one to make.
fn ignore_file(context: &Context) -> String {
    let root = fs_err::canonicalize(&context.spec.root);
    let root = root.unwrap_or_else(|_| context.spec.root.clone());
    let found = dockerignore::find(&root, context.spec.dockerfile.as_deref()).ok().flatten();
    let path = found.map_or_else(|| root.join(".dockerignore"), |found| found.path);
    path.strip_prefix(&root).unwrap_or(&path).display().to_string()
}

fn files(context: &Context) -> impl Iterator<Item = Entry<'_>> {
    context.entries().filter(|entry| entry.kind() != "dir")
}

/// A path for a line of text: what would end or colour the line is shown as a blank.
fn path(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.path()).replace(char::is_control, " ")
}
