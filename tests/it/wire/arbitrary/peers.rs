//! What nodes may say to each other.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft::types::{Incarnation, Wall};
use weft::wire::peer::{
    self, CursorAct, Envelope, FetchFrom, PEER_VERSION, PeerMessage, WireEntry,
};

use super::{blob, number, text};

pub(crate) fn envelope() -> BoxedStrategy<Envelope> {
    (text(), text(), number(), number())
        .prop_map(|(fabric, node, incarnation, epoch)| Envelope {
            version: PEER_VERSION,
            fabric,
            node: node.as_str().into(),
            incarnation: Incarnation(incarnation),
            epoch,
        })
        .boxed()
}

fn state() -> BoxedStrategy<PeerMessage> {
    let founding = option::of(any::<u32>());
    let holds = (text(), any::<u32>(), founding, any::<bool>()).prop_map(
        |(channel, partition, founding, joins)| peer::Holds {
            joins,
            channel: channel.as_str().into(),
            partition,
            founding,
        },
    );
    let leads = (text(), any::<u32>(), number(), number()).prop_map(
        |(channel, partition, term, synced)| peer::Leads {
            synced,
            channel: channel.as_str().into(),
            partition,
            term,
        },
    );
    let flags = (any::<bool>(), any::<bool>());
    (number(), vec(holds, 0..9), vec(leads, 0..9), flags)
        .prop_map(|(wall, holds, leads, (stopping, stalled))| {
            PeerMessage::State(peer::State {
                wall: Wall(wall),
                holds,
                leads,
                stopping,
                stalled,
            })
        })
        .boxed()
}

fn raft() -> BoxedStrategy<PeerMessage> {
    let entry = (number(), number(), blob(300)).prop_map(|(term, index, data)| WireEntry {
        term,
        index,
        data,
    });
    let names = (option::of(text()), any::<u32>(), any::<i32>(), any::<i64>());
    let numbers = (
        number(),
        number(),
        number(),
        number(),
        number(),
        number(),
        number(),
        number(),
    );
    (names, numbers, vec(entry, 0..9), any::<bool>(), blob(20))
        .prop_map(|(names, numbers, entries, reject, context)| {
            let (channel, partition, kind, priority) = names;
            let (to, from, term, log_term, index, commit, commit_term, reject_hint) = numbers;
            PeerMessage::Raft(peer::RaftMessage {
                channel: channel.map(|name| name.as_str().into()),
                partition,
                kind,
                to,
                from,
                term,
                log_term,
                index,
                entries,
                commit,
                commit_term,
                reject,
                reject_hint,
                context,
                priority,
            })
        })
        .boxed()
}

fn refusal() -> BoxedStrategy<peer::Refusal> {
    (any::<u16>(), text())
        .prop_map(|(code, message)| peer::Refusal { code, message })
        .boxed()
}

fn batch() -> BoxedStrategy<PeerMessage> {
    let forward = (
        (number(), text(), any::<u32>(), any::<u32>(), any::<u32>()),
        option::of((blob(70), number())),
        option::of(number()),
        blob(3_000),
    );
    let forward = forward.prop_map(|(names, producer, after, records)| {
        let (request, channel, partition, count, crc) = names;
        PeerMessage::Forward(peer::Forward {
            request,
            channel: channel.as_str().into(),
            partition,
            count,
            crc,
            producer,
            after,
            records,
        })
    });
    let accepted = (number(), any::<bool>())
        .prop_map(|(offset, repeated)| Ok(peer::Accepted { offset, repeated }));
    let result = prop_oneof![accepted, refusal().prop_map(Err)];
    let outcome = (number(), result)
        .prop_map(|(request, result)| PeerMessage::Outcome(peer::Outcome { request, result }));
    prop_oneof![forward, outcome].boxed()
}

fn fetch() -> BoxedStrategy<PeerMessage> {
    let from = prop_oneof![
        number().prop_map(FetchFrom::Offset),
        number().prop_map(|time| FetchFrom::Time(Wall(time))),
        Just(FetchFrom::Start),
        Just(FetchFrom::End),
    ];
    let cursor = option::of((text(), number()));
    let fetch = (number(), text(), any::<u32>(), from, number(), cursor).prop_map(
        |(request, channel, partition, from, bytes_max, cursor)| {
            let cursor = cursor.map(|(name, token)| peer::HeldCursor { name, token });
            PeerMessage::Fetch(peer::Fetch {
                request,
                channel: channel.as_str().into(),
                partition,
                from,
                bytes_max,
                cursor,
            })
        },
    );
    let fetched = (
        number(),
        vec(blob(300), 0..9),
        number(),
        option::of(number()),
        option::of(refusal()),
    );
    let fetched = fetched.prop_map(|(request, entries, next, start, refusal)| {
        PeerMessage::Fetched(peer::Fetched {
            request,
            entries,
            next,
            start,
            refusal,
        })
    });
    prop_oneof![fetch, fetched].boxed()
}

