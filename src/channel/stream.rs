//! A stream's partition: which offsets are taken, which of them are retained, and which publishes
//! were stored before.
//!
//! The state follows committed entries only. The leader keeps the publishes it proposed and that
//! are not committed yet in an overlay, so that a retry is judged before its first try is decided.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cursor::{CursorAccount, CursorError, CursorPosition, Cursors};
use super::extent::{Bounds, Extent, Trimmed};
use crate::types::{Command, Limits, Members, Offset, ReplicaId, Sabotage, Wall};

/// The state of one stream partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub(super) extent: Extent,
    pub(super) cursors: Cursors,
    pub(super) members: Members,
    pub(super) last_time: Wall,
    pub(super) windows: BTreeMap<Bytes, Window>,
    /// The producers by when they were last heard.
    pub(super) by_age: BTreeMap<u64, Bytes>,
    /// Uncommitted publishes of this leader by (producer, sequence).
    proposed: BTreeMap<(Bytes, u64), Stored>,
    producers_max: usize,
    window_max: usize,
    /// Rises with every stored stamp: which producer was heard last.
    pub(super) clock: u64,
}

/// A producer's number for a publish, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The producer.
    pub producer: Bytes,
    /// Its number for the publish.
    pub sequence: u64,
    /// What tells a retry from a reuse.
    pub digest: Bytes,
}

/// The leader's answer to a publish, before anything is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before: propose it.
    New,
    /// Committed before, at this offset.
    Repeat(Offset),
    /// Proposed before, at this offset, and not committed yet: answer when it is.
    Proposed(Offset),
    /// The sequence was used for other records.
    Reused,
    /// The sequence is older than what is remembered.
    TooOld,
    /// The sequence named by `after` is not here.
    OutOfOrder,
}

/// A log that does not continue; the replica must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry begins at offset {first} instead of {expected}")]
pub struct StreamError {
    /// Where it begins.
    pub first: Offset,
    /// Where it should.
    pub expected: Offset,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) stored: BTreeMap<u64, Stored>,
    /// Sequences up to this one have left the window.
    pub(super) floor: Option<u64>,
    pub(super) heard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) offset: Offset,
    pub(super) digest: Bytes,
}

impl Stream {
    /// An empty partition.
    pub fn new(limits: &Limits) -> Self {
        Self {
            extent: Extent::default(),
            cursors: Cursors::default(),
            members: Members::default(),
            last_time: Wall(0),
            windows: BTreeMap::new(),
            by_age: BTreeMap::new(),
            proposed: BTreeMap::new(),
            producers_max: limits.producers_max as usize,
            window_max: limits.producer_window as usize,
            clock: 0,
        }
    }

    /// The partition was founded with these voters; a state that knows its members keeps them.
    pub fn found(&mut self, voters: &[ReplicaId]) {
        if self.members == Members::default() {
            self.members = Members::founded(voters);
        }
    }

    /// Who the members are by now.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The next offset to become visible.
    pub fn next_offset(&self) -> Offset {
        self.extent.end()
    }

    /// The first offset that is retained.
    pub fn first_offset(&self) -> Offset {
        self.extent.first()
    }

    /// Bytes of the entries that hold what is retained.
    pub fn retained_bytes(&self) -> u64 {
        self.extent.bytes()
    }

    /// How many records were let go of, and why.
    pub fn trimmed(&self) -> Trimmed {
        self.extent.trimmed()
    }

    /// Producers remembered.
    pub fn producers(&self) -> u64 {
        self.windows.len() as u64
    }

    /// The account of each cursor.
    pub fn cursors(&self) -> impl Iterator<Item = (&str, CursorAccount)> {
        self.cursors.accounts(self.extent.end())
    }

    /// How many cursors there are.
    pub fn cursor_count(&self) -> usize {
        self.cursors.len()
    }

    /// Whether `token` is that of the cursor's holder.
    pub fn check_cursor(&self, name: &str, token: u64) -> Result<(), CursorError> {
        self.cursors.check(name, token)
    }

