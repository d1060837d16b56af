//! The client as an application holds it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;

use super::bell::Bell;
use super::error::{ClientError, PublishError};
use super::link::{Answer, Link};
use super::options::{ConnectOptions, Level, ProducerOptions, Wanted};
use super::producer::{Producer, Receipt};
use super::session::{Command, Question};
use super::subscription::Subscription;
use super::thread;
use crate::types::Record;
use crate::wire::audit::{Audit, Audited};
use crate::wire::client::{Reply, Welcome};

/// A session with a fabric, for any number of tasks: a clone is the same session.
///
/// It talks to one node and goes on at another when that one is lost. Its futures need no runtime
/// of their own: a thread does the work.
///
/// Once the last clone, producer and subscription is dropped, the session ends in the background,
/// after what was published. [`close`](Self::close) waits for that.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::{Item, Start, Wanted};
///
/// let record = Record::new("orders.eu.new", "two shirts").with_key("customer-42");
/// client.publish(&record).await?;
///
/// let mut orders = client.subscribe(Wanted::new("orders.eu.*", Start::Start)).await?;
/// if let Some(Item::Record(delivered)) = orders.next().await.transpose()? {
///     assert_eq!(delivered.record, record);
/// }
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(super) link: Arc<Link>,
    own: Arc<Own>,
}

/// What one client sent and received, of every kind of frame.
///
/// ```
/// use weft::client::Traffic;
///
/// let (before, after) = (Traffic::default(), Traffic { frames_sent: 2, frames_received: 3 });
/// assert_eq!(after.frames_sent - before.frames_sent, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames sent: publishes, credit, acks, questions.
    pub frames_sent: u64,
    /// Frames received: deliveries, confirms, answers, pings.
    pub frames_received: u64,
}

/// What all clones share.
struct Own {
    welcome: Welcome,
    confirmed: Producer,
    unconfirmed: Producer,
}

