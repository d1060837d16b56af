//! The clauses of PROTOCOL.md that the codec alone keeps.

use bytes::Bytes;
use weft::types::limits::{HEADERS_MAX, KEY_BYTES_MAX, NESTING_MAX};
use weft::types::{Incarnation, Pattern, Record, Subject};
use weft::wire::client::{Publish, Request, Subscribe};
use weft::wire::peer::{Envelope, PEER_VERSION};
use weft::wire::records::{self, decode_record, encode_record, splice_subject};
use weft::wire::signal::{Signal, decode_signal, encode_signal, topic, topic_pattern};
use weft::wire::{
    Code, Payload, RawRecords, WireError, decode_peer, decode_reply, decode_request, encode_peer,
    frames, request_id,
};

/// What `bytes` are refused with.
fn refused(bytes: &[u8]) -> (Code, String) {
    let frame = Bytes::copy_from_slice(bytes);
    let error = decode_request(&frame).expect_err("must be refused");
    (error.code(), error.to_string())
}

/// What is wrong with the only record in `bytes`.
fn bad_record(bytes: &[u8]) -> (Code, String) {
    let mut records = RawRecords::new(bytes);
    let error = records
        .next()
        .expect("not at the end")
        .expect_err("must be refused");
    assert_eq!(records.next(), None, "after an error the walk is over");
    (error.code(), error.to_string())
}

/// C1, as far as frames alone are judged.
#[test]
fn a_message_is_one_frame_after_at_most_one_delimiter() {
    let (empty, frame) = (Bytes::new(), Bytes::from_static(b"\x81\xa5hello\x80"));
    let alone = [frame.clone()];
    let delimited = [empty.clone(), frame.clone()];
    for (sent, expected) in [(&alone[..], false), (&delimited[..], true)] {
        let payload = Payload::of(sent).expect("a message");
        assert_eq!((payload.delimited, payload.frame), (expected, &frame));
        assert_eq!(frames(expected, frame.clone()), sent);
    }
    for sent in [
        vec![],
        vec![frame.clone(), frame.clone()],
        vec![empty.clone(), empty, frame],
    ] {
        let error = Payload::of(&sent).expect_err("must be refused");
        assert_eq!(error, WireError::Frames(sent.len()));
        assert_eq!(error.code(), Code::BadFrame);
    }
}

/// [C2]
#[test]
fn a_header_is_a_map_with_one_key() {
    for bytes in [
        &b""[..],
        b"\x80",
        b"\x01",
        b"\xc0",
        b"\xa5hello",
        b"\x91\xa5hello",
        b"\x82\xa5hello\x80\xa3bye\x80",
        b"\x81\xa5hello\x90",
        b"\x81\xa5hello\xc0",
        b"\x81\xc4\x05hello\x80",
        b"\x81\x01\x80",
    ] {
        assert_eq!(refused(bytes).0, Code::BadFrame, "{bytes:?}");
    }
}

/// [C3]
#[test]
fn an_unknown_header_is_named() {
    let (code, message) = refused(b"\x81\xa6publsh\x80");
    assert_eq!(code, Code::UnknownHeader);
    assert!(message.contains("\"publsh\""), "{message}");
    assert!(message.contains("publish"), "{message}");
    // What a node says is no request, and the other way round.
    assert_eq!(refused(b"\x81\xa4ping\x80").0, Code::UnknownHeader);
    let request = Bytes::from_static(b"\x81\xa5hello\x80");
    let error = decode_reply(&request).expect_err("no reply");
    assert_eq!(error.code(), Code::UnknownHeader);
}

/// [C4]
#[test]
fn unknown_fields_are_passed_over() {
    let frame =
        Bytes::from_static(b"\x81\xa7publish\x82\xa5later\x81\xa1x\x93\x01\x02\x03\xa2id\x05");
    let read = decode_request(&frame).expect("decodes").header;
    let expected = Publish {
        id: Some(5),
        ..Publish::default()
    };
    assert_eq!(read, Request::Publish(expected));

    let record = b"\x82\xa5later\x81\xa1x\xd4\x01x\xa4body\xa2hi";
    assert_eq!(&decode_record(record).expect("decodes").body[..], b"hi");
}

