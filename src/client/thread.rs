//! The thread that owns the DEALER: waits for orders, frames and the transport's events, tells the
//! session, and does what it says. It holds no policy.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::topology::SecretKey;
use crate::types::{Span, Time};
use crate::wire::Payload;
use crate::wire::client::{CursorReply, Reply, Welcome};

use super::bell::Bell;
use super::connection::TransportEvent;
use super::error::{ClientError, Failure};
use super::intake::IntakeEnd;
use super::link::{Answer, Counts, Order};
use super::local::Line;
use super::options::{Address, ConnectOptions};
use super::reader::ReaderEvent;
use super::session::{Action, Command, Session, Told};
use super::transport::Transport;

/// How long the last frames of a closing client may take to leave.
const LINGER: Duration = Duration::from_millis(500);

/// Frames taken from the socket before orders are looked at again.
const FRAMES_PER_TURN: usize = 256;

/// What connecting came to.
pub(super) type Connected = Result<Box<Welcome>, Vec<Failure>>;

/// The thread's ends of what the handles hold.
pub(super) struct Ends {
    pub(super) orders: Receiver<Order>,
    pub(super) bell: Arc<Bell>,
    pub(super) traffic: Arc<Counts>,
    pub(super) ready: Option<oneshot::Sender<Connected>>,
}

/// Starts the thread.
pub(super) fn spawn(options: ConnectOptions, ends: Ends) -> io::Result<()> {
    let driver = Driver {
        start: Instant::now(),
        context: zmq::Context::new(),
        identity: options.identity.clone(),
        session: Session::new(options, Time(0)),
        carrier: None,
        sockets_made: 0,
        ends,
        intakes: HashMap::new(),
        readers: HashMap::new(),
        replies: HashMap::new(),
        cursors: HashMap::new(),
        closing: false,
        closers: Vec::new(),
        over: false,
    };
    let thread = thread::Builder::new().name("weft-client".to_owned());
    // It ends when all is done, whether somebody waits for it or not.
    thread.spawn(|| driver.run()).map(drop)
}

/// A duration as the core counts it.
fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

struct Driver {
    start: Instant,
    context: zmq::Context,
    identity: Option<SecretKey>,
    session: Session,
    carrier: Option<Carrier>,
    sockets_made: u64,
    ends: Ends,
    intakes: HashMap<u64, IntakeEnd>,
    readers: HashMap<u64, mpsc::UnboundedSender<ReaderEvent>>,
    replies: HashMap<u64, oneshot::Sender<Result<Reply, ClientError>>>,
    cursors: HashMap<u64, oneshot::Sender<Result<CursorReply, ClientError>>>,
    /// Nothing more is taken.
    closing: bool,
    /// Who waits for the end.
    closers: Vec<oneshot::Sender<()>>,
    over: bool,
}

/// What carries frames.
enum Carrier {
    Socket(Transport),
    Local(Line),
}

impl Driver {
    fn run(mut self) {
        while !self.over {
            let now = self.now();
            self.session.handle_tick(now);
            self.act();
            if self.over {
                break;
            }
            self.wait();
            self.take_orders();
            self.take_events();
            self.take_frames();
        }
        self.linger();
        // What came meanwhile has not been sent.
        self.closing = true;
        self.take_orders();
        let closers = std::mem::take(&mut self.closers);
        drop(self);
        for closer in closers {
            // Whoever does not wait any more needs no answer.
            let _ = closer.send(());
        }
    }

    fn now(&self) -> Time {
        Time(span(self.start.elapsed()).0)
    }

    /// Sleeps until something comes or the session has something to do.
    fn wait(&mut self) {
        let now = self.now();
        let timeout = self.session.due(now).since(now).0.div_ceil(1_000_000);
        let timeout = i64::try_from(timeout).unwrap_or(i64::MAX);
        let readable = zmq::POLLIN;
        let bell = self.ends.bell.descriptor();
        let mut items = vec![zmq::PollItem::from_fd(bell, readable)];
        if let Some(Carrier::Socket(transport)) = &self.carrier {
            items.extend(transport.poll_items());
        }
        // Interrupted by a signal, or nothing came: the loop looks at everything anyway.
        let _ = zmq::poll(&mut items, timeout);
    }

    fn take_orders(&mut self) {
        self.ends.bell.heard();
        // The last handle says that it is the last.
        while let Ok(order) = self.ends.orders.try_recv() {
            self.take_order(order);
        }
    }

    /// Lets the last frames leave.
    fn linger(&mut self) {
        match &mut self.carrier {
            Some(Carrier::Socket(transport)) => transport.linger(LINGER),
            Some(Carrier::Local(line)) => {
                let until = Instant::now() + LINGER;
                while line.is_behind() && Instant::now() < until {
                    let bell = self.ends.bell.descriptor();
                    let item = zmq::PollItem::from_fd(bell, zmq::POLLIN);
                    let left = until.saturating_duration_since(Instant::now());
                    let _ = zmq::poll(&mut [item], left.as_millis() as i64 + 1);
                    self.ends.bell.heard();
                }
            }
            None => {}
        }
    }

