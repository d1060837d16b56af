//! The client against a node that does exactly what the test says: a real ROUTER, driven by hand.

mod choices;
mod played;
mod reading;

use std::time::{Duration, Instant};

use bytes::Bytes;
use weft::client::{
    Address, ClientError, ConnectOptions, Level, ProducerOptions, PublishError, Receipt, Retry,
};
use weft::topology::PublicKey;
use weft::types::{Record, Span};
use weft::wire::Code;
use weft::wire::client::{ConfirmLevel, Ping, Refuse, Reply, Request};
use weft::wire::records::RawRecords;

use crate::blocking::{Client, Outcomes, Publisher, wait};
use played::{PATIENCE, Played};

fn record(subject: &str, key: Option<&str>, body: &str) -> Record {
    Record {
        subject: subject.into(),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Record::default()
    }
}

/// Connects while the test plays the first node's part.
fn connect(first: &mut Played, more: &[&Played]) -> Client {
    let mut addresses = vec![first.address()];
    addresses.extend(more.iter().map(|node| node.address()));
    connect_with(first, ConnectOptions::new(addresses))
}

fn connect_with(first: &mut Played, options: ConnectOptions) -> Client {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect(options));
        assert!(matches!(first.next_raw().header, Request::Hello(_)));
        first.welcome();
        client.join().expect("no panic").expect("connected")
    })
}

fn publisher(client: &Client) -> (Publisher, Outcomes) {
    client
        .publisher(ProducerOptions::default())
        .expect("a publisher")
}

fn stored(outcomes: &mut Outcomes) -> String {
    match outcomes.next_within(PATIENCE).expect("an outcome in time") {
        Ok(Receipt::Stored { id, .. }) => id.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_of_another_fabric_is_passed_over_and_alone_is_an_error() {
    let context = zmq::Context::new();
    let (mut own, mut other) = (Played::new(&context, "a"), Played::new(&context, "b"));
    let options = |nodes: &[&Played], fabric: &str| ConnectOptions {
        fabric: Some(fabric.to_owned()),
        ..ConnectOptions::new(nodes.iter().map(|node| node.address()).collect())
    };
    let wanted = options(&[&other], "orchard");
    let error = std::thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect(wanted));
        for _ in 0..2 {
            assert!(matches!(other.next_raw().header, Request::Hello(_)));
            other.welcome();
        }
        client
            .join()
            .expect("no panic")
            .expect_err("another fabric")
    });
    assert_eq!(error.retry(), Retry::Never);
    let told = error.to_string();
    assert!(told.contains("fabric test, not of orchard"), "{told}");

    let wanted = options(&[&other, &own], "orchard");
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect(wanted));
        assert!(matches!(other.next_raw().header, Request::Hello(_)));
        other.welcome();
        assert!(matches!(own.next_raw().header, Request::Hello(_)));
        own.welcome_to("orchard");
        client.join().expect("no panic").expect("connected")
    });
    assert_eq!(client.welcome().node, "a");
}

#[test]
fn what_gathers_while_a_frame_is_in_flight_travels_as_one() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "0"))
        .expect("taken");
    let (first, count) = node.next_publish();
    assert_eq!((count, first.sequence, first.count), (1, Some(1), Some(1)));
    for number in 1..=100 {
        let body = number.to_string();
        publisher
            .send(&record("orders.eu", None, &body))
            .expect("taken");
    }
    node.confirm(&first, &[(0, 2, 41, 1)]);
    let (second, count) = node.next_publish();
    assert_eq!((count, second.sequence), (100, Some(2)));
    assert_eq!(second.producer, first.producer);
    node.confirm(&second, &[(0, 2, 42, 60), (60, 1, 0, 40)]);

    assert_eq!(stored(&mut outcomes), "orders/2/41");
    assert_eq!(stored(&mut outcomes), "orders/2/42");
    let rest: Vec<String> = (0..99).map(|_| stored(&mut outcomes)).collect();
    assert_eq!(rest[98], "orders/1/39");
    drop(publisher);
    assert!(outcomes.next().is_none(), "all is told");
}

