//! A subscription as its consumer sees it: one item after the other.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::types::{ChannelName, Record, RecordId, Wall};

use super::batch::Batch;
use super::error::ClientError;
use super::link::{Answer, Link};
use super::options::Wanted;
use super::reader::ReaderEvent;
use super::session::Command;

/// Records of one pattern, in order per partition, without gap or repeat across failovers.
/// Dropping it ends it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::{Item, Start, Wanted};
///
/// let mut orders = client.subscribe(Wanted::new("orders.#", Start::End)).await?;
/// client.publish(&Record::new("orders.eu.new", "a hat")).await?;
/// while let Some(item) = orders.next().await {
///     match item? {
///         Item::Record(delivered) => {
///             println!("{:?}: {:?}", delivered.id, delivered.record);
///             break;
///         }
///         Item::Gap { missed, .. } => println!("{missed:?} records are missing here"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscription {
    pub(super) link: Arc<Link>,
    pub(super) reader: u64,
    events: mpsc::UnboundedReceiver<ReaderEvent>,
    /// What the consumer is taking, and its bytes, which return to the window when all is taken.
    batch: Option<(Batch, u64)>,
}

/// The next thing of a subscription.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::Item;
///
/// let mut ticks = client.subscribe("ticks.#").await?;
/// client.publish(&Record::new("ticks.eurusd", "1.0843")).await?;
/// match ticks.next().await.transpose()? {
///     Some(Item::Record(tick)) => assert_eq!(&*tick.record.subject, "ticks.eurusd"),
///     other => println!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::{Item, Start, Wanted};
///
/// client.publish(&Record::new("orders.eu.new", "a hat")).await?;
/// let mut orders = client.subscribe(Wanted::new("orders.#", Start::Start)).await?;
/// if let Some(Item::Record(order)) = orders.next().await.transpose()? {
///     assert_eq!(order.channel.as_str(), "orders");
///     println!("{} of {:?}", order.id.expect("it is stored"), order.time);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its channel.
    pub channel: ChannelName,
    /// Its name for ever; signals have none.
    pub id: Option<RecordId>,
    /// The leader's time; signals have none.
    pub time: Option<Wall>,
    /// The record itself. Its key and body share the memory of the frame it came in, with up to
    /// 256 KiB of records: copy what is kept for long.
    pub record: Record,
    /// The token of the subscription's cursor, if it has one.
    pub token: Option<u64>,
}

impl Subscription {
    /// Waits for the next item; none is left once the client is closed. Safe to cancel.
    ///
    /// # Errors
    /// The last item says why, when the node refused or ended the subscription.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use std::time::Duration;
    ///
    /// let mut ticks = client.subscribe("ticks.#").await?;
    /// // Nothing came, which ends nothing.
    /// let tick = tokio::time::timeout(Duration::from_millis(10), ticks.next()).await;
    /// assert!(tick.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Item, ClientError>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    /// The next item if it is here already.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// let mut ticks = client.subscribe("ticks.#").await?;
    /// assert!(ticks.try_next().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_next(&mut self) -> Option<Result<Item, ClientError>> {
        // Not looked into: an item is large, and there are many.
        if self.batch.is_some() {
            return self.take_record();
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.poll_item(&mut context) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    /// Waits for the node's answer.
    pub(super) async fn open(link: Arc<Link>, wanted: Wanted) -> Result<Self, ClientError> {
        let reader = link.next();
        let (sender, events) = mpsc::unbounded_channel();
        let command = Command::Subscribe { reader, wanted };
        link.order(command, Some(Answer::Reader(reader, sender)))?;
        let mut subscription = Self {
            link,
            reader,
            events,
            batch: None,
        };
        // The first event says that it stands, or why it does not.
        match subscription.events.recv().await {
            Some(ReaderEvent::Ended(error)) => Err(error),
            Some(_) => Ok(subscription),
            None => Err(ClientError::Closed),
        }
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Item, ClientError>>> {
        loop {
            if self.batch.is_some() {
                return Poll::Ready(self.take_record());
            }
            let Some(event) = ready!(self.events.poll_recv(context)) else {
                return Poll::Ready(None);
            };
            match event {
                ReaderEvent::Standing => {}
                ReaderEvent::Gap { channel, missed } => {
                    return Poll::Ready(Some(Ok(Item::Gap { channel, missed })));
                }
                ReaderEvent::Batch(batch) => match batch.check() {
                    Ok(()) => {
                        let bytes = batch.records.len() as u64;
                        self.batch = Some((batch, bytes));
                    }
                    Err(error) => return Poll::Ready(Some(Err(self.end(error)))),
                },
                ReaderEvent::Ended(error) => return Poll::Ready(Some(Err(self.end(error)))),
            }
        }
    }

    #[inline]
    fn take_record(&mut self) -> Option<Result<Item, ClientError>> {
        let (batch, bytes) = self.batch.as_mut()?;
        let record = batch.next();
        if batch.is_over() {
            let bytes = *bytes;
            self.return_bytes(bytes);
        } else if matches!(record, Some(Err(_))) {
            self.stop();
        }
        record
    }

    /// All of the batch is taken.
    fn return_bytes(&mut self, bytes: u64) {
        let reader = self.reader;
        self.batch = None;
        // A client that is closed has no window to return to.
        let _ = self.link.order(Command::Taken { reader, bytes }, None);
    }

    /// Nothing comes after this.
    fn end(&mut self, error: ClientError) -> ClientError {
        self.stop();
        error
    }

    /// Gives up what has come and what may come.
    fn stop(&mut self) {
        self.batch = None;
        self.events.close();
        while self.events.try_recv().is_ok() {}
    }
}

impl Stream for Subscription {
    type Item = Result<Item, ClientError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Item, ClientError>>> {
        self.poll_item(context)
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
