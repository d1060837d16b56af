//! `weft ledger --verify` on real processes: what the disks of all replicas hold is read and
//! compared, and the counters are held to it. Each fault is made in the folder of a stopped node,
//! with the code that wrote it.

use std::fs;
use std::process::Output;

use rustix::process::Signal;
use weft::channel::{Stamp, Stream};
use weft::store::{Identity, Journal, RealDisk, Settings};
use weft::types::{
    Checkpoint, EntryKind, Incarnation, JournalItem, LogEntry, Partition, Record, Wall,
};
use weft::wire::client::{ConfirmLevel, Publish, Reply, Request};
use weft::wire::entry::EntryHead;
use weft::wire::records::{RawRecords, crc, encode_record};

use crate::fabric::{NAMES, healthy};
use crate::journal_kit::open_as;
use crate::support::{Fabric, Process, flat, wait_until, weft};

/// Three publishes of two records each, into one partition.
fn publish(fabric: &Fabric) {
    let speaker = fabric.speaker("a");
    for n in 0..3 {
        let mut records = Vec::new();
        for half in ["first", "second"] {
            let body = format!("the {half} half of order {n}").into_bytes();
            let record = Record {
                body: body.into(),
                ..Record::default()
            };
            encode_record(&record, &mut records);
        }
        let publish = Publish {
            id: Some(n),
            subject: Some("orders.eu".into()),
            partition: Some(2),
            confirm: Some(ConfirmLevel::Quorum),
            ..Publish::default()
        };
        speaker.send(&Request::Publish(publish), &records);
        let answer = speaker.answer().header;
        assert!(matches!(answer, Reply::Confirm(_)), "{answer:?}");
    }
}

fn verify(fabric: &Fabric, args: &[&str]) -> (i32, String) {
    let mut command = weft();
    command.args(["ledger", "--verify"]).args(args);
    let Output { status, stdout, .. } = command
        .arg("--topology")
        .arg(&fabric.file)
        .output()
        .expect("weft runs");
    let code = status.code().expect("it exits");
    (code, String::from_utf8(stdout).expect("UTF-8"))
}

/// Changes what the journal of a stopped node holds, through the store, and keeps its identity.
fn rewrite(fabric: &Fabric, node: &str, change: impl FnOnce(&mut Vec<JournalItem>)) {
    let folder = fabric.data(node);
    let settings = Settings::from(&fabric.topology().limits);
    let identity = |fresh| Identity {
        fabric: "test".into(),
        node: node.into(),
        fresh,
    };
    let disk = RealDisk::open(&folder).expect("a folder");
    let stopped = open_as(&disk, &identity(Incarnation(1)), settings);
    let (journal, mut items) = stopped.expect("a journal");
    let incarnation = journal.incarnation();
    drop(journal);
    change(&mut items);
    fs::remove_dir_all(&folder).expect("removed");
    fs::create_dir_all(&folder).expect("made anew");
    let disk = RealDisk::open(&folder).expect("a folder");
    let journal = Journal::open(disk, &identity(incarnation), settings, &mut |_| Ok(()));
    let mut journal = journal.expect("a new journal");
    for item in items {
        journal.write(&[item]).expect("written");
    }
    journal.sync().expect("synced");
}

fn partition() -> Partition {
    Partition::new(&"orders".into(), 2)
}

/// The entries of the partition.
fn entries(items: &mut [JournalItem]) -> impl DoubleEndedIterator<Item = &mut LogEntry> {
    items.iter_mut().filter_map(|item| match item {
        JournalItem::Entry {
            partition: of,
            entry,
        } if *of == partition() => Some(entry),
        _ => None,
    })
}

