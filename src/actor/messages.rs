//! What actors say to each other, and what they count together.

use std::cell::Cell;
use std::rc::Rc;

use actix::{Message, Recipient};
use bytes::Bytes;

use crate::node::{ClientId, Droppable, Input, Lane};
use crate::types::NodeName;

/// A batch of inputs for the node, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Inputs(pub(super) Vec<Input>);

/// What a thread of the disk has done.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Completed(pub(super) Input);

/// What reaches whoever runs the node.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody wants the node to stop.
    Stop,
    /// Somebody wants to see a socket recover.
    Fail(SocketName),
    /// The core has nothing left to do.
    Stopped,
    /// The node cannot go on, for this reason.
    Broken(String),
}

/// One of a node's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketName {
    /// The client endpoint at this position of the topology.
    Clients(u16),
    /// The endpoint that peers' links connect to.
    Peers,
    /// The link to this peer, on this lane.
    Link(NodeName, Lane),
    /// The endpoint that peers' subscribers connect to.
    Publisher,
    /// The subscriber to peers' signals.
    Subscriber,
}

/// Things to do for a socket, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Orders<O: 'static>(pub(super) Vec<O>);

/// Answered once everything said before it is done.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Flush;

/// Fails the socket as if libzmq had, to see that it recovers.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Fail;

/// A frame for a client.
#[derive(Debug)]
pub(super) struct ToClient {
    pub(super) client: ClientId,
    pub(super) frames: Vec<Bytes>,
    pub(super) droppable: Option<Droppable>,
}

/// A signal for whoever subscribed to its topic.
#[derive(Debug)]
pub(super) struct ToSubscribers {
    pub(super) topic: Bytes,
    pub(super) frame: Bytes,
}

/// A topic to subscribe to, or no longer.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) topic: Bytes,
    pub(super) wanted: bool,
}

/// What the actors of one node count. They share one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: Cell<u64>,
    restarts: Cell<u64>,
}

impl Counters {
    /// Hands a batch to the node.
    ///
    /// # Panics
    /// If the node's mailbox is full. Byte credit in the core keeps it nearly empty, so that is a
    /// defect; and inputs must not be lost.
    pub(super) fn hand_over(&self, node: &Recipient<Inputs>, inputs: Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        self.0
            .waiting
            .set(self.0.waiting.get() + inputs.len() as u64);
        match node.try_send(Inputs(inputs)) {
            Ok(()) => {}
            Err(actix::prelude::SendError::Full(_)) => panic!("the node's mailbox is full"),
            // The node is gone, so the process is about to end.
            Err(actix::prelude::SendError::Closed(_)) => {}
        }
    }

    /// Hands on what came of carrying out the node's own orders: no more than it asked for, so it
    /// is bounded by the node, and goes whether the mailbox is full or not.
    pub(super) fn hand_back(&self, node: &Recipient<Inputs>, inputs: Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        let waiting = self.0.waiting.get() + inputs.len() as u64;
        self.0.waiting.set(waiting);
        node.do_send(Inputs(inputs));
    }

    /// The node has taken that many inputs out of its mailbox.
    pub(super) fn taken(&self, inputs: usize) {
        let left = self.0.waiting.get().saturating_sub(inputs as u64);
        self.0.waiting.set(left);
    }

    /// Inputs from sockets that wait for the node.
    pub(super) fn waiting(&self) -> u64 {
        self.0.waiting.get()
    }

    /// A socket failed and is about to be opened again.
    pub(super) fn restarted(&self) {
        self.0.restarts.set(self.0.restarts.get() + 1);
    }

    /// Sockets opened again since the start.
    pub(super) fn restarts(&self) -> u64 {
        self.0.restarts.get()
    }
}
