//! What a subscription takes of the entries that a leader sent: the records that its pattern
//! selects, as many as its window allows, where they lie.

use std::ops::Range;

use bytes::Bytes;

use super::feed::Windows;
use crate::channel::Ranges;
use crate::types::{Offset, Pattern, Wall};
use crate::wire::RawRecord;
use crate::wire::client::Stamped;
use crate::wire::entry::EntryHead;
use crate::wire::peer::Fetched;

/// Records picked from an answer for one subscription.
#[derive(Default)]
pub(super) struct Picked {
    pub(super) runs: Vec<Stamped>,
    /// Their bytes, in pieces of the entries they lie in.
    pub(super) pieces: Vec<Bytes>,
    pub(super) bytes: u64,
    /// Offset and bytes of each record.
    pub(super) sizes: Vec<(Offset, u64)>,
    pub(super) next: Offset,
    /// The bytes of the next record, if it did not fit the window.
    pub(super) starved: Option<u64>,
}

/// What a feed picks: what the pattern selects and is not done with.
pub(super) type Selection<'a> = (&'a Pattern, Option<&'a Ranges>);

/// The records of `fetched` at `from` and later that are wanted, as many as the windows admit.
pub(super) fn pick(
    wanted: Selection<'_>,
    windows: &Windows,
    from: Option<Offset>,
    fetched: &Fetched,
) -> Result<Picked, String> {
    let mut picked = Picked {
        next: from.unwrap_or(fetched.next),
        ..Picked::default()
    };
    for (position, data) in fetched.entries.iter().enumerate() {
        let (head, records) = EntryHead::decode(data).map_err(|error| error.to_string())?;
        if position == 0 && from.is_none() {
            picked.next = head.first_offset;
        }
        picked.take(wanted, windows, &head, &records)?;
        if picked.starved.is_some() {
            break;
        }
    }
    Ok(picked)
}

impl Picked {
    /// Takes from one entry.
    fn take(
        &mut self,
        (pattern, done_with): Selection<'_>,
        windows: &Windows,
        head: &EntryHead,
        records: &Bytes,
    ) -> Result<(), String> {
        let mut piece = 0..0;
        let mut end = 0;
        let mut last: Option<(RawRecord<'_>, bool)> = None;
        for offset in head.first_offset.. {
            let rest = &records[end..];
            if rest.is_empty() {
                break;
            }
            let alike = last.and_then(|(last, matches)| Some((last.next_alike(rest)?, matches)));
            let (record, matches) = match alike {
                Some(alike) => alike,
                None => read(rest, pattern).map_err(|why| format!("at offset {offset}: {why}"))?,
            };
            last = Some((record, matches));
            let own = end..end + record.bytes.len();
            end = own.end;
            if offset < self.next {
                continue;
            }
            if matches && done_with.is_none_or(|done| !done.covers(offset)) {
                let bytes = own.len() as u64;
                if !windows.admit(bytes, self.bytes) {
                    self.starved = Some(bytes);
                    break;
                }
                self.note(offset, bytes, head.time);
                if piece.end != own.start {
                    self.keep(records, piece);
                    piece = own.start..own.start;
                }
                piece.end = own.end;
            }
            self.next = offset + 1;
        }
        self.keep(records, piece);
        Ok(())
    }

    /// Counts a record.
    fn note(&mut self, offset: Offset, bytes: u64, time: Wall) {
        self.bytes += bytes;
        self.sizes.push((offset, bytes));
        match self.runs.last_mut() {
            Some(run) if run.offset + run.count == offset && run.time == time => run.count += 1,
            _ => self.runs.push(Stamped {
                offset,
                count: 1,
                time,
            }),
        }
    }

    fn keep(&mut self, records: &Bytes, piece: Range<usize>) {
        if !piece.is_empty() {
            self.pieces.push(records.slice(piece));
        }
    }
}

/// The record that `bytes` start with, and whether the pattern selects it.
fn read<'a>(bytes: &'a [u8], pattern: &Pattern) -> Result<(RawRecord<'a>, bool), String> {
    let record = RawRecord::first(bytes).map_err(|problem| problem.to_string())?;
    let matches = |subject| pattern.matches(subject);
    Ok((record, record.subject.is_some_and(matches)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::window::Window;
    use crate::types::Record;
    use crate::wire::entry::BatchHead;
    use crate::wire::records::encode_record;

    #[test]
    fn a_record_that_cannot_be_read_is_named_by_its_offset() {
        let mut records = Vec::new();
        encode_record(&Record::new("orders.eu", "一顶帽子"), &mut records);
        // The next one tells of more bytes than there are.
        records.extend_from_slice(&[0x7f; 3]);
        let batch = BatchHead {
            count: 2,
            bytes: records.len() as u32,
            ..BatchHead::default()
        };
        let head = EntryHead {
            first_offset: 40,
            batches: vec![batch],
            ..EntryHead::default()
        };
        let fetched = Fetched {
            request: 1,
            entries: vec![head.encode(&[records.into()])],
            next: 42,
            start: None,
            refusal: None,
        };
        let window = Window::new(1_000, 1_000);
        let windows = Windows {
            own: window,
            session: window,
        };
        let pattern = Pattern::parse("orders.#").expect("a pattern");
        let picked = pick((&pattern, None), &windows, Some(40), &fetched);
        let why = picked.map(|picked| picked.next).expect_err("a bad record");
        assert!(why.starts_with("at offset 41: "), "{why}");
    }
}
