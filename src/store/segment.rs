//! Segment files: their names, how one comes to be, how bytes and commits are read from one.

use std::io;

use super::error::CANNOT_READ;
use super::index::{SegmentIndex, read_footer};
use super::layout::{
    BlockHeader, BlockKind, HEADER, PAGE, SegmentHeader, page_in_block, without_marks,
};
use super::{Disk, DiskFile, StoreError};

/// A segment in the making; a crash leaves it behind, the next start removes it.
pub(super) const SEGMENT_TEMPORARY: &str = "segment.tmp";
/// Bytes read at once where everything is read.
const CHUNK: usize = 1 << 20;

/// The newest segment, to which commits are appended.
#[derive(Debug)]
pub(super) struct Tail<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) life: u64,
    /// Whether its space was given before its commits came; a sync into one that grows costs twice.
    pub(super) prefilled: bool,
    /// Where the next commit goes.
    pub(super) position: u64,
}

/// The file name of segment `number`.
pub(super) fn segment_name(number: u64) -> String {
    format!("journal-{number:016x}.seg")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".seg")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Makes a segment that holds its header and no commit, durable under its name. `prefilled` is a
/// durable file of zeros to make it of.
pub(super) fn make_segment<D: Disk>(
    disk: &D,
    header: &SegmentHeader,
    prefilled: Option<&str>,
) -> Result<Tail<D::File>, StoreError> {
    let name = segment_name(header.number);
    let from = prefilled.unwrap_or(SEGMENT_TEMPORARY);
    let failed = |action, name: &str| {
        let path = disk.path(name);
        move |error: io::Error| StoreError::disk(action, path, &error)
    };
    let file = match prefilled {
        Some(from) => disk.open(from),
        None => disk.create(from),
    }
    .map_err(failed("cannot make", from))?;
    file.write_at(&header.encode(), 0)
        .map_err(failed("cannot write", from))?;
    file.sync().map_err(failed("cannot sync", from))?;
    disk.rename(from, &name)
        .map_err(failed("cannot rename a segment to", &name))?;
    disk.sync_dir().map_err(failed("cannot sync", ""))?;
    Ok(Tail {
        name,
        file,
        life: header.life,
        prefilled: prefilled.is_some(),
        position: PAGE,
    })
}

