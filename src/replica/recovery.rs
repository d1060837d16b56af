//! A replica's log as its journal tells it, item by item, in the order they were written.

use std::collections::VecDeque;

use super::LogStart;
use crate::types::{Checkpoint, CoveredEntries, LogEntry, Offset, Sabotage, Wall};

/// The terms of a log as runs: cheap, since a term lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// The index before the first, and its term: 0 and 0 for a log from its beginning.
    start: (u64, u64),
    /// (first index, term), both rising.
    runs: Vec<(u64, u64)>,
    last: u64,
}

/// What recovery has gathered of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Raft's term.
    pub(super) term: u64,
    /// Raft's vote in it.
    pub(super) vote: u64,
    /// Raft's commit index.
    pub(super) commit: u64,
    pub(super) terms: Terms,
    /// Entries above `commit`.
    pub(super) tail: VecDeque<LogEntry>,
    /// The offset after the entry at `commit`.
    committed_offset: Offset,
    /// The time of the entry at `commit`.
    committed_time: Wall,
    /// Set while the log begins with a checkpoint and no hard state was told since.
    covered: Option<Covered>,
    /// Where it begins; the index and term are those of `terms`.
    pub(super) start: LogStart,
    /// Set while the log begins with a snapshot and no hard state was told since: entries that do
    /// not fit are void.
    unsettled: bool,
}

/// The entries that a checkpoint is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Covered {
    /// The last of them, and its term.
    index: u64,
    term: u64,
}

/// A journal whose items contradict each other. The node must not start on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// An entry that does not follow the one before.
    #[error("entry {index} follows entry {last}, and {commit} are committed")]
    Gap {
        /// Its index.
        index: u64,
        /// The last index before it.
        last: u64,
        /// What is committed.
        commit: u64,
    },
    /// Offsets that do not continue.
    #[error("entry {index} begins at offset {first_offset} instead of {expected}")]
    Offset {
        /// Its index.
        index: u64,
        /// What it says.
        first_offset: Offset,
        /// What it should say.
        expected: Offset,
    },
    /// A hard state that goes back, or beyond the log.
    #[error(
        "the hard state (term {term}, commit {commit}) does not follow the log \
         (term {had}, commit {committed}, last index {last})"
    )]
    HardState {
        /// Its term.
        term: u64,
        /// Its commit index.
        commit: u64,
        /// The term before.
        had: u64,
        /// The commit index before.
        committed: u64,
        /// The last index.
        last: u64,
    },
    /// A checkpoint of an entry that is not the log's.
    #[error(
        "the checkpoint of entry {index} of term {term} is not of this log, which ends at {last}"
    )]
    Checkpoint {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// The last index.
        last: u64,
    },
    /// A founding record that cannot be read, or a second one.
    #[error("the founding record of {0} is unreadable or not the only one")]
    Founding(String),
    /// A committed entry whose head does not say what it should.
    #[error("entry {index} is unreadable: {error}")]
    Unreadable {
        /// Its index.
        index: u64,
        /// What is wrong.
        error: String,
    },
    /// An item before its partition's founding record.
    #[error("the journal holds something of {0} before its founding record")]
    Unfounded(String),
}

impl RecoveredLog {
    /// A log of which a checkpoint holds what came of the entries up to its own.
    pub fn after(checkpoint: &Checkpoint) -> Self {
        let mut log = Self {
            term: checkpoint.term,
            commit: checkpoint.index,
            committed_offset: checkpoint.next_offset,
            committed_time: checkpoint.time,
            covered: Some(Covered {
                index: checkpoint.index,
                term: checkpoint.term,
            }),
            ..Self::default()
        };
        let before = checkpoint.keep_from.saturating_sub(1).min(checkpoint.index);
        log.terms.begin_after(before, checkpoint.before_term);
        log.start = LogStart::before(checkpoint);
        log
    }

    /// The log begins anew with what another replica sent; true if its state counts. What came of
    /// its entries is known already where the log began with a later checkpoint.
    pub fn handle_snapshot(&mut self, checkpoint: &Checkpoint) -> bool {
        self.tail.clear();
        if self.covered.is_some() {
            let (start, term) = self.terms.start;
            self.terms.begin_after(start, term);
            return false;
        }
        let start = checkpoint.keep_from.saturating_sub(1);
        self.terms.begin_after(start, checkpoint.before_term);
        self.start = LogStart::before(checkpoint);
        (self.commit, self.committed_offset) = (start, checkpoint.before_offset);
        self.committed_time = checkpoint.before_time;
        self.term = self.term.max(checkpoint.before_term);
        self.unsettled = true;
        true
    }

