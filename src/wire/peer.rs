//! Messages between nodes. One frame carries an [`Envelope`] and then any number of
//! [`PeerMessage`]s, each one MessagePack object.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{ChannelName, Incarnation, NodeName, Offset, Wall};

/// The version of the peer protocol.
pub const PEER_VERSION: u32 = 1;

/// Who sent a frame. In every frame, since libzmq reconnects unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The peer protocol's version.
    pub version: u32,
    /// The fabric's name.
    pub fabric: String,
    /// The sender.
    pub node: NodeName,
    /// The life of its data folder.
    pub incarnation: Incarnation,
    /// The generation of its topology.
    pub epoch: u64,
}

/// One message between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerMessage {
    /// Sent every beat and on change: what the sender holds and leads.
    State(State),
    /// A partition's founding record, for a replica that states it has none.
    Found(Found),
    /// One Raft message.
    Raft(RaftMessage),
    /// A batch for the partition's leader.
    Forward(Forward),
    /// Answers `Forward`.
    Outcome(Outcome),
    /// Asks the partition's leader for committed entries.
    Fetch(Fetch),
    /// Answers `Fetch`.
    Fetched(Fetched),
    /// A piece of a partition's state, for a replica whose log ends before the leader's begins.
    Snapshot(SnapshotPiece),
    /// Answers `Snapshot`.
    Wanted(SnapshotWanted),
    /// Asks the partition's leader how far a producer has come.
    Sequence(Sequence),
    /// Answers `Sequence`.
    Sequenced(Sequenced),
    /// Asks another replica for entries that the sender's disk has lost.
    Recall(Recall),
    /// Answers `Recall`.
    Recalled(Recalled),
    /// Asks the partition's leader to change a cursor.
    Cursor(CursorAsk),
    /// Answers `Cursor`.
    Cursored(Cursored),
}

/// The beat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// The sender's calendar clock, to notice skew.
    pub wall: Wall,
    /// For each partition the sender is declared to hold: the founding it has, if any.
    pub holds: Vec<Holds>,
    /// The partitions the sender leads now.
    pub leads: Vec<Leads>,
    /// True if the sender is about to stop.
    pub stopping: bool,
    /// True if the sender's disk does not finish a commit, so that it should lead nothing.
    #[serde(default)]
    pub stalled: bool,
}

/// What the sender has of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// CRC-32 of the founding record, if the sender holds one.
    pub founding: Option<u32>,
    /// True if the sender has no vote in it, and is to have that of a folder that is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
}

/// One partition the sender leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leads {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// In this term; a higher one wins.
    pub term: u64,
    /// All replicas that answered lately have synced the entries up to this index, or are sent a
    /// snapshot of a log that begins after it.
    #[serde(default)]
    pub synced: u64,
}

/// A founding record on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The encoded record.
    pub record: Bytes,
}

/// Raft's message in our own encoding: the fields of raft-rs's `Message` that are used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RaftMessage {
    /// The channel.
    pub channel: Option<ChannelName>,
    /// The partition.
    pub partition: u32,
    /// raft-rs's `MessageType` number.
    pub kind: i32,
    /// The receiver's raft id.
    pub to: u64,
    /// The sender's raft id.
    pub from: u64,
    /// The sender's term.
    pub term: u64,
    /// Term of the entry before the first.
    pub log_term: u64,
    /// Index of the entry before the first.
    pub index: u64,
    /// The entries.
    pub entries: Vec<WireEntry>,
    /// The sender's commit index.
    pub commit: u64,
    /// The term of the entry at `commit`.
    pub commit_term: u64,
    /// Whether an append or vote is rejected.
    pub reject: bool,
    /// Where the rejecting log ends.
    pub reject_hint: u64,
    /// raft-rs's context (marks a transfer).
    pub context: Bytes,
    /// raft-rs's priority of the sender.
    pub priority: i64,
}

/// A log entry on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    /// Raft's term.
    pub term: u64,
    /// Raft's index.
    pub index: u64,
    /// The encoded entry with its head (`wire::entry`); empty for a blank one.
    pub data: Bytes,
}

/// A batch for the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The sender's number for this request.
    pub request: u64,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// How many records.
    pub count: u32,
    /// CRC-32 of `records`.
    pub crc: u32,
    /// The producer and its number for the publish.
    pub producer: Option<(Bytes, u64)>,
    /// Accept only after this sequence of the producer.
    pub after: Option<u64>,
    /// The encoded records.
    pub records: Bytes,
}

/// What became of a `Forward`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The `Forward`'s number.
    pub request: u64,
    /// Where it is, or why it is not.
    pub result: Result<Accepted, Refusal>,
}

/// A committed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The offset of its first record.
    pub offset: Offset,
    /// Whether it was there before.
    pub repeated: bool,
}

/// A refusal by another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The number of the reason.
    pub code: u16,
    /// For a person.
    pub message: String,
}

/// Asks for committed entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The sender's number for this request.
    pub request: u64,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The first record wanted.
    pub from: FetchFrom,
    /// Stop before the entry that would pass this many bytes, but give at least one.
    pub bytes_max: u64,
    /// The cursor that it is for: answered only while the token is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<HeldCursor>,
}

