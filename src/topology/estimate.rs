//! What the declared limits add up to on one node, if all of them are reached at once.

use std::collections::BTreeMap;
use std::ops::Range;

use bytesize::ByteSize;
use serde::Serialize;

use super::model::Topology;
use super::problem::Problems;
use crate::types::limits::{CURSOR_RANGES_MAX, CURSORS_MAX, SNAPSHOTS_MAX};
use crate::types::{Limits, NodeName, Partition};

/// What libzmq and the session table keep for one connected client, measured at about 28 KiB.
const SESSION_BYTES: u64 = 28 << 10;

/// What a replica keeps for one known producer: its row, and its row in the newest checkpoint.
const PRODUCER_BYTES: u64 = 256;

/// The same for one sequence in its window: offset and digest of the batch, and both once more in
/// the newest checkpoint.
const SEQUENCE_BYTES: u64 = 120;

/// What a replica keeps of one cursor: its row, and its row in the newest checkpoint; and of one
/// range of it.
const CURSOR_BYTES: u64 = 512;
const RANGE_BYTES: u64 = 64;

/// What a checkpoint holds of one cursor at most, its name with the names of its fields, and of one
/// range: two numbers.
const CHECKPOINT_CURSOR: u64 = 192;
const CHECKPOINT_RANGE: u64 = 19;

/// What a checkpoint holds of one producer at most, its name with the names of its fields, and of
/// one sequence: two numbers and the digest.
const CHECKPOINT_PRODUCER: u64 = 128;
const CHECKPOINT_SEQUENCE: u64 = 38;

/// And of what is retained.
const CHECKPOINT_EXTENT: u64 = 96 << 10;

/// More memory than this on one node is taken for a slip of the pen: 64 GiB.
const MEMORY_SANE: u64 = 64 << 30;

/// More disk than this on one node is taken for a slip of the pen: 64 TiB.
const DISK_SANE: u64 = 64 << 40;

/// The most that the fullest node may come to hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Copies of partitions on that node.
    pub partitions: u64,
    /// Their caches and what waits for a quorum.
    pub logs_bytes: u64,
    /// Their memory of producers.
    pub producers_bytes: u64,
    /// Their memory of cursors.
    pub cursors_bytes: u64,
    /// Snapshots that are sent and received, and a damaged segment that is made whole.
    pub transfers_bytes: u64,
    /// Publishes that wait for an answer.
    pub publishes_bytes: u64,
    /// All sessions, each with its window out: what clients that stop reading can cost.
    pub sessions_bytes: u64,
    /// All of the above.
    pub memory_bytes: u64,
    /// The least disk it asks for: two segments and the free-space mark.
    pub disk_min_bytes: u64,
    /// What `keep` lets the logs grow to; absent where some stored channel names no size.
    pub disk_max_bytes: Option<u64>,
}

/// One part of the memory, and what makes it large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Bytes of it.
    pub bytes: u64,
    /// What it is for.
    pub what: &'static str,
    /// The limits that it grows with; none where only fewer partitions on a node make it smaller.
    pub limits: &'static [&'static str],
}

impl Estimate {
    /// Adds up what `topology` declares.
    pub fn of(topology: &Topology) -> Self {
        let limits = &topology.limits;
        let placement = topology.placement();
        let mut held: BTreeMap<&NodeName, Vec<&Partition>> = BTreeMap::new();
        for (partition, nodes) in &placement {
            for node in nodes {
                held.entry(node).or_default().push(partition);
            }
        }
        let fullest = held.into_values().max_by_key(Vec::len).unwrap_or_default();
        let partitions = fullest.len() as u64;
        let window = limits.producer_window.saturating_mul(SEQUENCE_BYTES) + PRODUCER_BYTES;
        let producers = limits.producers_max.saturating_mul(window);
        let session = SESSION_BYTES + limits.session_window_bytes;
        let logs_bytes = partitions.saturating_mul(limits.cache_bytes + limits.uncommitted_bytes);
        let producers_bytes = partitions.saturating_mul(producers);
        let cursors_bytes = partitions.saturating_mul(per_cursor(CURSOR_BYTES, RANGE_BYTES));
        let snapshot = Self::checkpoint_bytes(limits).min(limits.segment_bytes / 4 * 3);
        let snapshots = 2 * (SNAPSHOTS_MAX as u64).min(partitions) * snapshot;
        let transfers_bytes = snapshots + limits.segment_bytes;
        let publishes_bytes = limits.node_inflight_bytes;
        let sessions_bytes = limits.sessions_max.saturating_mul(session);
        let sizes = fullest.into_iter().map(|partition| {
            topology
                .channels
                .get(&partition.channel)
                .and_then(|channel| channel.keep.size)
        });
        let disk_min_bytes = 2 * limits.segment_bytes + limits.disk_free_min;
        let disk_max_bytes = sizes
            .reduce(|sum, size| Some(sum?.saturating_add(size?)))
            .unwrap_or(Some(0))
            .map(|logs| logs.saturating_add(disk_min_bytes));
        Self {
            partitions,
            logs_bytes,
            producers_bytes,
            cursors_bytes,
            transfers_bytes,
            publishes_bytes,
            sessions_bytes,
            memory_bytes: [
                logs_bytes,
                producers_bytes,
                cursors_bytes,
                transfers_bytes,
                publishes_bytes,
                sessions_bytes,
            ]
            .into_iter()
            .fold(0, u64::saturating_add),
            disk_min_bytes,
            disk_max_bytes,
        }
    }

