//! A node whose data folder is lost for good, with real processes: an empty one takes its place
//! while records are published, and is needed for a majority afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Receipt, Start, Wanted};
use weft::types::{Record, Span};

use crate::blocking::Client;
use crate::fabric::{NAMES, code, healthy, text};
use crate::support::{Fabric, Process, flat, wait_until, weft};

fn client(fabric: &Fabric) -> Client {
    let addresses = NAMES.map(|name| Address::open(fabric.endpoint(name)));
    Client::connect(ConnectOptions::new(addresses.to_vec())).expect("connected")
}

/// Publishes one record after the other until it is told to stop; `ids` are those of the confirmed.
fn publish(fabric: &Fabric, ids: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let client = client(fabric);
    let options = ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_secs(60),
        ..ProducerOptions::default()
    };
    let (publisher, mut outcomes) = client.publisher(options).expect("a publisher");
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let record = Record {
            subject: "orders.run".into(),
            body: format!("订单 {number} 🚀").into_bytes().into(),
            ..Record::default()
        };
        publisher.send(&record).expect("taken");
        match outcomes.next() {
            Some(Ok(Receipt::Stored { id, .. })) => {
                ids.lock().expect("a lock").push(id.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Every record there is, by its id: the body.
fn read(fabric: &Fabric, count: usize) -> BTreeMap<String, String> {
    let client = client(fabric);
    let wanted = Wanted::new("orders.run", Start::Start);
    let mut subscription = client.subscribe(wanted).expect("subscribed");
    let mut records = BTreeMap::new();
    for _ in 0..count {
        let item = subscription.next_within(Duration::from_secs(60));
        let Ok(Item::Record(delivered)) = item else {
            panic!("{} of {count}, then {item:?}", records.len());
        };
        let body = String::from_utf8(delivered.record.body.to_vec()).expect("UTF-8");
        let before = records.insert(delivered.id.expect("an id").to_string(), body);
        assert_eq!(before, None);
    }
    records
}

fn weft_says(fabric: &Fabric, args: &[&str]) -> (i32, String) {
    let mut command: Command = weft();
    command.args(args).arg("--topology").arg(&fabric.file);
    let output = command.output().expect("weft runs");
    (code(&output), text(&output.stdout))
}

// Promise 1: what was confirmed is there once, on the new folder too; a majority that needs it is
// one.
#[test]
fn a_lost_data_folder_is_replaced_while_records_are_published() {
    let fabric = Fabric::new(&NAMES);
    let mut nodes: BTreeMap<&str, Process> = NAMES
        .map(|name| (name, fabric.start(name)))
        .into_iter()
        .collect();
    healthy(&fabric);
    let (ids, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let confirmed = || ids.lock().expect("a lock").len();
    let more = |what: &str| {
        let before = confirmed();
        wait_until(what, || confirmed() >= before + 50);
    };
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&fabric, &ids, &stop));
        more("records are confirmed");
        nodes.get_mut("a").expect("a node").kill();
        fs::remove_dir_all(fabric.data("a")).expect("it is gone");
        // An empty folder alone says nothing about the old one.
        nodes.insert("a", fabric.start("a"));
        wait_until("it says what to do", || {
            let (_, told) = weft_says(&fabric, &["status"]);
            flat(&told).contains("start this node with `weft node --replace`")
        });
        more("the other two go on");
        nodes.get_mut("a").expect("a node").kill();
        nodes.insert("a", fabric.start_replacing("a"));
        healthy(&fabric);
        // It is killed once more, and needs no word about what it is for.
        nodes.get_mut("a").expect("a node").kill();
        nodes.insert("a", fabric.start("a"));
        healthy(&fabric);
        nodes.get_mut("b").expect("a node").kill();
        more("the new folder and one other are a majority");
        nodes.insert("b", fabric.start("b"));
        healthy(&fabric);
        stop.store(true, Ordering::Release);
        publisher.join().expect("every record is confirmed");
    });
    let ids = ids.into_inner().expect("a lock");
    let records = read(&fabric, ids.len());
    for (number, id) in ids.iter().enumerate() {
        let body = format!("订单 {number} 🚀");
        assert_eq!(records.get(id), Some(&body), "{id}");
    }
    let (code, told) = weft_says(&fabric, &["ledger", "--verify"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.trim_end().ends_with("verified"), "{told}");
}

// What a start says to do about a folder that is lost can be done as it is said.
#[test]
fn a_damaged_folder_is_moved_away_before_it_is_replaced() {
    let fabric = Fabric::new(&NAMES);
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    let [_, _, c] = &mut nodes;
    c.kill();
    let data = fabric.data("c");
    for file in fs::read_dir(&data).expect("a folder") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            fs::remove_file(path).expect("it is gone");
        }
    }
    *c = fabric.start("c");
    assert_eq!(c.wait().code(), Some(1));
    let told = c.flat_log();
    assert!(
        told.contains("is missing, and with it what this node has promised"),
        "{told}"
    );
    assert!(told.contains("move the data folder away"), "{told}");
    assert!(told.contains("`weft node FILE NAME --replace`"), "{told}");
    assert!(!told.contains("cannot be filled"), "{told}");
    // The flag alone does not do it.
    *c = fabric.start_replacing("c");
    assert_eq!(c.wait().code(), Some(1));
    let told = c.flat_log();
    assert!(told.contains("move the folder away first"), "{told}");
    fs::rename(&data, data.with_extension("lost")).expect("moved away");
    *c = fabric.start_replacing("c");
    healthy(&fabric);
}
