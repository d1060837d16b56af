//! One subscription of one client: where it stands in each partition, and the window of bytes that
//! the client still takes.

use std::collections::{BTreeMap, VecDeque};

use super::feed_cursor::FeedCursor;
use super::window::Window;
use crate::types::limits::UNACKED_MAX;
use crate::types::{ChannelName, Offset, Partition, Pattern, Time};
use crate::wire::peer::FetchFrom;

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) pattern: Pattern,
    /// Only this channel.
    pub(super) channel: Option<ChannelName>,
    /// Stored channels: each partition it reads.
    pub(super) feeds: BTreeMap<Partition, Feed>,
    /// Bytes the client still takes.
    pub(super) window: Window,
    /// Whether it reaches into signal channels.
    pub(super) signals: bool,
    /// Signals that matched so far: the number of the next one.
    pub(super) sequence: u64,
    /// The cursor that it goes on at and moves.
    pub(super) cursor: Option<String>,
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
    pub(super) unacked: VecDeque<(Offset, u64)>,
    /// What it knows of the subscription's cursor here.
    pub(super) cursor: Option<Box<FeedCursor>>,
}

impl Feed {
    pub(super) fn new(at: FetchFrom) -> Self {
        Self {
            at,
            asked: None,
            retry_at: Time(0),
            starved: None,
            unacked: VecDeque::new(),
            cursor: None,
        }
    }

    /// Whether it may ask for more, with what is left of the subscription's window and of its
    /// session's. A starved one asks when its record fits; until then the others leave it what is
    /// returned. It does not ask for every few bytes returned either, since a leader answers with
    /// whole entries: half of the window must be free, or time must pass (`patient`).
    pub(super) fn wants(&self, windows: &Windows, starving: bool, patient: bool) -> bool {
        match self.starved {
            _ if self.is_full() => false,
            // Where a feed begins must be known at once, whatever the window.
            _ if self.next().is_none() => true,
            None => windows.left() > 0 && !starving,
            Some(bytes) => windows.admit(bytes, 0) && (windows.are_half_free() || patient),
        }
    }

    /// Whether so much is with the client of a cursor that it must ack some of it first.
    pub(super) fn is_full(&self) -> bool {
        let cursor = self.cursor.as_ref();
        cursor.is_some_and(|cursor| cursor.is_full(self.unacked.len()))
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
            FetchFrom::Start | FetchFrom::Time(_) | FetchFrom::End => None,
        }
    }
}

impl Subscription {
    /// Notes records that went to the client: offset and bytes of each.
    pub(super) fn deliver(&mut self, partition: &Partition, records: Vec<(Offset, u64)>) {
        self.window
            .spend(records.iter().map(|(_, bytes)| bytes).sum());
        if let Some(feed) = self.feeds.get_mut(partition) {
            feed.unacked.extend(records);
            if feed.unacked.len() > UNACKED_MAX && feed.cursor.is_none() {
                feed.halve_unacked();
            }
        }
    }

    /// The client is done with everything from `first` up to `offset`: its bytes return to the
    /// window. How many were out.
    pub(super) fn ack(&mut self, partition: &Partition, first: Offset, offset: Offset) -> u64 {
        let Some(feed) = self.feeds.get_mut(partition) else {
            return 0;
        };
        let begin = feed.unacked.partition_point(|(kept, _)| *kept < first);
        let end = feed.unacked.partition_point(|(kept, _)| *kept <= offset);
        let acked = feed.unacked.drain(begin..end.max(begin));
        let bytes = acked.map(|(_, bytes)| bytes).sum();
        self.window.give_back(bytes)
    }

    /// The client takes `bytes` more; how many were out. What it returned this way is not returned
    /// again by an ack.
    pub(super) fn credit(&mut self, bytes: u64) -> u64 {
        for feed in self.feeds.values_mut() {
            match feed.cursor.is_some() {
                // What was delivered is still to be acked.
                true => feed.unacked.iter_mut().for_each(|(_, bytes)| *bytes = 0),
                false => feed.unacked.clear(),
            }
        }
        self.window.give_back(bytes)
    }
}

