//! What is committed: on the disks of a majority when it is first claimed, the same whoever claims
//! it, and never withdrawn.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::logs::{Fact, Logs, ReplicaLog};
use super::{Verdict, broken};
use crate::types::{Offset, Partition, Record, Wall};

/// The committed log of each partition, as far as anybody claimed it.
#[derive(Debug, Default)]
pub(in crate::sim) struct Commits {
    partitions: BTreeMap<Partition, Committed>,
}

#[derive(Debug, Default)]
struct Committed {
    entries: Vec<Rc<Fact>>,
    /// For each entry the term in which it was committed, or a later one.
    commit_terms: Vec<u64>,
    /// The same by offset: position in `entries` and in the entry.
    records: Vec<(usize, usize)>,
}

impl Commits {
    /// Somebody whose log is `log` claims that it is committed up to `index`. What is new of it.
    pub(in crate::sim) fn claim(
        &mut self,
        partition: &Partition,
        log: &ReplicaLog,
        index: u64,
        logs: &Logs,
    ) -> Verdict<Vec<(Offset, Rc<Fact>)>> {
        const ORACLE: &str = "a commit is on a majority of disks, and final";
        let committed = self.partitions.entry(partition.clone()).or_default();
        let known = committed.entries.len() as u64;
        let shared = index.min(known) as usize;
        if shared > 0 && !Rc::ptr_eq(&committed.entries[shared - 1], &log.entries[shared - 1]) {
            let (ours, theirs) = (&committed.entries[shared - 1], &log.entries[shared - 1]);
            return broken(
                ORACLE,
                Some(partition),
                format!(
                    "entry {shared} was committed with term {}, now one of term {} is claimed",
                    ours.entry.term, theirs.entry.term
                ),
            );
        }
        if index <= known {
            return Ok(Vec::new());
        }
        if !logs.majority_holds(partition, index, log.term_at(index)) {
            return broken(
                ORACLE,
                Some(partition),
                format!(
                    "entry {index} of term {} is claimed to be committed, but no majority of {} \
                     voters has synced it",
                    log.term_at(index),
                    logs.voters(partition)
                ),
            );
        }
        let newest = logs.newest_term(partition);
        let mut news = Vec::new();
        for fact in &log.entries[known as usize..index as usize] {
            let entry = committed.entries.len();
            committed.entries.push(fact.clone());
            committed.commit_terms.push(newest.max(fact.entry.term));
            for position in 0..fact.records.len() {
                committed.records.push((entry, position));
            }
            news.push((fact.entry.first_offset, fact.clone()));
        }
        Ok(news)
    }

    /// How many entries are known to be committed.
    pub(in crate::sim) fn len(&self, partition: &Partition) -> u64 {
        let committed = self.partitions.get(partition);
        committed.map_or(0, |committed| committed.entries.len() as u64)
    }

    /// Whether `offset` is known to be committed.
    pub(in crate::sim) fn reaches(&self, partition: &Partition, offset: Offset) -> bool {
        offset < self.next_offset(partition)
    }

    /// How many records are known to be committed.
    pub(in crate::sim) fn next_offset(&self, partition: &Partition) -> Offset {
        self.partitions
            .get(partition)
            .map_or(0, |committed| committed.records.len() as u64)
    }

    /// The committed record at `offset`, and its time.
    pub(in crate::sim) fn record(
        &self,
        partition: &Partition,
        offset: Offset,
    ) -> Option<(&Record, Wall)> {
        let committed = self.partitions.get(partition)?;
        let (entry, position) = committed.records.get(usize::try_from(offset).ok()?)?;
        let fact = &committed.entries[*entry];
        Some((&fact.records[*position].0, fact.entry.time))
    }

    /// The committed entry of this index, if it is known.
    pub(in crate::sim) fn fact(&self, partition: &Partition, index: u64) -> Option<&Rc<Fact>> {
        let committed = self.partitions.get(partition)?;
        let position = usize::try_from(index.checked_sub(1)?).ok()?;
        committed.entries.get(position)
    }

    /// Every committed entry with the term in which it was committed, or a later one.
    pub(in crate::sim) fn terms(
        &self,
        partition: &Partition,
    ) -> impl Iterator<Item = (&Rc<Fact>, u64)> {
        let committed = self.partitions.get(partition).into_iter();
        committed.flat_map(|committed| {
            let terms = committed.commit_terms.iter().copied();
            committed.entries.iter().zip(terms)
        })
    }

    /// After heal: `log` holds everything that was ever committed, and as committed.
    pub(in crate::sim) fn held_by(
        &self,
        machine: usize,
        partition: &Partition,
        log: &ReplicaLog,
    ) -> Verdict {
        let Some(committed) = self.partitions.get(partition) else {
            return Ok(());
        };
        for (position, fact) in committed.entries.iter().enumerate() {
            let there = log.entries.get(position);
            if there.is_none_or(|there| !Rc::ptr_eq(there, fact)) {
                return broken(
                    "every replica holds every committed record after heal",
                    Some(partition),
                    format!(
                        "machine {machine} has {} where entry {} of term {} (offsets {} to {}) is \
                         committed",
                        match there {
                            None => "nothing".to_owned(),
                            Some(there) => format!("an entry of term {}", there.entry.term),
                        },
                        fact.entry.index,
                        fact.entry.term,
                        fact.entry.first_offset,
                        fact.entry.first_offset + u64::from(fact.entry.count)
                    ),
                );
            }
        }
        Ok(())
    }
}
