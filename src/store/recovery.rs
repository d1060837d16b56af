//! What happens to a journal when it is opened: read everything, tell a torn end from damage in
//! the middle, cut the one, refuse the other.

use crate::types::{CoveredEntries, Incarnation, JournalItem, Sabotage};

use super::base::Base;
use super::index::{Index, slot};
use super::items::read_item;
use super::layout::{
    BlockHeader, BlockKind, HEADER, PAGE, Rewritten, SegmentHeader, life, position_in_block,
};
use super::reading::{Chain, Reading};
use super::segment::{KeptBlocks, Tail, Window, segment_name};
use super::{Disk, DiskFile, FORMAT_VERSION, StoreError};

/// What opening a journal finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An item.
    Item(JournalItem),
    /// Entries that need not be read: a checkpoint that was handed on before covers them.
    Covered(CoveredEntries),
}

/// Takes what is found, one after the other; an error ends the opening with
/// [`StoreError::Rejected`].
pub type Visit<'a> = &'a mut dyn FnMut(Found) -> Result<(), String>;

/// The journal as it was found.
pub(super) struct Recovered<F> {
    pub(super) index: Index,
    pub(super) tail: Tail<F>,
    /// The sequence of the next commit.
    pub(super) sequence: u64,
    /// The header CRC of the last commit.
    pub(super) previous_crc: u32,
}

/// Reads the segments of the folder of `identity`, after what those before them have left, and
/// visits every item in order. Memory is bounded by the largest commit, and by what is newest of
/// each partition.
pub(super) fn recover<D: Disk>(
    disk: &D,
    incarnation: Incarnation,
    identity: u32,
    segments: &[u64],
    base: Option<Base>,
    visit: Visit<'_>,
) -> Result<Recovered<D::File>, StoreError> {
    let open = |number| open_segment(disk, incarnation, identity, number);
    // There is one at least.
    let (first, later) = segments.split_first().unwrap_or((&1, &[]));
    let (mut file, mut header) = open(*first)?;
    let mut reading = Reading::new(&header, base, visit);
    check_chain(disk, &header, &reading.chain, "begin with the first commit")?;
    reading.begin()?;
    for number in later {
        let path = disk.path(&segment_name(header.number));
        let mut window = Window::new(&file, &path);
        let next = open(*number)?;
        match header.rewritten {
            _ if follow_footer(&file, &path, &header, &next.1, &mut reading)? => {}
            Some(stands_for) => follow_kept(&mut window, &header, &stands_for, &mut reading)?,
            None => {
                let until = Some(next.1.first_sequence);
                let stop = follow(&mut window, &header, until, &mut reading)?;
                if reading.chain.sequence < next.1.first_sequence {
                    return Err(StoreError::damaged(path, reading.chain.position, stop));
                }
            }
        }
        let continues = "continue the segment before it";
        check_chain(disk, &next.1, &reading.chain, continues)?;
        reading.seal(&header, &next.1);
        (file, header) = next;
    }
    let path = disk.path(&segment_name(header.number));
    if header.rewritten.is_some() {
        let reason = "it was written anew, and the segment after it is missing";
        return Err(StoreError::damaged(path, 0, reason));
    }
    follow_tail(&file, &path, &header, &mut reading)?;
    // A rename may be visible and not yet durable.
    disk.sync_dir()
        .map_err(|error| StoreError::disk("cannot sync", disk.path(""), &error))?;
    let Reading {
        mut index, chain, ..
    } = reading;
    (index.synced, index.tail_end) = (chain.sequence - 1, chain.position);
    Ok(Recovered {
        index,
        tail: Tail {
            name: segment_name(header.number),
            file,
            life: header.life,
            prefilled: header.prefilled_bytes > 0,
            position: chain.position,
        },
        sequence: chain.sequence,
        previous_crc: chain.previous_crc,
    })
}

/// Whether the segment holds anything but its header.
pub(super) fn holds_commits<D: Disk>(disk: &D, name: &str) -> Result<bool, StoreError> {
    let path = disk.path(name);
    let file = disk
        .open(name)
        .map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
    let mut window = Window::new(&file, &path);
    let mut position = PAGE;
    while position < window.file_bytes()? {
        if window
            .read(position, PAGE as usize)?
            .iter()
            .any(|byte| *byte != 0)
        {
            return Ok(true);
        }
        position += PAGE;
    }
    Ok(false)
}

