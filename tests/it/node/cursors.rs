//! Cursors: who holds one, what an ack moves, what comes again, and what survives whom.

use std::time::Duration;

use weft::node::CursorView;
use weft::types::limits::{CURSOR_BYTES_MAX, CURSOR_RANGES_MAX, CURSORS_MAX};
use weft::types::{NodeName, Wall};
use weft::wire::Code;
use weft::wire::client::{
    Ack, Bye, Credit, CursorReply, Delete, End, From, Message, Publish, Reply, Request, Seek,
    Subscribe,
};

use super::{assert_refused, confirms, delivers, refusals};
use crate::kit::{Client, Fabric, parse, record};

/// Publishes bodies `from..to` to `audit`, and waits for the confirms.
pub(super) fn store(fabric: &mut Fabric, from: u64, to: u64) {
    let client = fabric.client("a", "publisher");
    for body in from..to {
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        let record = record("audit.x", "k", &body.to_string());
        fabric.publish(&client, publish, &[record]);
        assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
    }
}

fn wanted(from: From) -> Subscribe {
    Subscribe {
        id: 7,
        pattern: "audit.#".to_owned(),
        from: Some(from),
        cursor: Some("账单".to_owned()),
        ..Subscribe::default()
    }
}

/// What a reader was given of `audit`: its offsets, its token, and what it missed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) offsets: Vec<u64>,
    token: u64,
    missed: u64,
}

fn given(messages: &[Message<Reply>]) -> Given {
    let mut given = Given::default();
    for (deliver, _) in delivers(messages) {
        let runs = deliver.runs.into_iter();
        given
            .offsets
            .extend(runs.flat_map(|r| r.offset..r.offset + r.count));
        given.token = deliver.token.unwrap_or(given.token);
        given.missed += deliver.missed;
    }
    given
}

/// Subscribes with the cursor, and takes what comes within two seconds.
pub(super) fn open(fabric: &mut Fabric, client: &Client) -> Given {
    fabric.subscribe(client, wanted(From::Start));
    fabric.skip(Duration::from_secs(2));
    given(&fabric.inbox(client))
}

pub(super) fn ack(offset: u64) -> Ack {
    Ack {
        id: 7,
        offset,
        ..Ack::default()
    }
}

pub(super) fn cursor_replies(messages: &[Message<Reply>]) -> Vec<CursorReply> {
    let reply = |message: &Message<Reply>| match &message.header {
        Reply::Cursor(reply) => Some(reply.clone()),
        _ => None,
    };
    messages.iter().filter_map(reply).collect()
}

fn ends(messages: &[Message<Reply>]) -> Vec<String> {
    let end = |message: &Message<Reply>| match &message.header {
        Reply::End(End { reason, .. }) => Some(reason.clone()),
        _ => None,
    };
    messages.iter().filter_map(end).collect()
}

/// The cursor in `audit` as each node that runs sees it, once they agree.
fn cursor(fabric: &mut Fabric) -> CursorView {
    let of = |fabric: &Fabric| {
        let nodes: Vec<NodeName> = fabric.nodes.keys().cloned().collect();
        let views = nodes.into_iter().map(|node| {
            let partitions = fabric.view(node.as_str()).partitions;
            let audit = partitions.into_iter().find(|view| view.channel == "audit");
            audit.expect("every node holds it").cursors
        });
        views.collect::<Vec<_>>()
    };
    let agree = |fabric: &Fabric| of(fabric).windows(2).all(|pair| pair[0] == pair[1]);
    fabric.run_until("all replicas have come as far", agree);
    let view = of(fabric)[0].first().cloned().unwrap_or_default();
    assert_eq!(view.offered, view.acked + view.waiting + view.missed);
    view
}

/// Acks, and waits until that is committed: where the cursor stands then.
fn commit(fabric: &mut Fabric, client: &Client, ack: Ack) -> u64 {
    let ack = Ack {
        request: Some(99),
        ..ack
    };
    fabric.send(client, &Request::Ack(ack), &[]);
    let answer = cursor_replies(&fabric.answer(client));
    assert_eq!((answer[0].id, answer[0].request), (Some(7), Some(99)));
    answer[0].positions[0].floor
}

