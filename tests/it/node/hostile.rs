//! What means harm, or does harm without meaning it: peers that say what cannot be, and clients
//! whose frames are small but weigh much. Nothing of it stops a node.

use bytes::Bytes;
use weft::node::Input;
use weft::types::limits::{
    APPEND_BYTES_MAX, FETCHES_HELD_MAX, FRAME_OVERHEAD, RECORDS_PER_PUBLISH, STRAYS_MAX,
};
use weft::types::{Incarnation, JournalItem, Partition, ReplicaId};
use weft::wire::client::{From, Hello, Publish, Request, Subscribe};
use weft::wire::founding::Founding;
use weft::wire::peer::{
    Envelope, Fetch, FetchFrom, Found, PEER_VERSION, PeerMessage, RaftMessage, WireEntry,
};
use weft::wire::signal::{Signal, encode_signal, topic};
use weft::wire::{Code, encode_peer, encode_request, records};

use super::{assert_refused, confirms, delivers};
use crate::kit::{Client, Fabric, parse, quickstart, record};

fn envelope(node: &str, incarnation: Incarnation) -> Envelope {
    Envelope {
        version: PEER_VERSION,
        fabric: "quickstart".to_owned(),
        node: node.into(),
        incarnation,
        epoch: 1,
    }
}

pub(super) fn peer_frame(node: &str, messages: &[PeerMessage]) -> Input {
    let envelope = envelope(node, incarnation(node));
    Input::PeerFrame {
        principal: None,
        frame: encode_peer(&envelope, messages),
    }
}

/// The kit's life of a node's folder.
fn incarnation(node: &str) -> Incarnation {
    Incarnation(u64::from(crc32fast::hash(node.as_bytes())) + 1)
}

fn raft_id(node: &str) -> u64 {
    let (node, incarnation) = (node.into(), incarnation(node));
    ReplicaId { node, incarnation }.raft_id()
}

fn store(fabric: &mut Fabric, client: &Client, body: &str) -> bool {
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(client, publish, &[record("audit.x", "k", body)]);
    !confirms(&fabric.answer(client)).is_empty()
}

/// The largest frame that `peers` sockets take; a larger one ends the connection it came by.
fn peer_frame_max(fabric: &Fabric) -> usize {
    (fabric.topology.limits.frame_max + APPEND_BYTES_MAX + FRAME_OVERHEAD) as usize
}

// Promise 5: a reader beyond the bound of held fetches comes back later; it does not spin.
#[test]
fn promise_5_readers_beyond_the_bound_come_back_later() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let other = if leader.as_str() == "a" { "b" } else { "a" };
    let fetch = |request| {
        PeerMessage::Fetch(Fetch {
            request,
            channel: "audit".into(),
            partition: 0,
            from: FetchFrom::Offset(0),
            bytes_max: 1,
            cursor: None,
        })
    };
    let fetches: Vec<PeerMessage> = (0..FETCHES_HELD_MAX as u64).map(fetch).collect();
    fabric.input(leader.as_str(), peer_frame(other, &fetches));
    let client = fabric.client(leader.as_str(), "one");
    let subscribe = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(From::Start),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, subscribe);
    let told = delivers(&fabric.inbox(&client));
    assert_eq!(told.len(), 2, "it stands, and begins at 0");
    assert!(store(&mut fabric, &client, "1"));
    fabric.run_until("it is served all the same", |fabric| {
        fabric.view(leader.as_str()).sessions.credit_used_bytes > 0
    });
}

// [C12] what the records take with their subjects passes no link, so it is refused as a whole.
#[test]
fn a_publish_that_its_subject_swells_beyond_a_frame_is_refused() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let publish = Publish {
        id: Some(1),
        subject: Some(format!("audit.{}", "x".repeat(240))),
        ..Publish::default()
    };
    let records: Vec<_> = (0..RECORDS_PER_PUBLISH)
        .map(|_| record("", "", ""))
        .collect();
    fabric.publish(&client, publish, &records);
    assert_refused(&fabric.answer(&client), Code::TooLarge);
    assert!(store(&mut fabric, &client, "1"));
    assert!(fabric.largest_peer_frame <= peer_frame_max(&fabric));
}

