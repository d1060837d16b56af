//! Reads with a cursor that it shares with another client: each takes it over from the other, acks
//! one record, some, or all up to one, dies in between, and now and then moves the cursor.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::consumer::read;
use super::{Act, Client, Desk, Mood, Scene, Stage};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::cursors::SKIPS;
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, broken};
use crate::types::{Offset, Partition, Pattern, Span, Time};
use crate::wire::client::{
    Ack, CursorReply, Delete, Deliver, From, Refuse, Reply, Request, Seek, Subscribe, Unsubscribe,
};
use crate::wire::{Code, encode_request};

/// A subscription that hears nothing for so long is sent again.
const RESEND: Span = Span::from_secs(5);

const UNCOMMITTED: &str = "nothing is delivered uncommitted";

/// One reader.
#[derive(Debug)]
pub(super) struct Holder {
    name: String,
    stage: usize,
    pattern: String,
    partitions: Vec<Partition>,
    /// The number of the newest subscription; each is used once.
    number: u64,
    /// Whether it wants to read, and from when on.
    wants: bool,
    opens_at: Time,
    heard: Time,
    held: BTreeMap<Partition, Held>,
    /// Tokens that it had, or has.
    tokens: Vec<u64>,
    requests: u64,
    asked: BTreeMap<u64, Asked>,
}

/// Where it stands in a partition.
#[derive(Debug)]
struct Held {
    token: u64,
    next: Offset,
    /// Given and not acked.
    given: BTreeSet<Offset>,
}

/// An ack that is to be answered.
#[derive(Debug)]
struct Asked {
    partition: Partition,
    token: u64,
    offsets: Vec<Offset>,
}

impl Holder {
    /// One of those that share the cursor of this stage of the scene.
    pub(super) fn new(scene: &Scene, stage: usize) -> Self {
        let Stage {
            channel,
            partitions,
            patterns,
            ..
        } = &scene.streams[stage];
        let numbers = 0..*partitions;
        Self {
            name: format!("光标-{channel}"),
            stage,
            pattern: patterns[stage % patterns.len()].clone(),
            partitions: numbers
                .map(|number| Partition::new(channel, number))
                .collect(),
            number: 0,
            wants: true,
            opens_at: Time(0),
            heard: Time(0),
            held: BTreeMap::new(),
            tokens: vec![0],
            requests: 0,
            asked: BTreeMap::new(),
        }
    }

    fn open(&mut self, desk: &mut Desk<'_>) {
        let pattern = Pattern::parse(&self.pattern).expect("the scene's patterns are checked");
        desk.oracles.cursors.named(&self.name, pattern);
        self.number += 1;
        self.held.clear();
        self.asked.clear();
        desk.tell(None, format!("wants the cursor {}", self.name));
        self.subscribe(desk);
    }

    fn subscribe(&mut self, desk: &mut Desk<'_>) {
        let Some(connection) = desk.connection else {
            return;
        };
        let from = match self.number % 3 {
            0 => Some(From::Start),
            1 => Some(From::Time(desk.wall)),
            _ => None,
        };
        let header = Request::Subscribe(Subscribe {
            id: self.number,
            pattern: self.pattern.clone(),
            channel: Some(desk.scene.streams[self.stage].channel.clone()),
            from,
            credit: desk.dice.chance(300).then_some(600),
            cursor: Some(self.name.clone()),
            ..Subscribe::default()
        });
        desk.acts.push(Act::Send(encode_request(&header, &[])));
        let question = Question::Subscribe(self.number);
        desk.oracles.silence.asked(desk.now, connection, question);
        self.heard = desk.now;
    }

