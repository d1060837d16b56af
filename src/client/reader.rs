//! One subscription: where it stands in each partition, its window, and how it resumes. Pure.
//!
//! The window is explicit, so what waits for the consumer is bounded: the node sends no more than
//! was taken. After a failover the reader asks to go on at the offset after the last record it
//! handed on; what the node sends twice all the same is dropped here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::types::{ChannelName, Offset, Partition, Span, Time};
use crate::wire::Code;
use crate::wire::client::{Credit, Deliver, Refuse, Request, Stamped, Subscribe, Unsubscribe};
use crate::wire::encode_request;

use super::batch::Batch;
use super::error::{ClientError, Refusal};
use super::options::Wanted;

/// After this much silence a subscription is asked for again, which a node answers at once.
const REPEAT_AFTER: Span = Span::from_secs(5);

/// The window where neither the caller nor the node names one.
pub(super) const WINDOW_DEFAULT: u64 = 1 << 20;

/// The pause before a refused subscription is asked for again, where the node gives no hint.
const RETRY: Span = Span::from_millis(200);

/// How long taken bytes may wait for more of them before they are returned to the window.
const RETURN_AFTER: Span = Span::from_millis(20);

/// How long a subscription may take to stand: several attempts at several nodes.
const STANDING_TIMEOUT: Span = Span::from_secs(15);

/// What the reader wants after a step.
#[derive(Debug)]
pub(super) enum ReaderAction {
    /// Send this frame.
    Send(Bytes),
    /// Tell the consumer.
    Tell(ReaderEvent),
}

/// What the consumer is told.
#[derive(Debug)]
pub(super) enum ReaderEvent {
    /// The node knows the subscription.
    Standing,
    /// Records, not yet decoded.
    Batch(Batch),
    /// Records of this channel are missing; how many, where that is known.
    Gap {
        /// The channel; absent if any may be concerned.
        channel: Option<ChannelName>,
        /// How many.
        missed: Option<u64>,
    },
    /// Nothing more will come.
    Ended(ClientError),
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Reader {
    id: u64,
    wanted: Wanted,
    window: u64,
    /// The next offset of each partition.
    positions: BTreeMap<Partition, Offset>,
    /// The token of its cursor in each, if it has one.
    tokens: BTreeMap<Partition, u64>,
    /// The next sequence of its signals on this connection, once one was told.
    sequence: Option<u64>,
    /// Bytes handed to the consumer and not yet taken.
    untaken: u64,
    /// Bytes taken and not yet returned to the node, and since when.
    taken: u64,
    taken_since: Time,
    /// When the node was last asked or heard on this.
    active: Time,
    asked: bool,
    again: Option<Time>,
    standing: bool,
    /// When it was wanted.
    since: Time,
    connected_before: bool,
    actions: Vec<ReaderAction>,
}

impl Reader {
    /// Nothing is asked for before `handle_ready`.
    pub(super) fn new(id: u64, wanted: Wanted, now: Time) -> Self {
        Self {
            id,
            window: wanted.window_bytes.unwrap_or(WINDOW_DEFAULT),
            wanted,
            positions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            sequence: None,
            untaken: 0,
            taken: 0,
            taken_since: now,
            active: now,
            asked: false,
            again: None,
            standing: false,
            since: now,
            connected_before: false,
            actions: Vec::new(),
        }
    }

    /// What to do, in order.
    pub(super) fn take_actions(&mut self) -> Vec<ReaderAction> {
        std::mem::take(&mut self.actions)
    }

    /// A node is there: asks it, from where the reader stands.
    pub(super) fn handle_ready(&mut self, node_window: u64, now: Time) {
        if self.wanted.window_bytes.is_none() && node_window > 0 {
            self.window = node_window;
        }
        if self.connected_before && self.sequence.is_some() {
            self.tell(ReaderEvent::Gap {
                channel: None,
                missed: None,
            });
        }
        self.connected_before = true;
        self.sequence = None;
        self.taken = 0;
        self.ask(now);
    }

    /// The node is lost.
    pub(super) fn handle_lost(&mut self) {
        self.asked = false;
        self.again = None;
    }

