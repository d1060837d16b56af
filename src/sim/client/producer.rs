//! Publishes to stored channels and keeps at it: a publish that was refused for now, or never
//! answered, is sent again with the same sequence, to any node, until it is confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_bytes::ByteBuf;

use super::{Act, Client, Desk, Mood, Scene, Stage};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, broken, producers};
use crate::sim::tag::{self, PublishNo};
use crate::types::{Partition, Record, Span, Time};
use crate::wire::Code;
use crate::wire::client::{ConfirmLevel, Confirmed, Hello, Publish, Refuse, Reply, Request};
use crate::wire::encode_request;
use crate::wire::records::{crc, encode_record};

/// How a producer goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// With (producer, sequence), so that it may try again.
    stamped: bool,
    /// Each publish names the one before in `after`; one key, one channel.
    chained: bool,
    /// Publishes under way at once.
    window: usize,
    /// Records of one publish, at most.
    batch: usize,
    /// Whether records carry keys.
    keyed: bool,
    /// Whether it asks for confirms.
    confirm: bool,
}

const PLAIN: Style = Style {
    stamped: true,
    chained: false,
    window: 1,
    batch: 5,
    keyed: true,
    confirm: true,
};

/// Everybody who publishes to stored channels.
pub(super) const STYLES: [Style; 6] = [
    Style {
        chained: true,
        window: 4,
        batch: 3,
        ..PLAIN
    },
    PLAIN,
    Style { window: 4, ..PLAIN },
    Style {
        keyed: false,
        window: 2,
        ..PLAIN
    },
    Style {
        stamped: false,
        window: 3,
        batch: 2,
        ..PLAIN
    },
    Style {
        stamped: false,
        confirm: false,
        ..PLAIN
    },
];

/// How long it waits for an answer before it believes that its node is gone: longer than the oracle
/// of silence does.
const PATIENCE: Span = Span::from_secs(16);

/// Probes of one producer after the heal.
const PROBES: usize = 6;

/// One producer.
#[derive(Debug)]
pub(super) struct Producer {
    style: Style,
    /// Begun and not confirmed, with what it needs to be sent again.
    drafts: BTreeMap<PublishNo, Draft>,
    /// To be sent, not before.
    queue: BTreeMap<PublishNo, Time>,
    /// Sent on this connection and not answered, by id.
    open: BTreeMap<u64, Attempt>,
    next_id: u64,
    sequence: u64,
    probes: usize,
    next_new: Time,
    /// Each sequence, and when it was begun.
    begun: Vec<(Time, u64)>,
    /// Since when it waits to be told its next sequence.
    asked: Option<Time>,
}

#[derive(Debug)]
struct Draft {
    header: Publish,
    body: Bytes,
    tries: u64,
}

#[derive(Debug)]
struct Attempt {
    publish: PublishNo,
    /// Positions neither confirmed nor refused.
    waiting: BTreeSet<usize>,
    /// Set if some were refused for now: how long to wait.
    again: Option<Span>,
    sent: Time,
}

