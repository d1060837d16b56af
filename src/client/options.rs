//! What a client may be told: where to connect, as whom, how to publish, what to read.

use crate::topology::{PublicKey, SecretKey};
use crate::types::{ChannelName, Offset, Span, Wall};
use crate::wire::client;

/// Where and how to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The client endpoints of one or more nodes, tried one after the other.
    pub addresses: Vec<Address>,
    /// Whom to be, where the nodes demand CURVE. Without it a key pair of one use is made, which a
    /// node takes only if it is open to all.
    pub identity: Option<SecretKey>,
    /// Whether to fail over to the nodes that the first one names, besides `addresses`.
    pub follow: bool,
    /// Whether to begin at any of `addresses`, so that clients spread over the nodes. Without it
    /// they are tried from the first one on.
    pub spread: bool,
    /// How long `connect` may take.
    pub timeout: Span,
    /// What the client calls itself in the node's log.
    pub name: String,
}

/// A node's client endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As ZeroMQ writes it: `tcp://HOST:PORT` or `ipc://PATH`.
    pub endpoint: String,
    /// The node's public key; the connection then speaks CURVE.
    pub server_key: Option<PublicKey>,
}

/// How a producer publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerOptions {
    /// What to wait for.
    pub level: Level,
    /// How long a record may be retried before its outcome is told as it stands then.
    pub timeout: Span,
    /// Bytes of records accepted by `send` whose outcome is not known, with 256 for each record's
    /// own administration; `send` waits beyond.
    pub window_bytes: usize,
}

/// What a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `Quorum` where the channel offers it, else `None`.
    Best,
    /// That the node has taken the record.
    None,
    /// That a majority of the replicas has synced it.
    Quorum,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The subjects.
    pub pattern: String,
    /// Only this channel.
    pub channel: Option<ChannelName>,
    /// Only this partition of it.
    pub partition: Option<u32>,
    /// Where to start in stored channels.
    pub start: Start,
    /// Bytes of records on their way or not yet taken; the node's default if absent.
    pub window_bytes: Option<u64>,
    /// The cursor to go on at, and to move by acks. `start` then counts the first time only.
    pub cursor: Option<String>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Start,
    /// At the next record to come.
    End,
    /// At this offset; `channel` and `partition` must be named.
    Offset(Offset),
    /// At the first record of this time or later.
    Time(Wall),
}

impl From<Start> for client::From {
    fn from(start: Start) -> Self {
        match start {
            Start::Start => Self::Start,
            Start::End => Self::End,
            Start::Offset(offset) => Self::Offset(offset),
            Start::Time(wall) => Self::Time(wall),
        }
    }
}

impl ConnectOptions {
    /// Connects to `addresses` and whatever nodes these name, within 10 s.
    pub fn new(addresses: Vec<Address>) -> Self {
        Self {
            addresses,
            identity: None,
            follow: true,
            spread: true,
            timeout: Span::from_secs(10),
            name: format!("weft-client {}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// Open endpoints with commas between, as in `tcp://10.0.0.1:7101,tcp://10.0.0.2:7101`.
impl From<&str> for ConnectOptions {
    fn from(endpoints: &str) -> Self {
        let endpoints = endpoints.split(',').map(str::trim);
        Self::new(
            endpoints
                .filter(|text| !text.is_empty())
                .map(Address::open)
                .collect(),
        )
    }
}

impl Address {
    /// An open endpoint.
    pub fn open(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            server_key: None,
        }
    }
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            level: Level::Best,
            timeout: Span::from_secs(30),
            window_bytes: 16 << 20,
        }
    }
}

impl Wanted {
    /// What comes from now on under `pattern`.
    pub fn new(pattern: impl Into<String>, start: Start) -> Self {
        Self {
            pattern: pattern.into(),
            channel: None,
            partition: None,
            start,
            window_bytes: None,
            cursor: None,
        }
    }
}

/// What comes from now on under this pattern.
impl From<&str> for Wanted {
    fn from(pattern: &str) -> Self {
        Self::new(pattern, Start::End)
    }
}
