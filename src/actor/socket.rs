//! The actor that owns one ZeroMQ socket: reads it when libzmq says so, sends what it is told, and
//! makes it anew when it fails. What the bytes mean is the duty's part, and what to do about
//! them the node's.
//!
//! libzmq's file descriptor is edge-triggered, and any call on the socket may eat the edge. So the
//! socket is read after every wake-up of this actor, whatever woke it, until it has nothing more.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};
use tokio::sync::mpsc::UnboundedSender;

use super::error::StartError;
use super::messages::{Counters, Event, Fail, Flush, Inputs, Orders};
use super::monitor;
use super::refusals::Refusals;
use super::sockets::{Made, Sockets};
use crate::node::Input;
use crate::types::limits::{
    BYTES_PER_TURN, FRAMES_PER_TURN, PARTS_MAX, RESTART_BACKOFF, RESTART_SETTLED, RESTARTS_MAX,
};

/// What one socket is for.
pub(super) trait Duty: Unpin + 'static {
    /// Something to do.
    type Order: Send + 'static;

    /// Whether anything comes in on the socket.
    const READS: bool;

    /// The socket's name in messages.
    fn name(&self) -> String;

    /// Makes the socket. `inputs` takes what the node must hear if this is not the first time.
    fn open(&mut self, sockets: &Sockets, inputs: &mut Vec<Input>) -> Result<Made, StartError>;

    /// Carries an order out, without waiting. An error means that the socket is of no more use.
    fn perform(
        &mut self,
        socket: Option<&zmq::Socket>,
        order: Self::Order,
        inputs: &mut Vec<Input>,
    ) -> zmq::Result<()>;

    /// Translates one message.
    fn receive(&mut self, parts: Parts, inputs: &mut Vec<Input>);
}

/// One message as it came.
pub(super) struct Parts {
    /// Its first parts; see `limits::PARTS_MAX`.
    pub(super) frames: Vec<Bytes>,
    /// The name of the key that the sender proved.
    pub(super) principal: Option<String>,
}

/// Owns one socket.
pub(super) struct SocketActor<D: Duty> {
    duty: D,
    shared: Shared,
    /// The socket made at the start, until the actor runs.
    first: Option<Made>,
    live: Option<Rc<Live>>,
    opened: Instant,
    failures: u32,
    refusals: Refusals,
}

/// What all socket actors of a node share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sockets: Rc<Sockets>,
    pub(super) node: Recipient<Inputs>,
    pub(super) counters: Counters,
    pub(super) events: UnboundedSender<Event>,
}

/// An open socket.
struct Live {
    socket: Watched,
    monitor: Option<Watched>,
    curve: bool,
}

/// A ZeroMQ socket, and whether the reactor watches it.
enum Watched {
    Yes(AsyncFd<zmq::Socket>),
    No(zmq::Socket),
}

impl<D: Duty> SocketActor<D> {
    /// Starts the actor of a socket made at the start of the node, under a supervisor.
    pub(super) fn start(duty: D, made: Made, shared: &Shared) -> Addr<Self> {
        let shared = shared.clone();
        Supervisor::start(move |_| Self {
            refusals: Refusals::new(duty.name()),
            duty,
            shared,
            first: Some(made),
            live: None,
            opened: Instant::now(),
            failures: 0,
        })
    }

    fn go_live(&mut self, made: Made, ctx: &mut Context<Self>) {
        let live = match Live::new(made, D::READS, &self.shared.sockets) {
            Ok(live) => Rc::new(live),
            Err(why) => return self.try_again(&why, ctx),
        };
        self.opened = Instant::now();
        if D::READS {
            ctx.spawn(Watch(Rc::clone(&live)));
        }
        self.live = Some(live);
    }

    fn reopen(&mut self, ctx: &mut Context<Self>) {
        let mut inputs = Vec::new();
        match self.duty.open(&self.shared.sockets, &mut inputs) {
            Ok(made) => {
                tracing::info!("{} serves again", self.duty.name());
                self.go_live(made, ctx);
                self.shared.counters.hand_over(&self.shared.node, inputs);
            }
            Err(why) => self.try_again(&why, ctx),
        }
    }

