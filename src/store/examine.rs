//! Reads a journal that nobody runs on, from its first byte to its last, and changes nothing: what
//! is there, and what is damaged. Opening stops at the first damage; this goes on behind it, and
//! says also what opening would.

use crate::types::{Incarnation, JournalItem};

use super::base::{BASE, Base};
use super::folder::{lock, look_at_identity, segments_from};
use super::identity::FolderIdentity;
use super::items::read_item;
use super::journal::SEGMENT_BYTES_MIN;
use super::layout::{
    BlockHeader, BlockKind, HEADER, PAGE, Rewritten, SegmentHeader, position_in_block,
};
use super::looking::Looking;
use super::recovery::open_segment;
use super::segment::{KeptBlocks, Window, segment_name};
use super::{Disk, Identity, Journal, Settings, StoreError};

/// What a data folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The fabric and the node that its identity names.
    pub fabric: String,
    /// See `fabric`.
    pub node: String,
    /// The life of the folder.
    pub incarnation: Incarnation,
    /// The newest commit that the base knows of, if there is a base: what is newest of each
    /// partition as of then stands in it.
    pub base_as_of: Option<u64>,
    /// Every segment in order.
    pub segments: Vec<ExaminedSegment>,
    /// What is wrong, in the order of the files; nothing if the journal is sound.
    pub damage: Vec<Damage>,
    /// What the next start says, if it refuses the folder. It does not read all of it: it may go on
    /// beside damage, which the running node then mends with what another replica holds.
    pub refused: Option<String>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExaminedSegment {
    /// Its file.
    pub file: String,
    /// Sound commits.
    pub commits: u64,
    /// The sequences of the first and the last of them; 0 if there is none.
    pub sequences: (u64, u64),
    /// Log entries in them.
    pub entries: u64,
    /// Founding records, hard states and checkpoints in them.
    pub others: u64,
    /// Bytes up to the end of the last.
    pub bytes: u64,
    /// Where the newest segment ends in something that is no whole commit.
    pub torn: Option<Torn>,
    /// How long its file was when it was made: one that is shorter now lost its end. 0 if it grows
    /// with its commits: then its length tells nothing, as when the file is cut between two.
    pub prefilled_bytes: u64,
    /// How many segments it stands for, if it was written anew: then it holds what is kept of their
    /// commits, and `commits` counts none. 0 if not.
    pub stands_for: u64,
}

/// The end of the newest segment that is no whole commit, which the next start cuts. An interrupted
/// write leaves it; a newest commit that was damaged later, or cut off with the end of a file that
/// grows, looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins, in bytes.
    pub position: u64,
    /// The sequence of the commit that would stand there.
    pub sequence: u64,
    /// Pages of that commit, if its header can be read; else pages up to the last that is not zero.
    pub pages: u64,
    /// How many of them are zeros.
    pub zero_pages: u64,
    /// How many of them, or what part of one, are beyond the end of the file.
    pub missing_pages: u64,
}

/// Something that does not read as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it, in bytes.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

/// Takes one item: the segment's number (0 for the base), the commit's sequence, the item. From the
/// base, and from a segment that was written anew, comes the sequence of the newest commit that it
/// knows of.
pub type Examine<'a> = &'a mut dyn FnMut(u64, u64, JournalItem);

/// Examines the folder, and hands every item that can be read on, in the order of the files.
///
/// # Errors
/// `Folder`, `Locked` if a process uses it, `BadIdentity`, `FormatVersion`, `MissingSegment`,
/// `Disk`. Damage is no error.
pub fn examine<D: Disk>(disk: &D, visit: Examine<'_>) -> Result<Examined, StoreError> {
    let _lock = lock(disk)?;
    let (names, identity) = look_at_identity(disk)?;
    let mut examined = Examined {
        fabric: identity.fabric.clone(),
        node: identity.node.clone(),
        incarnation: identity.incarnation,
        base_as_of: None,
        segments: Vec::new(),
        damage: Vec::new(),
        refused: None,
    };
    examined.read(disk, &names, &identity, visit)?;
    examined.ask_start(disk, &identity)?;
    Ok(examined)
}

