//! Regular expressions as Go reads them: the remainder of the patterns.
//!
//! BuildKit turns a pattern into an expression for Go's `regexp` (§ [`super::pattern`]) and hands
//! over more than it means to: classes, escapes, `^`, and `|`, `{` and `}`, which its table of
//! characters to escape holds no room for. This reads that text by Go's rules
//! (`regexp/syntax/parse.go`, flags `Perl`), which are not those of the `regex` crate: there a `[`
//! in a class nests, `&&` intersects, `\d` knows all scripts, and `a{b` is an error.
//!
//! | text | reading |
//! | --- | --- |
//! | `[…]` | a class; `]` first and `-` anywhere are themselves; negated it holds `/` and newline |
//! | `[[:alpha:]]`, `\d \s \w` and capitals | ASCII |
//! | `\pL`, `\p{Greek}`, `\P…` | Unicode, by the tables of `regex-syntax` |
//! | `\x41`, `\x{263a}`, `\101`, `\a \f \n \r \t \v` | that character |
//! | `\` before other ASCII punctuation | itself |
//! | `\Q…\E` | all of it literal, also the wildcards |
//! | `\A ^`, `\z $`, `\b \B` | ends of the path, edges of ASCII words |
//! | `a{2}`, `a{2,}`, `a{2,3}` | repetition up to 1000; any other `{` is itself |
//! | `a\|b` | either; each alternative is searched for unless pinned |
//! | other escapes, `[z-a]`, `a{3,2}`, one repetition upon another | an error |

use regex_syntax::hir::{Class, HirKind};

use super::charset::CharSet;

#[derive(Debug)]
pub(super) enum Node {
    /// One character of the set with this index.
    Set(usize),
    Assert(Assertion),
    Concat(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assertion {
    Start,
    End,
    WordEdge,
    NoWordEdge,
}

/// An expression and the sets its nodes name.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) root: Node,
    pub(super) sets: Vec<CharSet>,
}

/// What is wrong with an expression.
type Fault = String;

const MOST_REPEATS: u32 = 1000;

pub(super) fn parse(text: &str) -> Result<Expression, Fault> {
    let mut parser = Parser { rest: text, sets: Vec::new() };
    let root = parser.alternatives()?;
    if !parser.rest.is_empty() {
        return Err("unexpected `)`".into());
    }
    Ok(Expression { root, sets: parser.sets })
}

struct Parser<'a> {
    rest: &'a str,
    sets: Vec<CharSet>,
}

impl<'a> Parser<'a> {
    /// Up to the end or the `)` that closes this group, which is left unread.
    fn alternatives(&mut self) -> Result<Node, Fault> {
        let mut all = vec![self.sequence()?];
        while self.eat("|") {
            all.push(self.sequence()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Either(all) })
    }

    fn sequence(&mut self) -> Result<Node, Fault> {
        let mut nodes = Vec::new();
        let mut after_repeat = false;
        while let Some(c) = self.rest.chars().next().filter(|c| !matches!(c, '|' | ')')) {
            let bounds = self.repetition(c)?;
            if let Some((least, most)) = bounds {
                if after_repeat {
                    return Err("a repetition of a repetition".into());
                }
                let node = nodes.pop().ok_or("nothing to repeat")?;
                let node = Node::Repeat { node: Box::new(node), least, most };
                if most.unwrap_or(least) > 1 && !repeats_fit(&node, MOST_REPEATS) {
                    return Err("too many repetitions".into());
                }
                nodes.push(node);
            } else {
                self.atom(c, &mut nodes)?;
            }
            after_repeat = bounds.is_some();
        }
        Ok(Node::Concat(nodes))
    }