    fn take_order(&mut self, order: Order) {
        if self.closing {
            // Whoever waits for an answer hears that there will be none.
            if let Some(Answer::Closed(sender)) = order.answer {
                self.closers.push(sender);
            }
            return;
        }
        match order.answer {
            Some(Answer::Lane(id, end)) => drop(self.intakes.insert(id, end)),
            Some(Answer::Reader(id, sender)) => drop(self.readers.insert(id, sender)),
            Some(Answer::Reply(id, sender)) => drop(self.replies.insert(id, sender)),
            Some(Answer::Cursor(id, sender)) => drop(self.cursors.insert(id, sender)),
            Some(Answer::Closed(sender)) => self.closers.push(sender),
            None => {}
        }
        match &order.command {
            Command::Close => return self.close(),
            Command::Unsubscribe { reader } => drop(self.readers.remove(reader)),
            Command::CloseLane { lane } => drop(self.intakes.remove(lane)),
            _ => {}
        }
        let now = self.now();
        self.session.handle_command(order.command, now);
    }

    /// Nobody is to wait for what will not come any more; what was published goes on.
    fn close(&mut self) {
        self.closing = true;
        self.intakes.clear();
        self.readers.clear();
        self.replies.clear();
        self.cursors.clear();
        let now = self.now();
        self.session.handle_command(Command::Close, now);
    }

    fn take_events(&mut self) {
        let Some(Carrier::Socket(transport)) = &self.carrier else {
            return;
        };
        if let Some(event) = transport.event() {
            self.handle_transport(event);
        }
    }

    fn take_frames(&mut self) {
        for _ in 0..FRAMES_PER_TURN {
            let frames = match &mut self.carrier {
                Some(Carrier::Socket(transport)) => transport.receive(),
                Some(Carrier::Local(line)) => match line.receive() {
                    Ok(frame) => frame.map(|frame| vec![frame]),
                    Err(()) => {
                        let why = "the node has ended, or the session".to_owned();
                        return self.handle_transport(TransportEvent::Unusable(why));
                    }
                },
                None => None,
            };
            let Some(frames) = frames else { return };
            self.ends.traffic.received.fetch_add(1, Ordering::Relaxed);
            let now = self.now();
            match Payload::of(&frames) {
                Ok(payload) => self.session.handle_frame(payload.frame, now),
                Err(error) => tracing::warn!("ignored a message of the node: {error}"),
            }
            self.act();
        }
        // There may be more, of which nothing tells.
        self.ends.bell.ring();
    }

    fn handle_transport(&mut self, event: TransportEvent) {
        let now = self.now();
        self.session.handle_transport(event, now);
        self.act();
    }

    /// Does what the session says, and what it says to that.
    fn act(&mut self) {
        loop {
            let actions = self.session.take_actions();
            if actions.is_empty() {
                return;
            }
            let mut lost = None;
            for action in actions {
                match action {
                    Action::Tell(told) => self.tell(told),
                    Action::Disconnect => {
                        self.carrier = None;
                        lost = None;
                    }
                    Action::Connect(address) => {
                        lost = self.connect(&address).err();
                    }
                    Action::Send(frame) if lost.is_none() => lost = self.send(frame).err(),
                    Action::Send(_) => {}
                }
            }
            if let Some(error) = lost {
                let now = self.now();
                let event = TransportEvent::Unusable(error.to_string());
                self.session.handle_transport(event, now);
            }
        }
    }

    fn connect(&mut self, address: &Address) -> zmq::Result<()> {
        self.carrier = None;
        if let Some(local) = &address.local {
            let line = Line::open(local, &self.ends.bell);
            self.carrier = Some(Carrier::Local(line));
            return Ok(());
        }
        self.sockets_made += 1;
        let identity = self.identity.as_ref();
        let made = Transport::connect(&self.context, address, identity, self.sockets_made)?;
        self.carrier = Some(Carrier::Socket(made));
        Ok(())
    }

    fn send(&mut self, frame: Bytes) -> zmq::Result<()> {
        self.ends.traffic.sent.fetch_add(1, Ordering::Relaxed);
        match &mut self.carrier {
            Some(Carrier::Socket(transport)) => transport.send(frame),
            Some(Carrier::Local(line)) => {
                line.send(frame);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn tell(&mut self, told: Told) {
        // A handle that is gone wants no answer: failed sends are fine here.
        match told {
            Told::Ready(welcome) => {
                if let Some(ready) = self.ends.ready.take() {
                    let _ = ready.send(Ok(welcome));
                }
            }
            Told::Unreachable(failures) => {
                if let Some(ready) = self.ends.ready.take() {
                    let _ = ready.send(Err(failures));
                    self.over = true;
                }
            }
            Told::Notice(text) => tracing::warn!("{text}"),
            Told::Over => self.over = true,
            Told::Reader { reader, event } => {
                let ended = matches!(event, ReaderEvent::Ended(_));
                if let Some(sender) = self.readers.get(&reader) {
                    let _ = sender.send(event);
                }
                if ended {
                    self.readers.remove(&reader);
                }
            }
            Told::Cursor { ticket, result } => {
                if let Some(sender) = self.cursors.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Told::Answered { ticket, result } => {
                if let Some(sender) = self.replies.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
        }
    }
}
