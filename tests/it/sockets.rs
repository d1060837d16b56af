//! A node's sockets and its start: what strangers may send, who may hold what, how it ends, and
//! that a failed socket comes back.

use std::cell::RefCell;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weft::actor::{Exit, SocketName, StartError};
use weft::client::{Address, ConnectOptions, Item, Receipt, Start, Wanted};
use weft::node::Lane;
use weft::types::{Incarnation, Record, Span};
use weft::wire::client::{ConfirmLevel, Hello, Publish, Reply, Request};
use weft::wire::peer::{Envelope, PEER_VERSION, PeerMessage, State};
use weft::wire::{Code, encode_peer, encode_request};

use crate::blocking::{self, Client, Subscription, wait};
use crate::support::{Fabric, PATIENCE, Process, Speaker, wait_for, wait_until, weft};

#[test]
fn signals_end_a_node_with_exit_0_within_5_s() {
    for signal in [Signal::TERM, Signal::INT] {
        let fabric = Fabric::new(&["a"]);
        let mut node = fabric.serve("a");
        let start = Instant::now();
        node.signal(signal);
        let status = node.wait();
        assert!(status.success(), "{status}: {}", node.log());
        assert!(start.elapsed() < Duration::from_secs(5), "{}", node.log());
        assert!(node.log().contains("stopped"), "{}", node.log());
    }
}

#[test]
fn a_node_stops_with_its_supervisor_when_asked_to() {
    let fabric = Fabric::new(&["a"]);
    let mut command = weft();
    command.args(["node", "--exit-with-parent"]);
    command.arg(&fabric.file).arg("a").arg("--data");
    command.arg(fabric.data("a")).stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("weft starts");
    fabric.speaker("a").hello();
    drop(child.stdin.take());
    let status = wait_for("the node to end", || child.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
}

#[test]
fn a_node_without_its_peers_still_ends_within_5_s() {
    let fabric = Fabric::new(&["a", "b", "c"]);
    let mut node = fabric.serve("a");
    let start = Instant::now();
    node.signal(Signal::TERM);
    assert!(node.wait().success(), "{}", node.log());
    assert!(start.elapsed() < Duration::from_secs(5), "{}", node.log());
}

/// The libzmq that is built here knows what Linux has: an event descriptor, which no child process
/// gets, is what it gives without a pair of sockets; and its timers go by a clock that nobody sets.
#[test]
#[cfg(target_os = "linux")]
fn libzmq_uses_what_linux_has() {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::DEALER).expect("a socket");
    let descriptor = socket.get_fd().expect("a descriptor");
    let is = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("it is open");
    assert_eq!(is.to_str(), Some("anon_inode:[eventfd]"));
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).expect("it is open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.expect("flags").trim(), 8).expect("an octal number");
    assert_ne!(flags & rustix::fs::OFlags::CLOEXEC.bits(), 0, "{info}");
    // Which clock it takes cannot be seen from outside; its threads' names are told beside it.
    let names = std::fs::read_dir("/proc/self/task").expect("threads");
    let names =
        names.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    assert!(names.into_iter().any(|name| name.starts_with("ZMQbg/IO/")));
}

#[test]
fn what_a_node_says_goes_to_stderr_with_its_name() {
    let fabric = Fabric::new(&["a"]);
    let node = fabric.serve("a");
    wait_until("the line that it is ready", || node.log().contains("ready"));
    assert!(
        node.log().contains(" a  INFO ready: node a"),
        "{}",
        node.log()
    );
}

