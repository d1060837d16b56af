//! What a node's disk has lost comes from the other replicas, or is let go of if it holds nothing
//! that is retained; nothing else is ever taken for it.

use std::time::Duration;

use weft::node::Input;
use weft::types::{Incarnation, JournalItem, Partition, Wall};
use weft::wire::client::Publish;
use weft::wire::encode_peer;
use weft::wire::peer::{Envelope, PEER_VERSION, PeerMessage, Recalled, RecalledEntry};

use super::confirms;
use crate::kit::{Fabric, parse, record};

const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");

fn audit() -> Partition {
    Partition::new(&"audit".into(), 0)
}

fn store(fabric: &mut Fabric, count: usize) {
    let client = fabric.client("b", "writer");
    for number in 0..count {
        let publish = Publish {
            id: Some(number as u64),
            ..Publish::default()
        };
        let body = format!("{number} 字 {}", "x".repeat(1_000));
        fabric.publish(&client, publish, &[record("audit.x", "k", &body)]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    }
}

fn says(fabric: &Fabric, node: &str, what: &str) -> bool {
    let problems = fabric.view(node).problems;
    problems.iter().any(|problem| problem.contains(what))
}

/// The last entry of `audit` that a node has.
fn last(fabric: &Fabric, node: &str) -> u64 {
    let views = fabric.view(node).partitions;
    let audit = views.iter().find(|view| view.channel == "audit");
    audit.expect("it holds it").last
}

// Promise 1, by whichever replica it is: the leader has to be able to send what it has.
#[test]
fn promise_1_what_a_disk_lost_comes_from_the_other_replicas() {
    for node in ["a", "b", "c"] {
        let mut fabric = Fabric::ready();
        // More than one answer holds.
        store(&mut fabric, 600);
        fabric.lose(node, audit(), 1..590);
        fabric.settle();
        fabric.run_until("it is whole again", |fabric| fabric.is_healthy());
        assert_eq!(fabric.lost[&node.into()], []);
        let disk = fabric.view(node).disk;
        assert_eq!((disk.damaged_segments, disk.mended_segments), (0, 1));
    }
}

#[test]
fn a_replica_that_cannot_help_is_passed_over() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 5);
    // The others have lost it too, or do not answer.
    fabric.lose("b", audit(), 2..4);
    fabric.lose("c", audit(), 3..4);
    let silent = ("a".into(), "c".into());
    fabric.cut.insert(silent.clone());
    fabric.skip(Duration::from_secs(1));
    assert!(says(
        &fabric,
        "c",
        "1 entries cannot be read, the first is entry 3 of audit/0"
    ));
    assert!(says(&fabric, "c", "they are fetched from other replicas"));
    fabric.cut.remove(&silent);
    fabric.run_until("all are whole again", |fabric| {
        fabric.lost.values().all(Vec::is_empty) && fabric.is_healthy()
    });
}

// Promise 1: Raft's term tells an entry from another that once stood in its place; what was not
// asked for, or not from whom, is nothing.
#[test]
fn promise_1_nothing_but_what_was_lost_takes_its_place() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 5);
    for other in ["a", "b"] {
        fabric.cut.insert((other.into(), "c".into()));
    }
    fabric.lose("c", audit(), 3..5);
    fabric.settle();
    let journal = &fabric.journals[&"c".into()];
    let there = journal.iter().find_map(|item| match item {
        JournalItem::Entry { partition, entry } if *partition == audit() && entry.index == 3 => {
            Some(entry.clone())
        }
        _ => None,
    });
    let there = there.expect("it was written");
    let recalled = |term, index, data: &[u8]| RecalledEntry {
        term,
        index,
        first_offset: there.first_offset,
        time: Wall(1),
        data: data.to_vec().into(),
    };
    let wrong = [
        recalled(there.term + 1, 3, &there.data),
        recalled(there.term, 2, &there.data),
        recalled(there.term, 4, &there.data),
        recalled(there.term, 3, b"no entry"),
    ];
    // Whatever the number of the question is, and whomever it was put to.
    for node in ["a", "b"] {
        for (request, entry) in (0..20).flat_map(|request| wrong.iter().map(move |e| (request, e)))
        {
            let answer = Recalled {
                request,
                entries: vec![entry.clone()],
            };
            let envelope = Envelope {
                version: PEER_VERSION,
                fabric: "quickstart".to_owned(),
                node: node.into(),
                incarnation: Incarnation(u64::from(crc32fast::hash(node.as_bytes())) + 1),
                epoch: 1,
            };
            let frame = encode_peer(&envelope, &[PeerMessage::Recalled(answer)]);
            let principal = None;
            fabric.input("c", Input::PeerFrame { principal, frame });
        }
    }
    assert!(says(&fabric, "c", "2 entries cannot be read"));
    fabric.cut.clear();
    fabric.run_until("it is whole again", |fabric| {
        fabric.lost[&"c".into()].is_empty() && fabric.is_healthy()
    });
}

