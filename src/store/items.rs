//! The bytes of the items that a payload holds. Pure; `FORMAT.md` draws them.

use bytes::Bytes;

use super::layout::{BlockWriter, Fields};
use crate::types::{ChannelName, Checkpoint, EntryKind, JournalItem, LogEntry, Partition, Wall};

/// Bytes of an item before its channel name.
pub(super) const ITEM_HEADER: usize = 16;
/// Bytes of an entry between the channel name and its data.
pub(super) const ENTRY_HEADER: usize = 40;
/// Bytes of a checkpoint between the channel name and its state.
const CHECKPOINT_HEADER: usize = 64;
/// Bytes of a hard state after the channel name.
const HARD_STATE: usize = 24;

/// Appends `item`. The channel's name has at most 255 bytes, the data at most `u32::MAX`:
/// the journal checked both.
pub(super) fn put_item(block: &mut BlockWriter, item: &JournalItem) {
    let name = item.partition().channel.as_str();
    let mut fixed = Vec::with_capacity(ENTRY_HEADER);
    let nothing = Bytes::new();
    let (kind, data) = match item {
        JournalItem::Founding { record, .. } => (1, record),
        JournalItem::HardState {
            term, vote, commit, ..
        } => {
            for number in [term, vote, commit] {
                fixed.extend_from_slice(&number.to_le_bytes());
            }
            (2, &nothing)
        }
        JournalItem::Entry { entry, .. } => {
            for number in [entry.term, entry.index, entry.first_offset, entry.time.0] {
                fixed.extend_from_slice(&number.to_le_bytes());
            }
            fixed.extend_from_slice(&entry.count.to_le_bytes());
            fixed.extend_from_slice(&[entry.kind as u8, 0, 0, 0]);
            (3, &entry.data)
        }
        JournalItem::Checkpoint { checkpoint, .. } | JournalItem::Snapshot { checkpoint, .. } => {
            let Checkpoint {
                index,
                term,
                next_offset,
                time,
                keep_from,
                before_term,
                before_offset,
                before_time,
                state,
            } = checkpoint;
            for number in [index, term, next_offset, &time.0, keep_from, before_term] {
                fixed.extend_from_slice(&number.to_le_bytes());
            }
            for number in [before_offset, &before_time.0] {
                fixed.extend_from_slice(&number.to_le_bytes());
            }
            let begins = matches!(item, JournalItem::Snapshot { .. });
            (if begins { 5 } else { 4 }, state)
        }
    };
    let mut head = [0; ITEM_HEADER];
    head[0] = kind;
    head[1] = name.len() as u8;
    head[4..8].copy_from_slice(&item.partition().number.to_le_bytes());
    head[8..12].copy_from_slice(&((fixed.len() + data.len()) as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    for part in [&head[..12], name.as_bytes(), &fixed, data] {
        crc.update(part);
    }
    head[12..].copy_from_slice(&crc.finalize().to_le_bytes());
    for part in [&head[..], name.as_bytes(), &fixed, data] {
        block.put(part);
    }
}

/// Bytes of the item in a payload.
pub(super) fn item_payload_bytes(item: &JournalItem) -> u64 {
    let body = match item {
        JournalItem::Founding { record, .. } => record.len(),
        JournalItem::HardState { .. } => HARD_STATE,
        JournalItem::Entry { entry, .. } => ENTRY_HEADER + entry.data.len(),
        JournalItem::Checkpoint { checkpoint, .. } | JournalItem::Snapshot { checkpoint, .. } => {
            CHECKPOINT_HEADER + checkpoint.state.len()
        }
    };
    (ITEM_HEADER + item.partition().channel.as_str().len() + body) as u64
}

/// Reads the item at the start of `payload` and says how many bytes it took, or what is wrong.
pub(super) fn read_item(payload: &[u8]) -> Result<(JournalItem, usize), &'static str> {
    read_item_keeping(payload, Bytes::copy_from_slice)
}

/// The same. What the item holds of the payload is what `keep` makes of that part.
pub(super) fn read_item_keeping(
    payload: &[u8],
    keep: impl Fn(&[u8]) -> Bytes,
) -> Result<(JournalItem, usize), &'static str> {
    let mut fields = Fields(payload);
    let head = fields.take(ITEM_HEADER)?;
    let mut head = Fields(head);
    let kind = head.u8()?;
    let name_bytes = usize::from(head.u8()?);
    head.take(2)?;
    let number = head.u32()?;
    let body_bytes = head.u32()? as usize;
    let crc = head.u32()?;
    let name = fields.take(name_bytes)?;
    let body = fields.take(body_bytes)?;
    let bytes = ITEM_HEADER + name_bytes + body_bytes;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..12]);
    hasher.update(&payload[ITEM_HEADER..bytes]);
    if hasher.finalize() != crc {
        return Err("the checksum of the item does not match");
    }
    let name = std::str::from_utf8(name).map_err(|_| "a channel name is not UTF-8")?;
    let partition = Partition::new(&ChannelName::from(name), number);
    let mut body = Fields(body);
    let item = match kind {
        1 => JournalItem::Founding {
            partition,
            record: keep(body.0),
        },
        2 if body_bytes != HARD_STATE => return Err("a hard state is of another length"),
        2 => JournalItem::HardState {
            partition,
            term: body.u64()?,
            vote: body.u64()?,
            commit: body.u64()?,
        },
        3 => JournalItem::Entry {
            partition,
            entry: read_entry(body, keep)?,
        },
        4 => JournalItem::Checkpoint {
            partition,
            checkpoint: read_checkpoint(body, keep)?,
        },
        5 => JournalItem::Snapshot {
            partition,
            checkpoint: read_checkpoint(body, keep)?,
        },
        _ => return Err("the item is of an unknown kind"),
    };
    Ok((item, bytes))
}

