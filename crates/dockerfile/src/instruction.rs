//! One joined line → an instruction: keyword, flags, and what a reading needs of the arguments.
//!
//! Flags stand only before the first argument; quotes and escapes are taken out of them at once.
//! The arguments of COPY and ADD are a JSON array or else words split at blanks, before anyone
//! looks at quotes or `${x:-a b}`. A `['a', 'b']` is no JSON and is split at blanks like anything
//! else.

use super::parse::Heredoc;

/// An instruction, variables not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// The keyword in capitals, one blank, the rest as joined: comments and line breaks are gone.
    pub(super) text: String,
    pub(super) takes_heredocs: bool,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) body: Body,
}

/// The arguments, for the instructions that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    From(From),
    Arg(Vec<Assignment>),
    Env(Vec<(String, String)>),
    Copy(Copy),
    Run(Run),
    /// The trigger, as it would be run in a stage built on this one.
    OnBuild(String),
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From {
    pub(super) base: String,
    pub(super) name: Option<String>,
    pub(super) platform: Option<String>,
}

/// One word of an ARG line: `NAME` or `NAME=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) default: Option<String>,
}

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) is_add: bool,
    pub(super) from: Option<String>,
    pub(super) exclude: Vec<String>,
    pub(super) parents: bool,
    /// Without heredocs and without the destination.
    pub(super) sources: Vec<String>,
    pub(super) unclear: Option<String>,
    /// What ADD fetches is to have.
    pub(super) checksum: Option<String>,
    /// It has flags that podman's cache may not look at.
    pub(super) flags_count: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The values of `--mount`.
    pub(super) mounts: Vec<String>,
    pub(super) unclear: Option<String>,
}

/// Keyword and the flags it knows; `None`: BuildKit does not look at its flags.
const KEYWORDS: [(&str, Option<&[&str]>); 18] = [
    ("ADD", Some(&["chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"])),
    ("ARG", None),
    ("CMD", Some(&[])),
    ("COPY", Some(&["chown", "from", "chmod", "link", "exclude", "parents"])),
    ("ENTRYPOINT", Some(&[])),
    ("ENV", Some(&[])),
    ("EXPOSE", Some(&[])),
    ("FROM", Some(&["platform"])),
    ("HEALTHCHECK", Some(&["interval", "timeout", "start-period", "start-interval", "retries"])),
    ("LABEL", Some(&[])),
    ("MAINTAINER", Some(&[])),
    ("ONBUILD", Some(&[])),
    ("RUN", Some(&["mount", "network", "security", "device"])),
    ("SHELL", Some(&[])),
    ("STOPSIGNAL", None),
    ("USER", Some(&[])),
    ("VOLUME", Some(&[])),
    ("WORKDIR", Some(&[])),
];
/// Flags that may be given without a value, as `true`.
const SWITCHES: [&str; 4] = ["link", "keep-git-dir", "unpack", "parents"];
/// Flags that may be given more than once.
const LISTS: [&str; 3] = ["exclude", "mount", "device"];

/// Reads a joined line. The error is what is wrong with it.
pub(super) fn read(line: &str, number: usize, escape: char) -> Result<Instruction, String> {
    let parts = Parts::split(line, escape);
    let name = parts.keyword.to_ascii_uppercase();
    let Some((keyword, known)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == name) else {
        return Err(format!("`{}` is not an instruction", parts.keyword));
    };
    let flags = match known {
        Some(known) => Flags::check(&parts, known)?,
        None => Flags::default(),
    };
    Ok(Instruction {
        line: number,
        text: format!("{keyword} {}", parts.rest),
        takes_heredocs: takes_heredocs(&parts, escape),
        heredocs: Vec::new(),
        body: body(keyword, &flags, parts.arguments, escape)?,
    })
}

/// A line taken apart, nothing checked.
struct Parts<'a> {
    keyword: &'a str,
    /// All behind the keyword.
    rest: &'a str,
    flags: Vec<String>,
    /// All behind the flags.
    arguments: &'a str,
}

