//! Where work is done, if there is more than one place: home and the builders elsewhere.
//!
//! Each piece that is ready goes, in the order of the ranks, to the place where it would be over
//! first. If that place has no room yet, the piece waits for it, and what comes after it reckons
//! with the seconds that it will take there. Bringing what it is built on is part of its time,
//! where that is not yet: so neighbours, built on the same base, gather where it is, until another
//! place would be done sooner though the base has to be brought there. A slow place is left to
//! those that are done there before a fast one is free. A lighter piece may pass a heavy one that
//! waits, but only so often.
//!
//! All of it is reckoned anew whenever something has ended, and every second while something waits
//! though there is room, so a guess that was wrong is mended at the next look. What is late is
//! taken to be as late again.
//!
//! How fast a place is beside the others is known from earlier runs, and learned: of a place that
//! ended what was expected to take `e` seconds in `t`, and was known to take `p` times as long as
//! others, `(t + B p f) / (e + B)` is believed, where `f` is the same fraction over all places (all
//! of them may be slower today) and `B` is [`BELIEF`]. Nothing is learned from what nobody knew the
//! time of.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::order::Limits;

/// A place by its number.
pub type PlaceId = usize;

/// This machine's own engine. What is no build is done here.
pub const HOME: PlaceId = 0;

/// Seconds it takes to bring a base to a place: 4.3 were measured for 76 MB, on one machine.
const BRING: f64 = 5.0;
/// Seconds it takes to bring home what was built elsewhere.
const BRING_HOME: f64 = 3.0;
/// Seconds every place is taken to have behind it at the pace it is known for, so that one build
/// teaches little.
const BELIEF: f64 = 60.0;
/// Seconds until it is looked again whether other runs have left room.
const LATER: f64 = 1.0;

/// A machine that builds.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub limits: Limits,
    /// Bytes that a piece of work may have that is alone there.
    pub capacity: u64,
    /// How long the same work takes there beside other places; 1 if nothing is known.
    pub pace: f64,
}

impl Place {
    /// One of which no more is known.
    pub const fn new(limits: Limits, capacity: u64) -> Self {
        Self { limits, capacity, pace: 1.0 }
    }

    /// One where a piece of any size may run alone.
    pub(super) const fn whole(limits: Limits) -> Self {
        Self::new(limits, u64::MAX)
    }
}

/// What decides where a piece of work may be done.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// What it is built on, by number: brought to a place once.
    pub bases: Vec<usize>,
    /// Where it cannot be done.
    pub barred: Vec<PlaceId>,
}

/// A piece of work as it is placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    /// None: home only.
    pub roams: Option<&'a Placement>,
    /// Bytes.
    pub weight: u64,
    pub is_job: bool,
    pub lone: bool,
    /// Expected, anywhere.
    pub seconds: f64,
}

/// A place in use.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub place: Place,
    /// Bytes.
    pub held: u64,
    pub jobs: usize,
    /// Pieces that run and must be alone: one, and any that weigh nothing.
    lones: usize,
    pub is_lost: bool,
    bases: BTreeSet<usize>,
    ended: Ended,
    /// What is believed: seconds taken for one that was expected.
    pub pace: f64,
}

/// Seconds of all that ended at a place: expected, and taken.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    expected: f64,
    took: f64,
}

impl Room {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            held: 0,
            jobs: 0,
            lones: 0,
            is_lost: false,
            bases: BTreeSet::new(),
            ended: Ended::default(),
            pace: place.pace,
        }
    }

    pub(super) fn has_memory(&self, weight: u64, lone: bool) -> bool {
        weight == 0
            || self.held == 0
            || (!lone
                && self.lones == 0
                && self.held.saturating_add(weight) <= self.place.limits.memory)
    }

    pub(super) fn has_slot(&self, is_job: bool) -> bool {
        !is_job || self.jobs < self.place.limits.jobs.max(1)
    }

    pub(super) fn fits(&self, piece: &Piece) -> bool {
        self.has_memory(piece.weight, piece.lone) && self.has_slot(piece.is_job)
    }

    pub(super) fn take(&mut self, piece: &Piece) {
        self.held += piece.weight;
        self.jobs += usize::from(piece.is_job);
        self.lones += usize::from(piece.lone);
        self.bases.extend(piece.roams.iter().flat_map(|roams| &roams.bases));
    }

    pub(super) fn free(&mut self, piece: &Piece) {
        self.held -= piece.weight;
        self.jobs -= usize::from(piece.is_job);
        self.lones -= usize::from(piece.lone);
    }

    /// A piece that was expected to take `expected` seconds has taken `took`, its way home
    /// included.
    pub(super) fn learn(&mut self, at: PlaceId, expected: f64, took: f64) {
        self.ended.expected += expected + way_home(at);
        self.ended.took += took;
    }

    /// Whether a piece may be done at this place, be there room now or not.
    pub(super) fn may(&self, at: PlaceId, piece: &Piece) -> bool {
        match piece.roams {
            _ if self.is_lost => false,
            None => at == HOME,
            Some(roams) => !roams.barred.contains(&at) && piece.weight <= self.place.capacity,
        }
    }

    /// Seconds that a piece holds the place.
    fn seconds(&self, at: PlaceId, piece: &Piece) -> f64 {
        let missing = |base: &&usize| at != HOME && !self.bases.contains(base);
        let bases = piece.roams.iter().flat_map(|roams| &roams.bases).filter(missing);
        let pace = if piece.is_job { self.pace } else { 1.0 };
        piece.seconds * pace + bases.map(|_| BRING).sum::<f64>()
    }

    /// How much of the place a piece takes while it runs there, of one.
    fn share(&self, piece: &Piece) -> f64 {
        let Limits { memory, jobs } = self.place.limits;
        let of_slots = if piece.is_job { 1.0 / float(slots(jobs)) } else { 0.0 };
        let of_memory = float(piece.weight) / float(memory.max(1));
        let share = if piece.lone { 1.0 } else { of_slots.max(of_memory) };
        share.min(1.0)
    }
}

