//! Raft's messages in the fabric's own encoding and back.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};

use crate::types::Partition;
use crate::wire::entry::EntryContent;
use crate::wire::peer::{RaftMessage, WireEntry};

/// The message as it goes to a peer.
pub(super) fn to_wire(partition: &Partition, mut message: Message) -> RaftMessage {
    RaftMessage {
        channel: Some(partition.channel.clone()),
        partition: partition.number,
        kind: message.get_msg_type() as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message
            .take_entries()
            .into_iter()
            .map(|entry| WireEntry {
                term: entry.term,
                index: entry.index,
                data: entry.data,
            })
            .collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    }
}

/// A peer's message as Raft takes it.
pub(super) fn from_wire(wire: RaftMessage) -> Result<Message, String> {
    let kind =
        protobuf_kind(wire.kind).ok_or_else(|| format!("its kind {} is unknown", wire.kind))?;
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.to = wire.to;
    message.from = wire.from;
    message.term = wire.term;
    message.log_term = wire.log_term;
    message.index = wire.index;
    message.set_entries(
        wire.entries
            .into_iter()
            .map(entry)
            .collect::<Vec<_>>()
            .into(),
    );
    message.commit = wire.commit;
    message.commit_term = wire.commit_term;
    message.reject = wire.reject;
    message.reject_hint = wire.reject_hint;
    message.context = wire.context;
    message.priority = wire.priority;
    Ok(message)
}

/// What an entry's data is.
pub(super) fn content(data: &Bytes) -> Result<EntryContent, String> {
    EntryContent::decode(data).map_err(|error| error.to_string())
}

/// An entry as Raft takes it.
fn entry(wire: WireEntry) -> Entry {
    raft_entry(wire.term, wire.index, wire.data)
}

/// An entry of Raft's with this data.
pub(super) fn raft_entry(term: u64, index: u64, data: Bytes) -> Entry {
    let mut entry = Entry::default();
    entry.set_entry_type(EntryType::EntryNormal);
    entry.term = term;
    entry.index = index;
    entry.data = data;
    entry
}

/// A snapshot of Raft's: where a log begins, and whose it is.
pub(super) fn raft_snapshot(index: u64, term: u64, conf_state: ConfState) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = index;
    metadata.term = term;
    metadata.set_conf_state(conf_state);
    snapshot
}

/// The message that makes a log begin anew after entry `index` of `term`.
pub(super) fn snapshot_message(
    (from, to): (u64, u64),
    leader_term: u64,
    snapshot: Snapshot,
) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgSnapshot);
    (message.from, message.to, message.term) = (from, to, leader_term);
    message.set_snapshot(snapshot);
    message
}

fn protobuf_kind(number: i32) -> Option<MessageType> {
    use MessageType::*;
    // Only what replicas say to each other; local and forwarded kinds have no place on the wire.
    [
        MsgAppend,
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgTransferLeader,
        MsgTimeoutNow,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ]
    .into_iter()
    .find(|kind| *kind as i32 == number)
}
