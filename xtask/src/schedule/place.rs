//! Where work is done, if there is more than one place: home and the builders elsewhere.
//!
//! All that waits is laid out on paper, in the order of its ranks, each piece where it would be
//! over first: where it has room for as long as it is expected to take, beside what runs there and
//! what was laid there before it. Bringing what it is built on is part of that, where it is not
//! yet. What on paper starts now, starts. From this follows:
//!
//! - A heavy piece keeps its turn: a lighter one passes it only if that is expected to be over in
//!   time.
//! - Neighbours, built on the same base, gather where that is, until another place would be done
//!   sooner though the base has to be brought there.
//! - Heavy pieces go where there is memory, light ones where there are slots: what a piece leaves
//!   to nobody counts as if it took so much longer, where there is more work than room.
//! - A slow place is left to those that are done there before a fast one is free.
//!
//! The paper is made anew whenever something has ended, and every second while something waits
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
}

/// What decides where a piece of work may be done.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// What it is built on, by number: brought to a place once.
    pub bases: Vec<usize>,
    /// Where it cannot be done.
    pub barred: Vec<PlaceId>,
}

/// A piece of work as it is laid out.
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
    /// Bytes that are a slot's worth, over all places ([`fair_share`]).
    pub fair: u64,
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
            fair: 0,
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

    /// Seconds of the place that a piece of `seconds` leaves to nobody: a heavy one where memory is
    /// short leaves slots, a light one where slots are short leaves memory.
    fn waste(&self, piece: &Piece, seconds: f64) -> f64 {
        let Limits { memory, jobs } = self.place.limits;
        if self.fair == 0 || piece.weight == 0 {
            return 0.0;
        }
        let is_short_of_memory = memory < self.fair.saturating_mul(slots(jobs));
        let more = float(piece.weight) / float(self.fair) - 1.0;
        seconds * if is_short_of_memory { more } else { -more }.clamp(0.0, 1.0)
    }

    /// Bytes that a piece keeps from others: one that must be alone, all.
    fn demand(&self, piece: &Piece) -> u64 {
        let all = self.place.limits.memory.max(1);
        match piece.weight {
            0 => 0,
            _ if piece.lone => all,
            weight => weight.min(all),
        }
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

/// What runs at a place and what is going to, by expected time.
#[derive(Debug)]
pub(super) struct Paper<'a> {
    at: PlaceId,
    room: &'a Room,
    /// Nothing that weighs starts before.
    from: f64,
    now: f64,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: f64,
    end: f64,
    bytes: u64,
    is_job: bool,
}

/// Where and when a piece would be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub at: PlaceId,
    pub start: f64,
    end: f64,
    /// How many others are laid out there.
    beside: usize,
    /// Seconds that count as if it took them.
    waste: f64,
}

impl<'a> Paper<'a> {
    /// An empty one. With `refused` other runs hold what would be wanted now.
    pub(super) fn new(at: PlaceId, room: &'a Room, now: f64, refused: bool) -> Self {
        let from = if refused { now + LATER } else { now };
        Self { at, room, from, now, spans: Vec::new() }
    }

    /// `piece` has been running since `since`.
    pub(super) fn runs(&mut self, piece: &Piece, since: f64) {
        let end = since + self.room.seconds(self.at, piece);
        let late = (self.now - end).max(LATER);
        let end = end.max(self.now + late);
        self.spans.push(self.span(piece, since, end));
    }

    /// Whether something that weighs could start now.
    pub(super) fn is_open(&self) -> bool {
        let Room { place, held, jobs, lones, is_lost, .. } = self.room;
        let full = *held >= place.limits.memory.max(1) || *jobs >= place.limits.jobs.max(1);
        self.from <= self.now && !full && *lones == 0 && !is_lost
    }

    /// Where `piece` would be over first, if that is sooner than in the slot `other`.
    pub(super) fn sooner(&self, piece: &Piece, other: Option<Slot>) -> Option<Slot> {
        if !self.room.may(self.at, piece) {
            return None;
        }
        let seconds = self.room.seconds(self.at, piece);
        let waste = self.room.waste(piece, seconds);
        let from = if piece.weight > 0 { self.from } else { self.now };
        let ends = self.spans.iter().map(|span| span.end).filter(|end| *end > from);
        let mut starts: Vec<f64> = ends.chain([from]).collect();
        starts.sort_by(f64::total_cmp);
        let slot = |start| Slot {
            at: self.at,
            start,
            end: start + seconds,
            beside: self.spans.len(),
            waste,
        };
        let mut sooner = starts.into_iter().map(slot).take_while(|slot| slot.is_before(other));
        sooner.find(|slot| self.fits(&self.span(piece, slot.start, slot.end)))
    }

