//! What each replica has written and synced, as its journal was told, and what must hold between
//! them: one payload per (term, index), log matching, dense offsets, terms and votes that never go
//! back, commits that are never withdrawn, and a disk that gives back what was synced.

mod checkpoints;
mod kept;
mod recovered;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

use super::{Verdict, broken};
use crate::sim::machine::MachineId;
use crate::types::{Command, EntryKind, JournalItem, LogEntry, Offset, Partition, Record};
use crate::wire::RawRecords;
use crate::wire::entry::{EntryContent, EntryHead, ProducerStamp};
use crate::wire::founding::Founding;

/// One entry, shared by all logs that hold it.
#[derive(Debug)]
pub(in crate::sim) struct Fact {
    pub(in crate::sim) entry: LogEntry,
    /// The term of the entry before it.
    before: u64,
    /// Its records, with the stamp of the batch each came in.
    pub(in crate::sim) records: Vec<(Record, Option<ProducerStamp>)>,
}

/// One replica's log and hard state.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct ReplicaLog {
    founding: Option<Bytes>,
    pub(in crate::sim) term: u64,
    pub(in crate::sim) vote: u64,
    pub(in crate::sim) commit: u64,
    /// The newest checkpoint's index and first entry to keep.
    checkpoint: Option<(u64, u64)>,
    /// Entry `i + 1` at position `i`.
    pub(in crate::sim) entries: Vec<Rc<Fact>>,
}

#[derive(Debug, Default)]
struct Disk {
    written: BTreeMap<Partition, ReplicaLog>,
    durable: BTreeMap<Partition, ReplicaLog>,
    /// Written since the last sync.
    unsynced: Vec<JournalItem>,
}

/// Every replica's log.
#[derive(Debug, Default)]
pub(in crate::sim) struct Logs {
    disks: BTreeMap<MachineId, Disk>,
    /// What was synced on disks that are gone: it was there when commits were claimed.
    lost: Vec<(MachineId, BTreeMap<Partition, ReplicaLog>)>,
    facts: BTreeMap<Partition, BTreeMap<(u64, u64), Rc<Fact>>>,
    foundings: BTreeMap<Partition, (Bytes, usize)>,
}

#[cfg(test)]
impl Fact {
    /// An entry with these records.
    pub(in crate::sim) fn of(
        entry: LogEntry,
        records: Vec<(Record, Option<ProducerStamp>)>,
    ) -> Self {
        Self {
            entry,
            before: 1,
            records,
        }
    }
}

const EMPTY: &ReplicaLog = &ReplicaLog {
    founding: None,
    term: 0,
    vote: 0,
    commit: 0,
    checkpoint: None,
    entries: Vec::new(),
};

impl ReplicaLog {
    /// The term of entry `index`; 0 for index 0 and for what is not there.
    pub(in crate::sim) fn term_at(&self, index: u64) -> u64 {
        self.fact(index).map_or(0, |fact| fact.entry.term)
    }

    /// Entry `index`.
    pub(in crate::sim) fn fact(&self, index: u64) -> Option<&Rc<Fact>> {
        self.entries
            .get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// The last index.
    pub(in crate::sim) fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entry that holds `offset`.
    pub(in crate::sim) fn at_offset(&self, offset: Offset) -> Option<&Rc<Fact>> {
        let end = |fact: &Rc<Fact>| fact.entry.first_offset + u64::from(fact.entry.count);
        let position = self.entries.partition_point(|fact| end(fact) <= offset);
        self.entries.get(position)
    }
}

impl PartialEq for ReplicaLog {
    fn eq(&self, other: &Self) -> bool {
        self.founding == other.founding
            && (self.term, self.vote, self.commit) == (other.term, other.vote, other.commit)
            && self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                .all(|(a, b)| Rc::ptr_eq(a, b))
    }
}

impl Logs {
    /// The machine hands `items` to its journal. What they touch, and how far each claims to
    /// be committed.
    pub(in crate::sim) fn write(
        &mut self,
        machine: MachineId,
        items: &[JournalItem],
    ) -> Verdict<BTreeMap<Partition, u64>> {
        let mut claims = BTreeMap::new();
        for item in items {
            let partition = item.partition().clone();
            let mut disk = self.disks.remove(&machine).unwrap_or_default();
            let log = disk.written.entry(partition.clone()).or_default();
            let verdict = self.apply(machine, log, item);
            claims.insert(partition, log.commit);
            disk.unsynced.push(item.clone());
            self.disks.insert(machine, disk);
            verdict?;
        }
        Ok(claims)
    }