    /// The next entry, if the checkpoint covers it: only its term is of use, to those who lag. True
    /// if it was, or if it cannot stay.
    fn handle_covered(&mut self, entry: &LogEntry) -> bool {
        let Some(covered) = &self.covered else {
            return false;
        };
        let index = entry.index;
        if index > covered.index {
            // One that does not follow the checkpoint's entry followed another in its place, and is
            // withdrawn with it before the journal ends.
            let stands_on_it = self.terms.get(covered.index) == Some(covered.term);
            let before = (index - covered.index - 1) as usize;
            let expected = match before.checked_sub(1) {
                None => Some(self.committed_offset),
                Some(before) => self.tail.get(before).map(end_offset),
            };
            return !stands_on_it || expected != Some(entry.first_offset);
        }
        self.note_covered(index, entry.term);
        true
    }

    /// The next entries, all of them covered by the checkpoint.
    pub fn handle_covered_entries(
        &mut self,
        entries: &CoveredEntries,
    ) -> Result<(), RecoveryError> {
        let covers = |covered: &Covered| entries.end_index <= covered.index + 1;
        if !self.covered.as_ref().is_some_and(covers) {
            return Err(RecoveryError::Gap {
                index: entries.first_index,
                last: self.terms.last_index(),
                commit: self.commit,
            });
        }
        for index in entries.first_index..entries.end_index {
            self.note_covered(index, entries.term);
        }
        Ok(())
    }

    /// Only the term of an entry that the checkpoint covers is of use.
    fn note_covered(&mut self, index: u64, term: u64) {
        let last = self.terms.last_index();
        // Whatever stood here or after it is withdrawn.
        self.tail.clear();
        let (start, start_term) = self.terms.start;
        if index <= start {
            self.terms.begin_after(start, start_term);
        } else if index <= last + 1 {
            self.terms.truncate(index);
            self.terms.push(index, term);
        }
        // Else it follows one that is gone, and is withdrawn with it later.
    }

    /// The next entry.
    pub fn handle_entry(&mut self, entry: LogEntry) -> Result<(), RecoveryError> {
        if self.handle_covered(&entry) {
            return Ok(());
        }
        let (index, last) = (entry.index, self.terms.last_index());
        let fits = index > self.commit && index <= last + 1;
        if self.unsettled && !(fits && self.offset_at(index) == Some(entry.first_offset)) {
            return Ok(());
        }
        if !fits {
            return Err(RecoveryError::Gap {
                index,
                last,
                commit: self.commit,
            });
        }
        if Sabotage::ForgottenTruncation.is_on() && index <= last {
            let position = self.tail.iter().position(|kept| kept.index == index);
            if let Some(kept) = position.and_then(|position| self.tail.get_mut(position)) {
                *kept = entry;
            }
            return Ok(());
        }
        self.terms.truncate(index);
        while self.tail.back().is_some_and(|kept| kept.index >= index) {
            self.tail.pop_back();
        }
        let expected = self.next_offset();
        if entry.first_offset != expected {
            let first_offset = entry.first_offset;
            return Err(RecoveryError::Offset {
                index,
                first_offset,
                expected,
            });
        }
        self.terms.push(index, entry.term);
        self.tail.push_back(entry);
        Ok(())
    }

    /// The next hard state; the entries it newly commits, in order.
    pub fn handle_hard_state(
        &mut self,
        term: u64,
        vote: u64,
        commit: u64,
    ) -> Result<Vec<LogEntry>, RecoveryError> {
        let last = self.terms.last_index();
        if let Some(covered) = self.covered.take()
            && self.terms.get(covered.index) != Some(covered.term)
        {
            return Err(RecoveryError::Checkpoint {
                index: covered.index,
                term: covered.term,
                last,
            });
        }
        if term < self.term || commit < self.commit || commit > last {
            let (had, committed) = (self.term, self.commit);
            return Err(RecoveryError::HardState {
                term,
                commit,
                had,
                committed,
                last,
            });
        }
        self.unsettled = false;
        (self.term, self.vote, self.commit) = (term, vote, commit);
        let committed = self.tail.partition_point(|entry| entry.index <= commit);
        let entries: Vec<LogEntry> = self.tail.drain(..committed).collect();
        if let Some(entry) = entries.last() {
            self.committed_offset = end_offset(entry);
            self.committed_time = entry.time;
        }
        Ok(entries)
    }

