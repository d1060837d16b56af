//! What PROTOCOL.md shows is what the code does: every hex block, and every table with numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use rmp::Marker;
use serde_bytes::ByteBuf;
use weft::types::limits::{self, Limits};
use weft::types::{Incarnation, Pattern, Record, Wall, key_partition};
use weft::wire::audit::{Account, Audit, Audited, EntriesRead};
use weft::wire::client::{
    Ack, ConfirmLevel, Confirmed, CursorPlace, CursorReply, Delete, Deliver, End, From, Hello,
    Publish, Reply, Request, Run, Seek, Stamped, Subscribe,
};
use weft::wire::peer::{Accepted, Envelope, Found, Outcome, PEER_VERSION, PeerMessage};
use weft::wire::signal::{self, Signal};
use weft::wire::{self, Code, REFUSALS, records};

use super::SPECIFICATION;

#[test]
fn every_byte_example_is_what_the_code_writes_and_reads() {
    let mut written = requests();
    written.extend(replies());
    written.extend(between_nodes());
    let shown = hex_blocks();
    assert_eq!(
        shown.keys().collect::<Vec<_>>(),
        written.keys().collect::<Vec<_>>(),
        "every hex block is held to the code, and nothing else"
    );
    for (name, bytes) in &shown {
        assert_eq!(hex(bytes), hex(&written[name]), "the example `{name}`");
    }
}

fn audit() -> Audit {
    Audit {
        id: Some(3),
        channel: "orders".into(),
        partition: 2,
        from: 5,
        to: 9,
    }
}

fn audited() -> Audited {
    Audited {
        id: Some(3),
        node: "a".into(),
        account: Account {
            start: 5,
            applied: 5,
            first_offset: 8,
            next_offset: 9,
            retained_bytes: 64,
            trimmed_by_age: 8,
            ..Account::default()
        },
        read: Some(EntriesRead {
            from: 5,
            to: 6,
            first_offset: 8,
            next_offset: 9,
            records: 1,
            bytes: 64,
            digest: vec![1, 2, 3, 4],
            ..EntriesRead::default()
        }),
    }
}

fn requests() -> BTreeMap<&'static str, Bytes> {
    let publish = Publish {
        id: Some(1),
        subject: Some("orders.new".into()),
        confirm: Some(ConfirmLevel::Quorum),
        producer: Some(ByteBuf::from(*b"p1")),
        sequence: Some(9),
        ..Publish::default()
    };
    let subscribe = Subscribe {
        id: 7,
        pattern: "订单.#".into(),
        from: Some(From::End),
        offsets: [("orders/2".into(), 1041)].into(),
        credit: Some(65536),
        ..Subscribe::default()
    };
    let ack = Ack {
        id: 7,
        channel: Some("orders".into()),
        partition: 2,
        offset: 1041,
        ..Ack::default()
    };
    let with_cursor = Subscribe {
        id: 7,
        pattern: "orders.#".into(),
        from: Some(From::Start),
        cursor: Some("billing".into()),
        ..Subscribe::default()
    };
    let ack_one = Ack {
        first: Some(1041),
        token: Some(3),
        request: Some(12),
        ..ack.clone()
    };
    let seek = Seek {
        id: Some(8),
        channel: "orders".into(),
        cursor: "billing".into(),
        partition: None,
        to: From::End,
    };
    let delete = Delete {
        id: Some(9),
        channel: "orders".into(),
        cursor: "billing".into(),
        partition: Some(2),
    };
    let shown = [
        ("hello", Request::Hello(Hello::default()), vec![]),
        ("publish", Request::Publish(publish), record("")),
        ("subscribe", Request::Subscribe(subscribe), vec![]),
        ("ack", Request::Ack(ack), vec![]),
        ("audit", Request::Audit(audit()), vec![]),
        ("subscribe-cursor", Request::Subscribe(with_cursor), vec![]),
        ("ack-one", Request::Ack(ack_one), vec![]),
        ("seek", Request::Seek(seek), vec![]),
        ("delete", Request::Delete(delete), vec![]),
    ];
    let encode = |(name, header, records): (&'static str, Request, Vec<u8>)| {
        let frame = wire::encode_request(&header, &records);
        let read = wire::decode_request(&frame).expect(name);
        assert_eq!((read.header, &read.records[..]), (header, &records[..]));
        (name, frame)
    };
    shown.map(encode).into()
}

