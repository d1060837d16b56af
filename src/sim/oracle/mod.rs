//! What must hold, one promise per file. Oracles watch from outside: frames on their way, items on
//! their way to a disk and off it, answers at the clients. They never ask a node what it believes,
//! except where the promise is about what a node says of itself (`ledger`).

pub(super) mod audits;
pub(super) mod commits;
pub(super) mod consumers;
pub(super) mod cursors;
pub(super) mod leaders;
pub(super) mod ledger;
pub(super) mod logs;
pub(super) mod producers;
pub(super) mod publishes;
pub(super) mod retention;
pub(super) mod signals;
pub(super) mod silence;
pub(super) mod space;
pub(super) mod speech;

use std::collections::BTreeSet;

use std::rc::Rc;

use crate::types::{JournalItem, Offset, Partition, Time};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// The promise.
    pub(super) oracle: &'static str,
    /// What is wrong.
    pub(super) says: String,
    /// Where.
    pub(super) partition: Option<Partition>,
}

/// Whether all is well.
pub(super) type Verdict<T = ()> = Result<T, Violation>;

/// A violation of `oracle` in `partition`.
pub(super) fn broken<T>(
    oracle: &'static str,
    partition: Option<&Partition>,
    says: impl Into<String>,
) -> Verdict<T> {
    Err(Violation {
        oracle,
        says: says.into(),
        partition: partition.cloned(),
    })
}

/// All oracles of a run.
#[derive(Debug, Default)]
pub(super) struct Oracles {
    pub(super) logs: logs::Logs,
    pub(super) leaders: leaders::Leaders,
    pub(super) commits: commits::Commits,
    pub(super) publishes: publishes::Publishes,
    pub(super) retention: retention::Retention,
    pub(super) consumers: consumers::Consumers,
    pub(super) cursors: cursors::Cursors,
    pub(super) signals: signals::Signals,
    pub(super) silence: silence::Silence,
    /// The nodes whose disks have not always given back what was synced.
    pub(super) rotten: BTreeSet<String>,
    /// The time of the event that is looked at.
    pub(super) now: Time,
}

impl Oracles {
    /// A machine is about to write `items`; what they say is committed must be.
    pub(super) fn written(&mut self, machine: usize, items: &[JournalItem]) -> Verdict {
        for (partition, commit) in self.logs.write(machine, items)? {
            let log = self.logs.written(machine, &partition);
            let committed = self.commits.terms(&partition);
            self.leaders.began(&partition, log, committed)?;
            let news = self.commits.claim(&partition, log, commit, &self.logs)?;
            self.committed(&partition, news)?;
        }
        Ok(())
    }

    /// Somebody outside was told of the record at `offset`: it must be committed. Who it is.
    pub(super) fn told(
        &mut self,
        oracle: &'static str,
        partition: &Partition,
        offset: Offset,
    ) -> Verdict {
        if self.commits.reaches(partition, offset) {
            return Ok(());
        }
        let Some((machine, index)) = self.logs.majority_at(partition, offset) else {
            return broken(
                oracle,
                Some(partition),
                format!(
                    "{partition}/{offset} was told to a client while no majority of the replicas \
                     had it on disk: {}",
                    self.logs.holders(partition, offset)
                ),
            );
        };
        let log = self.logs.durable(machine, partition);
        let news = self.commits.claim(partition, log, index, &self.logs)?;
        self.committed(partition, news)
    }

    /// Somebody outside was told that all before `first` is gone: that must be committed.
    pub(super) fn told_gone(&mut self, partition: &Partition, first: Offset) -> Verdict {
        if first <= self.retention.first(partition) {
            return Ok(());
        }
        let Some((machine, index)) = self.logs.majority_trims(partition, first) else {
            let says = format!("a client was told that all before {first} is gone");
            return broken("nothing is let go of early", Some(partition), says);
        };
        let log = self.logs.durable(machine, partition);
        let news = self.commits.claim(partition, log, index, &self.logs)?;
        self.committed(partition, news)
    }

    /// A reader was told of what became of a cursor: that must be committed.
    pub(super) fn told_cursor(
        &mut self,
        partition: &Partition,
        is_known: impl Fn(&cursors::Cursors) -> bool,
    ) -> Verdict {
        while !is_known(&self.cursors) {
            let known = self.commits.len(partition);
            let Some((machine, index)) = self.logs.majority_cursors(partition, known) else {
                let says = "a reader was told of a cursor what no majority has on disk";
                return broken(
                    "what becomes of a cursor is told late",
                    Some(partition),
                    says,
                );
            };
            self.claimed(machine, partition, index)?;
        }
        Ok(())
    }

    /// The log of this machine is committed up to `index`.
    pub(super) fn claimed(&mut self, machine: usize, partition: &Partition, index: u64) -> Verdict {
        let log = self.logs.durable(machine, partition);
        let news = self.commits.claim(partition, log, index, &self.logs)?;
        self.committed(partition, news)
    }

    fn committed(&mut self, partition: &Partition, news: Vec<(Offset, Rc<logs::Fact>)>) -> Verdict {
        let newest = self.logs.newest_term(partition);
        for (_, fact) in &news {
            let commit_term = newest.max(fact.entry.term);
            self.leaders
                .committed(partition, &fact.entry, commit_term)?;
        }
        for (first, fact) in news {
            let forgotten = self.retention.committed(partition, &fact, self.now)?;
            self.publishes.forgotten(partition, forgotten);
            self.cursors.committed(partition, &fact, &self.commits)?;
            self.publishes.committed(partition, first, &fact)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
