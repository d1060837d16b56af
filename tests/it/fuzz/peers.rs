//! Messages of a peer whose key is right and whose words are not: no node ends, and bytes that are
//! no messages have no effect.

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use weft::channel::Stream;
use weft::node::Input;
use weft::types::{Incarnation, Limits, ReplicaId, Wall};
use weft::wire::peer::{
    CursorAct, CursorAsk, Envelope, Fetch, FetchFrom, Fetched, Forward, Found, HeldCursor, Holds,
    Leads, Outcome, PEER_VERSION, PeerMessage, RaftMessage, Refusal, SnapshotHead, SnapshotPiece,
    SnapshotWanted, State, WireEntry,
};
use weft::wire::{decode_peer, encode_peer};

use super::{corpus, damage, draw, fuzz};
use crate::kit::Fabric;
use crate::wire::arbitrary;

fn replica(node: &str) -> ReplicaId {
    let incarnation = Incarnation(u64::from(crc32fast::hash(node.as_bytes())) + 1);
    let node = node.into();
    ReplicaId { node, incarnation }
}

/// Mostly what a log of a few entries has, now and then anything.
fn index(random: &mut ChaCha8Rng) -> u64 {
    match random.gen_range(0..10) {
        0 => random.r#gen::<u64>() >> random.gen_range(0..64),
        _ => random.gen_range(0..6),
    }
}

/// A message that names what is there.
fn fitting(random: &mut ChaCha8Rng) -> PeerMessage {
    let channel = ["orders", "audit", "ticks"][random.gen_range(0..3)].into();
    let partition = random.gen_range(0..5);
    let (number, length) = (index(random), random.gen_range(0..20));
    let bytes = Bytes::from(vec![0x81; length]);
    match random.gen_range(0..10) {
        0 => PeerMessage::State(State {
            wall: Wall(number),
            holds: vec![Holds {
                channel,
                partition,
                founding: random.gen_bool(0.5).then_some(7),
                joins: random.gen_bool(0.5),
            }],
            leads: vec![Leads {
                channel: "orders".into(),
                partition,
                term: index(random),
                synced: index(random),
            }],
            stopping: random.gen_bool(0.2),
            stalled: random.gen_bool(0.2),
        }),
        1 => PeerMessage::Found(Found {
            channel,
            partition,
            record: bytes,
        }),
        2 => PeerMessage::Forward(Forward {
            request: number,
            channel,
            partition,
            count: random.gen_range(0..3),
            crc: crc32fast::hash(&bytes),
            producer: random.gen_bool(0.3).then(|| (bytes.clone(), number)),
            after: random.gen_bool(0.2).then_some(number),
            records: bytes,
        }),
        3 => PeerMessage::Outcome(Outcome {
            request: number,
            result: Err(Refusal {
                code: random.gen_range(100..700),
                message: String::new(),
            }),
        }),
        4 => PeerMessage::Fetch(Fetch {
            request: number,
            channel,
            partition,
            from: [
                FetchFrom::Start,
                FetchFrom::End,
                FetchFrom::Offset(number),
                FetchFrom::Time(Wall(number)),
            ][random.gen_range(0..4)],
            bytes_max: index(random),
            cursor: random.gen_bool(0.3).then(|| HeldCursor {
                name: "reader".to_owned(),
                token: index(random),
            }),
        }),
        5..9 => of_a_replica(channel, partition, random),
        _ => PeerMessage::Raft(raft(channel, partition, random)),
    }
}

