//! The bytes of a replicated log entry: one loop's batches of one partition, or a command to it.
//!
//! An entry of records is a head (one MessagePack map) and the encoded records of its batches, one
//! after the other. The leader stamps the head when it proposes; nobody changes it afterwards.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::scan::object_len;
use crate::types::{Command, Offset, Wall};

/// What an entry says about the records after it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EntryHead {
    /// The offset of the first record.
    pub first_offset: Offset,
    /// The leader's time for all records, milliseconds since 1970.
    pub time: Wall,
    /// The batches in order.
    pub batches: Vec<BatchHead>,
}

/// Records that travelled and were accepted as one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchHead {
    /// How many records, at least one.
    pub count: u32,
    /// How many bytes they take.
    pub bytes: u32,
    /// CRC-32 of these bytes.
    pub crc: u32,
    /// Who numbered the batch, if anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<ProducerStamp>,
}

/// A producer's number for a batch, and what tells a retry from a reuse of the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerStamp {
    /// The producer.
    pub producer: Bytes,
    /// Its number for the batch.
    pub sequence: u64,
    /// The first 16 bytes of the SHA-256 of the batch's records.
    pub digest: Bytes,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryContent {
    /// A new leader's first entry, of no bytes.
    Blank,
    /// Batches of records, and what the head says of them.
    Records(EntryHead),
    /// A command.
    Command(CommandHead),
}

/// An entry that holds a command: a map with the one key `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandHead {
    /// The leader's time, milliseconds since 1970.
    pub time: Wall,
    /// What to do.
    pub does: Command,
}

#[derive(Serialize, Deserialize)]
struct CommandEntry {
    command: CommandHead,
}

/// How an entry that holds a command begins: a map of one, whose key is `command`. The head of
/// records has more keys.
const COMMAND_START: &[u8] = b"\x81\xa7command";

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The head is not what the format says.
    #[error("the entry's head cannot be read: {0}")]
    Head(String),
    /// The head's sums do not fit the bytes after it.
    #[error("the entry's head tells of {told} bytes of records, {there} are there")]
    Length {
        /// The sum of the batches.
        told: u64,
        /// The bytes after the head.
        there: u64,
    },
    /// A batch without records.
    #[error("the entry holds an empty batch")]
    EmptyBatch,
    /// Offsets that do not fit 64 bits.
    #[error("the entry's offsets pass the largest there is")]
    Overflow,
}

impl EntryContent {
    /// Reads an entry; checks the sums of records, not their checksums.
    pub fn decode(data: &Bytes) -> Result<Self, EntryError> {
        if data.is_empty() {
            return Ok(Self::Blank);
        }
        if Self::is_command(data) {
            return CommandHead::decode(data).map(Self::Command);
        }
        EntryHead::decode(data).map(|(head, _)| Self::Records(head))
    }

    /// Whether an entry holds a command, by how it begins.
    pub fn is_command(data: &[u8]) -> bool {
        data.starts_with(COMMAND_START)
    }
}

impl CommandHead {
    /// The whole entry.
    pub fn encode(self) -> Bytes {
        let entry = CommandEntry { command: self };
        // Encoding a struct of integers and names into memory has no way to fail.
        let bytes = rmp_serde::to_vec_named(&entry).expect("a command always encodes");
        bytes.into()
    }

    fn decode(data: &Bytes) -> Result<Self, EntryError> {
        let (entry, rest): (CommandEntry, _) = read_front(data)?;
        let there = rest.len() as u64;
        match there {
            0 => Ok(entry.command),
            _ => Err(EntryError::Length { told: 0, there }),
        }
    }
}

impl EntryHead {
    /// How many records the entry holds.
    pub fn count(&self) -> u32 {
        self.batches.iter().map(|batch| batch.count).sum()
    }

    /// The head and `records` (each batch's, in order) as one.
    pub fn encode(&self, records: &[Bytes]) -> Bytes {
        // Encoding a struct of integers, byte strings and lists into memory has no way to fail.
        let head = rmp_serde::to_vec_named(self).expect("an entry head always encodes");
        let total = head.len() + records.iter().map(Bytes::len).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(total);
        bytes.put_slice(&head);
        for batch in records {
            bytes.put_slice(batch);
        }
        bytes.freeze()
    }

    /// Splits an entry into its head and the bytes of all its records; checks the sums, not the
    /// checksums.
    pub fn decode(data: &Bytes) -> Result<(Self, Bytes), EntryError> {
        let (head, records): (Self, _) = read_front(data)?;
        let told = head
            .batches
            .iter()
            .map(|batch| u64::from(batch.bytes))
            .sum();
        let there = records.len() as u64;
        if told != there {
            return Err(EntryError::Length { told, there });
        }
        if head.batches.iter().any(|batch| batch.count == 0) {
            return Err(EntryError::EmptyBatch);
        }
        let count: u64 = head
            .batches
            .iter()
            .map(|batch| u64::from(batch.count))
            .sum();
        if u32::try_from(count).is_err() || head.first_offset.checked_add(count).is_none() {
            return Err(EntryError::Overflow);
        }
        Ok((head, records))
    }
}

/// The object in front, and the bytes after it.
fn read_front<T: DeserializeOwned>(data: &Bytes) -> Result<(T, Bytes), EntryError> {
    let len = object_len(data).map_err(|error| EntryError::Head(error.to_string()))?;
    let front =
        rmp_serde::from_slice(&data[..len]).map_err(|error| EntryError::Head(error.to_string()))?;
    Ok((front, data.slice(len..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_as_it_was_written() {
        let records = [
            Bytes::from_static("订单 🚀".as_bytes()),
            Bytes::from_static(b"x"),
        ];
        let batch = |bytes: &Bytes, stamp| BatchHead {
            count: 1,
            bytes: bytes.len() as u32,
            crc: crc32fast::hash(bytes),
            stamp,
        };
        let stamp = ProducerStamp {
            producer: Bytes::from_static(b"p"),
            sequence: 7,
            digest: Bytes::from_static(&[1; 16]),
        };
        let head = EntryHead {
            first_offset: 41,
            time: Wall(1_700_000_000_000),
            batches: vec![batch(&records[0], Some(stamp)), batch(&records[1], None)],
        };
        let data = head.encode(&records);
        let (read, rest) = EntryHead::decode(&data).expect("an entry");
        assert_eq!(read, head);
        assert_eq!(rest, [records[0].as_ref(), records[1].as_ref()].concat());
        for end in 0..data.len() {
            assert!(
                EntryHead::decode(&data.slice(..end)).is_err(),
                "cut at {end}"
            );
        }
    }
}
