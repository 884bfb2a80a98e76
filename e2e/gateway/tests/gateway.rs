//! The 16 specs of the gateway, one binary, so that they share the machine's test threads.

mod specs;