/// A message about a snapshot, a cursor or a fetch.
fn of_a_replica(
    channel: weft::types::ChannelName,
    partition: u32,
    random: &mut ChaCha8Rng,
) -> PeerMessage {
    match random.gen_range(0..4) {
        0 => PeerMessage::Snapshot(snapshot(channel, partition, random)),
        1 => PeerMessage::Wanted(SnapshotWanted {
            channel,
            partition,
            from: replica("b").raft_id(),
            term: index(random),
            start: index(random),
            index: index(random),
            position: index(random),
        }),
        2 => PeerMessage::Fetched(Fetched {
            request: index(random),
            entries: vec![Bytes::from_static(&[0x81; 7])],
            next: index(random),
            start: random.gen_bool(0.3).then(|| index(random)),
            refusal: None,
        }),
        _ => PeerMessage::Cursor(CursorAsk {
            request: index(random),
            channel,
            partition,
            cursor: "reader".to_owned(),
            does: [
                CursorAct::Open {
                    from: FetchFrom::Start,
                    holder: index(random),
                },
                CursorAct::Ack {
                    token: index(random),
                    ranges: vec![(index(random), index(random))],
                },
                CursorAct::Seek {
                    to: FetchFrom::Offset(index(random)),
                },
                CursorAct::Delete,
            ][random.gen_range(0..4)]
            .clone(),
        }),
    }
}

/// A snapshot that is whole and says of itself what is true, or nearly so.
fn snapshot(
    channel: weft::types::ChannelName,
    partition: u32,
    random: &mut ChaCha8Rng,
) -> SnapshotPiece {
    let state = Stream::new(&Limits::default()).encode();
    let off = u64::from(random.gen_bool(0.1));
    SnapshotPiece {
        head: SnapshotHead {
            channel,
            partition,
            from: replica(["b", "c"][random.gen_range(0..2)]).raft_id(),
            to: replica("a").raft_id(),
            term: index(random),
            start: index(random),
            start_term: index(random),
            start_offset: off,
            start_time: Wall(index(random)),
            index: index(random),
            index_term: index(random),
            next_offset: off,
            time: Wall(index(random)),
            bytes: state.len() as u64 + off,
            crc: crc32fast::hash(&state),
        },
        position: random.gen_range(0..2) * off,
        piece: state,
    }
}

fn raft(channel: weft::types::ChannelName, partition: u32, random: &mut ChaCha8Rng) -> RaftMessage {
    let first = index(random);
    let entries = (0..random.gen_range(0..3)).map(|n| WireEntry {
        term: index(random),
        index: first.wrapping_add(1 + n),
        data: Bytes::new(),
    });
    let entries = entries.collect();
    RaftMessage {
        channel: Some(channel),
        partition,
        kind: random.gen_range(-1..20),
        to: replica("a").raft_id(),
        from: replica(["b", "c"][random.gen_range(0..2)]).raft_id(),
        term: index(random),
        log_term: index(random),
        index: first,
        entries,
        commit: index(random),
        commit_term: index(random),
        reject: random.r#gen(),
        reject_hint: index(random),
        context: Bytes::new(),
        priority: 0,
    }
}

#[test]
fn peers() {
    let envelope = corpus(&arbitrary::envelope());
    let message = corpus(&arbitrary::peer_message());
    let make = |random: &mut ChaCha8Rng| -> Vec<Bytes> {
        let frame = |random: &mut ChaCha8Rng| {
            let known = Envelope {
                version: PEER_VERSION,
                fabric: "quickstart".to_owned(),
                node: "b".into(),
                incarnation: replica("b").incarnation,
                epoch: 1,
            };
            let envelope = match random.gen_bool(0.9) {
                true => known,
                false => draw(&envelope, random),
            };
            let messages: Vec<PeerMessage> = (0..random.gen_range(0..4))
                .map(|_| match random.gen_bool(0.8) {
                    true => fitting(random),
                    false => draw(&message, random),
                })
                .collect();
            let mut frame = encode_peer(&envelope, &messages).to_vec();
            if random.gen_bool(0.3) {
                damage(&mut frame, random);
            }
            Bytes::from(frame)
        };
        (0..random.gen_range(1..25))
            .map(|_| frame(random))
            .collect()
    };
    fuzz("peers", make, |frames| {
        let mut fabric = Fabric::ready();
        for frame in frames {
            if let Ok((envelope, messages)) = decode_peer(frame) {
                let again = decode_peer(&encode_peer(&envelope, &messages));
                assert_eq!(again, Ok((envelope, messages)));
            }
            let principal = Some("b".to_owned());
            let frame = frame.clone();
            fabric.input("a", Input::PeerFrame { principal, frame });
        }
        for _ in 0..30 {
            fabric.tick();
        }
    });
}
