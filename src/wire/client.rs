//! Headers between a client and a node. Every message is one frame: the header, a map with one key,
//! then the records. Unknown fields are ignored; an unknown header is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteBuf;

use super::audit::{Audit, Audited};
use crate::types::{ChannelName, Offset, Wall};

/// The version of the client protocol.
pub const VERSION: u32 = 1;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Optional introduction; answered by `welcome`.
    Hello(Hello),
    /// Records follow.
    Publish(Publish),
    /// Asks for records.
    Subscribe(Subscribe),
    /// Ends a subscription; answered by `end`.
    Unsubscribe(Unsubscribe),
    /// Returns the window up to an offset.
    Ack(Ack),
    /// Returns or adds bytes to the window.
    Credit(Credit),
    /// Moves a cursor; answered by `cursor`.
    Seek(Seek),
    /// Deletes a cursor; answered by `cursor`.
    Delete(Delete),
    /// Asks what the node knows; answered by `view`.
    Inspect(Inspect),
    /// Reads the node's own replica of a partition; answered by `audited`.
    Audit(Audit),
    /// Ends the session.
    Bye(Bye),
}

/// What a node sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Answers `hello`.
    Welcome(Welcome),
    /// The publish is accepted.
    Confirm(Confirmed),
    /// Records follow.
    Deliver(Deliver),
    /// No, with a reason.
    Refuse(Refuse),
    /// A subscription is over.
    End(End),
    /// Where a cursor stands, after an ack that asked, a `seek` or a `delete`.
    Cursor(CursorReply),
    /// Answers `inspect`.
    View(View),
    /// Answers `audit`.
    Audited(Audited),
    /// Ignorable: the node asks the transport whether the client is still there.
    Ping(Ping),
}

/// `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The highest protocol version the client speaks; 1 if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What the client calls itself, for the log only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The producer that it is: `welcome` then says how far that has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<ByteBuf>,
}

/// `publish`: the records after it go to the channel that captures their subject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Publish {
    /// Echoed in the answer. Without it a refusal cannot be matched to its publish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The subject of records that carry none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Puts all records in this partition, which must then be that of each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// `none` or `quorum`; the channel's if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<ConfirmLevel>,
    /// With `sequence`: who numbers its publishes, so that a retry is stored once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<ByteBuf>,
    /// The number of this publish among its producer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Refuse with `out_of_order` unless this sequence of the producer is accepted in the
    /// partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many records follow; checked if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// CRC-32 (zlib's) of all bytes after the header; checked if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
}

/// The confirm levels on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmLevel {
    /// No confirm.
    None,
    /// Synced by a majority of the replicas.
    Quorum,
}

/// `subscribe`: idempotent; sent again under the same `id` it changes nothing and is answered with
/// an empty `deliver`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subscribe {
    /// The client's number for this subscription, in every `deliver` of it.
    pub id: u64,
    /// Subjects wanted: `*` is one word, `#` zero or more, last only. It may reach into several
    /// channels.
    pub pattern: String,
    /// Only this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// Only this partition (with `channel`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where to start in stored channels; `end` if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// Where it goes on instead in the partitions named here, as `channel/number`: to resume.
    #[serde(
        default,
        deserialize_with = "or_nil",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub offsets: BTreeMap<String, Offset>,
    /// Bytes the client will take before it returns credit; the node's default window if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<u64>,
    /// The cursor to go on at and to move by `ack`. It starts where `from` and `offsets` say if
    /// there is none of this name yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Where a subscription starts: `"start"`, `"end"`, `{"offset": 7}` (where it reaches into one
/// partition), `{"time": 1700000000000}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The oldest record.
    Start,
    /// The next record to come.
    End,
    /// This offset of the named partition.
    Offset(Offset),
    /// The first record stamped at this time (milliseconds since 1970) or later.
    Time(Wall),
}

/// `unsubscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The subscription.
    pub id: u64,
}

/// `ack`: all records of the partition up to `offset` are done with, or those from `first` on;
/// their bytes return to the window, and the cursor of the subscription moves, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ack {
    /// The subscription.
    pub id: u64,
    /// The channel; may be omitted where the subscription reaches into one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The partition.
    #[serde(default)]
    pub partition: u32,
    /// The last offset done with.
    pub offset: Offset,
    /// The first offset done with; all before `offset` if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Offset>,
    /// The cursor's fencing token as `deliver` told it; the subscription's if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Asks for an answer once it is committed: `cursor` with this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
}

/// `credit`: adds bytes to the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The subscription.
    pub id: u64,
    /// Bytes of encoded records.
    pub bytes: u64,
}

/// `seek`: a cursor goes on elsewhere; whoever holds it is told that it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// The cursor.
    pub cursor: String,
    /// Only in this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where to.
    pub to: From,
}

