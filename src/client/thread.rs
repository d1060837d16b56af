//! The thread that owns the DEALER: waits for orders, frames and the transport's events, tells the
//! session, and does what it says. It holds no policy.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::topology::SecretKey;
use crate::types::limits::{FRAME_OVERHEAD, RECORD_MAX};
use crate::types::{Span, Time};
use crate::wire::Payload;
use crate::wire::client::{CursorReply, Reply, Welcome};

use super::connection::TransportEvent;
use super::error::{ClientError, Failure};
use super::link::{Answer, Order, RoomEnd};
use super::options::{Address, ConnectOptions};
use super::reader::ReaderEvent;
use super::session::{Action, Command, Session, Told};

/// Frames that wait in the socket either way. Publishes wait in lanes and records are bounded by
/// windows, so what waits here is small change.
const FRAMES_WAITING: i32 = 10_000;

/// How long the last frames of a closing client may take to leave.
const LINGER: Duration = Duration::from_millis(500);

/// Frames taken from the socket before orders are looked at again.
const FRAMES_PER_TURN: usize = 256;

/// What connecting came to.
pub(super) type Connected = Result<Box<Welcome>, Vec<Failure>>;

/// The thread's ends of what the handles hold.
pub(super) struct Ends {
    pub(super) orders: Receiver<Order>,
    pub(super) woken: UnixStream,
    pub(super) awake: Arc<AtomicBool>,
    pub(super) ready: Option<oneshot::Sender<Connected>>,
}

