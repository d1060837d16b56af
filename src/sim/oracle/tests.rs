//! Each oracle on a history doctored so that exactly its promise is broken.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::MessageType;

use super::consumers::{Delivery, Start};
use super::silence::Question;
use super::*;
use crate::node::{ChannelView, NodeView};
use crate::sim::tag;
use crate::types::{
    EntryKind, Incarnation, LogEntry, Offset, Pattern, Record, ReplicaId, Span, Time, Wall,
};
use crate::wire::entry::{BatchHead, EntryHead};
use crate::wire::founding::Founding;
use crate::wire::peer::RaftMessage;
use crate::wire::records::encode_record;

mod audits;
mod cursors;
mod retention;

fn partition() -> Partition {
    Partition::new(&"orders".into(), 0)
}

fn record(publish: usize) -> Record {
    Record {
        subject: "orders.eu".into(),
        key: Some(Bytes::from_static(b"k")),
        body: Bytes::from(format!("p{publish}.0 订单")),
        ..Record::default()
    }
}

fn founding() -> JournalItem {
    let voter = |node: &str| ReplicaId {
        node: node.into(),
        incarnation: Incarnation(1),
    };
    let record = Founding {
        fabric: "f".to_owned(),
        partition: partition(),
        partitions: 1,
        voters: ["a", "b", "c"].map(voter).to_vec(),
    };
    JournalItem::Founding {
        partition: partition(),
        record: record.encode(),
    }
}

/// Entry `index` of `term` with the first record of each of `publishes`.
fn entry(term: u64, index: u64, first_offset: Offset, publishes: &[usize]) -> JournalItem {
    let time = Wall(1_000 + index);
    let batches: Vec<Bytes> = publishes
        .iter()
        .map(|publish| {
            let mut bytes = Vec::new();
            encode_record(&record(*publish), &mut bytes);
            bytes.into()
        })
        .collect();
    let head = EntryHead {
        first_offset,
        time,
        batches: batches
            .iter()
            .map(|bytes| BatchHead {
                count: 1,
                bytes: bytes.len() as u32,
                crc: crc32fast::hash(bytes),
                stamp: None,
            })
            .collect(),
    };
    JournalItem::Entry {
        partition: partition(),
        entry: LogEntry {
            term,
            index,
            kind: EntryKind::Records,
            first_offset,
            count: publishes.len() as u32,
            time,
            data: head.encode(&batches),
        },
    }
}

fn hard(term: u64, vote: u64, commit: u64) -> JournalItem {
    JournalItem::HardState {
        partition: partition(),
        term,
        vote,
        commit,
    }
}

/// A run with `publishes` of one ordered producer.
fn world(publishes: usize) -> Oracles {
    let mut oracles = Oracles::default();
    for publish in 0..publishes {
        let records = vec![record(publish)];
        oracles.publishes.begin(0, (true, true), records);
    }
    for machine in 0..3 {
        synced(&mut oracles, machine, &[founding()]);
    }
    oracles
}

fn synced(oracles: &mut Oracles, machine: usize, items: &[JournalItem]) {
    oracles.written(machine, items).expect("a good history");
    oracles.logs.synced(machine);
}

/// Entries 1 and 2 (publishes 0 and 1) are on the disks of machines 0 and 1, and committed.
fn committed() -> Oracles {
    let mut oracles = world(8);
    let log = [hard(1, 7, 0), entry(1, 1, 0, &[0]), entry(1, 2, 1, &[1])];
    synced(&mut oracles, 0, &log);
    synced(&mut oracles, 1, &log);
    oracles
        .told("test", &partition(), 1)
        .expect("on a majority of disks");
    oracles
}

fn broken_by(verdict: Verdict<impl std::fmt::Debug>) -> &'static str {
    verdict.expect_err("a broken promise").oracle
}

#[test]
fn two_leaders_in_one_term_are_seen() {
    let mut oracles = world(0);
    assert_eq!(oracles.leaders.seen(&partition(), 3, 0), Ok(true));
    assert_eq!(oracles.leaders.seen(&partition(), 3, 0), Ok(false));
    let verdict = oracles.leaders.seen(&partition(), 3, 1);
    assert_eq!(broken_by(verdict), "one leader per term");
}

