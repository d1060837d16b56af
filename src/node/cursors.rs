//! The client's side of cursors: opens them for subscriptions, gathers acks until the log has them,
//! and notices when somebody else has taken one.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::feed::Subscription;
use super::feed_cursor::{UnderWay, Waiter};
use super::io::ClientId;
use super::moves::Move;
use super::publish::{No, refuse};
use super::route::Asked;
use crate::channel::Ranges;
use crate::types::Partition;
use crate::types::limits::{CURSOR_RANGES_MAX, FETCH_RETRY, FETCH_TIMEOUT, PUBLISH_TIMEOUT};
use crate::wire::Code;
use crate::wire::client::{Ack, CursorPlace, CursorReply, End, Reply, Subscribe};
use crate::wire::peer::{CursorAct, CursorAsk, CursorStands, FetchFrom, PeerMessage, Refusal};

/// A feed: the client, its subscription, the partition.
pub(super) type FeedKey = (ClientId, u64, Partition);

/// What this node does about cursors for its clients.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    /// Feeds with acks to send at the end of the loop.
    pub(super) due: BTreeSet<FeedKey>,
    /// Seeks and deletes not answered yet.
    pub(super) moves: BTreeMap<u64, Move>,
}

impl Node {
    /// A client is done with records, and takes as many bytes again.
    pub(super) fn handle_ack(&mut self, client: &ClientId, ack: Ack) {
        let (id, request) = (ack.id, ack.request);
        let until = self.now.mono + PUBLISH_TIMEOUT;
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        match subscription.take_ack(&ack, until) {
            Ok(None) => {}
            Ok(Some(acked)) => {
                let has_cursor = subscription.cursor.is_some();
                self.give_back(client, id, acked.returned);
                if has_cursor {
                    let due = (client.clone(), id, acked.partition);
                    self.cursors.due.insert(due);
                }
            }
            Err((code, message)) => {
                let mut no = refuse(code, Some(id), message);
                no.request = request;
                self.refuse(client, no);
            }
        }
    }

    /// Sends the acks that gathered, one request for each partition of a subscription at a time.
    pub(super) fn send_acks(&mut self) {
        for (client, id, partition) in std::mem::take(&mut self.cursors.due) {
            self.settle_acks(&client, id, &partition);
            let (now, leader) = (self.now.mono, self.routes.leader(&partition).cloned());
            let (Some(leader), Some(subscription)) = (leader, self.subscription(&client, id))
            else {
                continue;
            };
            let name = subscription.cursor.clone().unwrap_or_default();
            let cursor = subscription.cursor_in(&partition);
            let Some(cursor) = cursor.filter(|cursor| cursor.sends(now)) else {
                continue;
            };
            let ranges = cursor.take_batch();
            let token = cursor.token.unwrap_or_default();
            let asked = Asked::Acks(client.clone(), id, partition.clone());
            let request = self.routes.ask(&leader, asked);
            let ask = ack(request, &partition, name, token, &ranges);
            if let Some(subscription) = self.subscription(&client, id)
                && let Some(cursor) = subscription.cursor_in(&partition)
            {
                (cursor.asked, cursor.passed) = (now, now);
                cursor.under_way = Some(UnderWay {
                    request,
                    since: now,
                    ranges,
                });
            }
            self.mail.post(&leader, ask);
        }
    }

    /// A leader answered what was asked of it about a cursor.
    pub(super) fn handle_cursored(&mut self, asked: Asked, result: Result<CursorStands, Refusal>) {
        match asked {
            Asked::Open(client, id, partition) => {
                self.handle_opened(&client, id, &partition, result);
            }
            Asked::Acks(client, id, partition) => {
                self.handle_acked(&client, id, &partition, result);
            }
            Asked::Move(key, partition) => self.handle_moved(key, &partition, result),
            Asked::Publish(..) | Asked::Feed(..) | Asked::Sequence(..) => {}
        }
    }

