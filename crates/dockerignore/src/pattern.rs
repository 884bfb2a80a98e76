//! One pattern: what it means, and whether it matches a path.
//!
//! BuildKit (`moby/patternmatcher`, `compile`) walks the cleaned pattern once, writes an
//! expression for Go's `regexp`, and on the way decides which of four kinds it is:
//!
//! | kind | when | matches |
//! | --- | --- | --- |
//! | exact | no metacharacter | the path itself; `a(b)`, `c++` and `^a` are names |
//! | prefix | a name, then `**` | paths that start with it: `a**` takes `ab`, `dir/**` not `dir` |
//! | suffix | `**`, then a name | paths that end in it: `**/foo` anywhere, `**foo` also `xfoo` |
//! | expression | all else | what the expression finds |
//!
//! | token | written as |
//! | --- | --- |
//! | `*`, `?` | `[^/]*`, `[^/]` |
//! | `**`, eating one `/` behind it | `(.*/)?`, at the end `.*` |
//! | `\x` | `\x`, so `\d` is a digit, `\q` an error, and `\*` a star |
//! | `.` `+` `(` `)` `$` | escaped |
//! | all else | itself, also within `[…]`: `[*]` becomes `[[^/]*]` |
//!
//! Hence the surprises: `**foo*` does not match `xfoo` though `**foo` does, `.` in the expression
//! stops at a newline, and `{`, `|`, `}` are operators, but only in an expression: the bitmap of
//! characters to escape is too small for them (`1 << (b / 8)` overflows a byte).
//!
//! An expression that does not compile fails the build when a path is first tested against it, so
//! it is kept as [`Matcher::Broken`]. What is common goes to [`glob`], the rest to [`expression`].

use super::expression;
use super::glob::{self, Token};

#[derive(Debug)]
pub(super) struct Pattern {
    /// Cleaned, without `!`.
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
    /// Begins with `!`: what it matches is kept.
    pub(super) exception: bool,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    Exact,
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Glob(Vec<Token>),
    Expression(Box<expression::Expression>),
    Broken(String),
}

impl Pattern {
    pub(super) fn new(text: String, line: usize, exception: bool) -> Pattern {
        let matcher = Matcher::new(&text);
        Pattern { text, line, exception, matcher }
    }

    /// Whether it matches `path`, whatever lies above; `Err` says why it never can.
    pub(super) fn matches(&self, path: &[u8]) -> Result<bool, &str> {
        Ok(match &self.matcher {
            Matcher::Exact => path == self.text.as_bytes(),
            Matcher::Prefix(head) => path.starts_with(head),
            Matcher::Suffix(tail) => path.ends_with(tail) || tail.strip_prefix(b"/") == Some(path),
            Matcher::Glob(tokens) => glob::matches(tokens, path),
            Matcher::Expression(expression) => expression.matches(path),
            Matcher::Broken(why) => return Err(why),
        })
    }

    /// Whether it could match something below the folder `head`, which ends in `/`. Never wrongly
    /// false, except for a broken pattern.
    pub(super) fn reaches(&self, head: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact => self.text.as_bytes().starts_with(head),
            Matcher::Prefix(own) => own.starts_with(head) || head.starts_with(own),
            Matcher::Suffix(_) => true,
            Matcher::Glob(tokens) => glob::reaches(tokens, head),
            Matcher::Expression(expression) => expression.reaches(head),
            Matcher::Broken(_) => false,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.matcher, Matcher::Broken(_))
    }
}

