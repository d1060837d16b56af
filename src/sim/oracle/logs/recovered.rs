//! What a journal gives back at a start, held against what was written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Disk, Fact, Logs, ReplicaLog};
use crate::sim::machine::MachineId;
use crate::sim::oracle::{Verdict, broken};
use crate::types::{Checkpoint, JournalItem, LogEntry, Partition};

const ORACLE: &str = "a disk gives back what was synced";

/// The logs that a journal's items make.
#[derive(Default)]
struct Rebuilt {
    logs: BTreeMap<Partition, ReplicaLog>,
    /// The entries given of each that were not withdrawn, and their terms.
    given: BTreeMap<Partition, BTreeMap<u64, u64>>,
    /// Those that begin with a snapshot. Entries that were void before it may come after it, until
    /// a hard state does.
    begun: BTreeSet<Partition>,
}

impl Logs {
    /// The machine starts again and its journal gives back `items`. They must be what was synced,
    /// or that and the one commit that was not yet (`kept` says it must be there).
    pub(in crate::sim) fn recovered(
        &mut self,
        machine: MachineId,
        items: &[JournalItem],
        kept: bool,
    ) -> Verdict {
        let mut rebuilt = Rebuilt::default();
        for item in items {
            let partition = item.partition().clone();
            let mut log = rebuilt.logs.remove(&partition).unwrap_or_default();
            let passed_over = match item {
                JournalItem::Checkpoint { checkpoint, .. } if log.entries.is_empty() => {
                    self.begin(machine, &partition, &mut log, checkpoint);
                    true
                }
                // A checkpoint that came after it is known already, and the entries with it.
                JournalItem::Snapshot { .. } if log.is_covered() => true,
                JournalItem::Snapshot { .. } => {
                    rebuilt.begun.insert(partition.clone());
                    rebuilt.given.remove(&partition);
                    false
                }
                JournalItem::Entry { entry, .. } => {
                    let begins = log.term == 0 && rebuilt.begun.contains(&partition);
                    let void = begins && !self.follows(&partition, &log, entry);
                    if !void {
                        let given = rebuilt.given.entry(partition.clone()).or_default();
                        given.split_off(&entry.index);
                        given.insert(entry.index, entry.term);
                    }
                    void || self.is_covered(machine, &partition, &mut log, entry)?
                }
                _ => false,
            };
            if !passed_over {
                self.apply(machine, &mut log, item)?;
            }
            rebuilt.logs.insert(partition, log);
        }
        rebuilt.check_kept(machine)?;
        self.compare(machine, rebuilt.logs, kept)
    }

    /// A log begins with a checkpoint. What that is made of may be gone from this disk; it is what
    /// was written here once.
    fn begin(
        &self,
        machine: MachineId,
        partition: &Partition,
        log: &mut ReplicaLog,
        checkpoint: &Checkpoint,
    ) {
        let before = self.written(machine, partition);
        let made_of = before.entries.get(..checkpoint.index as usize);
        log.entries = made_of.unwrap_or_default().to_vec();
        log.checkpoint = Some((checkpoint.index, checkpoint.keep_from));
    }

    /// Whether the entry adds nothing: the checkpoint that the log begins with is made of it, or it
    /// followed one that was withdrawn.
    fn is_covered(
        &self,
        machine: MachineId,
        partition: &Partition,
        log: &mut ReplicaLog,
        entry: &LogEntry,
    ) -> Verdict<bool> {
        let Some((index, _)) = log.checkpoint.filter(|_| log.is_covered()) else {
            return Ok(false);
        };
        let facts = self.facts.get(partition);
        let known = facts.and_then(|facts| facts.get(&(entry.term, entry.index)));
        let Some(known) = known.filter(|fact| fact.entry == *entry) else {
            let says = format!("machine {machine} gave another entry {}", entry.index);
            return broken(ORACLE, Some(partition), says);
        };
        if entry.index > index {
            return Ok(!log.is_followed_by(known));
        }
        // What stood after it then was withdrawn.
        log.entries.truncate(index as usize);
        Ok(true)
    }

    /// Whether the entry could follow what is there of a log that begins with a snapshot.
    fn follows(&self, partition: &Partition, log: &ReplicaLog, entry: &LogEntry) -> bool {
        let facts = self.facts.get(partition);
        let known = facts.and_then(|facts| facts.get(&(entry.term, entry.index)));
        let fits = entry.index > log.commit && entry.index <= log.last() + 1;
        fits && known.is_some_and(|fact| log.is_followed_by(fact))
    }

    fn compare(
        &mut self,
        machine: MachineId,
        logs: BTreeMap<Partition, ReplicaLog>,
        kept: bool,
    ) -> Verdict {
        let disk = self.disks.entry(machine).or_default();
        if logs != disk.written && (kept || logs != disk.durable) {
            let differs = logs
                .keys()
                .chain(disk.durable.keys())
                .find(|partition| logs.get(*partition) != disk.durable.get(*partition))
                .cloned();
            return broken(
                ORACLE,
                differs.as_ref(),
                format!(
                    "the journal of machine {machine} came back with {}, synced was {}",
                    describe(differs.as_ref().and_then(|p| logs.get(p))),
                    describe(differs.as_ref().and_then(|p| disk.durable.get(p))),
                ),
            );
        }
        *disk = Disk {
            written: logs.clone(),
            durable: logs,
            unsynced: Vec::new(),
        };
        Ok(())
    }
}

impl Rebuilt {
    /// What a checkpoint keeps must be there, all of it.
    fn check_kept(&self, machine: MachineId) -> Verdict {
        let none = BTreeMap::new();
        for (partition, log) in &self.logs {
            let Some((index, keep_from)) = log.checkpoint else {
                continue;
            };
            let given = self.given.get(partition).unwrap_or(&none);
            let mut kept = keep_from..=index;
            if let Some(lost) = kept.find(|kept| given.get(kept) != Some(&log.term_at(*kept))) {
                let says = format!(
                    "machine {machine} has no entry {lost} of {index}, of which those from \
                     {keep_from} on were to stay"
                );
                return broken(ORACLE, Some(partition), says);
            }
        }
        Ok(())
    }
}

impl ReplicaLog {
    /// Whether what it begins with may cover the entries that come.
    fn is_covered(&self) -> bool {
        self.checkpoint.is_some() && self.term == 0
    }

    /// Whether the entry could follow what is there.
    fn is_followed_by(&self, fact: &Fact) -> bool {
        let before = fact.entry.index - 1;
        let end = |before: &Rc<Fact>| before.entry.first_offset + u64::from(before.entry.count);
        self.fact(before).is_some_and(|last| {
            last.entry.term == fact.before && end(last) == fact.entry.first_offset
        })
    }
}

fn describe(log: Option<&ReplicaLog>) -> String {
    log.map_or("nothing".to_owned(), |log| {
        format!(
            "(term {}, vote {:x}, commit {}, last index {} of term {})",
            log.term,
            log.vote,
            log.commit,
            log.last(),
            log.term_at(log.last())
        )
    })
}
