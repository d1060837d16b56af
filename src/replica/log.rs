//! Raft's view of the journal: hard state, the term of every index, and the newest entries.
//!
//! Everything above the applied index is in memory, so Raft never waits for the disk to go on.
//! Older entries stay while they fit the cache; a lagging follower's reads of the rest go to the
//! journal and come back later.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::recovery::{RecoveredLog, Terms};
use super::{LogStart, codec};
use crate::types::{Checkpoint, EntryKind, LogEntry, Offset, Partition, Wall};
use crate::wire::entry::EntryContent;

/// The log of one replica.
pub(super) struct Log {
    partition: Partition,
    hard_state: HardState,
    conf_state: ConfState,
    terms: Terms,
    /// Where it begins; the index and term are those of `terms`.
    start: LogStart,
    /// Entries `tail_first ..= last`, contiguous.
    tail: VecDeque<LogEntry>,
    tail_first: u64,
    tail_bytes: u64,
    cache_bytes: u64,
    /// Where the next entry begins, and the time it cannot fall behind.
    next_offset: Offset,
    last_time: Wall,
    /// The time of the entry before `tail`: where times go on once all of `tail` is withdrawn.
    time_before_tail: Wall,
    /// Entries the journal just gave back, for the one call that asks for them again.
    loaded: Vec<LogEntry>,
    wish: RefCell<WishState>,
}

/// A read that Raft is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) from: u64,
    pub(super) end: u64,
    pub(super) bytes_max: u64,
}

#[derive(Debug, Default)]
struct WishState {
    wish: Option<Wish>,
    context: Option<GetEntriesContext>,
    taken: bool,
}

impl Log {
    pub(super) fn new(
        partition: Partition,
        conf_state: ConfState,
        recovered: RecoveredLog,
        cache_bytes: u64,
    ) -> Self {
        let hard_state = HardState {
            term: recovered.term,
            vote: recovered.vote,
            commit: recovered.commit,
            ..HardState::default()
        };
        let next_offset = recovered.next_offset();
        let last_time = recovered.last_time();
        let time_before_tail = recovered.committed_time();
        Self {
            partition,
            hard_state,
            conf_state,
            tail_first: recovered.commit + 1,
            tail_bytes: recovered
                .tail
                .iter()
                .map(|entry| entry.data.len() as u64)
                .sum(),
            tail: recovered.tail,
            terms: recovered.terms,
            start: recovered.start,
            cache_bytes,
            next_offset,
            last_time,
            time_before_tail,
            loaded: Vec::new(),
            wish: RefCell::default(),
        }
    }

    /// Takes an entry of a `Ready`, withdrawing what it contradicts; the entry as the journal keeps
    /// it.
    pub(super) fn append(&mut self, entry: Entry) -> Result<LogEntry, String> {
        self.truncate(entry.index)?;
        let data = codec::data(&entry);
        let (kind, first_offset, count, time) = match codec::content(&data)? {
            EntryContent::Blank => (EntryKind::Blank, self.next_offset, 0, self.last_time),
            EntryContent::Command(head) => (EntryKind::Command, self.next_offset, 0, head.time),
            EntryContent::Records(head) => {
                let count = head.count();
                (EntryKind::Records, head.first_offset, count, head.time)
            }
        };
        if first_offset != self.next_offset {
            return Err(format!(
                "entry {} of {} begins at offset {first_offset}, the log ends before {}",
                entry.index, self.partition, self.next_offset
            ));
        }
        let entry = LogEntry {
            term: entry.term,
            index: entry.index,
            kind,
            first_offset,
            count,
            time,
            data,
        };
        self.next_offset = first_offset + u64::from(count);
        self.last_time = time;
        self.terms.push(entry.index, entry.term);
        self.tail_bytes += entry.data.len() as u64;
        self.tail.push_back(entry.clone());
        Ok(entry)
    }

    /// Takes a new hard state; the one before.
    pub(super) fn set_hard_state(&mut self, state: HardState) -> HardState {
        std::mem::replace(&mut self.hard_state, state)
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// A committed entry with what the log knows of it.
    pub(super) fn committed(&self, entry: &Entry) -> LogEntry {
        let position = (entry.index - self.tail_first) as usize;
        let kept = &self.tail[position];
        assert_eq!(kept.term, entry.term, "the log holds what Raft commits");
        kept.clone()
    }

    /// Where it begins.
    pub(super) fn start(&self) -> LogStart {
        let (index, term) = self.terms.before_first();
        LogStart {
            index,
            term,
            ..self.start
        }
    }

    /// The log begins anew, after `keep_from - 1`.
    pub(super) fn begin(&mut self, checkpoint: &Checkpoint) {
        let start = checkpoint.keep_from - 1;
        self.terms.begin_after(start, checkpoint.before_term);
        self.start = LogStart::before(checkpoint);
        self.tail.clear();
        (self.tail_first, self.tail_bytes) = (start + 1, 0);
        self.next_offset = checkpoint.before_offset;
        self.last_time = checkpoint.before_time;
        self.time_before_tail = checkpoint.before_time;
        self.loaded = Vec::new();
        // Raft has forgotten what it was waiting for.
        *self.wish.borrow_mut() = WishState::default();
    }

    /// See [`super::Replica::term_at`].
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        self.terms.get(index)
    }

