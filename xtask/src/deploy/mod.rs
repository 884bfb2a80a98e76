//! Stage 7: manifests onto the cluster, in order, each step waited for, a hopeless one given up at
//! once.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `render` | a step's manifests with the run's image tags in them, through `kubectl kustomize` |
//! | `files` | a Secret or `ConfigMap` made of files; a secret's values are written nowhere |
//! | `apply` | server-side apply; CRDs first, and waited for; what cannot be changed is made anew |
//! | `hooks` | of a Helm chart: what runs before and after, and what is left out |
//! | `template` | what pods run and read, noted in their templates, so that a change makes them anew |
//! | `digest` | of what `ConfigMaps` and Secrets hold, telling nothing of it |
//! | `delete` | by uid |
//! | `own` | on a cluster that is not ours: what is the run's, and what it is called |
//! | `others` | what somebody else made there, and what all share |
//! | `sweep` | what runs left there |
//! | `kept` | what earlier runs applied, and whether it is still there unchanged |
//! | `proof` | that an object is as it was applied, and nobody else has set anything |
//! | `api` | the Kubernetes API through `kubectl proxy`, for questions asked many times a second |
//! | `look` | the cluster's objects as they are just now, shared by all that wait |
//! | `workload` | what a step applied that makes pods, held to what its apply gave back |
//! | `rollout`, `condition`, `verdict` | a look → ready, waiting, hopeless; pure |
//! | `restarts` | which containers did not stay up during the tests |
//! | `wait`, `http`, `tls` | the loop around it, and waits from outside |
//! | `explain` | a hopeless pod's events and last log lines |
//! | `diagnose` | everything about the cluster, into a folder |
//!
//! A kept cluster is not emptied between runs: deleting a namespace and starting its pods again
//! takes longer than all else in an unchanged run. Instead every step is applied anew unless it is
//! provably as it was (`kept`), what no step applies any more is deleted, a Job is run again when
//! anything of its step or before it changed, and namespaces that specs made (label
//! `xtask-e2e/spec`) are deleted in the background.

mod api;
mod apply;
mod condition;
mod delete;
mod diagnose;
mod digest;
mod explain;
mod files;
mod hooks;
mod http;
mod kept;
mod look;
mod object;
mod others;
mod own;
mod proof;
mod render;
mod restarts;
mod rollout;
mod sweep;
mod template;
mod verdict;
mod wait;
mod workload;

pub use apply::{Applied, How, apply, can_be_made_anew};
pub use diagnose::diagnose;
pub use files::{from_files, outline};
pub use kept::{ChangedByOthers, Kept, Pods, Reads};
pub use look::Snapshots;
pub use object::ObjectRef;
pub use own::{Maker, Own, given_ports};
pub use render::{Document, Images, Rendered, applied_twice, render, render_chart};
pub use restarts::{Containers, containers};
pub use rollout::IsLoaded;
pub use sweep::{Leftover, expire, expired, free, leftovers, remove, renew, server_time};
pub use template::Notes;
pub use wait::{Target, wait, wait_for_all};
pub use workload::Workload;

/// Who applies, in the objects' `managedFields`.
const FIELD_MANAGER: &str = "xtask";

/// Label of what a spec made for itself: gone when the next run begins.
pub const SPEC_LABEL: &str = "xtask-e2e/spec";
