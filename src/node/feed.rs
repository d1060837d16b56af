//! One subscription of one client: where it stands in each partition, and the window of bytes that
//! the client still takes.

use std::collections::{BTreeMap, VecDeque};

use crate::types::limits::UNACKED_MAX;
use crate::types::{ChannelName, Offset, Partition, Pattern, Sabotage, Time};
use crate::wire::peer::FetchFrom;

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) pattern: Pattern,
    /// Only this channel.
    pub(super) channel: Option<ChannelName>,
    /// Stored channels: each partition it reads.
    pub(super) feeds: BTreeMap<Partition, Feed>,
    /// Bytes the client still takes; one deliver may pass it.
    pub(super) window: i64,
    /// The largest window, however much the client gives.
    pub(super) most: i64,
    /// Bytes delivered and not returned.
    pub(super) used: u64,
    /// Whether the client named its credit: then signals respect it too.
    pub(super) bounded: bool,
    /// Whether it reaches into signal channels.
    pub(super) signals: bool,
    /// Signals that matched so far: the number of the next one.
    pub(super) sequence: u64,
}

/// Where a subscription stands in one partition.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) at: FetchFrom,
    /// The request under which the next records were asked for, and when.
    pub(super) asked: Option<(u64, Time)>,
    /// Not before this, after a refusal.
    pub(super) retry_at: Time,
    /// The bytes of the next record, where it does not fit what is left of the window: nothing is
    /// asked for until it does, and no other feed of the subscription goes first.
    pub(super) starved: Option<u64>,
    /// Records delivered and not acknowledged: offset and bytes.
    unacked: VecDeque<(Offset, u64)>,
}

impl Feed {
    pub(super) fn new(at: FetchFrom) -> Self {
        Self {
            at,
            asked: None,
            retry_at: Time(0),
            starved: None,
            unacked: VecDeque::new(),
        }
    }

    /// Whether it may ask for more, with these bytes free and these out. A starved one asks when
    /// its record fits; until then the others leave it what is returned. It does not ask for every
    /// few bytes returned either, since a leader answers with whole entries: half of the window
    /// must be free, or time must pass (`patient`).
    pub(super) fn wants(&self, window: i64, used: u64, starving: bool, patient: bool) -> bool {
        match self.starved {
            // Where a feed begins must be known at once, whatever the window.
            _ if self.next().is_none() => true,
            None => window > 0 && !starving,
            Some(bytes) => {
                let half = i64::try_from(used).is_ok_and(|used| used <= window);
                admits(window, used, bytes, 0) && (half || patient)
            }
        }
    }

    /// Joins neighbours: the bytes of the first return with those of the second. So a client that
    /// returns nothing of a boundless window costs a bounded table.
    fn halve_unacked(&mut self) {
        let mut kept = VecDeque::with_capacity(self.unacked.len() / 2 + 1);
        while let Some((offset, bytes)) = self.unacked.pop_front() {
            let (offset, more) = self.unacked.pop_front().unwrap_or((offset, 0));
            kept.push_back((offset, bytes + more));
        }
        self.unacked = kept;
    }

    /// The next offset, once it is known.
    pub(super) fn next(&self) -> Option<Offset> {
        match self.at {
            FetchFrom::Offset(offset) => Some(offset),
            FetchFrom::Time(_) | FetchFrom::End => None,
        }
    }
}

impl Subscription {
    /// Notes records that went to the client: offset and bytes of each.
    pub(super) fn deliver(&mut self, partition: &Partition, records: Vec<(Offset, u64)>) {
        let bytes = records.iter().map(|(_, bytes)| bytes).sum();
        self.window = self.window.saturating_sub_unsigned(bytes);
        self.used += bytes;
        if let Some(feed) = self.feeds.get_mut(partition) {
            feed.unacked.extend(records);
            if feed.unacked.len() > UNACKED_MAX {
                feed.halve_unacked();
            }
        }
    }

