//! The output of a child, line by line: to its log, to the end that an error carries, to its owner.
//!
//! A line is held up to [`LINE`] bytes; the rest of a longer one goes to the log alone, and is
//! counted. So a child that never prints a newline takes no memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;

use super::Answer;
use super::child::Stream;

/// Longest line an owner is given, in bytes.
const LINE: usize = 64 << 10;

/// Lines of output an error carries, and the longest of them.
pub(super) const TAIL: usize = 20;
const TAIL_LINE: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Lines {
    log: Option<File>,
    stdout: Line,
    stderr: Line,
    pub(super) tail: VecDeque<String>,
    /// What the child has yet to print.
    pub(super) awaited: Option<Answer>,
}

/// A line whose end has not come yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// Bytes after those: in the log only.
    beyond: u64,
}

impl Lines {
    pub(super) fn new(log: Option<File>, awaited: Option<Answer>) -> Self {
        let (stdout, stderr) = (Line::default(), Line::default());
        Self { log, stdout, stderr, tail: VecDeque::new(), awaited }
    }

    /// Takes what has been read of a stream.
    pub(super) fn take(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        on_line: &mut dyn FnMut(Stream, &[u8]),
    ) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(text) => {
                    self.add(stream, text);
                    self.end_line(stream, on_line);
                }
                None => self.add(stream, piece),
            }
        }
    }

    /// A stream is at its end: what came after the last newline is a line, too.
    pub(super) fn finish(&mut self, stream: Stream, on_line: &mut dyn FnMut(Stream, &[u8])) {
        if !self.line(stream).bytes.is_empty() {
            self.end_line(stream, on_line);
        }
    }

    /// Adds a line of our own to log and tail.
    pub(super) fn remark(&mut self, text: String) {
        self.log(text.as_bytes());
        self.log(b"\n");
        self.keep(text);
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn add(&mut self, stream: Stream, text: &[u8]) {
        let line = self.line(stream);
        let (held, rest) = text.split_at(text.len().min(LINE - line.bytes.len()));
        line.bytes.extend_from_slice(held);
        if rest.is_empty() {
            return;
        }
        let start = (line.beyond == 0).then(|| line.bytes.clone());
        line.beyond += rest.len() as u64;
        if let Some(start) = start {
            self.log(&start);
        }
        self.log(rest);
    }

    fn end_line(&mut self, stream: Stream, on_line: &mut dyn FnMut(Stream, &[u8])) {
        let mut line = std::mem::take(self.line(stream));
        if line.beyond == 0 {
            line.bytes.push(b'\n');
            self.log(&line.bytes);
            line.bytes.pop();
        } else {
            self.log(b"\n");
            line.bytes.extend(format!("… ({} more bytes)", line.beyond).into_bytes());
        }
        let text = String::from_utf8_lossy(&line.bytes);
        self.awaited = self.awaited.filter(|answer| !(answer.is)(&text));
        self.keep(shortened(&text));
        on_line(stream, &line.bytes);
        // Its memory serves the next line.
        line.bytes.clear();
        *self.line(stream) = Line { beyond: 0, ..line };
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn log(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            // A full disk must not end a child that may succeed without its log.
            log.write_all(bytes).ok();
        }
    }
}

fn shortened(line: &str) -> String {
    if line.len() <= TAIL_LINE {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(TAIL_LINE);
    format!("{}… ({} more bytes)", &line[..end], line.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_were_read_and_the_log_has_every_byte() {
        let long = "x".repeat(3 * LINE);
        let text = format!("one\n\n{long}\nlast");
        for size in [1, 7, 4096, text.len()] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut lines = Lines::new(Some(file.reopen().unwrap()), None);
            let mut seen = Vec::new();
            let mut on_line = |_, line: &[u8]| seen.push(String::from_utf8(line.to_vec()).unwrap());
            for chunk in text.as_bytes().chunks(size) {
                lines.take(Stream::Stdout, chunk, &mut on_line);
            }
            lines.finish(Stream::Stdout, &mut on_line);
            let cut = format!("{}… ({} more bytes)", &long[..LINE], 2 * LINE);
            assert_eq!(seen, ["one", "", &cut, "last"]);
            assert_eq!(fs_err::read_to_string(file.path()).unwrap(), format!("{text}\n"));
            assert!(lines.tail.iter().all(|line| line.len() < TAIL_LINE + 40));
        }
    }

    #[test]
    fn streams_do_not_run_into_each_other() {
        let mut lines = Lines::new(None, None);
        let mut seen = Vec::new();
        let mut on_line = |stream, line: &[u8]| seen.push((stream, line.to_vec()));
        lines.take(Stream::Stdout, b"a", &mut on_line);
        lines.take(Stream::Stderr, b"b\n", &mut on_line);
        lines.take(Stream::Stdout, b"c\n", &mut on_line);
        assert_eq!(seen, [(Stream::Stderr, b"b".to_vec()), (Stream::Stdout, b"ac".to_vec())]);
    }
}
