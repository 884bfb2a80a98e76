//! One component of a path against one component of a pattern: Go's `filepath.Match`.
//!
//! `*` any text, `?` one character, `[a-z]` and `[^a-z]` one of (not of) a set, `\x` the character
//! `x`. Names that begin with a dot are nothing special. The tail of a pattern may be malformed
//! without harm as long as nothing reaches it; here any malformed pattern is refused, and the
//! caller widens.

use super::wildcard::{self, Token};

/// A parsed component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

/// Between components; in none of them.
const SEPARATOR: char = '/';

/// Whether a path component (or a whole path) holds a wildcard, as BuildKit tells it.
pub(super) fn has_wildcard(component: &str) -> bool {
    let mut chars = component.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

impl Glob {
    /// `None` for what Go refuses (`[`, `[]`, a trailing `\`), and for a set in the middle of a
    /// component that would match the `/` between two of them: `a[^b]c` matches the path `a/c`.
    pub fn parse(component: &str) -> Option<Glob> {
        let mut tokens = Vec::new();
        let mut chars = component.chars().peekable();
        while let Some(ch) = chars.next() {
            let token = match ch {
                '*' => Token::Text,
                '?' => Token::One,
                '\\' => Token::Char(chars.next()?),
                '[' => {
                    let class = class(&mut chars)?;
                    let inside = !tokens.is_empty() && chars.peek().is_some();
                    if inside && class.takes(SEPARATOR, SEPARATOR) {
                        return None;
                    }
                    class
                }
                ch => Token::Char(ch),
            };
            tokens.push(token);
        }
        Some(Glob(tokens))
    }

    /// Whether `name` matches; a byte that is not UTF-8 counts as one character.
    pub fn matches(&self, name: &[u8]) -> bool {
        wildcard::matches(&self.0, &characters(name), SEPARATOR)
    }
}

/// The rest of a class, its `[` already read.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = bound(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { bound(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        ch => Some(ch),
    }
}

fn characters(name: &[u8]) -> Vec<char> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.extend(chunk.valid().chars());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        let table: [(&str, &[u8], bool); 20] = [
            ("*", b".hidden", true),
            ("*.md", b"README.md", true),
            ("*.md", b".md", true),
            ("*.md", b"md", false),
            ("**", b"any", true),
            ("a**b", b"axxb", true),
            ("a?c", b"abc", true),
            ("a?c", b"ac", false),
            ("a?c", "a☺c".as_bytes(), true),
            ("a?c", b"a\xffc", true),
            ("[a-c]x", b"bx", true),
            ("[^a-c]x", b"bx", false),
            ("[^a-c]x", b"dx", true),
            ("[!a]x", b"!x", true),
            ("[!a]x", b"bx", false),
            ("[\\]]x", b"]x", true),
            ("\\*", b"*", true),
            ("\\*", b"a", false),
            ("*a*b*c", b"xaybzc", true),
            ("A", b"a", false),
        ];
        for (pattern, name, expected) in table {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern} {}", name.escape_ascii());
        }
    }

    #[test]
    fn malformed_or_path_crossing_patterns_are_refused() {
        for pattern in ["[", "[]a]", "[a", "[a-]", "[-a]", "a\\", "a[^b]c", "*[+-0]c"] {
            assert_eq!(Glob::parse(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a*"));
        assert!(has_wildcard("[a]"));
        assert!(!has_wildcard("a\\*b"));
        assert!(has_wildcard("a\\\\*"));
    }
}