impl Examined {
    /// Reads every file.
    fn read<D: Disk>(
        &mut self,
        disk: &D,
        names: &[String],
        identity: &FolderIdentity,
        visit: Examine<'_>,
    ) -> Result<(), StoreError> {
        let first = self.read_base(disk, names, identity.incarnation, visit)?;
        let numbers = segments_from(names, first);
        let mut expected = first;
        // The sequence of the commit to come, once a segment was read.
        let mut next = None;
        for number in &numbers {
            if *number < expected {
                // The one before stands for it; the next start removes it.
                continue;
            }
            if *number != expected {
                let file = disk.path(&segment_name(expected));
                self.note(StoreError::MissingSegment { file })?;
            }
            expected = number + 1;
            let newest = numbers.last() == Some(number);
            let opened = open_segment(disk, identity.incarnation, identity.crc(), *number);
            let result = opened.and_then(|(file, header)| {
                self.check_end(next.take(), header.first_sequence);
                expected = header.next_number();
                if let Some(stands_for) = header.rewritten {
                    return self.rewritten(disk, &file, &header, &stands_for, visit);
                }
                self.segment(disk, &file, &header, newest, visit)
            });
            match result {
                Ok(sequence) => next = Some(sequence),
                Err(error) => self.note(error)?,
            }
        }
        if let Some(as_of) = self.base_as_of {
            self.check_end(next, as_of + 1);
        }
        Ok(())
    }

    /// The first segment that must be there, and what the base holds.
    fn read_base<D: Disk>(
        &mut self,
        disk: &D,
        names: &[String],
        incarnation: Incarnation,
        visit: Examine<'_>,
    ) -> Result<u64, StoreError> {
        if !names.iter().any(|name| name == BASE) {
            return Ok(1);
        }
        match Base::read(disk, incarnation) {
            Ok(base) => {
                self.base_as_of = Some(base.as_of);
                for item in base.newest.values().flat_map(|n| n.first().chain(n.then())) {
                    visit(0, base.as_of, item.clone());
                }
                Ok(base.first_segment)
            }
            Err(error) => {
                self.note(error)?;
                // Whatever is there.
                Ok(segments_from(names, 0).first().copied().unwrap_or(1))
            }
        }
    }

    /// What the code of a start says, which changes nothing here. What it reads twice is not told
    /// twice.
    fn ask_start<D: Disk>(
        &mut self,
        disk: &D,
        identity: &FolderIdentity,
    ) -> Result<(), StoreError> {
        let who = Identity {
            fabric: identity.fabric.clone(),
            node: identity.node.as_str().into(),
            fresh: identity.incarnation,
        };
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES_MIN,
        };
        let opened = Journal::open(Looking(disk.clone()), &who, settings, &mut |_| Ok(()));
        let Err(error) = opened.map(drop) else {
            return Ok(());
        };
        self.refused = Some(error.to_string());
        match self.damage.is_empty() {
            true => self.note(error),
            false => Ok(()),
        }
    }

    /// Takes damage for what was found; other errors end the examination.
    fn note(&mut self, error: StoreError) -> Result<(), StoreError> {
        let (file, position, reason) = match error {
            StoreError::Damaged {
                file,
                position,
                reason,
            } => (file, position, reason),
            StoreError::MissingSegment { file } => {
                let reason = "it is missing, and with it what this node has promised";
                (file, 0, reason.to_owned())
            }
            error => return Err(error),
        };
        self.damage.push(Damage {
            file,
            position,
            reason,
        });
        Ok(())
    }

    /// The segment read last ends before commit `reached`; it must reach `expected`.
    fn check_end(&mut self, reached: Option<u64>, expected: u64) {
        let Some((reached, segment)) = reached.zip(self.segments.last()) else {
            return;
        };
        if reached < expected {
            let missing = expected - reached;
            self.damage.push(Damage {
                file: segment.file.clone(),
                position: segment.bytes,
                reason: format!("{missing} commits from {reached} on are not there"),
            });
        }
    }

    /// A segment that was written anew; the sequence of the commit that comes after it.
    fn rewritten<D: Disk>(
        &mut self,
        disk: &D,
        file: &D::File,
        header: &SegmentHeader,
        stands_for: &Rewritten,
        visit: Examine<'_>,
    ) -> Result<u64, StoreError> {
        let path = disk.path(&segment_name(header.number));
        let mut window = Window::new(file, &path);
        let last = stands_for.next_sequence.saturating_sub(1);
        let mut segment = ExaminedSegment {
            file: path.clone(),
            sequences: (header.first_sequence, last),
            stands_for: u64::from(stands_for.segments),
            ..ExaminedSegment::default()
        };
        if self.base_as_of.is_none_or(|as_of| as_of < last) {
            let reason = format!("it stands for commits up to {last}, of which no base knows");
            self.note(StoreError::damaged(path.clone(), 0, reason))?;
        }
        let mut blocks = KeptBlocks::new(header);
        let end = loop {
            let position = blocks.position;
            match blocks.next(&mut window)? {
                Ok(None) => break Ok(()),
                Err(reason) => break Err((position, reason)),
                Ok(Some(payload)) => {
                    let items = items(&payload, header.number, last, visit, &mut segment);
                    if let Err((offset, reason)) = items {
                        break Err((position + position_in_block(offset), reason));
                    }
                }
            }
        };
        segment.bytes = blocks.position;
        self.segments.push(segment);
        if let Err((position, reason)) = end {
            let reason = format!("nothing from here on can be read: {reason}");
            self.note(StoreError::damaged(path, position, reason))?;
        }
        Ok(stands_for.next_sequence)
    }

    fn segment<D: Disk>(
        &mut self,
        disk: &D,
        file: &D::File,
        header: &SegmentHeader,
        newest: bool,
        visit: Examine<'_>,
    ) -> Result<u64, StoreError> {
        let path = disk.path(&segment_name(header.number));
        let mut window = Window::new(file, &path);
        let mut segment = ExaminedSegment {
            file: path.clone(),
            bytes: PAGE,
            prefilled_bytes: header.prefilled_bytes,
            ..ExaminedSegment::default()
        };
        let file_bytes = window.file_bytes()?;
        let (mut position, mut sequence) = (PAGE, header.first_sequence);
        loop {
            let block = window.block(position, BlockKind::Commit, header.life, file_bytes)?;
            let reason = match block {
                Ok((commit, payload)) if commit.sequence == sequence => {
                    segment.take(&commit);
                    let at = |offset| position + position_in_block(offset);
                    let items = items(&payload, header.number, sequence, visit, &mut segment);
                    if let Err((offset, reason)) = items {
                        self.note(StoreError::damaged(path.clone(), at(offset), reason))?;
                    }
                    position += commit.block_bytes();
                    segment.bytes = position;
                    sequence += 1;
                    continue;
                }
                Ok((commit, _)) => format!("commit {} stands here", commit.sequence),
                Err(reason) => reason.to_owned(),
            };
            // The end, or something unreadable with commits after it.
            let later = next_commit(&mut window, header, position, sequence, file_bytes)?;
            let Some((at, later)) = later else {
                if newest {
                    segment.torn = torn(&mut window, header, position, sequence, file_bytes)?;
                }
                break;
            };
            let missing = later - sequence;
            let reason = format!("{missing} commits from {sequence} on cannot be read: {reason}");
            self.note(StoreError::damaged(path.clone(), position, reason))?;
            (position, sequence) = (at, later);
        }
        self.segments.push(segment);
        Ok(sequence)
    }
}

