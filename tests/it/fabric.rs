//! Three real processes and the commands that people use on them: what was confirmed is there, once
//! and in order, whoever is killed meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Receipt, Start, Wanted};
use weft::types::{Record, Span};

use crate::blocking::Client;
use crate::support::{Fabric, PATIENCE, Process, flat, wait_for, wait_until, weft};

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three nodes that serve, with every partition led.
pub(crate) fn three() -> (Fabric, BTreeMap<&'static str, Process>) {
    let fabric = Fabric::new(&NAMES);
    let nodes = NAMES.map(|name| (name, fabric.start(name)));
    let fabric_nodes = nodes.into_iter().collect();
    healthy(&fabric);
    (fabric, fabric_nodes)
}

/// Waits until `weft status` finds nothing wrong.
#[track_caller]
pub(crate) fn healthy(fabric: &Fabric) {
    let output = run(fabric, &["status", "--wait", "60"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stdout));
}

pub(crate) fn command(fabric: &Fabric, args: &[&str]) -> Command {
    let mut command = weft();
    command.args(args).arg("--topology").arg(&fabric.file);
    command
}

pub(crate) fn run(fabric: &Fabric, args: &[&str]) -> Output {
    command(fabric, args)
        .stdin(Stdio::null())
        .output()
        .expect("weft runs")
}

