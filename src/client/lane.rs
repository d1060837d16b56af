//! The records of one producer on their way to one channel: bundled, numbered, sent, retried. Pure.
//!
//! One frame of a lane is in flight at a time and the next one takes what has gathered meanwhile.
//! So the order of the records is kept across refusals, time-outs and failovers, and an idle lane
//! adds no delay. A frame is sent again under the sequence it had, so a quorum-confirmed record is
//! stored once however often its answer is lost.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use serde_bytes::ByteBuf;

use crate::types::limits::{FRAME_OVERHEAD, RECORDS_PER_PUBLISH};
use crate::types::{Partition, RecordId, Span, Time};
use crate::wire::client::{ConfirmLevel, Confirmed, Publish, Refuse, Request};
use crate::wire::{Code, encode_request, records};

use super::error::{PublishError, Refusal};
use super::options::Level;
use super::producer::{Outcome, Promise, Receipt};

/// Records in one frame: enough that their frame's own cost vanishes, and one record that a node
/// refuses does not hold many others up.
const BUNDLE_RECORDS: usize = 8_192;

/// Bytes of records in one frame: what a node forwards and replicates without delaying others.
const BUNDLE_BYTES: usize = 1 << 20;

/// A node answers every publish within 5 s; after this long the answer is lost.
const ANSWER_TIMEOUT: Span = Span::from_millis(7_500);

/// The pause before a retry, where the node gives no hint; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Span = Span::from_millis(50);

/// A node that reaches no leader for so long after it said so first may be cut off from one that
/// others reach. It says so within 5 s of each publish.
const CUT_OFF: Span = Span::from_secs(4);

/// See [`RETRY_MIN`].
const RETRY_MAX: Span = Span::from_secs(1);

/// One record that waits for its turn.
#[derive(Debug)]
pub(super) struct Queued {
    /// Its subject.
    pub(super) subject: String,
    /// All of it, encoded, subject included.
    pub(super) bytes: Bytes,
    /// Kept once its outcome is known.
    pub(super) promise: Promise,
    /// When it came.
    pub(super) since: Time,
}

/// A frame that the lane wants sent.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) frame: Bytes,
    /// Whether a `hello` must follow, whose answer ends the wait.
    pub(super) fence: bool,
}

/// One producer's records for one channel.
#[derive(Debug)]
pub(super) struct Lane {
    level: Level,
    timeout: Span,
    producer: Bytes,
    sequence: u64,
    queue: VecDeque<Queued>,
    flight: Option<Flight>,
    /// When a node last answered for records of this lane, and whether one has since that was
    /// noted: a record's time is over if so long nothing went on, and not because many wait before
    /// it.
    moved: Time,
    moves: bool,
    /// How many records the next frame may hold.
    bundle_max: usize,
    /// Since when the node in use has said nothing but that it reaches no leader.
    cut_off: Option<Time>,
    sending: Vec<Sending>,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    sequence: u64,
    level: ConfirmLevel,
    records: Vec<Queued>,
    slots: Vec<Slot>,
    since: Time,
    /// When it was last sent on the connection in use.
    sent: Option<Time>,
    /// When it is to be sent again.
    again: Option<Time>,
    attempts: u32,
    /// Whether an attempt was made of which nobody knows what became.
    unsure: bool,
    refusal: Option<Refusal>,
}

/// What is known of one record in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Open,
    Again,
    Done(Outcome),
}

impl Lane {
    /// `producer` must be of this lane alone.
    pub(super) fn new(level: Level, timeout: Span, producer: Bytes) -> Self {
        Self {
            level,
            timeout,
            producer,
            sequence: 0,
            queue: VecDeque::new(),
            flight: None,
            moved: Time(0),
            moves: false,
            bundle_max: BUNDLE_RECORDS,
            cut_off: None,
            sending: Vec::new(),
        }
    }

    /// How long a record may be retried.
    pub(super) fn timeout(&self) -> Span {
        self.timeout
    }

