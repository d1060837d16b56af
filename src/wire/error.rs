//! Why bytes could not be understood. Nothing of a frame that fails has any effect.

use crate::types::limits::{HEADERS_MAX, KEY_BYTES_MAX};

use super::Code;
use super::scan::Malformed;

/// Why a frame or a part of it could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nothing at all.
    #[error("the frame is empty; it must start with a header, a map with one key")]
    Empty,
    /// Several frames, or none.
    #[error("a message is one frame, after at most one empty delimiter; this one has {0} frames")]
    Frames(usize),
    /// The header is no MessagePack object.
    #[error("the header is malformed: {0}")]
    Malformed(#[source] Malformed),
    /// The header is an object of another shape.
    #[error("the header is not a map with one key whose value is a map, as in {{\"hello\": {{}}}}")]
    NotAHeader,
    /// The header's key is not known.
    #[error("unknown header {name:?}; known are {}", known.join(", "))]
    UnknownHeader {
        /// The key, shortened.
        name: String,
        /// What would have been understood.
        known: &'static [&'static str],
    },
    /// A field of the header has a wrong type.
    #[error("the field {field:?} of the header {header:?} has a wrong type or value")]
    WrongField {
        /// The header's key.
        header: String,
        /// The field.
        field: String,
    },
    /// A field of the header is missing, or is there twice.
    #[error("the header {header:?} does not fit: {problem}")]
    BadHeader {
        /// The header's key.
        header: String,
        /// What the decoder says.
        problem: String,
    },
    /// A record is not as specified.
    #[error("record {record} of the frame: {problem}")]
    BadRecord {
        /// Its position in the frame, from 0.
        record: u64,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// The frame holds another number of records than it says.
    #[error("the header counts {declared} records, the frame holds {found}")]
    CountMismatch {
        /// What the header says.
        declared: u64,
        /// What the frame holds.
        found: u64,
    },
    /// The checksum of the records is another one.
    #[error("the header says the records' CRC-32 is {declared}, it is {found}")]
    CrcMismatch {
        /// What the header says.
        declared: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A peer speaks another version.
    #[error("node {node:?} speaks version {version} of the peer protocol, this node {spoken}")]
    PeerVersion {
        /// Who.
        node: String,
        /// What it speaks.
        version: u32,
        /// What this code speaks.
        spoken: u32,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// No MessagePack object.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An object, but no map.
    #[error("it is not a map, as in {{\"body\": …}}")]
    NotAMap,
    /// No body.
    #[error("it has no body")]
    NoBody,
    /// A known field twice.
    #[error("it has the field {0:?} twice")]
    Twice(&'static str),
    /// A field of another type.
    #[error("its field {field:?} must be {wanted}")]
    WrongType {
        /// Which.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The same name twice among the headers.
    #[error("it has the header {0:?} twice")]
    HeaderTwice(String),
    /// A long key.
    #[error("its key of {0} bytes passes the limit of {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// Many headers.
    #[error("its {0} headers pass the limit of {HEADERS_MAX}")]
    TooManyHeaders(u32),
    /// Bytes after what should be one record.
    #[error("{0} more bytes follow it")]
    Trailing(usize),
}

impl WireError {
    /// The code to refuse with.
    pub fn code(&self) -> Code {
        match self {
            Self::Empty
            | Self::Frames(_)
            | Self::Malformed(_)
            | Self::NotAHeader
            | Self::WrongField { .. }
            | Self::BadHeader { .. } => Code::BadFrame,
            Self::UnknownHeader { .. } => Code::UnknownHeader,
            Self::BadRecord {
                problem: RecordProblem::KeyTooLong(_) | RecordProblem::TooManyHeaders(_),
                ..
            } => Code::TooLarge,
            Self::BadRecord { .. } => Code::BadRecord,
            Self::CountMismatch { .. } => Code::CountMismatch,
            Self::CrcMismatch { .. } => Code::CrcMismatch,
            Self::PeerVersion { .. } => Code::UnsupportedVersion,
        }
    }
}

/// Enough of a hostile text to recognise it.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
