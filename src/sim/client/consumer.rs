//! Reads stored channels: from the start, the end, a time or an offset, with a wide or a narrow
//! window, promptly or slowly; dies, comes back at another node and goes on where it was.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Act, Client, Desk, Mood, Scene};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::consumers::{Delivery, Start};
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, broken};
use crate::types::{ChannelName, Offset, Partition, Pattern, Span, Time, Wall};
use crate::wire::client::{Ack, Credit, Deliver, From, Reply, Request, Subscribe, Unsubscribe};
use crate::wire::{Code, RawRecords, encode_request};

/// A subscription that hears nothing for so long is sent again.
const RESEND: Span = Span::from_secs(5);

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    /// What it adds to the number of a subscription for the next, so that consumers of one session
    /// keep out of each other's way.
    stride: u64,
    wish: Option<Wish>,
    /// The number of the newest subscription; each is used once.
    number: u64,
    /// Whether it stands on this connection, as far as asked.
    asked: bool,
    heard: Time,
    /// Bytes and last offsets taken in and not yet given back.
    owed: BTreeMap<Partition, (u64, Offset)>,
    next_return: Time,
}

/// What it wants to read, and how.
#[derive(Debug, Clone)]
struct Wish {
    channel: ChannelName,
    /// Whether the channel is named; else the pattern alone says it.
    named: bool,
    partition: Option<u32>,
    partitions: u32,
    pattern: String,
    start: Start,
    credit: Option<u64>,
    /// Gives back in bytes, not in offsets.
    by_bytes: bool,
    slow: bool,
}

impl Consumer {
    /// The consumer number `first` of `stride` consumers of one session.
    pub(super) fn new(first: u64, stride: u64) -> Self {
        Self {
            stride,
            wish: None,
            number: first,
            asked: false,
            heard: Time(0),
            owed: BTreeMap::new(),
            next_return: Time(0),
        }
    }

    fn make_wish(desk: &mut Desk<'_>) -> Wish {
        let scene = desk.scene;
        let stage = desk.dice.pick(&scene.streams);
        let pattern = match desk.dice.chance(600) {
            true => stage.patterns[0].clone(),
            false => desk.dice.pick(&stage.patterns).clone(),
        };
        let partition = desk
            .dice
            .chance(200)
            .then(|| desk.dice.below(stage.partitions as usize) as u32);
        let start = match desk.dice.below(6) {
            0 => Start::Newest,
            1 => Start::Since(Wall(desk.wall.0 - desk.dice.between(0, 20_000))),
            2 => Start::At(Self::known_places(desk, &stage.channel, partition)),
            _ => Start::Oldest,
        };
        Wish {
            channel: stage.channel.clone(),
            named: partition.is_some() || desk.dice.chance(600),
            partition,
            partitions: stage.partitions,
            pattern,
            start,
            credit: desk
                .dice
                .chance(300)
                .then(|| 200 + desk.dice.between(0, 4_000)),
            by_bytes: desk.dice.chance(300),
            slow: desk.dice.chance(300),
        }
    }

    /// Some offset of each partition that is there.
    fn known_places(
        desk: &mut Desk<'_>,
        channel: &ChannelName,
        partition: Option<u32>,
    ) -> BTreeMap<Partition, Offset> {
        let of_channel: Vec<Partition> = desk
            .oracles
            .logs
            .partitions()
            .filter(|p| p.channel == *channel && partition.is_none_or(|number| number == p.number))
            .cloned()
            .collect();
        of_channel
            .into_iter()
            .map(|partition| {
                let end = desk.oracles.commits.next_offset(&partition);
                (partition, desk.dice.between(0, end + 1))
            })
            .collect()
    }