impl Producer {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            drafts: BTreeMap::new(),
            queue: BTreeMap::new(),
            open: BTreeMap::new(),
            next_id: 0,
            sequence: 0,
            probes: 0,
            next_new: Time(0),
            begun: Vec::new(),
            asked: None,
        }
    }

    fn begin(&mut self, desk: &mut Desk<'_>) {
        let scene = desk.scene;
        let stage = match self.style.chained {
            true => &scene.streams[desk.me % scene.streams.len()],
            false => desk.dice.pick(&scene.streams),
        };
        let subject = desk.dice.chance(500).then(|| stage.subjects[0].clone());
        let (records, body) = self.compose(desk, stage, subject.as_deref());
        let before = self.sequence;
        self.sequence += 1;
        self.begun.push((desk.now, self.sequence));
        let Style {
            stamped,
            chained,
            keyed,
            ..
        } = self.style;
        let header = Publish {
            id: None,
            subject,
            partition: (!keyed && desk.dice.chance(500))
                .then(|| desk.dice.below(stage.partitions as usize) as u32),
            confirm: match (self.style.confirm, desk.dice.chance(500)) {
                (false, _) => Some(ConfirmLevel::None),
                (true, true) => Some(ConfirmLevel::Quorum),
                (true, false) => None,
            },
            producer: stamped.then(|| name(desk)),
            sequence: stamped.then_some(self.sequence),
            after: (chained && before > 0).then_some(before),
            count: desk.dice.chance(500).then_some(records.len() as u64),
            crc: desk.dice.chance(500).then(|| crc(&body)),
        };
        let ordered = stamped && (chained || self.style.window == 1);
        let publish = desk.oracles.publishes.next();
        let promises = (stamped, ordered);
        desk.oracles.publishes.begin(desk.me, promises, records);
        desk.report.publishes += 1;
        let draft = Draft {
            header,
            body: body.into(),
            tries: 0,
        };
        self.drafts.insert(publish, draft);
        self.queue.insert(publish, desk.now);
    }

    /// The records of a new publish as they must be read back, and as they are sent. With `shared`
    /// they leave their subject to the header.
    fn compose(
        &self,
        desk: &mut Desk<'_>,
        stage: &Stage,
        shared: Option<&str>,
    ) -> (Vec<Record>, Vec<u8>) {
        let publish = desk.oracles.publishes.next();
        let (mut records, mut bytes) = (Vec::new(), Vec::new());
        for position in 0..=desk.dice.below(self.style.batch) {
            let key = match (self.style.chained, self.style.keyed) {
                (true, _) => Some(format!("链-{}", desk.me)),
                (false, true) => Some(format!("key-{}", desk.dice.below(6))),
                (false, false) => None,
            };
            let mut record = Record {
                subject: Arc::default(),
                key: key.map(Bytes::from),
                headers: tag::headers(desk.dice),
                body: tag::body('p', publish, position, desk.dice),
            };
            match shared {
                Some(subject) => {
                    encode_record(&record, &mut bytes);
                    record.subject = subject.into();
                }
                None => {
                    record.subject = desk.dice.pick(&stage.subjects).as_str().into();
                    encode_record(&record, &mut bytes);
                }
            }
            records.push(record);
        }
        (records, bytes)
    }

    fn send(&mut self, desk: &mut Desk<'_>, publish: PublishNo) {
        let (Some(connection), Some(draft)) = (desk.connection, self.drafts.get_mut(&publish))
        else {
            return;
        };
        self.next_id += 1;
        let id = self.next_id;
        draft.header.id = Some(id);
        draft.tries += 1;
        desk.report.retries += u64::from(draft.tries > 1);
        let header = Request::Publish(draft.header.clone());
        let frame = encode_request(&header, &draft.body);
        desk.acts.push(Act::Send(frame));
        if !self.style.confirm {
            self.drafts.remove(&publish);
            return;
        }
        let count = desk.oracles.publishes.get(publish).records.len();
        let question = Question::Publish(id);
        desk.oracles.silence.asked(desk.now, connection, question);
        let attempt = Attempt {
            publish,
            waiting: (0..count).collect(),
            again: None,
            sent: desk.now,
        };
        self.open.insert(id, attempt);
    }

    fn confirmed(&mut self, desk: &mut Desk<'_>, confirm: &Confirmed) -> Verdict {
        const ORACLE: &str = "a confirm is never early";
        let Some(attempt) = confirm.id.and_then(|id| self.open.get_mut(&id)) else {
            return Ok(());
        };
        let publish = attempt.publish;
        for run in &confirm.runs {
            let partition = Partition::new(&confirm.channel.as_str().into(), run.partition);
            let text = format!(
                "publish {publish} confirmed at {} x{}",
                run.offset, run.count
            );
            desk.tell(Some(&partition), text);
            for number in 0..run.count {
                let offset = run.offset + number;
                let position = (run.record + number) as usize;
                desk.oracles.told(ORACLE, &partition, offset)?;
                if !attempt.waiting.remove(&position) {
                    return broken(
                        "each record of a publish is answered once",
                        Some(&partition),
                        format!("record {position} of publish {publish} again: {confirm:?}"),
                    );
                }
                let Oracles {
                    publishes, commits, ..
                } = desk.oracles;
                publishes.confirmed(publish, position, (&partition, offset), commits)?;
            }
        }
        self.settle(desk, confirm.id);
        Ok(())
    }

    fn refused(&mut self, desk: &mut Desk<'_>, refusal: &Refuse) -> Verdict {
        let Some(attempt) = refusal.id.and_then(|id| self.open.get_mut(&id)) else {
            return Ok(());
        };
        let publish = attempt.publish;
        desk.report.refusals += 1;
        let (name, message) = (&refusal.name, &refusal.message);
        desk.tell(
            None,
            format!("publish {publish} refused: {name}: {message}"),
        );
        if !refusal.retry {
            return broken(
                "a good publish is never refused for good",
                None,
                format!("publish {publish}: {name}: {message}"),
            );
        }
        attempt.again = Some(Span::from_millis(refusal.retry_after_ms.unwrap_or(50)));
        if refusal.code == Code::OutOfOrder.number() {
            self.goes_alone(publish);
        }
        let Some(attempt) = refusal.id.and_then(|id| self.open.get_mut(&id)) else {
            return Ok(());
        };
        if refusal.records.is_empty() {
            attempt.waiting.clear();
        }
        for position in &refusal.records {
            attempt.waiting.remove(&(*position as usize));
        }
        self.settle(desk, refusal.id);
        Ok(())
    }

    /// The partition does not know what the publish is to come after. If that is confirmed, it was
    /// forgotten since, and is there all the same.
    fn goes_alone(&mut self, publish: PublishNo) {
        let after = self.drafts.get(&publish).and_then(|d| d.header.after);
        let mut waiting = self.drafts.values().map(|draft| draft.header.sequence);
        let is_stored = after.is_some() && waiting.all(|sequence| sequence != after);
        if let Some(draft) = self.drafts.get_mut(&publish).filter(|_| is_stored) {
            draft.header.after = None;
        }
    }

    /// If every record of the attempt is answered: done, or once more.
    fn settle(&mut self, desk: &mut Desk<'_>, id: Option<u64>) {
        let answered = |attempt: &&Attempt| attempt.waiting.is_empty();
        let Some(id) = id.filter(|id| self.open.get(id).filter(answered).is_some()) else {
            return;
        };
        let Some(attempt) = self.open.remove(&id) else {
            return;
        };
        desk.answered(Question::Publish(id));
        match attempt.again {
            None => {
                desk.report.confirms += 1;
                self.drafts.remove(&attempt.publish);
            }
            Some(wait) => self.once_more(desk, attempt.publish, wait),
        }
    }

    fn once_more(&mut self, desk: &mut Desk<'_>, publish: PublishNo, wait: Span) {
        if self.style.stamped {
            let not_before = desk.now + wait + desk.dice.millis(1, 100);
            self.queue.insert(publish, not_before);
        } else {
            // Nobody could tell a retry from a second publish.
            self.drafts.remove(&publish);
        }
    }

    /// It comes back as if it knew nothing of what it has sent, all of which is confirmed.
    fn comes_back(&mut self, desk: &mut Desk<'_>) -> bool {
        let may = self.style.stamped && !self.style.chained && self.drafts.is_empty();
        let comes = may && desk.mood == Mood::Storm && desk.dice.chance(10);
        if let Some(connection) = desk.connection.filter(|_| comes) {
            let hello = Hello {
                producer: Some(name(desk)),
                ..Hello::default()
            };
            let frame = encode_request(&Request::Hello(hello), &[]);
            desk.acts.push(Act::Send(frame));
            let question = Question::Hello;
            desk.oracles.silence.asked(desk.now, connection, question);
            self.asked = Some(desk.now);
        }
        comes
    }

    /// Nothing, if not every partition could be asked.
    fn welcomed(&mut self, desk: &mut Desk<'_>, next: Option<u64>) -> Verdict {
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        desk.answered(Question::Hello);
        if let Some(next) = next {
            desk.tell(None, format!("is told to go on with sequence {next}"));
            producers::check(&self.begun, asked, next)?;
            desk.report.returned += 1;
            // What was forgotten may be on its way once more, under numbers that it knows to avoid.
            self.sequence = self.sequence.max(next - 1);
        }
        Ok(())
    }

    fn wants_new(&mut self, desk: &mut Desk<'_>) -> bool {
        // One that waits while others pass it by must not fall out of its partition's window.
        let oldest = self.drafts.values().filter_map(|d| d.header.sequence).min();
        let ahead = oldest.map_or(0, |oldest| self.sequence + 1 - oldest);
        if self.drafts.len() >= self.style.window || ahead >= desk.scene.producer_window {
            return false;
        }
        match desk.mood {
            Mood::Storm if desk.hurry || desk.now >= self.next_new => {
                self.next_new = desk.now + desk.dice.millis(50, 600);
                true
            }
            Mood::Probe if self.probes < PROBES => {
                self.probes += 1;
                true
            }
            _ => false,
        }
    }
}