/// A cursor as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCursor {
    /// Its name.
    pub name: String,
    /// The holder's token.
    pub token: u64,
}

/// A change of a cursor for the partition's leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorAsk {
    /// The sender's number for this request.
    pub request: u64,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The cursor.
    pub cursor: String,
    /// What is to become of it.
    pub does: CursorAct,
}

/// What is to become of a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CursorAct {
    /// The holder of this number takes it over; it starts at `from` if there is none.
    Open {
        /// Where a new one starts.
        from: FetchFrom,
        /// The holder.
        holder: u64,
    },
    /// These ranges, each from its first to before its end, are done with.
    Ack {
        /// The holder's token.
        token: u64,
        /// The ranges.
        ranges: Vec<(Offset, Offset)>,
    },
    /// It goes on there.
    Seek {
        /// Where.
        to: FetchFrom,
    },
    /// It is no more.
    Delete,
}

/// What became of a `Cursor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursored {
    /// The `Cursor`'s number.
    pub request: u64,
    /// Where it stands, now that this is committed, or why nothing was done.
    pub result: Result<CursorStands, Refusal>,
}

/// Where a cursor stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CursorStands {
    /// Its newest token.
    pub token: u64,
    /// All before this is done with.
    pub floor: Offset,
    /// What is done with above it, where it was opened.
    pub acked: Vec<(Offset, Offset)>,
    /// Records it lost since its holder before last did something, where it was opened.
    pub missed: u64,
}

/// Where a fetch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FetchFrom {
    /// At this offset; waits if it is the next to come.
    Offset(Offset),
    /// At the oldest record that is retained.
    Start,
    /// At the first record of this time or later.
    Time(Wall),
    /// At the next record to come: answered at once, with no entries and `next` set to it.
    End,
}

/// Committed entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The `Fetch`'s number.
    pub request: u64,
    /// The entries with their heads; the first may begin before the offset asked for.
    pub entries: Vec<Bytes>,
    /// The next offset to ask for after these entries.
    pub next: Offset,
    /// Where reading goes on, if that is not the offset asked for: what lies before is no longer
    /// retained, or the start was asked for by another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Offset>,
    /// Why there is nothing, where the receiver cannot serve; try whoever leads.
    pub refusal: Option<Refusal>,
}

/// Asks for the highest sequence of a producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The sender's number for this request.
    pub request: u64,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The producer.
    pub producer: Bytes,
}

/// How far a producer has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequenced {
    /// The `Sequence`'s number.
    pub request: u64,
    /// The highest of its sequences that is stored or about to be, as far as it is remembered; or
    /// why the receiver cannot tell.
    pub result: Result<Option<u64>, Refusal>,
}

/// Asks for entries that the sender's log holds and its disk has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// The sender's number for this request.
    pub request: u64,
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The index of the first.
    pub first: u64,
    /// The index after the last.
    pub end: u64,
}

/// Committed entries, from the first that was asked for on; none if the sender lacks that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// The `Recall`'s number.
    pub request: u64,
    /// The entries, as many as fit.
    pub entries: Vec<RecalledEntry>,
}

/// An entry as a journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecalledEntry {
    /// Raft's term.
    pub term: u64,
    /// Raft's index.
    pub index: u64,
    /// The offset of its first record, or of the next to come if it holds none.
    pub first_offset: Offset,
    /// Its time.
    pub time: Wall,
    /// Its bytes, with its head.
    pub data: Bytes,
}

/// What a snapshot is of. Two with equal heads have the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The raft id of the leader that sends it.
    pub from: u64,
    /// The raft id of the replica it is for.
    pub to: u64,
    /// The leader's term.
    pub term: u64,
    /// The log goes on after this index: entries up to it are sent no more.
    pub start: u64,
    /// The term of the entry at `start`.
    pub start_term: u64,
    /// The offset of the first record after it.
    pub start_offset: Offset,
    /// The time of the entry at `start`.
    pub start_time: Wall,
    /// The state is what the entries up to this index have led to.
    pub index: u64,
    /// The term of that entry.
    pub index_term: u64,
    /// The offset after that entry.
    pub next_offset: Offset,
    /// The newest time up to that entry.
    pub time: Wall,
    /// Bytes of the encoded state.
    pub bytes: u64,
    /// Its CRC-32.
    pub crc: u32,
}

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPiece {
    /// What it is part of.
    pub head: SnapshotHead,
    /// How many bytes of the state come before it.
    pub position: u64,
    /// Its bytes.
    pub piece: Bytes,
}

/// How much of a snapshot the receiver has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotWanted {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// The raft id of the receiver of the snapshot.
    pub from: u64,
    /// The term of the leader that sends it.
    pub term: u64,
    /// The snapshot's `start`.
    pub start: u64,
    /// The snapshot's `index`.
    pub index: u64,
    /// The receiver has this many bytes from its beginning. All of them once its log goes on after
    /// `start`.
    pub position: u64,
}
