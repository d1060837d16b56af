//! A topology as the rest of Weft sees it: parsed and checked, with defaults filled in.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::types::{ChannelName, Limits, NodeName, Pattern, Span};

/// A whole fabric as declared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Topology {
    /// The fabric itself.
    pub fabric: Fabric,
    /// Every node, in the order of the file.
    pub nodes: Vec<Node>,
    /// Clients known by key, in the order of the file.
    pub clients: Vec<Client>,
    /// Every channel by name.
    pub channels: BTreeMap<ChannelName, Channel>,
    /// The bounds.
    pub limits: Limits,
}

/// What the file says of the fabric as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fabric {
    /// Its name; nodes of another fabric are refused.
    pub name: String,
    /// The generation of the file, raised with every change.
    pub epoch: u64,
}

/// One declared node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The machine it runs on; two copies of a partition are kept off one host.
    pub host: String,
    /// Where the host stands; copies are spread over zones first where zones are declared.
    pub zone: Option<String>,
    /// Where clients connect; at least one.
    pub clients: Vec<Endpoint>,
    /// Where peers' control and bulk links connect.
    pub peers: Endpoint,
    /// Where peers' SUB sockets connect.
    pub signals: Endpoint,
    /// Where its figures and its health are to be had.
    pub http: Option<Http>,
    /// Its data folder, absolute; `None` means `./weft-data/NAME`.
    pub data: Option<PathBuf>,
    /// Its CURVE key, as peers and clients know it.
    pub public_key: Option<PublicKey>,
    /// The file that holds its secret key, absolute.
    pub secret_key_file: Option<PathBuf>,
}

/// Where a node shows itself to monitoring. There are no keys: whoever reaches it may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Http {
    /// What the node binds.
    pub bind: SocketAddr,
    /// Whether it may be reached from other machines.
    pub open: bool,
}

impl Http {
    /// Whether others reach it who were not meant to.
    pub fn is_exposed(&self) -> bool {
        !self.open && !self.bind.ip().is_loopback()
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.bind)
    }
}

/// One declared client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// The principal's name.
    pub name: String,
    /// Its CURVE key.
    pub public_key: PublicKey,
}

/// A ZeroMQ address that one node binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// What the node binds: `tcp://ADDRESS:PORT` or `ipc://PATH` (absolute).
    pub bind: String,
    /// What others connect to; the same as `bind` unless `advertise` says otherwise.
    pub advertise: String,
    /// Whether it speaks CURVE: every tcp endpoint beyond loopback does.
    pub curve: bool,
}

/// A CURVE public key in Z85, 40 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub String);

/// One declared channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Channel {
    /// How it is stored and read.
    pub kind: Kind,
    /// The patterns of the subjects it captures; no subject is captured by two channels.
    pub subjects: Vec<Pattern>,
    /// How many partitions; 1 for signals. Never changes.
    pub partitions: u32,
    /// How many copies of each partition; 0 for signals.
    pub replicas: u32,
    /// The confirm level where a publish names none.
    pub confirm: Confirm,
    /// How long records are kept: for ever where nothing is declared.
    pub keep: Keep,
    /// The largest record: bytes of its encoded form.
    pub max_record: u64,
}

/// The kinds of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Not stored: whoever is connected reads it.
    Signal,
    /// Stored, replicated, read by position.
    Stream,
}

impl Kind {
    /// As a topology file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Stream => "stream",
        }
    }
}

/// When a publish is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Never; refusals are still sent.
    None,
    /// Once a majority of the replicas has synced it.
    Quorum,
}

/// Retention as declared: a record leaves when any of them says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Keep {
    /// Older than this, in nanoseconds.
    pub age: Option<Span>,
    /// Beyond this many bytes per partition.
    pub size: Option<u64>,
    /// Beyond this many records per partition.
    pub count: Option<u64>,
}

impl Topology {
    /// Where the node of this name keeps its data, if nobody says otherwise.
    pub fn data_folder(&self, name: &str) -> PathBuf {
        self.node(&NodeName::from(name))
            .and_then(|node| node.data.clone())
            .unwrap_or_else(|| PathBuf::from("weft-data").join(name))
    }

    /// The node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The channel that captures `subject`; at most one does.
    pub fn channel_for(&self, subject: &str) -> Option<(&ChannelName, &Channel)> {
        self.channels
            .iter()
            .find(|(_, channel)| channel.subjects.iter().any(|own| own.matches(subject)))
    }

    /// Every channel that captures some subject which `pattern` selects, by name.
    pub fn channels_for(&self, pattern: &Pattern) -> Vec<(&ChannelName, &Channel)> {
        self.channels
            .iter()
            .filter(|(_, channel)| channel.subjects.iter().any(|own| own.overlaps(pattern)))
            .collect()
    }
}

impl Channel {
    /// Whether its records are stored: it has partitions with replicas and offsets.
    pub fn is_stored(&self) -> bool {
        match self.kind {
            Kind::Signal => false,
            Kind::Stream => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "signal",
            Self::Stream => "stream",
        })
    }
}

impl fmt::Display for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Quorum => "quorum",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advertise)
    }
}
