//! Promise 5, with real processes and their memory measured: whoever is slow, mute or too fast
//! costs what the topology declares, and nobody else notices.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Start, Wanted};
use weft::types::Record;
use weft::types::limits::FRAMES_UNREAD;
use weft::wire::Code;
use weft::wire::client::{ConfirmLevel, From, Publish, Reply, Request, Subscribe};
use weft::wire::records::encode_record;

use crate::blocking::Client;
use crate::disasters::{held, shim};
use crate::fabric::{NAMES, healthy};
use crate::support::{Fabric, Process, wait_until, weft};

/// Bytes of a record, and how many are published: far more than a node may hold in memory.
const BODY: usize = 100_000;
const RECORDS: usize = 3_000;

/// MiB that a node may take beside what it took idle: the publishes of all clients, what waits for
/// a quorum, the newest records of each partition and the windows of a session; as much again while
/// it is encoded; and what libzmq holds of one connection that sends faster than it is read.
const DECLARED_MIB: u64 = 2 * (16 + 4 + 5 + 4) + ((FRAMES_UNREAD as u64 * BODY as u64) >> 20);

/// Memory that is freed goes back to the system, so that what is held is what is measured: by
/// default glibc keeps some of it for each thread.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
];

/// A node with more in its environment.
fn start(fabric: &Fabric, name: &str, more: &[(&str, &Path)]) -> Process {
    let mut command = weft();
    command.envs(ALLOCATOR).envs(more.iter().copied());
    command.arg("node").arg(&fabric.file).arg(name);
    command.arg("--data").arg(fabric.data(name));
    Process::start(command, &fabric.folder.path().join(format!("{name}.log")))
}

/// MiB of memory that the process held at most.
fn most_mib(node: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.expect("a figure").parse::<u64>().expect("a number") >> 10
}

fn record(number: usize) -> Record {
    Record {
        subject: "audit.big".into(),
        body: vec![number as u8; BODY].into(),
        ..Record::default()
    }
}

fn client(fabric: &Fabric, names: &[&str]) -> Client {
    let address = |name: &&str| Address::open(fabric.endpoint(name));
    let addresses = names.iter().map(address).collect();
    Client::connect(ConnectOptions::new(addresses)).expect("connected")
}

/// Takes connections at what was a node's address for its peers, reads, and never answers.
fn mute(address: &str) {
    let address = address.strip_prefix("tcp://").expect("tcp");
    let listener = TcpListener::bind(address).expect("the node is gone");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            });
        }
    });
}

#[test]
fn promise_5_a_mute_peer_and_a_mute_reader_cost_no_more_than_declared() {
    let fabric = Fabric::new(&NAMES);
    let audit = "[channel.audit]\n";
    let keep = format!("{audit}keep = {{ size = \"32 MiB\" }}\n");
    fabric.rewrite(&fabric.text().replace(audit, &keep));
    let mut nodes = NAMES.map(|name| start(&fabric, name, &[]));
    healthy(&fabric);
    nodes[2].kill();
    mute(&fabric.peers_endpoint("c"));
    let reader = fabric.speaker("a");
    reader.hello();
    let subscribe = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(From::End),
        ..Subscribe::default()
    };
    reader.send(&Request::Subscribe(subscribe), &[]);
    let idle = [most_mib(&nodes[0]), most_mib(&nodes[1])];
    let (live, publisher) = (client(&fabric, &["b"]), client(&fabric, &["a", "b"]));
    let wanted = Wanted::new("audit.#", Start::Start);
    let mut others = live.subscribe(wanted).expect("subscribed");
    let options = ProducerOptions {
        level: Level::Quorum,
        ..ProducerOptions::default()
    };
    let (publisher, outcomes) = publisher.publisher(options).expect("a publisher");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..RECORDS {
                publisher.send(&record(number)).expect("taken");
            }
        });
        scope.spawn(move || {
            let last = format!("audit/0/{}", RECORDS - 1);
            loop {
                let item = others.next_within(Duration::from_secs(60));
                match item.expect("the next in time") {
                    Item::Record(delivered) => {
                        let id = delivered.id.expect("an id");
                        assert_eq!(delivered.record.body[0], id.offset as u8);
                        if id.to_string() == last {
                            return;
                        }
                    }
                    // It came later than the channel keeps, and is told.
                    Item::Gap { .. } => {}
                }
            }
        });
        assert_eq!(outcomes.filter(Result::is_ok).count(), RECORDS);
    });
    for (node, idle) in nodes.iter().zip(idle) {
        let more = most_mib(node) - idle;
        assert!(more <= DECLARED_MIB, "{more} MiB more than before");
    }
}