fn read_checkpoint(
    mut body: Fields<'_>,
    keep: impl Fn(&[u8]) -> Bytes,
) -> Result<Checkpoint, &'static str> {
    Ok(Checkpoint {
        index: body.u64()?,
        term: body.u64()?,
        next_offset: body.u64()?,
        time: Wall(body.u64()?),
        keep_from: body.u64()?,
        before_term: body.u64()?,
        before_offset: body.u64()?,
        before_time: Wall(body.u64()?),
        state: keep(body.0),
    })
}

fn read_entry(
    mut body: Fields<'_>,
    keep: impl Fn(&[u8]) -> Bytes,
) -> Result<LogEntry, &'static str> {
    let (term, index) = (body.u64()?, body.u64()?);
    let (first_offset, time) = (body.u64()?, Wall(body.u64()?));
    let count = body.u32()?;
    let kind = match body.u8()? {
        0 => EntryKind::Blank,
        1 => EntryKind::Records,
        2 => EntryKind::Command,
        _ => return Err("the log entry is of an unknown kind"),
    };
    body.take(3)?;
    Ok(LogEntry {
        term,
        index,
        kind,
        first_offset,
        count,
        time,
        data: keep(body.0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_and_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(read_item(&bytes).is_err());
        }

        #[test]
        fn a_sound_checksum_over_nonsense_does_not_panic(
            kind in 0_u8..7,
            name_bytes in 0_u8..9,
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut item = vec![kind, name_bytes, 0, 0, 1, 0, 0, 0];
            let length = body.len().saturating_sub(usize::from(name_bytes)) as u32;
            item.extend_from_slice(&length.to_le_bytes());
            let mut crc = crc32fast::Hasher::new();
            crc.update(&item);
            crc.update(&body);
            item.extend_from_slice(&crc.finalize().to_le_bytes());
            item.extend_from_slice(&body);
            if let Ok((item, bytes)) = read_item(&item) {
                prop_assert_eq!(bytes as u64, item_payload_bytes(&item));
            }
        }
    }
}
