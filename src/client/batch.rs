//! The records of one `deliver`, decoded one by one as the consumer takes them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::error::ClientError;
use super::subscription::{Delivered, Item};
use crate::types::{ChannelName, Partition, RecordId, Wall};
use crate::wire::client::Stamped;
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
            if let Err(error) = self.take() {
                return Some(Err(error));
            }
        }
        match self.is_over() {
            true => None,
            false => Some(self.take()),
        }
    }

    /// An item is made where it stays: it is large, and there are many.
    #[inline]
    fn take(&mut self) -> Result<Item, ClientError> {
        if self.records.is_empty() || self.count == 0 {
            let bytes = self.records.len();
            return Err(self.wrong(format!("more, and holds {bytes} bytes of them")));
        }
        let raw = match RawRecord::first(&self.records) {
            Ok(raw) => raw,
            Err(problem) => {
                let error = WireError::BadRecord { record: 0, problem };
                return Err(ClientError::Protocol(error.to_string()));
            }
        };
        let record = raw.to_record_of(&self.records);
        let len = raw.bytes.len();
        self.records.advance(len);
        self.count -= 1;
        let (id, time) = self.stamp().unzip();
        Ok(Item::Record(Delivered {
            channel: self.channel.clone(),
            id,
            time,
            record,
            token: self.token,
        }))
    }

    /// The stamp of the next record.
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
