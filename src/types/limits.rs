//! Every bound of the fabric with its reason. What a topology may change lives in [`Limits`]; the
//! rest is constant.

use serde::{Deserialize, Serialize};

use super::Span;

/// The bounds a topology may change under `[limits]`. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest frame taken from anybody (`MAXMSGSIZE`). A frame is held in memory whole,
    /// several times over.
    pub frame_max: u64,
    /// Client sessions of one node: each costs libzmq about 28 KiB and us a table row.
    pub sessions_max: u64,
    /// Subscriptions of one session; a session is one application thread, not a proxy for many.
    pub subscriptions_max: u64,
    /// Publishes of one session not yet answered, by bytes of records: one window of a fast
    /// producer.
    pub session_inflight_bytes: u64,
    /// Publishes of all sessions not yet answered: what a node holds while its quorum is slow.
    pub node_inflight_bytes: u64,
    /// Records sent on one subscription and not yet returned by `ack` or `credit`.
    pub subscription_window_bytes: u64,
    /// The same of all subscriptions of a session: what a client that stops reading can make its
    /// node hold.
    pub session_window_bytes: u64,
    /// Committed entries a leader keeps in memory per partition, so that live readers never touch
    /// the disk.
    pub cache_bytes: u64,
    /// Uncommitted entries of one partition; beyond it the leader answers `busy`.
    pub uncommitted_bytes: u64,
    /// The size of a journal segment file. It holds at least two of the largest commits.
    pub segment_bytes: u64,
    /// Publishes are refused while the data disk has less free space than this.
    pub disk_free_min: u64,
    /// Producers remembered per partition; each costs about 256 bytes, and 120 for every sequence
    /// in its window.
    pub producers_max: u64,
    /// Sequences remembered per producer and partition: at least what one producer may have in
    /// flight.
    pub producer_window: u64,
    /// A producer that stored nothing for so long is forgotten: a retry of what it sent before
    /// would be taken for new. Nanoseconds.
    pub producer_idle: Span,
    /// Bytes a second that a node reads from its disk for replicas that lag, of all partitions
    /// together; half as much again as it writes itself, where that is more.
    pub catch_up_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: 8 << 20,
            sessions_max: 10_000,
            subscriptions_max: 256,
            session_inflight_bytes: 16 << 20,
            node_inflight_bytes: 64 << 20,
            subscription_window_bytes: 1 << 20,
            session_window_bytes: 4 << 20,
            cache_bytes: 4 << 20,
            uncommitted_bytes: 16 << 20,
            segment_bytes: 64 << 20,
            disk_free_min: 256 << 20,
            producers_max: 1_000,
            producer_window: 1_024,
            // A day, as Kafka's `producer.id.expiration.ms`.
            producer_idle: Span::from_secs(86_400),
            catch_up_rate: 64 << 20,
        }
    }
}

/// The largest record a channel accepts where it names no `max_record`.
pub const RECORD_MAX_DEFAULT: u64 = 1 << 20;

/// The largest `max_record` a channel may name: a record must not hold a link for long.
pub const RECORD_MAX: u64 = 64 << 20;

/// What a frame may hold beside its largest record: header, subject, key, headers of the record.
pub const FRAME_OVERHEAD: u64 = 64 << 10;

/// What a publish that waits for an answer takes beside its records, per partition it goes to.
pub const PUBLISH_OVERHEAD: u64 = 512;

/// Records in one publish; bounds the work of one step.
pub const RECORDS_PER_PUBLISH: u64 = 65_536;

/// Bytes of a subject. Subjects are repeated in every record.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Words of a subject; bounds the work of matching a pattern.
pub const SUBJECT_WORDS_MAX: usize = 32;

/// Bytes of a key: it is hashed for every record.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Headers of one record.
pub const HEADERS_MAX: usize = 64;

/// Bytes of a producer's name: it is stored with every batch.
pub const PRODUCER_BYTES_MAX: usize = 64;

/// How deep MessagePack objects may nest before a frame is refused: nothing in the protocol needs
/// more than five.
pub const NESTING_MAX: usize = 32;

/// Partitions of one channel: a count that no single node would fit is a slip of the pen.
pub const PARTITIONS_MAX: u32 = 1_024;

/// Partitions of all channels of a fabric: each is a Raft group with its table rows on every
/// replica.
pub const PARTITIONS_TOTAL_MAX: u32 = 16_384;

