//! A producer that comes back and knows nothing of what it sent is told where to go on.

use std::time::Duration;

use serde_bytes::ByteBuf;
use weft::node::Input;
use weft::types::limits::{HELLOS_MAX, PRODUCER_BYTES_MAX};
use weft::wire::client::{Hello, Publish, Reply, Request, Welcome};
use weft::wire::{Code, encode_request};

use super::{assert_refused, confirms};
use crate::kit::{Client, Fabric, record};

fn hello(producer: &[u8]) -> Request {
    Request::Hello(Hello {
        producer: Some(ByteBuf::from(producer.to_vec())),
        ..Hello::default()
    })
}

fn numbered(producer: &[u8], sequence: u64) -> Publish {
    Publish {
        id: Some(sequence),
        producer: Some(ByteBuf::from(producer.to_vec())),
        sequence: Some(sequence),
        ..Publish::default()
    }
}

fn store(fabric: &mut Fabric, client: &Client, sequence: u64, subject: &str, key: &str) {
    let publish = numbered(b"p", sequence);
    fabric.publish(client, publish, &[record(subject, key, "the same 字")]);
    assert_eq!(confirms(&fabric.answer(client)).len(), 1);
}

/// The `welcome`s that came.
fn welcomes(fabric: &mut Fabric, client: &Client) -> Vec<Welcome> {
    let inbox = fabric.inbox(client);
    let welcome = |reply| match reply {
        Reply::Welcome(welcome) => Some(welcome),
        _ => None,
    };
    let replies = inbox.into_iter().map(|message| message.header);
    replies.filter_map(welcome).collect()
}

/// What a producer is told; `None` if not every partition could be asked.
fn told(fabric: &mut Fabric, client: &Client, producer: &[u8]) -> Option<u64> {
    fabric.send(client, &hello(producer), &[]);
    for _ in 0..200 {
        if let [welcome] = &welcomes(fabric, client)[..] {
            return welcome.next_sequence;
        }
        fabric.tick();
    }
    panic!("it is not welcomed; notes: {:#?}", fabric.notes);
}

// [C20] over all partitions and channels, at every node; without a producer nobody is asked.
#[test]
fn promise_4_a_producer_that_comes_back_is_told_its_next_sequence() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("b", "before");
    store(&mut fabric, &client, 3, "audit.x", "k");
    for (sequence, key) in [(4, "1"), (9, "2"), (7, "3"), (8, "4")] {
        store(&mut fabric, &client, sequence, "orders.x", key);
    }
    for node in ["a", "b", "c"] {
        let back = fabric.client(node, "after");
        assert_eq!(told(&mut fabric, &back, b"p"), Some(10), "{node}");
        assert_eq!(told(&mut fabric, &back, b"another"), Some(1));
        fabric.send(&back, &Request::Hello(Hello::default()), &[]);
        let at_once = welcomes(&mut fabric, &back);
        assert_eq!(at_once[0].next_sequence, None);
    }
    // It survives new leaders, and what it names is new.
    fabric.kill("a");
    fabric.skip(Duration::from_secs(3));
    let back = fabric.client("c", "again");
    assert_eq!(told(&mut fabric, &back, b"p"), Some(10));
    store(&mut fabric, &back, 10, "orders.x", "2");
    assert_eq!(told(&mut fabric, &back, b"p"), Some(11));
}

// What is on its way to a quorum counts.
#[test]
fn what_is_proposed_counts() {
    let mut fabric = Fabric::ready();
    for node in ["a", "b", "c"] {
        fabric.slow_disks.insert(node.into());
    }
    let client = fabric.client("a", "before");
    fabric.publish(
        &client,
        numbered(b"p", 5),
        &[record("audit.x", "k", "slow")],
    );
    let back = fabric.client("b", "after");
    assert_eq!(told(&mut fabric, &back, b"p"), Some(6));
    assert_eq!(confirms(&fabric.inbox(&client)).len(), 0);
}

// A leader that is one no more, and does not know it, must not tell a number that others have used
// by now.
#[test]
fn promise_4_a_leader_that_was_cut_off_tells_no_number() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "before");
    store(&mut fabric, &client, 1, "audit.x", "k");
    let old = fabric.leader("audit", 0).expect("a leader");
    let others: Vec<_> = fabric
        .nodes
        .keys()
        .filter(|n| **n != old)
        .cloned()
        .collect();
    for other in &others {
        fabric.cut.insert((old.clone(), other.clone()));
        fabric.cut.insert((other.clone(), old.clone()));
    }
    let at_old = fabric.client(old.as_str(), "at the old leader");
    fabric.send(&at_old, &hello(b"p"), &[]);
    let beyond = fabric.client(others[0].as_str(), "beyond");
    fabric.skip(Duration::from_secs(3));
    store(&mut fabric, &beyond, 2, "audit.x", "k");
    assert_eq!(welcomes(&mut fabric, &at_old), []);
    // It is answered in time all the same.
    fabric.skip(Duration::from_secs(2));
    let answered = welcomes(&mut fabric, &at_old);
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0].next_sequence, None);
    fabric.cut.clear();
    fabric.run_until("all is well again", Fabric::is_settled);
    assert_eq!(told(&mut fabric, &at_old, b"p"), Some(3));
}

// The question outlives its leader.
#[test]
fn the_next_leader_is_asked_where_one_does_not_answer() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "before");
    store(&mut fabric, &client, 7, "audit.x", "k");
    let leader = fabric.leader("audit", 0).expect("a leader");
    let node = ["a", "b", "c"]
        .into_iter()
        .find(|node| *node != leader.as_str());
    let back = fabric.client(node.expect("another"), "back");
    fabric.kill(leader.as_str());
    assert_eq!(told(&mut fabric, &back, b"p"), Some(8));
}

// Promise 5, and [C27] of its name.
#[test]
fn promise_5_producers_that_wait_are_bounded() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "names");
    for length in [0, PRODUCER_BYTES_MAX + 1] {
        fabric.send(&client, &hello(&vec![b'x'; length]), &[]);
        assert_refused(&fabric.inbox(&client), Code::BadProducer);
    }
    for other in ["b", "c"] {
        fabric.cut.insert(("a".into(), other.into()));
    }
    let frame = |client: &Client| Input::ClientFrame {
        client: client.id.clone(),
        principal: None,
        frames: vec![encode_request(&hello(b"p"), &[])],
    };
    let inputs = vec![frame(&client); HELLOS_MAX];
    fabric.inputs("a", inputs);
    let late = fabric.client("a", "late");
    fabric.send(&late, &hello(b"p"), &[]);
    assert_refused(&fabric.inbox(&late), Code::Busy);
    // Those of a client that leaves make way.
    fabric.send(&client, &Request::Bye(weft::wire::client::Bye {}), &[]);
    fabric.cut.clear();
    assert_eq!(told(&mut fabric, &late, b"p"), Some(1));
}