/// Opens a segment of the folder of `identity`, whose header is sound.
pub(super) fn open_segment<D: Disk>(
    disk: &D,
    incarnation: Incarnation,
    identity: u32,
    number: u64,
) -> Result<(D::File, SegmentHeader), StoreError> {
    let name = segment_name(number);
    let path = disk.path(&name);
    let file = disk
        .open(&name)
        .map_err(|error| StoreError::disk("cannot open", path.clone(), &error))?;
    let mut window = Window::exact(&file, &path);
    let header = SegmentHeader::decode(window.read(0, HEADER)?)
        .map_err(|reason| StoreError::damaged(path.clone(), 0, reason))?;
    if !(1..=FORMAT_VERSION).contains(&header.version) {
        return Err(StoreError::FormatVersion {
            file: path,
            found: header.version,
            known: FORMAT_VERSION,
        });
    }
    if header.identity != identity || header.life != life(incarnation, number) {
        let reason = "it belongs to another data folder";
        return Err(StoreError::damaged(path, 0, reason));
    }
    if header.number != number {
        let reason = format!("it is segment {}, by its header", header.number);
        return Err(StoreError::damaged(path, 0, reason));
    }
    Ok((file, header))
}

fn check_chain<D: Disk>(
    disk: &D,
    header: &SegmentHeader,
    chain: &Chain,
    what: &str,
) -> Result<(), StoreError> {
    if (header.first_sequence, header.previous_crc) == (chain.sequence, chain.previous_crc) {
        return Ok(());
    }
    let path = disk.path(&segment_name(header.number));
    let reason = format!(
        "it does not {what}: it expects commit {} (after {:08x}), the journal is at {} ({:08x})",
        header.first_sequence, header.previous_crc, chain.sequence, chain.previous_crc
    );
    Err(StoreError::damaged(path, 0, reason))
}

/// Follows the commits of a segment from where `reading` is, up to the sequence `until`, and says
/// why it stopped.
fn follow<F: DiskFile>(
    window: &mut Window<'_, F>,
    header: &SegmentHeader,
    until: Option<u64>,
    reading: &mut Reading<'_>,
) -> Result<&'static str, StoreError> {
    let file_bytes = window.file_bytes()?;
    if file_bytes > u64::from(u32::MAX) {
        let reason = "it is longer than 4 GiB";
        return Err(StoreError::damaged(window.path.to_owned(), 0, reason));
    }
    reading.pass_base()?;
    while until.is_none_or(|until| reading.chain.sequence < until) {
        let position = reading.chain.position;
        let block = window.block(position, BlockKind::Commit, header.life, file_bytes)?;
        let (commit, payload) = match block {
            Ok(block) => block,
            Err(reason) => return Ok(reason),
        };
        let chain = &reading.chain;
        if commit.sequence != chain.sequence || commit.previous_crc != chain.previous_crc {
            return Ok("a commit that does not follow the one before it");
        }
        take_items(window.path, position, &payload, reading)?;
        reading.chain = Chain {
            sequence: commit.sequence + 1,
            previous_crc: commit.crc,
            position: position + commit.block_bytes(),
            last: Some(position),
        };
        reading.pass_base()?;
    }
    Ok("more commits than there should be")
}

/// Follows the newest segment to its end, cuts what an interrupted write left there, and makes the
/// rest durable. A disk may give the bytes of another place for once: what looks torn is read anew.
fn follow_tail<F: DiskFile>(
    file: &F,
    path: &str,
    header: &SegmentHeader,
    reading: &mut Reading<'_>,
) -> Result<(), StoreError> {
    follow(&mut Window::new(file, path), header, None, reading)?;
    let mut window = Window::new(file, path);
    let stop = follow(&mut window, header, None, reading)?;
    if let Some(known) = reading.lacks() {
        let reason = format!("commit {known} was synced, and is not there ({stop})");
        let position = reading.chain.position;
        return Err(StoreError::damaged(path.to_owned(), position, reason));
    }
    let (bytes, made) = (window.file_bytes()?, header.prefilled_bytes);
    if bytes < made {
        let reason = format!("the file ends here, and was made with {made} bytes: its end is lost");
        return Err(StoreError::damaged(path.to_owned(), bytes, reason));
    }
    let mut dirty = torn_pages(&mut window, header, &reading.chain, stop)?;
    window = Window::new(file, path);
    dirty.extend(torn_pages(&mut window, header, &reading.chain, stop)?);
    settle(&mut window, file, (header, &reading.chain), &dirty)
}

