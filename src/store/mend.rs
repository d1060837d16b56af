//! What of a damaged segment is lost, and how it is made whole: written anew with what still reads,
//! and with the entries that another replica gave for what does not.

use std::collections::BTreeMap;

use super::index::{Fence, Index, Slot, slot};
use super::items::read_item;
use super::journal::locked;
use super::layout::{BlockKind, PAGE, life};
use super::plan::Kept;
use super::rewrite::BLOCK_BYTES;
use super::segment::{Window, segment_name};
use super::{Disk, DiskFile, Journal, Reader, StoreError};
use crate::types::{DamagedSegment, JournalItem, LogEntry, LostEntries, Partition};

/// Takes one entry after the other: its index, and the entry if it reads as it was written.
type Give<'a> = &'a mut dyn FnMut(u64, Option<LogEntry>) -> Result<(), StoreError>;

impl<D: Disk> Journal<D> {
    /// Goes on in a new segment if the newest was found damaged, so that it can be mended as well;
    /// whether it did. Syncs the commit written last first.
    ///
    /// # Errors
    /// Those of [`Journal::sync`].
    pub fn seal_damaged(&mut self) -> Result<bool, StoreError> {
        self.sync()?;
        let damaged = {
            let index = locked(&self.shared().index);
            index.unreadable.contains(&index.tail_number)
        };
        if damaged {
            self.seal()?;
        }
        Ok(damaged)
    }
}

impl<D: Disk> Reader<D> {
    /// The segments that were found damaged, by a scrub or when something of them was read, and
    /// which entries are lost with them. One that is still written to is not among them, see
    /// [`Journal::seal_damaged`].
    ///
    /// # Errors
    /// `Disk`, if a file cannot be opened.
    pub fn damage(&self) -> Result<Vec<DamagedSegment>, StoreError> {
        let shared = self.shared();
        let _alone = locked(&shared.recycling);
        let plans: Vec<(u64, Vec<Kept>)> = locked(&shared.index).damaged();
        let mut damaged = Vec::new();
        for (segment, kept) in plans {
            let mut lost = Vec::new();
            for kept in kept {
                self.salvage(&kept, &mut |index, entry| {
                    if entry.is_none() {
                        note(&mut lost, &kept.partition, index);
                    }
                    Ok(())
                })?;
            }
            damaged.push(DamagedSegment { segment, lost });
        }
        Ok(damaged)
    }

    /// Whether the segment that is written to was found damaged.
    pub fn wants_seal(&self) -> bool {
        let index = locked(&self.shared().index);
        index.unreadable.contains(&index.tail_number)
    }

    /// Writes a damaged segment anew, with `found` in the place of what was lost. Whether it is
    /// whole again; not if a snapshot stands in it that no checkpoint has followed yet. Entries
    /// that did not have to be found are not looked at.
    ///
    /// # Errors
    /// `Damaged` if an entry that must stay neither reads nor was found; `Disk`, `TooLarge`. The
    /// segment stays as it is.
    pub fn mend(&self, segment: u64, found: &[(Partition, LogEntry)]) -> Result<bool, StoreError> {
        let shared = self.shared();
        let _alone = locked(&shared.recycling);
        let (plan, base, newest) = {
            let index = locked(&shared.index);
            if !index.is_damaged(segment) {
                return Ok(true);
            }
            let Some(plan) = index.plan_to_mend(segment) else {
                return Ok(false);
            };
            (plan, index.base(index.first_segment()), index.tail_number)
        };
        let found: BTreeMap<(&Partition, u64), &LogEntry> = found
            .iter()
            .map(|(partition, entry)| ((partition, entry.index), entry))
            .collect();
        base.write(&shared.disk, shared.incarnation)?;
        locked(&shared.index).based = newest;
        self.write_anew(&plan, &mut |kept, making| {
            self.salvage(kept, &mut |index, entry| {
                let other = found.get(&(&kept.partition, index));
                let Some(entry) = entry.or_else(|| other.map(|entry| (*entry).clone())) else {
                    let path = shared.disk.path(&segment_name(segment));
                    let reason = format!("entry {index} of {} is lost", kept.partition);
                    return Err(StoreError::damaged(path, PAGE, reason));
                };
                let partition = kept.partition.clone();
                making.put(&JournalItem::Entry { partition, entry })
            })
        })?;
        Ok(true)
    }

    /// Remembers that something of this segment does not read as it was written.
    pub(super) fn note_damage(&self, segment: u64, error: &StoreError) {
        if error.is_damage() {
            locked(&self.shared().index).unreadable.insert(segment);
        }
    }