    /// How many numbered batches were stored.
    pub fn heard(&self) -> u64 {
        self.clock
    }

    /// What the bounds ask for by now. The leader proposes it.
    pub fn due(&self, keep: &Bounds, now: Wall) -> Option<Command> {
        let (first, cause) = self.extent.due(keep, now)?;
        Some(Command::Trim { first, cause })
    }

    /// The last of the entries up to `applied`, all of them applied, before which and with which
    /// none holds anything that is retained.
    pub fn unretained(&self, applied: u64) -> u64 {
        let first = self.extent.first_index().unwrap_or(applied + 1);
        first.saturating_sub(1)
    }

    /// The first entry that holds a retained record, if there is one: its index, its first offset,
    /// and the time of the entry before it.
    pub fn begins(&self) -> Option<(u64, Offset, Wall)> {
        self.extent.begins()
    }

    /// The time of the newest record that is retained.
    pub fn newest_record(&self) -> Option<Wall> {
        self.extent.newest()
    }

    /// Forgets the producers that were heard no later than the numbered batch `heard`, if there are
    /// such. The leader proposes it.
    pub fn forget(&self, heard: u64) -> Option<Command> {
        let (oldest, _) = self.by_age.first_key_value()?;
        (*oldest <= heard).then_some(Command::ForgetProducers { heard })
    }

    /// The time of the last visible entry.
    pub fn last_time(&self) -> Wall {
        self.last_time
    }

    /// Takes a committed entry of `bytes` bytes, with Raft's index and its first offset: for each
    /// of its batches the record count and the stamp.
    pub fn apply(
        &mut self,
        (index, first): (u64, Offset),
        time: Wall,
        bytes: u64,
        batches: impl IntoIterator<Item = (u32, Option<Stamp>)>,
    ) -> Result<(), StreamError> {
        if first != self.next_offset() {
            return Err(StreamError {
                first,
                expected: self.next_offset(),
            });
        }
        let before = self.last_time;
        self.last_time = before.max(time);
        let mut offset = first;
        for (count, stamp) in batches {
            if let Some(stamp) = stamp {
                self.remember(stamp, offset);
            }
            offset += u64::from(count);
        }
        self.extent
            .push(index, offset - first, bytes, (before, self.last_time));
        Ok(())
    }

    /// Carries out a committed command; what became of each change of a cursor that it holds.
    pub fn apply_command(
        &mut self,
        command: &Command,
        time: Wall,
    ) -> Vec<Result<CursorPosition, CursorError>> {
        self.last_time = self.last_time.max(time);
        match command {
            Command::Trim { first, cause } => {
                self.extent.trim(*first, *cause);
                self.cursors.trim(self.extent.first());
            }
            Command::Cursors { changes } => {
                let retained = (self.extent.first(), self.extent.end());
                let changes = changes.iter();
                return changes
                    .map(|change| self.cursors.change(change, retained))
                    .collect();
            }
            Command::Members { change } => {
                // One that came too late changes nothing.
                self.members.apply(change);
            }
            Command::ForgetProducers { heard } => {
                let kept = self.by_age.split_off(&heard.saturating_add(1));
                for producer in std::mem::replace(&mut self.by_age, kept).into_values() {
                    self.windows.remove(&producer);
                }
            }
        }
        Vec::new()
    }

    /// The highest sequence of a producer that is stored, or proposed, as far as it is remembered.
    pub fn highest(&self, producer: &Bytes) -> Option<u64> {
        let window = self.windows.get(producer);
        let stored = window.and_then(|window| {
            let newest = window.stored.last_key_value();
            newest.map(|(sequence, _)| *sequence).max(window.floor)
        });
        let of_it = (producer.clone(), 0)..=(producer.clone(), u64::MAX);
        let proposed = self.proposed.range(of_it).next_back();
        stored.max(proposed.map(|((_, sequence), _)| *sequence))
    }

