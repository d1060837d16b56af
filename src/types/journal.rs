//! What a node asks its journal to keep, and to give back.

use bytes::Bytes;

use super::{Offset, Partition, Wall};

/// One entry of a partition's replicated log.
///
/// Invariant along one log: `index` rises by one; `term` never falls; the next entry's
/// `first_offset` is `first_offset + count`; `time` never falls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Raft's term.
    pub term: u64,
    /// Raft's index, from 1.
    pub index: u64,
    /// What `data` holds.
    pub kind: EntryKind,
    /// The offset of the first record, or of the next record to come where `count` is 0.
    pub first_offset: Offset,
    /// How many records it holds.
    pub count: u32,
    /// The leader's time for all of them.
    pub time: Wall,
    /// The encoded batches or command (`wire::entry`); empty where the kind has none.
    pub data: Bytes,
}

/// What a log entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// A new leader's first entry; it holds nothing and uses no offset.
    Blank = 0,
    /// Batches of records.
    Records = 1,
    /// A command to the partition (`Command`); it uses no offset.
    Command = 2,
}

/// One thing to make durable, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalItem {
    /// This replica belongs to a partition with these voters. Written once per partition, before
    /// anything else of it.
    Founding {
        /// Whose founding it is.
        partition: Partition,
        /// The encoded founding record (`wire::founding`).
        record: Bytes,
    },
    /// Raft's hard state. The newest counts.
    HardState {
        /// Whose state it is.
        partition: Partition,
        /// The current term.
        term: u64,
        /// The raft id voted for in it, 0 for none.
        vote: u64,
        /// The highest index known to be committed; every entry up to it is in the journal.
        commit: u64,
    },
    /// A log entry. One with an index that the log already reached withdraws that entry and all
    /// after it.
    Entry {
        /// Whose log it belongs to.
        partition: Partition,
        /// The entry.
        entry: LogEntry,
    },
    /// What a partition's log has led to. With the newest one and the entries after it everything
    /// can be restored, so earlier entries may go, as far as it says.
    Checkpoint {
        /// Whose log it belongs to.
        partition: Partition,
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// The log begins anew: everything of it that was written before is void. It goes on with the
    /// first entry that the checkpoint keeps; those up to the checkpoint's come after this item and
    /// have led to its state already.
    Snapshot {
        /// Whose log it belongs to.
        partition: Partition,
        /// What another replica's log had led to.
        checkpoint: Checkpoint,
    },
}

/// Entries of one term that a journal holds and that its partition's newest checkpoint covers:
/// `first_index <= i < end_index`. All that opening a journal tells of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredEntries {
    /// Whose log they belong to.
    pub partition: Partition,
    /// The first of them. It withdraws what stood in its place, and all after it.
    pub first_index: u64,
    /// The index after the last.
    pub end_index: u64,
    /// Their term.
    pub term: u64,
}

/// A segment of the journal that does not read as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSegment {
    /// Its number.
    pub segment: u64,
    /// The entries that must stay and cannot be read. What else stood in it is known anyway.
    pub lost: Vec<LostEntries>,
}

/// Entries that cannot be read: `first_index <= i < end_index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEntries {
    /// Whose log they belong to.
    pub partition: Partition,
    /// The first of them.
    pub first_index: u64,
    /// The index after the last.
    pub end_index: u64,
}

/// A partition's state after the committed entry `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Raft's index of the last entry that led to it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The offset after that entry.
    pub next_offset: Offset,
    /// The time of that entry.
    pub time: Wall,
    /// The first entry that must stay, `index + 1` if none must: those before hold no record that
    /// is retained, and no replica that takes part lacks them.
    pub keep_from: u64,
    /// The term of the entry before that one, 0 if there is none: what a lagging replica is sent
    /// first follows it.
    pub before_term: u64,
    /// The offset of the first record of the entries that must stay, or of those to come.
    pub before_offset: Offset,
    /// The time of the entry before that one, 0 if there is none.
    pub before_time: Wall,
    /// The encoded state (`channel`).
    pub state: Bytes,
}

impl JournalItem {
    /// The partition this item belongs to.
    pub fn partition(&self) -> &Partition {
        match self {
            Self::Founding { partition, .. }
            | Self::HardState { partition, .. }
            | Self::Entry { partition, .. }
            | Self::Checkpoint { partition, .. }
            | Self::Snapshot { partition, .. } => partition,
        }
    }
}

/// A wish to read entries back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRequest {
    /// Names the answer.
    pub id: u64,
    /// Whose log.
    pub partition: Partition,
    /// The first entry wanted.
    pub from: LoadFrom,
    /// The first index no longer wanted.
    pub index_end: u64,
    /// Stop before the entry whose `data` would pass this sum, but give at least one.
    pub bytes_max: u64,
}

/// Where a read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFrom {
    /// The entry of this index.
    Index(u64),
    /// The entry that holds this offset.
    Offset(Offset),
    /// The first entry of records whose time is this or later.
    Time(Wall),
}
