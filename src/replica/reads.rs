//! Reads that must not be answered by a leader which is one no more.

use raft::Ready;

use super::{Replica, ReplicaOutput};

impl Replica {
    /// Asks a majority whether this replica leads: [`ReplicaOutput::reads`] tells, if it does.
    pub fn read_index(&mut self, number: u64) {
        self.raw.read_index(number.to_be_bytes().to_vec());
        self.steady();
    }
}

/// Hands on which reads a majority has answered.
pub(super) fn take_reads(ready: &mut Ready, output: &mut ReplicaOutput) {
    for read in ready.take_read_states() {
        let number = <[u8; 8]>::try_from(&read.request_ctx[..]).map(u64::from_be_bytes);
        output.reads.extend(number.ok().zip(Some(read.index)));
    }
}
