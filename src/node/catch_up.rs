//! How fast replicas that lag are sent what must be read from the disk for them. A node that gave
//! them all it has would serve nobody else meanwhile; one that gave them less than arrives would
//! never be done. So they get a rate of their own, and half as much again as the node writes itself
//! where that is more.

use std::collections::VecDeque;

use super::Node;
use super::serve::LoadFor;
use crate::types::{LoadRequest, LogEntry, Span, Time};

/// The pace, of all partitions together.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Bytes that may still be read now; below 0 where a read was larger than that.
    left: i64,
    /// When it grew last, and what the node had written by then.
    grown: (Time, u64),
    /// Reads that wait for it.
    waiting: VecDeque<LoadRequest>,
}

impl CatchUp {
    /// Time has passed: `rate` is in bytes a second, and `written` all that the node wrote so far.
    fn grow(&mut self, now: Time, rate: u64, written: u64) {
        let (since, before) = std::mem::replace(&mut self.grown, (now, written));
        // Time in which nobody asked for anything is not saved up.
        let passed = now.since(since).min(PASSED_MAX);
        let own = u128::from(rate) * u128::from(passed.0) / 1_000_000_000;
        let beyond_new = u128::from(written.saturating_sub(before)) * 3 / 2;
        let more = i64::try_from(own.max(beyond_new)).unwrap_or(i64::MAX);
        self.left = self.left.min(0).saturating_add(more);
    }

    /// These entries were read.
    pub(super) fn spend(&mut self, entries: &[LogEntry]) {
        let bytes = entries.iter().map(|entry| entry.data.len() as u64 + HEAD);
        self.left = self.left.saturating_sub_unsigned(bytes.sum());
    }
}

/// What an entry weighs beside its data, as in what a node writes.
const HEAD: u64 = 128;

/// Time that counts at most.
const PASSED_MAX: Span = Span::from_millis(500);

impl Node {
    /// Reads entries for a replica that lags, now or when it is their turn.
    pub(super) fn load_for_raft(&mut self, load: LoadRequest) {
        if self.catch_up.left > 0 && self.catch_up.waiting.is_empty() {
            self.loads.start(load, LoadFor::Raft, &mut self.out);
        } else {
            self.catch_up.waiting.push_back(load);
        }
    }

    /// Begins the reads whose turn it is.
    pub(super) fn tend_catch_up(&mut self) {
        let (rate, written) = (self.topology.limits.catch_up_rate, self.journal.written());
        self.catch_up.grow(self.now.mono, rate, written);
        while self.catch_up.left > 0
            && let Some(load) = self.catch_up.waiting.pop_front()
        {
            self.loads.start(load, LoadFor::Raft, &mut self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{EntryKind, Wall};

    fn entries(bytes: u64) -> [LogEntry; 1] {
        [LogEntry {
            term: 1,
            index: 1,
            kind: EntryKind::Records,
            first_offset: 0,
            count: 1,
            time: Wall(0),
            data: Bytes::from(vec![0; (bytes - HEAD) as usize]),
        }]
    }

    #[test]
    fn it_grows_by_its_rate_or_by_more_than_is_written() {
        let at = |ms: u64| Time(ms * 1_000_000);
        let mut pace = CatchUp::default();
        pace.grow(at(100), 10_000, 0);
        assert_eq!(pace.left, 1_000);
        // What nobody took is gone.
        pace.grow(at(200), 10_000, 300);
        assert_eq!(pace.left, 1_000);
        pace.grow(at(300), 10_000, 2_300);
        assert_eq!(pace.left, 3_000);
        // A read that was larger is paid for first.
        pace.spend(&entries(5_500));
        assert_eq!(pace.left, -2_500);
        pace.grow(at(400), 10_000, 2_300);
        assert_eq!(pace.left, -1_500);
        pace.grow(at(600), 10_000, 2_300);
        assert_eq!(pace.left, 500);
        pace.grow(at(100_000), 10_000, 2_300);
        assert_eq!(pace.left, 5_000);
    }
}