#[test]
fn two_payloads_under_one_name_are_seen() {
    let mut oracles = world(4);
    synced(&mut oracles, 0, &[entry(1, 1, 0, &[0])]);
    let verdict = oracles.written(1, &[entry(1, 1, 0, &[1])]);
    assert_eq!(broken_by(verdict), "(term, index) names one payload");
}

#[test]
fn logs_that_part_and_meet_again_are_seen() {
    let mut oracles = world(4);
    synced(
        &mut oracles,
        0,
        &[entry(1, 1, 0, &[0]), entry(3, 2, 1, &[1])],
    );
    let verdict = oracles.written(1, &[entry(2, 1, 0, &[2]), entry(3, 2, 1, &[1])]);
    assert_eq!(broken_by(verdict), "log matching");
}

#[test]
fn a_hole_or_a_reuse_of_offsets_is_seen() {
    const ORACLE: &str = "offsets are dense, terms and times never fall";
    for first_offset in [0, 2] {
        let mut oracles = world(4);
        synced(&mut oracles, 0, &[entry(1, 1, 0, &[0])]);
        let verdict = oracles.written(0, &[entry(1, 2, first_offset, &[1])]);
        assert_eq!(broken_by(verdict), ORACLE);
    }
}

#[test]
fn a_vote_or_term_or_commit_that_goes_back_is_seen() {
    const ORACLE: &str = "a hard state never goes back";
    for state in [hard(4, 7, 1), hard(5, 8, 1), hard(5, 7, 0), hard(5, 7, 3)] {
        let mut oracles = committed();
        synced(&mut oracles, 0, &[hard(5, 7, 1)]);
        assert_eq!(broken_by(oracles.written(0, &[state])), ORACLE);
    }
}

#[test]
fn a_second_founding_is_seen() {
    let verdict = world(0).written(0, &[founding()]);
    assert_eq!(broken_by(verdict), "a partition is founded once");
}

#[test]
fn a_new_leader_without_a_committed_entry_is_seen() {
    let mut oracles = committed();
    let verdict = oracles.written(2, &[entry(2, 1, 0, &[5])]);
    assert_eq!(broken_by(verdict), "leader completeness");
    // The other way round: it led before anybody knew of the commit.
    let mut oracles = world(8);
    let log = [entry(1, 1, 0, &[0])];
    synced(&mut oracles, 0, &log);
    synced(&mut oracles, 2, &[entry(2, 1, 0, &[5])]);
    synced(&mut oracles, 1, &log);
    let verdict = oracles.told("test", &partition(), 0);
    assert_eq!(broken_by(verdict), "leader completeness");
}

#[test]
fn a_commit_without_a_majority_of_disks_is_seen() {
    const ORACLE: &str = "a commit is on a majority of disks, and final";
    let mut oracles = world(4);
    let verdict = oracles.written(0, &[entry(1, 1, 0, &[0]), hard(1, 0, 1)]);
    assert_eq!(broken_by(verdict), ORACLE);
}

#[test]
fn a_confirm_before_the_sync_of_a_majority_is_seen() {
    let mut oracles = world(4);
    synced(&mut oracles, 0, &[entry(1, 1, 0, &[0])]);
    oracles
        .written(1, &[entry(1, 1, 0, &[0])])
        .expect("a write is no promise");
    let verdict = oracles.told("a confirm is never early", &partition(), 0);
    assert_eq!(broken_by(verdict), "a confirm is never early");
    oracles.logs.synced(1);
    assert_eq!(oracles.told("test", &partition(), 0), Ok(()));
}

#[test]
fn a_commit_that_is_withdrawn_is_seen() {
    let mut oracles = committed();
    synced(&mut oracles, 0, &[hard(1, 7, 2)]);
    let verdict = oracles.written(0, &[entry(1, 2, 1, &[1])]);
    let oracle = "a log grows by one and keeps what is committed";
    assert_eq!(broken_by(verdict), oracle);
}