    /// The node delivers.
    pub(super) fn handle_deliver(&mut self, deliver: &Deliver, records: Bytes, now: Time) {
        self.active = now;
        if !self.standing {
            self.standing = true;
            self.tell(ReaderEvent::Standing);
        }
        let channel = ChannelName::from(deliver.channel.as_str());
        let Some(number) = deliver.partition else {
            self.handle_signals(channel, deliver, records);
            return;
        };
        let partition = Partition::new(&channel, number);
        if deliver.missed > 0 {
            self.tell(ReaderEvent::Gap {
                channel: Some(channel.clone()),
                missed: Some(deliver.missed),
            });
        }
        if let Some(token) = deliver.token
            && self.tokens.insert(partition.clone(), token) != Some(token)
        {
            // Held anew: what was not acked comes again.
            self.positions.remove(&partition);
        }
        let position = self.positions.get(&partition).copied().unwrap_or(0);
        let runs = deliver.runs.iter();
        let had = |run: &Stamped| position.saturating_sub(run.offset).min(run.count);
        let skip = runs.clone().map(had).fold(0, u64::saturating_add);
        let end = |run: &Stamped| run.offset.saturating_add(run.count);
        let last = runs.map(end).max().unwrap_or(0);
        let next = deliver.next.unwrap_or(last).max(last);
        if next > position || !self.positions.contains_key(&partition) {
            self.positions.insert(partition.clone(), next.max(position));
        }
        self.hand_on(
            Batch {
                channel,
                partition: Some(partition),
                runs: deliver.runs.clone().into(),
                skip,
                token: deliver.token,
                records,
                count: deliver.count,
                like: None,
            },
            now,
        );
    }

    /// The node ended the subscription for the sake of its cursor. One that was moved goes on
    /// there; true if it is over.
    pub(super) fn handle_end(&mut self, reason: &str, now: Time) -> bool {
        if reason == "moved" {
            self.taken = 0;
            self.ask(now);
            return false;
        }
        let lost = ClientError::CursorLost(reason.to_owned());
        self.tell(ReaderEvent::Ended(lost));
        true
    }

    /// The consumer is done with this many bytes.
    pub(super) fn handle_taken(&mut self, bytes: u64, now: Time) {
        self.untaken = self.untaken.saturating_sub(bytes);
        self.give_back(bytes, now);
    }

    /// The node refuses the subscription.
    pub(super) fn handle_refuse(&mut self, refuse: &Refuse, now: Time) {
        if refuse.retry {
            let hint = refuse.retry_after_ms.map(Span::from_millis);
            self.again = Some(now + hint.unwrap_or(RETRY));
            return;
        }
        let late = [Code::NoSubscription, Code::StaleToken].map(Code::number);
        if self.wanted.cursor.is_some() && late.contains(&refuse.code) {
            // An ack of what was delivered before the cursor was held anew, and comes again.
            return;
        }
        self.tell(ReaderEvent::Ended(Refusal::from(refuse).into()));
    }

    /// Time passed.
    pub(super) fn handle_tick(&mut self, now: Time) {
        if !self.standing && now.since(self.since) >= STANDING_TIMEOUT {
            if self.asked {
                // It may stand by the time that this arrives.
                let end = Request::Unsubscribe(Unsubscribe { id: self.id });
                let frame = encode_request(&end, &[]);
                self.actions.push(ReaderAction::Send(frame));
            }
            let late = ClientError::NoAnswer(STANDING_TIMEOUT);
            return self.tell(ReaderEvent::Ended(late));
        }
        if !self.asked {
            return;
        }
        let again = self.again.is_some_and(|at| at <= now);
        if again || now.since(self.active) >= REPEAT_AFTER {
            self.again = None;
            self.ask(now);
        }
        if self.taken > 0 && now.since(self.taken_since) >= RETURN_AFTER {
            self.return_taken();
        }
    }

    /// When `handle_tick` must be called next, at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        if !self.asked {
            return None;
        }
        let repeat = self.active + REPEAT_AFTER;
        let returns = (self.taken > 0).then(|| self.taken_since + RETURN_AFTER);
        [Some(repeat), self.again, returns]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_signals(&mut self, channel: ChannelName, deliver: &Deliver, records: Bytes) {
        if let Some(sequence) = deliver.sequence {
            let expected = self.sequence.unwrap_or(sequence);
            if sequence > expected {
                // An empty deliver tells of a gap, and of no channel.
                self.tell(ReaderEvent::Gap {
                    channel: (!channel.as_str().is_empty()).then(|| channel.clone()),
                    missed: Some(sequence - expected),
                });
            }
            self.sequence = Some(sequence.saturating_add(deliver.count));
        }
        if deliver.count == 0 {
            return;
        }
        let batch = Batch {
            channel,
            partition: None,
            runs: VecDeque::new(),
            skip: 0,
            token: None,
            records,
            count: deliver.count,
            like: None,
        };
        self.hand_on(batch, self.active);
    }

