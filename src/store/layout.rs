//! The bytes of the journal: segment headers and blocks. Pure; `FORMAT.md` draws them.
//!
//! All numbers are little-endian. A block (a commit or a footer) begins on a page boundary, and
//! every further page of it begins with a mark of eight bytes. So the first bytes of every page
//! are the journal's own: whatever a record holds, it can never stand where a block would begin.

use crate::types::Incarnation;

/// The version that this program writes. It reads this and every earlier one.
pub const FORMAT_VERSION: u32 = 2;

/// The unit in which disks and file systems tear a write.
pub(super) const PAGE: u64 = 4096;
/// Bytes of a segment header that mean something, and of a block header.
pub(super) const HEADER: usize = 64;
/// Bytes of the mark on every page of a block but the first.
pub(super) const MARK: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"weft.seg";
const PAGE_MARK: &[u8; 4] = b"wpag";

/// What stands on the first page of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    /// CRC-32 of the identity: a segment of another folder is told from our own.
    pub(super) identity: u32,
    pub(super) number: u64,
    pub(super) life: u64,
    /// The sequence of its first commit, so that a missing end of the segment before shows.
    pub(super) first_sequence: u64,
    /// The header CRC of the commit before that, 0 if there is none.
    pub(super) previous_crc: u32,
    /// Set if it holds what was kept of commits, and not the commits themselves.
    pub(super) rewritten: Option<Rewritten>,
    /// How long its file was made, durably: a shorter one lost its end. 0 if it grows by commits.
    pub(super) prefilled_bytes: u64,
}

/// What a segment that was written anew stands for: the commits from its first sequence on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// Of how many segments, its own number and those after it.
    pub(super) segments: u32,
    /// The sequence of the first commit after them.
    pub(super) next_sequence: u64,
    /// The header CRC of the last of them.
    pub(super) last_crc: u32,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Commit,
    /// What was kept of commits.
    Kept,
    Footer,
    Base,
}

/// What stands at the start of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) kind: BlockKind,
    /// Bytes after this header, marks included, padding not.
    pub(super) length: u32,
    pub(super) life: u64,
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
    pub(super) payload_crc: u32,
    /// CRC-32 of this header; the next commit repeats it.
    pub(super) crc: u32,
}

/// The life number of a segment: no two segments of any folder are likely to share one.
/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, OOPSLA 2014).
pub(super) fn life(incarnation: Incarnation, number: u64) -> u64 {
    let mut z = incarnation
        .0
        .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SegmentHeader {
    /// The whole first page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        page[..8].copy_from_slice(SEGMENT_MAGIC);
        page[8..12].copy_from_slice(&self.version.to_le_bytes());
        page[12..16].copy_from_slice(&self.identity.to_le_bytes());
        page[16..24].copy_from_slice(&self.number.to_le_bytes());
        page[24..32].copy_from_slice(&self.life.to_le_bytes());
        page[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        page[40..44].copy_from_slice(&self.previous_crc.to_le_bytes());
        if let Some(rewritten) = &self.rewritten {
            page[44..48].copy_from_slice(&rewritten.segments.to_le_bytes());
            page[48..56].copy_from_slice(&rewritten.next_sequence.to_le_bytes());
            page[56..60].copy_from_slice(&rewritten.last_crc.to_le_bytes());
        } else {
            page[48..56].copy_from_slice(&self.prefilled_bytes.to_le_bytes());
        }
        let crc = crc32fast::hash(&page[..60]);
        page[60..64].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads it, or says what is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Fields(bytes);
        if fields.take(8)? != SEGMENT_MAGIC {
            return Err("it does not begin as a segment does");
        }
        let mut header = Self {
            version: fields.u32()?,
            identity: fields.u32()?,
            number: fields.u64()?,
            life: fields.u64()?,
            first_sequence: fields.u64()?,
            previous_crc: fields.u32()?,
            rewritten: None,
            prefilled_bytes: 0,
        };
        let rewritten = Rewritten {
            segments: fields.u32()?,
            next_sequence: fields.u64()?,
            last_crc: fields.u32()?,
        };
        match rewritten.segments {
            0 => header.prefilled_bytes = rewritten.next_sequence,
            _ => header.rewritten = Some(rewritten),
        }
        if fields.u32()? != crc32fast::hash(&bytes[..60]) {
            return Err("the checksum of the segment header does not match");
        }
        Ok(header)
    }

    /// The number of the segment after it.
    pub(super) fn next_number(&self) -> u64 {
        let segments = self.rewritten.map_or(1, |rewritten| rewritten.segments);
        self.number.saturating_add(u64::from(segments))
    }

    /// What its blocks are, the footer apart.
    pub(super) fn kind(&self) -> BlockKind {
        match self.rewritten {
            Some(_) => BlockKind::Kept,
            None => BlockKind::Commit,
        }
    }
}

impl BlockHeader {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(self.kind.magic());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.life.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a block of this life, or says why there is none.
    pub(super) fn decode(bytes: &[u8], kind: BlockKind, life: u64) -> Result<Self, &'static str> {
        let mut fields = Fields(bytes);
        if fields.take(4)? != kind.magic() {
            return Err("no commit begins here");
        }
        let mut header = Self {
            kind,
            length: fields.u32()?,
            life: fields.u64()?,
            sequence: fields.u64()?,
            previous_crc: fields.u32()?,
            payload_crc: fields.u32()?,
            crc: 0,
        };
        fields.take(28)?;
        header.crc = fields.u32()?;
        if header.crc != crc32fast::hash(&bytes[..60]) {
            return Err("the checksum of the commit header does not match");
        }
        if header.life != life {
            return Err("the commit belongs to another life of the segment");
        }
        Ok(header)
    }

    /// Bytes of the block on disk, in whole pages.
    pub(super) fn block_bytes(&self) -> u64 {
        (HEADER as u64 + u64::from(self.length)).next_multiple_of(PAGE)
    }
}

