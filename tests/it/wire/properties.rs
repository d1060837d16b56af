//! For arbitrary content: what is encoded decodes to the same, what is cut off is an error, and no
//! bytes whatever make a decoder panic.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use weft::topology::SecretKey;
use weft::types::{
    ChannelName, Command, CursorChange, CursorDoes, CursorStart, Incarnation, Partition, Record,
    RecordId, ReplicaId, TrimCause, Wall,
};
use weft::wire::entry::{BatchHead, CommandHead, EntryContent, EntryHead, ProducerStamp};
use weft::wire::founding::Founding;
use weft::wire::peer::PEER_VERSION;
use weft::wire::records::{count, decode_record, encode_record, splice_subject};
use weft::wire::signal::{Signal, decode_signal, encode_signal, topic, topic_pattern};
use weft::wire::{
    PEER_MESSAGES, REPLIES, REQUESTS, RawRecord, RawRecords, decode_peer, decode_reply,
    decode_request, encode_peer, encode_reply, encode_request, request_id,
};

use super::arbitrary::{blob, envelope, number, peer_message, record, reply, request, text};

/// Hands `bytes` to everything that decodes. What comes out does not matter, only that something
/// does.
fn decode_everywhere(bytes: &Bytes) {
    let _ = decode_request(bytes);
    let _ = decode_reply(bytes);
    let _ = decode_peer(bytes);
    let _ = decode_signal(bytes);
    let _ = decode_record(bytes);
    let _ = request_id(bytes);
    let _ = topic_pattern(bytes);
    let _ = count(bytes);
    let _ = EntryHead::decode(bytes);
    let _ = EntryContent::decode(bytes);
    let _ = Founding::decode(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = SecretKey::parse(&text);
    let _ = text.parse::<RecordId>();
    check_alike(bytes);
    for raw in RawRecords::new(bytes).flatten() {
        assert_eq!(raw.to_record().headers.len(), raw.headers().count());
        if raw.subject.is_none() {
            let mut spliced = Vec::new();
            splice_subject(&raw, "a.b", &mut spliced);
            let record = decode_record(&spliced).expect("a record stays one");
            assert_eq!(record.subject.as_ref(), "a.b");
        }
    }
}

/// What is read as another one was is what reading all of it gives.
fn check_alike(bytes: &[u8]) {
    let mut rest = bytes;
    let mut last: Option<RawRecord<'_>> = None;
    loop {
        let read = RawRecord::first(rest);
        if let Some(alike) = last.and_then(|last| last.next_alike(rest)) {
            assert_eq!(read, Ok(alike));
        }
        let Ok(raw) = read else { return };
        rest = &rest[raw.bytes.len()..];
        last = Some(raw);
    }
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        encode_record(record, &mut bytes);
    }
    bytes
}

