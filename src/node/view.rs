//! What a node tells about itself: the body of the wire's `view`, printed by `weft status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One node's view of itself and its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeView {
    /// The fabric's name.
    pub fabric: String,
    /// The node's name.
    pub node: String,
    /// The life of its data folder, 16 hex digits.
    pub incarnation: String,
    /// The generation of its topology.
    pub epoch: u64,
    /// How long it runs, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it is stopping.
    pub stopping: bool,
    /// Every other node of the topology.
    pub peers: Vec<PeerView>,
    /// Every partition this node is declared to hold.
    pub partitions: Vec<PartitionView>,
    /// Every channel's account.
    pub channels: BTreeMap<String, ChannelView>,
    /// Its clients.
    pub sessions: SessionsView,
    /// Its disk.
    pub disk: DiskView,
    /// Inputs that wait in the node's mailbox.
    pub mailbox: u64,
    /// Socket actors restarted since the start.
    pub restarts: u64,
    /// What is not healthy, each a sentence that names the culprit; empty if all is well.
    pub problems: Vec<String>,
}

/// A peer as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerView {
    /// Its name.
    pub node: String,
    /// Whether it was heard lately.
    pub up: bool,
    /// When it was last heard, in milliseconds before now; absent if never.
    pub heard_ms: Option<u64>,
    /// The generation of its topology.
    pub epoch: Option<u64>,
    /// Its incarnation.
    pub incarnation: Option<String>,
    /// Its calendar clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// One replica held by this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionView {
    /// The channel.
    pub channel: String,
    /// The partition.
    pub partition: u32,
    /// `leader`, `follower`, `candidate`, `learner`, `unfounded` or `stranger`.
    pub role: String,
    /// Who leads, if known.
    pub leader: Option<String>,
    /// The node that leads when all is well.
    pub preferred: String,
    /// Raft's term.
    pub term: u64,
    /// Raft's last index.
    pub last: u64,
    /// Raft's commit index.
    pub commit: u64,
    /// The first offset that is retained.
    pub first_offset: u64,
    /// The next offset: how many records were accepted.
    pub next_offset: u64,
    /// Bytes of the entries that hold what is retained.
    pub retained_bytes: u64,
    /// Records that are no longer retained, by the bound that they passed.
    pub trimmed: TrimmedView,
    /// Producers remembered.
    pub producers: u64,
    /// The cursors, as far as this replica has come.
    pub cursors: Vec<CursorView>,
    /// Whether an empty data folder is taking the place of one that is gone, as far as this replica
    /// knows: until that is done, no other may be lost.
    pub replacing: bool,
    /// The voters, and who is being filled to be one; on the leader with how far each one is.
    pub replicas: Vec<ReplicaView>,
}

/// Records of a partition that are no longer retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrimmedView {
    /// They were too old.
    pub age: u64,
    /// The partition held too many bytes.
    pub size: u64,
    /// The partition held too many records.
    pub count: u64,
}

/// A cursor in one partition: `offered = acked + waiting + missed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CursorView {
    /// Its name.
    pub name: String,
    /// The token of its newest holder.
    pub token: u64,
    /// All before this offset is acked or missed.
    pub floor: u64,
    /// Ranges acked above it.
    pub ranges: u64,
    /// Records of the partition since where it began or was moved to.
    pub offered: u64,
    /// Of these, acked.
    pub acked: u64,
    /// Of these, neither acked nor missed; some may be with its holder.
    pub waiting: u64,
    /// Of these, no longer retained before they were acked.
    pub missed: u64,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaView {
    /// Its node.
    pub node: String,
    /// The highest index known to be synced there; absent unless this node leads.
    pub matched: Option<u64>,
    /// The leader's last index minus `matched`.
    pub lag: Option<u64>,
    /// Whether it is being filled, and has no vote yet.
    pub learner: bool,
}

/// The account of one channel on this node, since its start (what a session counted) or since the
/// founding (what the log holds).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelView {
    /// Records that clients of this node published to it.
    pub received: u64,
    /// Of these, accepted: committed in stored channels, taken in signal channels.
    pub accepted: u64,
    /// Of these, already there.
    pub repeated: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Of these, not yet decided.
    pub pending: u64,
    /// Of these, without an answer to rely on: `confirm` none, a leader lost, a time-out. They may
    /// or may not be stored.
    pub unknown: u64,
    /// Signals that matched a subscription of this node's clients.
    pub matched: u64,
    /// Of these, handed to the client's socket.
    pub delivered: u64,
    /// Of these, dropped.
    pub dropped: u64,
}

/// The clients of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsView {
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Subscriptions that wait for the client to return credit.
    pub waiting_for_credit: u64,
    /// Bytes sent to clients and not returned by `ack` or `credit`.
    pub credit_used_bytes: u64,
    /// Bytes of publishes not yet answered.
    pub inflight_bytes: u64,
    /// The bound of `inflight_bytes`.
    pub inflight_bytes_max: u64,
    /// Frames refused because they could not be read.
    pub bad_frames: u64,
}

/// The disk of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskView {
    /// Free bytes where the data folder is.
    pub free_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Commits synced since the start.
    pub syncs: u64,
    /// How long the last sync took, in microseconds.
    pub sync_us: u64,
    /// Segments of the journal that are damaged.
    pub damaged_segments: u64,
    /// Segments that were damaged, and made whole since the start.
    pub mended_segments: u64,
    /// What the last write or sync failed with, if the journal has failed.
    pub failed: Option<String>,
}
