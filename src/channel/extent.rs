//! What a stored partition retains: from which offset, how many bytes, how old; and how many
//! records it let go of, and why. The same on every replica, since it follows the log alone.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::types::{Offset, Sabotage, Span, TrimCause, Wall};

/// Marks of one extent. Beyond it neighbours become one, so a trim is as exact as one mark in this
/// many.
const MARKS_MAX: usize = 1_024;

/// What a channel's `keep` asks for; nothing where a bound is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Records are kept at least so long, and let go of soon after.
    pub age: Option<Span>,
    /// Bytes of entries of one partition, at most, but for its newest entries.
    pub bytes: Option<u64>,
    /// Records of one partition, at most.
    pub count: Option<u64>,
}

/// How many records of a partition were let go of, by the bound that they passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trimmed {
    /// They were too old.
    pub age: u64,
    /// The partition held too many bytes.
    pub size: u64,
    /// The partition held too many records.
    pub count: u64,
}

/// The retained part of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Extent {
    first: Offset,
    end: Offset,
    /// Bytes of the entries that hold retained records.
    bytes: u64,
    trimmed: Trimmed,
    /// Runs of whole entries, without a gap. The first may begin before `first`.
    marks: VecDeque<Mark>,
    /// A mark takes no more entries once it has so many bytes.
    mark_bytes: u64,
}

/// A run of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    first: Offset,
    /// Raft's index of its first entry.
    index: u64,
    bytes: u64,
    /// The time of its newest entry.
    newest: Wall,
    /// The time of the entry before its first.
    #[serde(default)]
    before: Wall,
}

impl Extent {
    /// The first retained offset.
    pub(super) fn first(&self) -> Offset {
        self.first
    }

