//! How figures and words look.

use std::fmt::Write as _;
use std::time::Duration;

pub const RED: &str = "\x1b[31m";
pub const GREEN: &str = "\x1b[32m";
pub const YELLOW: &str = "\x1b[33m";
pub const DIM: &str = "\x1b[2m";
pub const BOLD: &str = "\x1b[1m";
pub const OFF: &str = "\x1b[0m";

/// Bytes in the unit people read: `612 B`, `25.8 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time as people read it: `0.3 s`, `42 s`, `4 min 05 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // A figure that no time has is shown as the longest there is.
    let whole = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX).as_secs();
    if whole < 60 {
        format!("{whole} s")
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// A whole number in groups of three: `7,994`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `2 files`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// The first few of a list, then how many more: `a, b and 3 more`.
pub fn some<T: std::fmt::Display>(items: &[T], most: usize) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().take(most).enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        // Writing to a string does not fail.
        write!(text, "{comma}{item}").ok();
    }
    if items.len() > most {
        write!(text, " and {} more", items.len() - most).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(
            [0, 1023, 1024, 27_053_261].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "25.8 MiB"]
        );
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(
            [0.04, 9.9, 9.96, 59.4, 59.6, 245.0].map(seconds),
            ["0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "4 min 05 s"]
        );
        assert_eq!([0, 999, 7994, 1_234_567].map(count), ["0", "999", "7,994", "1,234,567"]);
        assert_eq!(some(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
