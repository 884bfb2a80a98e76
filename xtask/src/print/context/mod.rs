//! Contexts as people and scripts see them.

pub(crate) mod budget;
pub(crate) mod listing;
pub(crate) mod summary;
