//! Many of something small, against one real node: it goes on, serves whoever behaves, and has let
//! go of everything afterwards.

use std::fs;
use std::time::{Duration, Instant};

use weft::types::limits::CLIENT_FRAMES_WAITING;
use weft::wire::client::{Hello, Reply, Request};
use weft::wire::encode_request;

use crate::support::{Fabric, PATIENCE, Process, wait_until};

/// Sessions that are opened and abandoned, and how many of them at a time.
const SESSIONS: usize = 10_000;
const AT_A_TIME: usize = 250;

/// Frames of one byte, unless `WEFT_FUZZ_SECONDS` says how long to send them.
const FRAMES: usize = 200_000;

/// The megabytes that the process holds in memory.
fn resident_mib(node: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.expect("a figure").parse::<u64>().expect("a number") >> 10
}

fn descriptors(node: &Process) -> usize {
    let folder = fs::read_dir(format!("/proc/{}/fd", node.id())).expect("it runs");
    folder.count()
}

/// Promise 5: ten thousand clients come and are gone without a word, and nothing is left of them.
#[test]
fn promise_5_ten_thousand_sessions_opened_and_abandoned_leave_nothing() {
    let fabric = Fabric::new(&["a"]);
    let mut node = fabric.serve("a");
    let bystander = fabric.speaker("a");
    bystander.hello();
    let (before, held) = (descriptors(&node), resident_mib(&node));
    let hello = encode_request(&Request::Hello(Hello::default()), &[]);
    for _ in 0..SESSIONS / AT_A_TIME {
        let context = zmq::Context::new();
        let sockets: Vec<zmq::Socket> = (0..AT_A_TIME)
            .map(|_| {
                let socket = context.socket(zmq::DEALER).expect("a socket");
                socket.set_linger(0).expect("linger");
                let patience = PATIENCE.as_millis() as i32;
                socket.set_rcvtimeo(patience).expect("a timeout");
                socket.connect(&fabric.endpoint("a")).expect("connected");
                socket.send(hello.as_ref(), 0).expect("sent");
                socket
            })
            .collect();
        for socket in &sockets {
            socket.recv_bytes(0).expect("a welcome");
        }
    }
    bystander.hello();
    // Sessions that hold nothing are forgotten within a minute; their connections at once.
    wait_until("the connections are gone", || {
        descriptors(&node) <= before + 10
    });
    assert!(bystander.view().sessions.sessions <= SESSIONS as u64 + 1);
    let more = resident_mib(&node).saturating_sub(held);
    assert!(more < 128, "{more} MiB more than before");
    assert!(node.is_running());
}

/// Promise 5: frames of one byte as fast as they can be sent, whose answers nobody reads.
#[test]
fn promise_5_frames_of_one_byte_as_fast_as_possible_disturb_nobody() {
    let fabric = Fabric::new(&["a"]);
    let mut node = fabric.serve("a");
    let bystander = fabric.speaker("a");
    bystander.hello();
    let held = resident_mib(&node);
    let flood = fabric.speaker("a");
    flood
        .socket
        .set_sndtimeo(PATIENCE.as_millis() as i32)
        .expect("a timeout");
    let seconds = std::env::var("WEFT_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().expect("a number")));
    let started = Instant::now();
    let mut sent = 0;
    while seconds.map_or(sent < FRAMES, |seconds| started.elapsed() < seconds) {
        flood.send_raw(&[sent as u8]);
        if sent % (FRAMES / 20) == 0 {
            bystander.hello();
        }
        sent += 1;
    }
    // Most of the answers found a full pipe. The first ones are there.
    let answer = flood.receive(PATIENCE).expect("an answer").header;
    assert!(matches!(answer, Reply::Refuse(_)), "{answer:?}");
    wait_until("all of them are counted", || {
        bystander.view().sessions.bad_frames >= sent as u64
    });
    let more = resident_mib(&node).saturating_sub(held);
    let waiting = CLIENT_FRAMES_WAITING as u64;
    assert!(more < 64 + (waiting >> 10), "{more} MiB more than before");
    while flood.receive(Duration::from_millis(200)).is_some() {}
    flood.hello();
    assert!(node.is_running());
}