#[test]
fn a_busy_node_is_tried_again_after_its_hint_under_the_same_sequence() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = node.next_publish();
    let refused = Instant::now();
    node.refuse(first.id, Code::Busy, Some(120));
    let (again, _) = node.next_publish();
    assert!(refused.elapsed() >= Duration::from_millis(120));
    assert_eq!(again.sequence, first.sequence);
    assert_eq!(again.producer, first.producer);
    node.confirm(&again, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

#[test]
fn partitions_are_refused_apart_and_outcomes_keep_the_order_of_records() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "warm"))
        .expect("taken");
    let (first, _) = node.next_publish();
    for body in ["0", "1", "2"] {
        publisher
            .send(&record("orders.eu", Some(body), body))
            .expect("taken");
    }
    node.confirm(&first, &[(0, 0, 0, 1)]);
    stored(&mut outcomes);

    let (publish, count) = node.next_publish();
    assert_eq!(count, 3);
    node.confirm(&publish, &[(0, 1, 5, 1), (2, 1, 6, 1)]);
    node.reply(&Reply::Refuse(Refuse {
        partition: Some(2),
        records: vec![1],
        ..Code::NoLeader.refuse(publish.id, "as the test says")
    }));
    let (again, count) = node.next_publish();
    assert_eq!((again.sequence, count), (publish.sequence, 3));
    node.confirm(&again, &[(0, 1, 5, 1), (1, 2, 0, 1), (2, 1, 6, 1)]);
    let ids: Vec<String> = (0..3).map(|_| stored(&mut outcomes)).collect();
    assert_eq!(ids, ["orders/1/5", "orders/2/0", "orders/1/6"]);
}

#[test]
fn a_refused_record_takes_no_other_record_of_its_frame_along() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "warm"))
        .expect("taken");
    let (first, _) = node.next_publish();
    for body in ["0", "1", "bad", "3"] {
        publisher
            .send(&record("orders.eu", None, body))
            .expect("taken");
    }
    node.confirm(&first, &[(0, 0, 0, 1)]);
    stored(&mut outcomes);

    let mut seen = Vec::new();
    let mut offset = 1;
    while seen.len() < 4 {
        let message = node.next();
        let Request::Publish(publish) = message.header else {
            panic!("{:?} instead of a publish", message.header);
        };
        let raw: Vec<_> = RawRecords::new(&message.records)
            .map(|record| record.expect("well-formed").body.to_vec())
            .collect();
        let count = raw.len() as u64;
        if raw.iter().any(|body| body == b"bad") {
            node.refuse(publish.id, Code::TooLarge, None);
            if count > 1 {
                continue;
            }
        } else {
            node.confirm(&publish, &[(0, 0, offset, count)]);
            offset += count;
        }
        seen.extend(raw);
    }
    assert_eq!(stored(&mut outcomes), "orders/0/1");
    assert_eq!(stored(&mut outcomes), "orders/0/2");
    match outcomes.next() {
        Some(Err(PublishError::Refused(refusal))) => assert_eq!(refusal.name, "too_large"),
        other => panic!("{other:?}"),
    }
    assert_eq!(stored(&mut outcomes), "orders/0/3");
}

