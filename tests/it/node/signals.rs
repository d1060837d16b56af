//! Signals: who wants them gets them, and what is lost is seen.

use weft::wire::client::{Credit, Publish, Request, Subscribe, Unsubscribe};

use super::delivers;
use crate::kit::{Client, Fabric, parse, record};

const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");

fn subscribe(fabric: &mut Fabric, client: &Client, pattern: &str) {
    let pattern = pattern.to_owned();
    fabric.subscribe(
        client,
        Subscribe {
            id: 1,
            pattern,
            ..Subscribe::default()
        },
    );
}

fn publish(fabric: &mut Fabric, client: &Client, subjects: &[&str]) {
    let records: Vec<_> = subjects
        .iter()
        .map(|subject| record(subject, "", subject))
        .collect();
    fabric.publish(client, Publish::default(), &records);
}

/// What a client heard: the sequence of each deliver, and its bodies.
fn heard(fabric: &mut Fabric, client: &Client) -> Vec<(u64, Vec<String>)> {
    let delivers = delivers(&fabric.inbox(client));
    delivers
        .into_iter()
        .map(|(d, bodies)| (d.sequence.expect("a signal"), bodies))
        .collect()
}

// [C38] every deliver of signals states its sequence. [P5] who asks is told where it starts.
#[test]
fn signals_reach_every_node_that_wants_them_once_per_subscription() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let readers: Vec<Client> = ["a", "b", "c"]
        .iter()
        .map(|n| fabric.client(n, "reader"))
        .collect();
    for (reader, pattern) in readers.iter().zip(["ticks.#", "ticks.*", "ticks.eu.*"]) {
        subscribe(&mut fabric, reader, pattern);
        assert_eq!(heard(&mut fabric, reader), [(0, vec![])]);
    }
    publish(
        &mut fabric,
        &publisher,
        &["ticks.eu", "ticks.eu.订单", "ticks.us"],
    );
    publish(&mut fabric, &publisher, &["ticks.eu.🚀"]);
    let bodies = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let all = bodies(&["ticks.eu", "ticks.eu.订单", "ticks.us"]);
    assert_eq!(
        heard(&mut fabric, &readers[0]),
        [(0, all), (3, bodies(&["ticks.eu.🚀"]))]
    );
    assert_eq!(
        heard(&mut fabric, &readers[1]),
        [(0, bodies(&["ticks.eu", "ticks.us"]))]
    );
    let eu = [
        (0, bodies(&["ticks.eu.订单"])),
        (1, bodies(&["ticks.eu.🚀"])),
    ];
    assert_eq!(heard(&mut fabric, &readers[2]), eu);
    assert!(
        fabric.inbox(&publisher).is_empty(),
        "signals are not confirmed"
    );
    fabric.send(
        &readers[0],
        &Request::Unsubscribe(Unsubscribe { id: 1 }),
        &[],
    );
    fabric.inbox(&readers[0]);
    publish(&mut fabric, &publisher, &["ticks.eu"]);
    assert!(fabric.inbox(&readers[0]).is_empty());
}

// [C38] [P6] promise 1: what does not arrive from another node is seen as a gap and counted.
#[test]
fn a_cut_between_nodes_is_a_gap_of_its_size() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let reader = fabric.client("b", "reader");
    subscribe(&mut fabric, &reader, "ticks.#");
    publish(&mut fabric, &publisher, &["ticks.1"]);
    fabric.cut.insert(("a".into(), "b".into()));
    publish(&mut fabric, &publisher, &["ticks.2", "ticks.3"]);
    fabric.cut.clear();
    heard(&mut fabric, &reader);
    publish(&mut fabric, &publisher, &["ticks.4"]);
    let last = ("ticks.4").to_owned();
    assert_eq!(heard(&mut fabric, &reader), [(3, vec![]), (3, vec![last])]);
    let ledger = fabric.view("b").channels["ticks"].clone();
    assert_eq!(
        (ledger.matched, ledger.delivered, ledger.dropped),
        (4, 2, 2)
    );
}