/// Publishes that one client sends without waiting, while no disk syncs.
const FLOOD: u64 = 1_500;

/// The niceness of each of the process's threads, by its name.
fn niceness(node: &Process) -> BTreeSet<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.id())).expect("it runs");
    let told = tasks.filter_map(|task| {
        // A thread may end meanwhile.
        let stat = fs::read_to_string(task.expect("a thread").path().join("stat")).ok()?;
        // proc_pid_stat(5): the name is in parentheses, and the niceness the 19th field.
        let (before, after) = stat.rsplit_once(") ").expect("a name");
        let name = before.split_once('(').expect("a name").1;
        let nice = after.split(' ').nth(16).expect("a field");
        Some((name.to_owned(), nice.to_owned()))
    });
    told.collect()
}

// What no confirm waits for goes after it where processors are few.
#[test]
fn history_and_housekeeping_yield_the_processor_to_confirms() {
    let fabric = Fabric::new(&NAMES);
    let node = start(&fabric, "a", &[]);
    let yields = |name: &str, nice: &str| niceness(&node).contains(&(name.into(), nice.into()));
    for name in ["weft-read", "weft-spare"] {
        wait_until("it yields", || yields(name, "10"));
    }
    let mut others = niceness(&node);
    others.retain(|(name, _)| !["weft-read", "weft-spare"].contains(&name.as_str()));
    assert!(others.contains(&("weft-write".into(), "0".into())));
    assert!(others.iter().all(|(_, nice)| nice == "0"), "{others:?}");
}

#[test]
fn promise_5_a_producer_faster_than_the_disk_is_told_to_wait() {
    let fabric = Fabric::new(&NAMES);
    let (folder, switch) = (fabric.folder.path(), fabric.folder.path().join("hold"));
    let library = shim(folder);
    let held_up = [
        ("LD_PRELOAD", library.as_path()),
        ("WEFT_TEST_HOLD", switch.as_path()),
    ];
    let nodes = NAMES.map(|name| start(&fabric, name, &held_up));
    healthy(&fabric);
    let (flood, bystander) = (fabric.speaker("a"), fabric.speaker("a"));
    flood.hello();
    let idle = most_mib(&nodes[0]);
    fs::write(&switch, "").expect("a file");
    let mut body = Vec::new();
    encode_record(&record(1), &mut body);
    for id in 0..FLOOD {
        let publish = Publish {
            id: Some(id),
            confirm: Some(ConfirmLevel::Quorum),
            ..Publish::default()
        };
        flood.send(&Request::Publish(publish), &body);
    }
    wait_until("a disk is held", || held(folder) > 0);
    // Others are answered meanwhile.
    bystander.hello();
    let view = bystander.view();
    assert!(view.sessions.inflight_bytes <= view.sessions.inflight_bytes_max);
    let mut open: BTreeSet<u64> = (0..FLOOD).collect();
    let (mut busy, mut stored) = (0, 0);
    while !open.is_empty() {
        let id = match flood.answer().header {
            Reply::Confirm(confirmed) => {
                stored += 1;
                confirmed.id
            }
            Reply::Refuse(no) => {
                assert!(no.retry, "{no:?}");
                let told = Code::from_number(no.code) == Some(Code::Busy);
                assert!(!told || no.retry_after_ms.is_some(), "{no:?}");
                busy += usize::from(told);
                no.id
            }
            other => panic!("{other:?}"),
        };
        assert!(open.remove(&id.expect("an id")), "{id:?} is answered twice");
        if busy == 100 && switch.exists() {
            assert_eq!(stored, 0, "no disk has synced");
            fs::remove_file(&switch).expect("it was there");
        }
    }
    assert!(busy >= 100, "{busy} were told to wait");
    let more = most_mib(&nodes[0]) - idle;
    assert!(more <= DECLARED_MIB, "{more} MiB more than before");
    healthy(&fabric);
}