/// Every line names the node, and what is said of a partition names it.
#[test]
fn log_lines_carry_node_partition_and_record() {
    let fabric = Fabric::new(&["a"]);
    let node = fabric.serve("a");
    wait_until("it leads what it holds", || {
        node.log().contains("leads audit/0 in term") && node.log().contains("leads orders/3 in")
    });
    assert!(node.log().contains("from record audit/0/0 on"));
    for line in node.log().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "a", "{line}");
        if let Some(at) = words.iter().position(|word| *word == "record") {
            let named: Result<weft::types::RecordId, _> = words[at + 1].parse();
            assert_eq!(named.expect("a record's id").offset, 0, "{line}");
        }
        let about = ["leads", "founds"]
            .iter()
            .find(|word| words.contains(*word));
        if let Some(about) = about {
            let at = words.iter().position(|word| word == about).expect("there");
            let named: Result<weft::types::RecordId, _> = format!("{}/0", words[at + 1]).parse();
            assert!(named.is_ok(), "{line}");
        }
    }
}

#[test]
fn a_killed_node_starts_again_on_its_ports_and_its_folder() {
    let fabric = Fabric::new(&["a"]);
    let mut first = fabric.serve("a");
    let incarnation = fabric.speaker("a").view().incarnation;
    first.kill();
    let _second = fabric.serve("a");
    assert_eq!(fabric.speaker("a").view().incarnation, incarnation);
}

/// What a raw socket hears of its connections.
fn monitored(fabric: &Fabric, name: &str, events: i32) -> (Speaker, zmq::Socket) {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::DEALER).expect("a socket");
    socket.set_linger(0).expect("linger");
    socket
        .monitor("inproc://monitor", events)
        .expect("monitored");
    let monitor = context.socket(zmq::PAIR).expect("a socket");
    monitor
        .set_rcvtimeo(PATIENCE.as_millis() as i32)
        .expect("a timeout");
    monitor.connect("inproc://monitor").expect("connected");
    socket.connect(&fabric.endpoint(name)).expect("connected");
    (Speaker { socket }, monitor)
}

/// [C41]
#[test]
fn an_oversize_frame_costs_its_sender_the_connection_and_nobody_else() {
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.serve("a");
    let bystander = fabric.speaker("a");
    bystander.hello();
    let frame_max = fabric.topology().limits.frame_max as usize;

    // As large as allowed is read, and refused for what it is.
    let (large, monitor) = monitored(&fabric, "a", zmq::SocketEvent::DISCONNECTED as i32);
    large.hello();
    large.send_raw(&vec![0xc1; frame_max]);
    match large.answer().header {
        Reply::Refuse(refuse) => assert_eq!(refuse.code, Code::BadFrame.number()),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        monitor.recv_msg(zmq::DONTWAIT).err(),
        Some(zmq::Error::EAGAIN)
    );

    // One byte more is not.
    large.send_raw(&vec![0xc1; frame_max + 1]);
    monitor.recv_msg(0).expect("the node closes the connection");
    bystander.hello();
    assert_eq!(large.hello().node, "a", "it may come back");
}

#[test]
fn frames_of_no_bytes_and_of_many_parts_are_refused_and_others_served() {
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.serve("a");
    let bystander = fabric.speaker("a");
    bystander.hello();
    let odd = fabric.speaker("a");
    odd.hello();
    odd.send_raw(b"");
    assert!(matches!(odd.answer().header, Reply::Refuse(_)));
    let parts = vec![b"part".as_slice(); 1_000];
    odd.socket.send_multipart(parts, 0).expect("sent");
    assert!(matches!(odd.answer().header, Reply::Refuse(_)));
    bystander.hello();
    odd.hello();
}

/// What comes over a network that damages frames: good ones with bytes changed, good ones cut off,
/// and bytes that never were one.
fn damaged_frames(good: &[Vec<u8>]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut state = 7_u64;
    let mut draw = move |below: usize| {
        // Knuth's MMIX generator; its high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    (0..3_000).map(move |turn| {
        let mut frame = good[draw(good.len())].clone();
        match turn % 3 {
            0 => frame.truncate(draw(frame.len())),
            1 => {
                for _ in 0..=draw(4) {
                    let position = draw(frame.len());
                    frame[position] = draw(256) as u8;
                }
            }
            _ => frame = (0..draw(200)).map(|_| draw(256) as u8).collect(),
        }
        frame
    })
}