/// Takes a sealed segment as its footer says, without reading more of it; says whether it did. Not
/// if the footer is not sound or not of its end, or if there is more to know than that: items that
/// the base does not know of, or entries that no checkpoint of the base covers.
fn follow_footer<F: DiskFile>(
    file: &F,
    path: &str,
    header: &SegmentHeader,
    next: &SegmentHeader,
    reading: &mut Reading<'_>,
) -> Result<bool, StoreError> {
    if !reading.knows(next.first_sequence.saturating_sub(1)) {
        return Ok(false);
    }
    let mut window = Window::exact(file, path);
    let Some((position, footer, index)) = window.last_footer(header.life)? else {
        return Ok(false);
    };
    let ends = (next.first_sequence, next.previous_crc);
    let is_its_end = match header.rewritten {
        Some(stands_for) => (stands_for.next_sequence, stands_for.last_crc) == ends,
        None => (footer.sequence, footer.previous_crc) == ends,
    };
    if !is_its_end || !reading.covers(&index) {
        return Ok(false);
    }
    for (partition, run) in &index {
        reading.take_run(partition, run, path, position)?;
    }
    reading.chain = Chain {
        sequence: next.first_sequence,
        previous_crc: next.previous_crc,
        position,
        last: None,
    };
    reading.pass_base()?;
    Ok(true)
}

/// Reads a segment that was written anew: blocks that count from 1, and after the last its footer,
/// all of them synced before it had its name. The base must know of all that it stands for.
fn follow_kept<F: DiskFile>(
    window: &mut Window<'_, F>,
    header: &SegmentHeader,
    stands_for: &Rewritten,
    reading: &mut Reading<'_>,
) -> Result<(), StoreError> {
    let path = window.path;
    let last = stands_for.next_sequence.saturating_sub(1);
    if !reading.knows(last) {
        let reason = format!("it stands for commits up to {last}, of which the base knows nothing");
        return Err(StoreError::damaged(path.to_owned(), 0, reason));
    }
    let mut blocks = KeptBlocks::new(header);
    loop {
        let position = blocks.position;
        let damaged = |reason: &str| StoreError::damaged(path.to_owned(), position, reason);
        match blocks.next(window)?.map_err(damaged)? {
            Some(payload) => take_items(path, position, &payload, reading)?,
            None => break,
        }
    }
    reading.chain = Chain {
        sequence: stands_for.next_sequence,
        previous_crc: stands_for.last_crc,
        position: blocks.position,
        last: None,
    };
    reading.pass_base()
}

/// Decodes a sound block, remembers where its entries are, and hands its items on.
fn take_items(
    path: &str,
    position: u64,
    payload: &[u8],
    reading: &mut Reading<'_>,
) -> Result<(), StoreError> {
    let mut offset = 0;
    while offset < payload.len() {
        let stands = position + position_in_block(offset);
        let (item, bytes) = read_item(&payload[offset..])
            .map_err(|reason| StoreError::damaged(path.to_owned(), stands, reason))?;
        offset += bytes;
        if let JournalItem::Entry { partition, entry } = &item {
            let damaged = |reason| StoreError::damaged(path.to_owned(), stands, reason);
            if !reading.continues(partition, entry.index, damaged)? {
                continue;
            }
            reading
                .index
                .push(partition, entry.index, slot(entry, stands));
        }
        reading.take(item, path, position)?;
    }
    Ok(())
}

/// The pages after the last sound commit that are not zero: what an interrupted write left, to be
/// cut. A commit of a higher sequence among them is proof that the one missing here was synced
/// once, for it was written only after that; then this is damage.
fn torn_pages<F: DiskFile>(
    window: &mut Window<'_, F>,
    header: &SegmentHeader,
    chain: &Chain,
    stop: &str,
) -> Result<Vec<u64>, StoreError> {
    let file_bytes = window.file_bytes()?;
    let mut dirty = Vec::new();
    let mut position = chain.position;
    while position < file_bytes {
        let page = window.read(position, PAGE as usize)?;
        if let Ok(later) = BlockHeader::decode(page, BlockKind::Commit, header.life)
            && later.sequence > chain.sequence
        {
            let reason = format!(
                "commit {} cannot be read ({stop}), though commit {} after it can",
                chain.sequence, later.sequence
            );
            return Err(StoreError::damaged(
                window.path.to_owned(),
                chain.position,
                reason,
            ));
        }
        if page.iter().any(|byte| *byte != 0) {
            dirty.push(position);
        }
        position += PAGE;
    }
    Ok(dirty)
}

