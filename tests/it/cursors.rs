//! Cursors of real processes: a reader whose nodes die goes on where its acks left it, and the
//! commands show, move and delete where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use weft::client::{Address, ClientError, ConnectOptions, Item, ProducerOptions, Start, Wanted};
use weft::types::{Record, Span};

use crate::blocking::{Client, Subscription};
use crate::fabric::{NAMES, code, healthy, text};
use crate::support::{Fabric, PATIENCE, Process, flat, wait_for, wait_until, weft};

fn three() -> (Fabric, BTreeMap<&'static str, Process>) {
    let fabric = Fabric::new(&NAMES);
    let nodes = NAMES.map(|name| (name, fabric.start(name)));
    healthy(&fabric);
    (fabric, nodes.into_iter().collect())
}

fn client(fabric: &Fabric, names: &[&str]) -> Client {
    let open = |name: &&str| Address::open(fabric.endpoint(name));
    let addresses = names.iter().map(open).collect();
    let timeout = Span::from_secs(30);
    let options = ConnectOptions {
        timeout,
        ..ConnectOptions::new(addresses)
    };
    Client::connect(options).expect("connected")
}

fn run(fabric: &Fabric, args: &[&str]) -> Output {
    let mut command = weft();
    command.args(args).arg("--topology").arg(&fabric.file);
    command.stdin(Stdio::null()).output().expect("weft runs")
}