    /// The machine's journal synced what was written.
    pub(in crate::sim) fn synced(&mut self, machine: MachineId) {
        let disk = self.disks.entry(machine).or_default();
        // The first entry that may differ between what was durable and what now is.
        let mut touched: BTreeMap<Partition, u64> = BTreeMap::new();
        for item in disk.unsynced.drain(..) {
            let from = match &item {
                JournalItem::Entry { entry, .. } => entry.index,
                JournalItem::Snapshot { .. } => 1,
                _ => u64::MAX,
            };
            let first = touched.entry(item.partition().clone()).or_insert(from);
            *first = from.min(*first);
        }
        for (partition, first) in touched {
            let Some(written) = disk.written.get(&partition) else {
                continue;
            };
            let durable = disk.durable.entry(partition).or_default();
            let same = usize::try_from(first - 1).unwrap_or(usize::MAX);
            durable.entries.truncate(same);
            let same = durable.entries.len();
            durable.entries.extend_from_slice(&written.entries[same..]);
            durable.founding.clone_from(&written.founding);
            (durable.term, durable.vote) = (written.term, written.vote);
            durable.commit = written.commit;
            durable.checkpoint = written.checkpoint;
        }
    }

    /// The machine's disk is gone.
    pub(in crate::sim) fn lost(&mut self, machine: MachineId) {
        if let Some(disk) = self.disks.remove(&machine) {
            self.lost.push((machine, disk.durable));
        }
    }

    /// The machine's log as written.
    pub(in crate::sim) fn written(&self, machine: MachineId, partition: &Partition) -> &ReplicaLog {
        let disk = self.disks.get(&machine);
        disk.and_then(|disk| disk.written.get(partition))
            .unwrap_or(EMPTY)
    }

    /// The machine's log as synced.
    pub(in crate::sim) fn durable(&self, machine: MachineId, partition: &Partition) -> &ReplicaLog {
        let disk = self.disks.get(&machine);
        disk.and_then(|disk| disk.durable.get(partition))
            .unwrap_or(EMPTY)
    }

    /// The highest term that any replica of the partition has reached.
    pub(in crate::sim) fn newest_term(&self, partition: &Partition) -> u64 {
        let logs = self
            .disks
            .values()
            .filter_map(|disk| disk.written.get(partition));
        logs.map(|log| log.term).max().unwrap_or(0)
    }

    /// Every partition founded so far.
    pub(in crate::sim) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.foundings.keys()
    }

    /// The machines that hold a replica of the partition.
    pub(in crate::sim) fn replicas(&self, partition: &Partition) -> Vec<MachineId> {
        let holds = |disk: &Disk| {
            disk.durable
                .get(partition)
                .is_some_and(|log| log.founding.is_some())
        };
        self.disks
            .iter()
            .filter(|(_, disk)| holds(disk))
            .map(|(machine, _)| *machine)
            .collect()
    }

    /// How many voters the partition was founded with.
    pub(in crate::sim) fn voters(&self, partition: &Partition) -> usize {
        self.foundings.get(partition).map_or(0, |(_, count)| *count)
    }

    /// Whether a majority of the voters has synced entry (`index`, `term`).
    pub(in crate::sim) fn majority_holds(
        &self,
        partition: &Partition,
        index: u64,
        term: u64,
    ) -> bool {
        let disks = self.disks.iter().map(|(id, disk)| (*id, &disk.durable));
        let lost = self.lost.iter().map(|(id, logs)| (*id, logs));
        let holds = |logs: &BTreeMap<Partition, ReplicaLog>| {
            let log = logs.get(partition);
            log.is_some_and(|log| log.term_at(index) == term)
        };
        let holders: BTreeSet<MachineId> = disks
            .chain(lost)
            .filter_map(|(id, logs)| holds(logs).then_some(id))
            .collect();
        index == 0 || 2 * holders.len() > self.voters(partition)
    }

    /// A machine whose synced log holds `offset` in an entry that a majority has synced, and the
    /// entry's index.
    pub(in crate::sim) fn majority_at(
        &self,
        partition: &Partition,
        offset: Offset,
    ) -> Option<(MachineId, u64)> {
        self.disks.iter().find_map(|(machine, disk)| {
            let fact = disk.durable.get(partition)?.at_offset(offset)?;
            let (index, term) = (fact.entry.index, fact.entry.term);
            self.majority_holds(partition, index, term)
                .then_some((*machine, index))
        })
    }