    /// Reads what of a damaged segment still reads.
    fn salvage(&self, kept: &Kept, give: Give<'_>) -> Result<(), StoreError> {
        let slots = self.slots_of(&kept.partition, &kept.fence)?;
        let segment = kept.fence.segment;
        let (mut index, end) = (kept.first_index, kept.fence.end_index);
        while index < end {
            let mut bytes = 0;
            let known = (index..end).map_while(|index| slots.get(&index));
            let piece: Vec<Slot> = known
                .take_while(|slot| {
                    let fits = bytes < BLOCK_BYTES;
                    bytes += u64::from(slot.data_bytes);
                    fits
                })
                .copied()
                .collect();
            if let Ok(entries) = self.entries(&kept.partition, segment, index, &piece)
                && !entries.is_empty()
            {
                index += entries.len() as u64;
                for entry in entries {
                    give(entry.index, Some(entry))?;
                }
                continue;
            }
            // One by one: those beside the damage are sound.
            for slot in piece {
                let entry = self.entries(&kept.partition, segment, index, &[slot]);
                give(index, entry.ok().and_then(|mut one| one.pop()))?;
                index += 1;
            }
            if index < end && !slots.contains_key(&index) {
                give(index, None)?;
                index += 1;
            }
        }
        Ok(())
    }

    /// Where the entries of a log are in a damaged segment, as far as that can be told.
    fn slots_of(
        &self,
        partition: &Partition,
        fence: &Fence,
    ) -> Result<BTreeMap<u64, Slot>, StoreError> {
        match self.sealed_run(partition, fence) {
            Ok(run) => Ok((run.first_index..).zip(run.slots).collect()),
            Err(error) if error.is_damage() => {
                let shared = self.shared();
                let (name, life) = (
                    segment_name(fence.segment),
                    life(shared.incarnation, fence.segment),
                );
                let path = shared.disk.path(&name);
                let file = shared.disk.open(&name);
                let file =
                    file.map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
                let sealed = locked(&shared.index).sealed.get(&fence.segment).copied();
                let kind = sealed.map_or(BlockKind::Commit, |sealed| sealed.kind);
                let mut window = Window::exact(&file, &path);
                let block = (kind, life, fence.segment_end);
                Ok(behind_damage(&mut window, block, partition))
            }
            Err(error) => Err(error),
        }
    }
}

impl Index {
    fn is_damaged(&self, segment: u64) -> bool {
        self.unreadable.contains(&segment) && self.sealed.contains_key(&segment)
    }

    /// The damaged segments that are sealed, and what of each must stay.
    fn damaged(&mut self) -> Vec<(u64, Vec<Kept>)> {
        let (sealed, newest) = (&self.sealed, self.tail_number);
        let is_there = |number: &u64| *number == newest || sealed.contains_key(number);
        self.unreadable.retain(is_there);
        let numbers = self.unreadable.iter().filter(|number| **number != newest);
        // In one that cannot be written anew yet all that the log still has counts as needed.
        numbers
            .map(|number| (*number, self.kept_in(*number, *number + 1)))
            .collect()
    }
}

/// Adds an entry to those that are lost.
fn note(lost: &mut Vec<LostEntries>, partition: &Partition, index: u64) {
    match lost.last_mut() {
        Some(last) if last.partition == *partition && last.end_index == index => {
            last.end_index += 1;
        }
        _ => lost.push(LostEntries {
            partition: partition.clone(),
            first_index: index,
            end_index: index + 1,
        }),
    }
}

/// Where the entries of `partition` are in a segment whose footer does not tell and that is damaged
/// somewhere: only those behind the last damage. What could not be read may have withdrawn any
/// before it.
fn behind_damage<F: DiskFile>(
    window: &mut Window<'_, F>,
    (kind, life, end): (BlockKind, u64, u64),
    partition: &Partition,
) -> BTreeMap<u64, Slot> {
    let mut slots = BTreeMap::new();
    let mut position = PAGE;
    while position < end {
        let Ok(Ok((header, payload))) = window.block(position, kind, life, end) else {
            slots.clear();
            position += PAGE;
            continue;
        };
        let mut offset = 0;
        while let Some(Ok((item, bytes))) = payload.get(offset..).map(read_item) {
            let stands = position + super::layout::position_in_block(offset);
            offset += bytes;
            match item {
                JournalItem::Entry {
                    partition: of,
                    entry,
                } if of == *partition => {
                    let _withdrawn = slots.split_off(&entry.index);
                    slots.insert(entry.index, slot(&entry, stands));
                }
                JournalItem::Snapshot { partition: of, .. } if of == *partition => slots.clear(),
                _ => {}
            }
        }
        position += header.block_bytes();
    }
    slots
}
