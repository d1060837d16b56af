//! What another replica may say: the rest is refused before Raft hears of it.

use raft::eraftpb::{Message, MessageType};

use super::{Replica, codec};
use crate::types::limits::TERMS_AHEAD_MAX;

/// What Raft says to itself, and what followers of other designs ask of their leaders. Some of it
/// would end the process.
const NEVER_SENT: [MessageType; 8] = [
    MessageType::MsgHup,
    MessageType::MsgBeat,
    MessageType::MsgUnreachable,
    MessageType::MsgSnapStatus,
    MessageType::MsgCheckQuorum,
    MessageType::MsgTransferLeader,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
];

impl Replica {
    /// What Raft would believe blindly, or stop the process over. Who may say anything at all is
    /// the node's to judge: a log that lags does not name all members.
    pub(super) fn check_message(&self, message: &Message) -> Result<(), String> {
        let me = self.config.me.raft_id();
        if message.to != me || message.from == me {
            return Err(format!(
                "it goes from {:x} to {:x}",
                message.from, message.to
            ));
        }
        if message.term == 0 {
            // Raft takes it for one of its own making.
            return Err("it has no term".to_owned());
        }
        if message.term > self.term().saturating_add(TERMS_AHEAD_MAX) {
            return Err(format!("its term {} is absurd", message.term));
        }
        let kind = message.get_msg_type();
        if kind == MessageType::MsgHeartbeat && message.commit > self.last_index() {
            return Err(format!(
                "it says {} is committed, this log ends at {}",
                message.commit,
                self.last_index()
            ));
        }
        if NEVER_SENT.contains(&kind) {
            return Err(format!("no replica sends a {kind:?}"));
        }
        if kind == MessageType::MsgPropose || kind == MessageType::MsgSnapshot {
            return Err(format!("a {kind:?} has no place here"));
        }
        if kind == MessageType::MsgAppend
            && message.term >= self.term()
            && self.is_leader()
            && message.term == self.term()
        {
            return Err(format!(
                "it claims to lead term {}, as this replica does",
                message.term
            ));
        }
        let beyond = message.index.max(message.reject_hint) > self.last_index();
        if kind == MessageType::MsgAppendResponse
            && beyond
            && self.is_leader()
            && message.term == self.term()
        {
            let last = self.last_index();
            return Err(format!(
                "it answers for entries after {last}, the last here"
            ));
        }
        self.check_entries(message)
    }

    fn check_entries(&self, message: &Message) -> Result<(), String> {
        let append = message.get_msg_type() == MessageType::MsgAppend;
        if append && message.index > 0 && message.log_term == 0 {
            // Raft takes term 0 for that of every index beyond its log's end.
            let before = message.index;
            return Err(format!(
                "it gives no term for entry {before} before its own"
            ));
        }
        let mut index = message.index;
        for entry in &message.entries {
            index = index.saturating_add(1);
            if entry.index != index || entry.term == 0 || entry.term > message.term {
                return Err(format!("its entry {} is out of place", entry.index));
            }
            codec::content(&entry.data)?;
        }
        // What lies before this log's start is no longer known, and a late copy of it no harm.
        let known = self.start().index + 1..=self.commit();
        for entry in message
            .entries
            .iter()
            .filter(|entry| known.contains(&entry.index))
        {
            if self.raw.raft.raft_log.term(entry.index) != Ok(entry.term) {
                return Err(format!(
                    "its entry {} contradicts a committed one",
                    entry.index
                ));
            }
        }
        Ok(())
    }
}