/// Reads a file piece by piece through a buffer. Beyond its end it holds zeros, as a prefilled
/// segment would.
pub(super) struct Window<'a, F> {
    file: &'a F,
    pub(super) path: &'a str,
    /// Bytes to read at least.
    ahead: usize,
    /// Whether to ask the disk, whatever the system remembers.
    fresh: bool,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a, F: DiskFile> Window<'a, F> {
    /// For reading all of a file: far ahead.
    pub(super) fn new(file: &'a F, path: &'a str) -> Self {
        Self {
            ahead: CHUNK,
            ..Self::exact(file, path)
        }
    }

    /// The same, from the disk and not from what the system remembers of it.
    pub(super) fn fresh(file: &'a F, path: &'a str) -> Self {
        Self {
            fresh: true,
            ..Self::new(file, path)
        }
    }

    /// For reading here and there: no more than is asked for.
    pub(super) fn exact(file: &'a F, path: &'a str) -> Self {
        Self {
            file,
            path,
            ahead: 0,
            fresh: false,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The file's length.
    pub(super) fn file_bytes(&self) -> Result<u64, StoreError> {
        self.file
            .bytes()
            .map_err(|error| StoreError::disk("cannot measure", self.path.to_owned(), &error))
    }

    /// `bytes` bytes from `position`.
    pub(super) fn read(&mut self, position: u64, bytes: usize) -> Result<&[u8], StoreError> {
        let end = position + bytes as u64;
        if position < self.start || end > self.start + self.buffer.len() as u64 {
            self.start = position;
            self.buffer.clear();
            self.buffer.resize(bytes.max(self.ahead), 0);
            if self.fresh {
                self.file.forget(position, self.buffer.len());
            }
            let filled = self
                .file
                .read_at(&mut self.buffer, position)
                .map_err(|error| StoreError::disk(CANNOT_READ, self.path.to_owned(), &error))?;
            self.buffer[filled..].fill(0);
        }
        let from = (position - self.start) as usize;
        Ok(&self.buffer[from..from + bytes])
    }

    /// The footer at the end of a file, before which there are blocks and after which nothing but
    /// zeros: where it begins, and what it says. `None` if there is none that is sound.
    pub(super) fn last_footer(
        &mut self,
        life: u64,
    ) -> Result<Option<(u64, BlockHeader, SegmentIndex)>, StoreError> {
        let file_bytes = self.file_bytes()?;
        let mut page = file_bytes / PAGE;
        let in_block = loop {
            page = page.saturating_sub(1);
            if page == 0 {
                return Ok(None);
            }
            let bytes = self.read(page * PAGE, PAGE as usize)?;
            if bytes.iter().any(|byte| *byte != 0) {
                break page_in_block(bytes);
            }
        };
        let position = page.checked_sub(in_block).map(|page| page * PAGE);
        let Some(position) = position.filter(|position| *position > 0) else {
            return Ok(None);
        };
        let block = self.block(position, BlockKind::Footer, life, file_bytes)?;
        let footer = block.and_then(|(header, payload)| Ok((header, read_footer(&payload)?)));
        Ok(footer.ok().map(|(header, index)| (position, header, index)))
    }

    /// The block at `position` of a file of `file_bytes`: its header and its payload. The inner
    /// error says why there is none.
    pub(super) fn block(
        &mut self,
        position: u64,
        kind: BlockKind,
        life: u64,
        file_bytes: u64,
    ) -> Result<Result<(BlockHeader, Vec<u8>), &'static str>, StoreError> {
        let header = match BlockHeader::decode(self.read(position, HEADER)?, kind, life) {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        let start = position + HEADER as u64;
        if u64::from(header.length) > file_bytes.saturating_sub(start) {
            return Ok(Err("the commit is longer than the file"));
        }
        let bytes = self.read(start, header.length as usize)?;
        if crc32fast::hash(bytes) != header.payload_crc {
            return Ok(Err("the checksum of the commit does not match"));
        }
        Ok(Ok((header, without_marks(bytes, start))))
    }
}

/// Goes through the blocks of a segment that was written anew.
pub(super) struct KeptBlocks {
    life: u64,
    /// Of the block to come.
    sequence: u64,
    previous_crc: u32,
    pub(super) position: u64,
}

impl KeptBlocks {
    /// From the first on.
    pub(super) fn new(header: &SegmentHeader) -> Self {
        Self {
            life: header.life,
            sequence: 1,
            previous_crc: 0,
            position: PAGE,
        }
    }

    /// The payload of the next; `None` where its footer says that there is none. The inner error
    /// says what is damaged: all was synced before the segment had its name.
    pub(super) fn next<F: DiskFile>(
        &mut self,
        window: &mut Window<'_, F>,
    ) -> Result<Result<Option<Vec<u8>>, &'static str>, StoreError> {
        let file_bytes = window.file_bytes()?;
        let (position, life) = (self.position, self.life);
        let mut kind = BlockKind::Kept;
        let mut block = window.block(position, kind, life, file_bytes)?;
        if let Err(reason) = block {
            kind = BlockKind::Footer;
            block = window.block(position, kind, life, file_bytes)?;
            block = block.map_err(|_| reason);
        }
        let (header, payload) = match block {
            Ok(block) => block,
            Err(reason) => return Ok(Err(reason)),
        };
        if (header.sequence, header.previous_crc) != (self.sequence, self.previous_crc) {
            return Ok(Err("a block that does not follow the one before it"));
        }
        if kind == BlockKind::Footer {
            return Ok(Ok(None));
        }
        self.sequence += 1;
        self.previous_crc = header.crc;
        self.position += header.block_bytes();
        Ok(Ok(Some(payload)))
    }
}