    /// Where an entry of this index above `commit` has to begin.
    fn offset_at(&self, index: u64) -> Option<Offset> {
        match index.checked_sub(self.commit + 2) {
            None => Some(self.committed_offset),
            Some(before) => self.tail.get(before as usize).map(end_offset),
        }
    }

    /// Raft's commit index.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The time of the last entry.
    pub(super) fn last_time(&self) -> Wall {
        self.tail
            .back()
            .map_or(self.committed_time, |entry| entry.time)
    }

    /// The time of the entry at `commit`.
    pub(super) fn committed_time(&self) -> Wall {
        self.committed_time
    }

    /// The offset after the last entry.
    pub fn next_offset(&self) -> Offset {
        self.tail.back().map_or(self.committed_offset, end_offset)
    }
}

impl LogStart {
    /// Where a log begins that keeps what the checkpoint says.
    pub fn before(checkpoint: &Checkpoint) -> Self {
        Self {
            index: checkpoint.keep_from.saturating_sub(1),
            term: checkpoint.before_term,
            offset: checkpoint.before_offset,
            time: checkpoint.before_time,
        }
    }
}

fn end_offset(entry: &LogEntry) -> Offset {
    entry.first_offset + u64::from(entry.count)
}

impl Terms {
    /// The term of an index of the log.
    pub(super) fn get(&self, index: u64) -> Option<u64> {
        let (start, term) = self.start;
        if index == start {
            return Some(term);
        }
        if index < start || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        Some(self.runs[after.checked_sub(1)?].1)
    }

    pub(super) fn last_index(&self) -> u64 {
        self.last
    }

    /// The index before the first, and its term.
    pub(super) fn before_first(&self) -> (u64, u64) {
        self.start
    }

    /// No index up to `start`, whose term this is, is known, and none after it.
    pub(super) fn begin_after(&mut self, start: u64, term: u64) {
        *self = Self {
            start: (start, term),
            runs: Vec::new(),
            last: start,
        };
    }

    /// Forgets the indices up to `index`; whether that is one of the log, and not forgotten yet.
    pub(super) fn compact(&mut self, index: u64) -> bool {
        let Some(term) = self.get(index).filter(|_| index > self.start.0) else {
            return false;
        };
        self.start = (index, term);
        // The run that goes on after it begins there now.
        let after = self.runs.partition_point(|(first, _)| *first <= index + 1);
        let next = self.runs.get(after.saturating_sub(1)).copied();
        self.runs.drain(..after);
        if let Some((_, term)) = next.filter(|_| index < self.last) {
            self.runs.insert(0, (index + 1, term));
        }
        true
    }

