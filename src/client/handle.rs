//! The client as an application holds it.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;

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
#[derive(Clone)]
pub struct Client {
    pub(super) link: Arc<Link>,
    own: Arc<Own>,
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
        let (wake, woken) = UnixStream::pair().map_err(unusable)?;
        wake.set_nonblocking(true).map_err(unusable)?;
        woken.set_nonblocking(true).map_err(unusable)?;
        let (orders, receiver) = mpsc::channel();
        let (ready, connected) = oneshot::channel();
        let awake = Arc::new(AtomicBool::new(false));
        let link = Arc::new(Link::new(orders, wake, Arc::clone(&awake)));
        let ends = thread::Ends {
            orders: receiver,
            woken,
            awake,
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
    pub async fn publish(&self, record: &Record) -> Result<Receipt, PublishError> {
        self.own.confirmed.send(record).await?.await
    }

    /// Publishes one record without a confirm: it may be lost, and a refusal is only logged. Waits
    /// only for room, where those before it have not left yet.
    ///
    /// # Errors
    /// [`PublishError::NotSent`] if the client is closed.
    pub async fn publish_unconfirmed(&self, record: &Record) -> Result<(), PublishError> {
        self.own.unconfirmed.send_untold(record).await
    }

    /// A producer of its own, numbered apart from all others.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub fn producer(&self, options: ProducerOptions) -> Result<Producer, ClientError> {
        Producer::open(self.link.clone(), options, random()?)
    }

    /// Subscribes, and waits until the node has answered.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason; [`ClientError::NoAnswer`] if no node took
    /// the subscription in time.
    pub async fn subscribe(&self, wanted: impl Into<Wanted>) -> Result<Subscription, ClientError> {
        Subscription::open(self.link.clone(), wanted.into()).await
    }

    /// What the node knows of itself and its peers, as the MessagePack map of `view`.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if no node answered in time.
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
    pub async fn audit(&self, audit: Audit) -> Result<Audited, ClientError> {
        match self.ask(Question::Audit(audit)).await? {
            Reply::Audited(audited) => Ok(audited),
            other => Err(ClientError::Protocol(format!("{other:?} is no audit"))),
        }
    }

    /// Ends the session, of all clones: nothing more is taken, what was published is sent and
    /// answered, within the time that it may take, and subscriptions end.
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
