//! How long one webhook may wait in all, and when to give up (BR-GATEWAY-105). A wait the budget
//! cannot hold is not begun; how long each wait is says [`service::backoff`].

use std::time::Duration;

use tokio::time::Instant;

/// The time one webhook may take in all.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    ends: Instant,
}

impl Budget {
    pub fn starting_now(length: Duration) -> Self {
        Self { ends: Instant::now() + length }
    }

    /// Zero when it is used up.
    pub fn remaining(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Sleeps and says yes, or says at once that the wait does not fit.
    pub async fn wait(&self, wait: Duration) -> bool {
        let fits = wait < self.remaining();
        if fits {
            tokio::time::sleep(wait).await;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_does_not_fit_is_not_begun() {
        let budget = Budget::starting_now(Duration::from_secs(1));
        let asked = Instant::now();
        assert!(!budget.wait(Duration::from_hours(1)).await);
        assert!(asked.elapsed() < Duration::from_mins(1));
        assert!(budget.wait(Duration::ZERO).await);
    }
}