    /// Whether records wait or are in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.flight.is_some() || !self.queue.is_empty()
    }

    /// Whether an answer of the node is awaited now.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(&self.flight, Some(flight) if flight.sent.is_some() && flight.again.is_none())
    }

    /// What the node in use says for long about why it can store nothing, if another one may.
    pub(super) fn cut_off(&self, now: Time) -> Option<String> {
        let long = self
            .cut_off
            .is_some_and(|since| now.since(since) >= CUT_OFF);
        let refusal = self.flight.as_ref()?.refusal.as_ref()?;
        long.then(|| refusal.message.clone())
    }

    /// The `id` of the frame in flight.
    pub(super) fn flight_id(&self) -> Option<u64> {
        self.flight.as_ref().map(|flight| flight.id)
    }

    /// What to send, in order.
    pub(super) fn take_sending(&mut self) -> Vec<Sending> {
        std::mem::take(&mut self.sending)
    }

    /// A record to publish.
    pub(super) fn handle_record(&mut self, record: Queued) {
        self.queue.push_back(record);
    }

    /// The connection is lost. What was sent on it may or may not have arrived.
    pub(super) fn handle_lost(&mut self) {
        self.cut_off = None;
        let Some(flight) = &mut self.flight else {
            return;
        };
        if flight.sent.take().is_none() {
            return;
        }
        // The next node is asked at once: what this one said of its own time is past.
        flight.unsure |= flight.again.take().is_none();
        if flight.level == ConfirmLevel::None && flight.unsure {
            let why = "the connection was lost before the node was known to have taken it";
            flight.settle_open(|| Err(PublishError::Unknown(why.to_owned())));
            self.finish_if_settled();
        }
    }

    /// Moves on: ends what took too long, and if the node is there (`frame_max` is known), sends
    /// what is due. `next_id` numbers requests.
    pub(super) fn advance(&mut self, now: Time, frame_max: Option<u64>, next_id: &mut u64) {
        if std::mem::take(&mut self.moves) {
            self.moved = now;
        }
        self.expire(now, frame_max.is_some());
        let Some(frame_max) = frame_max else {
            return;
        };
        while self.flight.is_none() && !self.queue.is_empty() {
            self.load(frame_max, next_id);
        }
        let Some(flight) = &mut self.flight else {
            return;
        };
        let due = match (flight.sent, flight.again) {
            (_, Some(again)) => again <= now,
            (None, None) => true,
            (Some(sent), None) => {
                let silent = now.since(sent) >= ANSWER_TIMEOUT;
                flight.unsure |= silent;
                silent
            }
        };
        if due {
            self.send(now);
        }
    }

    /// The node confirms (a part of) the frame in flight.
    pub(super) fn handle_confirm(&mut self, confirm: &Confirmed) {
        self.cut_off = None;
        self.moves = true;
        let Some(flight) = &mut self.flight else {
            return;
        };
        for run in &confirm.runs {
            let partition = Partition::new(&confirm.channel.as_str().into(), run.partition);
            for step in 0..run.count.min(RECORDS_PER_PUBLISH) {
                let position = usize::try_from(run.record + step).unwrap_or(usize::MAX);
                if let Some(slot @ (Slot::Open | Slot::Again)) = flight.slots.get_mut(position) {
                    *slot = Slot::Done(Ok(Receipt::Stored {
                        id: RecordId {
                            partition: partition.clone(),
                            offset: run.offset + step,
                        },
                        repeated: confirm.repeated,
                    }));
                }
            }
        }
        self.bundle_max = (self.bundle_max * 2).min(BUNDLE_RECORDS);
        self.finish_if_settled();
    }

    /// The node has handled everything sent before the fence.
    pub(super) fn handle_fence(&mut self) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        if flight.level != ConfirmLevel::None || flight.again.is_some() {
            return;
        }
        flight.settle_open(|| Ok(Receipt::Taken));
        self.moves = true;
        self.bundle_max = (self.bundle_max * 2).min(BUNDLE_RECORDS);
        self.finish_if_settled();
    }

    /// The node refuses (a part of) the frame in flight.
    pub(super) fn handle_refuse(&mut self, refuse: &Refuse, now: Time) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        let code = Code::from_number(refuse.code);
        let whole = refuse.records.is_empty() && refuse.partition.is_none();
        if whole && code == Some(Code::ConfirmNotOffered) && self.level == Level::Best {
            // Of a channel that this client's node had not declared.
            self.level = Level::None;
            self.unload();
            return;
        }
        let single = matches!(
            code,
            Some(Code::TooLarge | Code::BadRecord | Code::BadFrame)
        );
        if whole && single && flight.records.len() > 1 && !flight.unsure {
            self.bundle_max = flight.records.len() / 2;
            self.unload();
            return;
        }
        let refusal = Refusal::from(refuse);
        flight.unsure |= code == Some(Code::OutcomeUnknown);
        let answer = match refuse.retry {
            true => Slot::Again,
            false => Slot::Done(Err(refusal.clone().into())),
        };
        flight.mark(&refuse.records, answer);
        self.moves |= !refuse.retry;
        if refuse.retry {
            let pause = Span(RETRY_MIN.0 << flight.attempts.min(8)).min(RETRY_MAX);
            let hint = refuse.retry_after_ms.map(Span::from_millis);
            let at = now + hint.unwrap_or(pause);
            flight.again = Some(flight.again.map_or(at, |other| other.max(at)));
            if matches!(code, Some(Code::NoLeader | Code::OutcomeUnknown)) {
                self.cut_off.get_or_insert(now);
            }
            flight.refusal = Some(refusal);
        }
        self.finish_if_settled();
    }

    /// When `advance` must be called next, at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        let Some(flight) = self.flight.as_ref() else {
            return self.queue.front().map(|front| self.expires(front));
        };
        let expires = flight.since + self.timeout;
        let silent = flight.sent.map(|sent| sent + ANSWER_TIMEOUT);
        let next = flight.again.or(silent).unwrap_or(expires);
        Some(next.min(expires))
    }

    /// Gives everything up: the client ends, and has waited long enough.
    pub(super) fn give_up(&mut self, why: &str) {
        if let Some(flight) = &mut self.flight {
            flight.give_up(why);
        }
        self.finish_if_settled();
        for record in self.queue.drain(..) {
            let outcome = Err(PublishError::NotSent(why.to_owned()));
            record.promise.keep(outcome);
        }
    }

    /// Takes the next frame's records from the queue.
    fn load(&mut self, frame_max: u64, next_id: &mut u64) {
        let room = usize::try_from(frame_max.saturating_sub(FRAME_OVERHEAD)).unwrap_or(usize::MAX);
        let Some(first) = self.queue.pop_front() else {
            return;
        };
        if first.bytes.len() > room {
            let refusal = too_large(first.bytes.len(), room);
            first.promise.keep(Err(refusal.into()));
            return;
        }
        let mut bytes = first.bytes.len();
        let since = first.since.max(self.moved);
        let mut records = vec![first];
        while let Some(next) = self.queue.front() {
            bytes += next.bytes.len();
            let full = bytes > room.min(BUNDLE_BYTES) || records.len() >= self.bundle_max.max(1);
            if full {
                break;
            }
            records.extend(self.queue.pop_front());
        }
        *next_id += 1;
        self.sequence += 1;
        self.flight = Some(Flight {
            id: *next_id,
            sequence: self.sequence,
            level: match self.level {
                Level::None => ConfirmLevel::None,
                Level::Best | Level::Quorum => ConfirmLevel::Quorum,
            },
            slots: vec![Slot::Open; records.len()],
            records,
            since,
            sent: None,
            again: None,
            attempts: 0,
            unsure: false,
            refusal: None,
        });
    }

    /// Puts the records in flight back to the head of the queue; none of them is stored. They will
    /// travel under new sequences.
    fn unload(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        for record in flight.records.into_iter().rev() {
            self.queue.push_front(record);
        }
    }

    fn send(&mut self, now: Time) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        flight.sent = Some(now);
        flight.again = None;
        flight.attempts += 1;
        for slot in &mut flight.slots {
            if *slot == Slot::Again {
                *slot = Slot::Open;
            }
        }
        let mut body = BytesMut::new();
        for record in &flight.records {
            body.extend_from_slice(&record.bytes);
        }
        let numbered = flight.level == ConfirmLevel::Quorum;
        let header = Request::Publish(Publish {
            id: Some(flight.id),
            confirm: Some(flight.level),
            producer: numbered.then(|| ByteBuf::from(self.producer.to_vec())),
            sequence: numbered.then_some(flight.sequence),
            count: Some(flight.records.len() as u64),
            crc: Some(records::crc(&body)),
            ..Publish::default()
        });
        self.sending.push(Sending {
            frame: encode_request(&header, &body),
            fence: flight.level == ConfirmLevel::None,
        });
    }

    /// When a record that waits has had its time.
    fn expires(&self, waiting: &Queued) -> Time {
        waiting.since.max(self.moved) + self.timeout
    }

    fn expire(&mut self, now: Time, ready: bool) {
        let why = match ready {
            true => "no answer in time",
            false => "no node could be reached in time",
        };
        if let Some(flight) = &mut self.flight {
            if now.since(flight.since) < self.timeout {
                return;
            }
            flight.give_up(why);
            self.finish_if_settled();
        }
        while let Some(front) = self.queue.front()
            && self.expires(front) <= now
            && let Some(record) = self.queue.pop_front()
        {
            let outcome = Err(PublishError::NotSent(why.to_owned()));
            record.promise.keep(outcome);
        }
    }

    /// Tells the outcomes of the frame in flight, if all its records have one.
    fn finish_if_settled(&mut self) {
        let settled = |flight: &Flight| {
            let done = |slot: &Slot| matches!(slot, Slot::Done(_));
            flight.slots.iter().all(done)
        };
        let Some(flight) = self.flight.take_if(|flight| settled(flight)) else {
            return;
        };
        let mut rooms = None;
        // Whoever waits for the first finds all the others told as well, and is woken once.
        for (record, slot) in flight.records.into_iter().zip(flight.slots).rev() {
            if let Slot::Done(outcome) = slot {
                record.promise.keep_room(outcome, &mut rooms);
            }
        }
    }
}