    fn take(&mut self, desk: &mut Desk<'_>, deliver: &Deliver, records: &Bytes) -> Verdict {
        desk.answered(Question::Subscribe(deliver.id));
        if deliver.id != self.number {
            return Ok(());
        }
        self.heard = desk.now;
        let (Some(number), Some(token)) = (deliver.partition, deliver.token) else {
            return Ok(());
        };
        let partition = Partition::new(&deliver.channel.as_str().into(), number);
        let delivery = read(&partition, deliver, records)?;
        let (name, oracles) = (&self.name, &mut *desk.oracles);
        oracles.told_cursor(&partition, |cursors| cursors.knows(&partition, name, token))?;
        let begins = oracles.cursors.begins(&partition, token);
        let held = self.held.entry(partition.clone()).or_insert_with(|| Held {
            token,
            next: begins,
            given: BTreeSet::new(),
        });
        if held.token != token {
            let says = format!("a subscription had the tokens {} and {token}", held.token);
            return broken("a subscription has one token", Some(&partition), says);
        }
        self.tokens.push(token);
        let offsets = delivery.records.iter().map(|record| record.0);
        for offset in offsets.clone() {
            oracles.told(UNCOMMITTED, &partition, offset)?;
        }
        let ends = deliver.next.unwrap_or(held.next);
        if ends > 0 {
            oracles.told(UNCOMMITTED, &partition, ends - 1)?;
        }
        for offset in offsets.chain([ends]) {
            let (of, between) = ((&partition, token), (held.next, offset));
            let Oracles {
                commits, retention, ..
            } = &*oracles;
            let skipped = oracles.cursors.skipped(of, between, commits, retention);
            // Nothing but what is gone by now may be passed over.
            if let Some(skipped) = skipped
                && oracles.told_gone(&partition, skipped + 1).is_err()
            {
                let says = format!("holder {token} was not given {skipped}, which is there");
                return broken(SKIPS, Some(&partition), says);
            }
            if offset < held.next {
                let says = format!("{offset} came after {}", held.next);
                return broken(
                    "a holder is given what it lacks in order",
                    Some(&partition),
                    says,
                );
            }
            held.next = offset + u64::from(offset != ends);
        }
        oracles
            .cursors
            .delivered(token, &delivery, &oracles.commits)?;
        held.given
            .extend(delivery.records.iter().map(|record| record.0));
        desk.report.delivered += delivery.records.len() as u64;
        if let (Some(first), Some(last)) = (delivery.records.first(), delivery.records.last()) {
            let text = format!("is given {} to {} as holder {token}", first.0, last.0);
            desk.tell(Some(&partition), text);
        }
        if desk.mood != Mood::Storm {
            self.ack(desk, true);
        }
        Ok(())
    }

    /// Acks something of what it was given, or everything.
    fn ack(&mut self, desk: &mut Desk<'_>, everything: bool) {
        let mut acks = Vec::new();
        for (partition, held) in &mut self.held {
            let given: Vec<Offset> = held.given.iter().copied().collect();
            let Some(last) = given.len().checked_sub(1) else {
                continue;
            };
            let at = desk.dice.below(given.len());
            let (from, to) = match desk.dice.below(4) {
                _ if everything => (None, last),
                0 | 1 => (None, at),
                2 => (Some(at), at),
                _ => (Some(at), at + desk.dice.below(given.len() - at)),
            };
            let offsets = given[from.unwrap_or(0)..=to].to_vec();
            for offset in &offsets {
                held.given.remove(offset);
            }
            acks.push((partition.clone(), held.token, from.is_some(), offsets));
        }
        for (partition, token, is_range, offsets) in acks {
            let of = (&partition, self.name.as_str(), token);
            desk.oracles.cursors.meant(of, offsets.iter().copied());
            let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
            let request = (everything || desk.dice.chance(700)).then(|| {
                self.requests += 1;
                self.requests
            });
            let ack = Ack {
                id: self.number,
                channel: Some(partition.channel.clone()),
                partition: partition.number,
                offset: last,
                first: is_range.then_some(first),
                token: desk.dice.chance(500).then_some(token),
                request,
            };
            desk.acts
                .push(Act::Send(encode_request(&Request::Ack(ack), &[])));
            if let (Some(request), Some(connection)) = (request, desk.connection) {
                let question = Question::Ack(request);
                desk.oracles.silence.asked(desk.now, connection, question);
                let asked = Asked {
                    partition,
                    token,
                    offsets,
                };
                self.asked.insert(request, asked);
            }
        }
    }

    /// An ack with a token that it has no more, or never had here: it must move nothing.
    fn ack_stale(&mut self, desk: &mut Desk<'_>) {
        let partition = desk.dice.pick(&self.partitions).clone();
        let token = *desk.dice.pick(&self.tokens);
        if self
            .held
            .get(&partition)
            .is_some_and(|held| held.token == token)
        {
            return;
        }
        let ack = Ack {
            id: self.number,
            channel: Some(partition.channel.clone()),
            partition: partition.number,
            offset: self.held.get(&partition).map_or(0, |held| held.next),
            token: Some(token),
            ..Ack::default()
        };
        desk.acts
            .push(Act::Send(encode_request(&Request::Ack(ack), &[])));
    }

