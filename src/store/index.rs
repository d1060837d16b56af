//! Where the entries of each log are. Memory holds one fence per partition and sealed segment,
//! and every position of the newest segment. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{JournalItem, LoadFrom, LogEntry, Offset, Partition, Wall};

use super::base::{Base, Newest, NewestOf};
use super::items::{ENTRY_HEADER, ITEM_HEADER};
use super::layout::{BlockKind, BlockWriter, Fields, PAGE, SegmentHeader};

/// Bytes of a footer before its first run.
const FOOTER_HEADER: u64 = 4;
/// Bytes of a slot in a footer.
const SLOT_BYTES: u64 = 24;
/// Bytes of a span of one term in a footer; at most, each entry has its own.
const SPAN_BYTES: u64 = 12;
/// Bytes of a footer's run beside its slots, spans and its channel's name.
const RUN_BYTES: u64 = 21;

/// One entry of a log in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) term: u64,
    pub(super) first_offset: Offset,
    pub(super) time: Wall,
    /// Where its item begins in the segment.
    pub(super) position: u32,
    /// Bytes of its `data`.
    pub(super) data_bytes: u32,
}

/// Entries of one log in one segment: those of index `first_index` and on, without a hole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first_index: u64,
    pub(super) slots: Vec<Slot>,
}

/// The entries of a log that a sealed segment holds: `first_index <= i < end_index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) segment: u64,
    /// Where the segment's commits end and its footer may stand.
    pub(super) segment_end: u64,
    pub(super) first_index: u64,
    pub(super) end_index: u64,
    /// What its entries take in the segment, in bytes; a share of it once some were withdrawn.
    pub(super) bytes: u64,
    pub(super) first_offset: Offset,
    pub(super) first_time: Wall,
}

/// All entries of one log that were not withdrawn.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// In the order of their segments, and without a hole between them.
    pub(super) fences: Vec<Fence>,
    pub(super) tail: Run,
    /// The segment of a snapshot that no checkpoint has followed yet: it and all after it stay.
    pub(super) snapshot: Option<u64>,
    /// How often entries were withdrawn; tells a reader that its plan is void.
    pub(super) withdrawals: u64,
}

/// What comes before a segment: its header says so, and memory does too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Follows {
    /// The sequence of the first commit that it stands for.
    pub(super) sequence: u64,
    /// The header CRC of the commit before that one; 0 if there is none.
    pub(super) previous_crc: u32,
}

/// A segment that nothing is appended to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Where its blocks end.
    pub(super) end: u64,
    pub(super) follows: Follows,
    /// What its blocks are, the footer apart.
    pub(super) kind: BlockKind,
    /// Tells the files apart that have had its name since the journal was opened.
    pub(super) version: u64,
}

/// All logs.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) logs: BTreeMap<Partition, Log>,
    /// The newest segment.
    pub(super) tail_number: u64,
    /// At least as many bytes as the footer of the newest segment needs.
    pub(super) footer_bytes: u64,
    pub(super) sealed: BTreeMap<u64, Sealed>,
    /// What the newest segment follows.
    pub(super) tail_follows: Follows,
    /// Where the synced commits of the newest segment end.
    pub(super) tail_end: u64,
    /// Segments that were found damaged, and are not mended yet.
    pub(super) unreadable: BTreeSet<u64>,
    /// The newest of each partition that is synced, apart from its entries.
    pub(super) newest: NewestOf,
    /// The sequence of the newest commit that is synced.
    pub(super) synced: u64,
    /// The newest segment as the base was written last; 0 before.
    pub(super) based: u64,
    /// Rises when segments go or are replaced; odd while one is being replaced. Tells a reader that
    /// a file may not be the one that it thought.
    pub(super) changes: u64,
}

/// The entries of a segment by log: what its footer says.
pub(super) type SegmentIndex = BTreeMap<Partition, Run>;

/// The part of a log where a read goes on.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// In a sealed segment.
    Sealed(Fence),
    /// In the newest segment.
    Tail(&'a Run),
}

impl Run {
    /// The index after the last.
    pub(super) fn end_index(&self) -> u64 {
        self.first_index.saturating_add(self.slots.len() as u64)
    }

    /// Appends the entry `index`, which withdraws that one and all later ones.
    pub(super) fn push(&mut self, index: u64, slot: Slot) {
        self.withdraw(index);
        if self.slots.is_empty() {
            self.first_index = index;
        }
        self.slots.push(slot);
    }

    /// What its entries take in a segment.
    fn bytes(&self, partition: &Partition) -> u64 {
        let data = self.slots.iter().map(|slot| u64::from(slot.data_bytes));
        data.sum::<u64>() + entry_head_bytes(partition) * self.slots.len() as u64
    }

