//! Arbitrary headers, records and peer messages, with text of every script in them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_bytes::ByteBuf;
use weft::types::limits::{HEADERS_MAX, KEY_BYTES_MAX};
use weft::types::{Incarnation, Record, TrimCause, Wall};
use weft::wire::audit::{Account, Audit, Audited, EntriesRead, TrimRead};
use weft::wire::client::*;
use weft::wire::peer::{
    self, CursorAct, Envelope, FetchFrom, PEER_VERSION, PeerMessage, WireEntry,
};

pub(crate) fn text() -> BoxedStrategy<String> {
    let taken = ["", "orders.new", "订单.新.🚀", "#", "\0", "👩‍👩‍👧‍👦"].map(str::to_owned);
    prop_oneof![any::<String>(), proptest::sample::select(taken.to_vec())].boxed()
}

pub(crate) fn blob(max: usize) -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from).boxed()
}

/// Numbers at every width of the encoding.
pub(crate) fn number() -> BoxedStrategy<u64> {
    (any::<u64>(), 0..64_u32)
        .prop_map(|(bits, shift)| bits >> shift)
        .boxed()
}

pub(crate) fn record() -> BoxedStrategy<Record> {
    let headers = btree_map(text(), text(), 0..HEADERS_MAX);
    let headers = prop_oneof![Just(BTreeMap::new()), headers];
    let parts = (
        text(),
        option::of(blob(KEY_BYTES_MAX)),
        headers,
        blob(70_000),
    );
    parts
        .prop_map(|(subject, key, headers, body)| Record {
            subject,
            key,
            headers,
            body,
        })
        .boxed()
}

fn publish() -> BoxedStrategy<Request> {
    let level = prop_oneof![Just(ConfirmLevel::None), Just(ConfirmLevel::Quorum)];
    (
        option::of(number()),
        option::of(text()),
        option::of(any::<u32>()),
        option::of(level),
        option::of(vec(any::<u8>(), 0..100).prop_map(ByteBuf::from)),
        option::of(number()),
        option::of(number()),
        option::of(number()),
        option::of(any::<u32>()),
    )
        .prop_map(
            |(id, subject, partition, confirm, producer, sequence, after, count, crc)| {
                Request::Publish(Publish {
                    id,
                    subject,
                    partition,
                    confirm,
                    producer,
                    sequence,
                    after,
                    count,
                    crc,
                })
            },
        )
        .boxed()
}

fn subscribe() -> BoxedStrategy<Request> {
    let from = prop_oneof![
        Just(From::Start),
        Just(From::End),
        number().prop_map(From::Offset),
        number().prop_map(|time| From::Time(Wall(time))),
    ];
    (
        number(),
        text(),
        option::of(text()),
        option::of(any::<u32>()),
        option::of(from),
        btree_map(text(), number(), 0..20),
        (option::of(number()), option::of(text())),
    )
        .prop_map(|(id, pattern, channel, partition, from, offsets, more)| {
            let (credit, cursor) = more;
            Request::Subscribe(Subscribe {
                id,
                pattern,
                channel: channel.map(|name| name.as_str().into()),
                partition,
                from,
                offsets,
                credit,
                cursor,
            })
        })
        .boxed()
}

fn ack() -> BoxedStrategy<Request> {
    let more = (
        option::of(number()),
        option::of(number()),
        option::of(number()),
    );
    (number(), option::of(text()), any::<u32>(), number(), more)
        .prop_map(|(id, channel, partition, offset, more)| {
            let (first, token, request) = more;
            Request::Ack(Ack {
                id,
                channel: channel.map(|name| name.as_str().into()),
                partition,
                offset,
                first,
                token,
                request,
            })
        })
        .boxed()
}

fn moves() -> BoxedStrategy<Request> {
    let of = (option::of(number()), text(), text());
    (of, option::of(any::<u32>()), option::of(number()))
        .prop_map(|((id, channel, cursor), partition, to)| {
            let channel = channel.as_str().into();
            match to {
                Some(offset) => Request::Seek(Seek {
                    id,
                    channel,
                    cursor,
                    partition,
                    to: From::Offset(offset),
                }),
                None => Request::Delete(Delete {
                    id,
                    channel,
                    cursor,
                    partition,
                }),
            }
        })
        .boxed()
}

pub(crate) fn request() -> BoxedStrategy<Request> {
    prop_oneof![
        (option::of(any::<u32>()), option::of(text()))
            .prop_map(|(version, name)| Request::Hello(Hello { version, name })),
        publish(),
        subscribe(),
        number().prop_map(|id| Request::Unsubscribe(Unsubscribe { id })),
        ack(),
        moves(),
        (number(), number()).prop_map(|(id, bytes)| Request::Credit(Credit { id, bytes })),
        option::of(number()).prop_map(|id| Request::Inspect(Inspect { id })),
        (
            option::of(number()),
            text(),
            any::<u32>(),
            number(),
            number()
        )
            .prop_map(|(id, channel, partition, from, to)| {
                Request::Audit(Audit {
                    id,
                    channel: channel.as_str().into(),
                    partition,
                    from,
                    to,
                })
            }),
        Just(Request::Bye(Bye {})),
    ]
    .boxed()
}