    /// Reads `*`, `+`, `?` or `{n,m}`, if that is what comes, and the `?` that makes it lazy.
    fn repetition(&mut self, c: char) -> Result<Option<(u32, Option<u32>)>, Fault> {
        let bounds = match c {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            '{' => match counts(self.rest)? {
                Some((bounds, after)) => {
                    self.rest = after;
                    self.eat("?");
                    return Ok(Some(bounds));
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.rest = &self.rest[1..];
        self.eat("?");
        Ok(Some(bounds))
    }

    fn atom(&mut self, c: char, nodes: &mut Vec<Node>) -> Result<(), Fault> {
        if c == '\\' {
            return self.escape(nodes);
        }
        self.rest = &self.rest[c.len_utf8()..];
        let node = match c {
            '^' => Node::Assert(Assertion::Start),
            '$' => Node::Assert(Assertion::End),
            '.' => self.set(CharSet::one('\n').negated()),
            '[' => {
                let set = self.class()?;
                self.set(set)
            }
            '(' => {
                let group = self.alternatives()?;
                if !self.eat(")") {
                    return Err("missing `)`".into());
                }
                group
            }
            c => self.set(CharSet::one(c)),
        };
        nodes.push(node);
        Ok(())
    }

    /// A `\` outside a class.
    fn escape(&mut self, nodes: &mut Vec<Node>) -> Result<(), Fault> {
        let assertion = match self.rest.as_bytes().get(1) {
            Some(b'A') => Assertion::Start,
            Some(b'z') => Assertion::End,
            Some(b'b') => Assertion::WordEdge,
            Some(b'B') => Assertion::NoWordEdge,
            Some(b'Q') => {
                let text = &self.rest[2..];
                let (literal, after) = text.split_once("\\E").unwrap_or((text, ""));
                self.rest = after;
                for c in literal.chars() {
                    let node = self.set(CharSet::one(c));
                    nodes.push(node);
                }
                return Ok(());
            }
            _ => {
                let set = match self.named_set()? {
                    Some(set) => set,
                    None => CharSet::one(self.escaped_char()?),
                };
                let node = self.set(set);
                nodes.push(node);
                return Ok(());
            }
        };
        self.rest = &self.rest[2..];
        nodes.push(Node::Assert(assertion));
        Ok(())
    }

    /// What follows a `[`, with its `]`.
    fn class(&mut self) -> Result<CharSet, Fault> {
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            let named = match self.posix_set()? {
                Some(set) => Some(set),
                None => self.named_set()?,
            };
            if let Some(set) = named {
                ranges.extend_from_slice(set.ranges());
                continue;
            }
            let low = self.class_char()?;
            let mut high = low;
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                high = self.class_char()?;
            }
            if high < low {
                return Err(format!("the range `{low}-{high}` runs backwards"));
            }
            ranges.push((low.into(), high.into()));
        }
        self.rest = &self.rest[1..];
        let set = CharSet::new(ranges);
        Ok(if negated { set.negated() } else { set })
    }

    fn class_char(&mut self) -> Result<char, Fault> {
        match self.rest.chars().next() {
            None => Err("missing `]`".into()),
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.rest = &self.rest[c.len_utf8()..];
                Ok(c)
            }
        }
    }

    /// `[:alpha:]`, `[:^alpha:]`; a `[:` that no `:]` follows is no such thing.
    fn posix_set(&mut self) -> Result<Option<CharSet>, Fault> {
        let Some((name, after)) =
            self.rest.strip_prefix("[:").and_then(|inside| inside.split_once(":]"))
        else {
            return Ok(None);
        };
        let (negated, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        let set = posix(bare).ok_or_else(|| format!("unknown class `[:{name}:]`"))?;
        self.rest = after;
        Ok(Some(if negated { set.negated() } else { set }))
    }

    /// `\d`, `\W`, `\pL`, `\P{Greek}` and their like.
    fn named_set(&mut self) -> Result<Option<CharSet>, Fault> {
        let Some(kind) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
            return Ok(None);
        };
        let plain = match kind.to_ascii_lowercase() {
            'd' => posix("digit"),
            'w' => posix("word"),
            's' => Some(CharSet::new(vec![(0x09, 0x0a), (0x0c, 0x0d), (0x20, 0x20)])),
            'p' => return self.unicode_set(kind == 'P').map(Some),
            _ => None,
        };
        let Some(set) = plain else { return Ok(None) };
        self.rest = &self.rest[2..];
        Ok(Some(if kind.is_ascii_uppercase() { set.negated() } else { set }))
    }

    fn unicode_set(&mut self, negated: bool) -> Result<CharSet, Fault> {
        let text = &self.rest[2..];
        let (name, after) = match (text.strip_prefix('{'), text.chars().next()) {
            (Some(inside), _) => inside.split_once('}').ok_or("missing `}`")?,
            (None, Some(letter)) => text.split_at(letter.len_utf8()),
            (None, None) => return Err("trailing `\\p`".into()),
        };
        let (turned, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        let set = unicode(bare).ok_or_else(|| format!("unknown class `\\p{{{name}}}`"))?;
        self.rest = after;
        Ok(if negated == turned { set } else { set.negated() })
    }

    /// An escape that stands for one character.
    fn escaped_char(&mut self) -> Result<char, Fault> {
        let text = &self.rest[1..];
        let c = text.chars().next().ok_or("trailing `\\`")?;
        let after = &text[c.len_utf8()..];
        let digit_follows = after.starts_with(|c: char| c.is_digit(8));
        let found = match c {
            'a' => Some(('\x07', after)),
            'f' => Some(('\x0c', after)),
            'n' => Some(('\n', after)),
            'r' => Some(('\r', after)),
            't' => Some(('\t', after)),
            'v' => Some(('\x0b', after)),
            'x' => hexadecimal(after),
            '1'..='7' if !digit_follows => None,
            '0'..='7' => octal(text),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some((c, after)),
            _ => None,
        };
        let (c, after) = found.ok_or_else(|| format!("unknown escape `\\{c}`"))?;
        self.rest = after;
        Ok(c)
    }

    fn set(&mut self, set: CharSet) -> Node {
        let known = self.sets.iter().rposition(|other| *other == set);
        Node::Set(known.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        }))
    }

    fn eat(&mut self, token: &str) -> bool {
        let after: Option<&'a str> = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }
}

