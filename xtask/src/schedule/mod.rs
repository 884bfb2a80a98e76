//! Stage 4: graph + limits → running order. Knows nothing of containers, does no I/O.

mod graph; //  what needs what, what it weighs, how long it takes
mod order; //  what may start, given what has ended: the pure core
mod run; //    one coordinator, many workers

pub use graph::{Graph, Node, NodeId};
pub use order::{Limits, Order, State};
pub use run::{Ended, Habit, run};
