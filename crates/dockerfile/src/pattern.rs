//! The shell patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*` any text, `?` one character, a
//! backslash takes `*`, `?` and itself literally. Brackets are plain characters (unlike in a
//! shell).

use super::wildcard::{self, Token};

/// A parsed pattern.
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Fails on an escape BuildKit does not know either.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' => Token::Text,
                '?' => Token::One,
                // `\}` and `\/` were needed to write the pattern; the backslash is not part of it.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(ch @ ('*' | '?' | '\\')) => Token::Char(ch),
                    _ => return Err(format!("`{text}` holds an escape that is not known")),
                },
                ch => Token::Char(ch),
            });
        }
        Ok(Pattern(tokens))
    }

    /// `value` without its shortest (`greedy`: longest) prefix that matches.
    pub(super) fn trim_prefix(&self, value: &str, greedy: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let found = nearest(chars.len(), greedy, |end| self.matches(&chars[..end]));
        chars[found.unwrap_or(0)..].iter().collect()
    }

    /// `value` without its shortest (`greedy`: longest) suffix that matches.
    pub(super) fn trim_suffix(&self, value: &str, greedy: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let count = chars.len();
        let found = nearest(count, greedy, |cut| self.matches(&chars[count - cut..]));
        chars[..count - found.unwrap_or(0)].iter().collect()
    }

    /// `value` with the first match, or all of them, replaced. Of several at one place the longest
    /// counts.
    pub(super) fn replace(&self, value: &str, with: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut copied, mut from) = (0, 0);
        while let Some((start, end)) = self.find(&chars, from) {
            out.extend(&chars[copied..start]);
            // An empty match right behind another match does not count.
            if end > copied || start == 0 {
                out.push_str(with);
            }
            copied = end;
            from = end.max(from + 1);
            if !all {
                break;
            }
        }
        out.extend(&chars[copied..]);
        out
    }

    fn find(&self, chars: &[char], from: usize) -> Option<(usize, usize)> {
        (from..=chars.len()).find_map(|start| {
            let end = (start..=chars.len()).rev().find(|end| self.matches(&chars[start..*end]))?;
            Some((start, end))
        })
    }

    /// Whether all of `chars` matches; like Go's `.`, wildcards do not match a newline.
    fn matches(&self, chars: &[char]) -> bool {
        wildcard::matches(&self.0, chars, '\n')
    }
}

fn nearest(count: usize, greedy: bool, mut fits: impl FnMut(usize) -> bool) -> Option<usize> {
    if greedy { (0..=count).rev().find(|n| fits(*n)) } else { (0..=count).find(|n| fits(*n)) }
}
