//! The space of what is let go of: real nodes on real disks give it back, and lose nothing with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Start, Wanted};
use weft::types::Record;

use crate::blocking::Client;
use crate::fabric::{NAMES, healthy};
use crate::support::{Fabric, wait_for, wait_until, weft};

/// Bytes of a record, and how many are published at least: many times what the channel keeps.
const BODY: usize = 100_000;
const RECORDS: usize = 500;

/// Bytes that the busy channel keeps.
const KEPT: u64 = 2 << 20;

/// After so many it is too late.
const RECORDS_MAX: usize = 4_000;

/// So many at a time.
const ROUND: usize = 50;

/// Bytes of a record of the quiet channel, which keeps everything.
const QUIET: usize = 1_000;

/// Bytes of a node's segments on the disk.
fn segments(fabric: &Fabric, node: &str) -> u64 {
    let files = std::fs::read_dir(fabric.data(node)).expect("a folder");
    let files = files.map(|file| file.expect("a file"));
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "seg"));
    // One that goes meanwhile counts no more.
    segments
        .filter_map(|file| file.metadata().ok())
        .map(|of| of.len())
        .sum()
}

/// Of each node what its segments take, and what it says of `audit`: (bytes, first offset, next
/// offset).
fn looks(fabric: &Fabric) -> Vec<(u64, u64, u64)> {
    let mut command = weft();
    command
        .args(["status", "--json", "--topology"])
        .arg(&fabric.file);
    let output = command.output().expect("weft runs");
    let health: Value = serde_json::from_slice(&output.stdout).expect("an object");
    let nodes = health["nodes"].as_array().expect("nodes");
    let look = |node: &Value| {
        let view = &node["view"];
        let partitions = view["partitions"].as_array()?;
        let audit = partitions.iter().find(|own| own["channel"] == "audit")?;
        Some((
            segments(fabric, view["node"].as_str()?),
            audit["first_offset"].as_u64()?,
            audit["next_offset"].as_u64()?,
        ))
    };
    nodes.iter().filter_map(look).collect()
}

fn ledger(fabric: &Fabric, channel: &str) -> Value {
    let mut command = weft();
    command.args(["ledger", channel, "--json", "--topology"]);
    let output = command.arg(&fabric.file).output().expect("weft runs");
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).expect("an object")
}

fn client(fabric: &Fabric) -> Client {
    let addresses = NAMES.map(|name| Address::open(fabric.endpoint(name)));
    Client::connect(ConnectOptions::new(addresses.to_vec())).expect("connected")
}

/// Publishes the records `numbers`; the body of each names its offset.
fn publish(fabric: &Fabric, numbers: Range<usize>) {
    publish_to(fabric, "audit.big", BODY, numbers);
}

fn publish_to(fabric: &Fabric, subject: &str, body: usize, numbers: Range<usize>) {
    let count = numbers.len();
    let client = client(fabric);
    let options = ProducerOptions {
        level: Level::Quorum,
        ..ProducerOptions::default()
    };
    let (publisher, outcomes) = client.publisher(options).expect("a publisher");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in numbers {
                let record = Record {
                    subject: subject.into(),
                    body: Bytes::from(vec![number as u8; body]),
                    ..Record::default()
                };
                publisher.send(&record).expect("taken");
            }
        });
        assert_eq!(outcomes.filter(Result::is_ok).count(), count);
    });
}

/// Whether so many nodes answer, and each has less than half of what was written.
fn have_space_back(looks: &[(u64, u64, u64)], nodes: usize) -> bool {
    let has = |(bytes, _, next): &(u64, u64, u64)| {
        *next > RECORDS as u64 && *next * BODY as u64 > 2 * bytes
    };
    looks.len() == nodes && looks.iter().all(has)
}