    /// What to do with a publish, given everything committed and proposed.
    pub fn judge(&self, stamp: Option<&Stamp>, after: Option<u64>) -> Verdict {
        let Some(stamp) = stamp else {
            return Verdict::New;
        };
        if let Some(proposed) = self.proposed.get(&(stamp.producer.clone(), stamp.sequence)) {
            return match proposed.digest == stamp.digest {
                true => Verdict::Proposed(proposed.offset),
                false => Verdict::Reused,
            };
        }
        let window = self.windows.get(&stamp.producer);
        if let Some(stored) = window.and_then(|window| window.stored.get(&stamp.sequence)) {
            return match stored.digest == stamp.digest {
                true => Verdict::Repeat(stored.offset),
                false => Verdict::Reused,
            };
        }
        if window.is_some_and(|w| w.floor.is_some_and(|floor| stamp.sequence <= floor)) {
            return Verdict::TooOld;
        }
        match after {
            Some(_) if Sabotage::ForgottenAfter.is_on() => Verdict::New,
            Some(after) if !self.is_accepted(&stamp.producer, after) => Verdict::OutOfOrder,
            _ => Verdict::New,
        }
    }

    /// Notes a publish that was just proposed at `offset`.
    pub fn propose(&mut self, stamp: Stamp, offset: Offset) {
        let stored = Stored {
            offset,
            digest: stamp.digest,
        };
        self.proposed
            .insert((stamp.producer, stamp.sequence), stored);
    }

    /// Takes back what [`Self::propose`] noted: it was not proposed after all.
    pub fn withdraw(&mut self, stamp: &Stamp) {
        self.proposed
            .remove(&(stamp.producer.clone(), stamp.sequence));
    }

    /// Forgets what was proposed: this replica no longer leads, and what becomes of it is the log's
    /// say.
    pub fn forget_proposed(&mut self) {
        self.proposed.clear();
    }

    fn is_accepted(&self, producer: &Bytes, sequence: u64) -> bool {
        self.proposed.contains_key(&(producer.clone(), sequence))
            || self.windows.get(producer).is_some_and(|window| {
                window.stored.contains_key(&sequence)
                    || window.floor.is_some_and(|floor| sequence <= floor)
            })
    }