/// Go's guard: no nest of repetitions may multiply to more than `most`.
fn repeats_fit(node: &Node, most: u32) -> bool {
    match node {
        Node::Repeat { node, least, most: upper } => match upper.unwrap_or(*least) {
            0 if upper.is_some() => true,
            0 => repeats_fit(node, most),
            times => times <= most && repeats_fit(node, most / times),
        },
        Node::Concat(nodes) | Node::Either(nodes) => {
            nodes.iter().all(|node| repeats_fit(node, most))
        }
        Node::Set(_) | Node::Assert(_) => true,
    }
}

type Counts = (u32, Option<u32>);

/// `{n}`, `{n,}` or `{n,m}` at the start of `text`, and what follows. `None`: the `{` is itself.
fn counts(text: &str) -> Result<Option<(Counts, &str)>, Fault> {
    let Some((inside, after)) = text[1..].split_once('}') else { return Ok(None) };
    let (low, high) = match inside.split_once(',') {
        None => (inside, Some(inside)),
        Some((low, "")) => (low, None),
        Some((low, high)) => (low, Some(high)),
    };
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    if !is_number(low) || !high.is_none_or(is_number) {
        return Ok(None);
    }
    let value = |text: &str| text.parse().ok().filter(|&count| count <= MOST_REPEATS);
    let bounds = match high {
        None => value(low).map(|low| (low, None)),
        Some(high) => value(low).zip(value(high)).map(|(low, high)| (low, Some(high))),
    };
    match bounds.filter(|&(low, high)| high.is_none_or(|high| low <= high)) {
        Some(bounds) => Ok(Some((bounds, after))),
        None => Err(format!("the repetition `{{{inside}}}` is out of bounds")),
    }
}

fn hexadecimal(text: &str) -> Option<(char, &str)> {
    let (digits, after) = match text.strip_prefix('{') {
        Some(inside) => inside.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    let all_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits.trim_start_matches('0'), 16);
    let code = if digits.bytes().all(|byte| byte == b'0') { Ok(0) } else { code };
    all_hex.then_some(code.ok().and_then(char::from_u32)).flatten().map(|c| (c, after))
}

/// Up to three octal digits.
fn octal(text: &str) -> Option<(char, &str)> {
    let length = text.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let (digits, after) = text.split_at(length);
    let code = u32::from_str_radix(digits, 8).ok()?;
    char::from_u32(code).map(|c| (c, after))
}

fn posix(name: &str) -> Option<CharSet> {
    const DIGIT: (u32, u32) = (0x30, 0x39);
    const UPPER: (u32, u32) = (0x41, 0x5a);
    const LOWER: (u32, u32) = (0x61, 0x7a);
    let ranges = match name {
        "alnum" => vec![DIGIT, UPPER, LOWER],
        "alpha" => vec![UPPER, LOWER],
        "ascii" => vec![(0x00, 0x7f)],
        "blank" => vec![(0x09, 0x09), (0x20, 0x20)],
        "cntrl" => vec![(0x00, 0x1f), (0x7f, 0x7f)],
        "digit" => vec![DIGIT],
        "graph" => vec![(0x21, 0x7e)],
        "lower" => vec![LOWER],
        "print" => vec![(0x20, 0x7e)],
        "punct" => vec![(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
        "space" => vec![(0x09, 0x0d), (0x20, 0x20)],
        "upper" => vec![UPPER],
        "word" => vec![DIGIT, UPPER, LOWER, (0x5f, 0x5f)],
        "xdigit" => vec![DIGIT, (0x41, 0x46), (0x61, 0x66)],
        _ => return None,
    };
    Some(CharSet::new(ranges))
}

/// A general category or a script. The text given to `regex-syntax` can be nothing else.
fn unicode(name: &str) -> Option<CharSet> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let hir = regex_syntax::parse(&format!(r"\p{{{name}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(CharSet::new(
            class.ranges().iter().map(|range| (range.start().into(), range.end().into())).collect(),
        )),
        _ => None,
    }
}