// [C45], [C49]
#[test]
fn a_cursor_goes_on_where_its_acks_left_it() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 6);
    let first = fabric.client("a", "first");
    let told = open(&mut fabric, &first);
    assert_eq!(told.offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(commit(&mut fabric, &first, ack(1)), 2);
    let one = Ack {
        first: Some(4),
        ..ack(4)
    };
    // [C47] A hole stays a hole, however often what lies above it is acked.
    for _ in 0..2 {
        assert_eq!(commit(&mut fabric, &first, one.clone()), 2);
    }
    fabric.send(&first, &Request::Bye(Bye {}), &[]);
    let second = fabric.client("c", "second");
    let again = open(&mut fabric, &second);
    assert_eq!(again.offsets, [2, 3, 5], "what was acked is not delivered");
    assert!(again.token > told.token);
    let range = Ack {
        first: Some(2),
        ..ack(3)
    };
    assert_eq!(commit(&mut fabric, &second, range), 5);
    let view = cursor(&mut fabric);
    assert_eq!((view.offered, view.acked, view.waiting), (6, 5, 1));
}

// [C45]
#[test]
fn the_first_time_it_starts_where_it_is_told() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 3);
    fabric.skip(Duration::from_millis(500));
    let time = fabric.now.wall;
    store(&mut fabric, 3, 5);
    let starts = [
        (Some(From::Start), 0),
        (Some(From::End), 5),
        (None, 5),
        (Some(From::Offset(2)), 2),
        (Some(From::Time(time)), 3),
        (Some(From::Time(Wall(time.0 + 3_600_000))), 5),
    ];
    for (from, begins) in starts {
        let client = fabric.client("b", &format!("{from:?}"));
        let subscribe = Subscribe {
            from: from.clone(),
            cursor: Some(format!("c{from:?}").replace(' ', "")),
            partition: Some(0),
            channel: Some("audit".into()),
            ..wanted(From::Start)
        };
        fabric.subscribe(&client, subscribe);
        fabric.skip(Duration::from_secs(1));
        let next = delivers(&fabric.inbox(&client))
            .into_iter()
            .find_map(|(deliver, _)| deliver.token.and(deliver.next));
        assert_eq!(next, Some(begins), "{from:?}");
    }
    let client = fabric.client("b", "beyond");
    let beyond = Subscribe {
        channel: Some("audit".into()),
        partition: Some(0),
        ..wanted(From::Offset(6))
    };
    fabric.subscribe(&client, beyond);
    fabric.skip(Duration::from_secs(1));
    let codes: Vec<u16> = refusals(&fabric.inbox(&client))
        .iter()
        .map(|no| no.code)
        .collect();
    assert_eq!(codes, [Code::BadPosition.number()]);
}

// [C46]
#[test]
fn a_second_holder_takes_over_and_the_first_is_told_and_fenced() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 4);
    let (first, second) = (fabric.client("a", "first"), fabric.client("b", "second"));
    let before = open(&mut fabric, &first);
    let after = open(&mut fabric, &second);
    assert_eq!(
        (&before.offsets, &after.offsets),
        (&after.offsets, &before.offsets)
    );
    assert!(after.token > before.token);
    assert_eq!(ends(&fabric.inbox(&first)), ["taken_over"]);
    // Its subscription is gone, and with the old token the new one moves nothing either.
    fabric.send(&first, &Request::Ack(ack(3)), &[]);
    assert_refused(&fabric.inbox(&first), Code::NoSubscription);
    let stale = Ack {
        token: Some(before.token),
        request: Some(5),
        ..ack(3)
    };
    fabric.send(&second, &Request::Ack(stale), &[]);
    let refused = assert_refused(&fabric.inbox(&second), Code::StaleToken);
    assert_eq!(refused.request, Some(5));
    assert_eq!(cursor(&mut fabric).floor, 0);
    assert_eq!(commit(&mut fabric, &second, ack(0)), 1);
}

