//! Numbers that are read from files: each has a bound, so that no sum of them and no time made of
//! them overflows.
//!
//! A figure beyond its bound is nothing we have written: what it stands in counts as damaged.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

/// The most bytes: an EiB. No machine has as many, and fifteen of them are a number still.
pub const MOST_BYTES: u64 = 1 << 60;
/// The longest time: a week, in seconds.
pub const MOST_SECONDS: f64 = 7.0 * 24.0 * 3600.0;

/// Seconds: finite, not negative, at most a week.
pub fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(from)?;
    if (0.0..=MOST_SECONDS).contains(&seconds) {
        return Ok(seconds);
    }
    Err(D::Error::invalid_value(Unexpected::Float(seconds), &"at most a week, in seconds"))
}

/// Bytes, or a count of things: at most [`MOST_BYTES`].
pub fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let bytes = u64::deserialize(from)?;
    if bytes <= MOST_BYTES {
        return Ok(bytes);
    }
    Err(D::Error::invalid_value(Unexpected::Unsigned(bytes), &"at most an EiB"))
}

/// As [`seconds`], for a figure that may be missing.
pub fn seconds_if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Seconds(#[serde(deserialize_with = "seconds")] f64);
    Ok(Option::<Seconds>::deserialize(from)?.map(|Seconds(seconds)| seconds))
}

/// As [`bytes`], for a figure that may be missing.
pub fn bytes_if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Bytes>::deserialize(from)?.map(|Bytes(bytes)| bytes))
}

/// Bytes where they stand among others: in a list, a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Bytes(#[serde(deserialize_with = "bytes")] pub u64);

/// The sum, or as much as a number holds.
pub fn sum(figures: impl IntoIterator<Item = u64>) -> u64 {
    figures.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use serde_json::from_str;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct All {
        #[serde(deserialize_with = "seconds")]
        seconds: f64,
        #[serde(default, deserialize_with = "seconds_if_known")]
        expected: Option<f64>,
        #[serde(default, deserialize_with = "bytes_if_known")]
        peak: Option<u64>,
    }

    #[test]
    fn what_is_beyond_its_bound_is_damaged() {
        let read = |text: &str| from_str::<All>(text);
        let fine = read(r#"{"seconds":1.5,"expected":null,"peak":7}"#).unwrap();
        assert_eq!((fine.seconds, fine.expected, fine.peak), (1.5, None, Some(7)));
        assert!(read(r#"{"seconds":604800}"#).is_ok_and(|all| all.peak.is_none()));
        for text in [
            r#"{"seconds":1e300}"#,
            r#"{"seconds":-1}"#,
            r#"{"seconds":604801}"#,
            r#"{"seconds":1,"expected":1e300}"#,
            r#"{"seconds":1,"peak":18446744073709551615}"#,
            r#"{"seconds":1,"peak":-1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(sum([u64::MAX, u64::MAX]), u64::MAX);
    }
}
