//! Frames between a client and a node: taken apart into the header and the bytes of the records,
//! and put together.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::limits::NESTING_MAX;

use super::client::{Message, Reply, Request};
use super::error::{WireError, shorten};
use super::scan::{Item, Reader, object_len};

/// The headers a node understands.
pub const REQUESTS: &[&str] = &[
    "hello",
    "publish",
    "subscribe",
    "unsubscribe",
    "ack",
    "credit",
    "seek",
    "delete",
    "inspect",
    "audit",
    "bye",
];

/// The headers a client understands.
pub const REPLIES: &[&str] = &[
    "welcome", "confirm", "deliver", "refuse", "end", "cursor", "view", "audited", "ping",
];

/// A message as it left the socket, without routing id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Whether an empty delimiter came before the frame, as REQ sends; the answer then carries one
    /// too.
    pub delimited: bool,
    /// The frame.
    pub frame: &'a Bytes,
}

impl<'a> Payload<'a> {
    /// Finds the frame among `frames`: alone, or after an empty delimiter.
    pub fn of(frames: &'a [Bytes]) -> Result<Self, WireError> {
        match frames {
            [frame] => Ok(Self {
                delimited: false,
                frame,
            }),
            [delimiter, frame] if delimiter.is_empty() => Ok(Self {
                delimited: true,
                frame,
            }),
            _ => Err(WireError::Frames(frames.len())),
        }
    }
}

/// The frames of an answer, with the delimiter if the request had one.
pub fn frames(delimited: bool, frame: Bytes) -> Vec<Bytes> {
    match delimited {
        true => vec![Bytes::new(), frame],
        false => vec![frame],
    }
}

/// Takes a client's frame apart. The records share its memory and are not looked at.
pub fn decode_request(frame: &Bytes) -> Result<Message<Request>, WireError> {
    decode(frame, REQUESTS)
}

/// Takes a node's frame apart. The records share its memory and are not looked at.
pub fn decode_reply(frame: &Bytes) -> Result<Message<Reply>, WireError> {
    decode(frame, REPLIES)
}

/// A client's frame: the header and the encoded records.
pub fn encode_request(header: &Request, records: &[u8]) -> Bytes {
    encode(header, &[records])
}

/// The same where the records lie in several places.
pub fn encode_request_of(header: &Request, records: &[&[u8]]) -> Bytes {
    encode(header, records)
}

/// A node's frame: the header and the encoded records.
pub fn encode_reply(header: &Reply, records: &[u8]) -> Bytes {
    encode(header, &[records])
}

/// The same where the records lie in several places.
pub fn encode_reply_of(header: &Reply, records: &[&[u8]]) -> Bytes {
    encode(header, records)
}

/// Exactly as large as its bytes, so that it goes on without being moved.
fn encode(header: &impl Serialize, records: &[&[u8]]) -> Bytes {
    let mut head = Vec::with_capacity(128);
    write_named(&mut head, header);
    let bytes: usize = records.iter().map(|records| records.len()).sum();
    let mut frame = Vec::with_capacity(head.len() + bytes);
    frame.extend_from_slice(&head);
    records
        .iter()
        .for_each(|records| frame.extend_from_slice(records));
    frame.into()
}

/// The `id` of a request that [`decode_request`] would not take, to echo in the refusal.
pub fn request_id(frame: &[u8]) -> Option<u64> {
    let len = object_len(frame).ok()?;
    let object = &frame[..len];
    header_name(object).ok()?;
    fields(object)
        .find(|(field, _)| *field == "id")
        .and_then(|(_, value)| rmp_serde::from_slice(value).ok())
}

fn decode<H: DeserializeOwned>(
    frame: &Bytes,
    known: &'static [&'static str],
) -> Result<Message<H>, WireError> {
    if frame.is_empty() {
        return Err(WireError::Empty);
    }
    let len = object_len(frame).map_err(WireError::Malformed)?;
    let object = &frame[..len];
    let name = header_name(object)?;
    if !known.contains(&name) {
        let name = shorten(name);
        return Err(WireError::UnknownHeader { name, known });
    }
    let header = read_named(name, object).map_err(|error| {
        let culprit = wrong_field::<H>(name, object);
        culprit.map_or(error, |field| WireError::WrongField {
            header: name.to_owned(),
            field,
        })
    })?;
    Ok(Message {
        header,
        records: frame.slice(len..),
    })
}

/// The first field of a header that cannot be decoded even alone. The decoder itself does not say
/// which it was.
fn wrong_field<H: DeserializeOwned>(name: &str, object: &[u8]) -> Option<String> {
    fields(object)
        .find(|(field, value)| {
            let mut alone = vec![0x81];
            write_named(&mut alone, &name);
            alone.push(0x81);
            write_named(&mut alone, field);
            alone.extend_from_slice(value);
            let result: Result<H, _> = rmp_serde::from_slice(&alone);
            result.is_err_and(|error| !error.to_string().starts_with("missing field"))
        })
        .map(|(field, _)| shorten(field))
}

/// The fields of a header that was walked before: names and encoded values.
fn fields(object: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut reader = Reader::new(object);
    let count = match (reader.next(), reader.next(), reader.next()) {
        (Ok(Item::Map(1)), Ok(Item::Str(_)), Ok(Item::Map(count))) => count,
        _ => 0,
    };
    (0..count).map_while(move |_| {
        let Ok(Item::Str(field)) = reader.next() else {
            return None;
        };
        let start = reader.at();
        reader.skip(NESTING_MAX).ok()?;
        Some((field, &object[start..reader.at()]))
    })
}

/// The only key of a header whose value is a map.
pub(super) fn header_name(object: &[u8]) -> Result<&str, WireError> {
    let mut reader = Reader::new(object);
    let mut next = || reader.next().map_err(WireError::Malformed);
    match (next()?, next()?, next()?) {
        (Item::Map(1), Item::Str(name), Item::Map(_)) => Ok(name),
        _ => Err(WireError::NotAHeader),
    }
}

/// Decodes one object that was walked before, so that no length in it is a lie and no nesting is
/// deep.
pub(super) fn read_named<T: DeserializeOwned>(name: &str, object: &[u8]) -> Result<T, WireError> {
    rmp_serde::from_slice(object).map_err(|error| WireError::BadHeader {
        header: shorten(name),
        problem: error.to_string().chars().take(200).collect(),
    })
}

/// Appends `value` with structs as maps by field name.
pub(super) fn write_named(out: &mut Vec<u8>, value: &impl Serialize) {
    rmp_serde::encode::write_named(out, value)
        .expect("a Vec takes every byte, and no type of the protocol refuses to be serialized");
}