// Nobody has it any more, but it holds nothing that is retained: it is let go of, and a replica
// that lacks it is sent a snapshot.
#[test]
fn what_nobody_needs_is_let_go_of() {
    let audit_declared = "[channel.audit]\n";
    let keep = format!("{audit_declared}keep = {{ count = 3 }}\n");
    let mut fabric = Fabric::new(parse(
        &QUICKSTART
            .replace(audit_declared, &keep)
            // What is read back comes from the disk.
            .replace("cache_bytes = \"1 MiB\"", "cache_bytes = \"64 KiB\""),
    ));
    fabric.run_until("every partition is led", Fabric::is_settled);
    store(&mut fabric, 20);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let away = ["a", "b", "c"]
        .into_iter()
        .find(|node| *node != leader.as_str());
    let away = away.expect("another");
    fabric.kill(away);
    store_through(&mut fabric, leader.as_str(), 20);
    fabric.run_until("most is let go of", |fabric| {
        let views = fabric.view(leader.as_str()).partitions;
        let audit = views.into_iter().find(|view| view.channel == "audit");
        audit.is_some_and(|view| view.first_offset >= 37)
    });
    let lacks = last(&fabric, leader.as_str()) - 15;
    for node in ["a", "b", "c"].into_iter().filter(|node| *node != away) {
        fabric.lose(node, audit(), lacks..lacks + 2);
    }
    fabric.start(away);
    fabric.run_until("the one that was away has caught up", |fabric| {
        let ends: Vec<u64> = ["a", "b", "c"]
            .iter()
            .map(|node| last(fabric, node))
            .collect();
        ends.iter().all(|end| *end == ends[0])
    });
    let begins_anew = fabric.journals[&away.into()].iter().any(
        |item| matches!(item, JournalItem::Snapshot { partition, .. } if *partition == audit()),
    );
    assert!(begins_anew, "it is sent a snapshot");
    // Which the journal takes for a word that nothing needed is lost.
    let keeps_from = |fabric: &Fabric| {
        let items = fabric.journals[&leader].iter().rev();
        let mut checkpoints = items.filter_map(|item| match item {
            JournalItem::Checkpoint {
                partition,
                checkpoint,
            } if *partition == audit() => Some(checkpoint.keep_from),
            _ => None,
        });
        checkpoints.next()
    };
    fabric.run_until("the checkpoint lets go of it", |fabric| {
        keeps_from(fabric).is_some_and(|from| from >= lacks + 2)
    });
}

fn store_through(fabric: &mut Fabric, node: &str, count: usize) {
    let client = fabric.client(node, "another writer");
    for number in 0..count {
        let publish = Publish {
            id: Some(number as u64),
            ..Publish::default()
        };
        let body = "x".repeat(10_000);
        fabric.publish(&client, publish, &[record("audit.x", "k", &body)]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
        fabric.tick();
    }
}

#[test]
fn a_single_replica_says_that_there_is_no_other() {
    let text = QUICKSTART.replace(
        "partitions = 1\nreplicas = 3",
        "partitions = 1\nreplicas = 1",
    );
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_settled);
    store(&mut fabric, 5);
    let leader = fabric.leader("audit", 0).expect("a leader");
    fabric.lose(leader.as_str(), audit(), 2..3);
    fabric.skip(Duration::from_secs(2));
    let alone = "of audit/0 there is no other replica: only a copy of the file brings it back";
    assert!(says(&fabric, leader.as_str(), alone));
}
