//! The journal as its one writer sees it: open, write a commit, sync it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::{Incarnation, JournalItem, Limits, Partition};

use super::folder::open_folder;
use super::index::{Follows, Index, SegmentIndex, Slot, footer_share, slot};
use super::items::{item_payload_bytes, put_item};
use super::layout::{BlockKind, BlockWriter, FORMAT_VERSION, MARK, PAGE, SegmentHeader, life};
use super::recovery::{Visit, recover};
use super::segment::{Tail, make_segment, segment_name};
use super::spare::{SPARE, Spare};
use super::{Disk, DiskFile, Identity, Reader, StoreError, spare};

/// The smallest segment: below it the pages of headers and footers would be most of it.
pub(super) const SEGMENT_BYTES_MIN: u64 = 8 * PAGE;

/// What the journal needs to know of the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The size of a segment file in bytes, rounded down to whole pages of 4096; at least 32 KiB,
    /// below 4 GiB. May differ from one start to the next.
    pub segment_bytes: u64,
}

/// One node's journal: the only writer of its folder.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    shared: Arc<Shared<D>>,
    tail: Tail<D::File>,
    /// The sequence of the next commit.
    sequence: u64,
    /// The header CRC of the last commit.
    previous_crc: u32,
    pending: Option<Pending>,
    /// The first failed write or sync.
    failed: Option<String>,
    /// Whether a checkpoint was synced since that was last asked.
    may_recycle: bool,
    buffer: Vec<u8>,
}

/// A commit that is written and not synced.
#[derive(Debug)]
struct Pending {
    sequence: u64,
    items: Vec<Written>,
    end: u64,
}

/// What a commit holds.
#[derive(Debug)]
enum Written {
    /// The entry of this index.
    Entry(Partition, u64, Slot),
    /// Anything else.
    Other(JournalItem),
}

/// What the writer and its readers share.
#[derive(Debug)]
pub(super) struct Shared<D: Disk> {
    pub(super) disk: D,
    pub(super) incarnation: Incarnation,
    pub(super) identity: u32,
    pub(super) segment_bytes: u64,
    /// Where synced entries are.
    pub(super) index: Mutex<Index>,
    /// Footers lately read, newest last.
    pub(super) footers: Mutex<VecDeque<(u64, Arc<SegmentIndex>)>>,
    spare: Mutex<Spare>,
    /// Held while segments go or are written anew.
    pub(super) recycling: Mutex<()>,
    _lock: D::Lock,
}

impl From<&Limits> for Settings {
    fn from(limits: &Limits) -> Self {
        Self {
            segment_bytes: limits.segment_bytes,
        }
    }
}

/// The most that one commit may hold: the sum of [`item_bytes`] of its items. One commit of this
/// size fits into a segment, its footer included.
pub fn commit_bytes_max(settings: &Settings) -> u64 {
    // One page is the header's. Commit and footer each lose at most one and a half to their own
    // headers and to rounding up.
    (settings.segment_bytes / PAGE).saturating_sub(4) * (PAGE - MARK as u64)
}

/// What `item` counts towards [`commit_bytes_max`].
pub fn item_bytes(item: &JournalItem) -> u64 {
    let share = match item {
        JournalItem::Entry { partition, .. } => footer_share(partition),
        _ => 0,
    };
    item_payload_bytes(item) + share
}

impl<D: Disk> Journal<D> {
    /// Opens the folder, or founds it if it is empty, and hands what it holds to `visit`, each log
    /// in its order: every item, but that of entries which a checkpoint covers it may tell no more
    /// than that they are there, and then has not looked at them. A torn end is cut; nothing that
    /// was synced is. Before it returns, all that it visited is durable.
    ///
    /// # Errors
    /// Any [`StoreError`] but `TooLarge`, `Gap`, `LongName` and `Failed`. What `visit` was given
    /// must then be forgotten.
    pub fn open(
        disk: D,
        identity: &Identity,
        settings: Settings,
        visit: Visit<'_>,
    ) -> Result<Self, StoreError> {
        identity.check()?;
        let segment_bytes = settings.checked()?;
        let folder = open_folder(&disk, identity)?;
        let recovered = recover(
            &disk,
            folder.incarnation,
            folder.identity,
            &folder.segments,
            folder.base,
            visit,
        )?;
        Ok(Self {
            shared: Arc::new(Shared {
                disk,
                incarnation: folder.incarnation,
                identity: folder.identity,
                segment_bytes,
                index: Mutex::new(recovered.index),
                footers: Mutex::default(),
                spare: Mutex::default(),
                recycling: Mutex::default(),
                _lock: folder.lock,
            }),
            tail: recovered.tail,
            sequence: recovered.sequence,
            previous_crc: recovered.previous_crc,
            pending: None,
            failed: None,
            may_recycle: true,
            buffer: Vec::new(),
        })
    }

