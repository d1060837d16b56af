//! What can go wrong with a journal, each with the culprit and the remedy.

use std::io;

use crate::types::Partition;

/// An error of the journal. Unless a variant says otherwise, the folder is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be made or read.
    #[error(
        "the data folder {folder} cannot be used: {error}; \
         give the node a folder that it may read and write"
    )]
    Folder {
        /// The folder.
        folder: String,
        /// What the system said.
        error: String,
    },
    /// Another process, or another journal of this one, has the folder open.
    #[error(
        "the data folder {folder} is in use by another process; \
         stop the other node or name another folder"
    )]
    Locked {
        /// The folder.
        folder: String,
    },
    /// The folder belongs to a node of another fabric.
    #[error(
        "{file} belongs to the fabric {found:?}, not {expected:?}; \
         name another data folder or correct the fabric's name"
    )]
    ForeignFabric {
        /// The identity file.
        file: String,
        /// The fabric the file names.
        found: String,
        /// The fabric that opened it.
        expected: String,
    },
    /// The folder belongs to another node.
    #[error(
        "{file} belongs to the node {found:?}, not {expected:?}; \
         name another data folder or correct the node's name"
    )]
    ForeignNode {
        /// The identity file.
        file: String,
        /// The node the file names.
        found: String,
        /// The node that opened it.
        expected: String,
    },
    /// The folder is written in a format that this program does not know.
    #[error(
        "{file} has format version {found}, this program reads versions 1 to {known}; \
         start the version of weft that wrote it"
    )]
    FormatVersion {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version this program reads, which it writes.
        known: u32,
    },
    /// The identity file is not what this program writes.
    #[error("{file} cannot be read: {reason}; restore it from a copy, or {REPLACE}")]
    BadIdentity {
        /// The identity file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There are commits, but nothing says whose.
    #[error(
        "{folder} holds commits ({segment}) but no file `identity`; restore that file from a \
         copy, or {REPLACE}"
    )]
    MissingIdentity {
        /// The folder.
        folder: String,
        /// The first segment that holds a commit.
        segment: String,
    },
    /// A segment that must be there is not.
    #[error(
        "{file} is missing, and with it what this node has promised; restore it from a copy, or \
         {REPLACE}"
    )]
    MissingSegment {
        /// The file.
        file: String,
    },
    /// Bytes that were synced once no longer read as they were written.
    #[error(
        "{file} is damaged at byte {position}: {reason}; a running node fetches what is lost from \
         another replica; where one does not start for it, restore the file from a copy, or \
         {REPLACE}"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        position: u64,
        /// What was found there.
        reason: String,
    },
    /// What was read is sound, but its reader does not accept it.
    #[error("{file}, commit at byte {position}: {reason}")]
    Rejected {
        /// The file.
        file: String,
        /// Where the commit begins.
        position: u64,
        /// What the reader said.
        reason: String,
    },
    /// The settings or the identity cannot be used. Nothing was touched.
    #[error("the journal cannot be opened with {what}: {reason}")]
    Unusable {
        /// Which one.
        what: String,
        /// Why, and what would do.
        reason: String,
    },
    /// The commit does not fit into a segment. Nothing was written, the journal is usable.
    #[error(
        "a commit of {bytes} bytes is above the limit of {limit}; \
         write it in parts or raise limits.segment_bytes"
    )]
    TooLarge {
        /// The sum of `item_bytes`.
        bytes: u64,
        /// `commit_bytes_max`.
        limit: u64,
    },
    /// An entry would leave a hole in its log. Nothing was written, the journal is usable.
    #[error("entry {index} of {partition} does not follow: the log ends before {expected}")]
    Gap {
        /// Whose log.
        partition: Partition,
        /// The entry's index.
        index: u64,
        /// The index that would follow.
        expected: u64,
    },
    /// The name of a channel is longer than the format can say. Nothing was written.
    #[error("the channel name {0:?} is longer than 255 bytes")]
    LongName(String),
    /// The disk refused. When a write or a sync did, the journal has failed; see `Failed`.
    #[error("{action} {file}: {error}")]
    Disk {
        /// What was tried, as in "cannot write".
        action: &'static str,
        /// On which file.
        file: String,
        /// What kind of refusal.
        kind: io::ErrorKind,
        /// What the system said.
        error: String,
    },
    /// An earlier write or sync failed, so nothing since the last sync may be believed.
    #[error(
        "the journal has failed and takes no more writes: {cause}; \
         mend the disk, then start the node again"
    )]
    Failed {
        /// The first failure.
        cause: String,
    },
}

/// What to do where what a node has promised is lost.
const REPLACE: &str = "move the data folder away and start the node with an empty one and `weft \
                       node FILE NAME --replace`, or with `weft up FILE --replace NAME`: it is \
                       filled from the other replicas";

/// What was tried, where a disk refuses to read a part of a file.
pub(super) const CANNOT_READ: &str = "cannot read";

impl StoreError {
    /// What the disk said about a file.
    pub(super) fn disk(action: &'static str, file: String, error: &io::Error) -> Self {
        Self::Disk {
            action,
            file,
            kind: error.kind(),
            error: error.to_string(),
        }
    }

    /// Whether a part of a file does not read as it was written, or not at all.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Disk { action, .. } => *action == CANNOT_READ,
            _ => false,
        }
    }

    /// Whether what the folder's node has promised is lost, in part at least: it does not start
    /// before the file is back, or another folder in the place of this one.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::BadIdentity { .. }
                | Self::MissingIdentity { .. }
                | Self::MissingSegment { .. }
                | Self::Damaged { .. }
        )
    }

    /// Damage at a position of a file.
    pub(super) fn damaged(file: String, position: u64, reason: impl Into<String>) -> Self {
        Self::Damaged {
            file,
            position,
            reason: reason.into(),
        }
    }
}