/// A fabric with records, one node of which was stopped, changed and started again.
fn changed(change: impl FnOnce(&Fabric, &mut Vec<JournalItem>)) -> (Fabric, Vec<Process>) {
    let fabric = Fabric::new(&NAMES);
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    publish(&fabric);
    let (code, told) = verify(&fabric, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("orders/2") && told.ends_with("verified\n"),
        "{told}"
    );
    let c = &mut nodes[2];
    c.signal(Signal::TERM);
    assert!(c.wait().success());
    rewrite(&fabric, "c", |items| change(&fabric, items));
    nodes[2] = fabric.start("c");
    healthy(&fabric);
    (fabric, nodes)
}

/// Promise 1: what is counted is held to what is there, whatever the counters say of one another.
#[test]
fn promise_1_a_corrupted_counter_is_found() {
    let (fabric, _nodes) = changed(|fabric, items| {
        let commit = items.iter().rev().find_map(|item| match item {
            JournalItem::HardState {
                partition: of,
                commit,
                ..
            } if *of == partition() => Some(*commit),
            _ => None,
        });
        let commit = commit.expect("something is committed");
        let mut stream = Stream::new(&fabric.topology().limits);
        let mut last = None;
        for entry in entries(items).filter(|entry| entry.index <= commit) {
            last = Some((entry.term, entry.first_offset + u64::from(entry.count)));
            if entry.kind == EntryKind::Records {
                let place = (entry.index, entry.first_offset);
                // A thousand bytes that were never there.
                let bytes = entry.data.len() as u64 + 1_000 * u64::from(entry.first_offset == 0);
                let batches = [(entry.count, None::<Stamp>)];
                let applied = stream.apply(place, entry.time, bytes, batches);
                applied.expect("the log continues");
            }
        }
        let (term, next_offset) = last.expect("an entry");
        items.push(JournalItem::Checkpoint {
            partition: partition(),
            checkpoint: Checkpoint {
                index: commit,
                term,
                next_offset,
                time: stream.last_time(),
                keep_from: 1,
                before_term: 0,
                before_offset: 0,
                before_time: Wall(0),
                state: stream.encode(),
            },
        });
    });
    let (code, told) = verify(&fabric, &["orders"]);
    assert_eq!(code, 1, "{told}");
    let problem = "problem: orders/2: c counts ";
    assert!(
        told.contains(problem) && told.contains("bytes retained"),
        "{told}"
    );
    assert!(told.ends_with("not verified\n"), "{told}");
    // The other channel is as it was.
    assert_eq!(verify(&fabric, &["audit"]).0, 0);
}