    /// The parts of the memory, the largest first.
    pub fn shares(&self) -> Vec<Share> {
        let share = |bytes, what, limits| Share {
            bytes,
            what,
            limits,
        };
        let clients: &[_] = &["sessions_max", "session_window_bytes"];
        let mut shares = vec![
            share(self.sessions_bytes, "clients that do not read", clients),
            share(
                self.logs_bytes,
                "the newest records of its partitions",
                &["cache_bytes", "uncommitted_bytes"],
            ),
            share(
                self.producers_bytes,
                "producers",
                &["producers_max", "producer_window"],
            ),
            share(self.cursors_bytes, "cursors", &[]),
            share(self.transfers_bytes, "snapshots", &["segment_bytes"]),
            share(self.publishes_bytes, "publishes", &["node_inflight_bytes"]),
        ];
        shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
        shares
    }

    /// The largest checkpoint of one partition.
    pub fn checkpoint_bytes(limits: &Limits) -> u64 {
        let window = limits.producer_window.saturating_mul(CHECKPOINT_SEQUENCE);
        let producer = window.saturating_add(CHECKPOINT_PRODUCER);
        let producers = limits.producers_max.saturating_mul(producer);
        let cursors = per_cursor(CHECKPOINT_CURSOR, CHECKPOINT_RANGE);
        producers.saturating_add(CHECKPOINT_EXTENT + cursors)
    }

    /// Warns of checkpoints that no segment holds: where they are that large, nothing that was let
    /// go of gives its space back.
    pub(super) fn check_checkpoint(limits: &Limits, span: &Range<usize>, problems: &mut Problems) {
        let (bytes, segment) = (Self::checkpoint_bytes(limits), limits.segment_bytes);
        if bytes <= segment / 4 * 3 {
            return;
        }
        problems.warning(
            span,
            format!(
                "{} producers with {} sequences each, and {CURSORS_MAX} cursors, may outgrow \
                 a segment of the journal",
                limits.producers_max, limits.producer_window
            ),
            format!(
                "a partition's memory of them, up to {}, is written in one piece, of three \
                 quarters of `segment_bytes` at most; a larger one is not, and then no space comes \
                 back",
                ByteSize::b(bytes)
            ),
            format!(
                "in [limits], lower `producers_max` or `producer_window`, or raise \
                 `segment_bytes` to {} or more",
                ByteSize::b(bytes.saturating_mul(4) / 3 + 1)
            ),
        );
    }

    /// What to lower where the memory is too much: what makes most of it.
    fn remedy(&self) -> String {
        let most = self.shares().into_iter().next();
        let most = most.map(|share| share.cause()).unwrap_or_default();
        format!("most of it comes from {most}: lower that until it fits the machine's memory")
    }