/// What bounds the records of one subscription: its own window, and that of its session, which all
/// of the session's subscriptions share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) own: Window,
    pub(super) session: Window,
}

impl Windows {
    /// Whether a record of `bytes` may go after `picked` others. One larger than the own window
    /// goes alone; the session's holds the largest record there is, and is never passed.
    pub(super) fn admit(&self, bytes: u64, picked: u64) -> bool {
        self.own.admits(bytes, picked) && self.session.fits(bytes, picked)
    }

    /// Whether a record of `bytes` waits for other subscriptions of the session.
    pub(super) fn wait_for_session(&self, bytes: u64) -> bool {
        self.own.admits(bytes, 0) && !self.session.fits(bytes, 0)
    }

    pub(super) fn left(&self) -> u64 {
        self.own.left().min(self.session.left())
    }

    fn are_half_free(&self) -> bool {
        self.own.is_half_free() && self.session.is_half_free()
    }
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
            window: Window::new(100, 1_000),
            signals: false,
            sequence: 0,
            cursor: None,
        };
        (subscription, partition)
    }

    fn out(subscription: &Subscription) -> (u64, u64) {
        (subscription.window.left(), subscription.window.used())
    }

    #[test]
    fn an_ack_returns_what_lies_before_it_once() {
        let (mut subscription, partition) = subscription();
        subscription.deliver(&partition, vec![(3, 20), (4, 40), (7, 40)]);
        assert_eq!(out(&subscription), (0, 100));
        subscription.ack(&partition, 0, 4);
        subscription.ack(&partition, 0, 4);
        assert_eq!(out(&subscription), (60, 40));
        subscription.ack(&partition, 0, u64::MAX);
        assert_eq!(out(&subscription), (100, 0));
    }

    #[test]
    fn an_ack_of_a_range_returns_that_range() {
        let (mut subscription, partition) = subscription();
        subscription.deliver(&partition, vec![(3, 20), (4, 40), (7, 40)]);
        subscription.ack(&partition, 4, 6);
        assert_eq!(out(&subscription), (40, 60));
        subscription.ack(&partition, 5, 3);
        subscription.ack(&partition, 0, 7);
        assert_eq!(out(&subscription), (100, 0));
    }

    #[test]
    fn promise_5_a_cursor_whose_client_never_acks_is_given_no_more() {
        let (mut subscription, partition) = subscription();
        let windows = Windows {
            own: subscription.window,
            session: subscription.window,
        };
        let feed = subscription.feeds.get_mut(&partition).expect("its feed");
        feed.cursor = Some(Box::default());
        let records = (0..UNACKED_MAX as u64).map(|offset| (offset, 0)).collect();
        assert!(feed.wants(&windows, false, true));
        subscription.deliver(&partition, records);
        let feed = &subscription.feeds[&partition];
        assert!(feed.is_full() && !feed.wants(&windows, false, true));
        // Credit is no ack: what was delivered is still to be acked.
        subscription.credit(100);
        assert!(subscription.feeds[&partition].is_full());
        subscription.ack(&partition, 5, 5);
        assert!(!subscription.feeds[&partition].is_full());
    }

    #[test]
    fn promise_5_what_is_never_acked_costs_a_bounded_table() {
        let (mut subscription, partition) = subscription();
        let count = 3 * UNACKED_MAX as u64;
        for offset in 0..count {
            subscription.deliver(&partition, vec![(offset, 1)]);
        }
        assert!(subscription.feeds[&partition].unacked.len() <= UNACKED_MAX);
        assert_eq!(subscription.window.used(), count);
        subscription.ack(&partition, 0, count - 1);
        assert_eq!(out(&subscription), (100, 0));
    }
}
