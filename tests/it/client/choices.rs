//! Where a client begins, and what happens when its futures are dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use weft::Client;
use weft::client::{ClientError, ConnectOptions, Level, ProducerOptions, PublishError};
use weft::types::Span;
use weft::wire::client::Request;

use super::played::Played;
use super::record;
use crate::blocking::wait;

// Clients of the same addresses begin at any of them.
#[test]
fn clients_spread_over_the_nodes_they_are_given() {
    let context = zmq::Context::new();
    let mut nodes = ["a", "b"].map(|name| Played::new(&context, name));
    let addresses: Vec<_> = nodes.iter().map(Played::address).collect();
    let mut met = BTreeSet::new();
    // Sixty-four coins that all show one side are none.
    for _ in 0..64 {
        let options = ConnectOptions::new(addresses.clone());
        let connected = std::thread::spawn(|| wait(Client::connect(options)));
        while !connected.is_finished() {
            for node in &mut nodes {
                let said = node.router.poll(zmq::POLLIN, 5).expect("a socket") > 0;
                if said && matches!(node.next_raw().header, Request::Hello(_)) {
                    node.welcome();
                    met.insert(node.name);
                }
            }
        }
        drop(connected.join().expect("no panic").expect("connected"));
        if met.len() == 2 {
            return;
        }
    }
    panic!("all clients began at {met:?}");
}

// A send that is dropped while it waits for room has taken nothing, and holds nobody up.
#[test]
fn a_send_that_is_cancelled_has_not_sent() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = super::connect(&mut node, &[]);
    let options = ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_secs(60),
        // One of these records, with what it takes beside its bytes.
        window_bytes: 400,
    };
    let producer = client.producer(options).expect("a producer");
    wait(async {
        let confirm = producer.send(&record("orders.eu", None, "first")).await;
        let (first, count) = node.next_publish();
        assert_eq!(count, 1);
        let late = record("orders.eu", None, "cancelled");
        let waiting = tokio::time::timeout(Duration::from_millis(50), producer.send(&late));
        assert!(waiting.await.is_err(), "there is no room");
        node.confirm(&first, &[(0, 0, 0, 1)]);
        confirm.expect("taken").await.expect("stored");
        // Its confirm may be dropped as well: the record goes on.
        drop(producer.send(&record("orders.eu", None, "last")).await);
        let message = node.next();
        assert!(matches!(message.header, Request::Publish(_)));
        let text = String::from_utf8_lossy(&message.records).into_owned();
        assert!(
            text.contains("last") && !text.contains("cancelled"),
            "{text}"
        );
    });
}

// What no node takes is refused by itself, and what travels with it is none the worse.
#[test]
fn a_record_that_no_node_takes_is_refused_alone() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = super::connect(&mut node, &[]);
    let producer = client.producer(ProducerOptions::default());
    let producer = producer.expect("a producer");
    wait(async {
        let first = producer.send(&record("orders.eu", None, "first")).await;
        let (publish, _) = node.next_publish();
        for bad in [
            record("orders..eu", None, "no subject"),
            record("orders.eu", Some(&"k".repeat(10_000)), "a long key"),
        ] {
            let error = producer.send(&bad).await.expect_err("not taken");
            assert!(matches!(error, PublishError::Refused(_)), "{error}");
        }
        let mut confirms = Vec::new();
        for body in ["second", &"x".repeat(2 << 20), "third"] {
            let sent = producer.send(&record("orders.eu", None, body)).await;
            confirms.push(sent.expect("taken"));
        }
        node.confirm(&publish, &[(0, 0, 0, 1)]);
        first.expect("taken").await.expect("stored");
        let (publish, count) = node.next_publish();
        assert_eq!(count, 2);
        node.confirm(&publish, &[(0, 0, 1, 2)]);
        let [second, long, third] = <[_; 3]>::try_from(confirms).expect("three");
        second.await.expect("stored");
        third.await.expect("stored");
        let error = long.await.expect_err("too long").to_string();
        assert!(error.contains("max_record"), "{error}");
    });
}

