//! From the text of an ignore file to its patterns.
//!
//! Two steps of BuildKit, each with its own trimming, in this order (`ignorefile.ReadAll`):
//! 1. Split at `\n`, drop one `\r` before it; a line of 65,536 bytes or more is an error. Line 1
//!    loses a byte order mark.
//! 2. `#` in the first column: a comment. There is no other kind.
//! 3. Trim white space as Unicode has it; nothing left: skip.
//! 4. A leading `!` makes an exception; trim again.
//! 5. Clean the path lexically and take one leading `/` off, unless it is all there is.
//!
//! then (`patternmatcher.New`) trim, skip if empty, clean and look for `!` **again**, which is why
//! `!/` is an error, and `/!a` and `./!a` are exceptions. Last comes [`super::syntax`].
//!
//! On the way between the two the patterns travel as JSON, which turns each byte that is not UTF-8
//! into U+FFFD, and as gRPC headers, which carry no control character, not even a tab, unless some
//! pattern is not ASCII (then all are escaped). BuildKit fails there; so do we, with the line.

use super::RuleError;
use super::pattern::Pattern;
use super::{syntax, utf8};

const LONGEST_LINE: usize = 65_535;

/// The patterns of an ignore file, or everything that is wrong with it.
pub(super) fn file(text: &[u8]) -> Result<Vec<Pattern>, Vec<RuleError>> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut errors = Vec::new();
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if line.len() > LONGEST_LINE {
            let start = utf8::to_string(&line[..40]);
            errors.push(RuleError::new(number, &start, "the line is longer than 65,535 bytes"));
        } else if !line.starts_with(b"#") {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            lines.push((number, from_line(&utf8::to_string(line))));
        }
    }
    finish(lines, errors)
}

/// Patterns given one by one, each read as a line of a file; `#` means nothing.
pub(super) fn list<'a>(
    patterns: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Pattern>, Vec<RuleError>> {
    finish((1..).zip(patterns.into_iter().map(from_line)).collect(), Vec::new())
}

/// Patterns that go to the matcher as they are, as those of `COPY --exclude` do.
pub(super) fn unread<'a>(
    patterns: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Pattern>, Vec<RuleError>> {
    finish((1..).zip(patterns.into_iter().map(str::to_owned)).collect(), Vec::new())
}

/// Steps 3 to 5.
fn from_line(line: &str) -> String {
    let line = line.trim();
    match line.strip_prefix('!') {
        Some(rest) => format!("!{}", relative(rest.trim())),
        None => relative(line),
    }
}

fn relative(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let cleaned = clean(path);
    match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => cleaned,
    }
}

