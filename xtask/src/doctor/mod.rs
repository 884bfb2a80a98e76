//! Before anything: what a run needs of this machine, and how it is mended.
//!
//! Three parts, of which only the middle one decides anything:
//!
//! ```text
//! probe     what is there            reads files, asks programs side by side → `Machine`
//! diagnose  what is wrong with it    pure                                    → `Finding`s
//! mend      the cure                 runs the steps of the faults, in order or side by side
//! ```
//!
//! Nothing is installed, written or fetched unless [`mend`] or [`fix`] is called. Every fault says
//! what is wrong, why it matters, and the one command that mends it; what cannot be mended from
//! here says how a person could.
//!
//! Where a container registry answers, images come from there. Where none does, the recipes of
//! `images/bases` and `images/kind-node` make stand-ins from packages, under the upstream names and
//! with the label [`STAND_IN`], which [`stand_ins`] finds again.

mod containers;
mod containers_conf;
mod diagnose;
mod host;
mod images;
mod machine;
mod mend;
mod packages;
mod probe;
mod upkeep;
mod proof;
mod versions;

use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;

use crate::config::EngineName;
use crate::error::{ErrorExt as _, Exit};
use crate::event::Events;
use crate::private::PrivatePath;

pub use images::{STAND_IN, stand_ins};
pub use machine::Ours;
pub use mend::{Mend, Order, Step, install_packages, mend};

/// What runs of this workspace ask of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    pub engine: EngineName,
    /// References the Dockerfiles are built from.
    pub bases: &'a [String],
    /// References of kind nodes.
    pub node_images: &'a [String],
    /// Names of the clusters that are ours.
    pub clusters: &'a [String],
    /// Ports of this host the clusters will open.
    pub ports: &'a [u16],
    /// Whether any suite needs a kind cluster.
    pub kind: bool,
    /// Whether any step is a Helm chart.
    pub helm: bool,
    /// The workspace; its `images/bases` and `images/kind-node` hold the recipes of stand-ins.
    pub root: &'a Path,
    /// The workspace's own folder, which may be lost: what was proven is remembered here.
    pub state: &'a PrivatePath,
}

/// Asks the stages for what they know, given the names of clusters that are not of this workspace.
pub type Look<'a> = dyn Fn(&[String]) -> Ours + Sync + 'a;

/// One check and what it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    #[serde(flatten)]
    pub state: State,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    Fine {
        detail: String,
    },
    /// Nothing is wrong, but a person should know.
    Note {
        what: String,
        why: String,
        /// What a person could do about it, if anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        how: Option<String>,
    },
    Fault {
        what: String,
        why: String,
        mend: Mend,
    },
    /// Wrong, and not ours to mend; `how` is what a person would do.
    CannotMend {
        what: String,
        why: String,
        how: String,
    },
}

impl Finding {
    pub fn is_fault(&self) -> bool {
        matches!(self.state, State::Fault { .. } | State::CannotMend { .. })
    }

    fn mend(&self) -> Option<&Mend> {
        match &self.state {
            State::Fault { mend, .. } => Some(mend),
            _ => None,
        }
    }
}

/// Looks at everything and changes nothing (but what [`Needs::state`] remembers).
pub fn examine(needs: &Needs, look: &Look) -> Vec<Finding> {
    diagnose::diagnose(&probe::probe(needs, look), needs)
}

/// Mends and looks again until nothing is left that can be mended; gives back what was found last.
///
/// A second look is needed because one fault hides another: a runtime is tried once there is an
/// engine.
/// Errors, among them a fault that its own cure left in place, lead to [`Exit::Environment`].
pub fn fix(
    needs: &Needs,
    look: &Look,
    log: &Path,
    events: &Events,
) -> anyhow::Result<Vec<Finding>> {
    let mut tried: Vec<String> = Vec::new();
    loop {
        let findings = examine(needs, look);
        let commands: Vec<_> = findings.iter().filter_map(Finding::mend).collect();
        if commands.is_empty() {
            return Ok(findings);
        }
        if let Some(again) = commands.iter().find(|mend| tried.contains(&mend.command)) {
            return Err(still_there(&again.command, log).exit(Exit::Environment));
        }
        tried.extend(commands.iter().map(|mend| mend.command.clone()));
        mend(&findings, log, events)?;
    }
}

fn still_there(command: &str, log: &Path) -> anyhow::Error {
    let log = log.display();
    anyhow!("failed to mend with `{command}`: the fault is still there\n  whole log: {log}")
}