    /// Writes `items` as one commit: after a crash all of them are there, or none. Nothing is
    /// durable, and no reader sees it, until [`Journal::sync`] returned. A commit that is still
    /// unsynced is synced first, for recovery relies on there being one at most.
    ///
    /// # Errors
    /// `TooLarge`, `Gap` and `LongName` leave the journal as it was. After `Disk` it has failed.
    pub fn write(&mut self, items: &[JournalItem]) -> Result<(), StoreError> {
        self.sync()?;
        self.check(items)?;
        if items.is_empty() {
            return Ok(());
        }
        let result = self.append(items);
        self.remember(result)
    }

    /// Makes the commit written last durable.
    ///
    /// # Errors
    /// `Disk`, and from then on `Failed`: nothing since the last sync may be believed.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(cause) = &self.failed {
            return Err(StoreError::Failed {
                cause: cause.clone(),
            });
        }
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let result = self
            .tail
            .file
            .sync()
            .map_err(|error| self.disk_error("cannot sync", &error));
        self.remember(result)?;
        let mut index = locked(&self.shared.index);
        for written in &pending.items {
            match written {
                Written::Entry(partition, number, slot) => index.push(partition, *number, *slot),
                Written::Other(item) => {
                    index.note(item);
                    self.may_recycle |= matches!(item, JournalItem::Checkpoint { .. });
                }
            }
        }
        (index.synced, index.tail_end) = (pending.sequence, pending.end);
        self.tail.position = pending.end;
        Ok(())
    }

    /// Seals the newest segment, all of which is synced.
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        let result = self.roll();
        self.remember(result)
    }

    pub(super) fn shared(&self) -> &Shared<D> {
        &self.shared
    }

    /// A handle that reads what is synced, for use by another thread. The folder stays locked
    /// until the journal and all its readers are gone.
    pub fn reader(&self) -> Reader<D> {
        Reader::new(self.shared.clone())
    }

    /// The life of this folder.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// Bytes that synced commits and their headers take, without footers and prefilled space.
    pub fn bytes(&self) -> u64 {
        locked(&self.shared.index).sealed_bytes() + self.tail.position
    }

    /// Free bytes where the folder is.
    ///
    /// # Errors
    /// `Disk`.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let disk = &self.shared.disk;
        disk.free_bytes()
            .map_err(|error| StoreError::disk("cannot measure", disk.path(""), &error))
    }

    /// The first failed write or sync, if there was one: the journal takes no more writes.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether the newest segment is more than half full, or grows with its commits, and no spare
    /// waits: a good time for [`Reader::prepare_spare`].
    pub fn wants_spare(&self) -> bool {
        let half_full = self.tail.position * 2 > self.shared.segment_bytes;
        (half_full || !self.tail.prefilled) && *locked(&self.shared.spare) == Spare::Absent
    }

    /// Whether segments may have become free since this was last asked: a good time for
    /// [`Reader::recycle`] and [`Reader::compact`].
    pub fn wants_recycling(&mut self) -> bool {
        std::mem::take(&mut self.may_recycle)
    }

    fn check(&self, items: &[JournalItem]) -> Result<(), StoreError> {
        let bytes = items.iter().map(item_bytes).sum();
        let limit = commit_bytes_max(&Settings {
            segment_bytes: self.shared.segment_bytes,
        });
        if bytes > limit {
            return Err(StoreError::TooLarge { bytes, limit });
        }
        let index = locked(&self.shared.index);
        let mut ends = BTreeMap::new();
        for item in items {
            let partition = item.partition();
            if partition.channel.as_str().len() > usize::from(u8::MAX) {
                return Err(StoreError::LongName(partition.channel.to_string()));
            }
            if let JournalItem::Snapshot { checkpoint, .. } = item {
                ends.insert(partition, checkpoint.keep_from);
            }
            if let JournalItem::Entry { entry, .. } = item {
                let end = match ends.get(partition) {
                    Some(end) => Some(*end),
                    None => index.end_index(partition),
                };
                if let Some(expected) = end.filter(|end| entry.index > *end) {
                    return Err(StoreError::Gap {
                        partition: partition.clone(),
                        index: entry.index,
                        expected,
                    });
                }
                ends.insert(partition, entry.index.saturating_add(1));
            }
        }
        Ok(())
    }

    fn append(&mut self, items: &[JournalItem]) -> Result<(), StoreError> {
        let mut block = BlockWriter::new(std::mem::take(&mut self.buffer));
        let mut starts = Vec::with_capacity(items.len());
        for item in items {
            starts.push(block.position() as u64);
            put_item(&mut block, item);
        }
        let shares: u64 = items
            .iter()
            .map(|item| item_bytes(item) - item_payload_bytes(item))
            .sum();
        let footer = locked(&self.shared.index).footer_bytes + shares;
        // A footer has one header and loses at most one page to rounding up.
        let footer = (footer / (PAGE - MARK as u64) + 2) * PAGE;
        let full = self.tail.position + block.block_bytes() + footer > self.shared.segment_bytes;
        let better = !self.tail.prefilled && *locked(&self.shared.spare) == Spare::Ready;
        if (full || better) && self.tail.position > PAGE {
            self.roll()?;
        }
        let position = self.tail.position;
        let (bytes, crc) = block.finish(
            BlockKind::Commit,
            self.tail.life,
            self.sequence,
            self.previous_crc,
        );
        self.tail
            .file
            .write_at(&bytes, position)
            .map_err(|error| self.disk_error("cannot write", &error))?;
        let written = items.iter().zip(starts).map(|(item, start)| match item {
            JournalItem::Entry { partition, entry } => Written::Entry(
                partition.clone(),
                entry.index,
                slot(entry, position + start),
            ),
            other => Written::Other(other.clone()),
        });
        self.pending = Some(Pending {
            sequence: self.sequence,
            items: written.collect(),
            end: position + bytes.len() as u64,
        });
        self.sequence += 1;
        self.previous_crc = crc;
        self.buffer = bytes;
        Ok(())
    }

    /// Seals the newest segment and goes on in a new one. The footer is not synced: it can be
    /// made anew from the commits.
    fn roll(&mut self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let mut index = locked(&shared.index);
        let mut footer = BlockWriter::new(Vec::new());
        index.put_footer(&mut footer);
        let (footer, _) = footer.finish(
            BlockKind::Footer,
            self.tail.life,
            self.sequence,
            self.previous_crc,
        );
        self.tail
            .file
            .write_at(&footer, self.tail.position)
            .map_err(|error| self.disk_error("cannot write", &error))?;
        let number = index.tail_number + 1;
        let prefilled = shared.take_spare().then_some(SPARE);
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            identity: shared.identity,
            number,
            life: life(shared.incarnation, number),
            first_sequence: self.sequence,
            previous_crc: self.previous_crc,
            rewritten: None,
            prefilled_bytes: prefilled.map_or(0, |_| shared.segment_bytes),
        };
        let next = make_segment(&shared.disk, &header, prefilled)?;
        let follows = Follows {
            sequence: self.sequence,
            previous_crc: self.previous_crc,
        };
        index.seal(self.tail.position, BlockKind::Commit, number, follows);
        drop(index);
        self.tail = next;
        Ok(())
    }

    fn disk_error(&self, action: &'static str, error: &io::Error) -> StoreError {
        StoreError::disk(action, self.shared.disk.path(&self.tail.name), error)
    }

    /// Keeps the first failure of the disk.
    fn remember<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failed = Some(error.to_string());
        }
        result
    }
}