/// Hostile bytes at every endpoint of a running node; whoever behaves is served meanwhile.
#[test]
fn random_and_damaged_frames_stop_no_node_and_disturb_nobody() {
    let fabric = Fabric::new(&["a"]);
    let mut node = fabric.serve("a");
    let bystander = fabric.speaker("a");
    bystander.hello();
    let publish = Request::Publish(Publish {
        id: Some(1),
        confirm: Some(ConfirmLevel::Quorum),
        subject: Some("audit.x".to_owned()),
        ..Publish::default()
    });
    let records = b"\x81\xa4body\xa1x";
    let envelope = Envelope {
        version: PEER_VERSION,
        fabric: "test".to_owned(),
        node: "b".into(),
        incarnation: Incarnation(7),
        epoch: 1,
    };
    let state = PeerMessage::State(State::default());
    let hello = encode_request(&Request::Hello(Hello::default()), &[]);
    let good = [
        hello.to_vec(),
        encode_request(&publish, records).to_vec(),
        encode_peer(&envelope, &[state]).to_vec(),
        // A subscription, as SUB sockets send it.
        b"\x01ticks.#\0".to_vec(),
    ];
    let signals = fabric.topology().nodes[0].signals.bind.clone();
    let endpoints = [
        (zmq::DEALER, fabric.endpoint("a")),
        (zmq::DEALER, fabric.peers_endpoint("a")),
        (zmq::XSUB, signals),
    ];
    let context = zmq::Context::new();
    let sockets = endpoints.map(|(kind, endpoint)| {
        let socket = context.socket(kind).expect("a socket");
        socket.set_linger(0).expect("linger");
        socket.connect(&endpoint).expect("an endpoint");
        socket
    });
    let mut confirmed = 0;
    for (turn, frame) in damaged_frames(&good).enumerate() {
        for socket in &sockets {
            // A full pipe is the sender's own trouble.
            let _ = socket.send(&frame, zmq::DONTWAIT);
        }
        if turn % 100 == 99 {
            bystander.send(&publish, records);
            match bystander.answer().header {
                Reply::Confirm(confirm) => confirmed += confirm.runs[0].count,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(confirmed, 30);
    wait_until("the node has read frames of all kinds", || {
        bystander.view().sessions.bad_frames >= 1_000
    });
    assert!(node.is_running(), "{}", node.log());
}

#[test]
fn a_port_in_use_is_named() {
    let fabric = Fabric::new(&["a"]);
    let endpoint = fabric.endpoint("a");
    let address = endpoint.strip_prefix("tcp://").expect("tcp");
    let _holder = TcpListener::bind(address).expect("the port is free");
    let mut node = fabric.start("a");
    assert_eq!(node.wait().code(), Some(1));
    let said = node.flat_log();
    assert!(said.contains(&endpoint), "{said}");
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn an_ipc_endpoint_in_use_is_not_taken_away() {
    let fabric = Fabric::new(&["a"]);
    let text = fabric.text();
    fabric.rewrite(&text.replace(
        &format!("clients = \"{}\"", fabric.endpoint("a")),
        "clients = \"ipc://a.sock\"",
    ));
    let mut topology = fabric.topology();
    let first = blocking::start(topology.clone(), "a", &fabric.data("a")).expect("it starts");
    let free = Fabric::new(&["a"]).topology();
    topology.nodes[0].peers = free.nodes[0].peers.clone();
    topology.nodes[0].signals = free.nodes[0].signals.clone();
    let second = blocking::start(topology.clone(), "a", &fabric.data("other"));
    match second {
        Err(StartError::EndpointInUse { endpoint, .. }) => {
            assert_eq!(endpoint, topology.nodes[0].clients[0].bind);
        }
        other => panic!("{other:?}"),
    }
    Speaker::connect(&topology.nodes[0].clients[0].advertise, None).hello();
    assert_eq!(wait(first.stop()), Exit::Stopped);
}

#[test]
fn a_data_folder_serves_one_process() {
    let fabric = Fabric::new(&["a"]);
    let _first = fabric.serve("a");
    // The same node and fabric with other ports, so that only the folder is in the way.
    let twin = Fabric::new(&["a"]);
    let mut second = twin.start_in("a", &fabric.data("a"));
    assert_eq!(second.wait().code(), Some(1));
    let said = second.flat_log();
    assert!(said.contains("in use by another process"), "{said}");
    fabric.speaker("a").hello();
}

#[test]
fn a_foreign_or_unreadable_data_folder_is_refused() {
    let fabric = Fabric::new(&["a"]);
    let data = fabric.data("a");
    let start = |topology, name| match blocking::start(topology, name, &data) {
        Ok(node) => format!("{:?}", wait(node.stop())),
        Err(error) => error.to_string(),
    };
    assert_eq!(start(fabric.topology(), "a"), "Stopped");
    let mut foreign = fabric.topology();
    foreign.fabric.name = "elsewhere".to_owned();
    let said = start(foreign, "a");
    assert!(said.contains("belongs to the fabric \"test\""), "{said}");
    let mut renamed = fabric.topology();
    renamed.nodes[0].name = "z".into();
    let said = start(renamed, "z");
    assert!(said.contains("belongs to the node \"a\""), "{said}");

    let identity = data.join("identity");
    let text = std::fs::read_to_string(&identity).expect("the identity");
    std::fs::write(&identity, "something else\n").expect("written");
    let said = start(fabric.topology(), "a");
    assert!(said.contains("identity cannot be read"), "{said}");
    std::fs::write(&identity, text).expect("written");
    assert_eq!(start(fabric.topology(), "a"), "Stopped");

    let file = fabric.folder.path().join("a-file");
    std::fs::write(&file, "").expect("written");
    match blocking::start(fabric.topology(), "a", &file) {
        Err(StartError::Store(error)) => assert!(error.to_string().contains("a-file"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_that_is_not_in_the_file_is_answered_with_the_nearest() {
    let fabric = Fabric::new(&["alpha", "beta"]);
    let mut node = fabric.start_in("alhpa", &fabric.data("alhpa"));
    assert_eq!(node.wait().code(), Some(1));
    let said = node.flat_log();
    assert!(said.contains("did you mean \"alpha\"?"), "{said}");
}

/// A client of one node that listens to signals.
struct End {
    client: Client,
    signals: RefCell<Subscription>,
}

impl End {
    fn connect(fabric: &Fabric, name: &str) -> Self {
        let address = Address::open(fabric.endpoint(name));
        let client = Client::connect(ConnectOptions {
            follow: false,
            timeout: Span::from_secs(30),
            ..ConnectOptions::new(vec![address])
        })
        .expect("connected");
        let signals = client.subscribe(Wanted::new("ticks.#", Start::End));
        Self {
            signals: RefCell::new(signals.expect("subscribed")),
            client,
        }
    }

    fn record(subject: &str) -> Record {
        Record {
            subject: subject.into(),
            ..Record::default()
        }
    }

    /// Every partition has two replicas: nothing is confirmed unless both nodes hear each other.
    fn store(&self) {
        let outcome = self.client.publish(&Self::record("audit.x"));
        assert!(matches!(outcome, Ok(Receipt::Stored { .. })), "{outcome:?}");
    }

    fn signal(&self, other: &Self) {
        wait_for("a signal", || {
            // Those that come before the link stands are gaps.
            let sent = self.client.publish(&Self::record("ticks.x"));
            assert_eq!(sent, Ok(Receipt::Taken));
            let mut signals = other.signals.borrow_mut();
            let item = signals.next_within(Duration::from_millis(50)).ok()?;
            matches!(item, Item::Record(_)).then_some(())
        });
        // None of these is taken for an answer to the next failure.
        let mut signals = other.signals.borrow_mut();
        while signals.next_within(Duration::from_millis(200)).is_ok() {}
    }
}

#[test]
fn a_failed_socket_serves_again_on_its_endpoint() {
    let fabric = Fabric::new(&["a", "b"]);
    let node = blocking::start(fabric.topology(), "a", &fabric.data("a")).expect("it starts");
    let _b = fabric.serve("b");
    let client = fabric.speaker("a");
    client.hello();
    assert_eq!(client.view().restarts, 0);
    let ends = ["a", "b"].map(|name| End::connect(&fabric, name));
    let sockets = [
        SocketName::Clients(0),
        SocketName::Peers,
        SocketName::Link("b".into(), Lane::Control),
        SocketName::Link("b".into(), Lane::Bulk),
        SocketName::Publisher,
        SocketName::Subscriber,
        SocketName::Clients(0),
    ];
    for (socket, restarts) in sockets.into_iter().zip(1..) {
        node.fail_socket(socket.clone());
        wait_until(&format!("{socket:?} is counted as restarted"), || {
            client.view().restarts >= restarts
        });
        client.hello();
        fabric.speaker("a").hello();
        // Both ways over every socket between them, and to the clients of each.
        for (from, to) in [(0, 1), (1, 0)] {
            ends[from].store();
            ends[from].signal(&ends[to]);
        }
    }
    assert_eq!(client.view().restarts, 7);
    assert_eq!(wait(node.stop()), Exit::Stopped);
}

#[test]
fn a_stopped_node_leaves_its_endpoints_and_its_folder() {
    let fabric = Fabric::new(&["a"]);
    for _ in 0..2 {
        let node = blocking::start(fabric.topology(), "a", &fabric.data("a")).expect("it starts");
        fabric.speaker("a").hello();
        assert_eq!(wait(node.stop()), Exit::Stopped);
    }
}

#[test]
fn a_socket_that_cannot_be_opened_again_ends_the_node() {
    let fabric = Fabric::new(&["a"]);
    let node = blocking::start(fabric.topology(), "a", &fabric.data("a")).expect("it starts");
    let endpoint = fabric.endpoint("a");
    let address = endpoint.strip_prefix("tcp://").expect("tcp");
    // Somebody else takes the port in the moment in which the node has let it go.
    let _thief = wait_for("the port", || {
        node.fail_socket(SocketName::Clients(0));
        let deadline = Instant::now() + Duration::from_millis(30);
        while Instant::now() < deadline {
            if let Ok(listener) = TcpListener::bind(address) {
                return Some(listener);
            }
        }
        None
    });
    wait_until("the node gives up", || node.has_ended());
    match wait(node.stop()) {
        Exit::Failed(why) => {
            assert!(why.contains(&endpoint) && why.contains("in a row"), "{why}");
        }
        Exit::Stopped => panic!("it should have failed"),
    }
}

/// Starts `weft subscribe` at the node, waits until it has subscribed, lets `leave` happen to it,
/// and waits until the node has forgotten it.
fn forgets_a_subscriber(leave: Signal) {
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.serve("a");
    let watcher = fabric.speaker("a");
    let mut command = weft();
    command.args(["subscribe", "ticks.#", "--connect"]);
    command.arg(fabric.endpoint("a"));
    let leaver = Process::start(command, &fabric.folder.path().join("leaver.log"));
    let subscriptions = || watcher.view().sessions.subscriptions;
    wait_until("the client has subscribed", || subscriptions() == 1);
    let start = Instant::now();
    leaver.signal(leave);
    wait_until("its subscription is gone", || subscriptions() == 0);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// [C39]
#[test]
fn a_client_that_died_is_forgotten_within_5_s() {
    forgets_a_subscriber(Signal::KILL);
}

/// [C39]: its machine is gone, so nobody says that it is.
#[test]
fn a_client_that_vanished_without_a_word_is_forgotten_within_5_s() {
    forgets_a_subscriber(Signal::STOP);
}
