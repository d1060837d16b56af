//! One subscription of one client: where it stands in each partition, and the window of bytes that
//! the client still takes.

use std::collections::{BTreeMap, VecDeque};

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
    /// Bytes the client still takes; one deliver may pass it.
    pub(super) window: i64,
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
    /// Delivered and not acknowledged: the offset after it, and its bytes.
    unacked: VecDeque<(Offset, u64)>,
}

impl Feed {
    pub(super) fn new(at: FetchFrom) -> Self {
        Self {
            at,
            asked: None,
            retry_at: Time(0),
            unacked: VecDeque::new(),
        }
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
    /// Notes that `bytes` of records before `next` went to the client.
    pub(super) fn deliver(&mut self, partition: &Partition, next: Offset, bytes: u64) {
        self.window = self.window.saturating_sub_unsigned(bytes);
        self.used += bytes;
        if let Some(feed) = self.feeds.get_mut(partition) {
            feed.unacked.push_back((next, bytes));
        }
    }

    /// The client is done with everything up to `offset`: its bytes return to the window.
    pub(super) fn ack(&mut self, partition: &Partition, offset: Offset) {
        let Some(feed) = self.feeds.get_mut(partition) else {
            return;
        };
        while let Some((next, bytes)) = feed.unacked.front().copied() {
            if next > offset.saturating_add(1) {
                break;
            }
            feed.unacked.pop_front();
            self.window = self.window.saturating_add_unsigned(bytes);
            self.used = self.used.saturating_sub(bytes);
        }
    }

    /// The client takes `bytes` more. What it returned this way is not returned again by an ack.
    pub(super) fn credit(&mut self, bytes: u64) {
        self.window = self.window.saturating_add_unsigned(bytes);
        self.used = self.used.saturating_sub(bytes);
        for feed in self.feeds.values_mut() {
            feed.unacked.clear();
        }
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
            window: 100,
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
        subscription.deliver(&partition, 5, 60);
        subscription.deliver(&partition, 9, 70);
        assert_eq!((subscription.window, subscription.used), (-30, 130));
        subscription.ack(&partition, 3);
        assert_eq!(subscription.window, -30, "half a deliver returns nothing");
        subscription.ack(&partition, 4);
        subscription.ack(&partition, 4);
        assert_eq!((subscription.window, subscription.used), (30, 70));
    }

    #[test]
    fn credit_beyond_all_bounds_is_no_harm() {
        let (mut subscription, partition) = subscription();
        subscription.credit(u64::MAX);
        subscription.credit(u64::MAX);
        subscription.deliver(&partition, 5, 60);
        assert!(subscription.window > 0);
    }
}
