//! The instructions of a Dockerfile as they stand in its text, whatever its target reads.

use super::{Fault, decode, parse};

/// An instruction, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The line it begins on, from 1.
    pub line: usize,
    /// The keyword in capitals, one blank, the rest as joined: comments and line breaks are gone.
    /// Bytes that are no UTF-8 are characters of the last private plane.
    pub text: String,
    /// The byte behind its keyword; none if the keyword itself is broken over lines.
    pub keyword_end: Option<usize>,
}

impl Span {
    /// The keyword, in capitals.
    pub fn keyword(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }
}

/// The instructions in their order. Errors are all the lines that are none.
pub fn instructions(text: &[u8]) -> Result<Vec<Span>, Vec<Fault>> {
    let file = parse::parse(&decode(text))?;
    let mut starts = vec![0];
    starts
        .extend(text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    let spans = file.instructions.into_iter().map(|instruction| {
        let (line, text_of_line) = (instruction.line, &text[starts[instruction.line - 1]..]);
        let mut span = Span { line, text: instruction.text, keyword_end: None };
        let rest = text_of_line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text_of_line);
        let skipped = text_of_line.len() - rest.trim_ascii_start().len();
        let keyword = span.keyword().len();
        let begins = rest.trim_ascii_start().get(..keyword);
        if begins.is_some_and(|begins| begins.eq_ignore_ascii_case(span.keyword().as_bytes())) {
            span.keyword_end = Some(starts[line - 1] + skipped + keyword);
        }
        span
    });
    Ok(spans.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_by_their_bytes() {
        let text = b"\xef\xbb\xbfFROM a\n# \xfc\n  run x \\\n # c\n  && y\nRU\\\nN z\nRUN <<E\nRUN no\nE\n";
        let found = instructions(text).unwrap();
        let rows: Vec<_> = found.iter().map(|span| (span.line, span.keyword())).collect();
        assert_eq!(rows, [(1, "FROM"), (3, "RUN"), (6, "RUN"), (8, "RUN")]);
        let ends = found.iter().map(|span| span.keyword_end.map(|end| &text[end - 3..end]));
        assert_eq!(ends.collect::<Vec<_>>(), [Some(&b"ROM"[..]), Some(b"run"), None, Some(b"RUN")]);
        assert_eq!(found[1].text, "RUN x   && y");
        assert_eq!(instructions(b"FROM a\nNONE b\n").unwrap_err()[0].line, 2);
    }
}