impl<D: Disk> Shared<D> {
    /// Makes the spare unless there is one or the disk has no room to spare; says whether it did.
    pub(super) fn prepare_spare(&self) -> Result<bool, StoreError> {
        {
            let mut spare = locked(&self.spare);
            if *spare != Spare::Absent {
                return Ok(false);
            }
            *spare = Spare::Making;
        }
        let made = match self.disk.free_bytes() {
            Ok(free) if free / 2 < self.segment_bytes => Ok(false),
            Ok(_) => spare::make(&self.disk, self.segment_bytes).map(|()| true),
            Err(error) => {
                let path = self.disk.path("");
                Err(StoreError::disk("cannot measure", path, &error))
            }
        };
        *locked(&self.spare) = match made {
            Ok(true) => Spare::Ready,
            _ => Spare::Absent,
        };
        made
    }

    /// See [`Reader::recycle`].
    pub(super) fn recycle(&self) -> Result<u64, StoreError> {
        let _alone = locked(&self.recycling);
        let (gone, base, newest) = {
            let index = locked(&self.index);
            let gone = index.first_segment()..index.first_needed();
            // Once a segment: what the base knows of need not be read when the journal is opened.
            if gone.is_empty() && index.based == index.tail_number {
                return Ok(0);
            }
            (gone.clone(), index.base(gone.end), index.tail_number)
        };
        base.write(&self.disk, self.incarnation)?;
        locked(&self.index).based = newest;
        if gone.is_empty() {
            return Ok(0);
        }
        let numbers = locked(&self.index).forget_before(gone.end);
        locked(&self.footers).retain(|(segment, _)| *segment >= gone.end);
        for number in &numbers {
            let name = segment_name(*number);
            self.disk.delete(&name).map_err(|error| {
                StoreError::disk("cannot delete", self.disk.path(&name), &error)
            })?;
        }
        Ok(numbers.len() as u64)
    }

    fn take_spare(&self) -> bool {
        let mut spare = locked(&self.spare);
        let ready = *spare == Spare::Ready;
        if ready {
            *spare = Spare::Absent;
        }
        ready
    }
}

impl Settings {
    fn checked(&self) -> Result<u64, StoreError> {
        let bytes = self.segment_bytes / PAGE * PAGE;
        if (SEGMENT_BYTES_MIN..=u64::from(u32::MAX)).contains(&bytes) {
            return Ok(bytes);
        }
        Err(StoreError::Unusable {
            what: format!("segments of {} bytes", self.segment_bytes),
            reason: format!("a segment has at least {SEGMENT_BYTES_MIN} bytes and less than 4 GiB"),
        })
    }
}

/// What a mutex guards. A thread that panicked while it held one ends the process, so whatever it
/// left is never used for long.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
