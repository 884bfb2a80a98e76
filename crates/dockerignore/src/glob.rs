//! Matching of the patterns people write: `*.md`, `src/**/*.go`, `**/*.py[cod]`.
//!
//! Both ends of a pattern are pinned to the ends of the path, so whatever has a fixed width is
//! compared there first; most paths are turned away by one comparison of bytes. What remains lies
//! between two wildcards and is searched for by trying. [`MOST_WILDCARDS`] bounds the trying, a
//! pattern with more goes to [`super::expression`], whose time grows with the length of the path
//! alone.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::utf8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Itself.
    Text(Vec<u8>),
    /// `?`: one character, not `/`.
    Any,
    /// `[…]`: one character of the set; a negated one holds `/` as well.
    Set(ClassUnicode),
    /// `*`: any characters but `/`.
    Star,
    /// `**/` or `**` before something: nothing, or anything that ends in `/`; no newline.
    Folders,
    /// `**` at the end: anything; no newline.
    Rest,
}

const MOST_WILDCARDS: usize = 3;

/// The tokens of a pattern in which nothing has a second meaning to a regular expression.
/// `None`: a matter for [`super::expression`].
pub(super) fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => match rest.strip_prefix('*') {
                None => tokens.push(Token::Star),
                Some(after) => {
                    rest = after.strip_prefix('/').unwrap_or(after);
                    tokens.push(if rest.is_empty() { Token::Rest } else { Token::Folders });
                }
            },
            '?' => tokens.push(Token::Any),
            '[' => {
                let (set, after) = simple_set(rest)?;
                tokens.push(Token::Set(set));
                rest = after;
            }
            '\\' => {
                let escaped = rest.chars().next().filter(char::is_ascii_punctuation)?;
                push_text(&mut tokens, escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            ']' | '^' | '|' | '{' | '}' | char::REPLACEMENT_CHARACTER => return None,
            c => push_text(&mut tokens, c),
        }
    }
    let wildcards = tokens.iter().filter(|token| token.is_wildcard()).count();
    (wildcards <= MOST_WILDCARDS).then_some(tokens)
}

fn push_text(tokens: &mut Vec<Token>, c: char) {
    let mut buffer = [0; 4];
    let bytes = c.encode_utf8(&mut buffer).as_bytes();
    match tokens.last_mut() {
        Some(Token::Text(text)) => text.extend_from_slice(bytes),
        _ => tokens.push(Token::Text(bytes.to_vec())),
    }
}

/// `text` is what follows a `[`. Only characters and ranges of them, nothing nested or escaped.
fn simple_set(text: &str) -> Option<(ClassUnicode, &str)> {
    let (negated, text) = text.strip_prefix('^').map_or((false, text), |after| (true, after));
    let (inside, after) = text.split_once(']')?;
    if inside.is_empty() || inside.contains(['[', '\\', '*', '?', '^']) {
        return None;
    }
    let mut set = ClassUnicode::empty();
    let mut chars = inside.chars().peekable();
    while let Some(low) = chars.next() {
        let high = if chars.next_if_eq(&'-').is_some() { chars.next()? } else { low };
        if low == '-' || high == '-' || low > high {
            return None;
        }
        set.push(ClassUnicodeRange::new(low, high));
    }
    if negated {
        set.negate();
    }
    Some((set, after))
}

impl Token {
    fn is_wildcard(&self) -> bool {
        matches!(self, Token::Star | Token::Folders | Token::Rest)
    }

