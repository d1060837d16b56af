//! Signals may be dropped, but never unseen: what a listener gets was sent, once and in order, and
//! the gaps in its numbers are the drops, no fewer and no more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Verdict, broken};
use crate::sim::heap::{ClientNo, ConnectionId};
use crate::sim::machine::MachineId;
use crate::sim::tag;
use crate::types::{Pattern, Record};
use crate::wire::signal::topic;

/// A machine in one of its lives.
pub(in crate::sim) type Life = (MachineId, u64);

/// One signal of the workload.
#[derive(Debug)]
struct Sent {
    connection: ConnectionId,
    record: Record,
}

/// One topic on its way from one machine's life to another's.
#[derive(Debug, Default)]
struct Link {
    /// How many records never came.
    lost: u64,
    /// Of these, how many lay between two frames that came.
    seen: u64,
    /// What was lost before the newest frame that came; `None` until one comes.
    heard: Option<u64>,
}

/// A listener's subscription.
#[derive(Debug)]
struct Ear {
    home: Life,
    pattern: Pattern,
    /// What it may be sent and has not returned.
    window: u64,
    /// Whether it returns at once what it is given, and its window was never half full: then its
    /// node drops nothing for want of it. Else that is in the node's account alone.
    prompt: bool,
    /// What its node sent and was not given back yet.
    used: u64,
    /// Bytes delivered and not returned.
    outstanding: u64,
    next: Option<u64>,
    gaps: u64,
    /// Dropped at the client's own pipe.
    dropped: u64,
    heard: BTreeSet<usize>,
    /// The last signal of each connection of a signaller.
    last: BTreeMap<ConnectionId, usize>,
    /// What was lost on the way to its node and seen there before it subscribed: a gap that shows
    /// later may be counted to it, since nobody can tell when the lost were sent.
    lost_before: u64,
    /// All that was lost before it was told that it is subscribed.
    seen_before: Option<u64>,
}

/// All signals.
#[derive(Debug, Default)]
pub(in crate::sim) struct Signals {
    sent: Vec<Sent>,
    links: BTreeMap<(Life, Bytes), BTreeMap<Life, Link>>,
    /// The number of the next record of each topic, as its publisher counts.
    numbers: BTreeMap<(Life, Bytes), u64>,
    ears: BTreeMap<(ClientNo, u64), Ear>,
    /// From this number on everybody who stood then must hear everything. Who lost its connection
    /// since, late, subscribes anew and is owed nothing of what was sent meanwhile.
    probe: Option<usize>,
    stood: BTreeSet<(ClientNo, u64)>,
}

const ORACLE: &str = "every dropped signal is seen as a gap";

impl Signals {
    /// The number of the next signal.
    pub(in crate::sim) fn next(&self) -> usize {
        self.sent.len()
    }

    /// A signal is published.
    pub(in crate::sim) fn begin(&mut self, connection: ConnectionId, record: Record) {
        self.sent.push(Sent { connection, record });
    }

    /// A publisher's frame leaves with the record of this number first. How many numbers it passed
    /// over since the last one: nobody was known to want those.
    pub(in crate::sim) fn passed_over(
        &mut self,
        from: Life,
        topic: &Bytes,
        (sequence, count): (u64, u64),
    ) -> u64 {
        let next = self.numbers.entry((from, topic.clone())).or_default();
        let passed = sequence.saturating_sub(*next);
        *next = sequence + count;
        passed
    }

    /// A frame of `count` records on its way from one node to another is lost.
    pub(in crate::sim) fn lost(&mut self, from: Life, to: Life, topic: &Bytes, count: u64) {
        let links = self.links.entry((to, topic.clone())).or_default();
        links.entry(from).or_default().lost += count;
    }

    /// What was lost so far of the topic between the two: to be told when a frame sent now arrives.
    pub(in crate::sim) fn lost_so_far(&self, from: Life, to: Life, topic: &Bytes) -> u64 {
        let links = self.links.get(&(to, topic.clone()));
        let link = links.and_then(|links| links.get(&from));
        link.map_or(0, |link| link.lost)
    }