/// The space comes back while records are written, not once all is quiet; how many were. With each
/// round goes one to the quiet channel.
fn publish_until_space_comes_back(fabric: &Fabric) -> usize {
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut records = 0;
            while records < RECORDS || (records < RECORDS_MAX && !seen.load(Ordering::Acquire)) {
                let round = records / ROUND;
                publish_to(fabric, "orders.quiet", QUIET, round..round + 1);
                publish(fabric, records..records + ROUND);
                records += ROUND;
            }
            records
        });
        while !publisher.is_finished() && !seen.load(Ordering::Acquire) {
            seen.store(have_space_back(&looks(fabric), 3), Ordering::Release);
        }
        let records = publisher.join().expect("every record is confirmed");
        assert!(
            seen.load(Ordering::Acquire),
            "nothing was free after {records} records"
        );
        records
    })
}

/// It comes back as the journal grows: more is published until every node has it. How many records
/// there are then.
fn have_all_space_back(fabric: &Fabric, mut records: usize) -> usize {
    wait_until("every node has its space back", || {
        let looks = looks(fabric);
        let written = (BODY * records) as u64;
        if looks.len() == 3 && looks.iter().all(|look| look.0 < written / 2) {
            return true;
        }
        publish(fabric, records..records + ROUND);
        records += ROUND;
        false
    });
    records
}

/// The busy channel keeps little, in a journal of small segments.
fn small() -> Fabric {
    let fabric = Fabric::new(&NAMES);
    let text = fabric.text();
    let audit = "[channel.audit]\n";
    let text = text.replace(audit, &format!("{audit}keep = {{ size = \"{KEPT} B\" }}\n"));
    fabric.rewrite(&text.replace("segment_bytes = \"24 MiB\"", "segment_bytes = \"6 MiB\""));
    fabric
}

/// Nothing waits for a node that is away; when it is back, it begins anew with what is left.
#[test]
fn space_comes_back_while_a_node_is_away_and_it_goes_on_with_a_snapshot() {
    let fabric = small();
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    publish(&fabric, 0..ROUND);
    nodes[2].kill();
    let mut records = ROUND;
    wait_until("space comes back", || {
        publish(&fabric, records..records + ROUND);
        records += ROUND;
        have_space_back(&looks(&fabric), 2)
    });
    let back = fabric.start(NAMES[2]);
    healthy(&fabric);
    let next = records as u64;
    wait_until("all agree", || {
        let looks = looks(&fabric);
        let same = |look: &(u64, u64, u64)| (look.1, look.2) == (looks[0].1, next);
        looks.len() == 3 && looks.iter().all(same)
    });
    let log = back.flat_log();
    assert!(log.contains("audit/0 begins anew with a snapshot"), "{log}");
    let first = looks(&fabric)[0].1;
    let client = client(&fabric);
    let wanted = Wanted::new("audit.#", Start::Start);
    let mut reader = client.subscribe(wanted).expect("subscribed");
    for offset in first..next {
        match reader.next_within(Duration::from_secs(60)) {
            Ok(Item::Record(read)) => assert_eq!(read.id.map(|id| id.offset), Some(offset)),
            other => panic!("at {offset}: {other:?}"),
        }
    }
}