    fn handle_opened(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        result: Result<CursorStands, Refusal>,
    ) {
        let now = self.now.mono;
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        let Some(feed) = subscription.feeds.get_mut(partition) else {
            return;
        };
        feed.asked = None;
        match result {
            Ok(stands) => {
                feed.at = FetchFrom::Offset(stands.floor);
                if let Some(cursor) = &mut feed.cursor {
                    cursor.token = Some(stands.token);
                    (cursor.begun, cursor.floor) = (stands.floor, stands.floor);
                    (cursor.asked, cursor.passed) = (now, now);
                    cursor.done.extend(stands.acked);
                }
                self.deliver_from(client, id, partition, stands.missed);
                self.pump(client, id);
            }
            // What can be mended by waiting is asked again.
            Err(no) => match Code::from_number(no.code).filter(|code| !code.retry()) {
                None => feed.retry_at = now + FETCH_RETRY,
                Some(code) => {
                    let message = format!("{partition}: {}", no.message);
                    self.refuse(client, refuse(code, Some(id), message));
                    self.end_subscription(client, id);
                }
            },
        }
    }

    fn handle_acked(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        result: Result<CursorStands, Refusal>,
    ) {
        let retry_at = self.now.mono + FETCH_RETRY;
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        let Some(cursor) = subscription.cursor_in(partition) else {
            return;
        };
        let under_way = cursor.under_way.take();
        let no = match result {
            Ok(stands) => {
                cursor.floor = cursor.floor.max(stands.floor);
                cursor.pending.cut(cursor.floor);
                cursor.note_taken();
                None
            }
            Err(no) => {
                let ranges = under_way.map(|under_way| under_way.ranges);
                cursor.pending.extend(ranges.iter().flat_map(Ranges::iter));
                Code::from_number(no.code).map(|code| (code, no.message))
            }
        };
        match no {
            Some((code @ (Code::StaleToken | Code::CursorMoved | Code::NoCursor), _)) => {
                return self.lose_cursor(client, id, partition, code);
            }
            Some((Code::CursorFull, message)) if cursor.note_full() => {
                self.refuse_acks(client, id, partition, Code::CursorFull, &message);
            }
            Some((Code::CursorFull, _)) | None => {}
            Some(_) => cursor.retry_at = retry_at,
        }
        let due = (client.clone(), id, partition.clone());
        self.cursors.due.insert(due);
    }

    /// Answers the acks that are in the log.
    fn settle_acks(&mut self, client: &ClientId, id: u64, partition: &Partition) {
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        let name = subscription.cursor.clone().unwrap_or_default();
        let Some(cursor) = subscription.cursor_in(partition) else {
            return;
        };
        let floor = cursor.floor;
        let (pending, under_way) = (&cursor.pending, &cursor.under_way);
        let done = |waiter: &mut Waiter| {
            let on_its_way = under_way
                .as_ref()
                .is_some_and(|it| waiter.lies_in(&it.ranges));
            !waiter.lies_in(pending) && !on_its_way
        };
        let done: Vec<Waiter> = cursor.waiters.extract_if(.., done).collect();
        for waiter in done {
            let reply = CursorReply {
                id: Some(id),
                request: Some(waiter.number),
                channel: partition.channel.to_string(),
                cursor: name.clone(),
                positions: vec![CursorPlace {
                    partition: partition.number,
                    floor,
                }],
            };
            self.reply(client, &Reply::Cursor(reply), &[]);
        }
    }

    /// Refuses the acks that wait to be answered.
    fn refuse_acks(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        code: Code,
        message: &str,
    ) {
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        let waiters = subscription.cursor_in(partition);
        let waiters = waiters.map(|cursor| std::mem::take(&mut cursor.waiters));
        for waiter in waiters.unwrap_or_default() {
            let mut no = refuse(code, Some(id), format!("{partition}: {message}"));
            no.request = Some(waiter.number);
            self.refuse(client, no);
        }
    }

    /// A cursor is no longer this subscription's, which is over with it.
    pub(super) fn lose_cursor(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        code: Code,
    ) {
        let (reason, message) = match code {
            Code::StaleToken => ("taken_over", "another subscription has taken it over"),
            Code::CursorMoved => ("moved", "it was moved"),
            Code::NoCursor => ("deleted", "it was deleted"),
            _ => return,
        };
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        if let Some(cursor) = subscription.cursor_in(partition) {
            // What it has not acked yet is the next holder's.
            cursor.pending = Ranges::default();
        }
        let partitions: Vec<Partition> = subscription.feeds.keys().cloned().collect();
        for of in partitions {
            let message = format!("its cursor is lost in {partition}: {message}");
            self.refuse_acks(client, id, &of, code, &message);
        }
        self.end_subscription(client, id);
        let reason = reason.to_owned();
        self.reply(client, &Reply::End(End { id, reason }), &[]);
    }

