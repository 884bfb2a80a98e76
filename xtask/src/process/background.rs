//! A child that serves for as long as somebody needs it.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::mailbox::Mailbox;
use super::{Child, Ending, Failure, Tool};

/// A running child whose output goes to its log, or nowhere. Dropping it ends it.
#[derive(Debug)]
pub struct Background {
    id: u32,
    mailbox: Arc<Mailbox>,
    owner: Option<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(tool: &Tool) -> Result<Self, Failure> {
        let mut child = Child::start(tool)?;
        let (id, mailbox) = (child.id(), child.mailbox());
        let own = move || {
            // How it ends is nobody's matter: who uses it sees that it does not answer.
            child.wait(|_, _| {}).ok();
        };
        let owner = std::thread::Builder::new().name("own a child".to_owned()).spawn(own);
        let owner = owner
            .map_err(|error| tool.failure(Ending::NotStarted(error.to_string()), [].into()))?;
        Ok(Self { id, mailbox, owner: Some(owner) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.mailbox.post(&self.mailbox.end);
        if let Some(owner) = self.owner.take() {
            owner.join().ok();
        }
    }
}