    /// A frame arrived; `lost` is what was lost before it was sent.
    pub(in crate::sim) fn arrived(&mut self, from: Life, to: Life, topic: &Bytes, lost: u64) {
        let links = self.links.entry((to, topic.clone())).or_default();
        let link = links.entry(from).or_default();
        // Nobody can tell how many came before the first.
        link.seen += link.heard.map_or(0, |heard| lost - heard);
        link.heard = Some(lost);
    }

    /// The machine no longer asks for the topic.
    pub(in crate::sim) fn forgotten(&mut self, to: Life, topic: &Bytes) {
        let links = self.links.get_mut(&(to, topic.clone()));
        for link in links.into_iter().flat_map(BTreeMap::values_mut) {
            link.heard = None;
        }
    }

    /// A client subscribes at the machine.
    pub(in crate::sim) fn opened(
        &mut self,
        key: (ClientNo, u64),
        home: Life,
        pattern: Pattern,
        credit: Option<u64>,
        node_window: u64,
    ) {
        let lost_before = self.losses(home, &pattern).1;
        self.ears.insert(
            key,
            Ear {
                home,
                pattern,
                window: credit.unwrap_or(node_window),
                prompt: credit.is_none(),
                used: 0,
                outstanding: 0,
                next: None,
                gaps: 0,
                dropped: 0,
                heard: BTreeSet::new(),
                last: BTreeMap::new(),
                lost_before,
                seen_before: None,
            },
        );
    }

    /// The client was told that it is subscribed.
    pub(in crate::sim) fn stands(&mut self, key: (ClientNo, u64)) {
        let Some(ear) = self.ears.get(&key) else {
            return;
        };
        let losses = self.losses(ear.home, &ear.pattern);
        if let Some(ear) = self.ears.get_mut(&key) {
            // What was lost before may be seen only now: count none of it against the node.
            ear.seen_before.get_or_insert(losses.0);
        }
    }

    /// The subscription is no more.
    pub(in crate::sim) fn closed(&mut self, key: (ClientNo, u64)) {
        self.ears.remove(&key);
    }

    /// Records of this many bytes are on their way into the client's hands.
    pub(in crate::sim) fn charged(&mut self, key: (ClientNo, u64), bytes: u64) -> Verdict {
        let Some(ear) = self.ears.get_mut(&key) else {
            return Ok(());
        };
        let window = ear.window;
        if ear.outstanding > 0 && ear.outstanding + bytes > window {
            let says = format!("client {} was sent more than its credit of {window}", key.0);
            return broken("credit bounds what a listener is sent", None, says);
        }
        ear.outstanding += bytes;
        Ok(())
    }

    /// The node sends the client these bytes.
    pub(in crate::sim) fn spent(&mut self, key: (ClientNo, u64), bytes: u64) {
        if let Some(ear) = self.ears.get_mut(&key) {
            ear.used += bytes;
            ear.prompt &= ear.used <= ear.window / 2;
        }
    }

    /// The node was given these bytes back.
    pub(in crate::sim) fn freed(&mut self, key: (ClientNo, u64), bytes: u64) {
        if let Some(ear) = self.ears.get_mut(&key) {
            ear.used = ear.used.saturating_sub(bytes);
        }
    }

    /// The client gave bytes back.
    pub(in crate::sim) fn returned(&mut self, key: (ClientNo, u64), bytes: u64) {
        if let Some(ear) = self.ears.get_mut(&key) {
            ear.outstanding = ear.outstanding.saturating_sub(bytes);
        }
    }

    /// Records of the subscription found the client's pipe full.
    pub(in crate::sim) fn dropped(&mut self, key: (ClientNo, u64), count: u64) {
        if let Some(ear) = self.ears.get_mut(&key) {
            ear.dropped += count;
        }
    }