fn replies() -> BTreeMap<&'static str, Bytes> {
    let confirm = Confirmed {
        id: Some(1),
        channel: "orders".into(),
        runs: vec![Run {
            record: 0,
            partition: 2,
            offset: 1041,
            count: 1,
        }],
        repeated: false,
    };
    let deliver = Deliver {
        id: 7,
        channel: "orders".into(),
        partition: Some(2),
        runs: vec![Stamped {
            offset: 1041,
            count: 1,
            time: Wall(1_700_000_000_000),
        }],
        next: Some(1042),
        count: 1,
        ..Deliver::default()
    };
    let mut refuse = Code::Busy.refuse(Some(1), "later");
    refuse.retry_after_ms = Some(100);
    let cursor = CursorReply {
        id: Some(7),
        request: Some(12),
        channel: "orders".into(),
        cursor: "billing".into(),
        positions: vec![CursorPlace {
            partition: 2,
            floor: 1042,
        }],
    };
    let end = End {
        id: 7,
        reason: "taken_over".into(),
    };
    let shown = [
        ("confirm", Reply::Confirm(confirm), vec![]),
        ("deliver", Reply::Deliver(deliver), record("orders.new")),
        ("refuse", Reply::Refuse(refuse), vec![]),
        ("audited", Reply::Audited(audited()), vec![]),
        ("cursor", Reply::Cursor(cursor), vec![]),
        ("taken-over", Reply::End(end), vec![]),
    ];
    let encode = |(name, header, records): (&'static str, Reply, Vec<u8>)| {
        let frame = wire::encode_reply(&header, &records);
        let read = wire::decode_reply(&frame).expect(name);
        assert_eq!((read.header, &read.records[..]), (header, &records[..]));
        (name, frame)
    };
    shown.map(encode).into()
}

fn between_nodes() -> BTreeMap<&'static str, Bytes> {
    let mut tick = Vec::new();
    let record = Record {
        subject: "ticks.eu".into(),
        body: Bytes::from_static(b"1"),
        ..Record::default()
    };
    records::encode_record(&record, &mut tick);
    let header = Signal {
        version: PEER_VERSION,
        fabric: "quickstart".into(),
        node: "a".into(),
        incarnation: Incarnation(7),
        sequence: 5,
        count: 1,
    };
    let frame = signal::encode_signal(&header, &tick);
    let read = signal::decode_signal(&frame).expect("a signal");
    assert_eq!(read, (header, Bytes::from(tick)));

    let envelope = Envelope {
        version: PEER_VERSION,
        fabric: "quickstart".into(),
        node: "a".into(),
        incarnation: Incarnation(7),
        epoch: 1,
    };
    let outcome = Outcome {
        request: 3,
        result: Ok(Accepted {
            offset: 1041,
            repeated: false,
        }),
    };
    let found = Found {
        channel: "orders".into(),
        partition: 2,
        record: Bytes::from_static(&[1, 2, 3]),
    };
    let messages = [PeerMessage::Outcome(outcome), PeerMessage::Found(found)];
    let peer = wire::encode_peer(&envelope, &messages);
    let read = wire::decode_peer(&peer).expect("a peer frame");
    assert_eq!(read, (envelope, messages.to_vec()));

    [
        ("topic", signal::topic("ticks.#")),
        ("signal", frame),
        ("peer", peer),
    ]
    .into()
}

/// The record of the examples.
fn record(subject: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let record = Record {
        subject: subject.into(),
        key: Some(Bytes::from_static(b"customer-42")),
        body: Bytes::from_static(b"hi"),
        ..Record::default()
    };
    records::encode_record(&record, &mut bytes);
    bytes
}

