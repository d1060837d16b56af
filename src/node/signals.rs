//! Signals: records that are not stored. They go from the publisher's node to each node with
//! interest, once per distinct pattern, and every one that does not arrive is seen as a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::accept::{Checked, SubjectRun};
use super::io::{ClientId, Droppable, Output};
use crate::types::limits::{DELIVER_BYTES_MAX, SIGNAL_MEMORY, SIGNAL_TOPICS_MAX};
use crate::types::{ChannelName, Incarnation, NodeName, Pattern, Sabotage, Time};
use crate::wire::client::{Deliver, Publish, Reply};
use crate::wire::peer::PEER_VERSION;
use crate::wire::signal::{Signal, decode_signal, encode_signal, topic, topic_pattern};
use crate::wire::{RawRecords, encode_reply, frames};

/// Who wants which signals, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Subscriptions of this node's clients by pattern.
    local: BTreeMap<Pattern, BTreeSet<(ClientId, u64)>>,
    /// Patterns that peers want from this node, or wanted lately.
    wanted: BTreeMap<Pattern, Topic>,
    /// The next sequence expected from each publisher on each pattern.
    expected: BTreeMap<(Pattern, NodeName), (Incarnation, u64)>,
}

/// A pattern that peers asked for.
#[derive(Debug, Default)]
struct Topic {
    /// The number of the next record on it.
    sequence: u64,
    /// Since when nobody wants it. A cut link looks like that too, so the numbers run on for a
    /// while: who comes back sees the gap.
    unwanted: Option<Time>,
}

/// The records of one publish that one pattern selects.
#[derive(Debug, Clone, Default)]
struct Selected {
    records: Bytes,
    count: u64,
}

impl Node {
    /// A client publishes to a signal channel.
    pub(super) fn publish_signal(
        &mut self,
        _client: &ClientId,
        _publish: Publish,
        checked: Checked,
    ) {
        self.ledger
            .entry(checked.channel.clone())
            .or_default()
            .accepted += checked.records;
        // Signals have one partition.
        let Some(records) = checked.splits.into_values().next().map(|all| all.records) else {
            return;
        };
        let all = Selected {
            records,
            count: checked.records,
        };
        let topology = Arc::clone(&self.topology);
        let subjects = &topology.channels[&checked.channel].subjects;
        let local: Vec<Pattern> = self.signals.local.keys().cloned().collect();
        for pattern in local {
            for selected in all.select(&pattern, subjects, &checked.runs) {
                self.deliver_signals(&pattern, &checked.channel, &selected);
            }
        }
        let wanted: Vec<Pattern> = self.signals.wanted.keys().cloned().collect();
        for pattern in wanted {
            for selected in all.select(&pattern, subjects, &checked.runs) {
                self.send_signals(&pattern, &selected);
            }
        }
    }

    /// A peer asks for a pattern's signals, or no peer wants them any more.
    pub(super) fn handle_interest(&mut self, topic: &Bytes, wanted: bool) {
        let pattern = topic_pattern(topic).and_then(|text| Pattern::parse(text).ok());
        let Some(pattern) = pattern else {
            self.warn("a peer subscribed to a signal topic that is no pattern".to_owned());
            return;
        };
        let full = self.signals.wanted.len() >= SIGNAL_TOPICS_MAX
            && !self.signals.wanted.contains_key(&pattern);
        if wanted && full {
            let most = SIGNAL_TOPICS_MAX;
            self.warn(format!(
                "peers want {most} signal patterns, the most; {pattern} is not sent"
            ));
        } else if wanted {
            self.signals
                .wanted
                .entry(pattern.clone())
                .or_default()
                .unwanted = None;
            self.send_signals(&pattern, &Selected::default());
        } else if let Some(topic) = self.signals.wanted.get_mut(&pattern) {
            topic.unwanted = Some(self.now.mono);
        }
    }

    /// Forgets the patterns that nobody has wanted for long.
    pub(super) fn expire_interest(&mut self) {
        let now = self.now.mono;
        let lately = |topic: &mut Topic| {
            topic
                .unwanted
                .is_none_or(|since| now.since(since) < SIGNAL_MEMORY)
        };
        self.signals.wanted.retain(|_, topic| lately(topic));
    }

