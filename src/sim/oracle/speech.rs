//! Persist, then speak: a vote or an acknowledged append that leaves a machine is on its disk.

use raft::eraftpb::MessageType;

use super::logs::Logs;
use super::{Verdict, broken};
use crate::sim::machine::MachineId;
use crate::types::Partition;
use crate::wire::peer::RaftMessage;

/// Whether what the message promises is durable on the machine that sends it.
pub(in crate::sim) fn check(
    logs: &Logs,
    machine: MachineId,
    partition: &Partition,
    message: &RaftMessage,
) -> Verdict {
    if message.reject {
        return Ok(());
    }
    let log = logs.durable(machine, partition);
    if message.kind == MessageType::MsgRequestVoteResponse as i32 {
        let kept = log.term > message.term || (log.term, log.vote) == (message.term, message.to);
        if !kept {
            return broken(
                "a vote is synced before it is given",
                Some(partition),
                format!(
                    "machine {machine} voted for {:x} in term {}, its disk holds term {}, \
                     vote {:x}",
                    message.to, message.term, log.term, log.vote
                ),
            );
        }
    }
    if message.kind == MessageType::MsgAppendResponse as i32 && message.index > log.last() {
        return broken(
            "an append is synced before it is acknowledged",
            Some(partition),
            format!(
                "machine {machine} acknowledged up to entry {}, its disk ends at {}",
                message.index,
                log.last()
            ),
        );
    }
    Ok(())
}
