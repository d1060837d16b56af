//! The client's side of reading stored channels: a subscription is a feed per partition, each of
//! which fetches from the partition's leader while the client takes more.

use std::collections::BTreeMap;

use super::Node;
use super::cursors::check_cursor;
use super::feed::{Feed, Subscription};
use super::io::ClientId;
use super::pick::pick;
use super::publish::No;
use super::report::declared_partitions;
use super::route::Asked;
use super::window::Window;
use crate::types::limits::{DELIVER_BYTES_MAX, FETCH_RETRY, FETCH_TIMEOUT};
use crate::types::{Partition, Pattern, Sabotage};
use crate::wire::Code;
use crate::wire::client::{Credit, Deliver, End, From, Reply, Subscribe};
use crate::wire::peer::{Fetch, FetchFrom, Fetched, PeerMessage, Refusal};

impl Node {
    /// A client subscribes, or asks whether its subscription stands.
    pub(super) fn handle_subscribe(&mut self, client: &ClientId, subscribe: Subscribe) {
        let id = subscribe.id;
        let known = self
            .sessions
            .get(client)
            .is_some_and(|s| s.subscriptions.contains_key(&id));
        if known {
            self.deliver_nothing(client, id);
            return;
        }
        match self.check_subscribe(client, &subscribe) {
            Ok(subscription) => {
                let signals = subscription.signals.then(|| subscription.pattern.clone());
                if let Some(session) = self.sessions.get_mut(client) {
                    session.subscriptions.insert(id, subscription);
                }
                if let Some(pattern) = signals {
                    self.add_interest(&pattern, client, id);
                }
                self.deliver_nothing(client, id);
                self.pump(client, id);
            }
            Err((code, message)) => {
                self.refuse(client, super::publish::refuse(code, Some(id), message));
            }
        }
    }

    fn check_subscribe(&self, client: &ClientId, ask: &Subscribe) -> Result<Subscription, No> {
        if self.stopping {
            return Err((Code::Stopping, format!("{} is about to stop", self.name)));
        }
        let limits = &self.topology.limits;
        let count = self
            .sessions
            .get(client)
            .map_or(0, |s| s.subscriptions.len() as u64);
        if count >= limits.subscriptions_max {
            let message = format!("the session has {count} subscriptions, as many as it may");
            return Err((Code::TooManySubscriptions, message));
        }
        let pattern =
            Pattern::parse(&ask.pattern).map_err(|error| (Code::BadPattern, error.to_string()))?;
        let mut channels = self.topology.channels_for(&pattern);
        if let Some(only) = &ask.channel {
            channels.retain(|(name, _)| *name == only);
        }
        if channels.is_empty() {
            let declared = super::report::declared_subjects(&self.topology);
            let of = ask
                .channel
                .as_ref()
                .map_or(String::new(), |name| format!(" of {name}"));
            let message = format!(
                "no channel{of} has subjects that {pattern} selects; declared are {declared}"
            );
            return Err((Code::NoChannel, message));
        }
        let mut feeds = BTreeMap::new();
        for (name, channel) in channels.iter().filter(|(_, channel)| channel.is_stored()) {
            for number in (0..channel.partitions).filter(|n| ask.partition.is_none_or(|p| p == *n))
            {
                let partition = Partition::new(name, number);
                let mut feed = Feed::new(start(ask, &partition));
                feed.cursor = ask.cursor.as_ref().map(|_| Box::default());
                feeds.insert(partition, feed);
            }
        }
        let signals = channels.iter().any(|(_, channel)| !channel.is_stored());
        if let (Some(number), true) = (ask.partition, feeds.is_empty()) {
            let declared = declared_partitions(&channels);
            let message = format!("{pattern} selects no partition {number}: {declared}");
            return Err((Code::NoPartition, message));
        }
        if feeds.len() > 1 && matches!(ask.from, Some(From::Offset(_))) {
            let message = format!(
                "an offset is of one partition, and {pattern} reaches into {}; name channel and \
                 partition",
                feeds.len()
            );
            return Err((Code::BadPosition, message));
        }
        check_cursor(ask, signals)?;
        self.check_positions(ask)?;
        // What is sent and not returned waits in memory: no window is larger than the node's.
        let most = limits.subscription_window_bytes;
        let window = ask.credit.unwrap_or(most);
        Ok(Subscription {
            pattern,
            channel: ask.channel.clone(),
            feeds,
            window: Window::new(window, most),
            signals,
            sequence: 0,
            cursor: ask.cursor.clone(),
        })
    }

