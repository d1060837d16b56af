//! One frame of records on its way, and what is known of each record in it. Pure.

use bytes::Bytes;
use serde_bytes::ByteBuf;

use super::bundle::Bundle;
use super::error::{PublishError, Refusal};
use super::producer::{Outcome, Receipt};
use crate::types::limits::RECORDS_PER_PUBLISH;
use crate::types::{Partition, RecordId, Span, Time};
use crate::wire::client::{ConfirmLevel, Confirmed, Publish, Refuse, Request};
use crate::wire::{Code, encode_request_of, records};

/// A node answers every publish within 5 s; after this long the answer is lost.
const ANSWER_TIMEOUT: Span = Span::from_millis(7_500);

/// The pause before a retry, where the node gives no hint; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Span = Span::from_millis(50);

/// See [`RETRY_MIN`].
const RETRY_MAX: Span = Span::from_secs(1);

/// Records that travel in one frame, until all of them have an outcome.
#[derive(Debug)]
pub(super) struct Flight {
    /// The `id` of its publish.
    pub(super) id: u64,
    pub(super) level: ConfirmLevel,
    /// How many records they are.
    pub(super) count: usize,
    /// When the first of them was taken, or could go on.
    pub(super) since: Time,
    /// Whether an attempt was made of which nobody knows what became.
    pub(super) unsure: bool,
    /// What the node said last of why it takes them later.
    pub(super) refusal: Option<Refusal>,
    pub(super) bundles: Vec<Bundle>,
    sequence: u64,
    known: Known,
    /// When it was last sent on the connection in use.
    sent: Option<Time>,
    /// When it is to be sent again.
    again: Option<Time>,
    attempts: u32,
}

/// What is known of the records in flight.
#[derive(Debug)]
enum Known {
    /// The same of all.
    OfAll(Slot),
    /// Of each.
    OfEach(Vec<Slot>),
}

/// What is known of one record in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Open,
    Again,
    Done(Outcome),
}

impl Flight {
    /// Ready to be sent.
    pub(super) fn new(
        (id, sequence): (u64, u64),
        level: ConfirmLevel,
        bundles: Vec<Bundle>,
        since: Time,
    ) -> Self {
        Self {
            id,
            level,
            count: bundles.iter().map(Bundle::count).sum(),
            since,
            unsure: false,
            refusal: None,
            bundles,
            sequence,
            known: Known::OfAll(Slot::Open),
            sent: None,
            again: None,
            attempts: 0,
        }
    }

    /// Whether an answer of the node is awaited now.
    pub(super) fn awaits_answer(&self) -> bool {
        self.sent.is_some() && self.again.is_none()
    }

    /// Whether it ever was sent.
    pub(super) fn was_sent(&self) -> bool {
        self.attempts > 0
    }

