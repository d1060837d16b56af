//! Publishing: confirms, splitting by key, repeats, order, and every way to be refused.

use bytes::Bytes;
use serde_bytes::ByteBuf;
use weft::node::Input;
use weft::types::{Record, key_partition};
use weft::wire::client::{ConfirmLevel, Hello, Inspect, Publish, Reply, Request, Run, VERSION};
use weft::wire::{Code, encode_request};

use super::{assert_refused, confirms, refusals};
use crate::kit::{Fabric, record};

fn publish(id: u64) -> Publish {
    Publish {
        id: Some(id),
        ..Publish::default()
    }
}

fn numbered(id: u64, sequence: u64) -> Publish {
    let producer = Some(ByteBuf::from(b"p".to_vec()));
    Publish {
        producer,
        sequence: Some(sequence),
        ..publish(id)
    }
}

// [C21] a confirm's runs are in record order, at consecutive offsets. [C9] it echoes the id.
#[test]
fn a_publish_is_split_by_key_and_confirmed_in_record_order() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("b", "one");
    let keys = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let records: Vec<Record> = keys
        .iter()
        .map(|key| record("orders.新", key, "订单 🚀"))
        .collect();
    fabric.publish(&client, publish(7), &records);
    let messages = fabric.answer(&client);
    let confirmed = &confirms(&messages)[0];
    assert_eq!(
        (confirmed.id, confirmed.channel.as_str()),
        (Some(7), "orders")
    );
    let mut covered = 0;
    let mut next = [0; 4];
    for Run {
        record,
        partition,
        offset,
        count,
    } in &confirmed.runs
    {
        assert_eq!(
            *record, covered,
            "runs are in record order and leave nothing out"
        );
        covered += count;
        assert_eq!(
            *offset, next[*partition as usize],
            "offsets of a partition are consecutive"
        );
        next[*partition as usize] += count;
        for key in &keys[*record as usize..(record + count) as usize] {
            // [C17] the partition of a key.
            assert_eq!(key_partition(key.as_bytes(), 4), *partition);
        }
    }
    assert_eq!(covered, 8);
}

// [C21] promise 2: no confirm before a majority has synced.
#[test]
fn no_confirm_leaves_before_a_majority_has_synced() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let client = fabric.client("a", "one");
    let all: Vec<_> = fabric.nodes.keys().cloned().collect();
    fabric.slow_disks = all
        .iter()
        .filter(|node| **node != leader)
        .cloned()
        .collect();
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    for _ in 0..20 {
        fabric.tick();
    }
    assert!(
        fabric.inbox(&client).is_empty(),
        "only the leader has synced it"
    );
    fabric.sync_slow_disks();
    assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
}

// [C26] promise 4: a repeat is confirmed with its first offset, at every node.
#[test]
fn a_retry_is_stored_once_and_confirmed_with_its_first_offset() {
    let mut fabric = Fabric::ready();
    let records = [record("orders.a", "k", "1"), record("orders.a", "k", "2")];
    let mut first = None;
    for node in ["a", "b", "c", "a"] {
        let client = fabric.client(node, "one");
        fabric.publish(&client, numbered(1, 9), &records);
        let confirmed = confirms(&fabric.answer(&client))[0].clone();
        let again = first.replace(confirmed.runs.clone());
        assert_eq!(confirmed.repeated, again.is_some());
        assert!(again.is_none_or(|again| again == confirmed.runs));
    }
    // Restarted on their journals, all nodes still know.
    for node in ["a", "b", "c"] {
        fabric.kill(node);
        fabric.start(node);
    }
    fabric.run_until("every partition is led again", Fabric::is_healthy);
    let client = fabric.client("b", "two");
    fabric.publish(&client, numbered(1, 9), &records);
    let confirmed = confirms(&fabric.answer(&client))[0].clone();
    assert!(confirmed.repeated && Some(confirmed.runs) == first);
    // [C27] other records under the same sequence are refused.
    fabric.publish(&client, numbered(2, 9), &[record("orders.a", "k", "other")]);
    assert_refused(&fabric.answer(&client), Code::SequenceReused);
}

