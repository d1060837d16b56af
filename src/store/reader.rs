//! Reads synced entries back, by index, offset or time, while the writer goes on.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{JournalItem, LoadFrom, LoadRequest, LogEntry, Partition};

use super::index::{
    Fence, Place, Run, SegmentIndex, Slot, entry_head_bytes, read_footer, slot, start_in,
};
use super::items::{read_item, read_item_keeping};
use super::journal::{Shared, locked};
use super::layout::{
    BlockKind, HEADER, PAGE, SegmentHeader, life, position_in_block, with_marks, without_marks,
};
use super::segment::{Window, segment_name};
use super::{Disk, StoreError};

/// Footers kept in memory: about as many readers of history as a node has at a time, each some
/// hundred kilobytes.
const FOOTERS_MAX: usize = 16;
/// Bytes read in one piece: few system calls for small entries, bounded memory.
const PIECE_MAX: u64 = 4 << 20;
/// What lies between two entries of one log (other logs' entries, padding) is read along with
/// them up to this size: cheaper than another call.
const BETWEEN_MAX: u64 = 16 << 10;

/// Reads the journal. Clones read the same journal.
#[derive(Debug)]
pub struct Reader<D: Disk> {
    shared: Arc<Shared<D>>,
}

/// One load under way.
struct Load<'a> {
    request: &'a LoadRequest,
    from: LoadFrom,
    entries: Vec<LogEntry>,
    bytes: u64,
    /// How often the log had been shortened when the load began.
    withdrawals: Option<u64>,
    /// The segment that is read.
    segment: Option<u64>,
}

