//! How long to wait before the next try.
//!
//! The wait before try *n* + 1 lies evenly between half and the whole of `first · 2ⁿ`, at most
//! `longest`, so that those who were turned away together do not come back together. Where the
//! server named a time (`Retry-After`) it is never less than that.

use std::time::Duration;

/// The bounds of the waits.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// For what is usually over within seconds: 100 ms to 2 s.
    pub const BRIEF: Self =
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

    /// The wait after `attempt` waits; `chance` in 0..1 picks the place within the spread.
    pub fn delay(self, attempt: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(attempt)).min(self.longest);
        let spread = whole / 2 + (whole / 2).mul_f64(chance.clamp(0.0, 1.0));
        retry_after.map_or(spread, |least| least + spread / 4)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let waits: Vec<u128> =
            (0..7).map(|attempt| Backoff::BRIEF.delay(attempt, None, 1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            attempt in 0_u32..100,
            chance in 0.0..1.0,
            least in prop::option::of(0_u64..30),
        ) {
            let Backoff { first, longest } = Backoff::BRIEF;
            let least = least.map(Duration::from_secs);
            let wait = Backoff::BRIEF.delay(attempt, least, chance);
            prop_assert!(wait >= least.unwrap_or(first / 2));
            prop_assert!(wait <= least.unwrap_or_default() + longest);
        }
    }
}