impl Client {
    /// Connects to the first node that answers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] after `options.timeout`, with the likely cause per endpoint.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// # let endpoints = format!("ipc://{}/clients", _folder.path().display());
    /// use weft::Client;
    ///
    /// // As in "tcp://10.0.0.1:7101,tcp://10.0.0.2:7101".
    /// let client = Client::connect(endpoints.as_str()).await?;
    /// assert_eq!(client.welcome().node, "a");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(options: impl Into<ConnectOptions>) -> Result<Self, ClientError> {
        let mut options = options.into();
        if options.addresses.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        if options.spread {
            let first = usize::from(u16::from_be_bytes(random()?));
            let count = options.addresses.len();
            options.addresses.rotate_left(first % count);
        }
        let within = options.timeout;
        let unusable = |error: std::io::Error| ClientError::BadEndpoint {
            endpoint: "the client's own thread".to_owned(),
            reason: error.to_string(),
        };
        let bell = Arc::new(Bell::new().map_err(unusable)?);
        let (orders, receiver) = mpsc::channel();
        let (ready, connected) = oneshot::channel();
        let link = Arc::new(Link::new(orders, Arc::clone(&bell)));
        let ends = thread::Ends {
            orders: receiver,
            bell,
            traffic: Arc::clone(&link.traffic),
            ready: Some(ready),
        };
        thread::spawn(options, ends).map_err(unusable)?;
        let welcome = match connected.await.unwrap_or_else(|_| Err(Vec::new())) {
            Ok(welcome) => *welcome,
            Err(failures) => return Err(ClientError::Unreachable { within, failures }),
        };
        let unconfirmed = ProducerOptions {
            level: Level::None,
            ..ProducerOptions::default()
        };
        let own = Arc::new(Own {
            welcome,
            confirmed: Producer::open(link.clone(), ProducerOptions::default(), random()?)?,
            unconfirmed: Producer::open(link.clone(), unconfirmed, random()?)?,
        });
        Ok(Self { link, own })
    }

    /// What the first node said of itself and the fabric.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// let channels = client.welcome().channels.iter();
    /// let names: Vec<&str> = channels.map(|channel| channel.name.as_str()).collect();
    /// assert_eq!(names, ["orders", "ticks"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn welcome(&self) -> &Welcome {
        &self.own.welcome
    }

    /// Publishes one record and waits for its confirm: that a majority of the replicas has synced
    /// it, or, of a signal, that the node has taken it. What several tasks publish meanwhile
    /// travels together.
    ///
    /// Cancelled, the record may be published or not.
    ///
    /// # Errors
    /// [`PublishError`] says whether the record may be stored all the same.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::Record;
    /// use weft::client::Receipt;
    ///
    /// let record = Record::new("orders.eu.new", "two shirts");
    /// if let Receipt::Stored { id, .. } = client.publish(&record).await? {
    ///     println!("stored for ever as {id}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish(&self, record: &Record) -> Result<Receipt, PublishError> {
        self.own.confirmed.send(record).await?.await
    }

    /// Publishes one record without a confirm: it may be lost, and a refusal is only logged. Waits
    /// only for room, where those before it have not left yet.
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
    ///
    /// client.publish_unconfirmed(&Record::new("ticks.eurusd", "1.0843")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_unconfirmed(&self, record: &Record) -> Result<(), PublishError> {
        self.own.unconfirmed.send_untold(record).await
    }

    /// A producer of its own, numbered apart from all others.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
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
    /// let mut confirms = Vec::new();
    /// for number in 0..100 {
    ///     let record = Record::new("orders.eu.new", number.to_string()).with_key("customer-42");
    ///     confirms.push(producer.send(&record).await?);
    /// }
    /// for confirm in confirms {
    ///     confirm.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn producer(&self, options: ProducerOptions) -> Result<Producer, ClientError> {
        Producer::open(self.link.clone(), options, random()?)
    }

    /// The frames that went between this client and its nodes so far.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// // A `hello` and its `welcome` at least.
    /// assert!(client.traffic().frames_sent > 0);
    /// assert!(client.traffic().frames_received > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn traffic(&self) -> Traffic {
        let counts = &self.link.traffic;
        Traffic {
            frames_sent: counts.sent.load(Ordering::Relaxed),
            frames_received: counts.received.load(Ordering::Relaxed),
        }
    }

    /// Subscribes, and waits until the node has answered.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason; [`ClientError::NoAnswer`] if no node took
    /// the subscription in time.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::client::{Start, Wanted};
    ///
    /// // What comes from now on.
    /// let ticks = client.subscribe("ticks.#").await?;
    /// // History first, at a cursor that outlives its readers.
    /// let billing = Wanted {
    ///     cursor: Some("billing".to_owned()),
    ///     ..Wanted::new("orders.#", Start::Start)
    /// };
    /// let orders = client.subscribe(billing).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subscribe(&self, wanted: impl Into<Wanted>) -> Result<Subscription, ClientError> {
        Subscription::open(self.link.clone(), wanted.into()).await
    }

    /// What the node knows of itself and its peers, as the MessagePack map of `view`.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if no node answered in time.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::node::NodeView;
    ///
    /// let view: NodeView = rmp_serde::from_slice(&client.inspect().await?)?;
    /// assert_eq!(view.node, "a");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn inspect(&self) -> Result<Vec<u8>, ClientError> {
        match self.ask(Question::Inspect).await? {
            Reply::View(view) => Ok(view.body),
            other => Err(ClientError::Protocol(format!("{other:?} is no view"))),
        }
    }

    /// What the node's own replica holds. The answer names the node: another one than was meant,
    /// where the client follows the topology.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason; [`ClientError::NoAnswer`] if no node
    /// answered in time.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::wire::audit::Audit;
    ///
    /// # client.publish(&weft::Record::new("orders.x", "x")).await?;
    /// let (from, to) = (1, 100);
    /// let audit = Audit { id: None, channel: "orders".into(), partition: 0, from, to };
    /// let audited = client.audit(audit).await?;
    /// assert_eq!(audited.node, "a");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn audit(&self, audit: Audit) -> Result<Audited, ClientError> {
        match self.ask(Question::Audit(audit)).await? {
            Reply::Audited(audited) => Ok(audited),
            other => Err(ClientError::Protocol(format!("{other:?} is no audit"))),
        }
    }

    /// Ends the session, of all clones: nothing more is taken, what was published is sent and
    /// answered, within the time that it may take, and subscriptions end.
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
    /// let confirm = producer.send(&Record::new("orders.eu.new", "two shirts")).await?;
    /// client.close().await;
    /// // It is known by now what became of everything.
    /// confirm.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(self) {
        let (sender, closed) = oneshot::channel();
        let answer = Some(Answer::Closed(sender));
        if self.link.order(Command::Close, answer).is_ok() {
            // Without an answer the thread has ended, which is as well.
            let _ = closed.await;
        }
    }

    async fn ask(&self, question: Question) -> Result<Reply, ClientError> {
        let ticket = self.link.next();
        let (sender, answer) = oneshot::channel();
        let command = Command::Ask { ticket, question };
        self.link
            .order(command, Some(Answer::Reply(ticket, sender)))?;
        answer.await.unwrap_or(Err(ClientError::Closed))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.own.welcome.node)
            .finish_non_exhaustive()
    }
}

fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ClientError::Protocol("the system gave no random bytes".to_owned()))?;
    Ok(bytes)
}
