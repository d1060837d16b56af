//! Frames between a client and a node: taken apart into the header and the bytes of the records,
//! and put together.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    "inspect",
    "bye",
];

/// The headers a client understands.
pub const REPLIES: &[&str] = &[
    "welcome", "confirm", "deliver", "refuse", "end", "view", "ping",
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
    encode(header, records)
}

/// A node's frame: the header and the encoded records.
pub fn encode_reply(header: &Reply, records: &[u8]) -> Bytes {
    encode(header, records)
}

fn encode(header: &impl Serialize, records: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(128 + records.len());
    write_named(&mut frame, header);
    frame.extend_from_slice(records);
    frame.into()
}

fn decode<H: DeserializeOwned>(
    frame: &Bytes,
    known: &'static [&'static str],
) -> Result<Message<H>, WireError> {
    if frame.is_empty() {
        return Err(WireError::Empty);
    }
    let len = object_len(frame).map_err(WireError::Malformed)?;
    let name = header_name(&frame[..len])?;
    if !known.contains(&name) {
        let name = shorten(name);
        return Err(WireError::UnknownHeader { name, known });
    }
    Ok(Message {
        header: read_named(name, &frame[..len])?,
        records: frame.slice(len..),
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