    fn withdraw(&mut self, index: u64) {
        let keep = index.saturating_sub(self.first_index);
        self.slots
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// The slots of `first <= i < end`; empty if the run does not hold all of them.
    pub(super) fn between(&self, first: u64, end: u64) -> &[Slot] {
        let range = first
            .checked_sub(self.first_index)
            .zip(end.checked_sub(self.first_index))
            .map(|(from, to)| from as usize..to as usize);
        range
            .and_then(|range| self.slots.get(range))
            .unwrap_or_default()
    }
}

/// Where in `slots`, the first of index `first_index`, a read begins; their end if after them.
pub(super) fn start_in(slots: &[Slot], first_index: u64, from: LoadFrom) -> usize {
    match from {
        LoadFrom::Index(index) => (index.saturating_sub(first_index) as usize).min(slots.len()),
        // Of entries with one first offset the last holds it: those before hold no record.
        LoadFrom::Offset(offset) => slots
            .partition_point(|slot| slot.first_offset <= offset)
            .saturating_sub(1),
        LoadFrom::Time(time) => slots.partition_point(|slot| slot.time < time),
    }
}

impl Log {
    /// The index after the last entry; `None` if the log holds none.
    pub(super) fn end_index(&self) -> Option<u64> {
        match (self.tail.slots.is_empty(), self.fences.last()) {
            (false, _) => Some(self.tail.end_index()),
            (true, fence) => fence.map(|fence| fence.end_index),
        }
    }

    /// A snapshot in this segment: everything is void, and what comes begins anew.
    fn begin(&mut self, segment: u64) {
        *self = Self {
            snapshot: Some(segment),
            withdrawals: self.withdrawals + 1,
            ..Self::default()
        };
    }

    fn push(&mut self, index: u64, slot: Slot) {
        if self.end_index().is_some_and(|end| index < end) {
            self.withdrawals += 1;
            while self
                .fences
                .last()
                .is_some_and(|fence| fence.first_index >= index)
            {
                self.fences.pop();
            }
            if let Some(fence) = self.fences.last_mut()
                && fence.end_index > index
            {
                fence.bytes = fence.bytes_from(fence.first_index) - fence.bytes_from(index);
                fence.end_index = index;
            }
        }
        self.tail.push(index, slot);
    }

    /// The part where a read from `from` begins, if the log has anything there.
    pub(super) fn place(&self, from: LoadFrom) -> Option<Place<'_>> {
        let tail = self.tail.slots.first();
        let last_before = |tail_before: bool, sealed_before: usize| {
            if tail_before {
                Some(Place::Tail(&self.tail))
            } else {
                let fence = sealed_before.checked_sub(1)?;
                Some(Place::Sealed(self.fences[fence]))
            }
        };
        match from {
            LoadFrom::Index(index) => {
                let before = self
                    .fences
                    .partition_point(|fence| fence.first_index <= index);
                let in_tail = tail.is_some() && self.tail.first_index <= index;
                let place = last_before(in_tail, before)?;
                (index < place.end_index()).then_some(place)
            }
            LoadFrom::Offset(offset) => last_before(
                tail.is_some_and(|slot| slot.first_offset <= offset),
                self.fences
                    .partition_point(|fence| fence.first_offset <= offset),
            ),
            LoadFrom::Time(time) => last_before(
                tail.is_some_and(|slot| slot.time < time),
                self.fences.partition_point(|fence| fence.first_time < time),
            )
            .or_else(|| self.first()),
        }
    }

    fn first(&self) -> Option<Place<'_>> {
        match self.fences.first() {
            Some(fence) => Some(Place::Sealed(*fence)),
            None => (!self.tail.slots.is_empty()).then_some(Place::Tail(&self.tail)),
        }
    }
}

impl Fence {
    /// What its entries from this one on take: as good as can be told without looking at them.
    pub(super) fn bytes_from(&self, index: u64) -> u64 {
        let entries = u128::from(self.end_index - self.first_index).max(1);
        let left = self.end_index.saturating_sub(index.max(self.first_index));
        // At most `bytes`.
        (u128::from(self.bytes) * u128::from(left) / entries) as u64
    }
}

impl Follows {
    /// What the segment with this header follows.
    pub(super) fn of(header: &SegmentHeader) -> Self {
        Self {
            sequence: header.first_sequence,
            previous_crc: header.previous_crc,
        }
    }
}

impl Place<'_> {
    fn end_index(&self) -> u64 {
        match self {
            Self::Sealed(fence) => fence.end_index,
            Self::Tail(run) => run.end_index(),
        }
    }
}