/// What it calls itself.
fn name(desk: &Desk<'_>) -> ByteBuf {
    ByteBuf::from(format!("生产者-{}", desk.me))
}

impl Client for Producer {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        if desk.connection.is_none() {
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(20, 200));
        }
        let late = |attempt: &Attempt| desk.now.since(attempt.sent) > PATIENCE;
        let moves_on = desk.mood == Mood::Storm && desk.dice.chance(5);
        if moves_on || self.open.values().any(late) {
            self.lost(desk);
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(20, 200));
        }
        if self.asked.is_some() || self.comes_back(desk) {
            return Ok(desk.dice.millis(10, 60));
        }
        while self.wants_new(desk) {
            self.begin(desk);
        }
        let is_due = |(_, not_before): &(&PublishNo, &Time)| **not_before <= desk.now;
        let due: Vec<PublishNo> = self.queue.iter().filter(is_due).map(|(p, _)| *p).collect();
        for publish in due {
            self.queue.remove(&publish);
            self.send(desk, publish);
        }
        Ok(desk.dice.millis(10, 60))
    }

    fn connected(&mut self, _: &mut Desk<'_>) {}

    fn lost(&mut self, desk: &mut Desk<'_>) {
        self.asked = None;
        for attempt in std::mem::take(&mut self.open).into_values() {
            self.once_more(desk, attempt.publish, Span::from_millis(0));
        }
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, _: Bytes) -> Verdict {
        match reply {
            Reply::Confirm(confirm) => self.confirmed(desk, &confirm),
            Reply::Welcome(welcome) => self.welcomed(desk, welcome.next_sequence),
            Reply::Refuse(refusal) => self.refused(desk, &refusal),
            _ => Ok(()),
        }
    }

    fn lacks(&self, me: ClientNo, _: &Scene, _: &Oracles) -> Option<String> {
        let publish = self.drafts.keys().next()?;
        Some(format!("client {me} waits for publish {publish}"))
    }
}