/// Entries to read from one segment.
struct Piece {
    segment: u64,
    first_index: u64,
    slots: Vec<Slot>,
    /// Whether the request wants none after these.
    last: bool,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<D: Disk> Reader<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    /// The entries asked for, in order and without a hole, as far as they are synced; none if the
    /// one to start with is not there. Every entry's checksum is verified.
    ///
    /// # Errors
    /// `Disk`, or `Damaged` if an entry does not read as it was written. The journal stays usable.
    pub fn load(&self, request: &LoadRequest) -> Result<Vec<LogEntry>, StoreError> {
        loop {
            let mut load = Load {
                request,
                from: request.from,
                entries: Vec::new(),
                bytes: 0,
                withdrawals: None,
                segment: None,
            };
            let changes = locked(&self.shared.index).changes;
            match self.run(&mut load) {
                Ok(true) => return Ok(load.entries),
                // Entries were withdrawn between two pieces: what was read may not fit together.
                Ok(false) => {}
                // Segments went, or were written anew, while they were read.
                Err(_) if self.has_changed_since(changes) => {}
                Err(error) => {
                    if let Some(segment) = load.segment {
                        self.note_damage(segment, &error);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Whether a file may be another than the index said. If it is just becoming another, waits
    /// until it is.
    fn has_changed_since(&self, changes: u64) -> bool {
        let now = locked(&self.shared.index).changes;
        if now % 2 == 1 {
            drop(locked(&self.shared.recycling));
        }
        now % 2 == 1 || now != changes
    }

    pub(super) fn shared(&self) -> &Shared<D> {
        &self.shared
    }

    /// Makes a spare segment ahead of need, so that the writer finds its space prefilled. Takes as
    /// long as writing and syncing a whole segment. Says whether it made one: not if one waits, is
    /// being made, or the disk has less than two segments of free space.
    ///
    /// # Errors
    /// `Disk`. The journal goes on without.
    pub fn prepare_spare(&self) -> Result<bool, StoreError> {
        self.shared.prepare_spare()
    }

    /// Lets go of the segments that hold nothing but entries that their partitions' checkpoints say
    /// may go, from the oldest on; how many. What else stood in them is written to the base first.
    /// Even if none go, the base is written once for every segment that was sealed: what it knows
    /// of need not be read when the journal is opened. Takes a few syncs, and holds up no writer.
    ///
    /// # Errors
    /// `Disk`, or `TooLarge` if the base would be: the journal goes on with the segments. What a
    /// failed deletion left over goes with the next start.
    pub fn recycle(&self) -> Result<u64, StoreError> {
        self.shared.recycle()
    }

    /// Carries `load` out; false if the log was shortened meanwhile.
    fn run(&self, load: &mut Load<'_>) -> Result<bool, StoreError> {
        loop {
            let fence = {
                let index = locked(&self.shared.index);
                let Some(log) = index.log(&load.request.partition) else {
                    return Ok(true);
                };
                if *load.withdrawals.get_or_insert(log.withdrawals) != log.withdrawals {
                    return Ok(false);
                }
                match log.place(load.from) {
                    None => return Ok(true),
                    Some(Place::Sealed(fence)) => Err(fence),
                    Some(Place::Tail(run)) => {
                        Ok(load.choose(index.tail_number, run.first_index, &run.slots))
                    }
                }
            };
            let piece = match fence {
                Ok(piece) => piece,
                Err(fence) => {
                    load.segment = Some(fence.segment);
                    let run = self.sealed_run(&load.request.partition, &fence)?;
                    let slots = run.between(fence.first_index, fence.end_index);
                    load.choose(fence.segment, fence.first_index, slots)
                }
            };
            if self.read(load, &piece)? {
                return Ok(true);
            }
        }
    }

    /// Reads a piece; true if the load is done.
    fn read(&self, load: &mut Load<'_>, piece: &Piece) -> Result<bool, StoreError> {
        load.segment = Some(piece.segment);
        if !piece.slots.is_empty() {
            let (segment, first) = (piece.segment, piece.first_index);
            let partition = &load.request.partition;
            let entries = self.entries(partition, segment, first, &piece.slots)?;
            if !load.take(entries) {
                return Ok(true);
            }
        }
        if piece.last && !load.entries.is_empty() {
            return Ok(true);
        }
        let next = piece.first_index + piece.slots.len() as u64;
        load.from = LoadFrom::Index(next);
        Ok(next >= load.request.index_end)
    }

    /// The entries of `slots`, the first of index `first_index`, from a segment.
    pub(super) fn entries(
        &self,
        partition: &Partition,
        segment: u64,
        first_index: u64,
        slots: &[Slot],
    ) -> Result<Vec<LogEntry>, StoreError> {
        let name = segment_name(segment);
        let path = self.shared.disk.path(&name);
        let file = self
            .shared
            .disk
            .open(&name)
            .map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
        let mut window = Window::exact(&file, &path);
        let ends: Vec<u64> = slots.iter().map(|slot| end(partition, slot)).collect();
        let mut entries = Vec::with_capacity(slots.len());
        let mut together = 0;
        for (at, slot) in slots.iter().enumerate() {
            let start = u64::from(slot.position);
            if at == together {
                together = neighbours(slots, &ends, at);
                let bytes = ends[together - 1].saturating_sub(start);
                window.read(start, bytes as usize)?;
            }
            let bytes = window.read(start, (ends[at] - start) as usize)?;
            let index = first_index + at as u64;
            let entry = read_entry(bytes, start, partition, index)
                .map_err(|reason| StoreError::damaged(path.clone(), start, reason))?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Where the entries of `partition` are in a sealed segment.
    pub(super) fn sealed_run(
        &self,
        partition: &Partition,
        fence: &Fence,
    ) -> Result<Run, StoreError> {
        let changes = locked(&self.shared.index).changes;
        let covers = |index: &SegmentIndex| {
            let run = index.get(partition)?;
            let slots = run.between(fence.first_index, fence.end_index);
            (!slots.is_empty()).then(|| Run {
                first_index: fence.first_index,
                slots: slots.to_vec(),
            })
        };
        let cached = locked(&self.shared.footers)
            .iter()
            .find(|(segment, _)| *segment == fence.segment)
            .map(|(_, index)| index.clone());
        if let Some(run) = cached.as_deref().and_then(covers) {
            return Ok(run);
        }
        let name = segment_name(fence.segment);
        let path = self.shared.disk.path(&name);
        let file = self
            .shared
            .disk
            .open(&name)
            .map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
        let mut window = Window::new(&file, &path);
        let life = life(self.shared.incarnation, fence.segment);
        let file_bytes = window.file_bytes()?;
        let footer = window
            .block(fence.segment_end, BlockKind::Footer, life, file_bytes)?
            .and_then(|(_, payload)| read_footer(&payload))
            .ok()
            .filter(|index| covers(index).is_some());
        let index = match footer {
            Some(index) => index,
            None => rebuild(&mut window, life, fence.segment_end)?,
        };
        let run = covers(&index).ok_or_else(|| {
            let reason = format!("its commits lack entries of {partition} that they held");
            StoreError::damaged(path.clone(), PAGE, reason)
        })?;
        let mut footers = locked(&self.shared.footers);
        footers.retain(|(segment, _)| *segment != fence.segment);
        if locked(&self.shared.index).changes != changes {
            // It may be that of a file that is no more.
            return Ok(run);
        }
        footers.push_back((fence.segment, Arc::new(index)));
        if footers.len() > FOOTERS_MAX {
            footers.pop_front();
        }
        Ok(run)
    }
}

impl Load<'_> {
    /// Which of `slots` (the first of index `first_index`) to read.
    fn choose(&self, segment: u64, first_index: u64, slots: &[Slot]) -> Piece {
        let start = start_in(slots, first_index, self.from);
        let first_index = first_index + start as u64;
        let wanted = self.request.index_end.saturating_sub(first_index);
        let mut bytes = self.bytes;
        let mut count = 0;
        for slot in &slots[start..] {
            bytes += u64::from(slot.data_bytes);
            let first = self.entries.is_empty() && count == 0;
            if count as u64 >= wanted || (bytes > self.request.bytes_max && !first) {
                break;
            }
            count += 1;
        }
        Piece {
            segment,
            first_index,
            slots: slots[start..start + count].to_vec(),
            last: start + count < slots.len(),
        }
    }

    /// Takes what was read; false if the entry to start with is not there.
    fn take(&mut self, entries: Vec<LogEntry>) -> bool {
        for entry in entries {
            if self.entries.is_empty() {
                match self.request.from {
                    LoadFrom::Index(_) => {}
                    LoadFrom::Offset(offset) => {
                        let holds = offset.checked_sub(entry.first_offset);
                        if holds.is_none_or(|beyond| beyond >= u64::from(entry.count)) {
                            return false;
                        }
                    }
                    LoadFrom::Time(time) => {
                        if entry.count == 0 || entry.time < time {
                            continue;
                        }
                    }
                }
            }
            self.bytes += entry.data.len() as u64;
            self.entries.push(entry);
        }
        true
    }
}

/// Where on disk the item of `slot` ends.
fn end(partition: &Partition, slot: &Slot) -> u64 {
    let payload = entry_head_bytes(partition) + u64::from(slot.data_bytes);
    let start = u64::from(slot.position);
    start + with_marks(payload, start)
}

/// The end of the slots, from `first` on, that are worth reading in one piece.
fn neighbours(slots: &[Slot], ends: &[u64], first: usize) -> usize {
    let start = u64::from(slots[first].position);
    let mut last = first;
    while let Some(next) = slots.get(last + 1) {
        let position = u64::from(next.position);
        let between = position.checked_sub(ends[last]);
        if between.is_none_or(|bytes| bytes > BETWEEN_MAX) || ends[last + 1] - start > PIECE_MAX {
            break;
        }
        last += 1;
    }
    last + 1
}

fn read_entry(
    bytes: &[u8],
    position: u64,
    partition: &Partition,
    index: u64,
) -> Result<LogEntry, String> {
    let payload = Bytes::from(without_marks(bytes, position));
    match read_item_keeping(&payload, |part| payload.slice_ref(part))? {
        (
            JournalItem::Entry {
                partition: of,
                entry,
            },
            _,
        ) if of == *partition && entry.index == index => Ok(entry),
        _ => Err(format!(
            "another item stands where entry {index} of {partition} belongs"
        )),
    }
}

/// The footer of a sealed segment made anew from its blocks, which end at `end`.
fn rebuild<F: super::DiskFile>(
    window: &mut Window<'_, F>,
    life: u64,
    end: u64,
) -> Result<SegmentIndex, StoreError> {
    let damaged =
        |path: &str, position, reason: &str| StoreError::damaged(path.to_owned(), position, reason);
    let kind = SegmentHeader::decode(window.read(0, HEADER)?)
        .map_err(|reason| damaged(window.path, 0, reason))?
        .kind();
    let mut index = SegmentIndex::new();
    let mut position = PAGE;
    while position < end {
        let (header, payload) = window
            .block(position, kind, life, end)?
            .map_err(|reason| damaged(window.path, position, reason))?;
        let mut offset = 0;
        while offset < payload.len() {
            let stands = position + position_in_block(offset);
            let (item, bytes) = read_item(&payload[offset..])
                .map_err(|reason| damaged(window.path, stands, reason))?;
            offset += bytes;
            match &item {
                JournalItem::Entry { partition, entry } => {
                    let run = index.entry(partition.clone()).or_default();
                    run.push(entry.index, slot(entry, stands));
                }
                JournalItem::Snapshot { partition, .. } => {
                    index.remove(partition);
                }
                _ => {}
            }
        }
        position += header.block_bytes();
    }
    Ok(index)
}
