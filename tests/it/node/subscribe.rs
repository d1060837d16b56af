//! Reading streams: positions, history and tail, windows.

use weft::node::Input;
use weft::types::Wall;
use weft::wire::client::{
    Ack, Credit, From, Hello, Publish, Reply, Request, Subscribe, Unsubscribe,
};
use weft::wire::{Code, encode_request};

use super::{assert_refused, confirms, delivers, refusals};
use crate::kit::{Client, Fabric, record};

fn subscribe(pattern: &str, from: From) -> Subscribe {
    Subscribe {
        id: 7,
        pattern: pattern.to_owned(),
        from: Some(from),
        ..Subscribe::default()
    }
}

fn publish(id: u64) -> Publish {
    Publish {
        id: Some(id),
        ..Publish::default()
    }
}

/// Publishes bodies `from..to` to `audit`, one publish each, and waits for the confirms.
fn store(fabric: &mut Fabric, from: u32, to: u32) {
    let client = fabric.client("a", "publisher");
    for body in from..to {
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        fabric.publish(
            &client,
            publish,
            &[record("audit.x", "k", &body.to_string())],
        );
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    }
}

/// Takes what the client is sent until it has `count` records; their offsets and bodies.
fn read(fabric: &mut Fabric, client: &Client, count: usize) -> Vec<(u64, String)> {
    let mut read = Vec::new();
    while read.len() < count {
        for (deliver, bodies) in delivers(&fabric.answer(client)) {
            // [C33] the counts agree.
            assert_eq!(deliver.count, bodies.len() as u64);
            let offsets = deliver
                .runs
                .iter()
                .flat_map(|run| run.offset..run.offset + run.count);
            let offsets: Vec<u64> = offsets.collect();
            assert_eq!(offsets.len(), bodies.len());
            if let Some(last) = offsets.last() {
                // [C34] next is where it resumes.
                assert!(deliver.next > Some(*last));
                let (channel, partition) = (None, deliver.partition.expect("a stored channel"));
                let ack = Ack {
                    id: deliver.id,
                    channel,
                    partition,
                    offset: *last,
                    ..Ack::default()
                };
                fabric.send(client, &Request::Ack(ack), &[]);
            }
            read.extend(offsets.into_iter().zip(bodies));
        }
    }
    read
}

fn expected(from: u32, to: u32) -> Vec<(u64, String)> {
    (from..to).map(|n| (u64::from(n), n.to_string())).collect()
}

// [C32] history first and then what comes, without gap or repeat, at every node.
#[test]
fn history_and_tail_follow_each_other_without_gap_or_repeat() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 20);
    for node in ["a", "b", "c"] {
        let client = fabric.client(node, "reader");
        fabric.subscribe(&client, subscribe("audit.#", From::Start));
        assert_eq!(read(&mut fabric, &client, 20), expected(0, 20));
    }
    store(&mut fabric, 20, 40);
    for node in ["a", "b", "c"] {
        let client = fabric.client(node, "reader");
        assert_eq!(read(&mut fabric, &client, 20), expected(20, 40));
    }
}

#[test]
fn a_subscription_starts_where_it_says() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 5);
    let noon = Wall(fabric.now.wall.0 + 60_000);
    fabric.now.wall = noon;
    store(&mut fabric, 5, 10);
    let cases = [
        (From::Offset(3), 3),
        (From::Offset(7), 7),
        (From::Time(noon), 5),
        (From::Time(Wall(0)), 0),
        (From::Time(Wall(u64::MAX)), 10),
        (From::End, 10),
    ];
    for (number, (from, first)) in cases.into_iter().enumerate() {
        let client = fabric.client("b", &format!("reader {number}"));
        fabric.subscribe(&client, subscribe("audit.*", from.clone()));
        // [C34] where it starts is told, be it without records.
        fabric.run_until("it knows where it starts", |fabric| {
            let subscriptions = fabric.view("b").sessions.subscriptions;
            subscriptions as usize == number + 1
        });
        for _ in 0..5 {
            fabric.tick();
        }
        let heard = delivers(&fabric.inbox(&client));
        let starts: Vec<u64> = heard
            .iter()
            .filter_map(|(deliver, _)| deliver.next)
            .collect();
        let count = heard
            .iter()
            .map(|(_, bodies)| bodies.len() as u64)
            .sum::<u64>();
        assert_eq!(
            starts.last().map(|next| next - count),
            Some(first),
            "{from:?}: {heard:?}"
        );
    }
}

