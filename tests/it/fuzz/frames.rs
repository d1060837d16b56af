//! Frames of clients: what reads reads the same again, and a fabric that is sent anything serves
//! whoever speaks properly.

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use weft::wire::audit::Audit;
use weft::wire::client::{Ack, Bye, Credit, Delete, From, Publish, Request, Seek, Subscribe};
use weft::wire::records::encode_record;
use weft::wire::{decode_reply, decode_request, encode_reply, encode_request, request_id};

use super::{corpus, damage, draw, fuzz};
use crate::kit::{Fabric, record};
use crate::node::confirms;
use crate::wire::arbitrary;

/// Requests that fit the fabric they are sent to.
fn fitting(random: &mut ChaCha8Rng) -> Bytes {
    let id = random.gen_range(0..4);
    let subject = ["orders.eu", "audit.x", "ticks.a", "nowhere"][random.gen_range(0..4)];
    let number = random.r#gen::<u64>() >> random.gen_range(0..64);
    let channel = Some("orders".into());
    let partition = random.gen_range(0..6);
    let request = match random.gen_range(0..9) {
        0 | 1 => {
            let producer = random.gen_bool(0.5).then(|| vec![b'p'; 1].into());
            let publish = Publish {
                id: Some(id),
                subject: Some(subject.to_owned()),
                partition: random.gen_bool(0.3).then_some(partition),
                sequence: producer.as_ref().map(|_| number),
                producer,
                after: random.gen_bool(0.2).then_some(number),
                ..Publish::default()
            };
            let mut records = Vec::new();
            for _ in 0..random.gen_range(0..4) {
                encode_record(&record("", "k", "body"), &mut records);
            }
            return encode_request(&Request::Publish(publish), &records);
        }
        2 => Request::Subscribe(Subscribe {
            id,
            pattern: ["#", "orders.#", "*.a", "audit.x"][random.gen_range(0..4)].to_owned(),
            channel: None,
            partition: None,
            from: [Some(From::Start), Some(From::End), None][random.gen_range(0..3)].clone(),
            offsets: [(format!("orders/{partition}"), number)].into(),
            credit: random.gen_bool(0.5).then_some(number),
            cursor: random.gen_bool(0.3).then(|| "reader".to_owned()),
        }),
        3 => Request::Ack(Ack {
            id,
            channel,
            partition,
            offset: number,
            first: random.gen_bool(0.3).then_some(number / 2),
            token: random.gen_bool(0.3).then_some(number),
            request: random.gen_bool(0.5).then_some(id),
        }),
        4 => Request::Credit(Credit { id, bytes: number }),
        5 => Request::Audit(Audit {
            id: Some(id),
            channel: "orders".into(),
            partition,
            from: random.gen_range(0..4),
            to: number,
        }),
        6 => Request::Seek(Seek {
            id: Some(id),
            channel: "orders".into(),
            cursor: "reader".to_owned(),
            partition: random.gen_bool(0.5).then_some(partition),
            to: From::Offset(number),
        }),
        7 => Request::Delete(Delete {
            id: Some(id),
            channel: "orders".into(),
            cursor: "reader".to_owned(),
            partition: random.gen_bool(0.5).then_some(partition),
        }),
        _ => Request::Bye(Bye {}),
    };
    encode_request(&request, &[])
}

#[test]
fn frames() {
    let (request, reply) = (corpus(&arbitrary::request()), corpus(&arbitrary::reply()));
    let records = corpus(&arbitrary::blob(300));
    let make = |random: &mut ChaCha8Rng| -> Vec<Bytes> {
        let count = random.gen_range(1..30);
        let frame = |random: &mut ChaCha8Rng| {
            let mut frame = match random.gen_range(0..6) {
                0 => encode_request(&draw(&request, random), &draw(&records, random)),
                1 => encode_reply(&draw(&reply, random), &draw(&records, random)),
                _ => fitting(random),
            }
            .to_vec();
            damage(&mut frame, random);
            Bytes::from(frame)
        };
        (0..count).map(|_| frame(random)).collect()
    };
    fuzz("frames", make, |frames| {
        let mut fabric = Fabric::ready();
        let hostile = fabric.client("a", "hostile");
        for frame in frames {
            let _ = request_id(frame);
            if let Ok(read) = decode_request(frame) {
                let again = decode_request(&encode_request(&read.header, &read.records));
                assert_eq!(again, Ok(read));
            }
            if let Ok(read) = decode_reply(frame) {
                let again = decode_reply(&encode_reply(&read.header, &read.records));
                assert_eq!(again, Ok(read));
            }
            fabric.send_frames(&hostile, vec![frame.clone()]);
        }
        fabric.tick();
        let good = fabric.client("a", "good");
        let publish = Publish {
            id: Some(1),
            ..Publish::default()
        };
        fabric.publish(&good, publish, &[record("orders.eu", "k", "body")]);
        assert_eq!(confirms(&fabric.answer(&good)).len(), 1);
    });
}
