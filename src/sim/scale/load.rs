//! What a measured fabric is made of and what its clients send: the topology, hellos,
//! subscriptions, and a small load that is the same for every size.

use bytes::Bytes;

use super::Point;
use crate::node::{ClientId, Input};
use crate::sim::topology::{channel, node};
use crate::topology::{Fabric, Kind, Topology};
use crate::types::limits::{PARTITIONS_MAX, SIGNAL_TOPICS_MAX};
use crate::types::{ChannelName, Limits, Record};
use crate::wire::client::{Hello, Publish, Request, Subscribe};
use crate::wire::{encode_request, records};

/// Records that are published in a second, to all partitions in turn.
pub(super) const RECORDS: u64 = 30;

/// Signals that are published in a second, to all patterns in turn.
pub(super) const SIGNALS: u64 = 10;

/// Bytes of each.
const BODY: usize = 100;

/// Clients return no credit here: the windows hold all that is delivered in a run.
const WINDOW: u64 = 1 << 40;

/// Copies of each partition.
const REPLICAS: u32 = 3;

/// The topology of a fabric of this size.
pub(super) fn topology(point: Point) -> Topology {
    let mut channels = vec![channel(("ticks", Kind::Signal, 1, 0))];
    for (number, partitions) in streams(point).into_iter().enumerate() {
        let name = format!("orders{number}");
        channels.push(channel((&name, Kind::Stream, partitions, REPLICAS)));
    }
    let name = |number: usize| format!("n{number}");
    Topology {
        fabric: Fabric {
            name: "scale".to_owned(),
            epoch: 1,
        },
        nodes: (0..point.nodes)
            .map(|number| node((number, &name(number))))
            .collect(),
        clients: Vec::new(),
        channels: channels.into_iter().collect(),
        limits: Limits {
            subscriptions_max: u64::MAX,
            subscription_window_bytes: WINDOW,
            session_window_bytes: WINDOW,
            ..Limits::default()
        },
    }
}

/// Partitions of each stored channel: as many channels as one channel's bound asks for.
fn streams(point: Point) -> Vec<u32> {
    let most = PARTITIONS_MAX as usize;
    let counts = (0..point.partitions).step_by(most);
    let counts = counts.map(|start| (point.partitions - start).min(most) as u32);
    counts.collect()
}

fn stream_name(number: usize) -> ChannelName {
    format!("orders{number}").as_str().into()
}

/// The channel of a partition, by its number among all, and its number there.
fn place(partition: usize) -> (usize, u32) {
    let most = PARTITIONS_MAX as usize;
    (partition / most, (partition % most) as u32)
}

/// The node that a client connects to.
pub(super) fn home(point: Point, client: usize) -> usize {
    client % point.nodes
}

fn from_client(client: usize, frame: Bytes) -> Input {
    Input::ClientFrame {
        client: ClientId {
            listener: 0,
            routing: Bytes::copy_from_slice(&(client as u64 + 1).to_be_bytes()),
        },
        principal: None,
        frames: vec![frame],
    }
}

/// A client introduces itself.
pub(super) fn hello(client: usize) -> Input {
    from_client(
        client,
        encode_request(&Request::Hello(Hello::default()), &[]),
    )
}

/// A reader subscribes; with whom.
pub(super) fn reader(point: Point, number: usize) -> (usize, Input) {
    let client = number % point.clients;
    // A client's readers, and the clients of a node, are spread over partitions.
    let (stream, partition) = place((number + number / point.clients) % point.partitions);
    let subscribe = Subscribe {
        id: 2 * number as u64,
        pattern: format!("orders{stream}.#"),
        channel: Some(stream_name(stream)),
        partition: Some(partition),
        ..subscribe()
    };
    let frame = encode_request(&Request::Subscribe(subscribe), &[]);
    (client, from_client(client, frame))
}

/// A listener subscribes; with whom.
pub(super) fn listener(point: Point, number: usize) -> (usize, Input) {
    let client = number % point.clients;
    let subscribe = Subscribe {
        id: 2 * number as u64 + 1,
        pattern: format!("ticks.{}.*", number % SIGNAL_TOPICS_MAX),
        ..subscribe()
    };
    let frame = encode_request(&Request::Subscribe(subscribe), &[]);
    (client, from_client(client, frame))
}

fn subscribe() -> Subscribe {
    Subscribe {
        id: 0,
        pattern: String::new(),
        channel: None,
        partition: None,
        from: None,
        offsets: std::collections::BTreeMap::new(),
        credit: None,
        cursor: None,
    }
}

/// A record for a partition, by its number among all that are published; who publishes it.
pub(super) fn record(point: Point, number: u64) -> (usize, Input) {
    let (stream, partition) = place(number as usize % point.partitions);
    let publish = Publish {
        partition: Some(partition),
        ..Publish::default()
    };
    published(point, number, publish, format!("orders{stream}.new"))
}

/// A signal for a pattern, by its number among all that are published; who publishes it.
pub(super) fn signal(point: Point, number: u64) -> (usize, Input) {
    let patterns = point.listeners.clamp(1, SIGNAL_TOPICS_MAX) as u64;
    let subject = format!("ticks.{}.now", number % patterns);
    published(point, number, Publish::default(), subject)
}

fn published(point: Point, number: u64, publish: Publish, subject: String) -> (usize, Input) {
    let client = number as usize % point.clients;
    let publish = Publish {
        id: Some(number),
        ..publish
    };
    let mut body = Vec::new();
    records::encode_record(&Record::new(subject, vec![b'x'; BODY]), &mut body);
    let frame = encode_request(&Request::Publish(publish), &body);
    (client, from_client(client, frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scale::BASE;

    #[test]
    fn partitions_beyond_one_channels_bound_take_further_channels() {
        let point = Point {
            partitions: 2 * PARTITIONS_MAX as usize + 5,
            ..BASE
        };
        assert_eq!(streams(point), [PARTITIONS_MAX, PARTITIONS_MAX, 5]);
        assert_eq!(topology(point).placement().len(), point.partitions);
        assert_eq!(place(PARTITIONS_MAX as usize + 1), (1, 1));
    }
}
