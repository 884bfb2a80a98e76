//! The running order: a state machine that says what may start, given what has ended.
//!
//! Rules, in this order:
//! 1. Nothing starts before all it needs has ended well; if one of them failed, it never starts.
//! 2. The bytes of everything that runs stay within the budget. A node above the whole budget runs
//!    when nothing else holds memory, and while it runs nothing that weighs anything starts. So
//!    does a node that is run again ([`Scheduler::again`]): it was killed beside others.
//! 3. Of what may start, the node with the longest remaining path goes first.
//! 4. A node that does not fit lets smaller ones pass, but only so often ([`PATIENCE`]): then
//!    nothing that weighs anything starts until it fits. So none waits for ever.
//!
//! A node with a prelude runs that first, with little memory and no job slot; what comes of it says
//! whether the node itself is still to be run ([`Scheduler::go_on`]) and then waits for its room
//! like any other.
//!
//! With several places rules 2 to 4 hold at each of them, and [`super::place`] says who goes where.
//! What ran at a place that is lost waits again; what no place is left for is given up
//! ([`State::Stranded`]).
//!
//! Pure: time is whatever the caller says it is, and of no account where there is one place.

use std::fmt;

use super::graph::{Graph, NodeId};
use super::place::{Choice, Forecast, HOME, Piece, Place, PlaceId, Room, believe};

/// How many lighter nodes may start ahead of one that waits for memory.
const PATIENCE: usize = 8;

/// How many nodes are placed at most: the rest is far from its turn.
const AHEAD: usize = 100;

/// What keeps a node waiting that has all it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// Room on a builder.
    Builder,
    Memory,
    Slot,
    /// Nothing but its turn.
    Turn,
    /// Memory that another run holds: who does.
    Held(String),
}

impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scarce::Builder => "room on a builder",
            Scarce::Memory => "memory",
            Scarce::Slot => "a free job slot",
            Scarce::Turn => "its turn",
            Scarce::Held(holder) => holder,
        })
    }
}

/// What runs, what waits, what is over.
#[derive(Debug)]
pub struct Scheduler<'a> {
    graph: &'a Graph,
    /// Where nodes run is to be chosen.
    is_spread: bool,
    rooms: Vec<Room>,
    /// Of nodes that may start, the one with the largest goes first: seconds to the end of the
    /// longest path that it begins.
    ranks: Vec<f64>,
    states: Vec<State>,
    passed: Vec<usize>,
    /// Bytes each node holds while it runs.
    weights: Vec<u64>,
    /// Whether it is run again, and so alone.
    lone: Vec<bool>,
    /// Whether what is run next of it is its prelude.
    preludes: Vec<bool>,
    /// Where each node that runs does so, and since when.
    places: Vec<(PlaceId, f64)>,
}

/// Caps on what runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    /// Nodes that compute ([`super::Node::is_job`]).
    pub jobs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    Done,
    Failed,
    /// Will never start: something it needs failed, or the run gave up.
    Skipped,
    /// Will never start: there is no place that has room for it, or none any more.
    Stranded,
}

