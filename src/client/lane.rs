//! The records of one producer on their way to one channel: bundled, numbered, sent, retried. Pure.
//!
//! One frame of a lane is in flight at a time and the next one takes what has gathered meanwhile.
//! So the order of the records is kept across refusals, time-outs and failovers, and an idle lane
//! adds no delay. A frame is sent again under the sequence it had, so a quorum-confirmed record is
//! stored once however often its answer is lost. Of signals, which no node refuses that is not
//! about to stop and none sends again, a few frames follow one another.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::limits::{DELIVER_BYTES_MAX, FRAME_OVERHEAD};
use crate::types::{Span, Time};
use crate::wire::Code;
use crate::wire::client::{ConfirmLevel, Confirmed, Refuse};

use super::bundle::Bundle;
use super::error::{PublishError, Refusal};
use super::flight::Flight;
use super::options::Level;

/// Records in one frame: enough that their frame's own cost vanishes, and one record that a node
/// refuses does not hold many others up.
const BUNDLE_RECORDS: usize = 8_192;

/// Bytes of records in one frame: what a node forwards and replicates without delaying others.
const BUNDLE_BYTES: usize = 1 << 20;

/// The same where nothing is confirmed: a node delivers that much of signals in one frame.
const SIGNAL_BYTES: usize = DELIVER_BYTES_MAX as usize;

/// A node that reaches no leader for so long after it said so first may be cut off from one that
/// others reach. It says so within 5 s of each publish.
const CUT_OFF: Span = Span::from_secs(4);

/// Frames of signals in flight at once: four for each of those who work on them one after the
/// other, which are this thread, the transport's two, and the node. To wake one that sleeps takes
/// about as long as a frame, so none should run out of them.
const SIGNALS_IN_FLIGHT: usize = 16;

/// A frame that the lane wants sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// The `id` of the publish.
    pub(super) publish: u64,
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
    queue: VecDeque<Bundle>,
    /// Frames on their way, in order.
    flights: VecDeque<Flight>,
    /// How many there may be.
    flights_max: usize,
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

impl Lane {
    /// `producer` must be of this lane alone. `signals` says that nothing of it is ever stored, and
    /// that the node refuses none of it: then several frames are on their way at once.
    pub(super) fn new(level: Level, signals: bool, timeout: Span, producer: Bytes) -> Self {
        Self {
            level,
            timeout,
            producer,
            sequence: 0,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            flights_max: if signals { SIGNALS_IN_FLIGHT } else { 1 },
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
        !self.flights.is_empty() || !self.queue.is_empty()
    }

    /// Whether an answer of the node is awaited now.
    pub(super) fn awaits_answer(&self) -> bool {
        self.flights.iter().any(Flight::awaits_answer)
    }

    /// What the node in use says for long about why it can store nothing, if another one may.
    pub(super) fn cut_off(&self, now: Time) -> Option<String> {
        let long = self
            .cut_off
            .is_some_and(|since| now.since(since) >= CUT_OFF);
        let refusal = self.flights.front()?.refusal.as_ref()?;
        long.then(|| refusal.message.clone())
    }

    /// Whether the publish of this `id` is on its way.
    pub(super) fn carries(&self, publish: u64) -> bool {
        self.flights.iter().any(|flight| flight.id == publish)
    }

    /// What to send, in order.
    pub(super) fn take_sending(&mut self) -> Vec<Sending> {
        std::mem::take(&mut self.sending)
    }

    /// Records to publish, of which the node takes none with more bytes than `record_max`.
    pub(super) fn handle_bundle(&mut self, mut bundle: Bundle, record_max: Option<u64>) {
        let record_max = record_max.map_or(usize::MAX, |max| max as usize);
        while let Some(at) = bundle.first_longer(record_max) {
            if at > 0 {
                self.queue.push_back(bundle.split_to(at));
            }
            let long = bundle.split_to(1);
            let text = format!(
                "the record has {} bytes encoded; its channel allows {record_max} (max_record)",
                long.first_len()
            );
            long.refuse(too_large(text).into());
        }
        if bundle.count() > 0 {
            self.queue.push_back(bundle);
        }
    }

    /// The connection is lost. What was sent on it may or may not have arrived.
    pub(super) fn handle_lost(&mut self) {
        self.cut_off = None;
        self.flights.iter_mut().for_each(Flight::handle_lost);
        self.finish_settled();
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
        while self.flights.len() < self.flights_max && !self.queue.is_empty() {
            self.load(frame_max, next_id);
        }
        for flight in &mut self.flights {
            if flight.is_due(now) {
                self.sending.push(Sending {
                    publish: flight.id,
                    frame: flight.frame(&self.producer, now),
                    fence: flight.level == ConfirmLevel::None,
                });
            } else if !flight.awaits_answer() {
                // Those behind it wait with it.
                break;
            }
        }
    }

    /// The node confirms (a part of) a frame in flight.
    pub(super) fn handle_confirm(&mut self, confirm: &Confirmed) {
        self.cut_off = None;
        let Some(flight) = self.flight(confirm.id) else {
            return;
        };
        flight.handle_confirm(confirm);
        self.go_on();
    }

    /// The node has handled everything sent before the fence of this publish.
    pub(super) fn handle_fence(&mut self, publish: Option<u64>) {
        if self.flight(publish).is_some_and(Flight::handle_fence) {
            self.go_on();
        }
    }

    /// The node refuses (a part of) a frame in flight.
    pub(super) fn handle_refuse(&mut self, refuse: &Refuse, now: Time) {
        let best = self.level == Level::Best;
        let Some(flight) = self.flight(refuse.id) else {
            return;
        };
        let code = Code::from_number(refuse.code);
        let whole = refuse.records.is_empty() && refuse.partition.is_none();
        if whole && code == Some(Code::ConfirmNotOffered) && best {
            // Of a channel that this client's node had not declared.
            self.level = Level::None;
            return self.unload(refuse.id);
        }
        let single = matches!(
            code,
            Some(Code::TooLarge | Code::BadRecord | Code::BadFrame)
        );
        if whole && single && flight.count > 1 && !flight.unsure {
            self.bundle_max = flight.count / 2;
            return self.unload(refuse.id);
        }
        flight.handle_refuse(refuse, now);
        self.moves |= !refuse.retry;
        if refuse.retry && matches!(code, Some(Code::NoLeader | Code::OutcomeUnknown)) {
            self.cut_off.get_or_insert(now);
        }
        self.finish_settled();
    }

    /// When `advance` must be called next, at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        let flights = self.flights.iter().map(|flight| flight.due(self.timeout));
        let queued = || self.queue.front().map(|front| self.expires(front));
        flights.min().or_else(queued)
    }

