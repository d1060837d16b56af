//! Arbitrary headers, records and peer messages, with text of every script in them.

mod peers;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_bytes::ByteBuf;
use weft::types::limits::{HEADERS_MAX, KEY_BYTES_MAX};
use weft::types::{Record, TrimCause, Wall};
use weft::wire::audit::{Account, Audit, Audited, EntriesRead, TrimRead};
use weft::wire::client::*;

pub(crate) use peers::{envelope, peer_message};

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
            subject: subject.into(),
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
        hello(),
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

fn hello() -> BoxedStrategy<Request> {
    let producer = option::of(blob(70).prop_map(|bytes| ByteBuf::from(bytes.to_vec())));
    (option::of(any::<u32>()), option::of(text()), producer)
        .prop_map(|(version, name, producer)| {
            Request::Hello(Hello {
                version,
                name,
                producer,
            })
        })
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
    let sizes = (any::<u32>(), option::of(number()));
    let channel = (text(), text(), vec(text(), 0..4), sizes).prop_map(
        |(name, kind, subjects, (partitions, max_record))| DeclaredChannel {
            name,
            kind,
            subjects,
            partitions,
            max_record,
        },
    );
    (
        any::<u32>(),
        text(),
        text(),
        number(),
        option::of(text()),
        number(),
        (number(), number(), option::of(number())),
        (vec(node, 0..4), vec(channel, 0..4)),
    )
        .prop_map(
            |(version, fabric, node, epoch, principal, frame_max, windows, declared)| {
                Reply::Welcome(Welcome {
                    version,
                    fabric,
                    node,
                    epoch,
                    principal,
                    frame_max,
                    window: windows.0,
                    producer_window: windows.1,
                    next_sequence: windows.2,
                    nodes: declared.0,
                    channels: declared.1,
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