    /// Hands records to the consumer; what it has already goes straight back to the window.
    fn hand_on(&mut self, batch: Batch, now: Time) {
        let bytes = batch.records.len() as u64;
        if batch.skip >= batch.count {
            self.give_back(bytes, now);
            return;
        }
        self.untaken += bytes;
        self.tell(ReaderEvent::Batch(batch));
    }

    fn give_back(&mut self, bytes: u64, now: Time) {
        if bytes == 0 || !self.asked {
            return;
        }
        if self.taken == 0 {
            self.taken_since = now;
        }
        self.taken += bytes;
        if self.taken >= self.window / 4 {
            self.return_taken();
        }
    }

    fn return_taken(&mut self) {
        let credit = Credit {
            id: self.id,
            bytes: std::mem::take(&mut self.taken),
        };
        let frame = encode_request(&Request::Credit(credit), &[]);
        self.actions.push(ReaderAction::Send(frame));
    }

    fn ask(&mut self, now: Time) {
        self.asked = true;
        self.active = now;
        let request = Request::Subscribe(Subscribe {
            id: self.id,
            pattern: self.wanted.pattern.clone(),
            channel: self.wanted.channel.clone(),
            partition: self.wanted.partition,
            from: Some(self.wanted.start.into()),
            offsets: self.offsets(),
            credit: Some(self.window.saturating_sub(self.untaken)),
            cursor: self.wanted.cursor.clone(),
        });
        let frame = encode_request(&request, &[]);
        self.actions.push(ReaderAction::Send(frame));
    }

    /// Where to go on in the partitions heard of: after what it has.
    fn offsets(&self) -> BTreeMap<String, Offset> {
        if self.wanted.cursor.is_some() {
            // The cursor knows better.
            return BTreeMap::new();
        }
        let positions = self.positions.iter();
        positions
            .map(|(p, offset)| (p.to_string(), *offset))
            .collect()
    }

    fn tell(&mut self, event: ReaderEvent) {
        self.actions.push(ReaderAction::Tell(event));
    }
}

#[cfg(test)]
mod tests {
    use crate::types::Wall;
    use crate::wire::client;
    use crate::wire::decode_request;

    use super::*;
    use crate::client::options::Start;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn deliver(offset: Offset, count: u64) -> Deliver {
        Deliver {
            id: 1,
            channel: "orders".to_owned(),
            partition: Some(2),
            runs: vec![Stamped {
                offset,
                count,
                time: Wall(7),
            }],
            next: Some(offset + count),
            count,
            ..Deliver::default()
        }
    }

    fn subscribes(reader: &mut Reader) -> Vec<Subscribe> {
        sent(reader)
            .into_iter()
            .filter_map(|request| match request {
                Request::Subscribe(subscribe) => Some(subscribe),
                _ => None,
            })
            .collect()
    }

    fn sent(reader: &mut Reader) -> Vec<Request> {
        reader
            .take_actions()
            .into_iter()
            .filter_map(|action| match action {
                ReaderAction::Send(frame) => Some(decode_request(&frame).expect("ours").header),
                ReaderAction::Tell(_) => None,
            })
            .collect()
    }

    fn batches(reader: &mut Reader) -> Vec<Batch> {
        reader
            .take_actions()
            .into_iter()
            .filter_map(|action| match action {
                ReaderAction::Tell(ReaderEvent::Batch(batch)) => Some(batch),
                _ => None,
            })
            .collect()
    }

    fn reader(start: Start) -> Reader {
        let wanted = Wanted {
            window_bytes: Some(1_000),
            ..Wanted::new("orders.#", start)
        };
        let mut reader = Reader::new(1, wanted, at(0));
        reader.handle_ready(0, at(0));
        reader
    }

    #[test]
    fn it_resumes_after_the_last_record_and_drops_what_comes_twice() {
        let mut reader = reader(Start::Start);
        let first = subscribes(&mut reader);
        assert_eq!(first[0].from, Some(client::From::Start));
        assert_eq!(first[0].credit, Some(1_000));
        reader.handle_deliver(&deliver(5, 3), Bytes::from_static(&[0; 300]), at(1));
        assert_eq!(batches(&mut reader)[0].skip, 0);

        reader.handle_lost();
        reader.handle_ready(0, at(2));
        let again = subscribes(&mut reader);
        let offsets = BTreeMap::from([("orders/2".to_owned(), 8)]);
        assert_eq!(again[0].offsets, offsets);
        assert_eq!(again[0].credit, Some(700), "300 bytes are not taken yet");

        reader.handle_deliver(&deliver(6, 4), Bytes::from_static(&[0; 400]), at(3));
        assert_eq!(batches(&mut reader)[0].skip, 2, "6 and 7 were there before");
    }