/// `delete`: a cursor is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The channel.
    pub channel: ChannelName,
    /// The cursor.
    pub cursor: String,
    /// Only in this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

/// `inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inspect {
    /// Echoed in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// `bye`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bye {}

/// `welcome`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Welcome {
    /// The version both speak.
    pub version: u32,
    /// The fabric's name.
    pub fabric: String,
    /// The node's name.
    pub node: String,
    /// The generation of the node's topology.
    pub epoch: u64,
    /// Who the node takes the client to be: the name of its proven key, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The largest frame the node takes, in bytes.
    pub frame_max: u64,
    /// The window of a subscription that names no credit, in bytes.
    pub window: u64,
    /// How many of a producer's sequences a partition remembers.
    pub producer_window: u64,
    /// For a `hello` with a producer: the sequence after the highest that any partition knows of
    /// it. Absent if not all could be asked in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sequence: Option<u64>,
    /// Every node's client endpoints, to fail over to.
    pub nodes: Vec<NodeEndpoints>,
    /// Every channel that the node's topology declares.
    pub channels: Vec<DeclaredChannel>,
}

/// A channel as a client needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeclaredChannel {
    /// Its name.
    pub name: String,
    /// `signal` or `stream`; later versions may know more.
    pub kind: String,
    /// The patterns of the subjects that it captures; no other channel captures one of these.
    pub subjects: Vec<String>,
    /// How many partitions it has; 1 for signals.
    pub partitions: u32,
    /// The most bytes that a record may have, encoded and with its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record: Option<u64>,
}

/// Where a node's clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeEndpoints {
    /// The node.
    pub name: String,
    /// Its advertised client endpoints.
    pub endpoints: Vec<String>,
    /// Its CURVE key, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// `confirm`: the publish's records in record order, as runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Confirmed {
    /// The publish's `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The channel it went to.
    pub channel: String,
    /// Where the records are.
    pub runs: Vec<Run>,
    /// True if the node had them already: this publish was a repeat, of all of it or of a part.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// Consecutive records of one publish that lie at consecutive offsets of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The position in the publish of its first record, from 0.
    pub record: u64,
    /// The partition.
    pub partition: u32,
    /// The offset of its first record.
    pub offset: Offset,
    /// How many records.
    pub count: u64,
}

/// `deliver`: records of one subscription. With no records it says that the subscription stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Deliver {
    /// The subscription.
    pub id: u64,
    /// The channel; empty where no records follow.
    pub channel: String,
    /// The partition, in stored channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Offset and time of the records, in record order, in stored channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Stamped>,
    /// In stored channels: the offset after everything this subscription was given or that was
    /// skipped for it, which is where it resumes (`offsets`). As soon as a partition's start
    /// is known (where `end` or `time` lies), the node says so in a `deliver` without records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Offset>,
    /// In stored channels: how many records that the subscription had not come to are no longer
    /// retained, whatever their subjects.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Signals only: the number, among the signals that matched this subscription, of the first
    /// record. A jump is a gap: that many were dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The fencing token of the subscription's cursor in this partition, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// How many records follow.
    pub count: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Consecutive records with consecutive offsets and one time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stamped {
    /// The offset of the first.
    pub offset: Offset,
    /// How many.
    pub count: u64,
    /// The leader's time, milliseconds since 1970.
    pub time: Wall,
}

/// `refuse`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Refuse {
    /// The `id` of what is refused, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The stable number of the reason.
    pub code: u16,
    /// Its stable name.
    pub name: String,
    /// What was wrong and what to do, for a person.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// When to retry, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The partition that refused, where only a part of a publish is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The positions of the refused records in the publish, where only a part is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<u64>,
    /// The number that a refused `ack` asked to be answered under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
}

/// `cursor`: what was asked is committed, and this is where the cursor stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CursorReply {
    /// The subscription of an `ack`, the `id` of a `seek` or `delete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The number of the `ack` that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// The channel.
    pub channel: String,
    /// The cursor.
    pub cursor: String,
    /// The partitions that are concerned.
    pub positions: Vec<CursorPlace>,
}

/// Where a cursor stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CursorPlace {
    /// The partition.
    pub partition: u32,
    /// Every record before this offset is done with.
    pub floor: Offset,
}

/// `end`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// The subscription.
    pub id: u64,
    /// Why.
    pub reason: String,
}

/// `view`: what the node knows of itself and its peers, as a MessagePack map (`NodeView`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// The `id` of the `inspect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The view, encoded as MessagePack, `bin`.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ping {}

/// A frame taken apart: the header and the bytes of the records after it, not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<H> {
    /// The header.
    pub header: H,
    /// The encoded records, possibly none.
    pub records: Bytes,
}

/// Takes nil for an optional field that is left out.
fn or_nil<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