#[test]
fn named_offsets_come_before_where_the_rest_starts() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 9);
    let client = fabric.client("c", "reader");
    let resumed = Subscribe {
        offsets: [("audit/0".to_owned(), 7)].into(),
        ..subscribe("#", From::End)
    };
    fabric.subscribe(&client, resumed);
    assert_eq!(read(&mut fabric, &client, 2), expected(7, 9));
}

// [C30] answered at once; sent again it changes nothing.
#[test]
fn a_repeated_subscribe_changes_nothing() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 3);
    let client = fabric.client("c", "reader");
    fabric.subscribe(&client, subscribe("audit.#", From::Start));
    assert_eq!(read(&mut fabric, &client, 3), expected(0, 3));
    fabric.subscribe(&client, subscribe("audit.#", From::Start));
    let heard = delivers(&fabric.inbox(&client));
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].0.id, heard[0].1.len()), (7, 0));
    let bye = Request::Unsubscribe(Unsubscribe { id: 7 });
    fabric.send(&client, &bye, &[]);
    assert!(matches!(&fabric.inbox(&client)[0].header, Reply::End(end) if end.id == 7));
    fabric.send(&client, &bye, &[]);
    assert_refused(&fabric.inbox(&client), Code::NoSubscription);
}

// [C31] [C14] [C15]
#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 3);
    let client = fabric.client("a", "reader");
    let cases = [
        (subscribe("audit.#.x", From::Start), Code::BadPattern),
        (subscribe("nothing.#", From::Start), Code::NoChannel),
        (
            Subscribe {
                channel: Some("none".into()),
                ..subscribe("#", From::Start)
            },
            Code::NoChannel,
        ),
        (
            Subscribe {
                partition: Some(9),
                ..subscribe("audit.#", From::Start)
            },
            Code::NoPartition,
        ),
        (subscribe("orders.#", From::Offset(0)), Code::BadPosition),
        (subscribe("audit.#", From::Offset(4)), Code::BadPosition),
        (
            Subscribe {
                offsets: [("0".to_owned(), 1)].into(),
                ..subscribe("audit.#", From::End)
            },
            Code::BadPosition,
        ),
        (
            Subscribe {
                offsets: [("orders/4".to_owned(), 1)].into(),
                ..subscribe("#", From::End)
            },
            Code::BadPosition,
        ),
    ];
    for (subscribe, code) in cases {
        fabric.subscribe(&client, subscribe.clone());
        fabric.run_until("it is refused", |fabric| {
            fabric.view("a").sessions.subscriptions == 0
        });
        let refused = refusals(&fabric.inbox(&client));
        assert_eq!(refused.len(), 1, "{subscribe:?}");
        assert_eq!(
            (refused[0].name.as_str(), refused[0].id),
            (code.name(), Some(7))
        );
    }
    for request in [
        Request::Ack(Ack {
            id: 1,
            channel: None,
            partition: 0,
            offset: 0,
            ..Ack::default()
        }),
        Request::Credit(Credit { id: 1, bytes: 1 }),
    ] {
        fabric.send(&client, &request, &[]);
        assert_refused(&fabric.inbox(&client), Code::NoSubscription);
    }
}

// [C35] [C36] [C37] promise 5: a reader that returns nothing is sent its window and no more.
#[test]
fn a_slow_reader_is_sent_its_window_and_slows_nobody() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 30);
    let slow = fabric.client("b", "slow");
    let window = Subscribe {
        credit: Some(100),
        ..subscribe("audit.#", From::Start)
    };
    fabric.subscribe(&slow, window);
    for _ in 0..50 {
        fabric.tick();
    }
    let messages = fabric.inbox(&slow);
    let bytes: usize = messages.iter().map(|message| message.records.len()).sum();
    assert!(
        bytes <= 100 && bytes > 50,
        "{bytes} bytes of a window of 100"
    );
    assert_eq!(fabric.view("b").sessions.credit_used_bytes, bytes as u64);
    let quick = fabric.client("b", "quick");
    fabric.subscribe(&quick, subscribe("audit.#", From::Start));
    assert_eq!(read(&mut fabric, &quick, 30), expected(0, 30));
    let got = delivers(&messages)
        .iter()
        .map(|(_, bodies)| bodies.len())
        .sum::<usize>();
    fabric.send(
        &slow,
        &Request::Credit(Credit {
            id: 7,
            bytes: u64::MAX,
        }),
        &[],
    );
    assert_eq!(read(&mut fabric, &slow, 30 - got), expected(got as u32, 30));
}

