//! One leader per term, and leader completeness: what is committed is in the log of every later
//! leader.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::logs::{Fact, ReplicaLog};
use super::{Verdict, broken};
use crate::sim::machine::MachineId;
use crate::types::{LogEntry, Partition};

/// Who led when.
#[derive(Debug, Default)]
pub(in crate::sim) struct Leaders {
    seen: BTreeMap<(Partition, u64), MachineId>,
    /// For each term that has an entry: its first index and the terms before it, as runs of
    /// (first index, term).
    starts: BTreeMap<Partition, BTreeMap<u64, Start>>,
}

#[derive(Debug)]
struct Start {
    index: u64,
    runs: Vec<(u64, u64)>,
}

impl Leaders {
    /// The machine acts as leader of the term. Whether this is news.
    pub(in crate::sim) fn seen(
        &mut self,
        partition: &Partition,
        term: u64,
        machine: MachineId,
    ) -> Verdict<bool> {
        let key = (partition.clone(), term);
        match self.seen.get(&key) {
            Some(other) if *other != machine => broken(
                "one leader per term",
                Some(partition),
                format!("machines {other} and {machine} both lead term {term}"),
            ),
            Some(_) => Ok(false),
            None => {
                self.seen.insert(key, machine);
                Ok(true)
            }
        }
    }

    /// A log that ends with entries of a new term was written: as log matching holds, it is the log
    /// that the leader of that term began with. `committed` has every committed entry and the term
    /// in which it was committed, or a later one: only leaders after that must have it.
    pub(in crate::sim) fn began<'a>(
        &mut self,
        partition: &Partition,
        log: &ReplicaLog,
        committed: impl Iterator<Item = (&'a Rc<Fact>, u64)>,
    ) -> Verdict {
        let term = log.term_at(log.last());
        let starts = self.starts.entry(partition.clone()).or_default();
        if term == 0 || starts.contains_key(&term) {
            return Ok(());
        }
        let index = log.entries.partition_point(|fact| fact.entry.term < term) as u64 + 1;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for fact in &log.entries[..index as usize - 1] {
            if runs.last().is_none_or(|run| run.1 != fact.entry.term) {
                runs.push((fact.entry.index, fact.entry.term));
            }
        }
        let start = Start { index, runs };
        for (fact, commit_term) in committed {
            if commit_term < term {
                check(partition, term, &start, &fact.entry)?;
            }
        }
        starts.insert(term, start);
        Ok(())
    }

    /// The entry is committed, in `commit_term` at the latest.
    pub(in crate::sim) fn committed(
        &self,
        partition: &Partition,
        entry: &LogEntry,
        commit_term: u64,
    ) -> Verdict {
        let Some(starts) = self.starts.get(partition) else {
            return Ok(());
        };
        for (later, start) in starts.range(commit_term + 1..) {
            check(partition, *later, start, entry)?;
        }
        Ok(())
    }
}

/// What is committed before a leader's term lies before its first entry, and is the same.
fn check(partition: &Partition, later: u64, start: &Start, entry: &LogEntry) -> Verdict {
    let (index, term) = (entry.index, entry.term);
    let position = start.runs.partition_point(|run| run.0 <= index);
    let there = match position.checked_sub(1) {
        Some(position) if index < start.index => start.runs[position].1,
        _ => 0,
    };
    if there == term {
        return Ok(());
    }
    broken(
        "leader completeness",
        Some(partition),
        format!(
            "entry {index} of term {term} is committed, but the leader of term {later} began with \
             {} there",
            match there {
                0 => "nothing".to_owned(),
                other => format!("an entry of term {other}"),
            }
        ),
    )
}