// [C38] promise 1: what a slow client is not sent is counted and seen.
#[test]
fn a_full_pipe_and_a_spent_credit_are_gaps_too() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let full = fabric.client("a", "full");
    subscribe(&mut fabric, &full, "ticks.#");
    let bounded = fabric.client("a", "bounded");
    let credit = Some(10);
    let pattern = "ticks.#".to_owned();
    fabric.subscribe(
        &bounded,
        Subscribe {
            id: 1,
            pattern,
            credit,
            ..Subscribe::default()
        },
    );
    heard(&mut fabric, &full);
    heard(&mut fabric, &bounded);
    fabric.full.insert(full.id.clone());
    publish(&mut fabric, &publisher, &["ticks.1"]);
    publish(&mut fabric, &publisher, &["ticks.2"]);
    fabric.full.clear();
    fabric.send(
        &bounded,
        &Request::Credit(Credit {
            id: 1,
            bytes: 1_000,
        }),
        &[],
    );
    publish(&mut fabric, &publisher, &["ticks.3"]);
    let third = vec!["ticks.3".to_owned()];
    assert_eq!(heard(&mut fabric, &full), [(2, third.clone())]);
    let first = vec!["ticks.1".to_owned()];
    assert_eq!(heard(&mut fabric, &bounded), [(0, first), (2, third)]);
    let ledger = fabric.view("a").channels["ticks"].clone();
    assert_eq!(
        (ledger.matched, ledger.delivered, ledger.dropped),
        (6, 3, 3)
    );
}

// [C35] [C37] [C38] promise 5: who names no credit has the node's window, in signals too, and what
// the pipe could not take is no part of it.
#[test]
fn who_returns_nothing_is_sent_the_nodes_window_of_signals() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let reader = fabric.client("a", "reader");
    subscribe(&mut fabric, &reader, "ticks.#");
    heard(&mut fabric, &reader);
    let window = fabric.topology.limits.subscription_window_bytes;
    let body = "x".repeat(usize::try_from(window / 10).expect("small"));
    let speak = |fabric: &mut Fabric| {
        fabric.publish(
            &publisher,
            Publish::default(),
            &[record("ticks.1", "", &body)],
        );
    };
    fabric.full.insert(reader.id.clone());
    for _ in 0..30 {
        speak(&mut fabric);
    }
    fabric.full.clear();
    for _ in 0..30 {
        speak(&mut fabric);
    }
    let numbers = |fabric: &mut Fabric| -> Vec<u64> {
        let heard = heard(fabric, &reader);
        heard.into_iter().map(|(sequence, _)| sequence).collect()
    };
    assert_eq!(numbers(&mut fabric), (30..39).collect::<Vec<_>>());
    let view = fabric.view("a");
    let ledger = &view.channels["ticks"];
    assert_eq!((ledger.matched, ledger.delivered), (60, 9));
    assert_eq!(ledger.dropped, 51);
    // What is returned is sent again, beyond the gap.
    let bytes = view.sessions.credit_used_bytes;
    fabric.send(&reader, &Request::Credit(Credit { id: 1, bytes }), &[]);
    speak(&mut fabric);
    assert_eq!(numbers(&mut fabric), [60]);
}

// A large publish is delivered in pieces, and between nodes too.
#[test]
fn signals_travel_in_pieces_of_a_deliver() {
    let wide = QUICKSTART.replace("= \"256 KiB\"", "= \"1 MiB\"");
    let mut fabric = Fabric::new(parse(&wide));
    fabric.run_until("it is ready", Fabric::is_settled);
    let publisher = fabric.client("a", "publisher");
    let readers = ["a", "b"].map(|node| fabric.client(node, "reader"));
    for reader in &readers {
        subscribe(&mut fabric, reader, "ticks.#");
        heard(&mut fabric, reader);
    }
    let body = "x".repeat(100_000);
    let records = vec![record("ticks.1", "", &body); 5];
    fabric.publish(&publisher, Publish::default(), &records);
    for reader in &readers {
        let pieces: Vec<_> = heard(&mut fabric, reader)
            .into_iter()
            .map(|(sequence, bodies)| (sequence, bodies.len()))
            .collect();
        assert_eq!(pieces, [(0, 2), (2, 2), (4, 1)]);
    }
}

// [C39] a client that is slow is not gone: asking whether it is there ends nothing.
#[test]
fn a_full_pipe_does_not_end_a_subscription_to_signals() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let slow = fabric.client("a", "slow");
    subscribe(&mut fabric, &slow, "ticks.#");
    heard(&mut fabric, &slow);
    fabric.full.insert(slow.id.clone());
    publish(&mut fabric, &publisher, &["ticks.1"]);
    for _ in 0..200 {
        fabric.tick();
    }
    fabric.full.clear();
    publish(&mut fabric, &publisher, &["ticks.2"]);
    assert_eq!(heard(&mut fabric, &slow), [(1, vec!["ticks.2".to_owned()])]);
}