    /// Appends index `last + 1`.
    pub(super) fn push(&mut self, index: u64, term: u64) {
        assert_eq!(index, self.last + 1, "a log has no holes");
        if self.runs.last().is_none_or(|(_, newest)| *newest != term) {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Withdraws `index` and all after it.
    pub(super) fn truncate(&mut self, index: u64) {
        self.runs.retain(|(first, _)| *first < index);
        self.last = self.last.min(index - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EntryKind;
    use bytes::Bytes;

    fn entry(index: u64, term: u64, first_offset: Offset, count: u32) -> LogEntry {
        let kind = if count == 0 {
            EntryKind::Blank
        } else {
            EntryKind::Records
        };
        LogEntry {
            term,
            index,
            kind,
            first_offset,
            count,
            time: Wall(5),
            data: Bytes::new(),
        }
    }

    #[test]
    fn a_rewritten_entry_withdraws_what_follows_it() {
        let mut log = RecoveredLog::default();
        log.handle_hard_state(1, 9, 0).expect("first");
        for item in [entry(1, 1, 0, 0), entry(2, 1, 0, 3), entry(3, 1, 3, 2)] {
            log.handle_entry(item).expect("in order");
        }
        assert_eq!(log.next_offset(), 5);
        let committed = log.handle_hard_state(2, 8, 1).expect("later");
        assert_eq!(committed.len(), 1);
        log.handle_entry(entry(2, 2, 0, 0)).expect("overwrites");
        assert_eq!(log.next_offset(), 0);
        assert_eq!(log.terms.get(2), Some(2));
        assert_eq!(log.terms.get(3), None);
    }

    fn checkpoint(index: u64, keep_from: u64) -> Checkpoint {
        Checkpoint {
            index,
            term: 3,
            next_offset: index,
            time: Wall(5),
            keep_from,
            before_term: 2,
            before_offset: keep_from.saturating_sub(1),
            before_time: Wall(4),
            state: Bytes::new(),
        }
    }

    /// What is left of a log before its checkpoint is known by its terms; what was withdrawn there
    /// withdraws what came after it.
    #[test]
    fn a_log_goes_on_after_its_checkpoint() {
        let mut log = RecoveredLog::after(&checkpoint(10, 8));
        for (index, term) in [
            (6, 1),
            (7, 2),
            (8, 2),
            (9, 2),
            (10, 2),
            (11, 2),
            (9, 3),
            (10, 3),
        ] {
            log.handle_entry(entry(index, term, index - 1, 1))
                .expect("in order");
        }
        assert!(log.tail.is_empty());
        log.handle_entry(entry(11, 3, 10, 2)).expect("after it");
        assert_eq!((log.terms.before_first().0, log.next_offset()), (7, 12));
        let committed = log.handle_hard_state(3, 0, 11).expect("settles it");
        assert_eq!(committed.len(), 1);
        let terms: Vec<_> = (6..=12).map(|index| log.terms.get(index)).collect();
        let (two, three) = (Some(2), Some(3));
        assert_eq!(terms, [None, two, two, three, three, three, None]);

        // What followed another entry 10 is withdrawn, whether or not that is still there.
        let mut log = RecoveredLog::after(&checkpoint(10, 9));
        for (index, term, offset) in [(11, 2, 9), (12, 2, 10), (9, 2, 8), (10, 2, 9), (11, 2, 10)] {
            log.handle_entry(entry(index, term, offset, 1))
                .expect("in order");
            assert!(log.tail.is_empty(), "{index}");
        }
        log.handle_entry(entry(10, 3, 8, 2)).expect("the one");
        log.handle_entry(entry(11, 4, 10, 1)).expect("after it");
        log.handle_hard_state(4, 0, 10).expect("it is");
        assert_eq!((log.tail.len(), log.next_offset()), (1, 11));
    }

    #[test]
    fn a_log_of_which_nothing_is_left_goes_on_too() {
        let all_may_go = Checkpoint {
            before_term: 3,
            ..checkpoint(10, 11)
        };
        let mut log = RecoveredLog::after(&all_may_go);
        log.handle_entry(entry(4, 1, 3, 1)).expect("not gone yet");
        log.handle_entry(entry(11, 3, 10, 1)).expect("the next");
        log.handle_hard_state(4, 0, 11).expect("settles it");
        assert_eq!(
            (log.terms.before_first().0, log.terms.get(10)),
            (10, Some(3))
        );

        // One that must be there and is not, or is another.
        let mut log = RecoveredLog::after(&checkpoint(10, 9));
        log.handle_entry(entry(9, 2, 8, 1)).expect("the first");
        let lacking = log.clone().handle_hard_state(4, 0, 10);
        assert!(matches!(lacking, Err(RecoveryError::Checkpoint { .. })));
        log.handle_entry(entry(10, 2, 9, 1)).expect("another");
        let other = log.handle_hard_state(4, 0, 10);
        assert!(matches!(other, Err(RecoveryError::Checkpoint { .. })));
    }

    #[test]
    fn a_compacted_log_knows_the_terms_that_are_left() {
        let mut terms = Terms::default();
        for (index, term) in [(1, 1), (2, 1), (3, 4), (4, 4), (5, 6)] {
            terms.push(index, term);
        }
        for start in 0..=5 {
            let mut left = terms.clone();
            left.compact(start);
            left.compact(start.saturating_sub(1));
            assert_eq!(left.before_first().0, start);
            for index in 0..=6 {
                let expected = terms.get(index).filter(|_| index >= start);
                assert_eq!(left.get(index), expected, "{index} after {start}");
            }
            left.push(6, 6);
            assert_eq!(left.get(6), Some(6));
        }
    }

    #[test]
    fn contradictions_stop_the_start() {
        let mut log = RecoveredLog::default();
        assert!(matches!(
            log.handle_entry(entry(2, 1, 0, 1)),
            Err(RecoveryError::Gap { .. })
        ));
        log.handle_entry(entry(1, 1, 0, 1)).expect("first");
        assert!(matches!(
            log.handle_entry(entry(2, 1, 7, 1)),
            Err(RecoveryError::Offset { .. })
        ));
        let beyond = log.handle_hard_state(1, 0, 9);
        assert!(matches!(beyond, Err(RecoveryError::HardState { .. })));
        log.handle_hard_state(1, 0, 1).expect("commits 1");
        let again = log.handle_entry(entry(1, 2, 0, 1));
        assert!(
            matches!(again, Err(RecoveryError::Gap { .. })),
            "a committed entry stays"
        );
    }
}