impl Index {
    /// That of an empty first segment of this number.
    pub(super) fn new(first_segment: u64, follows: Follows) -> Self {
        Self {
            logs: BTreeMap::new(),
            tail_number: first_segment,
            footer_bytes: FOOTER_HEADER,
            sealed: BTreeMap::new(),
            tail_follows: follows,
            tail_end: PAGE,
            unreadable: BTreeSet::new(),
            newest: NewestOf::new(),
            synced: 0,
            based: 0,
            changes: 0,
        }
    }

    /// Bytes of sealed segments, as far as their commits go.
    pub(super) fn sealed_bytes(&self) -> u64 {
        self.sealed.values().map(|sealed| sealed.end).sum()
    }

    /// The first segment that is there.
    pub(super) fn first_segment(&self) -> u64 {
        let first = self.sealed.keys().next();
        first.copied().unwrap_or(self.tail_number)
    }

    /// Takes note of a synced item that is no entry.
    pub(super) fn note(&mut self, item: &JournalItem) {
        if !matches!(item, JournalItem::Entry { .. }) {
            let newest = self.newest.entry(item.partition().clone()).or_default();
            newest.note(item);
        }
        match item {
            JournalItem::Snapshot { partition, .. } => {
                let log = self.logs.entry(partition.clone()).or_default();
                log.begin(self.tail_number);
            }
            JournalItem::Checkpoint { partition, .. } => {
                if let Some(log) = self.logs.get_mut(partition) {
                    log.snapshot = None;
                }
            }
            _ => {}
        }
    }

    /// The first segment that must stay: all before it hold only entries that may go.
    pub(super) fn first_needed(&self) -> u64 {
        let needed = self.logs.iter().filter_map(|(partition, log)| {
            let keep_from = self.keep_from(partition);
            let mut fences = log.fences.iter();
            let kept = fences.find(|fence| fence.end_index > keep_from);
            let segments = kept.map(|fence| fence.segment).into_iter();
            segments.chain(log.snapshot).min()
        });
        let first = needed.min();
        first.unwrap_or(self.tail_number)
    }

    /// The base of a journal that begins with this segment.
    pub(super) fn base(&self, first_segment: u64) -> Base {
        Base {
            first_segment,
            as_of: self.synced,
            newest: self.newest.clone(),
        }
    }

    /// The first entry of `partition` that must stay, as its newest checkpoint says; 0 if all must.
    pub(super) fn keep_from(&self, partition: &Partition) -> u64 {
        self.newest.get(partition).map_or(0, Newest::keep_from)
    }

    /// Forgets the segments before this one; which they were.
    pub(super) fn forget_before(&mut self, segment: u64) -> Vec<u64> {
        self.changes += 2;
        let stay = self.sealed.split_off(&segment);
        let gone = std::mem::replace(&mut self.sealed, stay);
        self.unreadable = self.unreadable.split_off(&segment);
        for log in self.logs.values_mut() {
            let gone = log.fences.partition_point(|fence| fence.segment < segment);
            log.fences.drain(..gone);
        }
        gone.into_keys().collect()
    }

    /// The log of `partition`, if it has entries.
    pub(super) fn log(&self, partition: &Partition) -> Option<&Log> {
        self.logs.get(partition)
    }

    /// The index that an entry of `partition` must not pass; `None` if any will do.
    pub(super) fn end_index(&self, partition: &Partition) -> Option<u64> {
        self.logs.get(partition)?.end_index()
    }

    /// Forgets all entries of `partition`, which may go: its log begins anew.
    pub(super) fn begin_anew(&mut self, partition: &Partition) {
        self.logs.remove(partition);
    }

    /// Appends an entry that stands in the newest segment.
    pub(super) fn push(&mut self, partition: &Partition, index: u64, slot: Slot) {
        self.footer_bytes += SLOT_BYTES + SPAN_BYTES;
        if let Some(log) = self.logs.get_mut(partition) {
            if log.tail.slots.is_empty() {
                self.footer_bytes += run_bytes(partition);
            }
            log.push(index, slot);
        } else {
            self.footer_bytes += run_bytes(partition);
            let mut log = Log::default();
            log.push(index, slot);
            self.logs.insert(partition.clone(), log);
        }
    }

    /// Appends a run that stands in the newest segment, which ends with it.
    pub(super) fn push_run(&mut self, partition: &Partition, run: &Run) {
        if let Some((first, later)) = run.slots.split_first() {
            self.push(partition, run.first_index, *first);
            if let Some(log) = self.logs.get_mut(partition) {
                log.tail.slots.extend_from_slice(later);
            }
        }
    }