impl BlockKind {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Self::Commit => b"wcom",
            Self::Kept => b"wkep",
            Self::Footer => b"wftr",
            Self::Base => b"wbas",
        }
    }
}

/// Builds one block: payload in, marks set between.
#[derive(Default)]
pub(super) struct BlockWriter {
    bytes: Vec<u8>,
}

impl BlockWriter {
    /// Starts a block in `buffer`, whose contents are dropped.
    pub(super) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER, 0);
        Self { bytes: buffer }
    }

    /// Whether it holds no payload yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= HEADER
    }

    /// Where the next byte will stand, from the start of the block.
    pub(super) fn position(&mut self) -> usize {
        if self.bytes.len().is_multiple_of(PAGE as usize) {
            let page = (self.bytes.len() / PAGE as usize) as u32;
            self.bytes.extend_from_slice(PAGE_MARK);
            self.bytes.extend_from_slice(&page.to_le_bytes());
        }
        self.bytes.len()
    }

    /// Appends payload.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PAGE as usize - self.position() % PAGE as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Bytes of the block on disk as it stands.
    pub(super) fn block_bytes(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(PAGE)
    }

    /// Puts the header in front and zeros behind; gives the block in whole pages and the CRC of
    /// its header.
    pub(super) fn finish(
        mut self,
        kind: BlockKind,
        life: u64,
        sequence: u64,
        previous_crc: u32,
    ) -> (Vec<u8>, u32) {
        let header = BlockHeader {
            kind,
            length: (self.bytes.len() - HEADER) as u32,
            life,
            sequence,
            previous_crc,
            payload_crc: crc32fast::hash(&self.bytes[HEADER..]),
            crc: 0,
        }
        .encode();
        self.bytes[..HEADER].copy_from_slice(&header);
        let bytes = self.bytes.len().next_multiple_of(PAGE as usize);
        self.bytes.resize(bytes, 0);
        let mut crc = [0; 4];
        crc.copy_from_slice(&header[60..]);
        (self.bytes, u32::from_le_bytes(crc))
    }
}

/// Which page of its block this is, as its mark says; 0 for the first.
pub(super) fn page_in_block(page: &[u8]) -> u64 {
    let mut fields = Fields(page);
    match fields.take(PAGE_MARK.len()) {
        Ok(mark) if mark == PAGE_MARK => fields.u32().map_or(0, u64::from),
        _ => 0,
    }
}

/// The payload without marks. `bytes` were read from `position` (of the segment, or of a block),
/// where payload stands.
pub(super) fn without_marks(mut bytes: &[u8], position: u64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.len());
    let mut room = (PAGE - position % PAGE) as usize;
    while bytes.len() > room {
        payload.extend_from_slice(&bytes[..room]);
        bytes = &bytes[bytes.len().min(room + MARK)..];
        room = PAGE as usize - MARK;
    }
    payload.extend_from_slice(bytes);
    payload
}

/// How many bytes on disk `payload` bytes take that begin at `position`.
pub(super) fn with_marks(payload: u64, position: u64) -> u64 {
    let room = PAGE - position % PAGE;
    let beyond = payload.saturating_sub(room);
    payload + beyond.div_ceil(PAGE - MARK as u64) * MARK as u64
}

/// Where in its block the payload byte `offset` stands.
pub(super) fn position_in_block(offset: usize) -> u64 {
    let first = PAGE as usize - HEADER;
    match offset.checked_sub(first) {
        None => (HEADER + offset) as u64,
        Some(beyond) => {
            let room = PAGE as usize - MARK;
            PAGE * (1 + (beyond / room) as u64) + (MARK + beyond % room) as u64
        }
    }
}

/// Reads numbers off the front of bytes that may be anything.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        let (now, later) = self
            .0
            .split_at_checked(bytes)
            .ok_or("it ends before it should")?;
        self.0 = later;
        Ok(now)
    }

    pub(super) fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, &'static str> {
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(number))
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        let mut number = [0; 8];
        number.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::index::read_footer;

    proptest! {
        #[test]
        fn what_a_block_takes_it_gives_back(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6_000), 0..6),
        ) {
            let mut block = BlockWriter::new(Vec::new());
            let mut offset = 0;
            let mut pieces = Vec::new();
            for part in &parts {
                let start = block.position();
                prop_assert_eq!(position_in_block(offset), start as u64);
                block.put(part);
                offset += part.len();
                pieces.push((start, part));
            }
            let (bytes, crc) = block.finish(BlockKind::Commit, 3, 9, 4);
            let header = BlockHeader::decode(&bytes, BlockKind::Commit, 3).expect("a header");
            prop_assert_eq!((header.sequence, header.previous_crc, header.crc), (9, 4, crc));
            prop_assert_eq!(header.block_bytes(), bytes.len() as u64);
            let payload = &bytes[HEADER..HEADER + header.length as usize];
            prop_assert_eq!(crc32fast::hash(payload), header.payload_crc);
            prop_assert!(without_marks(payload, HEADER as u64).starts_with(&parts.concat()));
            for (start, part) in pieces {
                let end = start + with_marks(part.len() as u64, start as u64) as usize;
                prop_assert_eq!(&without_marks(&bytes[start..end], start as u64), part);
            }
            for page in bytes.chunks(PAGE as usize).skip(1) {
                prop_assert_eq!(&page[..4], PAGE_MARK);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_and_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
            prop_assert!(BlockHeader::decode(&bytes, BlockKind::Commit, 1).is_err());
            let _ = read_footer(&bytes);
        }
    }
}
