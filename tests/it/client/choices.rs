//! Where a client begins, and what happens when its futures are dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use weft::Client;
use weft::client::{ConnectOptions, Level, ProducerOptions};
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
