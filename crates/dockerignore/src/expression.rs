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

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::utf8;

/// An expression that is ready to be matched, in time bounded by the lengths of both.
///
/// The search is Go's `MatchString`: a match may begin anywhere. The translation puts `^` first
/// and `$` last, but with a `|` between them each pins one alternative only.
pub(super) struct Expression {
    dfa: DFA,
    /// The states found so far, one set for each thread that searches.
    caches: Pool<Cache, NewCache>,
    /// Whether a match can only begin where the path does.
    anchored: Anchored,
}

type NewCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// What is wrong with an expression.
type Fault = String;

const MOST_REPEATS: u32 = 1000;

/// Larger expressions are refused. Go's own bound is higher; no pattern that a person writes comes
/// near either.
const MOST_BYTES: usize = 64 << 20;

impl Expression {
    pub(super) fn new(text: &str) -> Result<Expression, Fault> {
        let hir = parse(text)?;
        let is_pinned = hir.properties().look_set_prefix().contains(Look::Start);
        let config = thompson::Config::new().nfa_size_limit(Some(MOST_BYTES));
        let config = config.which_captures(thompson::WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&hir);
        let nfa = nfa.map_err(|_| "the expression is too large")?;
        let config = DFA::config().skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa);
        let dfa = dfa.map_err(|error| error.to_string())?;
        let for_caches = dfa.clone();
        let caches = Pool::new(Box::new(move || for_caches.create_cache()) as NewCache);
        let anchored = if is_pinned { Anchored::Yes } else { Anchored::No };
        Ok(Expression { dfa, caches, anchored })
    }

    /// Whether the expression is found in `path`.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let text = utf8::to_string(path);
        let input = Input::new(&text).anchored(self.anchored).earliest(true);
        let found = self.dfa.try_search_fwd(&mut self.caches.get(), &input);
        // No expression of ours makes a search give up: see the crate's conditions for an error.
        found.is_ok_and(|end| end.is_some())
    }

    /// Whether it could be found in a text that begins with `head` and goes on; never wrongly
    /// false.
    pub(super) fn reaches(&self, head: &[u8]) -> bool {
        let text = utf8::to_string(head);
        let cache = &mut self.caches.get();
        let input = Input::new(&text).anchored(self.anchored);
        let Ok(mut state) = self.dfa.start_state_forward(cache, &input) else { return true };
        for &byte in text.as_bytes() {
            match self.dfa.next_state(cache, state, byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) if next.is_match() => return true,
                Ok(next) => state = next,
                Err(_) => return true,
            }
        }
        true
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression").field("anchored", &self.anchored).finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<Hir, Fault> {
    let mut parser = Parser { rest: text };
    let root = parser.alternatives()?;
    if !parser.rest.is_empty() {
        return Err("unexpected `)`".into());
    }
    Ok(root)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Up to the end or the `)` that closes this group, which is left unread.
    fn alternatives(&mut self) -> Result<Hir, Fault> {
        let mut all = vec![self.sequence()?];
        while self.eat("|") {
            all.push(self.sequence()?);
        }
        Ok(Hir::alternation(all))
    }

    fn sequence(&mut self) -> Result<Hir, Fault> {
        let mut nodes = Vec::new();
        let mut after_repeat = false;
        while let Some(c) = self.rest.chars().next().filter(|c| !matches!(c, '|' | ')')) {
            let bounds = self.repetition(c)?;
            if let Some((least, most)) = bounds {
                if after_repeat {
                    return Err("a repetition of a repetition".into());
                }
                let sub = Box::new(nodes.pop().ok_or("nothing to repeat")?);
                let repetition = Repetition { min: least, max: most, greedy: true, sub };
                let node = Hir::repetition(repetition);
                if most.unwrap_or(least) > 1 && !repeats_fit(&node, MOST_REPEATS) {
                    return Err("too many repetitions".into());
                }
                nodes.push(node);
            } else {
                self.atom(c, &mut nodes)?;
            }
            after_repeat = bounds.is_some();
        }
        Ok(Hir::concat(nodes))
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

    fn atom(&mut self, c: char, nodes: &mut Vec<Hir>) -> Result<(), Fault> {
        if c == '\\' {
            return self.escape(nodes);
        }
        self.rest = &self.rest[c.len_utf8()..];
        let node = match c {
            '^' => Hir::look(Look::Start),
            '$' => Hir::look(Look::End),
            '.' => hir(negated(one('\n'))),
            '[' => hir(self.class()?),
            '(' => {
                let group = self.alternatives()?;
                if !self.eat(")") {
                    return Err("missing `)`".into());
                }
                group
            }
            c => hir(one(c)),
        };
        nodes.push(node);
        Ok(())
    }

    /// A `\` outside a class.
    fn escape(&mut self, nodes: &mut Vec<Hir>) -> Result<(), Fault> {
        let look = match self.rest.as_bytes().get(1) {
            Some(b'A') => Look::Start,
            Some(b'z') => Look::End,
            Some(b'b') => Look::WordAscii,
            Some(b'B') => Look::WordAsciiNegate,
            Some(b'Q') => {
                let text = &self.rest[2..];
                let (literal, after) = text.split_once("\\E").unwrap_or((text, ""));
                self.rest = after;
                nodes.extend(literal.chars().map(|c| hir(one(c))));
                return Ok(());
            }
            _ => {
                let set = match self.named_set()? {
                    Some(set) => set,
                    None => one(self.escaped_char()?),
                };
                nodes.push(hir(set));
                return Ok(());
            }
        };
        self.rest = &self.rest[2..];
        nodes.push(Hir::look(look));
        Ok(())
    }

    /// What follows a `[`, with its `]`.
    fn class(&mut self) -> Result<ClassUnicode, Fault> {
        let is_negated = self.eat("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            let named = match self.posix_set()? {
                Some(set) => Some(set),
                None => self.named_set()?,
            };
            if let Some(set) = named {
                class.union(&set);
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
            class.push(ClassUnicodeRange::new(low, high));
        }
        self.rest = &self.rest[1..];
        Ok(if is_negated { negated(class) } else { class })
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
    fn posix_set(&mut self) -> Result<Option<ClassUnicode>, Fault> {
        let Some((name, after)) =
            self.rest.strip_prefix("[:").and_then(|inside| inside.split_once(":]"))
        else {
            return Ok(None);
        };
        let (is_negated, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        let set = posix(bare).ok_or_else(|| format!("unknown class `[:{name}:]`"))?;
        self.rest = after;
        Ok(Some(if is_negated { negated(set) } else { set }))
    }

    /// `\d`, `\W`, `\pL`, `\P{Greek}` and their like.
    fn named_set(&mut self) -> Result<Option<ClassUnicode>, Fault> {
        let Some(kind) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
            return Ok(None);
        };
        let plain = match kind.to_ascii_lowercase() {
            'd' => posix("digit"),
            'w' => posix("word"),
            's' => Some(ranges(&[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')])),
            'p' => return self.unicode_set(kind == 'P').map(Some),
            _ => None,
        };
        let Some(set) = plain else { return Ok(None) };
        self.rest = &self.rest[2..];
        Ok(Some(if kind.is_ascii_uppercase() { negated(set) } else { set }))
    }

    fn unicode_set(&mut self, is_negated: bool) -> Result<ClassUnicode, Fault> {
        let text = &self.rest[2..];
        let (name, after) = match (text.strip_prefix('{'), text.chars().next()) {
            (Some(inside), _) => inside.split_once('}').ok_or("missing `}`")?,
            (None, Some(letter)) => text.split_at(letter.len_utf8()),
            (None, None) => return Err("trailing `\\p`".into()),
        };
        let (turned, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        let set = unicode(bare).ok_or_else(|| format!("unknown class `\\p{{{name}}}`"))?;
        self.rest = after;
        Ok(if is_negated == turned { set } else { negated(set) })
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

    fn eat(&mut self, token: &str) -> bool {
        let after: Option<&'a str> = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }
}

fn hir(class: ClassUnicode) -> Hir {
    Hir::class(Class::Unicode(class))
}

fn one(c: char) -> ClassUnicode {
    ranges(&[(c, c)])
}

fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|&(low, high)| ClassUnicodeRange::new(low, high)))
}

fn negated(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

/// Go's guard: no nest of repetitions may multiply to more than `most`.
fn repeats_fit(hir: &Hir, most: u32) -> bool {
    match hir.kind() {
        HirKind::Repetition(Repetition { min, max, sub, .. }) => match max.unwrap_or(*min) {
            0 if max.is_some() => true,
            0 => repeats_fit(sub, most),
            times => times <= most && repeats_fit(sub, most / times),
        },
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().all(|part| repeats_fit(part, most))
        }
        _ => true,
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

fn posix(name: &str) -> Option<ClassUnicode> {
    const DIGIT: (char, char) = ('0', '9');
    const UPPER: (char, char) = ('A', 'Z');
    const LOWER: (char, char) = ('a', 'z');
    Some(match name {
        "alnum" => ranges(&[DIGIT, UPPER, LOWER]),
        "alpha" => ranges(&[UPPER, LOWER]),
        "ascii" => ranges(&[('\0', '\x7f')]),
        "blank" => ranges(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => ranges(&[('\0', '\x1f'), ('\x7f', '\x7f')]),
        "digit" => ranges(&[DIGIT]),
        "graph" => ranges(&[('!', '~')]),
        "lower" => ranges(&[LOWER]),
        "print" => ranges(&[(' ', '~')]),
        "punct" => ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => ranges(&[('\t', '\r'), (' ', ' ')]),
        "upper" => ranges(&[UPPER]),
        "word" => ranges(&[DIGIT, UPPER, LOWER, ('_', '_')]),
        "xdigit" => ranges(&[DIGIT, ('A', 'F'), ('a', 'f')]),
        _ => return None,
    })
}

/// A general category or a script. The text given to `regex-syntax` can be nothing else.
fn unicode(name: &str) -> Option<ClassUnicode> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let hir = regex_syntax::parse(&format!(r"\p{{{name}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class.clone()),
        _ => None,
    }
}
