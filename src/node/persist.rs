//! What waits for the journal. One commit is under way at a time; what comes meanwhile gathers for
//! the next. This is the group commit.

use std::collections::VecDeque;

use super::io::{Outbox, Output};
use crate::types::limits::{LAZY_COMMIT, SYNC_STALLED};
use crate::types::{JournalItem, Partition, Sabotage, Span, Time};

/// Left free beside a state in its commit: more than what a commit loses to pages, of the smallest
/// segments that are of use, and a name.
const STATE_HEAD: u64 = 1_024;

/// The queue in front of the journal.
#[derive(Debug)]
pub(super) struct JournalQueue {
    queue: VecDeque<Queued>,
    urgent: bool,
    lazy_since: Option<Time>,
    in_flight: Option<InFlight>,
    sequence: u64,
    commit_bytes: u64,
    /// Bytes since checkpoints were written last, and the bytes of those.
    grown: u64,
    /// Bytes of all items so far.
    written: u64,
    checkpoints: u64,
    /// Bytes of checkpoints that are not written yet.
    checkpoints_waiting: u64,
    failed: Option<String>,
}

/// What is true once everything queued before it is synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// This replica's `Ready`.
    Ready(Partition, u64),
    /// This partition's founding record.
    Founded(Partition),
}

/// The commit under way.
#[derive(Debug)]
struct InFlight {
    sequence: u64,
    since: Time,
    done: Vec<Done>,
}

#[derive(Debug)]
enum Queued {
    Item(JournalItem),
    Done(Done),
}

impl JournalQueue {
    /// `commit_bytes`: when a commit is full; one item may pass it.
    pub(super) fn new(commit_bytes: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            urgent: false,
            lazy_since: None,
            in_flight: None,
            sequence: 0,
            commit_bytes,
            // Nobody knows how much came after the checkpoints of the life before.
            grown: u64::MAX,
            written: 0,
            checkpoints: 0,
            checkpoints_waiting: 0,
            failed: None,
        }
    }

    /// Queues an item. Alone it is written with the next commit, or after a while.
    pub(super) fn push(&mut self, item: JournalItem, now: Time) {
        if self.failed.is_some() || is_hole(&item) {
            return;
        }
        self.grown = self.grown.saturating_add(weight(&item));
        self.written = self.written.saturating_add(weight(&item));
        self.queue.push_back(Queued::Item(item));
        self.lazy_since.get_or_insert(now);
    }

    /// Whether checkpoints are due: the journal has grown by `segment_bytes` since they were
    /// written last, and by several times what they took, so that they are a small part of all that
    /// is written. If so, they begin.
    pub(super) fn begin_checkpoints(&mut self, segment_bytes: u64) -> bool {
        let due = self.failed.is_none() && self.grown >= segment_bytes.max(4 * self.checkpoints);
        if due {
            (self.grown, self.checkpoints) = (0, 0);
        }
        due
    }

    /// Whether another checkpoint may be pushed without those before it holding up a commit for
    /// long.
    pub(super) fn takes_checkpoints(&self) -> bool {
        self.failed.is_none() && self.checkpoints_waiting < self.commit_bytes
    }

    /// The most bytes of state that a commit holds: one of a single item may be as large as most of
    /// a segment, of which pages and the item's own head take some.
    pub(super) fn state_bytes_max(&self) -> u64 {
        (3 * self.commit_bytes).saturating_sub(STATE_HEAD)
    }

    /// Takes a checkpoint, unless no commit holds it.
    pub(super) fn push_checkpoint(&mut self, item: JournalItem, now: Time) -> bool {
        let bytes = weight(&item);
        if bytes > self.state_bytes_max() {
            return false;
        }
        self.checkpoints += bytes;
        self.checkpoints_waiting += bytes;
        self.push(item, now);
        true
    }

    /// Bytes of all that was queued so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Asks to be told when all that is queued is synced, and for that to happen now.
    pub(super) fn await_sync(&mut self, done: Done) {
        if self.failed.is_some() {
            return;
        }
        self.queue.push_back(Queued::Done(done));
        self.urgent = true;
    }

    /// Starts the next commit, if one is due and none is under way.
    pub(super) fn flush(&mut self, now: Time, out: &mut Outbox) {
        let stale = self
            .lazy_since
            .is_some_and(|since| now.since(since) >= LAZY_COMMIT);
        if self.in_flight.is_some() || self.failed.is_some() || !(self.urgent || stale) {
            return;
        }
        let mut bytes = 0;
        let mut items = Vec::new();
        let mut done = Vec::new();
        self.checkpoints_waiting = 0;
        while let Some(queued) = self.queue.pop_front() {
            match queued {
                Queued::Done(next) => done.push(next),
                Queued::Item(item) => {
                    bytes += weight(&item);
                    if bytes > self.commit_bytes && !items.is_empty() {
                        self.queue.push_front(Queued::Item(item));
                        break;
                    }
                    items.push(item);
                }
            }
        }
        self.urgent = self
            .queue
            .iter()
            .any(|queued| matches!(queued, Queued::Done(_)));
        self.lazy_since = (!self.queue.is_empty()).then_some(now);
        self.sequence += 1;
        self.in_flight = Some(InFlight {
            sequence: self.sequence,
            since: now,
            done,
        });
        out.push(Output::Persist {
            sequence: self.sequence,
            items,
        });
    }

    /// The journal synced a commit: what is true now.
    pub(super) fn handle_persisted(&mut self, sequence: u64) -> Vec<Done> {
        let ours = |flight: &mut InFlight| flight.sequence == sequence;
        let flight = self.in_flight.take_if(ours);
        flight.map_or_else(Vec::new, |flight| flight.done)
    }

    /// How long the disk has been busy with one commit, if that is longer than it should be.
    pub(super) fn stalled(&self, now: Time) -> Option<Span> {
        let flight = self.in_flight.as_ref()?;
        Some(now.since(flight.since)).filter(|span| *span >= SYNC_STALLED)
    }

    /// The journal failed: nothing is ever confirmed again until a restart, so nothing is kept for
    /// it either.
    pub(super) fn handle_failed(&mut self, error: String) {
        self.queue.clear();
        self.urgent = false;
        self.failed.get_or_insert(error);
    }

    /// Why the journal failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether nothing waits for a sync.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && !self.urgent
    }
}

