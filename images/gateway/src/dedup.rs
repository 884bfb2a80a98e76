//! New request or duplicate: the decision, without I/O (BR-GATEWAY-012, DD-GATEWAY-009).
//!
//! | what Redis says | requests of this fingerprint in the namespace | decision |
//! | --- | --- | --- |
//! | key alive, names R | R is there and not finished | duplicate of R |
//! | whatever else | one is being processed | duplicate of it |
//! | whatever else | one is not finished and younger than the TTL | duplicate of it |
//! | whatever else | else | new |
//!
//! Of several, the youngest. Finished means `Completed` or `Failed`. A request nobody has taken up
//! counts for the TTL only: its signal fires on, so after that it is worth a new one. One that is
//! being processed counts however long it takes. The ages repeat what the key says, so a Redis that
//! is away, or has come back empty, changes nothing.

use std::time::Duration;

/// How far a request has come; `status.phase`, which the gateway only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Unset,
    Pending,
    Processing,
    Completed,
    Failed,
}

/// A request that is there, of the fingerprint in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    pub name: String,
    pub phase: Phase,
    pub age: Duration,
}

/// What to do with the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Create,
    /// Of the request at this index.
    DuplicateOf(usize),
}

impl Phase {
    /// A phase this gateway does not know was set by a controller that is at work.
    pub fn read(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::Unset,
            Some("Pending") => Self::Pending,
            Some("Completed") => Self::Completed,
            Some("Failed") => Self::Failed,
            Some(_) => Self::Processing,
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The table above; `named` is the request a living key names, `ttl` how long one swallows repeats.
pub fn decide(named: Option<&str>, existing: &[Existing], ttl: Duration) -> Decision {
    let youngest = |counts: &dyn Fn(&Existing) -> bool| {
        let unfinished = |request: &Existing| !request.phase.is_terminal() && counts(request);
        let candidates = existing.iter().enumerate().filter(|(_, request)| unfinished(request));
        candidates.min_by_key(|(_, request)| request.age).map(|(at, _)| at)
    };
    youngest(&|request| Some(request.name.as_str()) == named)
        .or_else(|| youngest(&|request| request.phase == Phase::Processing))
        .or_else(|| youngest(&|request| request.age < ttl))
        .map_or(Decision::Create, Decision::DuplicateOf)
}

#[cfg(test)]
mod tests {
    use Decision::{Create, DuplicateOf};
    use Phase::{Completed, Failed, Pending, Processing, Unset};

    use super::*;

    const TTL: Duration = Duration::from_mins(5);
    const YOUNG: u64 = 10;
    const OLD: u64 = 301;

    /// Requests named `r0`, `r1`, … of these phases and ages in seconds.
    fn requests(of: &[(Phase, u64)]) -> Vec<Existing> {
        let named = of.iter().enumerate().map(|(at, (phase, age))| Existing {
            name: format!("r{at}"),
            phase: *phase,
            age: Duration::from_secs(*age),
        });
        named.collect()
    }

    #[test]
    fn the_table_holds() {
        for (named, existing, decision) in [
            (Some("r0"), vec![(Unset, OLD)], DuplicateOf(0)),
            (Some("r0"), vec![(Pending, YOUNG)], DuplicateOf(0)),
            (Some("r0"), vec![(Processing, OLD)], DuplicateOf(0)),
            (Some("r0"), vec![(Unset, OLD), (Processing, YOUNG)], DuplicateOf(0)),
            (Some("r0"), vec![(Completed, YOUNG)], Create),
            (Some("r0"), vec![(Failed, YOUNG)], Create),
            (Some("r0"), vec![(Completed, YOUNG), (Processing, OLD)], DuplicateOf(1)),
            (Some("r0"), vec![(Completed, OLD), (Pending, YOUNG)], DuplicateOf(1)),
            (Some("r0"), vec![(Completed, YOUNG), (Pending, OLD)], Create),
            (Some("gone"), vec![], Create),
            (Some("gone"), vec![(Pending, OLD)], Create),
            (Some("gone"), vec![(Processing, OLD)], DuplicateOf(0)),
            (None, vec![], Create),
            (None, vec![(Unset, YOUNG)], DuplicateOf(0)),
            (None, vec![(Pending, OLD)], Create),
            (None, vec![(Completed, YOUNG)], Create),
            (None, vec![(Processing, OLD)], DuplicateOf(0)),
            (None, vec![(Processing, OLD), (Processing, YOUNG)], DuplicateOf(1)),
            (None, vec![(Unset, 5), (Pending, 3), (Completed, 1)], DuplicateOf(1)),
            (None, vec![(Unset, YOUNG), (Processing, OLD)], DuplicateOf(1)),
        ] {
            let found = decide(named, &requests(&existing), TTL);
            assert_eq!(found, decision, "{named:?} with {existing:?}");
        }
    }

    #[test]
    fn a_finished_request_is_never_a_duplicate() {
        for named in [None, Some("r0")] {
            for phase in [Completed, Failed] {
                assert_eq!(decide(named, &requests(&[(phase, 0)]), TTL), Create);
            }
        }
    }

    #[test]
    fn a_phase_of_a_newer_controller_counts_as_processing() {
        for (text, phase) in [
            (None, Unset),
            (Some(""), Unset),
            (Some("Pending"), Pending),
            (Some("Processing"), Processing),
            (Some("Analyzing"), Processing),
            (Some("Completed"), Completed),
            (Some("Failed"), Failed),
        ] {
            assert_eq!(Phase::read(text), phase, "{text:?}");
        }
    }
}
