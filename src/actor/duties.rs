//! What a node's sockets are for, one by one: clients, peers, links, signals out and in.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::error::StartError;
use super::messages::{ToClient, ToSubscribers, Want};
use super::socket::{Duty, Parts, message_of};
use super::sockets::{Made, Sockets, lane_name};
use crate::node::{ClientId, Input, Lane};
use crate::types::NodeName;

/// One client endpoint.
pub(super) struct Listener {
    pub(super) index: u16,
    pub(super) endpoint: String,
}

impl Duty for Listener {
    type Order = ToClient;
    const READS: bool = true;

    fn name(&self) -> String {
        format!("the listener for clients on {}", self.endpoint)
    }

    fn open(&mut self, sockets: &Sockets, _: &mut Vec<Input>) -> Result<Made, StartError> {
        sockets.clients(usize::from(self.index))
    }

    fn perform(
        &mut self,
        socket: Option<&zmq::Socket>,
        order: ToClient,
        inputs: &mut Vec<Input>,
    ) -> zmq::Result<()> {
        let ToClient {
            client,
            frames,
            droppable,
        } = order;
        let sent = match socket {
            Some(socket) => now_or_again(socket, || {
                let more = if frames.is_empty() { 0 } else { zmq::SNDMORE };
                socket.send(&client.routing[..], zmq::DONTWAIT | more)
            }),
            None => Err(zmq::Error::EHOSTUNREACH),
        };
        match (sent, droppable) {
            (Ok(()), _) => send_rest(socket, frames),
            (Err(zmq::Error::EAGAIN), Some(what)) => {
                inputs.push(Input::Dropped { client, what });
                Ok(())
            }
            (Err(zmq::Error::EAGAIN | zmq::Error::EHOSTUNREACH), _) => {
                inputs.push(Input::ClientGone { client });
                Ok(())
            }
            (Err(why), _) => Err(why),
        }
    }

    fn receive(&mut self, parts: Parts, inputs: &mut Vec<Input>) {
        let Parts {
            mut frames,
            principal,
        } = parts;
        let routing = frames.remove(0);
        let client = ClientId {
            listener: self.index,
            routing,
        };
        inputs.push(Input::ClientFrame {
            client,
            principal,
            frames,
        });
    }
}

/// Where peers' links arrive.
pub(super) struct Peers;

impl Duty for Peers {
    type Order = std::convert::Infallible;
    const READS: bool = true;

    fn name(&self) -> String {
        "the listener for peers".to_owned()
    }

    fn open(&mut self, sockets: &Sockets, _: &mut Vec<Input>) -> Result<Made, StartError> {
        sockets.peers()
    }

    fn perform(
        &mut self,
        _: Option<&zmq::Socket>,
        order: Self::Order,
        _: &mut Vec<Input>,
    ) -> zmq::Result<()> {
        match order {}
    }

    fn receive(&mut self, parts: Parts, inputs: &mut Vec<Input>) {
        // A link sends single frames. Anything else goes on as an empty frame, which the node
        // counts as bad.
        let frame = match <[Bytes; 2]>::try_from(parts.frames) {
            Ok([_, frame]) => frame,
            Err(_) => Bytes::new(),
        };
        inputs.push(Input::PeerFrame {
            principal: parts.principal,
            frame,
        });
    }
}

/// This node's way to one peer.
pub(super) struct Link {
    pub(super) peer: NodeName,
    pub(super) lane: Lane,
}

impl Duty for Link {
    type Order = Bytes;
    const READS: bool = false;

    fn name(&self) -> String {
        format!("the {} link to {}", lane_name(self.lane), self.peer)
    }

    fn open(&mut self, sockets: &Sockets, _: &mut Vec<Input>) -> Result<Made, StartError> {
        sockets.link(&self.peer, self.lane)
    }

    fn perform(
        &mut self,
        socket: Option<&zmq::Socket>,
        frame: Bytes,
        _: &mut Vec<Input>,
    ) -> zmq::Result<()> {
        let Some(socket) = socket else { return Ok(()) };
        // No connection, or a full pipe: the protocol repeats itself. Asking for the events makes
        // libzmq take note of connections made and room freed since the last frame.
        if !socket.get_events()?.contains(zmq::POLLOUT) {
            return Ok(());
        }
        match socket.send(message_of(frame), zmq::DONTWAIT) {
            Err(zmq::Error::EAGAIN) => Ok(()),
            sent => sent,
        }
    }

