//! What a log may be cut down to: a checkpoint of its own, or a snapshot of another's.

use super::{Fact, Logs, ReplicaLog};
use crate::sim::machine::MachineId;
use crate::sim::oracle::{Verdict, broken};
use crate::types::{Checkpoint, Command, EntryKind, Offset, Partition, Wall};
use crate::wire::entry::EntryContent;

impl Logs {
    pub(super) fn apply_checkpoint(
        &mut self,
        machine: MachineId,
        log: &mut ReplicaLog,
        partition: &Partition,
        checkpoint: &Checkpoint,
    ) -> Verdict {
        const ORACLE: &str = "a checkpoint is of what is committed, and keeps what is retained";
        let (index, keep_from) = (checkpoint.index, checkpoint.keep_from);
        let wrong = |what: String| {
            let says = format!("machine {machine} wrote that of entry {index}: {what}");
            broken(ORACLE, Some(partition), says)
        };
        let Some(fact) = log.fact(index).filter(|_| index <= log.commit) else {
            return wrong(format!("{} of {} are committed", log.commit, log.last()));
        };
        let entry = &fact.entry;
        let next = entry.first_offset + u64::from(entry.count);
        if (entry.term, next) != (checkpoint.term, checkpoint.next_offset) {
            return wrong(format!(
                "it is of term {}, before offset {next}",
                entry.term
            ));
        }
        if keep_from == 0 || keep_from > index + 1 {
            return wrong(format!("it keeps entries from {keep_from}"));
        }
        if let Some((_, kept)) = log.checkpoint.filter(|(_, kept)| keep_from < *kept) {
            return wrong(format!(
                "it keeps entries from {keep_from}, and those before {kept} are let go of"
            ));
        }
        let last_gone = keep_from - 1;
        let place = log.place_after(last_gone);
        if place != before(checkpoint) {
            let (term, offset, time) = place;
            return wrong(format!(
                "entry {last_gone} is of term {term}, before offset {offset}, of time {}",
                time.0
            ));
        }
        if let Some(retained) = log.first_retained(index).filter(|first| *first < keep_from) {
            return wrong(format!(
                "it keeps entries from {keep_from}, and {retained} is retained"
            ));
        }
        log.checkpoint = Some((index, keep_from));
        Ok(())
    }

    /// A log begins anew with what another has led to. It counts as if it held what came before:
    /// that is committed, and nothing of it is retained.
    pub(super) fn apply_snapshot(
        &mut self,
        machine: MachineId,
        log: &mut ReplicaLog,
        partition: &Partition,
        checkpoint: &Checkpoint,
    ) -> Verdict {
        const ORACLE: &str = "a snapshot is of what is committed, and what is retained follows it";
        let (index, keep_from) = (checkpoint.index, checkpoint.keep_from);
        let place = (checkpoint.term, checkpoint.next_offset, checkpoint.time);
        let wrong = |what: String| {
            let says = format!("machine {machine} took one of entry {index}: {what}");
            broken(ORACLE, Some(partition), says)
        };
        let logs = self
            .disks
            .values()
            .filter_map(|disk| disk.written.get(partition));
        let made_of = logs
            .into_iter()
            .find(|other| other.place_after(index) == place);
        let Some(made_of) = made_of.filter(|_| self.majority_holds(partition, index, place.0))
        else {
            return wrong(format!("no majority holds that entry of term {}", place.0));
        };
        if keep_from == 0 || keep_from > index + 1 {
            return wrong(format!("its log begins with entry {keep_from}"));
        }
        let begins = made_of.place_after(keep_from - 1);
        if begins != before(checkpoint) {
            let (term, offset, time) = begins;
            return wrong(format!(
                "it begins after an entry of term {term}, before offset {offset}, of time {}",
                time.0
            ));
        }
        let retained = made_of.first_retained(index);
        if let Some(retained) = retained.filter(|first| *first < keep_from) {
            return wrong(format!(
                "its log begins with entry {keep_from}, and {retained} is retained"
            ));
        }
        log.entries = made_of.entries[..keep_from as usize - 1].to_vec();
        log.commit = log.commit.max(keep_from - 1);
        log.checkpoint = None;
        Ok(())
    }
}

impl ReplicaLog {
    /// The term of entry `index`, the offset after it, and its time.
    fn place_after(&self, index: u64) -> (u64, Offset, Wall) {
        self.fact(index).map_or((0, 0, Wall(0)), |fact| {
            let entry = &fact.entry;
            let next = entry.first_offset + u64::from(entry.count);
            (entry.term, next, entry.time)
        })
    }

    /// The first of the entries up to `index` that holds a record which they let stand.
    fn first_retained(&self, index: u64) -> Option<u64> {
        let entries = self.entries.get(..index as usize)?;
        let first = entries.iter().rev().find_map(|fact| fact.trims_to());
        let fact = self.at_offset(first.unwrap_or(0))?;
        (fact.entry.index <= index).then_some(fact.entry.index)
    }
}

impl Fact {
    /// From where on records are retained, if the entry says so.
    pub(super) fn trims_to(&self) -> Option<Offset> {
        if self.entry.kind != EntryKind::Command {
            return None;
        }
        match EntryContent::decode(&self.entry.data) {
            Ok(EntryContent::Command(head)) => match head.does {
                Command::Trim { first, .. } => Some(first),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What a checkpoint says of the entry before those that it keeps.
fn before(checkpoint: &Checkpoint) -> (u64, Offset, Wall) {
    let Checkpoint {
        before_term,
        before_offset,
        before_time,
        ..
    } = checkpoint;
    (*before_term, *before_offset, *before_time)
}
