//! The security floor: which keys pass where, and that a node which could not enforce it does not
//! start.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use weft::actor::StartError;
use weft::topology::Topology;
use weft::types::{Incarnation, Record};
use weft::wire::audit::Audit;
use weft::wire::client::{
    Ack, Bye, Credit, Delete, From, Hello, Inspect, Publish, Reply, Request, Seek, Subscribe,
    Unsubscribe,
};
use weft::wire::peer::{Envelope, PEER_VERSION, PeerMessage, RaftMessage, State};
use weft::wire::records::encode_record;
use weft::wire::{REQUESTS, encode_peer, encode_request};

use crate::blocking;
use crate::support::{CLIENT, Fabric, Keys, PATIENCE, wait_for, wait_until};

/// How a handshake ended, as the one who connects sees it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Admitted,
    Refused,
}

/// Connects and waits for the end of the handshake. `keys` are one's own and the server's.
fn knock(endpoint: &str, keys: Option<(&Keys, &[u8; 32])>) -> Outcome {
    knock_as(zmq::DEALER, endpoint, keys)
}

/// The same with the socket that belongs there: any other is turned away whatever its key.
fn knock_as(kind: zmq::SocketType, endpoint: &str, keys: Option<(&Keys, &[u8; 32])>) -> Outcome {
    knock_with(kind, endpoint, keys, &[])
}

/// The same with frames that leave as soon as the door is open.
fn knock_with(
    kind: zmq::SocketType,
    endpoint: &str,
    keys: Option<(&Keys, &[u8; 32])>,
    frames: &[Bytes],
) -> Outcome {
    let context = zmq::Context::new();
    let socket = context.socket(kind).expect("a socket");
    socket.set_linger(0).expect("linger");
    if let Some((own, server)) = keys {
        socket.set_curve_serverkey(server).expect("a key");
        socket.set_curve_publickey(&own.public).expect("a key");
        socket.set_curve_secretkey(&own.secret).expect("a key");
    }
    let events = [
        zmq::SocketEvent::HANDSHAKE_SUCCEEDED,
        zmq::SocketEvent::HANDSHAKE_FAILED_AUTH,
        zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
        zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
        zmq::SocketEvent::DISCONNECTED,
    ];
    let mask = events
        .into_iter()
        .fold(0, |mask, event| mask | event as i32);
    socket.monitor("inproc://monitor", mask).expect("monitored");
    let monitor = context.socket(zmq::PAIR).expect("a socket");
    monitor
        .set_rcvtimeo(PATIENCE.as_millis() as i32)
        .expect("a timeout");
    monitor.connect("inproc://monitor").expect("connected");
    socket.connect(endpoint).expect("connected");
    for frame in frames {
        socket.send(frame.as_ref(), 0).expect("it waits");
    }
    let event = monitor.recv_msg(0).expect("the handshake ends");
    let number = u16::from_ne_bytes([event[0], event[1]]);
    match number == zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() {
        true => Outcome::Admitted,
        false => Outcome::Refused,
    }
}

/// [C43]
#[test]
fn declared_keys_pass_at_their_own_endpoints_only() {
    let fabric = Fabric::with_keys(&["a", "b"]);
    let mut a = fabric.serve("a");
    let server = &fabric.keys("a").public;
    let (clients, peers) = (fabric.endpoint("a"), fabric.peers_endpoint("a"));
    let (client, peer, stranger) = (fabric.client_keys(), fabric.keys("b"), Keys::new());

    assert_eq!(knock(&clients, Some((client, server))), Outcome::Admitted);
    assert_eq!(knock(&peers, Some((peer, server))), Outcome::Admitted);
    for (endpoint, keys, who) in [
        (
            &clients,
            Some((&stranger, server)),
            "a stranger as a client",
        ),
        (&peers, Some((&stranger, server)), "a stranger as a peer"),
        (&clients, None, "a client without CURVE"),
        (&peers, None, "a peer without CURVE"),
        (
            &peers,
            Some((client, server)),
            "a client's key at the peers",
        ),
        (
            &clients,
            Some((peer, server)),
            "a node's key at the clients",
        ),
        (
            &clients,
            Some((client, &stranger.public)),
            "another node's key",
        ),
    ] {
        assert_eq!(knock(endpoint, keys), Outcome::Refused, "{who}");
    }
    let signals = fabric.topology().nodes[0].signals.advertise.clone();
    let listen = |keys| knock_as(zmq::SUB, &signals, keys);
    assert_eq!(listen(Some((peer, server))), Outcome::Admitted);
    assert_eq!(listen(Some((&stranger, server))), Outcome::Refused);
    assert_eq!(listen(Some((client, server))), Outcome::Refused);
    assert_eq!(listen(None), Outcome::Refused);
    // Whoever knows a public key does not have the secret one.
    let thief = Keys {
        public: client.public,
        ..stranger.clone()
    };
    assert_eq!(knock(&clients, Some((&thief, server))), Outcome::Refused);

    wait_until("refusals in the log", || {
        let log = a.log();
        log.contains(&format!(
            "the key \"{}\" is not declared among",
            stranger.public_key
        )) && log.contains("it speaks no CURVE")
    });
    assert!(!a.log().contains(&stranger.secret_z85));
    assert!(a.is_running());
    let welcome = fabric.speaker("a").hello();
    assert_eq!(welcome.principal.as_deref(), Some(CLIENT));
}