    /// A subscription is about to be over: answers the acks that wait.
    pub(super) fn abandon_acks(&mut self, client: &ClientId, id: u64) {
        let subscription = self.subscription(client, id);
        let feeds = subscription.map(|subscription| subscription.feeds.keys().cloned());
        for partition in feeds.into_iter().flatten().collect::<Vec<_>>() {
            let message = "the subscription ended before the ack was known to be committed";
            self.refuse_acks(client, id, &partition, Code::OutcomeUnknown, message);
        }
    }

    /// A subscription is over: what its client acked and is not on its way goes, unanswered.
    pub(super) fn leave_cursor(&mut self, subscription: &Subscription) {
        let Some(name) = &subscription.cursor else {
            return;
        };
        for (partition, feed) in &subscription.feeds {
            let Some(cursor) = &feed.cursor else {
                continue;
            };
            if let Some(under_way) = &cursor.under_way {
                self.routes.forget(under_way.request);
            }
            let Some(leader) = self.routes.leader(partition).cloned() else {
                continue;
            };
            let Some(token) = cursor.token.filter(|_| !cursor.pending.is_empty()) else {
                continue;
            };
            let ranges = cursor.pending.clone().split(CURSOR_RANGES_MAX);
            let request = self.routes.number();
            let ask = ack(request, partition, name.clone(), token, &ranges);
            self.mail.post(&leader, ask);
        }
    }

    /// A partition has another leader: what was on its way to the old one is sent again.
    pub(super) fn reroute_cursors(&mut self, partition: &Partition) {
        let subscriptions = self.sessions.values_mut();
        for subscription in subscriptions.flat_map(|s| s.subscriptions.values_mut()) {
            if let Some(cursor) = subscription.cursor_in(partition) {
                cursor.take_back(&mut self.routes);
            }
        }
        self.reroute_moves(partition);
    }

    /// Time passed: acks that waited for too long are answered, others sent again, and what the
    /// pattern passed over is acked with what came before it.
    pub(super) fn tend_cursors(&mut self) {
        let now = self.now.mono;
        let mut late = Vec::new();
        for (client, session) in &mut self.sessions {
            for (id, subscription) in &mut session.subscriptions {
                if subscription.cursor.is_none() {
                    continue;
                }
                for (partition, feed) in &mut subscription.feeds {
                    let key = || (client.clone(), *id, partition.clone());
                    feed.pass_over(now);
                    let Some(cursor) = &mut feed.cursor else {
                        continue;
                    };
                    let waits = cursor.under_way.as_ref();
                    if waits.is_some_and(|waits| now.since(waits.since) >= FETCH_TIMEOUT) {
                        cursor.take_back(&mut self.routes);
                    }
                    if cursor.sends(now) {
                        self.cursors.due.insert(key());
                    }
                    if cursor.waiters.iter().any(|waiter| waiter.until <= now) {
                        late.push(key());
                    }
                }
            }
        }
        for (client, id, partition) in late {
            let message = "the ack is not known to be committed; it is tried further";
            self.refuse_acks(&client, id, &partition, Code::OutcomeUnknown, message);
        }
        self.tend_moves();
    }
}

/// Holds a subscription with a cursor to what it may reach into.
pub(super) fn check_cursor(ask: &Subscribe, signals: bool) -> Result<(), No> {
    let Some(name) = &ask.cursor else {
        return Ok(());
    };
    super::lead_cursors::check_name(name)?;
    match signals {
        true => {
            let message = format!(
                "{} reaches into signals, which are not stored and have no cursors; keep to a \
                 stream by naming its channel",
                ask.pattern
            );
            Err((Code::BadCursor, message))
        }
        false => Ok(()),
    }
}

fn ack(
    request: u64,
    partition: &Partition,
    cursor: String,
    token: u64,
    ranges: &Ranges,
) -> PeerMessage {
    PeerMessage::Cursor(CursorAsk {
        request,
        channel: partition.channel.clone(),
        partition: partition.number,
        cursor,
        does: CursorAct::Ack {
            token,
            ranges: ranges.iter().collect(),
        },
    })
}
