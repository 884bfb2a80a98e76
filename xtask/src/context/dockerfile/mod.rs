//! The files a Dockerfile can read.
