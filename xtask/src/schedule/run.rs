//! The executor: one coordinator, workers in a rayon pool of their own, messages between.
//!
//! A worker waits for its child inside this pool and nowhere else; hashing has another pool. The
//! bytes of a node are held from before its worker starts until after it has returned: its
//! [`Permit`] is owned by the call that owns the child, and a worker returns when its child is
//! gone.
//!
//! Memory is shared with other runs of the machine. They free theirs without a word to us, so while
//! a node waits for them alone the coordinator looks again every [`PACE`]. Where a node waits for
//! the better of several places it looks every [`LOOK`], since what was expected there may be late.
//! Otherwise it sleeps until a worker ends.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::graph::{Graph, NodeId};
use super::order::{Scarce, Scheduler, State};
use super::place::{Place, PlaceId};

/// Most workers at once; they wait far more than they compute.
const WORKERS: usize = 64;

/// Between two looks at what other runs hold: a look costs some 50 µs, and a build takes seconds.
const PACE: Duration = Duration::from_millis(250);

/// Between two looks at whether the place that is waited for is still the better one.
const LOOK: Duration = Duration::from_secs(1);

/// What became of each node, by its place in the graph.
#[derive(Debug)]
pub struct Ended<E> {
    pub states: Vec<State>,
    /// Errors in the order they came.
    pub errors: Vec<(NodeId, E)>,
    /// How long each place took beside the others ([`Place::pace`]).
    pub paces: Vec<f64>,
}

/// How a worker leaves its node.
#[derive(Debug)]
pub enum Outcome<E> {
    Done,
    Failed(E),
    /// It is to be run once more, alone, with so many bytes.
    Again(u64),
    /// The prelude is over, and the rest is to be run.
    GoOn,
    /// The place it was run at is gone: it is to be run at another.
    Lost,
}

/// Memory that other runs of this machine are told we hold; freed when dropped.
pub type Share = Box<dyn Send>;

/// What a worker may use while it runs.
pub struct Permit {
    pub place: PlaceId,
    /// Bytes.
    pub memory: u64,
    /// Nodes that compute there at once with this one, itself among them.
    pub jobs: usize,
    /// It is run again.
    pub again: bool,
    /// Only its prelude is to be run.
    pub prelude: bool,
    #[expect(dead_code, reason = "held for its drop")]
    share: Option<Share>,
}

/// What the run is to do when something fails, when it is being stopped, and what else it has to
/// ask.
pub struct ExecOptions<'a> {
    /// Start nothing more after the first failure.
    pub fail_fast: bool,
    /// Start nothing more once this says so.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Takes bytes of a whole machine for a node, or says who has them.
    pub take: &'a dyn Fn(PlaceId, &str, u64) -> Result<Share, String>,
}

/// Runs `work` for every node in the order the graph allows, where the places have room; the first
/// of them is home. `waiting` is told what a node that could run but for that waits for, whenever
/// it is something else.
pub fn run<E: Send>(
    graph: &Graph,
    places: &[Place],
    habit: &ExecOptions,
    work: impl Fn(NodeId, &Permit) -> Outcome<E> + Sync,
    waiting: impl FnMut(NodeId, &Scarce),
) -> Result<Ended<E>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(graph.nodes.len().clamp(1, WORKERS))
        .thread_name(|at| format!("step-{at}"))
        .build()
        .context("failed to start the workers")?;
    let mut order = Scheduler::new(graph, places);
    let started = Instant::now();
    let now = || started.elapsed().as_secs_f64();
    let mut errors = Vec::new();
    let mut told = Told { graph, waiting, last: vec![None; graph.nodes.len()] };
    pool.in_place_scope(|scope| {
        let (send, words) = channel();
        loop {
            if (habit.stopped)() || (habit.fail_fast && !errors.is_empty()) {
                order.give_up();
            }
            let admitted = admit(graph, places, &mut order, now(), habit);
            for (node, place, share) in admitted.nodes {
                let (memory, again) = (order.weight(node), order.is_again(node));
                let (jobs, prelude) = (order.jobs(place), order.is_prelude(node));
                let permit = Permit { place, memory, jobs, again, prelude, share };
                let (last, work) = (LastWord { node, outcome: None, to: send.clone() }, &work);
                scope.spawn(move |_| last.of(work, permit));
            }
            told.tell(&order, admitted.refused.as_deref());
            if order.is_over() {
                break;
            }
            let refused = admitted.refused.is_some().then_some(PACE);
            match next_word(&words, refused.or(order.is_choosy().then_some(LOOK))) {
                Some((node, Some(outcome))) => end(&mut order, &mut errors, node, outcome, now()),
                // The worker panicked. The scope hands that on once the others have ended.
                Some((node, None)) => {
                    order.end(node, false, now());
                    order.give_up();
                }
                None => {}
            }
        }
    });
    let states = (0..graph.nodes.len()).map(|node| order.state(node)).collect();
    Ok(Ended { states, errors, paces: order.paces() })
}

