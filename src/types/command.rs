//! What a log tells its partition to do, beside storing records.

use serde::{Deserialize, Serialize};

use super::{CursorChange, MembersChange, Offset};

/// Decided by a leader, by its clock and its bounds; carried out by every replica at the same place
/// of the log, so that all of them agree. It uses no offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Lets go of the records before `first`. One that lies outside of what is retained changes
    /// nothing.
    Trim {
        /// The first record to be retained.
        first: Offset,
        /// The bound that the others passed.
        cause: TrimCause,
    },
    /// Forgets the producers that stored nothing for long. No calendar is asked: one that jumps
    /// must not make a retry a second record.
    ForgetProducers {
        /// Those whose newest batch is this one or an older one, by the count of numbered batches.
        heard: u64,
    },
    /// What readers asked for of their cursors in one loop of the leader.
    Cursors {
        /// The changes, in order. One that is not allowed changes nothing.
        changes: Vec<CursorChange>,
    },
    /// A step of a replacement.
    Members {
        /// The step.
        change: MembersChange,
    },
}

/// Why records are trimmed: the bound of the channel's `keep` that they passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrimCause {
    /// They are too old.
    Age,
    /// The partition holds too many bytes.
    Size,
    /// The partition holds too many records.
    Count,
}