impl Matcher {
    fn new(text: &str) -> Matcher {
        // The scanner BuildKit reads the pattern with skips a byte order mark; the text that exact,
        // prefix and suffix patterns are compared with still has it.
        let scanned = text.strip_prefix('\u{feff}').unwrap_or(text);
        let bytes = text.as_bytes();
        match translate(scanned) {
            (Kind::Exact, _) => Matcher::Exact,
            (Kind::Prefix, _) => Matcher::Prefix(bytes[..bytes.len() - 2].to_vec()),
            (Kind::Suffix, _) => Matcher::Suffix(bytes[2..].to_vec()),
            (Kind::Expression, expression) => match glob::parse(scanned) {
                Some(tokens) => Matcher::Glob(tokens),
                None => match expression::Expression::new(&expression) {
                    Ok(expression) => Matcher::Expression(Box::new(expression)),
                    Err(why) => Matcher::Broken(why),
                },
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Expression,
}

/// The kind of a pattern, and the expression BuildKit makes of it.
fn translate(pattern: &str) -> (Kind, String) {
    let mut kind = Kind::Exact;
    let mut expression = String::from("^");
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                let at_end = chars.peek().is_none();
                expression.push_str(if at_end { ".*" } else { "(.*/)?" });
                kind = match kind {
                    _ if first => Kind::Suffix,
                    Kind::Exact if at_end => Kind::Prefix,
                    _ => Kind::Expression,
                };
            }
            '*' | '?' => {
                expression.push_str(if c == '*' { "[^/]*" } else { "[^/]" });
                kind = Kind::Expression;
            }
            '.' | '+' | '(' | ')' | '$' => expression.extend(['\\', c]),
            '\\' => {
                expression.push(c);
                if let Some(escaped) = chars.next() {
                    expression.push(escaped);
                    kind = Kind::Expression;
                }
            }
            '[' | ']' => {
                expression.push(c);
                kind = Kind::Expression;
            }
            c => expression.push(c),
        }
        first = false;
    }
    expression.push('$');
    (kind, expression)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kinds_and_expressions() {
        use Kind::*;
        for (pattern, kind, expression) in [
            ("a(b)", Exact, "^a\\(b\\)$"),
            ("^a", Exact, "^^a$"),
            ("a|b", Exact, "^a|b$"),
            ("a**", Prefix, "^a.*$"),
            ("dir/**", Prefix, "^dir/.*$"),
            ("**", Suffix, "^.*$"),
            ("**/foo", Suffix, "^(.*/)?foo$"),
            ("**foo", Suffix, "^(.*/)?foo$"),
            ("**foo*", Expression, "^(.*/)?foo[^/]*$"),
            ("***", Expression, "^(.*/)?[^/]*$"),
            ("****", Expression, "^(.*/)?.*$"),
            ("a**b", Expression, "^a(.*/)?b$"),
            ("a/**/b", Expression, "^a/(.*/)?b$"),
            ("[*]", Expression, "^[[^/]*]$"),
            ("[?]", Expression, "^[[^/]]$"),
            ("\\q", Expression, "^\\q$"),
            ("a{2}*", Expression, "^a{2}[^/]*$"),
        ] {
            assert_eq!(translate(pattern), (kind, expression.into()), "{pattern}");
        }
    }