    /// A machine whose synced log lets go of all before `first` in an entry that a majority has
    /// synced, and the entry's index.
    pub(in crate::sim) fn majority_trims(
        &self,
        partition: &Partition,
        first: Offset,
    ) -> Option<(MachineId, u64)> {
        let trims = |fact: &&Rc<Fact>| fact.trims_to().is_some_and(|to| to >= first);
        self.disks.iter().find_map(|(machine, disk)| {
            let log = disk.durable.get(partition)?;
            let fact = log.entries.iter().rev().find(trims)?;
            let (index, term) = (fact.entry.index, fact.entry.term);
            self.majority_holds(partition, index, term)
                .then_some((*machine, index))
        })
    }

    /// A machine whose synced log has a command about cursors after entry `known` that a majority
    /// has synced, and the index of the first.
    pub(in crate::sim) fn majority_cursors(
        &self,
        partition: &Partition,
        known: u64,
    ) -> Option<(MachineId, u64)> {
        let cursors = |fact: &&Rc<Fact>| {
            let is_new = fact.entry.index > known;
            let content = is_new.then(|| EntryContent::decode(&fact.entry.data));
            matches!(content, Some(Ok(EntryContent::Command(head)))
                if matches!(head.does, Command::Cursors { .. }))
        };
        self.disks.iter().find_map(|(machine, disk)| {
            let log = disk.durable.get(partition)?;
            let fact = log.entries.iter().find(cursors)?;
            let (index, term) = (fact.entry.index, fact.entry.term);
            self.majority_holds(partition, index, term)
                .then_some((*machine, index))
        })
    }

    /// Who holds `offset`, in words.
    pub(in crate::sim) fn holders(&self, partition: &Partition, offset: Offset) -> String {
        let holder = |(machine, disk): (&MachineId, &Disk)| {
            let fact = disk.durable.get(partition)?.at_offset(offset)?;
            let (term, index) = (fact.entry.term, fact.entry.index);
            Some(format!("machine {machine} as entry {index} of term {term}"))
        };
        let holders: Vec<String> = self.disks.iter().filter_map(holder).collect();
        match holders.is_empty() {
            true => "nobody has".to_owned(),
            false => holders.join(", "),
        }
    }

    fn apply(&mut self, machine: MachineId, log: &mut ReplicaLog, item: &JournalItem) -> Verdict {
        match item {
            JournalItem::Founding { partition, record } => {
                self.apply_founding(machine, log, partition, record)
            }
            JournalItem::HardState {
                partition,
                term,
                vote,
                commit,
            } => apply_hard_state(machine, log, partition, (*term, *vote, *commit)),
            JournalItem::Entry { partition, entry } => {
                self.apply_entry(machine, log, partition, entry)
            }
            JournalItem::Checkpoint {
                partition,
                checkpoint,
            } => self.apply_checkpoint(machine, log, partition, checkpoint),
            JournalItem::Snapshot {
                partition,
                checkpoint,
            } => self.apply_snapshot(machine, log, partition, checkpoint),
        }
    }

    fn apply_founding(
        &mut self,
        machine: MachineId,
        log: &mut ReplicaLog,
        partition: &Partition,
        record: &Bytes,
    ) -> Verdict {
        const ORACLE: &str = "a partition is founded once";
        let voters = Founding::decode(record).map_or(0, |founding| founding.voters.len());
        let first = self
            .foundings
            .entry(partition.clone())
            .or_insert_with(|| (record.clone(), voters));
        if first.0 != record || log.founding.is_some() {
            let says = format!("machine {machine} wrote a second founding record");
            return broken(ORACLE, Some(partition), says);
        }
        log.founding = Some(record.clone());
        Ok(())
    }

    fn apply_entry(
        &mut self,
        machine: MachineId,
        log: &mut ReplicaLog,
        partition: &Partition,
        entry: &LogEntry,
    ) -> Verdict {
        let (index, term) = (entry.index, entry.term);
        if index == 0 || index > log.last() + 1 || index <= log.commit {
            let (last, commit) = (log.last(), log.commit);
            return broken(
                "a log grows by one and keeps what is committed",
                Some(partition),
                format!(
                    "machine {machine} wrote entry {index} of term {term} to a log that ends at \
                     {last}, {commit} of it committed"
                ),
            );
        }
        log.entries.truncate(index as usize - 1);
        let expected = log.entries.last().map_or((0, 0, 0), |last| {
            let next = last.entry.first_offset + u64::from(last.entry.count);
            (last.entry.term, next, last.entry.time.0)
        });
        let (before, first_offset, time) = expected;
        if entry.first_offset != first_offset || term < before || entry.time.0 < time {
            return broken(
                "offsets are dense, terms and times never fall",
                Some(partition),
                format!(
                    "machine {machine} wrote entry {index} (term {term}, first offset {}, time {}) \
                     after one of term {before}, time {time}, that ends at offset {first_offset}",
                    entry.first_offset, entry.time.0
                ),
            );
        }
        let fact = self.fact(machine, partition, entry, before)?;
        log.entries.push(fact);
        Ok(())
    }

