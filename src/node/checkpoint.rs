//! What partitions have led to, written to the journal now and then, so that the entries before it
//! may go.

use super::Node;
use super::member::{Member, Slot};
use crate::replica::LogStart;
use crate::types::limits::{LOG_PLACES_MAX, REPLICA_ABSENT};
use crate::types::{Checkpoint, JournalItem, Partition, Time};
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
        let start = LogStart::before(&checkpoint);
        let item = JournalItem::Checkpoint {
            partition: partition.clone(),
            checkpoint,
        };
        if self.journal.push_checkpoint(item, self.now.mono) {
            member.checkpointed = (index, keep_from);
            member.replica.compact(start);
            return;
        }
        self.warn(format!(
            "{partition} remembers more of its producers than a segment of the journal holds: its \
             entries stay, and those of others behind them; lower `producers_max` or raise \
             `segment_bytes`"
        ));
    }

    /// A leader says how far the replicas of its partitions have synced.
    pub(super) fn note_replicated(&mut self, leads: &[Leads]) {
        for told in leads {
            let partition = Partition::new(&told.channel, told.partition);
            if let Some(Slot::Member(member)) = self.slots.get_mut(&partition)
                && told.term >= member.replica.term()
            {
                member.replicated = told.synced;
            }
        }
    }

    /// Looks where the logs are by now, which replicas answer their leaders, and how far those have
    /// synced.
    pub(super) fn note_progress(&mut self) {
        for slot in self.slots.values_mut() {
            if let Slot::Member(member) = slot {
                member.note_answers(self.now.mono);
                member.remember_place();
            }
        }
    }
}

impl Member {
    /// The state of the partition, unless the last checkpoint says it all.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let here = self.place()?;
        let index = here.index;
        let start = self.dispensable(here);
        let keep_from = start.index + 1;
        ((index, keep_from) != self.checkpointed).then(|| Checkpoint {
            index,
            term: here.term,
            next_offset: here.offset,
            time: here.time,
            keep_from,
            before_term: start.term,
            before_offset: start.offset,
            before_time: start.time,
            state: self.stream.encode(),
        })
    }

    /// The last known place in the log, up to `here`, where all is applied, before which no entry
    /// holds anything that is retained, and none is lacked by a replica that answers and could be
    /// sent it.
    fn dispensable(&self, here: LogStart) -> LogStart {
        // What this disk has lost it can send to nobody.
        let spared = match self.forgone > self.replica.start().index {
            true => u64::MAX,
            false => self.replicated,
        };
        let last = self.stream.unretained(here.index).min(spared);
        let before_retained = self.before_retained();
        let known = self.places.iter().chain([&here]).chain(&before_retained);
        let within = known.filter(|place| place.index <= last);
        let place = within.max_by_key(|place| place.index).copied();
        // What is gone does not come back when a replica turns up that lacks it.
        let start = self.replica.start();
        place
            .filter(|place| place.index > start.index)
            .unwrap_or(start)
    }

    /// The place before the first entry that holds anything retained.
    fn before_retained(&self) -> Option<LogStart> {
        let (index, offset, time) = self.stream.begins()?;
        let index = index - 1;
        Some(LogStart {
            index,
            term: self.replica.term_at(index)?,
            offset,
            time,
        })
    }

    /// Where the log is: what has been applied. Nothing while the state is ahead of that.
    fn place(&self) -> Option<LogStart> {
        let index = self.replica.applied();
        let known = index > 0 && index >= self.covered;
        known.then_some(LogStart {
            index,
            term: self.replica.term_at(index)?,
            offset: self.stream.next_offset(),
            time: self.stream.last_time(),
        })
    }

    /// Remembers where the log is, for when nothing before that is needed.
    fn remember_place(&mut self) {
        let newest = self.places.back().map_or(0, |place| place.index);
        let Some(place) = self.place().filter(|place| place.index > newest) else {
            return;
        };
        let start = self.replica.start().index;
        self.places.retain(|known| known.index >= start);
        self.places.push_back(place);
        if self.places.len() >= LOG_PLACES_MAX {
            let mut kept = false;
            self.places.retain(|_| {
                kept = !kept;
                kept
            });
        }
    }

    /// On the leader: who answered lately, and how far those have synced.
    fn note_answers(&mut self, now: Time) {
        let Some((_, since)) = self.led.filter(|_| self.replica.is_serving()) else {
            self.answered.clear();
            return;
        };
        let mut replicated = self.replica.applied();
        for member in self.replica.members().all() {
            let id = member.raft_id();
            let Some((matched, active)) = self.replica.progress(id) else {
                continue;
            };
            let answered = self.answered.entry(id).or_insert(since);
            if active {
                *answered = now;
            }
            if now.since(*answered) < REPLICA_ABSENT {
                let sent = self.transfers.get(&id).map(|transfer| transfer.start());
                replicated = replicated.min(sent.unwrap_or(matched));
            }
        }
        self.replicated = replicated;
    }
}