/// Runs a command that must succeed, and gives its stdout.
#[track_caller]
pub(crate) fn ok(fabric: &Fabric, args: &[&str]) -> String {
    let output = run(fabric, args);
    assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must fail by the user's fault, and gives its stderr.
#[track_caller]
pub(crate) fn refused(fabric: &Fabric, args: &[&str]) -> String {
    let output = run(fabric, args);
    assert_eq!(code(&output), 1, "{args:?}: {}", text(&output.stderr));
    flat(&text(&output.stderr))
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn client(fabric: &Fabric, names: &[&str]) -> Client {
    let addresses = names
        .iter()
        .map(|name| Address::open(fabric.endpoint(name)))
        .collect();
    Client::connect(ConnectOptions {
        timeout: Span::from_secs(30),
        ..ConnectOptions::new(addresses)
    })
    .expect("connected")
}

#[test]
fn a_record_published_at_one_node_is_read_at_every_other() {
    let (fabric, _nodes) = three();
    let (at_a, at_c) = (fabric.endpoint("a"), fabric.endpoint("c"));
    let headers = ["--header", "from=test", "--header", "lang=zh"];
    let mut args = vec!["publish", "orders.eu.new", "订单", "--key", "customer-42"];
    args.extend(headers);
    args.extend(["--connect", &at_a]);
    // CRC-32 of the key is 0x49fda815: partition 1 of 4.
    assert_eq!(ok(&fabric, &args), "orders/1/0\n");

    let read = ok(
        &fabric,
        &[
            "sub",
            "orders.#",
            "--from",
            "start",
            "--count",
            "1",
            "--json",
            "--connect",
            &at_c,
        ],
    );
    let record: Value = serde_json::from_str(&read).expect("one object");
    assert_eq!(record["id"], "orders/1/0");
    assert_eq!(record["subject"], "orders.eu.new");
    assert_eq!(record["key"], "customer-42");
    assert_eq!(record["body"], "订单");
    assert_eq!(record["headers"]["from"], "test");
    assert!(
        record["time"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );

    let twice = ok(
        &fabric,
        &["pub", "audit.x", "same", "--count", "2", "--json"],
    );
    let ids: Vec<Value> = twice
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(ids[1]["id"], "audit/0/1");
}

#[test]
fn every_line_of_stdin_is_a_record_and_any_position_can_be_read_from() {
    let (fabric, _nodes) = three();
    let mut child = command(&fabric, &["publish", "audit.lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("weft runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"zero\none\n\nthree").expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let ids = "audit/0/0\naudit/0/1\naudit/0/2\naudit/0/3\n";
    assert_eq!(text(&output.stdout), ids);

    let from = |position: &str, count: &str| {
        let args = ["subscribe", "audit.#", "--from", position, "--count", count];
        ok(&fabric, &args)
    };
    assert_eq!(from("start", "4"), "zero\none\n\nthree\n");
    assert_eq!(from("3", "1"), "three\n");
    assert_eq!(from("audit/0/1", "1"), "one\n");
    assert_eq!(from("1970-01-01T00:00:00Z", "1"), "zero\n");

    let error = refused(&fabric, &["subscribe", "orders.#", "--from", "3"]);
    assert!(error.contains("--channel and --partition"), "{error}");
    let error = refused(&fabric, &["subscribe", "audit.#", "--from", "99"]);
    assert!(error.contains("bad_position"), "{error}");
    let error = refused(&fabric, &["subscribe", "audit.#", "--from", "soon"]);
    assert!(error.contains("is no position"), "{error}");
    let error = refused(&fabric, &["subscribe", "nothing.#"]);
    assert!(error.contains("no_channel"), "{error}");
}

#[test]
fn a_refusal_is_named_with_its_remedy_and_stores_nothing() {
    let (fabric, _nodes) = three();
    let error = refused(&fabric, &["publish", "nowhere.at.all", "x"]);
    assert!(
        error.contains("no_channel_for_subject") && error.contains("weft plan"),
        "{error}"
    );
    let error = refused(&fabric, &["publish", "ticks.a", "x", "--confirm", "quorum"]);
    assert!(
        error.contains("confirm_not_offered") && error.contains("none"),
        "{error}"
    );
    let error = refused(&fabric, &["publish", "not..a.subject", "x"]);
    assert!(error.contains("empty word"), "{error}");
    let large = "x".repeat(1 << 16);
    let mut child = command(&fabric, &["publish", "audit.large"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weft runs");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "small").expect("written");
    for _ in 0..32 {
        write!(stdin, "{large}").expect("written");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 1);
    assert_eq!(
        text(&output.stdout),
        "audit/0/0\n",
        "its neighbour is stored"
    );
    let error = flat(&text(&output.stderr));
    assert!(
        error.contains("too_large") && error.contains("1 records confirmed"),
        "{error}"
    );

    let free = crate::support::free_port();
    let nobody = format!("tcp://127.0.0.1:{free}");
    let error = refused(&fabric, &["publish", "audit.x", "x", "--connect", &nobody]);
    assert!(
        error.contains("nothing listens") && error.contains("weft up"),
        "{error}"
    );
}

#[test]
fn signals_reach_subscribers_at_every_node() {
    let (fabric, _nodes) = three();
    let publisher = client(&fabric, &["a"]);
    let subscriber = client(&fabric, &["b"]);
    let mut subscription = subscriber
        .subscribe(Wanted::new("ticks.*.eu", Start::End))
        .expect("subscribed");
    // Interest travels between nodes by itself; the first signals may come before it.
    let first = wait_for("a signal to arrive", || {
        let sent = publisher.publish(&record("ticks.x.eu", None, "tick"));
        assert_eq!(sent, Ok(Receipt::Taken));
        subscription.next_within(Duration::from_millis(50)).ok()
    });
    let Item::Record(first) = first else {
        panic!("{first:?}");
    };
    assert_eq!(first.id, None);
    assert_eq!(&first.record.body[..], b"tick");
    let sent = publisher.publish(&record("ticks.x.us", None, "unwanted"));
    assert_eq!(sent, Ok(Receipt::Taken));
    let sent = publisher.publish(&record("ticks.x.eu", None, "last"));
    assert_eq!(sent, Ok(Receipt::Taken));
    loop {
        match subscription.next_within(PATIENCE).expect("the last one") {
            Item::Record(delivered) if &delivered.record.body[..] == b"last" => break,
            Item::Record(delivered) => assert_eq!(&delivered.record.body[..], b"tick"),
            gap => panic!("{gap:?}"),
        }
    }
}

#[test]
fn status_says_in_words_what_is_wrong() {
    let (fabric, mut nodes) = three();
    let all = ok(&fabric, &["status", "--json"]);
    let health: Value = serde_json::from_str(&all).expect("an object");
    assert_eq!(health["healthy"], true);
    assert_eq!(health["nodes"].as_array().map(Vec::len), Some(3));

    // Every column whose name does not say all has its line in the help.
    let shown = ok(&fabric, &["status"]);
    let help = text(
        &weft()
            .args(["status", "--help"])
            .output()
            .expect("it runs")
            .stdout,
    );
    let (_, legend) = help.split_once("Columns:\n").expect("a legend");
    let (legend, _) = legend.split_once("Examples:").expect("examples come last");
    for line in legend.lines().filter(|line| !line.trim().is_empty()) {
        let (column, _) = line
            .trim()
            .split_once("  ")
            .expect("a column and its meaning");
        assert!(shown.contains(column), "no {column} in {shown}");
        assert!(line.len() <= 100, "{line}");
    }

    // One node alone can tell, whoever leads.
    for name in NAMES {
        let output = run(&fabric, &["status", "--connect", &fabric.endpoint(name)]);
        assert_eq!(code(&output), 0, "{}", text(&output.stdout));
    }

    nodes.get_mut("b").expect("b").kill();
    let output = run(&fabric, &["status"]);
    assert_eq!(code(&output), 1);
    let told = text(&output.stdout);
    let endpoint = fabric.endpoint("b");
    assert!(
        told.contains(&format!(
            "b at {endpoint} does not answer: nothing listens there"
        )),
        "{told}"
    );
    wait_until("the others miss it too", || {
        text(&run(&fabric, &["status"]).stdout).contains("a: b was last heard")
    });

    nodes.insert("b", fabric.start("b"));
    healthy(&fabric);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let (fabric, _nodes) = three();
    ok(&fabric, &["publish", "audit.x", "body", "--count", "20000"]);
    let mut child = command(&fabric, &["subscribe", "audit.#", "--from", "start"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weft runs");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "body\n");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0);
    let talk = text(&output.stderr);
    assert_eq!(talk.lines().count(), 1, "{talk}");
}

#[test]
fn an_interrupted_publish_says_how_much_is_confirmed() {
    let (fabric, mut nodes) = three();
    let mut child = command(&fabric, &["publish", "audit.x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weft runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdin.write_all(b"one\ntwo\n").expect("written");
    let mut ids = String::new();
    stdout.read_line(&mut ids).expect("an id");
    stdout.read_line(&mut ids).expect("an id");
    assert_eq!(ids, "audit/0/0\naudit/0/1\n");
    // Without a quorum the third one is never confirmed.
    for name in ["b", "c"] {
        nodes.get_mut(name).expect("a node").kill();
    }
    stdin.write_all(b"three\n").expect("written");
    let inflight = fabric.speaker("a");
    wait_until("the third record is on its way", || {
        let audit = inflight.view().channels.remove("audit").unwrap_or_default();
        audit.received >= 3
    });
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 1);
    let talk = text(&output.stderr);
    assert!(
        talk.contains("2 records confirmed, 0 not stored, 1 unknown"),
        "{talk}"
    );
}

#[test]
fn a_declared_client_is_let_in_with_its_identity_and_nobody_without() {
    let fabric = Fabric::with_keys(&NAMES);
    let identity = fabric.folder.path().join("client.secret");
    fabric.client_keys().write(&identity);
    let identity = identity.to_str().expect("UTF-8");
    let _nodes = NAMES.map(|name| fabric.start(name));
    ok(&fabric, &["status", "--wait", "60", "--identity", identity]);
    let args = ["publish", "audit.x", "hello", "--identity", identity];
    assert_eq!(ok(&fabric, &args), "audit/0/0\n");

    let error = refused(&fabric, &["publish", "audit.x", "x"]);
    assert!(error.contains("--identity"), "{error}");
    let endpoint = fabric.endpoint("a");
    let mut open = weft();
    open.args(["publish", "audit.x", "x", "--connect", &endpoint]);
    let output = open.output().expect("weft runs");
    assert_eq!(code(&output), 1);
    let error = flat(&text(&output.stderr));
    assert!(error.contains("--server-key"), "{error}");

    // By --connect and --server-key alone, without a topology.
    let key = fabric.keys("a").public_key.to_string();
    let mut keyed = weft();
    keyed.args(["publish", "audit.x", "again", "--connect", &endpoint]);
    keyed.args(["--server-key", &key, "--identity", identity]);
    let output = keyed.output().expect("weft runs");
    assert_eq!(
        text(&output.stdout),
        "audit/0/1\n",
        "{}",
        text(&output.stderr)
    );
}

fn record(subject: &str, key: Option<&str>, body: &str) -> Record {
    Record {
        subject: subject.into(),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Record::default()
    }
}

/// How many records the long run publishes, and how many of them per killed node.
const RECORDS: usize = 20_000;
const PER_NODE: usize = 6_000;

const KEYS: usize = 8;

/// Promises 1 to 4, over real processes, sockets and disks.
#[test]
fn nothing_confirmed_is_lost_repeated_or_reordered_while_each_node_is_killed_in_turn() {
    let (fabric, mut nodes) = three();
    let allowed = AtomicUsize::new(0);
    let confirmed = AtomicUsize::new(0);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let live = scope.spawn(|| read_all(&client(&fabric, &["b", "c", "a"]), RECORDS));
        let publisher = scope.spawn(|| publish_all(&fabric, &allowed, &confirmed));
        for (turn, name) in NAMES.into_iter().enumerate() {
            let base = turn * PER_NODE;
            allowed.store(base + PER_NODE, Ordering::Release);
            let reach = |count: usize| {
                wait_until(&format!("{count} records are confirmed"), || {
                    confirmed.load(Ordering::Acquire) >= count || publisher.is_finished()
                });
            };
            reach(base + 500);
            nodes.get_mut(name).expect("a node").kill();
            // The other two are a quorum: they confirm the rest without it.
            reach(base + PER_NODE);
            nodes.insert(name, fabric.start(name));
            healthy(&fabric);
        }
        allowed.store(RECORDS, Ordering::Release);
        let ids = publisher.join().expect("every record is confirmed");
        let seen = live.join().expect("the live reader sees every record");
        check(&ids, &seen);
        ids
    });
    // Whatever was stored beyond what was confirmed would be found here, too.
    let seen = read_all(&client(&fabric, &["c"]), RECORDS);
    check(&ids, &seen);
    let status = ok(&fabric, &["status", "--json"]);
    let health: Value = serde_json::from_str(&status).expect("an object");
    for node in health["nodes"].as_array().expect("nodes") {
        let partitions = node["view"]["partitions"].as_array().expect("partitions");
        let orders = partitions.iter().filter(|own| own["channel"] == "orders");
        let stored: u64 = orders.filter_map(|own| own["next_offset"].as_u64()).sum();
        assert_eq!(stored, RECORDS as u64, "at node {}", node["node"]);
    }
}

/// Publishes as fast as `allowed` lets it; the id of every record, in order.
fn publish_all(fabric: &Fabric, allowed: &AtomicUsize, confirmed: &AtomicUsize) -> Vec<String> {
    let client = client(fabric, &NAMES);
    let options = ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_secs(60),
        // Small frames, so that many are under way while nodes die.
        window_bytes: 20_000,
    };
    let (publisher, outcomes) = client.publisher(options).expect("a publisher");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..RECORDS {
                wait_until("more records are allowed", || {
                    number < allowed.load(Ordering::Acquire)
                });
                let key = format!("key-{}", number % KEYS);
                let record = record("orders.run", Some(&key), &number.to_string());
                publisher.send(&record).expect("taken");
            }
        });
        outcomes
            .map(|outcome| match outcome {
                Ok(Receipt::Stored { id, .. }) => {
                    confirmed.fetch_add(1, Ordering::AcqRel);
                    id.to_string()
                }
                other => panic!("{other:?}"),
            })
            .collect()
    })
}

/// Reads this many records from the start: (id, key, number).
fn read_all(client: &Client, count: usize) -> Vec<(String, String, usize)> {
    let wanted = Wanted::new("orders.run", Start::Start);
    let mut subscription = client.subscribe(wanted).expect("subscribed");
    let patience = Duration::from_secs(120);
    (0..count)
        .map(|_| {
            match subscription
                .next_within(patience)
                .expect("a record in time")
            {
                Item::Record(delivered) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
                    let key = delivered.record.key.as_deref().map(text).expect("a key");
                    let number = text(&delivered.record.body).parse().expect("a number");
                    (delivered.id.expect("an id").to_string(), key, number)
                }
                gap => panic!("{gap:?}"),
            }
        })
        .collect()
}

/// Every confirmed record is seen once, at its id, and each key's records in their order.
fn check(ids: &[String], seen: &[(String, String, usize)]) {
    assert_eq!(ids.len(), RECORDS);
    assert_eq!(seen.len(), RECORDS);
    let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, key, number) in seen {
        assert_eq!(
            id, &ids[*number],
            "record {number} is where it was confirmed"
        );
        assert_eq!(key, &format!("key-{}", number % KEYS));
        if let Some(before) = newest.insert(key, *number) {
            assert!(before < *number, "{key}: {number} came after {before}");
        }
    }
}
