//! Records and what logs keep of them: every way to read some bytes says the same.

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use weft::types::{Command, TrimCause, Wall};
use weft::wire::RawRecords;
use weft::wire::entry::{BatchHead, CommandHead, EntryContent, EntryHead};
use weft::wire::founding::Founding;
use weft::wire::records::{count, crc, decode_record, encode_record, splice_subject};
use weft::wire::signal::{decode_signal, topic_pattern};

use super::{corpus, damage, draw, fuzz};
use crate::wire::arbitrary;

#[test]
fn records() {
    let record = corpus(&arbitrary::record());
    let make = |random: &mut ChaCha8Rng| -> Bytes {
        let mut bytes = Vec::new();
        for _ in 0..random.gen_range(1..4) {
            encode_record(&draw(&record, random), &mut bytes);
        }
        let first_offset = random.r#gen::<u64>() >> random.gen_range(0..64);
        let mut bytes = match random.gen_range(0..3) {
            0 => {
                let batch = BatchHead {
                    count: 1,
                    bytes: bytes.len() as u32,
                    crc: crc(&bytes),
                    stamp: None,
                };
                let head = EntryHead {
                    first_offset,
                    time: Wall(1),
                    batches: vec![batch],
                };
                head.encode(&[bytes.into()]).to_vec()
            }
            1 => {
                let does = Command::Trim {
                    first: first_offset,
                    cause: TrimCause::Age,
                };
                let time = Wall(first_offset);
                CommandHead { time, does }.encode().to_vec()
            }
            _ => bytes,
        };
        damage(&mut bytes, random);
        bytes.into()
    };
    fuzz("records", make, check);
}

fn check(bytes: &Bytes) {
    let walked: Result<Vec<_>, _> = RawRecords::new(bytes).collect();
    if let Ok(walked) = &walked {
        assert_eq!(count(bytes), Ok(walked.len() as u64));
        let together: Vec<u8> = walked.iter().flat_map(|raw| raw.bytes).copied().collect();
        assert_eq!(together, bytes[..]);
        for pair in walked.windows(2) {
            let alike = pair[0].next_alike(pair[1].bytes);
            assert!(alike.is_none_or(|alike| alike == pair[1]));
        }
        for raw in walked {
            let record = raw.to_record();
            assert_eq!(decode_record(raw.bytes), Ok(record.clone()));
            if raw.subject.is_none() {
                let mut spliced = Vec::new();
                splice_subject(raw, "a.b", &mut spliced);
                let read = decode_record(&spliced).expect("a record stays one");
                assert_eq!((read.subject, read.body), ("a.b".into(), record.body));
            }
        }
    }
    match EntryContent::decode(bytes) {
        Ok(EntryContent::Records(head)) => {
            let (again, body) = EntryHead::decode(bytes).expect("it was read before");
            let told: usize = head.batches.iter().map(|batch| batch.bytes as usize).sum();
            assert_eq!((told, again), (body.len(), head));
        }
        Ok(EntryContent::Command(head)) => {
            let again = EntryContent::decode(&head.clone().encode());
            assert_eq!(again, Ok(EntryContent::Command(head)));
        }
        Ok(EntryContent::Blank) => assert!(bytes.is_empty()),
        Err(_) => {}
    }
    if let Ok(founding) = Founding::decode(bytes) {
        assert!(Founding::decode(&founding.encode()).is_ok());
    }
    let _ = decode_signal(bytes);
    let _ = topic_pattern(bytes);
}