#[test]
fn a_disk_that_forgets_is_seen() {
    const ORACLE: &str = "a disk gives back what was synced";
    let mut oracles = committed();
    let short = [founding(), hard(1, 7, 0), entry(1, 1, 0, &[0])];
    assert_eq!(broken_by(oracles.logs.recovered(0, &short, false)), ORACLE);
    // One unsynced commit may be there or not, unless the power stayed on.
    let mut oracles = committed();
    oracles
        .written(0, &[entry(1, 3, 2, &[2])])
        .expect("a good write");
    let mut all = vec![founding(), hard(1, 7, 0)];
    all.extend([entry(1, 1, 0, &[0]), entry(1, 2, 1, &[1])]);
    assert_eq!(broken_by(oracles.logs.recovered(0, &all, true)), ORACLE);
    assert_eq!(oracles.logs.recovered(0, &all, false), Ok(()));
}

#[test]
fn a_replica_that_lacks_a_committed_record_is_seen() {
    let oracles = committed();
    let (partition, logs) = (partition(), &oracles.logs);
    let whole = logs.durable(0, &partition);
    assert_eq!(oracles.commits.held_by(0, &partition, whole), Ok(()));
    let verdict = oracles
        .commits
        .held_by(2, &partition, logs.durable(2, &partition));
    assert!(broken_by(verdict).starts_with("every replica holds"));
}

#[test]
fn a_sequence_stored_twice_and_a_key_out_of_order_are_seen() {
    for (publishes, oracle) in [
        (&[2, 2][..], "a sequence is stored once"),
        (&[3, 2], "records of one key keep their order"),
    ] {
        let mut oracles = committed();
        let log = [entry(1, 3, 2, publishes)];
        synced(&mut oracles, 0, &log);
        synced(&mut oracles, 1, &log);
        assert_eq!(broken_by(oracles.told("test", &partition(), 3)), oracle);
    }
}

#[test]
fn a_record_that_nobody_published_is_seen() {
    let mut oracles = committed();
    let log = [entry(1, 3, 2, &[99])];
    synced(&mut oracles, 0, &log);
    synced(&mut oracles, 1, &log);
    let verdict = oracles.told("test", &partition(), 2);
    assert_eq!(broken_by(verdict), "a record is stored as it was published");
}

#[test]
fn a_confirm_of_another_place_is_seen() {
    let oracles = committed();
    let (publishes, commits) = (&oracles.publishes, &oracles.commits);
    let right = publishes.confirmed(1, 0, (&partition(), 1), commits);
    assert_eq!(right, Ok(()));
    let verdict = publishes.confirmed(1, 0, (&partition(), 0), commits);
    let oracle = "a confirm names the record's first place";
    assert_eq!(broken_by(verdict), oracle);
}

#[test]
fn a_vote_or_an_ack_ahead_of_the_disk_is_seen() {
    let oracles = committed();
    let vote = RaftMessage {
        kind: MessageType::MsgRequestVoteResponse as i32,
        term: 1,
        to: 7,
        ..RaftMessage::default()
    };
    let ack = RaftMessage {
        kind: MessageType::MsgAppendResponse as i32,
        term: 1,
        index: 2,
        ..RaftMessage::default()
    };
    let check = |message: &RaftMessage| speech::check(&oracles.logs, 0, &partition(), message);
    assert_eq!((check(&vote), check(&ack)), (Ok(()), Ok(())));
    let early = RaftMessage { to: 8, ..vote };
    let oracle = "a vote is synced before it is given";
    assert_eq!(broken_by(check(&early)), oracle);
    let early = RaftMessage { index: 3, ..ack };
    let oracle = "an append is synced before it is acknowledged";
    assert_eq!(broken_by(check(&early)), oracle);
    // A newer leader may have withdrawn it meanwhile.
    let withdrawn = RaftMessage { term: 0, ..early };
    assert_eq!(check(&withdrawn), Ok(()));
}

const KEY: consumers::StreamKey = (5, 1);