/// What may start now.
struct Admitted {
    nodes: Vec<(NodeId, PlaceId, Option<Share>)>,
    /// Who holds the memory that the next node wants.
    refused: Option<String>,
}

fn admit(
    graph: &Graph,
    places: &[Place],
    order: &mut Scheduler,
    now: f64,
    habit: &ExecOptions,
) -> Admitted {
    let mut admitted = Admitted { nodes: Vec::new(), refused: None };
    let mut refused = vec![false; places.len()];
    while let Some((node, place)) = order.next(now, &refused) {
        // Others see a node that must be alone as one that takes everything.
        let whole = if order.is_alone(node, place) { places[place].limits.memory } else { 0 };
        let share = match order.weight(node) {
            0 => None,
            memory => match (habit.take)(place, &graph.nodes[node].name, memory.max(whole)) {
                Ok(share) => Some(share),
                Err(holder) => {
                    admitted.refused = Some(holder);
                    refused[place] = true;
                    continue;
                }
            },
        };
        order.begin(node, place, now);
        admitted.nodes.push((node, place, share));
    }
    admitted
}

fn end<E>(
    order: &mut Scheduler,
    errors: &mut Vec<(NodeId, E)>,
    node: NodeId,
    outcome: Outcome<E>,
    now: f64,
) {
    match outcome {
        Outcome::Done => order.end(node, true, now),
        Outcome::Again(memory) => order.again(node, memory),
        Outcome::GoOn => order.go_on(node),
        Outcome::Lost => order.lose(node),
        Outcome::Failed(error) => {
            order.end(node, false, now);
            errors.push((node, error));
        }
    }
}

type Word<E> = (NodeId, Option<Outcome<E>>);

/// What a worker says last, waited for no longer than `patience`.
fn next_word<E>(words: &Receiver<Word<E>>, patience: Option<Duration>) -> Option<Word<E>> {
    match patience {
        Some(patience) => words.recv_timeout(patience).ok(),
        None => words.recv().ok(),
    }
}

/// A worker's word to the coordinator, which waits for it: sent even if the worker panics.
struct LastWord<E> {
    node: NodeId,
    outcome: Option<Outcome<E>>,
    to: Sender<Word<E>>,
}

impl<E> LastWord<E> {
    fn of(mut self, work: impl Fn(NodeId, &Permit) -> Outcome<E>, permit: Permit) {
        self.outcome = Some(work(self.node, &permit));
        // Before the word is out: what is started upon it may need these bytes.
        drop(permit);
    }
}

impl<E> Drop for LastWord<E> {
    fn drop(&mut self) {
        // The coordinator outlives every worker, so the channel is open.
        self.to.send((self.node, self.outcome.take())).ok();
    }
}

/// What was said of nodes that wait.
struct Told<'a, W> {
    graph: &'a Graph,
    waiting: W,
    last: Vec<Option<Scarce>>,
}