/// A frame for each thing that a client can ask for.
fn every_request() -> Vec<Bytes> {
    let mut records = Vec::new();
    let record = Record {
        subject: "orders.eu".into(),
        ..Record::default()
    };
    encode_record(&record, &mut records);
    let subscribe = Subscribe {
        id: 1,
        pattern: "#".to_owned(),
        ..Subscribe::default()
    };
    let ack = Ack {
        id: 1,
        channel: None,
        partition: 0,
        offset: 0,
        first: None,
        token: None,
        request: Some(1),
    };
    let seek = Seek {
        id: Some(1),
        channel: "orders".into(),
        cursor: "reader".to_owned(),
        partition: None,
        to: From::End,
    };
    let delete = Delete {
        id: Some(1),
        channel: "orders".into(),
        cursor: "reader".to_owned(),
        partition: None,
    };
    let audit = Audit {
        id: Some(1),
        channel: "orders".into(),
        partition: 0,
        from: 1,
        to: 9,
    };
    let all = [
        Request::Hello(Hello::default()),
        Request::Publish(Publish::default()),
        Request::Subscribe(subscribe),
        Request::Unsubscribe(Unsubscribe { id: 1 }),
        Request::Ack(ack),
        Request::Credit(Credit { id: 1, bytes: 1 }),
        Request::Seek(seek),
        Request::Delete(delete),
        Request::Inspect(Inspect::default()),
        Request::Audit(audit),
        Request::Bye(Bye {}),
    ];
    let frames: Vec<Bytes> = all
        .iter()
        .map(|request| match request {
            Request::Publish(_) => encode_request(request, &records),
            _ => encode_request(request, &[]),
        })
        .collect();
    let named = |name: &&str| {
        frames
            .iter()
            .any(|frame| frame[2..].starts_with(name.as_bytes()))
    };
    assert!(REQUESTS.iter().all(named), "a verb is missing");
    frames
}

/// [C43] Promise 6: every verb, from everybody who has no right to it, comes to nothing.
#[test]
fn promise_6_no_verb_of_whoever_has_no_right_has_any_effect() {
    let fabric = Fabric::with_keys(&["a", "b"]);
    let mut a = fabric.serve("a");
    let server = &fabric.keys("a").public;
    let (clients, peers) = (fabric.endpoint("a"), fabric.peers_endpoint("a"));
    let stranger = Keys::new();
    let speaker = fabric.speaker("a");
    let before = speaker.view().sessions;
    let requests = every_request();
    // As a peer speaks: a frame with every message that has no fields it needs, from node b.
    let envelope = Envelope {
        version: PEER_VERSION,
        fabric: "test".to_owned(),
        node: "b".into(),
        incarnation: Incarnation(7),
        epoch: 1,
    };
    let messages = [
        PeerMessage::State(State::default()),
        PeerMessage::Raft(RaftMessage::default()),
    ];
    let peer_frame = encode_peer(&envelope, &messages);
    let mut at_peers = requests.clone();
    at_peers.push(peer_frame);
    for (endpoint, keys, frames) in [
        (&clients, None, &requests),
        (&clients, Some((&stranger, server)), &requests),
        (&clients, Some((fabric.keys("b"), server)), &requests),
        (&peers, None, &at_peers),
        (&peers, Some((&stranger, server)), &at_peers),
        (&peers, Some((fabric.client_keys(), server)), &at_peers),
    ] {
        for frame in frames {
            let one = std::slice::from_ref(frame);
            let outcome = knock_with(zmq::DEALER, endpoint, keys, one);
            assert_eq!(outcome, Outcome::Refused, "{frame:?} at {endpoint}");
        }
        let outcome = knock_with(zmq::DEALER, endpoint, keys, frames);
        assert_eq!(outcome, Outcome::Refused, "all at {endpoint}");
    }
    // The one who may look sees nobody who was not there before, and a peer that was never heard.
    let view = speaker.view();
    assert_eq!(view.sessions, before);
    assert!(view.channels.values().all(|own| own.received == 0));
    assert_eq!(view.peers[0].heard_ms, None);
    assert!(a.is_running());
}