// [C26] this holds for one still on its way to a quorum.
#[test]
fn a_retry_of_an_undecided_publish_waits_for_the_first() {
    let mut fabric = Fabric::ready();
    fabric.slow_disks = fabric.nodes.keys().cloned().collect();
    let (one, two) = (fabric.client("a", "one"), fabric.client("b", "two"));
    let records = [record("audit.x", "k", "1")];
    fabric.publish(&one, numbered(1, 1), &records);
    fabric.publish(&two, numbered(5, 1), &records);
    assert!(fabric.inbox(&one).is_empty() && fabric.inbox(&two).is_empty());
    fabric.slow_disks.clear();
    fabric.sync_slow_disks();
    let first = confirms(&fabric.answer(&one))[0].clone();
    let second = confirms(&fabric.answer(&two))[0].clone();
    assert_eq!(first.runs, second.runs);
    assert!(!first.repeated && second.repeated);
    assert_eq!(second.id, Some(5));
}

// [C28] promise 3: order across retries.
#[test]
fn a_publish_after_a_missing_one_is_refused() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("c", "one");
    let after = Publish {
        after: Some(1),
        ..numbered(2, 2)
    };
    let second = [record("audit.x", "k", "2")];
    fabric.publish(&client, after.clone(), &second);
    assert_refused(&fabric.answer(&client), Code::OutOfOrder);
    fabric.publish(&client, numbered(1, 1), &[record("audit.x", "k", "1")]);
    fabric.publish(&client, after, &second);
    let mut offsets = Vec::new();
    while offsets.len() < 2 {
        offsets.extend(
            confirms(&fabric.answer(&client))
                .iter()
                .map(|c| c.runs[0].offset),
        );
    }
    assert_eq!(offsets, [0, 1]);
}

// [C22] `none` is not confirmed, and its refusals are sent.
#[test]
fn without_confirm_only_refusals_come_back() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let none = Publish {
        confirm: Some(ConfirmLevel::None),
        ..publish(1)
    };
    fabric.publish(&client, none.clone(), &[record("audit.x", "k", "1")]);
    fabric.run_until("it is stored", |fabric| {
        fabric.view("a").channels["audit"].accepted == 1
    });
    assert!(fabric.inbox(&client).is_empty());
    fabric.publish(
        &client,
        Publish {
            after: Some(1),
            ..numbered(2, 2)
        },
        &[record("audit.x", "k", "1")],
    );
    assert_refused(&fabric.answer(&client), Code::OutOfOrder);
}

// [C18] records without a key go to one partition, the same for a retry through another node.
#[test]
fn keyless_records_of_a_numbered_publish_follow_their_producer() {
    let mut fabric = Fabric::ready();
    let records = [record("orders.a", "", "1"), record("orders.b", "", "2")];
    for node in ["a", "b", "c"] {
        let client = fabric.client(node, "one");
        fabric.publish(&client, numbered(1, 1), &records);
        let runs = confirms(&fabric.answer(&client))[0].runs.clone();
        let partition = key_partition(b"p", 4);
        assert_eq!(
            runs,
            [Run {
                record: 0,
                partition,
                offset: 0,
                count: 2
            }]
        );
    }
    let client = fabric.client("a", "two");
    let named = Publish {
        partition: Some(3),
        ..publish(2)
    };
    fabric.publish(&client, named, &[record("orders.a", "", "3")]);
    assert_eq!(confirms(&fabric.answer(&client))[0].runs[0].partition, 3);
}

// [C9] an id that can be read comes back, even where the rest cannot.
#[test]
fn the_id_of_a_request_that_cannot_be_read_is_echoed() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    for (frame, code) in [
        (
            &b"\x81\xa7publish\x82\xa2id\x05\xa7confirm\xa3all"[..],
            Code::BadFrame,
        ),
        (b"\x81\xa6publsh\x81\xa2id\x05", Code::UnknownHeader),
        // [C5] a subscription has a pattern.
        (b"\x81\xa9subscribe\x81\xa2id\x05", Code::BadFrame),
    ] {
        fabric.send_frames(&client, vec![Bytes::from_static(frame)]);
        let refuse = assert_refused(&fabric.inbox(&client), code);
        assert_eq!(refuse.id, Some(5), "{code:?}");
    }
    let nameless = Bytes::from_static(b"\x81\xabunsubscribe\x80");
    fabric.send_frames(&client, vec![nameless]);
    assert_refused(&fabric.inbox(&client), Code::BadFrame);
}