    /// Signals, or an announcement, from another node.
    pub(super) fn handle_signal(&mut self, topic: &Bytes, frame: &Bytes) {
        let pattern = topic_pattern(topic).and_then(|text| Pattern::parse(text).ok());
        let (Some(pattern), Ok((signal, records))) = (pattern, decode_signal(frame)) else {
            self.bad_frames += 1;
            return;
        };
        if signal.fabric != self.topology.fabric.name || self.topology.node(&signal.node).is_none()
        {
            let why = format!("it belongs to the fabric {:?}", signal.fabric);
            self.refuse_peer(format!("{} (signals)", signal.node), why);
            return;
        }
        if !self.signals.local.contains_key(&pattern) {
            // The last subscription ended while this was on its way.
            return;
        }
        let gap = self.signals.note(&pattern, &signal);
        if gap > 0 && !Sabotage::UnseenGap.is_on() {
            self.skip_signals(&pattern, gap);
        }
        if signal.count == 0 {
            return;
        }
        let subject = RawRecords::new(&records)
            .next()
            .and_then(Result::ok)
            .and_then(|r| r.subject);
        let channel = subject.and_then(|subject| self.topology.channel_for(subject));
        let Some(channel) = channel.map(|(name, _)| name.clone()) else {
            self.bad_frames += 1;
            return;
        };
        let selected = Selected {
            count: signal.count,
            records: records.clone(),
        };
        self.deliver_signals(&pattern, &channel, &selected);
    }

    /// A frame of signals found its client's pipe full.
    pub(super) fn handle_dropped(&mut self, client: &ClientId, what: &Droppable) {
        if what.count == 0 {
            return;
        }
        // What the client never saw it will not return.
        if let Some(session) = self.sessions.get_mut(client) {
            session.give_back_signals(what.subscription, what.bytes);
        }
        let ledger = self.ledger.entry(what.channel.clone()).or_default();
        ledger.delivered = ledger.delivered.saturating_sub(what.count);
        ledger.dropped = ledger.dropped.saturating_add(what.count);
    }

    /// A client of this node wants a pattern's signals.
    pub(super) fn add_interest(&mut self, pattern: &Pattern, client: &ClientId, id: u64) {
        let subscribers = self.signals.local.entry(pattern.clone()).or_default();
        if subscribers.is_empty() {
            self.out.push(Output::Interest {
                topic: topic(pattern.as_str()),
                wanted: true,
            });
        }
        subscribers.insert((client.clone(), id));
    }

    /// It no longer does.
    pub(super) fn remove_interest(&mut self, pattern: &Pattern, client: &ClientId, id: u64) {
        let Some(subscribers) = self.signals.local.get_mut(pattern) else {
            return;
        };
        subscribers.remove(&(client.clone(), id));
        if subscribers.is_empty() {
            self.signals.local.remove(pattern);
            self.signals
                .expected
                .retain(|(other, _), _| other != pattern);
            self.out.push(Output::Interest {
                topic: topic(pattern.as_str()),
                wanted: false,
            });
        }
    }

    fn send_signals(&mut self, pattern: &Pattern, selected: &Selected) {
        let Some(wanted) = self.signals.wanted.get_mut(pattern) else {
            return;
        };
        let sequence = wanted.sequence;
        wanted.sequence += selected.count;
        if wanted.unwanted.is_some() {
            return;
        }
        let header = Signal {
            version: PEER_VERSION,
            fabric: self.topology.fabric.name.clone(),
            node: self.name.clone(),
            incarnation: self.life,
            sequence,
            count: selected.count,
        };
        let frame = encode_signal(&header, &selected.records);
        self.out.push(Output::Signal {
            topic: topic(pattern.as_str()),
            frame,
        });
    }

    fn deliver_signals(&mut self, pattern: &Pattern, channel: &ChannelName, selected: &Selected) {
        let Some(subscribers) = self.signals.local.get(pattern) else {
            return;
        };
        for (client, id) in subscribers {
            let Some(session) = self.sessions.get_mut(client) else {
                continue;
            };
            let starved = session.starved_bytes();
            let Some(subscription) = session.subscriptions.get_mut(id) else {
                continue;
            };
            if subscription
                .channel
                .as_ref()
                .is_some_and(|only| only != channel)
            {
                continue;
            }
            let ledger = self.ledger.entry(channel.clone()).or_default();
            ledger.matched = ledger.matched.saturating_add(selected.count);
            let sequence = subscription.sequence;
            let bytes = selected.records.len() as u64;
            // Stored records make way for one of theirs that waits for room, and so do signals.
            let spent =
                !subscription.window.admits(bytes, 0) || !session.window.fits(bytes, starved);
            if spent && Sabotage::UncountedDrop.is_on() {
                continue;
            }
            subscription.sequence = sequence.saturating_add(selected.count);
            if spent {
                ledger.dropped = ledger.dropped.saturating_add(selected.count);
                continue;
            }
            ledger.delivered += selected.count;
            subscription.window.spend(bytes);
            session.window.spend(bytes);
            let deliver = Deliver {
                id: *id,
                channel: channel.to_string(),
                sequence: Some(sequence),
                count: selected.count,
                ..Deliver::default()
            };
            let frame = encode_reply(&Reply::Deliver(deliver), &selected.records);
            let what = Droppable {
                subscription: *id,
                channel: channel.clone(),
                count: selected.count,
                bytes,
            };
            self.out.push(Output::ToClient {
                client: client.clone(),
                frames: frames(session.delimited, frame),
                droppable: Some(what),
            });
        }
    }