/// [C5], and C9 for requests that cannot be decoded.
#[test]
fn a_wrong_field_is_named_and_the_id_still_found() {
    for (bytes, culprit, id) in [
        (
            &b"\x81\xa3ack\x82\xa2id\xa1x\xa6offset\x01"[..],
            "\"id\"",
            None,
        ),
        (
            b"\x81\xa3ack\x82\xa2id\x09\xa6offset\xff",
            "\"offset\"",
            Some(9),
        ),
        (b"\x81\xa3ack\x81\xa2id\x09", "`offset`", Some(9)),
        (
            b"\x81\xa9subscribe\x82\xa4from\xa5begin\xa2id\x07",
            "\"from\"",
            Some(7),
        ),
        (b"\x81\xa7publish\x82\xa2id\x01\xa2id\x02", "`id`", Some(1)),
    ] {
        let (code, message) = refused(bytes);
        assert_eq!(code, Code::BadFrame);
        assert!(message.contains(culprit), "{message}");
        assert_eq!(request_id(bytes), id, "{message}");
    }
    assert_eq!(request_id(b"\x81\xa2id\x05"), None);
    assert_eq!(request_id(b"\xff\x00\x81"), None);
}

/// [C6]
#[test]
fn hostile_objects_are_refused_wherever_they_are() {
    let deep = [vec![0x91; NESTING_MAX + 1], vec![0xc0]].concat();
    for hostile in [
        &b"\xc1"[..],
        b"\xa2\xff\xfe",
        b"\x81\x01\x02",
        b"\x81\xc4\x01k\x02",
        b"\x93\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        &deep,
    ] {
        let header = [b"\x81\xa7publish\x81\xa5later", hostile].concat();
        assert_eq!(refused(&header).0, Code::BadFrame, "{hostile:?}");
        let record = [b"\x82\xa4body\xa1x\xa5later", hostile].concat();
        assert_eq!(bad_record(&record).0, Code::BadRecord, "{hostile:?}");
        assert!(records::count(hostile).is_err(), "{hostile:?}");
    }
}

/// [C7]
#[test]
fn str_and_bin_are_taken_for_one_another_and_nil_for_nothing() {
    let bin = b"\x81\xa7publish\x82\xa8producer\xc4\x02p1\xa7subject\xc0";
    let text = b"\x81\xa7publish\x81\xa8producer\xa2p1";
    let read = |bytes| decode_request(&Bytes::copy_from_slice(bytes)).expect("decodes");
    assert_eq!(read(&bin[..]).header, read(&text[..]).header);

    let bin = b"\x82\xa3key\xc4\x01k\xa4body\xc4\x02hi";
    let text = b"\x84\xa3key\xa1k\xa4body\xa2hi\xa7subject\xc0\xa7headers\xc0";
    let expected = Record {
        key: Some(Bytes::from_static(b"k")),
        body: Bytes::from_static(b"hi"),
        ..Record::default()
    };
    assert_eq!(decode_record(bin).as_ref(), Ok(&expected));
    assert_eq!(decode_record(text).as_ref(), Ok(&expected));
    let none = decode_record(b"\x82\xa3key\xc0\xa4body\xa0").expect("decodes");
    assert_eq!(none, Record::default());
}

/// [C7]: the longest form of each kind is as good as the shortest.
#[test]
fn a_writer_needs_one_form_of_each_kind() {
    let header = b"\xdf\0\0\0\x01\xdb\0\0\0\x07publish\xdf\0\0\0\x02\
        \xdb\0\0\0\x02id\xcf\0\0\0\0\0\0\0\x01\
        \xdb\0\0\0\x08producer\xc6\0\0\0\x02p1";
    let record = b"\xdf\0\0\0\x02\xdb\0\0\0\x03key\xdb\0\0\0\x01k\
        \xdb\0\0\0\x04body\xc6\0\0\0\x02hi";
    let read = decode_request(&Bytes::from([&header[..], record].concat())).expect("decodes");
    let short = b"\x81\xa7publish\x82\xa2id\x01\xa8producer\xc4\x02p1";
    let expected = decode_request(&Bytes::copy_from_slice(short)).expect("decodes");
    assert_eq!(
        (read.header, &*read.records),
        (expected.header, &record[..])
    );
    let short = decode_record(b"\x82\xa3key\xa1k\xa4body\xc4\x02hi");
    assert_eq!(decode_record(record), short);
}

/// [C11]
#[test]
fn a_record_is_a_map_with_a_body() {
    for (bytes, culprit) in [
        (&b"\x90"[..], "not a map"),
        (b"\xa4body", "not a map"),
        (b"\x80", "no body"),
        (b"\x81\xa3key\xa1k", "no body"),
        (b"\x81\xa4body\xc0", "\"body\""),
        (b"\x81\xa4body\x90", "\"body\""),
        (b"\x82\xa4body\xa0\xa3key\x01", "\"key\""),
        (b"\x82\xa4body\xa0\xa7subject\xc4\x01s", "\"subject\""),
        (b"\x82\xa4body\xa0\xa7headers\x90", "\"headers\""),
        (b"\x82\xa4body\xa0\xa7headers\x81\xa1a\x01", "\"headers\""),
        (b"\x82\xa4body\xa0\xa4body\xa0", "\"body\" twice"),
        (b"\x83\xa4body\xa0\xa3key\xc0\xa3key\xa1k", "\"key\" twice"),
        (
            b"\x82\xa4body\xa0\xa7headers\x82\xa1a\xa0\xa1a\xa0",
            "\"a\" twice",
        ),
        (b"\x82\xa4body\xa0\x01\x02", "not a str"),
    ] {
        let (code, message) = bad_record(bytes);
        assert_eq!(code, Code::BadRecord, "{message}");
        assert!(message.contains(culprit), "{message}");
        assert!(message.starts_with("record 0"), "{message}");
    }
    let error = decode_record(b"\x81\xa4body\xa0\x81\xa4body\xa0").expect_err("two records");
    assert_eq!(error.code(), Code::BadRecord);
}

