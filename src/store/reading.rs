//! What opening a journal has read so far, and what it hands on of it.

use std::collections::BTreeMap;

use crate::types::{CoveredEntries, JournalItem, Partition};

use super::StoreError;
use super::base::{BASE, Base, Newest};
use super::index::{Follows, Index, Run, SegmentIndex};
use super::layout::{PAGE, SegmentHeader};
use super::recovery::{Found, Visit};

/// A journal that is being opened.
pub(super) struct Reading<'a> {
    pub(super) index: Index,
    pub(super) chain: Chain,
    /// What was read from the base, until its commits are past.
    base: Option<Base>,
    /// Logs with an entry that follows none that is there, and where the first stands. Until the
    /// commits that the base knows of are past, each must be withdrawn.
    holes: BTreeMap<Partition, StoreError>,
    visit: Visit<'a>,
}

/// How far a chain of commits has been followed.
pub(super) struct Chain {
    /// The sequence of the commit to come.
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
    pub(super) position: u64,
    /// Where the last commit begins, if it is of this segment.
    pub(super) last: Option<u64>,
}

impl<'a> Reading<'a> {
    /// Before the first segment, which is this one.
    pub(super) fn new(header: &SegmentHeader, base: Option<Base>, visit: Visit<'a>) -> Self {
        let follows = match base {
            // What came before is gone: its own header says what it follows.
            Some(_) => (header.first_sequence, header.previous_crc),
            None => (1, 0),
        };
        Self {
            index: Index::new(header.number, Follows::of(header)),
            chain: Chain {
                sequence: follows.0,
                previous_crc: follows.1,
                position: PAGE,
                last: None,
            },
            base,
            holes: BTreeMap::new(),
            visit,
        }
    }

    /// Hands on what the base holds of each partition before its entries.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        let Some(base) = &self.base else {
            return Ok(());
        };
        self.index.newest = base.newest.clone();
        let items = base.newest.values().flat_map(Newest::first);
        for item in items {
            reject(BASE, 0, (self.visit)(Found::Item(item.clone())))?;
        }
        Ok(())
    }

    /// If the base knows of no commit to come, hands on what it holds of each partition after its
    /// entries.
    pub(super) fn pass_base(&mut self) -> Result<(), StoreError> {
        let sequence = self.chain.sequence;
        let Some(base) = self.base.take_if(|base| base.as_of < sequence) else {
            return Ok(());
        };
        if let Some((_, hole)) = self.holes.pop_first() {
            return Err(hole);
        }
        let items = base.newest.values().filter_map(Newest::then);
        for item in items {
            reject(BASE, 0, (self.visit)(Found::Item(item.clone())))?;
        }
        Ok(())
    }

    /// Whether the base knows of this commit.
    pub(super) fn knows(&self, sequence: u64) -> bool {
        self.base
            .as_ref()
            .is_some_and(|base| sequence <= base.as_of)
    }

    /// Nothing more can be read: the newest commit that is known to have been synced, if it is
    /// among what cannot.
    pub(super) fn lacks(&self) -> Option<u64> {
        self.base.as_ref().map(|base| base.as_of)
    }

    /// Whether the entry `index` of `partition` is one of its log: it follows the entry before it,
    /// withdraws it, or is the first that is left. One that is not followed an entry that is gone,
    /// since both are withdrawn later; if they are not, it is damage.
    pub(super) fn continues(
        &mut self,
        partition: &Partition,
        index: u64,
        damaged: impl FnOnce(String) -> StoreError,
    ) -> Result<bool, StoreError> {
        let Some(end) = self.index.end_index(partition) else {
            return Ok(true);
        };
        if index != end && index <= self.index.keep_from(partition) {
            self.index.begin_anew(partition);
        } else if index > end {
            let reason =
                format!("entry {index} of {partition} does not follow: the log ends before {end}");
            if self.base.is_none() {
                return Err(damaged(reason));
            }
            let hole = self.holes.entry(partition.clone());
            hole.or_insert_with(|| damaged(reason));
            return Ok(false);
        }
        self.holes.remove(partition);
        Ok(true)
    }

    /// Hands on an item of a commit. What the base knows better is passed over.
    pub(super) fn take(
        &mut self,
        item: JournalItem,
        path: &str,
        position: u64,
    ) -> Result<(), StoreError> {
        let known = self.base.as_ref();
        match &item {
            JournalItem::Entry { .. } => {}
            // Which entries are void it says in its place only.
            JournalItem::Snapshot { partition, .. } => {
                self.holes.remove(partition);
                let newest = known.and_then(|base| base.newest.get(partition));
                match newest.is_some_and(Newest::has_checkpoint) {
                    true => self.index.begin_anew(partition),
                    false => self.index.note(&item),
                }
            }
            _ if known.is_some() => return Ok(()),
            _ => self.index.note(&item),
        }
        reject(path, position, (self.visit)(Found::Item(item)))
    }

    /// Whether the base has checkpoints that cover all of these entries, and nothing but entries
    /// is of use beside it.
    pub(super) fn covers(&self, index: &SegmentIndex) -> bool {
        let newest = &self.index.newest;
        if newest.values().any(Newest::has_snapshot) {
            return false;
        }
        index.iter().all(|(partition, run)| {
            let newest = newest.get(partition);
            newest.is_some_and(|newest| newest.covers(run.end_index().saturating_sub(1)))
        })
    }

    /// Takes entries that a checkpoint covers.
    pub(super) fn take_run(
        &mut self,
        partition: &Partition,
        run: &Run,
        path: &str,
        position: u64,
    ) -> Result<(), StoreError> {
        let damaged = |reason| StoreError::damaged(path.to_owned(), position, reason);
        if run.slots.is_empty() || !self.continues(partition, run.first_index, damaged)? {
            return Ok(());
        }
        self.index.push_run(partition, run);
        let mut first_index = run.first_index;
        for span in run.slots.chunk_by(|one, next| one.term == next.term) {
            let covered = CoveredEntries {
                partition: partition.clone(),
                first_index,
                end_index: first_index + span.len() as u64,
                term: span[0].term,
            };
            first_index = covered.end_index;
            reject(path, position, (self.visit)(Found::Covered(covered)))?;
        }
        Ok(())
    }

    /// The segment ends here; the next begins.
    pub(super) fn seal(&mut self, header: &SegmentHeader, next: &SegmentHeader) {
        let (end, kind) = (self.chain.position, header.kind());
        self.index.seal(end, kind, next.number, Follows::of(next));
        self.chain.position = PAGE;
        self.chain.last = None;
    }
}

fn reject(path: &str, position: u64, visited: Result<(), String>) -> Result<(), StoreError> {
    visited.map_err(|reason| StoreError::Rejected {
        file: path.to_owned(),
        position,
        reason,
    })
}