    fn subscribe(&mut self, desk: &mut Desk<'_>) {
        let (Some(connection), Some(wish)) = (desk.connection, &self.wish) else {
            return;
        };
        let from = match &wish.start {
            Start::Oldest => Some(From::Start),
            Start::Newest => desk.dice.chance(500).then_some(From::End),
            Start::Since(time) => Some(From::Time(*time)),
            // A place never told is read from the oldest.
            Start::At(_) => Some(From::Start),
        };
        let offsets = match &wish.start {
            Start::At(offsets) => offsets.iter().map(|(p, at)| (p.to_string(), *at)).collect(),
            _ => BTreeMap::new(),
        };
        let header = Request::Subscribe(Subscribe {
            id: self.number,
            pattern: wish.pattern.clone(),
            channel: wish.named.then(|| wish.channel.clone()),
            partition: wish.partition,
            from,
            offsets,
            credit: wish.credit,
            cursor: None,
        });
        desk.acts.push(Act::Send(encode_request(&header, &[])));
        let question = Question::Subscribe(self.number);
        desk.oracles.silence.asked(desk.now, connection, question);
        self.heard = desk.now;
        self.asked = true;
    }

    /// A new subscription: where the last one ended, or wherever it now likes.
    fn open(&mut self, desk: &mut Desk<'_>) {
        let old = (desk.me, self.number);
        let places = desk.oracles.consumers.positions(old);
        desk.oracles.consumers.closed(old);
        let goes_on = desk.mood != Mood::Storm || desk.dice.chance(800);
        match &mut self.wish {
            Some(wish) if goes_on => {
                if !places.is_empty() {
                    wish.start = Start::At(places);
                }
            }
            _ => self.wish = Some(Self::make_wish(desk)),
        }
        self.number += self.stride;
        self.owed.clear();
        if let Some(wish) = &self.wish {
            let pattern = Pattern::parse(&wish.pattern).expect("the scene's patterns are checked");
            let window = wish.credit.unwrap_or(desk.scene.window);
            let text = format!(
                "subscribes to {} of {} from {:?}",
                pattern, wish.channel, wish.start
            );
            desk.tell(None, text);
            let (key, start) = ((desk.me, self.number), wish.start.clone());
            desk.oracles.consumers.opened(key, pattern, start, window);
        }
        self.subscribe(desk);
    }

    fn take(&mut self, desk: &mut Desk<'_>, deliver: &Deliver, records: &Bytes) -> Verdict {
        const ORACLE: &str = "nothing is delivered uncommitted";
        desk.answered(Question::Subscribe(deliver.id));
        if deliver.id != self.number {
            return Ok(());
        }
        self.heard = desk.now;
        let Some(number) = deliver.partition else {
            return Ok(());
        };
        let partition = Partition::new(&deliver.channel.as_str().into(), number);
        let delivery = read(&partition, deliver, records)?;
        for (offset, ..) in &delivery.records {
            desk.oracles.told(ORACLE, &partition, *offset)?;
        }
        if let Some(next) = deliver.next.filter(|next| *next > 0) {
            desk.oracles.told(ORACLE, &partition, next - 1)?;
        }
        let key = (desk.me, self.number);
        let Oracles {
            consumers,
            commits,
            retention,
            ..
        } = &desk.oracles;
        if let Some(first) = consumers.goes_on(key, &delivery, commits, retention) {
            desk.oracles.told_gone(&partition, first)?;
        }
        if delivery.missed > 0 {
            let text = format!("is told that {} are gone", delivery.missed);
            desk.tell(Some(&partition), text);
        }
        desk.report.delivered += delivery.records.len() as u64;
        if let (Some(first), Some(last)) = (delivery.records.first(), delivery.records.last()) {
            let owed = self.owed.entry(partition.clone()).or_default();
            owed.0 += delivery.records.iter().map(|record| record.2).sum::<u64>();
            owed.1 = last.0;
            let text = format!("is given {} to {}", first.0, last.0);
            desk.tell(Some(&partition), text);
        }
        let Oracles {
            consumers,
            commits,
            retention,
            ..
        } = desk.oracles;
        consumers.delivered((desk.me, self.number), &delivery, commits, retention)?;
        consumers.check_session(desk.me, desk.scene.session_window)?;
        let slow = desk.mood == Mood::Storm && self.wish.as_ref().is_some_and(|wish| wish.slow);
        if !slow {
            self.give_back(desk);
        }
        Ok(())
    }

