//! Records of one subject that travel together, encoded one after the other, and who waits for what
//! becomes of each.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::error::PublishError;
use super::producer::Outcome;
use crate::types::{Record, Time};
use crate::wire::records::{encode_before_body, encode_body};

/// Bytes of records in one bundle: many share its cost, it stays within a core's cache, and a frame
/// of signals is made of whole ones.
pub(super) const BUNDLE_BYTES: usize = 64 << 10;

/// Bytes of a bundle that are written at once, as zeros, before records are written over them one
/// by one: whoever had that memory last was another core, and to wait for it line by line takes
/// longer than all else that is done for a record.
const WARM_BYTES: usize = 4 << 10;

/// Where the outcome of one record goes, if anybody wants to know.
pub(super) type Waiter = Option<oneshot::Sender<Outcome>>;

/// Records of one subject, in order.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The subject of all of them.
    pub(super) subject: String,
    /// When the thread took them.
    pub(super) since: Time,
    /// All of them, encoded, subjects included.
    bytes: Vec<u8>,
    /// Up to where the memory of `bytes` is this core's.
    warm: usize,
    /// How long each is.
    lens: Vec<u32>,
    /// Who waits for each; nobody for those beyond the last.
    waiters: Vec<Waiter>,
    /// What a record without key and headers has before its body, once two came.
    plain: Vec<u8>,
    room: Room,
}

/// How much there is in a bundle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) records: usize,
}

/// A part of a producer's window; it is free again once this is dropped.
#[derive(Debug)]
struct Room {
    window: Arc<Semaphore>,
    bytes: usize,
}

impl Bundle {
    /// Of a producer with this window. `like` is what it may come to.
    pub(super) fn new(subject: &str, window: &Arc<Semaphore>, like: Size) -> Self {
        Self {
            subject: subject.to_owned(),
            since: Time(0),
            bytes: Vec::with_capacity(like.bytes),
            warm: 0,
            lens: Vec::with_capacity(like.records),
            waiters: Vec::new(),
            plain: Vec::new(),
            room: Room {
                window: Arc::clone(window),
                bytes: 0,
            },
        }
    }

    /// Whether a record with this subject, of about so many bytes, may join.
    #[inline]
    pub(super) fn takes(&self, subject: &str, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BUNDLE_BYTES && self.subject == subject
    }

    /// How much there is.
    pub(super) fn size(&self) -> Size {
        Size {
            bytes: self.bytes.len(),
            records: self.lens.len(),
        }
    }

    /// Adds a record, which took `room` bytes of the window.
    #[inline]
    pub(super) fn push(&mut self, record: &Record, room: usize, waiter: Waiter) {
        let before = self.bytes.len();
        self.warm(room);
        let plain = record.key.is_none() && record.headers.is_empty();
        if plain && !self.plain.is_empty() {
            self.bytes.extend_from_slice(&self.plain);
        } else {
            encode_before_body(record, &mut self.bytes);
            if plain && before > 0 {
                self.plain = self.bytes[before..].to_vec();
            }
        }
        encode_body(&record.body, &mut self.bytes);
        let len = self.bytes.len() - before;
        if waiter.is_some() {
            self.waiters.resize_with(self.lens.len(), || None);
            self.waiters.push(waiter);
        }
        // Longer ones than that no node takes.
        self.lens.push(u32::try_from(len).unwrap_or(u32::MAX));
        self.room.bytes += room;
    }

    /// Makes memory for the next records this core's, of what there is already, before one of about
    /// `next` bytes is written.
    #[inline]
    fn warm(&mut self, next: usize) {
        let len = self.bytes.len();
        if len + next > self.warm && next <= WARM_BYTES {
            self.warm = (len + next + WARM_BYTES).min(self.bytes.capacity());
            self.bytes.resize(self.warm.max(len), 0);
            self.bytes.truncate(len);
        }
    }

    /// How many records there are.
    pub(super) fn count(&self) -> usize {
        self.lens.len()
    }

    /// All of them, encoded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How long the first one is.
    pub(super) fn first_len(&self) -> usize {
        self.lens.first().map_or(0, |len| *len as usize)
    }

    /// Where the first one is that has more than `bytes_max` bytes.
    pub(super) fn first_longer(&self, bytes_max: usize) -> Option<usize> {
        let longer = |len: &u32| *len as usize > bytes_max;
        self.lens.iter().position(longer)
    }

    /// How many of the first ones have no more than `bytes_max` bytes together.
    pub(super) fn fitting(&self, bytes_max: usize) -> usize {
        if self.bytes.len() <= bytes_max {
            return self.count();
        }
        let mut bytes = 0;
        let fits = |len: &&u32| {
            bytes += **len as usize;
            bytes <= bytes_max
        };
        self.lens.iter().take_while(fits).count()
    }

