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
    // What was acknowledged in an earlier term may be withdrawn in the same commit that wrote it: a
    // newer leader was elected without it, so that the older one finds no majority for it any more.
    let withdrawn = log.term > message.term;
    let acknowledges = message.kind == MessageType::MsgAppendResponse as i32;
    if acknowledges && message.index > log.last() && !withdrawn {
        return broken(
            "an append is synced before it is acknowledged",
            Some(partition),
            format!(
                "machine {machine} acknowledged up to entry {} in term {}, its disk ends at {} and \
                 is of term {}",
                message.index,
                message.term,
                log.last(),
                log.term
            ),
        );
    }
    Ok(())
}