/// `count` publishes of `body`, numbered, as one step's frames.
fn frames(client: &Client, publisher: u8, count: u64, body: &str) -> Vec<Input> {
    let frame = |sequence: u64| {
        let publish = Publish {
            id: Some(sequence),
            producer: Some(serde_bytes::ByteBuf::from(vec![publisher; 64])),
            sequence: Some(sequence),
            ..Publish::default()
        };
        let mut body_bytes = Vec::new();
        records::encode_record(&record("audit.x", "k", body), &mut body_bytes);
        Input::ClientFrame {
            client: client.id.clone(),
            principal: None,
            frames: vec![encode_request(&Request::Publish(publish), &body_bytes)],
        }
    };
    (0..count).map(frame).collect()
}

// Promise 2 needs every entry to fit a frame between peers: one that does not would never commit.
#[test]
fn many_publishes_in_one_step_become_appends_that_pass_a_link() {
    // The smallest frames there may be.
    let text = include_str!("../../../topology/quickstart.toml")
        .replace("frame_max = \"4 MiB\"", "frame_max = \"2 MiB\"");
    for (count, body) in [(24_000, String::new()), (12, "x".repeat(1_000_000))] {
        let mut fabric = Fabric::new(parse(&text));
        assert_eq!(fabric.topology.limits.frame_max, 2 << 20);
        fabric.run_until("every partition is led", Fabric::is_settled);
        let leader = fabric.leader("audit", 0).expect("a leader");
        let mut inputs = Vec::new();
        for publisher in 0..4 {
            let client = fabric.client(leader.as_str(), &format!("publisher {publisher}"));
            inputs.extend(frames(&client, publisher, count / 4, &body));
        }
        fabric.inputs(leader.as_str(), inputs);
        assert_eq!(
            fabric.view(leader.as_str()).channels["audit"].accepted,
            count
        );
        let largest = fabric.largest_peer_frame;
        assert!(largest <= peer_frame_max(&fabric), "{largest} bytes");
    }
}

// [P4] an append that no leader sends: it would have Raft commit what is not there.
#[test]
fn an_append_beyond_the_log_is_refused_and_stops_nothing() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader").to_string();
    let follower = if leader == "a" { "b" } else { "a" };
    let view = fabric.view(follower).partitions;
    let term = view.iter().find(|p| p.channel == "audit").map(|p| p.term);
    let append = RaftMessage {
        channel: Some("audit".into()),
        kind: raft_kind_append(),
        to: raft_id(follower),
        from: raft_id(&leader),
        term: term.expect("a term"),
        ..RaftMessage::default()
    };
    let entry = WireEntry {
        term: 0,
        index: 901,
        data: Bytes::new(),
    };
    for hostile in [
        RaftMessage {
            index: 900,
            commit: 900,
            ..append.clone()
        },
        RaftMessage {
            index: 900,
            commit: 901,
            entries: vec![entry.clone()],
            ..append.clone()
        },
        RaftMessage {
            index: u64::MAX,
            commit: u64::MAX,
            log_term: 1,
            ..append.clone()
        },
    ] {
        let frame = peer_frame(&leader, &[PeerMessage::Raft(hostile)]);
        fabric.input(follower, frame);
    }
    // What acknowledges entries that are not there, in front of the leader.
    for (index, reject_hint, reject) in [(900, 0, false), (1, u64::MAX, true)] {
        let response = RaftMessage {
            kind: raft_kind_append() + 1,
            to: raft_id(&leader),
            from: raft_id(follower),
            index,
            reject,
            reject_hint,
            ..append.clone()
        };
        let frame = peer_frame(follower, &[PeerMessage::Raft(response)]);
        fabric.input(&leader, frame);
    }
    assert!(fabric.view(follower).sessions.bad_frames >= 2);
    // Two, and the follower's answer to the last append.
    assert_eq!(fabric.view(&leader).sessions.bad_frames, 3);
    let client = fabric.client("c", "one");
    assert!(store(&mut fabric, &client, "1"));
}

fn raft_kind_append() -> i32 {
    raft::eraftpb::MessageType::MsgAppend as i32
}

