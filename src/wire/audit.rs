//! The audit of one replica: what its node counts, and what the entries in its journal hold. Asked
//! of every replica, it shows whether they agree, and whether the counters do.

use serde::{Deserialize, Serialize};

use crate::types::{ChannelName, Offset, TrimCause};

/// `audit`: reads the node's own replica of a partition, a part at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    #[serde(default)]
    pub partition: u32,
    /// The first entry to read, by its index in the log.
    #[serde(default)]
    pub from: u64,
    /// The first entry to read no more; nothing is read unless it lies after `from`.
    #[serde(default)]
    pub to: u64,
}

/// `audited`: answers `audit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Audited {
    /// The `id` of the `audit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The node whose replica it is.
    pub node: String,
    /// What the node counts.
    pub account: Account,
    /// What was read, where something was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<EntriesRead>,
}

/// What a node counts of its replica, without looking at an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// The index of the first entry that counts towards what is retained; `applied + 1` if none
    /// does.
    pub start: u64,
    /// The index of the last entry that counts.
    pub applied: u64,
    /// The first offset that is retained.
    pub first_offset: Offset,
    /// The next offset: how many records were accepted.
    pub next_offset: Offset,
    /// Bytes of the entries from `start` on that hold records.
    pub retained_bytes: u64,
    /// Records let go of because they were too old.
    pub trimmed_by_age: u64,
    /// Because the partition held too many bytes.
    pub trimmed_by_size: u64,
    /// Because it held too many records.
    pub trimmed_by_count: u64,
}

/// What some entries hold, read from the journal and counted one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EntriesRead {
    /// The index of the first.
    pub from: u64,
    /// The index after the last; `from` if the journal does not hold the one to start with.
    pub to: u64,
    /// The offset at which the first begins.
    pub first_offset: Offset,
    /// The offset after the last.
    pub next_offset: Offset,
    /// Records found in them.
    pub records: u64,
    /// Bytes of those that hold records.
    pub bytes: u64,
    /// What they let go of, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trims: Vec<TrimRead>,
    /// SHA-256 of all of them: for each its index, its term and the number of its bytes, eight
    /// bytes each, the highest first, and then these bytes.
    #[serde(with = "serde_bytes")]
    pub digest: Vec<u8>,
    /// The first thing that is wrong with them, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// An entry that lets go of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimRead {
    /// Its index.
    pub index: u64,
    /// The first record retained from then on.
    pub first: Offset,
    /// Why.
    pub cause: TrimCause,
}