    /// Moves the cursor, or deletes it.
    fn move_cursor(&mut self, desk: &mut Desk<'_>) {
        let partition = desk.dice.pick(&self.partitions).clone();
        let end = desk.oracles.commits.next_offset(&partition);
        let channel = partition.channel.clone();
        let cursor = self.name.clone();
        self.requests += 1;
        let id = Some(self.requests);
        let of = Some(partition.number);
        let header = match desk.dice.below(5) {
            0 => Request::Delete(Delete {
                id,
                channel,
                cursor,
                partition: of,
            }),
            choice => Request::Seek(Seek {
                id,
                channel,
                cursor,
                partition: of,
                to: match choice {
                    1 => From::Start,
                    2 => From::End,
                    3 => From::Time(desk.wall),
                    _ => From::Offset(desk.dice.between(0, end + 1)),
                },
            }),
        };
        desk.acts.push(Act::Send(encode_request(&header, &[])));
        if let Some(connection) = desk.connection {
            let question = Question::Ack(self.requests);
            desk.oracles.silence.asked(desk.now, connection, question);
        }
    }

    fn answered(&mut self, desk: &mut Desk<'_>, reply: &CursorReply) -> Verdict {
        let Some(request) = reply.request else {
            if let Some(id) = reply.id {
                desk.answered(Question::Ack(id));
            }
            return Ok(());
        };
        desk.answered(Question::Ack(request));
        let Some(asked) = self.asked.remove(&request) else {
            return Ok(());
        };
        let (partition, token) = (&asked.partition, asked.token);
        let text = format!("its ack of {:?} as holder {token} is kept", asked.offsets);
        desk.tell(Some(partition), text);
        desk.oracles.told_cursor(partition, |cursors| {
            cursors.are_done(partition, token, &asked.offsets)
        })
    }

    fn refused(&mut self, desk: &mut Desk<'_>, refusal: &Refuse) -> Verdict {
        desk.tell(None, format!("is refused: {}", refusal.message));
        if let Some(request) = refusal.request {
            desk.answered(Question::Ack(request));
            self.asked.remove(&request);
            return Ok(());
        }
        if let Some(id) = refusal.id {
            desk.answered(Question::Subscribe(id));
            desk.answered(Question::Ack(id));
        }
        // What a holder of before does, or a move of a cursor that is not there.
        let late = [
            Code::NoSubscription,
            Code::StaleToken,
            Code::NoCursor,
            Code::BadPosition,
        ];
        match refusal.retry || late.map(Code::number).contains(&refusal.code) {
            true => Ok(()),
            false => broken(
                "a good subscription is never refused for good",
                None,
                format!("client {} with {}: {refusal:?}", desk.me, self.name),
            ),
        }
    }
}

impl Client for Holder {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        let storm = desk.mood == Mood::Storm;
        if desk.connection.is_none() || storm && desk.dice.chance(6) {
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(50, 500));
        }
        if !self.wants {
            if storm && desk.now >= self.opens_at {
                self.wants = true;
                self.open(desk);
            }
            return Ok(desk.dice.millis(50, 300));
        }
        if storm && desk.dice.chance(6) {
            let header = Request::Unsubscribe(Unsubscribe { id: self.number });
            desk.acts.push(Act::Send(encode_request(&header, &[])));
            self.open(desk);
        } else if desk.now.since(self.heard) > RESEND {
            self.subscribe(desk);
        }
        if storm && desk.dice.chance(8) {
            self.ack_stale(desk);
        }
        if storm && desk.dice.chance(3) {
            self.move_cursor(desk);
        }
        if !storm || desk.dice.chance(500) {
            self.ack(desk, !storm);
        }
        Ok(desk.dice.millis(30, 250))
    }

    fn connected(&mut self, desk: &mut Desk<'_>) {
        if self.wants {
            self.open(desk);
        }
    }

    fn lost(&mut self, _: &mut Desk<'_>) {
        self.held.clear();
        self.asked.clear();
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, records: Bytes) -> Verdict {
        match reply {
            Reply::Deliver(deliver) => self.take(desk, &deliver, &records),
            Reply::Cursor(reply) => self.answered(desk, &reply),
            Reply::Refuse(refusal) => self.refused(desk, &refusal),
            Reply::End(end) if end.id == self.number => {
                desk.tell(None, format!("its subscription ended: {}", end.reason));
                if end.reason == "taken_over" {
                    // The other is at it; for a while.
                    self.wants = false;
                    self.held.clear();
                    self.opens_at = desk.now + desk.dice.millis(200, 4_000);
                } else {
                    self.open(desk);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn lacks(&self, me: ClientNo, _: &Scene, oracles: &Oracles) -> Option<String> {
        if !self.wants {
            return None;
        }
        if let Some(request) = self.asked.keys().next() {
            return Some(format!("client {me} waits for the answer to ack {request}"));
        }
        let mut partitions = self.partitions.iter();
        let lacks = partitions.find_map(|partition| {
            let commits = &oracles.commits;
            oracles.cursors.lacks(partition, &self.name, commits)
        })?;
        Some(format!("client {me}: {lacks}"))
    }
}
