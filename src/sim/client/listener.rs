//! Listens to signals with patterns of every shape, and changes its mind about them.

use bytes::Bytes;

use super::{Act, Client, Desk, Mood, Scene};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, broken};
use crate::types::{Pattern, Record, Span, Time};
use crate::wire::client::{Credit, Reply, Request, Subscribe, Unsubscribe};
use crate::wire::{Code, RawRecords, encode_request};

/// A subscription that hears nothing for so long is sent again.
const RESEND: Span = Span::from_secs(5);

/// One listener.
#[derive(Debug, Default)]
pub(super) struct Listener {
    number: u64,
    pattern: Option<String>,
    /// Bytes of signals it takes before it has returned some; if absent, its node's window, which
    /// it returns at once.
    credit: Option<u64>,
    /// Bytes delivered and not returned.
    taken: u64,
    /// Set once its node said that the subscription stands.
    stands: bool,
    heard: Time,
}

impl Listener {
    fn open(&mut self, desk: &mut Desk<'_>) {
        desk.oracles.signals.closed((desk.me, self.number));
        self.number += 1;
        let scene = desk.scene;
        let stage = desk.dice.pick(&scene.signals);
        let text = match desk.dice.chance(800) {
            true => desk.dice.pick(&stage.patterns).clone(),
            false => desk.dice.pick(&stage.subjects).clone(),
        };
        let pattern = Pattern::parse(&text).expect("the scene's patterns are checked");
        self.pattern = Some(text);
        self.stands = false;
        let key = (desk.me, self.number);
        let bounded = desk.dice.chance(300);
        self.credit = bounded.then(|| desk.dice.between(100, 3_000));
        self.taken = 0;
        desk.oracles
            .signals
            .opened(key, desk.home, pattern, self.credit, desk.scene.window);
        self.subscribe(desk);
    }

    fn subscribe(&mut self, desk: &mut Desk<'_>) {
        let (Some(connection), Some(pattern)) = (desk.connection, &self.pattern) else {
            return;
        };
        let header = Request::Subscribe(Subscribe {
            id: self.number,
            pattern: pattern.clone(),
            credit: self.credit,
            ..Subscribe::default()
        });
        desk.acts.push(Act::Send(encode_request(&header, &[])));
        let question = Question::Subscribe(self.number);
        desk.oracles.silence.asked(desk.now, connection, question);
        self.heard = desk.now;
    }

    /// Gives the credit back that the node has used.
    fn give_back(&mut self, desk: &mut Desk<'_>) {
        let bytes = std::mem::take(&mut self.taken);
        let header = Request::Credit(Credit {
            id: self.number,
            bytes,
        });
        desk.acts.push(Act::Send(encode_request(&header, &[])));
        desk.oracles.signals.returned((desk.me, self.number), bytes);
    }
}

impl Client for Listener {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        if desk.connection.is_none() || (desk.mood == Mood::Storm && desk.dice.chance(8)) {
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(50, 500));
        }
        if desk.mood == Mood::Storm && desk.dice.chance(10) {
            let header = Request::Unsubscribe(Unsubscribe { id: self.number });
            desk.acts.push(Act::Send(encode_request(&header, &[])));
            self.open(desk);
        } else if desk.now.since(self.heard) > RESEND {
            self.subscribe(desk);
        } else if self.taken > 0 && (desk.mood != Mood::Storm || desk.dice.chance(200)) {
            self.give_back(desk);
        }
        Ok(desk.dice.millis(50, 150))
    }

    fn connected(&mut self, desk: &mut Desk<'_>) {
        self.open(desk);
    }

    fn lost(&mut self, desk: &mut Desk<'_>) {
        desk.oracles.signals.closed((desk.me, self.number));
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, records: Bytes) -> Verdict {
        match reply {
            Reply::Deliver(deliver) => {
                desk.answered(Question::Subscribe(deliver.id));
                if deliver.id != self.number {
                    return Ok(());
                }
                self.heard = desk.now;
                let key = (desk.me, self.number);
                if !self.stands {
                    self.stands = true;
                    desk.oracles.signals.stands(key);
                }
                let bytes = records.len() as u64;
                let read = |raw: Result<crate::wire::RawRecord<'_>, _>| raw.map(|r| r.to_record());
                let records: Vec<Record> = match RawRecords::new(&records).map(read).collect() {
                    Ok(records) => records,
                    Err(error) => {
                        let says = error.to_string();
                        return broken("what a node says is well formed", None, says);
                    }
                };
                if records.is_empty() {
                    return Ok(());
                }
                desk.oracles.signals.charged(key, bytes)?;
                self.taken += bytes;
                if self.credit.is_none() {
                    self.give_back(desk);
                }
                desk.report.signals_delivered += records.len() as u64;
                desk.oracles
                    .signals
                    .delivered(key, deliver.sequence, &records)
            }
            Reply::End(end) if end.id == self.number => {
                self.open(desk);
                Ok(())
            }
            // It was refused for now, or never came to be, before it was to be ended.
            Reply::Refuse(refusal) if refusal.code == Code::NoSubscription.number() => Ok(()),
            Reply::Refuse(refusal) => {
                if let Some(id) = refusal.id {
                    desk.answered(Question::Subscribe(id));
                }
                match refusal.retry {
                    true => Ok(()),
                    false => broken(
                        "a good subscription is never refused for good",
                        None,
                        format!("client {} on {:?}: {refusal:?}", desk.me, self.pattern),
                    ),
                }
            }
            _ => Ok(()),
        }
    }

    fn lacks(&self, me: ClientNo, _: &Scene, oracles: &Oracles) -> Option<String> {
        if !self.stands {
            return Some(format!("client {me} waits for its subscription"));
        }
        oracles.signals.lacks((me, self.number))
    }
}
