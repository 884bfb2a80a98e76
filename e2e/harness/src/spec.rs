//! What a spec returns.
//!
//! The test harness prints an error by its `Debug` form, which for `anyhow` ends in a back trace
//! whenever `RUST_BACKTRACE` is set, as CI likes to. A spec fails because of the cluster, not of
//! the stack it was called on: the sentence and its causes are all there is to read.

use std::fmt;

/// The result of a spec.
pub type Spec = Result<(), Failure>;

/// Why a spec failed: the sentence, then each cause on its own line.
pub struct Failure(anyhow::Error);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.chain().skip(1).try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn a_failure_prints_its_causes_and_no_back_trace() {
        let error = anyhow::anyhow!("it is away").context("failed to ask");
        assert_eq!(format!("{:?}", Failure::from(error)), "failed to ask\n  caused by: it is away");
    }
}
