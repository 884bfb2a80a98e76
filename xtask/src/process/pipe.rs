//! The standard output or input of a child in the hands of another thread than its owner's.
//!
//! Both give up when the child is over, though a process that outlives it may hold the other end:
//! what the pipe held by then is still read, and nobody is left to write for.

use std::io::{ErrorKind, PipeReader, Read, Result, Write};
use std::os::fd::AsFd as _;
use std::process::{ChildStdin, ChildStdout};

use rustix::event::PollFlags;

use super::child::ready;

/// What a child writes.
pub(super) struct Source {
    stdout: ChildStdout,
    over: PipeReader,
    /// Bytes left in the pipe when the child was over.
    left: Option<u64>,
    /// Its end was seen.
    pub(super) ended: bool,
}

impl Source {
    pub(super) fn new(stdout: ChildStdout, over: PipeReader) -> Self {
        Self { stdout, over, left: None, ended: false }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.left.is_none() {
            let stdout = Some((self.stdout.as_fd(), PollFlags::IN));
            let over = Some((self.over.as_fd(), PollFlags::IN));
            match ready([stdout, over], None)? {
                [_, true] => self.left = Some(rustix::io::ioctl_fionread(&self.stdout)?),
                [true, false] => break,
                [false, false] => {}
            }
        }
        let most = self.left.map_or(buffer.len(), |left| {
            buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        // At the end of what counts nothing is asked for, since that could block.
        let read = if most == 0 { 0 } else { self.stdout.read(&mut buffer[..most])? };
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(read as u64);
        }
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

/// What a child reads.
pub(super) struct Feed {
    stdin: ChildStdin,
    over: PipeReader,
}

impl Feed {
    pub(super) fn new(stdin: ChildStdin, over: PipeReader) -> Result<Self> {
        // Our end alone; the child's still blocks.
        rustix::io::ioctl_fionbio(&stdin, true)?;
        Ok(Self { stdin, over })
    }
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            let stdin = Some((self.stdin.as_fd(), PollFlags::OUT));
            let over = Some((self.over.as_fd(), PollFlags::IN));
            match ready([stdin, over], None)? {
                [_, true] => return Err(ErrorKind::BrokenPipe.into()),
                [true, false] => match self.stdin.write(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    written => return written,
                },
                [false, false] => {}
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
