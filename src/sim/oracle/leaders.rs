//! One leader per term, and leader completeness: what is committed is in the log of every later
//! leader.

use std::collections::BTreeMap;

use super::logs::ReplicaLog;
use super::{Verdict, broken};
use crate::sim::machine::MachineId;
use crate::types::Partition;

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
    /// that the leader of that term began with. `committed` has index and term of every committed
    /// entry.
    pub(in crate::sim) fn began(
        &mut self,
        partition: &Partition,
        log: &ReplicaLog,
        committed: impl Iterator<Item = (u64, u64)>,
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
        for (index, earlier) in committed {
            check(partition, term, &start, index, earlier)?;
        }
        starts.insert(term, start);
        Ok(())
    }

    /// Entry (`index`, `term`) is committed.
    pub(in crate::sim) fn committed(
        &self,
        partition: &Partition,
        index: u64,
        term: u64,
    ) -> Verdict {
        let Some(starts) = self.starts.get(partition) else {
            return Ok(());
        };
        for (later, start) in starts.range(term + 1..) {
            check(partition, *later, start, index, term)?;
        }
        Ok(())
    }
}

/// What is committed in an earlier term lies before the first entry of the later one, and is the
/// same.
fn check(partition: &Partition, later: u64, start: &Start, index: u64, term: u64) -> Verdict {
    if term >= later {
        return Ok(());
    }
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
