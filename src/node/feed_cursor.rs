//! What a feed knows of its subscription's cursor: its token, what was done with when it was
//! opened, and what the client acked since that the log does not have yet.

use super::feed::{Feed, Subscription};
use super::publish::No;
use super::route::Routes;
use crate::channel::Ranges;
use crate::types::limits::{ACKS_WAITING_MAX, CURSOR_BEAT, CURSOR_RANGES_MAX, UNACKED_MAX};
use crate::types::{Offset, Partition, Time};
use crate::wire::Code;
use crate::wire::client::Ack;
use crate::wire::peer::{CursorAct, CursorAsk, FetchFrom, HeldCursor, PeerMessage};

/// The cursor of a subscription in one partition.
#[derive(Debug, Default)]
pub(super) struct FeedCursor {
    /// The number under which it was first asked for: who holds it.
    pub(super) holder: Option<u64>,
    /// Its token, once it is open.
    pub(super) token: Option<u64>,
    /// Where it stood when it was opened, and what was done with above that.
    pub(super) begun: Offset,
    pub(super) done: Ranges,
    /// All before this is done with, as the log last told.
    pub(super) floor: Offset,
    /// Acked by the client, and not known to be in the log.
    pub(super) pending: Ranges,
    /// The same, on its way there.
    pub(super) under_way: Option<UnderWay>,
    /// Acks that want an answer.
    pub(super) waiters: Vec<Waiter>,
    /// No ack is sent before this, after a refusal.
    pub(super) retry_at: Time,
    /// The log takes no more ranges before the client acks something else.
    pub(super) full: bool,
    /// How many ranges go at once.
    pub(super) batch: Batch,
    /// When the leader was last asked anything, and what was passed over last acked.
    pub(super) asked: Time,
    pub(super) passed: Time,
    /// Whether the fetch under way only asks if the cursor is still its own.
    pub(super) doubting: bool,
}

#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) request: u64,
    pub(super) since: Time,
    pub(super) ranges: Ranges,
}

/// How many ranges of acks go at once.
#[derive(Debug)]
pub(super) struct Batch(usize);

/// An ack that wants an answer.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) first: Offset,
    pub(super) end: Offset,
    pub(super) until: Time,
}

/// What an ack came to.
pub(super) struct Acked {
    pub(super) partition: Partition,
    /// Bytes that are no longer out.
    pub(super) returned: u64,
}

impl Subscription {
    pub(super) fn cursor_in(&mut self, partition: &Partition) -> Option<&mut FeedCursor> {
        self.feeds.get_mut(partition)?.cursor.as_deref_mut()
    }

    /// Takes a client's ack, for the window and for the cursor.
    pub(super) fn take_ack(&mut self, ack: &Ack, until: Time) -> Result<Option<Acked>, No> {
        let mut channels = self.feeds.keys().map(|partition| &partition.channel);
        let channel = ack.channel.clone().or_else(|| channels.next().cloned());
        let Some(channel) = channel else {
            return Ok(None);
        };
        let partition = Partition::new(&channel, ack.partition);
        if self.cursor.is_some() {
            let Some(feed) = self.feeds.get_mut(&partition) else {
                let message = format!("subscription {} does not read {partition}", ack.id);
                return Err((Code::NoPartition, message));
            };
            feed.ack_cursor(&partition, ack, until)?;
        } else if ack.request.is_some() || ack.token.is_some() {
            let message = format!(
                "subscription {} has no cursor, so its acks are not kept; leave `request` and \
                 `token` out",
                ack.id
            );
            return Err((Code::NoCursor, message));
        }
        let returned = self.ack(&partition, ack.first.unwrap_or(0), ack.offset);
        Ok(Some(Acked {
            partition,
            returned,
        }))
    }
}

impl Feed {
    /// Whether it may fetch: it has no cursor, or that is open.
    pub(super) fn is_open(&self) -> bool {
        self.cursor
            .as_ref()
            .is_none_or(|cursor| cursor.token.is_some())
    }

    /// The token of its cursor.
    pub(super) fn token(&self) -> Option<u64> {
        self.cursor.as_ref()?.token
    }

    /// What was done with when its cursor was opened.
    pub(super) fn done_with(&self) -> Option<&Ranges> {
        Some(&self.cursor.as_ref()?.done)
    }

    /// Its cursor, for the leader.
    pub(super) fn held(&self, name: Option<&str>) -> Option<HeldCursor> {
        let name = name?.to_owned();
        self.token().map(|token| HeldCursor { name, token })
    }

    /// Asks for its cursor.
    pub(super) fn open(&mut self, name: &str, partition: &Partition, request: u64) -> PeerMessage {
        let holder = match &mut self.cursor {
            Some(cursor) => *cursor.holder.get_or_insert(request),
            None => request,
        };
        PeerMessage::Cursor(CursorAsk {
            request,
            channel: partition.channel.clone(),
            partition: partition.number,
            cursor: name.to_owned(),
            does: CursorAct::Open {
                from: self.at,
                holder,
            },
        })
    }

