//! Stage 2: what goes into an image.

pub mod dockerfile;
pub mod ignore;