/// Patterns of subjects in one topology: every publish is matched against them.
pub const SUBJECTS_MAX: usize = 4_096;

/// Replicas of one partition: more voters make every commit slower and no disaster likelier to be
/// survived.
pub const REPLICAS_MAX: u32 = 7;

/// Nodes of one topology; links grow with the square of it.
pub const NODES_MAX: usize = 300;

/// Client endpoints of one node: each is a socket with its own queues.
pub const ENDPOINTS_MAX: usize = 16;

/// Names of nodes, channels and clients: they are part of every frame, path and metric.
pub const NAME_BYTES_MAX: usize = 63;

/// The heartbeat of the core: the shell calls `step` with a tick this often.
pub const TICK: Span = Span::from_millis(50);

/// A follower that hears nothing from its leader for 14 to 28 ticks (0.7 to 1.4 s) calls an
/// election, and a leader that hears no quorum for 14 steps down: short enough to fail over within
/// 2 s, long enough for a busy machine.
pub const ELECTION_TICKS: usize = 14;

/// A leader beats every 2 ticks (100 ms).
pub const HEARTBEAT_TICKS: usize = 2;

/// Bytes of entries in one append message: one bulk frame well below the smallest `frame_max`.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;

/// What a batch weighs in its entry beside its records, at most: its count, bytes and checksum, and
/// whose it is.
pub const BATCH_HEAD_MAX: u64 = 256;

/// Append messages on their way to one follower: with the line above, what a slow follower makes
/// its leader hold.
pub const APPENDS_INFLIGHT_MAX: usize = 64;

/// Bytes of records in one `deliver` or one answer to a fetch between nodes (at least one record
/// goes anyway).
pub const DELIVER_BYTES_MAX: u64 = 256 << 10;

/// A publish that no leader answered for this long is refused with `outcome_unknown`, or with
/// `no_leader` if it was never sent to one. The protocol promises an answer within 5 s.
pub const PUBLISH_TIMEOUT: Span = Span::from_millis(4_500);

/// A term so far ahead of ours is no election's outcome: there are not that many.
pub const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// A replica that has not answered its leader for this long is not waited for: entries that hold
/// nothing retained go without it, and it is sent a snapshot when it is back. Longer than a restart
/// takes, so that who comes back soon goes on where it was.
pub const REPLICA_ABSENT: Span = Span::from_secs(5);

/// Bytes of a snapshot in one message: few enough that what travels on the same lane waits little.
pub const SNAPSHOT_PIECE_BYTES: u64 = 256 << 10;

/// A piece of a snapshot that is not answered for this long is sent again.
pub const SNAPSHOT_RESEND: Span = Span::from_secs(1);

/// A snapshot that was larger than a journal takes is made anew after this long.
pub const SNAPSHOT_RETRY: Span = Span::from_secs(10);

/// Snapshots that a node sends at once, and that it takes at once: each is held in memory until the
/// last piece has arrived, and is as large as a commit of the journal at most.
pub const SNAPSHOTS_MAX: usize = 4;

/// A question for entries that a disk has lost is put to another replica after this long.
pub const REPAIR_ANSWER: Span = Span::from_secs(1);

/// After all replicas were asked for what a disk has lost, and none had it, or it could not be
/// written: when to try again.
pub const REPAIR_REST: Span = Span::from_secs(5);

/// Bytes of the journal that a scrub reads a second: 10 GB in under an hour, a hundredth of what a
/// disk gives.
pub const SCRUB_BYTES_PER_S: u64 = 4 << 20;

/// From the end of a scrub to the beginning of the next. Bits rot slowly; what a disk lost must be
/// found before other disks have lost the same.
pub const SCRUB_REST: Span = Span::from_secs(6 * 3_600);

/// Places in a log that are remembered with their offsets, one a beat, per partition: the next
/// checkpoint lets go of what is before one of them. When there are as many, every other one is
/// forgotten.
pub const LOG_PLACES_MAX: usize = 256;

/// A leader holds a fetch that finds nothing new for this long, then answers that there is nothing.
pub const FETCH_WAIT: Span = Span::from_millis(1_000);

/// A fetch without an answer for this long is sent again, to whoever leads now.
pub const FETCH_TIMEOUT: Span = Span::from_millis(2_500);

