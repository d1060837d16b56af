//! How each of a node's sockets is made: its kind, options, keys, and what it binds or connects.
//! Used at the start, and again whenever a socket failed.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use super::error::StartError;
use super::keys::{self, CLIENTS, KeyPair, PEERS};
use super::monitor;
use crate::node::Lane;
use crate::topology::{Endpoint, Node, Topology};
use crate::types::limits::{
    CLIENT_FRAMES_WAITING, CLIENT_HEARTBEAT_TIMEOUT, FRAMES_UNREAD, PEER_FRAMES_WAITING,
    PEER_HEARTBEAT_TIMEOUT, SIGNAL_FRAMES_WAITING, SOCKET_BACKLOG, SOCKET_HANDSHAKE,
    SOCKET_HEARTBEAT, SOCKET_LINGER, SOCKET_RECONNECT,
};
use crate::types::{Limits, NodeName, Span, limits};

/// What CURVE adds to a frame (<https://rfc.zeromq.org/spec/26/>): name, nonce, seal and flags.
const CURVE_OVERHEAD: u64 = 8 + 8 + 16 + 1;

/// `MAXMSGSIZE` holds for libzmq's own commands too. None of them needs more.
const COMMAND_MAX: i64 = 4 << 10;

/// Makes the sockets of one node.
pub(super) struct Sockets {
    context: zmq::Context,
    topology: Arc<Topology>,
    node: Node,
    keys: Option<KeyPair>,
}

/// A socket as made, and whether its other end proves a key.
pub(super) struct Made {
    pub(super) socket: zmq::Socket,
    pub(super) curve: bool,
}

impl Sockets {
    pub(super) fn new(
        context: zmq::Context,
        topology: Arc<Topology>,
        node: Node,
        keys: Option<KeyPair>,
    ) -> Self {
        Self {
            context,
            topology,
            node,
            keys,
        }
    }

    /// The node's own declaration.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// All other nodes.
    pub(super) fn others(&self) -> impl Iterator<Item = &Node> {
        let own = &self.node.name;
        self.topology.nodes.iter().filter(move |n| n.name != *own)
    }

    /// The ROUTER for clients on the endpoint at this position.
    pub(super) fn clients(&self, listener: usize) -> Result<Made, StartError> {
        let endpoint = &self.node.clients[listener];
        self.bound(zmq::ROUTER, "clients", CLIENTS, endpoint, |socket| {
            socket.set_router_mandatory(true)?;
            socket.set_heartbeat_timeout(millis(CLIENT_HEARTBEAT_TIMEOUT))?;
            let frame_max = self.topology.limits.frame_max;
            let sealed = if endpoint.curve { CURVE_OVERHEAD } else { 0 };
            socket.set_maxmsgsize(size(frame_max + sealed))?;
            socket.set_sndhwm(CLIENT_FRAMES_WAITING)?;
            socket.set_rcvhwm(FRAMES_UNREAD)
        })
    }

    /// The ROUTER that peers' links connect to; it only receives.
    pub(super) fn peers(&self) -> Result<Made, StartError> {
        self.bound(zmq::ROUTER, "peers", PEERS, &self.node.peers, |socket| {
            socket.set_maxmsgsize(size(peer_frame_max(&self.topology.limits)))?;
            socket.set_sndhwm(1)?;
            socket.set_rcvhwm(FRAMES_UNREAD)
        })
    }

    /// The XPUB that peers' SUB sockets connect to. Verbose: it hears of every new subscriber.
    pub(super) fn publisher(&self) -> Result<Made, StartError> {
        self.bound(zmq::XPUB, "signals", PEERS, &self.node.signals, |socket| {
            socket.set_xpub_verbose(true)?;
            socket.set_maxmsgsize(limits::FRAME_OVERHEAD as i64)?;
            socket.set_sndhwm(SIGNAL_FRAMES_WAITING)?;
            socket.set_rcvhwm(FRAMES_UNREAD)
        })
    }