impl Flight {
    /// Writes `answer` to the records at `positions` (all, if there are none) that have no outcome.
    fn mark(&mut self, positions: &[u64], answer: Slot) {
        let put = |slot: &mut Slot| {
            if !matches!(slot, Slot::Done(_)) {
                *slot = answer.clone();
            }
        };
        if positions.is_empty() {
            self.slots.iter_mut().for_each(put);
            return;
        }
        for position in positions {
            let position = usize::try_from(*position).unwrap_or(usize::MAX);
            if let Some(slot) = self.slots.get_mut(position) {
                put(slot);
            }
        }
    }

    fn settle_open(&mut self, outcome: impl Fn() -> Outcome) {
        for slot in &mut self.slots {
            if !matches!(slot, Slot::Done(_)) {
                *slot = Slot::Done(outcome());
            }
        }
    }

    /// Settles what has no outcome with what is known of it.
    fn give_up(&mut self, why: &str) {
        let refusal = self.refusal.clone();
        let unsure = self.unsure;
        let sent = self.sent.is_some() && self.again.is_none();
        for slot in &mut self.slots {
            let open = match slot {
                Slot::Open => sent,
                Slot::Again => false,
                Slot::Done(_) => continue,
            };
            *slot = Slot::Done(Err(match (&refusal, unsure || open) {
                (Some(refusal), true) => PublishError::Unknown(format!("{why}; last: {refusal}")),
                (None, true) => PublishError::Unknown(why.to_owned()),
                (Some(refusal), false) => PublishError::Refused(refusal.clone()),
                (None, false) => PublishError::NotSent(why.to_owned()),
            }));
        }
    }
}

fn too_large(bytes: usize, room: usize) -> Refusal {
    let text = format!("the record has {bytes} bytes encoded; the node takes frames with {room}");
    Refusal::from(&Code::TooLarge.refuse(None, text))
}