fn snapshot() -> BoxedStrategy<PeerMessage> {
    let numbers = vec(number(), 10);
    let head = (text(), any::<u32>(), numbers, any::<u32>());
    let head = head.prop_map(|(channel, partition, numbers, crc)| peer::SnapshotHead {
        channel: channel.as_str().into(),
        partition,
        from: numbers[0],
        to: numbers[1],
        term: numbers[2],
        start: numbers[3],
        start_term: numbers[4],
        start_offset: numbers[5],
        start_time: Wall(numbers[6]),
        index: numbers[7],
        index_term: numbers[8],
        next_offset: numbers[9],
        time: Wall(numbers[0]),
        bytes: numbers[1],
        crc,
    });
    (head, number(), blob(300), any::<bool>())
        .prop_map(|(head, position, piece, asks)| match asks {
            true => PeerMessage::Wanted(peer::SnapshotWanted {
                channel: head.channel,
                partition: head.partition,
                from: head.to,
                term: head.term,
                start: head.start,
                index: head.index,
                position,
            }),
            false => PeerMessage::Snapshot(peer::SnapshotPiece {
                head,
                position,
                piece,
            }),
        })
        .boxed()
}

fn cursor() -> BoxedStrategy<PeerMessage> {
    let ranges = || vec((number(), number()), 0..9);
    let does = prop_oneof![
        number().prop_map(|holder| CursorAct::Open {
            from: FetchFrom::Start,
            holder
        }),
        (number(), ranges()).prop_map(|(token, ranges)| CursorAct::Ack { token, ranges }),
        number().prop_map(|offset| CursorAct::Seek {
            to: FetchFrom::Offset(offset)
        }),
        Just(CursorAct::Delete),
    ];
    let ask = (number(), text(), any::<u32>(), text(), does).prop_map(
        |(request, channel, partition, cursor, does)| {
            PeerMessage::Cursor(peer::CursorAsk {
                request,
                channel: channel.as_str().into(),
                partition,
                cursor,
                does,
            })
        },
    );
    let stands =
        (number(), number(), ranges(), number()).prop_map(|(token, floor, acked, missed)| {
            peer::CursorStands {
                token,
                floor,
                acked,
                missed,
            }
        });
    let result = prop_oneof![stands.prop_map(Ok), refusal().prop_map(Err)];
    let told = (number(), result)
        .prop_map(|(request, result)| PeerMessage::Cursored(peer::Cursored { request, result }));
    prop_oneof![ask, told].boxed()
}

fn recall() -> BoxedStrategy<PeerMessage> {
    let entry = (number(), number(), number(), number(), blob(300)).prop_map(
        |(term, index, first_offset, time, data)| peer::RecalledEntry {
            term,
            index,
            first_offset,
            time: Wall(time),
            data,
        },
    );
    let ask = (number(), text(), any::<u32>(), number(), number()).prop_map(
        |(request, channel, partition, first, end)| {
            PeerMessage::Recall(peer::Recall {
                request,
                channel: channel.as_str().into(),
                partition,
                first,
                end,
            })
        },
    );
    let told = (number(), vec(entry, 0..9))
        .prop_map(|(request, entries)| PeerMessage::Recalled(peer::Recalled { request, entries }));
    prop_oneof![ask, told].boxed()
}

fn sequence() -> BoxedStrategy<PeerMessage> {
    let ask = (number(), text(), any::<u32>(), blob(70)).prop_map(
        |(request, channel, partition, producer)| {
            PeerMessage::Sequence(peer::Sequence {
                request,
                channel: channel.as_str().into(),
                partition,
                producer,
            })
        },
    );
    let result = prop_oneof![option::of(number()).prop_map(Ok), refusal().prop_map(Err)];
    let told = (number(), result)
        .prop_map(|(request, result)| PeerMessage::Sequenced(peer::Sequenced { request, result }));
    prop_oneof![ask, told].boxed()
}

pub(crate) fn peer_message() -> BoxedStrategy<PeerMessage> {
    let found = (text(), any::<u32>(), blob(300)).prop_map(|(channel, partition, record)| {
        PeerMessage::Found(peer::Found {
            channel: channel.as_str().into(),
            partition,
            record,
        })
    });
    prop_oneof![
        state(),
        found,
        raft(),
        batch(),
        fetch(),
        snapshot(),
        cursor(),
        recall(),
        sequence()
    ]
    .boxed()
}
