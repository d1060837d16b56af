//! What enters and leaves a node.

use bytes::Bytes;

use crate::types::{DamagedSegment, JournalItem, LoadRequest, LogEntry, NodeName, Partition};

/// A client as its listener knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// Which of the node's client endpoints, by position in the topology.
    pub listener: u16,
    /// The routing id on that listener. Chosen by the client: never trusted as a name.
    pub routing: Bytes,
}

/// Everything that can happen to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A message from a client.
    ClientFrame {
        /// Who sent it.
        client: ClientId,
        /// The name of the key that the transport proved, if it proved one.
        principal: Option<String>,
        /// The frames after the routing id, as they came.
        frames: Vec<Bytes>,
    },
    /// The transport says that the client is gone, or does not read what waits for it.
    ClientGone {
        /// Who.
        client: ClientId,
    },
    /// A droppable output found the client's pipe full and was dropped.
    Dropped {
        /// The client.
        client: ClientId,
        /// What the output said of itself.
        what: Droppable,
    },
    /// A message from a peer, on either lane.
    PeerFrame {
        /// The node whose key the transport proved, if it proved one.
        principal: Option<String>,
        /// The frame.
        frame: Bytes,
    },
    /// A message on the SUB socket.
    SignalFrame {
        /// Its topic: the pattern and a zero byte.
        topic: Bytes,
        /// The frame after it.
        frame: Bytes,
    },
    /// A peer asked this node's XPUB socket for a topic (each time any peer does), or the last peer
    /// no longer wants it.
    Interest {
        /// The topic: the pattern and a zero byte.
        topic: Bytes,
        /// Wanted, or no longer.
        wanted: bool,
    },
    /// The journal wrote and synced everything up to this `Persist`.
    Persisted {
        /// Its sequence.
        sequence: u64,
    },
    /// The journal could not write or sync. Nothing of that `Persist` may be believed.
    PersistFailed {
        /// Its sequence.
        sequence: u64,
        /// What the system said.
        error: String,
    },
    /// Answers a `Load`.
    Loaded {
        /// Its id.
        id: u64,
        /// The entries, in order, starting at the one asked for; empty if there is none.
        result: Result<Vec<LogEntry>, String>,
    },
    /// Which segments of the journal are damaged now, and which entries are lost with them: said
    /// whenever it may be news, and after every `Mend`.
    Damaged(Vec<DamagedSegment>),
    /// What the shell measured since the last time.
    Gauges(Gauges),
    /// Time passed; comes every `limits::TICK`.
    Tick,
    /// Stop gracefully: accept nothing new, hand leadership over, then say `Stopped`.
    Stop,
}

/// What only the shell can measure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Inputs that wait in the node's mailbox.
    pub mailbox: u64,
    /// Free bytes on the data disk.
    pub disk_free: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Commits synced since the start.
    pub syncs: u64,
    /// How long the last sync took, in microseconds.
    pub sync_us: u64,
    /// Socket actors restarted since the start.
    pub restarts: u64,
}

/// Two sockets lead to each peer, so that bulk never delays heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Votes, heartbeats, outcomes, states.
    Control,
    /// Appends, forwards, fetched entries.
    Bulk,
}

/// A frame that may be dropped when its client's pipe is full. Only signals are, and pings, which
/// count nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Droppable {
    /// The subscription.
    pub subscription: u64,
    /// The channel.
    pub channel: crate::types::ChannelName,
    /// How many records the frame holds.
    pub count: u64,
    /// And how many bytes of them.
    pub bytes: u64,
}

/// Everything a node can ask of its shell. To be executed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send to a client.
    ToClient {
        /// Whom.
        client: ClientId,
        /// The frames after the routing id.
        frames: Vec<Bytes>,
        /// If set, and the client's pipe is full: drop it and say `Input::Dropped`. If not set and
        /// the pipe is full: say `Input::ClientGone`.
        droppable: Option<Droppable>,
    },
    /// Send to a peer. If its pipe is full, drop it: the protocol repeats itself.
    ToPeer {
        /// Whom.
        peer: NodeName,
        /// On which socket.
        lane: Lane,
        /// The frame.
        frame: Bytes,
    },
    /// Send on the XPUB socket.
    Signal {
        /// The topic.
        topic: Bytes,
        /// The frame after it.
        frame: Bytes,
    },
    /// Subscribe to, or unsubscribe from, a topic on the SUB socket.
    Interest {
        /// The topic.
        topic: Bytes,
        /// Wanted, or no longer.
        wanted: bool,
    },
    /// Write all of it in one commit and sync. At most one is under way.
    Persist {
        /// Rises by one.
        sequence: u64,
        /// What to write, in order.
        items: Vec<JournalItem>,
    },
    /// Read from the journal.
    Load(LoadRequest),
    /// Write a damaged segment anew with these in the place of what was lost. Answered by
    /// `Damaged`.
    Mend {
        /// Its number.
        segment: u64,
        /// What was lost, as other replicas have it.
        entries: Vec<(Partition, LogEntry)>,
    },
    /// For the log.
    Note {
        /// How grave.
        level: Level,
        /// What happened, naming names.
        text: String,
    },
    /// The graceful stop is done; nothing is left to flush.
    Stopped,
}

/// How grave a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ordinary life.
    Info,
    /// Somebody should look at it.
    Warn,
    /// The node cannot do its work.
    Error,
}

/// The outputs of one step, in order.
pub type Outbox = Vec<Output>;
