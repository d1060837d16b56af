//! A replica that was away while its leader let go of what it lacks.

use std::sync::Arc;

use weft::node::Input;
use weft::types::{JournalItem, Limits, NodeName, Span, Wall};
use weft::wire::client::{From, Publish, Request, Subscribe};
use weft::wire::peer::{Leads, PeerMessage, State};
use weft::wire::{encode_request, records};

use super::hostile::peer_frame;
use super::{confirms, delivers};
use crate::kit::{Client, Fabric, parse, record};

const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");

/// Producers that each publish a record: what is remembered of them takes several pieces.
const PRODUCERS: u64 = 6_000;

/// Records that fill more than two segments, and the bytes of each.
const LARGE_RECORDS: u64 = 400;
const LARGE_BYTES: usize = 60_000;

fn publish(producer: &str, sequence: u64) -> Publish {
    Publish {
        id: Some(sequence),
        producer: Some(format!("{producer:>60}").into_bytes().into()),
        sequence: Some(sequence),
        ..Publish::default()
    }
}

/// `audit` keeps its last three records, in a journal of small segments.
fn fabric(set: impl FnOnce(&mut Limits)) -> Fabric {
    let audit = "[channel.audit]\n";
    let text = QUICKSTART.replace(audit, &format!("{audit}keep = {{ count = 3 }}\n"));
    let text = text.replace("segment_bytes = \"16 MiB\"", "segment_bytes = \"9 MiB\"");
    let text = text.replace("producers_max = 1000 ", "producers_max = 9000 ");
    let mut topology = parse(&text);
    set(&mut Arc::make_mut(&mut topology).limits);
    let mut fabric = Fabric::new(topology);
    fabric.run_until("every partition is led", Fabric::is_settled);
    fabric
}

fn publish_by_many(fabric: &mut Fabric, client: &Client) {
    let frame = |number: u64| {
        let request = Request::Publish(publish(&number.to_string(), 1));
        let mut body = Vec::new();
        records::encode_record(&record("audit.x", "k", "small"), &mut body);
        Input::ClientFrame {
            client: client.id.clone(),
            principal: None,
            frames: vec![encode_request(&request, &body)],
        }
    };
    let inputs = (0..PRODUCERS).map(frame).collect();
    fabric.inputs(client.node.as_str(), inputs);
    assert_eq!(confirms(&fabric.answer(client)).len() as u64, PRODUCERS);
}

fn publish_large(fabric: &mut Fabric, client: &Client) {
    for number in 1..=LARGE_RECORDS {
        let body = "x".repeat(LARGE_BYTES);
        fabric.publish(
            client,
            publish("large", number),
            &[record("audit.x", "k", &body)],
        );
        assert_eq!(confirms(&fabric.answer(client)).len(), 1);
        fabric.tick();
    }
}

fn snapshots(fabric: &Fabric, node: &NodeName) -> usize {
    let items = fabric.journals[node].iter();
    items
        .filter(|item| match item {
            JournalItem::Snapshot { partition, .. } => partition.channel.as_str() == "audit",
            _ => false,
        })
        .count()
}

/// How many bytes reach the peers until all agree.
fn converge(fabric: &mut Fabric) -> usize {
    let before = fabric.peer_bytes;
    fabric.run_until("all agree", |fabric| {
        let audit = |node: &NodeName| {
            let views = fabric.view(node.as_str()).partitions;
            let view = views.into_iter().find(|view| view.channel == "audit");
            let view = view.expect("every node holds it");
            (
                view.first_offset,
                view.next_offset,
                view.producers,
                view.last,
            )
        };
        let views: Vec<_> = fabric.nodes.keys().map(audit).collect();
        fabric.is_settled() && views.iter().all(|view| *view == views[0])
    });
    fabric.peer_bytes - before
}

