//! A node's state as its journal tells it.

use std::collections::BTreeMap;

use super::member::apply_entry;
use crate::channel::{Stamp, Stream};
use crate::replica::{LogStart, RecoveredLog, RecoveryError};
use crate::types::{
    Checkpoint, CoveredEntries, JournalItem, Limits, LogEntry, Partition, Sabotage,
};
use crate::wire::founding::Founding;

/// Takes every item of a journal in the order they were written. Memory is bounded by the entries
/// not yet known to be committed.
#[derive(Debug, Default)]
pub struct Recovery {
    pub(super) partitions: BTreeMap<Partition, RecoveredPartition>,
    limits: Limits,
}

/// One founded partition.
#[derive(Debug)]
pub(super) struct RecoveredPartition {
    pub(super) founding: Founding,
    pub(super) log: RecoveredLog,
    pub(super) stream: Stream,
    /// The entries up to this one may be gone from the journal, as a checkpoint said.
    pub(super) dispensable: LogStart,
    /// The entries up to this one have led to `stream` already.
    pub(super) covered: u64,
}

impl Recovery {
    /// Nothing yet. `limits` are those of the topology the node will run with.
    pub fn new(limits: &Limits) -> Self {
        Self {
            partitions: BTreeMap::new(),
            limits: limits.clone(),
        }
    }

    /// The next item. After an error the node must not start on this journal.
    pub fn handle(&mut self, item: JournalItem) -> Result<(), RecoveryError> {
        let partition = item.partition().clone();
        if let JournalItem::Founding { record, .. } = &item {
            return self.handle_founding(partition, record);
        }
        let Some(recovered) = self.partitions.get_mut(&partition) else {
            return Err(RecoveryError::Unfounded(partition.to_string()));
        };
        match item {
            JournalItem::Founding { .. } => {}
            JournalItem::Entry { entry, .. } => recovered.log.handle_entry(entry)?,
            JournalItem::Checkpoint { checkpoint, .. } => {
                recovered.handle_checkpoint(&checkpoint, &self.limits)?;
            }
            JournalItem::Snapshot { checkpoint, .. } => {
                recovered.handle_snapshot(&checkpoint, &self.limits)?;
            }
            JournalItem::HardState {
                term, vote, commit, ..
            } => {
                for entry in recovered.log.handle_hard_state(term, vote, commit)? {
                    if entry.index > recovered.covered {
                        apply(&mut recovered.stream, &entry)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next entries, of which a checkpoint holds what came of them.
    pub fn handle_covered(&mut self, covered: &CoveredEntries) -> Result<(), RecoveryError> {
        let Some(recovered) = self.partitions.get_mut(&covered.partition) else {
            return Err(RecoveryError::Unfounded(covered.partition.to_string()));
        };
        recovered.log.handle_covered_entries(covered)
    }

    fn handle_founding(
        &mut self,
        partition: Partition,
        record: &[u8],
    ) -> Result<(), RecoveryError> {
        let error = || RecoveryError::Founding(partition.to_string());
        let founding = Founding::decode(record).map_err(|_| error())?;
        if self.partitions.contains_key(&partition) || founding.partition != partition {
            return Err(error());
        }
        let mut stream = Stream::new(&self.limits);
        stream.found(&founding.voters);
        let log = RecoveredLog::default();
        self.partitions.insert(
            partition,
            RecoveredPartition {
                founding,
                log,
                stream,
                dispensable: LogStart::default(),
                covered: 0,
            },
        );
        Ok(())
    }
}

impl RecoveredPartition {
    /// What the partition was at an entry. It is that; the entries before it were one way there,
    /// under the limits of their day.
    fn handle_checkpoint(
        &mut self,
        checkpoint: &Checkpoint,
        limits: &Limits,
    ) -> Result<(), RecoveryError> {
        self.dispensable = LogStart::before(checkpoint);
        let begins = self.log == RecoveredLog::default();
        if !begins && self.log.commit() != checkpoint.index {
            return Ok(());
        }
        self.stream = self.decode(checkpoint, limits)?;
        if begins {
            self.log = RecoveredLog::after(checkpoint);
        }
        Ok(())
    }

    /// What another replica's log had led to: this one begins anew where that did.
    fn handle_snapshot(
        &mut self,
        checkpoint: &Checkpoint,
        limits: &Limits,
    ) -> Result<(), RecoveryError> {
        if self.log.handle_snapshot(checkpoint) {
            self.stream = self.decode(checkpoint, limits)?;
            self.covered = checkpoint.index;
            self.dispensable = LogStart::before(checkpoint);
        }
        Ok(())
    }

    fn decode(&self, checkpoint: &Checkpoint, limits: &Limits) -> Result<Stream, RecoveryError> {
        let decoded = Stream::decode(&checkpoint.state, limits);
        let mut stream = decoded.map_err(|error| RecoveryError::Unreadable {
            index: checkpoint.index,
            error,
        })?;
        stream.found(&self.founding.voters);
        Ok(stream)
    }
}

fn apply(stream: &mut Stream, entry: &LogEntry) -> Result<(), RecoveryError> {
    let keeps = |_: &Stamp| !Sabotage::LostWindow.is_on();
    let applied = apply_entry(stream, entry, keeps);
    applied
        .map(drop)
        .map_err(|error| RecoveryError::Unreadable {
            index: entry.index,
            error,
        })
}
