//! What a log says of cursors: named reading positions, one in each partition.

use serde::{Deserialize, Serialize};

use super::Offset;

/// One change of one cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorChange {
    /// The cursor.
    pub name: String,
    /// What becomes of it.
    pub does: CursorDoes,
}

/// What becomes of a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorDoes {
    /// A holder takes it over, with a higher fencing token than any before. Asked again by the same
    /// holder it changes nothing.
    Open {
        /// Where it starts, if there is none of this name.
        from: CursorStart,
        /// Who takes it: a number that no other holder has.
        holder: u64,
    },
    /// The records of these ranges, each from its first to before its end, are done with.
    Ack {
        /// The holder's token; another one than the newest changes nothing.
        token: u64,
        /// The ranges.
        ranges: Vec<(Offset, Offset)>,
    },
    /// It goes on elsewhere, with a new account and without a holder.
    Seek {
        /// Where.
        to: CursorStart,
    },
    /// It is no more.
    Delete,
}

/// A place in a partition, as seen by the command that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorStart {
    /// The oldest record that is retained.
    Start,
    /// The next record to come.
    End,
    /// This one.
    Offset(Offset),
}