// [C35] a reader that returns its window record by record is not sent whole entries for each.
#[test]
fn a_reader_that_acks_one_by_one_is_not_sent_everything_each_time() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    let records: Vec<_> = (0..1_000)
        .map(|n| record("audit.x", "k", &format!("{n:04}")))
        .collect();
    fabric.publish(&publisher, publish, &records);
    assert_eq!(confirms(&fabric.answer(&publisher)).len(), 1);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let node = fabric.nodes.keys().find(|node| **node != leader);
    let node = node.expect("another").clone();
    let client = fabric.client(node.as_str(), "reader");
    let window = Subscribe {
        credit: Some(3_000),
        ..subscribe("audit.#", From::Start)
    };
    let before = fabric.peer_bytes;
    fabric.subscribe(&client, window);
    let mut next = 0;
    while next < 1_000 {
        let heard = delivers(&fabric.answer(&client));
        let runs = heard.into_iter().flat_map(|(deliver, _)| deliver.runs);
        let offsets: Vec<u64> = runs.flat_map(|r| r.offset..r.offset + r.count).collect();
        for offset in offsets {
            assert_eq!(offset, next);
            next += 1;
            let ack = Ack {
                id: 7,
                channel: None,
                partition: 0,
                offset,
                ..Ack::default()
            };
            fabric.send(&client, &Request::Ack(ack), &[]);
        }
    }
    let entry = records.len() * 30;
    let sent = fabric.peer_bytes - before;
    assert!(sent < 60 * entry, "{sent} bytes to read {entry}");
}

// [C37] promise 5: whatever credit a client gives, no more than the node's window is out.
#[test]
fn boundless_credit_is_the_nodes_window() {
    let mut fabric = Fabric::ready();
    let writer = fabric.client("a", "writer");
    let body = "x".repeat(100_000);
    for _ in 0..8 {
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        fabric.publish(&writer, publish, &[record("audit.x", "k", &body)]);
        assert_eq!(confirms(&fabric.answer(&writer)).len(), 1);
    }
    let reader = fabric.client("b", "greedy");
    let window = Subscribe {
        credit: Some(1 << 40),
        ..subscribe("audit.#", From::Start)
    };
    fabric.subscribe(&reader, window);
    let most = fabric.topology.limits.subscription_window_bytes as usize;
    for _ in 0..3 {
        for _ in 0..50 {
            fabric.tick();
        }
        let messages = fabric.inbox(&reader);
        let out: usize = messages.iter().map(|message| message.records.len()).sum();
        assert!((100_000..=most).contains(&out), "{out} bytes of {most}");
        // All of it is returned, and far more than was sent.
        let bytes = u64::MAX;
        fabric.send(&reader, &Request::Credit(Credit { id: 7, bytes }), &[]);
    }
}

// [C35] promise 5: all subscriptions of a session share its window, and each comes to its end.
#[test]
fn a_sessions_subscriptions_share_its_window_and_none_starves() {
    let mut fabric = Fabric::ready();
    let writer = fabric.client("a", "writer");
    // The second half is large: what small records leave of the window must add up for them.
    for (count, bytes) in [(8, 100_000), (4, 900_000)] {
        for _ in 0..count {
            let body = "x".repeat(bytes);
            fabric.publish(&writer, publish(1), &[record("audit.x", "k", &body)]);
            assert_eq!(confirms(&fabric.answer(&writer)).len(), 1);
        }
    }
    let most = fabric.topology.limits.session_window_bytes as usize;
    let window = fabric.topology.limits.subscription_window_bytes as usize;
    assert!(8 * window > most);
    let reader = fabric.client("b", "reader");
    for id in 0..8 {
        let wanted = Subscribe {
            id,
            ..subscribe("audit.#", From::Start)
        };
        fabric.subscribe(&reader, wanted);
    }
    let mut read = [0; 8];
    let mut out = [0; 8];
    while read != [12; 8] {
        for _ in 0..50 {
            fabric.tick();
        }
        for message in fabric.inbox(&reader) {
            if let Reply::Deliver(deliver) = &message.header {
                read[deliver.id as usize] += deliver.count;
                out[deliver.id as usize] += message.records.len();
            }
        }
        let sum: usize = out.iter().sum();
        assert!(sum <= most, "{out:?} of {most}");
        assert!(sum > 0, "nothing comes after {read:?}");
        // The one that has most gives it back; it would take it all again.
        let id = (0..8).max_by_key(|id| out[*id]).expect("eight");
        let bytes = std::mem::take(&mut out[id]) as u64;
        let id = id as u64;
        fabric.send(&reader, &Request::Credit(Credit { id, bytes }), &[]);
    }
}