    fn remember(&mut self, stamp: Stamp, offset: Offset) {
        self.proposed
            .remove(&(stamp.producer.clone(), stamp.sequence));
        self.clock += 1;
        let window = self.windows.entry(stamp.producer.clone()).or_default();
        self.by_age.remove(&window.heard);
        self.by_age.insert(self.clock, stamp.producer);
        window.heard = self.clock;
        window.stored.insert(
            stamp.sequence,
            Stored {
                offset,
                digest: stamp.digest,
            },
        );
        // More than one, where the bound was lowered since.
        while window.stored.len() > self.window_max {
            let left = window.stored.pop_first().map(|(sequence, _)| sequence);
            // A late sequence may leave at once. What left before it stays below the floor.
            window.floor = window.floor.max(left);
        }
        if self.windows.len() > self.producers_max {
            let oldest = self.by_age.pop_first();
            oldest.and_then(|(_, producer)| self.windows.remove(&producer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let limits = Limits {
            producer_window: 3,
            producers_max: 2,
            ..Limits::default()
        };
        Stream::new(&limits)
    }

    fn stamp(producer: &'static str, sequence: u64, digest: &'static str) -> Stamp {
        Stamp {
            producer: Bytes::from_static(producer.as_bytes()),
            sequence,
            digest: Bytes::from_static(digest.as_bytes()),
        }
    }

    #[test]
    fn promise_4_a_retry_is_known_committed_or_not() {
        let mut stream = stream();
        let first = stamp("p", 5, "x");
        assert_eq!(stream.judge(Some(&first), None), Verdict::New);
        stream.propose(first.clone(), 0);
        assert_eq!(stream.judge(Some(&first), None), Verdict::Proposed(0));
        assert_eq!(
            stream.judge(Some(&stamp("p", 5, "y")), None),
            Verdict::Reused
        );
        stream
            .apply((1, 0), Wall(1), 10, [(2, Some(first.clone()))])
            .expect("continues");
        assert_eq!(stream.judge(Some(&first), None), Verdict::Repeat(0));
        assert_eq!(
            stream.judge(Some(&stamp("p", 5, "y")), None),
            Verdict::Reused
        );
        assert_eq!(stream.next_offset(), 2);
    }

    #[test]
    fn promise_3_after_holds_the_order_of_retries() {
        let mut stream = stream();
        let second = stamp("p", 6, "y");
        assert_eq!(stream.judge(Some(&second), Some(5)), Verdict::OutOfOrder);
        stream.propose(stamp("p", 5, "x"), 0);
        assert_eq!(stream.judge(Some(&second), Some(5)), Verdict::New);
        stream.forget_proposed();
        assert_eq!(stream.judge(Some(&second), Some(5)), Verdict::OutOfOrder);
    }

    #[test]
    fn a_retry_of_5_after_6_is_new_and_one_below_the_window_is_too_old() {
        let mut stream = stream();
        stream
            .apply((1, 0), Wall(1), 10, [(1, Some(stamp("p", 6, "six")))])
            .expect("continues");
        assert_eq!(
            stream.judge(Some(&stamp("p", 5, "five")), None),
            Verdict::New
        );
        for (offset, sequence) in [(1, 7), (2, 8), (3, 9)] {
            let stamp = stamp("p", sequence, "later");
            stream
                .apply((offset + 1, offset), Wall(1), 10, [(1, Some(stamp))])
                .expect("continues");
        }
        assert_eq!(
            stream.judge(Some(&stamp("p", 5, "five")), None),
            Verdict::TooOld
        );
        assert_eq!(
            stream.judge(Some(&stamp("p", 6, "six")), None),
            Verdict::TooOld
        );
    }

    // Proposed while it still fitted the window, committed when it no longer did.
    #[test]
    fn promise_4_a_late_sequence_does_not_lower_the_floor() {
        let mut stream = stream();
        for (offset, sequence) in [(0, 6), (1, 7), (2, 8), (3, 9), (4, 5)] {
            let stamp = stamp("p", sequence, "x");
            stream
                .apply((offset + 1, offset), Wall(1), 10, [(1, Some(stamp))])
                .expect("continues");
        }
        for sequence in [5, 6] {
            let verdict = stream.judge(Some(&stamp("p", sequence, "x")), None);
            assert_eq!(verdict, Verdict::TooOld, "{sequence}");
        }
    }

    #[test]
    fn the_producer_heard_longest_ago_leaves_first() {
        let mut stream = stream();
        for (offset, producer) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
            let stamp = stamp(producer, offset, "x");
            stream
                .apply((offset + 1, offset), Wall(1), 10, [(1, Some(stamp))])
                .expect("continues");
        }
        assert_eq!(
            stream.judge(Some(&stamp("a", 0, "x")), None),
            Verdict::Repeat(0)
        );
        assert_eq!(stream.judge(Some(&stamp("b", 1, "x")), None), Verdict::New);
    }

    #[test]
    fn a_producer_not_heard_for_long_is_forgotten() {
        let mut stream = stream();
        for (offset, producer) in [(0, "a"), (1, "b")] {
            let stamp = stamp(producer, 1, "x");
            stream
                .apply((offset + 1, offset), Wall(1), 10, [(1, Some(stamp))])
                .expect("continues");
        }
        assert_eq!(stream.forget(0), None);
        let command = stream.forget(1).expect("a was heard first");
        stream.apply_command(&command, Wall(1));
        assert_eq!((stream.producers(), stream.forget(1)), (1, None));
        let again = stamp("a", 1, "x");
        assert_eq!(stream.judge(Some(&again), None), Verdict::New);
        let known = stamp("b", 1, "x");
        assert_eq!(stream.judge(Some(&known), None), Verdict::Repeat(1));
    }

    #[test]
    fn offsets_are_dense() {
        let mut stream = stream();
        let error = stream
            .apply((4 + 1, 4), Wall(1), 10, [(1, None)])
            .expect_err("a hole");
        assert_eq!(
            error,
            StreamError {
                first: 4,
                expected: 0
            }
        );
    }
}
