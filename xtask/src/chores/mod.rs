//! What only this repository's own tests need: `cargo xtask test` is no part of the product.

pub(crate) mod justfile;
pub(crate) mod python;
pub(crate) mod steps;
