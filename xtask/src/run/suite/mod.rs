//! The half of a run that only a suite has: a cluster, its steps, its tests.
//!
//! [`execute`] walks the graph, [`step`] applies and waits, [`last_look`] looks at all of it before and after the tests.
//! [`warm_probe`] looks at a kept cluster while the plan is made; [`shared_cluster`] is for one that others run.

pub(crate) mod execute;
pub(crate) mod last_look;
pub(crate) mod render;
pub(crate) mod shared_cluster;
pub(crate) mod step;
pub(crate) mod warm_probe;
