//! What a client may be told: where to connect, as whom, how to publish, what to read.

use std::sync::Arc;

use super::local::{Local, LocalNode};
use crate::topology::{PublicKey, SecretKey};
use crate::types::{ChannelName, Offset, Span, Wall};
use crate::wire::client;

/// Where and how to connect.
///
/// ```
/// use weft::client::{Address, ConnectOptions};
/// use weft::types::Span;
///
/// let options = ConnectOptions {
///     timeout: Span::from_secs(3),
///     name: "billing".to_owned(),
///     ..ConnectOptions::new(vec![Address::open("tcp://10.0.0.1:7101")])
/// };
/// ```
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
    /// The fabric that is meant: a node of another one is not talked to. Without it any will do.
    pub fabric: Option<String>,
    /// How long `connect` may take.
    pub timeout: Span,
    /// What the client calls itself in the node's log.
    pub name: String,
}

/// A node's client endpoint.
///
/// ```
/// use weft::client::Address;
/// use weft::topology::PublicKey;
///
/// let open = Address::open("ipc:///run/weft/clients");
/// let key = PublicKey::parse("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")?;
/// let keyed = Address::curve("tcp://10.0.0.1:7101", key);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As ZeroMQ writes it: `tcp://HOST:PORT` or `ipc://PATH`.
    pub endpoint: String,
    /// The node's public key; the connection then speaks CURVE.
    pub server_key: Option<PublicKey>,
    /// The node itself, where it is in this process.
    pub(super) local: Option<Local>,
}

/// How a producer publishes.
///
/// ```
/// use weft::client::{Level, ProducerOptions};
/// use weft::types::Span;
///
/// // Tells within 5 s, and keeps at most 64 KiB on their way.
/// let options = ProducerOptions {
///     level: Level::Quorum,
///     timeout: Span::from_secs(5),
///     window_bytes: 64 << 10,
/// };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerOptions {
    /// What to wait for.
    pub level: Level,
    /// How long a record may wait and be tried again while nothing goes on, before its outcome is
    /// told as it stands then. What waits behind others that are stored meanwhile has its time
    /// still before it.
    pub timeout: Span,
    /// Bytes of records accepted by `send` whose outcome is not known, with 32 to 256 for each
    /// record's own administration; `send` waits beyond.
    pub window_bytes: usize,
}

/// What a producer waits for.
///
/// ```
/// use weft::client::{Level, ProducerOptions};
///
/// // May be lost before it is stored, and costs nobody a wait.
/// let options = ProducerOptions { level: Level::None, ..ProducerOptions::default() };
/// ```
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
///
/// ```
/// use weft::client::{Start, Wanted};
///
/// let wanted = Wanted {
///     channel: Some("orders".into()),
///     partition: Some(2),
///     ..Wanted::new("orders.eu.*", Start::Offset(1041))
/// };
/// ```
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
///
/// ```
/// use weft::client::{Start, Wanted};
/// use weft::types::Wall;
///
/// let of_2026 = Wanted::new("orders.#", Start::Time(Wall(1_767_225_600_000)));
/// ```
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
    ///
    /// ```
    /// use weft::client::{Address, ConnectOptions};
    ///
    /// let hosts = ["10.0.0.1", "10.0.0.2"];
    /// let addresses = hosts.map(|host| Address::open(format!("tcp://{host}:7101")));
    /// let options = ConnectOptions::new(addresses.to_vec());
    /// ```
    pub fn new(addresses: Vec<Address>) -> Self {
        Self {
            addresses,
            identity: None,
            follow: true,
            spread: true,
            fabric: None,
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
    ///
    /// ```
    /// use weft::client::Address;
    ///
    /// let address = Address::open("tcp://127.0.0.1:7101");
    /// assert_eq!(address.server_key, None);
    /// ```
    pub fn open(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            server_key: None,
            local: None,
        }
    }

    /// An endpoint that speaks CURVE, of the node with this public key.
    ///
    /// ```
    /// use weft::client::{Address, ConnectOptions};
    /// use weft::topology::{PublicKey, SecretKey};
    ///
    /// # fn options(public: PublicKey, own: SecretKey) -> ConnectOptions {
    /// ConnectOptions {
    ///     // As `weft keys new --for client` wrote it.
    ///     identity: Some(own),
    ///     ..ConnectOptions::new(vec![Address::curve("tcp://10.0.0.1:7101", public)])
    /// }
    /// # }
    /// ```
    pub fn curve(endpoint: impl Into<String>, server_key: PublicKey) -> Self {
        Self {
            server_key: Some(server_key),
            ..Self::open(endpoint)
        }
    }

    /// A node of this process. `name` is what it is called in errors.
    pub(crate) fn local(name: impl Into<String>, node: Arc<dyn LocalNode>) -> Self {
        Self {
            local: Some(Local(node)),
            ..Self::open(name)
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
    /// What is stored under `pattern` from `start` on, and what comes.
    ///
    /// ```
    /// use weft::client::{Start, Wanted};
    ///
    /// let all = Wanted::new("orders.#", Start::Start);
    /// assert_eq!(all.cursor, None);
    /// ```
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