/// What `weft journal` says of the folder of a node that does not run.
fn journal(fabric: &Fabric, args: &[&str], node: &str) -> String {
    let mut command = weft();
    command.arg("journal").args(args);
    let output = command.arg(fabric.data(node)).output().expect("weft runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
    text(output.stdout)
}

/// All that ever was in the quiet channel is there, byte for byte.
fn assert_quiet(fabric: &Fabric, count: usize) {
    let client = client(fabric);
    let wanted = Wanted::new("orders.#", Start::Start);
    let mut subscription = client.subscribe(wanted).expect("subscribed");
    // Four partitions, each in its order; no key, so that each record may be in any.
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match subscription.next_within(Duration::from_secs(60)) {
            Ok(Item::Record(delivered)) => {
                let body = delivered.record.body;
                assert_eq!(body.len(), QUIET);
                assert!(body.iter().all(|byte| *byte == body[0]));
                numbers.push(usize::from(body[0]));
            }
            other => panic!("after {}: {other:?}", numbers.len()),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_channel_that_keeps_everything_holds_back_nobody_elses_space() {
    let fabric = small();
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    let records = publish_until_space_comes_back(&fabric);
    let quiet = records / ROUND;
    have_all_space_back(&fabric, records);
    assert_quiet(&fabric, quiet);
    for node in &mut nodes {
        node.kill();
    }
    for name in NAMES {
        let verified = journal(&fabric, &["verify", "--json"], name);
        let verified: Value = serde_json::from_str(&verified).expect("an object");
        assert_eq!(verified["sound"], true, "{verified}");
        let segments = verified["segments"].as_array().expect("segments");
        let anew = |segment: &&Value| segment["stands_for"].as_u64() > Some(0);
        assert!(segments.iter().any(|one| anew(&one)), "{verified}");
        let dump = journal(&fabric, &["dump", "--json"], name);
        let items = dump.lines().map(serde_json::from_str::<Value>);
        let mut next = BTreeMap::new();
        for item in items.map(|item| item.expect("an object")) {
            let of = item["partition"].as_str().expect("a partition").to_owned();
            if of.starts_with("orders/") && item["item"] == "records" {
                let next = next.entry(of).or_insert(0);
                assert_eq!(item["offset"], *next, "from its beginning on: {item}");
                *next += item["count"].as_u64().expect("a number");
            }
        }
        assert_eq!(next.values().sum::<u64>(), quiet as u64, "{name}");
    }
    let nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    assert_quiet(&fabric, quiet);
    publish_to(&fabric, "orders.quiet", QUIET, quiet..quiet + 1);
    assert_quiet(&fabric, quiet + 1);
    let ledger = ledger(&fabric, "orders");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    drop(nodes);
}

#[test]
fn what_a_channel_lets_go_of_is_free_again_and_the_rest_survives_kill_9() {
    let fabric = small();
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    let records = publish_until_space_comes_back(&fabric);
    let records = have_all_space_back(&fabric, records);
    for node in &mut nodes {
        node.kill();
    }
    let nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    // All agree on what is left, which is what was there, and goes on from there.
    let first = wait_for("all nodes to agree", || {
        let looks = looks(&fabric);
        let next = records as u64;
        let agreed = looks.len() == 3
            && looks
                .iter()
                .all(|look| (look.1, look.2) == (looks[0].1, next));
        // What was due when they were killed is let go of by now.
        let kept = |first: u64| (next - first) * BODY as u64 <= KEPT;
        (agreed && kept(looks[0].1)).then(|| looks[0].1)
    });
    publish(&fabric, records..records + 1);
    let ledger = ledger(&fabric, "audit");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let stored = &ledger["stored"][0];
    assert_eq!(stored["accepted"], records as u64 + 1);
    let trimmed = stored["trimmed_by_size"].as_u64();
    assert!(trimmed >= Some(first), "{ledger}");
    // Counted since the start of the nodes.
    assert_eq!(ledger["sessions"]["audit"]["accepted"], 1);
    let client = client(&fabric);
    let wanted = Wanted::new("audit.#", Start::Start);
    let mut subscription = client.subscribe(wanted).expect("subscribed");
    // The last record may push out the first of what was retained, before it is read or after.
    let mut next = None;
    while next <= Some(records as u64) {
        match subscription.next_within(Duration::from_secs(60)) {
            Ok(Item::Record(delivered)) => {
                let offset = delivered.id.expect("a stored record").offset;
                assert!(
                    next.map_or(offset >= first, |next| offset == next),
                    "{offset}"
                );
                assert_eq!(delivered.record.body[0], offset as u8);
                next = Some(offset + 1);
            }
            Ok(Item::Gap { .. }) if next.is_none() => {}
            other => panic!("at {next:?}: {other:?}"),
        }
    }
    drop(nodes);
}