    fn give_back(&mut self, desk: &mut Desk<'_>) {
        let Some(wish) = &self.wish else {
            return;
        };
        for (partition, (bytes, offset)) in std::mem::take(&mut self.owed) {
            let header = match wish.by_bytes {
                true => Request::Credit(Credit {
                    id: self.number,
                    bytes,
                }),
                false => Request::Ack(Ack {
                    id: self.number,
                    channel: Some(partition.channel),
                    partition: partition.number,
                    offset,
                    ..Ack::default()
                }),
            };
            desk.oracles
                .consumers
                .returned((desk.me, self.number), bytes);
            desk.acts.push(Act::Send(encode_request(&header, &[])));
        }
    }
}

impl Wish {
    fn reads(&self) -> impl Iterator<Item = Partition> {
        (0..self.partitions)
            .filter(|number| self.partition.is_none_or(|only| only == *number))
            .map(|number| Partition::new(&self.channel, number))
    }
}

impl Client for Consumer {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        if desk.connection.is_none() {
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(50, 500));
        }
        if desk.mood == Mood::Storm && desk.dice.chance(8) {
            // It dies and comes back; its node hears of it late or never.
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(50, 500));
        }
        if desk.mood == Mood::Storm && desk.dice.chance(8) {
            let header = Request::Unsubscribe(Unsubscribe { id: self.number });
            desk.acts.push(Act::Send(encode_request(&header, &[])));
            self.open(desk);
        } else if desk.now.since(self.heard) > RESEND {
            self.subscribe(desk);
        }
        if desk.now >= self.next_return || desk.mood != Mood::Storm {
            self.give_back(desk);
            self.next_return = desk.now + desk.dice.millis(200, 1_500);
        }
        Ok(desk.dice.millis(50, 150))
    }

    fn connected(&mut self, desk: &mut Desk<'_>) {
        self.open(desk);
    }

    fn lost(&mut self, _: &mut Desk<'_>) {
        self.asked = false;
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, records: Bytes) -> Verdict {
        match reply {
            Reply::Deliver(deliver) => self.take(desk, &deliver, &records),
            // It was refused for now, or never came to be, before it was to be ended.
            Reply::Refuse(refusal) if refusal.code == Code::NoSubscription.number() => Ok(()),
            Reply::Refuse(refusal) => {
                desk.tell(None, format!("is refused: {}", refusal.message));
                if let Some(id) = refusal.id {
                    desk.answered(Question::Subscribe(id));
                }
                match refusal.retry {
                    true => Ok(()),
                    false => broken(
                        "a good subscription is never refused for good",
                        None,
                        format!("client {}: {:?}: {refusal:?}", desk.me, self.wish),
                    ),
                }
            }
            Reply::End(end) if end.id == self.number => {
                desk.tell(None, format!("its subscription ended: {}", end.reason));
                self.open(desk);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn lacks(&self, me: ClientNo, _: &Scene, oracles: &Oracles) -> Option<String> {
        let key = (me, self.number);
        let wish = self.wish.as_ref()?;
        wish.reads().find_map(|partition| {
            let commits = &oracles.commits;
            let retention = &oracles.retention;
            oracles.consumers.lacks(key, &partition, commits, retention)
        })
    }
}

/// Takes a `deliver` apart; its runs, its count and its records must agree.
pub(super) fn read(partition: &Partition, deliver: &Deliver, bytes: &Bytes) -> Verdict<Delivery> {
    let stamps: Vec<(Offset, Wall)> = deliver
        .runs
        .iter()
        .flat_map(|run| (run.offset..run.offset + run.count).map(|offset| (offset, run.time)))
        .collect();
    let mut records = Vec::new();
    for (position, raw) in RawRecords::new(bytes).enumerate() {
        let (Ok(raw), Some((offset, time))) = (raw, stamps.get(position)) else {
            return ill_formed(partition, deliver);
        };
        records.push((*offset, *time, raw.bytes.len() as u64, raw.to_record()));
    }
    if records.len() != stamps.len() || records.len() as u64 != deliver.count {
        return ill_formed(partition, deliver);
    }
    Ok(Delivery {
        partition: partition.clone(),
        missed: deliver.missed,
        records,
        next: deliver.next,
    })
}

fn ill_formed(partition: &Partition, deliver: &Deliver) -> Verdict<Delivery> {
    let says = format!("its runs and its records do not agree: {deliver:?}");
    broken("what a node says is well formed", Some(partition), says)
}
