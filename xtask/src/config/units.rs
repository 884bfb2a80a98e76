//! Sizes ("1.5 GiB") and times ("15m") as people write them.
//!
//! Always with a unit: a bare `2` may mean bytes or gigabytes, seconds or minutes. Zero is refused
//! (whoever writes it means "no limit", which is the key left out), and so is a time of more than a
//! week (a slip of the unit; it would also overflow a deadline).

use std::time::Duration;

use bytesize::ByteSize;

const WEEK: Duration = Duration::from_hours(24 * 7);

/// What is wrong with a value, and how to write it.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Bytes of a size such as "1.5 GiB" or "500 MB".
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong =
        |message: String| Wrong { message, hint: "write it like \"1.5 GiB\" or \"500 MB\"" };
    if text.parse::<f64>().is_ok() {
        return Err(wrong(format!("size `{text}` has no unit")));
    }
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err(wrong(format!("size `{text}` is nothing"))),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err(wrong(format!("`{text}` is not a size"))),
    }
}

/// A time such as "15m", "90s" or "1h 30m".
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong =
        |message: String| Wrong { message, hint: "write it like \"90s\", \"15m\" or \"1h 30m\"" };
    if text.parse::<f64>().is_ok() {
        return Err(wrong(format!("time `{text}` has no unit")));
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(wrong(format!("time `{text}` is nothing"))),
        Ok(time) if time > WEEK => Err(wrong(format!("time `{text}` is more than a week"))),
        Ok(time) => Ok(time),
        Err(_) => Err(wrong(format!("`{text}` is not a time"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1.5 GiB", Some(1_610_612_736)),
            ("500 MB", Some(500_000_000)),
            ("5MiB", Some(5_242_880)),
            ("1 B", Some(1)),
            ("0", None),
            ("2", None),
            ("0 GiB", None),
            ("0.1 B", None),
            ("-1 GiB", None),
            ("1.5.5 GiB", None),
            ("GiB", None),
            ("inf GiB", None),
            ("1.5 Gigs", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, seconds) in [
            ("15m", Some(900)),
            ("1h 30m", Some(5400)),
            ("7d", Some(604_800)),
            ("8d", None),
            ("100000000000 years", None),
            ("0s", None),
            ("0", None),
            ("15", None),
            ("-5m", None),
            ("5 lightyears", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok().map(|time| time.as_secs()), seconds, "{text}");
        }
    }
}