/// Records of one partition that a subscription was sent and has not acknowledged, remembered one
/// by one; beyond it two by two, and so on.
pub const UNACKED_MAX: usize = 65_536;

/// Reads for audits under way at once on one node, each of [`DELIVER_BYTES_MAX`]: whoever verifies
/// a ledger must not keep followers and readers from the disk.
pub const AUDITS_MAX: usize = 4;
/// Bytes of a cursor's name: it is stored with every ack.
pub const CURSOR_BYTES_MAX: usize = 64;

/// Cursors of one partition. Every replica keeps them, and writes them with every checkpoint.
pub const CURSORS_MAX: usize = 256;

/// Ranges of acked records above the oldest one that is not; with the line above a few megabytes of
/// state. A reader that acks further apart than this has lost its oldest record.
pub const CURSOR_RANGES_MAX: usize = 512;

/// Acks of one subscription and partition that wait to be answered.
pub const ACKS_WAITING_MAX: usize = 1_024;

/// `seek`s and `delete`s that one node has not answered; beyond it the answer is `busy`.
pub const CURSOR_MOVES_MAX: usize = 1_024;

/// How often a reader's node asks whether a cursor is still its own where it fetches nothing, and
/// acks what the pattern passed over.
pub const CURSOR_BEAT: Span = Span::from_millis(1_000);

/// Fetches held by one leader; a peer that sends more is answered at once with nothing.
pub const FETCHES_HELD_MAX: usize = 100_000;

/// A peer not heard for this long is shown as down. Peers beat every [`PEER_BEAT`].
pub const PEER_DOWN: Span = Span::from_secs(2);

/// How often a node states who it is, what it leads and what it holds to each peer.
pub const PEER_BEAT: Span = Span::from_millis(500);

/// Clocks of two nodes further apart than this are reported.
pub const CLOCK_SKEW_MAX: Span = Span::from_secs(10);

/// A graceful stop hands leadership over for at most this long.
pub const STOP_HANDOVER: Span = Span::from_secs(2);

/// After a `busy`, when to come back.
pub const BUSY_RETRY: Span = Span::from_millis(100);

/// How long a `hello` waits for what the partitions know of its producer.
pub const HELLO_WAIT: Span = Span::from_secs(4);

/// Clients of one node that wait so: each asks every partition of the fabric.
pub const HELLOS_MAX: usize = 256;

/// Questions for one leader about producers: those of a loop, and loops whose questions wait.
pub const READS_MAX: usize = 1_024;

/// A session that holds something (publishes in flight, subscriptions) and has been silent is
/// probed this often.
pub const PROBE: Span = Span::from_secs(2);

/// A session that holds nothing and has been silent for this long is forgotten.
pub const SESSION_IDLE: Span = Span::from_secs(60);

/// Frames that wait for one client in libzmq; a client that lets them pile up is dropped.
pub const CLIENT_FRAMES_WAITING: i32 = 10_000;

/// Frames that wait for one peer in libzmq; Raft and fetches send again what does not fit.
pub const PEER_FRAMES_WAITING: i32 = 10_000;

/// Frames that wait for one peer on the signal socket before libzmq drops, seen as a gap.
pub const SIGNAL_FRAMES_WAITING: i32 = 10_000;

/// A hard state that nobody waits for (a raised commit index) is written with the next commit, or
/// alone after this long.
pub const LAZY_COMMIT: Span = Span::from_secs(1);

/// A disk that takes this long for one commit is stalled: its node hands over what it leads, and is
/// given nothing to lead. A thousand times what a sync takes, and no longer than an election.
pub const SYNC_STALLED: Span = Span::from_secs(1);

/// A leader that is not the preferred one hands over after leading undisturbed for this long.
pub const PREFERRED_AFTER: Span = Span::from_secs(3);

/// After handing over, or trying to, the same replica does not do it again for this long.
pub const HAND_OVER_REST: Span = Span::from_secs(30);

/// Signal patterns that peers want from one node, or wanted lately. Each costs a match per signal.
pub const SIGNAL_TOPICS_MAX: usize = 10_000;

/// After a fetch that found no leader, when to look again.
pub const FETCH_RETRY: Span = Span::from_millis(100);

/// Frames of no node that the endpoint for peers may be sent in [`STRAYS_WITHIN`] before that is
/// told as a problem: a client that took the wrong port greets every other second, and is none.
pub const STRAYS_MAX: u64 = 100;

