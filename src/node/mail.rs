//! What goes to peers, gathered over one loop: one frame per peer and lane, and a loop back for
//! what this node says to itself, so that local and remote take one path.

use std::collections::{BTreeMap, VecDeque};

use super::io::{Lane, Outbox, Output};
use crate::types::NodeName;
use crate::types::limits::APPEND_BYTES_MAX;
use crate::wire::encode_peer;
use crate::wire::peer::{CursorAct, Cursored, Envelope, PeerMessage};

/// Outgoing peer messages.
#[derive(Debug)]
pub(super) struct Mail {
    me: NodeName,
    lanes: BTreeMap<(NodeName, Lane), Vec<PeerMessage>>,
    loopback: VecDeque<PeerMessage>,
}

impl Mail {
    pub(super) fn new(me: NodeName) -> Self {
        Self {
            me,
            lanes: BTreeMap::new(),
            loopback: VecDeque::new(),
        }
    }

    /// Sends `message` at the end of the loop, or loops it back.
    pub(super) fn post(&mut self, to: &NodeName, message: PeerMessage) {
        if *to == self.me {
            self.loopback.push_back(message);
        } else {
            self.lanes
                .entry((to.clone(), lane(&message)))
                .or_default()
                .push(message);
        }
    }

    /// The next message to this node itself.
    pub(super) fn take_loopback(&mut self) -> Option<PeerMessage> {
        self.loopback.pop_front()
    }

    /// Whether this node has nothing more to say to itself.
    pub(super) fn is_quiet(&self) -> bool {
        self.loopback.is_empty()
    }

    /// Encodes everything into as few frames as their size allows.
    pub(super) fn flush(&mut self, envelope: &Envelope, out: &mut Outbox) {
        for ((peer, lane), messages) in std::mem::take(&mut self.lanes) {
            let mut send = |messages: &[PeerMessage]| {
                let frame = encode_peer(envelope, messages);
                out.push(Output::ToPeer {
                    peer: peer.clone(),
                    lane,
                    frame,
                });
            };
            let mut start = 0;
            let mut bytes = 0;
            for (position, message) in messages.iter().enumerate() {
                let size = weight(message);
                if bytes + size > APPEND_BYTES_MAX && position > start {
                    send(&messages[start..position]);
                    (start, bytes) = (position, 0);
                }
                bytes += size;
            }
            send(&messages[start..]);
        }
    }
}

/// All appends take one lane, since splitting them by size would reorder them.
fn lane(message: &PeerMessage) -> Lane {
    let append = raft::eraftpb::MessageType::MsgAppend as i32;
    match message {
        PeerMessage::Raft(raft) if raft.kind == append => Lane::Bulk,
        PeerMessage::Forward(_)
        | PeerMessage::Fetched(_)
        | PeerMessage::Recalled(_)
        | PeerMessage::Snapshot(_) => Lane::Bulk,
        _ => Lane::Control,
    }
}

/// The payload of a message in bytes; its fields beside that are small.
fn weight(message: &PeerMessage) -> u64 {
    let payload = match message {
        PeerMessage::Raft(raft) => raft.entries.iter().map(|entry| entry.data.len()).sum(),
        PeerMessage::Forward(forward) => forward.records.len(),
        PeerMessage::Fetched(fetched) => fetched.entries.iter().map(|entry| entry.len()).sum(),
        PeerMessage::Recalled(recalled) => {
            let entries = recalled.entries.iter();
            entries.map(|entry| entry.data.len() + 64).sum()
        }
        PeerMessage::Snapshot(snapshot) => snapshot.piece.len(),
        PeerMessage::Cursor(ask) => match &ask.does {
            CursorAct::Ack { ranges, .. } => 20 * ranges.len(),
            _ => 0,
        },
        PeerMessage::Cursored(Cursored {
            result: Ok(stands), ..
        }) => 20 * stands.acked.len(),
        _ => 0,
    };
    payload as u64 + 128
}