    #[test]
    fn an_empty_deliver_moves_the_position_it_resumes_from() {
        let mut reader = reader(Start::End);
        let mut start = deliver(41, 0);
        start.next = Some(41);
        reader.handle_deliver(&start, Bytes::new(), at(1));
        reader.take_actions();
        reader.handle_lost();
        reader.handle_ready(0, at(2));
        let offsets = BTreeMap::from([("orders/2".to_owned(), 41)]);
        let again = subscribes(&mut reader);
        assert_eq!(again[0].offsets, offsets);
    }

    #[test]
    fn taken_bytes_return_to_the_window_in_quarters_or_after_a_moment() {
        let mut reader = reader(Start::Start);
        reader.handle_deliver(&deliver(0, 3), Bytes::from_static(&[0; 300]), at(1));
        reader.take_actions();
        reader.handle_taken(100, at(2));
        assert_eq!(sent(&mut reader), []);
        reader.handle_taken(150, at(3));
        let credit = |bytes| Request::Credit(Credit { id: 1, bytes });
        assert_eq!(sent(&mut reader), [credit(250)]);
        reader.handle_taken(50, at(4));
        reader.handle_tick(at(24));
        assert_eq!(sent(&mut reader), [credit(50)]);
    }

    #[test]
    fn five_seconds_of_silence_repeat_the_subscription() {
        let mut reader = reader(Start::End);
        reader.take_actions();
        reader.handle_tick(at(4_999));
        assert_eq!(subscribes(&mut reader).len(), 0);
        reader.handle_tick(at(5_000));
        assert_eq!(subscribes(&mut reader).len(), 1);
        reader.handle_tick(at(5_001));
        assert_eq!(subscribes(&mut reader).len(), 0);
    }

    #[test]
    fn a_cursor_that_is_held_anew_delivers_again_what_was_not_acked() {
        let wanted = Wanted {
            cursor: Some("billing".to_owned()),
            ..Wanted::new("orders.#", Start::Start)
        };
        let mut reader = Reader::new(1, wanted, at(0));
        reader.handle_ready(0, at(0));
        let held = |token, offset, count| Deliver {
            token: Some(token),
            ..deliver(offset, count)
        };
        reader.handle_deliver(&held(3, 5, 3), Bytes::from_static(&[0; 300]), at(1));
        reader.take_actions();
        reader.handle_lost();
        reader.handle_ready(0, at(2));
        let again = subscribes(&mut reader);
        assert_eq!(again[0].cursor.as_deref(), Some("billing"));
        assert_eq!(again[0].offsets, BTreeMap::new(), "the cursor knows better");
        reader.handle_deliver(&held(4, 6, 3), Bytes::from_static(&[0; 300]), at(3));
        let batch = &batches(&mut reader)[0];
        assert_eq!((batch.skip, batch.token), (0, Some(4)));
        assert!(!reader.handle_end("moved", at(4)));
        assert_eq!(subscribes(&mut reader).len(), 1);
        assert!(reader.handle_end("taken_over", at(5)));
    }

    #[test]
    fn a_jump_in_the_sequence_of_signals_is_told_as_a_gap() {
        let mut reader = reader(Start::End);
        let signal = |sequence| Deliver {
            id: 1,
            channel: "ticks".to_owned(),
            sequence: Some(sequence),
            count: 2,
            ..Deliver::default()
        };
        reader.handle_deliver(&signal(0), Bytes::from_static(&[0]), at(1));
        let next = |sequence| Deliver {
            id: 1,
            sequence: Some(sequence),
            ..Deliver::default()
        };
        // What came is no gap, however often the node says what comes next.
        reader.handle_deliver(&next(2), Bytes::new(), at(2));
        reader.handle_deliver(&next(2), Bytes::new(), at(2));
        reader.handle_deliver(&signal(7), Bytes::from_static(&[0]), at(2));
        let gaps: Vec<_> = reader
            .take_actions()
            .into_iter()
            .filter_map(|action| match action {
                ReaderAction::Tell(ReaderEvent::Gap { missed, .. }) => missed,
                _ => None,
            })
            .collect();
        assert_eq!(gaps, [5]);
    }
}