    /// Whether it is to be sent now. An answer that is late is lost.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        match (self.sent, self.again) {
            (_, Some(again)) => again <= now,
            (None, None) => true,
            (Some(sent), None) => {
                let silent = now.since(sent) >= ANSWER_TIMEOUT;
                self.unsure |= silent;
                silent
            }
        }
    }

    /// When something is to be done about it, if its records may take `timeout`.
    pub(super) fn due(&self, timeout: Span) -> Time {
        let expires = self.since + timeout;
        let silent = self.sent.map(|sent| sent + ANSWER_TIMEOUT);
        self.again.or(silent).unwrap_or(expires).min(expires)
    }

    /// Its frame, which is sent now. `producer` numbers it, if it is to be confirmed.
    pub(super) fn frame(&mut self, producer: &Bytes, now: Time) -> Bytes {
        self.sent = Some(now);
        self.again = None;
        self.attempts += 1;
        for slot in self.known.slots() {
            if *slot == Slot::Again {
                *slot = Slot::Open;
            }
        }
        let numbered = self.level == ConfirmLevel::Quorum;
        let parts: Vec<&[u8]> = self.bundles.iter().map(Bundle::bytes).collect();
        let header = Request::Publish(Publish {
            id: Some(self.id),
            confirm: Some(self.level),
            producer: numbered.then(|| ByteBuf::from(producer.to_vec())),
            sequence: numbered.then_some(self.sequence),
            count: Some(self.count as u64),
            // Signals are never stored, and the transport has a checksum of its own.
            crc: numbered.then(|| records::crc_of(&parts)),
            ..Publish::default()
        });
        encode_request_of(&header, &parts)
    }

    /// The connection is lost. If it was sent there, it may or may not have arrived, and the next
    /// node is asked at once: what this one said of its own time is past.
    pub(super) fn handle_lost(&mut self) {
        if self.sent.take().is_none() {
            return;
        }
        self.unsure |= self.again.take().is_none();
        if self.level == ConfirmLevel::None && self.unsure {
            let why = "the connection was lost before the node was known to have taken it";
            let unknown = Err(PublishError::Unknown(why.to_owned()));
            self.mark(&[], &Slot::Done(unknown));
        }
    }

    /// The node confirms (a part of) it.
    pub(super) fn handle_confirm(&mut self, confirm: &Confirmed) {
        for run in &confirm.runs {
            let partition = Partition::new(&confirm.channel.as_str().into(), run.partition);
            for step in 0..run.count.min(RECORDS_PER_PUBLISH) {
                let stored = Receipt::Stored {
                    id: RecordId {
                        partition: partition.clone(),
                        offset: run.offset + step,
                    },
                    repeated: confirm.repeated,
                };
                self.mark_one(run.record + step, Slot::Done(Ok(stored)));
            }
        }
    }

    /// The node has handled everything up to it. Whether that is all there is to wait for.
    pub(super) fn handle_fence(&mut self) -> bool {
        let taken = self.level == ConfirmLevel::None && self.again.is_none();
        if taken {
            self.mark(&[], &Slot::Done(Ok(Receipt::Taken)));
        }
        taken
    }

    /// The node refuses (a part of) it.
    pub(super) fn handle_refuse(&mut self, refuse: &Refuse, now: Time) {
        let refusal = Refusal::from(refuse);
        self.unsure |= Code::from_number(refuse.code) == Some(Code::OutcomeUnknown);
        if !refuse.retry {
            return self.mark(&refuse.records, &Slot::Done(Err(refusal.into())));
        }
        self.mark(&refuse.records, &Slot::Again);
        let pause = Span(RETRY_MIN.0 << self.attempts.min(8)).min(RETRY_MAX);
        let hint = refuse.retry_after_ms.map(Span::from_millis);
        let at = now + hint.unwrap_or(pause);
        self.again = Some(self.again.map_or(at, |other| other.max(at)));
        self.refusal = Some(refusal);
    }

    /// Settles what has no outcome with what is known of it.
    pub(super) fn give_up(&mut self, why: &str) {
        let refusal = self.refusal.clone();
        let unsure = self.unsure;
        let sent = self.awaits_answer();
        for slot in self.known.slots() {
            let open = match slot {
                Slot::Open => sent,
                Slot::Again => false,
                Slot::Done(_) => continue,
            };
            *slot = Slot::Done(Err(match (&refusal, unsure || open) {
                (Some(refusal), true) => PublishError::Unknown(format!("{why}; last: {refusal}")),
                (None, true) => PublishError::Unknown(why.to_owned()),
                (Some(refusal), false) => refusal.clone().into(),
                (None, false) => PublishError::NotSent(why.to_owned()),
            }));
        }
    }

    /// Whether every record has an outcome.
    pub(super) fn is_settled(&mut self) -> bool {
        let done = |slot: &Slot| matches!(slot, Slot::Done(_));
        self.known.slots().iter().all(done)
    }

    /// Tells the outcomes, those of the last records first: see [`Bundle::tell_all`].
    pub(super) fn tell(self) {
        let bundles = self.bundles.into_iter().rev();
        match self.known {
            Known::OfAll(slot) => {
                if let Some(outcome) = slot.outcome() {
                    bundles.for_each(|bundle| bundle.tell_all(&outcome));
                }
            }
            Known::OfEach(slots) => {
                let mut outcomes = slots.into_iter().rev().filter_map(Slot::outcome);
                bundles.for_each(|bundle| bundle.tell_each(&mut outcomes));
            }
        }
    }

    /// Writes `answer` to the records at `positions` (all, if there are none) that have no outcome.
    fn mark(&mut self, positions: &[u64], answer: &Slot) {
        if positions.is_empty() {
            let slots = self.known.slots().iter_mut();
            slots.for_each(|slot| slot.put(answer.clone()));
        }
        for position in positions {
            self.mark_one(*position, answer.clone());
        }
    }

    fn mark_one(&mut self, position: u64, answer: Slot) {
        if let Known::OfAll(slot) = &self.known {
            self.known = Known::OfEach(vec![slot.clone(); self.count]);
        }
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        if let Some(slot) = self.known.slots().get_mut(position) {
            slot.put(answer);
        }
    }
}

impl Known {
    /// All there are: one that stands for all, or each.
    fn slots(&mut self) -> &mut [Slot] {
        match self {
            Self::OfAll(slot) => std::slice::from_mut(slot),
            Self::OfEach(slots) => slots,
        }
    }
}

impl Slot {
    fn put(&mut self, answer: Self) {
        if !matches!(self, Self::Done(_)) {
            *self = answer;
        }
    }

    fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Done(outcome) => Some(outcome),
            Self::Open | Self::Again => None,
        }
    }
}