    /// Gives everything up: the client ends, and has waited long enough.
    pub(super) fn give_up(&mut self, why: &str) {
        let flights = self.flights.iter_mut();
        flights.for_each(|flight| flight.give_up(why));
        self.finish_settled();
        for bundle in self.queue.drain(..) {
            bundle.refuse(PublishError::NotSent(why.to_owned()));
        }
    }

    /// The frame in flight of this publish.
    fn flight(&mut self, publish: Option<u64>) -> Option<&mut Flight> {
        let mut flights = self.flights.iter_mut();
        flights.find(|flight| Some(flight.id) == publish)
    }

    /// The node took records: so frames may grow again.
    fn go_on(&mut self) {
        self.moves = true;
        self.bundle_max = (self.bundle_max * 2).min(BUNDLE_RECORDS);
        self.finish_settled();
    }

    /// Takes the next frame's records from the queue.
    fn load(&mut self, frame_max: u64, next_id: &mut u64) {
        let room = usize::try_from(frame_max.saturating_sub(FRAME_OVERHEAD)).unwrap_or(usize::MAX);
        let Some(first) = self.queue.front_mut() else {
            return;
        };
        let first_len = first.first_len();
        if first_len > room {
            let refusal = too_large(format!(
                "the record has {first_len} bytes encoded; the node takes frames with {room}"
            ));
            let first = first.split_to(1);
            self.queue.retain(|bundle| bundle.count() > 0);
            return first.refuse(refusal.into());
        }
        let (level, most) = match self.level {
            Level::None => (ConfirmLevel::None, SIGNAL_BYTES),
            Level::Best | Level::Quorum => (ConfirmLevel::Quorum, BUNDLE_BYTES),
        };
        // A larger one goes alone.
        let bundles = self.unqueue(room.min(most).max(first_len));
        let Some(since) = bundles.first().map(|first| first.since.max(self.moved)) else {
            return;
        };
        *next_id += 1;
        self.sequence += 1;
        let flight = Flight::new((*next_id, self.sequence), level, bundles, since);
        self.flights.push_back(flight);
    }

    /// Takes so many bytes of records from the head of the queue, and no more than a frame holds.
    fn unqueue(&mut self, mut bytes_max: usize) -> Vec<Bundle> {
        let mut count_max = self.bundle_max.max(1);
        let mut taken = Vec::new();
        while let Some(front) = self.queue.front_mut() {
            let count = front.fitting(bytes_max).min(count_max);
            let bundle = match count < front.count() {
                // To part one is to copy it.
                true if count == 0 || !taken.is_empty() => None,
                true => Some(front.split_to(count)),
                false => self.queue.pop_front(),
            };
            let Some(bundle) = bundle else { break };
            bytes_max -= bundle.bytes().len();
            count_max -= count;
            taken.push(bundle);
        }
        taken
    }

    /// Puts the records of a frame back to the head of the queue, with those behind it that were
    /// not sent; none of them is stored. They will travel under new sequences.
    fn unload(&mut self, publish: Option<u64>) {
        let is_it = |flight: &Flight| Some(flight.id) == publish;
        let Some(at) = self.flights.iter().position(is_it) else {
            return;
        };
        let behind = self.flights.split_off(at);
        let back = |flight: &Flight| is_it(flight) || !flight.was_sent();
        let (back, sent): (Vec<_>, Vec<_>) = behind.into_iter().partition(back);
        self.flights.extend(sent);
        let bundles = back.into_iter().flat_map(|flight| flight.bundles);
        for bundle in bundles.rev().collect::<Vec<_>>() {
            self.queue.push_front(bundle);
        }
    }

    /// When a record that waits has had its time.
    fn expires(&self, waiting: &Bundle) -> Time {
        waiting.since.max(self.moved) + self.timeout
    }

    fn expire(&mut self, now: Time, ready: bool) {
        let why = match ready {
            true => "no answer in time",
            false => "no node could be reached in time",
        };
        for flight in &mut self.flights {
            if now.since(flight.since) >= self.timeout {
                flight.give_up(why);
            }
        }
        self.finish_settled();
        if !self.flights.is_empty() {
            return;
        }
        while let Some(front) = self.queue.front()
            && self.expires(front) <= now
            && let Some(bundle) = self.queue.pop_front()
        {
            bundle.refuse(PublishError::NotSent(why.to_owned()));
        }
    }

    /// Tells the outcomes of the first frames in flight, as long as all their records have one.
    fn finish_settled(&mut self) {
        while let Some(first) = self.flights.front_mut()
            && first.is_settled()
            && let Some(flight) = self.flights.pop_front()
        {
            flight.tell();
        }
    }
}

fn too_large(text: String) -> Refusal {
    Refusal::from(&Code::TooLarge.refuse(None, text))
}
