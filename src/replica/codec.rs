//! Raft's messages in the fabric's own encoding and back.

use bytes::Bytes;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message, MessageType, Snapshot,
};

use crate::types::{Command, Members, MembersChange, Partition, ReplicaId};
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
                data: data(&entry),
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

/// The bytes that an entry holds for us. Raft has its own for a change of members that is proposed
/// here, and ours beside them.
pub(super) fn data(entry: &Entry) -> Bytes {
    match entry.context.is_empty() {
        true => entry.data.clone(),
        false => entry.context.clone(),
    }
}

/// The change of members that an entry holds, if it is one.
pub(super) fn members_change(data: &Bytes) -> Option<MembersChange> {
    if !EntryContent::is_command(data) {
        return None;
    }
    match content(data) {
        Ok(EntryContent::Command(head)) => match head.does {
            Command::Members { change } => Some(change),
            _ => None,
        },
        _ => None,
    }
}

/// A change of members as Raft carries it out.
pub(super) fn conf_change(change: &MembersChange) -> ConfChangeV2 {
    let single = |kind, replica: &ReplicaId| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = replica.raft_id();
        single
    };
    let mut raft = ConfChangeV2::default();
    let changes = match change {
        MembersChange::Learn { learner } => {
            vec![single(ConfChangeType::AddLearnerNode, learner)]
        }
        MembersChange::Forget { learner } => vec![single(ConfChangeType::RemoveNode, learner)],
        MembersChange::Replace { voter, learner } => {
            raft.set_transition(ConfChangeTransition::Explicit);
            vec![
                single(ConfChangeType::AddNode, learner),
                single(ConfChangeType::RemoveNode, voter),
            ]
        }
        MembersChange::Settle => Vec::new(),
    };
    raft.set_changes(changes.into());
    raft
}

/// The members as Raft knows them.
pub(super) fn conf_state(members: &Members) -> ConfState {
    let ids = |members: &[ReplicaId]| members.iter().map(ReplicaId::raft_id).collect();
    ConfState {
        voters: ids(&members.voters),
        voters_outgoing: ids(&members.leaving),
        learners: ids(&members.learners),
        ..ConfState::default()
    }
}

/// An entry of Raft's with this data.
pub(super) fn raft_entry(term: u64, index: u64, data: Bytes) -> Entry {
    let mut entry = Entry::default();
    entry.set_entry_type(match members_change(&data) {
        Some(_) => EntryType::EntryConfChangeV2,
        None => EntryType::EntryNormal,
    });
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