    /// The DEALER to one peer. While there is no connection it takes nothing, so that no stale
    /// frames pile up for a peer that is down.
    pub(super) fn link(&self, peer: &NodeName, lane: Lane) -> Result<Made, StartError> {
        let what = || format!("the {} link to {peer}", lane_name(lane));
        let remote = self.topology.node(peer).unwrap_or(&self.node);
        let socket = self.made(zmq::DEALER, what, |socket| {
            socket.set_immediate(true)?;
            // Nothing comes back on it but the commands of the handshake.
            socket.set_maxmsgsize(COMMAND_MAX)?;
            socket.set_sndhwm(PEER_FRAMES_WAITING)?;
            socket.set_rcvhwm(1)
        })?;
        self.connect(&socket, remote, &remote.peers, what)?;
        Ok(connecting(socket))
    }

    /// The SUB connected to every peer's signals.
    pub(super) fn subscriber(&self) -> Result<Made, StartError> {
        let what = || "the signal subscriber".to_owned();
        let socket = self.made(zmq::SUB, what, |socket| {
            socket.set_maxmsgsize(size(peer_frame_max(&self.topology.limits)))?;
            socket.set_rcvhwm(SIGNAL_FRAMES_WAITING)
        })?;
        for peer in self.others() {
            self.connect(&socket, peer, &peer.signals, what)?;
        }
        Ok(connecting(socket))
    }

    fn bound(
        &self,
        kind: zmq::SocketType,
        what: &'static str,
        domain: &str,
        endpoint: &Endpoint,
        options: impl Fn(&zmq::Socket) -> zmq::Result<()>,
    ) -> Result<Made, StartError> {
        let name = || format!("the {what} socket on {}", endpoint.bind);
        let socket = self.made(kind, name, |socket| {
            options(socket)?;
            socket.set_backlog(SOCKET_BACKLOG)?;
            if endpoint.bind.contains('[') {
                socket.set_ipv6(true)?;
            }
            Ok(())
        })?;
        if endpoint.curve {
            let keys = self.own_keys(|| format!("its endpoint {} speaks CURVE", endpoint.bind))?;
            let secure = || -> zmq::Result<()> {
                socket.set_curve_server(true)?;
                socket.set_curve_secretkey(&keys.secret)?;
                socket.set_zap_domain(domain)
            };
            secure().map_err(|why| StartError::Socket { what: name(), why })?;
        }
        check_free(what, &endpoint.bind)?;
        socket.bind(&endpoint.bind).map_err(|why| match why {
            zmq::Error::EADDRINUSE => in_use(what, &endpoint.bind),
            why => unusable(what, &endpoint.bind, why),
        })?;
        Ok(Made {
            socket,
            curve: endpoint.curve,
        })
    }

    /// A reader of the handshakes with `socket` that end before the gate is asked.
    pub(super) fn watch(&self, socket: &zmq::Socket) -> zmq::Result<zmq::Socket> {
        let events = [
            zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
            zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
        ];
        monitor::watch(&self.context, socket, &events)
    }

    fn made(
        &self,
        kind: zmq::SocketType,
        what: impl Fn() -> String,
        options: impl Fn(&zmq::Socket) -> zmq::Result<()>,
    ) -> Result<zmq::Socket, StartError> {
        let make = || -> zmq::Result<zmq::Socket> {
            let socket = self.context.socket(kind)?;
            socket.set_linger(millis(SOCKET_LINGER))?;
            socket.set_heartbeat_ivl(millis(SOCKET_HEARTBEAT))?;
            socket.set_heartbeat_timeout(millis(PEER_HEARTBEAT_TIMEOUT))?;
            socket.set_heartbeat_ttl(millis(PEER_HEARTBEAT_TIMEOUT))?;
            socket.set_handshake_ivl(millis(SOCKET_HANDSHAKE))?;
            socket.set_reconnect_ivl(millis(SOCKET_RECONNECT.0))?;
            socket.set_reconnect_ivl_max(millis(SOCKET_RECONNECT.1))?;
            options(&socket)?;
            Ok(socket)
        };
        make().map_err(|why| StartError::Socket { what: what(), why })
    }

