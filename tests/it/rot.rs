//! Disks that lose what they had synced, with real processes: it is found by whoever reads it or by
//! the scrub, fetched from another node, and stands where it stood.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Start, Wanted};
use weft::types::Record;

use crate::blocking::Client;
use crate::fabric::{NAMES, code, healthy, text};
use crate::support::{Fabric, Process, flat, wait_for, wait_until, weft};

/// Records, and the bytes of each: several full segments, whatever short ones lie between them,
/// begun while no spare was there.
const RECORDS: usize = 600;
const BODY: usize = 50_000;

fn client(fabric: &Fabric) -> Client {
    let addresses = NAMES.map(|name| Address::open(fabric.endpoint(name)));
    Client::connect(ConnectOptions::new(addresses.to_vec())).expect("connected")
}

fn body(number: usize) -> Bytes {
    let mut body = format!("记录 {number} 🧭 ").into_bytes();
    body.resize(BODY, number as u8);
    body.into()
}

fn publish(fabric: &Fabric) {
    let client = client(fabric);
    let options = ProducerOptions {
        level: Level::Quorum,
        ..ProducerOptions::default()
    };
    let (publisher, outcomes) = client.publisher(options).expect("a publisher");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..RECORDS {
                let record = Record {
                    subject: "audit.all".into(),
                    body: body(number),
                    ..Record::default()
                };
                publisher.send(&record).expect("taken");
            }
        });
        assert_eq!(outcomes.filter(Result::is_ok).count(), RECORDS);
    });
}

fn read_all(fabric: &Fabric) {
    let client = client(fabric);
    let wanted = Wanted::new("audit.all", Start::Start);
    let mut subscription = client.subscribe(wanted).expect("subscribed");
    for number in 0..RECORDS {
        match subscription.next_within(Duration::from_secs(60)) {
            Ok(Item::Record(read)) => assert_eq!(read.record.body, body(number), "{number}"),
            other => panic!("at {number}: {other:?}"),
        }
    }
}

/// The segments of a node's journal that were filled, from the first on.
fn sealed(fabric: &Fabric, node: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(fabric.data(node)).expect("a folder");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "seg"));
    files.sort();
    files.pop();
    // The very first gives way to the first that is prefilled, and may be gone any time.
    files.retain(|file| file.metadata().is_ok_and(|told| told.len() > 1 << 20));
    files
}

/// Bits turn in a few places of a file, and a page is lost. What it was before.
fn rot(path: &PathBuf) -> Vec<u8> {
    let before = fs::read(path).expect("a segment");
    let mut after = before.clone();
    for place in 1..=5 {
        after[before.len() / 7 * place] ^= 4;
    }
    let page = before.len() / 2 / 4096 * 4096;
    after[page..page + 4096].fill(0);
    write(path, &after);
    before
}

/// In the file as it is, not in another of its name.
fn write(path: &PathBuf, bytes: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("a segment");
    file.write_all_at(bytes, 0).expect("written");
}

/// Who leads `audit`.
fn leader(fabric: &Fabric) -> &'static str {
    let leads = |node: &&&str| {
        let view = view(fabric, node);
        let partitions = view["partitions"].as_array().expect("partitions");
        let mut audit = partitions.iter().filter(|own| own["channel"] == "audit");
        audit.any(|own| own["role"] == "leader")
    };
    NAMES.iter().find(leads).expect("somebody leads it")
}

fn view(fabric: &Fabric, node: &str) -> Value {
    let mut command = weft();
    command.args(["status", "--json", "--topology"]);
    let output = command.arg(&fabric.file).output().expect("weft runs");
    let health: Value = serde_json::from_slice(&output.stdout).expect("an object");
    let nodes = health["nodes"].as_array().expect("nodes");
    let mut views = nodes.iter().map(|node| &node["view"]);
    views
        .find(|view| view["node"] == node)
        .cloned()
        .unwrap_or(Value::Null)
}

fn wait_until_mended(fabric: &Fabric, node: &str, segments: u64) {
    wait_until("every damaged segment is whole again", || {
        let disk = &view(fabric, node)["disk"];
        disk["mended_segments"] == segments && disk["damaged_segments"] == 0
    });
    healthy(fabric);
}

/// Damages the first segment of the node that leads, and reads all; which node found it, and the
/// segment's number.
fn found_by_reading(fabric: &Fabric, nodes: &[Process; 3]) -> (usize, u64) {
    for _ in 0..5 {
        let leader = leader(fabric);
        let at = NAMES.iter().position(|name| *name == leader);
        let at = at.expect("a node");
        let files = sealed(fabric, leader);
        assert!(files.len() > 2, "{files:?}");
        let before = rot(&files[0]);
        read_all(fabric);
        if nodes[at].flat_log().contains("of the journal is damaged: ") {
            return (at, number(&files[0]));
        }
        // Another led by then, as happens on a busy machine, and its copy was read.
        write(&files[0], &before);
    }
    panic!("nobody who leads finds it");
}

/// The number in a segment's file name.
fn number(path: &Path) -> u64 {
    let name = path.file_stem().and_then(OsStr::to_str).expect("a name");
    let digits = name.strip_prefix("journal-").expect("a segment");
    u64::from_str_radix(digits, 16).expect("a number")
}

// Promise 1: what was synced once is read as it was written, whatever a disk loses later.
#[test]
fn what_a_disk_loses_comes_back_from_another_node() {
    let fabric = Fabric::new(&NAMES);
    fabric.rewrite(
        &fabric
            .text()
            .replace("segment_bytes = \"24 MiB\"", "segment_bytes = \"6 MiB\""),
    );
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    publish(&fabric);

    // Whoever reads it finds it, on the node that leads; the reader waits a moment and misses
    // nothing.
    let (at, segment) = found_by_reading(&fabric, &nodes);
    wait_until_mended(&fabric, NAMES[at], 1);
    let log = nodes[at].flat_log();
    let told = format!("segment {segment} of the journal is whole again");
    assert!(log.contains(&told), "{told}: {log}");

    // The scrub finds it, on one that nobody reads from.
    let at = (at + 1) % NAMES.len();
    let other = NAMES[at];
    loop {
        nodes[at].kill();
        nodes[at] = fabric.start(other);
        healthy(&fabric);
        let last = sealed(&fabric, other).pop().expect("a segment");
        let before = rot(&last);
        let scrubbed = wait_for("the scrub ends", || {
            let log = nodes[at].flat_log();
            let lives = log.split("serves clients").last().map(str::to_owned);
            lives.filter(|life| life.contains("the scrub of the journal"))
        });
        if scrubbed.contains("the scrub of the journal finds damage") {
            break;
        }
        // It was past that place already.
        write(&last, &before);
    }
    wait_until_mended(&fabric, other, 1);

    let mut verify = weft();
    verify.args(["ledger", "--verify", "--topology"]);
    let output = verify.arg(&fabric.file).output().expect("weft runs");
    let told = flat(&text(&output.stdout));
    assert_eq!(code(&output), 0, "{told}");
    for node in &mut nodes {
        node.kill();
    }
    for name in NAMES {
        let mut verify = weft();
        verify.args(["journal", "verify"]).arg(fabric.data(name));
        let output = verify.output().expect("weft runs");
        assert_eq!(code(&output), 0, "{}", text(&output.stdout));
    }
}