/// C40: code, name and retry belong together, and the page lists them all.
#[test]
fn the_table_of_refusals_is_that_of_the_code() {
    let shown = table("code");
    let held: Vec<Vec<String>> = REFUSALS
        .iter()
        .map(|(code, name, retry, meaning)| {
            let retry = if *retry { "yes" } else { "no" };
            vec![
                code.number().to_string(),
                format!("`{name}`"),
                retry.into(),
                (*meaning).into(),
            ]
        })
        .collect();
    assert_eq!(shown, held);
    for (code, name, retry, _) in REFUSALS {
        let refuse = code.refuse(Some(3), "why");
        assert_eq!((refuse.code, &*refuse.name), (code.number(), *name));
        assert_eq!((refuse.retry, refuse.id), (*retry, Some(3)));
        assert_eq!(Code::from_number(refuse.code), Some(*code));
    }
}

/// [C17]: the hash with its test values.
#[test]
fn the_table_of_keys_is_what_the_hash_gives() {
    let rows = table("key");
    assert!(rows.len() >= 5);
    for row in rows {
        let key = unhex(&row[1]);
        if row[0] != "(empty)" {
            assert_eq!(row[0].trim_matches('`').as_bytes(), key);
        }
        assert_eq!(row[2], format!("`0x{:08x}`", records::crc(&key)));
        assert_eq!(row[3], key_partition(&key, 4).to_string(), "{row:?}");
        assert_eq!(row[4], key_partition(&key, 7).to_string(), "{row:?}");
    }
}

/// [C15]: patterns select what the table says.
#[test]
fn the_table_of_patterns_is_how_they_match() {
    let rows = table("pattern");
    assert!(rows.len() >= 5);
    for row in rows {
        let pattern = Pattern::parse(row[0].trim_matches('`')).expect("a pattern");
        for (cell, expected) in [(&row[1], true), (&row[2], false)] {
            let subjects = cell.split(", ").filter(|text| text.starts_with('`'));
            for subject in subjects.map(|text| text.trim_matches('`')) {
                assert_eq!(pattern.matches(subject), expected, "{row:?}: {subject}");
            }
        }
    }
}

/// The first byte of an object tells its kind and what comes next, as the page's table says.
#[test]
fn the_table_of_first_bytes_is_messagepack() {
    let rows = table("first byte");
    for byte in (0..=0xff).filter(|byte| *byte != 0xc1) {
        let (kind, width) = form(Marker::from_u8(byte));
        let says = |row: &&Vec<String>| {
            let codes = row[0].split('`').skip(1).step_by(2);
            let codes: Vec<u8> = codes.map(|code| unhex(code)[0]).collect();
            let widths: Vec<u32> = row[2]
                .split([' ', ','])
                .filter_map(|word| word.parse().ok())
                .collect();
            let at = match row[0].contains(" to ") {
                true => (codes[0]..=codes[1]).contains(&byte).then_some(0),
                false => codes.iter().position(|code| *code == byte),
            };
            at.is_some_and(|at| row[1].contains(kind) && widths.get(at).copied() == width)
        };
        assert_eq!(rows.iter().filter(says).count(), 1, "{byte:02x}");
    }
}

/// A word for the kind of an object, and how many bytes its number has beside the first.
fn form(marker: Marker) -> (&'static str, Option<u32>) {
    match marker {
        Marker::FixPos(_) => ("this integer", None),
        Marker::FixNeg(_) => ("a negative integer", None),
        Marker::FixMap(_) => ("a map", None),
        Marker::FixArray(_) => ("an array", None),
        Marker::FixStr(_) => ("a `str`", None),
        Marker::Null | Marker::False | Marker::True => ("`nil`; false, true", None),
        Marker::Bin8 => ("a `bin`", Some(1)),
        Marker::Bin16 => ("a `bin`", Some(2)),
        Marker::Bin32 => ("a `bin`", Some(4)),
        Marker::Ext8 | Marker::FixExt1 => ("an extension", Some(1)),
        Marker::Ext16 | Marker::FixExt2 => ("an extension", Some(2)),
        Marker::Ext32 | Marker::FixExt4 => ("an extension", Some(4)),
        Marker::FixExt8 => ("an extension", Some(8)),
        Marker::FixExt16 => ("an extension", Some(16)),
        Marker::F32 => ("a float", Some(4)),
        Marker::F64 => ("a float", Some(8)),
        Marker::U8 | Marker::I8 => ("an integer", Some(1)),
        Marker::U16 | Marker::I16 => ("an integer", Some(2)),
        Marker::U32 | Marker::I32 => ("an integer", Some(4)),
        Marker::U64 | Marker::I64 => ("an integer", Some(8)),
        Marker::Str8 => ("a `str`", Some(1)),
        Marker::Str16 => ("a `str`", Some(2)),
        Marker::Str32 => ("a `str`", Some(4)),
        Marker::Array16 => ("an array", Some(2)),
        Marker::Array32 => ("an array", Some(4)),
        Marker::Map16 => ("a map", Some(2)),
        Marker::Map32 => ("a map", Some(4)),
        Marker::Reserved => ("nothing", None),
    }
}

