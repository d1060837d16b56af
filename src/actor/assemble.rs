//! How a node's actors come to life together: every socket made, every actor started, each given
//! the way to the others.

use std::collections::BTreeMap;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::mpsc::UnboundedSender;

use super::disk::{DiskEnd, DiskThreads};
use super::duties::{Link, Listener, Peers, Publisher, Subscriber};
use super::error::StartError;
use super::local::{self, LocalPort};
use super::messages::{Counters, Event, Fail, Flush, SocketName};
use super::node::{Clock, NodeActor, Port, Ports};
use super::socket::{Duty, Shared, SocketActor};
use super::sockets::{Made, Sockets};
use crate::http::Board;
use crate::node::{Lane, Node, Outbox};
use crate::store::{Journal, RealDisk};
use crate::types::NodeName;

/// Every socket of a node as made at the start.
pub(super) struct AllMade {
    listeners: Vec<Made>,
    peers: Made,
    links: Vec<(NodeName, Lane, Made)>,
    publisher: Made,
    subscriber: Made,
}

impl AllMade {
    /// Makes all of them; what is to be bound is bound.
    pub(super) fn new(sockets: &Sockets) -> Result<Self, StartError> {
        let listeners = (0..sockets.node().clients.len()).map(|i| sockets.clients(i));
        let lanes = sockets
            .others()
            .flat_map(|peer| [Lane::Control, Lane::Bulk].map(|lane| (peer.name.clone(), lane)));
        let links = lanes.map(|(peer, lane)| {
            let made = sockets.link(&peer, lane)?;
            Ok((peer, lane, made))
        });
        Ok(Self {
            listeners: listeners.collect::<Result<_, StartError>>()?,
            peers: sockets.peers()?,
            publisher: sockets.publisher()?,
            links: links.collect::<Result<_, StartError>>()?,
            subscriber: sockets.subscriber()?,
        })
    }
}

/// The addresses of the socket actors.
pub(super) struct Ends {
    pub(super) flush: Vec<Recipient<Flush>>,
    pub(super) fail: Vec<(SocketName, Recipient<Fail>)>,
    pub(super) local: LocalPort,
}

impl Ends {
    fn port<D: Duty>(&mut self, name: SocketName, duty: D, made: Made, shared: &Shared) -> Port<D> {
        let actor = SocketActor::start(duty, made, shared);
        self.flush.push(actor.clone().recipient());
        self.fail.push((name, actor.clone().recipient()));
        Port::new(actor)
    }
}

/// Starts the actors of all sockets, of the disk, and the node's own.
pub(super) fn start_actors(
    sockets: &Rc<Sockets>,
    made: AllMade,
    journal: Journal<RealDisk>,
    (node, clock, board): (Node, Clock, Option<Board>),
    events: &UnboundedSender<Event>,
) -> Result<(Addr<NodeActor>, Ends, DiskEnd), StartError> {
    let ctx = Context::<NodeActor>::new();
    let address = ctx.address();
    let (disk, disk_end) = DiskThreads::start(journal, &address.clone().recipient())?;
    let counters = Counters::default();
    let shared = Shared {
        sockets: Rc::clone(sockets),
        node: address.recipient(),
        counters: counters.clone(),
        events: events.clone(),
    };
    let (local, locals) = local::port(ctx.address().recipient());
    let mut ends = Ends {
        flush: Vec::new(),
        fail: Vec::new(),
        local,
    };
    let mut listeners = Vec::new();
    for (made, endpoint) in made.listeners.into_iter().zip(&sockets.node().clients) {
        let index = u16::try_from(listeners.len()).unwrap_or(u16::MAX);
        let endpoint = endpoint.bind.clone();
        let duty = Listener { index, endpoint };
        listeners.push(ends.port(SocketName::Clients(index), duty, made, &shared));
    }
    let mut links = BTreeMap::new();
    for (peer, lane, made) in made.links {
        let name = SocketName::Link(peer.clone(), lane);
        let duty = Link {
            peer: peer.clone(),
            lane,
        };
        links.insert((peer, lane), ends.port(name, duty, made, &shared));
    }
    ends.port(SocketName::Peers, Peers, made.peers, &shared);
    let ports = Ports {
        listeners,
        links,
        publisher: ends.port(
            SocketName::Publisher,
            Publisher::default(),
            made.publisher,
            &shared,
        ),
        subscriber: ends.port(
            SocketName::Subscriber,
            Subscriber::default(),
            made.subscriber,
            &shared,
        ),
    };
    let actor = ctx.run(NodeActor {
        node,
        clock,
        outbox: Outbox::new(),
        ports,
        locals,
        disk,
        counters,
        board,
        events: events.clone(),
    });
    Ok((actor, ends, disk_end))
}