// [C1] [C2] [C3] [C5] [C8] a frame that makes no sense is refused, and the session goes on.
#[test]
fn a_bad_frame_is_refused_and_the_session_goes_on() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let hello = encode_request(&Request::Hello(Hello::default()), &[]);
    let cases: [(Vec<Bytes>, Code); 6] = [
        (vec![], Code::BadFrame),
        (vec![Bytes::new()], Code::BadFrame),
        (vec![hello.clone(), hello.clone()], Code::BadFrame),
        (vec![Bytes::from_static(b"\xc1")], Code::BadFrame),
        (
            vec![Bytes::from_static(b"\x81\xa4what\x80")],
            Code::UnknownHeader,
        ),
        (
            vec![Bytes::from_static(b"\x81\xa7publish\x81\xa2id\xa1x")],
            Code::BadFrame,
        ),
    ];
    for (frames, code) in cases {
        fabric.send_frames(&client, frames);
        assert_refused(&fabric.inbox(&client), code);
        // [C20] hello is answered, with the version both speak.
        fabric.send(
            &client,
            &Request::Hello(Hello {
                version: Some(9),
                ..Hello::default()
            }),
            &[],
        );
        let welcome = fabric.inbox(&client);
        let Reply::Welcome(welcome) = &welcome[0].header else {
            panic!("{welcome:?}");
        };
        assert_eq!((welcome.version, &*welcome.node), (VERSION, "a"));
        assert_eq!(welcome.producer_window, 256, "as the topology says");
    }
    fabric.send(
        &client,
        &Request::Hello(Hello {
            version: Some(0),
            ..Hello::default()
        }),
        &[],
    );
    assert_refused(&fabric.inbox(&client), Code::UnsupportedVersion);
}

/// A publish, its records, and the code it is refused with.
type Refused = (Publish, Vec<Record>, Code);

fn records_nobody_can_store() -> Vec<Refused> {
    let good = record("orders.a", "k", "1");
    let big = record("orders.a", "k", &"x".repeat(2 << 20));
    let mixed = vec![good.clone(), record("audit.a", "k", "1")];
    let lost = vec![good.clone(), record("nobody.cares", "k", "1")];
    let not_here = (key_partition(b"k", 4) + 1) % 4;
    let into = |partition| Publish {
        partition: Some(partition),
        ..publish(1)
    };
    let one = |subject| vec![record(subject, "k", "1")];
    vec![
        // [C14] [C16]
        (publish(1), one(""), Code::BadSubject),
        (publish(1), one("orders.*"), Code::BadSubject),
        (publish(1), one("nobody.cares"), Code::NoChannelForSubject),
        (publish(1), mixed, Code::MixedChannels),
        (publish(1), lost, Code::NoChannelForSubject),
        // [C12]
        (publish(1), vec![big], Code::TooLarge),
        // [C19]
        (into(4), vec![good.clone()], Code::NoPartition),
        (into(not_here), vec![good], Code::WrongPartition),
    ]
}

fn headers_that_do_not_fit() -> Vec<Refused> {
    let good = || vec![record("orders.a", "k", "1")];
    let with = |change: &dyn Fn(&mut Publish)| {
        let mut publish = publish(1);
        change(&mut publish);
        publish
    };
    let producer = |bytes: usize| Publish {
        producer: Some(ByteBuf::from(vec![b'p'; bytes])),
        ..numbered(1, 1)
    };
    let quorum = with(&|p| p.confirm = Some(ConfirmLevel::Quorum));
    let nameless = Publish {
        sequence: None,
        ..numbered(1, 1)
    };
    vec![
        // [C24]
        (
            quorum,
            vec![record("ticks.a", "k", "1")],
            Code::ConfirmNotOffered,
        ),
        // [C19]
        (
            with(&|p| p.partition = Some(0)),
            vec![record("ticks.a", "k", "1")],
            Code::NoPartition,
        ),
        // [C25]
        (with(&|p| p.count = Some(2)), good(), Code::CountMismatch),
        (with(&|p| p.crc = Some(1)), good(), Code::CrcMismatch),
        (publish(1), vec![], Code::CountMismatch),
        // [C27]
        (nameless, good(), Code::BadProducer),
        (with(&|p| p.sequence = Some(1)), good(), Code::BadProducer),
        (with(&|p| p.after = Some(1)), good(), Code::BadProducer),
        (producer(0), good(), Code::BadProducer),
        (producer(65), good(), Code::BadProducer),
    ]
}

