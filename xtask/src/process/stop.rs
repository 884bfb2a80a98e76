//! Stopping a run: signals become one broadcast to everything that waits.
//!
//! The first SIGINT, SIGTERM or SIGHUP asks every child to end and every wait to give up; the
//! second kills. The process still returns from `main`, so that every drop runs: stages are
//! removed, clusters taken down. The third ends it at once.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Exit;

/// The first signal that came; 0 while none has.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether the run has given up by itself.
static CANCELLED: AtomicBool = AtomicBool::new(false);
static PRESSES: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicU64 = AtomicU64::new(0);
static LISTENERS: Mutex<Vec<(u64, Listener)>> = Mutex::new(Vec::new());
static CHANGED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

type Listener = Box<dyn Fn(Urgency) + Send>;

/// How much of a hurry the user is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Ask everything to end.
    Stop,
    /// A second signal: kill.
    Kill,
}

/// Starts listening for signals; once, by `main`. Each but the last is announced to the user.
pub fn listen(announce: fn(Urgency)) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("failed to listen for signals")?;
    let heard = move || {
        for signal in signals.forever() {
            let urgency = raise(signal);
            // A terminal that takes nothing must not keep the next signal from being heard.
            std::thread::Builder::new().spawn(move || announce(urgency)).ok();
        }
    };
    std::thread::Builder::new().name("hear signals".to_owned()).spawn(heard)?;
    Ok(())
}

/// Stops the run as if `signal` had come. The third ends the process where it stands: by then
/// something waits for what never comes, and the children have been killed.
pub fn raise(signal: i32) -> Urgency {
    // The first signal is the one the exit code speaks of.
    SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).ok();
    let presses = PRESSES.fetch_add(1, Ordering::SeqCst);
    let urgency = if presses == 0 { Urgency::Stop } else { Urgency::Kill };
    tell(urgency);
    if presses >= 2 {
        let exit = crate::error::after_signal(self::signal()).unwrap_or(Exit::Terminated);
        signal_hook::low_level::exit(exit as i32);
    }
    urgency
}

/// One run of several in this process: that it gave up is forgotten when this is dropped, a signal
/// is not.
#[must_use = "the run ends when this is dropped"]
pub struct Scope(());

/// Begins a run that may [`cancel`] itself.
pub fn scope() -> Scope {
    Scope(())
}

impl Drop for Scope {
    fn drop(&mut self) {
        CANCELLED.store(false, Ordering::SeqCst);
    }
}

/// Ends everything that runs because the run has failed: what it would come to no longer counts.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
    tell(Urgency::Stop);
}

fn tell(urgency: Urgency) {
    let listeners = LISTENERS.lock();
    for (_, listener) in listeners.iter() {
        listener(urgency);
    }
    drop(CHANGED.0.lock());
    CHANGED.1.notify_all();
}

/// The signal that stopped the run, if one did.
pub fn signal() -> Option<i32> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

/// Whether the run is being stopped.
pub fn requested() -> bool {
    signal().is_some() || CANCELLED.load(Ordering::SeqCst)
}

/// An error when the run is being stopped: for loops that would start more work.
pub fn check() -> anyhow::Result<()> {
    if requested() { Err(anyhow::Error::new(Stopped)) } else { Ok(()) }
}

/// The same for loops over bytes. (Not [`std::io::ErrorKind::Interrupted`], at which such loops go
/// on.)
pub fn check_io() -> std::io::Result<()> {
    if requested() { Err(std::io::Error::other(Stopped)) } else { Ok(()) }
}

/// The run is being stopped.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped with the run")]
pub struct Stopped;

/// Waits for `time`, or less if the run is stopped meanwhile: the pause between two looks at
/// something that cannot be awaited (a Kubernetes object without a watch).
pub fn pause(time: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    let mut guard = CHANGED.0.lock();
    while !requested() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        CHANGED.1.wait_for(&mut guard, left);
    }
    check()
}

/// Calls `listener` at every signal for as long as the guard lives; at once if one has come
/// already.
pub fn on_signal(listener: impl Fn(Urgency) + Send + 'static) -> Guard {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut listeners = LISTENERS.lock();
    if requested() {
        listener(Urgency::Stop);
    }
    listeners.push((id, Box::new(listener)));
    Guard(id)
}

/// Sends `message(urgency)` at every signal for as long as the guard lives.
pub fn send_to<T: Send + 'static>(to: Sender<T>, message: fn(Urgency) -> T) -> Guard {
    on_signal(move |urgency| {
        // A receiver that is gone has nothing left to stop.
        to.send(message(urgency)).ok();
    })
}

/// Ends the listening when dropped.
#[must_use = "the listener is removed when this is dropped"]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        LISTENERS.lock().retain(|(id, _)| *id != self.0);
    }
}
