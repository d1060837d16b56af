//! Sets of offsets as ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::Offset;

/// A set of offsets. Its ranges, each from a first offset to before an end, are not empty and do
/// not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(BTreeMap<Offset, Offset>);

impl Ranges {
    /// Adds what lies from `first` to before `end`; how many offsets were not there before.
    pub fn insert(&mut self, first: Offset, end: Offset) -> u64 {
        if first >= end {
            return 0;
        }
        let (mut from, mut to, mut known) = (first, end, 0);
        while let Some((&start, &stop)) = self.0.range(..=to).next_back()
            && stop >= from
        {
            known += stop.min(end).saturating_sub(start.max(first));
            (from, to) = (from.min(start), to.max(stop));
            self.0.remove(&start);
        }
        self.0.insert(from, to);
        end - first - known
    }

    /// Takes out what lies before `end`.
    pub fn cut(&mut self, end: Offset) {
        let kept = self.0.split_off(&end);
        if let Some((_, stop)) = std::mem::replace(&mut self.0, kept).pop_last()
            && stop > end
        {
            self.0.insert(end, stop);
        }
    }

    /// Takes out the range that begins at or before `at` and reaches it: where it ends.
    pub fn take_at(&mut self, at: Offset) -> Option<Offset> {
        let (&start, &stop) = self.0.range(..=at).next_back()?;
        (stop >= at).then(|| self.0.remove(&start))?
    }

    /// Whether the offset is in it.
    pub fn covers(&self, offset: Offset) -> bool {
        self.overlaps(offset, offset.saturating_add(1))
    }

    /// Whether some offset from `first` to before `end` is in it.
    pub fn overlaps(&self, first: Offset, end: Offset) -> bool {
        let last = self.0.range(..end).next_back();
        last.is_some_and(|(_, stop)| *stop > first)
    }

    /// How many offsets are in it.
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, end)| end - first).sum()
    }

    /// How many ranges it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, Offset)> + '_ {
        self.0.iter().map(|(first, end)| (*first, *end))
    }

    /// Takes out its first `count` ranges.
    pub fn split(&mut self, count: usize) -> Self {
        let rest = match self.0.keys().nth(count).copied() {
            Some(first) => self.0.split_off(&first),
            None => BTreeMap::new(),
        };
        Self(std::mem::replace(&mut self.0, rest))
    }
}

impl Extend<(Offset, Offset)> for Ranges {
    fn extend<I: IntoIterator<Item = (Offset, Offset)>>(&mut self, ranges: I) {
        for (first, end) in ranges {
            self.insert(first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ranges(list: &[(Offset, Offset)]) -> Ranges {
        let mut ranges = Ranges::default();
        ranges.extend(list.iter().copied());
        ranges
    }

    #[test]
    fn ranges_that_meet_are_one() {
        let mut set = ranges(&[(1, 3), (5, 7), (9, 10)]);
        assert_eq!(set.insert(3, 5), 2);
        assert_eq!(set, ranges(&[(1, 7), (9, 10)]));
        assert_eq!(set.insert(2, 12), 4);
        assert_eq!((set.len(), set.count()), (1, 11));
        assert_eq!(set.insert(4, 4), 0);
    }

    #[test]
    fn what_is_cut_is_gone_and_what_is_split_off_is_elsewhere() {
        let mut set = ranges(&[(1, 4), (6, 9), (11, 12)]);
        set.cut(7);
        assert_eq!(set, ranges(&[(7, 9), (11, 12)]));
        assert_eq!(set.take_at(6), None);
        assert_eq!(set.split(1), ranges(&[(7, 9)]));
        assert_eq!(set.take_at(11), Some(12));
        assert!(set.is_empty());
    }

    // Against a set of single offsets, from a small fixed generator.
    #[test]
    fn it_is_the_set_of_what_was_put_in() {
        let (mut set, mut single) = (Ranges::default(), BTreeSet::new());
        let mut state = 7_u64;
        for _ in 0..2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (first, len) = ((state >> 33) % 200, (state >> 50) % 9);
            let new = (first..first + len).filter(|o| single.insert(*o)).count();
            assert_eq!(set.insert(first, first + len), new as u64);
            if (state >> 40).is_multiple_of(64) {
                set.cut(first);
                single = single.split_off(&first);
            }
            assert_eq!(set.count(), single.len() as u64);
            let covered: Vec<Offset> = (0..220).filter(|o| set.covers(*o)).collect();
            assert!(covered.iter().eq(single.iter()));
        }
    }
}
