//! The vocabulary every room shares: names, time, records, log entries and every limit.
//!
//! This room imports no other, and nothing in it acts.

mod command;
mod cursor;
mod journal;
pub mod limits;
mod members;
mod names;
mod pattern;
mod record;
mod sabotage;
mod time;

pub use command::{Command, TrimCause};
pub use cursor::{CursorChange, CursorDoes, CursorStart};
pub use journal::{
    Checkpoint, CoveredEntries, DamagedSegment, EntryKind, JournalItem, LoadFrom, LoadRequest,
    LogEntry, LostEntries,
};
pub use limits::Limits;
pub use members::{Members, MembersChange};
pub use names::{
    ChannelName, Incarnation, NodeName, Partition, RecordId, RecordIdError, ReplicaId,
};
pub use pattern::{Pattern, PatternError, Subject, SubjectError};
pub use record::{Record, key_partition};
pub use sabotage::Sabotage;
pub use time::{Now, Span, Time, Wall};

/// A record's position in its partition: dense, from 0, never reused.
pub type Offset = u64;
