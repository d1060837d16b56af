//! Writes sealed segments anew with only what is still needed of them, so that space comes back
//! even where one log keeps everything.

use std::mem::take;

use crate::types::{JournalItem, Sabotage};

use super::index::{SegmentIndex, put_footer, slot};
use super::items::put_item;
use super::journal::{Shared, locked};
use super::layout::{BlockKind, BlockWriter, FORMAT_VERSION, Rewritten, SegmentHeader, life};
use super::plan::{Kept, Plan};
use super::segment::segment_name;
use super::{Disk, DiskFile, Reader, StoreError};

/// What is kept of segments, in the making.
pub(super) const KEPT_TEMPORARY: &str = "kept.tmp";

/// About as much is read, and stands in a block: bounded memory, few headers.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
/// Bytes per sync: a commit that waits behind one waits for no more than this.
const SYNC_BYTES: u64 = 4 << 20;

/// Gives a new segment the entries that stay of one log and one old segment.
type Copy<'a, D> = &'a mut dyn FnMut(&Kept, &mut Making<'_, D>) -> Result<(), StoreError>;

impl<D: Disk> Reader<D> {
    /// Writes neighbouring sealed segments anew as one, with only the entries that must stay, if
    /// any are worth it; how many bytes that gave back. What else stood in them is written to the
    /// base first. Writes about a segment at most, holds up no writer, and does nothing on a disk
    /// that has not twice the room for it. To be called until it gives back nothing.
    ///
    /// # Errors
    /// `Disk`, `Damaged` if an entry that must stay does not read as it was written, or `TooLarge`:
    /// the journal goes on with the segments as they are.
    pub fn compact(&self) -> Result<Option<u64>, StoreError> {
        let shared = self.shared();
        let _alone = locked(&shared.recycling);
        let (plan, base, newest) = {
            let index = locked(&shared.index);
            let Some(plan) = index.plan(shared.segment_bytes) else {
                return Ok(None);
            };
            (plan, index.base(index.first_segment()), index.tail_number)
        };
        let free = shared
            .disk
            .free_bytes()
            .map_err(|error| StoreError::disk("cannot measure", shared.disk.path(""), &error))?;
        if free / 2 < plan.bytes_after {
            return Ok(None);
        }
        base.write(&shared.disk, shared.incarnation)?;
        locked(&shared.index).based = newest;
        let end = self.write_anew(&plan, &mut |kept, making| {
            let copied = self.copy(kept, making);
            copied.inspect_err(|error| self.note_damage(kept.fence.segment, error))
        })?;
        Ok(Some(plan.bytes.saturating_sub(end)))
    }

    /// Writes what stays, as `copy` gives it, durable under its temporary name, then in its place.
    /// Where its blocks end.
    pub(super) fn write_anew(&self, plan: &Plan, copy: Copy<'_, D>) -> Result<u64, StoreError> {
        let shared = self.shared();
        let written = self.write_kept(plan, copy);
        let (end, runs) = written.inspect_err(|_| {
            // The space matters now; if even this fails, the next start removes the file.
            let _ = shared.disk.delete(KEPT_TEMPORARY);
        })?;
        shared.put_in_place(plan, end, &runs)?;
        Ok(end)
    }

    fn write_kept(
        &self,
        plan: &Plan,
        copy: Copy<'_, D>,
    ) -> Result<(u64, SegmentIndex), StoreError> {
        let shared = self.shared();
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            identity: shared.identity,
            number: plan.first,
            life: life(shared.incarnation, plan.first),
            first_sequence: plan.follows.sequence,
            previous_crc: plan.follows.previous_crc,
            rewritten: Some(Rewritten {
                segments: u32::try_from(plan.next - plan.first).unwrap_or(u32::MAX),
                next_sequence: plan.ends.sequence,
                last_crc: plan.ends.previous_crc,
            }),
            prefilled_bytes: 0,
        };
        let mut making = Making::new(&shared.disk, &header)?;
        for kept in &plan.kept {
            copy(kept, &mut making)?;
        }
        making.finish()
    }

    fn copy(&self, kept: &Kept, making: &mut Making<'_, D>) -> Result<(), StoreError> {
        let run = self.sealed_run(&kept.partition, &kept.fence)?;
        let mut first_index = kept.first_index;
        if Sabotage::ForgetfulCompaction.is_on() && kept.first_index + 1 < kept.fence.end_index {
            first_index += 1;
        }
        let mut slots = run.between(first_index, kept.fence.end_index);
        while !slots.is_empty() {
            let mut bytes = 0;
            let count = slots.iter().take_while(|slot| {
                let fits = bytes < BLOCK_BYTES;
                bytes += u64::from(slot.data_bytes);
                fits
            });
            let (now, later) = slots.split_at(count.count());
            let segment = kept.fence.segment;
            let entries = self.entries(&kept.partition, segment, first_index, now)?;
            first_index += now.len() as u64;
            slots = later;
            for entry in entries {
                let partition = kept.partition.clone();
                making.put(&JournalItem::Entry { partition, entry })?;
            }
        }
        Ok(())
    }
}

