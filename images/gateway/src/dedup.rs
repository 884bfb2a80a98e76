//! New request or duplicate: the decision, without I/O (BR-GATEWAY-012, DD-GATEWAY-009).
//!
//! | what Redis says | requests of this fingerprint in the namespace | decision |
//! | --- | --- | --- |
//! | key alive, names R | R is there and not finished | duplicate of R |
//! | key alive, names R | R finished or gone, another is being processed | duplicate of that |
//! | key alive, names R | R finished or gone, none is being processed | new |
//! | no key | one is being processed | duplicate of that |
//! | no key | none is being processed: unset, pending or finished ones only | new |
//! | Redis away | one not finished is being processed, or younger than the TTL | duplicate of the youngest |
//! | Redis away | else | new |
//!
//! Finished means `Completed` or `Failed`. A request nobody has taken up counts only while its key lives:
//! its signal fires on, so after the TTL it is worth a new one. One that is being processed
//! counts however long it takes.

use std::time::Duration;

/// What Redis knows of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// Redis is away.
    Nothing,
    /// No key: never seen, or longer ago than the TTL.
    Absent,
    /// The key is alive and names this request.
    Request(&'a str),
}

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

/// The table above; `ttl` is how long a request swallows repeats.
pub fn decide(known: Known<'_>, existing: &[Existing], ttl: Duration) -> Decision {
    let youngest = |counts: &dyn Fn(&Existing) -> bool| {
        let candidates = existing.iter().enumerate().filter(|(_, request)| counts(request));
        candidates.min_by_key(|(_, request)| request.age).map(|(at, _)| at)
    };
    let processing = |request: &Existing| request.phase == Phase::Processing;
    let duplicate = match known {
        Known::Request(name) => {
            youngest(&|request| request.name == name && !request.phase.is_terminal())
                .or_else(|| youngest(&processing))
        }
        Known::Absent => youngest(&processing),
        Known::Nothing => youngest(&|request| {
            processing(request) || (!request.phase.is_terminal() && request.age < ttl)
        }),
    };
    duplicate.map_or(Decision::Create, Decision::DuplicateOf)
}

#[cfg(test)]
mod tests {
    use Decision::{Create, DuplicateOf};
    use Phase::{Completed, Failed, Pending, Processing, Unset};

    use super::*;

    const TTL: Duration = Duration::from_secs(300);
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
        for (known, existing, decision) in [
            (Known::Request("r0"), vec![(Unset, OLD)], DuplicateOf(0)),
            (Known::Request("r0"), vec![(Pending, YOUNG)], DuplicateOf(0)),
            (Known::Request("r0"), vec![(Processing, OLD)], DuplicateOf(0)),
            (Known::Request("r0"), vec![(Completed, YOUNG)], Create),
            (Known::Request("r0"), vec![(Failed, YOUNG)], Create),
            (Known::Request("r0"), vec![(Completed, YOUNG), (Processing, OLD)], DuplicateOf(1)),
            (Known::Request("r0"), vec![(Completed, OLD), (Pending, YOUNG)], Create),
            (Known::Request("gone"), vec![], Create),
            (Known::Request("gone"), vec![(Pending, YOUNG)], Create),
            (Known::Request("gone"), vec![(Processing, YOUNG)], DuplicateOf(0)),
            (Known::Absent, vec![], Create),
            (Known::Absent, vec![(Unset, YOUNG)], Create),
            (Known::Absent, vec![(Pending, OLD)], Create),
            (Known::Absent, vec![(Completed, YOUNG)], Create),
            (Known::Absent, vec![(Processing, OLD)], DuplicateOf(0)),
            (Known::Absent, vec![(Processing, OLD), (Processing, YOUNG)], DuplicateOf(1)),
            (Known::Nothing, vec![], Create),
            (Known::Nothing, vec![(Unset, YOUNG)], DuplicateOf(0)),
            (Known::Nothing, vec![(Pending, OLD)], Create),
            (Known::Nothing, vec![(Processing, OLD)], DuplicateOf(0)),
            (Known::Nothing, vec![(Failed, YOUNG)], Create),
            (Known::Nothing, vec![(Unset, 5), (Pending, 3), (Completed, 1)], DuplicateOf(1)),
        ] {
            let found = decide(known, &requests(&existing), TTL);
            assert_eq!(found, decision, "{known:?} with {existing:?}");
        }
    }

    #[test]
    fn a_finished_request_is_never_a_duplicate() {
        for known in [Known::Nothing, Known::Absent, Known::Request("r0")] {
            for phase in [Completed, Failed] {
                assert_eq!(decide(known, &requests(&[(phase, 0)]), TTL), Create);
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