    /// What §1.4 of the rules says about single patterns, and what else Go's `regexp` does.
    #[test]
    fn single_patterns() {
        for (pattern, yes, no) in [
            ("a**", "ab a/b abc/d a", "b/a"),
            ("dir/**", "dir/x dir/x/y dir/", "dir dirx"),
            ("**/foo", "foo d/foo d/e/foo", "xfoo d/xfoo foo/d"),
            ("**foo", "foo xfoo d/xfoo", "foox"),
            ("**", "a a/b .x", ""),
            ("***", "a a/b .x", ""),
            ("**foo*", "foo foox d/foo", "xfoo d/xfoo foo/x"),
            ("a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb"),
            ("a**b", "ab a/b axx/b a/x/b", "axb aab"),
            ("*", "a .x", "a/b"),
            ("a?b", "a☺b axb", "ab a/b axxb"),
            ("[*]", "] [] /]  [^]", "* a"),
            ("[?]", "[] ^] /]", "? ] a"),
            ("[!a]b", "!b ab", "xb"),
            ("[^a]b", "xb /b", "ab b"),
            ("[a-c]x", "ax cx", "dx"),
            ("*.py[cod]", "a.pyc .pyo", "a.py a.pyx d/a.pyc"),
            ("\\d", "1 9", "d ٣"),
            ("\\w\\s", "", "ws w"),
            ("\\x41", "A", "x41"),
            ("\\x{41}", "A", "x{41}"),
            ("\\101", "A", "101"),
            ("\\pL", "a é", "1 ab"),
            ("\\p{Greek}", "α", "a"),
            ("\\P{Greek}", "a", "α"),
            ("[[:alpha:]]x", "ax Zx", "1x :x"),
            ("[[:^alpha:]]x", "1x", "ax"),
            ("\\.x", ".x", "ax"),
            ("\\*", "*", "a"),
            ("\\[a]", "[a]", "a"),
            ("^a*", "a ab", "^ab ^a"),
            ("^a", "^a", "a"),
            ("a(b)*", "a(b) a(b)c", "ab"),
            ("c++", "c++", "c cc"),
            ("a|b", "a|b", "a b"),
            ("a|b*", "a ab/c xb b", "c"),
            ("a{2}", "a{2}", "aa"),
            ("a{2}*", "aa aab", "a{2}"),
            ("a{b}*", "a{b} a{b}c", "ab"),
            ("\\Qa*", "", "a ab Qa"),
            ("\\bfoo*", "foo foox", "xfoo"),
        ] {
            let own = Pattern::new(pattern.into(), 1, false);
            for path in yes.split_ascii_whitespace() {
                assert_eq!(own.matches(path.as_bytes()), Ok(true), "`{pattern}` and `{path}`");
            }
            for path in no.split_ascii_whitespace() {
                assert_eq!(own.matches(path.as_bytes()), Ok(false), "`{pattern}` and `{path}`");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_characters_each() {
        for (pattern, path, matches) in [
            ("a?b", &b"a\xffb"[..], true),
            ("a?b", b"a\xe2\x98b", false),
            ("a??b", b"a\xe2\x98b", true),
            ("*\u{fffd}", b"a\xff", true),
            ("*\u{fffd}", b"a\xef\xbf\xbd", true),
            ("\u{fffd}", b"\xff", false),
            ("?", b"\n", true),
            ("**/x*", b"a\nb/x", false),
            ("*x", b"a\nx", true),
        ] {
            let own = Pattern::new(pattern.into(), 1, false);
            assert_eq!(own.matches(path), Ok(matches), "`{pattern}` and {path:x?}");
        }
    }

    #[test]
    fn some_patterns_only_fail_when_tried() {
        for pattern in [
            "[z-a]",
            "[Local-Only]",
            "\\q",
            "\\1",
            "\\pX",
            "a{3,2}*",
            "**/{2}*",
            "[[:foo:]]",
            "a*[",
        ] {
            let own = Pattern::new(pattern.into(), 1, false);
            assert!(own.matches(b"x").is_err(), "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn glob_and_expression_agree(
            pattern in "([ab./é-]|\\*{1,2}|\\?|\\[\\^?[ab]{1,2}\\]|\\\\[.*]){1,6}",
            path in prop::collection::vec(
                prop::sample::select(vec![&b"a"[..], b"b", b"/", b".", b"*", b"\n", b"\xff", b"\xc3\xa9"]),
                0..7,
            ),
        ) {
            let path = path.concat();
            let (_, expression) = translate(&pattern);
            let program = expression::Expression::new(&expression).unwrap();
            if let Some(tokens) = glob::parse(&pattern) {
                prop_assert_eq!(glob::matches(&tokens, &path), program.matches(&path));
            }
            // `/**/` is compared as a prefix, which is not what its expression says.
            let own = Pattern::new(pattern.clone(), 1, true);
            let heads = (1..path.len()).map(|at| &path[..at]).filter(|head| head.ends_with(b"/"));
            for head in heads {
                prop_assert!(!program.matches(&path) || program.reaches(head), "program, {:?}", head);
                prop_assert!(own.matches(&path) != Ok(true) || own.reaches(head), "{:?}", head);
            }
        }
    }
}
