//! Sends what no client should: noise, good frames cut short or stretched, headers nobody knows,
//! nests, records that are none. Nothing of it may stop a node or reach a log.

use std::sync::Arc;

use bytes::Bytes;

use super::{Act, Client, Desk, Mood, Scene};
use crate::sim::dice::Dice;
use crate::sim::heap::ClientNo;
use crate::sim::oracle::{Oracles, Verdict};
use crate::types::{Offset, Record, Span};
use crate::wire::client::{Ack, Credit, Delete, From, Publish, Reply, Request, Seek, Subscribe};
use crate::wire::encode_request;
use crate::wire::records::encode_record;

/// One hostile client.
#[derive(Debug)]
pub(super) struct Hostile;

impl Client for Hostile {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        if desk.connection.is_none() || desk.dice.chance(50) {
            desk.acts.push(Act::Connect);
        } else if desk.mood == Mood::Storm {
            let frame = frame(desk.scene, desk.dice);
            desk.report.fired("hostile frame");
            desk.acts.push(Act::Send(frame));
        }
        Ok(desk.dice.millis(100, 800))
    }

    fn connected(&mut self, _: &mut Desk<'_>) {}

    fn lost(&mut self, _: &mut Desk<'_>) {}

    fn reply(&mut self, _: &mut Desk<'_>, _: Reply, _: Bytes) -> Verdict {
        Ok(())
    }

    fn lacks(&self, _: ClientNo, _: &Scene, _: &Oracles) -> Option<String> {
        None
    }
}

fn frame(scene: &Scene, dice: &mut Dice) -> Bytes {
    match dice.below(6) {
        0 => {
            let count = dice.below(200);
            dice.bytes(count).into()
        }
        1 => vec![0x91; 1 + dice.below(400)].into(),
        2 => {
            let mut bytes = good(scene, dice).to_vec();
            let at = dice.below(bytes.len());
            bytes.truncate(at);
            bytes.into()
        }
        3 => {
            let mut bytes = good(scene, dice).to_vec();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            bytes.into()
        }
        4 => {
            let mut bytes = good(scene, dice).to_vec();
            let count = 1 + dice.below(20);
            bytes.extend(dice.bytes(count));
            bytes.into()
        }
        _ => good(scene, dice),
    }
}

/// A well-formed frame that asks for something odd.
fn good(scene: &Scene, dice: &mut Dice) -> Bytes {
    let stage = scene.streams.first().or(scene.signals.first());
    let channel = stage.map(|stage| stage.channel.clone());
    let id = dice.number() >> dice.below(64);
    let offset: Offset = dice.number() >> dice.below(64);
    let header = match dice.below(6) {
        0 => {
            let record = Record {
                subject: stage.map_or_else(Arc::default, |stage| stage.subjects[0].as_str().into()),
                body: Bytes::from_static("敌意 💣".as_bytes()),
                ..Record::default()
            };
            let mut bytes = Vec::new();
            encode_record(&record, &mut bytes);
            let header = Publish {
                id: Some(id),
                partition: Some(offset as u32),
                after: Some(offset),
                ..Publish::default()
            };
            return encode_request(&Request::Publish(header), &bytes);
        }
        1 => Request::Subscribe(Subscribe {
            id,
            pattern: "#".to_owned(),
            channel,
            partition: Some(0),
            from: Some(From::Offset(offset)),
            offsets: [("audit/0".to_owned(), offset)].into(),
            credit: Some(offset),
            cursor: offset
                .is_multiple_of(3)
                .then(|| "strange ".repeat(offset as usize % 4)),
        }),
        2 => Request::Ack(Ack {
            id,
            channel,
            partition: offset as u32,
            offset,
            first: Some(offset / 2),
            token: offset.is_multiple_of(2).then_some(offset),
            request: Some(offset),
        }),
        3 => Request::Seek(Seek {
            id: Some(id),
            channel: channel.unwrap_or_else(|| "audit".into()),
            cursor: "nobody's".to_owned(),
            partition: offset.is_multiple_of(2).then_some(offset as u32),
            to: From::Offset(offset),
        }),
        4 => Request::Delete(Delete {
            id: Some(id),
            channel: channel.unwrap_or_else(|| "audit".into()),
            cursor: "nobody's".to_owned(),
            partition: None,
        }),
        _ => Request::Credit(Credit { id, bytes: offset }),
    };
    encode_request(&header, &[])
}
