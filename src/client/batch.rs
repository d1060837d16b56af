//! The records of one `deliver`, decoded one by one as the consumer takes them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::error::ClientError;
use super::subscription::{Delivered, Item};
use crate::types::{ChannelName, Partition, Record, RecordId, Wall};
use crate::wire::client::Stamped;
use crate::wire::records::body_after;
use crate::wire::{RawRecord, WireError};

/// Records on their way to the consumer. What was taken of them is no longer in it.
#[derive(Debug)]
pub(super) struct Batch {
    /// Their channel.
    pub(super) channel: ChannelName,
    /// Where they are stored, if they are.
    pub(super) partition: Option<Partition>,
    /// Their offsets and times, if they are stored.
    pub(super) runs: VecDeque<Stamped>,
    /// How many of the first ones the consumer has already.
    pub(super) skip: u64,
    /// The token of the cursor they were delivered for.
    pub(super) token: Option<u64>,
    /// Their bytes.
    pub(super) records: Bytes,
    /// How many they are, as their header counts.
    pub(super) count: u64,
    /// What the next ones are likely to begin with.
    pub(super) like: Option<Box<Like>>,
}

/// What records beside each other often have in common: all before their bodies.
#[derive(Debug)]
pub(super) struct Like {
    before: Bytes,
    /// One that has it, without its body.
    record: Record,
}