impl Parts<'_> {
    fn split(line: &str, escape: char) -> Parts<'_> {
        let line = line.trim();
        let (keyword, rest) = line.split_once(is_blank).unwrap_or((line, ""));
        let (flags, arguments) = split_flags(rest, escape);
        Parts { keyword, rest: rest.trim(), flags, arguments: arguments.trim() }
    }
}

/// ADD, COPY and RUN do unless in the JSON form; ONBUILD as what stands behind it.
fn takes_heredocs(parts: &Parts<'_>, escape: char) -> bool {
    match parts.keyword.to_ascii_uppercase().as_str() {
        "ADD" | "COPY" | "RUN" => json(parts.arguments).is_ok_and(|words| words.is_none()),
        "ONBUILD" => {
            let trigger = Parts::split(parts.arguments, escape);
            !trigger.keyword.eq_ignore_ascii_case("ONBUILD") && takes_heredocs(&trigger, escape)
        }
        _ => false,
    }
}

fn body(keyword: &str, flags: &Flags, arguments: &str, escape: char) -> Result<Body, String> {
    if arguments.is_empty() && !matches!(keyword, "RUN" | "CMD" | "ENTRYPOINT") {
        return Err(format!("`{keyword}` needs an argument"));
    }
    let json = match keyword {
        "ADD" | "COPY" | "VOLUME" | "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => json(arguments)?,
        _ => None,
    };
    Ok(match keyword {
        "FROM" => Body::From(from(flags, arguments)?),
        "ARG" => Body::Arg(arg(arguments, escape)?),
        "ENV" => Body::Env(pairs("ENV", arguments, escape)?),
        "LABEL" => pairs("LABEL", arguments, escape).map(|_| Body::Other)?,
        "ADD" | "COPY" => {
            let words = json.unwrap_or_else(|| split_blanks(arguments));
            Body::Copy(copy(keyword, flags, words)?)
        }
        "RUN" => Body::Run(Run { mounts: flags.all("mount"), unclear: flags.unclear.clone() }),
        "ONBUILD" => Body::OnBuild(trigger(arguments)?),
        "HEALTHCHECK" => healthcheck(arguments).map(|()| Body::Other)?,
        "SHELL" if json.is_none() => return Err("`SHELL` needs a JSON array".to_owned()),
        "SHELL" | "VOLUME" if json.as_ref().is_some_and(Vec::is_empty) => {
            return Err(format!("`{keyword}` needs an argument"));
        }
        _ => Body::Other,
    })
}

fn healthcheck(arguments: &str) -> Result<(), String> {
    let (kind, rest) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(()),
        "CMD" if !rest.is_empty() => Ok(()),
        _ => Err("`HEALTHCHECK` is `NONE`, or `CMD` and a command".to_owned()),
    }
}

fn from(flags: &Flags, arguments: &str) -> Result<From, String> {
    let words = split_blanks(arguments);
    let name = match words.as_slice() {
        [_] => None,
        [_, middle, name] if middle.eq_ignore_ascii_case("as") => Some(name.to_lowercase()),
        _ => return Err("`FROM` takes an image, and a name after `AS`".to_owned()),
    };
    if let Some(name) = name.as_ref().filter(|name| !is_stage_name(name)) {
        return Err(format!("`{name}` is no name for a stage"));
    }
    Ok(From { base: words[0].clone(), name, platform: flags.one("platform") })
}

/// `[a-z][a-z0-9-_.]*`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|ch: char| ch.is_ascii_lowercase())
        && name
            .chars()
            .all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || "-_.".contains(ch))
}

fn copy(keyword: &str, flags: &Flags, mut words: Vec<String>) -> Result<Copy, String> {
    let destination = words.pop().filter(|_| !words.is_empty());
    let Some(destination) = destination else {
        return Err(format!("`{keyword}` needs a source and a destination"));
    };
    if super::parse::heredoc(&destination).is_some() {
        return Err(format!("`{keyword}` cannot copy to a heredoc"));
    }
    words.retain(|word| super::parse::heredoc(word).is_none());
    let counts =
        |name: &str| keyword == "ADD" || !matches!(name, "from" | "chown" | "chmod" | "link");
    Ok(Copy {
        is_add: keyword == "ADD",
        from: flags.one("from").filter(|name| !name.is_empty()),
        exclude: flags.all("exclude"),
        parents: flags.switch("parents"),
        sources: words,
        unclear: flags.unclear.clone(),
        checksum: flags.one("checksum").filter(|checksum| !checksum.is_empty()),
        flags_count: flags.pairs.iter().any(|(name, _)| counts(name)),
    })
}

