//! Stage 4: graph + limits → running order. Knows nothing of containers, does no I/O.

mod graph; //      what needs what, what it weighs, how long it takes
mod order; //      what may start, given what has ended: the pure core
mod place; //      where it is done, if there is more than one place
mod run; //        one coordinator, many workers
mod simulate; //   the order played through on paper

pub use graph::{Graph, Node, NodeId};
pub use order::{Limits, Scarce, Scheduler, State};
pub use place::{HOME, Place, PlaceId, Placement, lower_bound_over};
pub use run::{Ended, ExecOptions, Outcome, Permit, Share, run};
pub use simulate::{Timeline, lower_bound, simulate, simulate_over};