impl Batch {
    /// Holds what the header says of stored records to what it counts.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let counts = self.runs.iter().map(|run| run.count);
        let stamped = counts.fold(0, u64::saturating_add);
        match self.partition.is_some() && stamped != self.count {
            true => Err(self.wrong(format!("and stamps {stamped}"))),
            false => Ok(()),
        }
    }

    /// Whether all is taken.
    pub(super) fn is_over(&self) -> bool {
        self.records.is_empty() && self.count == 0
    }

    /// The next record that the consumer does not have; none at the end.
    ///
    /// # Errors
    /// `Protocol` if it cannot be read, or there are more or fewer than the header counts.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Result<Item, ClientError>> {
        while self.skip > 0 && !self.is_over() {
            self.skip -= 1;
            if let Some(Err(error)) = self.take() {
                return Some(Err(error));
            }
        }
        self.take()
    }

    /// An item is made where it stays: it is large, and there are many.
    #[inline]
    fn take(&mut self) -> Option<Result<Item, ClientError>> {
        if self.records.is_empty() || self.count == 0 {
            let bytes = self.records.len();
            let wrong = || self.wrong(format!("more, and holds {bytes} bytes of them"));
            return (!self.is_over()).then(|| Err(wrong()));
        }
        if let Some(like) = &self.like
            && let Some((body, len)) = body_after(&self.records, &like.before)
        {
            let record = Record {
                subject: like.record.subject.clone(),
                key: like.record.key.clone(),
                headers: like.record.headers.clone(),
                body: self.records.slice_ref(body),
            };
            return Some(Ok(Item::Record(self.deliver(record, len))));
        }
        Some(self.read())
    }

    /// The next record, read as a whole.
    fn read(&mut self) -> Result<Item, ClientError> {
        let raw = RawRecord::first(&self.records).map_err(|problem| {
            let error = WireError::BadRecord { record: 0, problem };
            ClientError::Protocol(error.to_string())
        })?;
        let record = raw.to_record_of(&self.records);
        let len = raw.bytes.len();
        let before = raw.before_body();
        let before = before.filter(|before| self.records[len..].starts_with(before));
        let like = before.map(|before| Like {
            before: self.records.slice_ref(before),
            record: Record {
                body: Bytes::new(),
                ..record.clone()
            },
        });
        self.like = like.map(Box::new);
        Ok(Item::Record(self.deliver(record, len)))
    }

    /// The next record, which has `len` bytes, as it goes to the consumer.
    #[inline]
    fn deliver(&mut self, record: Record, len: usize) -> Delivered {
        self.records.advance(len);
        self.count -= 1;
        let (id, time) = self.stamp().unzip();
        Delivered {
            channel: self.channel.clone(),
            id,
            time,
            record,
            token: self.token,
        }
    }

    /// The stamp of the next record.
    #[inline]
    fn stamp(&mut self) -> Option<(RecordId, Wall)> {
        let partition = self.partition.as_ref()?;
        while self.runs.front()?.count == 0 {
            self.runs.pop_front();
        }
        let run = self.runs.front_mut()?;
        let id = RecordId {
            partition: partition.clone(),
            offset: run.offset,
        };
        run.offset += 1;
        run.count -= 1;
        Some((id, run.time))
    }

    fn wrong(&self, what: String) -> ClientError {
        let (channel, count) = (&self.channel, self.count);
        ClientError::Protocol(format!(
            "a deliver of {channel} counts {count} records {what}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Record;
    use crate::wire::records::encode_record;

    /// Records "0", "1" and so on.
    fn batch(records: usize, count: u64, runs: &[(u64, u64, u64)]) -> Batch {
        let mut bytes = Vec::new();
        for number in 0..records {
            encode_record(&Record::new("orders.eu", number.to_string()), &mut bytes);
        }
        let runs = runs.iter().map(|(offset, count, time)| Stamped {
            offset: *offset,
            count: *count,
            time: Wall(*time),
        });
        Batch {
            channel: "orders".into(),
            partition: Some(Partition::new(&"orders".into(), 3)),
            runs: runs.collect(),
            skip: 0,
            token: Some(7),
            records: Bytes::from(bytes),
            count,
            like: None,
        }
    }

    fn told(item: Option<Result<Item, ClientError>>) -> (String, u64, u64) {
        match item {
            Some(Ok(Item::Record(one))) => {
                let body = String::from_utf8_lossy(&one.record.body).into_owned();
                let offset = one.id.expect("it is stored").offset;
                (body, offset, one.time.expect("it is stored").0)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_are_stamped_and_those_that_the_consumer_has_are_passed_over() {
        let mut batch = batch(4, 4, &[(5, 2, 100), (8, 0, 0), (9, 2, 200)]);
        batch.skip = 1;
        batch.check().expect("its stamps are as many as it counts");
        assert_eq!(told(batch.next()), ("1".to_owned(), 6, 100));
        assert_eq!(told(batch.next()), ("2".to_owned(), 9, 200));
        assert!(!batch.is_over());
        assert_eq!(told(batch.next()), ("3".to_owned(), 10, 200));
        assert!(batch.is_over());
        assert_eq!(batch.next(), None);
    }

    #[test]
    fn records_that_begin_alike_keep_all_of_their_own() {
        let record = |key: Option<&'static str>, header: &str, body: &'static str| {
            let record = Record::new("orders.eu", body).with_header("h", header);
            match key {
                Some(key) => record.with_key(key),
                None => record,
            }
        };
        let records = [
            record(Some("k"), "1", "一"),
            record(Some("k"), "1", "two"),
            record(Some("k"), "1", ""),
            record(Some("l"), "1", "four"),
            record(None, "1", "five"),
            record(None, "2", "six"),
            Record::new("orders.us", "seven"),
            Record::new("orders.us", vec![7; 300]),
        ];
        let mut bytes = Vec::new();
        records
            .iter()
            .for_each(|one| encode_record(one, &mut bytes));
        let mut batch = batch(0, 8, &[(0, 8, 100)]);
        batch.records = Bytes::from(bytes);
        for record in records {
            match batch.next() {
                Some(Ok(Item::Record(one))) => assert_eq!(one.record, record),
                other => panic!("{other:?}"),
            }
        }
        assert!(batch.is_over());
    }

    #[test]
    fn one_that_counts_stamps_or_holds_something_else_is_an_error() {
        let stamps = batch(2, 2, &[(5, 3, 100)]).check();
        assert!(
            matches!(stamps, Err(ClientError::Protocol(_))),
            "{stamps:?}"
        );
        for count in [1, 3] {
            let mut batch = batch(2, count, &[(5, count, 100)]);
            batch.check().expect("its stamps are as many as it counts");
            for number in 0..count.min(2) {
                assert_eq!(told(batch.next()).0, number.to_string());
            }
            assert!(!batch.is_over());
            let error = batch.next();
            assert!(
                matches!(error, Some(Err(ClientError::Protocol(_)))),
                "{error:?}"
            );
        }
        let mut broken = batch(1, 1, &[(5, 1, 100)]);
        broken.records = broken.records.slice(..broken.records.len() - 1);
        let error = broken.next();
        assert!(
            matches!(error, Some(Err(ClientError::Protocol(_)))),
            "{error:?}"
        );
    }
}