fn is_hole(item: &JournalItem) -> bool {
    Sabotage::LogHole.is_on()
        && matches!(item, JournalItem::Entry { entry, .. } if entry.index % 64 == 0)
}

fn weight(item: &JournalItem) -> u64 {
    let payload = match item {
        JournalItem::Founding { record, .. } => record.len(),
        JournalItem::HardState { .. } => 0,
        JournalItem::Entry { entry, .. } => entry.data.len(),
        JournalItem::Checkpoint { checkpoint, .. } | JournalItem::Snapshot { checkpoint, .. } => {
            checkpoint.state.len()
        }
    };
    payload as u64 + 128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Span;
    use bytes::Bytes;

    fn item(bytes: usize) -> JournalItem {
        let partition = Partition::new(&"orders".into(), 0);
        JournalItem::Founding {
            partition,
            record: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn one_commit_is_under_way_at_a_time_and_holds_what_gathered() {
        let partition = Partition::new(&"orders".into(), 0);
        let done = |number| Done::Ready(partition.clone(), number);
        let mut queue = JournalQueue::new(1_000);
        let mut out = Vec::new();
        queue.push(item(10), Time(0));
        queue.flush(Time(0), &mut out);
        assert!(out.is_empty(), "nobody waits for it");
        queue.await_sync(done(1));
        queue.flush(Time(0), &mut out);
        queue.push(item(10), Time(0));
        queue.push(item(2_000), Time(0));
        queue.await_sync(done(2));
        queue.flush(Time(0), &mut out);
        assert_eq!(out.len(), 1, "the first is under way");
        assert_eq!(queue.handle_persisted(7), [], "not ours");
        assert_eq!(queue.handle_persisted(1), [done(1)]);
        queue.flush(Time(0), &mut out);
        assert_eq!(
            queue.handle_persisted(2),
            [],
            "the big item goes alone, later"
        );
        queue.flush(Time(0), &mut out);
        assert_eq!(queue.handle_persisted(3), [done(2)]);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_commit_that_takes_long_is_a_stalled_disk() {
        let mut queue = JournalQueue::new(1_000);
        let mut out = Vec::new();
        queue.await_sync(Done::Founded(Partition::new(&"orders".into(), 0)));
        queue.flush(Time(7), &mut out);
        let late = Time(7) + SYNC_STALLED;
        assert_eq!(queue.stalled(late - Span(1)), None);
        assert_eq!(queue.stalled(late), Some(SYNC_STALLED));
        queue.handle_persisted(1);
        assert_eq!(queue.stalled(late), None);
    }

    #[test]
    fn an_item_nobody_waits_for_is_written_after_a_while() {
        let mut queue = JournalQueue::new(1_000);
        let mut out = Vec::new();
        queue.push(item(1), Time(0));
        queue.flush(Time(0) + LAZY_COMMIT - Span(1), &mut out);
        assert!(out.is_empty());
        queue.flush(Time(0) + LAZY_COMMIT, &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn promise_2_a_failed_journal_syncs_nothing_more() {
        let mut queue = JournalQueue::new(1_000);
        let mut out = Vec::new();
        queue.handle_failed("disk on fire".to_owned());
        queue.push(item(1), Time(0));
        queue.await_sync(Done::Founded(Partition::new(&"orders".into(), 0)));
        queue.flush(Time(0), &mut out);
        assert!(out.is_empty());
        assert_eq!(queue.failure(), Some("disk on fire"));
    }
}