// A snapshot arrives in pieces, goes on where it was interrupted, and is followed by the entries
// that are retained; what producers sent before is known, and nothing waited for the replica.
#[test]
fn a_replica_that_was_away_for_long_begins_anew_with_a_snapshot() {
    let mut fabric = fabric(|_| {});
    let leader = fabric.leader("audit", 0).expect("a leader");
    let away = fabric.nodes.keys().find(|node| **node != leader);
    let away = away.expect("another").clone();
    let client = fabric.client(leader.as_str(), "publisher");
    publish_by_many(&mut fabric, &client);
    fabric.kill(away.as_str());
    fabric.skip(std::time::Duration::from_secs(6));
    publish_large(&mut fabric, &client);

    // One piece arrives.
    fabric.large_frames = Some(1);
    fabric.start(away.as_str());
    for _ in 0..100 {
        fabric.tick();
    }
    assert_eq!(fabric.large_frames, Some(0), "pieces were lost");
    assert_eq!(snapshots(&fabric, &away), 0);
    fabric.large_frames = None;
    let bytes = converge(&mut fabric);
    assert_eq!(snapshots(&fabric, &away), 1, "{:#?}", fabric.notes);
    // Not all that was written meanwhile.
    assert!(
        bytes * 3 < LARGE_RECORDS as usize * LARGE_BYTES * 2,
        "{bytes}"
    );

    // It leads, knows every producer, serves what is retained, and goes on after a restart.
    for restarts in 0..2 {
        for node in fabric.nodes.keys().cloned().collect::<Vec<_>>() {
            if node != away {
                fabric.input(node.as_str(), Input::Stop);
            }
        }
        fabric.run_until("it leads", |fabric| {
            let views = fabric.view(away.as_str()).partitions;
            views
                .iter()
                .any(|view| view.channel == "audit" && view.role == "leader")
        });
        let client = fabric.client(away.as_str(), &format!("reader {restarts}"));
        let retry = publish("7", 1);
        fabric.publish(&client, retry, &[record("audit.x", "k", "small")]);
        assert!(confirms(&fabric.answer(&client))[0].repeated);
        let wanted = Subscribe {
            id: 1,
            pattern: "audit.#".to_owned(),
            from: Some(From::Start),
            ..Subscribe::default()
        };
        fabric.subscribe(&client, wanted);
        for _ in 0..20 {
            fabric.tick();
        }
        let bodies: Vec<String> = delivers(&fabric.inbox(&client))
            .into_iter()
            .flat_map(|(_, bodies)| bodies)
            .collect();
        assert_eq!(bodies.len(), 3);
        assert!(bodies.iter().all(|body| body.len() == LARGE_BYTES));
        for node in fabric.nodes.keys().cloned().collect::<Vec<_>>() {
            fabric.kill(node.as_str());
            fabric.start(node.as_str());
        }
        fabric.run_until("every partition is led", Fabric::is_settled);
    }
}

// A state that no segment holds is sent once it has become smaller.
#[test]
fn a_snapshot_that_is_too_large_for_now_is_sent_later() {
    let mut fabric = fabric(|limits| {
        limits.segment_bytes = 400_000;
        limits.producer_idle = Span::from_secs(30);
    });
    let leader = fabric.leader("audit", 0).expect("a leader");
    let away = fabric.nodes.keys().find(|node| **node != leader);
    let away = away.expect("another").clone();
    let client = fabric.client(leader.as_str(), "publisher");
    fabric.kill(away.as_str());
    fabric.skip(std::time::Duration::from_secs(6));
    publish_large(&mut fabric, &client);
    publish_by_many(&mut fabric, &client);
    fabric.start(away.as_str());
    let warned = |fabric: &Fabric| {
        let told = |note: &&String| note.contains("cannot be sent them before they are fewer");
        fabric.notes.iter().filter(told).count()
    };
    fabric.run_until("it is told", |fabric| warned(fabric) > 0);
    assert_eq!(snapshots(&fabric, &away), 0);
    converge(&mut fabric);
    assert_eq!(snapshots(&fabric, &away), 1, "{:#?}", fabric.notes);
    assert_eq!(warned(&fabric), 1);
}

// What is read from the disk for a replica that lags is sent once, while records go on to come;
// only the probe that finds out where it stands may be sent twice.
#[test]
fn a_replica_that_missed_much_is_sent_little_more_than_that() {
    const MISSED: u64 = 2_000;
    let text = QUICKSTART.replace("cache_bytes = \"1 MiB\"", "cache_bytes = \"64 KiB\"");
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_settled);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let mut others = fabric.nodes.keys().filter(|node| **node != leader);
    let away = others.next().expect("another").clone();
    let client = fabric.client(leader.as_str(), "publisher");
    let publish_one = |fabric: &mut Fabric, number: u64| {
        let body = format!("{number} {}", "x".repeat(8_000));
        fabric.publish(
            &client,
            publish("one", number),
            &[record("audit.x", "k", &body)],
        );
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    };
    fabric.kill(away.as_str());
    for number in 1..=MISSED {
        publish_one(&mut fabric, number);
    }
    fabric.appended = Some(std::collections::BTreeMap::new());
    fabric.start(away.as_str());
    let next_offset = |fabric: &Fabric, node: &NodeName| {
        let views = fabric.view(node.as_str()).partitions;
        let view = views.into_iter().find(|view| view.channel == "audit");
        view.expect("every node holds it").next_offset
    };
    let mut number = MISSED;
    while next_offset(&fabric, &away) < number {
        number += 1;
        publish_one(&mut fabric, number);
        fabric.tick();
    }
    let appended = fabric.appended.take().expect("it was set");
    let sent = appended[&away];
    assert!(sent >= number, "{sent} of {number}");
    // A beat and a hand-over have entries of their own, in each of the five partitions.
    assert!(sent * 10 <= number * 11, "{sent} entries for {number}");
}