fn reading(start: Start, window: u64) -> Oracles {
    let mut oracles = committed();
    let pattern = Pattern::parse("orders.#").expect("a pattern");
    oracles.consumers.opened(KEY, pattern, start, window);
    oracles
}

fn given(oracles: &mut Oracles, offset: Offset, publish: usize) -> Verdict {
    given_after(oracles, 0, offset, publish)
}

fn given_after(oracles: &mut Oracles, missed: u64, offset: Offset, publish: usize) -> Verdict {
    let delivery = Delivery {
        partition: partition(),
        missed,
        records: vec![(offset, Wall(1_001 + offset), 100, record(publish))],
        next: None,
    };
    let Oracles {
        consumers,
        commits,
        retention,
        ..
    } = oracles;
    consumers.delivered(KEY, &delivery, commits, retention)
}

#[test]
fn a_gap_and_a_repeat_are_seen_by_a_consumer() {
    const ORACLE: &str = "a consumer sees history and tail without gap or repeat";
    let mut oracles = reading(Start::Oldest, 1_000);
    assert_eq!(broken_by(given(&mut oracles, 1, 1)), ORACLE);
    let mut oracles = reading(Start::Oldest, 1_000);
    assert_eq!(given(&mut oracles, 0, 0), Ok(()));
    assert_eq!(broken_by(given(&mut oracles, 0, 0)), ORACLE);
    let places = BTreeMap::from([(partition(), 1)]);
    let mut oracles = reading(Start::At(places), 1_000);
    assert_eq!(broken_by(given(&mut oracles, 0, 0)), ORACLE);
    let mut oracles = reading(Start::Since(Wall(1_001)), 1_000);
    assert_eq!(broken_by(given(&mut oracles, 1, 1)), ORACLE);
    let mut oracles = reading(Start::Since(Wall(1_002)), 1_000);
    assert_eq!(given(&mut oracles, 1, 1), Ok(()));
}

#[test]
fn another_record_than_the_committed_one_is_seen_by_a_consumer() {
    let mut oracles = reading(Start::Oldest, 1_000);
    let oracle = "what is delivered is what is committed";
    assert_eq!(broken_by(given(&mut oracles, 0, 1)), oracle);
}

#[test]
fn a_window_that_is_passed_is_seen() {
    let mut oracles = reading(Start::Oldest, 100);
    assert_eq!(given(&mut oracles, 0, 0), Ok(()));
    let oracle = "credit bounds what a consumer is sent";
    assert_eq!(broken_by(given(&mut oracles, 1, 1)), oracle);
    let mut oracles = reading(Start::Oldest, 100);
    assert_eq!(given(&mut oracles, 0, 0), Ok(()));
    oracles.consumers.returned(KEY, 100);
    assert_eq!(given(&mut oracles, 1, 1), Ok(()));
}

#[test]
fn a_consumer_left_behind_is_seen() {
    let mut oracles = reading(Start::Oldest, 1_000);
    let lacks = |oracles: &Oracles| {
        let Oracles {
            consumers,
            commits,
            retention,
            ..
        } = oracles;
        consumers.lacks(KEY, &partition(), commits, retention)
    };
    assert!(lacks(&oracles).is_some_and(|says| says.contains("orders/0/0")));
    given(&mut oracles, 0, 0).expect("the first");
    given(&mut oracles, 1, 1).expect("the second");
    assert_eq!(lacks(&oracles), None);
}

#[test]
fn silence_is_heard() {
    let mut silence = silence::Silence::default();
    silence.asked(Time(0), 1, Question::Publish(1));
    silence.asked(Time(0), 2, Question::Subscribe(1));
    let late = Time(0) + Span::from_secs(60);
    assert_eq!(
        broken_by(silence.check(late)),
        "a client never gets silence"
    );
    silence.answered(1, Question::Publish(1));
    silence.ended(2);
    assert_eq!(silence.check(late), Ok(()));
}

