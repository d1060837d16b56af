//! What partitions have led to, written to the journal now and then, so that the entries before it
//! may go.

use super::Node;
use super::member::{Member, Slot};
use crate::types::{Checkpoint, JournalItem};

impl Node {
    /// Writes the state of every partition that went on since the last time, whenever the journal
    /// has grown by a segment since, and by several times what was written then.
    pub(super) fn write_checkpoints(&mut self) {
        if !self
            .journal
            .wants_checkpoints(self.topology.limits.segment_bytes)
        {
            return;
        }
        let mut too_large = Vec::new();
        self.journal.begin_checkpoints();
        for (partition, slot) in &mut self.slots {
            let Slot::Member(member) = slot else { continue };
            let Some(checkpoint) = member.checkpoint() else {
                continue;
            };
            let (index, keep_from) = (checkpoint.index, checkpoint.keep_from);
            let dispensable = member.stream.dispensable(index);
            let item = JournalItem::Checkpoint {
                partition: partition.clone(),
                checkpoint,
            };
            if !self.journal.holds(&item) {
                too_large.push(partition.clone());
                continue;
            }
            self.journal.push(item, self.now.mono);
            member.checkpointed = (index, keep_from);
            member.replica.compact(dispensable);
        }
        self.journal.end_checkpoints();
        for partition in too_large {
            self.warn(format!(
                "{partition} remembers more of its producers than a segment of the journal holds: \
                 its entries stay; lower `producers_max` or `producer_window`, or raise \
                 `segment_bytes`"
            ));
        }
    }
}

impl Member {
    /// The state of the partition, unless the last checkpoint says it all.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let index = self.replica.applied();
        let keep_from = self.stream.dispensable(index).max(1);
        let term = self.replica.term_at(index).filter(|_| index > 0)?;
        ((index, keep_from) != self.checkpointed).then(|| Checkpoint {
            index,
            term,
            next_offset: self.stream.next_offset(),
            time: self.stream.last_time(),
            keep_from,
            state: self.stream.encode(),
        })
    }
}