/// The first entry that each checkpoint of `audit` keeps.
fn keeps_from(fabric: &Fabric, node: &NodeName) -> Vec<u64> {
    let items = fabric.journals[node].iter();
    let kept = items.filter_map(|item| match item {
        JournalItem::Checkpoint {
            partition,
            checkpoint,
        } if partition.channel.as_str() == "audit" => Some(checkpoint.keep_from),
        _ => None,
    });
    kept.collect()
}

// A leader may count less as synced than before, since it counts who answers. What was let go of
// by then stays so: a checkpoint that kept it would be of entries that are no more.
#[test]
fn what_was_let_go_of_is_not_kept_again_for_a_replica_that_turns_up() {
    let mut fabric = fabric(|limits| limits.segment_bytes = 400_000);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let other = fabric.nodes.keys().find(|node| **node != leader);
    let other = other.expect("another").clone();
    let client = fabric.client(leader.as_str(), "publisher");
    let mut number = 0;
    let mut store = |fabric: &mut Fabric, subject: &str, bytes: usize| {
        number += 1;
        let body = "x".repeat(bytes);
        let publish = publish("one", number);
        fabric.publish(&client, publish, &[record(subject, "k", &body)]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    };
    for _ in 0..20 {
        store(&mut fabric, "audit.x", 10);
        fabric.tick();
    }
    fabric.run_until("most is let go of", |fabric| {
        let views = fabric.view(other.as_str()).partitions;
        let audit = views.into_iter().find(|view| view.channel == "audit");
        audit.is_some_and(|view| view.first_offset == 17)
    });
    while keeps_from(&fabric, &other)
        .last()
        .is_none_or(|kept| *kept < 17)
    {
        store(&mut fabric, "orders.x", LARGE_BYTES);
        fabric.tick();
    }
    let views = fabric.view(leader.as_str()).partitions;
    let audit = views.into_iter().find(|view| view.channel == "audit");
    for synced in (1..17).rev() {
        let leads = Leads {
            channel: "audit".into(),
            partition: 0,
            term: audit.as_ref().expect("it leads it").term,
            synced,
        };
        let state = PeerMessage::State(State {
            wall: Wall(0),
            holds: Vec::new(),
            leads: vec![leads],
            stopping: false,
            stalled: false,
        });
        for _ in 0..20 {
            store(&mut fabric, "orders.x", LARGE_BYTES);
            let told = peer_frame(leader.as_str(), std::slice::from_ref(&state));
            fabric.input(other.as_str(), told);
            fabric.tick();
        }
    }
    let kept = keeps_from(&fabric, &other);
    assert!(kept.is_sorted(), "{kept:?}");
}

/// How many milliseconds it takes to send what a replica lacks, at this many bytes a second.
fn caught_up_in(rate: u64) -> u64 {
    let text = QUICKSTART.replace("cache_bytes = \"1 MiB\"", "cache_bytes = \"64 KiB\"");
    let mut topology = parse(&text);
    Arc::make_mut(&mut topology).limits.catch_up_rate = rate;
    let mut fabric = Fabric::new(topology);
    fabric.run_until("every partition is led", Fabric::is_settled);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let away = fabric.nodes.keys().find(|node| **node != leader);
    let away = away.expect("another").clone();
    let client = fabric.client(leader.as_str(), "publisher");
    fabric.kill(away.as_str());
    let body = "x".repeat(LARGE_BYTES);
    for number in 1..=100 {
        let record = record("audit.x", "k", &body);
        fabric.publish(&client, publish("one", number), &[record]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    }
    fabric.start(away.as_str());
    let started = fabric.now.mono;
    fabric.run_until("it has them all", |fabric| {
        let views = fabric.view(away.as_str()).partitions;
        let mut audit = views.iter().filter(|view| view.channel == "audit");
        audit.all(|view| view.next_offset == 100)
    });
    fabric.now.mono.since(started).as_millis()
}

// Whoever lags is sent what it lacks at a pace, so that others are served meanwhile.
#[test]
fn a_replica_that_lags_takes_its_share_of_the_disk_and_no_more() {
    let at_once = caught_up_in(1 << 30);
    // Six million bytes, of which the last read may be ahead of its time.
    let paced = caught_up_in(1 << 20);
    assert!(paced > at_once + 3_000, "{at_once} ms, {paced} ms");
    assert!(paced < at_once + 8_000, "{at_once} ms, {paced} ms");
}
