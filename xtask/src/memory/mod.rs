//! How much memory builds may hold, from the machine to a reservation.
//!
//! | step | in → out | file |
//! | --- | --- | --- |
//! | measure | the engine's facts, `/proc`, control groups → [`machine::read`]'s `Machine` | `machine` |
//! | bound | a machine and who else has a claim on it → [`Budget`] | `budget` |
//! | reserve | a build's bytes → [`Reservation`], or who holds them | `ledger` |
//! | learn | a build's peak → the bytes of its next one | `learned` |
//! | estimate | a build that was killed → what it would have needed | `required` |
//! | mend | a bound that is too low → the command that raises it | `raise` |
//!
//! [`MemoryPool`] is the front: one machine, its budget, and this run's page of the ledger that all
//! runs there share.

pub mod budget;
pub mod learned;
pub mod ledger;
pub mod machine;
pub mod raise;
pub mod required;

use std::sync::OnceLock;

use anyhow::Result;

use crate::private::PrivatePath;

pub use budget::Budget;
pub use ledger::{Bounds, Ledger, Reservation, Wait};

/// The memory of one machine that builds. Figures in bytes.
#[derive(Debug)]
pub struct MemoryPool {
    bounds: Bounds,
    /// Opened once something is to be built. Without it other runs are not counted.
    ledger: OnceLock<Ledger>,
}

impl MemoryPool {
    /// Of a machine within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ledger: OnceLock::new() }
    }

    /// Opens this run's page of the ledger in `folder`; `who` tells other runs about it. Gives back
    /// what is wrong with their pages.
    pub fn open(&self, folder: &PrivatePath, who: &str) -> Result<Vec<String>> {
        let ledger = Ledger::open(folder, who, self.bounds)?;
        let doubts = ledger.doubts();
        // Only the run that has it opens it, once.
        drop(self.ledger.set(ledger));
        Ok(doubts)
    }

    /// Reserves bytes for a build until the reservation is dropped; none where other runs are not
    /// counted.
    pub fn reserve(&self, bytes: u64, build: &str) -> Result<Option<Reservation>, Wait> {
        self.ledger.get().map(|ledger| ledger.take(build, bytes)).transpose()
    }
}