    /// Signals reached the client.
    pub(in crate::sim) fn delivered(
        &mut self,
        key: (ClientNo, u64),
        sequence: Option<u64>,
        records: &[Record],
    ) -> Verdict {
        let Some(ear) = self.ears.get_mut(&key) else {
            return Ok(());
        };
        let Some(sequence) = sequence else {
            return broken(ORACLE, None, "a signal came without its number");
        };
        let expected = ear.next.unwrap_or(0);
        if sequence < expected {
            let says = format!(
                "client {} was given number {sequence} after {expected}",
                key.0
            );
            return broken(ORACLE, None, says);
        }
        ear.gaps += sequence - expected;
        ear.next = Some(sequence + records.len() as u64);
        for record in records {
            ear.hear(key, record, &self.sent)?;
        }
        self.check_gaps(key)
    }

    /// At the end, when nothing is lost any more and another signal has come to everybody: the
    /// gaps are all that was dropped.
    pub(in crate::sim) fn check_all(&self) -> Verdict {
        for (key, ear) in self.ears.iter().filter(|(_, ear)| ear.prompt) {
            let seen = self.losses(ear.home, &ear.pattern).1;
            let least = ear.dropped + seen.saturating_sub(ear.seen_before.unwrap_or(u64::MAX));
            if ear.gaps < least {
                return broken(
                    ORACLE,
                    None,
                    format!(
                        "client {} saw gaps of {} on {}, at least {least} were dropped",
                        key.0, ear.gaps, ear.pattern
                    ),
                );
            }
        }
        Ok(())
    }

    /// From now on nothing may be dropped.
    pub(in crate::sim) fn probe(&mut self) {
        self.probe = Some(self.sent.len());
        let standing = self
            .ears
            .iter()
            .filter(|(_, ear)| ear.seen_before.is_some() && ear.prompt);
        self.stood = standing.map(|(key, _)| *key).collect();
    }

    /// A signal since the probe that the subscription wants and has not heard.
    pub(in crate::sim) fn lacks(&self, key: (ClientNo, u64)) -> Option<String> {
        let stood = |ear: &&Ear| ear.prompt && self.stood.contains(&key);
        let ear = self.ears.get(&key).filter(stood)?;
        let number = (self.probe?..self.sent.len()).find(|number| {
            ear.pattern.matches(&self.sent[*number].record.subject) && !ear.heard.contains(number)
        })?;
        let record = tag::describe(&self.sent[number].record);
        Some(format!("client {} waits for signal {record}", key.0))
    }

    fn check_gaps(&self, key: (ClientNo, u64)) -> Verdict {
        let Some(ear) = self.ears.get(&key).filter(|ear| ear.prompt) else {
            return Ok(());
        };
        let most = self.losses(ear.home, &ear.pattern).0 - ear.lost_before + ear.dropped;
        if ear.gaps <= most {
            return Ok(());
        }
        broken(
            ORACLE,
            None,
            format!(
                "client {} saw gaps of {} on {}, at most {most} were dropped",
                key.0, ear.gaps, ear.pattern
            ),
        )
    }

    /// What was lost on the way to the machine: in all, and what must have been seen.
    fn losses(&self, home: Life, pattern: &Pattern) -> (u64, u64) {
        let key = (home, topic(pattern.as_str()));
        let mut losses = (0, 0);
        for link in self.links.get(&key).into_iter().flat_map(BTreeMap::values) {
            losses.0 += link.lost;
            losses.1 += link.seen;
        }
        losses
    }
}

impl Ear {
    fn hear(&mut self, key: (ClientNo, u64), record: &Record, sent: &[Sent]) -> Verdict {
        const ORACLE: &str = "a signal arrives as sent, once and in order";
        let wrong = |what: &str| {
            let record = tag::describe(record);
            broken(ORACLE, None, format!("client {}: {record} {what}", key.0))
        };
        let Some((number, _)) = tag::parse('s', &record.body) else {
            return Ok(());
        };
        let Some(signal) = sent.get(number).filter(|signal| signal.record == *record) else {
            return wrong("was never sent so");
        };
        if !self.pattern.matches(&record.subject) {
            return wrong("does not match the subscription");
        }
        if !self.heard.insert(number) {
            return wrong("came twice");
        }
        match self.last.insert(signal.connection, number) {
            Some(last) if last > number => wrong("came after a later one of its publisher"),
            _ => Ok(()),
        }
    }
}
