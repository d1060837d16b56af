//! What a topology comes down to: every socket of every node, and every copy of every partition.
//!
//! A node takes its share from here ([`NodePlan`]), and so does `weft plan`; what is shown is what
//! is done.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Channel, Endpoint, Http, Node, PublicKey, Topology};
use crate::types::{ChannelName, NodeName};

/// The whole fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Its name.
    pub fabric: String,
    /// The generation of the topology.
    pub epoch: u64,
    /// Every node, in the order of the file.
    pub nodes: Vec<NodePlan>,
    /// Every channel as declared, with the defaults filled in, by name.
    pub channels: Vec<ChannelPlan>,
    /// Every partition of every stored channel, by name and number.
    pub partitions: Vec<PartitionPlan>,
}

/// One node's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodePlan {
    /// The node.
    pub name: NodeName,
    /// The machine it runs on.
    pub host: String,
    /// Where the host stands, if the topology says so.
    pub zone: Option<String>,
    /// Every socket it opens. A view of what the other fields say, for people.
    pub sockets: Vec<Socket>,
    /// One ROUTER for each: where clients connect.
    pub listeners: Vec<Endpoint>,
    /// One ROUTER, on which it only receives: where the peers' DEALERs connect.
    pub peers: Endpoint,
    /// One XPUB: where the peers' SUB sockets connect.
    pub signals: Endpoint,
    /// Where http is served, if it is.
    pub http: Option<Http>,
    /// Every other node, in the order of the file.
    pub links: Vec<Link>,
    /// Whose keys the `clients` endpoints let in: each key's principal.
    pub client_keys: BTreeMap<PublicKey, String>,
    /// Whose keys the `peers` and `signals` endpoints let in: each key's node, its own not among
    /// them.
    pub peer_keys: BTreeMap<PublicKey, NodeName>,
}

/// One node's way to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The other node.
    pub peer: NodeName,
    /// What a control and a bulk DEALER connect to.
    pub peers: Endpoint,
    /// What the one SUB connects to.
    pub signals: Endpoint,
    /// The other node's key, for endpoints that speak CURVE.
    pub public_key: Option<PublicKey>,
}

/// One ZeroMQ socket's address: a socket that connects to many has an entry for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Socket {
    /// Its type.
    pub kind: SocketKind,
    /// Whether it binds the endpoint or connects to it.
    pub action: Action,
    /// The address.
    pub endpoint: String,
    /// The node at the other end, where it is one.
    pub peer: Option<NodeName>,
    /// Whether it speaks CURVE.
    pub curve: bool,
    /// What it is for.
    pub why: &'static str,
}

/// The socket types in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SocketKind {
    /// Takes messages from many.
    Router,
    /// Sends to one peer.
    Dealer,
    /// Publishes, and hears who wants what.
    Xpub,
    /// Receives what it subscribed to.
    Sub,
    /// None of ZeroMQ's: answers monitoring.
    Http,
}

/// What a socket does with its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Others connect to it.
    Bind,
    /// It connects to another's.
    Connect,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelPlan {
    /// Its name.
    pub name: ChannelName,
    /// What is declared of it.
    #[serde(flatten)]
    pub declared: Channel,
}

/// One partition's copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionPlan {
    /// The channel.
    pub channel: ChannelName,
    /// The partition.
    pub partition: u32,
    /// Who leads it when all is well.
    pub leader: NodeName,
    /// Who holds it, the leader first.
    pub replicas: Vec<NodeName>,
}

/// The plan of a whole fabric.
pub fn plan(topology: &Topology) -> Plan {
    let partitions = topology
        .placement()
        .into_iter()
        .filter_map(|(partition, replicas)| {
            Some(PartitionPlan {
                channel: partition.channel,
                partition: partition.number,
                leader: replicas.first()?.clone(),
                replicas,
            })
        });
    Plan {
        fabric: topology.fabric.name.clone(),
        epoch: topology.fabric.epoch,
        nodes: topology
            .nodes
            .iter()
            .map(|node| NodePlan::new(topology, node))
            .collect(),
        channels: topology
            .channels
            .iter()
            .map(|(name, channel)| ChannelPlan {
                name: name.clone(),
                declared: channel.clone(),
            })
            .collect(),
        partitions: partitions.collect(),
    }
}

