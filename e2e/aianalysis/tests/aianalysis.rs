//! The 16 specs of `AIAnalysis`, one binary, so that they share the machine's test threads.

mod specs;