    /// `gap` signals of a pattern never arrived: every subscription of it has missed them.
    fn skip_signals(&mut self, pattern: &Pattern, gap: u64) {
        let channels = self.topology.channels_for(pattern);
        let channel = channels.iter().find(|(_, channel)| !channel.is_stored());
        let Some(channel) = channel.map(|(name, _)| (*name).clone()) else {
            return;
        };
        let subscribers = self.signals.local.get(pattern).cloned().unwrap_or_default();
        for (client, id) in subscribers {
            let session = self.sessions.get_mut(&client);
            let Some(subscription) = session.and_then(|s| s.subscriptions.get_mut(&id)) else {
                continue;
            };
            // What a peer claims may pass every bound.
            subscription.sequence = subscription.sequence.saturating_add(gap);
            let ledger = self.ledger.entry(channel.clone()).or_default();
            ledger.matched = ledger.matched.saturating_add(gap);
            ledger.dropped = ledger.dropped.saturating_add(gap);
            self.deliver_nothing(&client, id);
        }
    }
}

impl Signals {
    /// Notes a publisher's sequence on a pattern; how many records before it are missing.
    fn note(&mut self, pattern: &Pattern, signal: &Signal) -> u64 {
        let next = signal.sequence.saturating_add(signal.count);
        let place = (pattern.clone(), signal.node.clone());
        match self.expected.insert(place, (signal.incarnation, next)) {
            Some((incarnation, expected)) if incarnation == signal.incarnation => {
                signal.sequence.saturating_sub(expected)
            }
            // The first of a publisher's life that is heard here: what came before was not for us.
            _ => 0,
        }
    }
}

impl Selected {
    /// What a pattern selects of all that a channel with these subjects captured, in order and in
    /// pieces that fit one `deliver`.
    fn select(&self, pattern: &Pattern, subjects: &[Pattern], runs: &[SubjectRun]) -> Vec<Self> {
        if subjects.iter().all(|own| pattern.covers(own)) {
            return self.pieces();
        }
        let mut stretches: Vec<(Range<usize>, u64)> = Vec::new();
        let mut start = 0;
        for run in runs {
            let own = std::mem::replace(&mut start, run.end)..run.end;
            if !pattern.matches(&run.subject) {
                continue;
            }
            match stretches.last_mut() {
                Some((last, count)) if last.end == own.start => {
                    last.end = own.end;
                    *count += run.count;
                }
                _ => stretches.push((own, run.count)),
            }
        }
        let records = match &stretches[..] {
            [] => return Vec::new(),
            [(all, _)] => self.records.slice(all.clone()),
            several => {
                let parts = several.iter().map(|(part, _)| &self.records[part.clone()]);
                Bytes::from(parts.collect::<Vec<_>>().concat())
            }
        };
        let count = stretches.iter().map(|(_, count)| count).sum();
        Self { records, count }.pieces()
    }

    /// The same in pieces that fit one `deliver`.
    fn pieces(&self) -> Vec<Self> {
        if self.records.len() as u64 <= DELIVER_BYTES_MAX {
            return vec![self.clone()];
        }
        let mut pieces: Vec<(Range<usize>, u64)> = Vec::new();
        let mut start = 0;
        for record in RawRecords::new(&self.records).map_while(Result::ok) {
            let own = start..start + record.bytes.len();
            start = own.end;
            match pieces.last_mut() {
                Some((piece, count)) if (own.end - piece.start) as u64 <= DELIVER_BYTES_MAX => {
                    piece.end = own.end;
                    *count += 1;
                }
                _ => pieces.push((own, 1)),
            }
        }
        let piece = |(piece, count)| Self {
            records: self.records.slice(piece),
            count,
        };
        pieces.into_iter().map(piece).collect()
    }
}
