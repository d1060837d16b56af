//! What partitions have led to, written to the journal now and then, so that the entries before it
//! may go.

use super::Node;
use super::member::{Member, Slot};
use crate::types::{Checkpoint, JournalItem, Partition, Sabotage};
use crate::wire::peer::Leads;

impl Node {
    /// Writes the state of every partition that went on since the last time, whenever the journal
    /// has grown by a segment since, and by several times what was written then. A few at a time,
    /// since entries wait behind them.
    pub(super) fn write_checkpoints(&mut self) {
        if self.checkpoints_due.is_empty() {
            let segment_bytes = self.topology.limits.segment_bytes;
            if !self.journal.begin_checkpoints(segment_bytes) {
                return;
            }
            self.checkpoints_due.extend(self.slots.keys().cloned());
        }
        while self.journal.takes_checkpoints()
            && let Some(partition) = self.checkpoints_due.pop_front()
        {
            self.write_checkpoint(partition);
        }
    }

    fn write_checkpoint(&mut self, partition: Partition) {
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            return;
        };
        let Some(checkpoint) = member.checkpoint() else {
            return;
        };
        let (index, keep_from) = (checkpoint.index, checkpoint.keep_from);
        let item = JournalItem::Checkpoint {
            partition: partition.clone(),
            checkpoint,
        };
        if self.journal.push_checkpoint(item, self.now.mono) {
            member.checkpointed = (index, keep_from);
            member.replica.compact(keep_from - 1);
            return;
        }
        self.warn(format!(
            "{partition} remembers more of its producers than a segment of the journal holds: its \
             entries stay, and those of others behind them; lower `producers_max` or raise \
             `segment_bytes`"
        ));
    }

    /// A leader says how far all replicas of its partitions have synced.
    pub(super) fn note_replicated(&mut self, leads: &[Leads]) {
        for told in leads {
            let partition = Partition::new(&told.channel, told.partition);
            if let Some(Slot::Member(member)) = self.slots.get_mut(&partition) {
                member.replicated = member.replicated.max(told.synced);
            }
        }
    }
}

impl Member {
    /// The state of the partition, unless the last checkpoint says it all.
    fn checkpoint(&mut self) -> Option<Checkpoint> {
        if self.replica.is_serving() {
            self.replicated = self.replicated.max(self.replica.synced_by_all());
        }
        let index = self.replica.applied();
        let dispensable = self.dispensable(index);
        let keep_from = dispensable + 1;
        let term = self.replica.term_at(index).filter(|_| index > 0)?;
        let before_term = self.replica.term_at(dispensable)?;
        ((index, keep_from) != self.checkpointed).then(|| Checkpoint {
            index,
            term,
            next_offset: self.stream.next_offset(),
            time: self.stream.last_time(),
            keep_from,
            before_term,
            state: self.stream.encode(),
        })
    }

    /// The entries up to this one of those up to `applied` hold nothing that is retained, and every
    /// replica has synced them.
    fn dispensable(&self, applied: u64) -> u64 {
        let unretained = self.stream.unretained(applied);
        match Sabotage::GreedyCheckpoint.is_on() {
            true => unretained,
            false => unretained.min(self.replicated),
        }
    }
}