    /// Waits and opens the socket again, unless that has failed too often.
    fn try_again(&mut self, why: &dyn std::fmt::Display, ctx: &mut Context<Self>) {
        self.failures += 1;
        if self.failures > RESTARTS_MAX {
            let name = self.duty.name();
            let text = format!("{name} failed {RESTARTS_MAX} times in a row, at last: {why}");
            // If nobody listens, the node is ending already.
            let _ = self.shared.events.send(Event::Broken(text));
            return;
        }
        tracing::debug!("{}: {why}; trying again", self.duty.name());
        let doubled = RESTART_BACKOFF.as_millis() << self.failures.min(16);
        let wait = Duration::from_millis(doubled.min(1_000));
        ctx.run_later(wait, |actor, ctx| actor.reopen(ctx));
    }

    /// Drops the socket and stops; the supervisor starts the actor again.
    fn fail(&mut self, why: &dyn std::fmt::Display, ctx: &mut Context<Self>) {
        tracing::warn!("{} failed: {why}; opening it again", self.duty.name());
        self.live = None;
        ctx.stop();
    }

    /// Reads what waits, up to a turn's share. Says whether there may be more.
    fn read_turn(&mut self, live: &Live) -> zmq::Result<bool> {
        let mut inputs = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let mut more = Ok(true);
        while count < FRAMES_PER_TURN && bytes < BYTES_PER_TURN {
            match receive(live.socket.zmq(), live.curve) {
                Ok(parts) => {
                    count += 1;
                    bytes += parts.frames.iter().map(Bytes::len).sum::<usize>();
                    self.duty.receive(parts, &mut inputs);
                }
                Err(zmq::Error::EAGAIN) => {
                    more = Ok(false);
                    break;
                }
                Err(zmq::Error::EINTR) => {}
                Err(why) => {
                    more = Err(why);
                    break;
                }
            }
        }
        self.shared.counters.hand_over(&self.shared.node, inputs);
        more
    }

    /// Logs handshakes that failed before the gate was asked.
    fn read_monitor(&mut self, live: &Live) {
        let Some(monitor) = &live.monitor else {
            return;
        };
        while let Ok(parts) = receive(monitor.zmq(), false) {
            self.refusals.note(Instant::now(), || {
                let at = parts
                    .frames
                    .get(1)
                    .map(|frame| frame.escape_ascii().to_string());
                format!(
                    "refused a connection at {}: it speaks no CURVE, or not with this node's key",
                    at.unwrap_or_default()
                )
            });
        }
    }
}

impl<D: Duty> Actor for SocketActor<D> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        match self.first.take() {
            Some(made) => self.go_live(made, ctx),
            None => self.try_again(&"it failed", ctx),
        }
    }
}

impl<D: Duty> Supervised for SocketActor<D> {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.shared.counters.restarted();
        if self.opened.elapsed() >= Duration::from_nanos(RESTART_SETTLED.0) {
            self.failures = 0;
        }
    }
}

impl<D: Duty> Handler<Orders<D::Order>> for SocketActor<D> {
    type Result = ();

    fn handle(&mut self, Orders(orders): Orders<D::Order>, ctx: &mut Context<Self>) {
        let mut inputs = Vec::new();
        for order in orders {
            let live = self.live.clone();
            let socket = live.as_ref().map(|live| live.socket.zmq());
            if let Err(why) = self.duty.perform(socket, order, &mut inputs) {
                self.fail(&why, ctx);
            }
        }
        self.shared.counters.hand_back(&self.shared.node, inputs);
    }
}

impl<D: Duty> Handler<Flush> for SocketActor<D> {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {}
}

impl<D: Duty> Handler<Fail> for SocketActor<D> {
    type Result = ();

