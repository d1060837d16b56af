//! What publishes: records in order, numbered, retried, and bounded by bytes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{ClientError, PublishError};
use super::lane::Queued;
use super::link::{Answer, Link, RoomEnd};
use super::options::ProducerOptions;
use super::session::Command;
use crate::types::{Record, RecordId, Time};
use crate::wire::records::encode_record;

/// What a record in flight takes beside its bytes: its place in a queue, its answer and its room.
const RECORD_OVERHEAD: usize = 256;

/// Publishes records in order.
///
/// Records of one key are stored in the order of [`send`](Self::send), whatever is refused, lost
/// or tried again on the way, since a later one is not sent before the outcome of an earlier one is
/// told. Where that is [`PublishError::Unknown`], the earlier one may still be stored after it.
/// Every frame has a number, so what is sent again is stored once. Subjects that no channel of the
/// node's topology captures keep their order each for itself.
///
/// Records that are on their way when it is dropped go on.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::{Level, ProducerOptions};
///
/// let producer = client.producer(ProducerOptions {
///     level: Level::Quorum,
///     window_bytes: 1 << 20,
///     ..ProducerOptions::default()
/// })?;
/// let first = producer.send(&Record::new("orders.eu.new", "a hat")).await?;
/// let second = producer.send(&Record::new("orders.eu.new", "a lamp")).await?;
/// println!("{:?}, {:?}", first.await?, second.await?);
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    link: Arc<Link>,
    lane: u64,
    room: Arc<Semaphore>,
    room_max: u32,
}

/// What becomes of one record: a future that may be awaited, kept for later, or dropped, which
/// takes nothing back.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::ProducerOptions;
///
/// let producer = client.producer(ProducerOptions::default())?;
/// let confirm = producer.send(&Record::new("orders.eu.new", "a hat")).await?;
/// // Meanwhile, something else.
/// let receipt = confirm.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Confirm(oneshot::Receiver<Outcome>);

/// What became of one record.
pub type Outcome = Result<Receipt, PublishError>;

/// A record that went on.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::Receipt;
///
/// let stored = client.publish(&Record::new("orders.eu.new", "a hat")).await?;
/// assert!(matches!(stored, Receipt::Stored { repeated: false, .. }));
/// let signal = client.publish(&Record::new("ticks.eurusd", "1.0843")).await?;
/// assert_eq!(signal, Receipt::Taken);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Synced by a majority of the replicas.
    Stored {
        /// Where it is.
        id: RecordId,
        /// Whether an earlier attempt had stored it.
        repeated: bool,
    },
    /// The node has taken it; confirm level `none` promises no more.
    Taken,
}

/// The other end of a [`Confirm`], and the room that the record takes.
#[derive(Debug)]
pub(super) struct Promise {
    confirm: Option<oneshot::Sender<Outcome>>,
    room: OwnedSemaphorePermit,
}

impl Producer {
    pub(super) fn open(
        link: Arc<Link>,
        options: ProducerOptions,
        producer: [u8; 16],
    ) -> Result<Self, ClientError> {
        let room_max = u32::try_from(options.window_bytes)
            .unwrap_or(u32::MAX)
            .max(1);
        let room = Arc::new(Semaphore::new(room_max as usize));
        let lane = link.next();
        let command = Command::Open {
            lane,
            options,
            producer,
        };
        let end = RoomEnd(Arc::clone(&room));
        link.order(command, Some(Answer::Lane(lane, end)))?;
        Ok(Self {
            link,
            lane,
            room,
            room_max,
        })
    }

    /// Hands a record over, and waits as long as records without an outcome fill the window.
    ///
    /// It is safe to cancel: then the record was not taken. The outcome comes by [`Confirm`].
    ///
    /// # Errors
    /// [`PublishError::NotSent`] if the client is closed.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::Record;
    /// use weft::client::ProducerOptions;
    ///
    /// let producer = client.producer(ProducerOptions::default())?;
    /// let confirm = producer.send(&Record::new("orders.eu.new", "a hat")).await?;
    /// confirm.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&self, record: &Record) -> Result<Confirm, PublishError> {
        let (sender, receiver) = oneshot::channel();
        self.enter(record, Some(sender)).await?;
        Ok(Confirm(receiver))
    }

    /// The same without a way to hear of the outcome.
    pub(super) async fn send_untold(&self, record: &Record) -> Result<(), PublishError> {
        self.enter(record, None).await
    }

    async fn enter(
        &self,
        record: &Record,
        confirm: Option<oneshot::Sender<Outcome>>,
    ) -> Result<(), PublishError> {
        let mut bytes = Vec::with_capacity(64 + record.body.len());
        encode_record(record, &mut bytes);
        let takes = u32::try_from(bytes.len() + RECORD_OVERHEAD).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        // What is larger than the window goes alone.
        let room = room.acquire_many_owned(takes.min(self.room_max)).await;
        let promise = Promise {
            confirm,
            room: room.map_err(|_| closed())?,
        };
        let record = Queued {
            subject: record.subject.clone(),
            bytes: bytes.into(),
            promise,
            // Noted by the thread, which has the clock.
            since: Time(0),
        };
        let lane = self.lane;
        self.link
            .order(Command::Publish { lane, record }, None)
            .map_err(|_| closed())
    }
}

impl Promise {
    /// Tells what became of the record, and makes room for others.
    pub(super) fn keep(self, outcome: Outcome) {
        self.keep_room(outcome, &mut None);
    }

    /// Tells what became of the record. The room of several is made at once, when `rooms` goes, so
    /// that who waits for room is not woken for each.
    pub(super) fn keep_room(self, outcome: Outcome, rooms: &mut Option<OwnedSemaphorePermit>) {
        match rooms {
            Some(rooms) => rooms.merge(self.room),
            None => *rooms = Some(self.room),
        }
        match (self.confirm, outcome) {
            // Whoever dropped the confirm does not want to know.
            (Some(confirm), outcome) => drop(confirm.send(outcome)),
            (None, Err(error)) => tracing::warn!("a record without confirm: {error}"),
            (None, Ok(_)) => {}
        }
    }
}

impl Confirm {
    /// The outcome, if it is known by now. It is given out once, here or by awaiting.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::Record;
    /// use weft::client::ProducerOptions;
    ///
    /// let producer = client.producer(ProducerOptions::default())?;
    /// let mut confirm = producer.send(&Record::new("orders.eu.new", "a hat")).await?;
    /// match confirm.try_now() {
    ///     Some(outcome) => println!("{outcome:?}"),
    ///     None => println!("not known yet"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_now(&mut self) -> Option<Outcome> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(abandoned())),
        }
    }
}

impl Future for Confirm {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = Pin::new(&mut self.0).poll(context);
        outcome.map(|outcome| outcome.unwrap_or_else(|_| Err(abandoned())))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // A client that is gone has closed the lane already.
        let _ = self
            .link
            .order(Command::CloseLane { lane: self.lane }, None);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// Why nothing more is taken.
pub(super) fn closed() -> PublishError {
    PublishError::NotSent("the client is closed".to_owned())
}

/// The client's thread ended in the moment of sending, or by a defect.
fn abandoned() -> PublishError {
    PublishError::Unknown("the client has ended".to_owned())
}