    /// The next offset to come.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn trimmed(&self) -> Trimmed {
        self.trimmed
    }

    /// Raft's index of the first entry that holds a retained record, if there is one.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.marks.front().map(|mark| mark.index)
    }

    /// The first entry that holds a retained record: Raft's index, its first offset, and the time
    /// of the entry before it.
    pub(super) fn begins(&self) -> Option<(u64, Offset, Wall)> {
        let mark = self.marks.front()?;
        Some((mark.index, mark.first, mark.before))
    }

    /// The time of the newest entry that holds a retained record.
    pub(super) fn newest(&self) -> Option<Wall> {
        self.marks.back().map(|mark| mark.newest)
    }

    /// The next entry of records, with Raft's index, the time of the entry before it, and its own.
    pub(super) fn push(
        &mut self,
        index: u64,
        count: u64,
        bytes: u64,
        (before, time): (Wall, Wall),
    ) {
        let first = self.end;
        self.end += count;
        self.bytes += bytes;
        match self.marks.back_mut() {
            Some(mark) if mark.bytes + bytes <= self.mark_bytes => {
                mark.bytes += bytes;
                mark.newest = time;
            }
            _ => self.marks.push_back(Mark {
                first,
                index,
                bytes,
                newest: time,
                before,
            }),
        }
        if self.marks.len() > MARKS_MAX {
            self.halve_marks();
        }
    }

    /// What is to be let go of by now, and for which of the bounds.
    pub(super) fn due(&self, keep: &Bounds, now: Wall) -> Option<(Offset, TrimCause)> {
        let too_old = keep.age.map_or(self.first, |age| {
            let oldest = Wall(now.0.saturating_sub(age.as_millis()));
            let old = self.runs().take_while(|(mark, _)| mark.newest < oldest);
            old.last().map_or(self.first, |(_, end)| end)
        });
        let too_large = keep.bytes.map_or(self.first, |bound| {
            let mut left = self.bytes;
            // The last run stays: what is newest is kept, however large.
            let large = self.runs().take(self.marks.len().saturating_sub(1));
            let large = large.take_while(|(mark, _)| {
                let passes = left > bound;
                left -= mark.bytes;
                passes
            });
            large.last().map_or(self.first, |(_, end)| end)
        });
        let too_many = keep
            .count
            .map_or(self.first, |count| self.end.saturating_sub(count));
        let wishes = [
            (too_old, TrimCause::Age),
            (too_large, TrimCause::Size),
            (too_many, TrimCause::Count),
        ];
        // Of equal ones the first counts.
        let furthest = wishes.into_iter().rev().max_by_key(|(first, _)| *first);
        let due = furthest.filter(|(first, _)| *first > self.first);
        match Sabotage::EarlyTrim.is_on() {
            true => due.map(|(first, cause)| ((first + 1).min(self.end), cause)),
            false => due,
        }
    }

    /// Lets go of what lies before `first`. True if there was such.
    pub(super) fn trim(&mut self, first: Offset, cause: TrimCause) -> bool {
        if first <= self.first || first > self.end {
            return false;
        }
        let count = match Sabotage::UncountedTrim.is_on() {
            true => 0,
            false => first - self.first,
        };
        match cause {
            TrimCause::Age => self.trimmed.age += count,
            TrimCause::Size => self.trimmed.size += count,
            TrimCause::Count => self.trimmed.count += count,
        }
        self.first = first;
        let gone = self.runs().take_while(|(_, end)| *end <= first).count();
        for mark in self.marks.drain(..gone) {
            self.bytes -= mark.bytes;
        }
        // What is left is small beside what there was: marks are as fine again.
        if self.marks.len() < MARKS_MAX / 4 {
            self.mark_bytes /= 2;
        }
        true
    }

    /// Each mark, and where its run ends.
    fn runs(&self) -> impl Iterator<Item = (&Mark, Offset)> {
        let ends = self.marks.iter().skip(1).map(|mark| mark.first);
        self.marks.iter().zip(ends.chain([self.end]))
    }

    fn halve_marks(&mut self) {
        let mut kept: VecDeque<Mark> = VecDeque::with_capacity(MARKS_MAX);
        let mut largest = 0;
        while let Some(mut mark) = self.marks.pop_front() {
            if let Some(next) = self.marks.pop_front() {
                mark.bytes += next.bytes;
                mark.newest = next.newest;
            }
            largest = largest.max(mark.bytes);
            kept.push_back(mark);
        }
        self.marks = kept;
        self.mark_bytes = largest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Bounds = Bounds {
        age: None,
        bytes: None,
        count: None,
    };

    /// Entries of two records and 100 bytes each, one every second.
    fn extent(entries: u64) -> Extent {
        let mut extent = Extent::default();
        for entry in 0..entries {
            extent.push(entry + 1, 2, 100, (Wall(0), Wall(entry * 1_000)));
        }
        extent
    }

    fn due(extent: &Extent, keep: Bounds, now: u64) -> Option<(Offset, TrimCause)> {
        extent.due(&keep, Wall(now))
    }

    #[test]
    fn each_bound_asks_for_its_own() {
        let extent = extent(10);
        assert_eq!(due(&extent, NONE, u64::MAX), None);
        let age = Bounds {
            age: Some(Span::from_secs(4)),
            ..NONE
        };
        assert_eq!(due(&extent, age, 4_000), None);
        assert_eq!(due(&extent, age, 6_001), Some((6, TrimCause::Age)));
        assert_eq!(due(&extent, age, 60_000), Some((20, TrimCause::Age)));
        let size = Bounds {
            bytes: Some(250),
            ..NONE
        };
        assert_eq!(due(&extent, size, 0), Some((16, TrimCause::Size)));
        let tiny = Bounds {
            bytes: Some(1),
            ..NONE
        };
        assert_eq!(due(&extent, tiny, 0), Some((18, TrimCause::Size)));
        let count = Bounds {
            count: Some(5),
            ..NONE
        };
        assert_eq!(due(&extent, count, 0), Some((15, TrimCause::Count)));
        let both = Bounds {
            count: Some(4),
            ..size
        };
        assert_eq!(due(&extent, both, 0), Some((16, TrimCause::Size)));
    }

    #[test]
    fn promise_1_what_is_trimmed_is_counted_once() {
        let mut extent = extent(10);
        assert!(extent.trim(5, TrimCause::Count));
        assert!(!extent.trim(5, TrimCause::Age), "it is gone already");
        assert!(!extent.trim(21, TrimCause::Age), "it never was");
        // The entry that offset 5 is in stays whole.
        assert_eq!((extent.first(), extent.bytes()), (5, 800));
        assert!(extent.trim(20, TrimCause::Age));
        assert_eq!((extent.end(), extent.bytes()), (20, 0));
        let trimmed = Trimmed {
            age: 15,
            size: 0,
            count: 5,
        };
        assert_eq!(extent.trimmed(), trimmed);
        assert_eq!(extent.first_index(), None);
        extent.push(14, 1, 7, (Wall(0), Wall(99_000)));
        assert_eq!((extent.end(), extent.bytes()), (21, 7));
        assert_eq!(extent.first_index(), Some(14));
    }

    #[test]
    fn promise_5_a_long_partition_has_few_marks() {
        let mut extent = extent(100_000);
        assert!(extent.marks.len() <= MARKS_MAX);
        let size = Bounds {
            bytes: Some(5_000_000),
            ..NONE
        };
        let (first, _) = due(&extent, size, 0).expect("half of it");
        let (half, exactness) = (100_000, 200_000 / 256);
        assert!((half..half + exactness).contains(&first), "{first}");
        extent.trim(first, TrimCause::Size);
        assert!(extent.bytes() <= 5_000_000);
    }
}