// [C46] One whose window is full asks for nothing, and is told all the same.
#[test]
fn a_holder_that_takes_nothing_is_told_too() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 4);
    let (first, second) = (fabric.client("a", "first"), fabric.client("b", "second"));
    let narrow = Subscribe {
        credit: Some(1),
        ..wanted(From::Start)
    };
    fabric.subscribe(&first, narrow);
    fabric.skip(Duration::from_secs(1));
    assert_eq!(given(&fabric.inbox(&first)).offsets, [0]);
    open(&mut fabric, &second);
    assert_eq!(ends(&fabric.inbox(&first)), ["taken_over"]);
}

// [C48] Many acks in one loop are one entry of the log.
#[test]
fn acks_of_one_loop_are_one_command() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 50);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let client = fabric.client(leader.as_str(), "reader");
    assert_eq!(open(&mut fabric, &client).offsets.len(), 50);
    let last = |fabric: &Fabric| {
        let views = fabric.view(leader.as_str()).partitions;
        let audit = views.into_iter().find(|view| view.channel == "audit");
        audit.expect("it leads").last
    };
    let before = last(&fabric);
    let inputs = (0..50).map(|offset| {
        let one = Ack {
            first: Some(offset),
            request: Some(offset),
            ..ack(offset)
        };
        weft::node::Input::ClientFrame {
            client: client.id.clone(),
            principal: None,
            frames: vec![weft::wire::encode_request(&Request::Ack(one), &[])],
        }
    });
    fabric.inputs(leader.as_str(), inputs.collect());
    let answers = cursor_replies(&fabric.answer(&client));
    assert_eq!(answers.len(), 50, "each is answered");
    assert_eq!(last(&fabric), before + 1);
    assert_eq!(cursor(&mut fabric).floor, 50);
}

// [C47]
#[test]
fn what_was_not_delivered_is_not_acked() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 3);
    let client = fabric.client("a", "reader");
    open(&mut fabric, &client);
    let backwards = Ack {
        first: Some(2),
        ..ack(1)
    };
    for wrong in [ack(3), ack(u64::MAX), backwards] {
        fabric.send(&client, &Request::Ack(wrong), &[]);
        assert_refused(&fabric.inbox(&client), Code::BadPosition);
    }
    let elsewhere = Ack {
        partition: 9,
        ..ack(0)
    };
    fabric.send(&client, &Request::Ack(elsewhere), &[]);
    assert_refused(&fabric.inbox(&client), Code::NoPartition);
    assert_eq!(cursor(&mut fabric).floor, 0);
    let plain = fabric.client("a", "without a cursor");
    let subscribe = Subscribe {
        cursor: None,
        ..wanted(From::Start)
    };
    fabric.subscribe(&plain, subscribe);
    fabric.skip(Duration::from_millis(500));
    fabric.inbox(&plain);
    let asked = Ack {
        request: Some(1),
        ..ack(0)
    };
    fabric.send(&plain, &Request::Ack(asked), &[]);
    assert_refused(&fabric.inbox(&plain), Code::NoCursor);
}

// [C47] Records that the pattern does not select are done with when those around them are.
#[test]
fn what_the_pattern_passes_over_does_not_hold_a_cursor_back() {
    let mut fabric = Fabric::ready();
    let publisher = fabric.client("a", "publisher");
    for subject in ["audit.b", "audit.a", "audit.b", "audit.a", "audit.b"] {
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        fabric.publish(&publisher, publish, &[record(subject, "k", "x")]);
        assert_eq!(confirms(&fabric.answer(&publisher)).len(), 1);
    }
    let client = fabric.client("b", "reader");
    let subscribe = Subscribe {
        pattern: "audit.a".to_owned(),
        ..wanted(From::Start)
    };
    fabric.subscribe(&client, subscribe);
    fabric.skip(Duration::from_secs(1));
    assert_eq!(given(&fabric.inbox(&client)).offsets, [1, 3]);
    let one = |offset| Ack {
        first: Some(offset),
        ..ack(offset)
    };
    assert_eq!(commit(&mut fabric, &client, one(3)), 0, "1 is not acked");
    assert_eq!(cursor(&mut fabric).acked, 2, "2 went with 3");
    assert_eq!(commit(&mut fabric, &client, one(1)), 4);
    fabric.skip(Duration::from_secs(2));
    assert_eq!(
        cursor(&mut fabric).floor,
        5,
        "nothing is left but what is not for it"
    );
}