/// Puts zeros over `dirty`, and makes durable what was read. After `kill -9` the last commit may
/// be in the system's cache and not on the disk; after a failed sync the cache may even call it
/// clean, so that another sync would do nothing. Hence it is written once more, with the same
/// bytes. Earlier ones were synced before it was written.
fn settle<F: DiskFile>(
    window: &mut Window<'_, F>,
    file: &F,
    (header, chain): (&SegmentHeader, &Chain),
    dirty: &[u64],
) -> Result<(), StoreError> {
    let failed = |action, path: &str| {
        let path = path.to_owned();
        move |error| StoreError::disk(action, path, &error)
    };
    if Sabotage::UnsyncedTail.is_on() {
        return Ok(());
    }
    let path = window.path;
    for position in dirty {
        file.write_at(&[0; PAGE as usize], *position)
            .map_err(failed("cannot cut the torn end of", path))?;
    }
    if let Some(last) = chain.last {
        let bytes = (chain.position - last) as usize;
        // Read at one go, so that what is written is what was looked at: it and no other.
        window.read(last, bytes)?;
        let block = window.block(last, BlockKind::Commit, header.life, chain.position)?;
        if !block.is_ok_and(|(commit, _)| commit.crc == chain.previous_crc) {
            let reason = "the newest commit was read, and cannot be read again";
            return Err(StoreError::damaged(path.to_owned(), last, reason));
        }
        let commit = window.read(last, bytes)?;
        file.write_at(commit, last)
            .map_err(failed("cannot write", path))?;
    }
    file.sync().map_err(failed("cannot sync", path))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::layout::BlockWriter;
    use crate::store::{Identity, Journal, Settings, SimDisk};
    use crate::types::Partition;

    const INCARNATION: Incarnation = Incarnation(77);

    fn open(disk: &SimDisk) -> Result<(Journal<SimDisk>, usize), StoreError> {
        let identity = Identity {
            fabric: "f".into(),
            node: "n".into(),
            fresh: INCARNATION,
        };
        let settings = Settings {
            segment_bytes: 128 << 10,
        };
        let mut items = 0;
        let journal = Journal::open(disk.clone(), &identity, settings, &mut |_| {
            items += 1;
            Ok(())
        })?;
        Ok((journal, items))
    }

    fn founding(record: impl Into<Bytes>) -> [JournalItem; 1] {
        [JournalItem::Founding {
            partition: Partition::new(&"c".into(), 0),
            record: record.into(),
        }]
    }

    fn write(disk: &SimDisk, bytes: &[u8], position: u64) {
        let file = disk.open(&segment_name(1)).expect("the segment");
        file.write_at(bytes, position).expect("a write");
        file.sync().expect("a sync");
    }

    /// The start of a commit of this very segment that could only follow synced ones.
    fn forged() -> Vec<u8> {
        let block = BlockWriter::new(Vec::new());
        let (mut bytes, _) = block.finish(BlockKind::Commit, life(INCARNATION, 1), 1_000, 5);
        bytes.truncate(HEADER);
        bytes
    }

    #[test]
    fn a_record_that_looks_like_a_commit_fools_nobody() {
        for shift in 0..HEADER {
            let disk = SimDisk::new(1);
            let (mut journal, _) = open(&disk).expect("a journal");
            journal.write(&founding("first")).expect("a write");
            journal.sync().expect("a sync");
            let mut record = vec![0; shift];
            record.extend(forged().repeat(800));
            journal.write(&founding(record)).expect("a write");
            disk.kill();
            // Of the unsynced commit all but the first page arrived.
            write(&disk, &[0; PAGE as usize], 2 * PAGE);
            let (_, items) = open(&disk).unwrap_or_else(|error| panic!("shift {shift}: {error}"));
            assert_eq!(items, 1, "shift {shift}");
        }
    }

    #[test]
    fn the_forgery_would_be_believed_where_a_commit_may_begin() {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk).expect("a journal");
        journal.write(&founding("first")).expect("a write");
        journal.sync().expect("a sync");
        disk.kill();
        write(&disk, &forged(), 5 * PAGE);
        let error = open(&disk).map(drop).expect_err("a later commit");
        assert!(matches!(error, StoreError::Damaged { position, .. } if position == 2 * PAGE));
    }
}