    /// Whether it is time to ask if the cursor is still its own, where nothing else is asked.
    pub(super) fn doubts(&self, now: Time) -> bool {
        let cursor = self.cursor.as_ref().filter(|cursor| cursor.token.is_some());
        cursor.is_some_and(|cursor| now.since(cursor.asked) >= CURSOR_BEAT)
    }

    /// Where the fetch that goes now begins: one that wants nothing asks for the end, which is
    /// answered at once and without records.
    pub(super) fn fetches_from(&mut self, wants: bool, now: Time) -> FetchFrom {
        if let Some(cursor) = &mut self.cursor {
            (cursor.asked, cursor.doubting) = (now, !wants);
        }
        match wants {
            true => self.at,
            false => FetchFrom::End,
        }
    }

    /// Whether the fetch that was answered only asked for the cursor.
    pub(super) fn ends_doubt(&mut self) -> bool {
        let cursor = self.cursor.as_mut();
        cursor.is_some_and(|cursor| std::mem::take(&mut cursor.doubting))
    }

    /// Notes what a client acks of what it was given.
    fn ack_cursor(&mut self, partition: &Partition, ack: &Ack, until: Time) -> Result<(), No> {
        let (id, offset, next) = (ack.id, ack.offset, self.next());
        let Some(cursor) = &mut self.cursor else {
            return Ok(());
        };
        if let Some(token) = ack.token.filter(|token| cursor.token != Some(*token)) {
            let message = format!(
                "token {token} of the cursor is an old one in {partition}; its newest holder alone \
                 moves it"
            );
            return Err((Code::StaleToken, message));
        }
        let given = next.filter(|_| cursor.token.is_some());
        if given.is_none_or(|next| offset >= next) {
            let message =
                format!("offset {offset} of {partition} was not delivered on subscription {id}");
            return Err((Code::BadPosition, message));
        }
        if ack.first.is_some_and(|first| first > offset) {
            let message = format!("the ack ends at {offset}, before it begins");
            return Err((Code::BadPosition, message));
        }
        if ack.request.is_some() && cursor.waiters.len() >= ACKS_WAITING_MAX {
            let message = format!("{ACKS_WAITING_MAX} acks wait to be answered");
            return Err((Code::Busy, message));
        }
        // What was passed over before a record is done with when the record is.
        let first = ack.first.and_then(|first| {
            let before = self.unacked.partition_point(|(kept, _)| *kept < first);
            Some(self.unacked.get(before.checked_sub(1)?)?.0 + 1)
        });
        let first = first.unwrap_or(cursor.begun).max(cursor.floor);
        let end = offset + 1;
        cursor.pending.insert(first, end);
        cursor.full = false;
        if let Some(number) = ack.request {
            cursor.waiters.push(Waiter {
                number,
                first,
                end,
                until,
            });
        }
        Ok(())
    }

    /// Acks what was passed over since the last record, if all that was given is acked.
    pub(super) fn pass_over(&mut self, now: Time) {
        let Some(next) = self.next().filter(|_| self.unacked.is_empty()) else {
            return;
        };
        if let Some(cursor) = &mut self.cursor
            && cursor.token.is_some()
            && cursor.is_quiet()
            && now.since(cursor.passed) >= CURSOR_BEAT
        {
            cursor.passed = now;
            cursor.pending.insert(cursor.floor, next);
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self(CURSOR_RANGES_MAX)
    }
}

impl FeedCursor {
    /// The acks that go now: the lowest first, which make room for others.
    pub(super) fn take_batch(&mut self) -> Ranges {
        self.pending.split(self.batch.0)
    }

    /// The log took a batch: it may take more.
    pub(super) fn note_taken(&mut self) {
        self.batch.0 = (2 * self.batch.0).min(CURSOR_RANGES_MAX);
    }

    /// The log has no room for a batch. True if not even for one range.
    pub(super) fn note_full(&mut self) -> bool {
        self.full = self.batch.0 == 1;
        self.batch.0 = 1;
        self.full
    }

    /// Whether as many records as may be are with the client, `unacked`, or on their way to the
    /// log.
    pub(super) fn is_full(&self, unacked: usize) -> bool {
        unacked + self.pending.len() >= UNACKED_MAX
    }

    /// Whether the log has everything that the client acked.
    fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.under_way.is_none()
    }

    /// Whether there are acks to be sent now.
    pub(super) fn sends(&self, now: Time) -> bool {
        let may = self.under_way.is_none() && !self.full && self.retry_at <= now;
        may && !self.pending.is_empty()
    }

    /// What is on its way is not any more.
    pub(super) fn take_back(&mut self, routes: &mut Routes) {
        if let Some(under_way) = self.under_way.take() {
            routes.forget(under_way.request);
            self.pending.extend(under_way.ranges.iter());
        }
    }
}

impl Waiter {
    pub(super) fn lies_in(&self, ranges: &Ranges) -> bool {
        ranges.overlaps(self.first, self.end)
    }
}