    /// Warns of sums that no machine has.
    pub(super) fn check(&self, span: &Range<usize>, problems: &mut Problems) {
        if self.memory_bytes > MEMORY_SANE {
            problems.warning(
                span,
                format!(
                    "the limits let one node hold {}",
                    ByteSize::b(self.memory_bytes)
                ),
                format!(
                    "{} for {} partitions, {} for their producers, {} for their cursors, {} for \
                     snapshots, {} for publishes, {} for sessions",
                    ByteSize::b(self.logs_bytes),
                    self.partitions,
                    ByteSize::b(self.producers_bytes),
                    ByteSize::b(self.cursors_bytes),
                    ByteSize::b(self.transfers_bytes),
                    ByteSize::b(self.publishes_bytes),
                    ByteSize::b(self.sessions_bytes),
                ),
                self.remedy(),
            );
        }
        if let Some(disk) = self.disk_max_bytes.filter(|disk| *disk > DISK_SANE) {
            problems.warning(
                span,
                format!(
                    "`keep` lets the logs of one node grow to {}",
                    ByteSize::b(disk)
                ),
                "the sizes are per partition, and add up",
                "lower `keep.size` until the sum fits the disk",
            );
        }
    }
}

impl Share {
    /// What to lower where it is too large.
    pub fn cause(&self) -> String {
        let names: Vec<String> = self.limits.iter().map(|name| format!("`{name}`")).collect();
        match names.is_empty() {
            true => "the number of partitions on a node".to_owned(),
            false => names.join(" and "),
        }
    }
}

/// So many bytes for each cursor that a partition may have, and for each of its ranges.
const fn per_cursor(cursor: u64, range: u64) -> u64 {
    CURSORS_MAX as u64 * (cursor + CURSOR_RANGES_MAX as u64 * range)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const QUICKSTART: &str = include_str!("../../topology/quickstart.toml");

    #[test]
    fn checkpoints_that_outgrow_a_segment_are_told() {
        let told = |producers: &str| {
            let text = QUICKSTART.replace("producers_max = 1000 ", producers);
            let parsed = crate::topology::parse(&text, Path::new("/"));
            assert!(parsed.topology.is_some());
            let messages = parsed.problems.into_iter().map(|problem| problem.message);
            messages.collect::<Vec<_>>()
        };
        assert_eq!(told("producers_max = 1000 "), Vec::<String>::new());
        let told = told("producers_max = 2000 ");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("2000 producers with 256 sequences"),
            "{told:?}"
        );
    }

    /// The sums of one file, counted by hand.
    #[test]
    fn the_estimate_adds_up_what_one_node_may_hold() {
        let topology = crate::topology::parse(QUICKSTART, Path::new("/"))
            .topology
            .expect("sound");
        let estimate = Estimate::of(&topology);
        const MIB: u64 = 1 << 20;
        // Each of three nodes holds a copy of four partitions of `orders` and of one of `audit`.
        assert_eq!(estimate.partitions, 5);
        assert_eq!(estimate.logs_bytes, 5 * (1 + 4) * MIB);
        assert_eq!(estimate.producers_bytes, 5 * 1_000 * (256 + 256 * 120));
        assert_eq!(estimate.cursors_bytes, 5 * 256 * (512 + 512 * 64));
        // Four snapshots each way, each with all that a partition remembers.
        let producers = 1_000 * (256 * 38 + 128);
        let snapshot = producers + (96 << 10) + 256 * (192 + 512 * 19);
        assert!(snapshot <= 12 * MIB);
        assert_eq!(estimate.transfers_bytes, 8 * snapshot + 16 * MIB);
        assert_eq!(estimate.publishes_bytes, 16 * MIB);
        assert_eq!(estimate.sessions_bytes, 1_000 * ((28 << 10) + MIB));
        let sum = estimate.logs_bytes
            + estimate.producers_bytes
            + estimate.cursors_bytes
            + estimate.transfers_bytes
            + estimate.publishes_bytes
            + estimate.sessions_bytes;
        assert_eq!(estimate.memory_bytes, sum);
        let shares = estimate.shares();
        assert_eq!(shares.iter().map(|share| share.bytes).sum::<u64>(), sum);
        assert!(shares.is_sorted_by(|one, next| one.bytes >= next.bytes));
        // Every name is one that `[limits]` knows.
        let limits = serde_json::to_value(Limits::default()).expect("limits");
        for name in shares.iter().flat_map(|share| share.limits) {
            assert!(limits.get(name).is_some(), "{name}");
        }
        assert_eq!(estimate.disk_min_bytes, (2 * 16 + 64) * MIB);
        assert_eq!(estimate.disk_max_bytes, None);
    }
}