    /// Seals the newest segment, whose blocks end at `end`, and goes on to the next, `next`, which
    /// follows these.
    pub(super) fn seal(&mut self, end: u64, kind: BlockKind, next: u64, follows: Follows) {
        for (partition, log) in &mut self.logs {
            if let Some(first) = log.tail.slots.first() {
                log.fences.push(Fence {
                    segment: self.tail_number,
                    segment_end: end,
                    first_index: log.tail.first_index,
                    end_index: log.tail.end_index(),
                    bytes: log.tail.bytes(partition),
                    first_offset: first.first_offset,
                    first_time: first.time,
                });
                log.tail = Run::default();
            }
        }
        let sealed = Sealed {
            end,
            follows: self.tail_follows,
            kind,
            version: 0,
        };
        self.sealed.insert(self.tail_number, sealed);
        (self.tail_number, self.tail_follows, self.tail_end) = (next, follows, PAGE);
        self.footer_bytes = FOOTER_HEADER;
    }

    /// Writes the footer of the newest segment.
    pub(super) fn put_footer(&self, block: &mut BlockWriter) {
        let logs = self.logs.iter();
        let runs = logs.filter(|(_, log)| !log.tail.slots.is_empty());
        put_footer(block, runs.map(|(partition, log)| (partition, &log.tail)));
    }
}

/// Writes the footer of a segment that holds these runs, none of them empty.
pub(super) fn put_footer<'a>(
    block: &mut BlockWriter,
    runs: impl Iterator<Item = (&'a Partition, &'a Run)> + Clone,
) {
    block.put(&(runs.clone().count() as u32).to_le_bytes());
    for (partition, run) in runs {
        let name = partition.channel.as_str();
        block.put(&[name.len() as u8]);
        block.put(name.as_bytes());
        block.put(&partition.number.to_le_bytes());
        block.put(&run.first_index.to_le_bytes());
        block.put(&(run.slots.len() as u32).to_le_bytes());
        let spans = || run.slots.chunk_by(|one, next| one.term == next.term);
        block.put(&(spans().count() as u32).to_le_bytes());
        for span in spans() {
            block.put(&span[0].term.to_le_bytes());
            block.put(&(span.len() as u32).to_le_bytes());
        }
        for slot in &run.slots {
            block.put(&slot.first_offset.to_le_bytes());
            block.put(&slot.time.0.to_le_bytes());
            block.put(&slot.position.to_le_bytes());
            block.put(&slot.data_bytes.to_le_bytes());
        }
    }
}

/// Reads the payload of a footer.
pub(super) fn read_footer(payload: &[u8]) -> Result<SegmentIndex, &'static str> {
    let mut fields = Fields(payload);
    let mut index = SegmentIndex::new();
    for _ in 0..fields.u32()? {
        let name = usize::from(fields.u8()?);
        let name = std::str::from_utf8(fields.take(name)?).map_err(|_| "a name is not UTF-8")?;
        let partition = Partition::new(&name.into(), fields.u32()?);
        let first_index = fields.u64()?;
        let mut run = Run {
            first_index,
            slots: Vec::new(),
        };
        let entries = fields.u32()?;
        let mut spans = Vec::new();
        for _ in 0..fields.u32()? {
            spans.push((fields.u64()?, fields.u32()?));
        }
        let count = |span: &(u64, u32)| u64::from(span.1);
        if spans.iter().map(count).sum::<u64>() != u64::from(entries) {
            return Err("the terms of a run are not those of its entries");
        }
        for (term, count) in spans {
            for _ in 0..count {
                run.slots.push(Slot {
                    term,
                    first_offset: fields.u64()?,
                    time: Wall(fields.u64()?),
                    position: fields.u32()?,
                    data_bytes: fields.u32()?,
                });
            }
        }
        index.insert(partition, run);
    }
    Ok(index)
}

/// What the item of an entry takes before its data.
pub(super) fn entry_head_bytes(partition: &Partition) -> u64 {
    (ITEM_HEADER + partition.channel.as_str().len() + ENTRY_HEADER) as u64
}

/// What an entry adds to the footer, at most.
pub(super) fn footer_share(partition: &Partition) -> u64 {
    SLOT_BYTES + SPAN_BYTES + run_bytes(partition)
}

fn run_bytes(partition: &Partition) -> u64 {
    RUN_BYTES + partition.channel.as_str().len() as u64
}

/// The slot of an entry whose item begins at `position` of its segment.
pub(super) fn slot(entry: &LogEntry, position: u64) -> Slot {
    Slot {
        term: entry.term,
        first_offset: entry.first_offset,
        time: entry.time,
        position: position as u32,
        data_bytes: entry.data.len() as u32,
    }
}
