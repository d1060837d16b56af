//! What an application holds: the client, its publishers and what became of their records.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::types::{Record, RecordId};
use crate::wire::audit::{Audit, Audited};
use crate::wire::client::{CursorReply, Reply, Welcome};
use crate::wire::records::encode_record;

use super::error::{ClientError, PublishError};
use super::lane::Queued;
use super::options::{ConnectOptions, PublisherOptions, Wanted};
use super::reader::ReaderEvent;
use super::session::{Command, Question};
use super::subscription::Subscription;
use super::thread;

/// A session with a fabric. It is shared by reference among threads; dropping it ends the session.
pub struct Client {
    pub(super) link: Arc<Link>,
    welcome: Welcome,
    single: Mutex<Option<(Publisher, Outcomes)>>,
    thread: Option<JoinHandle<()>>,
}

/// Takes records in order. Dropping it lets those on their way finish.
pub struct Publisher {
    link: Arc<Link>,
    lane: u64,
    window: Arc<Window>,
}

/// What became of each record of one [`Publisher`], in the order of `send`; ends when the publisher
/// is dropped and all is told.
pub struct Outcomes {
    receiver: Receiver<Outcome>,
    window: Arc<Window>,
}

/// What became of one record.
pub type Outcome = Result<Receipt, PublishError>;

/// A record that went on.
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

/// How handles speak to the thread.
pub(super) struct Link {
    orders: Sender<Order>,
    wake: UnixStream,
    awake: Arc<AtomicBool>,
    next: AtomicU64,
}

/// A command, and where its answers go.
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) answer: Option<Answer>,
}

/// Where answers go.
pub(super) enum Answer {
    /// Outcomes of a lane.
    Lane(u64, LaneEnd),
    /// Events of a subscription.
    Reader(u64, Sender<ReaderEvent>),
    /// The answer to a question.
    Reply(u64, Sender<Result<Reply, ClientError>>),
    /// The answer to what was asked of a cursor.
    Cursor(u64, Sender<Result<CursorReply, ClientError>>),
}

/// The thread's end of a lane. Dropping it closes the lane's window.
pub(super) struct LaneEnd {
    pub(super) sender: Sender<Outcome>,
    window: Arc<Window>,
}