/// See [`STRAYS_MAX`].
pub const STRAYS_WITHIN: Span = Span::from_secs(30);

/// Senders of unusable peer frames that are remembered by name, for `status`.
pub const STRANGERS_MAX: usize = 16;

/// A signal pattern that no peer wants is still counted for this long, so that a peer whose link
/// was cut meanwhile sees how much it missed.
pub const SIGNAL_MEMORY: Span = Span::from_secs(600);

/// How often libzmq pings the other end of a connection (`ZMQ_HEARTBEAT_IVL`).
pub const SOCKET_HEARTBEAT: Span = Span::from_secs(1);

/// A client's connection that answers no ping for this long is closed. With the ping before it and
/// [`PROBE`] after it, a client that vanished without a word is known to be gone within 5 s.
pub const CLIENT_HEARTBEAT_TIMEOUT: Span = Span::from_millis(1_500);

/// A peer's connection that answers no ping for this long is closed. Raft notices a dead peer much
/// sooner; this only makes way for a new connection.
pub const PEER_HEARTBEAT_TIMEOUT: Span = Span::from_secs(3);

/// A connection that has not finished its handshake by then is closed: strangers hold nothing for
/// long.
pub const SOCKET_HANDSHAKE: Span = Span::from_secs(5);

/// How long a link waits before it connects again, at first and at most.
pub const SOCKET_RECONNECT: (Span, Span) = (Span::from_millis(100), Span::from_secs(1));

/// What is still unsent when a socket closes has this long to leave. Part of [`STOP_MAX`].
pub const SOCKET_LINGER: Span = Span::from_millis(500);

/// Connections that wait to be accepted: all clients of a node that restarts come back at once.
pub const SOCKET_BACKLOG: i32 = 1_024;

/// Frames of one sender that wait unread in libzmq: what a client makes the node hold beyond its
/// credit while the node is busy. The node reads before it decides, so a short queue costs no
/// throughput.
pub const FRAMES_UNREAD: i32 = 256;

/// Frames read from one socket before the node's other actors have their turn.
pub const FRAMES_PER_TURN: usize = 256;

/// Bytes read from one socket before the node's other actors have their turn (at least one frame).
pub const BYTES_PER_TURN: usize = 16 << 20;

/// Parts kept of one message. The protocol has one after an optional empty one; more are refused.
pub const PARTS_MAX: usize = 4;

/// Batches of inputs that wait for the node. Each socket and the disk have at most a few under way,
/// so a full mailbox is a defect, and ends the process.
pub const NODE_MAILBOX: usize = 4_096;

/// A failed socket is opened again after this long, doubled with every failure in a row, one second
/// at most.
pub const RESTART_BACKOFF: Span = Span::from_millis(20);

/// Failures in a row after which the node gives up: about six seconds, far beyond what a port takes
/// to be free.
pub const RESTARTS_MAX: u32 = 10;

/// A socket that served for this long has recovered; its next failure is the first in a row.
pub const RESTART_SETTLED: Span = Span::from_secs(10);

/// Frames of a client in the node's own process that the node has not taken; the client keeps more.
pub const LOCAL_FRAMES_WAITING: usize = 256;

/// How often the shell tells the node what only it can measure.
pub const GAUGES_EVERY: Span = Span::from_secs(1);

/// From the signal to the exit; with [`SOCKET_LINGER`] below the 5 s that a supervisor waits.
pub const STOP_MAX: Span = Span::from_millis(3_500);

/// Http connections answered at a time; further ones wait in the system's queue. Monitoring has a
/// few, and each is short.
pub const HTTP_CONNECTIONS_MAX: usize = 16;

/// From an http connection's beginning to its end: who asks or reads more slowly is cut off, and
/// holds its seat no longer.
pub const HTTP_TIMEOUT: Span = Span::from_secs(5);

/// Bytes of an http request's head.
pub const HTTP_HEADER_MAX: usize = 16 << 10;

/// A node that has not said how it is for this long hangs. It says so with every
/// [`GAUGES_EVERY`].
pub const HTTP_STALE: Span = Span::from_secs(5);

/// Refused connections logged per endpoint in ten seconds; the others are only counted.
pub const REFUSALS_LOGGED: u32 = 5;