    fn receive(&mut self, _: Parts, _: &mut Vec<Input>) {}
}

/// Signals to peers.
#[derive(Default)]
pub(super) struct Publisher {
    /// What peers want, so that it can be taken back when the socket is lost.
    wanted: BTreeSet<Bytes>,
}

impl Duty for Publisher {
    type Order = ToSubscribers;
    const READS: bool = true;

    fn name(&self) -> String {
        "the publisher of signals".to_owned()
    }

    fn open(&mut self, sockets: &Sockets, inputs: &mut Vec<Input>) -> Result<Made, StartError> {
        let made = sockets.publisher()?;
        // Whoever still wants them connects and says so again.
        for topic in std::mem::take(&mut self.wanted) {
            let wanted = false;
            inputs.push(Input::Interest { topic, wanted });
        }
        Ok(made)
    }

    fn perform(
        &mut self,
        socket: Option<&zmq::Socket>,
        order: ToSubscribers,
        _: &mut Vec<Input>,
    ) -> zmq::Result<()> {
        let Some(socket) = socket else { return Ok(()) };
        match socket.send(&order.topic[..], zmq::DONTWAIT | zmq::SNDMORE) {
            Ok(()) => socket.send(message_of(order.frame), zmq::DONTWAIT),
            Err(zmq::Error::EAGAIN) => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn receive(&mut self, parts: Parts, inputs: &mut Vec<Input>) {
        let Some(frame) = parts.frames.into_iter().next() else {
            return;
        };
        let wanted = match frame.first() {
            Some(1) => true,
            Some(0) => false,
            _ => return,
        };
        let topic = frame.slice(1..);
        match wanted {
            true => self.wanted.insert(topic.clone()),
            false => self.wanted.remove(&topic),
        };
        inputs.push(Input::Interest { topic, wanted });
    }
}

/// Signals from peers.
#[derive(Default)]
pub(super) struct Subscriber {
    /// What this node wants, so that it can be asked for again when the socket is made anew.
    wanted: BTreeSet<Bytes>,
}

impl Duty for Subscriber {
    type Order = Want;
    const READS: bool = true;

    fn name(&self) -> String {
        "the subscriber to signals".to_owned()
    }

    fn open(&mut self, sockets: &Sockets, _: &mut Vec<Input>) -> Result<Made, StartError> {
        let made = sockets.subscriber()?;
        for topic in &self.wanted {
            made.socket
                .set_subscribe(topic)
                .map_err(|why| StartError::Socket {
                    what: self.name(),
                    why,
                })?;
        }
        Ok(made)
    }

    fn perform(
        &mut self,
        socket: Option<&zmq::Socket>,
        order: Want,
        _: &mut Vec<Input>,
    ) -> zmq::Result<()> {
        let Want { topic, wanted } = order;
        // libzmq counts subscriptions; here each topic is wanted once or not at all.
        let changed = match wanted {
            true => self.wanted.insert(topic.clone()),
            false => self.wanted.remove(&topic),
        };
        match (socket, changed, wanted) {
            (Some(socket), true, true) => socket.set_subscribe(&topic),
            (Some(socket), true, false) => socket.set_unsubscribe(&topic),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, parts: Parts, inputs: &mut Vec<Input>) {
        if let Ok([topic, frame]) = <[Bytes; 2]>::try_from(parts.frames) {
            inputs.push(Input::SignalFrame { topic, frame });
        }
    }
}

/// Tries to send, and once more after libzmq has looked at its mailbox: it may know of room in the
/// pipe, or of a connection, that it has not taken note of.
fn now_or_again(socket: &zmq::Socket, send: impl Fn() -> zmq::Result<()>) -> zmq::Result<()> {
    match send() {
        Err(zmq::Error::EAGAIN | zmq::Error::EHOSTUNREACH) => {
            socket.get_events()?;
            send()
        }
        sent => sent,
    }
}

/// Sends the frames after a routing id that was taken. libzmq has room for a whole message then.
fn send_rest(socket: Option<&zmq::Socket>, frames: Vec<Bytes>) -> zmq::Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let count = frames.len();
    for (i, frame) in frames.into_iter().enumerate() {
        let more = if i + 1 < count { zmq::SNDMORE } else { 0 };
        socket.send(message_of(frame), zmq::DONTWAIT | more)?;
    }
    Ok(())
}