    fn handle(&mut self, _: Fail, ctx: &mut Context<Self>) {
        self.fail(&"asked to", ctx);
    }
}

impl Live {
    fn new(made: Made, reads: bool, sockets: &Sockets) -> std::io::Result<Self> {
        let mut live = Self {
            socket: match reads {
                true => Watched::new(made.socket)?,
                false => Watched::No(made.socket),
            },
            monitor: None,
            curve: made.curve,
        };
        if live.curve {
            let reader = sockets.watch(live.socket.zmq())?;
            match Watched::new(reader) {
                Ok(reader) => live.monitor = Some(reader),
                Err(failure) => {
                    monitor::mute(live.socket.zmq());
                    return Err(failure.into());
                }
            }
        }
        Ok(live)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.monitor.is_some() {
            monitor::mute(self.socket.zmq());
        }
    }
}

impl Watched {
    #[expect(
        deprecated,
        reason = "its successor asks for unsafe code and a descriptor that stays open as long as \
                  its owner; a zmq::Socket's does, and the AsyncFd owns the socket"
    )]
    fn new(socket: zmq::Socket) -> Result<Self, AsyncFdRegisterError<zmq::Socket>> {
        AsyncFd::try_with_interest(socket, Interest::READABLE).map(Self::Yes)
    }

    fn zmq(&self) -> &zmq::Socket {
        match self {
            Self::Yes(fd) => fd.get_ref(),
            Self::No(socket) => socket,
        }
    }

    /// Forgets the edges seen so far and asks to be woken by the next. The socket is read after
    /// this, never before.
    fn rearm(&self, task: &mut std::task::Context<'_>) -> std::io::Result<()> {
        let Self::Yes(fd) = self else { return Ok(()) };
        loop {
            match fd.poll_read_ready(task) {
                Poll::Ready(guard) => guard?.clear_ready(),
                Poll::Pending => return Ok(()),
            }
        }
    }
}

/// Runs whenever the actor does, and reads.
struct Watch(Rc<Live>);

impl<D: Duty> ActorFuture<SocketActor<D>> for Watch {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut SocketActor<D>,
        ctx: &mut Context<SocketActor<D>>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        let live = &self.0;
        let monitor = live.monitor.as_ref().map_or(Ok(()), |m| m.rearm(task));
        if let Err(why) = live.socket.rearm(task).and(monitor) {
            actor.fail(&why, ctx);
            return Poll::Ready(());
        }
        actor.read_monitor(live);
        match actor.read_turn(live) {
            Ok(true) => task.waker().wake_by_ref(),
            Ok(false) => {}
            Err(why) => {
                actor.fail(&why, ctx);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// One message, or `EAGAIN`.
fn receive(socket: &zmq::Socket, curve: bool) -> zmq::Result<Parts> {
    let mut frames = Vec::with_capacity(2);
    loop {
        let mut message = socket.recv_msg(zmq::DONTWAIT)?;
        let last = !message.get_more();
        let principal = match (last, curve) {
            (true, true) => message.gets("User-Id").map(str::to_owned),
            _ => None,
        };
        if frames.len() < PARTS_MAX {
            frames.push(bytes_of(message));
        }
        if last {
            let principal = principal.filter(|name| !name.is_empty());
            return Ok(Parts { frames, principal });
        }
    }
}

/// Small messages share libzmq's receive buffer, which a long-lived one would hold as a whole.
fn bytes_of(message: zmq::Message) -> Bytes {
    struct Owned(zmq::Message);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    match message.len() {
        0..=8_192 => Bytes::copy_from_slice(&message),
        _ => Bytes::from_owner(Owned(message)),
    }
}

/// A frame as libzmq takes it: large ones without a copy where nobody else holds them.
pub(super) fn message_of(frame: Bytes) -> zmq::Message {
    match frame.len() {
        0..=65_536 => zmq::Message::from(&frame[..]),
        _ => zmq::Message::from(Vec::from(frame)),
    }
}
