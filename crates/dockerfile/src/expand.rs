//! Variable expansion and word splitting, as BuildKit's `shell.Lex` does them.
//!
//! | form | result |
//! | --- | --- |
//! | `$x`, `${x}` | the value, empty if unset |
//! | `${x:-w}` `${x-w}` | `w` if unset (with `:` also if empty) |
//! | `${x:+w}` `${x+w}` | `w` if set (with `:` only if not empty) |
//! | `${x:?w}` `${x?w}` | an error with text `w` if unset (with `:` also if empty) |
//! | `${x#p}` `${x##p}` | the value less its shortest, longest prefix that matches `p` |
//! | `${x%p}` `${x%%p}` | the same for suffixes |
//! | `${x/p/r}` `${x//p/r}` | the first match, every match of `p` replaced by `r` |
//!
//! `w` may hold quotes and variables again; in a pattern `*` and `?` are wildcards. Single quotes
//! keep everything, in double quotes only `$` and the escape character work, and the escape
//! character takes the next character as it is.
//!
//! A variable whose value is not known (the `ENV` of a base image nobody has looked into) does not
//! fail: the result names it in `unknown`, unless the form never uses the value. The caller widens.

use super::budget::LONGEST_VALUE;
use super::pattern::Pattern;

/// A word after expansion.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// A variable the text depends on whose value is not known; `text` is then meaningless.
    pub(super) unknown: Option<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Set(String),
    Unset,
    Unknown,
}

/// Longer values are not matched against patterns, which costs cubic time: they count as unknown.
const LONGEST_MATCHED: usize = 1024;

/// Deeper nesting of `${x:-${y:-…}}` is refused, so that no input can exhaust the stack.
const DEEPEST: usize = 64;

/// Expands `word` to one word. An error is one the engine would stop at, too.
pub(super) fn expand(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Value,
) -> Result<Expanded, String> {
    let mode = Mode { raw_quotes: false, keep_unset: false };
    Lexer::new(word, escape, false, mode, lookup).until(None, None)
}

/// Splits a line into words without expanding anything; `raw` keeps quotes and escapes in them.
pub(super) fn split_words(line: &str, raw: bool) -> Result<Vec<String>, String> {
    let mode = Mode { raw_quotes: raw, keep_unset: true };
    let mut words = Words::default();
    Lexer::new(line, '\\', raw, mode, &|_| Value::Unset).until(None, Some(&mut words))?;
    Ok(words.finish())
}

impl Expanded {
    fn known(text: impl Into<String>) -> Expanded {
        Expanded { text: text.into(), unknown: None }
    }

    fn push(&mut self, piece: &Expanded) {
        self.text.push_str(&piece.text);
        if self.unknown.is_none() {
            self.unknown.clone_from(&piece.unknown);
        }
    }
}

#[derive(Clone, Copy)]
struct Mode {
    raw_quotes: bool,
    keep_unset: bool,
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    escape: char,
    raw_escapes: bool,
    mode: Mode,
    lookup: &'a dyn Fn(&str) -> Value,
}

