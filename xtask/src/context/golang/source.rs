//! What one Go file says of the files it needs: its imports and its `//go:embed` patterns.
//!
//! Up to its last import a file is comments, `package NAME` and import declarations; the first
//! other word ends them. Build tags are not looked at: a file counts on every platform.
//! `//go:embed` means something only in files that import `embed`, so only those are read to their
//! end.

use std::collections::BTreeSet;

/// What a file needs of others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub imports: BTreeSet<String>,
    /// As written, `all:` included.
    pub embeds: Vec<String>,
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a [u8]),
    Text(&'a str),
    Sign(u8),
}

/// Reads a Go file; none if it is not one.
pub(super) fn read(text: &[u8]) -> Option<Source> {
    let imports = imports(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))?;
    let embeds = if imports.contains("embed") { embeds(text)? } else { Vec::new() };
    Some(Source { imports, embeds })
}

fn imports(text: &[u8]) -> Option<BTreeSet<String>> {
    let mut rest = text;
    let rest = &mut rest;
    let (Token::Word(b"package"), Token::Word(_)) = (token(rest)??, token(rest)??) else {
        return None;
    };
    let mut imports = BTreeSet::new();
    while let Some(Token::Word(b"import")) = token(rest).unwrap_or_default() {
        let first = token(rest)??;
        if !matches!(first, Token::Sign(b'(')) {
            imports.insert(import(first, rest)?);
            continue;
        }
        loop {
            match token(rest)?? {
                Token::Sign(b')') => break,
                first => imports.insert(import(first, rest)?),
            };
        }
    }
    Some(imports)
}

/// `"path"`, `name "path"`, `. "path"` or `_ "path"`, from its first token on.
fn import(first: Token, rest: &mut &[u8]) -> Option<String> {
    match first {
        Token::Text(path) => Some(path.to_owned()),
        Token::Word(_) | Token::Sign(b'.') => match token(rest)?? {
            Token::Text(path) => Some(path.to_owned()),
            _ => None,
        },
        Token::Sign(_) => None,
    }
}

/// The next token; none inside at the end of the file, none outside where a string or comment has
/// no end.
#[expect(clippy::option_option, reason = "`??` then asks for a token where there must be one")]
fn token<'a>(rest: &mut &'a [u8]) -> Option<Option<Token<'a>>> {
    skip_blank(rest)?;
    let Some(first) = rest.first() else { return Some(None) };
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    if in_word(first) {
        let end = rest.iter().position(|byte| !in_word(byte)).unwrap_or(rest.len());
        return Some(Some(Token::Word(take(rest, end))));
    }
    let sign = take(rest, 1)[0];
    if sign != b'"' && sign != b'`' {
        return Some(Some(Token::Sign(sign)));
    }
    let end = rest.iter().position(|byte| *byte == sign)?;
    let text = std::str::from_utf8(take(rest, end)).ok()?;
    take(rest, 1);
    let plain = !text.contains(['\\', '\n']);
    plain.then_some(Some(Token::Text(text)))
}

/// Skips white space, semicolons and comments.
fn skip_blank(rest: &mut &[u8]) -> Option<()> {
    loop {
        match rest {
            [b' ' | b'\t' | b'\r' | b'\n' | b';', ..] => drop(take(rest, 1)),
            [b'/', b'/', ..] => {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                take(rest, end);
            }
            [b'/', b'*', ..] => {
                let end = rest[2..].windows(2).position(|pair| pair == b"*/")?;
                take(rest, end + 4);
            }
            _ => return Some(()),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

/// Patterns of all that looks like a directive, in a comment or a string too: too many do no harm.
fn embeds(text: &[u8]) -> Option<Vec<String>> {
    let mut patterns = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let Some((_, args)) = line.split_once("//go:embed") else { continue };
        if args.starts_with([' ', '\t']) {
            patterns.extend(quoted_words(args)?);
        }
    }
    Some(patterns)
}

/// Words, each plain, `"quoted"` or `` `quoted` ``; none if a quote has no end or holds a `\`.
pub(super) fn quoted_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word;
        (word, rest) = if first == '"' || first == '`' {
            let (word, rest) = rest[1..].split_once(first)?;
            if first == '"' && word.contains('\\') {
                return None;
            }
            (word, rest)
        } else {
            rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()))
        };
        words.push(word.to_owned());
        rest = rest.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_read_in_all_their_forms() {
        let cases: [(&str, Option<&[&str]>); 16] = [
            ("package a", Some(&[])),
            ("package a\nimport \"x\"", Some(&["x"])),
            ("package a; import \"x\"; import `y/z`; var s = \"import\"", Some(&["x", "y/z"])),
            (
                "package a\nimport (\n\tn \"x\" // why\n\t. \"y\"\n\t_ \"z\"\n)\n",
                Some(&["x", "y", "z"]),
            ),
            ("package a\nimport (\"x\"; \"y\")\nimport()\nimport \"z\"", Some(&["x", "y", "z"])),
            ("package a\n/*\n#include <x.h>\n*/\nimport \"C\"\nimport \"x\"", Some(&["C", "x"])),
            ("// import \"no\"\n/* package b */package a // x\nimport ñ \"x\"", Some(&["x"])),
            ("\u{feff}//go:build ignore\n\npackage a\r\nimport \"x\"\r\n", Some(&["x"])),
            ("package a\nfunc f() {}\nimport \"late\"", Some(&[])),
            ("package a\nvar s = \"unended", Some(&[])),
            ("package a\nimport \"x\" /* unended", Some(&["x"])),
            ("", None),
            ("{{ .Header }}\npackage a", None),
            ("package a\nimport \"x\\ty\"", None),
            ("package a\nimport (\n\"x\"", None),
            ("package a\nimport x y", None),
        ];
        for (text, expected) in cases {
            let read = read(text.as_bytes()).map(|source| source.imports);
            let expected = expected.map(|all| all.iter().map(ToString::to_string).collect());
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn embed_patterns_are_those_of_files_that_import_embed() {
        let file = |import: &str| {
            format!(
                "package a\nimport {import}\n//go:embed a.txt  \"b c\"\t`d`\nvar x string\n\
                 var (\n\t//go:embed all:e\n\ty embed.FS\n)\n//go:embedded no\n"
            )
        };
        let embeds = |import| read(file(import).as_bytes()).unwrap().embeds;
        assert_eq!(embeds("_ \"embed\""), ["a.txt", "b c", "d", "all:e"]);
        assert!(embeds("\"fmt\"").is_empty());
        assert_eq!(read(b"package a\nimport \"embed\"\n//go:embed \"open\nvar x string"), None);
    }
}