impl<D: Disk> Shared<D> {
    /// The file under the temporary name takes the place of the segments of `plan`.
    fn put_in_place(&self, plan: &Plan, end: u64, runs: &SegmentIndex) -> Result<(), StoreError> {
        let name = segment_name(plan.first);
        let failed = |action, name: &str| {
            let path = self.disk.path(name);
            move |error| StoreError::disk(action, path, &error)
        };
        let gone: Vec<u64> = {
            let mut index = locked(&self.index);
            index.changes += 1;
            let gone = index.sealed.range(plan.first + 1..plan.next);
            gone.map(|(number, _)| *number).collect()
        };
        // Whoever reads the old file has it open; whoever opens the new one for it tries again.
        let renamed = self.disk.rename(KEPT_TEMPORARY, &name);
        {
            let mut index = locked(&self.index);
            if renamed.is_ok() {
                index.replace(plan, end, runs);
            }
            index.changes += 1;
        }
        renamed.map_err(failed("cannot rename a segment to", &name))?;
        let replaced = plan.first..plan.next;
        locked(&self.footers).retain(|(segment, _)| !replaced.contains(segment));
        self.disk.sync_dir().map_err(failed("cannot sync", ""))?;
        for number in gone {
            let name = segment_name(number);
            self.disk
                .delete(&name)
                .map_err(failed("cannot delete", &name))?;
        }
        Ok(())
    }
}

/// A segment that is written anew.
pub(super) struct Making<'a, D: Disk> {
    disk: &'a D,
    file: D::File,
    life: u64,
    block: BlockWriter,
    /// Where the block stands.
    position: u64,
    /// What was synced of the file.
    synced: u64,
    blocks: u64,
    previous_crc: u32,
    runs: SegmentIndex,
}

impl<'a, D: Disk> Making<'a, D> {
    fn new(disk: &'a D, header: &SegmentHeader) -> Result<Self, StoreError> {
        let file = disk
            .create(KEPT_TEMPORARY)
            .map_err(|error| StoreError::disk("cannot make", disk.path(KEPT_TEMPORARY), &error))?;
        let mut making = Self {
            disk,
            file,
            life: header.life,
            block: BlockWriter::new(Vec::new()),
            position: 0,
            synced: 0,
            blocks: 0,
            previous_crc: 0,
            runs: SegmentIndex::new(),
        };
        making.write(&header.encode())?;
        Ok(making)
    }

    pub(super) fn put(&mut self, item: &JournalItem) -> Result<(), StoreError> {
        let start = self.block.position() as u64;
        put_item(&mut self.block, item);
        if let JournalItem::Entry { partition, entry } = item {
            let slot = slot(entry, self.position + start);
            let run = self.runs.entry(partition.clone()).or_default();
            run.push(entry.index, slot);
        }
        match self.block.block_bytes() >= BLOCK_BYTES {
            true => self.finish_block(BlockKind::Kept),
            false => Ok(()),
        }
    }

    fn finish_block(&mut self, kind: BlockKind) -> Result<(), StoreError> {
        let block = take(&mut self.block);
        let previous = self.previous_crc;
        let (bytes, crc) = block.finish(kind, self.life, self.blocks + 1, previous);
        self.write(&bytes)?;
        self.blocks += 1;
        self.previous_crc = crc;
        self.block = BlockWriter::new(bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |action| {
            let path = self.disk.path(KEPT_TEMPORARY);
            move |error| StoreError::disk(action, path, &error)
        };
        let end = self.position + bytes.len() as u64;
        let limit = u64::from(u32::MAX);
        if end > limit {
            return Err(StoreError::TooLarge { bytes: end, limit });
        }
        self.file
            .write_at(bytes, self.position)
            .map_err(failed("cannot write"))?;
        self.position = end;
        if self.position - self.synced >= SYNC_BYTES {
            self.file.sync().map_err(failed("cannot sync"))?;
            self.synced = self.position;
        }
        Ok(())
    }

    /// Writes the rest and the footer, and syncs all; where the blocks end, and what is where.
    fn finish(mut self) -> Result<(u64, SegmentIndex), StoreError> {
        if !self.block.is_empty() {
            self.finish_block(BlockKind::Kept)?;
        }
        let end = self.position;
        put_footer(&mut self.block, self.runs.iter());
        self.finish_block(BlockKind::Footer)?;
        self.file.sync().map_err(|error| {
            StoreError::disk("cannot sync", self.disk.path(KEPT_TEMPORARY), &error)
        })?;
        Ok((end, self.runs))
    }
}