    /// Lays `piece` out in the slot that [`sooner`](Self::sooner) gave for it.
    pub(super) fn put(&mut self, piece: &Piece, slot: Slot) {
        self.spans.push(self.span(piece, slot.start, slot.end));
    }

    fn span(&self, piece: &Piece, start: f64, end: f64) -> Span {
        Span { start, end, bytes: self.room.demand(piece), is_job: piece.is_job }
    }

    fn fits(&self, new: &Span) -> bool {
        let Limits { memory, jobs } = self.room.place.limits;
        let begins = self.spans.iter().map(|span| span.start);
        let inside = begins.filter(|at| *at > new.start && *at < new.end);
        inside.chain([new.start]).all(|moment| {
            let there = self.spans.iter().filter(|one| one.start <= moment && moment < one.end);
            let (bytes, count) = there.fold((0u64, 0), |(bytes, count), one| {
                (bytes.saturating_add(one.bytes), count + usize::from(one.is_job))
            });
            (new.bytes == 0 || bytes.saturating_add(new.bytes) <= memory.max(1))
                && (!new.is_job || count < jobs.max(1))
        })
    }
}

/// Seconds until what was built at a place is at home.
fn way_home(at: PlaceId) -> f64 {
    if at == HOME { 0.0 } else { BRING_HOME }
}

impl Slot {
    /// When what was made is at home; later, if some of the place is wasted on it.
    fn over(&self) -> f64 {
        self.end + way_home(self.at) + self.waste
    }

    /// Sooner over; or as soon, and where less is going on.
    fn is_before(&self, other: Option<Slot>) -> bool {
        other.is_none_or(|other| (self.over(), self.beside) < (other.over(), other.beside))
    }
}

/// No schedule over these places is shorter than the longest path at the fastest of them, nor than
/// it takes to work off all bytes, where no build counts for more than `cap` of them: at any moment
/// what runs at a place counts for its memory at most, and for `cap` for each of its slots. A small
/// cap makes that a bound of slots, a large one of memory, and one between sees that a place with
/// many slots and little memory fills one of the two. `speeds` is what each place does in a second.
pub fn lower_bound_over(graph: &Graph, places: &[Place], speeds: &[f64]) -> f64 {
    longest_path(graph, speeds).max(longest_work(graph, places, speeds).0)
}

/// Bytes that are worth a slot: the cap of [`lower_bound_over`] that says most. 0 where the longest
/// path says more, so that there is enough of both.
pub(super) fn fair_share(graph: &Graph, places: &[Place]) -> u64 {
    let speeds: Vec<f64> = places.iter().map(|place| 1.0 / place.pace).collect();
    let (seconds, cap) = longest_work(graph, places, &speeds);
    if seconds > longest_path(graph, &speeds) { cap } else { 0 }
}

fn longest_path(graph: &Graph, speeds: &[f64]) -> f64 {
    let fastest = speeds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    graph.remaining().into_iter().fold(0.0, f64::max) / fastest
}

/// The longest time any cap gives, and that cap.
fn longest_work(graph: &Graph, places: &[Place], speeds: &[f64]) -> (f64, u64) {
    let builds = || graph.nodes.iter().filter(|node| node.is_job);
    let at_cap = |cap: u64| {
        let work: f64 = builds().map(|node| node.seconds * float(node.memory.min(cap))).sum();
        let bytes = |place: &Place| {
            let by_slots = cap.saturating_mul(slots(place.limits.jobs));
            float(place.limits.memory.max(place.capacity).min(by_slots))
        };
        let rate: f64 = places.iter().zip(speeds).map(|(place, speed)| bytes(place) * speed).sum();
        (if rate > 0.0 { work / rate } else { 0.0 }, cap)
    };
    let longest = builds().map(|node| at_cap(node.memory)).max_by(|a, b| a.0.total_cmp(&b.0));
    longest.unwrap_or_default()
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