/// Starts the thread.
pub(super) fn spawn(options: ConnectOptions, ends: Ends) -> io::Result<()> {
    let driver = Driver {
        start: Instant::now(),
        context: zmq::Context::new(),
        identity: options.identity.clone(),
        session: Session::new(options, Time(0)),
        transport: None,
        sockets_made: 0,
        ends,
        rooms: HashMap::new(),
        readers: HashMap::new(),
        replies: HashMap::new(),
        cursors: HashMap::new(),
        closers: Vec::new(),
        orphaned: false,
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
    transport: Option<Transport>,
    sockets_made: u64,
    ends: Ends,
    rooms: HashMap<u64, RoomEnd>,
    readers: HashMap<u64, mpsc::UnboundedSender<ReaderEvent>>,
    replies: HashMap<u64, oneshot::Sender<Result<Reply, ClientError>>>,
    cursors: HashMap<u64, oneshot::Sender<Result<CursorReply, ClientError>>>,
    /// Who waits for the end.
    closers: Vec<oneshot::Sender<()>>,
    /// No handle is left.
    orphaned: bool,
    over: bool,
}

/// A socket and what watches it.
struct Transport {
    dealer: zmq::Socket,
    monitor: zmq::Socket,
    /// Where the monitor moves to when this ends; see `drop`.
    silence: String,
}

impl Drop for Transport {
    /// libzmq reports to a monitor whose other end is gone as to one that will read: its one thread
    /// waits for ever, and no socket of the context is served again. So the reports end first. It
    /// knows no other way than a new monitor, of no events.
    fn drop(&mut self) {
        let _ = self.dealer.monitor(&self.silence, 0);
    }
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
        if let Some(transport) = &self.transport {
            // The context waits for the socket this long when both are dropped.
            let _ = transport.dealer.set_linger(LINGER.as_millis() as i32);
        }
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
        let mut items = Vec::with_capacity(3);
        // It is readable for ever when its other end is gone.
        if !self.orphaned {
            let woken = self.ends.woken.as_raw_fd();
            items.push(zmq::PollItem::from_fd(woken, readable));
        }
        if let Some(transport) = &self.transport {
            items.push(transport.dealer.as_poll_item(readable));
            items.push(transport.monitor.as_poll_item(readable));
        }
        // Interrupted by a signal, or nothing came: the loop looks at everything anyway.
        let _ = zmq::poll(&mut items, timeout);
    }

    fn take_orders(&mut self) {
        let mut bytes = [0; 64];
        while matches!((&self.ends.woken).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        self.ends.awake.store(false, Ordering::Release);
        loop {
            match self.ends.orders.try_recv() {
                Ok(order) => self.take_order(order),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if !self.orphaned {
                        self.orphaned = true;
                        self.close();
                    }
                    return;
                }
            }
        }
    }

    fn take_order(&mut self, order: Order) {
        match order.answer {
            Some(Answer::Lane(id, end)) => drop(self.rooms.insert(id, end)),
            Some(Answer::Reader(id, sender)) => drop(self.readers.insert(id, sender)),
            Some(Answer::Reply(id, sender)) => drop(self.replies.insert(id, sender)),
            Some(Answer::Cursor(id, sender)) => drop(self.cursors.insert(id, sender)),
            Some(Answer::Closed(sender)) => self.closers.push(sender),
            None => {}
        }
        match &order.command {
            Command::Close => return self.close(),
            Command::Unsubscribe { reader } => drop(self.readers.remove(reader)),
            Command::CloseLane { lane } => drop(self.rooms.remove(lane)),
            _ => {}
        }
        let now = self.now();
        self.session.handle_command(order.command, now);
    }

    /// Nobody is to wait for what will not come any more; what was published goes on.
    fn close(&mut self) {
        self.rooms.clear();
        self.readers.clear();
        self.replies.clear();
        self.cursors.clear();
        let now = self.now();
        self.session.handle_command(Command::Close, now);
    }

    fn take_events(&mut self) {
        let Some(transport) = &self.transport else {
            return;
        };
        let mut events = Vec::new();
        while let Ok(frames) = transport.monitor.recv_multipart(zmq::DONTWAIT) {
            events.extend(frames.first().and_then(|frame| transport_event(frame)));
        }
        let now = self.now();
        // The first one ends this socket; what comes after it is its echo.
        if let Some(event) = events.into_iter().next() {
            self.session.handle_transport(event, now);
            self.act();
        }
    }

    fn take_frames(&mut self) {
        for _ in 0..FRAMES_PER_TURN {
            let Some(transport) = &self.transport else {
                return;
            };
            let Ok(frames) = transport.dealer.recv_multipart(zmq::DONTWAIT) else {
                return;
            };
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            let now = self.now();
            match Payload::of(&frames) {
                Ok(payload) => self.session.handle_frame(payload.frame, now),
                Err(error) => tracing::warn!("ignored a message of the node: {error}"),
            }
            self.act();
        }
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
                        self.transport = None;
                        lost = None;
                    }
                    Action::Connect(address) => {
                        lost = self.connect(&address).err();
                    }
                    Action::Send(frame) if lost.is_none() => lost = self.send(&frame).err(),
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
        self.transport = None;
        self.sockets_made += 1;
        let watch = format!("inproc://monitor-{}", self.sockets_made);
        let dealer = self.dealer(address)?;
        let transport = Transport {
            dealer,
            monitor: self.context.socket(zmq::PAIR)?,
            silence: format!("inproc://silence-{}", self.sockets_made),
        };
        transport.monitor.set_linger(0)?;
        // libzmq's thread would wait at a high-water mark.
        transport.monitor.set_rcvhwm(0)?;
        transport.dealer.monitor(&watch, events())?;
        transport.monitor.connect(&watch)?;
        transport.dealer.connect(&address.endpoint)?;
        self.transport = Some(transport);
        Ok(())
    }

    fn dealer(&self, address: &Address) -> zmq::Result<zmq::Socket> {
        let dealer = self.context.socket(zmq::DEALER)?;
        dealer.set_linger(0)?;
        dealer.set_sndhwm(FRAMES_WAITING)?;
        dealer.set_rcvhwm(FRAMES_WAITING)?;
        dealer.set_maxmsgsize((RECORD_MAX + FRAME_OVERHEAD) as i64)?;
        dealer.set_heartbeat_ivl(1_000)?;
        dealer.set_heartbeat_timeout(3_000)?;
        dealer.set_handshake_ivl(2_000)?;
        if address.endpoint.starts_with("tcp://[") {
            dealer.set_ipv6(true)?;
        }
        if let Some(key) = &address.server_key {
            dealer.set_curve_serverkey(&decode(key.as_str())?)?;
            let (public, secret) = match &self.identity {
                Some(key) => (decode(key.public().as_str())?, decode(key.secret_z85())?),
                None => {
                    let pair = zmq::CurveKeyPair::new()?;
                    (pair.public_key.to_vec(), pair.secret_key.to_vec())
                }
            };
            dealer.set_curve_publickey(&public)?;
            dealer.set_curve_secretkey(&secret)?;
        }
        Ok(dealer)
    }

    fn send(&self, frame: &Bytes) -> zmq::Result<()> {
        match &self.transport {
            Some(transport) => transport.dealer.send(&frame[..], zmq::DONTWAIT),
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

/// What a monitor is to report.
fn events() -> i32 {
    use zmq::SocketEvent as Event;
    [
        Event::CONNECT_RETRIED,
        Event::DISCONNECTED,
        Event::HANDSHAKE_FAILED_AUTH,
        Event::HANDSHAKE_FAILED_PROTOCOL,
        Event::HANDSHAKE_FAILED_NO_DETAIL,
    ]
    .into_iter()
    .fold(0, |mask, event| mask | event as i32)
}

/// What a monitor's event means for the connection.
fn transport_event(frame: &[u8]) -> Option<TransportEvent> {
    use zmq::SocketEvent as Event;
    let number = u16::from_ne_bytes(frame.get(..2)?.try_into().ok()?);
    let value = u32::from_ne_bytes(frame.get(2..6)?.try_into().ok()?);
    let is = |event: Event| event.to_raw() == number;
    if is(Event::CONNECT_RETRIED) {
        return Some(TransportEvent::NobodyThere);
    }
    if is(Event::DISCONNECTED) {
        return Some(TransportEvent::Closed);
    }
    let failed = |text: String| Some(TransportEvent::HandshakeFailed(text));
    if is(Event::HANDSHAKE_FAILED_AUTH) {
        return failed(format!("refused with status {value}"));
    }
    if is(Event::HANDSHAKE_FAILED_PROTOCOL) {
        return failed(format!("protocol error {value:#x}"));
    }
    is(Event::HANDSHAKE_FAILED_NO_DETAIL).then_some(TransportEvent::Closed)
}

fn decode(key: &str) -> zmq::Result<Vec<u8>> {
    zmq::z85_decode(key).map_err(|_| zmq::Error::EINVAL)
}