/// C12, as far as no topology is needed to judge.
#[test]
fn a_large_key_and_many_headers_are_too_large() {
    let record = |key: usize, headers: usize| Record {
        key: Some(vec![b'k'; key].into()),
        headers: (0..headers)
            .map(|n| (n.to_string(), String::new()))
            .collect(),
        ..Record::default()
    };
    let encoded = |record: &Record| {
        let mut bytes = Vec::new();
        encode_record(record, &mut bytes);
        bytes
    };
    let largest = record(KEY_BYTES_MAX, HEADERS_MAX);
    assert_eq!(decode_record(&encoded(&largest)), Ok(largest));
    for larger in [record(KEY_BYTES_MAX + 1, 0), record(0, HEADERS_MAX + 1)] {
        assert_eq!(bad_record(&encoded(&larger)).0, Code::TooLarge);
    }
}

/// [C13]
#[test]
fn a_subject_is_spliced_in_and_all_else_stays() {
    for (bytes, expected) in [
        (
            &b"\x82\xa5later\x92\x01\x02\xa4body\xa2hi"[..],
            &b"\x83\xa7subject\xa3a.b\xa5later\x92\x01\x02\xa4body\xa2hi"[..],
        ),
        (
            b"\x83\xa4body\xc4\x00\xa7subject\xc0\xa3key\xa1k",
            b"\x83\xa4body\xc4\x00\xa7subject\xa3a.b\xa3key\xa1k",
        ),
        (
            b"\xde\x00\x01\xa4body\xa2hi",
            b"\x82\xa7subject\xa3a.b\xa4body\xa2hi",
        ),
    ] {
        let raw = RawRecords::new(bytes).next().expect("one").expect("reads");
        let mut out = Vec::new();
        splice_subject(&raw, "a.b", &mut out);
        assert_eq!(out, expected);
        let spliced = RawRecords::new(&out).next().expect("one").expect("reads");
        assert_eq!(spliced.subject, Some("a.b"));
        assert_eq!((spliced.body, spliced.key), (raw.body, raw.key));
    }
    // The sixteenth field is the first that needs a longer head.
    let mut many = vec![0x8f];
    for n in 0..14 {
        many.extend_from_slice(&[0xa1, b'a' + n, 0xc0]);
    }
    many.extend_from_slice(b"\xa4body\xa2hi");
    let raw = RawRecords::new(&many).next().expect("one").expect("reads");
    let mut out = Vec::new();
    splice_subject(&raw, "s", &mut out);
    assert_eq!(out[..3], [0xde, 0x00, 0x10]);
    assert_eq!(decode_record(&out).expect("reads").subject.as_ref(), "s");
}

/// C14, as far as the texts alone are judged.
#[test]
fn subjects_and_patterns_follow_the_grammar() {
    let (long, words) = ("a".repeat(256), vec!["a"; 33].join("."));
    for text in [
        "", ".", "a..b", "a.", ".a", "a b", "a\n", "a*", &long, &words,
    ] {
        assert!(Subject::parse(text).is_err(), "{text:?}");
        assert!(Pattern::parse(text).is_err(), "{text:?}");
    }
    for text in ["#.a", "a.#.b", "a#", "#b.c"] {
        assert!(Pattern::parse(text).is_err(), "{text:?}");
    }
    for text in ["a.*", "#"] {
        assert!(Subject::parse(text).is_err(), "{text:?}");
    }
    let (long, words) = ("a".repeat(255), vec!["a"; 32].join("."));
    for text in ["a", "订单.新.🚀", &long, &words] {
        assert!(Subject::parse(text).is_ok(), "{text:?}");
        assert!(Pattern::parse(text).is_ok(), "{text:?}");
    }
}