// A record of voters that this topology would not found is not taken: the node would not start on
// it again. Nor is one in which two voters share a raft id.
#[test]
fn a_founding_that_does_not_fit_the_topology_is_not_taken() {
    let mut fabric = Fabric::new(quickstart());
    let voter = |node: &str| ReplicaId {
        node: node.into(),
        incarnation: incarnation(node),
    };
    let partition = Partition::new(&"audit".into(), 0);
    let fits = Founding {
        fabric: "quickstart".to_owned(),
        partition: partition.clone(),
        partitions: 1,
        voters: vec![voter("a"), voter("b"), voter("c")],
    };
    for hostile in [
        Founding {
            partitions: 2,
            ..fits.clone()
        },
        Founding {
            voters: vec![voter("a"), voter("b")],
            ..fits.clone()
        },
        Founding {
            voters: vec![voter("a"), voter("b"), voter("c"), voter("c")],
            ..fits.clone()
        },
    ] {
        let found = PeerMessage::Found(Found {
            channel: "audit".into(),
            partition: 0,
            record: hostile.encode(),
        });
        fabric.input("b", peer_frame("c", &[found]));
        let kept = JournalItem::Founding {
            partition: partition.clone(),
            record: hostile.encode(),
        };
        let journals: Vec<_> = fabric.journals.values().flatten().collect();
        assert!(!journals.contains(&&kept), "{hostile:?}");
        let refused = |note: &String| note.starts_with("b: c shows") && note.contains("not fit");
        assert!(fabric.notes.iter().any(refused), "{:?}", fabric.notes);
    }
    fabric.run_until("every partition is led", Fabric::is_settled);
}

// [P5] a frame with another number of records is dropped; who asks for a topic hears the next
// number. A number beyond all bounds is no harm.
#[test]
fn a_signal_frame_that_cannot_be_is_dropped() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let subscribe = Subscribe {
        id: 1,
        pattern: "ticks.#".to_owned(),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, subscribe);
    fabric.inbox(&client);
    let signal = |sequence, count| {
        let header = Signal {
            version: PEER_VERSION,
            fabric: "quickstart".to_owned(),
            node: "b".into(),
            incarnation: Incarnation(7),
            sequence,
            count,
        };
        let mut body = Vec::new();
        records::encode_record(&record("ticks.x", "", "1"), &mut body);
        Input::SignalFrame {
            topic: topic("ticks.#"),
            frame: encode_signal(&header, &body),
        }
    };
    fabric.input("a", signal(0, 2));
    assert!(fabric.inbox(&client).is_empty());
    assert_eq!(fabric.view("a").sessions.bad_frames, 1);
    for sequence in [0, u64::MAX - 1, u64::MAX, u64::MAX - 1] {
        fabric.input("a", signal(sequence, 1));
    }
    assert!(!fabric.inbox(&client).is_empty());

    let mut outbox = Vec::new();
    let asks = Input::Interest {
        topic: topic("ticks.#"),
        wanted: true,
    };
    let node = fabric.nodes.get_mut(&weft::types::NodeName::from("b"));
    node.expect("b").step(fabric.now, [asks], &mut outbox);
    let announced = outbox.iter().any(|output| match output {
        weft::node::Output::Signal { frame, .. } => {
            let (signal, records) = weft::wire::signal::decode_signal(frame).expect("a signal");
            signal.count == 0 && records.is_empty()
        }
        _ => false,
    });
    assert!(announced, "{outbox:?}");
}

// Promise 2: what an earlier life of a node's folder says commits nothing and elects nobody, though
// every word of it is well formed.
#[test]
fn promise_2_a_stale_incarnation_has_no_voice() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader").to_string();
    let others: Vec<&str> = ["a", "b", "c"]
        .into_iter()
        .filter(|name| *name != leader)
        .collect();
    for other in &others {
        fabric.kill(other);
    }
    let client = fabric.client(&leader, "one");
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(&client, publish, &[record("audit.x", "k", "alone")]);
    let held = |fabric: &Fabric| {
        let partitions = fabric.view(&leader).partitions;
        let mut audit = partitions.into_iter().filter(|own| own.channel == "audit");
        audit.next().expect("it holds it")
    };
    let before = held(&fabric);
    assert!(before.last > before.commit, "it waits for the others");
    let said: Vec<Input> = others
        .iter()
        .map(|other| {
            let stale = Incarnation(incarnation(other).0 ^ 1);
            let id = ReplicaId {
                node: (*other).into(),
                incarnation: stale,
            };
            let message = |kind: raft::eraftpb::MessageType, term, index| {
                PeerMessage::Raft(RaftMessage {
                    channel: Some("audit".into()),
                    kind: kind as i32,
                    to: raft_id(&leader),
                    from: id.raft_id(),
                    term,
                    log_term: before.term,
                    index,
                    ..RaftMessage::default()
                })
            };
            use raft::eraftpb::MessageType::{
                MsgAppend, MsgAppendResponse, MsgRequestPreVote, MsgRequestVote,
            };
            let messages = [
                message(MsgAppendResponse, before.term, before.last),
                message(MsgRequestPreVote, before.term + 1, before.last + 9),
                message(MsgRequestVote, before.term + 1, before.last + 9),
                message(MsgAppend, before.term + 1, before.last),
            ];
            Input::PeerFrame {
                principal: None,
                frame: encode_peer(&envelope(other, stale), &messages),
            }
        })
        .collect();
    fabric.inputs(&leader, said);
    let after = held(&fabric);
    assert_eq!((after.commit, after.term), (before.commit, before.term));
    assert_eq!(fabric.view(&leader).sessions.bad_frames, 8);
    assert!(confirms(&fabric.inbox(&client)).is_empty());
}