#[test]
fn a_cursor_survives_its_leader_and_restarts_of_all() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 4);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let home = ["a", "b", "c"]
        .into_iter()
        .find(|node| *node != leader.as_str());
    let client = fabric.client(home.expect("another"), "reader");
    let before = open(&mut fabric, &client);
    assert_eq!(commit(&mut fabric, &client, ack(1)), 2);
    fabric.kill(leader.as_str());
    // The same subscription, with the same token, at the next leader.
    assert_eq!(commit(&mut fabric, &client, ack(2)), 3);
    fabric.start(leader.as_str());
    for node in ["a", "b", "c"] {
        fabric.kill(node);
    }
    for node in ["a", "b", "c"] {
        fabric.start(node);
    }
    fabric.run_until("every partition is led", Fabric::is_settled);
    let client = fabric.client("b", "after");
    let after = open(&mut fabric, &client);
    assert_eq!(after.offsets, [3]);
    assert!(after.token > before.token);
}

// [C50]
#[test]
fn promise_1_what_is_let_go_of_before_a_cursor_came_to_it_is_missed() {
    let text = include_str!("../../../topology/quickstart.toml");
    let audit = "[channel.audit]\n";
    let text = text.replace(audit, &format!("{audit}keep = {{ count = 5 }}\n"));
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_settled);
    store(&mut fabric, 0, 4);
    let client = fabric.client("a", "reader");
    open(&mut fabric, &client);
    commit(&mut fabric, &client, ack(1));
    fabric.send(&client, &Request::Bye(Bye {}), &[]);
    store(&mut fabric, 4, 12);
    fabric.skip(Duration::from_secs(2));
    let view = cursor(&mut fabric);
    assert_eq!((view.floor, view.acked, view.missed), (7, 2, 5));
    let client = fabric.client("c", "later");
    let told = open(&mut fabric, &client);
    assert_eq!((told.missed, told.offsets), (5, (7..12).collect()));
}

fn seek(cursor: &str, to: From) -> Request {
    Request::Seek(Seek {
        id: Some(4),
        channel: "audit".into(),
        cursor: cursor.to_owned(),
        partition: None,
        to,
    })
}

// [C51]
#[test]
fn a_cursor_is_moved_and_deleted_under_its_holder() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 6);
    let (client, other) = (fabric.client("a", "reader"), fabric.client("c", "operator"));
    open(&mut fabric, &client);
    commit(&mut fabric, &client, ack(5));
    fabric.send(&other, &seek("账单", From::Offset(2)), &[]);
    let answer = cursor_replies(&fabric.answer(&other));
    assert_eq!((answer[0].id, answer[0].positions[0].floor), (Some(4), 2));
    fabric.skip(Duration::from_secs(1));
    assert_eq!(ends(&fabric.inbox(&client)), ["moved"]);
    assert_eq!(open(&mut fabric, &client).offsets, [2, 3, 4, 5]);
    fabric.inbox(&other);
    let delete = Delete {
        id: Some(5),
        channel: "audit".into(),
        cursor: "账单".to_owned(),
        partition: Some(0),
    };
    fabric.send(&other, &Request::Delete(delete.clone()), &[]);
    assert_eq!(cursor_replies(&fabric.answer(&other))[0].id, Some(5));
    fabric.skip(Duration::from_secs(1));
    assert_eq!(ends(&fabric.inbox(&client)), ["deleted"]);
    assert_eq!(cursor(&mut fabric), CursorView::default());
    fabric.send(&other, &Request::Delete(delete.clone()), &[]);
    assert_refused(&fabric.answer(&other), Code::NoCursor);
    let wrong = [
        (seek("nobody", From::End), Code::NoCursor),
        (seek("white space", From::End), Code::BadCursor),
        (
            Request::Delete(Delete {
                channel: "ticks".into(),
                ..delete.clone()
            }),
            Code::NoChannel,
        ),
        (
            Request::Delete(Delete {
                partition: Some(1),
                ..delete
            }),
            Code::NoPartition,
        ),
    ];
    for (request, code) in wrong {
        fabric.send(&other, &request, &[]);
        assert_refused(&fabric.answer(&other), code);
    }
}

