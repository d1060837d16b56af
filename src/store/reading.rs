//! What opening a journal has read so far, and what it hands on of it.

use crate::types::JournalItem;

use super::StoreError;
use super::base::{BASE, Base, Newest};
use super::index::Index;
use super::layout::{PAGE, SegmentHeader};
use super::recovery::Visit;

/// A journal that is being opened.
pub(super) struct Reading<'a> {
    pub(super) index: Index,
    pub(super) chain: Chain,
    /// What was read from the base, until its commits are past.
    base: Option<Base>,
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
            index: Index::new(header.number),
            chain: Chain {
                sequence: follows.0,
                previous_crc: follows.1,
                position: PAGE,
                last: None,
            },
            base,
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
            reject(BASE, 0, (self.visit)(item.clone()))?;
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
        let items = base.newest.values().filter_map(Newest::then);
        for item in items {
            reject(BASE, 0, (self.visit)(item.clone()))?;
        }
        Ok(())
    }

    /// Nothing more can be read: the newest commit that is known to have been synced, if it is
    /// among what cannot.
    pub(super) fn lacks(&self) -> Option<u64> {
        self.base.as_ref().map(|base| base.as_of)
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
                let newest = known.and_then(|base| base.newest.get(partition));
                match newest.is_some_and(Newest::has_checkpoint) {
                    true => self.index.void(partition),
                    false => self.index.note(&item),
                }
            }
            _ if known.is_some() => return Ok(()),
            _ => self.index.note(&item),
        }
        reject(path, position, (self.visit)(item))
    }

    /// The segment ends here; the next begins.
    pub(super) fn seal(&mut self) {
        self.index.seal(self.chain.position);
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
