//! What publishes: records in order, numbered, retried, and bounded by bytes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::bundle::Waiter;
use super::error::{ClientError, PublishError};
use super::intake::{Intake, IntakeEnd, closed};
use super::link::{Answer, Link};
use super::options::ProducerOptions;
use super::session::Command;
use crate::types::{Record, RecordId};

/// Publishes records in order.
///
/// Records of one key are stored in the order of [`send`](Self::send), whatever is refused, lost
/// or tried again on the way, since a later one is not sent before the outcome of an earlier one is
/// told. Where that is [`PublishError::Unknown`], the earlier one may still be stored after it.
/// Signals follow one another without waiting, in the same order; what is lost leaves a gap.
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
    intake: Arc<Intake>,
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
///
/// ```
/// use weft::client::{Outcome, Receipt};
///
/// fn told(outcome: &Outcome) -> String {
///     match outcome {
///         Ok(Receipt::Stored { id, .. }) => format!("stored at {id}"),
///         Ok(Receipt::Taken) => "taken".to_owned(),
///         Err(error) => error.to_string(),
///     }
/// }
/// assert_eq!(told(&Ok(Receipt::Taken)), "taken");
/// ```
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

impl Producer {
    pub(super) fn open(
        link: Arc<Link>,
        options: ProducerOptions,
        producer: [u8; 16],
    ) -> Result<Self, ClientError> {
        let intake = Arc::new(Intake::new(options.window_bytes));
        let lane = link.next();
        let command = Command::Open {
            lane,
            options,
            producer,
        };
        let end = IntakeEnd(Arc::clone(&intake));
        link.order(command, Some(Answer::Lane(lane, end)))?;
        Ok(Self { link, lane, intake })
    }

    /// Hands a record over, and waits as long as records without an outcome fill the window.
    ///
    /// It is safe to cancel: then the record was not taken. The outcome comes by [`Confirm`].
    ///
    /// # Errors
    /// [`PublishError::NotSent`] if the client is closed; [`PublishError::Refused`] if no node
    /// would take the record, whatever its channel, so that none of those beside it suffers.
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

    async fn enter(&self, record: &Record, waiter: Waiter) -> Result<(), PublishError> {
        if self.intake.give(record, waiter).await? {
            let (lane, intake) = (self.lane, Arc::clone(&self.intake));
            let command = Command::Publish { lane, intake };
            self.link.order(command, None).map_err(|_| closed())?;
        }
        Ok(())
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

/// The client's thread ended in the moment of sending, or by a defect.
fn abandoned() -> PublishError {
    PublishError::Unknown("the client has ended".to_owned())
}