#[test]
fn what_cannot_be_stored_is_refused_by_name_and_nothing_is_stored() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let mut cases = records_nobody_can_store();
    cases.extend(headers_that_do_not_fit());
    for (publish, records, code) in cases {
        fabric.publish(&client, publish.clone(), &records);
        let refuse = assert_refused(&fabric.answer(&client), code);
        assert_eq!(refuse.id, Some(1), "{publish:?}");
        assert_eq!(refuse.retry, code.retry());
    }
    let stored: u64 = fabric
        .view("a")
        .partitions
        .iter()
        .map(|p| p.next_offset)
        .sum();
    assert_eq!(stored, 0);
    let channel = fabric.view("a").channels["orders"].clone();
    assert_eq!(
        channel.received, channel.refused,
        "the ledger counts what it refused"
    );
}

// [C29] [C23] promise 1: an answer comes, even if no leader does.
#[test]
fn without_a_quorum_a_publish_is_answered_in_time() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let others: Vec<String> = fabric
        .nodes
        .keys()
        .filter(|node| **node != leader)
        .map(ToString::to_string)
        .collect();
    for node in &others {
        fabric.kill(node);
    }
    let client = fabric.client(leader.as_str(), "one");
    let before = fabric.now.mono;
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    let refuse = assert_refused(&fabric.answer(&client), Code::OutcomeUnknown);
    assert!(refuse.retry && refuse.retry_after_ms.is_some());
    assert!(fabric.now.mono.since(before) <= weft::types::Span::from_secs(5));
    // The old leader has stepped down: now nothing is stored, and it says so.
    fabric.publish(&client, publish(2), &[record("audit.x", "k", "2")]);
    assert_refused(&fabric.answer(&client), Code::NoLeader);
    let ledger = fabric.view(leader.as_str()).channels["audit"].clone();
    assert_eq!(
        (
            ledger.received,
            ledger.unknown,
            ledger.refused,
            ledger.pending
        ),
        (2, 1, 1, 0)
    );
}

// The clients of a node whose journal failed are served by the others.
#[test]
fn a_node_with_a_failed_journal_hands_its_clients_on() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let failed = Input::PersistFailed {
        sequence: 0,
        error: "input/output error".to_owned(),
    };
    fabric.input(leader.as_str(), failed);
    let client = fabric.client(leader.as_str(), "one");
    fabric.run_until("another leads", |fabric| {
        let partitions = fabric.view(leader.as_str()).partitions;
        let led = |p: &weft::node::PartitionView| {
            p.leader
                .as_deref()
                .is_some_and(|now| now != leader.as_str())
        };
        partitions.iter().any(|p| p.channel == "audit" && led(p))
    });
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
}

#[test]
fn a_failed_journal_stops_confirms_and_is_shown() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let failed = Input::PersistFailed {
        sequence: 0,
        error: "input/output error".to_owned(),
    };
    fabric.input(leader.as_str(), failed);
    assert!(fabric.view(leader.as_str()).problems[0].contains("input/output error"));
    let other = fabric
        .nodes
        .keys()
        .find(|node| **node != leader)
        .expect("another")
        .clone();
    let client = fabric.client(other.as_str(), "one");
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    let messages = fabric.answer(&client);
    let refused = refusals(&messages);
    assert!(confirms(&messages).len() + refused.len() == 1 && refused.iter().all(|no| no.retry));
    fabric.run_until("another node leads", |fabric| {
        fabric.view(other.as_str()).partitions.iter().any(|p| {
            p.channel == "audit" && p.leader.as_deref().is_some_and(|l| l != leader.as_str())
        })
    });
    fabric.publish(&client, publish(2), &[record("audit.x", "k", "2")]);
    let confirmed = confirms(&fabric.answer(&client));
    assert_eq!(
        confirmed.first().map(|confirmed| confirmed.id),
        Some(Some(2))
    );
}

#[test]
fn inspect_shows_the_node() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("c", "one");
    fabric.send(&client, &Request::Inspect(Inspect { id: Some(3) }), &[]);
    let messages = fabric.inbox(&client);
    let Reply::View(view) = &messages[0].header else {
        panic!("{messages:?}")
    };
    let node: weft::node::NodeView = rmp_serde::from_slice(&view.body).expect("a view");
    assert_eq!(
        (view.id, node.node.as_str(), node.partitions.len()),
        (Some(3), "c", 5)
    );
    assert_eq!(node.peers.len(), 2);
}