/// Counts what `send` has accepted and nobody has taken the outcome of.
#[derive(Debug, Default)]
struct Window {
    state: Mutex<WindowState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WindowState {
    /// Bytes of each record, oldest first.
    records: VecDeque<usize>,
    bytes: usize,
    bytes_max: usize,
    records_max: usize,
    closed: bool,
}

impl Client {
    /// Connects to the first node that answers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] after `options.timeout`, with the likely cause per endpoint.
    pub fn connect(options: ConnectOptions) -> Result<Self, ClientError> {
        if options.addresses.is_empty() {
            return Err(ClientError::NoEndpoint);
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
        let (ready, connected) = mpsc::sync_channel(1);
        let awake = Arc::new(AtomicBool::new(false));
        let ends = thread::Ends {
            orders: receiver,
            woken,
            awake: awake.clone(),
            ready: Some(ready),
        };
        let thread = thread::spawn(options, ends).map_err(unusable)?;
        let answer = connected.recv().unwrap_or(Err(Vec::new()));
        let link = Arc::new(Link {
            orders,
            wake,
            awake,
            next: AtomicU64::new(0),
        });
        let welcome = match answer {
            Ok(welcome) => *welcome,
            Err(failures) => return Err(ClientError::Unreachable { within, failures }),
        };
        Ok(Self {
            link,
            welcome,
            single: Mutex::new(None),
            thread: Some(thread),
        })
    }

    /// What the first node said of itself and the fabric.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// A publisher of its own: an ordered lane, numbered apart from all others.
    pub fn publisher(
        &self,
        options: PublisherOptions,
    ) -> Result<(Publisher, Outcomes), ClientError> {
        let mut producer = [0; 16];
        SystemRandom::new()
            .fill(&mut producer)
            .map_err(|_| ClientError::Protocol("the system gave no random bytes".to_owned()))?;
        let window = Arc::new(Window::new(&options));
        let (sender, receiver) = mpsc::channel();
        let lane = self.link.next();
        let end = LaneEnd {
            sender,
            window: window.clone(),
        };
        let command = Command::Open {
            lane,
            options,
            producer,
        };
        self.link.order(command, Some(Answer::Lane(lane, end)))?;
        let publisher = Publisher {
            link: self.link.clone(),
            lane,
            window: window.clone(),
        };
        Ok((publisher, Outcomes { receiver, window }))
    }

    /// Publishes one record and waits for what becomes of it. One call at a time; a [`Publisher`]
    /// has many records on their way.
    pub fn publish(&self, record: &Record) -> Result<Outcome, ClientError> {
        let mut single = self.single.lock().unwrap_or_else(PoisonError::into_inner);
        if single.is_none() {
            *single = Some(self.publisher(PublisherOptions::default())?);
        }
        let Some((publisher, outcomes)) = single.as_mut() else {
            return Err(ClientError::Closed);
        };
        publisher.send(record)?;
        outcomes.next().ok_or(ClientError::Closed)
    }

    /// Subscribes, and waits until the node has answered.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason; [`ClientError::NoAnswer`] if no node took
    /// the subscription in time.
    pub fn subscribe(&self, wanted: Wanted) -> Result<Subscription, ClientError> {
        let reader = self.link.next();
        let (sender, receiver) = mpsc::channel();
        let command = Command::Subscribe { reader, wanted };
        self.link
            .order(command, Some(Answer::Reader(reader, sender)))?;
        let mut subscription = Subscription::new(self.link.clone(), reader, receiver);
        subscription.wait_until_standing()?;
        Ok(subscription)
    }

    /// What the node knows of itself and its peers, as the MessagePack map of `view`.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if no node answered in time.
    pub fn inspect(&self) -> Result<Vec<u8>, ClientError> {
        match self.ask(Question::Inspect)? {
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
    pub fn audit(&self, audit: Audit) -> Result<Audited, ClientError> {
        match self.ask(Question::Audit(audit))? {
            Reply::Audited(audited) => Ok(audited),
            other => Err(ClientError::Protocol(format!("{other:?} is no audit"))),
        }
    }

    fn ask(&self, question: Question) -> Result<Reply, ClientError> {
        let ticket = self.link.next();
        let (sender, receiver) = mpsc::channel();
        let command = Command::Ask { ticket, question };
        self.link
            .order(command, Some(Answer::Reply(ticket, sender)))?;
        receiver.recv().unwrap_or(Err(ClientError::Closed))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The thread may have ended by itself; then there is nobody to tell.
        let _ = self.link.order(Command::Close, None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Publisher {
    /// Hands a record over; waits while the window is full of records whose outcome was not taken
    /// from [`Outcomes`].
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the client or the outcomes are gone; the record was not taken.
    pub fn send(&self, record: &Record) -> Result<(), ClientError> {
        let mut bytes = Vec::with_capacity(64 + record.body.len());
        encode_record(record, &mut bytes);
        self.window.enter(bytes.len())?;
        let record = Queued {
            subject: record.subject.clone(),
            bytes: bytes.into(),
        };
        let lane = self.lane;
        self.link.order(Command::Publish { lane, record }, None)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // A client that is gone has closed the lane already.
        let _ = self
            .link
            .order(Command::CloseLane { lane: self.lane }, None);
    }
}

impl Outcomes {
    /// The next record's outcome if it is known within `wait`.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if it is not known yet, [`ClientError::Closed`] at the end.
    pub fn next_within(&mut self, wait: Duration) -> Result<Outcome, ClientError> {
        match self.receiver.recv_timeout(wait) {
            Ok(outcome) => {
                self.window.leave();
                Ok(outcome)
            }
            Err(RecvTimeoutError::Timeout) => Err(ClientError::NoAnswer(thread::span(wait))),
            Err(RecvTimeoutError::Disconnected) => Err(ClientError::Closed),
        }
    }
}

impl Iterator for Outcomes {
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        let outcome = self.receiver.recv().ok()?;
        self.window.leave();
        Some(outcome)
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.window.close();
    }
}

impl Drop for LaneEnd {
    fn drop(&mut self) {
        self.window.close();
    }
}

impl Link {
    /// Tells the thread.
    pub(super) fn order(
        &self,
        command: Command,
        answer: Option<Answer>,
    ) -> Result<(), ClientError> {
        self.orders
            .send(Order { command, answer })
            .map_err(|_| ClientError::Closed)?;
        if !self.awake.swap(true, Ordering::AcqRel) {
            // Full means that the thread has more than one byte to wake up by.
            let _ = (&self.wake).write(&[1]);
        }
        Ok(())
    }

    /// Numbers lanes, subscriptions and questions; far from the numbers of publishes.
    pub(super) fn next(&self) -> u64 {
        (1 << 40) + self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Window {
    fn new(options: &PublisherOptions) -> Self {
        let state = WindowState {
            bytes_max: options.window_bytes,
            records_max: options.window_records.max(1),
            ..WindowState::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn enter(&self, bytes: usize) -> Result<(), ClientError> {
        let full = |state: &mut WindowState| {
            let over = state.bytes + bytes > state.bytes_max;
            let many = state.records.len() >= state.records_max;
            !state.closed && !state.records.is_empty() && (over || many)
        };
        let state = self.changed.wait_while(self.lock(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(ClientError::Closed);
        }
        state.records.push_back(bytes);
        state.bytes += bytes;
        Ok(())
    }

    fn leave(&self) {
        let mut state = self.lock();
        let bytes = state.records.pop_front().unwrap_or_default();
        state.bytes -= bytes;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, WindowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.welcome.node)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").finish_non_exhaustive()
    }
}