/// Works what has ended into what is believed of each place; gives back how slow all are today.
pub(super) fn believe(rooms: &mut [Room]) -> f64 {
    let expected: f64 = rooms.iter().map(|room| room.ended.expected).sum();
    let took: f64 = rooms.iter().map(|room| room.ended.took / room.place.pace).sum();
    let today = (took + BELIEF) / (expected + BELIEF);
    for room in rooms {
        let Ended { expected, took } = room.ended;
        room.pace = (took + BELIEF * room.place.pace * today) / (expected + BELIEF);
    }
    today
}

/// What a place is expected to do next.
#[derive(Debug)]
pub(super) struct Forecast<'a> {
    at: PlaceId,
    room: &'a Room,
    now: f64,
    /// Other runs hold what would be wanted now.
    refused: bool,
    /// What runs there, and when it is expected to end.
    running: Vec<(f64, Piece<'a>)>,
    /// Seconds of the whole place that those will take that wait for it.
    backlog: f64,
}

/// When a piece would be over at a place, and whether it could begin there now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub at: PlaceId,
    pub is_open: bool,
    over: f64,
    /// How many others run there.
    beside: usize,
}

impl<'a> Forecast<'a> {
    pub(super) fn new(at: PlaceId, room: &'a Room, now: f64, refused: bool) -> Self {
        Self { at, room, now, refused, running: Vec::new(), backlog: 0.0 }
    }

    /// `piece` has been running since `since`.
    pub(super) fn runs(&mut self, piece: Piece<'a>, since: f64) {
        let end = since + self.room.seconds(self.at, &piece);
        let late = (self.now - end).max(LATER);
        self.running.push((end.max(self.now + late), piece));
        self.running.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// Whether something that weighs could start now.
    pub(super) fn is_open(&self) -> bool {
        let Room { place, held, jobs, lones, is_lost, .. } = self.room;
        let full = *held >= place.limits.memory.max(1) || *jobs >= place.limits.jobs.max(1);
        !self.refused && !full && *lones == 0 && !is_lost
    }

    /// When `piece` would be over here; none if it may not be done here.
    pub(super) fn choice(&self, piece: &Piece) -> Option<Choice> {
        if !self.room.may(self.at, piece) {
            return None;
        }
        let is_open = !(self.refused && piece.weight > 0) && self.room.fits(piece);
        let start = match () {
            () if is_open => self.now,
            // Only another run's memory is in the way.
            () if self.room.fits(piece) => self.now + LATER,
            () => self.free_at(piece),
        };
        let seconds = self.room.seconds(self.at, piece) + way_home(self.at);
        let over = start + self.backlog + seconds;
        Some(Choice { at: self.at, is_open, over, beside: self.running.len() })
    }

    /// When the place has room for `piece`, if nothing else begins there.
    fn free_at(&self, piece: &Piece) -> f64 {
        let mut room = self.room.clone();
        for (end, running) in &self.running {
            room.free(running);
            if room.fits(piece) {
                return *end;
            }
        }
        self.now + LATER
    }

    /// `piece` waits for room here.
    pub(super) fn awaits(&mut self, piece: &Piece) {
        self.backlog += self.room.seconds(self.at, piece) * self.room.share(piece);
    }
}

impl Choice {
    /// Sooner over than the other; or as soon, and where less is going on.
    pub(super) fn is_before(&self, other: Option<Choice>) -> bool {
        other.is_none_or(|other| (self.over, self.beside) < (other.over, other.beside))
    }
}

/// Seconds until what was built at a place is at home.
fn way_home(at: PlaceId) -> f64 {
    if at == HOME { 0.0 } else { BRING_HOME }
}

/// No schedule over these places is shorter than the longest path at the fastest of them, nor than
/// it takes to work off all bytes, where no build counts for more than `cap` of them: at any moment
/// what runs at a place counts for its memory at most, and for `cap` for each of its slots. A small
/// cap makes that a bound of slots, a large one of memory, and one between sees that a place with
/// many slots and little memory fills one of the two. `speeds` is what each place does in a second.
pub fn lower_bound_over(graph: &Graph, places: &[Place], speeds: &[f64]) -> f64 {
    longest_path(graph, speeds).max(longest_work(graph, places, speeds))
}

fn longest_path(graph: &Graph, speeds: &[f64]) -> f64 {
    let fastest = speeds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    graph.remaining().into_iter().fold(0.0, f64::max) / fastest
}

/// The longest time any cap gives.
fn longest_work(graph: &Graph, places: &[Place], speeds: &[f64]) -> f64 {
    let builds = || graph.nodes.iter().filter(|node| node.is_job);
    let at_cap = |cap: u64| {
        let work: f64 = builds().map(|node| node.seconds * float(node.memory.min(cap))).sum();
        let bytes = |place: &Place| {
            let by_slots = cap.saturating_mul(slots(place.limits.jobs));
            float(place.limits.memory.max(place.capacity).min(by_slots))
        };
        let rate: f64 = places.iter().zip(speeds).map(|(place, speed)| bytes(place) * speed).sum();
        if rate > 0.0 { work / rate } else { 0.0 }
    };
    builds().map(|node| at_cap(node.memory)).fold(0.0, f64::max)
}

fn slots(jobs: usize) -> u64 {
    u64::try_from(jobs.max(1)).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