impl Plan {
    /// What of the plan concerns one node: its sockets, the partitions it holds with their
    /// channels, and signals, which every node passes on. `None` if there is no such node.
    pub fn of(mut self, node: &NodeName) -> Option<Self> {
        self.nodes.retain(|own| own.name == *node);
        self.partitions.retain(|own| own.replicas.contains(node));
        let partitions = &self.partitions;
        let holds = |name: &ChannelName| partitions.iter().any(|own| own.channel == *name);
        self.channels
            .retain(|own| !own.declared.is_stored() || holds(&own.name));
        (!self.nodes.is_empty()).then_some(self)
    }
}

impl Topology {
    /// One node's share of the plan.
    pub fn node_plan(&self, name: &NodeName) -> Option<NodePlan> {
        self.node(name).map(|node| NodePlan::new(self, node))
    }
}

impl NodePlan {
    fn new(topology: &Topology, node: &Node) -> Self {
        let others = || {
            topology
                .nodes
                .iter()
                .filter(|other| other.name != node.name)
        };
        let keyed = |other: &Node| Some((other.public_key.clone()?, other.name.clone()));
        let clients = topology.clients.iter();
        let mut plan = Self {
            name: node.name.clone(),
            host: node.host.clone(),
            zone: node.zone.clone(),
            sockets: Vec::new(),
            listeners: node.clients.clone(),
            peers: node.peers.clone(),
            signals: node.signals.clone(),
            http: node.http,
            links: others().map(Link::new).collect(),
            client_keys: clients
                .map(|own| (own.public_key.clone(), own.name.clone()))
                .collect(),
            peer_keys: others().filter_map(keyed).collect(),
        };
        plan.sockets = plan.describe();
        plan
    }

    /// Every socket that the other fields lead to.
    fn describe(&self) -> Vec<Socket> {
        let bind = |kind, endpoint: &Endpoint, why| Socket {
            kind,
            action: Action::Bind,
            endpoint: endpoint.bind.clone(),
            peer: None,
            curve: endpoint.curve,
            why,
        };
        let connect = |kind, peer: &NodeName, endpoint: &Endpoint, why| Socket {
            kind,
            action: Action::Connect,
            endpoint: endpoint.advertise.clone(),
            peer: Some(peer.clone()),
            curve: endpoint.curve,
            why,
        };
        let listeners = self.listeners.iter();
        let mut sockets: Vec<Socket> = listeners
            .map(|endpoint| {
                bind(
                    SocketKind::Router,
                    endpoint,
                    "clients publish and subscribe",
                )
            })
            .collect();
        sockets.push(bind(
            SocketKind::Router,
            &self.peers,
            "receives from every peer, both lanes",
        ));
        sockets.push(bind(
            SocketKind::Xpub,
            &self.signals,
            "signals of its clients, to peers",
        ));
        sockets.extend(self.http.map(|http| Socket {
            kind: SocketKind::Http,
            action: Action::Bind,
            endpoint: http.to_string(),
            peer: None,
            curve: false,
            why: "metrics and health, for whoever reaches it",
        }));
        for Link {
            peer,
            peers,
            signals,
            ..
        } in &self.links
        {
            let control = "control lane: votes, heartbeats, outcomes";
            let bulk = "bulk lane: appends, batches, history";
            sockets.push(connect(SocketKind::Dealer, peer, peers, control));
            sockets.push(connect(SocketKind::Dealer, peer, peers, bulk));
            sockets.push(connect(
                SocketKind::Sub,
                peer,
                signals,
                "the peer's signals",
            ));
        }
        sockets
    }
}

impl Link {
    fn new(node: &Node) -> Self {
        Self {
            peer: node.name.clone(),
            peers: node.peers.clone(),
            signals: node.signals.clone(),
            public_key: node.public_key.clone(),
        }
    }
}

impl std::fmt::Display for SocketKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Router => "ROUTER",
            Self::Dealer => "DEALER",
            Self::Xpub => "XPUB",
            Self::Sub => "SUB",
            Self::Http => "HTTP",
        })
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bind => "bind",
            Self::Connect => "connect",
        })
    }
}