    /// Forgets the entries up to that of `start`.
    pub(super) fn compact(&mut self, start: LogStart) {
        if self.terms.compact(start.index) {
            self.start = start;
        }
    }

    /// Lets go of applied entries beyond the cache.
    pub(super) fn trim_cache(&mut self, applied: u64) {
        while self.tail_bytes > self.cache_bytes
            && self
                .tail
                .front()
                .is_some_and(|entry| entry.index <= applied)
        {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.data.len() as u64;
                self.tail_first = entry.index + 1;
                self.time_before_tail = entry.time;
            }
        }
    }

    /// See [`super::Replica::cached`].
    pub(super) fn cached(
        &self,
        offset: Offset,
        applied: u64,
        bytes_max: u64,
    ) -> Option<Vec<LogEntry>> {
        let first = self.tail.front()?;
        if offset < first.first_offset {
            return None;
        }
        let start = self
            .tail
            .partition_point(|entry| entry.first_offset + u64::from(entry.count) <= offset);
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self.tail.iter().skip(start).filter(|entry| entry.count > 0) {
            bytes += entry.data.len() as u64;
            if entry.index > applied || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push(entry.clone());
        }
        Some(found)
    }

    /// The read Raft waits for, once.
    pub(super) fn take_wish(&self) -> Option<Wish> {
        let mut state = self.wish.borrow_mut();
        if state.taken {
            return None;
        }
        state.taken = state.wish.is_some();
        state.wish
    }

    /// The members are others now.
    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Keeps what the journal gave for Raft to ask again, if it is what the log holds.
    pub(super) fn handle_loaded(
        &mut self,
        entries: Result<Vec<LogEntry>, String>,
    ) -> (Option<GetEntriesContext>, Result<(), String>) {
        let state = std::mem::take(&mut *self.wish.borrow_mut());
        let Some(wish) = state.wish else {
            return (None, Ok(()));
        };
        let outcome = entries.and_then(|entries| self.check_loaded(wish, entries));
        (state.context, outcome)
    }

    pub(super) fn forget_loaded(&mut self) {
        self.loaded = Vec::new();
    }

    fn check_loaded(&mut self, wish: Wish, entries: Vec<LogEntry>) -> Result<(), String> {
        if entries.is_empty() {
            return Err(format!(
                "the journal has no entry {} of {}",
                wish.from, self.partition
            ));
        }
        for (index, entry) in (wish.from..).zip(&entries) {
            if entry.index != index || self.terms.get(index) != Some(entry.term) {
                return Err(format!(
                    "the journal gave entry {} of term {} for entry {index} of {}",
                    entry.index, entry.term, self.partition
                ));
            }
        }
        self.loaded = entries;
        Ok(())
    }

    fn truncate(&mut self, index: u64) -> Result<(), String> {
        let last = self.last();
        if index == last + 1 {
            return Ok(());
        }
        if index > last + 1 || index < self.tail_first || index <= self.hard_state.commit {
            return Err(format!(
                "entry {index} of {} fits neither the log's end {last} nor its commit {}",
                self.partition, self.hard_state.commit
            ));
        }
        self.terms.truncate(index);
        while self.tail.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.data.len() as u64;
                self.next_offset = entry.first_offset;
            }
        }
        self.last_time = match self.tail.back() {
            Some(entry) => entry.time,
            None => self.time_before_tail,
        };
        Ok(())
    }

    fn last(&self) -> u64 {
        self.terms.last_index()
    }

    fn in_memory<'a>(
        &'a self,
        low: u64,
        high: u64,
    ) -> Option<Box<dyn Iterator<Item = &'a LogEntry> + 'a>> {
        if low >= self.tail_first {
            let skip = (low - self.tail_first) as usize;
            return Some(Box::new(
                self.tail.iter().skip(skip).take((high - low) as usize),
            ));
        }
        let first = self.loaded.first()?;
        let end = first.index + self.loaded.len() as u64;
        (first.index <= low && low < end).then(|| {
            let skip = (low - first.index) as usize;
            let entries = self.loaded.iter().skip(skip).take((high - low) as usize);
            Box::new(entries) as Box<dyn Iterator<Item = &'a LogEntry> + 'a>
        })
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low <= self.terms.before_first().0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let Some(entries) = self.in_memory(low, high) else {
            if !context.can_async() {
                // Raft reads synchronously only above the applied index, which is in memory.
                return Err(Error::Store(StorageError::Unavailable));
            }
            let mut state = self.wish.borrow_mut();
            if state.wish.is_none() {
                state.wish = Some(Wish {
                    from: low,
                    end: high,
                    bytes_max,
                });
                state.context = Some(context);
            }
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        };
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in entries {
            bytes += entry.data.len() as u64;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(codec::raft_entry(
                entry.term,
                entry.index,
                entry.data.clone(),
            ));
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.terms.before_first().0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.terms
            .get(index)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.terms.before_first().0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Where the log begins. What came of the entries before is sent beside Raft.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let (index, term) = self.terms.before_first();
        if index == 0 || index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(codec::raft_snapshot(index, term, self.conf_state.clone()))
    }
}