#[test]
fn a_record_larger_than_the_window_goes_alone() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 2);
    let client = fabric.client("c", "reader");
    let window = Subscribe {
        credit: Some(1),
        ..subscribe("audit.#", From::Start)
    };
    fabric.subscribe(&client, window);
    assert_eq!(read(&mut fabric, &client, 2), expected(0, 2));
}

// [C13] a delivered record is the published one, with its subject and what nobody knows of it.
#[test]
fn a_record_comes_out_as_it_went_in_with_its_subject() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    // {"body": "订", "later": [1]}: a field of a version to come.
    let body = b"\x82\xa4body\xa3\xe8\xae\xa2\xa5later\x91\x01";
    let subject = Some("audit.y".to_owned());
    fabric.send(
        &client,
        &Request::Publish(Publish {
            subject,
            ..Publish::default()
        }),
        body,
    );
    assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    fabric.subscribe(&client, subscribe("audit.y", From::Start));
    fabric.run_until("it is delivered", |fabric| {
        fabric.view("a").sessions.credit_used_bytes > 0
    });
    let messages = fabric.inbox(&client);
    let delivered = messages
        .iter()
        .find(|message| !message.records.is_empty())
        .expect("a record");
    let expected = b"\x83\xa7subject\xa7audit.y\xa4body\xa3\xe8\xae\xa2\xa5later\x91\x01";
    assert_eq!(delivered.records.as_ref(), expected);
}

// A pattern may reach into several channels, and passes over what it does not select.
#[test]
fn a_pattern_selects_across_channels_and_partitions() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    for (subject, key) in [
        ("orders.eu", "1"),
        ("audit.eu", "2"),
        ("orders.us", "3"),
        ("orders.eu", "4"),
    ] {
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        fabric.publish(&client, publish, &[record(subject, key, subject)]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    }
    let reader = fabric.client("b", "reader");
    fabric.subscribe(&reader, subscribe("*.eu", From::Start));
    let mut bodies: Vec<String> = Vec::new();
    while bodies.len() < 3 {
        bodies.extend(
            delivers(&fabric.answer(&reader))
                .into_iter()
                .flat_map(|(_, bodies)| bodies),
        );
    }
    bodies.sort();
    assert_eq!(bodies, ["audit.eu", "orders.eu", "orders.eu"]);
}

/// A routing id proves nothing: who comes under that of another key takes nothing over.
#[test]
fn another_key_behind_a_routing_id_is_another_client() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    let mut say = |principal: &str, request: &Request| {
        let input = Input::ClientFrame {
            client: client.id.clone(),
            principal: Some(principal.to_owned()),
            frames: vec![encode_request(request, &[])],
        };
        fabric.input("a", input);
        fabric.view("a").sessions
    };
    let subscribe = Request::Subscribe(Subscribe {
        id: 1,
        pattern: "orders.#".to_owned(),
        ..Subscribe::default()
    });
    assert_eq!(say("billing", &subscribe).subscriptions, 1);
    let hello = Request::Hello(Hello::default());
    assert_eq!(say("billing", &hello).subscriptions, 1);
    let after = say("stock", &hello);
    assert_eq!((after.sessions, after.subscriptions), (1, 0));
}

// [C39] who is told something and says nothing is asked whether it is there, every two seconds; who
// wants nothing is left alone.
#[test]
fn a_silent_reader_is_sent_a_ping_every_two_seconds() {
    let mut fabric = Fabric::ready();
    let reader = fabric.client("a", "reader");
    let wanted = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        ..Subscribe::default()
    };
    fabric.subscribe(&reader, wanted);
    let idle = fabric.client("a", "idle");
    fabric.send(&idle, &Request::Hello(Hello::default()), &[]);
    let began = fabric.now.mono;
    fabric.skip(std::time::Duration::from_secs(9));
    assert!(fabric.pings.iter().all(|(client, _)| *client == reader.id));
    let asked: Vec<u64> = fabric
        .pings
        .iter()
        .map(|(_, when)| when.since(began).as_millis().div_ceil(1_000))
        .collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    for (number, seconds) in (1..).zip(asked) {
        assert!(
            (2 * number..=2 * number + 2).contains(&seconds),
            "{seconds}"
        );
    }
}