#[test]
fn a_lost_node_means_the_same_sequence_at_the_next_one() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    // The client is told of b by a's welcome alone.
    a.peers = vec![b.named()];
    let client = connect(&mut a, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = a.next_publish();
    drop(a);
    let (again, _) = b.next_publish();
    assert_eq!(again.sequence, first.sequence);
    assert_eq!(again.producer, first.producer);
    b.confirm(&again, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

/// libzmq goes deaf for good if a socket's monitor loses its reader at the wrong moment. Without
/// the order in which the client drops them, one loss in some thousands is enough.
#[test]
fn a_client_outlives_the_loss_of_many_nodes() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let mut next = Played::new(&context, "a");
    node.peers = vec![next.named()];
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    for offset in 0..300 {
        publisher
            .send(&record("orders.eu", None, "x"))
            .expect("taken");
        node.next_publish();
        drop(node);
        node = next;
        next = Played::new(&context, "a");
        node.peers = vec![next.named()];
        let (again, _) = node.next_publish();
        node.confirm(&again, &[(0, 0, offset, 1)]);
        assert_eq!(stored(&mut outcomes), format!("orders/0/{offset}"));
    }
}

#[test]
fn a_node_that_hangs_is_left_like_one_that_is_lost() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    let client = connect(&mut a, &[&b]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = a.next_publish();
    // From here on a's socket stays open and says nothing.
    let (again, _) = b.next_publish();
    assert_eq!(again.sequence, first.sequence);
    b.confirm(&again, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

// A node may be cut off from the leader that others reach.
#[test]
fn a_node_that_reaches_no_leader_for_long_is_left() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    let client = connect(&mut a, &[&b]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = a.next_publish();
    a.refuse(first.id, Code::NoLeader, Some(100));
    let readable = |node: &Played| node.router.poll(zmq::POLLIN, 50).expect("a socket") > 0;
    while !readable(&b) {
        if readable(&a)
            && let Request::Publish(again) = a.next_raw().header
        {
            assert_eq!(again.sequence, first.sequence);
            a.refuse(again.id, Code::OutcomeUnknown, Some(100));
        }
    }
    let (again, _) = b.next_publish();
    assert_eq!(again.sequence, first.sequence);
    b.confirm(&again, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

#[test]
fn a_stopping_node_is_left_at_once() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    let client = connect(&mut a, &[&b]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = a.next_publish();
    a.refuse(first.id, Code::Stopping, None);
    let (again, _) = b.next_publish();
    assert_eq!(again.sequence, first.sequence);
    b.confirm(&again, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

// [C10] a message of an unknown name, and a ping, are passed over.
#[test]
fn what_a_client_does_not_know_is_passed_over() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (publish, _) = node.next_publish();
    node.send(Bytes::from_static(b"\x81\xa5later\x81\xa1x\x01"));
    node.reply(&Reply::Ping(Ping {}));
    node.confirm(&publish, &[(0, 0, 7, 1)]);
    assert_eq!(stored(&mut outcomes), "orders/0/7");
}

#[test]
fn a_channel_without_confirms_is_published_to_without_one() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    publisher
        .send(&record("ticks.eu", None, "x"))
        .expect("taken");
    let (tick, _) = node.next_publish();
    assert_eq!(tick.confirm, Some(ConfirmLevel::None));
    let early = outcomes.next_within(Duration::from_millis(50));
    assert!(early.is_none(), "the node was not yet heard: {early:?}");
    assert!(matches!(node.next_raw().header, Request::Hello(_)));
    node.welcome();

    // What one channel lacks is asked of every other.
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (stored, _) = node.next_publish();
    assert_eq!(stored.confirm, Some(ConfirmLevel::Quorum));
    // Of a channel that the node did not declare it is learnt.
    publisher
        .send(&record("later.eu", None, "x"))
        .expect("taken");
    let (first, _) = node.next_publish();
    assert_eq!(first.confirm, Some(ConfirmLevel::Quorum));
    node.refuse(first.id, Code::ConfirmNotOffered, None);
    let (again, _) = node.next_publish();
    assert_eq!(again.confirm, Some(ConfirmLevel::None));
}

// A frame goes to one channel, and no channel waits for another.
#[test]
fn records_of_one_channel_travel_together_and_channels_apart() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (publisher, mut outcomes) = publisher(&client);
    for subject in ["orders.eu", "audit.x"] {
        publisher
            .send(&record(subject, None, "first"))
            .expect("taken");
    }
    let (orders, _) = node.next_publish();
    let (audit, _) = node.next_publish();
    for subject in ["orders.eu", "audit.x", "orders.us", "audit.y"] {
        publisher
            .send(&record(subject, None, "next"))
            .expect("taken");
    }
    node.confirm(&audit, &[(0, 0, 0, 1)]);
    let (more_audit, count) = node.next_publish();
    assert_eq!(count, 2, "both subjects of the channel");
    node.confirm(&more_audit, &[(0, 0, 1, 2)]);
    node.confirm(&orders, &[(0, 0, 0, 1)]);
    let (more_orders, count) = node.next_publish();
    assert_eq!((count, more_orders.sequence), (2, Some(2)));
    node.confirm(&more_orders, &[(0, 0, 1, 2)]);
    let stored = (0..6).map(|_| stored(&mut outcomes));
    assert_eq!(stored.count(), 6);
}

#[test]
fn at_the_end_of_its_time_a_record_is_refused_or_unknown_but_never_guessed() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let options = || ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_millis(400),
        ..ProducerOptions::default()
    };
    let (publisher, mut outcomes) = client.publisher(options()).expect("a publisher");
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    let (first, _) = node.next_publish();
    node.refuse(first.id, Code::NoQuorum, Some(10_000));
    match outcomes.next() {
        Some(Err(PublishError::Refused(refusal))) => assert_eq!(refusal.name, "no_quorum"),
        other => panic!("{other:?}"),
    }

    let (publisher, mut outcomes) = client.publisher(options()).expect("a publisher");
    publisher
        .send(&record("orders.eu", None, "x"))
        .expect("taken");
    node.next_publish();
    let outcome = outcomes.next();
    assert!(
        matches!(outcome, Some(Err(PublishError::Unknown(_)))),
        "{outcome:?}"
    );
}

#[test]
fn the_window_holds_send_back_until_outcomes_are_known() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let options = ProducerOptions {
        // Two of these records, with what each takes beside its bytes.
        window_bytes: 600,
        ..ProducerOptions::default()
    };
    let (publisher, outcomes) = client.publisher(options).expect("a publisher");
    let (done, finished) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || {
        for _ in 0..3 {
            publisher
                .send(&record("orders.eu", None, "x"))
                .expect("taken");
        }
        done.send(()).expect("the test listens");
    });
    let (first, count) = node.next_publish();
    let held = finished.recv_timeout(Duration::from_millis(50));
    assert!(held.is_err(), "no outcome is known yet");
    node.confirm(&first, &[(0, 0, 0, count as u64)]);
    finished.recv_timeout(PATIENCE).expect("the third is taken");
    sender.join().expect("no panic");
    let mut taken = count as u64;
    while taken < 3 {
        let (next, count) = node.next_publish();
        node.confirm(&next, &[(0, 0, taken, count as u64)]);
        taken += count as u64;
    }
    assert_eq!(outcomes.filter(Result::is_ok).count(), 3);
}