#[test]
fn a_flood_of_strangers_fills_no_log() {
    let fabric = Fabric::with_keys(&["a"]);
    let a = fabric.serve("a");
    let stranger = Keys::new();
    for _ in 0..40 {
        let keys = (&stranger, &fabric.keys("a").public);
        assert_eq!(knock(&fabric.endpoint("a"), Some(keys)), Outcome::Refused);
    }
    let lines = a.log().matches("is not declared among").count();
    assert!((1..=10).contains(&lines), "{lines} lines");
    fabric.speaker("a").hello();
}

fn start(fabric: &Fabric, topology: Topology) -> Result<(), StartError> {
    blocking::start(topology, "a", &fabric.data("a")).map(drop)
}

#[test]
fn an_endpoint_that_others_reach_is_never_open() {
    let fabric = Fabric::with_keys(&["a"]);
    let mut topology = fabric.topology();
    topology.nodes[0].clients[0].curve = false;
    match start(&fabric, topology) {
        Err(StartError::OpenEndpoint { endpoint }) => {
            assert_eq!(endpoint, fabric.topology().nodes[0].clients[0].bind);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_without_its_keys_does_not_start() {
    let fabric = Fabric::with_keys(&["a", "b"]);
    let file = fabric.folder.path().join("a.secret");
    let keys = std::fs::read_to_string(&file).expect("the keys");

    let mut topology = fabric.topology();
    topology.nodes[0].secret_key_file = None;
    match start(&fabric, topology) {
        Err(StartError::NoKey { missing, .. }) => assert_eq!(missing, "secret_key_file"),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&file).expect("removed");
    match start(&fabric, fabric.topology()) {
        Err(StartError::SecretKeyFile { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
    std::fs::write(&file, "no key").expect("written");
    match start(&fabric, fabric.topology()) {
        Err(StartError::SecretKeyText { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
    // The pair of another node.
    let other = fabric.folder.path().join("b.secret");
    std::fs::copy(other, &file).expect("copied");
    match start(&fabric, fabric.topology()) {
        Err(StartError::KeyMismatch { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
    // The right public key with a secret that does not belong to it: found by a handshake.
    let forged = keys.replace(&fabric.keys("a").secret_z85, &Keys::new().secret_z85);
    std::fs::write(&file, forged).expect("written");
    match start(&fabric, fabric.topology()) {
        Err(StartError::KeyMismatch { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
    std::fs::write(&file, keys).expect("written");
    start(&fabric, fabric.topology()).expect("with its keys it starts");
}

#[test]
fn a_secret_that_others_may_read_is_reported() {
    let fabric = Fabric::with_keys(&["a"]);
    let file = fabric.folder.path().join("a.secret");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("changed");
    let node = fabric.serve("a");
    let said = node.flat_log();
    assert!(said.contains("may be read by others (mode 644)"), "{said}");
}

#[test]
fn nodes_with_keys_replicate_and_signal() {
    let fabric = Fabric::with_keys(&["a", "b", "c"]);
    let _nodes = ["a", "b", "c"].map(|name| fabric.serve(name));
    let (publisher, reader) = (fabric.speaker("a"), fabric.speaker("c"));
    for (id, pattern) in [(1, "audit.#"), (2, "ticks.#")] {
        let subscribe = Subscribe {
            id,
            pattern: pattern.to_owned(),
            ..Subscribe::default()
        };
        reader.send(&Request::Subscribe(subscribe), &[]);
    }
    let publish = |subject: &str| {
        let record = Record {
            subject: subject.into(),
            body: "over the wire".into(),
            ..Record::default()
        };
        let mut records = Vec::new();
        encode_record(&record, &mut records);
        let header = Publish {
            id: Some(1),
            ..Publish::default()
        };
        publisher.send(&Request::Publish(header), &records);
    };
    wait_for("a confirm by a quorum", || {
        publish("audit.a");
        match publisher.answer().header {
            Reply::Confirm(confirmed) => Some(confirmed),
            Reply::Refuse(refuse) if refuse.retry => None,
            other => panic!("{other:?}"),
        }
    });
    let mut heard = [false; 2];
    wait_until("the record and the signal at another node", || {
        publish("ticks.a");
        while let Some(message) = reader.receive(Duration::from_millis(50)) {
            match message.header {
                Reply::Deliver(deliver) if deliver.count > 0 => {
                    heard[deliver.id as usize - 1] = true;
                }
                _ => {}
            }
        }
        heard == [true; 2]
    });
}