    /// Connects to an endpoint of `remote`, with CURVE where it asks for it. One socket may have
    /// connections of both sorts: the options count from the next connection on.
    fn connect(
        &self,
        socket: &zmq::Socket,
        remote: &Node,
        endpoint: &Endpoint,
        what: impl Fn() -> String,
    ) -> Result<(), StartError> {
        let server = match (endpoint.curve, &remote.public_key) {
            (false, _) => None,
            (true, Some(key)) => Some(keys::decode(key, || format!("node {}", remote.name))?),
            (true, None) => {
                return Err(StartError::NoKey {
                    node: remote.name.clone(),
                    why: format!("its endpoint {endpoint} speaks CURVE"),
                    missing: "public_key",
                });
            }
        };
        let own = match server {
            Some(_) => Some(self.own_keys(|| {
                format!("endpoint {endpoint} of node {} speaks CURVE", remote.name)
            })?),
            None => None,
        };
        let connect = || -> zmq::Result<()> {
            // Sets the mechanism back to none.
            socket.set_curve_server(false)?;
            if let (Some(server), Some(own)) = (server, own) {
                socket.set_curve_serverkey(&server)?;
                socket.set_curve_publickey(&own.public)?;
                socket.set_curve_secretkey(&own.secret)?;
            }
            if endpoint.advertise.contains('[') {
                socket.set_ipv6(true)?;
            }
            socket.connect(&endpoint.advertise)
        };
        connect().map_err(|why| StartError::Socket { what: what(), why })
    }

    fn own_keys(&self, why: impl Fn() -> String) -> Result<&KeyPair, StartError> {
        self.keys.as_ref().ok_or_else(|| StartError::NoKey {
            node: self.node.name.clone(),
            why: why(),
            missing: "public_key",
        })
    }
}

/// The largest frame a peer may send: a client's frame with the envelope and the heads around it,
/// or an append or an answer to a fetch with the largest entry.
fn peer_frame_max(limits: &Limits) -> u64 {
    let appends = limits::APPEND_BYTES_MAX.max(limits::DELIVER_BYTES_MAX);
    limits.frame_max + appends + limits::FRAME_OVERHEAD
}

/// Says clearly what a bind would only say in a number, or not at all: libzmq takes an ipc path
/// away from whoever listens there.
fn check_free(what: &'static str, bind: &str) -> Result<(), StartError> {
    if let Some(path) = bind.strip_prefix("ipc://") {
        let path = Path::new(path);
        if UnixStream::connect(path).is_ok() {
            return Err(in_use(what, bind));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            let why = format!("there is no folder {}", folder.display());
            return Err(unusable(what, bind, why));
        }
        return Ok(());
    }
    // Addresses that are no numbers (an interface) are left to libzmq.
    let address = bind.strip_prefix("tcp://").unwrap_or(bind);
    let Ok(address) = address.replacen('*', "0.0.0.0", 1).parse::<SocketAddr>() else {
        return Ok(());
    };
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::AddrInUse => Err(in_use(what, bind)),
        Err(why) => Err(unusable(what, bind, why)),
    }
}

fn in_use(what: &'static str, bind: &str) -> StartError {
    StartError::EndpointInUse {
        what,
        endpoint: bind.to_owned(),
    }
}

fn unusable(what: &'static str, bind: &str, why: impl ToString) -> StartError {
    StartError::Endpoint {
        what,
        endpoint: bind.to_owned(),
        why: why.to_string(),
    }
}

fn connecting(socket: zmq::Socket) -> Made {
    Made {
        socket,
        curve: false,
    }
}

/// A lane's name in messages.
pub(super) fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Control => "control",
        Lane::Bulk => "bulk",
    }
}

fn millis(span: Span) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