/// `bytes` with a few of them changed.
fn damaged(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Bytes {
    for (position, value) in changes {
        if !bytes.is_empty() {
            let position = position % bytes.len();
            bytes[position] = *value;
        }
    }
    bytes.into()
}

/// A head with the records that it tells of.
fn entry() -> impl Strategy<Value = (EntryHead, Vec<Bytes>)> {
    let stamp = prop::option::of((blob(20), number(), blob(16)));
    let batch = (1..9_u32, blob(50), any::<u32>(), stamp);
    (0..1_u64 << 60, number(), vec(batch, 0..4)).prop_map(|(first_offset, time, batches)| {
        let records = batches.iter().map(|(_, records, _, _)| records.clone());
        let records = records.collect();
        let head =
            |(count, records, crc, stamp): (u32, Bytes, u32, Option<(Bytes, u64, Bytes)>)| {
                let stamp = stamp.map(|(producer, sequence, digest)| ProducerStamp {
                    producer,
                    sequence,
                    digest,
                });
                let bytes = records.len() as u32;
                BatchHead {
                    count,
                    bytes,
                    crc,
                    stamp,
                }
            };
        let head = EntryHead {
            first_offset,
            time: Wall(time),
            batches: batches.into_iter().map(head).collect(),
        };
        (head, records)
    })
}

fn founding() -> impl Strategy<Value = Founding> {
    let voter = (text(), number()).prop_map(|(node, incarnation)| ReplicaId {
        node: node.as_str().into(),
        incarnation: Incarnation(incarnation),
    });
    let partition = (text(), any::<u32>());
    (text(), partition, any::<u32>(), vec(voter, 0..8)).prop_map(
        |(fabric, (channel, number), partitions, voters)| Founding {
            fabric,
            partition: Partition::new(&ChannelName::from(channel.as_str()), number),
            partitions,
            voters,
        },
    )
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((0..400_usize, any::<u8>()), 1..4)
}

proptest! {
    #[test]
    fn requests_survive_and_their_prefixes_do_not(header in request(), records in blob(300)) {
        let frame = encode_request(&header, &records);
        let read = decode_request(&frame).expect("decodes");
        prop_assert_eq!(&read.header, &header);
        prop_assert_eq!(&read.records, &records);
        for end in 0..frame.len() - records.len() {
            prop_assert!(decode_request(&frame.slice(..end)).is_err());
        }
    }

    #[test]
    fn replies_survive_and_their_prefixes_do_not(header in reply(), records in blob(300)) {
        let frame = encode_reply(&header, &records);
        let read = decode_reply(&frame).expect("decodes");
        prop_assert_eq!(&read.header, &header);
        prop_assert_eq!(&read.records, &records);
        for end in 0..frame.len() - records.len() {
            prop_assert!(decode_reply(&frame.slice(..end)).is_err());
        }
    }

    #[test]
    fn records_survive_walking_and_decoding(records in vec(record(), 0..5)) {
        let bytes = encoded(&records);
        prop_assert_eq!(count(&bytes), Ok(records.len() as u64));
        let mut spans = Vec::new();
        let mut walked = Vec::new();
        for raw in RawRecords::new(&bytes) {
            let raw = raw.expect("reads");
            spans.extend_from_slice(raw.bytes);
            walked.push(raw.to_record());
        }
        prop_assert_eq!(spans, bytes);
        prop_assert_eq!(walked, records);
    }

    #[test]
    fn a_record_cut_off_is_an_error(record in record(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&[record]);
        let prefix = &bytes[..cut.index(bytes.len())];
        prop_assert!(decode_record(prefix).is_err());
        if !prefix.is_empty() {
            prop_assert!(count(prefix).is_err());
            prop_assert!(RawRecords::new(prefix).next().expect("one").is_err());
        }
    }

    #[test]
    fn records_that_differ_in_their_bodies_are_read_alike(
        record in record(),
        bodies in vec(vec(any::<u8>(), 0..600), 2..5),
        changes in vec(any::<(usize, u8)>(), 0..3),
    ) {
        let with = |body: Vec<u8>| Record { body: body.into(), ..record.clone() };
        let records: Vec<Record> = bodies.into_iter().map(with).collect();
        let bytes = encoded(&records);
        let first = RawRecord::first(&bytes).expect("one");
        let alike = first.next_alike(&bytes[first.bytes.len()..]).expect("the next");
        prop_assert_eq!(alike.to_record(), records[1].clone());
        check_alike(&damaged(bytes, &changes));
    }

    #[test]
    fn a_spliced_subject_changes_nothing_else(mut record in record(), subject in text()) {
        record.subject = Arc::default();
        let bytes = encoded(std::slice::from_ref(&record));
        let raw = RawRecords::new(&bytes).next().expect("one").expect("reads");
        let mut spliced = Vec::new();
        splice_subject(&raw, &subject, &mut spliced);
        record.subject = subject.into();
        prop_assert_eq!(decode_record(&spliced), Ok(record));
    }

    #[test]
    fn peer_frames_survive_and_their_prefixes_are_no_more(
        envelope in envelope(),
        messages in vec(peer_message(), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = encode_peer(&envelope, &messages);
        let read = decode_peer(&frame).expect("decodes");
        prop_assert_eq!(&read.0, &envelope);
        prop_assert_eq!(&read.1, &messages);
        // Cut between two messages it is a frame of fewer; anywhere else it is none.
        let prefix = frame.slice(..cut.index(frame.len()));
        if let Ok((_, fewer)) = decode_peer(&prefix) {
            prop_assert_eq!(encode_peer(&envelope, &fewer), prefix);
            prop_assert_eq!(&fewer, &messages[..fewer.len()]);
        }
    }

    #[test]
    fn signals_survive_and_their_prefixes_do_not(
        envelope in envelope(),
        sequence in number(),
        records in vec(record(), 0..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let header = Signal {
            version: PEER_VERSION,
            fabric: envelope.fabric,
            node: envelope.node,
            incarnation: envelope.incarnation,
            sequence,
            count: records.len() as u64,
        };
        let frame = encode_signal(&header, &encoded(&records));
        let read = decode_signal(&frame).expect("decodes");
        prop_assert_eq!(read, (header, Bytes::from(encoded(&records))));
        prop_assert!(decode_signal(&frame.slice(..cut.index(frame.len()))).is_err());
    }

    #[test]
    fn entries_survive_and_their_prefixes_do_not((head, records) in entry()) {
        let data = head.encode(&records);
        let read = EntryHead::decode(&data).expect("decodes");
        prop_assert_eq!(read, (head, Bytes::from(records.concat())));
        for end in 0..data.len() {
            prop_assert!(EntryHead::decode(&data.slice(..end)).is_err());
        }
    }

    #[test]
    fn commands_survive_and_are_told_from_records((head, records) in entry(), first in number()) {
        let content = EntryContent::decode(&head.encode(&records)).expect("decodes");
        prop_assert_eq!(content, EntryContent::Records(head));
        let commands = [
            Command::Trim { first, cause: TrimCause::Size },
            Command::ForgetProducers { heard: first },
            Command::Cursors {
                changes: [
                    CursorDoes::Open { from: CursorStart::Offset(first), holder: first },
                    CursorDoes::Ack { token: first, ranges: vec![(first, first), (1, 2)] },
                    CursorDoes::Seek { to: CursorStart::End },
                    CursorDoes::Delete,
                ]
                .map(|does| CursorChange { name: "账单".to_owned(), does })
                .into(),
            },
        ];
        for does in commands {
            let command = CommandHead { time: Wall(first), does };
            let data = command.clone().encode();
            let content = EntryContent::decode(&data).expect("decodes");
            prop_assert_eq!(content, EntryContent::Command(command));
            prop_assert!(EntryHead::decode(&data).is_err());
            for end in 1..data.len() {
                prop_assert!(EntryContent::decode(&data.slice(..end)).is_err());
            }
        }
    }

    #[test]
    fn foundings_survive_and_their_prefixes_do_not(founding in founding()) {
        let bytes = founding.encode();
        prop_assert_eq!(Founding::decode(&bytes).expect("decodes"), founding);
        for end in 0..bytes.len() {
            prop_assert!(Founding::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn a_topic_gives_its_pattern_back(pattern in text()) {
        let expected = (!pattern.contains('\0')).then_some(&*pattern);
        let topic = topic(&pattern);
        prop_assert_eq!(topic_pattern(&topic), expected);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in blob(400)) {
        decode_everywhere(&bytes);
    }

    #[test]
    fn no_damage_makes_a_decoder_panic(
        request in request(),
        reply in reply(),
        record in record(),
        envelope in envelope(),
        messages in vec(peer_message(), 0..3),
        (head, batches) in entry(),
        founding in founding(),
        changes in changes(),
    ) {
        let record = encoded(&[record]);
        decode_everywhere(&damaged(encode_request(&request, &record).into(), &changes));
        decode_everywhere(&damaged(encode_reply(&reply, &record).into(), &changes));
        decode_everywhere(&damaged(record, &changes));
        decode_everywhere(&damaged(head.encode(&batches).into(), &changes));
        decode_everywhere(&damaged(founding.encode().into(), &changes));
        decode_everywhere(&damaged(encode_peer(&envelope, &messages).into(), &changes));
    }
}

/// The lists of names are those that the headers are encoded under, or frames that were written
/// would not be read.
#[test]
fn every_name_is_listed_and_every_listed_name_is_one() {
    for name in REQUESTS {
        let error = decode_request(&named(name))
            .err()
            .map(|error| error.to_string());
        assert!(
            !error.is_some_and(|error| error.contains("variant")),
            "{name}"
        );
    }
    for name in REPLIES {
        let error = decode_reply(&named(name))
            .err()
            .map(|error| error.to_string());
        assert!(
            !error.is_some_and(|error| error.contains("variant")),
            "{name}"
        );
    }
    assert_eq!(
        (REQUESTS.len(), REPLIES.len(), PEER_MESSAGES.len()),
        (11, 9, 15)
    );
}

/// A header of this name without fields.
fn named(name: &str) -> Bytes {
    let head = [0x81, 0xa0 | name.len() as u8];
    [&head[..], name.as_bytes(), &[0x80]].concat().into()
}