#[test]
fn books_that_do_not_balance_are_seen() {
    let view = |account: ChannelView| NodeView {
        channels: BTreeMap::from([("orders".to_owned(), account)]),
        ..NodeView::default()
    };
    let good = ChannelView {
        received: 6,
        accepted: 1,
        repeated: 2,
        refused: 1,
        pending: 1,
        unknown: 1,
        matched: 3,
        delivered: 2,
        dropped: 1,
    };
    assert_eq!(ledger::check(&view(good.clone())), Ok(()));
    let lost = ChannelView {
        received: 7,
        ..good.clone()
    };
    let unseen = ChannelView { matched: 4, ..good };
    for account in [lost, unseen] {
        assert_eq!(
            broken_by(ledger::check(&view(account))),
            "the ledger balances"
        );
    }
}

fn signal(number: usize) -> Record {
    Record {
        subject: "ticks.eu".into(),
        body: Bytes::from(format!("s{number}.0 ")),
        ..Record::default()
    }
}

/// A listener at machine 1; three signals were published at machine 0.
fn listening() -> signals::Signals {
    let mut signals = signals::Signals::default();
    for number in 0..3 {
        signals.begin(9, signal(number));
    }
    let pattern = Pattern::parse("ticks.#").expect("a pattern");
    signals.opened(KEY, (1, 1), pattern, None, 1_000);
    signals.stands(KEY);
    let topic = crate::wire::signal::topic("ticks.#");
    signals.arrived((0, 1), (1, 1), &topic, 0);
    signals
}

#[test]
fn a_drop_without_a_gap_and_a_gap_without_a_drop_are_seen() {
    const ORACLE: &str = "every dropped signal is seen as a gap";
    let topic = crate::wire::signal::topic("ticks.#");
    let mut signals = listening();
    signals.lost((0, 1), (1, 1), &topic, 1);
    signals.arrived((0, 1), (1, 1), &topic, 1);
    assert_eq!(signals.delivered(KEY, Some(0), &[signal(1)]), Ok(()));
    assert_eq!(broken_by(signals.check_all()), ORACLE);
    let mut signals = listening();
    signals.lost((0, 1), (1, 1), &topic, 1);
    signals.arrived((0, 1), (1, 1), &topic, 1);
    assert_eq!(signals.delivered(KEY, Some(1), &[signal(1)]), Ok(()));
    assert_eq!(signals.check_all(), Ok(()));
    let verdict = listening().delivered(KEY, Some(1), &[signal(1)]);
    assert_eq!(broken_by(verdict), ORACLE);
}

#[test]
fn a_signal_twice_out_of_order_or_never_sent_is_seen() {
    const ORACLE: &str = "a signal arrives as sent, once and in order";
    for heard in [
        [signal(0), signal(0)],
        [signal(1), signal(0)],
        [signal(0), signal(9)],
    ] {
        let verdict = listening().delivered(KEY, Some(0), &heard);
        assert_eq!(broken_by(verdict), ORACLE);
    }
    assert_eq!(tag::parse('s', &signal(2).body), Some((2, 0)));
}

#[test]
fn a_signal_beyond_the_credit_is_seen() {
    let mut signals = signals::Signals::default();
    let pattern = Pattern::parse("ticks.#").expect("a pattern");
    signals.opened(KEY, (1, 1), pattern, Some(100), 1_000);
    assert_eq!(signals.charged(KEY, 150), Ok(()), "one alone may pass it");
    assert!(signals.charged(KEY, 1).is_err());
    signals.returned(KEY, 51);
    assert_eq!(signals.charged(KEY, 1), Ok(()));
    assert!(signals.charged(KEY, 1).is_err());
}

#[test]
fn more_than_a_sessions_window_is_seen() {
    let mut consumers = consumers::Consumers::default();
    let pattern = || Pattern::parse("orders.#").expect("a pattern");
    for id in 1..=2 {
        consumers.opened((3, id), pattern(), consumers::Start::Oldest, 100);
        consumers.charge((3, id), 60);
    }
    assert_eq!(consumers.check_session(3, 120), Ok(()));
    assert_eq!(consumers.check_session(4, 0), Ok(()));
    let verdict = consumers.check_session(3, 119);
    assert_eq!(broken_by(verdict), "credit bounds what a session is sent");
}