// What Raft says only to itself, and requests without a term, would end the process if they were
// taken: the fuzz target of peers found it.
#[test]
fn what_raft_says_to_itself_is_refused_from_a_peer() {
    use raft::eraftpb::MessageType::{
        MsgBeat, MsgCheckQuorum, MsgHup, MsgReadIndex, MsgRequestPreVote, MsgRequestVote,
        MsgSnapStatus, MsgTransferLeader, MsgUnreachable,
    };
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader").to_string();
    let follower = if leader == "a" { "b" } else { "a" };
    let other = if leader == "c" { "b" } else { "c" };
    for at in [&*leader, follower] {
        let before = fabric.view(at).sessions.bad_frames;
        let message = |kind: raft::eraftpb::MessageType, term| {
            PeerMessage::Raft(RaftMessage {
                channel: Some("audit".into()),
                kind: kind as i32,
                to: raft_id(at),
                from: raft_id(other),
                term,
                ..RaftMessage::default()
            })
        };
        let hostile = [
            message(MsgRequestPreVote, 0),
            message(MsgRequestVote, 0),
            message(MsgHup, 1),
            message(MsgBeat, 1),
            message(MsgUnreachable, 1),
            message(MsgSnapStatus, 1),
            message(MsgCheckQuorum, 1),
            message(MsgTransferLeader, 1),
            message(MsgReadIndex, 1),
        ];
        fabric.input(at, peer_frame(other, &hostile));
        let refused = fabric.view(at).sessions.bad_frames - before;
        assert_eq!(refused, hostile.len() as u64, "{at}");
    }
    let client = fabric.client("c", "one");
    assert!(store(&mut fabric, &client, "1"));
}

// A client that took the wrong port is no problem of the fabric; a flood of its frames is told.
#[test]
fn a_stray_frame_at_the_peers_endpoint_is_logged_and_no_problem() {
    let mut fabric = Fabric::ready();
    let hello = encode_request(&Request::Hello(Hello::default()), &[]);
    let stray = || Input::PeerFrame {
        principal: None,
        frame: hello.clone(),
    };
    fabric.input("a", stray());
    assert_eq!(fabric.view("a").problems, Vec::<String>::new());
    assert_eq!(fabric.view("a").sessions.bad_frames, 1);
    let told = |note: &&String| note.contains("that is no node connected");
    assert_eq!(
        fabric.notes.iter().filter(told).count(),
        1,
        "{:?}",
        fabric.notes
    );
    for _ in 0..STRAYS_MAX {
        fabric.input("a", stray());
    }
    let problems = fabric.view("a").problems;
    assert!(
        problems[0].contains("that is no node sent 101 frames"),
        "{problems:?}"
    );
    assert_eq!(
        fabric.notes.iter().filter(told).count(),
        1,
        "it is said once"
    );
    fabric.run_until("it is over", |fabric| fabric.view("a").problems.is_empty());

    // Who has proven to be a node is named.
    fabric.input(
        "a",
        Input::PeerFrame {
            principal: Some("b".to_owned()),
            frame: hello.clone(),
        },
    );
    let problems = fabric.view("a").problems;
    assert!(
        problems[0].starts_with("peer frames of b are refused"),
        "{problems:?}"
    );
}

// Promise 5: what waits for a quorum is weighed by its records, and holds no more than them.
#[test]
fn promise_5_a_publish_that_waits_keeps_no_large_header() {
    let mut fabric = Fabric::ready();
    for node in ["b", "c"] {
        fabric.kill(node);
    }
    let client = fabric.client("a", "one");
    for (subject, held) in [("x".repeat(100_000), false), (String::new(), true)] {
        // A header's subject counts for no record that has its own.
        let publish = Request::Publish(Publish {
            id: Some(1),
            subject: Some(subject),
            ..Publish::default()
        });
        let mut body = Vec::new();
        records::encode_record(&record("audit.x", "k", "small"), &mut body);
        let frame = encode_request(&publish, &body);
        fabric.send_frames(&client, vec![frame.clone()]);
        assert!(fabric.inbox(&client).is_empty(), "it waits");
        assert_eq!(!frame.is_unique(), held);
    }
}