    /// Takes the first `count` records off.
    pub(super) fn split_to(&mut self, count: usize) -> Self {
        let room = self.room.bytes * count / self.count().max(1);
        self.room.bytes -= room;
        let lens: Vec<u32> = self.lens.drain(..count).collect();
        let bytes: usize = lens.iter().map(|len| *len as usize).sum();
        let waiters = count.min(self.waiters.len());
        Self {
            subject: self.subject.clone(),
            since: self.since,
            bytes: self.bytes.drain(..bytes).collect(),
            warm: 0,
            lens,
            waiters: self.waiters.drain(..waiters).collect(),
            plain: Vec::new(),
            room: Room {
                window: Arc::clone(&self.room.window),
                bytes: room,
            },
        }
    }

    /// Tells all who wait the same. Whoever waits for the first finds all the others told as well,
    /// and is woken once.
    pub(super) fn tell_all(self, outcome: &Outcome) {
        let mut untold = self.count();
        for waiter in self.waiters.into_iter().rev().flatten() {
            // Whoever dropped the confirm does not want to know.
            drop(waiter.send(outcome.clone()));
            untold -= 1;
        }
        if untold > 0 {
            warn(untold, outcome);
        }
    }

    /// The same where each has its own outcome; `outcomes` are those of the records from the last
    /// to the first.
    pub(super) fn tell_each(mut self, outcomes: &mut impl Iterator<Item = Outcome>) {
        self.waiters.resize_with(self.lens.len(), || None);
        for (waiter, outcome) in self.waiters.into_iter().rev().zip(outcomes) {
            match waiter {
                Some(waiter) => drop(waiter.send(outcome)),
                None => warn(1, &outcome),
            }
        }
    }

    /// The client has no more to say of them.
    pub(super) fn refuse(self, error: PublishError) {
        self.tell_all(&Err(error));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.window.add_permits(self.bytes);
    }
}

fn warn(records: usize, outcome: &Outcome) {
    if let Err(error) = outcome {
        tracing::warn!("of {records} records without confirm: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::producer::Receipt;
    use crate::wire::RawRecords;
    use crate::wire::records::encode_record;

    fn bundle(bodies: &[&'static str], window: &Arc<Semaphore>) -> Bundle {
        let mut bundle = Bundle::new("a.b", window, Size::default());
        for body in bodies {
            window.try_acquire_many(10).expect("room").forget();
            bundle.push(&Record::new("a.b", *body), 10, None);
        }
        bundle
    }

    fn bodies(bundle: &Bundle) -> Vec<String> {
        let body = |raw: crate::wire::RawRecord<'_>| String::from_utf8_lossy(raw.body).into();
        let raw = RawRecords::new(bundle.bytes());
        raw.map(|raw| body(raw.expect("a record"))).collect()
    }

    #[test]
    fn a_bundle_is_parted_between_records_and_each_part_gives_its_own_room_back() {
        let window = Arc::new(Semaphore::new(30));
        let mut rest = bundle(&["one", "three", "你好 👋"], &window);
        assert!(!rest.takes("a.c", 1), "it is of one subject");
        let first = rest.first_len();
        assert_eq!(rest.fitting(first), 1);
        assert_eq!(rest.fitting(first - 1), 0);
        assert_eq!(rest.fitting(rest.bytes().len() - 1), 2);
        assert_eq!(rest.fitting(rest.bytes().len()), 3);
        let head = rest.split_to(2);
        assert_eq!(
            (bodies(&head), head.count()),
            (vec!["one".into(), "three".into()], 2)
        );
        assert_eq!((bodies(&rest), rest.count()), (vec!["你好 👋".into()], 1));
        assert_eq!(window.available_permits(), 0);
        drop(rest);
        assert_eq!(window.available_permits(), 10);
        head.tell_all(&Ok(Receipt::Taken));
        assert_eq!(window.available_permits(), 30);
    }

    #[test]
    fn records_of_all_kinds_are_encoded_as_each_alone_would_be() {
        let window = Arc::new(Semaphore::new(0));
        let plain = |body: &'static str| Record::new("a.b", body);
        let records = [
            plain("1"),
            plain("二"),
            plain("3").with_key("k"),
            plain("4").with_header("h", "v"),
            plain("5"),
            Record::new("a.b", vec![6; 70_000]),
        ];
        // Of memory that is there already, some, and none.
        for bytes in [100_000, 50, 0] {
            let mut bundle = Bundle::new("a.b", &window, Size { bytes, records: 6 });
            let mut alone = Vec::new();
            for record in &records {
                bundle.push(record, record.body.len(), None);
                encode_record(record, &mut alone);
            }
            assert_eq!(bundle.bytes(), alone);
        }
    }

    #[test]
    fn each_is_told_its_own_outcome_from_the_last_on() {
        let window = Arc::new(Semaphore::new(0));
        let mut all = Bundle::new("a.b", &window, Size::default());
        let (sender, mut first) = oneshot::channel();
        all.push(&Record::new("a.b", "1"), 0, Some(sender));
        all.push(&Record::new("a.b", "2"), 0, None);
        let (sender, mut third) = oneshot::channel();
        all.push(&Record::new("a.b", "3"), 0, Some(sender));
        let no = |why: &str| Err(PublishError::NotSent(why.to_owned()));
        all.tell_each(&mut [no("three"), no("two"), no("one")].into_iter());
        assert_eq!(first.try_recv(), Ok(no("one")));
        assert_eq!(third.try_recv(), Ok(no("three")));
    }
}
