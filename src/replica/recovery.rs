//! A replica's log as its journal tells it, item by item, in the order they were written.

use std::collections::VecDeque;

use crate::types::{LogEntry, Offset, Sabotage, Wall};

/// The terms of a log as runs: cheap, since a term lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
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
    /// The next entry.
    pub fn handle_entry(&mut self, entry: LogEntry) -> Result<(), RecoveryError> {
        let (index, last) = (entry.index, self.terms.last_index());
        if index <= self.commit || index > last + 1 {
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
        (self.term, self.vote, self.commit) = (term, vote, commit);
        let committed = self.tail.partition_point(|entry| entry.index <= commit);
        let entries: Vec<LogEntry> = self.tail.drain(..committed).collect();
        if let Some(entry) = entries.last() {
            self.committed_offset = entry.first_offset + u64::from(entry.count);
            self.committed_time = entry.time;
        }
        Ok(entries)
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
        self.tail.back().map_or(self.committed_offset, |entry| {
            entry.first_offset + u64::from(entry.count)
        })
    }
}

impl Terms {
    /// The term of an index of the log.
    pub(super) fn get(&self, index: u64) -> Option<u64> {
        if index == 0 || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        Some(self.runs[after.checked_sub(1)?].1)
    }

    pub(super) fn last_index(&self) -> u64 {
        self.last
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