impl ExaminedSegment {
    fn take(&mut self, commit: &BlockHeader) {
        self.commits += 1;
        if self.sequences.0 == 0 {
            self.sequences.0 = commit.sequence;
        }
        self.sequences.1 = commit.sequence;
    }
}

/// Hands the items of a commit on; where one cannot be read, and why.
fn items(
    payload: &[u8],
    number: u64,
    sequence: u64,
    visit: Examine<'_>,
    segment: &mut ExaminedSegment,
) -> Result<(), (usize, &'static str)> {
    let mut offset = 0;
    while offset < payload.len() {
        let (item, bytes) = read_item(&payload[offset..]).map_err(|reason| (offset, reason))?;
        offset += bytes;
        match item {
            JournalItem::Entry { .. } => segment.entries += 1,
            _ => segment.others += 1,
        }
        visit(number, sequence, item);
    }
    Ok(())
}

/// Where a commit of a sequence above `sequence` begins, from `position` on, and its sequence.
fn next_commit<F: super::DiskFile>(
    window: &mut Window<'_, F>,
    header: &SegmentHeader,
    mut position: u64,
    sequence: u64,
    file_bytes: u64,
) -> Result<Option<(u64, u64)>, StoreError> {
    while position < file_bytes {
        let page = window.read(position, PAGE as usize)?;
        match BlockHeader::decode(page, BlockKind::Commit, header.life) {
            Ok(later) if later.sequence > sequence => return Ok(Some((position, later.sequence))),
            _ => position += PAGE,
        }
    }
    Ok(None)
}

/// What stands from `position` on, where commit `sequence` cannot be read; `None` if only zeros do.
fn torn<F: super::DiskFile>(
    window: &mut Window<'_, F>,
    header: &SegmentHeader,
    position: u64,
    sequence: u64,
    file_bytes: u64,
) -> Result<Option<Torn>, StoreError> {
    let mut last = None;
    let mut zeros = Vec::new();
    for page in (position..file_bytes).step_by(PAGE as usize) {
        let bytes = window.read(page, PAGE as usize)?;
        match bytes.iter().all(|byte| *byte == 0) {
            true => zeros.push(page),
            false => last = Some(page),
        }
    }
    let Some(last) = last else {
        return Ok(None);
    };
    let first = window.read(position, HEADER)?;
    let end = match BlockHeader::decode(first, BlockKind::Commit, header.life) {
        Ok(commit) if commit.sequence == sequence => position + commit.block_bytes(),
        _ => last + PAGE,
    };
    Ok(Some(Torn {
        position,
        sequence,
        pages: (end - position) / PAGE,
        zero_pages: zeros.iter().filter(|page| **page < end).count() as u64,
        missing_pages: end.saturating_sub(file_bytes).div_ceil(PAGE),
    }))
}
