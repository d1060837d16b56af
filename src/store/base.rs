//! The base: what the segments that are gone have left behind. One file, written anew whenever
//! segments go, that opening reads before the segments that are still there.

use std::collections::BTreeMap;

use crate::types::{Checkpoint, Incarnation, JournalItem, Partition, Sabotage};

use super::items::{put_item, read_item};
use super::layout::{BlockKind, BlockWriter, Fields, PAGE, life};
use super::segment::Window;
use super::{Disk, DiskFile, StoreError};

/// A base that is durable and whole.
pub(super) const BASE: &str = "base";
/// A base in the making.
pub(super) const BASE_TEMPORARY: &str = "base.tmp";

/// The newest of a partition, apart from its entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Newest {
    founding: Option<JournalItem>,
    checkpoint: Option<JournalItem>,
    hard_state: Option<JournalItem>,
}

/// The newest of all partitions.
pub(super) type NewestOf = BTreeMap<Partition, Newest>;

/// What a base file holds.
#[derive(Debug)]
pub(super) struct Base {
    /// The first segment that is still there.
    pub(super) first_segment: u64,
    /// The sequence of the newest commit that it knows of.
    pub(super) as_of: u64,
    pub(super) newest: NewestOf,
}

impl Newest {
    /// Takes an item, unless it is an entry.
    pub(super) fn note(&mut self, item: &JournalItem) {
        if let JournalItem::Snapshot { checkpoint, .. } = item {
            self.begin_anew(checkpoint);
        }
        let place = match item {
            JournalItem::Founding { .. } => &mut self.founding,
            JournalItem::Checkpoint { .. } | JournalItem::Snapshot { .. } => &mut self.checkpoint,
            JournalItem::HardState { .. } => &mut self.hard_state,
            JournalItem::Entry { .. } => return,
        };
        *place = Some(item.clone());
    }

    /// The hard state is read after the snapshot that it stood before, so it must say what it came
    /// to by it. One that stood after it says more already.
    fn begin_anew(&mut self, snapshot: &Checkpoint) {
        if let Some(JournalItem::HardState { term, commit, .. }) = &mut self.hard_state {
            *term = (*term).max(snapshot.before_term);
            *commit = (*commit).max(snapshot.keep_from.saturating_sub(1));
        }
    }

    /// The first entry that must stay; 0 if all must, as after a snapshot: it is believed only
    /// together with all that followed it.
    pub(super) fn keep_from(&self) -> u64 {
        match &self.checkpoint {
            Some(JournalItem::Checkpoint { checkpoint, .. }) => {
                checkpoint.keep_from.min(checkpoint.index + 1)
            }
            _ => 0,
        }
    }

    /// Whether it has a checkpoint, and not a snapshot that none has followed.
    pub(super) fn has_checkpoint(&self) -> bool {
        matches!(self.checkpoint, Some(JournalItem::Checkpoint { .. }))
    }

    /// Whether it begins with a snapshot that no checkpoint has followed.
    pub(super) fn has_snapshot(&self) -> bool {
        matches!(self.checkpoint, Some(JournalItem::Snapshot { .. }))
    }

    /// Whether the checkpoint is made of all entries up to this one.
    pub(super) fn covers(&self, index: u64) -> bool {
        match &self.checkpoint {
            Some(JournalItem::Checkpoint { checkpoint, .. }) => index <= checkpoint.index,
            _ => false,
        }
    }

    /// What comes before all entries.
    pub(super) fn first(&self) -> impl Iterator<Item = &JournalItem> {
        self.founding.iter().chain(&self.checkpoint)
    }

    /// What comes after the entries that the base knows of.
    pub(super) fn then(&self) -> Option<&JournalItem> {
        let hard_state = self.hard_state.as_ref();
        hard_state.filter(|_| !Sabotage::VotelessBase.is_on())
    }
}

impl Base {
    /// Writes it, durable under its name: the folder is of this life.
    pub(super) fn write<D: Disk>(
        &self,
        disk: &D,
        incarnation: Incarnation,
    ) -> Result<(), StoreError> {
        let failed = |action| {
            let path = disk.path(BASE_TEMPORARY);
            move |error| StoreError::disk(action, path, &error)
        };
        let mut block = BlockWriter::new(Vec::new());
        block.put(&self.first_segment.to_le_bytes());
        for newest in self.newest.values() {
            for item in newest.first().chain(newest.then()) {
                put_item(&mut block, item);
            }
        }
        // The length of a block has 32 bits. Rather keep the segments than write half of a base.
        let (bytes, limit) = (block.block_bytes(), u64::from(u32::MAX));
        if bytes > limit {
            return Err(StoreError::TooLarge { bytes, limit });
        }
        let (bytes, _) = block.finish(BlockKind::Base, life(incarnation, 0), self.as_of, 0);
        let file = disk.create(BASE_TEMPORARY).map_err(failed("cannot make"))?;
        file.write_at(&bytes, 0).map_err(failed("cannot write"))?;
        file.sync().map_err(failed("cannot sync"))?;
        disk.rename(BASE_TEMPORARY, BASE)
            .map_err(failed("cannot rename"))?;
        disk.sync_dir().map_err(failed("cannot sync the folder of"))
    }

    /// Reads it.
    pub(super) fn read<D: Disk>(disk: &D, incarnation: Incarnation) -> Result<Self, StoreError> {
        let path = disk.path(BASE);
        let file = disk
            .open(BASE)
            .map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
        let damaged = |reason: &str| StoreError::damaged(path.clone(), 0, reason);
        let mut window = Window::exact(&file, &path);
        let bytes = window.file_bytes()?.max(PAGE);
        let (header, payload) = window
            .block(0, BlockKind::Base, life(incarnation, 0), bytes)?
            .map_err(damaged)?;
        let mut fields = Fields(&payload);
        let first_segment = fields.u64().map_err(damaged)?;
        let mut newest = NewestOf::new();
        let mut rest = fields.0;
        while !rest.is_empty() {
            let (item, bytes) = read_item(rest).map_err(damaged)?;
            let of = newest.entry(item.partition().clone()).or_default();
            of.note(&item);
            rest = &rest[bytes..];
        }
        Ok(Self {
            first_segment,
            as_of: header.sequence,
            newest,
        })
    }
}