// [C45]
#[test]
fn a_cursor_is_of_streams_and_has_a_name() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "reader");
    let signals = Subscribe {
        pattern: "#".to_owned(),
        ..wanted(From::Start)
    };
    fabric.subscribe(&client, signals);
    let refused = assert_refused(&fabric.inbox(&client), Code::BadCursor);
    assert!(refused.message.contains("channel"), "{}", refused.message);
    let long = "x".repeat(CURSOR_BYTES_MAX + 1);
    for name in ["", "two words", "a\nb", &long] {
        let named = Subscribe {
            cursor: Some(name.to_owned()),
            ..wanted(From::Start)
        };
        fabric.subscribe(&client, named);
        assert_refused(&fabric.inbox(&client), Code::BadCursor);
    }
}

// [C52]
#[test]
fn promise_5_too_many_cursors_and_too_many_holes_are_refused_by_name() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "reader");
    let named = |number: usize| Subscribe {
        id: number as u64,
        cursor: Some(format!("c{number}")),
        ..wanted(From::End)
    };
    for number in 0..CURSORS_MAX {
        fabric.subscribe(&client, named(number));
    }
    fabric.skip(Duration::from_secs(1));
    assert_eq!(refusals(&fabric.inbox(&client)), []);
    let other = fabric.client("b", "one too many");
    fabric.subscribe(&other, named(CURSORS_MAX));
    fabric.skip(Duration::from_secs(1));
    let refused = refusals(&fabric.inbox(&other));
    assert_eq!(refused[0].name, Code::TooManyCursors.name());
    assert!(refused[0].message.contains("delete one"));
}

// [C52] The records of refused acks are acked with the next one that makes room.
#[test]
fn an_ack_of_what_holds_a_full_cursor_back_lets_all_of_it_in() {
    let mut fabric = Fabric::ready();
    let count = 2 * CURSOR_RANGES_MAX as u64 + 2;
    let publisher = fabric.client("a", "publisher");
    let records: Vec<_> = (0..count)
        .map(|n| record("audit.x", "k", &n.to_string()))
        .collect();
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(&publisher, publish, &records);
    assert_eq!(confirms(&fabric.answer(&publisher)).len(), 1);
    let client = fabric.client("b", "reader");
    assert_eq!(open(&mut fabric, &client).offsets.len() as u64, count);
    let mut refused = Vec::new();
    for offset in (1..count).step_by(2) {
        let one = Ack {
            first: Some(offset),
            request: Some(offset),
            ..ack(offset)
        };
        fabric.send(&client, &Request::Ack(one), &[]);
        refused.extend(refusals(&fabric.answer(&client)));
    }
    assert_eq!(refused[0].name, Code::CursorFull.name());
    assert_eq!(refused[0].request, Some(2 * CURSOR_RANGES_MAX as u64 + 1));
    assert!(
        refused[0].message.contains("offset 0"),
        "{}",
        refused[0].message
    );
    let oldest = Ack {
        first: Some(0),
        ..ack(0)
    };
    commit(&mut fabric, &client, oldest);
    fabric.skip(Duration::from_secs(1));
    assert_eq!(cursor(&mut fabric).acked, count / 2 + 1);
    assert_eq!(commit(&mut fabric, &client, ack(count - 1)), count);
}

// [C37] Credit is no ack.
#[test]
fn credit_returns_the_window_and_moves_no_cursor() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 4);
    let client = fabric.client("a", "reader");
    let narrow = Subscribe {
        credit: Some(1),
        ..wanted(From::Start)
    };
    fabric.subscribe(&client, narrow);
    fabric.skip(Duration::from_secs(1));
    assert_eq!(given(&fabric.inbox(&client)).offsets, [0]);
    let credit = Request::Credit(Credit {
        id: 7,
        bytes: 1 << 20,
    });
    fabric.send(&client, &credit, &[]);
    fabric.skip(Duration::from_secs(2));
    assert_eq!(given(&fabric.inbox(&client)).offsets, [1, 2, 3]);
    assert_eq!(cursor(&mut fabric).floor, 0);
    assert_eq!(commit(&mut fabric, &client, ack(3)), 4);
}
