//! The fabrics that are simulated where none is named: small bounds, so that windows fill, segments
//! roll and history comes from disk within a short run.

use std::collections::BTreeMap;

use crate::topology::{Channel, Confirm, Endpoint, Fabric, Keep, Kind, Node, Topology};
use crate::types::{ChannelName, Limits, Pattern, Span};

/// The fabric of a seed: a signal channel, a wide stream, streams of a single partition, and one of
/// a single copy. Half of the seeds have four nodes and three copies, so that some node holds no
/// copy of any partition; a quarter have five nodes and five copies; a quarter have three nodes and
/// many partitions.
pub fn topology(seed: u64) -> Topology {
    let (nodes, replicas, partitions) = match seed % 4 {
        0 | 1 => (4, 3, 3),
        2 => (5, 5, 3),
        _ => (3, 3, 16),
    };
    let channels = [
        ("ticks", Kind::Signal, 1, 0),
        ("orders", Kind::Stream, partitions, replicas),
        ("audit", Kind::Stream, 1, replicas),
        ("notes", Kind::Stream, 1, 1),
        ("news", Kind::Stream, 1, 3),
    ];
    Topology {
        fabric: Fabric {
            name: "simulated".to_owned(),
            epoch: 1,
        },
        nodes: ["a", "b", "c", "d", "e"]
            .into_iter()
            .take(nodes)
            .enumerate()
            .map(node)
            .collect(),
        clients: Vec::new(),
        channels: channels
            .into_iter()
            .map(channel)
            .collect::<BTreeMap<_, _>>(),
        limits: Limits {
            subscription_window_bytes: 8 << 10,
            session_window_bytes: 32 << 10,
            cache_bytes: 16 << 10,
            uncommitted_bytes: 256 << 10,
            segment_bytes: 64 << 10,
            frame_max: 128 << 10,
            disk_free_min: 256 << 10,
            producer_window: 64,
            producer_idle: Span::from_secs(3),
            catch_up_rate: 128 << 10,
            ..Limits::default()
        },
    }
}

/// A node with endpoints of its own, by its number.
pub(super) fn node((number, name): (usize, &str)) -> Node {
    let endpoint = |socket: usize| {
        let address = format!("tcp://127.0.0.1:{}", 7_400 + 10 * number + socket);
        Endpoint {
            bind: address.clone(),
            advertise: address,
            curve: false,
        }
    };
    Node {
        name: name.into(),
        host: name.to_owned(),
        zone: None,
        clients: vec![endpoint(0)],
        peers: endpoint(1),
        signals: endpoint(2),
        http: None,
        data: None,
        public_key: None,
        secret_key_file: None,
    }
}

/// A channel of the subjects that begin with its name.
pub(super) fn channel(
    (name, kind, partitions, replicas): (&str, Kind, u32, u32),
) -> (ChannelName, Channel) {
    let channel = Channel {
        kind,
        subjects: Pattern::parse(&format!("{name}.#")).into_iter().collect(),
        partitions,
        replicas,
        confirm: match kind {
            Kind::Signal => Confirm::None,
            Kind::Stream => Confirm::Quorum,
        },
        // Every way to let go. Only `notes`, on one node, keeps everything.
        keep: match name {
            "orders" => Keep {
                age: Some(Span::from_secs(6)),
                size: Some(48 << 10),
                ..Keep::default()
            },
            "audit" => Keep {
                age: Some(Span::from_secs(3)),
                ..Keep::default()
            },
            "news" => Keep {
                size: Some(16 << 10),
                count: Some(200),
                ..Keep::default()
            },
            _ => Keep::default(),
        },
        max_record: 32 << 10,
    };
    (name.into(), channel)
}