/// The matcher's own reading, and what cannot be matched.
fn finish(
    lines: Vec<(usize, String)>,
    mut errors: Vec<RuleError>,
) -> Result<Vec<Pattern>, Vec<RuleError>> {
    let escaped = lines.iter().any(|(_, text)| !text.is_ascii());
    let mut patterns = Vec::new();
    for (line, text) in lines {
        if !escaped && text.contains(|c: char| c.is_ascii_control()) {
            let why = "BuildKit cannot send a pattern with a control character in it";
            errors.push(RuleError::new(line, &text, why));
            continue;
        }
        match to_pattern(&text, line) {
            Ok(pattern) => patterns.extend(pattern),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(patterns) } else { Err(errors) }
}

fn to_pattern(text: &str, line: usize) -> Result<Option<Pattern>, RuleError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let cleaned = clean(text);
    let (exception, bare) =
        cleaned.strip_prefix('!').map_or((false, cleaned.as_str()), |bare| (true, bare));
    if bare.is_empty() {
        return Err(RuleError::new(line, text, "there is no pattern after `!`"));
    }
    if syntax::is_malformed(bare) {
        return Err(RuleError::new(line, text, "syntax error in pattern"));
    }
    Ok(Some(Pattern::new(bare.to_owned(), line, exception)))
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(text, pattern, exception)` of the one pattern in a file.
    fn only(text: &[u8]) -> (String, bool) {
        let mut patterns = file(text).unwrap();
        assert_eq!(patterns.len(), 1, "{:?}", String::from_utf8_lossy(text));
        let pattern = patterns.remove(0);
        (pattern.text, pattern.exception)
    }

    #[test]
    fn a_line_is_trimmed_and_cleaned() {
        for (line, pattern) in [
            ("foo/", "foo"),
            ("/foo", "foo"),
            ("./foo", "foo"),
            ("//foo", "foo"),
            ("a/../foo", "foo"),
            ("/../foo", "foo"),
            ("  foo\t", "foo"),
            ("\u{85}\u{a0}\u{b}foo\u{2003}", "foo"),
            ("foo\r", "foo"),
            ("foo\r\r", "foo"),
            ("  #x", "#x"),
            ("\\#x", "\\#x"),
            ("foo # no comment", "foo # no comment"),
            ("/#x", "#x"),
            ("\u{feff}foo", "foo"),
            ("\u{feff}\u{feff}foo", "\u{feff}foo"),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("../x", "../x"),
            ("a/../../x", "../x"),
            ("**/", "**"),
            (" /foo", "foo"),
            ("/ foo", "foo"),
        ] {
            assert_eq!(only(line.as_bytes()), (pattern.to_owned(), false), "{line:?}");
        }
    }

    #[test]
    fn an_exception_begins_with_a_bang() {
        for (line, pattern) in [
            ("!foo", "foo"),
            ("! foo", "foo"),
            (" !\tfoo", "foo"),
            ("!/foo/", "foo"),
            ("!!foo", "!foo"),
            ("!.", "."),
            ("/!foo", "foo"),
            ("./!foo", "foo"),
            ("\u{feff}!foo", "foo"),
        ] {
            assert_eq!(only(line.as_bytes()), (pattern.to_owned(), true), "{line:?}");
        }
    }

    #[test]
    fn nothing_is_left_of_blank_lines_and_comments() {
        for text in ["", "\n\n", "# a\n#b", "\u{feff}# c", " \t\u{a0}\r\n", "#\0\x01", "/ /"] {
            assert!(file(text.as_bytes()).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_error_is_told_with_its_line() {
        let text = "ok\n!\n! \n!/\n[\na[\n[]a]\n[-x]\n[x-]\n[a-b-c]\n\\\nx\\\na\rb\na\tb\n\0\n";
        let errors = file(text.as_bytes()).unwrap_err();
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, (2..=15).collect::<Vec<_>>());
        assert_eq!(errors[0].to_string(), "line 2: `!`: there is no pattern after `!`");
        assert_eq!(errors[3].to_string(), "line 5: `[`: syntax error in pattern");
    }

    #[test]
    fn a_control_character_passes_beside_one_that_is_not_ascii() {
        assert!(file(b"a\tb").is_err());
        assert!(file("a\tb\né".as_bytes()).is_ok());
    }

    #[test]
    fn a_line_may_have_65535_bytes() {
        let mut text = vec![b'a'; 65_535];
        assert_eq!(file(&text).unwrap().len(), 1);
        text.push(b'\n');
        assert_eq!(file(&text).unwrap().len(), 1);
        text[65_535] = b'\r';
        let errors = file(&text).unwrap_err();
        assert_eq!((errors.len(), errors[0].line), (1, 1));
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        assert_eq!(only(b"a\xe2\x98"), ("a\u{fffd}\u{fffd}".to_owned(), false));
    }

    #[test]
    fn unread_patterns_keep_their_slash() {
        let texts =
            |patterns: Vec<Pattern>| patterns.into_iter().map(|p| p.text).collect::<Vec<_>>();
        assert_eq!(texts(list(["/a", "#b"]).unwrap()), ["a", "#b"]);
        assert_eq!(texts(unread(["/a", "b/"]).unwrap()), ["/a", "b"]);
    }
}