    /// Whether a record of `bytes` may go after `picked` others: it fits the window, or nothing
    /// else is out.
    pub(super) fn admits(&self, bytes: u64, picked: u64) -> bool {
        admits(self.window, self.used, bytes, picked)
    }

    /// The client is done with everything up to `offset`: its bytes return to the window.
    pub(super) fn ack(&mut self, partition: &Partition, offset: Offset) {
        let Some(feed) = self.feeds.get_mut(partition) else {
            return;
        };
        let acked = feed.unacked.partition_point(|(kept, _)| *kept <= offset);
        let bytes = feed.unacked.drain(..acked).map(|(_, bytes)| bytes).sum();
        self.give_back(bytes);
    }

    /// The client takes `bytes` more. What it returned this way is not returned again by an ack.
    pub(super) fn credit(&mut self, bytes: u64) {
        for feed in self.feeds.values_mut() {
            feed.unacked.clear();
        }
        self.give_back(bytes);
    }

    fn give_back(&mut self, bytes: u64) {
        self.window = self.window.saturating_add_unsigned(bytes).min(self.most);
        self.used = self.used.saturating_sub(bytes);
    }
}

fn admits(window: i64, used: u64, bytes: u64, picked: u64) -> bool {
    if Sabotage::BoundlessWindow.is_on() {
        return true;
    }
    let left = window.saturating_sub_unsigned(picked);
    i64::try_from(bytes).is_ok_and(|bytes| bytes <= left) || (used + picked == 0 && left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> (Subscription, Partition) {
        let partition = Partition::new(&"orders".into(), 0);
        let feeds = [(partition.clone(), Feed::new(FetchFrom::Offset(0)))].into();
        let subscription = Subscription {
            pattern: Pattern::parse("orders.#").expect("a pattern"),
            channel: None,
            feeds,
            window: 100,
            most: 1_000,
            used: 0,
            bounded: true,
            signals: false,
            sequence: 0,
        };
        (subscription, partition)
    }

    #[test]
    fn an_ack_returns_what_lies_before_it_once() {
        let (mut subscription, partition) = subscription();
        subscription.deliver(&partition, vec![(3, 20), (4, 40), (7, 40)]);
        assert_eq!((subscription.window, subscription.used), (0, 100));
        subscription.ack(&partition, 4);
        subscription.ack(&partition, 4);
        assert_eq!((subscription.window, subscription.used), (60, 40));
        subscription.ack(&partition, u64::MAX);
        assert_eq!((subscription.window, subscription.used), (100, 0));
    }

    #[test]
    fn a_record_larger_than_the_window_goes_alone() {
        let (mut subscription, partition) = subscription();
        assert!(subscription.admits(1_000, 0));
        assert!(!subscription.admits(1_000, 10));
        assert!(subscription.admits(90, 10));
        subscription.deliver(&partition, vec![(0, 10)]);
        assert!(!subscription.admits(1_000, 0));
        assert!(!subscription.admits(91, 0));
    }

    #[test]
    fn promise_5_what_is_never_acked_costs_a_bounded_table() {
        let (mut subscription, partition) = subscription();
        let count = 3 * UNACKED_MAX as u64;
        for offset in 0..count {
            subscription.deliver(&partition, vec![(offset, 1)]);
        }
        assert!(subscription.feeds[&partition].unacked.len() <= UNACKED_MAX);
        assert_eq!(subscription.used, count);
        subscription.ack(&partition, count - 1);
        assert_eq!((subscription.window, subscription.used), (100, 0));
    }

    #[test]
    fn credit_beyond_all_bounds_is_no_harm() {
        let (mut subscription, partition) = subscription();
        subscription.credit(u64::MAX);
        subscription.credit(u64::MAX);
        subscription.deliver(&partition, vec![(5, 60)]);
        assert!(subscription.window > 0);
    }
}