impl<'a> Lexer<'a> {
    fn new(
        word: &str,
        escape: char,
        raw_escapes: bool,
        mode: Mode,
        lookup: &'a dyn Fn(&str) -> Value,
    ) -> Lexer<'a> {
        // Go's scanner drops a byte-order mark at the start of whatever it reads.
        let chars = word.strip_prefix('\u{feff}').unwrap_or(word).chars().collect();
        Lexer { chars, at: 0, depth: 0, escape, raw_escapes, mode, lookup }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.at += 1;
        Some(ch)
    }

    /// Reads up to `stop`, which is eaten, or to the end if there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        mut words: Option<&mut Words>,
    ) -> Result<Expanded, String> {
        let mut out = Expanded::default();
        while let Some(ch) = self.peek() {
            if Some(ch) == stop {
                self.at += 1;
                return Ok(out);
            }
            let piece = match ch {
                '$' => self.dollar()?,
                '\'' => Expanded::known(self.single_quotes()?),
                '"' => self.double_quotes()?,
                '<' => Expanded::known(self.angle()),
                _ => Expanded::known(self.plain()),
            };
            if let Some(words) = &mut words {
                let splits = ch == '$' || (ch != self.escape && !matches!(ch, '\'' | '"' | '<'));
                words.add(&piece.text, splits);
            }
            out.push(&piece);
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(format!("the closing `{stop}` of a substitution is missing")),
        }
    }

    /// Reads a nested part of `${…}`.
    fn nested(&mut self, stop: char, raw_escapes: bool) -> Result<Expanded, String> {
        if self.depth == DEEPEST {
            return Err("substitutions are nested too deeply".to_owned());
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let word = self.until(Some(stop), None);
        self.raw_escapes = before;
        self.depth -= 1;
        word
    }

    fn plain(&mut self) -> String {
        let Some(ch) = self.next() else { return String::new() };
        if ch != self.escape {
            return ch.to_string();
        }
        let kept = self.raw_escapes.then_some(ch);
        kept.into_iter().chain(self.next()).collect()
    }

    /// `<` is plain, but the blanks after `<<` belong to the word: they may lead to a heredoc's
    /// name.
    fn angle(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut text = "<<".to_owned();
        while let Some(blank) = self.peek().filter(|ch| matches!(ch, ' ' | '\t' | '\r')) {
            text.push(blank);
            self.at += 1;
        }
        text
    }

    fn single_quotes(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let quote = self.next().filter(|_| self.mode.raw_quotes);
        text.extend(quote);
        loop {
            match self.next() {
                None => return Err("a single quote is not closed".to_owned()),
                Some('\'') => {
                    text.extend(quote);
                    return Ok(text);
                }
                Some(ch) => text.push(ch),
            }
        }
    }

    fn double_quotes(&mut self) -> Result<Expanded, String> {
        let mut out = Expanded::default();
        let quote = self.next().filter(|_| self.mode.raw_quotes);
        out.text.extend(quote);
        loop {
            match self.peek() {
                None => return Err("a double quote is not closed".to_owned()),
                Some('"') => {
                    self.at += 1;
                    out.text.extend(quote);
                    return Ok(out);
                }
                Some('$') => out.push(&self.dollar()?),
                Some(ch) => {
                    self.at += 1;
                    out.text.push_str(&self.in_double_quotes(ch));
                }
            }
        }
    }

    /// Inside double quotes only the quote, `$` and the escape character itself can be escaped.
    fn in_double_quotes(&mut self, ch: char) -> String {
        if ch != self.escape {
            return ch.to_string();
        }
        let mut text = String::new();
        if self.raw_escapes {
            text.push(ch);
        }
        match self.peek() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == self.escape => {
                self.at += 1;
                text.push(next);
            }
            Some(_) => text.push(ch),
        }
        text
    }

    fn dollar(&mut self) -> Result<Expanded, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok(Expanded::known("$"));
            }
            return Ok(self.value(&name, &format!("${name}")));
        }
        self.at += 1;
        if matches!(self.peek(), None | Some('{' | '}' | ':')) {
            return Err("bad substitution".to_owned());
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(self.value(&name, &format!("${{{name}}}"))),
            Some(':') => match self.next() {
                Some(op @ ('-' | '+' | '?')) => self.choice(&name, op, true),
                op => Err(unsupported(&format!(":{}", op.map(String::from).unwrap_or_default()))),
            },
            Some(op @ ('-' | '+' | '?')) => self.choice(&name, op, false),
            Some(op @ ('#' | '%')) => self.trim(&name, op),
            Some('/') => self.replace(&name),
            op => Err(unsupported(&op.map(String::from).unwrap_or_default())),
        }
    }

    /// The value of a variable; `source` is its text for the mode that keeps unset ones.
    fn value(&self, name: &str, source: &str) -> Expanded {
        match (self.lookup)(name) {
            Value::Set(value) => Expanded::known(value),
            Value::Unset if self.mode.keep_unset => Expanded::known(source),
            Value::Unset => Expanded::default(),
            Value::Unknown => unknown(name),
        }
    }

    fn choice(&mut self, name: &str, op: char, empty_is_unset: bool) -> Result<Expanded, String> {
        let word = self.nested('}', false)?;
        let value = match (self.lookup)(name) {
            Value::Unknown => return Ok(unknown(name)),
            Value::Unset if self.mode.keep_unset => {
                let colon = if empty_is_unset { ":" } else { "" };
                return Ok(Expanded::known(format!("${{{name}{colon}{op}{}}}", word.text)));
            }
            Value::Unset => None,
            Value::Set(value) if empty_is_unset && value.is_empty() => None,
            Value::Set(value) => Some(value),
        };
        match (op, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(Expanded::default()),
            (_, Some(value)) => Ok(Expanded::known(value)),
            (_, None) if word.text.is_empty() => {
                Err(format!("`{name}` is not allowed to be unset"))
            }
            (_, None) => Err(format!("`{name}`: {}", word.text)),
        }
    }

    fn trim(&mut self, name: &str, op: char) -> Result<Expanded, String> {
        let word = self.nested('}', true)?;
        if self.mode.keep_unset {
            return Ok(Expanded::known(format!("${{{name}{op}{}}}", word.text)));
        }
        let greedy = word.text.starts_with(op);
        let pattern = if greedy { &word.text[1..] } else { word.text.as_str() };
        let value = match self.matched(name, &word, &word) {
            Ok(value) => value,
            Err(settled) => return Ok(settled),
        };
        let pattern = Pattern::parse(pattern)?;
        Ok(Expanded::known(match op {
            '#' => pattern.trim_prefix(&value, greedy),
            _ => pattern.trim_suffix(&value, greedy),
        }))
    }

    fn replace(&mut self, name: &str) -> Result<Expanded, String> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern = self.nested('/', true)?;
        let with = self.nested('}', true)?;
        if self.mode.keep_unset {
            return Ok(Expanded::known(format!("${{{name}/{}/{}}}", pattern.text, with.text)));
        }
        let value = match self.matched(name, &pattern, &with) {
            Ok(value) => value,
            Err(settled) => return Ok(settled),
        };
        // In a replacement of all matches Go would read `$1` as a group of its own expression.
        if all && with.text.contains('$') {
            return Ok(unknown(name));
        }
        // Each letter may be replaced, and the empty places between them.
        if with.text.len().saturating_mul(value.len() + 1) > LONGEST_VALUE {
            return Ok(unknown(name));
        }
        Ok(Expanded::known(Pattern::parse(&pattern.text)?.replace(&value, &with.text, all)))
    }

    /// The value a pattern is applied to; the error is the result where no pattern is needed.
    fn matched(&self, name: &str, first: &Expanded, second: &Expanded) -> Result<String, Expanded> {
        if let Some(name) = first.unknown.as_ref().or(second.unknown.as_ref()) {
            return Err(unknown(name));
        }
        match (self.lookup)(name) {
            Value::Unknown => Err(unknown(name)),
            Value::Set(value) if value.len() > LONGEST_MATCHED => Err(unknown(name)),
            Value::Set(value) => Ok(value),
            Value::Unset => Ok(String::new()),
        }
    }

    fn name(&mut self) -> String {
        let Some(first) = self.peek() else { return String::new() };
        if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!' | '0') {
            self.at += 1;
            return first.to_string();
        }
        let digits_only = first.is_numeric();
        let mut name = String::new();
        while let Some(ch) = self.peek() {
            let fits =
                if digits_only { ch.is_numeric() } else { ch.is_alphanumeric() || ch == '_' };
            if !fits {
                break;
            }
            name.push(ch);
            self.at += 1;
        }
        name
    }
}