impl<'a> Scheduler<'a> {
    /// An order over `places`, the first of which is [`HOME`].
    pub fn new(graph: &'a Graph, places: &[Place]) -> Self {
        let count = graph.nodes.len();
        let mut order = Self {
            graph,
            is_spread: graph.nodes.iter().any(|node| node.roams.is_some()),
            rooms: places.iter().copied().map(Room::new).collect(),
            ranks: graph.remaining(),
            states: vec![State::Waiting; count],
            passed: vec![0; count],
            weights: graph.nodes.iter().map(|node| node.memory).collect(),
            lone: vec![false; count],
            preludes: vec![false; count],
            places: vec![(HOME, 0.0); count],
        };
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Some(memory) = node.prelude {
                order.weights[id] = memory;
                order.preludes[id] = true;
            }
        }
        order.strand();
        order
    }

    pub fn state(&self, node: NodeId) -> State {
        self.states[node]
    }

    /// Bytes held by what runs at a place.
    pub fn held(&self, place: PlaceId) -> u64 {
        self.rooms[place].held
    }

    /// Nodes that compute and run at a place.
    pub fn jobs(&self, place: PlaceId) -> usize {
        self.rooms[place].jobs
    }

    /// Bytes `node` holds while it runs.
    pub fn weight(&self, node: NodeId) -> u64 {
        self.weights[node]
    }

    /// Whether `node` is run again.
    pub fn is_again(&self, node: NodeId) -> bool {
        self.lone[node]
    }

    /// Whether what is run of `node` is its prelude.
    pub fn is_prelude(&self, node: NodeId) -> bool {
        self.preludes[node]
    }

    /// How long each place takes beside the others, as it is believed now.
    pub fn paces(&self) -> Vec<f64> {
        let mut rooms = self.rooms.clone();
        let today = believe(&mut rooms);
        rooms.iter().map(|room| room.pace / today).collect()
    }

    /// Whether something waits that might be done sooner than was expected.
    pub fn is_choosy(&self) -> bool {
        self.is_spread && (0..self.states.len()).any(|node| self.is_ready(node))
    }

    /// Whether nothing that weighs anything may run beside `node` at that place.
    pub fn is_alone(&self, node: NodeId, place: PlaceId) -> bool {
        self.lone[node] || self.weights[node] > self.rooms[place].place.limits.memory
    }

    pub fn is_over(&self) -> bool {
        self.states.iter().all(|state| !matches!(state, State::Waiting | State::Running))
    }

    /// The node to [`begin`](Self::begin) next and where, if one may at `now`, in seconds. Where it
    /// is `refused`, only one that holds no memory.
    pub fn next(&self, now: f64, refused: &[bool]) -> Option<(NodeId, PlaceId)> {
        if self.is_spread {
            return self.next_anywhere(now, refused);
        }
        self.next_at_home(!refused[HOME]).map(|node| (node, HOME))
    }

    fn next_at_home(&self, weighing: bool) -> Option<NodeId> {
        let ready = self.ready();
        let impatient = |node: &NodeId| self.passed[*node] >= PATIENCE && !self.fits(*node);
        let light_only = !weighing || ready.iter().any(impatient);
        let may = |node: &NodeId| self.fits(*node) && (!light_only || self.weights[*node] == 0);
        ready.into_iter().find(may)
    }

    fn next_anywhere(&self, now: f64, refused: &[bool]) -> Option<(NodeId, PlaceId)> {
        let ready = self.ready();
        let free = |node: &NodeId| self.weights[*node] == 0 && !self.is_job(*node);
        if let Some(node) = ready.iter().copied().find(free) {
            return Some((node, HOME));
        }
        let mut forecasts = self.forecasts(now, refused);
        if !forecasts.iter().any(Forecast::is_open) {
            return None;
        }
        // Where a node waits that was passed often enough, nothing that weighs begins before it.
        let mut is_closed = vec![false; forecasts.len()];
        for node in ready.into_iter().take(AHEAD) {
            let piece = self.piece(node);
            let choices = forecasts.iter().filter_map(|forecast| forecast.choice(&piece));
            let best = choices.fold(
                None,
                |best: Option<Choice>, choice| {
                    if choice.is_before(best) { Some(choice) } else { best }
                },
            );
            match best {
                Some(Choice { at, is_open: true, .. }) if !is_closed[at] => {
                    return Some((node, at));
                }
                Some(Choice { at, .. }) => {
                    forecasts[at].awaits(&piece);
                    is_closed[at] |= self.passed[node] >= PATIENCE;
                }
                None => {}
            }
        }
        None
    }

    /// What runs now, by place.
    fn forecasts(&self, now: f64, refused: &[bool]) -> Vec<Forecast<'_>> {
        let rooms = self.rooms.iter().zip(refused).enumerate();
        let forecasts = rooms.map(|(at, (room, refused))| Forecast::new(at, room, now, *refused));
        let mut forecasts: Vec<Forecast> = forecasts.collect();
        for node in (0..self.states.len()).filter(|node| self.states[*node] == State::Running) {
            let (place, since) = self.places[node];
            forecasts[place].runs(self.piece(node), since);
        }
        forecasts
    }

    fn piece(&self, node: NodeId) -> Piece<'a> {
        let whole = !self.preludes[node];
        let of = &self.graph.nodes[node];
        Piece {
            roams: of.roams.as_ref().filter(|_| whole),
            weight: self.weights[node],
            is_job: self.is_job(node),
            lone: self.lone[node],
            seconds: if whole { of.seconds } else { 0.0 },
        }
    }

    /// `node`, which [`next`](Self::next) gave with its place, runs from `now` on.
    pub fn begin(&mut self, node: NodeId, place: PlaceId, now: f64) {
        for waiting in self.ready().into_iter().take_while(|other| *other != node) {
            self.passed[waiting] += 1;
        }
        self.states[node] = State::Running;
        self.places[node] = (place, now);
        let piece = self.piece(node);
        self.rooms[place].take(&piece);
    }

    /// A running node has ended. Whatever needs it is skipped if it failed.
    pub fn end(&mut self, node: NodeId, ok: bool, now: f64) {
        let (place, since) = self.free(node);
        let of = &self.graph.nodes[node];
        if ok && of.roams.is_some() && !of.is_guess && !self.preludes[node] {
            self.rooms[place].learn(place, of.seconds, now - since);
            believe(&mut self.rooms);
        }
        self.states[node] = if ok { State::Done } else { State::Failed };
        if !ok {
            self.skip_dependents();
        }
    }

    /// A running node has ended and is to be run once more: with `memory` bytes (all there are, if
    /// that is less), and alone.
    pub fn again(&mut self, node: NodeId, memory: u64) {
        self.free(node);
        self.states[node] = State::Waiting;
        self.weights[node] = memory.min(self.largest_place(node));
        self.lone[node] = true;
        self.strand();
    }

    /// Bytes that the node may have anywhere, if where it runs is to be chosen.
    fn largest_place(&self, node: NodeId) -> u64 {
        let piece = Piece { weight: 0, ..self.piece(node) };
        let places = self.rooms.iter().enumerate().filter(|(at, room)| room.may(*at, &piece));
        let most = places.map(|(_, room)| room.place.capacity).max();
        most.filter(|_| self.is_spread).unwrap_or(u64::MAX)
    }

    /// A node's prelude has ended and the rest is needed after all.
    pub fn go_on(&mut self, node: NodeId) {
        self.free(node);
        self.states[node] = State::Waiting;
        self.weights[node] = self.graph.nodes[node].memory;
        self.preludes[node] = false;
        self.strand();
    }

    /// The place at which `node` ran is lost: that is to be run elsewhere, and nothing more is run
    /// there.
    pub fn lose(&mut self, node: NodeId) {
        let (place, _) = self.free(node);
        self.states[node] = State::Waiting;
        self.rooms[place].is_lost |= place != HOME;
        self.strand();
    }

    /// Gives up on what no place is left for.
    fn strand(&mut self) {
        if !self.is_spread {
            return;
        }
        for node in 0..self.states.len() {
            let piece = self.piece(node);
            let nowhere = || !self.rooms.iter().enumerate().any(|(at, room)| room.may(at, &piece));
            if self.states[node] == State::Waiting && nowhere() {
                self.states[node] = State::Stranded;
            }
        }
        self.skip_dependents();
    }

    /// Gives up on everything that has not started.
    pub fn give_up(&mut self) {
        for state in &mut self.states {
            if *state == State::Waiting {
                *state = State::Skipped;
            }
        }
    }

    /// None if the node does not wait, or for others to end.
    pub fn scarce(&self, node: NodeId) -> Option<Scarce> {
        match () {
            () if !self.is_ready(node) => None,
            () if self.is_spread => Some(Scarce::Builder),
            () if !self.has_memory(node) => Some(Scarce::Memory),
            () if !self.has_slot(node) => Some(Scarce::Slot),
            () => Some(Scarce::Turn),
        }
    }

    /// What may start as far as needs go, in the order it is to.
    fn ready(&self) -> Vec<NodeId> {
        let all = 0..self.states.len();
        let mut ready: Vec<NodeId> = all.filter(|node| self.is_ready(*node)).collect();
        ready.sort_by(|a, b| self.ranks[*b].total_cmp(&self.ranks[*a]).then(a.cmp(b)));
        ready
    }

    fn is_ready(&self, node: NodeId) -> bool {
        self.states[node] == State::Waiting
            && self.graph.nodes[node].needs.iter().all(|need| self.states[*need] == State::Done)
    }

    fn fits(&self, node: NodeId) -> bool {
        self.has_memory(node) && self.has_slot(node)
    }

    fn has_memory(&self, node: NodeId) -> bool {
        self.rooms[HOME].has_memory(self.weights[node], self.lone[node])
    }

    fn has_slot(&self, node: NodeId) -> bool {
        self.rooms[HOME].has_slot(self.is_job(node))
    }

    /// Gives back where and since when the node ran.
    fn free(&mut self, node: NodeId) -> (PlaceId, f64) {
        let (place, since) = self.places[node];
        let piece = self.piece(node);
        self.rooms[place].free(&piece);
        (place, since)
    }

    fn is_job(&self, node: NodeId) -> bool {
        self.graph.nodes[node].is_job && !self.preludes[node]
    }

    fn skip_dependents(&mut self) {
        // Needs always stand before what needs them, so one pass reaches everything.
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let doomed = |need: &NodeId| {
                matches!(self.states[*need], State::Failed | State::Skipped | State::Stranded)
            };
            if self.states[id] == State::Waiting && node.needs.iter().any(doomed) {
                self.states[id] = State::Skipped;
            }
        }
    }
}

#[cfg(test)]
mod tests;
