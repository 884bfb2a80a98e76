//! A run, in the order it happens: [`evaluate`] says what is up to date, [`plan`] makes the
//! [`graph`] with its [`estimate`], [`execute`] walks it within the [`memory`] there is. [`build`]
//! makes images, [`suite`] deploys and tests.

pub(crate) mod build;
pub(crate) mod build_lock;
pub(crate) mod builders;
pub(crate) mod bundle;
pub(crate) mod cache;
pub(crate) mod decision;
pub(crate) mod estimate;
pub(crate) mod evaluate;
pub(crate) mod execute;
pub(crate) mod failed_step;
pub(crate) mod garbage;
pub(crate) mod graph;
pub(crate) mod memory;
pub(crate) mod missing_input;
pub(crate) mod needs;
pub(crate) mod plan;
pub(crate) mod project;
pub(crate) mod since;
pub(crate) mod startup_cleanup;
pub(crate) mod suite;