fn unknown(name: &str) -> Expanded {
    Expanded { text: String::new(), unknown: Some(name.to_owned()) }
}

fn unsupported(modifier: &str) -> String {
    format!("`{modifier}` is not a known modifier in `${{…}}`")
}

/// Words gathered while a line is read: blanks end one unless they were quoted or escaped.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    current: String,
}

impl Words {
    fn add(&mut self, text: &str, splits: bool) {
        if !splits {
            self.current.push_str(text);
            return;
        }
        for ch in text.chars() {
            if !ch.is_whitespace() {
                self.current.push(ch);
            } else if !self.current.is_empty() {
                self.words.push(std::mem::take(&mut self.current));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.words.push(self.current);
        }
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Value {
        match name {
            "x" => Value::Set("value".to_owned()),
            "empty" => Value::Set(String::new()),
            "path" => Value::Set("/a/b/c.tar.gz".to_owned()),
            "star" => Value::Set("a*b".to_owned()),
            "from_base" => Value::Unknown,
            _ => Value::Unset,
        }
    }

    /// What a word becomes: its text, `?name` for one that depends on an unknown, `!` for an error.
    fn show(word: &str, escape: char) -> String {
        match expand(word, escape, &lookup) {
            Ok(Expanded { unknown: Some(name), .. }) => format!("?{name}"),
            Ok(Expanded { text, .. }) => text,
            Err(_) => "!".to_owned(),
        }
    }

    #[test]
    fn every_modifier_expands_as_in_buildkit() {
        let table = [
            ("$x", "value"),
            ("${x}", "value"),
            ("$x/$unset/y", "value//y"),
            ("$xy", ""),
            ("${x}y", "valuey"),
            ("$", "$"),
            ("a$/b", "a$/b"),
            ("$1abc", "abc"),
            ("${x:-w}", "value"),
            ("${unset:-w}", "w"),
            ("${empty:-w}", "w"),
            ("${empty-w}", ""),
            ("${unset-w}", "w"),
            ("${unset:-${x}}", "value"),
            ("${unset:-a b}", "a b"),
            ("${unset:-'}'}", "}"),
            ("${x:+w}", "w"),
            ("${empty:+w}", ""),
            ("${empty+w}", "w"),
            ("${unset+w}", ""),
            ("${unset:+w}", ""),
            ("${x:?w}", "value"),
            ("${empty:?w}", "!"),
            ("${empty?w}", ""),
            ("${unset?w}", "!"),
            ("${unset:?}", "!"),
            ("${path#*/}", "a/b/c.tar.gz"),
            ("${path##*/}", "c.tar.gz"),
            ("${path%.*}", "/a/b/c.tar"),
            ("${path%%.*}", "/a/b/c"),
            ("${path#nope}", "/a/b/c.tar.gz"),
            ("${x#v?l}", "ue"),
            ("${star#a\\*}", "b"),
            ("${unset#a}", ""),
            ("${path/b/X}", "/a/X/c.tar.gz"),
            ("${x/[a]/X}", "value"),
            ("${path//a/X}", "/X/b/c.tXr.gz"),
            ("${path//\\//-}", "-a-b-c.tar.gz"),
            ("${x//?/y}", "yyyyy"),
            ("${x/*/y}", "y"),
            ("${x//l*/y}", "vay"),
            ("${x:#v}", "!"),
            ("${x^}", "!"),
            ("${x", "!"),
            ("${", "!"),
            ("${}", "!"),
            ("${{x}}", "!"),
            ("${:-x}", "!"),
            ("${x:-w", "!"),
            ("${x/a}", "!"),
            ("${x#\\q}", "!"),
        ];
        for (word, expected) in table {
            assert_eq!(show(word, '\\'), expected, "{word}");
        }
    }

    #[test]
    fn quotes_and_escapes() {
        let table = [
            ("'$x'", '\\', "$x"),
            ("\"$x\"", '\\', "value"),
            ("\"'$x'\"", '\\', "'value'"),
            ("\\$x", '\\', "$x"),
            ("\"\\$x\\\"\\a\"", '\\', "$x\"\\a"),
            ("'a\\'b", '\\', "a\\b"),
            ("a\\ b", '\\', "a b"),
            ("a\\", '\\', "a"),
            ("src\\$x", '`', "src\\value"),
            ("`$x", '`', "$x"),
            ("'", '\\', "!"),
            ("\"", '\\', "!"),
            ("\u{feff}a", '\\', "a"),
        ];
        for (word, escape, expected) in table {
            assert_eq!(show(word, escape), expected, "{word}");
        }
    }

    #[test]
    fn an_unknown_value_counts_only_where_it_is_used() {
        let table = [
            ("$from_base", "?from_base"),
            ("a/${from_base}", "?from_base"),
            ("${from_base:-w}", "?from_base"),
            ("${from_base:+w}", "?from_base"),
            ("${from_base:?w}", "?from_base"),
            ("${from_base#a}", "?from_base"),
            ("${x#$from_base}", "?from_base"),
            ("${x/a/$from_base}", "?from_base"),
            ("${x:-$from_base}", "value"),
            ("${unset:-$from_base}", "?from_base"),
            ("${unset:+$from_base}", ""),
            ("'$from_base'", "$from_base"),
        ];
        for (word, expected) in table {
            assert_eq!(show(word, '\\'), expected, "{word}");
        }
    }

    #[test]
    fn words_keep_what_they_are_told_to() {
        let line = "RUN cat << 'E O' a\\ b \"c d\" $x ${y:-z}";
        let raw = split_words(line, true).unwrap();
        assert_eq!(raw, ["RUN", "cat", "<< 'E O'", "a\\ b", "\"c d\"", "$x", "${y:-z}"]);
        assert_eq!(split_words("'E O' a\\ b", false).unwrap(), ["E O", "a b"]);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let word = format!("{}x{}", "${a:-".repeat(10_000), "}".repeat(10_000));
        assert_eq!(show(&word, '\\'), "!");
    }
}
