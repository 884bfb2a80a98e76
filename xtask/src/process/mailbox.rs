//! What other threads tell the owner of a child: that it has ended, that the run is being stopped.
//!
//! Flags, and a pipe with a byte in it as long as one of them has not been seen: the owner waits
//! for it together with the child's output.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, kill_process_group};

use super::stop::{self, Urgency};

#[derive(Debug)]
pub(super) struct Mailbox {
    wake: PipeWriter,
    pub(super) child_ended: AtomicBool,
    pub(super) stop: AtomicBool,
    /// Its owner has no more use for it.
    pub(super) end: AtomicBool,
    /// The child's process group, until the child is reaped: after that the number may be
    /// another's.
    group: Mutex<Option<Pid>>,
}

impl Mailbox {
    /// With what its owner waits on.
    pub(super) fn new(group: Pid) -> std::io::Result<(Arc<Self>, PipeReader)> {
        let (woken, wake) = std::io::pipe()?;
        rustix::io::ioctl_fionbio(&wake, true)?;
        rustix::io::ioctl_fionbio(&woken, true)?;
        let mailbox = Self {
            wake,
            child_ended: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            end: AtomicBool::new(false),
            group: Mutex::new(Some(group)),
        };
        Ok((Arc::new(mailbox), woken))
    }

    /// Raises one of the flags and wakes the owner.
    pub(super) fn post(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
        // A pipe that is full wakes as well.
        (&self.wake).write_all(b"!").ok();
    }

    /// Empties the pipe; flags are looked at after this.
    pub(super) fn empty(mut woken: &PipeReader) {
        let mut bytes = [0; 64];
        while woken.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }

    /// Signals the child's whole process group, unless the child is reaped.
    pub(super) fn signal_group(&self, signal: Signal) {
        if let Some(group) = *self.group() {
            // The group may be gone already; then there is nothing to end.
            kill_process_group(group, signal).ok();
        }
    }

    /// The child is about to be reaped: whoever is left of its group is killed while the number is
    /// still its own.
    pub(super) fn close(&self) {
        if let Some(group) = self.group().take() {
            kill_process_group(group, Signal::KILL).ok();
        }
    }

    fn group(&self) -> MutexGuard<'_, Option<Pid>> {
        self.group.lock()
    }

    /// Takes signals for as long as the guard lives. A second one kills, whatever the owner is busy
    /// with.
    pub(super) fn listen(mailbox: &Arc<Self>) -> stop::Guard {
        let mailbox = Arc::clone(mailbox);
        stop::on_signal(move |urgency| match urgency {
            Urgency::Stop => mailbox.post(&mailbox.stop),
            Urgency::Kill => mailbox.signal_group(Signal::KILL),
        })
    }
}
