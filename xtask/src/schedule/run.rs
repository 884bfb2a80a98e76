//! The executor: one coordinator, workers in a rayon pool of their own, messages between.
//!
//! A worker waits for its child inside this pool and nowhere else; hashing has another pool. The
//! bytes of a node are held from before its worker starts until after it has returned, and a worker
//! returns when its child is gone.

use std::sync::mpsc::channel;

use anyhow::{Context as _, Result};

use super::graph::{Graph, NodeId};
use super::order::{Limits, Order, State};

/// Most workers at once; they wait far more than they compute.
const WORKERS: usize = 64;

/// What became of each node, by its place in the graph.
#[derive(Debug)]
pub struct Ended<E> {
    pub states: Vec<State>,
    /// Errors in the order they came.
    pub errors: Vec<(NodeId, E)>,
}

/// What the run is to do when something fails or it is being stopped.
pub struct Habit<'a> {
    /// Start nothing more after the first failure.
    pub fail_fast: bool,
    /// Start nothing more once this says so.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Runs `work` for every node in the order the graph and the limits allow. `idle` is told what each
/// waiting node waits for whenever that may have changed.
pub fn run<E: Send>(
    graph: &Graph,
    limits: Limits,
    habit: &Habit,
    work: impl Fn(NodeId) -> Result<(), E> + Sync,
    mut idle: impl FnMut(&Order) + Send,
) -> Result<Ended<E>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(graph.nodes.len().clamp(1, WORKERS))
        .thread_name(|at| format!("step-{at}"))
        .build()
        .context("failed to start the workers")?;
    let mut order = Order::new(graph, limits);
    let mut errors = Vec::new();
    pool.in_place_scope(|scope| {
        let (send, ended) = channel();
        while !order.is_over() {
            if (habit.stopped)() || (habit.fail_fast && !errors.is_empty()) {
                order.give_up();
            }
            while let Some(node) = order.start() {
                let (send, work) = (send.clone(), &work);
                scope.spawn(move |_| {
                    // The coordinator outlives every worker, so the channel is open.
                    send.send((node, work(node))).ok();
                });
            }
            idle(&order);
            if order.is_over() {
                break;
            }
            let Ok((node, result)) = ended.recv() else { break };
            order.end(node, result.is_ok());
            errors.extend(result.err().map(|error| (node, error)));
        }
    });
    let states = (0..graph.nodes.len()).map(|node| order.state(node)).collect();
    Ok(Ended { states, errors })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::schedule::graph::Node;

    const WIDE: Limits = Limits { memory: 100, jobs: 9 };

    fn chain() -> Graph {
        let mut graph = Graph::default();
        let a = graph.add(Node { name: "a".into(), ..Node::default() });
        let b = graph.add(Node { name: "b".into(), needs: vec![a], ..Node::default() });
        graph.add(Node { name: "c".into(), needs: vec![b], ..Node::default() });
        graph
    }

    fn habit(fail_fast: bool) -> Habit<'static> {
        Habit { fail_fast, stopped: &|| false }
    }

    #[test]
    fn nodes_run_after_what_they_need() {
        let seen = Mutex::new(Vec::new());
        let work = |node| {
            seen.lock().unwrap().push(node);
            Ok::<(), ()>(())
        };
        let ended = run(&chain(), WIDE, &habit(false), work, |_| {}).unwrap();
        assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
        assert_eq!(ended.states, [State::Done; 3]);
    }

    #[test]
    fn a_failure_skips_what_needs_it() {
        let work = |node| if node == 1 { Err("no") } else { Ok(()) };
        let ended = run(&chain(), WIDE, &habit(false), work, |_| {}).unwrap();
        assert_eq!(ended.states, [State::Done, State::Failed, State::Skipped]);
        assert_eq!(ended.errors, [(1, "no")]);
    }

    #[test]
    fn independent_nodes_run_side_by_side() {
        let mut graph = Graph::default();
        for name in ["a", "b"] {
            graph.add(Node { name: name.into(), ..Node::default() });
        }
        let barrier = std::sync::Barrier::new(2);
        let work = |_| {
            barrier.wait();
            Ok::<(), ()>(())
        };
        let ended = run(&graph, WIDE, &habit(false), work, |_| {}).unwrap();
        assert_eq!(ended.states, [State::Done; 2]);
    }

    #[test]
    fn a_stopped_run_starts_nothing_more() {
        let stopped = std::sync::atomic::AtomicBool::new(false);
        let is_stopped = || stopped.load(std::sync::atomic::Ordering::SeqCst);
        let habit = Habit { fail_fast: false, stopped: &is_stopped };
        let work = |_| {
            stopped.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok::<(), ()>(())
        };
        let ended = run(&chain(), WIDE, &habit, work, |_| {}).unwrap();
        assert_eq!(ended.states, [State::Done, State::Skipped, State::Skipped]);
    }
}
