//! What is bounded answers by name when it is full, and nobody else is refused for it.

use bytes::Bytes;
use weft::channel::{Stamp, Stream};
use weft::node::{Gauges, Input};
use weft::topology::Estimate;
use weft::types::limits::{CURSOR_BYTES_MAX, CURSOR_RANGES_MAX, CURSORS_MAX, PRODUCER_BYTES_MAX};
use weft::types::{Command, CursorChange, CursorDoes, CursorStart, Limits, Wall};
use weft::wire::Code;
use weft::wire::client::{Hello, Publish, Request, Subscribe};

use super::{assert_refused, confirms, refusals};
use crate::kit::{Fabric, record};

fn publish(id: u64) -> Publish {
    Publish {
        id: Some(id),
        ..Publish::default()
    }
}

// [C42] promise 5: a full bound answers `busy`, and others are served.
#[test]
fn a_producer_beyond_its_bound_is_told_to_come_back() {
    let mut fabric = Fabric::ready();
    fabric.slow_disks = fabric.nodes.keys().cloned().collect();
    let client = fabric.client("a", "fast");
    let body = "x".repeat(1 << 19);
    let mut busy = None;
    for id in 1..20 {
        fabric.publish(&client, publish(id), &[record("orders.a", "k", &body)]);
        busy = busy.or(refusals(&fabric.inbox(&client)).pop());
    }
    let busy = busy.expect("the bound is reached");
    assert_eq!(busy.name, "busy");
    // [C40] busy says when to retry.
    assert!(busy.retry && busy.retry_after_ms.is_some());
    // The bound is that client's own.
    let other = fabric.client("a", "other");
    fabric.publish(&other, publish(1), &[record("audit.x", "k", "1")]);
    assert!(refusals(&fabric.inbox(&other)).is_empty());
    fabric.slow_disks.clear();
    fabric.sync_slow_disks();
    assert_eq!(confirms(&fabric.answer(&other)).len(), 1);
}

// promise 5: tables are bounded too, and a node that stops takes nothing new.
#[test]
fn full_tables_and_a_stopping_node_are_refused_by_name() {
    let mut fabric = Fabric::ready();
    let limits = fabric.topology.limits.clone();
    let client = fabric.client("a", "one");
    let subscribe = |id| Subscribe {
        id,
        pattern: "orders.#".to_owned(),
        ..Subscribe::default()
    };
    for id in 0..limits.subscriptions_max {
        fabric.subscribe(&client, subscribe(id));
    }
    assert!(refusals(&fabric.inbox(&client)).is_empty());
    fabric.subscribe(&client, subscribe(limits.subscriptions_max));
    let refused = refusals(&fabric.inbox(&client));
    assert_eq!(refused[0].name, "too_many_subscriptions");

    for number in 1..limits.sessions_max {
        let other = fabric.client("a", &number.to_string());
        fabric.send(&other, &Request::Hello(Hello::default()), &[]);
        assert!(refusals(&fabric.inbox(&other)).is_empty());
    }
    let late = fabric.client("a", "late");
    fabric.send(&late, &Request::Hello(Hello::default()), &[]);
    let refused = refusals(&fabric.inbox(&late));
    assert_eq!(refused[0].name, "too_many_sessions");
    // Whoever was there is served.
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    fabric.run_until("it is confirmed", |fabric| {
        fabric.view("a").sessions.inflight_bytes == 0
    });
    assert_eq!(confirms(&fabric.inbox(&client)).len(), 1);

    fabric.input("a", Input::Stop);
    fabric.publish(&client, publish(2), &[record("audit.x", "k", "2")]);
    let refused = refusals(&fabric.inbox(&client));
    assert!(
        refused.iter().any(|no| no.name == "stopping"),
        "{refused:?}"
    );
}

#[test]
fn a_disk_below_its_mark_refuses_and_takes_up_again() {
    let mut fabric = Fabric::ready();
    let gauges = |disk_free| {
        Input::Gauges(Gauges {
            disk_free,
            ..Gauges::default()
        })
    };
    for node in ["a", "b", "c"] {
        fabric.input(node, gauges(1));
    }
    let client = fabric.client("a", "one");
    fabric.publish(&client, publish(1), &[record("audit.x", "k", "1")]);
    assert_refused(&fabric.answer(&client), Code::DiskFull);
    assert!(
        fabric
            .view("a")
            .problems
            .iter()
            .any(|problem| problem.contains("disk_free_min"))
    );
    for node in ["a", "b", "c"] {
        fabric.input(node, gauges(1 << 40));
    }
    fabric.publish(&client, publish(2), &[record("audit.x", "k", "1")]);
    assert_eq!(confirms(&fabric.answer(&client)).len(), 1);
}

/// Promise 5: what `weft check` takes for the largest checkpoint is at least what one can be.
#[test]
fn promise_5_the_largest_checkpoint_is_foreseen() {
    let limits = Limits {
        producers_max: 30,
        producer_window: 40,
        ..Limits::default()
    };
    let mut stream = Stream::new(&limits);
    let (mut index, mut offset) = (u64::MAX / 2, 0);
    for sequence in 0..limits.producer_window + 5 {
        for producer in 0..limits.producers_max {
            let stamp = Stamp {
                producer: Bytes::from(vec![producer as u8; PRODUCER_BYTES_MAX]),
                sequence: u64::MAX - 1_000 + sequence,
                digest: Bytes::from_static(&[7; 16]),
            };
            let (time, count) = (Wall(1_700_000_000_000), 1 << 20);
            let batches = [(count, Some(stamp))];
            let applied = stream.apply((index, offset), time, 1 << 40, batches);
            applied.expect("it continues");
            index += 1;
            offset += u64::from(count);
        }
    }
    fill_cursors(&mut stream, Wall(1_700_000_000_000));
    let foreseen = Estimate::checkpoint_bytes(&limits);
    let bytes = stream.encode().len() as u64;
    assert!(bytes <= foreseen, "{bytes} of {foreseen}");
    assert!(bytes * 2 > foreseen - (96 << 10), "{bytes} of {foreseen}");
}

/// As many cursors as may be, each with as many ranges.
fn fill_cursors(stream: &mut Stream, time: Wall) {
    let first = stream.next_offset() - 2 * CURSOR_RANGES_MAX as u64;
    for number in 0..CURSORS_MAX {
        let name = format!("{number:0>CURSOR_BYTES_MAX$}");
        let (from, holder) = (CursorStart::Offset(0), u64::MAX);
        let open = CursorDoes::Open { from, holder };
        let token = number as u64 + 1;
        let ranges = (0..CURSOR_RANGES_MAX as u64).map(|range| first + 2 * range);
        let ranges = ranges.map(|offset| (offset, offset + 1)).collect();
        let changes = [open, CursorDoes::Ack { token, ranges }].map(|does| CursorChange {
            name: name.clone(),
            does,
        });
        let command = Command::Cursors {
            changes: changes.to_vec(),
        };
        for position in stream.apply_command(&command, time) {
            assert_eq!(position.expect("there is room").token, token);
        }
    }
}
