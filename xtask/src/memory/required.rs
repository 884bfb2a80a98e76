//! How much a build would have needed that was killed for memory although it ran alone.
//!
//! It went on until there was no more, so what it had says only that it needs more than that. What
//! says more:
//!
//! 1. The image went well before: it took so much then, as measured.
//! 2. Its processes had asked the kernel for more than they were using when they were killed. What
//!    they would have asked for later is not known. Some programs map far more than they will ever
//!    use (an address sanitizer: terabytes), so more than four times what was in use says nothing.
//! 3. Nothing. Twice what it had is a guess, and is called one.
//!
//! Figures that are measured get a quarter on top: memory is looked at five times a second, not
//! always at its highest.

use std::fmt;

use crate::text::bytes;

/// Beyond so many times what is in use, what is asked for says nothing.
const PLAUSIBLE: u64 = 4;

/// What should be enough, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enough {
    pub bytes: u64,
    basis: Basis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    WentWell(u64),
    Asked(u64),
    Guess,
}

/// What should be enough for a build that had `seen` bytes when it was killed and had `asked` for
/// more, and that took `well` when it last ended well.
pub fn enough(seen: u64, asked: Option<u64>, well: Option<u64>) -> Enough {
    let more = |bytes: &u64| *bytes > seen;
    let plausible = |bytes: &u64| *bytes / PLAUSIBLE <= seen;
    let basis = match (well.filter(more), asked.filter(more).filter(plausible)) {
        (Some(well), _) => Basis::WentWell(well),
        (None, Some(asked)) => Basis::Asked(asked),
        (None, None) => Basis::Guess,
    };
    let bytes = match basis {
        Basis::WentWell(bytes) | Basis::Asked(bytes) => bytes.saturating_add(bytes / 4),
        Basis::Guess => seen.saturating_mul(2),
    };
    Enough { bytes, basis }
}

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enough = bytes(self.bytes);
        match self.basis {
            Basis::WentWell(well) => {
                let well = bytes(well);
                write!(f, "it took {well} when it last went well, so {enough} should be enough")
            }
            Basis::Asked(asked) => write!(
                f,
                "it had asked for {} by then, so {enough} should be enough if it asks for no \
                 more later",
                bytes(asked)
            ),
            Basis::Guess => write!(
                f,
                "how much more it would have taken cannot be seen; {enough}, twice what it had, is a guess"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_best_counts_and_a_guess_is_called_one() {
        const MIB: u64 = 1 << 20;
        let told = |asked: Option<u64>, well: Option<u64>| {
            let of = |mib: Option<u64>| mib.map(|mib| mib * MIB);
            enough(448 * MIB, of(asked), of(well)).to_string()
        };
        insta::assert_snapshot!(
            [
                told(Some(904), Some(1024)),
                told(Some(904), None),
                told(Some(904), Some(300)),
                told(Some(9000), None),
                told(Some(400), Some(448)),
                told(None, None),
            ].join("\n"),
            @r"
        it took 1.0 GiB when it last went well, so 1.2 GiB should be enough
        it had asked for 904.0 MiB by then, so 1.1 GiB should be enough if it asks for no more later
        it had asked for 904.0 MiB by then, so 1.1 GiB should be enough if it asks for no more later
        how much more it would have taken cannot be seen; 896.0 MiB, twice what it had, is a guess
        how much more it would have taken cannot be seen; 896.0 MiB, twice what it had, is a guess
        how much more it would have taken cannot be seen; 896.0 MiB, twice what it had, is a guess
        "
        );
    }
}