// What was published is finished, whether somebody waits for the end or not.
#[test]
fn a_client_that_ends_finishes_what_was_published() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    for waits in [true, false] {
        let client = connect(&mut node, &[]);
        let (publisher, mut outcomes) = publisher(&client);
        for body in ["0", "1"] {
            publisher
                .send(&record("orders.eu", None, body))
                .expect("taken");
        }
        let ended = std::thread::spawn(move || match waits {
            true => wait((*client).clone().close()),
            false => drop(client),
        });
        let mut offset = 0;
        while offset < 2 {
            let (publish, count) = node.next_publish();
            node.confirm(&publish, &[(0, 0, offset, count as u64)]);
            offset += count as u64;
        }
        assert_eq!(stored(&mut outcomes), "orders/0/0");
        assert_eq!(stored(&mut outcomes), "orders/0/1");
        ended.join().expect("no panic");
        let refused = publisher.send(&record("orders.eu", None, "late"));
        assert_eq!(refused.is_err(), waits, "{refused:?}");
        drop(publisher);
        if !waits {
            let (late, _) = node.next_publish();
            node.confirm(&late, &[(0, 0, 2, 1)]);
        }
        assert!(matches!(node.next().header, Request::Bye(_)));
    }
}

fn unreachable(address: Address) -> String {
    let options = ConnectOptions {
        timeout: Span::from_millis(2_500),
        ..ConnectOptions::new(vec![address])
    };
    match Client::connect(options) {
        Err(error @ ClientError::Unreachable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_endpoint_nobody_listens_at_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let error = unreachable(Address::open(endpoint.clone()));
    assert!(
        error.contains(&endpoint) && error.contains("nothing listens"),
        "{error}"
    );

    let error = unreachable(Address::open("ipc:///nonexistent/weft"));
    assert!(error.contains("nothing listens"), "{error}");
    let error = unreachable(Address::open("carrier-pigeon://roof"));
    assert!(error.contains("carrier-pigeon://roof"), "{error}");
}

#[test]
fn a_server_that_never_says_welcome_is_named() {
    let context = zmq::Context::new();
    let node = Played::new(&context, "a");
    let error = unreachable(node.address());
    assert!(error.contains("no answer to hello"), "{error}");
}

#[test]
fn curve_that_does_not_fit_is_named() {
    let context = zmq::Context::new();
    let pair = zmq::CurveKeyPair::new().expect("a pair");
    let other = zmq::CurveKeyPair::new().expect("a pair");
    let router = context.socket(zmq::ROUTER).expect("a socket");
    router.set_curve_server(true).expect("curve");
    router.set_curve_secretkey(&pair.secret_key).expect("a key");
    router.bind("tcp://127.0.0.1:*").expect("bound");
    let endpoint = router.get_last_endpoint().expect("one").expect("text");

    let error = unreachable(Address::open(endpoint.clone()));
    assert!(error.contains("--server-key"), "{error}");
    let key = zmq::z85_encode(&other.public_key).expect("z85");
    let key = PublicKey::parse(&key).expect("a key");
    let error = unreachable(Address::curve(endpoint, key));
    assert!(
        error.contains("CURVE") || error.contains("wrong server key"),
        "{error}"
    );
}