    fn fact(
        &mut self,
        machine: MachineId,
        partition: &Partition,
        entry: &LogEntry,
        before: u64,
    ) -> Verdict<Rc<Fact>> {
        let facts = self.facts.entry(partition.clone()).or_default();
        let (index, term) = (entry.index, entry.term);
        let Some(fact) = facts.get(&(term, index)) else {
            let records = records(partition, entry)?;
            let entry = entry.clone();
            let fact = Rc::new(Fact {
                entry,
                before,
                records,
            });
            facts.insert((term, index), fact.clone());
            return Ok(fact);
        };
        if fact.entry != *entry {
            return broken(
                "(term, index) names one payload",
                Some(partition),
                format!(
                    "machine {machine} wrote entry {index} of term {term} as {}, \
                     elsewhere it is {}",
                    payload(entry),
                    payload(&fact.entry)
                ),
            );
        }
        if fact.before != before {
            let other = fact.before;
            return broken(
                "log matching",
                Some(partition),
                format!(
                    "entry {index} of term {term} follows one of term {before} on machine \
                     {machine}, elsewhere one of term {other}"
                ),
            );
        }
        Ok(fact.clone())
    }
}

fn apply_hard_state(
    machine: MachineId,
    log: &mut ReplicaLog,
    partition: &Partition,
    (term, vote, commit): (u64, u64, u64),
) -> Verdict {
    let had = (log.term, log.vote, log.commit);
    let revoted = term == log.term && log.vote != 0 && vote != log.vote;
    if term < log.term || revoted || commit < log.commit || commit > log.last() {
        return broken(
            "a hard state never goes back",
            Some(partition),
            format!(
                "machine {machine} wrote (term {term}, vote {vote:x}, commit {commit}) after \
                 (term {}, vote {:x}, commit {}), its log ends at {}",
                had.0,
                had.1,
                had.2,
                log.last()
            ),
        );
    }
    (log.term, log.vote, log.commit) = (term, vote, commit);
    Ok(())
}

fn records(
    partition: &Partition,
    entry: &LogEntry,
) -> Verdict<Vec<(Record, Option<ProducerStamp>)>> {
    const ORACLE: &str = "an entry is what its head says";
    let wrong = |what: String| {
        let says = format!("entry {} of term {}: {what}", entry.index, entry.term);
        broken(ORACLE, Some(partition), says)
    };
    let content = match EntryContent::decode(&entry.data) {
        Ok(content) => content,
        Err(error) => return wrong(error.to_string()),
    };
    let fits = match &content {
        EntryContent::Blank => entry.kind == EntryKind::Blank && entry.count == 0,
        EntryContent::Command(head) => {
            let (kind, count, time) = (EntryKind::Command, 0, head.time);
            (kind, count, time) == (entry.kind, entry.count, entry.time)
        }
        EntryContent::Records(_) => entry.kind == EntryKind::Records,
    };
    match content {
        _ if !fits => return wrong(format!("it is kept as {:?} of {}", entry.kind, entry.count)),
        EntryContent::Blank | EntryContent::Command(_) => return Ok(Vec::new()),
        EntryContent::Records(_) => {}
    }
    let (head, bytes) = match EntryHead::decode(&entry.data) {
        Ok(read) => read,
        Err(error) => return wrong(error.to_string()),
    };
    if (head.first_offset, head.count(), head.time) != (entry.first_offset, entry.count, entry.time)
    {
        return wrong(format!("its head says {head:?}"));
    }
    let stamps = head
        .batches
        .iter()
        .flat_map(|batch| std::iter::repeat_n(batch.stamp.clone(), batch.count as usize));
    let mut records = Vec::new();
    for (record, stamp) in RawRecords::new(&bytes).zip(stamps) {
        match record {
            Ok(record) => records.push((record.to_record(), stamp)),
            Err(error) => return wrong(error.to_string()),
        }
    }
    match records.len() == entry.count as usize {
        true => Ok(records),
        false => wrong(format!("it holds {} records", records.len())),
    }
}

fn payload(entry: &LogEntry) -> String {
    format!(
        "({:?}, offsets {} x{}, time {}, {} bytes of CRC-32 {:08x})",
        entry.kind,
        entry.first_offset,
        entry.count,
        entry.time.0,
        entry.data.len(),
        crc32fast::hash(&entry.data)
    )
}