#[track_caller]
fn ok(fabric: &Fabric, args: &[&str]) -> String {
    let output = run(fabric, args);
    assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn publish(client: &Client, bodies: std::ops::Range<u64>) {
    let (publisher, mut outcomes) = client
        .publisher(ProducerOptions::default())
        .expect("a publisher");
    for body in bodies.clone() {
        let record = Record {
            subject: "audit.x".into(),
            body: Bytes::from(body.to_string()),
            ..Record::default()
        };
        publisher.send(&record).expect("taken");
    }
    for _ in bodies {
        let outcome = outcomes.next().expect("an outcome");
        outcome.expect("stored");
    }
}

fn subscribe(client: &Client) -> Subscription {
    let wanted = Wanted {
        cursor: Some("账单".to_owned()),
        ..Wanted::new("audit.#", Start::Start)
    };
    client.subscribe(wanted).expect("subscribed")
}

fn leader(fabric: &Fabric) -> String {
    wait_for("audit is led", || {
        let health: Value =
            serde_json::from_str(&text(&run(fabric, &["status", "--json"]).stdout)).ok()?;
        let views = health["nodes"].as_array()?.iter();
        let mut partitions = views.flat_map(|node| node["view"]["partitions"].as_array());
        let leads = |view: &&Value| view["channel"] == "audit" && view["role"] == "leader";
        let found = partitions.find_map(|views| views.iter().find(leads).cloned())?;
        Some(found["leader"].as_str()?.to_owned())
    })
}

/// A reader acks by cursor while the partition's leader is killed with `kill -9`, once and again:
/// nothing is passed over, and nothing that is known to be acked comes again.
#[test]
fn a_cursor_passes_over_nothing_while_leaders_are_killed() {
    const RECORDS: u64 = 3_000;
    let (fabric, mut nodes) = three();
    let writer = client(&fabric, &NAMES);
    publish(&writer, 0..RECORDS / 2);
    let (mut acked, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut reader = client(&fabric, &NAMES);
    let mut subscription = subscribe(&reader);
    let mut kills = 0;
    let mut published = false;
    while acked.len() < RECORDS as usize {
        if !published && seen.len() as u64 >= RECORDS / 3 {
            publish(&writer, RECORDS / 2..RECORDS);
            published = true;
        }
        if kills < 2 && seen.len() as u64 >= (kills + 1) * RECORDS / 4 {
            kills += 1;
            let name = leader(&fabric);
            let name = NAMES.into_iter().find(|own| *own == name).expect("ours");
            nodes.get_mut(name).expect("it runs").kill();
            nodes.insert(name, fabric.start(name));
            // And the reader comes back as another client.
            reader = client(&fabric, &NAMES);
            subscription = subscribe(&reader);
        }
        let Item::Record(delivered) = subscription.next_within(PATIENCE).expect("a record") else {
            panic!("nothing is missing here");
        };
        let offset = delivered.id.as_ref().expect("stored").offset;
        assert_eq!(delivered.record.body, offset.to_string());
        assert!(!acked.contains(&offset), "{offset} was acked");
        // Whoever holds it is given what is not acked, in order and without a gap.
        let lowest = (0..).find(|offset| !acked.contains(offset));
        assert!(
            seen.contains(&offset) || Some(offset) <= seen.last().map(|last| last + 1).or(lowest)
        );
        seen.insert(offset);
        if offset % 50 == 49 || offset + 1 == RECORDS {
            match subscription.commit(&delivered) {
                Ok(()) => acked.extend(0..=offset),
                // It is not known, and comes again if it was lost.
                Err(ClientError::Unanswered | ClientError::NoAnswer(_)) => {}
                Err(ClientError::Refused(refusal)) if refusal.retry => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(seen.len() as u64, RECORDS);
    assert_eq!(kills, 2);
    drop(subscription);
    healthy(&fabric);
    let shown = ok(&fabric, &["cursor", "show", "账单", "--json"]);
    let rows: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(rows[0]["floor"], RECORDS);
    assert_eq!(
        (&rows[0]["acked"], &rows[0]["missed"]),
        (&RECORDS.into(), &0.into())
    );
}

#[test]
fn the_second_reader_of_a_cursor_ends_the_first() {
    let (fabric, _nodes) = three();
    let (one, two) = (client(&fabric, &["a"]), client(&fabric, &["b"]));
    publish(&one, 0..3);
    let mut first = subscribe(&one);
    let mut given = None;
    for _ in 0..3 {
        match first.next_within(PATIENCE).expect("a record") {
            Item::Record(delivered) => given = Some(delivered),
            Item::Gap { .. } => panic!("nothing is missing"),
        }
    }
    let given = given.expect("three");
    let mut second = subscribe(&two);
    let ended = wait_for("the first is told", || {
        match first.next_within(Duration::from_millis(100)) {
            Err(ClientError::NoAnswer(_)) => None,
            other => Some(other),
        }
    });
    assert_eq!(ended, Err(ClientError::CursorLost("taken_over".to_owned())));
    assert!(first.commit(&given).is_err(), "it moves nothing any more");
    let Ok(Item::Record(again)) = second.next_within(PATIENCE) else {
        panic!("a record");
    };
    assert_eq!(again.record.body, "0", "nothing was acked");
    second.ack(&again).expect("sent");
    let record_0_acked = || {
        let shown = ok(&fabric, &["cursor", "list", "audit", "--json"]);
        let rows: Value = serde_json::from_str(&shown).expect("JSON");
        rows[0]["floor"] == 1
    };
    wait_until("an ack that nobody waits for arrives", record_0_acked);
}

#[test]
fn the_commands_show_move_and_delete_a_cursor() {
    let (fabric, _nodes) = three();
    for body in ["one", "two", "three"] {
        ok(&fabric, &["publish", "audit.x", body]);
    }
    let next = [
        "subscribe",
        "audit.#",
        "--cursor",
        "printer",
        "--from",
        "start",
        "--count",
        "1",
    ];
    assert_eq!(ok(&fabric, &next), "one\n");
    assert_eq!(ok(&fabric, &next), "two\n", "it goes on where it was");
    let shown = ok(&fabric, &["cursor", "show", "printer"]);
    assert!(shown.contains("audit/0/2"), "{shown}");
    let ledger = ok(&fabric, &["ledger", "audit"]);
    assert!(
        ledger.contains("offered = acked + waiting + missed"),
        "{ledger}"
    );
    assert!(ledger.ends_with("balanced\n"), "{ledger}");
    let ledger: Value =
        serde_json::from_str(&ok(&fabric, &["ledger", "audit", "--json"])).expect("JSON");
    let reader = &ledger["readers"][0];
    assert_eq!(
        (&reader["offered"], &reader["acked"]),
        (&3.into(), &2.into())
    );
    let moved = ok(&fabric, &["cursor", "seek", "printer", "start"]);
    assert_eq!(moved, "moved printer at audit/0/0\n");
    assert_eq!(ok(&fabric, &next), "one\n");
    let moved = ok(
        &fabric,
        &["cursor", "seek", "printer", "audit/0/2", "--json"],
    );
    let moved: Value = serde_json::from_str(&moved).expect("JSON");
    assert_eq!(moved["floor"], 2);
    assert_eq!(ok(&fabric, &next), "three\n");
    let deleted = ok(&fabric, &["cursor", "delete", "printer"]);
    assert_eq!(deleted, "deleted printer at audit/0/3\n");
    let output = run(&fabric, &["cursor", "show", "printer"]);
    assert_eq!(code(&output), 1);
    assert!(flat(&text(&output.stderr)).contains("there is no cursor printer"));
    let output = run(&fabric, &["cursor", "seek", "printer", "yesterday"]);
    assert_eq!(code(&output), 1);
    assert!(flat(&text(&output.stderr)).contains("is no position"));
}