    /// Holds every place that `offsets` names to the topology: one that is meant and not found
    /// would be read from elsewhere.
    fn check_positions(&self, ask: &Subscribe) -> Result<(), No> {
        for place in ask.offsets.keys() {
            let declared = place.rsplit_once('/').and_then(|(channel, number)| {
                let channel = self.topology.channels.get(&channel.into())?;
                Some(number.parse::<u32>().ok()? < channel.partitions)
            });
            if declared != Some(true) {
                let message = format!("{place:?} is no partition, which reads channel/number");
                return Err((Code::BadPosition, message));
            }
        }
        Ok(())
    }

    /// A client takes more bytes.
    pub(super) fn handle_credit(&mut self, client: &ClientId, credit: Credit) {
        if let Some(subscription) = self.subscription(client, credit.id) {
            let returned = subscription.credit(credit.bytes);
            self.give_back(client, credit.id, returned);
        }
    }

    /// Bytes of a subscription are no longer out: it goes on, and so do the others of its session
    /// if they waited for that.
    pub(super) fn give_back(&mut self, client: &ClientId, id: u64, returned: u64) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let all = session.starving.is_some() || session.window.left() == 0;
        let all = all && returned > 0;
        session.window.give_back(returned);
        self.pump(client, id);
        if all {
            self.pump_session(client);
        }
    }

    fn pump_session(&mut self, client: &ClientId) {
        let session = self.sessions.get(client);
        let ids: Vec<u64> = session
            .map(|session| session.subscriptions.keys().copied().collect())
            .unwrap_or_default();
        for id in ids {
            self.pump(client, id);
        }
    }

    /// A client ends a subscription.
    pub(super) fn handle_unsubscribe(&mut self, client: &ClientId, id: u64) {
        if self.subscription(client, id).is_some() {
            self.abandon_acks(client, id);
            self.end_subscription(client, id);
            let end = Reply::End(End {
                id,
                reason: "unsubscribed".to_owned(),
            });
            self.reply(client, &end, &[]);
        }
    }

    /// Drops a subscription and what it asked for.
    pub(super) fn end_subscription(&mut self, client: &ClientId, id: u64) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let Some(subscription) = session.subscriptions.remove(&id) else {
            return;
        };
        for feed in subscription.feeds.values() {
            if let Some((request, _)) = feed.asked {
                self.routes.forget(request);
            }
        }
        if session.starving.as_ref().is_some_and(|(of, _)| *of == id) {
            session.starving = None;
        }
        session.window.give_back(subscription.window.used());
        self.leave_cursor(&subscription);
        if subscription.signals {
            self.remove_interest(&subscription.pattern, client, id);
        }
    }

    /// Fetches for every feed of a subscription that has none under way, while the client takes
    /// more.
    pub(super) fn pump(&mut self, client: &ClientId, id: u64) {
        self.pump_feeds(client, id, false);
    }

    fn pump_feeds(&mut self, client: &ClientId, id: u64, patient: bool) {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        session.look_at_starving();
        let Some(windows) = session.windows(id) else {
            return;
        };
        // One whose partition nobody serves holds nobody up.
        let is_served = |partition: &Partition| self.routes.leader(partition).is_some();
        let others = session
            .starving
            .as_ref()
            .is_some_and(|(other, partition)| *other != id && is_served(partition));
        let Some(subscription) = session.subscriptions.get_mut(&id) else {
            return;
        };
        let mut feeds = subscription.feeds.iter();
        let starves = |feed: &Feed| feed.starved.is_some() && !feed.is_full();
        let starving = others || feeds.any(|(p, feed)| starves(feed) && is_served(p));
        for (partition, feed) in &mut subscription.feeds {
            if feed
                .starved
                .is_some_and(|bytes| windows.wait_for_session(bytes))
            {
                session
                    .starving
                    .get_or_insert_with(|| (id, partition.clone()));
            }
            if let Some((request, since)) = &feed.asked {
                if now.since(*since) < FETCH_TIMEOUT {
                    continue;
                }
                self.routes.forget(*request);
                feed.asked = None;
            }
            let wants = feed.wants(&windows, starving, patient);
            if !(wants || patient && feed.doubts(now)) || feed.retry_at > now {
                continue;
            }
            let Some(leader) = self.routes.leader(partition).cloned() else {
                continue;
            };
            let (of, name) = ((client.clone(), id), &subscription.cursor);
            if let (Some(name), false) = (name, feed.is_open()) {
                let asked = Asked::Open(of.0, of.1, partition.clone());
                let request = self.routes.ask(&leader, asked);
                feed.asked = Some((request, now));
                self.mail.post(&leader, feed.open(name, partition, request));
                continue;
            }
            let asked = Asked::Feed(of.0, of.1, partition.clone());
            let request = self.routes.ask(&leader, asked);
            feed.asked = Some((request, now));
            let fetch = Fetch {
                request,
                channel: partition.channel.clone(),
                partition: partition.number,
                from: feed.fetches_from(wants, now),
                bytes_max: DELIVER_BYTES_MAX.min(windows.left().max(1)),
                cursor: feed.held(name.as_deref()),
            };
            self.mail.post(&leader, PeerMessage::Fetch(fetch));
        }
    }

    /// Pumps every subscription: time passed, or leaders changed.
    pub(super) fn pump_all(&mut self) {
        let all: Vec<(ClientId, u64)> = self
            .sessions
            .iter()
            .flat_map(|(client, session)| {
                let stored = session
                    .subscriptions
                    .iter()
                    .filter(|(_, s)| !s.feeds.is_empty());
                stored.map(|(id, _)| (client.clone(), *id))
            })
            .collect();
        for (client, id) in all {
            self.pump_feeds(&client, id, true);
        }
    }

    /// A partition has another leader: what was asked of the old one is asked of the new one.
    pub(super) fn reroute_feeds(&mut self, partition: &Partition) {
        for session in self.sessions.values_mut() {
            for subscription in session.subscriptions.values_mut() {
                let feed = subscription.feeds.get_mut(partition);
                if let Some((feed, (request, _))) =
                    feed.and_then(|f| f.asked.take().map(|a| (f, a)))
                {
                    self.routes.forget(request);
                    feed.retry_at = self.now.mono;
                }
            }
        }
    }

    /// A leader answered a feed.
    pub(super) fn handle_feed(&mut self, of: (ClientId, u64, Partition), fetched: Fetched) {
        let (client, id, partition) = of;
        let now = self.now.mono;
        let retry_at = now + FETCH_RETRY;
        let Some(subscription) = self.subscription(&client, id) else {
            return;
        };
        let Some(feed) = subscription.feeds.get_mut(&partition) else {
            return;
        };
        let asked = feed.asked.take().map(|(_, since)| since);
        if let Some(refusal) = fetched.refusal {
            feed.retry_at = retry_at;
            // Whether its next record fits is seen again once it is served.
            feed.starved = None;
            return self.handle_refused_feed(&client, id, &partition, refusal);
        }
        if feed.ends_doubt() {
            return;
        }
        let began = feed.next().is_none();
        if fetched.entries.is_empty()
            && !began
            && asked.is_none_or(|since| since + FETCH_RETRY > now)
        {
            // A leader that holds as many fetches as it may answers at once: do not ask in circles.
            feed.retry_at = retry_at;
        }
        let mut missed = 0;
        if let Some(start) = fetched.start {
            missed = feed.next().map_or(0, |next| start.saturating_sub(next));
            feed.at = FetchFrom::Offset(start);
        } else if let FetchFrom::End = feed.at {
            feed.at = FetchFrom::Offset(fetched.next);
        }
        if Sabotage::SilentTrim.is_on() {
            missed = 0;
        }
        let session = self.sessions.get_mut(&client);
        let was_starving = session
            .and_then(|session| {
                session
                    .starving
                    .take_if(|it| *it == (id, partition.clone()))
            })
            .is_some();
        match self.deliver(&client, id, &partition, &fetched, missed) {
            Ok(true) => {}
            Ok(false) if began || missed > 0 => {
                self.deliver_from(&client, id, &partition, missed);
            }
            Ok(false) => {}
            Err(error) => {
                self.error(format!("{partition}: its leader sent a bad entry: {error}"));
                if missed > 0 {
                    self.deliver_from(&client, id, &partition, missed);
                }
                if let Some(subscription) = self.subscription(&client, id)
                    && let Some(feed) = subscription.feeds.get_mut(&partition)
                {
                    feed.retry_at = retry_at;
                }
            }
        }
        self.pump(&client, id);
        if was_starving {
            self.pump_session(&client);
        }
    }

    /// A leader does not answer a feed: it is asked again, or there is nothing to ask for.
    fn handle_refused_feed(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        refusal: Refusal,
    ) {
        match Code::from_number(refusal.code) {
            Some(Code::BadPosition) => {
                let no = super::publish::refuse(Code::BadPosition, Some(id), refusal.message);
                self.refuse(client, no);
                self.end_subscription(client, id);
            }
            Some(code) => self.lose_cursor(client, id, partition, code),
            None => {}
        }
    }

    /// Picks what the subscription wants and its window allows, and sends it; whether it sent
    /// anything.
    fn deliver(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        fetched: &Fetched,
        missed: u64,
    ) -> Result<bool, String> {
        let Some(session) = self.sessions.get_mut(client) else {
            return Ok(false);
        };
        let Some(windows) = session.windows(id) else {
            return Ok(false);
        };
        let Some(subscription) = session.subscriptions.get_mut(&id) else {
            return Ok(false);
        };
        let Some(feed) = subscription.feeds.get_mut(partition) else {
            return Ok(false);
        };
        let token = feed.token();
        let wanted = (&subscription.pattern, feed.done_with());
        let picked = pick(wanted, &windows, feed.next(), fetched)?;
        feed.at = FetchFrom::Offset(picked.next);
        feed.starved = picked.starved;
        subscription.deliver(partition, picked.sizes);
        session.window.spend(picked.bytes);
        if picked.pieces.is_empty() {
            return Ok(false);
        }
        let count = picked.runs.iter().map(|run| run.count).sum();
        let deliver = Deliver {
            id,
            channel: partition.channel.to_string(),
            partition: Some(partition.number),
            runs: picked.runs,
            next: Some(picked.next),
            missed,
            sequence: None,
            token,
            count,
        };
        let pieces: Vec<&[u8]> = picked.pieces.iter().map(|piece| &piece[..]).collect();
        self.reply_of(client, &Reply::Deliver(deliver), &pieces);
        Ok(true)
    }

    /// A `deliver` without records: the subscription stands.
    pub(super) fn deliver_nothing(&mut self, client: &ClientId, id: u64) {
        let mut deliver = Deliver {
            id,
            ..Deliver::default()
        };
        if let Some(subscription) = self.subscription(client, id).filter(|s| s.signals) {
            deliver.sequence = Some(subscription.sequence);
        }
        self.reply(client, &Reply::Deliver(deliver), &[]);
    }

    /// A `deliver` without records: this is where a partition begins for the subscription, or goes
    /// on after records that are no longer retained.
    pub(super) fn deliver_from(
        &mut self,
        client: &ClientId,
        id: u64,
        partition: &Partition,
        missed: u64,
    ) {
        let Some(subscription) = self.subscription(client, id) else {
            return;
        };
        let deliver = Deliver {
            id,
            channel: partition.channel.to_string(),
            partition: Some(partition.number),
            next: subscription.feeds.get(partition).and_then(Feed::next),
            missed,
            token: subscription.feeds.get(partition).and_then(Feed::token),
            sequence: subscription.signals.then_some(subscription.sequence),
            ..Deliver::default()
        };
        self.reply(client, &Reply::Deliver(deliver), &[]);
    }

    pub(super) fn subscription(&mut self, client: &ClientId, id: u64) -> Option<&mut Subscription> {
        self.sessions.get_mut(client)?.subscriptions.get_mut(&id)
    }
}

/// Where a feed of this partition starts.
fn start(ask: &Subscribe, partition: &Partition) -> FetchFrom {
    if let Some(offset) = ask.offsets.get(&partition.to_string()) {
        return FetchFrom::Offset(*offset);
    }
    match ask.from.as_ref().unwrap_or(&From::End) {
        From::Start => FetchFrom::Start,
        From::End => FetchFrom::End,
        From::Time(time) => FetchFrom::Time(*time),
        From::Offset(offset) => FetchFrom::Offset(*offset),
    }
}