// Signals do not wait for the node to say that it took those before them, up to a bound.
#[test]
fn sixteen_frames_of_signals_are_on_their_way_at_once() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = super::connect(&mut node, &[]);
    let publish = |body: &str| wait(client.publish_unconfirmed(&record("ticks.eu", None, body)));
    for number in 1..=16 {
        let body = format!("number {number}.");
        publish(body.as_str()).expect("taken");
        let message = node.next_raw();
        let text = String::from_utf8_lossy(&message.records).into_owned();
        assert!(text.contains(&body), "{text}");
        let fence = node.next_raw().header;
        assert!(matches!(fence, Request::Hello(_)), "{fence:?}");
    }
    publish("the last").expect("taken");
    assert_eq!(node.router.poll(zmq::POLLIN, 100), Ok(0), "the last waits");
    node.welcome();
    let message = node.next_raw();
    assert!(String::from_utf8_lossy(&message.records).contains("the last"));
}

// The end waits as long as a record may take, however many wait behind it.
#[test]
fn a_client_without_a_node_ends_when_its_records_had_their_time() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = super::connect(&mut node, &[]);
    let options = ProducerOptions {
        level: Level::Quorum,
        timeout: Span::from_millis(400),
        ..ProducerOptions::default()
    };
    let producer = client.producer(options).expect("a producer");
    drop(node);
    wait(async {
        let mut confirms = Vec::new();
        // More than a frame holds.
        for _ in 0..20_000 {
            let sent = producer.send(&record("orders.eu", None, "x")).await;
            confirms.push(sent.expect("taken"));
        }
        (*client).clone().close().await;
        for mut confirm in confirms {
            let outcome = confirm.try_now().expect("it is told by now");
            assert!(outcome.is_err(), "{outcome:?}");
        }
    });
}

// What a node did not declare goes by itself, and what the next one declares follows it.
#[test]
fn records_of_a_subject_keep_their_order_when_a_channel_becomes_known() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    a.peers = vec![b.named()];
    a.declares = false;
    let client = super::connect(&mut a, &[]);
    let producer = client
        .producer(ProducerOptions::default())
        .expect("a producer");
    wait(async {
        let of = |body| record("orders.eu", Some("k"), body);
        let first = producer.send(&of("first")).await.expect("taken");
        a.next_publish();
        drop(a);
        // The client knows the channel by now.
        assert!(matches!(b.next_raw().header, Request::Hello(_)));
        b.welcome();
        let (again, _) = b.next_publish();
        let second = producer.send(&of("second")).await.expect("taken");
        let waits = b.router.poll(zmq::POLLIN, 50).expect("a socket") == 0;
        assert!(waits, "the second overtakes the first");
        b.confirm(&again, &[(0, 0, 0, 1)]);
        first.await.expect("stored");
        let (next, _) = b.next_publish();
        b.confirm(&next, &[(0, 0, 1, 1)]);
        second.await.expect("stored");
    });
}

// Once it is closed, nothing more is taken of any clone.
#[test]
fn a_client_that_is_closing_takes_nothing_more() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = super::connect(&mut node, &[]);
    wait(async {
        let producer = client.producer(ProducerOptions::default());
        let producer = producer.expect("a producer");
        let sent = producer.send(&record("orders.eu", None, "x")).await;
        let (publish, _) = node.next_publish();
        let closing = tokio::spawn((*client).clone().close());
        // Until the thread has heard of it, others are served.
        while producer.send(&record("orders.eu", None, "y")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let late = client.producer(ProducerOptions::default());
        let outcome = match late
            .expect("the thread runs")
            .send(&record("orders.eu", None, "z"))
            .await
        {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        assert!(
            matches!(outcome, Err(PublishError::NotSent(_))),
            "{outcome:?}"
        );
        let subscribed = weft::Client::subscribe(&client, "orders.#").await;
        assert!(
            matches!(subscribed, Err(ClientError::Closed)),
            "{subscribed:?}"
        );
        node.confirm(&publish, &[(0, 0, 0, 1)]);
        sent.expect("taken").await.expect("stored");
        let mut offset = 1;
        while !closing.is_finished() {
            if node.router.poll(zmq::POLLIN, 5).expect("a socket") > 0
                && let Request::Publish(more) = node.next_raw().header
            {
                let count = more.count.expect("it counts");
                node.confirm(&more, &[(0, 0, offset, count)]);
                offset += count;
            }
            tokio::task::yield_now().await;
        }
    });
}