impl<W: FnMut(NodeId, &Scarce)> Told<'_, W> {
    fn tell(&mut self, order: &Scheduler, refused: Option<&str>) {
        for node in 0..self.graph.nodes.len() {
            let scarce = match (order.scarce(node), refused) {
                (Some(Scarce::Turn | Scarce::Builder), Some(holder)) if order.weight(node) > 0 => {
                    Scarce::Held(holder.to_owned())
                }
                (Some(scarce), _) => scarce,
                (None, _) => continue,
            };
            if self.last[node].as_ref() != Some(&scarce) {
                (self.waiting)(node, &scarce);
                self.last[node] = Some(scarce);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::schedule::graph::Node;
    use crate::schedule::order::Limits;

    const WIDE: [Place; 1] = [place(100, 9)];

    const fn place(memory: u64, jobs: usize) -> Place {
        Place::new(Limits { memory, jobs }, memory)
    }

    fn chain() -> Graph {
        let mut graph = Graph::default();
        let a = graph.add(Node { name: "a".into(), ..Node::default() });
        let b = graph.add(Node { name: "b".into(), needs: vec![a], ..Node::default() });
        graph.add(Node { name: "c".into(), needs: vec![b], ..Node::default() });
        graph
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a habit takes")]
    fn alone(_: PlaceId, _: &str, _: u64) -> Result<Share, String> {
        Ok(Box::new(()))
    }

    fn habit(fail_fast: bool) -> ExecOptions<'static> {
        ExecOptions { fail_fast, stopped: &|| false, take: &alone }
    }

    fn pair(memory: u64) -> Graph {
        let mut graph = Graph::default();
        for name in ["a", "b"] {
            graph.add(Node { name: name.into(), memory, is_job: true, ..Node::default() });
        }
        graph
    }

    #[test]
    fn nodes_run_after_what_they_need() {
        let seen = Mutex::new(Vec::new());
        let work = |node, _: &Permit| {
            seen.lock().push(node);
            Outcome::<()>::Done
        };
        let ended = run(&chain(), &WIDE, &habit(false), work, |_, _| {}).unwrap();
        assert_eq!(*seen.lock(), [0, 1, 2]);
        assert_eq!(ended.states, [State::Done; 3]);
    }

    #[test]
    fn a_failure_skips_what_needs_it() {
        let work = |node, _: &Permit| if node == 1 { Outcome::Failed("no") } else { Outcome::Done };
        let ended = run(&chain(), &WIDE, &habit(false), work, |_, _| {}).unwrap();
        assert_eq!(ended.states, [State::Done, State::Failed, State::Skipped]);
        assert_eq!(ended.errors, [(1, "no")]);
    }

    #[test]
    fn what_does_not_need_the_failed_runs_all_the_same_unless_the_habit_is_another() {
        let work = |node, _: &Permit| if node == 0 { Outcome::Failed("no") } else { Outcome::Done };
        for (fail_fast, sibling) in [(false, State::Done), (true, State::Skipped)] {
            let places = [place(100, 1)];
            let ended = run(&pair(20), &places, &habit(fail_fast), work, |_, _| {}).unwrap();
            assert_eq!(ended.states, [State::Failed, sibling]);
        }
    }

    #[test]
    fn independent_nodes_run_side_by_side() {
        let mut graph = Graph::default();
        for name in ["a", "b"] {
            graph.add(Node { name: name.into(), ..Node::default() });
        }
        let barrier = std::sync::Barrier::new(2);
        let work = |_, _: &Permit| {
            barrier.wait();
            Outcome::<()>::Done
        };
        let ended = run(&graph, &WIDE, &habit(false), work, |_, _| {}).unwrap();
        assert_eq!(ended.states, [State::Done; 2]);
    }

    #[test]
    fn a_stopped_run_starts_nothing_more() {
        let stopped = std::sync::atomic::AtomicBool::new(false);
        let is_stopped = || stopped.load(std::sync::atomic::Ordering::SeqCst);
        let habit = ExecOptions { stopped: &is_stopped, ..habit(false) };
        let work = |_, _: &Permit| {
            stopped.store(true, std::sync::atomic::Ordering::SeqCst);
            Outcome::<()>::Done
        };
        let ended = run(&chain(), &WIDE, &habit, work, |_, _| {}).unwrap();
        assert_eq!(ended.states, [State::Done, State::Skipped, State::Skipped]);
    }

    #[test]
    fn a_node_that_asks_for_it_is_run_again_alone_with_its_new_weight() {
        let seen = Mutex::new(Vec::new());
        let work = |node, permit: &Permit| {
            seen.lock().push((node, permit.memory, permit.jobs, permit.again));
            if node == 0 && !permit.again { Outcome::Again(70) } else { Outcome::<()>::Done }
        };
        let ended = run(&pair(20), &WIDE, &habit(false), work, |_, _| {}).unwrap();
        assert_eq!(ended.states, [State::Done; 2]);
        let mut seen = seen.into_inner();
        assert_eq!(seen.pop(), Some((0, 70, 1, true)));
        seen.sort_unstable();
        assert_eq!(seen, [(0, 20, 2, false), (1, 20, 2, false)]);
    }

    #[test]
    fn a_prelude_runs_light_and_the_rest_only_where_it_is_needed() {
        let mut graph = pair(60);
        graph.nodes.iter_mut().for_each(|node| node.prelude = Some(5));
        let seen = Mutex::new(Vec::new());
        let both = std::sync::Barrier::new(2);
        let work = |node, permit: &Permit| {
            if permit.prelude {
                both.wait();
            }
            seen.lock().push((node, permit.prelude, permit.memory));
            if permit.prelude && node == 1 { Outcome::GoOn } else { Outcome::<()>::Done }
        };
        let ended = run(&graph, &[place(100, 1)], &habit(false), work, |_, _| {}).unwrap();
        assert_eq!(ended.states, [State::Done; 2]);
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, [(0, true, 5), (1, false, 60), (1, true, 5)]);
    }

    #[test]
    fn a_share_of_the_machine_is_held_as_long_as_the_worker_runs() {
        struct Held<'a>(&'a AtomicU64, u64);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(self.1, Ordering::SeqCst);
            }
        }
        static HELD: AtomicU64 = AtomicU64::new(0);
        let take = |_, _: &str, bytes| {
            assert!(HELD.fetch_add(bytes, Ordering::SeqCst) == 0);
            Ok(Box::new(Held(&HELD, bytes)) as Share)
        };
        let work = |_, _: &Permit| {
            assert_eq!(HELD.load(Ordering::SeqCst), 60);
            Outcome::<()>::Done
        };
        let ended =
            run(&pair(60), &WIDE, &ExecOptions { take: &take, ..habit(false) }, work, |_, _| {});
        assert_eq!(ended.unwrap().states, [State::Done; 2]);
        assert_eq!(HELD.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_node_waits_for_other_runs_and_says_for_whom() {
        let looks = AtomicU64::new(0);
        let take = |_, _: &str, _| match looks.fetch_add(1, Ordering::SeqCst) {
            0 => Err("run 7".to_owned()),
            _ => Ok(Box::new(()) as Share),
        };
        let mut told = Vec::new();
        let mut graph = pair(60);
        graph.add(Node { name: "light".into(), ..Node::default() });
        let habit = ExecOptions { take: &take, ..habit(false) };
        let work = |_, _: &Permit| Outcome::<()>::Done;
        let waiting = |node, what: &Scarce| told.push((node, what.to_string()));
        let ended = run(&graph, &WIDE, &habit, work, waiting).unwrap();
        assert_eq!(ended.states, [State::Done; 3]);
        assert_eq!(told[..2], [(0, "run 7".to_owned()), (1, "run 7".to_owned())]);
    }

    #[test]
    fn a_worker_that_panics_ends_the_run() {
        let work = |node, _: &Permit| if node == 0 { panic!("no") } else { Outcome::<()>::Done };
        let run = || run(&chain(), &WIDE, &habit(false), work, |_, _| {});
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
