//! What subscriptions of the client do when nodes come and go.

use weft::client::{ClientError, Item, Start, Wanted};
use weft::wire::Code;
use weft::wire::client::{Deliver, End, From, Reply, Request, Subscribe};
use weft::wire::records::encode_record;

use super::played::{PATIENCE, Played};
use super::{connect, record};
use crate::blocking::{Client, Subscription};

fn subscribe(client: &Client, node: &mut Played, start: Start) -> (Subscription, Subscribe) {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.subscribe(Wanted::new("orders.#", start)));
        let request = node.next_subscribe();
        node.reply(&Reply::Deliver(Deliver {
            id: request.id,
            ..Deliver::default()
        }));
        let subscription = asked.join().expect("no panic").expect("subscribed");
        (subscription, request)
    })
}

fn body(subscription: &mut Subscription) -> String {
    match subscription.next_within(PATIENCE).expect("an item in time") {
        Item::Record(delivered) => String::from_utf8_lossy(&delivered.record.body).into_owned(),
        gap => panic!("{gap:?}"),
    }
}

#[test]
fn a_subscription_resumes_at_the_next_node_without_gap_or_repeat() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    let client = connect(&mut a, &[&b]);
    let (mut subscription, request) = subscribe(&client, &mut a, Start::Start);
    assert_eq!(request.from, Some(From::Start));
    assert_eq!(request.credit, Some(1 << 16), "the node's window");
    a.deliver(request.id, 10, &["10", "11"]);
    assert_eq!(body(&mut subscription), "10");
    assert_eq!(body(&mut subscription), "11");
    drop(a);

    let again = b.next_subscribe();
    assert_eq!(again.id, request.id);
    let offsets = [("orders/3".to_owned(), 12)].into();
    assert_eq!(again.offsets, offsets);
    b.deliver(again.id, 11, &["11", "12"]);
    assert_eq!(body(&mut subscription), "12");
}

#[test]
fn taken_records_return_their_bytes() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (mut subscription, request) = subscribe(&client, &mut node, Start::Start);
    node.deliver(request.id, 0, &["0", "1"]);
    body(&mut subscription);
    body(&mut subscription);
    let mut sent = Vec::new();
    for text in ["0", "1"] {
        encode_record(&record("orders.eu", None, text), &mut sent);
    }
    match node.next().header {
        Request::Credit(credit) => {
            assert_eq!((credit.id, credit.bytes), (request.id, sent.len() as u64));
        }
        other => panic!("{other:?} instead of credit"),
    }
}

#[test]
fn silence_repeats_the_subscription() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    let (_subscription, request) = subscribe(&client, &mut node, Start::End);
    assert_eq!(node.next_subscribe(), request);
}

#[test]
fn a_refused_subscription_says_why() {
    let context = zmq::Context::new();
    let mut node = Played::new(&context, "a");
    let client = connect(&mut node, &[]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.subscribe(Wanted::new("nothing.#", Start::End)));
        let request = node.next_subscribe();
        node.refuse(Some(request.id), Code::NoChannel, None);
        match asked.join().expect("no panic") {
            Err(ClientError::Refused(refusal)) => assert_eq!(refusal.name, "no_channel"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_reader_leaves_a_stopping_node_and_goes_on_at_the_next() {
    let context = zmq::Context::new();
    let mut a = Played::new(&context, "a");
    let mut b = Played::new(&context, "b");
    let client = connect(&mut a, &[&b]);
    let (mut subscription, request) = subscribe(&client, &mut a, Start::Start);
    a.deliver(request.id, 10, &["10", "11"]);
    assert_eq!(body(&mut subscription), "10");
    let reason = "a stops".to_owned();
    a.reply(&Reply::End(End {
        id: request.id,
        reason,
    }));
    let again = b.next_subscribe();
    assert_eq!(again.offsets, [("orders/3".to_owned(), 12)].into());
    b.deliver(again.id, 12, &["12"]);
    assert_eq!(body(&mut subscription), "11");
    assert_eq!(body(&mut subscription), "12");
}
