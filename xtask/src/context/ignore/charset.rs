//! A set of characters: what one `[…]`, `\d` or `\pL` stands for.

/// Inclusive ranges of code points, sorted, neither touching nor overlapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CharSet(Vec<(u32, u32)>);

const LAST: u32 = char::MAX as u32;

impl CharSet {
    pub(super) fn new(mut ranges: Vec<(u32, u32)>) -> CharSet {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        CharSet(merged)
    }

    pub(super) fn one(c: char) -> CharSet {
        CharSet(vec![(c.into(), c.into())])
    }

    pub(super) fn negated(&self) -> CharSet {
        let mut ranges = Vec::with_capacity(self.0.len() + 1);
        let mut from = 0;
        for &(low, high) in &self.0 {
            if low > from {
                ranges.push((from, low - 1));
            }
            from = high + 1;
        }
        if from <= LAST {
            ranges.push((from, LAST));
        }
        CharSet(ranges)
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let code = u32::from(c);
        let after = self.0.partition_point(|&(low, _)| low <= code);
        after > 0 && code <= self.0[after - 1].1
    }

    pub(super) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_turn_round() {
        let set = CharSet::new(vec![(0x62, 0x63), (0x61, 0x61), (0x78, 0x7a), (0x79, 0x79)]);
        assert_eq!(set.ranges(), [(0x61, 0x63), (0x78, 0x7a)]);
        assert_eq!(set.negated().negated(), set);
        for c in '\0'..='\u{ff}' {
            assert_eq!(set.contains(c), "abcxyz".contains(c));
            assert_eq!(set.negated().contains(c), !"abcxyz".contains(c));
        }
    }
}