fn trigger(arguments: &str) -> Result<String, String> {
    let keyword = arguments.split(is_blank).next().unwrap_or_default().to_ascii_uppercase();
    if matches!(keyword.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        return Err(format!("`{keyword}` cannot stand behind `ONBUILD`"));
    }
    Ok(arguments.to_owned())
}

fn arg(arguments: &str, escape: char) -> Result<Vec<Assignment>, String> {
    let mut out = Vec::new();
    for word in split_quoted(arguments, escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        if name.is_empty() {
            return Err("`ARG` needs a name before `=`".to_owned());
        }
        out.push(Assignment { name: name.to_owned(), default });
    }
    if out.is_empty() {
        return Err("`ARG` needs an argument".to_owned());
    }
    Ok(out)
}

/// `a=b c=d`, or the old form `a b c d` with one name.
fn pairs(keyword: &str, text: &str, escape: char) -> Result<Vec<(String, String)>, String> {
    let words = split_quoted(text, escape);
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (name, value) =
            text.split_once(is_blank).ok_or_else(|| format!("`{keyword}` needs a value"))?;
        return Ok(vec![(name.to_owned(), value.trim_start_matches(is_blank).to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(format!("`{keyword}` needs a name before `=`")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("`{word}` has no `=`")),
    };
    words.into_iter().map(pair).collect()
}

/// A JSON array of strings; anything that is no JSON array is `None`, other elements are an error.
fn json(arguments: &str) -> Result<Option<Vec<String>>, String> {
    if !arguments.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(arguments) else {
        return Ok(None);
    };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text),
        other => Err(format!("`{other}` is not a string; a JSON form holds only strings")),
    };
    values.into_iter().map(text).collect::<Result<_, _>>().map(Some)
}

/// Flags that were checked against those the instruction knows.
#[derive(Debug, Default)]
struct Flags {
    pairs: Vec<(String, String)>,
    /// Why the flags cannot be relied on.
    unclear: Option<String>,
}

impl Flags {
    fn check(parts: &Parts<'_>, known: &[&str]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        // BuildKit reads flags byte by byte and spoils every other character, even splits at some.
        if !parts.rest[..parts.rest.len() - parts.arguments.len()].is_ascii() {
            flags.unclear = Some("its flags are not plain ASCII".to_owned());
        }
        for word in &parts.flags {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let name = name.strip_prefix("--").unwrap_or(name);
            if !known.contains(&name) {
                return Err(format!("`--{name}` is not a flag of this instruction"));
            }
            if flags.one(name).is_some() && !LISTS.contains(&name) {
                return Err(format!("`--{name}` is given twice"));
            }
            flags.pairs.push((name.to_owned(), checked(name, value)?));
        }
        Ok(flags)
    }

    fn one(&self, name: &str) -> Option<String> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn switch(&self, name: &str) -> bool {
        self.one(name).is_some_and(|value| value == "true")
    }
}

fn checked(name: &str, value: Option<&str>) -> Result<String, String> {
    if name == "mount" && value == Some("") {
        return Err("`--mount` is empty".to_owned());
    }
    if !SWITCHES.contains(&name) {
        return value.map(str::to_owned).ok_or_else(|| format!("`--{name}` needs a value"));
    }
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true") => Ok("true".to_owned()),
        Some("false") => Ok("false".to_owned()),
        Some(other) => Err(format!("`--{name}` is true or false, not `{other}`")),
    }
}

/// The words that begin with `--` before the first argument, and the rest. `--` alone ends them.
fn split_flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_blank);
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (word, after) = flag(rest, escape);
        if word == "--" {
            return (flags, after);
        }
        flags.push(word);
        rest = after;
    }
}

