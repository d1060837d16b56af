//! A subscription as its consumer sees it: one item after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::types::{ChannelName, Record, RecordId, Wall};
use crate::wire::records::RawRecords;

use super::error::ClientError;
use super::handle::Link;
use super::reader::{Batch, ReaderEvent};
use super::session::Command;
use super::thread;

/// How long a subscription may take to stand: several attempts at several nodes.
const STANDING_TIMEOUT: Duration = Duration::from_secs(15);

/// Records of one pattern, in order per partition, without gap or repeat across failovers.
/// Dropping it ends it.
pub struct Subscription {
    pub(super) link: Arc<Link>,
    pub(super) reader: u64,
    events: Receiver<ReaderEvent>,
    items: VecDeque<Item>,
    /// Bytes to return to the window once `items` is empty.
    bytes: u64,
}

/// The next thing of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Delivered),
    /// Records are missing here: signals that were dropped, or stored ones that were no longer
    /// retained when the subscription came to them.
    Gap {
        /// Of this channel; absent where the node was lost, and any may be concerned.
        channel: Option<ChannelName>,
        /// How many, where that is known.
        missed: Option<u64>,
    },
}

/// A record as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its channel.
    pub channel: ChannelName,
    /// Its name for ever; signals have none.
    pub id: Option<RecordId>,
    /// The leader's time; signals have none.
    pub time: Option<Wall>,
    /// The record itself.
    pub record: Record,
    /// The token of the subscription's cursor, if it has one.
    pub token: Option<u64>,
}

impl Subscription {
    pub(super) fn new(link: Arc<Link>, reader: u64, events: Receiver<ReaderEvent>) -> Self {
        Self {
            link,
            reader,
            events,
            items: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Waits for the next item.
    ///
    /// # Errors
    /// When the subscription is over: the node refused or ended it, or the client closed.
    pub fn next_item(&mut self) -> Result<Item, ClientError> {
        loop {
            if let Some(item) = self.take_item() {
                return Ok(item);
            }
            let event = self.events.recv().map_err(|_| ClientError::Closed)?;
            self.handle_event(event)?;
        }
    }

    /// The next item if it comes within `wait`.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if nothing came, which ends nothing; else as `next_item`.
    pub fn next_within(&mut self, wait: Duration) -> Result<Item, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(item) = self.take_item() {
                return Ok(item);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(ClientError::NoAnswer(thread::span(wait)));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ClientError::Closed),
            };
            self.handle_event(event)?;
        }
    }

    pub(super) fn wait_until_standing(&mut self) -> Result<(), ClientError> {
        let no_answer = ClientError::NoAnswer(thread::span(STANDING_TIMEOUT));
        match self.events.recv_timeout(STANDING_TIMEOUT) {
            Ok(event) => self.handle_event(event),
            Err(RecvTimeoutError::Timeout) => Err(no_answer),
            Err(RecvTimeoutError::Disconnected) => Err(ClientError::Closed),
        }
    }

    fn take_item(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if self.items.is_empty() && self.bytes > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            let reader = self.reader;
            // A client that is closed has no window to return to.
            let _ = self.link.order(Command::Taken { reader, bytes }, None);
        }
        item
    }

    fn handle_event(&mut self, event: ReaderEvent) -> Result<(), ClientError> {
        match event {
            ReaderEvent::Standing => Ok(()),
            ReaderEvent::Batch(batch) => self.decode(&batch),
            ReaderEvent::Gap { channel, missed } => {
                self.items.push_back(Item::Gap { channel, missed });
                Ok(())
            }
            ReaderEvent::Ended(error) => Err(error),
        }
    }

    fn decode(&mut self, batch: &Batch) -> Result<(), ClientError> {
        self.bytes += batch.records.len() as u64;
        let raw: Vec<_> = RawRecords::new(&batch.records)
            .collect::<Result<_, _>>()
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        let stamped = !batch.stamps.is_empty();
        let wrong = raw.len() as u64 != batch.count || (stamped && batch.stamps.len() != raw.len());
        if wrong {
            let text = format!(
                "a deliver of {} counts {} records, holds {} and stamps {}",
                batch.channel,
                batch.count,
                raw.len(),
                batch.stamps.len()
            );
            return Err(ClientError::Protocol(text));
        }
        for (position, record) in raw.iter().enumerate().skip(batch.skip) {
            let stamp = batch.stamps.get(position);
            self.items.push_back(Item::Record(Delivered {
                channel: batch.channel.clone(),
                id: stamp.map(|(partition, offset, _)| RecordId {
                    partition: partition.clone(),
                    offset: *offset,
                }),
                time: stamp.map(|(_, _, time)| *time),
                record: record.to_record(),
                token: batch.token,
            }));
        }
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let reader = self.reader;
        // A client that is closed has ended every subscription.
        let _ = self.link.order(Command::Unsubscribe { reader }, None);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