/// [C25]
#[test]
fn count_and_checksum_are_held_to_the_records() {
    let records = b"\x81\xa4body\xa1a\x81\xa4body\xa1b";
    let (count, crc) = (records::count(records), records::crc(records));
    assert_eq!(count, Ok(2));
    assert_eq!(records::check_count(2, Some(2)), Ok(()));
    assert_eq!(records::check_count(2, None), Ok(()));
    assert_eq!(records::check_crc(records, Some(crc)), Ok(()));
    assert_eq!(records::check_crc(records, None), Ok(()));
    let wrong = records::check_count(2, Some(3)).expect_err("another count");
    assert_eq!(wrong.code(), Code::CountMismatch);
    let wrong = records::check_crc(&records[1..], Some(crc)).expect_err("other bytes");
    assert_eq!(wrong.code(), Code::CrcMismatch);
}

fn envelope(version: u32) -> Envelope {
    Envelope {
        version,
        fabric: "f".into(),
        node: "a".into(),
        incarnation: Incarnation(1),
        epoch: 1,
    }
}

/// [P1]
#[test]
fn a_peer_frame_starts_with_its_envelope() {
    for bytes in [
        &b""[..],
        b"\x90",
        b"\x80",
        b"\x01",
        b"\x81\xa4node\x01",
        b"\x81\xa7version\x01",
    ] {
        let error = decode_peer(&Bytes::copy_from_slice(bytes)).expect_err("must be refused");
        assert_eq!(error.code(), Code::BadFrame, "{bytes:?}");
    }
    let whole = encode_peer(&envelope(PEER_VERSION), &[]);
    for tail in [
        &b"\x80"[..],
        b"\x01",
        b"\xc1",
        b"\x81\xa5state",
        b"\x81\xa5state\x80",
        b"\x81\x01\x80",
    ] {
        let frame = Bytes::from([&whole[..], tail].concat());
        let error = decode_peer(&frame).expect_err("must be refused");
        assert_eq!(error.code(), Code::BadFrame, "{tail:?}");
    }
}

#[test]
fn a_peer_of_another_version_is_named() {
    let frame = encode_peer(&envelope(PEER_VERSION + 1), &[]);
    let strange = [&frame[..], b"\x81\xa3new\x01"].concat();
    let error = decode_peer(&strange.into()).expect_err("another version");
    assert_eq!(error.code(), Code::UnsupportedVersion);
    assert!(error.to_string().contains("\"a\""), "{error}");
}

/// [P3]
#[test]
fn an_unknown_peer_message_is_passed_over() {
    let frame = encode_peer(&envelope(PEER_VERSION), &[]);
    let strange = [&frame[..], b"\x81\xa3new\x81\xa1x\x05"].concat();
    let read = decode_peer(&strange.into()).expect("decodes");
    assert_eq!(read, (envelope(PEER_VERSION), vec![]));
}

/// P5, as far as one frame is judged.
#[test]
fn a_signal_holds_as_many_records_as_it_says() {
    let header = |count| Signal {
        version: PEER_VERSION,
        fabric: "f".into(),
        node: "a".into(),
        incarnation: Incarnation(1),
        sequence: 5,
        count,
    };
    let record = b"\x81\xa4body\xa1a";
    let announcement = encode_signal(&header(0), b"");
    let read = decode_signal(&announcement).expect("an announcement");
    assert_eq!(read, (header(0), Bytes::new()));
    for (count, records) in [(0, &record[..]), (1, b""), (2, record)] {
        let frame = encode_signal(&header(count), records);
        let error = decode_signal(&frame).expect_err("must be refused");
        assert_eq!(error.code(), Code::CountMismatch);
    }
}

#[test]
fn a_topic_is_a_pattern_and_a_zero_byte() {
    assert_eq!(topic_pattern(&topic("订单.#")), Some("订单.#"));
    for bytes in [&b""[..], b"a", b"a\0b\0", b"\xff\0"] {
        assert_eq!(topic_pattern(bytes), None, "{bytes:?}");
    }
}

/// [C7], [C5]: of a `subscribe` only `id` and `pattern` are needed.
#[test]
fn a_subscribe_goes_without_what_is_optional() {
    let least = b"\x81\xa9subscribe\x82\xa2id\x07\xa7pattern\xa3a.#";
    let nil = b"\x81\xa9subscribe\x87\xa2id\x07\xa7pattern\xa3a.#\xa7offsets\xc0\xa4from\xc0\
        \xa6credit\xc0\xa7channel\xc0\xa9partition\xc0";
    let expected = Subscribe {
        id: 7,
        pattern: "a.#".to_owned(),
        ..Subscribe::default()
    };
    for frame in [&least[..], nil] {
        let read = decode_request(&Bytes::copy_from_slice(frame)).expect("decodes");
        assert_eq!(read.header, Request::Subscribe(expected.clone()));
    }
    for frame in [
        &b"\x81\xa9subscribe\x81\xa2id\x07"[..],
        b"\x81\xa9subscribe\x81\xa7pattern\xa3a.#",
    ] {
        assert_eq!(refused(frame).0, Code::BadFrame);
    }
}
