//! How long to wait before the next try, and when to give up (BR-GATEWAY-105).
//!
//! The wait before try *n* lies evenly between half and the whole of `100 ms · 2ⁿ`, at most 2 s, so
//! that replicas limited together do not come back together. Where the server named a time
//! (`Retry-After`) it is never less than that. A wait the budget cannot hold is not begun.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

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

/// The wait before try `attempt + 1`; `chance` in 0..1 picks the place within the spread.
pub fn delay(attempt: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
    let whole = FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST);
    let spread = whole / 2 + (whole / 2).mul_f64(chance.clamp(0.0, 1.0));
    retry_after.map_or(spread, |least| least + spread / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let waits: Vec<u128> =
            (0..7).map(|attempt| delay(attempt, None, 1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            attempt in 0_u32..100,
            chance in 0.0..1.0,
            least in prop::option::of(0_u64..30),
        ) {
            let least = least.map(Duration::from_secs);
            let wait = delay(attempt, least, chance);
            prop_assert!(wait >= least.unwrap_or(FIRST / 2));
            prop_assert!(wait <= least.unwrap_or_default() + LONGEST);
        }
    }

    #[tokio::test]
    async fn a_wait_that_does_not_fit_is_not_begun() {
        let budget = Budget::starting_now(Duration::from_secs(1));
        let asked = Instant::now();
        assert!(!budget.wait(Duration::from_hours(1)).await);
        assert!(asked.elapsed() < Duration::from_mins(1));
        assert!(budget.wait(Duration::ZERO).await);
    }
}
