//! Why a node says no: stable numbers and names. PROTOCOL.md lists the same table.

use super::client::Refuse;

/// A reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[allow(
    missing_docs,
    reason = "each variant's meaning is its row in the table below"
)]
pub enum Code {
    BadFrame = 100,
    UnknownHeader = 101,
    UnsupportedVersion = 102,
    BadRecord = 103,
    TooLarge = 104,
    CountMismatch = 105,
    CrcMismatch = 106,
    BadSubject = 200,
    BadPattern = 201,
    NoChannelForSubject = 202,
    NoChannel = 203,
    NoPartition = 204,
    WrongPartition = 205,
    MixedChannels = 206,
    NoSubscription = 207,
    ConfirmNotOffered = 208,
    BadPosition = 209,
    NoCursor = 210,
    BadCursor = 211,
    Busy = 300,
    TooManySessions = 301,
    TooManySubscriptions = 302,
    DiskFull = 303,
    Stopping = 304,
    TooManyCursors = 305,
    CursorFull = 306,
    NoLeader = 400,
    NoQuorum = 401,
    OutcomeUnknown = 402,
    SequenceReused = 500,
    SequenceTooOld = 501,
    OutOfOrder = 502,
    BadProducer = 503,
    StaleToken = 504,
    CursorMoved = 505,
    NotGranted = 600,
}

/// Every code with its name, whether the same request may succeed later, and what it means.
pub const TABLE: &[(Code, &str, bool, &str)] = &[
    (
        Code::BadFrame,
        "bad_frame",
        false,
        "the frame is not a sequence of MessagePack objects as specified",
    ),
    (
        Code::UnknownHeader,
        "unknown_header",
        false,
        "the header's key names nothing the node knows",
    ),
    (
        Code::UnsupportedVersion,
        "unsupported_version",
        false,
        "the node does not speak this version",
    ),
    (
        Code::BadRecord,
        "bad_record",
        false,
        "a record is not a map with a body, or a field has a wrong type",
    ),
    (
        Code::TooLarge,
        "too_large",
        false,
        "a record, key, or the number of records passes a limit",
    ),
    (
        Code::CountMismatch,
        "count_mismatch",
        false,
        "the frame holds another number of records than it says",
    ),
    (
        Code::CrcMismatch,
        "crc_mismatch",
        true,
        "the records were damaged on their way",
    ),
    (
        Code::BadSubject,
        "bad_subject",
        false,
        "the subject is malformed or missing",
    ),
    (
        Code::BadPattern,
        "bad_pattern",
        false,
        "the pattern is malformed",
    ),
    (
        Code::NoChannelForSubject,
        "no_channel_for_subject",
        false,
        "no declared channel captures the subject",
    ),
    (
        Code::NoChannel,
        "no_channel",
        false,
        "no channel of this name or for this pattern is declared",
    ),
    (
        Code::NoPartition,
        "no_partition",
        false,
        "the channel has no such partition, or the node no replica of it",
    ),
    (
        Code::WrongPartition,
        "wrong_partition",
        false,
        "a record's key belongs to another partition",
    ),
    (
        Code::MixedChannels,
        "mixed_channels",
        false,
        "the records of one publish go to different channels",
    ),
    (
        Code::NoSubscription,
        "no_subscription",
        false,
        "the session has no subscription of this id",
    ),
    (
        Code::ConfirmNotOffered,
        "confirm_not_offered",
        false,
        "a signal channel cannot confirm with quorum",
    ),
    (
        Code::BadPosition,
        "bad_position",
        false,
        "the position does not fit the channel, or lies beyond its end",
    ),
    (
        Code::NoCursor,
        "no_cursor",
        false,
        "there is no cursor of this name, or it was deleted",
    ),
    (
        Code::BadCursor,
        "bad_cursor",
        false,
        "the cursor's name is malformed, or the subscription reaches into signals",
    ),
    (
        Code::Busy,
        "busy",
        true,
        "a bound is reached; come back after the hint",
    ),
    (
        Code::TooManySessions,
        "too_many_sessions",
        true,
        "the node has as many sessions as it may",
    ),
    (
        Code::TooManySubscriptions,
        "too_many_subscriptions",
        false,
        "the session has as many as it may",
    ),
    (
        Code::DiskFull,
        "disk_full",
        true,
        "the leader's disk is below its free-space mark",
    ),
    (
        Code::Stopping,
        "stopping",
        true,
        "the node is about to stop; use another",
    ),
    (
        Code::TooManyCursors,
        "too_many_cursors",
        false,
        "the partition has as many cursors as it may; delete one",
    ),
    (
        Code::CursorFull,
        "cursor_full",
        true,
        "too many ranges are acked above a record that is not; ack that one",
    ),
    (
        Code::NoLeader,
        "no_leader",
        true,
        "the partition has no leader now; nothing was stored",
    ),
    (
        Code::NoQuorum,
        "no_quorum",
        true,
        "the partition has no quorum of replicas now; nothing was stored (kept for later: no node \
         sends it yet)",
    ),
    (
        Code::OutcomeUnknown,
        "outcome_unknown",
        true,
        "it may or may not be stored; retry with the same producer and sequence",
    ),
    (
        Code::SequenceReused,
        "sequence_reused",
        false,
        "the producer used this sequence for other records",
    ),
    (
        Code::SequenceTooOld,
        "sequence_too_old",
        false,
        "the sequence lies below the producer's window",
    ),
    (
        Code::OutOfOrder,
        "out_of_order",
        true,
        "the sequence named by `after` is not accepted here",
    ),
    (
        Code::BadProducer,
        "bad_producer",
        false,
        "producer and sequence must come together, within their limits",
    ),
    (
        Code::StaleToken,
        "stale_token",
        false,
        "another subscription has taken the cursor over",
    ),
    (
        Code::CursorMoved,
        "cursor_moved",
        false,
        "the cursor was moved; subscribe again to go on from there",
    ),
    (
        Code::NotGranted,
        "not_granted",
        false,
        "the principal may not do this (kept for later: no node sends it yet)",
    ),
];

impl Code {
    /// The code of this number.
    pub fn from_number(number: u16) -> Option<Self> {
        TABLE
            .iter()
            .map(|row| row.0)
            .find(|code| *code as u16 == number)
    }

    /// Its stable number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Its stable name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether the same request may succeed later.
    pub fn retry(self) -> bool {
        self.row().2
    }

    /// A `refuse` with this code.
    pub fn refuse(self, id: Option<u64>, message: impl Into<String>) -> Refuse {
        Refuse {
            id,
            code: self.number(),
            name: self.name().to_owned(),
            message: message.into(),
            retry: self.retry(),
            ..Refuse::default()
        }
    }

    fn row(self) -> &'static (Code, &'static str, bool, &'static str) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("the table lists every code; a test holds it")
    }
}