fn welcome() -> BoxedStrategy<Reply> {
    let node = (text(), vec(text(), 0..4), option::of(text())).prop_map(
        |(name, endpoints, public_key)| NodeEndpoints {
            name,
            endpoints,
            public_key,
        },
    );
    (
        any::<u32>(),
        text(),
        text(),
        number(),
        option::of(text()),
        number(),
        (number(), number()),
        vec(node, 0..4),
    )
        .prop_map(
            |(version, fabric, node, epoch, principal, frame_max, windows, nodes)| {
                Reply::Welcome(Welcome {
                    version,
                    fabric,
                    node,
                    epoch,
                    principal,
                    frame_max,
                    window: windows.0,
                    producer_window: windows.1,
                    nodes,
                })
            },
        )
        .boxed()
}

fn confirm() -> BoxedStrategy<Reply> {
    let run = (number(), any::<u32>(), number(), number()).prop_map(
        |(record, partition, offset, count)| Run {
            record,
            partition,
            offset,
            count,
        },
    );
    (option::of(number()), text(), vec(run, 0..20), any::<bool>())
        .prop_map(|(id, channel, runs, repeated)| {
            Reply::Confirm(Confirmed {
                id,
                channel,
                runs,
                repeated,
            })
        })
        .boxed()
}

fn deliver() -> BoxedStrategy<Reply> {
    let run = (number(), number(), number()).prop_map(|(offset, count, time)| Stamped {
        offset,
        count,
        time: Wall(time),
    });
    (
        number(),
        text(),
        option::of(any::<u32>()),
        vec(run, 0..20),
        option::of(number()),
        (number(), option::of(number())),
        option::of(number()),
        number(),
    )
        .prop_map(
            |(id, channel, partition, runs, next, (missed, token), sequence, count)| {
                Reply::Deliver(Deliver {
                    id,
                    channel,
                    partition,
                    runs,
                    next,
                    missed,
                    sequence,
                    token,
                    count,
                })
            },
        )
        .boxed()
}

fn refuse() -> BoxedStrategy<Reply> {
    (
        option::of(number()),
        any::<u16>(),
        text(),
        text(),
        any::<bool>(),
        (option::of(number()), option::of(number())),
        option::of(any::<u32>()),
        vec(number(), 0..20),
    )
        .prop_map(
            |(id, code, name, message, retry, (retry_after_ms, request), partition, records)| {
                Reply::Refuse(Refuse {
                    id,
                    code,
                    name,
                    message,
                    retry,
                    retry_after_ms,
                    partition,
                    records,
                    request,
                })
            },
        )
        .boxed()
}

fn audited() -> BoxedStrategy<Reply> {
    let account = vec(number(), 8).prop_map(|numbers| Account {
        start: numbers[0],
        applied: numbers[1],
        first_offset: numbers[2],
        next_offset: numbers[3],
        retained_bytes: numbers[4],
        trimmed_by_age: numbers[5],
        trimmed_by_size: numbers[6],
        trimmed_by_count: numbers[7],
    });
    let cause = prop_oneof![
        Just(TrimCause::Age),
        Just(TrimCause::Size),
        Just(TrimCause::Count)
    ];
    let trim = (number(), number(), cause).prop_map(|(index, first, cause)| TrimRead {
        index,
        first,
        cause,
    });
    let digest = vec(any::<u8>(), 0..40);
    let read = (
        vec(number(), 6),
        vec(trim, 0..4),
        digest,
        option::of(text()),
    )
        .prop_map(|(numbers, trims, digest, wrong)| EntriesRead {
            from: numbers[0],
            to: numbers[1],
            first_offset: numbers[2],
            next_offset: numbers[3],
            records: numbers[4],
            bytes: numbers[5],
            trims,
            digest,
            wrong,
        });
    (option::of(number()), text(), account, option::of(read))
        .prop_map(|(id, node, account, read)| {
            Reply::Audited(Audited {
                id,
                node,
                account,
                read,
            })
        })
        .boxed()
}

fn cursor_reply() -> BoxedStrategy<Reply> {
    let place = (any::<u32>(), number());
    let place = place.prop_map(|(partition, floor)| CursorPlace { partition, floor });
    let numbers = (option::of(number()), option::of(number()));
    (numbers, text(), text(), vec(place, 0..9))
        .prop_map(|((id, request), channel, cursor, positions)| {
            Reply::Cursor(CursorReply {
                id,
                request,
                channel,
                cursor,
                positions,
            })
        })
        .boxed()
}

pub(crate) fn reply() -> BoxedStrategy<Reply> {
    prop_oneof![
        welcome(),
        confirm(),
        deliver(),
        refuse(),
        (number(), text()).prop_map(|(id, reason)| Reply::End(End { id, reason })),
        cursor_reply(),
        (option::of(number()), vec(any::<u8>(), 0..300))
            .prop_map(|(id, body)| Reply::View(View { id, body })),
        audited(),
        Just(Reply::Ping(Ping {})),
    ]
    .boxed()
}

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
    let holds = (text(), any::<u32>(), option::of(any::<u32>())).prop_map(
        |(channel, partition, founding)| peer::Holds {
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
        cursor()
    ]
    .boxed()
}
