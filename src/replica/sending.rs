//! What leaves at once, and what waits until the journal has synced what it promises.

use raft::Ready;
use raft::eraftpb::{Message, MessageType};

use super::{Replica, ReplicaOutput, codec};
use crate::wire::peer::RaftMessage;

impl Replica {
    /// Hands on what may leave; what may not, since it promises something.
    pub(super) fn take_messages(
        &self,
        ready: &mut Ready,
        output: &mut ReplicaOutput,
    ) -> Vec<Message> {
        for message in ready.take_messages() {
            match message.get_msg_type() {
                MessageType::MsgSnapshot => output.behind.push(message.to),
                _ => output.messages.push(self.to_wire(message)),
            }
        }
        let mut promises = ready.take_persisted_messages();
        if self.voted <= self.synced {
            // It promises nothing but to be alive in a term that is synced. Held behind a slow
            // disk, it would cost the leader its quorum.
            let alive = |m: &mut Message| m.get_msg_type() == MessageType::MsgHeartbeatResponse;
            let alive: Vec<Message> = promises.extract_if(.., alive).collect();
            output
                .messages
                .extend(alive.into_iter().map(|m| self.to_wire(m)));
        }
        promises
    }

    pub(super) fn release_held(&mut self, output: &mut ReplicaOutput) {
        while self
            .held
            .front()
            .is_some_and(|(number, _)| *number <= self.synced)
        {
            if let Some((_, messages)) = self.held.pop_front() {
                output
                    .messages
                    .extend(messages.into_iter().map(|m| self.to_wire(m)));
            }
        }
    }

    fn to_wire(&self, message: Message) -> RaftMessage {
        codec::to_wire(&self.config.partition, message)
    }
}