fn cursor_limits() -> [(&'static str, &'static [u64]); 5] {
    const NAME: &[u64] = &[limits::CURSOR_BYTES_MAX as u64];
    const CURSORS: &[u64] = &[limits::CURSORS_MAX as u64];
    const RANGES: &[u64] = &[limits::CURSOR_RANGES_MAX as u64];
    const UNACKED: &[u64] = &[limits::UNACKED_MAX as u64];
    const WAITING: &[u64] = &[limits::ACKS_WAITING_MAX as u64];
    [
        ("bytes of a cursor's name", NAME),
        ("cursors of a partition", CURSORS),
        (
            "ranges acked above a cursor's oldest record that is not",
            RANGES,
        ),
        (
            "records of a partition delivered to a cursor's holder and not acked",
            UNACKED,
        ),
        ("acks of a partition that wait to be answered", WAITING),
    ]
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let defaults = Limits::default();
    let held: &[(&str, &[u64])] = &[
        ("bytes of a frame", &[defaults.frame_max]),
        (
            "bytes of a record",
            &[limits::RECORD_MAX_DEFAULT, limits::RECORD_MAX],
        ),
        ("records in one publish", &[limits::RECORDS_PER_PUBLISH]),
        (
            "bytes of a subject or pattern",
            &[limits::SUBJECT_BYTES_MAX as u64],
        ),
        (
            "words of a subject or pattern",
            &[limits::SUBJECT_WORDS_MAX as u64],
        ),
        ("bytes of a key", &[limits::KEY_BYTES_MAX as u64]),
        ("headers of a record", &[limits::HEADERS_MAX as u64]),
        ("bytes of a producer", &[limits::PRODUCER_BYTES_MAX as u64]),
        ("nesting of containers", &[limits::NESTING_MAX as u64]),
        ("subscriptions of a session", &[defaults.subscriptions_max]),
        (
            "bytes of a session's publishes in flight",
            &[defaults.session_inflight_bytes],
        ),
        (
            "bytes sent on a subscription and not returned",
            &[defaults.subscription_window_bytes],
        ),
        (
            "and on all subscriptions of a session",
            &[defaults.session_window_bytes],
        ),
        (
            "bytes of records in one deliver",
            &[limits::DELIVER_BYTES_MAX],
        ),
    ];
    let held: Vec<_> = held.iter().copied().chain(cursor_limits()).collect();
    let shown = table("what");
    let names: Vec<&str> = shown.iter().map(|row| &*row[0]).collect();
    assert_eq!(
        names,
        held.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for (row, (name, values)) in shown.iter().zip(held) {
        let numbers: Vec<u64> = row[1]
            .replace(',', "")
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .filter(|number| *number > 1)
            .collect();
        assert_eq!(numbers, *values, "{name}");
    }
}

/// The fenced blocks of the page that are marked `hex NAME`.
fn hex_blocks() -> BTreeMap<&'static str, Vec<u8>> {
    SPECIFICATION
        .split("\n```hex ")
        .skip(1)
        .map(|block| {
            let (name, rest) = block.split_once('\n').expect("a name and a block");
            let (digits, _) = rest.split_once("```").expect("the block ends");
            (name, unhex(digits))
        })
        .collect()
}

/// The rows of the table whose first heading is `first`, without the headings.
fn table(first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    SPECIFICATION
        .lines()
        .skip_while(|line| !(line.starts_with('|') && cells(line)[0] == first))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    assert_eq!(digits.len() % 2, 0, "whole bytes in {text}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