fn flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match quote {
            None if is_blank(ch) => return (word, &text[at..]),
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            Some(open) if ch == open => quote = None,
            _ if ch == escape => word.extend(chars.next().map(|(_, next)| next)),
            _ => word.push(ch),
        }
    }
    (word, "")
}

/// Go's `[\t\v\f\r ]`.
fn is_blank(ch: char) -> bool {
    matches!(ch, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

fn split_blanks(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Words of ARG, ENV and LABEL: blanks inside quotes or behind an escape do not split; both are
/// kept.
fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        if quote.is_none() && ch.is_whitespace() {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            continue;
        }
        if ch == escape && quote != Some('\'') {
            if let Some(next) = chars.next() {
                word.extend([ch, next]);
            }
            continue;
        }
        match quote {
            Some(open) if ch == open => quote = None,
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            _ => {}
        }
        word.push(ch);
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_of(line: &str) -> Copy {
        match read(line, 1, '\\').unwrap().body {
            Body::Copy(copy) => copy,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sources_are_split_before_quotes_are_looked_at() {
        let table: [(&str, &[&str]); 10] = [
            ("COPY a b /x", &["a", "b"]),
            ("copy\ta  \tb\u{b}/x", &["a", "b"]),
            ("COPY \"a b\" /x", &["\"a", "b\""]),
            ("COPY ${x:-a b} /x", &["${x:-a", "b}"]),
            ("COPY [\"a b\", \"c\", \"/x\"]", &["a b", "c"]),
            ("COPY [\"\\u0061\", \"/x\"]", &["a"]),
            ("COPY ['a','b'] /x", &["['a','b']"]),
            ("COPY [abc]* /x", &["[abc]*"]),
            ("COPY a --from=b /x", &["a", "--from=b"]),
            ("COPY -- --a /x", &["--a"]),
        ];
        for (line, sources) in table {
            assert_eq!(copy_of(line).sources, sources, "{line}");
        }
    }

    #[test]
    fn flags_lose_their_quotes_and_are_checked() {
        let copy = copy_of("COPY --from='a' --exclude=a\\ b --exclude=\"c d\" --parents a /x");
        assert_eq!(copy.from.as_deref(), Some("a"));
        assert_eq!(copy.exclude, ["a b", "c d"]);
        assert!(copy.parents);
        assert!(!copy_of("COPY --parents=FALSE a /x").parents);
        assert_eq!(copy_of("COPY --from= a /x").from, None);
        assert!(copy_of("COPY --exclude=ü a /x").unclear.is_some());
        for line in [
            "COPY --what a /x",
            "COPY --from a /x",
            "COPY --from=a --from=b a /x",
            "COPY --link=maybe a /x",
            "ADD --from=a a /x",
            "ENV --x a=b",
            "COPY [1, \"/x\"]",
            "COPY [\"a\"]",
            "COPY a <<EOF",
            "FROM a AS 1b",
            "FROM a b",
            "ONBUILD FROM a",
            "ONBUILD ONBUILD RUN a",
            "VOLUME []",
            "HEALTHCHECK x",
            "ENV a",
            "ENV a=b c",
            "ARG =b",
            "SHELL bash",
            "WORKDIR",
        ] {
            assert!(read(line, 1, '\\').is_err(), "{line}");
        }
    }

    #[test]
    fn env_and_arg_words_keep_quotes_and_escapes() {
        let env = |line: &str| match read(line, 1, '\\').unwrap().body {
            Body::Env(pairs) => pairs,
            other => panic!("{other:?}"),
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(env("ENV a=b c=\"d e\""), [pair("a", "b"), pair("c", "\"d e\"")]);
        assert_eq!(env("ENV a=b\\ c d='\\'"), [pair("a", "b\\ c"), pair("d", "'\\'")]);
        assert_eq!(env("ENV a   b c"), [pair("a", "b c")]);
        assert_eq!(env("ENV a b=c"), [pair("a", "b=c")]);
    }
}
