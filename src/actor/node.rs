//! The actor around the core: steps the node with what happened, and hands what it answers to
//! sockets and disk. The only place of the shell that reads a clock for the core.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::disk::DiskThreads;
use super::duties::{Link, Listener, Publisher, Subscriber};
use super::local::{LOCAL, Locals, Wake};
use super::messages::{Completed, Counters, Event, Inputs, Orders};
use super::messages::{ToClient, ToSubscribers, Want};
use super::socket::{Duty, SocketActor};
use crate::http::Board;
use crate::node::{Gauges, Input, Lane, Level, Node, Outbox, Output};
use crate::types::limits::{GAUGES_EVERY, NODE_MAILBOX, TICK};
use crate::types::{NodeName, Now, Span, Time, Wall};

/// The two clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

/// Owns the core.
pub(super) struct NodeActor {
    pub(super) node: Node,
    pub(super) clock: Clock,
    /// What the core said and nobody has carried out yet; empty between steps.
    pub(super) outbox: Outbox,
    pub(super) ports: Ports,
    pub(super) locals: Locals,
    pub(super) disk: DiskThreads,
    pub(super) counters: Counters,
    /// Where the node shows how it is, if anybody may look.
    pub(super) board: Option<Board>,
    pub(super) events: UnboundedSender<Event>,
}

/// The way to every socket of the node.
/// (The peers' ROUTER takes no orders: it only receives.)
pub(super) struct Ports {
    pub(super) listeners: Vec<Port<Listener>>,
    pub(super) links: BTreeMap<(NodeName, Lane), Port<Link>>,
    pub(super) publisher: Port<Publisher>,
    pub(super) subscriber: Port<Subscriber>,
}

/// The way to one socket, and what is to be said to it at the end of this turn.
pub(super) struct Port<D: Duty> {
    pub(super) actor: Addr<SocketActor<D>>,
    orders: Vec<D::Order>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            mono: Time(nanos(self.0.elapsed())),
            wall: Wall(wall.map_or(0, |span| nanos(span) / 1_000_000)),
        }
    }
}

impl<D: Duty> Port<D> {
    pub(super) fn new(actor: Addr<SocketActor<D>>) -> Self {
        let orders = Vec::new();
        Self { actor, orders }
    }

    fn send(&mut self) {
        if !self.orders.is_empty() {
            // Ignores the bound: byte credit in the core is the bound.
            self.actor.do_send(Orders(std::mem::take(&mut self.orders)));
        }
    }
}

impl Ports {
    fn send(&mut self) {
        self.listeners.iter_mut().for_each(Port::send);
        self.links.values_mut().for_each(Port::send);
        self.publisher.send();
        self.subscriber.send();
    }
}

impl NodeActor {
    /// Tells the core what happened, all of it in one step, and carries out what it says.
    fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.node.step(self.clock.now(), inputs, &mut self.outbox);
        let mut came = self.execute();
        while !came.is_empty() {
            self.node.step(self.clock.now(), came, &mut self.outbox);
            came = self.execute();
        }
    }

    /// Carries out what the core said since the last time. What came of it at once.
    fn execute(&mut self) -> Vec<Input> {
        let mut came = Vec::new();
        for output in std::mem::take(&mut self.outbox) {
            match output {
                Output::ToClient {
                    client,
                    frames,
                    droppable,
                } => {
                    let index = usize::from(client.listener);
                    let order = ToClient {
                        client,
                        frames,
                        droppable,
                    };
                    if order.client.listener == LOCAL {
                        came.extend(self.locals.deliver(order));
                    } else if let Some(port) = self.ports.listeners.get_mut(index) {
                        port.orders.push(order);
                    }
                }
                Output::ToPeer { peer, lane, frame } => self.send_to_peer(peer, lane, frame),
                Output::Signal { topic, frame } => {
                    let order = ToSubscribers { topic, frame };
                    self.ports.publisher.orders.push(order);
                }
                Output::Interest { topic, wanted } => {
                    self.ports.subscriber.orders.push(Want { topic, wanted });
                }
                Output::Persist { sequence, items } => self.disk.persist(sequence, items),
                Output::Load(request) => self.disk.load(request),
                Output::Mend { segment, entries } => self.disk.mend(segment, entries),
                Output::Note { level, text } => note(level, &text),
                // If nobody listens, the node has ended.
                Output::Stopped => drop(self.events.send(Event::Stopped)),
            }
        }
        self.ports.send();
        came
    }

    fn send_to_peer(&mut self, peer: NodeName, lane: Lane, frame: Bytes) {
        match self.ports.links.get_mut(&(peer, lane)) {
            Some(port) => port.orders.push(frame),
            None => tracing::debug!("a frame for a node that the topology does not declare"),
        }
    }

    /// Each tick is asked for after the one before it, so that a node that was stopped for a while
    /// does not hurry through the time it missed.
    fn tick_later(ctx: &mut Context<Self>) {
        ctx.run_later(duration(TICK), |actor, ctx| {
            actor.step([Input::Tick]);
            Self::tick_later(ctx);
        });
    }

    fn gauge(&mut self) {
        let mut gauges = Gauges {
            mailbox: self.counters.waiting(),
            restarts: self.counters.restarts(),
            ..Gauges::default()
        };
        self.disk.gauge(&mut gauges);
        self.step([Input::Gauges(gauges)]);
        if let Some(board) = &self.board {
            board.write(self.node.view());
        }
    }
}

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(NODE_MAILBOX);
        self.gauge();
        Self::tick_later(ctx);
        ctx.run_interval(duration(GAUGES_EVERY), |actor, _| actor.gauge());
    }
}

impl Handler<Inputs> for NodeActor {
    type Result = ();

    fn handle(&mut self, Inputs(inputs): Inputs, _: &mut Context<Self>) {
        self.counters.taken(inputs.len());
        self.step(inputs);
    }
}

impl Handler<Completed> for NodeActor {
    type Result = ();

    fn handle(&mut self, Completed(input): Completed, _: &mut Context<Self>) {
        self.step([input]);
    }
}

impl Handler<Wake> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Context<Self>) {
        let inputs = self.locals.take();
        self.step(inputs);
    }
}

fn note(level: Level, text: &str) {
    match level {
        Level::Info => tracing::info!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Error => tracing::error!("{text}"),
    }
}

pub(super) fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}
