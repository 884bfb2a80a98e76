//! The fingerprint of a signal (BR-GATEWAY-004): SHA-256 over its name and its target's namespace,
//! kind and name, in this order, each preceded by its length in bytes as 8 bytes, big end first.
//!
//! The lengths keep `("ab", "c")` apart from `("a", "bc")`. Nothing else goes in: severity, times,
//! annotations and other labels change while the trouble stays the same, and an event and an
//! alert about one trouble are one signal. No state goes in, so every replica and every restart
//! agrees.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::signal::TargetResource;

/// 32 bytes, printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(name: &str, target: &TargetResource) -> Self {
        let mut hash = Sha256::new();
        for part in [name, &target.namespace, &target.kind, &target.name] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// As a label value, which takes 63 characters: all but the last digit.
    pub fn label(&self) -> String {
        self.to_string()[..63].to_owned()
    }

    /// The first 12 digits, for names that people read.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// A number below `count`, evenly spread.
    pub fn spread(&self, count: usize) -> usize {
        usize::from(self.0[0]) % count
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(parts: [&str; 4]) -> Fingerprint {
        let [name, namespace, kind, resource] = parts.map(str::to_owned);
        Fingerprint::of(&name, &TargetResource { kind, name: resource, namespace })
    }

    /// Computed by another program (Python's hashlib). A change breaks de-duplication across
    /// an upgrade, so it must not happen unseen.
    #[test]
    fn it_is_the_one_it_always_was() {
        assert_eq!(
            of(["KubePodCrashLooping", "prod", "Pod", "web-0"]).to_string(),
            "aa930d61c5874651bd764fa0b4fb979e30197c7a4486a949cc20c50ad640f578"
        );
    }

    #[test]
    fn a_label_value_and_a_short_form_begin_it() {
        let fingerprint = of(["a", "b", "C", "d"]);
        let whole = fingerprint.to_string();
        assert_eq!(whole.len(), 64);
        assert_eq!(fingerprint.label(), whole[..63]);
        assert_eq!(fingerprint.short(), whole[..12]);
    }

    proptest! {
        #[test]
        fn equal_parts_and_only_they_give_equal_fingerprints(
            left in prop::array::uniform4("[ab]{0,3}"),
            right in prop::array::uniform4("[ab]{0,3}"),
        ) {
            let same = of(left.each_ref().map(String::as_str))
                == of(right.each_ref().map(String::as_str));
            prop_assert_eq!(same, left == right);
        }
    }
}