    /// What is left of `text` after a token of fixed width at its start.
    fn strip_front<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        match self {
            Token::Text(own) => text.strip_prefix(own.as_slice()),
            _ if text.is_empty() => None,
            _ => {
                let (c, width) = utf8::first(text);
                self.takes(c).then(|| &text[width..])
            }
        }
    }

    /// What is left of `text` before a token of fixed width at its end.
    fn strip_back<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        match self {
            Token::Text(own) => text.strip_suffix(own.as_slice()),
            _ if text.is_empty() => None,
            _ => {
                let (c, width) = utf8::last(text);
                self.takes(c).then(|| &text[..text.len() - width])
            }
        }
    }

    fn takes(&self, c: char) -> bool {
        match self {
            Token::Set(set) => {
                let after = set.ranges().partition_point(|range| range.start() <= c);
                after > 0 && c <= set.ranges()[after - 1].end()
            }
            _ => c != '/',
        }
    }

    /// Every length a wildcard can take at the start of `text`.
    fn lengths(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let folders = matches!(self, Token::Folders);
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let here = at?;
            at = if folders { after_folder(text, here) } else { after_char(text, here) };
            Some(here)
        })
    }
}

fn after_char(text: &[u8], at: usize) -> Option<usize> {
    let left = text.get(at..).filter(|left| left.first().is_some_and(|&byte| byte != b'/'))?;
    Some(at + utf8::first(left).1)
}

fn after_folder(text: &[u8], at: usize) -> Option<usize> {
    let left = text.get(at..)?;
    let slash = left.iter().position(|&byte| byte == b'/')?;
    (!left[..slash].contains(&b'\n')).then_some(at + slash + 1)
}

/// Whether `tokens` match all of `text`.
pub(super) fn matches(mut tokens: &[Token], mut text: &[u8]) -> bool {
    while let [first, rest @ ..] = tokens
        && !first.is_wildcard()
    {
        let Some(left) = first.strip_front(text) else { return false };
        (tokens, text) = (rest, left);
    }
    while let [rest @ .., last] = tokens
        && !last.is_wildcard()
    {
        let Some(left) = last.strip_back(text) else { return false };
        (tokens, text) = (rest, left);
    }
    match tokens {
        [] => text.is_empty(),
        [Token::Star] => !text.contains(&b'/'),
        [Token::Rest] => !text.contains(&b'\n'),
        [first, rest @ ..] => first.lengths(text).any(|length| matches(rest, &text[length..])),
    }
}

/// Whether some text that begins with `head` and goes on could match. Never wrongly false.
pub(super) fn reaches(tokens: &[Token], head: &[u8]) -> bool {
    if head.is_empty() {
        return true;
    }
    let Some((first, rest)) = tokens.split_first() else { return false };
    match first {
        Token::Text(text) if text.starts_with(head) => true,
        Token::Star => {
            !head.contains(&b'/')
                || first.lengths(head).any(|length| reaches(rest, &head[length..]))
        }
        // What the newline forbids to one wildcard another may take; this is rare enough to walk.
        Token::Folders | Token::Rest => true,
        _ => first.strip_front(head).is_some_and(|left| reaches(rest, left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_patterns_are_taken() {
        for plain in ["*.md", "a/**/b", "**/*.py[cod]", "[^a-c]x", "a\\*b", "a?b", "***"] {
            assert!(parse(plain).is_some(), "{plain}");
        }
        for other in ["a|b*", "a{2}*", "^a*", "[[:alpha:]]", "[*]", "\\d", "*a*b*c*d*", "[z-a]"] {
            assert!(parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn reach_is_told_by_the_head() {
        let reach = |pattern: &str, head: &str| reaches(&parse(pattern).unwrap(), head.as_bytes());
        assert!(!reach("src/**/*.go", "target/"));
        assert!(!reach("src/*.go", "src/a/"), "one level only");
        assert!(!reach("*/keep", "a/b/"));
        assert!(!reach("s?c/*", "src/a/"));
        assert!(reach("src/**/*.go", "src/deep/er/"));
        assert!(reach("*/keep", "a/"));
        assert!(reach("a*/x", "abc/"));
        assert!(reach("**/*.go", "any/where/"));
        assert!(reach("a[^x]y*", "a/"), "a negated set may be the slash");
        assert!(!reach("[^x]y*", "a/"));
    }
}