/// Promise 1: a record that one disk lacks is named, though the replica that lacks it is sound in
/// itself: its last one, gone with every trace.
#[test]
fn promise_1_a_record_that_one_replica_lacks_is_found() {
    let (fabric, _nodes) = changed(|_, items| {
        for entry in entries(items).rev() {
            if entry.kind != EntryKind::Records {
                entry.first_offset -= 1;
                continue;
            }
            let (mut head, records) = EntryHead::decode(&entry.data).expect("an entry");
            let first = RawRecords::new(&records).next().expect("two records");
            let kept = records.slice(..first.expect("a record").bytes.len());
            head.batches[0].count = 1;
            head.batches[0].bytes = kept.len() as u32;
            head.batches[0].crc = crc(&kept);
            entry.data = head.encode(&[kept]);
            entry.count = 1;
            break;
        }
    });
    let (code, told) = verify(&fabric, &["orders"]);
    assert_eq!(code, 1, "{told}");
    for part in [
        "problem: orders/2/4: the replicas differ from here on",
        "a has 2 records",
        "b has 2 records",
        "c has 1 records",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// What does not answer is not verified.
#[test]
fn a_replica_that_is_away_is_not_verified() {
    let fabric = Fabric::new(&NAMES);
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    publish(&fabric);
    nodes[1].kill();
    let (code, told) = verify(&fabric, &["orders"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("orders/2 on b: not read"), "{told}");
    // What the others hold was read all the same, and the heading claims no more.
    assert!(
        told.starts_with("read from the replicas that answer, and the same\n"),
        "{told}"
    );
    let (_, told) = verify(&fabric, &["orders", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let row = &told["partitions"][2];
    assert_eq!((&row["partition"], &row["records"]), (&2.into(), &6.into()));
    assert_eq!(
        (&row["replicas"][1], &row["not_read"][0]),
        (&"c".into(), &"b".into())
    );
    assert_eq!(told["verified"], false);
}

/// The account is that of the whole fabric, whichever node is named; one that is away shows.
#[test]
fn one_node_named_is_enough_for_the_whole_account() {
    let fabric = Fabric::new(&NAMES);
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    publish(&fabric);
    let says = |args: &[&str]| {
        let mut command = weft();
        let command = command
            .arg("ledger")
            .args(args)
            .args(["orders", "--connect"]);
        let output = command
            .arg(fabric.endpoint("b"))
            .output()
            .expect("weft runs");
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), told)
    };
    let (code, told) = says(&[]);
    assert_eq!(code, Some(0), "{told}");
    for number in 0..4 {
        assert!(told.contains(&format!("orders/{number}")), "{told}");
    }
    assert!(told.ends_with("\nbalanced\n"), "{told}");
    let (code, told) = says(&["--verify"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("a b c"), "{told}");
    nodes[2].kill();
    let (code, told) = says(&[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("c does not answer, and its sums lack"),
        "{told}"
    );
}

/// Signals are declared, and nothing of them lies anywhere.
#[test]
fn of_signals_there_is_nothing_to_verify() {
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.start("a");
    healthy(&fabric);
    let says = |channel| {
        let mut command = weft();
        command.args(["ledger", "--verify", channel, "--topology"]);
        let output = command.arg(&fabric.file).output().expect("weft runs");
        assert_eq!(output.status.code(), Some(1));
        flat(&String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let told = says("ticks");
    let why = "ticks is a signal channel: signals are not stored, so there is nothing to verify";
    assert!(told.contains(why), "{told}");
    let told = says("tocks");
    assert!(
        told.contains("no node that answers knows a channel tocks"),
        "{told}"
    );
}

/// Promise 1: the account is proven while it grows, and while records are let go of.
#[test]
fn promise_1_a_ledger_is_verified_under_load() {
    let fabric = Fabric::new(&NAMES);
    let audit = "[channel.audit]\n";
    let keeps = format!("{audit}keep = {{ count = 40 }}\n");
    fabric.rewrite(&fabric.text().replace(audit, &keeps));
    let _nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    let speaker = fabric.speaker("a");
    let mut records = Vec::new();
    for _ in 0..10 {
        let body = vec![b'x'; 500].into();
        let record = Record {
            body,
            ..Record::default()
        };
        encode_record(&record, &mut records);
    }
    let publish = |n: u64| {
        let subject = ["audit.x", "orders.eu"][n as usize % 2];
        let publish = Publish {
            id: Some(n),
            subject: Some(subject.to_owned()),
            confirm: Some(ConfirmLevel::Quorum),
            ..Publish::default()
        };
        speaker.send(&Request::Publish(publish), &records);
        let answer = speaker.answer().header;
        assert!(matches!(answer, Reply::Confirm(_)), "{answer:?}");
    };
    let mut published = 0;
    wait_until("records are let go of", || {
        publish(published);
        published += 1;
        let partitions = speaker.view().partitions;
        let audit = partitions.iter().find(|own| own.channel == "audit");
        audit.is_some_and(|own| own.first_offset > 0)
    });
    std::thread::scope(|scope| {
        let verified = scope.spawn(|| [(); 6].map(|()| verify(&fabric, &[])));
        let before = published;
        while !verified.is_finished() {
            publish(published);
            published += 1;
        }
        assert!(published - before > 10, "{published} publishes is no load");
        for (code, told) in verified.join().expect("no panic") {
            assert_eq!(code, 0, "{told}");
        }
    });
    let (code, told) = verify(&fabric, &["audit", "--json"]);
    assert_eq!(code, 0, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let row = &told["partitions"][0];
    assert!(row["from"].as_u64() > Some(0), "{told}");
    assert_eq!(told["verified"], true);
}
