//! What befalls all nodes at once, with real processes: disks that do not sync, and a power switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weft::client::{Address, ConnectOptions, Item, Level, ProducerOptions, Receipt, Start, Wanted};
use weft::types::{Record, Span};
use weft::wire::client::{ConfirmLevel, Message, Publish, Reply, Request};
use weft::wire::records::encode_record;

use crate::blocking::Client;
use crate::fabric::{NAMES, code, healthy, text};
use crate::support::{Fabric, Process, Speaker, wait_until, weft};

/// How long the disks are held: what the test is about, and not what it waits for.
const HELD: Duration = Duration::from_secs(3);

/// In front of the system's own: while the file that `WEFT_TEST_HOLD` names is there, no sync
/// returns. Each process that is held says so once in a file beside it.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void hold(void) {
    const char *file = getenv("WEFT_TEST_HOLD");
    int told = 0;
    while (file && access(file, F_OK) == 0) {
        char name[4096];
        if (!told && snprintf(name, sizeof name, "%s.held-by-%d", file, (int)getpid()) > 0) {
            FILE *mark = fopen(name, "w");
            if (mark) fclose(mark);
            told = 1;
        }
        usleep(5000);
    }
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    hold();
    return real(fd);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    hold();
    return real(fd);
}
"#;

/// Builds the shim; whoever built libzmq has a C compiler.
pub(crate) fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("hold.c"), folder.join("hold.so"));
    fs::write(&source, SHIM).expect("a file");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library);
    let built = cc.arg(&source).arg("-ldl").status().expect("cc runs");
    assert!(built.success());
    library
}

/// The nodes whose disks are held right now.
pub(crate) fn held(folder: &Path) -> usize {
    let files = fs::read_dir(folder).expect("a folder");
    let names = files.map(|file| file.expect("a file").file_name());
    let marks = names.filter(|name| name.to_string_lossy().contains(".held-by-"));
    marks.count()
}

fn publish(speaker: &Speaker) {
    let mut records = Vec::new();
    let record = Record {
        body: "押金 💰".as_bytes().to_vec().into(),
        ..Record::default()
    };
    encode_record(&record, &mut records);
    let publish = Publish {
        id: Some(1),
        subject: Some("orders.eu".into()),
        partition: Some(0),
        confirm: Some(ConfirmLevel::Quorum),
        producer: Some(b"held".to_vec().into()),
        sequence: Some(1),
        ..Publish::default()
    };
    speaker.send(&Request::Publish(publish), &records);
}

/// Whether it is a confirm.
fn confirms(message: &Message<Reply>) -> bool {
    matches!(message.header, Reply::Confirm(_))
}

fn client(fabric: &Fabric) -> Client {
    let addresses = NAMES.map(|name| Address::open(fabric.endpoint(name)));
    Client::connect(ConnectOptions::new(addresses.to_vec())).expect("connected")
}

/// So many records from the start, by id.
fn read(fabric: &Fabric, pattern: &str, count: usize) -> BTreeMap<String, String> {
    let client = client(fabric);
    let wanted = Wanted::new(pattern, Start::Start);
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

fn verified(fabric: &Fabric) {
    let mut command = weft();
    command.args(["ledger", "--verify", "--topology"]);
    let output = command.arg(&fabric.file).output().expect("weft runs");
    assert_eq!(code(&output), 0, "{}", text(&output.stdout));
}

// Promise 2: while no disk syncs, nothing is confirmed; what was asked for is stored once.
#[test]
fn promise_2_while_every_sync_is_held_nothing_is_confirmed() {
    let fabric = Fabric::new(&NAMES);
    let (folder, switch) = (fabric.folder.path(), fabric.folder.path().join("hold"));
    let library = shim(folder);
    let start = |name: &str| {
        let mut command = weft();
        command.env("LD_PRELOAD", &library);
        command.env("WEFT_TEST_HOLD", &switch);
        command.arg("node").arg(&fabric.file).arg(name);
        command.arg("--data").arg(fabric.data(name));
        Process::start(command, &folder.join(format!("{name}.log")))
    };
    let _nodes = NAMES.map(start);
    healthy(&fabric);
    let speaker = fabric.speaker("a");
    speaker.hello();
    fs::write(&switch, "").expect("a file");
    publish(&speaker);
    wait_until("every disk is held", || held(folder) == NAMES.len());
    let early = speaker.receive(HELD);
    assert!(!early.as_ref().is_some_and(confirms), "{early:?}");
    fs::remove_file(&switch).expect("it was there");
    // Whoever is refused meanwhile asks again, as for any silence.
    let mut answer = speaker.answer();
    while !confirms(&answer) {
        let again = matches!(&answer.header, Reply::Refuse(refuse) if refuse.retry);
        assert!(again, "{answer:?}");
        publish(&speaker);
        answer = speaker.answer();
    }
    healthy(&fabric);
    let records = read(&fabric, "orders.#", 1);
    let expected = ("orders/0/0".to_owned(), "押金 💰".to_owned());
    assert_eq!(records.into_iter().next(), Some(expected));
    verified(&fabric);
}

/// After how many confirms the power goes.
const POWER: [usize; 2] = [500, 1_500];

// Promise 1: all nodes are gone at once, in the middle of everything, more than once.
#[test]
fn promise_1_all_nodes_killed_at_once_lose_nothing() {
    let fabric = Fabric::new(&NAMES);
    let mut nodes = NAMES.map(|name| fabric.start(name));
    healthy(&fabric);
    let (confirmed, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ids: Vec<String> = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_all(&fabric, &confirmed, &enough));
        for count in POWER {
            wait_until("enough is confirmed", || {
                confirmed.load(Ordering::Acquire) >= count || publisher.is_finished()
            });
            for node in &nodes {
                node.signal(rustix::process::Signal::KILL);
            }
            for node in &mut nodes {
                node.wait();
            }
            nodes = NAMES.map(|name| fabric.start(name));
            healthy(&fabric);
        }
        enough.store(true, Ordering::Release);
        publisher.join().expect("every record is confirmed")
    });
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let records = read(&fabric, "orders.#", ids.len());
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(records.get(id), Some(&number.to_string()), "{id}");
    }
    verified(&fabric);
}

/// Publishes with many under way until it is enough; the id of every record, in order.
fn publish_all(fabric: &Fabric, confirmed: &AtomicUsize, enough: &AtomicBool) -> Vec<String> {
    let client = client(fabric);
    let options = ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_secs(60),
        window_bytes: 10_000,
    };
    let (publisher, outcomes) = client.publisher(options).expect("a publisher");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0_u64.. {
                if enough.load(Ordering::Acquire) {
                    break;
                }
                let record = Record {
                    subject: "orders.run".into(),
                    body: number.to_string().into_bytes().into(),
                    ..Record::default()
                };
                publisher.send(&record).expect("taken");
            }
        });
        let id = |outcome| match outcome {
            Ok(Receipt::Stored { id, .. }) => {
                confirmed.fetch_add(1, Ordering::AcqRel);
                id.to_string()
            }
            other => panic!("{other:?}"),
        };
        outcomes.map(id).collect()
    })
}
